//! HorizontalPodAutoscalers of version 1, which knows one metric, in terms of version 2, which is stored.
//!
//! What version 1 has no field for it carries in annotations, as upstream: metrics and behavior of the spec, current
//! metrics and conditions of the status, each as JSON.

use k8s_core::{
    doc,
    doc::{Doc, Map},
};

const METRICS: &str = "autoscaling.alpha.kubernetes.io/metrics";
const CURRENT: &str = "autoscaling.alpha.kubernetes.io/current-metrics";
const CONDITIONS: &str = "autoscaling.alpha.kubernetes.io/conditions";
const BEHAVIOR: &str = "autoscaling.alpha.kubernetes.io/behavior";
const PERCENT: [&str; 2] = ["spec", "targetCPUUtilizationPercentage"];
const CURRENT_PERCENT: [&str; 2] = ["status", "currentCPUUtilizationPercentage"];

/// A field of a metric's source in the older form, and its path in the newer. `@` is `target` in a spec and `current` in
/// a status; the same word, in capitals or not, begins the older names.
type Pair = (&'static str, &'static [&'static str]);

const SOURCES: [(&str, &[Pair]); 5] = [
    (
        "object",
        &[
            ("target", &["describedObject"]),
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("@Value", &["@", "value"]),
            ("averageValue", &["@", "averageValue"]),
        ],
    ),
    (
        "pods",
        &[
            ("metricName", &["metric", "name"]),
            ("selector", &["metric", "selector"]),
            ("@AverageValue", &["@", "averageValue"]),
        ],
    ),
    (
        "resource",
        &[
            ("name", &["name"]),
            ("@AverageUtilization", &["@", "averageUtilization"]),
            ("@AverageValue", &["@", "averageValue"]),
        ],
    ),
    (
        "containerResource",
        &[
            ("name", &["name"]),
            ("container", &["container"]),
            ("@AverageUtilization", &["@", "averageUtilization"]),
            ("@AverageValue", &["@", "averageValue"]),
        ],
    ),
    (
        "external",
        &[
            ("metricName", &["metric", "name"]),
            ("metricSelector", &["metric", "selector"]),
            ("@Value", &["@", "value"]),
            ("@AverageValue", &["@", "averageValue"]),
        ],
    ),
];

/// Version 2 as version 1.
pub fn show(doc: &mut Doc) {
    if let Some(metrics) = doc.remove_at(&["spec", "metrics"]) {
        let (cpu, others): (Vec<&Doc>, Vec<&Doc>) =
            metrics.items().iter().partition(|metric| percentage(metric, "target").is_some());
        if let Some(percent) = cpu.first().and_then(|metric| percentage(metric, "target")) {
            doc.set_at(&PERCENT, percent.clone());
        }
        annotate(doc, METRICS, others.iter().map(|metric| older(metric, "target")).collect());
    }
    if let Some(behavior) = doc.remove_at(&["spec", "behavior"]).filter(|behavior| !behavior.is_null()) {
        doc.set_at(&["metadata", "annotations", BEHAVIOR], behavior.to_string().into());
    }
    if let Some(metrics) = doc.remove_at(&["status", "currentMetrics"]) {
        if let Some(percent) = metrics.items().iter().find_map(|metric| percentage(metric, "current")) {
            doc.set_at(&CURRENT_PERCENT, percent.clone());
        }
        annotate(doc, CURRENT, metrics.items().iter().map(|metric| older(metric, "current")).collect());
    }
    if let Some(conditions) = doc.remove_at(&["status", "conditions"]) {
        annotate(doc, CONDITIONS, conditions.items().to_vec());
    }
}

/// Version 1 as version 2.
pub fn store(doc: &mut Doc) {
    let mut metrics = annotated(doc, METRICS, "target");
    if let Some(percent) = doc.remove_at(&PERCENT).filter(|percent| !percent.is_null()) {
        let target = doc!({"type": "Utilization", "averageUtilization": percent});
        metrics.push(doc!({"type": "Resource", "resource": {"name": "cpu", "target": target}}));
    }
    if !metrics.is_empty() {
        doc.set_at(&["spec", "metrics"], Doc::Array(metrics));
    }
    if let Some(behavior) = taken(doc, BEHAVIOR) {
        doc.set_at(&["spec", "behavior"], behavior);
    }
    doc.remove_at(&CURRENT_PERCENT);
    let current = annotated(doc, CURRENT, "current");
    if !current.is_empty() {
        doc.set_at(&["status", "currentMetrics"], Doc::Array(current));
    }
    if let Some(conditions) = taken(doc, CONDITIONS) {
        doc.set_at(&["status", "conditions"], conditions);
    }
    let is_bare = doc.at(&["metadata", "annotations"]).and_then(Doc::as_object).is_some_and(Map::is_empty);
    if is_bare {
        doc.remove_at(&["metadata", "annotations"]);
    }
}

/// The utilization of a metric about the processor, the only one that version 1 has a field for.
fn percentage<'a>(metric: &'a Doc, side: &str) -> Option<&'a Doc> {
    let is_cpu = metric.str_at(&["type"]) == "Resource" && metric.str_at(&["resource", "name"]) == "cpu";
    metric.at(&["resource", side, "averageUtilization"]).filter(|percent| is_cpu && !percent.is_null())
}

