//! The node lifecycle plan as a running controller.
//!
//! Heartbeats wake nobody: they are noted when they arrive, and a node is looked at when its grace would end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_core::{
    api::{
        api::{
            coordination::v1::Lease,
            core::v1::{Node, NodeCondition, Pod},
        },
        apimachinery::pkg::apis::meta::v1::{MicroTime, Time},
    },
    doc::Text,
    env::{Env, Timestamp},
    object::{Object, ObjectKey},
    resource::Stored,
    selector::Labels,
    status::ApiError,
};
use k8s_reconcile::{
    Controller, Cx, InformerScope, Next, Reconciler,
    event::EventType,
    informer::{Delta, DynamicInformer},
};
use parking_lot::Mutex;

use super::{
    health::Health,
    plan::{Eviction, Graces, condition, condition_status, plan},
    taints::awaits_eviction,
    zones::{Change, Member, Zones},
};
use crate::pod_state::is_ready;

/// Where nodes renew their leases.
const LEASES: &str = "kube-node-lease";
const REGION: &str = "topology.kubernetes.io/region";
const ZONE: &str = "topology.kubernetes.io/zone";
/// Nodes with this label do not count when it is asked how much of a zone is down.
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

/// The node lifecycle controller, ready to start.
pub fn controller(env: Env, graces: Graces) -> Controller<NodeLifecycle> {
    let (leases, nodes) = (Arc::new(Shared::new(env)), InformerScope::all());
    let (zones, shared) = (leases.clone(), leases.clone());
    let scope = InformerScope { namespace: LEASES.into(), ..InformerScope::all() };
    Controller::new("node-controller", NodeLifecycle { shared, graces })
        .watches::<Lease>(scope, move |delta, _| leases.heard_lease(delta))
        .watches::<Node>(nodes, move |delta, nodes| zones.noted(delta, nodes))
        .watches::<Pod>(InformerScope::all(), |_, _| Vec::new())
        .workers(5)
}

/// What is remembered between reconciles. A restart forgets it: every node then counts as heard at the start.
struct Shared {
    env: Env,
    health: Mutex<BTreeMap<Text, Health>>,
    zones: Mutex<Zones>,
}

impl Shared {
    fn new(env: Env) -> Self {
        Self { env, health: Mutex::default(), zones: Mutex::default() }
    }

    fn heard_lease(&self, delta: &Delta) -> Vec<ObjectKey> {
        let Some(lease) = &delta.new else { return Vec::new() };
        let (now, name) = (self.env.monotonic(), lease.meta.name.clone());
        let renewed = lease.part::<MicroTime>(&["spec", "renewTime"]).map(|time| time.0);
        self.health.lock().entry(name).or_insert_with(|| Health::new(now)).saw_lease(renewed, now);
        Vec::new()
    }

    /// Counts the node in its zone; when that changes how fast nodes are handed over, all are looked at.
    fn noted(&self, delta: &Delta, nodes: &DynamicInformer) -> Vec<ObjectKey> {
        let member = delta.new.as_ref().and_then(member);
        let change = self.zones.lock().note(&delta.object().meta.name, member);
        if change == Change::Recovered {
            let now = self.env.monotonic();
            self.health.lock().values_mut().for_each(|health| health.heard = now);
        }
        if change == Change::None || delta.initial {
            return Vec::new();
        }
        nodes.list().iter().map(|node| node.meta.key()).collect()
    }

    /// How long the node has been silent. One that never had a Ready condition was last heard when it was made.
    fn silence(&self, node: &Stored<Node>, wall: Timestamp) -> Duration {
        let now = self.env.monotonic();
        let mut all = self.health.lock();
        let ready = condition(node, "Ready");
        let health = all.entry(node.name().into()).or_insert_with(|| match ready {
            Some(_) => Health::new(now),
            None => Health::new(now.saturating_sub(age(node, wall))),
        });
        health.saw_status(ready.and_then(|ready| ready.last_heartbeat_time.as_ref()).map(|time| time.0), now);
        now.saturating_sub(health.heard)
    }

    /// Whether the pods of a node are still to be told that it is not ready; from now on they count as told.
    fn owes_pods(&self, name: &str, is_ready: bool) -> bool {
        let mut all = self.health.lock();
        let Some(health) = all.get_mut(name) else { return false };
        let owes = !is_ready && !health.pods_told;
        health.pods_told = !is_ready;
        owes
    }

    fn still_owes_pods(&self, name: &str) {
        if let Some(health) = self.health.lock().get_mut(name) {
            health.pods_told = false;
        }
    }
}

