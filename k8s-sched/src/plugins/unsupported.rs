//! What the scheduler cannot honour yet it refuses by name: a hard rule is never dropped in silence.

use crate::{
    framework::{ClusterChange, Filter, Reject},
    pod::PodInfo,
    snapshot::{NodeView, Snapshot},
};

/// The filter.
pub struct Unsupported;

impl Filter for Unsupported {
    type State = ();

    fn name(&self) -> &'static str {
        "Unsupported"
    }

    fn wakes_on(&self) -> &'static [ClusterChange] {
        &[ClusterChange::PodItself]
    }

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Result<Option<()>, Reject> {
        let affinity = pod.affinity.as_ref();
        let between = affinity.and_then(|a| a.pod_affinity.as_ref());
        let apart = affinity.and_then(|a| a.pod_anti_affinity.as_ref());
        let has = |terms: Option<usize>| terms.is_some_and(|count| count > 0);
        let count = |terms: &Option<Vec<_>>| terms.as_ref().map(Vec::len);
        if has(between.and_then(|a| count(&a.required_during_scheduling_ignored_during_execution)))
            || has(apart.and_then(|a| count(&a.required_during_scheduling_ignored_during_execution)))
        {
            return Err(Reject::new("node(s) not considered: required pod affinity is not supported yet"));
        }
        if pod.spread.iter().any(|constraint| constraint.when_unsatisfiable == "DoNotSchedule") {
            return Err(Reject::new("node(s) not considered: topology spread with DoNotSchedule is not supported yet"));
        }
        if pod.claims > 0 {
            return Err(Reject::new(
                "node(s) not considered: persistent volume claims and resource claims are not supported yet",
            ));
        }
        Ok(None)
    }

    fn filter(&self, _: &(), _: &PodInfo, _: NodeView<'_>) -> Result<(), Reject> {
        Ok(())
    }
}
