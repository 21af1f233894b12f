//! `v1` Pod: what the server sets, what a pod must be, and the little that may change in it.

use std::collections::BTreeSet;

use super::{
    Strategy, affinity, container, count_generation, keep_status, list_at, metadata, pod_network, scheduling, security,
    start_generation, volume,
};
use crate::{
    doc,
    doc::{Doc, Map},
    names,
    status::{FieldError, FieldErrorKind},
};

const CONTAINER_LISTS: [&str; 3] = ["containers", "initContainers", "ephemeralContainers"];

pub(super) struct Pod;

impl Strategy for Pod {
    fn prepare_create(&self, doc: &mut Doc) {
        let class = qos_class(doc.get("spec").unwrap_or(&Doc::Null));
        doc.set_at(&["status"], doc!({"phase": "Pending", "qosClass": class}));
        start_generation(doc);
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        keep_status(new, old);
        count_generation(new, old);
    }

    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_spec(new, old);
        match old.at(&["metadata", "ownerReferences"]) {
            Some(owners) => new.set_at(&["metadata", "ownerReferences"], owners.clone()),
            None => drop(new.remove_at(&["metadata", "ownerReferences"])),
        }
        if let Some(class) = old.at(&["status", "qosClass"]) {
            new.set_at(&["status", "qosClass"], class.clone());
        }
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        check_spec(&mut errors, doc.get("spec").unwrap_or(&Doc::Null), "spec");
        if !list_at(doc, &["spec", "ephemeralContainers"]).is_empty() {
            let detail = "cannot be set on create";
            errors.push(FieldError::forbidden("spec.ephemeralContainers", detail));
        }
        scheduling::check_gates(&mut errors, doc.get("spec").unwrap_or(&Doc::Null));
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        check_spec(&mut errors, new.get("spec").unwrap_or(&Doc::Null), "spec");
        check_spec_update(&mut errors, new, old);
        errors
    }

    /// At once for a pod that no node has, or that is finished.
    fn grace_period(&self, doc: &Doc, asked: Option<i64>) -> i64 {
        let phase = doc.str_at(&["status", "phase"]);
        if doc.str_at(&["spec", "nodeName"]).is_empty() || matches!(phase, "Succeeded" | "Failed") {
            return 0;
        }
        let of_spec = || doc.at(&["spec", "terminationGracePeriodSeconds"]).and_then(Doc::as_i64).unwrap_or(30);
        let seconds = asked.unwrap_or_else(of_spec);
        if seconds < 0 { 1 } else { seconds }
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "spec.nodeName"
            | "spec.restartPolicy"
            | "spec.schedulerName"
            | "spec.serviceAccountName"
            | "status.phase"
            | "status.podIP"
            | "status.nominatedNodeName" => metadata::text_field(doc, path),
            "spec.hostNetwork" => {
                Some((doc.at(&["spec", "hostNetwork"]).and_then(Doc::as_bool) == Some(true)).to_string())
            }
            _ => metadata::field(doc, path),
        }
    }
}

/// `Guaranteed` when every container limits cpu and memory and requests just that, `BestEffort` when none asks for
/// either, else `Burstable`.
pub fn qos_class(spec: &Doc) -> &'static str {
    let (mut any, mut all) = (false, true);
    let containers = CONTAINER_LISTS[..2].iter().flat_map(|list| list_at(spec, &[list]));
    for container in containers {
        for resource in ["cpu", "memory"] {
            let of = |what: &str| {
                let value = container.at(&["resources", what, resource]).and_then(container::quantity);
                value.filter(|quantity| !quantity.is_zero())
            };
            let (request, limit) = (of("requests"), of("limits"));
            any |= request.is_some() || limit.is_some();
            // Requests that are not there yet become the limits.
            all &= limit.is_some() && request.is_none_or(|request| Some(request) == limit);
        }
    }
    match (any, all) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}

/// What is wrong with a pod's spec at `path`; also for templates.
pub(super) fn check_spec(errors: &mut Vec<FieldError>, spec: &Doc, path: &str) {
    let volumes = volume::check_volumes(errors, spec, path);
    if list_at(spec, &["containers"]).is_empty() {
        errors.push(FieldError::required(format!("{path}.containers"), ""));
    }
    let mut seen = BTreeSet::new();
    for list in CONTAINER_LISTS {
        container::check_containers(errors, list_at(spec, &[list]), &format!("{path}.{list}"), &volumes, &mut seen);
    }
    container::check_init_containers(errors, list_at(spec, &["initContainers"]), &format!("{path}.initContainers"));
    container::check_quantities(errors, spec.get("overhead"), &format!("{path}.overhead"));
    pod_network::check(errors, spec, path);
    scheduling::check(errors, spec, path);
    affinity::check(errors, spec, path);
    security::check_pod(errors, spec, path);
    let policy = spec.str_at(&["restartPolicy"]);
    if !matches!(policy, "" | "Always" | "OnFailure" | "Never") {
        let supported = &["Always", "Never", "OnFailure"];
        errors.push(FieldError::not_supported(format!("{path}.restartPolicy"), policy, supported));
    }
    for (field, least, detail) in [
        ("terminationGracePeriodSeconds", 0, "must be greater than or equal to 0"),
        ("activeDeadlineSeconds", 1, "must be between 1 and 2147483647, inclusive"),
    ] {
        if let Some(value) = spec.get(field).and_then(Doc::as_i64).filter(|value| *value < least) {
            let place = format!("{path}.{field}");
            errors.push(FieldError::new(FieldErrorKind::Invalid, place, value.to_string(), detail));
        }
    }
    metadata::check_labels(errors, spec.get("nodeSelector"), &format!("{path}.nodeSelector"));
    for (field, check) in [
        ("hostname", names::dns_label as fn(&str) -> names::Problems),
        ("subdomain", names::dns_label),
        ("nodeName", names::dns_subdomain),
        ("serviceAccountName", names::dns_subdomain),
    ] {
        let value = spec.str_at(&[field]);
        if !value.is_empty() {
            super::named(errors, &format!("{path}.{field}"), value, check(value));
        }
    }
}

