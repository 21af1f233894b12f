//! Which containers of a pod are probed, and how.

use std::sync::Arc;

use k8s_core::{api::api::core::v1::Pod, resource::Stored};

use super::Shared;
use crate::{
    plan::{Observed, PodView, Role, parts},
    probe::{
        Due, Prober, Target,
        run::{Action, Scene},
    },
    runtime::ContainerState,
};

/// Tells the prober which containers run. Init containers that run to their end have no probes.
pub(crate) fn follow(prober: &mut Prober, pod: &Stored<Pod>, observed: &Observed) {
    let all = parts(pod);
    let view = PodView::new(pod, observed, k8s_core::env::Timestamp::UNIX_EPOCH);
    let mut targets = vec![];
    for part in all.iter().filter(|part| matches!(part.role, Role::App | Role::Sidecar)) {
        let Some(latest) = view.latest(&part.container.name) else { continue };
        let ContainerState::Running { started_at, .. } = latest.state else { continue };
        if observed.starting.contains(&latest.id) {
            continue;
        }
        let is_started = view.is_started(&part.container, latest);
        targets.push(Target { id: &latest.id, container: &part.container, started_at, is_started });
    }
    prober.follow(&targets);
}

/// Carries a probe out.
pub(crate) fn perform(
    shared: Arc<Shared>,
    pod: &Stored<Pod>,
    observed: &Observed,
    due: &Due,
) -> impl Future<Output = Result<(), String>> + Send + use<> {
    let view = PodView::new(pod, observed, k8s_core::env::Timestamp::UNIX_EPOCH);
    let address = view.addresses().first().and_then(|address| address.parse().ok());
    let container = parts(pod).into_iter().find(|part| part.container.name == due.name);
    let container = container.map(|part| part.container.into_owned()).unwrap_or_default();
    let (action, limit, id) = (Action::of_probe(&due.probe), due.timeout(), due.id.clone());
    async move {
        let scene = Scene { env: shared.env.clone(), runtime: shared.runtime.clone(), id, container, address };
        action.perform(&scene, limit).await
    }
}
