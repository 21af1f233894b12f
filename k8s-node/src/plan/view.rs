//! One pod and what there is of it, with the questions that planning and status both ask.

use std::{collections::BTreeMap, time::Duration};

use k8s_core::{
    api::api::core::v1::{self, Container, Pod, PodSpec},
    env::Timestamp,
};

use super::{BACK_OFF, BackOff, Observed, Part, ProbeResults, Role, SANDBOX_ATTEMPT, parts, restarts};
use crate::runtime::{ContainerState, ContainerStatus, Exit, SandboxState, SandboxStatus};

/// How long a pod may take to end unless it says otherwise.
const DEFAULT_GRACE: i64 = 30;

/// The exit code of a container whose end nobody saw.
pub(crate) const LOST_EXIT_CODE: i32 = 137;

/// A pod, what there is of it, and the time.
pub(crate) struct View<'a> {
    pub pod: &'a Pod,
    pub observed: &'a Observed,
    pub now: Timestamp,
    /// In starting order.
    pub parts: Vec<Part<'a>>,
    /// The usable sandbox with the highest attempt.
    pub sandbox: Option<&'a SandboxStatus>,
    /// By name, newest first.
    instances: BTreeMap<&'a str, Vec<&'a ContainerStatus>>,
}

impl<'a> View<'a> {
    pub fn new(pod: &'a Pod, observed: &'a Observed, now: Timestamp) -> Self {
        let ready = observed.sandboxes.iter().filter(|sandbox| sandbox.state == SandboxState::Ready);
        let sandbox = ready.max_by_key(|sandbox| attempt(sandbox));
        let mut instances: BTreeMap<&str, Vec<&ContainerStatus>> = BTreeMap::new();
        for container in &observed.containers {
            instances.entry(&container.name).or_default().push(container);
        }
        for list in instances.values_mut() {
            list.sort_by_key(|container| std::cmp::Reverse(container.attempt));
        }
        Self { pod, observed, now, parts: parts(pod), sandbox, instances }
    }

