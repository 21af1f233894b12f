//! Node selectors and node affinity: required terms filter, preferred terms score.

use std::collections::BTreeMap;

use k8s_core::api::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm};

use crate::{
    framework::{ClusterChange, Filter, MAX_SCORE, Reject, Score},
    pod::PodInfo,
    snapshot::{NodeView, Snapshot},
};

/// The filter and the scorer.
pub struct NodeAffinity;

/// Whether a node meets a term: all its expressions and fields. An empty term matches nothing.
pub fn term_matches(term: &NodeSelectorTerm, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    let label = |r: &NodeSelectorRequirement| requirement_matches(r, labels.get(&r.key).map(String::as_str));
    let field = |r: &NodeSelectorRequirement| requirement_matches(r, (r.key == "metadata.name").then_some(name));
    (!expressions.is_empty() || !fields.is_empty()) && expressions.iter().all(label) && fields.iter().all(field)
}

fn requirement_matches(requirement: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let listed = value.is_some_and(|value| values.iter().any(|v| v == value));
    let number = |text: &str| text.parse::<i64>().ok();
    let bound = values.first().and_then(|bound| number(bound));
    match requirement.operator.as_str() {
        "In" => listed,
        "NotIn" => !listed,
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => value.and_then(number).zip(bound).is_some_and(|(value, bound)| value > bound),
        "Lt" => value.and_then(number).zip(bound).is_some_and(|(value, bound)| value < bound),
        _ => false,
    }
}

/// Whether a node meets the pod's node selector and required node affinity.
pub fn required_matches(pod: &PodInfo, name: &str, labels: &BTreeMap<String, String>) -> bool {
    let selected = pod.node_selector.iter().all(|(key, value)| labels.get(key) == Some(value));
    let required = pod
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    let any_term = |terms: &[NodeSelectorTerm]| terms.iter().any(|term| term_matches(term, name, labels));
    selected && required.is_none_or(|selector| any_term(&selector.node_selector_terms))
}

impl Filter for NodeAffinity {
    type State = ();

    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn wakes_on(&self) -> &'static [ClusterChange] {
        &[ClusterChange::NodeAdded, ClusterChange::NodeLabels, ClusterChange::PodItself]
    }

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Result<Option<()>, Reject> {
        let has_affinity = pod.affinity.as_ref().is_some_and(|affinity| affinity.node_affinity.is_some());
        Ok((has_affinity || !pod.node_selector.is_empty()).then_some(()))
    }

    fn filter(&self, _: &(), pod: &PodInfo, node: NodeView<'_>) -> Result<(), Reject> {
        if required_matches(pod, node.name(), node.labels()) {
            Ok(())
        } else {
            Err(Reject::new("node(s) didn't match Pod's node affinity/selector"))
        }
    }
}

impl Score for NodeAffinity {
    /// Preferred terms with their weights.
    type State = Vec<(NodeSelectorTerm, i64)>;

    fn name(&self) -> &'static str {
        "NodeAffinity"
    }

    fn prepare(&self, pod: &PodInfo, _: &Snapshot) -> Option<Self::State> {
        let affinity = pod.affinity.as_ref()?.node_affinity.as_ref()?;
        let preferred = affinity.preferred_during_scheduling_ignored_during_execution.as_ref()?;
        let terms: Vec<_> = preferred.iter().map(|term| (term.preference.clone(), i64::from(term.weight))).collect();
        (!terms.is_empty()).then_some(terms)
    }

    fn score(&self, terms: &Self::State, _: &PodInfo, node: NodeView<'_>) -> i64 {
        let met = terms.iter().filter(|(term, _)| term_matches(term, node.name(), node.labels()));
        met.map(|(_, weight)| weight).sum()
    }

    fn normalize(&self, scores: &mut [i64]) {
        let best = scores.iter().copied().max().unwrap_or(0);
        if best > 0 {
            scores.iter_mut().for_each(|score| *score = *score * MAX_SCORE / best);
        }
    }
}
