//! The ledger's decisions as a running controller.

use std::sync::Arc;

use ipnet::IpNet;
use k8s_core::{
    api::api::core::v1::Node,
    doc::Doc,
    object::{Object, ObjectKey},
    request::PatchKind,
    resource::Stored,
    status::ApiError,
};
use k8s_reconcile::{Controller, Cx, InformerScope, Next, Reconciler, event::EventType};
use parking_lot::Mutex;
use serde_json::json;

use super::ledger::{Decision, Ledger};

/// The node IPAM controller with this ledger, ready to start.
pub fn controller(ledger: Ledger) -> Controller<NodeIpam> {
    let ledger = Arc::new(Mutex::new(ledger));
    let seen = ledger.clone();
    // Every Node is noted before any is given something: workers wait until all of them were seen.
    Controller::new("node-ipam-controller", NodeIpam { ledger }).watches::<Node>(
        InformerScope::all(),
        move |delta, nodes| {
            let name = &delta.object().meta.name;
            if let Some(node) = &delta.new {
                seen.lock().saw(name, &nets_of(node));
                return Vec::new();
            }
            seen.lock().gone(name);
            // What it had may be what another waits for.
            nodes.list().iter().filter(|node| nets_of(node).is_empty()).map(|node| node.meta.key()).collect()
        },
    )
}

/// Its reconciler.
pub struct NodeIpam {
    ledger: Arc<Mutex<Ledger>>,
}

impl Reconciler for NodeIpam {
    type Object = Node;
    type Error = ApiError;

    async fn reconcile(&self, node: Stored<Node>, cx: Cx) -> Result<Next, ApiError> {
        let decision = self.ledger.lock().decide(node.name(), &nets_of(node.object()));
        match decision {
            Decision::Keep => Ok(Next::Done),
            Decision::Assign(nets) => assign(&node, &nets, &cx).await,
            Decision::Full(range) => {
                let message = format!("Node {} status is now: CIDRNotAvailable", node.name());
                cx.event(node.object(), EventType::Normal, "CIDRNotAvailable", message).await;
                Err(ApiError::unavailable(format!("no block of {range} is free for node {}", node.name())))
            }
            Decision::Clash { net, with } => {
                let message = format!("pod CIDR {net} overlaps that of node {with}, which had it before");
                cx.event(node.object(), EventType::Warning, "CIDRConflict", message).await;
                Ok(Next::Done)
            }
        }
    }

    async fn gone(&self, _: ObjectKey, _: Cx) -> Result<Next, ApiError> {
        Ok(Next::Done)
    }
}

/// Writes the networks, if this is still the same Node and it has none: a network is never changed.
async fn assign(node: &Stored<Node>, nets: &[IpNet], cx: &Cx) -> Result<Next, ApiError> {
    let nets: Vec<String> = nets.iter().map(ToString::to_string).collect();
    let patch = json!({"metadata": {"uid": node.uid()}, "spec": {"podCIDR": nets.first(), "podCIDRs": nets}});
    let patch = Doc::from_serialize(&patch).map_err(ApiError::internal)?;
    match cx.patch::<Node>(node.object(), PatchKind::Merge, patch).await {
        Err(error) if error.is_not_found() => Ok(Next::Done),
        outcome => outcome.map(|_| Next::Done),
    }
}

/// The networks that a Node has.
fn nets_of(node: &Arc<Object>) -> Vec<IpNet> {
    let all = node.part::<Vec<String>>(&["spec", "podCIDRs"]).unwrap_or_default();
    let all = if all.is_empty() { node.part::<String>(&["spec", "podCIDR"]).into_iter().collect() } else { all };
    all.iter().filter_map(|text| text.parse::<IpNet>().ok()).map(|net| net.trunc()).collect()
}
