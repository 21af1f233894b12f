//! Taints turn pods away that do not tolerate them; preferred taints cost score.

use k8s_core::{
    api::api::core::v1::{Taint, Toleration},
    toleration::tolerates,
};

use crate::{
    framework::{ClusterChange, Filter, MAX_SCORE, Reject, Score},
    pod::PodInfo,
    snapshot::{NodeView, Snapshot},
};

/// The filter and the scorer.
pub struct TaintToleration;

/// The first taint of one of these effects that nothing tolerates.
pub fn untolerated<'a>(taints: &'a [Taint], tolerations: &[Toleration], effects: &[&str]) -> Option<&'a Taint> {
    let acts = |taint: &&Taint| effects.contains(&taint.effect.as_str());
    taints.iter().filter(acts).find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

impl Filter for TaintToleration {
    type State = ();

    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn wakes_on(&self) -> &'static [ClusterChange] {
        &[ClusterChange::NodeAdded, ClusterChange::NodeTaints, ClusterChange::PodItself]
    }

    fn prepare(&self, _: &PodInfo, _: &Snapshot) -> Result<Option<()>, Reject> {
        Ok(Some(()))
    }

    fn filter(&self, _: &(), pod: &PodInfo, node: NodeView<'_>) -> Result<(), Reject> {
        match untolerated(node.taints(), &pod.tolerations, &["NoSchedule", "NoExecute"]) {
            None => Ok(()),
            Some(taint) => {
                let value = taint.value.as_deref().unwrap_or("");
                Err(Reject::new(format!("node(s) had untolerated taint {{{}: {value}}}", taint.key)))
            }
        }
    }
}

impl Score for TaintToleration {
    type State = ();

    fn name(&self) -> &'static str {
        "TaintToleration"
    }

    fn prepare(&self, _: &PodInfo, _: &Snapshot) -> Option<()> {
        Some(())
    }

    fn score(&self, _: &(), pod: &PodInfo, node: NodeView<'_>) -> i64 {
        let preferred = node.taints().iter().filter(|taint| taint.effect == "PreferNoSchedule");
        preferred.filter(|taint| !pod.tolerations.iter().any(|toleration| tolerates(toleration, taint))).count() as i64
    }

    fn normalize(&self, scores: &mut [i64]) {
        let worst = scores.iter().copied().max().unwrap_or(0);
        for score in scores {
            *score = if worst == 0 { MAX_SCORE } else { MAX_SCORE - *score * MAX_SCORE / worst };
        }
    }
}
