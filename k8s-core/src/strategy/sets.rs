//! `apps/v1` DaemonSet and StatefulSet.

use super::{Strategy, broken, immutable, metadata, template, workload::share};
use crate::{doc::Doc, status::FieldError};

/// Counts the templates that a DaemonSet had, for controllers that still read it.
const TEMPLATE_GENERATION: [&str; 3] = ["metadata", "annotations", "deprecated.daemonset.template.generation"];

pub(super) struct DaemonSet;

impl Strategy for DaemonSet {
    fn prepare_create(&self, doc: &mut Doc) {
        super::drop_status(doc);
        super::start_generation(doc);
        doc.set_at(&TEMPLATE_GENERATION, "1".into());
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        super::keep_status(new, old);
        super::count_generation(new, old);
        let before = old.str_at(&TEMPLATE_GENERATION).parse::<i64>().unwrap_or(0);
        let changed = new.at(&["spec", "template"]) != old.at(&["spec", "template"]);
        new.set_at(&TEMPLATE_GENERATION, (before + i64::from(changed)).to_string().into());
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        template::check_selector(&mut errors, spec, "daemonset");
        let pods = spec.get("template").unwrap_or(&Doc::Null);
        template::check(&mut errors, pods, "spec.template");
        template::check_runs_forever(&mut errors, pods, "spec.template", "DaemonSet");
        check_daemon_strategy(&mut errors, spec.get("updateStrategy").unwrap_or(&Doc::Null));
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        errors
    }
}

fn check_daemon_strategy(errors: &mut Vec<FieldError>, strategy: &Doc) {
    if strategy.str_at(&["type"]) != "RollingUpdate" {
        return;
    }
    let path = |field: &str| format!("spec.updateStrategy.rollingUpdate.{field}");
    let Some(rolling) = strategy.get("rollingUpdate").filter(|rolling| !rolling.is_null()) else {
        errors.push(FieldError::required("spec.updateStrategy.rollingUpdate", ""));
        return;
    };
    let mut counts = [0; 2];
    for (place, field) in ["maxUnavailable", "maxSurge"].into_iter().enumerate() {
        let value = rolling.get(field).unwrap_or(&Doc::Null);
        match share(value) {
            None => errors.push(broken(path(field), value, NO_SHARE)),
            Some(count) if value.as_str().is_some() && count > 100 => {
                errors.push(broken(path(field), value, "must not be greater than 100%"));
            }
            Some(count) => counts[place] = count,
        }
    }
    match counts {
        [0, 0] => errors.push(FieldError::required(path("maxUnavailable"), "cannot be 0 when maxSurge is 0")),
        [unavailable, surge] if unavailable > 0 && surge > 0 => {
            let value = rolling.get("maxSurge").unwrap_or(&Doc::Null);
            errors.push(broken(path("maxSurge"), value, "may not be set when maxUnavailable is non-zero"));
        }
        _ => {}
    }
}

const NO_SHARE: &str = "must be a non-negative integer or a percentage (e.g '1%' or '93%')";

/// What an update of a StatefulSet's spec may change.
const CHANGEABLE: [&str; 7] = [
    "replicas",
    "ordinals",
    "template",
    "updateStrategy",
    "revisionHistoryLimit",
    "persistentVolumeClaimRetentionPolicy",
    "minReadySeconds",
];

pub(super) struct StatefulSet;

impl Strategy for StatefulSet {
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        // Its name becomes the host name of its pods.
        check_stateful(doc, metadata::NameRule::Label)
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = check_stateful(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        let fixed = |doc: &Doc| {
            let mut spec = doc.get("spec").cloned().unwrap_or_default();
            CHANGEABLE.iter().for_each(|field| drop(spec.remove_at(&[field])));
            // An empty name of a service is none.
            if spec.str_at(&["serviceName"]).is_empty() {
                spec.remove_at(&["serviceName"]);
            }
            spec
        };
        if fixed(new) != fixed(old) {
            let detail = "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', \
                'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and \
                'minReadySeconds' are forbidden";
            errors.push(FieldError::forbidden("spec", detail));
        }
        errors
    }
}

fn check_stateful(doc: &Doc, names: metadata::NameRule) -> Vec<FieldError> {
    let mut errors = metadata::check(doc, names);
    let spec = doc.get("spec").unwrap_or(&Doc::Null);
    template::check_selector(&mut errors, spec, "statefulset");
    let pods = spec.get("template").unwrap_or(&Doc::Null);
    template::check(&mut errors, pods, "spec.template");
    template::check_runs_forever(&mut errors, pods, "spec.template", "StatefulSet");
    check_stateful_strategy(&mut errors, spec.get("updateStrategy").unwrap_or(&Doc::Null));
    errors
}

fn check_stateful_strategy(errors: &mut Vec<FieldError>, strategy: &Doc) {
    const PATH: &str = "spec.updateStrategy.rollingUpdate";
    let kind = strategy.str_at(&["type"]);
    let Some(rolling) = strategy.get("rollingUpdate").filter(|rolling| !rolling.is_null()) else { return };
    if kind == "OnDelete" {
        errors.push(broken(PATH, rolling, "only allowed for updateStrategy 'RollingUpdate'"));
    }
    if let Some(unavailable) = rolling.get("maxUnavailable").filter(|value| !value.is_null()) {
        let place = format!("{PATH}.maxUnavailable");
        match share(unavailable) {
            None => errors.push(broken(place, unavailable, NO_SHARE)),
            Some(0) => errors.push(broken(place, unavailable, "cannot be 0")),
            Some(percent) if percent > 100 && unavailable.as_str().is_some() => {
                errors.push(broken(place, unavailable, "must not be greater than 100%"));
            }
            Some(_) => {}
        }
    }
}

/// `apps/v1` ControllerRevision: what it holds is for ever.
pub(super) struct ControllerRevision;

impl Strategy for ControllerRevision {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        immutable(&mut errors, new, old, &["data"]);
        errors
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_template_counts() {
        let old = crate::doc!({"metadata": {"name": "d", "annotations": {
            "deprecated.daemonset.template.generation": "1"}}, "spec": {"template": {"spec": {"x": 1}}}});
        let mut same = old.clone();
        same.remove_at(&["metadata", "annotations"]);
        DaemonSet.prepare_update(&mut same, &old);
        assert_eq!(same.str_at(&TEMPLATE_GENERATION), "1");
        let mut new = old.clone();
        new.set_at(&["spec", "template", "spec", "x"], 2.into());
        DaemonSet.prepare_update(&mut new, &old);
        assert_eq!(new.str_at(&TEMPLATE_GENERATION), "2");
    }
}
