//! The phase of a pod, from the states of its containers.

use k8s_core::api::api::core::v1::{ContainerStatus, PodStatus};

use crate::plan::{PodView, Role, restarts};

/// How many containers are in which state.
#[derive(Default)]
struct Count {
    running: usize,
    waiting: usize,
    succeeded: usize,
    failed: usize,
}

/// The phase; `ended` says that the pod is being stopped and nothing runs any more.
pub(super) fn compute(view: &PodView<'_>, status: &PodStatus, ended: bool) -> &'static str {
    let apps = count(status.container_statuses.iter().flatten());
    if ended {
        let all_succeeded = apps.failed + apps.waiting + apps.running == 0 && !init_failed(view);
        return if all_succeeded { "Succeeded" } else { "Failed" };
    }
    if init_failed(view) {
        return "Failed";
    }
    if apps.waiting > 0 || !view.is_initialized() {
        return "Pending";
    }
    let sidecars_run = view.parts.iter().any(|part| part.role == Role::Sidecar && view.runs(&part.container.name));
    let goes_on = view.parts.iter().any(|part| part.role == Role::App && !view.is_done(part));
    if apps.running > 0 || sidecars_run || goes_on {
        return "Running";
    }
    if apps.failed > 0 { "Failed" } else { "Succeeded" }
}

/// An init container has failed and is not to run again.
fn init_failed(view: &PodView<'_>) -> bool {
    view.parts.iter().filter(|part| part.role == Role::Init).any(|part| {
        let exit = view.current(&part.container.name).and_then(crate::plan::exit_of);
        exit.is_some_and(|exit| exit.code != 0 && !restarts(view.pod, &part.container, part.role, exit.code))
    })
}

fn count<'a>(statuses: impl Iterator<Item = &'a ContainerStatus>) -> Count {
    let mut count = Count::default();
    for status in statuses {
        let state = status.state.as_ref();
        let last = status.last_state.as_ref().and_then(|last| last.terminated.as_ref());
        let ended = state.and_then(|state| state.terminated.as_ref()).or(last);
        match ended {
            _ if state.is_some_and(|state| state.running.is_some()) => count.running += 1,
            Some(ended) if ended.exit_code == 0 => count.succeeded += 1,
            Some(_) => count.failed += 1,
            None => count.waiting += 1,
        }
    }
    count
}
