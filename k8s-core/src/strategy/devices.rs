//! `resource.k8s.io`: classes, claims and slices of devices, and taints on them.

use std::collections::BTreeSet;

use super::{
    Strategy, affinity, broken, check_count, immutable, indexed, integer, is_set, list_at, metadata, named, storage,
};
use crate::{
    cel::device,
    doc::{Doc, Map},
    names,
    status::{FieldError, FieldErrorKind},
};

const MAX_REQUESTS: usize = 32;
const MAX_SUB_REQUESTS: usize = 8;
const MAX_SELECTORS: usize = 32;
const MAX_CONSTRAINTS: usize = 32;
const MAX_CONFIGS: usize = 32;
const MAX_TOLERATIONS: usize = 16;
const MAX_DEVICES: usize = 128;
/// The most devices of a slice where any of them has taints or shares counters.
const MAX_RICH_DEVICES: usize = 64;
const MAX_TAINTS: usize = 16;
const MAX_ATTRIBUTES: usize = 32;
const MAX_COUNTER_SETS: usize = 8;
const MAX_RESERVED: usize = 256;
/// The longest expression and the longest opaque parameters, in bytes.
const MAX_EXPRESSION: usize = 10 << 10;
const MAX_PARAMETERS: usize = 10 << 10;
const EFFECTS: [&str; 3] = ["NoExecute", "NoSchedule", "None"];

pub(super) struct DeviceClass;

impl Strategy for DeviceClass {
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        check_selectors(&mut errors, list_at(spec, &["selectors"]), "spec.selectors");
        check_configs(&mut errors, list_at(spec, &["config"]), None, "spec.config");
        let extended = spec.str_at(&["extendedResourceName"]);
        if !extended.is_empty() {
            let path = "spec.extendedResourceName";
            named(&mut errors, path, extended, names::qualified_name(extended));
            if !extended.contains('/') || extended.contains("kubernetes.io/") || extended.starts_with("requests.") {
                errors.push(FieldError::invalid(path, extended, "must be a valid extended resource name"));
            }
        }
        errors
    }
}

fn check_selectors(errors: &mut Vec<FieldError>, selectors: &[Doc], path: &str) {
    check_count(errors, path, selectors.len(), MAX_SELECTORS);
    for (path, selector) in indexed(selectors, path).take(MAX_SELECTORS) {
        if !is_set(selector, "cel") {
            errors.push(FieldError::required(format!("{path}.cel"), ""));
            continue;
        }
        let (text, place) = (selector.str_at(&["cel", "expression"]), format!("{path}.cel.expression"));
        if text.trim().is_empty() {
            errors.push(FieldError::required(place, ""));
        } else if text.len() > MAX_EXPRESSION {
            let detail = format!("may not be more than {MAX_EXPRESSION} bytes");
            errors.push(FieldError::new(FieldErrorKind::TooLong, place, "", detail));
        } else if let Err(why) = device::compile(text) {
            errors.push(FieldError::invalid(place, text, why));
        }
    }
}

/// Opaque configuration for drivers; of a claim, for some of its `requests`.
fn check_configs(errors: &mut Vec<FieldError>, configs: &[Doc], requests: Option<&BTreeSet<String>>, path: &str) {
    check_count(errors, path, configs.len(), MAX_CONFIGS);
    for (path, config) in indexed(configs, path).take(MAX_CONFIGS) {
        if let Some(requests) = requests {
            check_names(errors, list_at(config, &["requests"]), requests, &format!("{path}.requests"));
        }
        let Some(opaque) = config.get("opaque").filter(|opaque| !opaque.is_null()) else {
            errors.push(FieldError::required(format!("{path}.opaque"), ""));
            continue;
        };
        storage::check_driver(errors, opaque.str_at(&["driver"]), &format!("{path}.opaque.driver"));
        let place = format!("{path}.opaque.parameters");
        match opaque.get("parameters").filter(|parameters| !parameters.is_null()) {
            None => errors.push(FieldError::required(place, "")),
            Some(parameters) if parameters.as_object().is_none() => {
                let detail = "parameters must be a valid JSON object";
                errors.push(FieldError::invalid(place, "<value omitted>", detail));
            }
            Some(parameters) if parameters.to_json().len() > MAX_PARAMETERS => {
                let detail = format!("may not be more than {MAX_PARAMETERS} bytes");
                errors.push(FieldError::new(FieldErrorKind::TooLong, place, "", detail));
            }
            Some(_) => {}
        }
    }
}

