//! The node authorizer: a node sees what its own pods need, and nothing else.
//!
//! Follows upstream's node authorizer with selector checks: secrets, config maps, claims and service account tokens
//! only where a pod bound to the node uses them; its own Node and Lease; pods on itself.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use async_trait::async_trait;
use k8s_core::{
    api::api::core::v1::{Pod, PodSpec, Volume},
    object::{Object, ObjectKey},
    request::{Caller, Target},
};
use parking_lot::RwLock;

use super::{Attributes, Authorizer, Decision, Follower};

/// The group that every node's identity is in.
pub const NODES_GROUP: &str = "system:nodes";
const USER_PREFIX: &str = "system:node:";

/// The node's name, if the caller is a node.
pub fn node_name(caller: &Caller) -> Option<&str> {
    let name = caller.name.strip_prefix(USER_PREFIX).filter(|name| !name.is_empty())?;
    caller.is_in(NODES_GROUP).then_some(name)
}

/// The node authorizer. It must be told of every pod (see [`Follower`]).
#[derive(Default)]
pub struct NodeAuthorizer {
    graph: RwLock<Graph>,
}

#[derive(Default)]
struct Graph {
    /// Node to what its pods use, each with the pods that use it.
    uses: BTreeMap<String, BTreeMap<Used, BTreeSet<ObjectKey>>>,
    /// Pod to its node and what it uses, so that a change can take the old edges out.
    pods: BTreeMap<ObjectKey, (String, BTreeSet<Used>)>,
}

/// Plural and key of something that a pod uses.
type Used = (&'static str, ObjectKey);

impl Graph {
    fn set(&mut self, pod: &ObjectKey, new: Option<(String, BTreeSet<Used>)>) {
        if let Some((node, used)) = self.pods.remove(pod) {
            self.unlink(pod, &node, &used);
        }
        let Some((node, used)) = new else { return };
        let of_node = self.uses.entry(node.clone()).or_default();
        for thing in &used {
            of_node.entry(thing.clone()).or_default().insert(pod.clone());
        }
        self.pods.insert(pod.clone(), (node, used));
    }

    fn unlink(&mut self, pod: &ObjectKey, node: &str, used: &BTreeSet<Used>) {
        let Some(of_node) = self.uses.get_mut(node) else { return };
        for thing in used {
            if let Some(pods) = of_node.get_mut(thing) {
                pods.remove(pod);
                if pods.is_empty() {
                    of_node.remove(thing);
                }
            }
        }
        if of_node.is_empty() {
            self.uses.remove(node);
        }
    }

    fn is_used(&self, node: &str, plural: &'static str, key: ObjectKey) -> bool {
        self.uses.get(node).is_some_and(|used| used.contains_key(&(plural, key)))
    }

    fn is_on(&self, node: &str, pod: &ObjectKey) -> bool {
        self.pods.get(pod).is_some_and(|(on, _)| on == node)
    }
}

impl Follower for NodeAuthorizer {
    fn follows(&self, group: &str, plural: &str) -> bool {
        group.is_empty() && plural == "pods"
    }

    fn changed(&self, _group: &str, _plural: &str, key: &ObjectKey, new: Option<&Arc<Object>>) {
        let bound = new.filter(|object| !object.meta.node_name.is_empty());
        let edges = bound.and_then(|object| object.typed::<Pod>().ok()).map(|pod| {
            let spec = pod.spec.clone().unwrap_or_default();
            (spec.node_name.clone().unwrap_or_default(), used_by(&key.namespace, &spec))
        });
        self.graph.write().set(key, edges);
    }
}

/// What a pod uses: through volumes, environment, image pulls and its identity.
fn used_by(namespace: &str, spec: &PodSpec) -> BTreeSet<Used> {
    let mut used = BTreeSet::new();
    let mut add = |plural: &'static str, name: Option<&str>| {
        if let Some(name) = name.filter(|name| !name.is_empty()) {
            used.insert((plural, ObjectKey::new(namespace, name)));
        }
    };
    add("serviceaccounts", spec.service_account_name.as_deref());
    for secret in spec.image_pull_secrets.iter().flatten() {
        add("secrets", Some(secret.name.as_str()));
    }
    let regular = spec.containers.iter().chain(spec.init_containers.iter().flatten());
    for container in regular {
        for from in container.env_from.iter().flatten() {
            add("configmaps", from.config_map_ref.as_ref().map(|r| r.name.as_str()));
            add("secrets", from.secret_ref.as_ref().map(|r| r.name.as_str()));
        }
        for value in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
            add("configmaps", value.config_map_key_ref.as_ref().map(|r| r.name.as_str()));
            add("secrets", value.secret_key_ref.as_ref().map(|r| r.name.as_str()));
        }
    }
    for volume in spec.volumes.iter().flatten() {
        volume_uses(volume, &mut add);
    }
    used
}

fn volume_uses(volume: &Volume, add: &mut impl FnMut(&'static str, Option<&str>)) {
    add("configmaps", volume.config_map.as_ref().map(|source| source.name.as_str()));
    add("secrets", volume.secret.as_ref().and_then(|source| source.secret_name.as_deref()));
    add("persistentvolumeclaims", volume.persistent_volume_claim.as_ref().map(|source| source.claim_name.as_str()));
    for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
        add("configmaps", source.config_map.as_ref().map(|source| source.name.as_str()));
        add("secrets", source.secret.as_ref().map(|source| source.name.as_str()));
    }
}

