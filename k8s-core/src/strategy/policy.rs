//! `policy/v1` PodDisruptionBudget.

use super::{Strategy, metadata};
use crate::{
    api::apimachinery::pkg::apis::meta::v1 as meta,
    doc::Doc,
    selector::LabelSelector,
    status::{FieldError, FieldErrorKind},
};

pub(super) struct PodDisruptionBudget;

impl Strategy for PodDisruptionBudget {
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        let limit = |field: &str| spec.get(field).filter(|value| !value.is_null());
        if limit("minAvailable").is_some() && limit("maxUnavailable").is_some() {
            let detail = "minAvailable and maxUnavailable cannot be both set";
            errors.push(FieldError::new(FieldErrorKind::Invalid, "spec", spec.to_string(), detail));
        }
        for field in ["minAvailable", "maxUnavailable"] {
            if let Some(value) = limit(field) {
                check_limit(&mut errors, value, &format!("spec.{field}"));
            }
        }
        check_selector(&mut errors, limit("selector"));
        errors
    }
}

/// A count of pods, or a share of them.
fn check_limit(errors: &mut Vec<FieldError>, value: &Doc, path: &str) {
    let detail = match value {
        Doc::String(text) => match text.strip_suffix('%').and_then(|number| number.parse::<u32>().ok()) {
            Some(0..=100) => return,
            Some(_) => "must not be greater than 100%",
            None => "must be a non-negative integer or a percentage (e.g '1%' or '93%')",
        },
        other if other.as_i64().is_some_and(|number| number >= 0) => return,
        _ => "must be greater than or equal to 0",
    };
    let shown = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    errors.push(FieldError::new(FieldErrorKind::Invalid, path, shown, detail));
}

fn check_selector(errors: &mut Vec<FieldError>, selector: Option<&Doc>) {
    let Some(selector) = selector else { return };
    let parsed = selector.deserialize::<meta::LabelSelector>().map_err(|why| why.to_string());
    let parsed = parsed.and_then(|selector| LabelSelector::try_from(&selector).map_err(|why| why.to_string()));
    if let Err(why) = parsed {
        errors.push(FieldError::new(FieldErrorKind::Invalid, "spec.selector", selector.to_string(), why));
    }
}