/// Names of requests, each once, each of one that is there.
fn check_names(errors: &mut Vec<FieldError>, found: &[Doc], known: &BTreeSet<String>, path: &str) {
    let mut seen = BTreeSet::new();
    for (path, name) in indexed(found, path) {
        let name = name.as_str().unwrap_or("");
        if !known.contains(name) {
            let detail = "must be the name of a request in the claim or the name of a request and a subrequest \
                separated by '/'";
            errors.push(FieldError::invalid(&path, name, detail));
        }
        if !seen.insert(name) {
            errors.push(FieldError::duplicate(path, name));
        }
    }
}

pub(super) struct Claim;

impl Strategy for Claim {
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_all_but_status(new, old);
    }

    fn prepare_create(&self, doc: &mut Doc) {
        super::drop_status(doc);
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        super::keep_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        check_claim(&mut errors, doc.at(&["spec", "devices"]).unwrap_or(&Doc::Null), "spec.devices");
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        immutable(&mut errors, new, old, &["spec"]);
        errors
    }

    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        check_reservations(&mut errors, new, old);
        let former = old.at(&["status", "allocation"]).filter(|allocation| !allocation.is_null());
        let allocation = new.at(&["status", "allocation"]).filter(|allocation| !allocation.is_null());
        if former.is_some() && allocation.is_some() && former != allocation {
            errors.push(broken("status.allocation", allocation.unwrap_or(&Doc::Null), "field is immutable"));
        }
        errors
    }
}

fn check_reservations(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc) {
    const RESERVED: [&str; 2] = ["status", "reservedFor"];
    const PATH: &str = "status.reservedFor";
    let reserved = list_at(new, &RESERVED);
    check_count(errors, PATH, reserved.len(), MAX_RESERVED);
    let mut seen = BTreeSet::new();
    for (path, consumer) in indexed(reserved, PATH).take(MAX_RESERVED) {
        for field in ["resource", "name", "uid"].into_iter().filter(|field| consumer.str_at(&[field]).is_empty()) {
            errors.push(FieldError::required(format!("{path}.{field}"), ""));
        }
        if !seen.insert(consumer.str_at(&["uid"])) {
            errors.push(FieldError::duplicate(format!("{path}.uid"), consumer.str_at(&["uid"])));
        }
    }
    let is_allocated = new.at(&["status", "allocation"]).is_some_and(|allocation| !allocation.is_null());
    if !reserved.is_empty() && !is_allocated {
        errors.push(FieldError::forbidden(PATH, "may not be specified when `allocated` is not set"));
    }
    let is_ending = |doc: &Doc| !doc.str_at(&["metadata", "deletionTimestamp"]).is_empty();
    if is_ending(old) && reserved.iter().any(|consumer| !list_at(old, &RESERVED).contains(consumer)) {
        let detail = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
        errors.push(FieldError::forbidden(PATH, detail));
    }
}

/// The devices that a claim asks for, at `path`.
fn check_claim(errors: &mut Vec<FieldError>, devices: &Doc, path: &str) {
    let requests = list_at(devices, &["requests"]);
    check_count(errors, &format!("{path}.requests"), requests.len(), MAX_REQUESTS);
    let mut known = BTreeSet::new();
    for (path, request) in indexed(requests, &format!("{path}.requests")).take(MAX_REQUESTS) {
        check_request(errors, request, &mut known, &path);
    }
    let constraints = list_at(devices, &["constraints"]);
    check_count(errors, &format!("{path}.constraints"), constraints.len(), MAX_CONSTRAINTS);
    for (path, constraint) in indexed(constraints, &format!("{path}.constraints")).take(MAX_CONSTRAINTS) {
        check_names(errors, list_at(constraint, &["requests"]), &known, &format!("{path}.requests"));
        let attributes = ["matchAttribute", "distinctAttribute"];
        match attributes.iter().filter(|field| is_set(constraint, field)).count() {
            1 => {}
            0 => errors.push(FieldError::required(format!("{path}.matchAttribute"), "")),
            _ => errors.push(broken(
                &path,
                constraint,
                "exactly one of matchAttribute and distinctAttribute must be set",
            )),
        }
        for field in attributes {
            let attribute = constraint.str_at(&[field]);
            if !attribute.is_empty() && !is_qualified(attribute) {
                let detail = "must be a C identifier with a domain and a slash before it";
                errors.push(FieldError::invalid(format!("{path}.{field}"), attribute, detail));
            }
        }
    }
    check_configs(errors, list_at(devices, &["config"]), Some(&known), &format!("{path}.config"));
}

