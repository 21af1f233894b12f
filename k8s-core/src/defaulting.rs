//! What stands in an object that its writer left out.
//!
//! Defaults of single fields are in the schema (the overlay's, or a custom kind's own); what depends on other fields
//! is code, by struct. A struct's own defaults come first, then its
//! code, then what is inside it, as upstream's order of defaulters has it.

mod network;
mod others;
mod pod;
mod resources;
mod status;
mod workload;

pub use self::status::empty_status;
use crate::{
    doc::{Doc, Map},
    quantity::Quantity,
    schema::{Kind, Node, Schema, Struct},
    structure::is_zero,
};

/// Sets every default of `schema` in an object that has passed [`crate::structure::check`].
///
/// Idempotent. What lies in the wrong type is left as it is.
pub fn default(schema: &Schema, doc: &mut Doc) {
    value(schema.root(), doc);
}

fn value(node: Node<'_>, doc: &mut Doc) {
    match (node.kind(), doc) {
        (Kind::Object(fields), Doc::Object(map)) => object(fields, map),
        (Kind::Map(values), Doc::Object(map)) => {
            let quantities = matches!(values.kind(), Kind::Quantity);
            for each in map.values_mut() {
                if quantities { round_up(each) } else { value(values, each) }
            }
        }
        (Kind::List(item), Doc::Array(items)) => items.iter_mut().for_each(|each| value(item, each)),
        _ => {}
    }
}

fn object(fields: Struct<'_>, map: &mut Map) {
    for field in fields.defaulted() {
        let rules = field.node().rules();
        let Some(default) = &rules.default else { continue };
        let unset = match map.get(field.name()) {
            None => true,
            Some(Doc::Null) => !rules.nullable,
            Some(value) => fields.is_typed() && rules.zero_is_absent && is_unset(value),
        };
        if unset {
            map.insert(field.name(), default.clone());
        }
    }
    if fields.is_typed() {
        computed(fields, map);
    }
    for (key, inner) in map.iter_mut() {
        let known = fields.field(key).map(|field| field.node()).or_else(|| fields.additional());
        if let Some(node) = known {
            value(node, inner);
        }
    }
}

/// Whether a value of a typed field counts as not set: a zero, or an empty list or map.
fn is_unset(value: &Doc) -> bool {
    match value {
        Doc::Array(items) => items.is_empty(),
        Doc::Object(map) => map.is_empty(),
        scalar => is_zero(scalar),
    }
}

/// The defaults that are code.
fn computed(fields: Struct<'_>, map: &mut Map) {
    let Some((group, name)) = split(fields.name()) else { return };
    match group {
        "core" => match name {
            "v1.Pod" => pod::pod(map),
            "v1.Container" | "v1.EphemeralContainer" => pod::container(map),
            "v1.Volume" => pod::volume(map),
            "v1.ServiceSpec" => network::service_spec(map),
            "v1.Service" => network::service(map),
            "v1.Namespace" => others::namespace(map),
            "v1.NodeStatus" => others::node_status(map),
            "v1.LimitRangeItem" => others::limit_range_item(map),
            "v1.ReplicationController" => workload::replication_controller(map),
            _ => {}
        },
        "apps" => match name {
            "v1.DeploymentStrategy" => workload::deployment_strategy(map),
            "v1.DaemonSetUpdateStrategy" => workload::daemon_set_strategy(map),
            "v1.StatefulSetUpdateStrategy" => workload::stateful_set_strategy(map),
            _ => {}
        },
        "batch" if name == "v1.Job" => workload::job(map),
        "autoscaling" if name == "v2.HorizontalPodAutoscalerSpec" => workload::autoscaler_spec(map),
        "networking" if name == "v1.NetworkPolicySpec" => network::network_policy_spec(map),
        "rbac" if name == "v1.Subject" => others::subject(map),
        "apiextensions" if name == "v1.CustomResourceDefinition" => others::custom_resource_definition(map),
        "resource" => match name.split_once('.') {
            Some((_, "ExactDeviceRequest" | "DeviceSubRequest")) => others::device_request(map),
            Some(("v1beta1", "DeviceRequest")) if map.contains("deviceClassName") => others::device_request(map),
            _ => {}
        },
        _ => {}
    }
}

/// `core` and `v1.Pod` of `io.k8s.api.core.v1.Pod`.
fn split(name: &str) -> Option<(&str, &str)> {
    let kind_at = name.rfind('.')?;
    let version_at = name[..kind_at].rfind('.')?;
    let package = &name[..version_at];
    let group = package.rsplit('.').next()?;
    Some((group, &name[version_at + 1..]))
}

/// Resource lists keep nothing finer than thousandths.
fn round_up(doc: &mut Doc) {
    let Some(text) = doc.as_str() else { return };
    // Only these canonical forms can be finer.
    if !(text.ends_with(['n', 'u']) || text.contains("e-")) {
        return;
    }
    if let Ok(quantity) = Quantity::parse(text) {
        *doc = Doc::from(quantity.round_up_to_milli().to_string());
    }
}

/// The text of a field; empty if it is not there.
fn text<'a>(map: &'a Map, field: &str) -> &'a str {
    map.get(field).and_then(Doc::as_str).unwrap_or("")
}

/// Sets a field unless it is there (`null` is not there).
fn set(map: &mut Map, field: &str, value: impl Into<Doc>) {
    let slot = map.get_or_insert_with(field, || Doc::Null);
    if slot.is_null() {
        *slot = value.into();
    }
}

/// The object in a field, made if it is not there; `None` if something else is.
fn object_at<'a>(map: &'a mut Map, field: &str) -> Option<&'a mut Map> {
    let slot = map.get_or_insert_with(field, Doc::object);
    if slot.is_null() {
        *slot = Doc::object();
    }
    slot.as_object_mut()
}

/// Copies the entries of the map at `from` that the map at `to` lacks, making `to` if there is anything to copy.
fn copy_missing(map: &mut Map, from: &str, to: &str) {
    let Some(Doc::Object(source)) = map.get(from) else { return };
    let source = source.clone();
    let Some(target) = object_at(map, to) else { return };
    for (key, value) in source {
        if !target.contains(&key) {
            target.insert(key, value);
        }
    }
}

#[cfg(test)]
mod tests;
