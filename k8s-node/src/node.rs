//! The Node object: what the node says about itself, and the Lease that says it is alive.
//!
//! The contents are pure functions here; [`keeper`] writes them.

#[cfg(feature = "service")]
pub mod keeper;
mod machine;

pub use machine::{Machine, Pressure, Reserved};

use std::{collections::BTreeMap, net::IpAddr};

use k8s_core::{
    api::{
        api::core::v1::{
            ContainerImage, DaemonEndpoint, Node, NodeAddress, NodeCondition, NodeDaemonEndpoints, NodeSpec,
            NodeStatus, NodeSystemInfo, Taint,
        },
        apimachinery::pkg::{
            api::resource::Quantity as Text,
            apis::meta::v1::{ObjectMeta, Time},
        },
    },
    env::Timestamp,
    quantity::{Format, Quantity},
};

use crate::runtime::ImageInfo;

/// The Kubernetes version that this node behaves as.
pub const KUBELET_VERSION: &str = "v1.37.0";
/// What is kept from pods so that the machine itself goes on: upstream's default eviction thresholds.
const RESERVED_MEMORY_BYTES: i64 = 100 << 20;
const RESERVED_STORAGE_PERCENT: i64 = 10;
/// The most images and names per image that status lists.
const MAX_IMAGES: usize = 50;
const MAX_IMAGE_NAMES: usize = 5;

/// What a node says about itself, besides what the machine says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct NodeSettings {
    /// The Node's name.
    pub name: String,
    /// Labels to set besides the usual ones.
    pub labels: BTreeMap<String, String>,
    /// Taints for a node that is registered for the first time.
    pub taints: Vec<Taint>,
    /// Addresses, primary first.
    pub addresses: Vec<IpAddr>,
    /// The port of the node's own server; 0 if there is none.
    pub port: u16,
    /// The runtime's name and version.
    pub runtime_version: String,
}

/// What of a node changes while it runs.
#[derive(Debug, Clone, Copy)]
pub struct Sight<'a> {
    /// What the machine runs short of.
    pub pressure: Pressure,
    /// The images that are there.
    pub images: &'a [ImageInfo],
    /// What the pod network waits for, if it cannot connect pods.
    pub network_waits: Option<&'a str>,
    /// The networks that the node's pods have their addresses from, as far as the node knows.
    pub pod_cidrs: &'a [String],
}

/// What the node can hold.
pub fn capacity(machine: &Machine) -> BTreeMap<String, Quantity> {
    [
        ("cpu", Quantity::new(machine.cpus.into(), Format::DecimalSi)),
        ("memory", Quantity::new(machine.memory_bytes / 1024 * 1024, Format::BinarySi)),
        ("ephemeral-storage", Quantity::new(machine.storage_bytes / 1024 * 1024, Format::BinarySi)),
        ("pods", Quantity::new(machine.max_pods.into(), Format::DecimalSi)),
    ]
    .map(|(name, amount)| (name.to_owned(), amount))
    .into()
}

/// What pods may ask for.
pub fn allocatable(machine: &Machine) -> BTreeMap<String, Quantity> {
    let mut all = capacity(machine);
    let Reserved { milli_cpus, memory_bytes, storage_bytes } = machine.reserved;
    let memory = (machine.memory_bytes - RESERVED_MEMORY_BYTES - memory_bytes).max(0) / 1024 * 1024;
    let storage = (machine.storage_bytes / 100 * (100 - RESERVED_STORAGE_PERCENT) - storage_bytes).max(0);
    if milli_cpus > 0 {
        let left = (i64::from(machine.cpus) * 1000 - milli_cpus).max(0);
        // Invariant: a whole number of thousandths is a quantity.
        all.extend(Quantity::parse(&format!("{left}m")).map(|amount| ("cpu".to_owned(), amount)));
    }
    all.insert("memory".to_owned(), Quantity::new(memory, Format::BinarySi));
    all.insert("ephemeral-storage".to_owned(), Quantity::new(storage, Format::DecimalSi));
    all
}

