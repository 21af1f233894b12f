//! `NodeRestriction`: a node's identity writes about itself and its own pods, and never more than it needs to.

use async_trait::async_trait;
use k8s_core::{
    doc::{Doc, Map},
    object::ObjectKey,
    request::Verb,
    status::ApiResult,
};

use super::{Admission, AdmissionRequest};
use crate::auth::node::{NODES_GROUP, node_name};

const MIRROR: [&str; 3] = ["metadata", "annotations", "kubernetes.io/config.mirror"];
/// Labels by which operators keep workloads off nodes that they do not trust: no node sets them.
const RESTRICTED_LABELS: &str = "node-restriction.kubernetes.io";
/// The labels of Kubernetes' own domains that a node may set on itself.
const ALLOWED_LABELS: [&str; 12] = [
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "node.kubernetes.io/instance-type",
    "failure-domain.beta.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "topology.kubernetes.io/region",
    "node.kubernetes.io/windows-build",
];
/// Domains whose labels a node may set on itself.
const ALLOWED_DOMAINS: [&str; 2] = ["kubelet.kubernetes.io", "node.kubernetes.io"];

/// The plugin.
pub struct NodeRestriction;

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.caller.is_in(NODES_GROUP)
            && matches!(request.verb, Verb::Create | Verb::Update | Verb::Delete)
            && matches!(
                (request.info.group.as_str(), request.info.plural.as_str()),
                ("", "pods" | "nodes" | "serviceaccounts") | ("coordination.k8s.io", "leases")
            )
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(node) = node_name(request.caller) else {
            return Err(request.forbidden(format!("could not determine node from user {:?}", request.caller.name)));
        };
        let verdict = match (request.info.plural.as_str(), request.target.subresource.as_str(), request.verb) {
            ("pods", "", Verb::Create) => self.mirror_pod(node, request),
            ("pods", "", Verb::Delete) => own_pod(node, request.old),
            ("pods", "status", Verb::Update) => pod_status(node, request),
            ("pods", "eviction", _) => own_pod(node, request.old),
            ("pods", sub, verb) => Err(format!("unexpected operation {:?} on pods/{sub}", verb.as_str())),
            ("nodes", _, verb) => own_node(node, request, verb),
            ("serviceaccounts", "token", Verb::Create) => token(node, request),
            ("leases", _, _) => own_lease(node, request),
            _ => Ok(()),
        };
        verdict.map_err(|why| request.forbidden(why))
    }
}

type Verdict = Result<(), String>;

impl NodeRestriction {
    fn mirror_pod(&self, node: &str, request: &AdmissionRequest<'_>) -> Verdict {
        let Some(pod) = request.object() else { return Ok(()) };
        if pod.at(&MIRROR).is_none() {
            return Err(format!(
                "pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"
            ));
        }
        if pod.str_at(&["spec", "nodeName"]) != node {
            return Err(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
        }
        mirror_owner(node, request, pod)?;
        match forbidden_reference(pod) {
            Some(what) => Err(format!("node {node:?} can not create pods that reference {what}")),
            None => Ok(()),
        }
    }
}

/// A mirror pod has no owner, or the node itself.
fn mirror_owner(node: &str, request: &AdmissionRequest<'_>, pod: &Doc) -> Verdict {
    let owners = pod.at(&["metadata", "ownerReferences"]).map_or(&[][..], Doc::items);
    let owner = match owners {
        [] => return Ok(()),
        [owner] => owner,
        _ => return Err(format!("node {node:?} can only create pods with a single owner reference set to itself")),
    };
    let flag = |name| owner.get(name).and_then(Doc::as_bool).unwrap_or(false);
    let uid = request.cluster.get("", "v1", "nodes", &ObjectKey::new("", node)).map(|found| found.meta.uid.to_string());
    let is_itself = owner.str_at(&["apiVersion"]) == "v1"
        && owner.str_at(&["kind"]) == "Node"
        && owner.str_at(&["name"]) == node
        && flag("controller")
        && !flag("blockOwnerDeletion")
        && uid.as_deref() == Some(owner.str_at(&["uid"]));
    if is_itself {
        Ok(())
    } else {
        Err(format!("node {node:?} can only create pods with an owner reference set to itself"))
    }
}

/// What of the cluster a pod uses, if it uses anything.
fn forbidden_reference(pod: &Doc) -> Option<&'static str> {
    let list = |path: &[&str]| pod.at(path).map_or(&[][..], Doc::items).iter();
    if !pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        return Some("a service account");
    }
    if list(&["spec", "imagePullSecrets"]).next().is_some() {
        return Some("secrets");
    }
    if list(&["spec", "resourceClaims"]).next().is_some() {
        return Some("resourceclaims");
    }
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    let from_environment = containers.iter().flat_map(|field| list(&["spec", field])).find_map(container_reference);
    from_environment.or_else(|| list(&["spec", "volumes"]).find_map(volume_reference))
}

