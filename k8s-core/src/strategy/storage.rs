//! `storage.k8s.io`: classes of volumes, drivers, attachments, capacity.

use std::collections::BTreeSet;

use super::{Strategy, broken, check_count, immutable, indexed, integer, is_set, list_at, metadata, named, selects};
use crate::{
    doc::{Doc, Map},
    names,
    status::{FieldError, FieldErrorKind},
};

/// The longest name of a driver, which becomes part of paths.
const MAX_DRIVER: usize = 63;
/// The most parameters of a class, and the most bytes that they may have together.
const MAX_PARAMETERS: usize = 512;
const MAX_PARAMETER_BYTES: usize = 256 << 10;
/// The longest id that a driver may give a node.
const MAX_NODE_ID: usize = 256;
/// The shortest life of a token for a driver, and the longest.
const TOKEN_SECONDS: std::ops::RangeInclusive<i64> = 600..=1 << 32;
/// The least seconds between updates of what a node can take.
const MIN_UPDATE_SECONDS: i64 = 10;

/// The name of a driver at `path`.
pub(super) fn check_driver(errors: &mut Vec<FieldError>, driver: &str, path: &str) {
    if driver.is_empty() {
        errors.push(FieldError::required(path, ""));
        return;
    }
    if driver.len() > MAX_DRIVER {
        let detail = format!("may not be more than {MAX_DRIVER} bytes");
        errors.push(FieldError::new(FieldErrorKind::TooLong, path, "", detail));
    }
    named(errors, path, driver, names::dns_subdomain(&driver.to_ascii_lowercase()));
}

fn check_parameters(errors: &mut Vec<FieldError>, parameters: Option<&Doc>) {
    let Some(parameters) = parameters.and_then(Doc::as_object) else { return };
    if parameters.len() > MAX_PARAMETERS {
        let detail = format!("must have at most {MAX_PARAMETERS} items");
        errors.push(FieldError::new(FieldErrorKind::TooLong, "parameters", "", detail));
        return;
    }
    if parameters.contains("") {
        errors.push(FieldError::invalid("parameters", "", "field can not be empty."));
    }
    let bytes: usize = parameters.iter().map(|(key, value)| key.len() + value.as_str().map_or(0, str::len)).sum();
    if bytes > MAX_PARAMETER_BYTES {
        let detail = format!("may not be more than {MAX_PARAMETER_BYTES} bytes");
        errors.push(FieldError::new(FieldErrorKind::TooLong, "parameters", "", detail));
    }
}

pub(super) struct StorageClass;

impl Strategy for StorageClass {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let provisioner = doc.str_at(&["provisioner"]);
        if !provisioner.is_empty() {
            named(&mut errors, "provisioner", provisioner, names::qualified_name(&provisioner.to_ascii_lowercase()));
        }
        check_parameters(&mut errors, doc.get("parameters"));
        for (path, term) in indexed(list_at(doc, &["allowedTopologies"]), "allowedTopologies") {
            check_topology(&mut errors, term, &path);
        }
        errors
    }
}

/// One term of the topologies in which a class makes volumes: each key at most once, each with values.
fn check_topology(errors: &mut Vec<FieldError>, term: &Doc, path: &str) {
    let mut keys = BTreeSet::new();
    let expressions = format!("{path}.matchLabelExpressions");
    for (path, expression) in indexed(list_at(term, &["matchLabelExpressions"]), &expressions) {
        let (key, values) = (expression.str_at(&["key"]), list_at(expression, &["values"]));
        named(errors, &format!("{path}.key"), key, names::qualified_name(key));
        if values.is_empty() {
            errors.push(FieldError::required(format!("{path}.values"), ""));
        }
        let mut seen = BTreeSet::new();
        for (path, value) in indexed(values, &format!("{path}.values")) {
            let value = value.as_str().unwrap_or("");
            if !seen.insert(value) {
                errors.push(FieldError::duplicate(path, value));
            }
        }
        if !keys.insert(key) {
            errors.push(FieldError::duplicate(format!("{path}.key"), key));
        }
    }
}

pub(super) struct VolumeAttributesClass;

impl Strategy for VolumeAttributesClass {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let driver = doc.str_at(&["driverName"]);
        if !driver.is_empty() {
            check_driver(&mut errors, driver, "driverName");
        }
        if doc.get("parameters").and_then(Doc::as_object).is_none_or(Map::is_empty) {
            errors.push(FieldError::required("parameters", "must contain at least one key/value pair"));
        }
        check_parameters(&mut errors, doc.get("parameters"));
        errors
    }
}

pub(super) struct CsiDriver;

impl Strategy for CsiDriver {
    fn prepare_create(&self, _doc: &mut Doc) {}

