//! Which endpoint a client gets. Pure: the time and the random number are given.

use std::{collections::BTreeSet, net::IpAddr, sync::Arc, time::Duration};

use ipnet::IpNet;

use super::remembered::Remembered;
use crate::proxy::{Destination, Rules, Target};

/// How many endpoints one connection tries before it gives up.
const TRIES: usize = 4;

/// Who counts as being inside the cluster: pods and the node.
#[derive(Debug, Default)]
pub(super) struct Inside {
    pod_cidrs: Vec<IpNet>,
    /// The node's own addresses. A process of the node that connects to one of them has it as its own.
    node: BTreeSet<IpAddr>,
}

impl Inside {
    pub(super) fn of(rules: &Rules) -> Self {
        let node = rules.frontends.keys().map(|frontend| frontend.address).chain(rules.node_ips.iter().copied());
        Self { pod_cidrs: rules.pod_cidrs.clone(), node: node.collect() }
    }

    /// Whoever has this address.
    pub(super) fn client(&self, address: IpAddr) -> Client {
        let address = address.to_canonical();
        let is_inside = address.is_loopback()
            || self.node.contains(&address)
            || self.pod_cidrs.iter().any(|pod_cidr| pod_cidr.contains(&address));
        Client { address, is_inside }
    }
}

/// Who wants to be served.
#[derive(Debug, Clone, Copy)]
pub(super) struct Client {
    address: IpAddr,
    /// Whether it is a pod or the node.
    is_inside: bool,
}

/// The choice that one frontend offers.
#[derive(Debug)]
pub(super) struct Choice {
    destination: Destination,
    remembered: Remembered,
}

impl Choice {
    pub(super) fn new(destination: Destination) -> Self {
        Self { destination, remembered: Remembered::default() }
    }

    /// Whether this is the choice already.
    pub(super) fn is(&self, destination: &Destination) -> bool {
        self.destination == *destination
    }

    /// Offers something else from now on. Clients of endpoints that are not offered any more are forgotten.
    pub(super) fn change(&mut self, destination: Destination) {
        match destination.affinity {
            Some(_) => {
                let offered: BTreeSet<_> = destination.targets().collect();
                self.remembered.retain(|target| offered.contains(target));
            }
            None => self.remembered = Remembered::default(),
        }
        self.destination = destination;
    }

    /// The endpoints that a new connection of `client` tries, the first one first: the one that the client had before if
    /// the Service wants that, else one drawn by `random`; then its neighbours. None when the client is refused.
    pub(super) fn candidates(&self, client: Client, now: Duration, random: u64) -> Vec<Target> {
        let remembered = self.destination.affinity.and_then(|_| self.remembered.get(client.address, now));
        let targets = self.offered_to(client);
        let Some(count) = u64::try_from(targets.len()).ok().filter(|count| *count > 0) else { return Vec::new() };
        let remembered = remembered.and_then(|target| targets.binary_search(&target).ok());
        let first = remembered.unwrap_or((random % count) as usize);
        targets.iter().cycle().skip(first).take(targets.len().min(TRIES)).copied().collect()
    }

    /// The endpoint to go on with when `target` turned out to be dead. `None` when there is no other.
    pub(super) fn instead_of(&self, target: Target, client: Client) -> Option<Target> {
        let targets = self.offered_to(client);
        let next = targets.partition_point(|other| *other <= target);
        let next = targets.get(next).or_else(|| targets.first()).copied();
        next.filter(|next| *next != target)
    }

    /// Notes that a connection of `client` went to `target`.
    pub(super) fn settled(&mut self, client: Client, target: Target, now: Duration) {
        if let Some(affinity) = self.destination.affinity {
            self.remembered.put(client.address, target, now, now.saturating_add(affinity));
        }
    }

    /// Whether the endpoint is there at all, so that what is established with it goes on.
    pub(super) fn knows(&self, target: Target) -> bool {
        self.destination.known.binary_search(&target).is_ok()
    }

    /// Whether some client may be led to the endpoint.
    pub(super) fn offers(&self, target: Target) -> bool {
        self.destination.targets().any(|offered| offered == target)
    }

    /// Whether anybody is offered anything. If not, there is nothing to listen for, and the kernel refuses clients.
    pub(super) fn is_open(&self) -> bool {
        self.destination.targets().next().is_some()
    }

    /// `namespace/name:port` of the Service.
    pub(super) fn service(&self) -> Arc<str> {
        Arc::clone(&self.destination.service)
    }

    fn offered_to(&self, client: Client) -> &[Target] {
        let Destination { sources, outside, backends, .. } = &self.destination;
        if sources.as_ref().is_some_and(|sources| !sources.iter().any(|net| net.contains(&client.address))) {
            return &[];
        }
        match outside {
            Some(outside) if !client.is_inside => outside.targets(),
            _ => backends.targets(),
        }
    }
}

#[cfg(test)]
mod tests;
