//! What still comes in for a pod, as the kernel tells it.

use std::{io, net::IpAddr};

use async_trait::async_trait;
use k8s_core::seam::traffic::{Inflow, PodTraffic, TrafficError};

use super::table::{Set, family};
use crate::{conntrack, netfilter};

/// Reads from the kernel what an [`Nftables`](super::Nftables) backend of this machine leads to a pod, whichever process
/// it is part of and whether or not that runs: the backend writes down which endpoints take new connections in the very
/// transaction that changes the rules.
///
/// Without the backend's table nothing comes in. Looks at the network namespace of this process; needs a tokio
/// runtime and `CAP_NET_ADMIN`.
#[derive(Debug, Clone)]
pub struct NftablesTraffic {
    table: String,
}

impl NftablesTraffic {
    /// `table` is the backend's [`NftablesConfig::table`](super::NftablesConfig::table).
    pub fn new(table: impl Into<String>) -> Self {
        Self { table: table.into() }
    }
}

#[async_trait]
impl PodTraffic for NftablesTraffic {
    async fn inflow(&self, addresses: &[IpAddr]) -> Result<Inflow, TrafficError> {
        let (table, addresses) = (self.table.clone(), addresses.to_vec());
        let looked = tokio::task::spawn_blocking(move || look(&table, &addresses)).await;
        let looked = looked.unwrap_or_else(|error| Err(io::Error::other(error)));
        looked.map_err(|error| TrafficError { message: format!("ask the kernel: {error}") })
    }
}

fn look(table: &str, addresses: &[IpAddr]) -> io::Result<Inflow> {
    if !netfilter::has_table(table)? {
        return Ok(Inflow::Nothing);
    }
    for address in addresses {
        let set = format!("{}{}", Set::Accepting.name(), family(address.is_ipv6()));
        if netfilter::has_address(table, &set, *address)? {
            return Ok(Inflow::New);
        }
    }
    for address in addresses {
        if conntrack::has_open_tcp(*address)? {
            return Ok(Inflow::Open);
        }
    }
    Ok(Inflow::Nothing)
}
