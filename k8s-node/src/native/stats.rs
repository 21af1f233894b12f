//! Usage, read from cgroups when asked for.

use std::{os::unix::fs::MetadataExt, path::Path};

use async_trait::async_trait;

use super::Native;
use crate::runtime::{ContainerStats, RuntimeError, SandboxStats, Stats};

#[async_trait]
impl Stats for Native {
    async fn container(&self, id: &str) -> Result<ContainerStats, RuntimeError> {
        let container = self.inner.existing_container(id)?;
        if !container.is_running() {
            return Err(RuntimeError::NotRunning { id: id.to_owned() });
        }
        self.blocking(move |_| {
            let mut usage = container.cgroup.usage();
            usage.writable_layer_bytes = Some(bytes_below(&container.folder.join("upper")));
            Ok(usage)
        })
        .await
    }

    async fn sandbox(&self, id: &str) -> Result<SandboxStats, RuntimeError> {
        let missing = || RuntimeError::NotFound { what: "sandbox", id: id.to_owned() };
        let sandbox = self.inner.sandbox(id).ok_or_else(missing)?;
        // Any process of the pod shows its network.
        let ids = self.inner.containers_of(id);
        let running = ids.iter().filter_map(|id| self.inner.container(id)).find(|container| container.is_running());
        self.blocking(move |_| {
            let usage = sandbox.cgroup.usage();
            let process = running.and_then(|container| container.started()).filter(|_| sandbox.has_network());
            let traffic = process.and_then(|started| {
                let table = std::fs::read_to_string(format!("/proc/{}/net/dev", started.process.pid)).ok()?;
                Some(traffic(&table))
            });
            let (received, sent) = traffic.unzip();
            Ok(SandboxStats { usage, network_received_bytes: received, network_sent_bytes: sent })
        })
        .await
    }
}

/// Bytes received and sent on every interface but loopback.
fn traffic(table: &str) -> (u64, u64) {
    let mut total = (0, 0);
    for line in table.lines() {
        let Some((name, numbers)) = line.split_once(':').filter(|(name, _)| name.trim() != "lo") else { continue };
        let numbers: Vec<u64> = numbers.split_whitespace().filter_map(|number| number.parse().ok()).collect();
        if let (false, Some(received), Some(sent)) = (name.contains('|'), numbers.first(), numbers.get(8)) {
            total = (total.0 + received, total.1 + sent);
        }
    }
    total
}

fn bytes_below(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let size = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(found) if found.is_dir() => bytes_below(&entry.path()),
        Ok(found) => found.blocks() * 512,
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(size).sum()
}

#[cfg(test)]
mod tests {
    #[test]
    fn traffic_leaves_loopback_out() {
        let table = "Inter-|   Receive\n face |bytes packets\n    lo: 9 1 0 0 0 0 0 0 9 1 0 0 0 0 0 0\n  eth0: 100 1 0 0 0 0 0 0 7 1 0 0 0 0 0 0\n";
        assert_eq!(super::traffic(table), (100, 7));
    }
}
