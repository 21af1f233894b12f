//! `autoscaling` HorizontalPodAutoscaler, in the form of its version 2.

use super::{
    Strategy, broken, check_count, container::quantity, indexed, integer, is_set, list_at, metadata, named, selects,
};
use crate::{doc::Doc, names, status::FieldError};

/// The most policies of one direction.
const MAX_POLICIES: usize = 20;
const TARGET_VALUES: [&str; 3] = ["averageUtilization", "averageValue", "value"];

pub(super) struct HorizontalPodAutoscaler;

impl Strategy for HorizontalPodAutoscaler {
    /// Its generation is not counted, as upstream.
    fn prepare_create(&self, doc: &mut Doc) {
        super::drop_status(doc);
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        super::keep_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        check_reference(&mut errors, spec.get("scaleTargetRef").unwrap_or(&Doc::Null), "spec.scaleTargetRef");
        check_bounds(&mut errors, spec);
        for (path, metric) in indexed(list_at(spec, &["metrics"]), "spec.metrics") {
            check_metric(&mut errors, metric, &path);
        }
        for direction in ["scaleUp", "scaleDown"] {
            if let Some(rules) = spec.at(&["behavior", direction]).filter(|rules| !rules.is_null()) {
                check_rules(&mut errors, rules, &format!("spec.behavior.{direction}"));
            }
        }
        errors
    }

    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        for field in ["currentReplicas", "desiredReplicas"] {
            if let Some(count) = new.at(&["status", field]).filter(|count| count.as_i64().is_some_and(|n| n < 0)) {
                errors.push(broken(format!("status.{field}"), count, "must be greater than or equal to 0"));
            }
        }
        errors
    }
}

fn check_reference(errors: &mut Vec<FieldError>, reference: &Doc, path: &str) {
    for field in ["kind", "name"] {
        let text = reference.str_at(&[field]);
        if !text.is_empty() {
            named(errors, &format!("{path}.{field}"), text, names::path_segment(text));
        }
    }
}

fn check_bounds(errors: &mut Vec<FieldError>, spec: &Doc) {
    let (least, most) = (integer(spec, "minReplicas").unwrap_or(1), integer(spec, "maxReplicas").unwrap_or(0));
    if least == 0 {
        errors.push(broken("spec.minReplicas", &least.into(), "must be greater than or equal to 1"));
    }
    if most > 0 && most < least {
        errors.push(broken("spec.maxReplicas", &most.into(), "must be greater than or equal to `minReplicas`"));
    }
}

/// The field in which a metric of a type has its source.
fn source_of(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Object" => "object",
        "Pods" => "pods",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        "External" => "external",
        _ => return None,
    })
}

fn check_metric(errors: &mut Vec<FieldError>, metric: &Doc, path: &str) {
    const SOURCES: [&str; 5] = ["object", "pods", "resource", "containerResource", "external"];
    let Some(wanted) = source_of(metric.str_at(&["type"])) else { return };
    for source in SOURCES {
        let place = format!("{path}.{source}");
        match (source == wanted, metric.get(source).filter(|source| !source.is_null())) {
            (true, None) => {
                let detail = "must populate information for the given metric source";
                errors.push(FieldError::required(place, detail));
            }
            (true, Some(found)) => check_source(errors, found, source, &place),
            (false, Some(_)) => {
                let detail = "must populate the given metric source only";
                errors.push(FieldError::forbidden(place, detail));
            }
            (false, None) => {}
        }
    }
}

fn check_source(errors: &mut Vec<FieldError>, source: &Doc, kind: &str, path: &str) {
    match kind {
        "resource" | "containerResource" => {
            let fields: &[&str] = if kind == "resource" { &["name"] } else { &["name", "container"] };
            for field in fields.iter().filter(|field| source.str_at(&[field]).is_empty()) {
                errors.push(FieldError::required(format!("{path}.{field}"), "must specify a resource name"));
            }
        }
        _ => {
            let name = source.str_at(&["metric", "name"]);
            if name.is_empty() {
                errors.push(FieldError::required(format!("{path}.metric.name"), "must specify a metric name"));
            } else {
                named(errors, &format!("{path}.metric.name"), name, names::path_segment(name));
            }
            selects::check(errors, source.at(&["metric", "selector"]), &format!("{path}.metric.selector"));
            if kind == "object" {
                let described = source.get("describedObject").unwrap_or(&Doc::Null);
                check_reference(errors, described, &format!("{path}.describedObject"));
            }
        }
    }
    let target = source.get("target").unwrap_or(&Doc::Null);
    check_target(errors, target, kind, &format!("{path}.target"));
}

fn check_target(errors: &mut Vec<FieldError>, target: &Doc, kind: &str, path: &str) {
    for field in ["value", "averageValue"] {
        let small = |q: &crate::quantity::Quantity| q.is_negative() || q.is_zero();
        if let Some(value) = target.get(field).filter(|value| quantity(value).as_ref().is_some_and(small)) {
            errors.push(broken(format!("{path}.{field}"), value, "must be positive"));
        }
    }
    if let Some(percent) = integer(target, "averageUtilization").filter(|percent| *percent < 1) {
        errors.push(broken(format!("{path}.averageUtilization"), &percent.into(), "must be greater than 0"));
    }
    let set: Vec<&str> = TARGET_VALUES.into_iter().filter(|field| is_set(target, field)).collect();
    match kind {
        "pods" if !set.contains(&"averageValue") => {
            errors.push(FieldError::required(
                format!("{path}.averageValue"),
                "must specify a positive target averageValue",
            ));
        }
        "object" | "external" if !set.contains(&"value") && !set.contains(&"averageValue") => {
            let detail = "must set either a target value or averageValue";
            errors.push(FieldError::required(format!("{path}.averageValue"), detail));
        }
        "external" if set.contains(&"value") && set.contains(&"averageValue") => {
            let detail = "may not set both a target value for metric and a per-pod target";
            errors.push(FieldError::forbidden(format!("{path}.value"), detail));
        }
        "resource" | "containerResource" => {
            if !set.contains(&"averageUtilization") && !set.contains(&"averageValue") {
                let detail = "must set either a target raw value or a target utilization";
                errors.push(FieldError::required(format!("{path}.averageUtilization"), detail));
            }
            if set.contains(&"averageUtilization") && set.contains(&"averageValue") {
                let detail = "may not set both a target raw value and a target utilization";
                errors.push(FieldError::forbidden(format!("{path}.averageValue"), detail));
            }
        }
        _ => {}
    }
}

fn check_rules(errors: &mut Vec<FieldError>, rules: &Doc, path: &str) {
    let policies = list_at(rules, &["policies"]);
    if policies.is_empty() {
        errors.push(FieldError::required(format!("{path}.policies"), "must specify at least one Policy"));
    }
    check_count(errors, &format!("{path}.policies"), policies.len(), MAX_POLICIES);
    let negative = |tolerance: &&Doc| quantity(tolerance).is_some_and(|q| q.is_negative());
    if let Some(tolerance) = rules.get("tolerance").filter(negative) {
        errors.push(broken(format!("{path}.tolerance"), tolerance, "must be greater or equal to 0"));
    }
}
