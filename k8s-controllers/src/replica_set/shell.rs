//! The replica set plan as a running controller.

use std::marker::PhantomData;

use k8s_core::{
    api::{
        api::{
            apps::v1::{ReplicaSet, ReplicaSetCondition},
            core::v1::Pod,
        },
        apimachinery::pkg::apis::meta::v1::Time,
    },
    resource::Stored,
    selector::LabelSelector,
    status::ApiError,
};
use k8s_reconcile::{Controller, Cx, Next, Reconciler, event::EventType};

use super::{
    plan::{Plan, plan, pod_from_template},
    replicated::Replicated,
};
use crate::ownership::{claim_all, controller_reference};

/// The replica set controller, ready to start.
pub fn controller() -> Controller<Replicas<ReplicaSet>> {
    Controller::new("replicaset-controller", Replicas::default()).owns::<Pod>().workers(5)
}

/// The reconciler of a kind that keeps a number of equal pods.
pub struct Replicas<K>(PhantomData<fn() -> K>);

impl<K> Default for Replicas<K> {
    fn default() -> Self {
        Self(PhantomData)
    }
}

impl<K: Replicated> Reconciler for Replicas<K> {
    type Object = K;
    type Error = ApiError;

    async fn reconcile(&self, owner: Stored<K>, cx: Cx) -> Result<Next, ApiError> {
        let set = owner.as_replica_set();
        let selector = LabelSelector::try_from(&set.spec.selector)?;
        let owned = claim_all::<K, Pod>(&cx, &owner, &selector).await?;
        let pods: Vec<&Pod> = owned.iter().map(|pod| &**pod.typed()).collect();
        let plan = plan(&set, &pods, cx.now());
        let outcome = act(&cx, &owner, &set, &owned, &plan).await;
        let failure = outcome.as_ref().err().cloned();
        let now = cx.now();
        cx.set_status(&owner, |owner| {
            let mut status = plan.status.clone();
            status.conditions = conditions(status.conditions, &plan, failure.as_ref(), now);
            owner.take_status(status);
        })
        .await?;
        outcome?;
        Ok(plan.wake_after.map_or(Next::Done, Next::After))
    }
}

async fn act<K: Replicated>(
    cx: &Cx,
    owner: &Stored<K>,
    set: &ReplicaSet,
    owned: &[Stored<Pod>],
    plan: &Plan,
) -> Result<(), ApiError> {
    for _ in 0..plan.create {
        create(cx, owner, set).await?;
    }
    for index in &plan.delete {
        let pod = &owned[*index];
        cx.delete::<Pod>(pod.object()).await?;
        cx.event(owner.object(), EventType::Normal, "SuccessfulDelete", format!("Deleted pod: {}", pod.name())).await;
    }
    Ok(())
}

async fn create<K: Replicated>(cx: &Cx, owner: &Stored<K>, set: &ReplicaSet) -> Result<(), ApiError> {
    let mut pod = pod_from_template(set);
    pod.metadata.owner_references = Some(vec![controller_reference(owner)]);
    match cx.create(pod).await {
        Ok(pod) => {
            let message = format!("Created pod: {}", pod.name());
            cx.event(owner.object(), EventType::Normal, "SuccessfulCreate", message).await;
            Ok(())
        }
        Err(error) => {
            let message = format!("Error creating: {error}");
            cx.event(owner.object(), EventType::Warning, "FailedCreate", message).await;
            Err(error)
        }
    }
}

fn conditions(
    old: Option<Vec<ReplicaSetCondition>>,
    plan: &Plan,
    failure: Option<&ApiError>,
    now: k8s_core::env::Timestamp,
) -> Option<Vec<ReplicaSetCondition>> {
    let mut kept = old.unwrap_or_default();
    let before = kept.iter().position(|c| c.type_.as_deref() == Some("ReplicaFailure")).map(|at| kept.remove(at));
    if let Some(failure) = failure {
        let reason = if plan.create > 0 { "FailedCreate" } else { "FailedDelete" };
        let since = before.filter(|c| c.status.as_deref() == Some("True")).and_then(|c| c.last_transition_time);
        kept.push(ReplicaSetCondition {
            type_: Some("ReplicaFailure".into()),
            status: Some("True".into()),
            reason: Some(reason.into()),
            message: Some(failure.to_string()),
            last_transition_time: since.or(Some(Time(now))),
        });
    }
    (!kept.is_empty()).then_some(kept)
}
