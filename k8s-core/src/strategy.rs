//! What only code can say about a kind: what the server sets itself, and rules across fields and across time.
//!
//! Follows the registry strategies of upstream. Structure, ranges and permitted values of single fields are the
//! schema's business ([`crate::structure`]); a [`Strategy`] has the rest.

mod admission_policy;
mod affinity;
mod aggregation;
mod autoscaler;
mod certificates;
mod config;
mod container;
mod custom;
mod definition;
mod devices;
mod discovery;
mod endpoints;
mod event;
mod flow_control;
mod ingress;
mod job;
mod limit_range;
pub(crate) mod metadata;
mod namespace;
mod network_policy;
mod persistent_volume;
mod pod;
mod pod_network;
mod policy;
mod quota;
mod rbac;
mod schedule;
mod scheduling;
mod security;
mod selects;
mod service;
mod service_cidr;
mod sets;
mod simple;
mod storage;
mod template;
mod volume;
mod webhook;
mod workload;

pub use certificates::pem_blocks;
pub use pod::qos_class;

use crate::{
    doc::Doc,
    registry::ResourceInfo,
    status::{FieldError, FieldErrorKind},
};

/// The rules of one kind. All methods are pure.
///
/// The defaults fit any kind with `spec` and `status`, custom ones included: the status belongs to its subresource,
/// and the generation counts the changes of everything else but the metadata.
pub trait Strategy: Send + Sync {
    /// Before an object is created: drops what the client may not set, sets what the server does.
    fn prepare_create(&self, doc: &mut Doc) {
        drop_status(doc);
        start_generation(doc);
    }

    /// Before an object is replaced by `new`.
    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        keep_status(new, old);
        count_generation(new, old);
    }

    /// Before `new` is written through the `status` subresource: only its status and its metadata count.
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        keep_spec(new, old);
    }

    /// What is wrong with an object that is to be created.
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        metadata::check(doc, metadata::NameRule::Subdomain)
    }

    /// What is wrong with replacing `old` by `new`.
    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        errors
    }

    /// What is wrong with a write of the status.
    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        metadata::check_update(new, old)
    }

    /// Seconds between the request to delete and the removal; `asked` is what the client wants.
    fn grace_period(&self, _doc: &Doc, _asked: Option<i64>) -> i64 {
        0
    }

    /// When an object begins to be deleted: what shall hold it until somebody has taken care of what depends on it.
    fn prepare_delete(&self, _doc: &mut Doc, _now: &str) {}

    /// The value of a field that field selectors of this kind know; `None` for any other.
    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        metadata::field(doc, path)
    }

    /// Whether an update may leave out `resourceVersion`.
    fn allows_unconditional_update(&self) -> bool {
        true
    }
}

/// The rules of a kind as the table of kinds has it.
pub fn strategy_of(info: &ResourceInfo) -> &'static dyn Strategy {
    match &info.custom {
        Some(custom) if custom.has_status => &custom::Custom { status: true },
        Some(_) => &custom::Custom { status: false },
        None => strategy_for(&info.group, &info.kind),
    }
}