fn container_reference(container: &Doc) -> Option<&'static str> {
    let list = |field| container.get(field).map_or(&[][..], Doc::items).iter();
    let sources = list("envFrom").chain(list("env").filter_map(|env| env.get("valueFrom")));
    sources.into_iter().find_map(|source| {
        let has =
            |fields: [&str; 2]| fields.iter().any(|field| source.get(field).is_some_and(|value| !value.is_null()));
        match () {
            () if has(["secretRef", "secretKeyRef"]) => Some("secrets"),
            () if has(["configMapRef", "configMapKeyRef"]) => Some("configmaps"),
            () => None,
        }
    })
}

fn volume_reference(volume: &Doc) -> Option<&'static str> {
    let has = |doc: &Doc, field: &str| doc.get(field).is_some_and(|value| !value.is_null());
    let sources = volume.at(&["projected", "sources"]).map_or(&[][..], Doc::items).iter();
    std::iter::once(volume).chain(sources).find_map(|source| match () {
        () if has(source, "secret") => Some("secrets"),
        () if has(source, "configMap") => Some("configmaps"),
        () if has(source, "serviceAccountToken") => Some("service account tokens"),
        () if has(source, "clusterTrustBundle") => Some("clustertrustbundles"),
        () if has(source, "podCertificate") => Some("pod certificates"),
        () if has(source, "persistentVolumeClaim") || has(source, "ephemeral") => Some("persistentvolumeclaims"),
        () if secret_of_a_driver(source) => Some("secrets"),
        () => None,
    })
}

/// Volume drivers that are told a secret by reference.
fn secret_of_a_driver(volume: &Doc) -> bool {
    let fields = volume.as_object().into_iter().flat_map(|fields| fields.iter());
    let names_secret = |source: &Doc| {
        ["secretRef", "nodePublishSecretRef", "secretName"].iter().any(|name| source.get(name).is_some())
    };
    fields.filter(|(name, _)| !matches!(*name, "secret" | "name" | "projected")).any(|(_, source)| names_secret(source))
}

fn own_pod(node: &str, pod: Option<&Doc>) -> Verdict {
    match pod.map(|pod| pod.str_at(&["spec", "nodeName"])) {
        Some(on) if on == node => Ok(()),
        _ => Err(format!("node {node:?} can only act on pods with spec.nodeName set to itself")),
    }
}

fn pod_status(node: &str, request: &AdmissionRequest<'_>) -> Verdict {
    own_pod(node, request.old)?;
    let labels = |doc: Option<&Doc>| doc.and_then(|doc| doc.at(&["metadata", "labels"])).cloned().unwrap_or_default();
    if labels(request.old) != labels(request.object()) {
        return Err(format!("node {node:?} cannot update labels through pod status"));
    }
    let claims = |doc: Option<&Doc>| doc.and_then(|doc| doc.at(&["status", "resourceClaimStatuses"])).cloned();
    if claims(request.old) != claims(request.object()) {
        return Err(format!("node {node:?} cannot update resource claim statuses"));
    }
    Ok(())
}

