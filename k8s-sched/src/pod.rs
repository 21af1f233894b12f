//! What the scheduler needs to know of a pod, read once.

use std::collections::BTreeMap;

use k8s_core::{
    api::api::core::v1::{Affinity, Pod, PodSpec, Toleration, TopologySpreadConstraint},
    object::ObjectKey,
};

use crate::resources::Resources;

/// A pod as the plugins see it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PodInfo {
    /// Namespace and name.
    pub key: ObjectKey,
    /// Tells it from a successor of the same name.
    pub uid: String,
    /// What it asks for.
    pub requests: Resources,
    /// `spec.priority`.
    pub priority: i32,
    /// The node it is bound to, or must go to; empty if neither.
    pub node_name: String,
    /// `spec.nodeSelector`.
    pub node_selector: BTreeMap<String, String>,
    /// `spec.affinity`.
    pub affinity: Option<Affinity>,
    /// `spec.tolerations`.
    pub tolerations: Vec<Toleration>,
    /// `spec.topologySpreadConstraints`.
    pub spread: Vec<TopologySpreadConstraint>,
    /// The host ports it claims.
    pub ports: Vec<ClaimedPort>,
    /// The images of its containers.
    pub images: Vec<String>,
    /// How many persistent volume claims and resource claims it uses.
    pub claims: usize,
    /// Names of scheduling gates that hold it back.
    pub gates: Vec<String>,
    /// `spec.schedulerName`.
    pub scheduler_name: String,
    /// Whether it is being deleted.
    pub is_deleted: bool,
    /// Whether it has ended.
    pub is_finished: bool,
}

/// A host port that a pod claims on its node.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClaimedPort {
    /// Empty or `0.0.0.0` claims the port on every address.
    pub host_ip: String,
    /// `TCP`, `UDP` or `SCTP`.
    pub protocol: String,
    /// The port.
    pub port: i32,
}

impl ClaimedPort {
    /// Whether both cannot be on one node.
    pub fn conflicts(&self, other: &Self) -> bool {
        let any = |ip: &str| ip.is_empty() || ip == "0.0.0.0" || ip == "::";
        let same_address = any(&self.host_ip) || any(&other.host_ip) || self.host_ip == other.host_ip;
        self.port == other.port && self.protocol == other.protocol && same_address
    }
}

impl PodInfo {
    /// Reads a pod.
    pub fn new(pod: &Pod) -> Self {
        let meta = &pod.metadata;
        let spec = pod.spec.clone().unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
        Self {
            key: ObjectKey::new(meta.namespace.as_deref().unwrap_or(""), meta.name.as_deref().unwrap_or("")),
            uid: meta.uid.clone().unwrap_or_default(),
            requests: Resources::requested_by(&spec),
            priority: spec.priority.unwrap_or(0),
            node_name: spec.node_name.clone().unwrap_or_default(),
            ports: claimed_ports(pod),
            images: spec.containers.iter().filter_map(|container| container.image.clone()).collect(),
            claims: claims(&spec),
            gates: spec.scheduling_gates.iter().flatten().map(|gate| gate.name.clone()).collect(),
            node_selector: spec.node_selector.unwrap_or_default(),
            affinity: spec.affinity,
            tolerations: spec.tolerations.unwrap_or_default(),
            spread: spec.topology_spread_constraints.unwrap_or_default(),
            scheduler_name: spec.scheduler_name.unwrap_or_else(|| "default-scheduler".into()),
            is_deleted: meta.deletion_timestamp.is_some(),
            is_finished: matches!(phase, Some("Succeeded" | "Failed")),
        }
    }
}

fn claims(spec: &PodSpec) -> usize {
    let volumes = spec.volumes.iter().flatten();
    let claimed =
        volumes.filter(|volume| volume.persistent_volume_claim.is_some() || volume.ephemeral.is_some()).count();
    claimed + spec.resource_claims.as_ref().map_or(0, Vec::len)
}

fn claimed_ports(pod: &Pod) -> Vec<ClaimedPort> {
    let containers = pod.spec.iter().flat_map(|spec| {
        let sidecar = |c: &&k8s_core::api::api::core::v1::Container| c.restart_policy.as_deref() == Some("Always");
        spec.containers.iter().chain(spec.init_containers.iter().flatten().filter(sidecar))
    });
    let ports = containers.flat_map(|container| container.ports.iter().flatten());
    ports
        .filter_map(|port| {
            Some(ClaimedPort {
                host_ip: port.host_ip.clone().unwrap_or_default(),
                protocol: port.protocol.clone().unwrap_or_else(|| "TCP".into()),
                port: port.host_port.filter(|port| *port > 0)?,
            })
        })
        .collect()
}