#[async_trait]
impl Authorizer for NodeAuthorizer {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let (Some(node), Some(target)) = (node_name(attributes.caller), attributes.target()) else {
            return Decision::NoOpinion(String::new());
        };
        match self.decide(node, attributes, target) {
            Ok(true) => Decision::Allow,
            Ok(false) => Decision::NoOpinion(String::new()),
            Err(why) => Decision::NoOpinion(why.into()),
        }
    }
}

impl NodeAuthorizer {
    fn decide(&self, node: &str, attributes: &Attributes<'_>, target: &Target) -> Result<bool, &'static str> {
        let (verb, resource) = (attributes.verb, &target.resource);
        match (resource.group.as_str(), resource.plural.as_str(), target.subresource.as_str()) {
            ("", "secrets", "") => self.related(node, "secrets", attributes, target),
            ("", "configmaps", "") => self.related(node, "configmaps", attributes, target),
            ("", "persistentvolumeclaims", "") => self.related(node, "persistentvolumeclaims", attributes, target),
            ("", "serviceaccounts", "") => self.related(node, "serviceaccounts", attributes, target),
            ("", "serviceaccounts", "token") if verb == "create" => self.used(node, "serviceaccounts", target),
            ("", "pods", "") => self.pods(node, attributes, target),
            ("", "pods", "status") => self.own_pod(node, verb, &["get", "update", "patch"], target),
            ("", "pods", "eviction") => self.own_pod(node, verb, &["create"], target),
            ("", "nodes", "" | "status") => own_node(node, attributes, target),
            ("coordination.k8s.io", "leases", "") => own_lease(node, verb, target),
            _ => Ok(shared_rules(verb, target)),
        }
    }

    /// Reads of one object that a pod on the node uses; lists and watches only of that one object.
    fn related(
        &self,
        node: &str,
        plural: &'static str,
        attributes: &Attributes<'_>,
        target: &Target,
    ) -> Result<bool, &'static str> {
        if !matches!(attributes.verb, "get" | "list" | "watch") {
            return Err("a node may only read this");
        }
        let named = attributes.fields.and_then(|fields| fields.pinned("metadata.name")).unwrap_or(&target.name);
        if named.is_empty() {
            return Err("a node may only read single objects that its pods use");
        }
        self.used(node, plural, &Target { name: named.into(), ..target.clone() })
    }

    fn used(&self, node: &str, plural: &'static str, target: &Target) -> Result<bool, &'static str> {
        let key = ObjectKey::new(target.namespace.clone(), target.name.clone());
        let is_used = self.graph.read().is_used(node, plural, key);
        if is_used { Ok(true) } else { Err("no relationship found between the node and this object") }
    }

    fn pods(&self, node: &str, attributes: &Attributes<'_>, target: &Target) -> Result<bool, &'static str> {
        match attributes.verb {
            "list" | "watch" => {
                let on = attributes.fields.and_then(|fields| fields.pinned("spec.nodeName"));
                if on == Some(node) { Ok(true) } else { Err("a node may only list pods with spec.nodeName of itself") }
            }
            // Mirror pods: the node restriction admission checks their content.
            "create" => Ok(true),
            verb => self.own_pod(node, verb, &["get", "delete"], target),
        }
    }

    fn own_pod(&self, node: &str, verb: &str, verbs: &[&str], target: &Target) -> Result<bool, &'static str> {
        let key = ObjectKey::new(target.namespace.clone(), target.name.clone());
        let is_own = verbs.contains(&verb) && self.graph.read().is_on(node, &key);
        if is_own { Ok(true) } else { Err("the pod is not on this node") }
    }
}

fn own_node(node: &str, attributes: &Attributes<'_>, target: &Target) -> Result<bool, &'static str> {
    let named = attributes.fields.and_then(|fields| fields.pinned("metadata.name")).unwrap_or(&target.name);
    match attributes.verb {
        "create" if target.subresource.is_empty() => Ok(true),
        "get" | "list" | "watch" | "update" | "patch" if named == node => Ok(true),
        _ => Err("a node may only see and change itself"),
    }
}

fn own_lease(node: &str, verb: &str, target: &Target) -> Result<bool, &'static str> {
    if target.namespace != "kube-node-lease" {
        return Err("a node's lease lives in kube-node-lease");
    }
    match verb {
        "create" => Ok(true),
        "get" | "update" | "patch" | "delete" if target.name == node => Ok(true),
        _ => Err("a node may only touch its own lease"),
    }
}

/// What every node may do, whatever runs on it.
fn shared_rules(verb: &str, target: &Target) -> bool {
    let read = matches!(verb, "get" | "list" | "watch");
    match (target.resource.group.as_str(), target.resource.plural.as_str(), target.subresource.as_str()) {
        ("", "services", "") => read,
        ("node.k8s.io", "runtimeclasses", "") | ("storage.k8s.io", "csidrivers", "") => read,
        ("" | "events.k8s.io", "events", "") => matches!(verb, "create" | "update" | "patch"),
        ("authentication.k8s.io", "tokenreviews", "") => verb == "create",
        ("authorization.k8s.io", "subjectaccessreviews" | "localsubjectaccessreviews", "") => verb == "create",
        _ => false,
    }
}

#[cfg(test)]
mod tests;