fn own_node(node: &str, request: &AdmissionRequest<'_>, verb: Verb) -> Verdict {
    let name = request.target.name.as_str();
    if name != node {
        return Err(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let Some(new) = request.object() else { return Ok(()) };
    if new.at(&["spec", "configSource"]).is_some_and(|source| !source.is_null()) {
        return Err(format!("node {node:?} is not allowed to set its configSource"));
    }
    let forbidden = changed_labels(new, request.old).into_iter().filter(|label| !may_label(label));
    let forbidden: Vec<&str> = forbidden.collect();
    if !forbidden.is_empty() {
        return Err(format!("node {node:?} is not allowed to modify labels: {}", forbidden.join(", ")));
    }
    if verb != Verb::Update {
        return Ok(());
    }
    for (what, path) in [("taints", ["spec", "taints"]), ("ownerReferences", ["metadata", "ownerReferences"])] {
        if new.at(&path) != request.old.and_then(|old| old.at(&path)) {
            return Err(format!("node {node:?} is not allowed to modify {what}"));
        }
    }
    Ok(())
}

/// The labels that are not the same in both.
fn changed_labels<'a>(new: &'a Doc, old: Option<&'a Doc>) -> Vec<&'a str> {
    let labels = |doc: Option<&'a Doc>| doc.and_then(|doc| doc.at(&["metadata", "labels"])).and_then(Doc::as_object);
    let (new, old) = (labels(Some(new)), labels(old));
    let value = |map: Option<&'a Map>, key: &str| map.and_then(|map| map.get(key));
    let mut keys: Vec<&str> = new.into_iter().chain(old).flat_map(Map::keys).collect();
    keys.sort_unstable();
    keys.dedup();
    keys.into_iter().filter(|key| value(new, key) != value(old, key)).collect()
}

fn may_label(key: &str) -> bool {
    let Some((domain, _)) = key.split_once('/') else { return true };
    let within = |of: &str| domain == of || domain.strip_suffix(of).is_some_and(|head| head.ends_with('.'));
    if within(RESTRICTED_LABELS) {
        return false;
    }
    let is_ours = within("kubernetes.io") || within("k8s.io");
    !is_ours || ALLOWED_LABELS.contains(&key) || ALLOWED_DOMAINS.iter().any(|allowed| within(allowed))
}

/// A node asks for tokens of its own pods only, bound to them.
fn token(node: &str, request: &AdmissionRequest<'_>) -> Verdict {
    let Some(bound) = request.object().and_then(|body| body.at(&["spec", "boundObjectRef"])) else {
        return Err("node requested token not bound to a pod".into());
    };
    if bound.str_at(&["apiVersion"]) != "v1" || bound.str_at(&["kind"]) != "Pod" || bound.str_at(&["name"]).is_empty() {
        return Err("node requested token not bound to a pod".into());
    }
    if bound.str_at(&["uid"]).is_empty() {
        return Err("node requested token with a pod binding without a uid".into());
    }
    let key = ObjectKey::new(request.target.namespace.clone(), bound.str_at(&["name"]));
    match request.cluster.get("", "v1", "pods", &key) {
        Some(pod) if pod.meta.node_name != node => {
            Err("node requested token bound to a pod scheduled on a different node".into())
        }
        Some(pod) if *pod.meta.uid == *bound.str_at(&["uid"]) => Ok(()),
        _ => Err("the UID in the bound object reference does not match the UID in record".into()),
    }
}

fn own_lease(node: &str, request: &AdmissionRequest<'_>) -> Verdict {
    if request.target.namespace != "kube-node-lease" {
        return Err("can only access leases in the \"kube-node-lease\" namespace".into());
    }
    if request.target.name != node {
        return Err("can only access node lease with the same name as the requesting node".into());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nodes_label_themselves_within_bounds() {
        let cases = [
            ("app", true),
            ("example.com/x", true),
            ("kubernetes.io/hostname", true),
            ("node.kubernetes.io/any", true),
            ("kubelet.kubernetes.io/any", true),
            ("x.node.kubernetes.io/any", true),
            ("node-restriction.kubernetes.io/x", false),
            ("a.node-restriction.kubernetes.io/x", false),
            ("node-role.kubernetes.io/control-plane", false),
            ("kubernetes.io/other", false),
            ("x.k8s.io/y", false),
            ("notk8s.io/y", true),
        ];
        for (label, expected) in cases {
            assert_eq!(may_label(label), expected, "{label}");
        }
    }
}