fn age(node: &Stored<Node>, now: Timestamp) -> Duration {
    let created = node.object().meta.created.unwrap_or(now);
    Duration::from_secs(now.duration_since(created).as_secs().max(0) as u64)
}

fn member(node: &Arc<Object>) -> Option<Member> {
    if node.meta.label(EXCLUDED).is_some() {
        return None;
    }
    let label = |key: &str| node.meta.label(key).unwrap_or_default();
    let zone = match (label(REGION), label(ZONE)) {
        ("", "") => Text::default(),
        (region, zone) => format!("{region}/{zone}").into(),
    };
    let conditions = node.part::<Vec<NodeCondition>>(&["status", "conditions"]).unwrap_or_default();
    let ready = conditions.iter().any(|condition| condition.type_ == "Ready" && condition.status == "True");
    Some(Member { zone, ready })
}

/// Its reconciler.
pub struct NodeLifecycle {
    shared: Arc<Shared>,
    graces: Graces,
}

impl Reconciler for NodeLifecycle {
    type Object = Node;
    type Error = ApiError;

    async fn reconcile(&self, node: Stored<Node>, cx: Cx) -> Result<Next, ApiError> {
        let name = Text::from(node.name());
        let silent = self.shared.silence(&node, cx.now());
        let (eviction, turn) = self.turn(&node, &name);
        let plan = plan(&node, silent, self.graces, eviction, cx.now());
        if let Some(conditions) = plan.conditions {
            self.give_back(eviction, &node, &name);
            cx.set_status(&node, |node| node.status.get_or_insert_default().conditions = Some(conditions)).await?;
            // The change wakes this node again; its taints follow what the object says.
            return Ok(Next::Done);
        }
        if let Some(taints) = plan.taints {
            let mut draft = node.draft();
            draft.spec.get_or_insert_default().taints = Some(taints);
            if let Err(error) = cx.update(draft).await {
                self.give_back(eviction, &node, &name);
                return Err(error);
            }
        }
        self.tell_pods(&node, &cx).await?;
        Ok([plan.wake_after, turn].into_iter().flatten().min().map_or(Next::Done, Next::After))
    }

    async fn gone(&self, key: ObjectKey, _: Cx) -> Result<Next, ApiError> {
        self.shared.health.lock().remove(&key.name);
        Ok(Next::Done)
    }
}

impl NodeLifecycle {
    /// Whether the node's pods may be handed over, and how long to wait if not.
    fn turn(&self, node: &Node, name: &Text) -> (Eviction, Option<Duration>) {
        let mut zones = self.shared.zones.lock();
        match (zones.all_down(), awaits_eviction(node)) {
            (true, _) => (Eviction::Suspended, None),
            (false, true) => zones.take_turn(name, self.shared.env.monotonic()),
            (false, false) => (Eviction::Granted, None),
        }
    }

    fn give_back(&self, eviction: Eviction, node: &Node, name: &Text) {
        if eviction == Eviction::Granted && awaits_eviction(node) {
            self.shared.zones.lock().give_back(name, self.shared.env.monotonic());
        }
    }

    /// Nobody vouches for the pods of a node that is not ready: they are taken out of service.
    async fn tell_pods(&self, node: &Stored<Node>, cx: &Cx) -> Result<(), ApiError> {
        let is_up = matches!(condition_status(node, "Ready"), "True" | "");
        if !self.shared.owes_pods(node.name(), is_up) {
            return Ok(());
        }
        let message = format!("Node {} status is now: NodeNotReady", node.name());
        cx.event(node.object(), EventType::Normal, "NodeNotReady", message).await;
        for pod in cx.cached::<Pod>()?.on_node(node.name()).iter().filter(|pod| is_ready(pod)) {
            match tell_pod(cx, pod).await {
                Err(error) if !error.is_not_found() => {
                    self.shared.still_owes_pods(node.name());
                    return Err(error);
                }
                _ => cx.event(pod.object(), EventType::Warning, "NodeNotReady", "Node is not ready").await,
            }
        }
        Ok(())
    }
}

async fn tell_pod(cx: &Cx, pod: &Stored<Pod>) -> Result<bool, ApiError> {
    let now = cx.now();
    cx.set_status(pod, |pod| {
        let conditions = pod.status.iter_mut().flat_map(|status| status.conditions.iter_mut().flatten());
        for condition in conditions.filter(|condition| condition.type_ == "Ready") {
            condition.status = "False".to_owned();
            condition.reason = Some("NodeNotReady".to_owned());
            condition.last_transition_time = Some(Time(now));
        }
    })
    .await
}
