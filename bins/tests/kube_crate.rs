//! The Rust ecosystem's client, the `kube` crate, against a cluster of ours.
//!
//! A row is one test function. It runs in two ways: in this process, without a port, as an embedder would
//! (`Cluster::service`), and over HTTPS with a kubeconfig, as against any cluster.
#![allow(clippy::disallowed_methods)] // Clients of others keep their own time.

#[path = "kube_crate/rows/mod.rs"]
mod rows;
#[path = "kube_crate/world.rs"]
mod world;

/// Runs each named row in both ways.
macro_rules! rows {
    ($($file:ident: $($row:ident),+;)+) => {
        $(mod $file {
            $(mod $row {
                use crate::{rows, world::{Way, World}};

                #[tokio::test]
                async fn in_process() {
                    World::run(Way::InProcess, rows::$file::$row).await;
                }

                #[tokio::test]
                async fn over_https() {
                    World::run(Way::Https, rows::$file::$row).await;
                }
            })+
        })+
    };
}

rows! {
    controllers: owned_children, finalizers, recorded_events;
    derived: from_definition_to_deletion, discovered, watched, controlled;
    discovery: versions_and_kinds, dynamic_objects, tables;
    objects: create_to_delete, conflicts, merges_and_json_patches, applies, tried_only, metadata_alone, pages, entries;
    pods: until_it_runs, logs, evictions, scales_and_statuses, ephemeral_containers;
    watching: streamed_lists, listed_then_watched, reflected_stores, resumed_watches, followed_leases;
}

mod commands {
    use crate::{
        rows,
        world::{Way, World},
    };

    /// What is upgraded needs a connection.
    #[tokio::test]
    async fn over_https() {
        World::run(Way::Https, rows::pods::commands).await;
    }
}
