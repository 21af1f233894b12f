//! An application of three tiers as its users have it: real programs, real `kubectl`, real containers, Redis from Debian.
//!
//! Needs what `e2e.rs` needs, and the packages that `./test.sh setup` downloads.
#![allow(clippy::disallowed_methods)] // Programs under test run by the machine's own clock.

#[path = "e2e/cluster.rs"]
#[allow(dead_code, reason = "shared with the other end-to-end tests")]
mod cluster;
#[path = "application/images.rs"]
mod images;
#[path = "e2e/kubectl.rs"]
#[allow(dead_code, reason = "shared with the other end-to-end tests")]
mod kubectl;
#[path = "e2e/lan.rs"]
#[allow(dead_code, reason = "shared with the other end-to-end tests")]
mod lan;
#[path = "application/load.rs"]
mod load;
#[path = "e2e/machine.rs"]
#[allow(dead_code, reason = "shared with the other end-to-end tests")]
mod machine;
#[path = "application/shop.rs"]
mod shop;

use std::path::Path;

use cluster::Cluster;
use images::Packages;
use kubectl::Kubectl;
use machine::Machine;
use shop::{Shop, Version};

#[test]
fn no_request_is_lost_whatever_happens_to_its_pods() {
    let machine = Machine::claim();
    let mut cluster = Cluster::all_in_one(&machine, Path::new("/etc/resolv.conf"));
    cluster.join_here(&machine, "second", "10.244.1.0/24");
    let packages = Packages::unpack(&machine.folder("packages"));
    cluster.import(&machine, &packages.redis());
    packages.web(&["1", "2"]).iter().for_each(|image| cluster.import(&machine, image));

    let shop = Shop::open(Kubectl::new("1.37", &cluster.admin_kubeconfig()));
    shop.is_used();
    shop.grows_and_shrinks();
    shop.gets_a_new_version_and_the_old_one_back();
    shop.loses_a_pod_and_containers();
    shop.outlives_the_cluster(&mut cluster);
    shop.moves_off_a_node();
    shop.runs(Version::Old);
    cluster.interrupt();
}
