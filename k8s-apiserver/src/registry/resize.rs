//! The `resize` subresource of pods: what containers may use, while they run.
//!
//! What comes of it is the node's to say, in the pod's status.

use k8s_core::{
    doc::{Doc, Map},
    quota,
    status::{FieldError, FieldErrorKind},
    strategy::qos_class,
};

const LISTS: [&str; 2] = ["initContainers", "containers"];
const AMOUNTS: [&str; 2] = ["limits", "requests"];

/// `old` with nothing but the resources of `new`, container by container. More or fewer containers stay as they were
/// sent, to be refused.
pub fn only_resources(new: &mut Doc, old: &Doc) {
    let mut kept = old.clone();
    for path in [&["metadata", "managedFields"][..], &["metadata", "resourceVersion"]] {
        match new.remove_at(path) {
            Some(value) => kept.set_at(path, value),
            None => drop(kept.remove_at(path)),
        }
    }
    if kept.get("spec") != new.get("spec") {
        let generation = old.at(&["metadata", "generation"]).and_then(Doc::as_i64).unwrap_or(0);
        kept.set_at(&["metadata", "generation"], (generation + 1).into());
    }
    if let Some(spec) = new.remove_at(&["spec"]) {
        kept.set_at(&["spec"], spec);
    }
    *new = kept;
}

/// What is wrong with a resize.
pub fn check_resize(new: &Doc, old: &Doc) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let spec = |doc: &Doc| doc.get("spec").cloned().unwrap_or_default();
    if old.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
        errors.push(FieldError::forbidden("", "static pods cannot be resized"));
        return errors;
    }
    if old.str_at(&["spec", "os", "name"]) == "windows" {
        errors.push(FieldError::forbidden("", "windows pods cannot be resized"));
        return errors;
    }
    let (wanted, former) = (spec(new), spec(old));
    let mut rest = wanted.clone();
    for list in LISTS {
        let before = former.get(list).map_or(&[][..], Doc::items);
        let after = wanted.get(list).map_or(&[][..], Doc::items);
        if before.len() != after.len() {
            continue;
        }
        for (place, (container, before)) in after.iter().zip(before).enumerate() {
            check_container(&mut errors, container, before, list, &format!("spec.{list}[{place}].resources"));
            let at = place.to_string();
            for amount in AMOUNTS {
                let path = [list, &at, "resources", amount];
                match before.at(&["resources", amount]) {
                    Some(value) => rest.set_at(&path, value.clone()),
                    None => drop(rest.remove_at(&path)),
                }
            }
            if before.get("resources").is_none() && rest.at(&[list, &at, "resources"]).is_some_and(is_empty) {
                rest.remove_at(&[list, &at, "resources"]);
            }
        }
    }
    if rest != former {
        let detail = "only cpu and memory resources are mutable";
        errors.push(FieldError::forbidden("spec", detail));
    }
    if qos_class(&wanted) != qos_class(&former) {
        let (now, was) = (qos_class(&wanted), qos_class(&former));
        let detail = "Pod QOS Class may not change as a result of resizing";
        errors.push(FieldError::invalid("spec", &format!("{was} to {now}"), detail));
    }
    errors
}

fn is_empty(doc: &Doc) -> bool {
    doc.as_object().is_some_and(Map::is_empty)
}

fn check_container(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc, list: &str, path: &str) {
    let resources = |doc: &Doc, amount: &str| quota::amounts(doc.at(&["resources", amount]));
    let changes = AMOUNTS.iter().any(|amount| resources(new, amount) != resources(old, amount));
    if changes && list == "initContainers" && old.str_at(&["restartPolicy"]) != "Always" {
        let detail = "resources for non-sidecar init containers are immutable";
        errors.push(FieldError::forbidden(path, detail));
        return;
    }
    for amount in AMOUNTS {
        let (before, after) = (resources(old, amount), resources(new, amount));
        let place = format!("{path}.{amount}");
        for name in before.keys().filter(|name| !after.contains_key(*name)) {
            let what = if amount == "limits" { "limits" } else { "requests" };
            errors
                .push(FieldError::forbidden(format!("{place}[{name}]"), format!("resource {what} cannot be removed")));
        }
        for (name, value) in &after {
            let place = format!("{place}[{name}]");
            if value.is_negative() {
                let detail = "must be greater than or equal to 0";
                errors.push(FieldError::invalid(&place, &value.to_string(), detail));
            }
            if before.get(name) != Some(value) && !matches!(name.as_str(), "cpu" | "memory") {
                errors.push(FieldError::forbidden(place, "only cpu and memory resources are mutable"));
            }
        }
    }
    let (requests, limits) = (resources(new, "requests"), resources(new, "limits"));
    for (name, request) in &requests {
        if let Some(limit) = limits.get(name).filter(|limit| request > limit) {
            let detail = format!("must be less than or equal to {name} limit of {limit}");
            let shown = format!("{:?}", request.to_string());
            let place = format!("{path}.requests");
            errors.push(FieldError::new(FieldErrorKind::Invalid, place, shown, detail));
        }
    }
}

#[cfg(test)]
mod tests {
    use k8s_core::doc;

    use super::*;

    fn pod(resources: Doc) -> Doc {
        doc!({"metadata": {"name": "p", "generation": 1}, "spec": {"nodeName": "n", "containers": [
            {"name": "c", "image": "i", "resources": resources}]}})
    }

    #[test]
    fn only_amounts_change() {
        let old = pod(doc!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi"}}));
        let paths = |new: &Doc| {
            let errors = check_resize(new, &old);
            errors.iter().map(|error| error.path.clone()).collect::<Vec<_>>().join(" ")
        };
        let more = pod(doc!({"requests": {"cpu": "1500m"}, "limits": {"cpu": "3", "memory": "2Gi"}}));
        assert_eq!(paths(&more), "");
        let fewer = pod(doc!({"requests": {"cpu": "1"}, "limits": {"cpu": "2"}}));
        assert_eq!(paths(&fewer), "spec.containers[0].resources.limits[memory]");
        let too_much = pod(doc!({"requests": {"cpu": "5"}, "limits": {"cpu": "2", "memory": "1Gi"}}));
        assert_eq!(paths(&too_much), "spec.containers[0].resources.requests");
        let device = pod(doc!({"requests": {"cpu": "1"}, "limits": {"cpu": "2", "memory": "1Gi", "a.b/c": "1"}}));
        assert_eq!(paths(&device), "spec.containers[0].resources.limits[a.b/c]");
        let guaranteed =
            pod(doc!({"requests": {"cpu": "2", "memory": "1Gi"}, "limits": {"cpu": "2", "memory": "1Gi"}}));
        assert_eq!(paths(&guaranteed), "spec");
        let mut image = old.clone();
        image.set_at(&["spec", "containers", "0", "image"], "j".into());
        assert_eq!(paths(&image), "spec");
        let mut kept = more.clone();
        kept.set_at(&["metadata", "labels"], doc!({"a": "b"}));
        only_resources(&mut kept, &old);
        assert_eq!(kept.at(&["metadata", "labels"]), None);
        assert_eq!(kept.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(2));
    }
}
