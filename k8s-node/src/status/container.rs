//! The status of one container.

use k8s_core::api::{
    api::core::v1::{
        self, ContainerStateRunning, ContainerStateTerminated, ContainerStateWaiting, ContainerUser,
        LinuxContainerUser, VolumeMountStatus,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};

use super::seconds;
use crate::{
    plan::{LOST_EXIT_CODE, Part, PodView, Role},
    runtime::{ContainerState, ContainerStatus, Exit},
};

/// The status of one container; `waiting` overrides why it waits, `ended` says that it will not run again.
pub(super) fn compute(
    view: &PodView<'_>,
    part: &Part<'_>,
    waiting: Option<&(String, String)>,
    ended: bool,
) -> v1::ContainerStatus {
    let name = &part.container.name;
    let known = view.known(name);
    let waits = || {
        let (reason, message) = waiting.cloned().unwrap_or_else(|| (default_reason(view).to_owned(), String::new()));
        state_waiting(reason, message)
    };
    let Some(latest) = view.latest(name) else {
        return without_instance(view, part, known, waits(), waiting.is_some(), ended);
    };
    let previous = view.instances(name).nth(1).and_then(|old| state_terminated(view, old));
    let before = || previous.clone().or_else(|| known.and_then(|known| known_last_state(view, known, latest)));
    let (state, last_state) = match &latest.state {
        ContainerState::Created => (if ended { lost(None) } else { waits() }, before()),
        ContainerState::Running { .. } if view.observed.starting.contains(&latest.id) => (waits(), before()),
        ContainerState::Running { started_at, .. } => {
            let running = ContainerStateRunning { started_at: Some(Time(seconds(*started_at))) };
            (v1::ContainerState { running: Some(running), ..Default::default() }, before())
        }
        ContainerState::Exited(_) if waiting.is_some() && !ended => (waits(), state_terminated(view, latest)),
        ContainerState::Exited(_) => (state_terminated(view, latest).unwrap_or_default(), before()),
    };
    let is_running = state.running.is_some();
    v1::ContainerStatus {
        name: name.clone(),
        image: latest.image.clone(),
        image_id: latest.image_ref.clone(),
        container_id: Some(view.shown_id(&latest.id)),
        restart_count: i32::try_from(latest.attempt).unwrap_or(i32::MAX),
        ready: is_ready(view, part, latest),
        started: Some(is_running && view.is_started(&part.container, latest)),
        user: latest.user.as_ref().map(user),
        resources: part.container.resources.clone().filter(|_| is_running),
        allocated_resources: part.container.resources.as_ref().filter(|_| is_running).and_then(|r| r.requests.clone()),
        volume_mounts: volume_mounts(part),
        state: Some(state),
        last_state: Some(last_state.unwrap_or_default()),
        ..Default::default()
    }
}

/// An init container is ready once it has succeeded, any other while it takes traffic.
fn is_ready(view: &PodView<'_>, part: &Part<'_>, latest: &ContainerStatus) -> bool {
    match (part.role, &latest.state) {
        (Role::Init, ContainerState::Exited(exit)) => exit.code == 0,
        (Role::Init | Role::Ephemeral, _) => false,
        _ => view.is_ready(&part.container, latest),
    }
}

/// Nothing of the container is here: it was never made, or what was known of it is all there is.
fn without_instance(
    view: &PodView<'_>,
    part: &Part<'_>,
    known: Option<&v1::ContainerStatus>,
    waits: v1::ContainerState,
    says_why: bool,
    ended: bool,
) -> v1::ContainerStatus {
    let past = known.and_then(|known| known.state.as_ref());
    let id = known.and_then(|known| known.container_id.clone());
    let was_terminated = past.is_some_and(|state| state.terminated.is_some());
    let was_running = past.is_some_and(|state| state.running.is_some());
    let last = known.and_then(|known| known.last_state.clone()).unwrap_or_default();
    let (state, last_state) = match past {
        // A final status is never taken back; the container may have been removed since.
        Some(past) if was_terminated && (!says_why || ended) => (past.clone(), last),
        Some(past) if was_terminated => (waits, past.clone()),
        // What never got its turn keeps waiting, visibly, in a pod that failed before.
        _ if ended && (was_running || (part.role == Role::App && view.is_initialized())) => (lost(id.clone()), last),
        _ if was_running => (waits, lost(id.clone())),
        _ => (waits, last),
    };
    v1::ContainerStatus {
        name: part.container.name.clone(),
        image: known.map(|known| known.image.clone()).filter(|i| !i.is_empty()).unwrap_or_else(|| image(part)),
        image_id: known.map(|known| known.image_id.clone()).unwrap_or_default(),
        container_id: id,
        restart_count: known.map_or(0, |known| known.restart_count),
        ready: part.role == Role::Init && known.is_some_and(|known| known.ready) && view.is_initialized(),
        started: Some(false),
        volume_mounts: volume_mounts(part),
        state: Some(state),
        last_state: Some(last_state),
        ..Default::default()
    }
}

fn image(part: &Part<'_>) -> String {
    part.container.image.clone().unwrap_or_default()
}

fn default_reason(view: &PodView<'_>) -> &'static str {
    if view.is_initialized() { "ContainerCreating" } else { "PodInitializing" }
}

fn state_waiting(reason: String, message: String) -> v1::ContainerState {
    let waiting = ContainerStateWaiting { reason: Some(reason), message: (!message.is_empty()).then_some(message) };
    v1::ContainerState { waiting: Some(waiting), ..Default::default() }
}

fn lost(container_id: Option<String>) -> v1::ContainerState {
    let message = "The container could not be located when the pod was terminated";
    let terminated = ContainerStateTerminated {
        exit_code: LOST_EXIT_CODE,
        reason: Some("ContainerStatusUnknown".to_owned()),
        message: Some(message.to_owned()),
        container_id,
        ..Default::default()
    };
    v1::ContainerState { terminated: Some(terminated), ..Default::default() }
}

/// What was known of the instance before the newest one, if that is no longer here.
fn known_last_state(
    view: &PodView<'_>,
    known: &v1::ContainerStatus,
    latest: &ContainerStatus,
) -> Option<v1::ContainerState> {
    let same = known.container_id.as_deref() == Some(&view.shown_id(&latest.id));
    let past = known.state.clone().filter(|state| !same && state.terminated.is_some());
    let vanished =
        || known.container_id.clone().filter(|_| !same && known.state.as_ref().is_some_and(|s| s.running.is_some()));
    past.or_else(|| vanished().map(|id| lost(Some(id)))).or_else(|| known.last_state.clone())
}

fn state_terminated(view: &PodView<'_>, container: &ContainerStatus) -> Option<v1::ContainerState> {
    let Exit { code, signal, reason, message, started_at, finished_at } = crate::plan::exit_of(container)?;
    let left = view.observed.messages.get(&container.id).filter(|left| !left.is_empty());
    let message = left.unwrap_or(message);
    let terminated = ContainerStateTerminated {
        container_id: Some(view.shown_id(&container.id)),
        exit_code: *code,
        signal: *signal,
        reason: Some(reason.clone()),
        message: (!message.is_empty()).then(|| message.clone()),
        started_at: Some(Time(seconds(*started_at))),
        finished_at: Some(Time(seconds(*finished_at))),
    };
    Some(v1::ContainerState { terminated: Some(terminated), ..Default::default() })
}

fn user((uid, gid, groups): &(u32, u32, Vec<u32>)) -> ContainerUser {
    let groups = groups.iter().map(|group| i64::from(*group)).collect();
    let linux = LinuxContainerUser { uid: (*uid).into(), gid: (*gid).into(), supplemental_groups: Some(groups) };
    ContainerUser { linux: Some(linux) }
}

fn volume_mounts(part: &Part<'_>) -> Option<Vec<VolumeMountStatus>> {
    let mounts = part.container.volume_mounts.as_ref()?.iter().map(|mount| VolumeMountStatus {
        name: mount.name.clone(),
        mount_path: mount.mount_path.clone(),
        read_only: mount.read_only,
        recursive_read_only: mount
            .read_only
            .filter(|read_only| *read_only)
            .map(|_| mount.recursive_read_only.clone().unwrap_or_else(|| "Disabled".to_owned())),
        ..Default::default()
    });
    Some(mounts.collect())
}
