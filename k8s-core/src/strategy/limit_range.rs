//! `v1` LimitRange: bounds that can be kept.

use std::collections::BTreeSet;

use super::{Strategy, container::quantity, indexed, list_at, metadata, named};
use crate::{
    doc::{Doc, Map},
    names,
    quantity::Quantity,
    status::{FieldError, FieldErrorKind},
};

const AMOUNTS: [&str; 5] = ["default", "defaultRequest", "max", "maxLimitRequestRatio", "min"];
/// What must not be more than what: a field, what it is called, the field that bounds it, and what that is called.
const ORDERS: [(&str, &str, &str, &str); 6] = [
    ("min", "min value", "max", "max value"),
    ("min", "min value", "defaultRequest", "default request value"),
    ("defaultRequest", "default request value", "max", "max value"),
    ("defaultRequest", "default request value", "default", "default limit value"),
    ("min", "min value", "default", "default value"),
    ("default", "default value", "max", "max value"),
];

pub(super) struct LimitRange;

impl Strategy for LimitRange {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let mut seen = BTreeSet::new();
        for (path, limit) in indexed(list_at(doc, &["spec", "limits"]), "spec.limits") {
            let kind = limit.str_at(&["type"]);
            if kind.is_empty() {
                errors.push(FieldError::required(format!("{path}.type"), ""));
            } else if kind.contains('/') {
                named(&mut errors, &format!("{path}.type"), kind, names::qualified_name(kind));
            } else if !matches!(kind, "Container" | "Pod" | "PersistentVolumeClaim") {
                let detail = "must be a standard limit type or fully qualified";
                errors.push(FieldError::invalid(format!("{path}.type"), kind, detail));
            }
            if !seen.insert(kind) {
                errors.push(FieldError::duplicate(format!("{path}.type"), kind));
            }
            check_limit(&mut errors, limit, kind, &path);
        }
        errors
    }
}

fn check_limit(errors: &mut Vec<FieldError>, limit: &Doc, kind: &str, path: &str) {
    if kind == "Pod" {
        for field in ["default", "defaultRequest"].into_iter().filter(|field| !is_empty(limit, field)) {
            errors.push(FieldError::forbidden(format!("{path}.{field}"), "may not be specified when `type` is 'Pod'"));
        }
    }
    if kind == "PersistentVolumeClaim" && ["min", "max"].iter().all(|field| limit.at(&[field, "storage"]).is_none()) {
        let detail = "either minimum or maximum storage value is required, but neither was provided";
        errors.push(FieldError::required(format!("{path}.limits"), detail));
    }
    for field in AMOUNTS {
        for (name, _) in amounts(limit, field) {
            named(errors, &format!("{path}.{field}[{name}]"), name, names::qualified_name(name));
        }
    }
    for (field, what, bound, bounds) in ORDERS {
        for (name, value) in amounts(limit, field) {
            if let Some(most) = limit.at(&[bound, name]).and_then(quantity).filter(|most| value > *most) {
                let (place, value) = (format!("{path}.{field}[{name}]"), value.to_string());
                let detail = format!("{what} {value} is greater than {bounds} {most}");
                errors.push(FieldError::invalid(place, &value, detail));
            }
        }
    }
    check_ratios(errors, limit, path);
}

fn check_ratios(errors: &mut Vec<FieldError>, limit: &Doc, path: &str) {
    for (name, ratio) in amounts(limit, "maxLimitRequestRatio") {
        let place = format!("{path}.maxLimitRequestRatio[{name}]");
        let invalid = |detail: String| {
            FieldError::new(FieldErrorKind::Invalid, &*place, format!("{:?}", ratio.to_string()), detail)
        };
        if ratio.as_f64() < 1.0 {
            errors.push(invalid(format!("ratio {ratio} is less than 1")));
        }
        let of = |field: &str| limit.at(&[field, name]).and_then(quantity);
        if let Some((most, least)) = of("max").zip(of("min")).filter(|(_, least)| !least.is_zero()) {
            let possible = most.as_f64() / least.as_f64();
            if ratio.as_f64() > possible {
                errors.push(invalid(format!("ratio {ratio} is greater than max/min = {possible:.6}")));
            }
        }
    }
}

fn is_empty(limit: &Doc, field: &str) -> bool {
    limit.get(field).and_then(Doc::as_object).is_none_or(Map::is_empty)
}

fn amounts<'a>(limit: &'a Doc, field: &str) -> impl Iterator<Item = (&'a str, Quantity)> {
    let list = limit.get(field).and_then(Doc::as_object);
    list.into_iter().flat_map(Map::iter).filter_map(|(name, value)| Some((name, quantity(value)?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_that_cannot_be_kept_are_refused() {
        let cases = [
            (
                r#"{"type":"Container","min":{"cpu":"1"},"max":{"cpu":"2"},"default":{"cpu":"2"},"defaultRequest":{"cpu":"1"}}"#,
                "",
            ),
            (
                r#"{"type":"Container","min":{"cpu":"3"},"max":{"cpu":"2"}}"#,
                "spec.limits[0].min[cpu]: Invalid value: \"3\": min value 3 is greater than max value 2",
            ),
            (
                r#"{"type":"Container","default":{"cpu":"3"},"max":{"cpu":"2"}}"#,
                "spec.limits[0].default[cpu]: Invalid value: \"3\": default value 3 is greater than max value 2",
            ),
            (
                r#"{"type":"Container","default":{"cpu":"1"},"defaultRequest":{"cpu":"2"}}"#,
                "spec.limits[0].defaultRequest[cpu]: Invalid value: \"2\": default request value 2 is greater than default limit value 1",
            ),
            (
                r#"{"type":"Pod","default":{"cpu":"1"}}"#,
                "spec.limits[0].default: Forbidden: may not be specified when `type` is 'Pod'",
            ),
            (
                r#"{"type":"Container","maxLimitRequestRatio":{"cpu":"500m"}}"#,
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"500m\": ratio 500m is less than 1",
            ),
            (
                r#"{"type":"Container","min":{"cpu":"1"},"max":{"cpu":"2"},"maxLimitRequestRatio":{"cpu":"3"}}"#,
                "spec.limits[0].maxLimitRequestRatio[cpu]: Invalid value: \"3\": ratio 3 is greater than max/min = 2.000000",
            ),
            (
                r#"{"type":"PersistentVolumeClaim"}"#,
                "spec.limits[0].limits: Required value: either minimum or maximum storage value is required, but neither was provided",
            ),
            (
                r#"{"type":"Car"}"#,
                "spec.limits[0].type: Invalid value: \"Car\": must be a standard limit type or fully qualified",
            ),
            (r#"{"type":"Pod"},{"type":"Pod"}"#, "spec.limits[1].type: Duplicate value: \"Pod\""),
        ];
        for (limits, expected) in cases {
            let doc = format!(r#"{{"metadata":{{"name":"l"}},"spec":{{"limits":[{limits}]}}}}"#);
            let errors = LimitRange.validate_create(&Doc::parse(doc.as_bytes()).unwrap());
            let said: Vec<String> = errors.iter().map(|error| format!("{}: {}", error.path, error.message())).collect();
            assert_eq!(said.join("; "), expected, "{limits}");
        }
    }
}
