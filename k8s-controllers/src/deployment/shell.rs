//! The deployment plan as a running controller.

use k8s_core::{
    api::api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::Pod,
    },
    doc::Doc,
    object::ObjectKey,
    request::PatchKind,
    resource::{Resource, Stored},
    selector::LabelSelector,
    status::ApiError,
};
use k8s_reconcile::{Controller, Cx, InformerScope, Next, Reconciler, event::EventType, informer::Delta};
use serde_json::json;

use super::{
    history::{DESIRED, MAXIMUM, revision},
    plan::{Action, plan},
    rolling::bounds,
};
use crate::ownership::{claim_all, controller_reference};

/// The deployment controller, ready to start.
pub fn controller() -> Controller<Deployments> {
    Controller::new("deployment-controller", Deployments)
        .owns::<ReplicaSet>()
        // Only deletions of pods matter here: a Recreate waits for them. Everything else shows in the sets.
        .watches::<Pod>(InformerScope::all(), |delta, own| {
            deployments_of_deleted_pod(delta, &own.list_in(&delta.object().meta.namespace))
        })
        .workers(5)
}

/// The pod's set is named after the deployment and the template's hash.
fn deployments_of_deleted_pod(
    delta: &Delta,
    deployments: &[std::sync::Arc<k8s_core::object::Object>],
) -> Vec<ObjectKey> {
    if delta.new.is_some() {
        return Vec::new();
    }
    let Some(owner) = delta.object().meta.controller().filter(|owner| owner.kind == ReplicaSet::kind()) else {
        return Vec::new();
    };
    let name = owner.name.rsplit_once('-').map_or("", |(name, _)| name);
    let named = deployments.iter().filter(|deployment| deployment.meta.name == name);
    named.map(|deployment| deployment.meta.key()).collect()
}

/// Its reconciler.
pub struct Deployments;

impl Reconciler for Deployments {
    type Object = Deployment;
    type Error = ApiError;

    async fn reconcile(&self, deployment: Stored<Deployment>, cx: Cx) -> Result<Next, ApiError> {
        let selector = LabelSelector::try_from(&deployment.spec.selector)?;
        let sets = claim_all::<Deployment, ReplicaSet>(&cx, &deployment, &selector).await?;
        let cached = cx.cached::<Pod>()?;
        let pods: Vec<Stored<Pod>> = sets.iter().flat_map(|set| cached.owned_by(set.uid())).collect();
        let set_refs: Vec<&ReplicaSet> = sets.iter().map(|set| &**set.typed()).collect();
        let pod_refs: Vec<&Pod> = pods.iter().map(|pod| &**pod.typed()).collect();
        let plan = plan(&deployment, &set_refs, &pod_refs, cx.now());
        // The annotation is a write to the deployment: the status then follows on the next round.
        let mut wrote_self = false;
        for action in &plan.actions {
            wrote_self |= act(&cx, &deployment, &sets, action).await?;
        }
        if !wrote_self {
            cx.set_status(&deployment, |deployment| deployment.status = Some(plan.status.clone())).await?;
        }
        Ok(plan.wake_after.map_or(Next::Done, Next::After))
    }
}

/// Does one step; answers whether it wrote the deployment itself.
async fn act(
    cx: &Cx,
    deployment: &Stored<Deployment>,
    sets: &[Stored<ReplicaSet>],
    action: &Action,
) -> Result<bool, ApiError> {
    match action {
        Action::Create(set) => return create(cx, deployment, (**set).clone()).await,
        Action::Scale { index, replicas } => scale(cx, deployment, &sets[*index], *replicas).await?,
        Action::Annotate { index, annotations } => {
            let patch = json!({"metadata": {"annotations": annotations}});
            cx.patch::<ReplicaSet>(sets[*index].object(), PatchKind::Merge, doc(&patch)?).await?;
        }
        Action::AnnotateSelf(annotations) => {
            let mut draft = deployment.draft();
            draft.metadata.annotations.get_or_insert_default().extend(annotations.clone());
            let updated = cx.update(draft).await?;
            return Ok(updated.revision() != deployment.revision());
        }
        Action::Delete(index) => cx.delete::<ReplicaSet>(sets[*index].object()).await?,
        Action::CountCollision => return count_collision(cx, deployment).await,
    }
    Ok(false)
}

async fn create(cx: &Cx, deployment: &Stored<Deployment>, mut set: ReplicaSet) -> Result<bool, ApiError> {
    let (name, replicas) = (set.key().name, set.spec.replicas.unwrap_or(0));
    set.metadata.owner_references = Some(vec![controller_reference(deployment)]);
    match cx.create(set).await {
        Ok(_) => {
            let message = format!("Scaled up replica set {name} from 0 to {replicas}");
            cx.event(deployment.object(), EventType::Normal, "ScalingReplicaSet", message).await;
            Ok(false)
        }
        // Ours would have been found by its template: the name belongs to something else.
        Err(error) if error.is_already_exists() => count_collision(cx, deployment).await,
        Err(error) => {
            let message = format!("Failed to create new replica set {name:?}: {error}");
            cx.event(deployment.object(), EventType::Warning, "ReplicaSetCreateError", message).await;
            Err(error)
        }
    }
}

async fn count_collision(cx: &Cx, deployment: &Stored<Deployment>) -> Result<bool, ApiError> {
    cx.set_status(deployment, |deployment| {
        let status = deployment.status.get_or_insert_default();
        status.collision_count = Some(status.collision_count.unwrap_or(0) + 1);
    })
    .await
}

async fn scale(
    cx: &Cx,
    deployment: &Stored<Deployment>,
    set: &Stored<ReplicaSet>,
    replicas: i32,
) -> Result<(), ApiError> {
    let before = set.spec.replicas.unwrap_or(1);
    let wanted = deployment.spec.replicas.unwrap_or(1);
    let (surge, _) = bounds(deployment, wanted);
    let mut draft = set.draft();
    draft.spec.replicas = Some(replicas);
    let annotations = draft.metadata.annotations.get_or_insert_default();
    annotations.insert(DESIRED.into(), wanted.to_string());
    annotations.insert(MAXIMUM.into(), (wanted + surge).to_string());
    tracing::debug!(set = %set.key(), revision = revision(&set.metadata), before, replicas, "scale");
    cx.update(draft).await?;
    let direction = if replicas > before { "up" } else { "down" };
    let message = format!("Scaled {direction} replica set {} from {before} to {replicas}", set.name());
    cx.event(deployment.object(), EventType::Normal, "ScalingReplicaSet", message).await;
    Ok(())
}

fn doc(value: &serde_json::Value) -> Result<Doc, ApiError> {
    Doc::from_serialize(value).map_err(ApiError::internal)
}
