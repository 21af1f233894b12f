//! Stopping one container: its `preStop` hook, its signal, its end.

use std::{sync::Arc, time::Duration};

use k8s_core::{api::api::core::v1::Pod, env::Timestamp, resource::Stored};

use super::{
    Shared,
    perform::{Outcome, Scene, Trouble},
    withdraw,
};
use crate::{
    plan::{Op, Severity, Subject, parts},
    probe::run::{self, Action},
};

/// What a program gets for its own end even after its hook used all the time. Upstream's figure.
const AFTER_HOOK: Duration = Duration::from_secs(2);

/// Carries [`Op::StopContainer`] out.
pub(crate) async fn stop_container(shared: &Arc<Shared>, pod: Option<&Stored<Pod>>, op: &Op, scene: &Scene) -> Outcome {
    let Op::StopContainer { id, name, deadline, message } = op else { return Outcome::Done };
    let is_first = !scene.stopped.contains(id);
    let mut grace = left(shared, *deadline);
    if let Some(pod) = pod.filter(|_| is_first) {
        shared.events.tell(pod.object(), Some(name), Severity::Normal, "Killing", message.clone());
        if !grace.is_zero() {
            // The hook begins at once, as its author expects; only the signal waits for the traffic as well.
            let hook = pre_stop(shared, pod, name, id, grace, scene);
            let (had_hook, ()) = tokio::join!(biased; hook, withdraw::withdrawn(shared, pod, grace));
            grace = left(shared, *deadline);
            if had_hook {
                grace = grace.max(AFTER_HOOK);
            }
        }
    }
    match shared.runtime.stop_container(id, grace, None).await {
        Ok(()) => Outcome::Done,
        Err(error) => Outcome::Failed(Subject::Removal, Trouble::new("KillContainerError", error)),
    }
}

fn left(shared: &Shared, deadline: Timestamp) -> Duration {
    Duration::try_from(deadline.duration_since(shared.env.now())).unwrap_or_default()
}

/// Runs the hook if there is one; answers whether there was. A failure is told and changes nothing.
async fn pre_stop(
    shared: &Arc<Shared>,
    pod: &Stored<Pod>,
    name: &str,
    id: &str,
    grace: Duration,
    scene: &Scene,
) -> bool {
    let all = parts(pod);
    let Some(part) = all.into_iter().find(|part| part.container.name == name) else { return false };
    let hook = part.container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.pre_stop.clone());
    let Some(hook) = hook else { return false };
    let address = scene.addresses.values().flatten().next().copied();
    let scene = run::Scene {
        env: shared.env.clone(),
        runtime: shared.runtime.clone(),
        id: id.to_owned(),
        container: part.container.into_owned(),
        address: address.or_else(|| shared.host.addresses.first().copied()),
    };
    if let Err(message) = Action::of_hook(&hook).perform(&scene, grace).await {
        let text = format!("PreStopHook failed: {message}");
        shared.events.tell(pod.object(), Some(name), Severity::Warning, "FailedPreStopHook", text);
    }
    true
}
