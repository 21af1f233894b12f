//! Taking a pod down: containers first, then sidecars, then what they stood on, then the object itself.

use std::time::Duration;

use k8s_core::env::Timestamp;

use super::{Draft, Observed, Op, Role, Subject, view::is_running};
use crate::status::Cause;

/// How long containers of a pod that nobody knows any more may take to end.
const ORPHAN_GRACE: Duration = Duration::from_secs(2);

/// Plans a pod that should not run, or no longer.
pub(super) fn terminate(draft: &mut Draft<'_>, cause: &Cause) {
    draft.stopping = true;
    if !stop(draft, cause) {
        return;
    }
    // What ended here must be told before its traces go.
    if !draft.view.is_terminal() || !draft.view.observed.containers.iter().all(|c| draft.view.is_recorded(c)) {
        return;
    }
    let sandboxes: Vec<String> = draft.view.observed.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect();
    if draft.view.is_deleted() {
        if draft.may_retry(&Subject::Removal) {
            remove(draft, sandboxes);
        }
    } else {
        // A finished pod keeps its logs, and so its sandbox, until it is deleted; its address goes to others.
        let connected = sandboxes.into_iter().filter(|id| draft.view.observed.addresses.contains_key(id));
        let ops: Vec<Op> = connected.map(|sandbox| Op::Disconnect { sandbox }).collect();
        if !ops.is_empty() && draft.may_retry(&Subject::Removal) {
            draft.ops.extend(ops);
        }
    }
}

/// A pod that never ran here has nothing to take down.
pub(super) fn finish_if_deleted(draft: &mut Draft<'_>) {
    if draft.view.is_deleted() && draft.view.is_terminal() && draft.may_retry(&Subject::Removal) {
        remove(draft, draft.view.observed.sandboxes.iter().map(|sandbox| sandbox.id.clone()).collect());
    }
}

/// Sandboxes, then files, then the object.
fn remove(draft: &mut Draft<'_>, sandboxes: Vec<String>) {
    if !sandboxes.is_empty() {
        draft.ops.extend(sandboxes.into_iter().map(|id| Op::RemoveSandbox { id }));
    } else if !draft.view.observed.history.cleaned_up {
        draft.op(Op::CleanUp);
    } else {
        draft.op(Op::Finish);
    }
}

/// Whether nothing runs any more; else what runs is told to end, sidecars after the others.
fn stop(draft: &mut Draft<'_>, cause: &Cause) -> bool {
    let since = draft.view.observed.history.stopping_since.unwrap_or(draft.view.now);
    let deadline = since.checked_add(draft.view.grace()).unwrap_or(since);
    let message = match cause {
        Cause::DeadlineExceeded => "Pod was active on the node longer than the specified deadline",
        _ => "",
    };
    let first = running(draft, |role| role != Some(Role::Sidecar));
    let victims = match first.is_empty() {
        false if deadline > draft.view.now => first,
        false => running(draft, |_| true),
        true => last_sidecar(draft),
    };
    let done = victims.is_empty() && draft.view.observed.starting.is_empty();
    draft.wake_at(deadline);
    if !draft.may_retry(&Subject::Removal) {
        return done;
    }
    for (id, name) in victims {
        let message = if message.is_empty() { format!("Stopping container {name}") } else { message.to_owned() };
        draft.ops.push(Op::StopContainer { id, name, deadline, message });
    }
    done
}

/// Stops sidecars once what they served has ended, the last one first.
pub(super) fn stop_sidecars(draft: &mut Draft<'_>) {
    draft.stopping = true;
    let since = draft.view.observed.history.stopping_since.unwrap_or(draft.view.now);
    let deadline = since.checked_add(draft.view.grace()).unwrap_or(since);
    if !draft.may_retry(&Subject::Removal) {
        return;
    }
    for (id, name) in last_sidecar(draft) {
        let message = format!("Stopping container {name}");
        draft.ops.push(Op::StopContainer { id, name, deadline, message });
    }
}

fn last_sidecar(draft: &Draft<'_>) -> Vec<(String, String)> {
    let sidecars = draft.view.parts.iter().filter(|part| part.role == Role::Sidecar).map(|p| &p.container.name);
    let alive = |name: &&String| draft.view.latest(name).is_some_and(is_running);
    let last = sidecars.rev().find(alive).and_then(|name| draft.view.latest(name));
    last.map(|container| (container.id.clone(), container.name.clone())).into_iter().collect()
}

/// Ids and names of the running containers of some roles; `None` is the role of what the pod does not name.
fn running(draft: &Draft<'_>, wanted: impl Fn(Option<Role>) -> bool) -> Vec<(String, String)> {
    let role = |name: &str| draft.view.parts.iter().find(|p| p.container.name == name).map(|p| p.role);
    let all = draft.view.observed.containers.iter();
    let found = all.filter(|container| is_running(container) && wanted(role(&container.name)));
    found.map(|container| (container.id.clone(), container.name.clone())).collect()
}

/// Everything of a pod that the API server no longer knows.
pub(super) fn orphan(observed: &Observed, now: Timestamp) -> Vec<Op> {
    let since = observed.history.stopping_since.unwrap_or(now);
    let deadline = since.checked_add(ORPHAN_GRACE).unwrap_or(since);
    let blocked = observed.history.failures.get(&Subject::Removal).is_some_and(|failure| failure.until > now);
    if blocked {
        return vec![];
    }
    let running = observed.containers.iter().filter(|container| is_running(container));
    let stops: Vec<Op> = running
        .map(|container| {
            let (id, name) = (container.id.clone(), container.name.clone());
            Op::StopContainer { message: format!("Stopping container {name}"), id, name, deadline }
        })
        .collect();
    if !stops.is_empty() {
        return stops;
    }
    if !observed.sandboxes.is_empty() {
        return observed.sandboxes.iter().map(|sandbox| Op::RemoveSandbox { id: sandbox.id.clone() }).collect();
    }
    if observed.history.cleaned_up { vec![] } else { vec![Op::CleanUp] }
}
