//! Bringing a pod up and keeping it up.

use k8s_core::env::Timestamp;

use super::{
    BackOff, Draft, Failure, Notice, Op, Part, Role, Severity, Subject, Volumes, container_resources, restarts,
    view::{attempt, carried, exit, is_running},
};
use crate::runtime::{ContainerState, ContainerStatus, Exit};

/// What is to become of one container.
enum Fate {
    /// It runs, and should.
    Keep,
    /// A new instance is wanted as soon as the time has come.
    Start(Option<(Timestamp, BackOff)>),
    /// It must end first.
    Kill(String),
    /// It has ended and stays so.
    Done,
}

/// Plans a pod that should run.
pub(super) fn run(draft: &mut Draft<'_>) {
    mount(draft);
    let ready = sandbox(draft);
    retire_sandboxes(draft);
    if ready && matches!(draft.view.observed.volumes, Volumes::Ready { .. }) {
        containers(draft);
    }
}

fn mount(draft: &mut Draft<'_>) {
    let due = match draft.view.observed.volumes {
        Volumes::Absent => true,
        Volumes::Ready { refresh_at } => {
            draft.wake_at(refresh_at);
            refresh_at.is_some_and(|at| at <= draft.view.now)
        }
    };
    if due && draft.may_retry(&Subject::Volumes) {
        draft.op(Op::MountVolumes);
    }
}

/// Whether there is a connected sandbox to put containers into.
fn sandbox(draft: &mut Draft<'_>) -> bool {
    let Some(sandbox) = draft.view.sandbox else {
        if wants_sandbox(draft) && draft.may_retry(&Subject::Sandbox) {
            let attempt = draft.view.observed.sandboxes.iter().map(|s| attempt(s) + 1).max().unwrap_or(0);
            draft.op(Op::StartSandbox { id: format!("{}-{attempt}", draft.view.uid()), attempt });
        }
        return false;
    };
    if !draft.view.is_connected() {
        if draft.may_retry(&Subject::Network) {
            draft.op(Op::Connect { sandbox: sandbox.id.clone() });
        }
        return false;
    }
    true
}

/// A sandbox is made only for a container that is to run in it: a finished pod on a restarted machine needs none.
fn wants_sandbox(draft: &Draft<'_>) -> bool {
    let view = &draft.view;
    view.parts.iter().filter(|part| part.role == Role::App).any(|part| !view.is_done(part))
}

/// Unusable sandboxes go once status tells about all that ended in them.
fn retire_sandboxes(draft: &mut Draft<'_>) {
    let view = &draft.view;
    let current = view.sandbox.map(|sandbox| sandbox.id.as_str());
    let old = view.observed.sandboxes.iter().filter(|sandbox| Some(sandbox.id.as_str()) != current);
    let forgettable = old.filter(|sandbox| {
        let inside = view.observed.containers.iter().filter(|container| container.sandbox == sandbox.id);
        inside.into_iter().all(|container| view.is_recorded(container))
    });
    let ops: Vec<Op> = forgettable.map(|sandbox| Op::RemoveSandbox { id: sandbox.id.clone() }).collect();
    if !ops.is_empty() && draft.may_retry(&Subject::Removal) {
        draft.ops.extend(ops);
    }
}

fn containers(draft: &mut Draft<'_>) {
    let parts = draft.view.parts.clone();
    let apps_done = apps_are_done(draft);
    if !draft.view.is_initialized() {
        initialize(draft, &parts);
    } else {
        for part in parts.iter().filter(|part| part.role == Role::App || part.role == Role::Sidecar) {
            if part.role == Role::App || !apps_done {
                settle(draft, part);
            }
        }
        if apps_done {
            super::terminate::stop_sidecars(draft);
        }
    }
    for part in parts.iter().filter(|part| part.role == Role::Ephemeral) {
        settle(draft, part);
    }
}

/// Whether every ordinary container has ended for good.
fn apps_are_done(draft: &Draft<'_>) -> bool {
    let view = &draft.view;
    view.parts.iter().filter(|part| part.role == Role::App).all(|part| view.is_done(part))
}

/// Init containers one after another; a sidecar holds up the next only until it has started.
fn initialize(draft: &mut Draft<'_>, parts: &[Part<'_>]) {
    for part in parts.iter().filter(|part| matches!(part.role, Role::Init | Role::Sidecar)) {
        if part.role == Role::Sidecar || !draft.view.has_done_its_part(part) {
            settle(draft, part);
        }
        if !draft.view.has_done_its_part(part) {
            return;
        }
    }
}