/// Everything but a short list of fields is for ever.
fn check_spec_update(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc) {
    static NONE: Map = Map::new();
    let spec_of = |doc: &'_ Doc| doc.get("spec").cloned().unwrap_or_default();
    let (mut ours, theirs) = (spec_of(new), spec_of(old));
    check_deadline(errors, &ours, &theirs);
    check_tolerations(errors, &ours, &theirs);
    check_gates(errors, &ours, &theirs);
    if new.at(&["spec", "ephemeralContainers"]) != old.at(&["spec", "ephemeralContainers"]) {
        let detail = "can only be changed through the ephemeralcontainers subresource";
        errors.push(FieldError::forbidden("spec.ephemeralContainers", detail));
    }
    let was_gated = !list_at(&theirs, &["schedulingGates"]).is_empty();
    allow_changes(&mut ours, &theirs, was_gated);
    if ours.as_object().unwrap_or(&NONE) != theirs.as_object().unwrap_or(&NONE) {
        let detail = "pod updates may not change fields other than `spec.containers[*].image`,\
            `spec.initContainers[*].image`,`spec.activeDeadlineSeconds`,`spec.tolerations` (only additions to \
            existing tolerations),`spec.terminationGracePeriodSeconds` (allow it to be set to 1 if it was previously \
            negative)";
        errors.push(FieldError::forbidden("spec", detail));
    }
}

/// Gives `ours` the former values wherever a change is allowed (or was judged before).
fn allow_changes(ours: &mut Doc, theirs: &Doc, was_gated: bool) {
    let mut fields = vec!["activeDeadlineSeconds", "tolerations", "schedulingGates", "ephemeralContainers"];
    let grace = |spec: &Doc| spec.get("terminationGracePeriodSeconds").and_then(Doc::as_i64);
    if grace(ours) == Some(1) && grace(theirs).is_some_and(|seconds| seconds < 0) {
        fields.push("terminationGracePeriodSeconds");
    }
    if was_gated {
        fields.extend(["nodeSelector", "affinity"]);
    }
    for field in fields {
        match theirs.get(field) {
            Some(value) => ours.set_at(&[field], value.clone()),
            None => drop(ours.remove_at(&[field])),
        }
    }
    for list in ["containers", "initContainers"] {
        let former = list_at(theirs, &[list]);
        let containers = ours.get_mut(list).map_or(&mut [][..], Doc::items_mut);
        for (container, former) in containers.iter_mut().zip(former) {
            if let Some(image) = former.get("image") {
                container.set_at(&["image"], image.clone());
            }
        }
    }
}

fn check_deadline(errors: &mut Vec<FieldError>, ours: &Doc, theirs: &Doc) {
    let deadline = |spec: &Doc| spec.get("activeDeadlineSeconds").and_then(Doc::as_i64);
    let Some(former) = deadline(theirs) else { return };
    let path = "spec.activeDeadlineSeconds";
    match deadline(ours) {
        Some(now) if now > former => {
            let detail = format!("must be less than or equal to previous value: {former}");
            errors.push(FieldError::new(FieldErrorKind::Invalid, path, now.to_string(), detail));
        }
        Some(_) => {}
        None => {
            let detail = "must not update from a positive integer to nil value";
            errors.push(FieldError::new(FieldErrorKind::Invalid, path, "null", detail));
        }
    }
}

fn check_tolerations(errors: &mut Vec<FieldError>, ours: &Doc, theirs: &Doc) {
    // How long a toleration lasts may change; all else must still be there.
    let without_time = |toleration: &Doc| {
        let mut toleration = toleration.clone();
        toleration.remove_at(&["tolerationSeconds"]);
        toleration
    };
    let kept: Vec<Doc> = list_at(ours, &["tolerations"]).iter().map(without_time).collect();
    if !list_at(theirs, &["tolerations"]).iter().all(|former| kept.contains(&without_time(former))) {
        let detail = "existing toleration can not be modified except its tolerationSeconds";
        errors.push(FieldError::forbidden("spec.tolerations", detail));
    }
}

fn check_gates(errors: &mut Vec<FieldError>, ours: &Doc, theirs: &Doc) {
    let known = list_at(theirs, &["schedulingGates"]);
    if list_at(ours, &["schedulingGates"]).iter().any(|gate| !known.contains(gate)) {
        let detail = "only deletion is allowed, but found new scheduling gates";
        errors.push(FieldError::forbidden("spec.schedulingGates", detail));
    }
}
