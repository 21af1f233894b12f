//! What a pod's status should say, computed from what there is.
//!
//! Pure, and never more hopeful than the facts: a phase, once final, stays. Upstream's counterpart is the kubelet's
//! `generateAPIPodStatus` with its status manager.

mod condition;
mod container;
mod phase;
mod qos;

pub use qos::QosClass;

use std::collections::BTreeMap;

use k8s_core::api::{
    api::core::v1::{ContainerStatus, HostIP, PodIP, PodStatus},
    apimachinery::pkg::apis::meta::v1::Time,
};

use crate::plan::{PodView, Role};

/// Why a pod is, or is not, to run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cause {
    /// It is to run.
    Active,
    /// The node does not take it.
    Rejected,
    /// It is being deleted.
    Deleted,
    /// It ran longer than `activeDeadlineSeconds`.
    DeadlineExceeded,
    /// Its status is final.
    Completed,
}

/// The reason and message of a pod that ran too long.
const DEADLINE: (&str, &str) = ("DeadlineExceeded", "Pod was active on the node longer than the specified deadline");

/// The status of a pod; `waiting` says why containers that do not run wait.
pub(crate) fn compute(view: &PodView<'_>, waiting: &BTreeMap<String, (String, String)>, cause: &Cause) -> PodStatus {
    let known = view.pod.status.clone().unwrap_or_default();
    let ended = *cause != Cause::Active && !view.has_running();
    let of = |roles: &[Role]| -> Option<Vec<ContainerStatus>> {
        let parts = view.parts.iter().filter(|part| roles.contains(&part.role));
        let list: Vec<ContainerStatus> =
            parts.map(|part| container::compute(view, part, waiting.get(&part.container.name), ended)).collect();
        (!list.is_empty()).then_some(list)
    };
    let mut status = PodStatus {
        init_container_statuses: of(&[Role::Init, Role::Sidecar]),
        container_statuses: of(&[Role::App]),
        ephemeral_container_statuses: of(&[Role::Ephemeral]),
        observed_generation: view.pod.metadata.generation,
        qos_class: known.qos_class.clone().or_else(|| Some(QosClass::of(view.pod).as_str().to_owned())),
        start_time: known.start_time.clone().or(Some(Time(seconds(view.now)))),
        ..known.clone()
    };
    addresses(view, &mut status);
    phase(view, &mut status, cause, ended);
    status.conditions = Some(condition::compute(view, &status, *cause));
    status
}

/// Times of the API have no fractions.
pub(crate) fn seconds(time: k8s_core::env::Timestamp) -> k8s_core::env::Timestamp {
    k8s_core::env::Timestamp::from_second(time.as_second()).unwrap_or(time)
}

/// Whether two values are the same but for what is empty: a server may leave that out.
pub(crate) fn means_the_same<T: serde::Serialize + PartialEq>(one: &T, other: &T) -> bool {
    one == other || pruned(one) == pruned(other)
}

fn pruned(value: &impl serde::Serialize) -> serde_json::Value {
    let mut value = serde_json::to_value(value).unwrap_or_default();
    prune(&mut value);
    value
}

fn prune(value: &mut serde_json::Value) {
    use serde_json::Value;
    let is_empty = |value: &Value| match value {
        Value::Null => true,
        Value::Object(fields) => fields.is_empty(),
        Value::Array(items) => items.is_empty(),
        _ => false,
    };
    match value {
        Value::Object(fields) => {
            fields.values_mut().for_each(prune);
            fields.retain(|_, value| !is_empty(value));
        }
        Value::Array(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}

fn addresses(view: &PodView<'_>, status: &mut PodStatus) {
    let host: Vec<String> = view.observed.host.addresses.iter().map(ToString::to_string).collect();
    status.host_ip = host.first().cloned();
    status.host_ips = (!host.is_empty()).then(|| host.into_iter().map(|ip| HostIP { ip }).collect());
    let pod = view.addresses();
    status.pod_ip = pod.first().cloned();
    status.pod_ips = (!pod.is_empty()).then(|| pod.into_iter().map(|ip| PodIP { ip }).collect());
}

fn phase(view: &PodView<'_>, status: &mut PodStatus, cause: &Cause, ended: bool) {
    if view.is_terminal() {
        return;
    }
    let why = match (cause, &view.observed.history.rejection) {
        (Cause::Rejected, Some(rejection)) => Some((rejection.reason.as_str(), rejection.message.as_str())),
        (Cause::DeadlineExceeded, _) => Some(DEADLINE),
        _ => None,
    };
    let phase = match cause {
        Cause::Rejected => "Failed",
        Cause::DeadlineExceeded if ended => "Failed",
        _ => phase::compute(view, status, ended),
    };
    status.phase = Some(phase.to_owned());
    if let Some((reason, message)) = why.filter(|_| phase == "Failed") {
        (status.reason, status.message) = (Some(reason.to_owned()), Some(message.to_owned()));
    }
}
