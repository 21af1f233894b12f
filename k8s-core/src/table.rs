//! Tables for printing: the columns of a kind and an object's cells, as `kubectl get` shows them.
//!
//! Follows upstream's printers: names, order, formats and priorities of columns (priority 0 is always shown, 1 with
//! `-o wide`), and what each cell says.

mod batch;
mod cluster;
mod control;
mod duration;
mod ingress;
mod network;
mod pod;
mod storage;
mod workload;

use crate::{
    doc::{Doc, Map},
    env::Timestamp,
};

pub use duration::human_duration;

/// One column of a table.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Column {
    /// The heading.
    pub name: &'static str,
    /// `string`, `integer` or `date`.
    pub kind: &'static str,
    /// `name` for the column that identifies the row, else empty.
    pub format: &'static str,
    /// For people.
    pub description: &'static str,
    /// 0 to show always, 1 to show when asked for more.
    pub priority: i32,
}

/// How the objects of one kind are printed.
pub struct Table {
    columns: &'static [Column],
    cells: fn(&Doc, Timestamp) -> Vec<Doc>,
}

impl Table {
    /// The columns in order.
    pub fn columns(&self) -> &'static [Column] {
        self.columns
    }

    /// One cell per column. Ages are as of `now`.
    pub fn cells(&self, doc: &Doc, now: Timestamp) -> Vec<Doc> {
        (self.cells)(doc, now)
    }
}

/// How a kind is printed; `group` is empty for the core. Unknown kinds have a name and an age.
pub fn table_for(group: &str, kind: &str) -> &'static Table {
    match (group, kind) {
        ("", "Pod") => &pod::POD,
        ("apps", "Deployment") => &workload::DEPLOYMENT,
        ("apps", "ReplicaSet") | ("", "ReplicationController") => &workload::REPLICA_SET,
        ("apps", "ControllerRevision") => &workload::CONTROLLER_REVISION,
        ("policy", "PodDisruptionBudget") => &workload::POD_DISRUPTION_BUDGET,
        ("", "PodTemplate") => &workload::POD_TEMPLATE,
        ("", "Service") => &network::SERVICE,
        ("", "Endpoints") => &network::ENDPOINTS,
        ("discovery.k8s.io", "EndpointSlice") => &network::ENDPOINT_SLICE,
        ("", "Node") => &cluster::NODE,
        ("", "Namespace") => &cluster::NAMESPACE,
        ("", "ConfigMap") => &cluster::CONFIG_MAP,
        ("", "Secret") => &cluster::SECRET,
        ("", "ServiceAccount") => &cluster::SERVICE_ACCOUNT,
        ("", "Event") | ("events.k8s.io", "Event") => &cluster::EVENT,
        ("coordination.k8s.io", "Lease") => &cluster::LEASE,
        ("rbac.authorization.k8s.io", "Role" | "ClusterRole") => &cluster::ROLE,
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => &cluster::BINDING,
        ("scheduling.k8s.io", "PriorityClass") => &cluster::PRIORITY_CLASS,
        ("apps", "DaemonSet") => &batch::DAEMON_SET,
        ("apps", "StatefulSet") => &batch::STATEFUL_SET,
        ("batch", "Job") => &batch::JOB,
        ("batch", "CronJob") => &batch::CRON_JOB,
        ("autoscaling", "HorizontalPodAutoscaler") => &batch::AUTOSCALER,
        ("", "PersistentVolume") => &storage::VOLUME,
        ("", "PersistentVolumeClaim") => &storage::CLAIM,
        ("storage.k8s.io", "StorageClass") => &storage::CLASS,
        ("storage.k8s.io", "VolumeAttributesClass") => &storage::ATTRIBUTES_CLASS,
        ("storage.k8s.io", "VolumeAttachment") => &storage::ATTACHMENT,
        ("storage.k8s.io", "CSIDriver") => &storage::DRIVER,
        ("storage.k8s.io", "CSINode") => &storage::CSI_NODE,
        ("storage.k8s.io", "CSIStorageCapacity") => &storage::CAPACITY,
        ("networking.k8s.io", "Ingress") => &ingress::INGRESS,
        ("networking.k8s.io", "IngressClass") => &ingress::INGRESS_CLASS,
        ("networking.k8s.io", "NetworkPolicy") => &ingress::NETWORK_POLICY,
        ("networking.k8s.io", "IPAddress") => &ingress::IP_ADDRESS,
        ("networking.k8s.io", "ServiceCIDR") => &ingress::SERVICE_CIDR,
        ("resource.k8s.io", "ResourceClaim") => &control::RESOURCE_CLAIM,
        ("resource.k8s.io", "ResourceSlice") => &control::RESOURCE_SLICE,
        ("", "ComponentStatus") => &control::COMPONENT_STATUS,
        ("", "ResourceQuota") => &control::QUOTA,
        ("certificates.k8s.io", "CertificateSigningRequest") => &control::SIGNING_REQUEST,
        ("certificates.k8s.io", "ClusterTrustBundle") => &control::TRUST_BUNDLE,
        ("certificates.k8s.io", "PodCertificateRequest") => &control::POD_CERTIFICATE,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => &control::FLOW_SCHEMA,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => &control::PRIORITY_LEVEL,
        ("node.k8s.io", "RuntimeClass") => &control::RUNTIME_CLASS,
        _ => &DEFAULT,
    }
}

