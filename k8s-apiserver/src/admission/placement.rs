//! What the node of a pod means for it: `PodTopologyLabels`, and `PodResizeValidator`.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_core::{
    doc::Doc,
    object::{Object, ObjectKey},
    quota::{amounts, pod_amounts},
    request::Verb,
    status::ApiResult,
};

use super::{Admission, AdmissionRequest};

/// The labels by which a node says where it is.
const TOPOLOGY: [&str; 2] = ["topology.kubernetes.io/zone", "topology.kubernetes.io/region"];

/// A pod carries the labels of where it runs, so that it can be told of them.
pub struct PodTopologyLabels;

fn node(request: &AdmissionRequest<'_>, name: &str) -> Option<Arc<Object>> {
    (!name.is_empty()).then(|| request.cluster.get("", "v1", "nodes", &ObjectKey::new("", name)))?
}

#[async_trait]
impl Admission for PodTopologyLabels {
    fn name(&self) -> &'static str {
        "PodTopologyLabels"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Create
            && request.is_below("", "pods")
            && matches!(request.target.subresource.as_str(), "" | "binding")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(object) = request.object() else { return Ok(()) };
        let is_binding = request.target.subresource == "binding";
        let name = match (is_binding, object.str_at(&["target", "kind"])) {
            (true, "" | "Node") => object.str_at(&["target", "name"]),
            (true, _) => "",
            (false, _) => object.str_at(&["spec", "nodeName"]),
        };
        let Some(node) = node(request, name) else { return Ok(()) };
        let found: Vec<_> =
            node.meta.labels.iter().filter(|(key, _)| TOPOLOGY.contains(&key.as_str())).cloned().collect();
        if !found.is_empty()
            && let Some(object) = request.edit()
        {
            for (key, value) in found {
                object.set_at(&["metadata", "labels", &key], value.into());
            }
        }
        Ok(())
    }
}

/// A pod does not ask its node for more than that has.
pub struct PodResizeValidator;

#[async_trait]
impl Admission for PodResizeValidator {
    fn name(&self) -> &'static str {
        "PodResizeValidator"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Update && request.is_below("", "pods") && request.target.subresource == "resize"
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(spec) = request.object().and_then(|pod| pod.get("spec")) else { return Ok(()) };
        let Some(node) = node(request, spec.str_at(&["nodeName"])) else { return Ok(()) };
        let Ok(node) = Doc::parse(node.stored_json()) else { return Ok(()) };
        let there = amounts(node.at(&["status", "allocatable"]));
        for (name, asked) in pod_amounts(spec, "requests") {
            if let Some(all) = there.get(&name).filter(|all| asked > **all) {
                let why = format!("the node has too little {name}: requested: {asked}, allocatable: {all}");
                return Err(request.forbidden(why));
            }
        }
        Ok(())
    }
}
