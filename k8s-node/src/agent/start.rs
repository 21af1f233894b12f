//! Starting one container: its image, its record, its program, its `postStart` hook.

use std::{sync::Arc, time::Duration};

use k8s_core::{api::api::core::v1::Pod, resource::Stored};

use super::{
    Shared,
    perform::{Outcome, Scene, Trouble},
    provision::Wanted,
    pull::ensure_image,
};
use crate::{
    plan::{Op, Part, Severity, Subject, parts},
    probe::run::{self, Action},
    runtime::RuntimeError,
};

/// How long a `postStart` hook may take; upstream has no bound but the pod's own end.
const HOOK_LIMIT: Duration = Duration::from_secs(3600);

/// Carries [`Op::RunContainer`] out.
pub(crate) async fn run_container(shared: &Arc<Shared>, pod: &Stored<Pod>, op: &Op, scene: &Scene) -> Outcome {
    let Op::RunContainer { id, name, sandbox, attempt, back_off } = op else { return Outcome::Done };
    let all = parts(pod);
    let Some(part) = all.into_iter().find(|part| part.container.name == *name) else { return Outcome::Done };
    let image = match ensure_image(shared, pod, &part).await {
        Ok(image) => image,
        Err(trouble) => return Outcome::Failed(Subject::Image(name.clone()), trouble),
    };
    let addresses = scene.addresses.get(sandbox).cloned().unwrap_or_else(|| shared.host.addresses.clone());
    let wanted = Wanted {
        id: id.clone(),
        attempt: *attempt,
        back_off: *back_off,
        part: part.clone(),
        addresses: addresses.iter().map(ToString::to_string).collect(),
        image,
    };
    let failed = |reason: &str, message: String| {
        shared.events.tell(pod.object(), Some(name), Severity::Warning, "Failed", format!("Error: {message}"));
        Outcome::Failed(Subject::Container(name.clone()), Trouble::new(reason, message))
    };
    let spec = match shared.provision.container(pod, wanted).await {
        Ok(spec) => spec,
        Err(error) => return failed("CreateContainerConfigError", error.message),
    };
    if let Err(error) = shared.runtime.create_container(sandbox, spec).await {
        return failed(error.reason(), error.to_string());
    }
    shared.events.tell(pod.object(), Some(name), Severity::Normal, "Created", format!("Container created: {name}"));
    match shared.runtime.start_container(id).await {
        Ok(()) => {}
        // The container has ended with this very message; its restart policy decides what comes next.
        Err(error @ RuntimeError::Start { .. }) => {
            failed("RunContainerError", error.to_string());
            return Outcome::Done;
        }
        Err(error) => return failed(error.reason(), error.to_string()),
    }
    shared.events.tell(pod.object(), Some(name), Severity::Normal, "Started", format!("Container started: {name}"));
    post_start(shared, pod, &part, id, addresses.first().copied()).await;
    Outcome::Done
}

/// A hook that fails ends the container.
async fn post_start(
    shared: &Arc<Shared>,
    pod: &Stored<Pod>,
    part: &Part<'_>,
    id: &str,
    address: Option<std::net::IpAddr>,
) {
    let hook = part.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.post_start.as_ref());
    let Some(hook) = hook else { return };
    let scene = run::Scene {
        env: shared.env.clone(),
        runtime: shared.runtime.clone(),
        id: id.to_owned(),
        container: part.container.clone().into_owned(),
        address,
    };
    if let Err(message) = Action::of_hook(hook).perform(&scene, HOOK_LIMIT).await {
        let name = part.container.name.as_str();
        let text = format!("PostStartHook failed: {message}");
        shared.events.tell(pod.object(), Some(name), Severity::Warning, "FailedPostStartHook", text);
        shared.events.tell(pod.object(), Some(name), Severity::Normal, "Killing", "FailedPostStartHook");
        let grace = pod.spec.as_ref().and_then(|spec| spec.termination_grace_period_seconds).unwrap_or(30);
        let grace = Duration::from_secs(grace.max(0).unsigned_abs());
        if let Err(error) = shared.runtime.stop_container(id, grace, None).await {
            tracing::warn!(id, %error, "a container whose postStart hook failed was not stopped");
        }
    }
}
