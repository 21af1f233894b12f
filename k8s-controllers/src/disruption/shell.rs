//! The disruption plan as a running controller.

use std::sync::Arc;

use k8s_core::{
    api::{
        api::{
            apps::v1::{Deployment, ReplicaSet},
            core::v1::{Pod, ReplicationController},
            policy::v1::PodDisruptionBudget,
        },
        apimachinery::pkg::apis::meta::v1 as meta,
    },
    object::{Object, ObjectKey},
    registry::Kinds,
    resource::Stored,
    selector::LabelSelector,
    status::ApiError,
};
use k8s_reconcile::{
    Controller, Cx, InformerScope, Next, Reconciler,
    event::EventType,
    informer::{Delta, DynamicInformer},
};

use super::{
    plan::{Plan, counts_by_scale, failed, plan},
    scale::{Scale, scale},
};

/// The disruption controller, ready to start. `kinds` say which of them have a scale.
pub fn controller(kinds: Arc<Kinds>) -> Controller<Disruption> {
    Controller::new("disruption-controller", Disruption { kinds })
        .watches::<Pod>(InformerScope::all(), budgets_of_pod)
        // Their sizes are read; when one changes, pods follow.
        .watches::<Deployment>(InformerScope::all(), |_, _| Vec::new())
        .watches::<ReplicaSet>(InformerScope::all(), |_, _| Vec::new())
        .watches::<ReplicationController>(InformerScope::all(), |_, _| Vec::new())
        .workers(2)
}

/// The budgets that guard the pod as it was or as it is.
fn budgets_of_pod(delta: &Delta, budgets: &DynamicInformer) -> Vec<ObjectKey> {
    let guards = |budget: &Arc<Object>| {
        let selector = budget.part::<meta::LabelSelector>(&["spec", "selector"]);
        let selector = selector.and_then(|selector| LabelSelector::try_from(&selector).ok());
        selector.is_some_and(|selector| delta.old.iter().chain(&delta.new).any(|pod| selector.matches(&*pod.meta)))
    };
    let budgets = budgets.list_in(&delta.object().meta.namespace).into_iter().filter(guards);
    budgets.map(|budget| budget.meta.key()).collect()
}

/// Its reconciler.
pub struct Disruption {
    kinds: Arc<Kinds>,
}

impl Reconciler for Disruption {
    type Object = PodDisruptionBudget;
    type Error = ApiError;

    async fn reconcile(&self, budget: Stored<PodDisruptionBudget>, cx: Cx) -> Result<Next, ApiError> {
        match self.count(&budget, &cx).await {
            Ok(plan) => {
                cx.set_status(&budget, |budget| budget.status = Some(plan.status)).await?;
                Ok(plan.wake_after.map_or(Next::Done, Next::After))
            }
            Err(error) => {
                let (why, now) = (error.to_string(), cx.now());
                let message = format!("Failed to calculate the number of expected pods: {why}");
                cx.event(budget.object(), EventType::Warning, "CalculateExpectedPodCountFailed", message).await;
                cx.set_status(&budget, |budget| budget.status = Some(failed(budget, &why, now))).await?;
                Err(error)
            }
        }
    }
}

impl Disruption {
    async fn count(&self, budget: &Stored<PodDisruptionBudget>, cx: &Cx) -> Result<Plan, ApiError> {
        let selector = budget.spec.as_ref().and_then(|spec| spec.selector.as_ref());
        let pods = match selector {
            Some(selector) => cx.cached::<Pod>()?.select(budget.namespace(), &LabelSelector::try_from(selector)?),
            None => Vec::new(),
        };
        let scale = match counts_by_scale(budget) {
            true => scale(cx, &self.kinds.now(), &pods).await?,
            false => Scale::default(),
        };
        if scale.unmanaged > 0 {
            let message = "Some of the pods have no controller that says how many there should be, so the budget \
                           cannot be counted correctly. Give it an integer `.spec.minAvailable`.";
            cx.event(budget.object(), EventType::Warning, "UnmanagedPods", message).await;
        }
        let refs: Vec<&Pod> = pods.iter().map(|pod| &**pod.typed()).collect();
        Ok(plan(budget, &refs, scale.wanted, cx.now()))
    }
}
