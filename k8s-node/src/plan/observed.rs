//! Everything that a plan may know about one pod on this node.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use k8s_core::env::Timestamp;

use crate::runtime::{ContainerStatus, SandboxStatus};

/// What there is of one pod.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Observed {
    /// Its sandboxes, in any order.
    pub sandboxes: Vec<SandboxStatus>,
    /// The containers in its sandboxes, in any order.
    pub containers: Vec<ContainerStatus>,
    /// The addresses of sandboxes that are connected to the pod network, by sandbox id.
    pub addresses: BTreeMap<String, Vec<IpAddr>>,
    /// Its volumes.
    pub volumes: Volumes,
    /// What probes found, by container id.
    pub probes: BTreeMap<String, ProbeResults>,
    /// What ended containers left in their termination message file, by container id.
    pub messages: BTreeMap<String, String>,
    /// Containers whose start is under way (a `postStart` hook included), by id. They do not count as running yet.
    pub starting: BTreeSet<String>,
    /// The machine.
    pub host: Host,
    /// What was tried before.
    pub history: History,
}

/// What a plan must know of the machine.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Host {
    /// Its addresses, primary first.
    pub addresses: Vec<IpAddr>,
    /// The runtime's name, which container ids are shown with: `NAME://ID`.
    pub runtime: String,
}

/// The volumes of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Volumes {
    /// Not (known to be) set up.
    #[default]
    Absent,
    /// Set up, and current until `refresh_at`.
    Ready {
        /// When to look again at what they show.
        refresh_at: Option<Timestamp>,
    },
}

/// What the probes of one container say; `None` where no probe has an opinion yet.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ProbeResults {
    /// `Some(false)`: to be killed.
    pub liveness: Option<bool>,
    /// Whether it takes traffic.
    pub readiness: Option<bool>,
    /// `Some(true)`: started; `Some(false)`: to be killed.
    pub startup: Option<bool>,
}

/// What was tried before, kept by the agent between plans.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct History {
    /// Operations that failed and were not yet done since.
    pub failures: BTreeMap<Subject, Failure>,
    /// When the pod began to be stopped.
    pub stopping_since: Option<Timestamp>,
    /// Why the node does not take the pod.
    pub rejection: Option<Rejection>,
    /// Whether volumes, files and logs have been removed.
    pub cleaned_up: bool,
    /// Whether the API server was told that nothing is left.
    pub finished: bool,
    /// Containers that were told to end, by id: a `preStop` hook runs once.
    pub hooks_run: BTreeSet<String>,
}

/// What a failed operation was about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Subject {
    /// Making the sandbox.
    Sandbox,
    /// Connecting it.
    Network,
    /// Setting volumes up.
    Volumes,
    /// Fetching the image of the container of this name.
    Image(String),
    /// Creating or starting the container of this name.
    Container(String),
    /// Taking the pod down.
    Removal,
}

/// An operation that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The word that the container's `waiting.reason` shows.
    pub reason: String,
    /// For people.
    pub message: String,
    /// How many times in a row.
    pub count: u32,
    /// When it last failed.
    pub at: Timestamp,
    /// When it may be tried again.
    pub until: Timestamp,
}

/// Why a node does not take a pod.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// One word, such as `OutOfcpu` or `NodeAffinity`.
    pub reason: String,
    /// For people.
    pub message: String,
}