/// The labels that every node sets on itself.
pub fn labels(settings: &NodeSettings, machine: &Machine) -> BTreeMap<String, String> {
    let mut labels: BTreeMap<String, String> = [
        ("kubernetes.io/hostname", settings.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", machine.architecture.as_str()),
        ("beta.kubernetes.io/os", "linux"),
        ("beta.kubernetes.io/arch", machine.architecture.as_str()),
    ]
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .into();
    labels.extend(settings.labels.clone());
    labels
}

/// The object to register. A node whose pod network waits keeps pods away from the first moment.
pub fn node(settings: &NodeSettings, machine: &Machine, sight: &Sight<'_>, now: Timestamp) -> Node {
    let waits = sight.network_waits.map(|_| Taint {
        key: "node.kubernetes.io/not-ready".to_owned(),
        effect: "NoSchedule".to_owned(),
        ..Taint::default()
    });
    let taints: Vec<Taint> = settings.taints.iter().cloned().chain(waits).collect();
    let mut spec = NodeSpec { taints: (!taints.is_empty()).then_some(taints), ..NodeSpec::default() };
    claim_networks(&mut spec, sight);
    Node {
        metadata: ObjectMeta {
            name: Some(settings.name.clone()),
            labels: Some(labels(settings, machine)),
            ..Default::default()
        },
        spec: Some(spec),
        status: Some(status(settings, machine, sight, None, now)),
    }
}

/// Sets the node's own networks where none were given yet. Answers whether it did: they are never changed.
pub fn claim_networks(spec: &mut NodeSpec, sight: &Sight<'_>) -> bool {
    let is_free = spec.pod_cidr.is_none() && spec.pod_cidrs.as_ref().is_none_or(Vec::is_empty);
    let Some(primary) = sight.pod_cidrs.first().filter(|_| is_free) else { return false };
    spec.pod_cidr = Some(primary.clone());
    spec.pod_cidrs = Some(sight.pod_cidrs.to_vec());
    true
}

/// The status; `known` is what the object says now: conditions keep their times, and what others added is kept.
pub fn status(
    settings: &NodeSettings,
    machine: &Machine,
    sight: &Sight<'_>,
    known: Option<&NodeStatus>,
    now: Timestamp,
) -> NodeStatus {
    let base = known.cloned().unwrap_or_default();
    NodeStatus {
        addresses: Some(addresses(settings)),
        capacity: Some(amounts(base.capacity.clone(), capacity(machine))),
        allocatable: Some(amounts(base.allocatable.clone(), allocatable(machine))),
        conditions: Some(conditions(sight, base.conditions.as_deref().unwrap_or_default(), now)),
        daemon_endpoints: (settings.port > 0)
            .then(|| NodeDaemonEndpoints { kubelet_endpoint: Some(DaemonEndpoint { port: settings.port.into() }) }),
        node_info: Some(info(settings, machine)),
        images: Some(sight.images.iter().take(MAX_IMAGES).map(image).collect()),
        ..base
    }
}

/// What others put there (extended resources) stays.
fn amounts(known: Option<BTreeMap<String, Text>>, own: BTreeMap<String, Quantity>) -> BTreeMap<String, Text> {
    let mut all = known.unwrap_or_default();
    all.extend(own.into_iter().map(|(name, amount)| (name, Text(amount.to_string()))));
    all
}

fn addresses(settings: &NodeSettings) -> Vec<NodeAddress> {
    let address = |kind: &str, address: String| NodeAddress { type_: kind.to_owned(), address };
    let mut all: Vec<_> = settings.addresses.iter().map(|ip| address("InternalIP", ip.to_string())).collect();
    all.push(address("Hostname", settings.name.clone()));
    all
}

fn info(settings: &NodeSettings, machine: &Machine) -> NodeSystemInfo {
    NodeSystemInfo {
        architecture: machine.architecture.clone(),
        boot_id: machine.boot_id.clone(),
        container_runtime_version: settings.runtime_version.clone(),
        kernel_version: machine.kernel_version.clone(),
        kube_proxy_version: String::new(),
        kubelet_version: KUBELET_VERSION.to_owned(),
        machine_id: machine.machine_id.clone(),
        operating_system: "linux".to_owned(),
        os_image: machine.os_image.clone(),
        system_uuid: machine.system_uuid.clone(),
        ..Default::default()
    }
}

fn image(image: &ImageInfo) -> ContainerImage {
    let names = image.digests.iter().chain(&image.names).take(MAX_IMAGE_NAMES).cloned().collect();
    ContainerImage { names: Some(names), size_bytes: i64::try_from(image.size_bytes).ok() }
}

fn conditions(sight: &Sight<'_>, known: &[NodeCondition], now: Timestamp) -> Vec<NodeCondition> {
    let now = Time(crate::status::seconds(now));
    let pressure = sight.pressure;
    let waits = sight.network_waits.map(|why| {
        format!("container runtime network not ready: NetworkReady=false reason:NetworkPluginNotReady message:{why}")
    });
    let own = [
        (
            "MemoryPressure",
            pressure.memory,
            ["KubeletHasSufficientMemory", "KubeletHasInsufficientMemory"],
            "kubelet has sufficient memory available",
            "kubelet has insufficient memory available",
        ),
        (
            "DiskPressure",
            pressure.disk,
            ["KubeletHasNoDiskPressure", "KubeletHasDiskPressure"],
            "kubelet has no disk pressure",
            "kubelet has disk pressure",
        ),
        (
            "PIDPressure",
            pressure.pids,
            ["KubeletHasSufficientPID", "KubeletHasInsufficientPID"],
            "kubelet has sufficient PID available",
            "kubelet has insufficient PID available",
        ),
        (
            "Ready",
            waits.is_none(),
            ["KubeletNotReady", "KubeletReady"],
            waits.as_deref().unwrap_or_default(),
            "kubelet is posting ready status",
        ),
    ];
    let others = known.iter().filter(|condition| own.iter().all(|(kind, ..)| *kind != condition.type_)).cloned();
    let mut all: Vec<NodeCondition> = own
        .iter()
        .map(|(kind, holds, reasons, no, yes)| {
            let status = if *holds { "True" } else { "False" };
            let old = known.iter().find(|condition| condition.type_ == *kind && condition.status == status);
            let since = old.and_then(|old| old.last_transition_time.clone());
            NodeCondition {
                type_: (*kind).to_owned(),
                status: status.to_owned(),
                reason: Some(reasons[usize::from(*holds)].to_owned()),
                message: Some((if *holds { yes } else { no }).to_string()),
                last_heartbeat_time: Some(now.clone()),
                last_transition_time: since.or_else(|| Some(now.clone())),
            }
        })
        .collect();
    all.extend(others);
    all
}

/// Whether two statuses differ in more than heartbeat times.
pub fn differs(one: &NodeStatus, other: &NodeStatus) -> bool {
    let still = |status: &NodeStatus| {
        let mut status = status.clone();
        status.conditions.iter_mut().flatten().for_each(|condition| condition.last_heartbeat_time = None);
        status
    };
    !crate::status::means_the_same(&still(one), &still(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn sight(pressure: Pressure) -> Sight<'static> {
        Sight { pressure, images: &[], network_waits: None, pod_cidrs: &[] }
    }

    fn settings() -> NodeSettings {
        NodeSettings {
            name: "n1".into(),
            labels: [("zone".to_owned(), "a".to_owned())].into(),
            addresses: vec!["10.0.0.1".parse().unwrap()],
            port: 10250,
            runtime_version: "native://0.1.0".into(),
            ..NodeSettings::default()
        }
    }

    #[test]
    fn a_node_says_what_it_is() {
        let machine = Machine::simulated();
        let node = node(&settings(), &machine, &sight(Pressure::default()), at(0));
        insta::assert_snapshot!(serde_json::to_string_pretty(&node).unwrap(), @r#"
    {
      "apiVersion": "v1",
      "kind": "Node",
      "metadata": {
        "labels": {
          "beta.kubernetes.io/arch": "amd64",
          "beta.kubernetes.io/os": "linux",
          "kubernetes.io/arch": "amd64",
          "kubernetes.io/hostname": "n1",
          "kubernetes.io/os": "linux",
          "zone": "a"
        },
        "name": "n1"
      },
      "spec": {},
      "status": {
        "addresses": [
          {
            "address": "10.0.0.1",
            "type": "InternalIP"
          },
          {
            "address": "n1",
            "type": "Hostname"
          }
        ],
        "allocatable": {
          "cpu": "8",
          "ephemeral-storage": "96636764160",
          "memory": "32668Mi",
          "pods": "110"
        },
        "capacity": {
          "cpu": "8",
          "ephemeral-storage": "100Gi",
          "memory": "32Gi",
          "pods": "110"
        },
        "conditions": [
          {
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "message": "kubelet has sufficient memory available",
            "reason": "KubeletHasSufficientMemory",
            "status": "False",
            "type": "MemoryPressure"
          },
          {
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "message": "kubelet has no disk pressure",
            "reason": "KubeletHasNoDiskPressure",
            "status": "False",
            "type": "DiskPressure"
          },
          {
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "message": "kubelet has sufficient PID available",
            "reason": "KubeletHasSufficientPID",
            "status": "False",
            "type": "PIDPressure"
          },
          {
            "lastHeartbeatTime": "2026-01-01T00:00:00Z",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
            "message": "kubelet is posting ready status",
            "reason": "KubeletReady",
            "status": "True",
            "type": "Ready"
          }
        ],
        "daemonEndpoints": {
          "kubeletEndpoint": {
            "Port": 10250
          }
        },
        "images": [],
        "nodeInfo": {
          "architecture": "amd64",
          "bootID": "simulated",
          "containerRuntimeVersion": "native://0.1.0",
          "kernelVersion": "simulated",
          "kubeProxyVersion": "",
          "kubeletVersion": "v1.37.0",
          "machineID": "simulated",
          "operatingSystem": "linux",
          "osImage": "simulated",
          "systemUUID": "simulated"
        }
      }
    }
    "#);
    }

    #[test]
    fn what_is_reserved_is_kept_from_pods() {
        let reserved = Reserved { milli_cpus: 300, memory_bytes: 1 << 30, storage_bytes: 1 << 30 };
        let (whole, less) = (Machine::simulated(), Machine { reserved, ..Machine::simulated() });
        assert_eq!(capacity(&whole), capacity(&less));
        let (whole, less) = (allocatable(&whole), allocatable(&less));
        assert_eq!((whole["cpu"].to_string().as_str(), less["cpu"].to_string().as_str()), ("8", "7700m"));
        assert_eq!(whole["memory"].value() - less["memory"].value(), 1 << 30);
        assert_eq!(whole["ephemeral-storage"].value() - less["ephemeral-storage"].value(), 1 << 30);
    }

    #[test]
    fn what_others_added_and_when_conditions_turned_is_kept() {
        let machine = Machine::simulated();
        let mut known = status(&settings(), &machine, &sight(Pressure::default()), None, at(0));
        known.capacity.as_mut().unwrap().insert("example.com/gpu".into(), Text("3".into()));
        known.conditions.as_mut().unwrap().push(NodeCondition { type_: "Own".into(), ..Default::default() });
        let pressed = Pressure { memory: true, ..Pressure::default() };
        let new = status(&settings(), &machine, &sight(pressed), Some(&known), at(60));
        assert_eq!(new.capacity.as_ref().unwrap()["example.com/gpu"].0, "3");
        let times: Vec<(String, i64, i64)> = new.conditions.as_ref().unwrap()[..4]
            .iter()
            .map(|c| {
                let second = |time: &Option<Time>| time.as_ref().unwrap().0.duration_since(at(0)).as_secs();
                (c.type_.clone(), second(&c.last_transition_time), second(&c.last_heartbeat_time))
            })
            .collect();
        assert_eq!(times[0], ("MemoryPressure".into(), 60, 60));
        assert_eq!(times[3], ("Ready".into(), 0, 60));
        assert_eq!(new.conditions.as_ref().unwrap()[4].type_, "Own");
        assert!(differs(&known, &new));
        let later = status(&settings(), &machine, &sight(Pressure::default()), Some(&known), at(90));
        assert!(!differs(&known, &later), "a heartbeat alone is no news");
    }

    #[test]
    fn a_node_without_a_pod_network_says_so_and_keeps_pods_away() {
        let machine = Machine::simulated();
        let waiting = Sight { network_waits: Some("no pod CIDR"), ..sight(Pressure::default()) };
        let node = node(&settings(), &machine, &waiting, at(0));
        let status = node.status.as_ref().unwrap();
        let ready = &status.conditions.as_ref().unwrap()[3];
        assert_eq!((ready.status.as_str(), ready.reason.as_deref()), ("False", Some("KubeletNotReady")));
        assert!(ready.message.as_ref().unwrap().ends_with("message:no pod CIDR"));
        assert_eq!(node.spec.unwrap().taints.unwrap()[0].key, "node.kubernetes.io/not-ready");
    }

    #[test]
    fn networks_are_claimed_once() {
        let own = ["10.244.7.0/24".to_owned()];
        let sight = Sight { pod_cidrs: &own, ..sight(Pressure::default()) };
        let mut spec = node(&settings(), &Machine::simulated(), &sight, at(0)).spec.unwrap();
        assert_eq!((spec.pod_cidr.as_deref(), spec.pod_cidrs.as_deref()), (Some("10.244.7.0/24"), Some(&own[..])));
        assert!(!claim_networks(&mut spec, &sight), "what is there is kept");
    }
}
