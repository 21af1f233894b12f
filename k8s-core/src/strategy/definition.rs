//! `apiextensions.k8s.io` CustomResourceDefinition: names, versions, their schemas, and what may change of them.
//!
//! Follows upstream's validation of `apiextensions/v1`.

mod columns;
mod names;
mod schema;
mod value_rules;

use std::collections::BTreeSet;

use super::{Strategy, indexed, list_at, metadata, webhook};
use crate::{
    custom::CLEANUP_FINALIZER,
    doc,
    doc::Doc,
    status::{FieldError, FieldErrorKind},
};

/// The versions of `ConversionReview` that are spoken.
const REVIEW_VERSIONS: [&str; 2] = ["v1", "v1beta1"];
const REVIEWS: [&str; 4] = ["spec", "conversion", "webhook", "conversionReviewVersions"];

/// The kind.
pub(super) struct Definition;

impl Strategy for Definition {
    fn prepare_create(&self, doc: &mut Doc) {
        let stored: Vec<&str> = storage_versions(doc).collect();
        let status = doc!({"conditions": [], "acceptedNames": {"plural": "", "kind": ""}, "storedVersions": stored});
        doc.set_at(&["status"], status);
        doc.set_at(&["metadata", "generation"], 1.into());
    }

    /// Who writes a status may not take away what keeps the definition until its objects are gone.
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_all_but_status(new, old);
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        super::keep_status(new, old);
        super::count_generation(new, old);
        let added: Vec<String> = storage_versions(new).map(str::to_owned).collect();
        let stored = new.entry_at(&["status", "storedVersions"]);
        if stored.as_array().is_none() {
            *stored = Doc::Array(Vec::new());
        }
        let Some(stored) = stored.as_array_mut() else { return };
        for version in added {
            if !stored.iter().any(|known| known.as_str() == Some(&version)) {
                stored.push(version.into());
            }
        }
    }

    fn prepare_delete(&self, doc: &mut Doc, now: &str) {
        let finalizers = doc.entry_at(&["metadata", "finalizers"]);
        if finalizers.as_array().is_none() {
            *finalizers = Doc::Array(Vec::new());
        }
        let held = |finalizer: &Doc| finalizer.as_str() == Some(CLEANUP_FINALIZER);
        if let Some(finalizers) = finalizers.as_array_mut()
            && !finalizers.iter().any(held)
        {
            finalizers.push(CLEANUP_FINALIZER.into());
        }
        let message = "CustomResourceDefinition marked for deletion; CustomResource deletion will begin soon";
        let condition = doc!({"type": "Terminating", "status": "True", "reason": "InstanceDeletionPending",
            "message": message, "lastTransitionTime": now});
        let conditions = doc.entry_at(&["status", "conditions"]);
        if conditions.as_array().is_none() {
            *conditions = Doc::Array(Vec::new());
        }
        if let Some(conditions) = conditions.as_array_mut() {
            conditions.retain(|known| known.str_at(&["type"]) != "Terminating");
            conditions.push(condition);
        }
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        names::check(&mut errors, doc);
        check_versions(&mut errors, doc, None);
        check_conversion(&mut errors, doc, None);
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        names::check(&mut errors, new);
        names::check_update(&mut errors, new, old);
        check_versions(&mut errors, new, Some(old));
        check_conversion(&mut errors, new, Some(old));
        check_stored_versions(&mut errors, new);
        errors
    }

    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        check_stored_versions(&mut errors, new);
        errors
    }
}

fn storage_versions(doc: &Doc) -> impl Iterator<Item = &str> {
    let versions = list_at(doc, &["spec", "versions"]).iter();
    versions.filter(|version| flag(version, "storage")).map(|version| version.str_at(&["name"]))
}

fn flag(doc: &Doc, name: &str) -> bool {
    doc.get(name).and_then(Doc::as_bool) == Some(true)
}

fn check_versions(errors: &mut Vec<FieldError>, doc: &Doc, old: Option<&Doc>) {
    let versions = list_at(doc, &["spec", "versions"]);
    let names: BTreeSet<&str> = versions.iter().map(|version| version.str_at(&["name"])).collect();
    if names.len() < versions.len() {
        errors.push(broken("spec.versions", "", "must contain unique version names"));
    }
    if storage_versions(doc).count() != 1 {
        errors.push(broken("spec.versions", "", "must have exactly one version marked as storage version"));
    }
    if flag(doc.get("spec").unwrap_or(&Doc::Null), "preserveUnknownFields") {
        let detail = "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in \
                      spec.versions[*].schema instead";
        errors.push(broken("spec.preserveUnknownFields", "true", detail));
    }
    for (path, version) in indexed(versions, "spec.versions") {
        let same = |old: &&Doc| old.str_at(&["name"]) == version.str_at(&["name"]);
        let before = old.and_then(|old| list_at(old, &["spec", "versions"]).iter().find(same));
        // What was let in once is not judged again: a rule that is new must not lock its owner out.
        if before == Some(version) {
            continue;
        }
        check_version(errors, version, &path);
    }
}