/// Does what one container needs.
fn settle(draft: &mut Draft<'_>, part: &Part<'_>) {
    match fate(draft, part) {
        Fate::Keep => update_resources(draft, part),
        Fate::Done => {}
        Fate::Start(back_off) => start(draft, part, back_off),
        Fate::Kill(message) => {
            if !draft.may_retry(&Subject::Removal) {
                return;
            }
            let grace = kill_grace(draft, part);
            let deadline = draft.view.now.checked_add(grace).unwrap_or(draft.view.now);
            for container in draft.view.instances(&part.container.name).filter(|c| is_running(c)) {
                let (id, name) = (container.id.clone(), container.name.clone());
                draft.ops.push(Op::StopContainer { id, name, deadline, message: message.clone() });
            }
        }
    }
}

fn fate(draft: &Draft<'_>, part: &Part<'_>) -> Fate {
    let view = &draft.view;
    let name = &part.container.name;
    let Some(latest) = view.latest(name) else {
        return if part.role != Role::Init && view.is_done(part) { Fate::Done } else { Fate::Start(None) };
    };
    match &latest.state {
        ContainerState::Created => Fate::Start(None),
        ContainerState::Running { .. } => why_kill(draft, part, latest).map_or(Fate::Keep, Fate::Kill),
        // A new sandbox runs everything again that is not finished; init containers always.
        ContainerState::Exited(exit) => {
            let anew = view.current(name).is_none() && part.role == Role::Init;
            if anew || restarts(view.pod, &part.container, part.role, exit.code) {
                Fate::Start(Some(BackOff::next(carried(latest), exit.finished_at)))
            } else {
                Fate::Done
            }
        }
    }
}

fn why_kill(draft: &Draft<'_>, part: &Part<'_>, latest: &ContainerStatus) -> Option<String> {
    let name = &part.container.name;
    let probes = draft.view.probes(&latest.id);
    if draft.view.current(name).is_none() {
        return Some(format!("Container {name} belongs to a pod sandbox that is gone"));
    }
    if part.role == Role::Ephemeral {
        return None;
    }
    if part.role != Role::Init && part.container.image.as_deref().is_some_and(|image| image != latest.image) {
        return Some(format!("Container {name} definition changed, will be restarted"));
    }
    if probes.startup == Some(false) {
        return Some(format!("Container {name} failed startup probe, will be restarted"));
    }
    if probes.liveness == Some(false) {
        return Some(format!("Container {name} failed liveness probe, will be restarted"));
    }
    None
}

/// A failed probe may bring a grace period of its own.
fn kill_grace(draft: &Draft<'_>, part: &Part<'_>) -> std::time::Duration {
    let id = draft.view.latest(&part.container.name).map(|container| container.id.as_str()).unwrap_or_default();
    let probes = draft.view.probes(id);
    let failed = match (probes.startup, probes.liveness) {
        (Some(false), _) => part.container.startup_probe.as_ref(),
        (_, Some(false)) => part.container.liveness_probe.as_ref(),
        _ => None,
    };
    let own = failed.and_then(|probe| probe.termination_grace_period_seconds);
    own.map_or(draft.view.grace(), |seconds| std::time::Duration::from_secs(seconds.max(0).unsigned_abs()))
}

fn start(draft: &mut Draft<'_>, part: &Part<'_>, back_off: Option<(Timestamp, BackOff)>) {
    let name = part.container.name.as_str();
    let Some(sandbox) = draft.view.sandbox.map(|sandbox| sandbox.id.clone()) else { return };
    if let Some((at, carried)) = back_off
        && at > draft.view.now
    {
        return wait_for_restart(draft, part, at, carried);
    }
    for subject in [Subject::Image(name.to_owned()), Subject::Container(name.to_owned())] {
        let Some(failure) = draft.view.observed.history.failures.get(&subject).cloned() else { continue };
        tell_failure(draft, part, &subject, &failure);
        if !draft.may_retry(&subject) {
            return;
        }
    }
    // A wait that is over is shown until the new instance runs.
    let shown = draft.view.known(name).and_then(|known| known.state.as_ref()?.waiting.clone());
    if let Some(shown) = shown.filter(|_| draft.view.exit_code(name).is_some() && !draft.waiting.contains_key(name)) {
        draft.wait(name, &shown.reason.unwrap_or_default(), shown.message.unwrap_or_default());
    }
    // An instance that was created but never started goes on; every other start is a new instance.
    let created = draft.view.current(name).filter(|container| container.state == ContainerState::Created);
    let (attempt, back_off) = match created {
        Some(container) => (container.attempt, carried(container)),
        None => (draft.view.next_attempt(name), back_off.map(|(_, carried)| carried)),
    };
    let id = container_id(draft.view.uid(), name, attempt);
    draft.op(Op::RunContainer { id, name: name.to_owned(), sandbox, attempt, back_off });
}