static DEFAULT: Table = Table { columns: &[NAME, AGE], cells: |doc, now| vec![name(doc), age(doc, now)] };

const NAME: Column = Column {
    name: "Name",
    kind: "string",
    format: "name",
    description: "The name of the object, unique within its namespace.",
    priority: 0,
};
const AGE: Column = text("Age", "The time since the object was created.");

const fn text(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 0 }
}

const fn wide(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "string", format: "", description, priority: 1 }
}

const fn number(name: &'static str, description: &'static str) -> Column {
    Column { name, kind: "integer", format: "", description, priority: 0 }
}

fn name(doc: &Doc) -> Doc {
    doc.str_at(&["metadata", "name"]).into()
}

fn age(doc: &Doc, now: Timestamp) -> Doc {
    since(doc.str_at(&["metadata", "creationTimestamp"]), now).into()
}

/// The time since an RFC 3339 text, or `<unknown>`.
fn since(time: &str, now: Timestamp) -> String {
    match time.parse::<Timestamp>() {
        Ok(time) => human_duration(now.as_second() - time.as_second()),
        Err(_) => "<unknown>".into(),
    }
}

/// The integer at `path`, 0 if there is none.
fn int(doc: &Doc, path: &[&str]) -> i64 {
    doc.at(path).and_then(Doc::as_i64).unwrap_or(0)
}

fn items<'a>(doc: &'a Doc, path: &[&str]) -> &'a [Doc] {
    doc.at(path).map_or(&[], Doc::items)
}

fn count(doc: &Doc, path: &[&str]) -> i64 {
    match doc.at(path) {
        Some(Doc::Object(fields)) => fields.len() as i64,
        Some(Doc::Array(items)) => items.len() as i64,
        _ => 0,
    }
}

fn or_none(text: &str) -> Doc {
    if text.is_empty() { "<none>".into() } else { text.into() }
}

/// The `field` of each item, joined by commas.
fn joined(items: &[Doc], field: &str) -> String {
    items.iter().map(|item| item.str_at(&[field])).collect::<Vec<_>>().join(",")
}

/// `key=value` pairs by key.
fn pairs(map: Option<&Doc>) -> String {
    let fields = map.and_then(Doc::as_object).into_iter().flat_map(Map::iter);
    let mut pairs: Vec<String> = fields.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or(""))).collect();
    pairs.sort_unstable();
    pairs.join(",")
}

#[cfg(test)]
mod tests;