fn check_request(errors: &mut Vec<FieldError>, request: &Doc, known: &mut BTreeSet<String>, path: &str) {
    let name = request.str_at(&["name"]);
    check_request_name(errors, name, known, name.to_owned(), path);
    let (exact, alternatives) =
        (request.get("exactly").filter(|exact| !exact.is_null()), list_at(request, &["firstAvailable"]));
    match (exact, alternatives) {
        (Some(_), [_, ..]) => {
            errors.push(broken(
                path,
                &Doc::Null,
                "exactly one of `exactly` or `firstAvailable` is required, but multiple fields are set",
            ));
        }
        (None, []) => {
            errors.push(FieldError::required(path, "exactly one of `exactly` or `firstAvailable` is required"))
        }
        (Some(exact), []) => check_exact(errors, exact, &format!("{path}.exactly")),
        (None, alternatives) => {
            let place = format!("{path}.firstAvailable");
            check_count(errors, &place, alternatives.len(), MAX_SUB_REQUESTS);
            for (path, sub) in indexed(alternatives, &place).take(MAX_SUB_REQUESTS) {
                let below = sub.str_at(&["name"]);
                check_request_name(errors, below, known, format!("{name}/{below}"), &path);
                check_exact(errors, sub, &path);
            }
        }
    }
}

fn check_request_name(
    errors: &mut Vec<FieldError>,
    name: &str,
    known: &mut BTreeSet<String>,
    full: String,
    path: &str,
) {
    let place = format!("{path}.name");
    if name.is_empty() {
        errors.push(FieldError::required(place, ""));
        return;
    }
    named(errors, &place, name, names::dns_label(name));
    if !known.insert(full) {
        errors.push(FieldError::duplicate(place, name));
    }
}

fn check_exact(errors: &mut Vec<FieldError>, request: &Doc, path: &str) {
    let class = request.str_at(&["deviceClassName"]);
    if class.is_empty() {
        errors.push(FieldError::required(format!("{path}.deviceClassName"), ""));
    } else {
        named(errors, &format!("{path}.deviceClassName"), class, names::dns_subdomain(class));
    }
    check_selectors(errors, list_at(request, &["selectors"]), &format!("{path}.selectors"));
    let count = integer(request, "count").unwrap_or(0);
    match request.str_at(&["allocationMode"]) {
        "" | "ExactCount" if count <= 0 => {
            errors.push(broken(format!("{path}.count"), &count.into(), "must be greater than zero"));
        }
        "All" if count != 0 => {
            let detail = "must not be specified when allocationMode is 'All'";
            errors.push(broken(format!("{path}.count"), &count.into(), detail));
        }
        "" | "ExactCount" | "All" => {}
        other => {
            let place = format!("{path}.allocationMode");
            errors.push(FieldError::not_supported(place, other, &["All", "ExactCount"]));
        }
    }
    let tolerations = list_at(request, &["tolerations"]);
    check_count(errors, &format!("{path}.tolerations"), tolerations.len(), MAX_TOLERATIONS);
    for (path, toleration) in indexed(tolerations, &format!("{path}.tolerations")).take(MAX_TOLERATIONS) {
        check_toleration(errors, toleration, &path);
    }
}