    /// Only what nodes have to look at anew counts.
    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        let changed = ["tokenRequests", "requiresRepublish", "seLinuxMount"]
            .iter()
            .any(|field| new.at(&["spec", field]) != old.at(&["spec", field]));
        if changed {
            let before = old.at(&["metadata", "generation"]).and_then(Doc::as_i64).unwrap_or(0);
            new.set_at(&["metadata", "generation"], (before + 1).into());
        }
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let (name, spec) = (doc.str_at(&["metadata", "name"]), doc.get("spec").unwrap_or(&Doc::Null));
        if name.len() > MAX_DRIVER {
            let detail = format!("may not be more than {MAX_DRIVER} bytes");
            errors.push(FieldError::new(FieldErrorKind::TooLong, "metadata.name", "", detail));
        }
        for (path, mode) in indexed(list_at(spec, &["volumeLifecycleModes"]), "spec.volumeLifecycleModes") {
            let mode = mode.as_str().unwrap_or("");
            if !matches!(mode, "Persistent" | "Ephemeral") {
                errors.push(FieldError::not_supported(path, mode, &["Ephemeral", "Persistent"]));
            }
        }
        check_token_requests(&mut errors, spec);
        if let Some(seconds) = integer(spec, "nodeAllocatableUpdatePeriodSeconds").filter(|n| *n < MIN_UPDATE_SECONDS) {
            let detail = format!("must be greater than or equal to {MIN_UPDATE_SECONDS} seconds");
            errors.push(broken("spec.nodeAllocatableUpdatePeriodSeconds", &seconds.into(), detail));
        }
        errors
    }
}

fn check_token_requests(errors: &mut Vec<FieldError>, spec: &Doc) {
    let requests = list_at(spec, &["tokenRequests"]);
    let mut audiences = BTreeSet::new();
    for (path, request) in indexed(requests, "spec.tokenRequests") {
        let audience = request.str_at(&["audience"]);
        if !audiences.insert(audience) {
            errors.push(FieldError::duplicate(format!("{path}.audience"), audience));
        }
        if let Some(seconds) = integer(request, "expirationSeconds").filter(|n| !TOKEN_SECONDS.contains(n)) {
            let detail = if seconds < *TOKEN_SECONDS.start() {
                "may not specify a duration less than 10 minutes"
            } else {
                "may not specify a duration larger than 2^32 seconds"
            };
            errors.push(broken(format!("{path}.expirationSeconds"), &seconds.into(), detail));
        }
    }
    let in_secrets = spec.get("serviceAccountTokenInSecrets").and_then(Doc::as_bool);
    if let Some(value) = in_secrets.filter(|_| requests.is_empty()) {
        let detail = "serviceAccountTokenInSecrets can only be set when tokenRequests is not empty";
        errors.push(broken("spec.serviceAccountTokenInSecrets", &value.into(), detail));
    }
}

pub(super) struct CsiNode;

impl Strategy for CsiNode {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let mut seen = BTreeSet::new();
        for (path, driver) in indexed(list_at(doc, &["spec", "drivers"]), "spec.drivers") {
            let (name, id) = (driver.str_at(&["name"]), driver.str_at(&["nodeID"]));
            if !name.is_empty() {
                check_driver(&mut errors, name, &format!("{path}.name"));
            }
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
            if id.len() > MAX_NODE_ID {
                let detail = format!("must be {MAX_NODE_ID} characters or less");
                errors.push(FieldError::invalid(format!("{path}.nodeID"), id, detail));
            }
            check_topology_keys(&mut errors, list_at(driver, &["topologyKeys"]), &format!("{path}.topologyKeys"));
            if let Some(count) = driver.at(&["allocatable", "count"]).filter(|n| n.as_i64().is_some_and(|n| n < 0)) {
                let detail = "must be greater than or equal to 0";
                errors.push(broken(format!("{path}.allocatable.count"), count, detail));
            }
        }
        errors
    }

    /// A driver comes and goes as a whole; only how much the node can take may change.
    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        let identity = |driver: &Doc| {
            let mut driver = driver.clone();
            driver.remove_at(&["allocatable"]);
            driver
        };
        let former = list_at(old, &["spec", "drivers"]);
        for (path, driver) in indexed(list_at(new, &["spec", "drivers"]), "spec.drivers") {
            let same = |other: &&Doc| other.str_at(&["name"]) == driver.str_at(&["name"]);
            if former.iter().find(same).is_some_and(|former| identity(former) != identity(driver)) {
                errors.push(broken(path, driver, "field is immutable"));
            }
        }
        errors
    }
}

