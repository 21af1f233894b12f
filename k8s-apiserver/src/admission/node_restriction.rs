//! A node changes only itself, its lease and the pods bound to it, and gives itself no rights by labels.
//!
//! Follows upstream's NodeRestriction. What a node may read is the node authorizer's business.

use async_trait::async_trait;
use k8s_core::{
    doc::Doc,
    request::Verb,
    status::{ApiError, ApiResult},
};

use super::{Admission, AdmissionRequest};
use crate::auth::node::node_name;

/// Labels below this prefix are the administrator's.
const RESTRICTED_PREFIX: &str = "node-restriction.kubernetes.io/";

/// The plugin.
pub struct NodeRestriction;

#[async_trait]
impl Admission for NodeRestriction {
    fn name(&self) -> &'static str {
        "NodeRestriction"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>, doc: Option<&Doc>) -> ApiResult<()> {
        let Some(node) = node_name(request.caller) else { return Ok(()) };
        let info = request.info;
        let refused = match (info.group.as_str(), info.plural.as_str()) {
            ("", "pods") => pods(node, request, doc),
            ("", "nodes") => nodes(node, request, doc),
            ("coordination.k8s.io", "leases") => leases(node, request, doc),
            ("", "serviceaccounts") if request.target.subresource == "token" => token(node, request, doc),
            _ => None,
        };
        match refused {
            Some(why) => Err(ApiError::forbidden(&info.plural, &info.group, &request.target.name, why)),
            None => Ok(()),
        }
    }
}

fn pods(node: &str, request: &AdmissionRequest<'_>, doc: Option<&Doc>) -> Option<String> {
    if let Some(old) = request.old
        && old.meta.node_name != node
    {
        return Some(format!("node {node:?} can only change pods with spec.nodeName set to itself"));
    }
    let doc = doc.filter(|_| request.verb == Verb::Create && request.target.subresource.is_empty())?;
    let is_mirror = doc.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some();
    if !is_mirror {
        return Some(format!("pod does not have \"kubernetes.io/config.mirror\" annotation, node {node:?} can only create mirror pods"));
    }
    if doc.str_at(&["spec", "nodeName"]) != node {
        return Some(format!("node {node:?} can only create pods with spec.nodeName set to itself"));
    }
    if !doc.str_at(&["spec", "serviceAccountName"]).is_empty() {
        return Some(format!("node {node:?} can not create pods that reference a service account"));
    }
    let volumes = doc.at(&["spec", "volumes"]).map(Doc::items).unwrap_or_default();
    let claims = ["secret", "configMap", "persistentVolumeClaim", "projected"];
    let claimed = volumes.iter().any(|volume| claims.iter().any(|kind| volume.get(kind).is_some()));
    claimed.then(|| format!("node {node:?} can not create pods that reference secrets, configmaps or persistentvolumeclaims"))
}

fn nodes(node: &str, request: &AdmissionRequest<'_>, doc: Option<&Doc>) -> Option<String> {
    let doc = doc?;
    let name = doc.str_at(&["metadata", "name"]);
    if name != node {
        return Some(format!("node {node:?} is not allowed to modify node {name:?}"));
    }
    let restricted = |doc: &Doc| -> Vec<(String, Doc)> {
        let labels = doc.at(&["metadata", "labels"]).and_then(Doc::as_object);
        let all = labels.into_iter().flat_map(|labels| labels.iter());
        all.filter(|(key, _)| key.starts_with(RESTRICTED_PREFIX)).map(|(key, value)| (key.to_owned(), value.clone())).collect()
    };
    let before = request.old.and_then(|old| Doc::parse(old.stored_json()).ok());
    let old_labels = before.as_ref().map(restricted).unwrap_or_default();
    if restricted(doc) != old_labels {
        return Some(format!("node {node:?} is not allowed to set labels below {RESTRICTED_PREFIX}"));
    }
    let taints = |doc: Option<&Doc>| doc.and_then(|doc| doc.at(&["spec", "taints"])).cloned();
    let changes_taints = request.verb == Verb::Update && taints(Some(doc)) != taints(before.as_ref());
    changes_taints.then(|| format!("node {node:?} is not allowed to modify taints"))
}

fn leases(node: &str, request: &AdmissionRequest<'_>, doc: Option<&Doc>) -> Option<String> {
    let named = doc.map_or(request.target.name.as_str(), |doc| doc.str_at(&["metadata", "name"]));
    let is_own = request.target.namespace == "kube-node-lease" && named == node;
    (!is_own).then(|| format!("node {node:?} can only touch its own lease in kube-node-lease"))
}

/// A token only for a pod on the node, and bound to it.
fn token(node: &str, request: &AdmissionRequest<'_>, doc: Option<&Doc>) -> Option<String> {
    let bound = doc?.at(&["spec", "boundObjectRef"]);
    let pod = bound.filter(|bound| bound.str_at(&["kind"]) == "Pod");
    let Some(pod) = pod else { return Some("node requested token not bound to a pod".into()) };
    let (name, uid) = (pod.str_at(&["name"]), pod.str_at(&["uid"]));
    let found = request.reads.object("", "pods", &request.target.namespace, name);
    match found {
        Some(found) if found.meta.uid == uid && found.meta.node_name == node => None,
        _ => Some("node requested token bound to a pod scheduled on a different node".into()),
    }
}