/// The rules of a kind; `group` is empty for the core. Kinds that are not known get the rules that fit any.
pub fn strategy_for(group: &str, kind: &str) -> &'static dyn Strategy {
    match (group, kind) {
        ("", "Pod") => &pod::Pod,
        ("", "Service") => &service::Service,
        ("", "Namespace") => &namespace::Namespace,
        ("", "ConfigMap") => &config::ConfigMap,
        ("", "Secret") => &config::Secret,
        ("", "Event") => &event::Event,
        ("events.k8s.io", "Event") => &event::NewEvent,
        ("", "Node") => &simple::Node,
        ("", "Endpoints") => &endpoints::Endpoints,
        ("", "LimitRange") => &limit_range::LimitRange,
        ("", "ServiceAccount" | "PodTemplate") => &simple::Plain,
        ("", "ReplicationController") => &workload::REPLICATION_CONTROLLER,
        ("apps", "Deployment") => &workload::DEPLOYMENT,
        ("apps", "ReplicaSet") => &workload::REPLICA_SET,
        ("coordination.k8s.io", "Lease") => &simple::Lease,
        ("discovery.k8s.io", "EndpointSlice") => &discovery::EndpointSlice,
        ("scheduling.k8s.io", "PriorityClass") => &scheduling::PriorityClass,
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration" | "ValidatingWebhookConfiguration") => {
            &webhook::WebhookConfiguration
        }
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy") => &admission_policy::Policy { mutates: false },
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicy") => &admission_policy::Policy { mutates: true },
        ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding") => {
            &admission_policy::Binding { mutates: false }
        }
        ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding") => {
            &admission_policy::Binding { mutates: true }
        }
        ("", "PersistentVolume") => &persistent_volume::PersistentVolume,
        ("", "PersistentVolumeClaim") => &persistent_volume::Claim,
        ("", "ResourceQuota") => &quota::ResourceQuota,
        ("apps", "ControllerRevision") => &sets::ControllerRevision,
        ("apps", "DaemonSet") => &sets::DaemonSet,
        ("apps", "StatefulSet") => &sets::StatefulSet,
        ("autoscaling", "HorizontalPodAutoscaler") => &autoscaler::HorizontalPodAutoscaler,
        ("batch", "CronJob") => &job::CronJob,
        ("batch", "Job") => &job::Job,
        ("certificates.k8s.io", "CertificateSigningRequest") => &certificates::SigningRequest,
        ("certificates.k8s.io", "ClusterTrustBundle") => &certificates::ClusterTrustBundle,
        ("certificates.k8s.io", "PodCertificateRequest") => &certificates::PodRequest,
        ("flowcontrol.apiserver.k8s.io", "FlowSchema") => &flow_control::FlowSchema,
        ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration") => &flow_control::PriorityLevel,
        ("networking.k8s.io", "Ingress") => &ingress::Ingress,
        ("networking.k8s.io", "IngressClass") => &ingress::IngressClass,
        ("networking.k8s.io", "NetworkPolicy") => &network_policy::NetworkPolicy,
        ("networking.k8s.io", "IPAddress") => &service_cidr::IpAddress,
        ("networking.k8s.io", "ServiceCIDR") => &service_cidr::ServiceCidr,
        ("node.k8s.io", "RuntimeClass") => &storage::RuntimeClass,
        ("resource.k8s.io", "DeviceClass") => &devices::DeviceClass,
        ("resource.k8s.io", "DeviceTaintRule") => &devices::TaintRule,
        ("resource.k8s.io", "ResourceClaim") => &devices::Claim,
        ("resource.k8s.io", "ResourceClaimTemplate") => &devices::ClaimTemplate,
        ("resource.k8s.io", "ResourceSlice") => &devices::Slice,
        ("storage.k8s.io", "CSIDriver") => &storage::CsiDriver,
        ("storage.k8s.io", "CSINode") => &storage::CsiNode,
        ("storage.k8s.io", "CSIStorageCapacity") => &storage::CsiStorageCapacity,
        ("storage.k8s.io", "StorageClass") => &storage::StorageClass,
        ("storage.k8s.io", "VolumeAttachment") => &storage::VolumeAttachment,
        ("storage.k8s.io", "VolumeAttributesClass") => &storage::VolumeAttributesClass,
        ("storagemigration.k8s.io", "StorageVersionMigration") => &storage::StorageVersionMigration,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => &definition::Definition,
        ("policy", "PodDisruptionBudget") => &policy::PodDisruptionBudget,
        ("apiregistration.k8s.io", "APIService") => &aggregation::ApiService,
        ("rbac.authorization.k8s.io", "Role") => &rbac::Role { cluster: false },
        ("rbac.authorization.k8s.io", "ClusterRole") => &rbac::Role { cluster: true },
        ("rbac.authorization.k8s.io", "RoleBinding" | "ClusterRoleBinding") => &rbac::Binding,
        _ => &simple::Any,
    }
}

fn drop_status(doc: &mut Doc) {
    doc.remove_at(&["status"]);
}

fn keep_status(new: &mut Doc, old: &Doc) {
    match old.get("status") {
        Some(status) => new.set_at(&["status"], status.clone()),
        None => drop_status(new),
    }
}