fn check_toleration(errors: &mut Vec<FieldError>, toleration: &Doc, path: &str) {
    let text = |field: &str| toleration.str_at(&[field]);
    if !text("key").is_empty() {
        named(errors, &format!("{path}.key"), text("key"), names::qualified_name(text("key")));
    } else if text("operator") != "Exists" {
        let detail = "operator must be Exists when `key` is empty";
        errors.push(FieldError::invalid(format!("{path}.operator"), text("operator"), detail));
    }
    if text("operator") == "Exists" && !text("value").is_empty() {
        let detail = "must be empty for operator `Exists`";
        errors.push(FieldError::invalid(format!("{path}.value"), text("value"), detail));
    }
    if !text("effect").is_empty() && !EFFECTS.contains(&text("effect")) {
        errors.push(FieldError::not_supported(format!("{path}.effect"), text("effect"), &EFFECTS));
    }
}

/// A domain, a slash, and a C identifier.
fn is_qualified(name: &str) -> bool {
    let Some((domain, id)) = name.split_once('/') else { return false };
    names::dns_subdomain(domain).is_empty() && is_identifier(id)
}

fn is_identifier(id: &str) -> bool {
    let is_letter = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
    !id.is_empty()
        && id.len() <= 32
        && id.chars().all(is_letter)
        && !id.starts_with(|first: char| first.is_ascii_digit())
}

pub(super) struct ClaimTemplate;

impl Strategy for ClaimTemplate {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let template = doc.get("spec").unwrap_or(&Doc::Null);
        metadata::check_labels(&mut errors, template.at(&["metadata", "labels"]), "spec.metadata.labels");
        metadata::check_annotations(
            &mut errors,
            template.at(&["metadata", "annotations"]),
            "spec.metadata.annotations",
        );
        let devices = template.at(&["spec", "devices"]).unwrap_or(&Doc::Null);
        check_claim(&mut errors, devices, "spec.spec.devices");
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        immutable(&mut errors, new, old, &["spec"]);
        errors
    }
}

pub(super) struct Slice;

impl Strategy for Slice {
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        storage::check_driver(&mut errors, spec.str_at(&["driver"]), "spec.driver");
        check_pool(&mut errors, spec.get("pool").unwrap_or(&Doc::Null));
        check_nodes(&mut errors, spec);
        let devices = list_at(spec, &["devices"]);
        let rich = |device: &Doc| is_set(device, "taints") || is_set(device, "consumesCounters");
        let most = if devices.iter().any(rich) { MAX_RICH_DEVICES } else { MAX_DEVICES };
        check_count(&mut errors, "spec.devices", devices.len(), most);
        let mut seen = BTreeSet::new();
        for (path, device) in indexed(devices, "spec.devices").take(MAX_DEVICES) {
            let name = device.str_at(&["name"]);
            named(&mut errors, &format!("{path}.name"), name, names::dns_label(name));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(format!("{path}.name"), name));
            }
            check_device(&mut errors, device, &path);
        }
        let counters = list_at(spec, &["sharedCounters"]);
        check_count(&mut errors, "spec.sharedCounters", counters.len(), MAX_COUNTER_SETS);
        if !devices.is_empty() && !counters.is_empty() {
            let detail = "only one of `sharedCounters` and `devices` is allowed";
            errors.push(broken("spec", &Doc::Null, detail));
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        for path in [&["spec", "driver"][..], &["spec", "nodeName"], &["spec", "pool", "name"]] {
            immutable(&mut errors, new, old, path);
        }
        errors
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "spec.nodeName" | "spec.driver" => metadata::text_field(doc, path),
            _ => metadata::field(doc, path),
        }
    }
}

fn check_pool(errors: &mut Vec<FieldError>, pool: &Doc) {
    let name = pool.str_at(&["name"]);
    if name.is_empty() {
        errors.push(FieldError::required("spec.pool.name", ""));
    }
    for part in name.split('/').filter(|_| !name.is_empty()) {
        named(errors, "spec.pool.name", name, names::dns_subdomain(part));
    }
    let (count, generation) =
        (integer(pool, "resourceSliceCount").unwrap_or(0), integer(pool, "generation").unwrap_or(0));
    if count <= 0 {
        errors.push(broken("spec.pool.resourceSliceCount", &count.into(), "must be greater than zero"));
    }
    if generation < 0 {
        errors.push(broken("spec.pool.generation", &generation.into(), "must be greater than or equal to zero"));
    }
}

