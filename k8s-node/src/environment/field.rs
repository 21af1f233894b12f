//! The downward API: fields of the pod and amounts of its containers as texts.

use std::collections::BTreeMap;

use k8s_core::{
    api::api::core::v1::{Container, Pod, ResourceFieldSelector, ResourceRequirements},
    quantity::{Format, Quantity},
};

use super::ConfigError;
use crate::plan::parts;

/// What fields may show that the pod object does not (yet) say.
#[derive(Debug, Clone, Copy)]
pub struct FieldContext<'a> {
    /// The node's name.
    pub node_name: &'a str,
    /// The machine's addresses, primary first.
    pub host_ips: &'a [String],
    /// The pod's addresses, primary first.
    pub pod_ips: &'a [String],
    /// What the node can give to pods: the limit of containers without one.
    pub allocatable: &'a BTreeMap<String, Quantity>,
}

/// The text of a field, such as `metadata.labels['app']` or `status.podIP`.
pub fn field(pod: &Pod, path: &str, context: &FieldContext<'_>) -> Result<String, ConfigError> {
    let meta = &pod.metadata;
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    if let Some((map, key)) = subscript(path) {
        let map = match map {
            "metadata.labels" => &meta.labels,
            "metadata.annotations" => &meta.annotations,
            _ => return Err(unknown(path)),
        };
        return Ok(map.as_ref().and_then(|map| map.get(key)).cloned().unwrap_or_default());
    }
    let spec = pod.spec.as_ref();
    Ok(match path {
        "metadata.name" => text(&meta.name),
        "metadata.namespace" => text(&meta.namespace),
        "metadata.uid" => text(&meta.uid),
        "metadata.labels" => lines(&meta.labels),
        "metadata.annotations" => lines(&meta.annotations),
        "spec.nodeName" => context.node_name.to_owned(),
        "spec.serviceAccountName" => spec.and_then(|spec| spec.service_account_name.clone()).unwrap_or_default(),
        "status.hostIP" => context.host_ips.first().cloned().unwrap_or_default(),
        "status.hostIPs" => context.host_ips.join(","),
        "status.podIP" => context.pod_ips.first().cloned().unwrap_or_default(),
        "status.podIPs" => context.pod_ips.join(","),
        _ => return Err(unknown(path)),
    })
}

fn unknown(path: &str) -> ConfigError {
    ConfigError::new(format!("unsupported fieldPath: {path}"))
}

fn subscript(path: &str) -> Option<(&str, &str)> {
    let (map, rest) = path.split_once("['")?;
    Some((map, rest.strip_suffix("']")?))
}

/// One `key="value"` per line, sorted by key, values quoted.
fn lines(map: &Option<BTreeMap<String, String>>) -> String {
    let lines: Vec<String> = map.iter().flatten().map(|(key, value)| format!("{key}={value:?}")).collect();
    lines.join("\n")
}

/// The text of an amount, such as `limits.memory`, in units of its divisor, rounded up.
///
/// `own` is the container that asks, for references that name none. A missing limit is what the node can give.
pub fn resource_field(
    pod: &Pod,
    reference: &ResourceFieldSelector,
    own: Option<&Container>,
    context: &FieldContext<'_>,
) -> Result<String, ConfigError> {
    let all = parts(pod);
    let named = |name: &String| all.iter().find(|part| part.container.name == *name).map(|part| &*part.container);
    let container = match reference.container_name.as_ref().filter(|name| !name.is_empty()) {
        Some(name) => named(name).ok_or_else(|| ConfigError::new(format!("container {name} not found")))?,
        None => own.ok_or_else(|| ConfigError::new("resourceFieldRef: containerName is required"))?,
    };
    let (side, name) = reference
        .resource
        .split_once('.')
        .ok_or_else(|| ConfigError::new(format!("unsupported container resource : {}", reference.resource)))?;
    let value = amount(container.resources.as_ref(), side, name, context)?;
    let divisor = reference.divisor.as_ref().and_then(|divisor| Quantity::parse(&divisor.0).ok());
    let divisor = divisor.filter(|divisor| !divisor.is_zero()).unwrap_or(Quantity::new(1, Format::DecimalSi));
    let (value, divisor) = match name {
        "cpu" => (value.milli_value(), divisor.milli_value()),
        _ => (value.value(), divisor.value()),
    };
    // Invariant: a divisor that is not zero does not round to zero, because rounding goes away from zero.
    Ok((value / divisor + i64::from(value % divisor != 0)).to_string())
}

fn amount(
    resources: Option<&ResourceRequirements>,
    side: &str,
    name: &str,
    context: &FieldContext<'_>,
) -> Result<Quantity, ConfigError> {
    let read = |list: &Option<BTreeMap<String, k8s_core::api::apimachinery::pkg::api::resource::Quantity>>| {
        list.as_ref().and_then(|list| Quantity::parse(&list.get(name)?.0).ok())
    };
    let limit = resources.and_then(|resources| read(&resources.limits));
    match side {
        "limits" => Ok(limit.or_else(|| context.allocatable.get(name).copied()).unwrap_or_default()),
        "requests" => Ok(resources.and_then(|resources| read(&resources.requests)).or(limit).unwrap_or_default()),
        _ => Err(ConfigError::new(format!("unsupported container resource : {side}.{name}"))),
    }
}
