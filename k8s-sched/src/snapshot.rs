//! The nodes and what runs on them, in columns, updated in place.
//!
//! Invariant: every column has one entry per slot, and `by_name` maps a name to its slot. A node that goes leaves
//! its slot to the last one, so that a scan touches only nodes that exist.

use std::collections::{BTreeMap, BTreeSet};

use k8s_core::{
    api::api::core::v1::{Node, Taint},
    object::ObjectKey,
};

use crate::{
    pod::{ClaimedPort, PodInfo},
    resources::Resources,
};

/// The state of the cluster that decisions are made on.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    names: Vec<String>,
    labels: Vec<BTreeMap<String, String>>,
    taints: Vec<Vec<Taint>>,
    unschedulable: Vec<bool>,
    allocatable: Vec<Resources>,
    requested: Vec<Resources>,
    counted: Vec<(i64, i64)>,
    ports: Vec<Vec<ClaimedPort>>,
    images: Vec<BTreeMap<String, i64>>,
    by_name: BTreeMap<String, usize>,
    pods: BTreeMap<ObjectKey, Placed>,
    /// Pods seen on nodes that are not there (yet).
    homeless: BTreeMap<String, BTreeSet<ObjectKey>>,
}

#[derive(Debug, Clone)]
struct Placed {
    node: String,
    uid: String,
    requests: Resources,
    ports: Vec<ClaimedPort>,
}

/// One node of a [`Snapshot`].
#[derive(Debug, Clone, Copy)]
pub struct NodeView<'a> {
    snapshot: &'a Snapshot,
    slot: usize,
}

impl<'a> NodeView<'a> {
    /// The node's name.
    pub fn name(&self) -> &'a str {
        &self.snapshot.names[self.slot]
    }
    /// Its labels.
    pub fn labels(&self) -> &'a BTreeMap<String, String> {
        &self.snapshot.labels[self.slot]
    }
    /// Its taints.
    pub fn taints(&self) -> &'a [Taint] {
        &self.snapshot.taints[self.slot]
    }
    /// Whether it is cordoned.
    pub fn is_unschedulable(&self) -> bool {
        self.snapshot.unschedulable[self.slot]
    }
    /// What it has.
    pub fn allocatable(&self) -> &'a Resources {
        &self.snapshot.allocatable[self.slot]
    }
    /// What its pods ask for.
    pub fn requested(&self) -> &'a Resources {
        &self.snapshot.requested[self.slot]
    }
    /// CPU and memory of its pods as scores count them.
    pub fn counted(&self) -> (i64, i64) {
        self.snapshot.counted[self.slot]
    }
    /// The host ports that its pods claim.
    pub fn ports(&self) -> &'a [ClaimedPort] {
        &self.snapshot.ports[self.slot]
    }
    /// The images it has, by name, in bytes.
    pub fn images(&self) -> &'a BTreeMap<String, i64> {
        &self.snapshot.images[self.slot]
    }
}