    pub fn spec(&self) -> Option<&'a PodSpec> {
        self.pod.spec.as_ref()
    }

    pub fn uid(&self) -> &'a str {
        self.pod.metadata.uid.as_deref().unwrap_or_default()
    }

    /// Succeeded or failed for good: a pod never leaves these phases.
    pub fn is_terminal(&self) -> bool {
        let phase = self.pod.status.as_ref().and_then(|status| status.phase.as_deref());
        matches!(phase, Some("Succeeded" | "Failed"))
    }

    pub fn is_deleted(&self) -> bool {
        self.pod.metadata.deletion_timestamp.is_some()
    }

    pub fn uses_host_network(&self) -> bool {
        self.spec().and_then(|spec| spec.host_network).unwrap_or(false)
    }

    /// `activeDeadlineSeconds` as a time.
    pub fn deadline(&self) -> Option<Timestamp> {
        let seconds = self.spec()?.active_deadline_seconds?;
        let start = self.pod.status.as_ref()?.start_time.as_ref()?;
        start.0.checked_add(Duration::from_secs(seconds.max(0).unsigned_abs())).ok()
    }

    /// How long containers may take to end: what the deletion grants, else what the pod asks for.
    pub fn grace(&self) -> Duration {
        let granted = self.pod.metadata.deletion_grace_period_seconds.filter(|_| self.is_deleted());
        let seconds = granted.or_else(|| self.spec()?.termination_grace_period_seconds).unwrap_or(DEFAULT_GRACE);
        Duration::from_secs(seconds.max(0).unsigned_abs())
    }

    /// The instances of a container, newest first.
    pub fn instances(&self, name: &str) -> impl Iterator<Item = &'a ContainerStatus> + '_ {
        self.instances.get(name).into_iter().flatten().copied()
    }

    /// The newest instance, whatever its sandbox.
    pub fn latest(&self, name: &str) -> Option<&'a ContainerStatus> {
        self.instances(name).next()
    }

    /// The newest instance, if it is in the usable sandbox.
    pub fn current(&self, name: &str) -> Option<&'a ContainerStatus> {
        let sandbox = self.sandbox?;
        self.latest(name).filter(|container| container.sandbox == sandbox.id)
    }

    /// With which code a container ended, if it neither runs nor was never made.
    ///
    /// Without an instance here (the machine was replaced under it) what status said decides; one that was running then
    /// counts as lost.
    pub fn exit_code(&self, name: &str) -> Option<i32> {
        if let Some(latest) = self.latest(name) {
            return exit(latest).map(|exit| exit.code);
        }
        let state = self.known(name)?.state.as_ref()?;
        let lost = state.running.as_ref().map(|_| LOST_EXIT_CODE);
        state.terminated.as_ref().map(|terminated| terminated.exit_code).or(lost)
    }

    /// Whether a container has ended for good.
    pub fn is_done(&self, part: &Part<'_>) -> bool {
        let code = self.exit_code(&part.container.name);
        code.is_some_and(|code| !restarts(self.pod, &part.container, part.role, code))
    }

    /// What the pod's status last said about a container.
    pub fn known(&self, name: &str) -> Option<&'a v1::ContainerStatus> {
        let status = self.pod.status.as_ref()?;
        let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
        lists.into_iter().flatten().flatten().find(|known| known.name == name)
    }

    /// The attempt of the next instance: no two instances ever share one.
    pub fn next_attempt(&self, name: &str) -> u32 {
        let observed = self.latest(name).map(|container| container.attempt + 1).unwrap_or(0);
        let known = self.known(name).filter(|known| known.container_id.is_some());
        let known = known.map(|known| known.restart_count.max(0).unsigned_abs() + 1).unwrap_or(0);
        observed.max(known)
    }

    /// The id that status shows.
    pub fn shown_id(&self, id: &str) -> String {
        format!("{}://{id}", self.observed.host.runtime)
    }

    /// Whether status already tells about this instance, so that it may be forgotten here.
    pub fn is_recorded(&self, container: &ContainerStatus) -> bool {
        let shown = self.shown_id(&container.id);
        let Some(known) = self.known(&container.name) else { return false };
        let ended = |state: &Option<v1::ContainerState>| {
            state.as_ref().and_then(|state| state.terminated.as_ref()).and_then(|t| t.container_id.as_deref())
                == Some(&shown)
        };
        let later = known.restart_count > container.attempt as i32;
        ended(&known.state) || ended(&known.last_state) || later || container.state == ContainerState::Created
    }

    pub fn probes(&self, id: &str) -> ProbeResults {
        self.observed.probes.get(id).copied().unwrap_or_default()
    }

    /// Whether an instance of this container runs.
    pub fn runs(&self, name: &str) -> bool {
        self.latest(name).is_some_and(is_running)
    }

    /// Whether anything of the pod runs or is about to.
    pub fn has_running(&self) -> bool {
        !self.observed.starting.is_empty() || self.observed.containers.iter().any(is_running)
    }

    /// Whether a running instance has passed its `postStart` hook and its startup probe.
    ///
    /// What status said before holds until the probes have an opinion: an agent's restart must not take pods out of
    /// service.
    pub fn is_started(&self, spec: &Container, container: &ContainerStatus) -> bool {
        if !is_running(container) || self.observed.starting.contains(&container.id) {
            return false;
        }
        let probed =
            || self.probes(&container.id).startup == Some(true) || self.was(container, |k| k.started == Some(true));
        spec.startup_probe.is_none() || probed()
    }

    /// Whether a running instance takes traffic.
    pub fn is_ready(&self, spec: &Container, container: &ContainerStatus) -> bool {
        let probed =
            || self.probes(&container.id).readiness.unwrap_or_else(|| self.was(container, |known| known.ready));
        self.is_started(spec, container) && (spec.readiness_probe.is_none() || probed())
    }

    fn was(&self, container: &ContainerStatus, test: impl Fn(&v1::ContainerStatus) -> bool) -> bool {
        let known = self.known(&container.name);
        known.is_some_and(|known| known.container_id.as_deref() == Some(&self.shown_id(&container.id)) && test(known))
    }

    /// The addresses to show: those of the sandbox, of the machine for `hostNetwork`, or those known before.
    pub fn addresses(&self) -> Vec<String> {
        if self.uses_host_network() {
            return self.observed.host.addresses.iter().map(ToString::to_string).collect();
        }
        let now = self.sandbox.and_then(|sandbox| self.observed.addresses.get(&sandbox.id));
        if let Some(now) = now {
            return now.iter().map(ToString::to_string).collect();
        }
        let known = self.pod.status.as_ref().and_then(|status| status.pod_ips.as_ref());
        known.into_iter().flatten().map(|known| known.ip.clone()).collect()
    }

    /// Whether the usable sandbox has its network.
    pub fn is_connected(&self) -> bool {
        let connected = |sandbox: &SandboxStatus| self.observed.addresses.contains_key(&sandbox.id);
        self.sandbox.is_some_and(|sandbox| self.uses_host_network() || connected(sandbox))
    }

    /// Whether every init container of the usable sandbox has done its part.
    ///
    /// Once an ordinary container was made, they have: their instances may be long gone.
    pub fn is_initialized(&self) -> bool {
        let begun = self.parts.iter().any(|p| p.role == Role::App && self.current(&p.container.name).is_some());
        begun || self.parts.iter().all(|part| self.has_done_its_part(part))
    }

    /// Whether an init container no longer holds up those after it.
    pub fn has_done_its_part(&self, part: &Part<'_>) -> bool {
        let current = || self.current(&part.container.name);
        match part.role {
            Role::Init => current().and_then(exit).is_some_and(|exit| exit.code == 0),
            Role::Sidecar => current().is_some_and(|container| self.is_started(&part.container, container)),
            Role::App | Role::Ephemeral => true,
        }
    }
}

/// How many sandboxes of its pod came before.
pub(crate) fn attempt(sandbox: &SandboxStatus) -> u32 {
    sandbox.annotations.get(SANDBOX_ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or(0)
}

pub(crate) fn is_running(container: &ContainerStatus) -> bool {
    matches!(container.state, ContainerState::Running { .. })
}

pub(crate) fn exit(container: &ContainerStatus) -> Option<&Exit> {
    match &container.state {
        ContainerState::Exited(exit) => Some(exit),
        _ => None,
    }
}

/// The crash-loop back-off that an instance carries.
pub(crate) fn carried(container: &ContainerStatus) -> Option<BackOff> {
    container.annotations.get(BACK_OFF).and_then(|text| text.parse().ok())
}
