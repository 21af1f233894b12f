//! `apiregistration.k8s.io/v1` APIService.

use super::{Strategy, keep_status, metadata};
use crate::{
    doc::Doc,
    status::{FieldError, FieldErrorKind},
};

pub(super) struct ApiService;

impl Strategy for ApiService {
    fn prepare_create(&self, doc: &mut Doc) {
        doc.remove_at(&["status"]);
    }

    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_all_but_status(new, old);
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        keep_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::PathSegment);
        let (name, group, version) =
            (doc.str_at(&["metadata", "name"]), doc.str_at(&["spec", "group"]), doc.str_at(&["spec", "version"]));
        let required = format!("{version}.{group}");
        if name != required {
            let detail = format!("must be `spec.version+\".\"+spec.group`: {required:?}");
            errors.push(FieldError::invalid("metadata.name", name, detail));
        }
        if group.is_empty() && version != "v1" {
            errors.push(FieldError::required(
                "spec.group",
                "only v1 may have an empty group and it better be legacy kube",
            ));
        }
        if version.is_empty() {
            errors.push(FieldError::required("spec.version", ""));
        }
        check_service(&mut errors, doc);
        errors
    }
}

fn check_service(errors: &mut Vec<FieldError>, doc: &Doc) {
    let has_bundle = !doc.str_at(&["spec", "caBundle"]).is_empty();
    let insecure = doc.at(&["spec", "insecureSkipTLSVerify"]).and_then(Doc::as_bool) == Some(true);
    let mut invalid = |path: &str, value: String, detail: &str| {
        errors.push(FieldError::new(FieldErrorKind::Invalid, path, value, detail));
    };
    let Some(service) = doc.at(&["spec", "service"]).filter(|service| !service.is_null()) else {
        if has_bundle {
            invalid("spec.caBundle", "...".into(), "local APIServices may not have a caBundle");
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            invalid("spec.insecureSkipTLSVerify", "true".into(), detail);
        }
        return;
    };
    if insecure && has_bundle {
        invalid("spec.insecureSkipTLSVerify", "true".into(), "may not be true if caBundle is present");
    }
    for field in ["namespace", "name"] {
        if service.str_at(&[field]).is_empty() {
            errors.push(FieldError::required(format!("spec.service.{field}"), ""));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doc;

    fn service() -> Doc {
        doc!({
            "apiVersion": "apiregistration.k8s.io/v1", "kind": "APIService", "metadata": {"name": "v1.acme.com"},
            "spec": {"group": "acme.com", "version": "v1", "groupPriorityMinimum": 100, "versionPriority": 10,
                "service": {"namespace": "a", "name": "b"}, "insecureSkipTLSVerify": true}
        })
    }

    #[test]
    fn each_wrong_field_is_named() {
        assert!(ApiService.validate_create(&service()).is_empty());
        for (path, value, field) in [
            (&["metadata", "name"][..], Doc::from("acme.com"), "metadata.name"),
            (&["spec", "caBundle"], "eA==".into(), "spec.insecureSkipTLSVerify"),
            (&["spec", "service", "name"], "".into(), "spec.service.name"),
            (&["spec", "service"], Doc::Null, "spec.insecureSkipTLSVerify"),
        ] {
            let mut wrong = service();
            wrong.set_at(path, value);
            let errors = ApiService.validate_create(&wrong);
            assert_eq!(errors.iter().map(|error| error.path.as_str()).collect::<Vec<_>>(), [field]);
        }
    }
}
