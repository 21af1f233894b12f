//! Kinds with few rules of their own: nodes, leases, and those without any.

use super::{Strategy, indexed, keep_all_but_status, list_at, metadata, pod_network, scheduling};
use crate::{
    doc::Doc,
    status::{FieldError, FieldErrorKind},
};

/// A kind about which nothing is known.
pub(super) struct Any;

impl Strategy for Any {
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        keep_all_but_status(new, old);
    }
}

/// A kind without generation and status.
pub(super) struct Plain;

impl Strategy for Plain {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}
}

/// `v1` Node. Its status may come with its creation: that is how kubelets register.
pub(super) struct Node;

impl Strategy for Node {
    fn prepare_create(&self, _doc: &mut Doc) {}

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        super::keep_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        scheduling::check_taints(&mut errors, list_at(doc, &["spec", "taints"]));
        for (path, cidr) in indexed(list_at(doc, &["spec", "podCIDRs"]), "spec.podCIDRs") {
            pod_network::check_cidr(&mut errors, &path, cidr.as_str().unwrap_or(""));
        }
        let cidr = doc.str_at(&["spec", "podCIDR"]);
        if !cidr.is_empty() {
            pod_network::check_cidr(&mut errors, "spec.podCIDR", cidr);
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        for field in ["podCIDR", "podCIDRs", "providerID"] {
            let path = ["spec", field];
            // Assigned once.
            if old.at(&path).is_some() && new.at(&path) != old.at(&path) {
                let detail = "node updates may not change it once it is set";
                errors.push(FieldError::forbidden(format!("spec.{field}"), detail));
            }
        }
        errors
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "spec.unschedulable" => {
                Some((doc.at(&["spec", "unschedulable"]).and_then(Doc::as_bool) == Some(true)).to_string())
            }
            _ => metadata::field(doc, path),
        }
    }
}

/// `coordination.k8s.io` Lease.
pub(super) struct Lease;

impl Strategy for Lease {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        for (field, least) in [("leaseDurationSeconds", 1), ("leaseTransitions", 0)] {
            let value = doc.at(&["spec", field]).and_then(Doc::as_i64);
            if let Some(value) = value.filter(|value| *value < least) {
                let detail = format!("must be greater than or equal to {least}");
                let path = format!("spec.{field}");
                errors.push(FieldError::new(FieldErrorKind::Invalid, path, value.to_string(), detail));
            }
        }
        errors
    }

    fn allows_unconditional_update(&self) -> bool {
        false
    }
}