impl Snapshot {
    /// How many nodes there are.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The node in a slot below [`Snapshot::len`].
    pub fn node(&self, slot: usize) -> NodeView<'_> {
        assert!(slot < self.len(), "a slot of this snapshot");
        NodeView { snapshot: self, slot }
    }

    /// All nodes.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        (0..self.len()).map(|slot| NodeView { snapshot: self, slot })
    }

    /// Adds a node or changes it.
    pub fn set_node(&mut self, node: &Node) {
        let name = node.metadata.name.clone().unwrap_or_default();
        let slot = match self.by_name.get(&name) {
            Some(slot) => *slot,
            None => self.open_slot(&name),
        };
        let spec = node.spec.clone().unwrap_or_default();
        let status = node.status.clone().unwrap_or_default();
        self.labels[slot] = node.metadata.labels.clone().unwrap_or_default();
        self.taints[slot] = spec.taints.unwrap_or_default();
        self.unschedulable[slot] = spec.unschedulable.unwrap_or(false);
        let amounts = status.allocatable.or(status.capacity).unwrap_or_default();
        self.allocatable[slot] = Resources::from_list(&amounts);
        self.images[slot] = BTreeMap::new();
        for image in status.images.iter().flatten() {
            let size = image.size_bytes.unwrap_or(0);
            self.images[slot].extend(image.names.iter().flatten().map(|name| (name.clone(), size)));
        }
    }

    /// Takes a node out. Its pods are remembered in case it returns.
    pub fn remove_node(&mut self, name: &str) {
        let Some(slot) = self.by_name.remove(name) else { return };
        self.names.swap_remove(slot);
        self.labels.swap_remove(slot);
        self.taints.swap_remove(slot);
        self.unschedulable.swap_remove(slot);
        self.allocatable.swap_remove(slot);
        self.requested.swap_remove(slot);
        self.counted.swap_remove(slot);
        self.ports.swap_remove(slot);
        self.images.swap_remove(slot);
        if let Some(moved) = self.names.get(slot) {
            self.by_name.insert(moved.clone(), slot);
        }
        let left: BTreeSet<ObjectKey> =
            self.pods.iter().filter(|(_, placed)| placed.node == name).map(|(key, _)| key.clone()).collect();
        if !left.is_empty() {
            self.homeless.insert(name.to_owned(), left);
        }
    }

    /// Puts a pod on the node it names, or takes it off when it names none or has ended.
    pub fn set_pod(&mut self, pod: &PodInfo) {
        let is_placed = !pod.node_name.is_empty() && !pod.is_finished;
        let is_known = self.pods.get(&pod.key).is_some_and(|placed| {
            is_placed && placed.node == pod.node_name && placed.uid == pod.uid && placed.requests == pod.requests
        });
        if is_known {
            return;
        }
        self.remove_pod(&pod.key);
        if is_placed {
            self.place(pod);
        }
    }

    /// Takes a pod off its node.
    pub fn remove_pod(&mut self, key: &ObjectKey) {
        let Some(placed) = self.pods.remove(key) else { return };
        if let Some(slot) = self.by_name.get(&placed.node).copied() {
            self.requested[slot].subtract(&placed.requests);
            self.count(slot, &placed.requests, -1);
            for port in &placed.ports {
                if let Some(at) = self.ports[slot].iter().position(|claimed| claimed == port) {
                    self.ports[slot].swap_remove(at);
                }
            }
        } else if let Some(left) = self.homeless.get_mut(&placed.node) {
            left.remove(key);
            if left.is_empty() {
                self.homeless.remove(&placed.node);
            }
        }
    }

    /// The node that a pod counts on, if any.
    pub fn node_of(&self, key: &ObjectKey) -> Option<&str> {
        self.pods.get(key).map(|placed| placed.node.as_str())
    }

    fn place(&mut self, pod: &PodInfo) {
        let node = pod.node_name.clone();
        match self.by_name.get(&node).copied() {
            Some(slot) => {
                self.requested[slot].add(&pod.requests);
                self.count(slot, &pod.requests, 1);
                self.ports[slot].extend(pod.ports.iter().cloned());
            }
            None => {
                self.homeless.entry(node.clone()).or_default().insert(pod.key.clone());
            }
        }
        let placed = Placed { node, uid: pod.uid.clone(), requests: pod.requests.clone(), ports: pod.ports.clone() };
        self.pods.insert(pod.key.clone(), placed);
    }

    fn count(&mut self, slot: usize, requests: &Resources, sign: i64) {
        let (cpu, memory) = requests.counted();
        self.counted[slot].0 += sign * cpu;
        self.counted[slot].1 += sign * memory;
    }

    fn open_slot(&mut self, name: &str) -> usize {
        let slot = self.names.len();
        self.names.push(name.to_owned());
        self.labels.push(BTreeMap::new());
        self.taints.push(Vec::new());
        self.unschedulable.push(false);
        self.allocatable.push(Resources::default());
        self.requested.push(Resources::default());
        self.counted.push((0, 0));
        self.ports.push(Vec::new());
        self.images.push(BTreeMap::new());
        self.by_name.insert(name.to_owned(), slot);
        for key in self.homeless.remove(name).unwrap_or_default() {
            if let Some(placed) = self.pods.get(&key).cloned() {
                self.requested[slot].add(&placed.requests);
                self.count(slot, &placed.requests, 1);
                self.ports[slot].extend(placed.ports);
            }
        }
        slot
    }
}

#[cfg(test)]
mod tests;