fn check_version(errors: &mut Vec<FieldError>, version: &Doc, path: &str) {
    let name = version.str_at(&["name"]);
    super::named(errors, &format!("{path}.name"), name, crate::names::dns_1035_label(name));
    match version.at(&["schema", "openAPIV3Schema"]) {
        Some(written) if !written.is_null() => {
            schema::check(errors, written, &format!("{path}.schema.openAPIV3Schema"));
            columns::check_selectable(errors, version, written, path);
        }
        _ => errors.push(FieldError::required(format!("{path}.schema.openAPIV3Schema"), "schemas are required")),
    }
    columns::check(errors, version, path);
    columns::check_scale(errors, version, path);
    let warning = version.str_at(&["deprecationWarning"]);
    let path = format!("{path}.deprecationWarning");
    if version.get("deprecationWarning").is_some() && !flag(version, "deprecated") {
        errors.push(broken(&path, &format!("{warning:?}"), "can only be set for deprecated versions"));
    }
    if warning.len() > 256 {
        errors.push(FieldError::new(FieldErrorKind::TooLong, path, "", "may not be more than 256 bytes"));
    }
}

fn check_conversion(errors: &mut Vec<FieldError>, doc: &Doc, old: Option<&Doc>) {
    let conversion = doc.at(&["spec", "conversion"]).unwrap_or(&Doc::Null);
    let webhook = conversion.get("webhook").filter(|webhook| !webhook.is_null());
    let versions = list_at(conversion, &["webhook", "conversionReviewVersions"]);
    // The names of upstream's internal form, which its users see.
    let (client_path, versions_path) =
        ("spec.conversion.webhookClientConfig", "spec.conversion.conversionReviewVersions");
    match (conversion.str_at(&["strategy"]), webhook) {
        ("Webhook", _) => {
            match conversion.at(&["webhook", "clientConfig"]).filter(|client| !client.is_null()) {
                Some(client) => webhook::check_client_config(errors, client, client_path),
                None => errors.push(FieldError::required(client_path, "required when strategy is set to Webhook")),
            }
            let known = |doc: &Doc| {
                list_at(doc, &REVIEWS)
                    .iter()
                    .any(|version| version.as_str().is_some_and(|name| REVIEW_VERSIONS.contains(&name)))
            };
            // Who was let in with versions that nobody knows is not locked out.
            let must_know = old.is_none_or(|old| list_at(old, &REVIEWS).is_empty() || known(old));
            check_review_versions(errors, versions, versions_path, must_know && !known(doc));
        }
        ("None" | "", Some(webhook)) => {
            let detail = "should not be set when strategy is not set to Webhook";
            if webhook.get("clientConfig").is_some_and(|client| !client.is_null()) {
                errors.push(FieldError::forbidden(client_path, detail));
            }
            if !versions.is_empty() {
                errors.push(FieldError::forbidden(versions_path, detail));
            }
        }
        _ => {}
    }
}

fn check_review_versions(errors: &mut Vec<FieldError>, versions: &[Doc], path: &str, is_strange: bool) {
    if versions.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    let mut seen = BTreeSet::new();
    for (path, version) in indexed(versions, path) {
        let version = version.as_str().unwrap_or("");
        if !seen.insert(version) {
            errors.push(FieldError::invalid(&path, version, "duplicate version"));
        }
        super::named(errors, &path, version, crate::names::dns_1035_label(version));
    }
    if is_strange {
        let detail = format!("must include at least one of {}", REVIEW_VERSIONS.join(", "));
        errors.push(broken(path, &Doc::Array(versions.to_vec()).to_string(), &detail));
    }
}

/// Objects may be stored at these versions: each must still be there to be read.
fn check_stored_versions(errors: &mut Vec<FieldError>, doc: &Doc) {
    let stored = list_at(doc, &["status", "storedVersions"]);
    if stored.is_empty() {
        errors.push(broken("status.storedVersions", "[]", "must have at least one stored version"));
    }
    let known: BTreeSet<&str> =
        list_at(doc, &["spec", "versions"]).iter().map(|version| version.str_at(&["name"])).collect();
    for (path, version) in indexed(stored, "status.storedVersions") {
        let version = version.as_str().unwrap_or("");
        if !known.contains(version) {
            errors.push(FieldError::invalid(&path, version, "missing from spec.versions; it must be in spec.versions"));
        }
    }
    for version in storage_versions(doc).filter(|version| !stored.iter().any(|known| known.as_str() == Some(version))) {
        let detail = format!("must have the storage version {version}");
        errors.push(broken("status.storedVersions", &Doc::Array(stored.to_vec()).to_string(), &detail));
    }
}

fn broken(path: &str, value: &str, detail: &str) -> FieldError {
    FieldError::new(FieldErrorKind::Invalid, path, value, detail)
}

#[cfg(test)]
mod tests;