/// Who writes a status may label and annotate, too.
fn keep_spec(new: &mut Doc, old: &Doc) {
    let mut kept = old.clone();
    for field in ["metadata", "status"] {
        match new.get_mut(field).map(Doc::take) {
            Some(value) => kept.set_at(&[field], value),
            None => drop(kept.remove_at(&[field])),
        }
    }
    *new = kept;
}

/// Of the new metadata only the owners of fields, and what identifies the write, are taken.
fn keep_all_but_status(new: &mut Doc, old: &Doc) {
    let mut kept = old.clone();
    for path in [&["status"][..], &["metadata", "managedFields"], &["metadata", "resourceVersion"]] {
        match new.remove_at(path) {
            Some(value) => kept.set_at(path, value),
            None => drop(kept.remove_at(path)),
        }
    }
    *new = kept;
}

fn start_generation(doc: &mut Doc) {
    if doc.get("spec").is_some() {
        doc.set_at(&["metadata", "generation"], 1.into());
    } else {
        doc.remove_at(&["metadata", "generation"]);
    }
}

/// The generation moves when anything but metadata and status does, and when the object begins to be deleted.
fn count_generation(new: &mut Doc, old: &Doc) {
    let former = old.at(&["metadata", "generation"]).and_then(Doc::as_i64);
    let has_spec = new.get("spec").is_some() || old.get("spec").is_some();
    let Some(former) = former.or(has_spec.then_some(0)) else {
        new.remove_at(&["metadata", "generation"]);
        return;
    };
    let generation = former + i64::from(differs_in_spec(new, old));
    new.set_at(&["metadata", "generation"], generation.into());
}

fn differs_in_spec(new: &Doc, old: &Doc) -> bool {
    let counts = |name: &str| !matches!(name, "apiVersion" | "kind" | "metadata" | "status");
    let one_sided = |a: &Doc, b: &Doc| {
        a.as_object()
            .is_some_and(|fields| fields.iter().any(|(name, value)| counts(name) && b.get(name) != Some(value)))
    };
    one_sided(new, old) || one_sided(old, new)
}

/// `path[index]`, with the value at it.
fn indexed<'a>(items: &'a [Doc], path: &str) -> impl Iterator<Item = (String, &'a Doc)> + use<'a> {
    let path = path.to_owned();
    items.iter().enumerate().map(move |(index, item)| (format!("{path}[{index}]"), item))
}

/// The items of the list at `path`; none if there is no list.
fn list_at<'a>(doc: &'a Doc, path: &[&str]) -> &'a [Doc] {
    doc.at(path).map_or(&[], Doc::items)
}

/// The integer in a field.
fn integer(doc: &Doc, field: &str) -> Option<i64> {
    doc.get(field).and_then(Doc::as_i64)
}

/// Whether a field is there and says something.
fn is_set(doc: &Doc, field: &str) -> bool {
    doc.get(field).is_some_and(|value| !value.is_null())
}

/// `Invalid value` of any type.
fn broken(path: impl Into<String>, value: &Doc, detail: impl Into<String>) -> FieldError {
    FieldError::new(FieldErrorKind::Invalid, path, value.to_string(), detail)
}

/// Refuses more than `most` items.
fn check_count(errors: &mut Vec<FieldError>, path: &str, count: usize, most: usize) {
    if count > most {
        let detail = format!("must have at most {most} items");
        errors.push(FieldError::new(FieldErrorKind::TooMany, path, count.to_string(), detail));
    }
}

/// One error per problem with a name.
fn named(errors: &mut Vec<FieldError>, path: &str, value: &str, problems: Vec<String>) {
    errors.extend(problems.into_iter().map(|problem| FieldError::invalid(path, value, problem)));
}

/// Refuses a change of the value at `path`.
fn immutable(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc, path: &[&str]) {
    if new.at(path) != old.at(path) {
        let value = new.at(path).unwrap_or(&Doc::Null).to_string();
        errors.push(FieldError::new(FieldErrorKind::Invalid, path.join("."), value, "field is immutable"));
    }
}

#[cfg(test)]
mod tests;
