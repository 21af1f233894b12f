//! Disruption budgets, as evictions see them: which one guards a pod, and whether it has anything left to spend.
//!
//! Follows upstream's eviction subresource. The disruption controller fills a budget; every eviction takes one from it
//! in a write that fails when somebody else took it first.

use std::time::Duration;

use k8s_core::{
    api::apimachinery::pkg::apis::meta::v1 as meta,
    doc::Doc,
    env::Timestamp,
    object::{Meta, Object},
    selector::LabelSelector,
    status::{ApiError, ApiResult, StatusCause},
};

use super::time::rfc3339;

/// More evictions than this may not wait for their pods to go.
const MAX_DISRUPTED: usize = 2000;
/// When to try again while the controller has not looked at the budget yet.
const SOON: Duration = Duration::from_secs(10);

/// Whether a budget of the pod's namespace is about the pod. One without a selector is about none.
pub fn guards(budget: &Object, pod: &Meta) -> bool {
    let selector = budget.part::<meta::LabelSelector>(&["spec", "selector"]);
    let selector = selector.and_then(|selector| LabelSelector::try_from(&selector).ok());
    budget.meta.namespace == pod.namespace && selector.is_some_and(|selector| selector.matches(pod))
}

/// Whether a pod that is not ready may go without being counted: it serves nobody.
pub fn spares_unready(budget: &Doc) -> bool {
    if budget.str_at(&["spec", "unhealthyPodEvictionPolicy"]) == "AlwaysAllow" {
        return true;
    }
    let (healthy, desired) = (status(budget, "currentHealthy"), status(budget, "desiredHealthy"));
    desired > 0 && healthy >= desired
}

/// The budget after the eviction of `pod`; 429 if it has nothing left.
pub fn spend(budget: &Doc, pod: &str, now: Timestamp) -> ApiResult<Doc> {
    let name = budget.str_at(&["metadata", "name"]);
    let generation = budget.at(&["metadata", "generation"]).and_then(Doc::as_i64).unwrap_or(0);
    if status(budget, "observedGeneration") < generation {
        let why = format!("The disruption budget {name} is still being processed by the server.");
        return Err(refusal(why).retry_after(SOON));
    }
    let allowed = status(budget, "disruptionsAllowed");
    let disrupted = budget.at(&["status", "disruptedPods"]).and_then(Doc::as_object).map_or(0, |pods| pods.len());
    if allowed < 0 || disrupted > MAX_DISRUPTED {
        let why = match allowed {
            ..0 => "pdb disruptions allowed is negative",
            _ => "DisruptedPods map too big - too many evictions not confirmed by PDB controller",
        };
        return Err(ApiError::forbidden("poddisruptionbudgets", "policy", name, why));
    }
    if allowed == 0 {
        let (desired, healthy) = (status(budget, "desiredHealthy"), status(budget, "currentHealthy"));
        let why = format!("The disruption budget {name} needs {desired} healthy pods and has {healthy} currently");
        return Err(refusal(why));
    }
    let mut spent = budget.clone();
    spent.set_at(&["status", "disruptionsAllowed"], (allowed - 1).into());
    spent.set_at(&["status", "disruptedPods", pod], rfc3339(now).into());
    Ok(spent)
}

fn status(budget: &Doc, field: &str) -> i64 {
    budget.at(&["status", field]).and_then(Doc::as_i64).unwrap_or(0)
}

fn refusal(why: String) -> ApiError {
    let message = "Cannot evict pod as it would violate the pod's disruption budget.";
    let cause = StatusCause { reason: "DisruptionBudget".into(), message: why, field: String::new() };
    ApiError::new(429, k8s_core::status::Reason::TooManyRequests, message).cause(cause)
}

#[cfg(test)]
mod tests {
    use k8s_core::doc;

    use super::*;

    fn budget(observed: i64, allowed: i64) -> Doc {
        doc!({"metadata": {"name": "b", "generation": 2}, "status": {"observedGeneration": observed,
            "disruptionsAllowed": allowed, "desiredHealthy": 3, "currentHealthy": 3}})
    }

    #[test]
    fn a_budget_is_spent_until_nothing_is_left() {
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let spent = spend(&budget(2, 1), "p", now).unwrap();
        assert_eq!(status(&spent, "disruptionsAllowed"), 0);
        assert_eq!(spent.str_at(&["status", "disruptedPods", "p"]), "2026-01-01T00:00:00Z");
        let causes = |budget: &Doc| {
            let error = spend(budget, "q", now).unwrap_err();
            let details = error.status().details.clone().unwrap();
            (error.code(), details.causes[0].reason.clone(), details.retry_after_seconds)
        };
        assert_eq!(causes(&spent), (429, "DisruptionBudget".to_owned(), 0));
        assert_eq!(causes(&budget(1, 1)), (429, "DisruptionBudget".to_owned(), 10));
        assert_eq!(spend(&budget(2, -1), "q", now).unwrap_err().code(), 403);
    }

    #[test]
    fn pods_that_are_not_ready_go_freely_where_enough_others_are() {
        assert!(spares_unready(&budget(2, 0)));
        let mut short = budget(2, 0);
        short.set_at(&["status", "currentHealthy"], 2.into());
        assert!(!spares_unready(&short));
        short.set_at(&["spec", "unhealthyPodEvictionPolicy"], "AlwaysAllow".into());
        assert!(spares_unready(&short));
    }
}
