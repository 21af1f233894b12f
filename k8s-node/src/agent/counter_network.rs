//! Addresses without a network: for simulated nodes.

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr},
};

use async_trait::async_trait;
use k8s_core::seam::network::{Attached, Attachment, NetworkError, PodNetwork};
use parking_lot::Mutex;

/// Counts addresses up within one /24 per node; addresses that were given back are used again, lowest first.
pub struct CounterNetwork {
    base: u32,
    given: Mutex<BTreeMap<String, u32>>,
}

/// How many pods a node's addresses are enough for.
const SIZE: u32 = 254;

impl CounterNetwork {
    /// The addresses of the node with this number, within `10.64.0.0/10`.
    pub fn of_node(number: u32) -> Self {
        let base = u32::from(Ipv4Addr::new(10, 64, 0, 0)) + (number % (1 << 14)) * 256;
        Self { base, given: Mutex::default() }
    }

    /// The node's own address: the one that pods never get.
    pub fn node_address(&self) -> IpAddr {
        IpAddr::V4(Ipv4Addr::from(self.base + 255))
    }
}

#[async_trait]
impl PodNetwork for CounterNetwork {
    async fn attach(&self, attachment: Attachment) -> Result<Attached, NetworkError> {
        let mut given = self.given.lock();
        let taken: std::collections::BTreeSet<u32> = given.values().copied().collect();
        let number = match given.get(&attachment.id) {
            Some(number) => *number,
            None => (1..=SIZE).find(|number| !taken.contains(number)).ok_or_else(|| NetworkError {
                message: format!("no address is left for {}: {SIZE} pods have one", attachment.id),
            })?,
        };
        given.insert(attachment.id, number);
        Ok(Attached { addresses: vec![IpAddr::V4(Ipv4Addr::from(self.base + number))] })
    }

    async fn detach(&self, id: &str) -> Result<(), NetworkError> {
        self.given.lock().remove(id);
        Ok(())
    }

    async fn attached(&self) -> Result<Vec<String>, NetworkError> {
        Ok(self.given.lock().keys().cloned().collect())
    }
}

/// No pod network: pods on the host's network run, others say what is missing.
pub struct NoNetwork;

#[async_trait]
impl PodNetwork for NoNetwork {
    async fn attach(&self, _attachment: Attachment) -> Result<Attached, NetworkError> {
        let message = "this node has no pod network: only pods with hostNetwork can run".to_owned();
        Err(NetworkError { message })
    }

    async fn detach(&self, _id: &str) -> Result<(), NetworkError> {
        Ok(())
    }

    async fn attached(&self) -> Result<Vec<String>, NetworkError> {
        Ok(vec![])
    }
}
