//! The replica set plan as a running controller.

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

use super::plan::{Plan, plan, pod_from_template};
use crate::ownership::{claim_all, controller_reference};

/// The replica set controller, ready to start.
pub fn controller() -> Controller<ReplicaSets> {
    Controller::new("replicaset-controller", ReplicaSets).owns::<Pod>().workers(5)
}

/// Its reconciler.
pub struct ReplicaSets;

impl Reconciler for ReplicaSets {
    type Object = ReplicaSet;
    type Error = ApiError;

    async fn reconcile(&self, set: Stored<ReplicaSet>, cx: Cx) -> Result<Next, ApiError> {
        let selector = selector(&set)?;
        let owned = claim_all::<ReplicaSet, Pod>(&cx, &set, &selector).await?;
        let pods: Vec<&Pod> = owned.iter().map(|pod| &**pod.typed()).collect();
        let plan = plan(&set, &pods, cx.now());
        let outcome = act(&cx, &set, &owned, &plan).await;
        let failure = outcome.as_ref().err().cloned();
        let now = cx.now();
        cx.set_status(&set, |set| {
            let mut status = plan.status.clone();
            status.conditions = conditions(status.conditions, &plan, failure.as_ref(), now);
            set.status = Some(status);
        })
        .await?;
        outcome?;
        Ok(plan.wake_after.map_or(Next::Done, Next::After))
    }
}

fn selector(set: &ReplicaSet) -> Result<LabelSelector, ApiError> {
    LabelSelector::try_from(&set.spec.selector)
}

async fn act(cx: &Cx, set: &Stored<ReplicaSet>, owned: &[Stored<Pod>], plan: &Plan) -> Result<(), ApiError> {
    for _ in 0..plan.create {
        create(cx, set).await?;
    }
    for index in &plan.delete {
        let pod = &owned[*index];
        cx.delete::<Pod>(pod.object()).await?;
        cx.event(set.object(), EventType::Normal, "SuccessfulDelete", format!("Deleted pod: {}", pod.name())).await;
    }
    Ok(())
}

async fn create(cx: &Cx, set: &Stored<ReplicaSet>) -> Result<(), ApiError> {
    let mut pod = pod_from_template(set);
    pod.metadata.owner_references = Some(vec![controller_reference(set)]);
    match cx.create(pod).await {
        Ok(pod) => {
            cx.event(set.object(), EventType::Normal, "SuccessfulCreate", format!("Created pod: {}", pod.name())).await;
            Ok(())
        }
        Err(error) => {
            let message = format!("Error creating: {error}");
            cx.event(set.object(), EventType::Warning, "FailedCreate", message).await;
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
