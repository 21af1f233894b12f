//! Whether the node takes a pod that was bound to it: a last check against what the scheduler could not know.
//!
//! Pure. Upstream's counterpart is the kubelet's predicate admit handler.

use std::collections::BTreeMap;

use k8s_core::{
    api::api::core::v1::{NodeSelectorRequirement, NodeSelectorTerm, Pod},
    quantity::Quantity,
};

use crate::plan::{Rejection, total_requests};

/// The reason of a pod that selects other nodes.
pub(crate) const NODE_AFFINITY: &str = "NodeAffinity";

/// What admission knows of the node.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeFacts<'a> {
    pub name: &'a str,
    pub labels: BTreeMap<String, String>,
    pub allocatable: BTreeMap<String, Quantity>,
    /// What the pods that were admitted ask for together.
    pub used: BTreeMap<String, Quantity>,
    pub pods: usize,
    pub operating_system: &'a str,
}

/// Takes or rejects a pod.
pub(crate) fn admit(pod: &Pod, node: &NodeFacts<'_>) -> Result<(), Rejection> {
    let spec = pod.spec.clone().unwrap_or_default();
    let reject = |reason: String, message: String| Err(Rejection { reason, message });
    if let Some(os) = spec.os.as_ref().map(|os| &os.name).filter(|os| *os != node.operating_system) {
        let message =
            format!("Failed to admit pod as the OS field ({os}) doesn't match node OS ({})", node.operating_system);
        return reject("PodOSNotSupported".into(), message);
    }
    if !selected(pod, node) {
        let message =
            "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector";
        return reject(NODE_AFFINITY.into(), message.into());
    }
    let limit = node.allocatable.get("pods").map_or(i64::MAX, |pods| pods.value());
    if node.pods as i64 >= limit {
        let message = format!(
            "Pod was rejected: Node didn't have enough resource: pods, requested: 1, used: {}, capacity: {limit}",
            node.pods
        );
        return reject("OutOfpods".into(), message);
    }
    for (name, asked) in total_requests(pod) {
        let used = node.used.get(&name).copied().unwrap_or_default();
        let has = node.allocatable.get(&name).copied().unwrap_or_default();
        if !asked.is_zero() && used + asked > has {
            let number = |amount: Quantity| if name == "cpu" { amount.milli_value() } else { amount.value() };
            let message = format!(
                "Pod was rejected: Node didn't have enough resource: {name}, requested: {}, used: {}, capacity: {}",
                number(asked),
                number(used),
                number(has)
            );
            return reject(format!("OutOf{name}"), message);
        }
    }
    Ok(())
}

/// `nodeSelector` and required node affinity.
fn selected(pod: &Pod, node: &NodeFacts<'_>) -> bool {
    let Some(spec) = &pod.spec else { return true };
    let simple = spec.node_selector.iter().flatten().all(|(key, value)| node.labels.get(key) == Some(value));
    let required = spec
        .affinity
        .as_ref()
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    simple && required.is_none_or(|selector| selector.node_selector_terms.iter().any(|term| term_matches(term, node)))
}

fn term_matches(term: &NodeSelectorTerm, node: &NodeFacts<'_>) -> bool {
    let labels: Vec<_> = term.match_expressions.iter().flatten().collect();
    let fields: Vec<_> = term.match_fields.iter().flatten().collect();
    // A term that asks for nothing matches nothing, as upstream's.
    !(labels.is_empty() && fields.is_empty())
        && labels.into_iter().all(|e| expression_matches(e, node.labels.get(&e.key).map(String::as_str)))
        && fields.into_iter().all(|e| expression_matches(e, (e.key == "metadata.name").then_some(node.name)))
}

fn expression_matches(expression: &NodeSelectorRequirement, value: Option<&str>) -> bool {
    let named = || expression.values.iter().flatten().any(|known| Some(known.as_str()) == value);
    let compare = |test: fn(i64, i64) -> bool| {
        let bound = expression.values.iter().flatten().next().and_then(|bound| bound.parse().ok());
        let value = value.and_then(|value| value.parse().ok());
        matches!((value, bound), (Some(value), Some(bound)) if test(value, bound))
    };
    match expression.operator.as_str() {
        "In" => named(),
        "NotIn" => !named(),
        "Exists" => value.is_some(),
        "DoesNotExist" => value.is_none(),
        "Gt" => compare(|value, bound| value > bound),
        "Lt" => compare(|value, bound| value < bound),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(spec: Value) -> Result<(), String> {
        let amount = |text: &str| Quantity::parse(text).unwrap();
        let node = NodeFacts {
            name: "n1",
            labels: [("zone".to_owned(), "a".to_owned()), ("cores".to_owned(), "8".to_owned())].into(),
            allocatable: [
                ("cpu".to_owned(), amount("2")),
                ("memory".to_owned(), amount("4Gi")),
                ("pods".to_owned(), amount("5")),
            ]
            .into(),
            used: [("cpu".to_owned(), amount("1500m"))].into(),
            pods: 4,
            operating_system: "linux",
        };
        let mut full = json!({"containers": [{"name": "c"}]});
        full.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
        let pod = serde_json::from_value(json!({"metadata": {}, "spec": full})).unwrap();
        admit(&pod, &node).map_err(|rejection| rejection.reason)
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let asks = |cpu: &str| json!({"containers": [{"name": "c", "resources": {"requests": {"cpu": cpu}}}]});
        assert_eq!(check(asks("500m")), Ok(()));
        assert_eq!(check(asks("501m")), Err("OutOfcpu".into()));
        let gpu = json!({"containers": [{"name": "c", "resources": {"limits": {"example.com/gpu": "1"}}}]});
        assert_eq!(check(gpu), Err("OutOfexample.com/gpu".into()));
        assert_eq!(check(json!({"os": {"name": "windows"}})), Err("PodOSNotSupported".into()));
    }

    #[test]
    fn selectors_and_affinity_must_match() {
        let affinity = |expression: Value| {
            json!({"affinity": {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution":
                {"nodeSelectorTerms": [expression]}}}})
        };
        let label = |key: &str, operator: &str, values: Value| {
            affinity(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
        };
        let fine = [
            json!({"nodeSelector": {"zone": "a"}}),
            label("zone", "In", json!(["a", "b"])),
            label("none", "NotIn", json!(["a"])),
            label("zone", "Exists", Value::Null),
            label("none", "DoesNotExist", Value::Null),
            label("cores", "Gt", json!(["7"])),
            affinity(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})),
        ];
        let wrong = [
            json!({"nodeSelector": {"zone": "b"}}),
            label("zone", "NotIn", json!(["a"])),
            label("cores", "Lt", json!(["8"])),
            label("zone", "Gt", json!(["1"])),
            affinity(json!({})),
            affinity(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n2"]}]})),
        ];
        fine.into_iter().for_each(|spec| assert_eq!(check(spec.clone()), Ok(()), "{spec}"));
        wrong.into_iter().for_each(|spec| assert_eq!(check(spec.clone()), Err("NodeAffinity".into()), "{spec}"));
    }
}
