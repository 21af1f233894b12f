//! The conditions of a pod that the node owns; all others are kept as they are.

use k8s_core::api::{
    api::core::v1::{ContainerStatus, PodCondition, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::{Cause, seconds};
use crate::plan::{PodView, Role};

/// One condition before it is compared with what was known.
struct Finding {
    kind: &'static str,
    is_true: bool,
    reason: Option<&'static str>,
    message: Option<String>,
}

impl Finding {
    fn new(kind: &'static str, is_true: bool) -> Self {
        Self { kind, is_true, reason: None, message: None }
    }

    fn because(self, reason: &'static str, message: Option<String>) -> Self {
        Self { reason: Some(reason), message, ..self }
    }
}

/// All conditions: the node's own first, then the others.
pub(super) fn compute(view: &PodView<'_>, status: &PodStatus, cause: Cause) -> Vec<PodCondition> {
    let containers_ready = containers_ready(status);
    let ready = ready(view, &containers_ready);
    let findings =
        [ready_to_start(view, status, cause), initialized(view, status), ready, containers_ready, scheduled()];
    let known: Vec<PodCondition> =
        view.pod.status.iter().flat_map(|s| s.conditions.clone().unwrap_or_default()).collect();
    let own = |kind: &str| findings.iter().any(|finding| finding.kind == kind);
    let others: Vec<PodCondition> = known.iter().filter(|condition| !own(&condition.type_)).cloned().collect();
    let mut all: Vec<PodCondition> = findings.iter().map(|finding| settle(view, finding, &known)).collect();
    all.extend(others);
    all
}

/// The time of the last transition stays while the status does.
fn settle(view: &PodView<'_>, finding: &Finding, known: &[PodCondition]) -> PodCondition {
    let status = if finding.is_true { "True" } else { "False" };
    let old = known.iter().find(|condition| condition.type_ == finding.kind);
    let since = old.filter(|old| old.status == status).and_then(|old| old.last_transition_time.clone());
    // The scheduler's word about its own decision is kept whole.
    if finding.kind == "PodScheduled"
        && let Some(old) = old.filter(|old| old.status == "True")
    {
        return PodCondition { observed_generation: view.pod.metadata.generation, ..old.clone() };
    }
    PodCondition {
        type_: finding.kind.to_owned(),
        status: status.to_owned(),
        reason: finding.reason.map(str::to_owned),
        message: finding.message.clone(),
        last_transition_time: since.or(Some(Time(seconds(view.now)))),
        last_probe_time: None,
        observed_generation: view.pod.metadata.generation,
    }
}

fn is_phase(status: &PodStatus, phase: &str) -> bool {
    status.phase.as_deref() == Some(phase)
}

fn ready_to_start(view: &PodView<'_>, status: &PodStatus, cause: Cause) -> Finding {
    let over = is_phase(status, "Succeeded") || is_phase(status, "Failed") || cause == Cause::Rejected;
    Finding::new("PodReadyToStartContainers", view.is_connected() && !over)
}

fn initialized(view: &PodView<'_>, status: &PodStatus) -> Finding {
    if is_phase(status, "Succeeded") {
        return Finding::new("Initialized", true).because("PodCompleted", None);
    }
    let pending = view.parts.iter().filter(|part| matches!(part.role, Role::Init | Role::Sidecar));
    let pending: Vec<&str> =
        pending.filter(|part| !view.has_done_its_part(part)).map(|part| part.container.name.as_str()).collect();
    let was = || {
        let known = view.pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
        known.into_iter().any(|condition| condition.type_ == "Initialized" && condition.status == "True")
    };
    let over = is_phase(status, "Failed");
    if view.is_initialized() || (over && was()) {
        return Finding::new("Initialized", true);
    }
    let message = format!("containers with incomplete status: [{}]", pending.join(" "));
    Finding::new("Initialized", false).because("ContainersNotInitialized", Some(message))
}

fn containers_ready(status: &PodStatus) -> Finding {
    let finding = Finding::new("ContainersReady", false);
    if is_phase(status, "Succeeded") {
        return finding.because("PodCompleted", None);
    }
    if is_phase(status, "Failed") {
        return finding.because("PodFailed", None);
    }
    let sidecars = status.init_container_statuses.iter().flatten().filter(|s| is_sidecar_running(s));
    let all = sidecars.chain(status.container_statuses.iter().flatten());
    let unready: Vec<&str> = all.filter(|status| !status.ready).map(|status| status.name.as_str()).collect();
    if unready.is_empty() {
        return Finding { is_true: true, ..finding };
    }
    let message = format!("containers with unready status: [{}]", unready.join(" "));
    finding.because("ContainersNotReady", Some(message))
}

/// Ordinary init containers are never running once the pod is initialized; what runs then is a sidecar.
fn is_sidecar_running(status: &ContainerStatus) -> bool {
    status.state.as_ref().is_some_and(|state| state.terminated.is_none()) && status.started == Some(true)
}

fn ready(view: &PodView<'_>, containers: &Finding) -> Finding {
    if !containers.is_true {
        return Finding::new("Ready", false).because(containers.reason.unwrap_or_default(), containers.message.clone());
    }
    let known: Vec<&PodCondition> = view.pod.status.iter().flat_map(|s| s.conditions.iter().flatten()).collect();
    let gates = view.spec().and_then(|spec| spec.readiness_gates.as_ref());
    let unmet = gates.into_iter().flatten().filter_map(|gate| {
        match known.iter().find(|condition| condition.type_ == gate.condition_type) {
            Some(condition) if condition.status == "True" => None,
            Some(_) => Some(format!("the status of pod readiness gate {:?} is not \"True\"", gate.condition_type)),
            None => {
                Some(format!("corresponding condition of pod readiness gate {:?} does not exist.", gate.condition_type))
            }
        }
    });
    let unmet: Vec<String> = unmet.collect();
    if unmet.is_empty() {
        return Finding::new("Ready", true);
    }
    let message = if unmet.len() == 1 { unmet[0].clone() } else { format!("[{}]", unmet.join(", ")) };
    Finding::new("Ready", false).because("ReadinessGatesNotReady", Some(message))
}

fn scheduled() -> Finding {
    Finding::new("PodScheduled", true)
}