/// Exactly one way to say which nodes reach the devices.
fn check_nodes(errors: &mut Vec<FieldError>, spec: &Doc) {
    let flag = |field: &str| spec.get(field).and_then(Doc::as_bool) == Some(true);
    let ways =
        [is_set(spec, "nodeName"), is_set(spec, "nodeSelector"), flag("allNodes"), flag("perDeviceNodeSelection")];
    const ONE: &str = "exactly one of `nodeName`, `nodeSelector`, `allNodes`, `perDeviceNodeSelection` is required";
    match ways.iter().filter(|way| **way).count() {
        0 => errors.push(FieldError::required("spec", ONE)),
        1 => {}
        _ => errors.push(broken("spec", &Doc::Null, format!("{ONE}, but multiple fields are set"))),
    }
    let node = spec.str_at(&["nodeName"]);
    if !node.is_empty() {
        named(errors, "spec.nodeName", node, names::dns_subdomain(node));
    }
    if let Some(selector) = spec.get("nodeSelector").filter(|selector| !selector.is_null()) {
        affinity::check_node_selector(errors, selector, "spec.nodeSelector");
        let terms = list_at(selector, &["nodeSelectorTerms"]).len();
        if terms > 1 {
            errors.push(broken(
                "spec.nodeSelector.nodeSelectorTerms",
                &(terms as i64).into(),
                "must have exactly one node selector term",
            ));
        }
    }
}

fn check_device(errors: &mut Vec<FieldError>, device: &Doc, path: &str) {
    let of = |field: &str| device.get(field).and_then(Doc::as_object);
    let count = of("attributes").map_or(0, Map::len) + of("capacity").map_or(0, Map::len);
    check_count(errors, &format!("{path}.attributes"), count, MAX_ATTRIBUTES);
    for field in ["attributes", "capacity"] {
        for (name, value) in of(field).into_iter().flat_map(Map::iter) {
            let place = format!("{path}.{field}[{name}]");
            if !is_qualified(name) && !is_identifier(name) {
                errors.push(FieldError::invalid(&place, name, "must be a C identifier, with or without a domain"));
            }
            let values = value.as_object().map_or(0, |map| map.iter().filter(|(_, value)| !value.is_null()).count());
            if field == "attributes" && values != 1 {
                errors.push(broken(place, value, "exactly one value must be specified"));
            }
        }
    }
    let taints = list_at(device, &["taints"]);
    check_count(errors, &format!("{path}.taints"), taints.len(), MAX_TAINTS);
    for (path, taint) in indexed(taints, &format!("{path}.taints")).take(MAX_TAINTS) {
        check_taint(errors, taint, &path);
    }
}

fn check_taint(errors: &mut Vec<FieldError>, taint: &Doc, path: &str) {
    let (key, value, effect) = (taint.str_at(&["key"]), taint.str_at(&["value"]), taint.str_at(&["effect"]));
    named(errors, &format!("{path}.key"), key, names::qualified_name(key));
    named(errors, &format!("{path}.value"), value, names::label_value(value));
    if effect.is_empty() {
        errors.push(FieldError::required(format!("{path}.effect"), ""));
    } else if !EFFECTS.contains(&effect) {
        errors.push(FieldError::not_supported(format!("{path}.effect"), effect, &EFFECTS));
    }
}

pub(super) struct TaintRule;

impl Strategy for TaintRule {
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_all_but_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        check_taint(&mut errors, doc.at(&["spec", "taint"]).unwrap_or(&Doc::Null), "spec.taint");
        let selector = doc.at(&["spec", "deviceSelector"]).unwrap_or(&Doc::Null);
        let driver = selector.str_at(&["driver"]);
        if is_set(selector, "driver") {
            storage::check_driver(&mut errors, driver, "spec.deviceSelector.driver");
        }
        let device = selector.str_at(&["device"]);
        if is_set(selector, "device") {
            named(&mut errors, "spec.deviceSelector.device", device, names::dns_label(device));
        }
        errors
    }

    /// What is tainted stays; how, may change.
    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        immutable(&mut errors, new, old, &["spec", "deviceSelector"]);
        errors
    }
}
