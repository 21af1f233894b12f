//! What makes pods: update strategies, jobs, autoscalers.

use super::{object_at, set, text};
use crate::{
    doc,
    doc::{Doc, Map},
};

pub(super) fn deployment_strategy(strategy: &mut Map) {
    if text(strategy, "type") != "RollingUpdate" {
        return;
    }
    let Some(rolling) = object_at(strategy, "rollingUpdate") else { return };
    set(rolling, "maxUnavailable", "25%");
    set(rolling, "maxSurge", "25%");
}

pub(super) fn daemon_set_strategy(strategy: &mut Map) {
    if text(strategy, "type") != "RollingUpdate" {
        return;
    }
    let Some(rolling) = object_at(strategy, "rollingUpdate") else { return };
    set(rolling, "maxUnavailable", 1);
    set(rolling, "maxSurge", 0);
}

/// A strategy that names its type but no `rollingUpdate` keeps it that way.
pub(super) fn stateful_set_strategy(strategy: &mut Map) {
    if text(strategy, "type").is_empty() {
        strategy.insert("type", "RollingUpdate".into());
        set(strategy, "rollingUpdate", Doc::object());
    }
    if text(strategy, "type") == "RollingUpdate"
        && let Some(rolling) = strategy.get_mut("rollingUpdate").and_then(Doc::as_object_mut)
    {
        set(rolling, "partition", 0);
        set(rolling, "maxUnavailable", 1);
    }
}

/// Selector and labels follow the template's labels.
pub(super) fn replication_controller(controller: &mut Map) {
    let Some(labels) = template_labels(controller) else { return };
    if let Some(spec) = object_at(controller, "spec") {
        set(spec, "selector", labels.clone());
    }
    label(controller, labels);
}

fn template_labels(object: &Map) -> Option<Doc> {
    let labels = object.get("spec")?.at(&["template", "metadata", "labels"])?;
    labels.as_object().filter(|labels| !labels.is_empty())?;
    Some(labels.clone())
}

fn label(object: &mut Map, labels: Doc) {
    if let Some(metadata) = object_at(object, "metadata") {
        let bare = metadata.get("labels").and_then(Doc::as_object).is_none_or(Map::is_empty);
        if bare {
            metadata.insert("labels", labels);
        }
    }
}

/// A Job of its own; a CronJob's template is defaulted when it becomes one.
pub(super) fn job(job: &mut Map) {
    if let Some(labels) = template_labels(job) {
        label(job, labels);
    }
    let Some(spec) = object_at(job, "spec") else { return };
    let there = |spec: &Map, field: &str| spec.get(field).is_some_and(|value| !value.is_null());
    if !there(spec, "completions") && !there(spec, "parallelism") {
        set(spec, "completions", 1);
    }
    set(spec, "parallelism", 1);
    let retries = if there(spec, "backoffLimitPerIndex") { i32::MAX } else { 6 };
    set(spec, "backoffLimit", retries);
    set(spec, "completionMode", "NonIndexed");
    set(spec, "suspend", false);
    let replace = if there(spec, "podFailurePolicy") { "Failed" } else { "TerminatingOrFailed" };
    set(spec, "podReplacementPolicy", replace);
    set(spec, "manualSelector", false);
}

/// Eighty percent of the requested CPU, unless other metrics are named; complete rules where any are.
pub(super) fn autoscaler_spec(spec: &mut Map) {
    let bare = spec.get("metrics").is_none_or(|metrics| metrics.items().is_empty());
    if bare {
        let target = doc!({"type": "Utilization", "averageUtilization": 80});
        let metric = doc!({"type": "Resource", "resource": {"name": "cpu", "target": target}});
        spec.insert("metrics", Doc::Array(vec![metric]));
    }
    let Some(behavior) = spec.get_mut("behavior").and_then(Doc::as_object_mut) else { return };
    let percent = doc!({"type": "Percent", "value": 100, "periodSeconds": 15});
    let pods = doc!({"type": "Pods", "value": 4, "periodSeconds": 15});
    if let Some(up) = object_at(behavior, "scaleUp") {
        set(up, "stabilizationWindowSeconds", 0);
        set(up, "selectPolicy", "Max");
        set(up, "policies", Doc::Array(vec![pods, percent.clone()]));
    }
    if let Some(down) = object_at(behavior, "scaleDown") {
        set(down, "selectPolicy", "Max");
        set(down, "policies", Doc::Array(vec![percent]));
    }
}