fn annotate(doc: &mut Doc, annotation: &str, items: Vec<Doc>) {
    if !items.is_empty() {
        doc.set_at(&["metadata", "annotations", annotation], Doc::Array(items).to_string().into());
    }
}

/// The value in an annotation, which is taken away. What cannot be read says nothing, as upstream.
fn taken(doc: &mut Doc, annotation: &str) -> Option<Doc> {
    let text = doc.remove_at(&["metadata", "annotations", annotation])?;
    Doc::parse(text.as_str().unwrap_or("").as_bytes()).ok().filter(|value| !value.is_null())
}

fn annotated(doc: &mut Doc, annotation: &str, side: &str) -> Vec<Doc> {
    let found = taken(doc, annotation);
    found.as_ref().map_or(&[][..], Doc::items).iter().map(|metric| newer(metric, side)).collect()
}

/// The older name of a field on a side: `@Value` is `targetValue` or `currentValue`.
fn name_on(name: &str, side: &str) -> String {
    name.strip_prefix('@').map_or_else(|| name.to_owned(), |rest| format!("{side}{rest}"))
}

fn path_on<'a>(path: &[&'a str], side: &'a str) -> Vec<&'a str> {
    path.iter().map(|step| if *step == "@" { side } else { step }).collect()
}

fn older(metric: &Doc, side: &str) -> Doc {
    let mut old = doc!({"type": metric.str_at(&["type"])});
    for (source, pairs) in SOURCES {
        let Some(found) = metric.get(source).filter(|found| !found.is_null()) else { continue };
        old.set_at(&[source], Doc::object());
        for (name, path) in pairs {
            if let Some(value) = found.at(&path_on(path, side)).filter(|value| !value.is_null()) {
                old.set_at(&[source, &name_on(name, side)], value.clone());
            }
        }
    }
    old
}

fn newer(metric: &Doc, side: &str) -> Doc {
    let mut new = doc!({"type": metric.str_at(&["type"])});
    for (source, pairs) in SOURCES {
        let Some(found) = metric.get(source).filter(|found| !found.is_null()) else { continue };
        for (name, path) in pairs {
            if let Some(value) = found.get(&name_on(name, side)).filter(|value| !value.is_null()) {
                let path: Vec<&str> = std::iter::once(source).chain(path_on(path, side)).collect();
                new.set_at(&path, value.clone());
            }
        }
        if side == "target" {
            let has = |field: &str| new.at(&[source, "target", field]).is_some();
            let kind = match () {
                () if has("averageUtilization") => "Utilization",
                () if has("averageValue") => "AverageValue",
                () => "Value",
            };
            new.set_at(&[source, "target", "type"], kind.into());
        }
    }
    new
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_is_stored_again() {
        let metrics = doc!([
            {"type": "Pods", "pods": {
                "metric": {"name": "m", "selector": {"matchLabels": {"a": "b"}}},
                "target": {"type": "AverageValue", "averageValue": "5"}}},
            {"type": "Object", "object": {
                "describedObject": {"kind": "Service", "name": "s"}, "metric": {"name": "o"},
                "target": {"type": "Value", "value": "3"}}},
            {"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": 60}}}
        ]);
        let stored = doc!({
            "metadata": {"name": "h"},
            "spec": {"maxReplicas": 3, "metrics": metrics, "behavior": {"scaleUp": {"selectPolicy": "Max"}}},
            "status": {
                "conditions": [{"type": "AbleToScale", "status": "True"}],
                "currentMetrics": [{"type": "Resource", "resource": {
                    "name": "cpu", "current": {"averageUtilization": 7, "averageValue": "10m"}}}]
            }
        });
        let mut shown = stored.clone();
        show(&mut shown);
        assert_eq!(shown.at(&PERCENT).and_then(Doc::as_i64), Some(60));
        assert_eq!(shown.at(&CURRENT_PERCENT).and_then(Doc::as_i64), Some(7));
        assert_eq!(shown.at(&["spec", "metrics"]), None);
        let said = shown.str_at(&["metadata", "annotations", METRICS]);
        assert!(said.contains(r#""targetAverageValue":"5""#) && said.contains(r#""targetValue":"3""#), "{said}");
        store(&mut shown);
        assert_eq!(shown, stored);
    }
}
