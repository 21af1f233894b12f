//! `k8s reset`: ends what a stopped cluster left running and deletes its folder.

use std::path::{Path, PathBuf};

use clap::Args;
use k8s::{
    core::seam::network::PodNetwork,
    machine,
    net::{
        pod::{Routed, RoutedConfig},
        proxy::{ServiceBackend, Userspace, UserspaceConfig},
        routes::Routes,
    },
    node::{native::Native, runtime::PodRuntime},
    store::{Embedded, EmbeddedOptions, StoreError},
    wire::env::System,
};

use crate::{data_dir, program::Failure, up::shim};

/// What to reset.
#[derive(Args)]
pub struct Reset {
    /// The cluster's folder [default: /var/lib/k8s as root, else $XDG_STATE_HOME/k8s]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
    /// Do it: all objects, images and containers of the cluster are gone afterwards
    #[arg(long)]
    yes: bool,
}

impl Reset {
    /// Runs it.
    pub async fn run(self) -> Result<(), Failure> {
        let folder = self.data_dir.map_or_else(data_dir::default_data_dir, Ok)?;
        let folder = folder.canonicalize().map_err(|why| format!("--data-dir {}: {why}", folder.display()))?;
        let node = folder.join("node");
        if !folder.join("store").exists() && !node.join("sandboxes").exists() {
            return Err(format!("{}: holds no cluster; nothing was deleted", folder.display()).into());
        }
        if !self.yes {
            return Err(format!("{}: everything in it will be gone; say --yes", folder.display()).into());
        }
        let env = System::current();
        match Embedded::open(&folder.join("store"), env, EmbeddedOptions::default()) {
            Err(StoreError::Locked { .. }) => {
                return Err(format!("{}: the cluster runs; stop it first", folder.display()).into());
            }
            Ok(store) => store.close(),
            // A damaged store is no reason to keep containers running.
            Err(_) => {}
        }
        if node.join("sandboxes").exists() {
            remove_pods(&node).await?;
        }
        unmount_below(&folder)?;
        std::fs::remove_dir_all(&folder).map_err(|why| format!("delete {}: {why}", folder.display()))?;
        Ok(())
    }
}

/// Detaches whatever is still mounted in the folder, innermost first.
fn unmount_below(folder: &Path) -> Result<(), Failure> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4));
    let mut inside: Vec<&str> = points.filter(|point| Path::new(point).starts_with(folder)).collect();
    inside.sort_by_key(|point| std::cmp::Reverse(point.len()));
    for point in inside {
        rustix::mount::unmount(point, rustix::mount::UnmountFlags::DETACH)
            .map_err(|why| format!("unmount {point}: {why}"))?;
    }
    Ok(())
}

async fn remove_pods(node: &Path) -> Result<(), Failure> {
    let env = System::current();
    let config = machine::native_config(node, shim()?, env);
    let runtime = tokio::task::spawn_blocking(move || Native::open(config)).await??;
    for sandbox in runtime.observe().await?.sandboxes {
        runtime.remove_sandbox(&sandbox.id).await?;
    }
    let network = Routed::open(RoutedConfig {
        nft: machine::NFT.into(),
        ..RoutedConfig::new(machine::FIRST_POD_CIDR.parse()?, node.join("network"))
    })
    .await?;
    for id in network.attached().await? {
        network.detach(&id).await?;
    }
    machine::nftables().cleanup().await?;
    Userspace::new(System::current(), UserspaceConfig::default()).cleanup().await?;
    tokio::task::spawn_blocking(|| Routes::open()?.cleanup()).await??;
    Ok(())
}