fn check_topology_keys(errors: &mut Vec<FieldError>, keys: &[Doc], path: &str) {
    let mut seen = BTreeSet::new();
    for (path, key) in indexed(keys, path) {
        let key = key.as_str().unwrap_or("");
        if key.is_empty() {
            errors.push(FieldError::required(&path, ""));
        } else {
            named(errors, &path, key, names::qualified_name(key));
        }
        if !seen.insert(key) {
            errors.push(FieldError::duplicate(path, key));
        }
    }
}

pub(super) struct CsiStorageCapacity;

impl Strategy for CsiStorageCapacity {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let class = doc.str_at(&["storageClassName"]);
        if !class.is_empty() {
            named(&mut errors, "storageClassName", class, names::dns_subdomain(class));
        }
        selects::check(&mut errors, doc.get("nodeTopology"), "nodeTopology");
        for field in ["capacity", "maximumVolumeSize"] {
            let negative =
                doc.get(field).filter(|value| super::container::quantity(value).is_some_and(|q| q.is_negative()));
            if let Some(value) = negative {
                errors.push(broken(field, value, "must be greater than or equal to 0"));
            }
        }
        errors
    }
}

pub(super) struct VolumeAttachment;

impl Strategy for VolumeAttachment {
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_all_but_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        let (attacher, node) = (spec.str_at(&["attacher"]), spec.str_at(&["nodeName"]));
        if !attacher.is_empty() {
            check_driver(&mut errors, attacher, "spec.attacher");
        }
        if !node.is_empty() {
            named(&mut errors, "spec.nodeName", node, names::dns_subdomain(node));
        }
        let source = spec.get("source").unwrap_or(&Doc::Null);
        match (is_set(source, "inlineVolumeSpec"), source.str_at(&["persistentVolumeName"])) {
            (true, "") => {}
            (true, _) => {
                let detail = "must specify exactly one of inlineVolumeSpec and persistentVolumeName";
                errors.push(broken("spec.source", source, detail));
            }
            (false, "") => {
                let detail = "must specify one of inlineVolumeSpec and persistentVolumeName";
                errors.push(FieldError::required("spec.source", detail));
            }
            (false, volume) => {
                named(&mut errors, "spec.source.persistentVolumeName", volume, names::dns_subdomain(volume))
            }
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        errors
    }

    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        let attached = new.at(&["status", "attachmentMetadata"]).and_then(Doc::as_object);
        let bytes: usize =
            attached.into_iter().flat_map(Map::iter).map(|(k, v)| k.len() + v.as_str().map_or(0, str::len)).sum();
        if bytes > MAX_PARAMETER_BYTES {
            let detail = format!("may not be more than {MAX_PARAMETER_BYTES} bytes");
            errors.push(FieldError::new(FieldErrorKind::TooLong, "status.attachmentMetadata", "", detail));
        }
        errors
    }
}

/// `node.k8s.io` RuntimeClass.
pub(super) struct RuntimeClass;

impl Strategy for RuntimeClass {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let handler = doc.str_at(&["handler"]);
        if !handler.is_empty() {
            named(&mut errors, "handler", handler, names::dns_label(handler));
        }
        super::container::check_quantities(&mut errors, doc.at(&["overhead", "podFixed"]), "overhead.podFixed");
        metadata::check_labels(&mut errors, doc.at(&["scheduling", "nodeSelector"]), "scheduling.nodeSelector");
        if let Some(scheduling) = doc.get("scheduling").filter(|scheduling| !scheduling.is_null()) {
            super::scheduling::check(&mut errors, scheduling, "scheduling");
            let tolerations = list_at(scheduling, &["tolerations"]);
            for (path, toleration) in indexed(tolerations, "scheduling.tolerations") {
                if tolerations.iter().filter(|other| *other == toleration).count() > 1 {
                    errors.push(FieldError::new(FieldErrorKind::Duplicate, path, toleration.to_string(), ""));
                }
            }
        }
        errors
    }
}

/// `storagemigration.k8s.io` StorageVersionMigration: what is to be written anew.
pub(super) struct StorageVersionMigration;

impl Strategy for StorageVersionMigration {
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_all_but_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        if doc.str_at(&["spec", "resource", "resource"]).is_empty() {
            errors.push(FieldError::required("spec.resource.resource", "resource is required"));
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        immutable(&mut errors, new, old, &["spec"]);
        errors
    }

    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        check_count(&mut errors, "status.conditions", list_at(new, &["status", "conditions"]).len(), 100);
        let (before, after) = (old.str_at(&["status", "resourceVersion"]), new.str_at(&["status", "resourceVersion"]));
        if !after.is_empty() && after.parse::<u64>().is_err() {
            errors.push(FieldError::invalid("status.resourceVersion", after, "must be a number"));
        }
        if !before.is_empty() && before != after {
            errors.push(FieldError::invalid("status.resourceVersion", after, "field is immutable"));
        }
        errors
    }
}