/// The id of an instance: pod, container, attempt.
fn container_id(uid: &str, name: &str, attempt: u32) -> String {
    format!("{uid}-{name}-{attempt}")
}

fn wait_for_restart(draft: &mut Draft<'_>, part: &Part<'_>, at: Timestamp, carried: BackOff) {
    draft.wake_at(at);
    let name = &part.container.name;
    let wait = at.duration_since(carried.since).as_secs();
    let ended = draft.view.latest(name).and_then(exit).cloned();
    let meta = &draft.view.pod.metadata;
    let pod = format!(
        "{}_{}({})",
        meta.name.as_deref().unwrap_or_default(),
        meta.namespace.as_deref().unwrap_or_default(),
        draft.view.uid()
    );
    let message = format!("back-off {} restarting failed container={name} pod={pod}", human(wait));
    match ended {
        // The first failure to start shows the cause; later ones show that it keeps failing.
        Some(Exit { reason, message, .. }) if reason == "StartError" && wait <= 10 => {
            draft.wait(name, "RunContainerError", message);
        }
        _ => draft.wait(name, "CrashLoopBackOff", message),
    }
    let message = format!("Back-off restarting failed container {name} in pod {pod}");
    draft.notices.push(Notice {
        severity: Severity::Warning,
        reason: "BackOff",
        message,
        container: Some(name.clone()),
    });
}

/// Seconds as upstream writes durations: `10s`, `1m20s`, `5m0s`.
fn human(seconds: i64) -> String {
    if seconds < 60 { format!("{seconds}s") } else { format!("{}m{}s", seconds / 60, seconds % 60) }
}

fn tell_failure(draft: &mut Draft<'_>, part: &Part<'_>, subject: &Subject, failure: &Failure) {
    let name = &part.container.name;
    let image = part.container.image.as_deref().unwrap_or_default();
    // The cause is shown for the first half of the wait, that it keeps failing for the rest.
    let half = failure.until.duration_since(failure.at) / 2;
    let turn = failure.at.checked_add(half).unwrap_or(failure.at);
    let backs_off = matches!(subject, Subject::Image(_)) && failure.reason == "ErrImagePull" && turn <= draft.view.now;
    if backs_off {
        let message = format!("Back-off pulling image {image:?}: {}: {}", failure.reason, failure.message);
        draft.wait(name, "ImagePullBackOff", message);
        let message = format!("Back-off pulling image {image:?}");
        let container = Some(name.clone());
        draft.notices.push(Notice { severity: Severity::Normal, reason: "BackOff", message, container });
    } else {
        draft.wait(name, &failure.reason, failure.message.clone());
        draft.wake_at(turn);
    }
}

/// In-place resize: a running container gets the limits that its specification names now.
fn update_resources(draft: &mut Draft<'_>, part: &Part<'_>) {
    let Some(latest) = draft.view.latest(&part.container.name) else { return };
    let wanted = container_resources(draft.view.pod, &part.container);
    let (cpu, memory) = (wanted.cpu_quota_us.unwrap_or(-1), wanted.memory_limit_bytes.unwrap_or(-1));
    let now = &latest.resources;
    let differs = now.cpu_quota_us.unwrap_or(-1) != cpu
        || now.memory_limit_bytes.unwrap_or(-1) != memory
        || (wanted.cpu_shares.is_some() && now.cpu_shares != wanted.cpu_shares);
    if differs && draft.may_retry(&Subject::Container(part.container.name.clone())) {
        let resources = crate::runtime::Resources {
            cpu_quota_us: Some(cpu),
            memory_limit_bytes: Some(memory),
            oom_score_adj: None,
            ..wanted
        };
        draft.op(Op::UpdateResources { id: latest.id.clone(), resources });
    }
}
