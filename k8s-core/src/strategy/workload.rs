//! `apps/v1` Deployment and ReplicaSet, `v1` ReplicationController.

use super::{Strategy, immutable, metadata, template};
use crate::{
    api::apimachinery::pkg::apis::meta::v1 as meta,
    doc::{Doc, Map},
    selector::LabelSelector,
    status::{FieldError, FieldErrorKind},
};

/// A kind that keeps copies of a pod template.
pub(super) struct Workload {
    rolls: bool,
    selects: Selects,
}

/// The form of a kind's selector.
#[derive(Clone, Copy, PartialEq)]
enum Selects {
    /// A label selector, which never changes.
    ByExpression,
    /// Plain pairs.
    ByPairs,
}

pub(super) static DEPLOYMENT: Workload = Workload { rolls: true, selects: Selects::ByExpression };
pub(super) static REPLICA_SET: Workload = Workload { rolls: false, selects: Selects::ByExpression };
pub(super) static REPLICATION_CONTROLLER: Workload = Workload { rolls: false, selects: Selects::ByPairs };

impl Strategy for Workload {
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_spec(new, old);
        if self.rolls {
            match old.at(&["metadata", "labels"]) {
                Some(labels) => new.set_at(&["metadata", "labels"], labels.clone()),
                None => drop(new.remove_at(&["metadata", "labels"])),
            }
        }
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        for field in ["replicas", "minReadySeconds", "revisionHistoryLimit", "progressDeadlineSeconds"] {
            check_not_negative(&mut errors, spec, field);
        }
        check_selector(&mut errors, spec, self.selects);
        let template = spec.get("template").unwrap_or(&Doc::Null);
        template::check(&mut errors, template, "spec.template");
        template::check_runs_forever(&mut errors, template, "spec.template", "ReplicaSet");
        if self.rolls {
            check_strategy(&mut errors, spec.get("strategy").unwrap_or(&Doc::Null));
            check_deadline(&mut errors, spec);
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        if self.selects == Selects::ByExpression {
            immutable(&mut errors, new, old, &["spec", "selector"]);
        }
        errors
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "status.replicas" if !self.rolls => {
                let replicas = doc.at(&["status", "replicas"]).and_then(Doc::as_i64).unwrap_or(0);
                Some(replicas.to_string())
            }
            _ => metadata::field(doc, path),
        }
    }
}

fn check_not_negative(errors: &mut Vec<FieldError>, spec: &Doc, field: &str) {
    if let Some(value) = spec.get(field).and_then(Doc::as_i64).filter(|value| *value < 0) {
        let (path, detail) = (format!("spec.{field}"), "must be greater than or equal to 0");
        errors.push(FieldError::new(FieldErrorKind::Invalid, path, value.to_string(), detail));
    }
}

/// A deadline that cannot be met helps nobody.
fn check_deadline(errors: &mut Vec<FieldError>, spec: &Doc) {
    let number = |field: &str| spec.get(field).and_then(Doc::as_i64);
    if let Some(deadline) = number("progressDeadlineSeconds").filter(|deadline| *deadline >= 0)
        && deadline <= number("minReadySeconds").unwrap_or(0)
    {
        let (path, detail) = ("spec.progressDeadlineSeconds", "must be greater than minReadySeconds");
        errors.push(FieldError::new(FieldErrorKind::Invalid, path, deadline.to_string(), detail));
    }
}

fn check_selector(errors: &mut Vec<FieldError>, spec: &Doc, selects: Selects) {
    let Some(selector) = spec.get("selector").filter(|selector| !selector.is_null()) else {
        errors.push(FieldError::required("spec.selector", ""));
        return;
    };
    let parsed = match selects {
        Selects::ByPairs if selector.as_object().is_none_or(Map::is_empty) => {
            errors.push(FieldError::required("spec.selector", ""));
            return;
        }
        Selects::ByPairs => Ok(pairs(selector)),
        Selects::ByExpression => {
            let parsed = selector.deserialize::<meta::LabelSelector>().map_err(|why| why.to_string());
            parsed.and_then(|selector| LabelSelector::try_from(&selector).map_err(|why| why.to_string()))
        }
    };
    match parsed {
        Err(why) => errors.push(FieldError::new(FieldErrorKind::Invalid, "spec.selector", selector.to_string(), why)),
        Ok(parsed) => template::check_selected(errors, spec, selector, &parsed, "deployment"),
    }
}

fn pairs(selector: &Doc) -> LabelSelector {
    let pairs = selector.as_object().into_iter().flat_map(Map::iter);
    LabelSelector::equal(pairs.map(|(key, value)| (key.to_string(), value.as_str().unwrap_or(""))))
}

fn check_strategy(errors: &mut Vec<FieldError>, strategy: &Doc) {
    let rolling = strategy.get("rollingUpdate").filter(|rolling| !rolling.is_null());
    match strategy.str_at(&["type"]) {
        "" | "RollingUpdate" => {}
        "Recreate" => {
            if rolling.is_some() {
                let detail = "may not be specified when strategy `type` is 'Recreate'";
                errors.push(FieldError::forbidden("spec.strategy.rollingUpdate", detail));
            }
            return;
        }
        other => {
            let supported = &["Recreate", "RollingUpdate"];
            errors.push(FieldError::not_supported("spec.strategy.type", other, supported));
            return;
        }
    }
    let Some(rolling) = rolling else { return };
    let path = |field: &str| format!("spec.strategy.rollingUpdate.{field}");
    let mut zeros = 0;
    for field in ["maxUnavailable", "maxSurge"] {
        match rolling.get(field).map(share) {
            Some(None) => {
                let detail = "must be a non-negative integer or a percentage (e.g '1%' or '93%')";
                errors.push(FieldError::invalid(path(field), rolling.str_at(&[field]), detail));
            }
            Some(Some(0)) => zeros += 1,
            _ => {}
        }
    }
    if zeros == 2 {
        let (value, detail) = ("0", "may not be 0 when `maxSurge` is 0");
        errors.push(FieldError::new(FieldErrorKind::Invalid, path("maxUnavailable"), value, detail));
    }
    let unavailable = rolling.get("maxUnavailable");
    if unavailable.and_then(Doc::as_str).is_some() && unavailable.and_then(share).is_some_and(|percent| percent > 100) {
        let value = rolling.str_at(&["maxUnavailable"]);
        errors.push(FieldError::invalid(path("maxUnavailable"), value, "must not be greater than 100%"));
    }
}

/// A count or a percentage, without its sign.
pub(super) fn share(value: &Doc) -> Option<u32> {
    match value {
        Doc::String(text) => text.strip_suffix('%')?.parse().ok(),
        other => u32::try_from(other.as_i64()?).ok(),
    }
}
