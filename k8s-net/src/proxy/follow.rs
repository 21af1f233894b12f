//! The shell of the service proxy: informers in, [`Proxy::sync`] out. Decides nothing.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_core::{
    api::api::{
        core::v1::{Node, Service},
        discovery::v1::EndpointSlice,
    },
    env::Env,
    object::{Object, ObjectKey},
    resource::{Resource, Stored},
};
use k8s_reconcile::{
    Client, InformerScope,
    informer::{Delta, Handler},
    queue::BackOff,
};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::{Applied, NodeView, Proxy, ProxyError, ProxyMetrics};

/// How failed attempts are spaced.
const BACK_OFF: BackOff = BackOff { base: Duration::from_millis(500), max: Duration::from_secs(30) };

/// How often to look whether somebody else has removed the rules.
const CHECK: Duration = Duration::from_secs(10);

/// The label of Nodes that names their zone.
const ZONE: &str = "topology.kubernetes.io/zone";

/// Keeps `proxy` true to the cluster that `client` sees, for as long as the future is polled.
///
/// The first rules wait until Services and EndpointSlices are known completely, so that a restart cuts no traffic.
/// Changes that come while rules are being applied are applied together afterwards; there is no other delay. What
/// fails is reported and tried again with back-off. What somebody else removed is back within ten seconds, as far as the
/// backend notices.
///
/// What the proxy's [`NodeView`](super::NodeView) leaves open at the start, addresses and zone, is taken from the Node
/// of its name: its `InternalIP`s and its zone label.
///
/// `metrics` are told of every attempt.
///
/// Cancel-safe: dropping the future leaves the rules in force.
pub async fn follow(client: &Client, proxy: &mut Proxy, metrics: &ProxyMetrics) {
    let changes = Arc::new(Changes::default());
    let services = client.informer::<Service>(InformerScope::all());
    let slices = client.informer::<EndpointSlice>(InformerScope::all());
    let given = proxy.node_mut().clone();
    let node = (given.addresses.is_empty() || given.zone.is_none())
        .then(|| client.informer::<Node>(InformerScope::field("metadata.name", &given.name)));

    let _services = services.subscribe(Changes::handler(&changes, Kind::Service));
    let _slices = slices.subscribe(Changes::handler(&changes, Kind::Slice));
    let _node = node.as_ref().map(|node| node.subscribe(Changes::handler(&changes, Kind::Node)));
    services.synced().await;
    slices.synced().await;
    if let Some(node) = &node {
        node.synced().await;
    }

    let mut known = Known::default();
    let mut failures = 0;
    loop {
        known.learn(changes.take(), &given, proxy.node_mut());
        let (env, began) = (client.env(), client.env().monotonic());
        let outcome = known.sync(proxy).await;
        let took = env.monotonic().saturating_sub(began);
        match outcome {
            Ok(applied) => {
                metrics.synced(took, env.now());
                tracing::debug!(?applied, "service rules are in force");
                failures = 0;
                due(client.env(), &changes, proxy).await;
            }
            Err(error) => {
                tracing::warn!(%error, "service rules are not in force");
                metrics.failed(took, error.to_string());
                // However much changes meanwhile, this waits its time out.
                client.env().sleep(client.env().jitter(BACK_OFF.wait(failures), 0.5)).await;
                proxy.forget();
                failures += 1;
            }
        }
    }
}

/// Resolves when something changed, or the rules are not what they were.
async fn due(env: &Env, changes: &Changes, proxy: &mut Proxy) {
    loop {
        tokio::select! {
            biased;
            () = changes.some() => return,
            () = env.sleep(CHECK) => {}
        }
        // Not knowing is taken for no: the attempt to repair says what is wrong.
        if !proxy.intact().await.unwrap_or(false) {
            tracing::warn!("somebody else changed the service rules; replacing them");
            proxy.forget();
            return;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Node,
    Service,
    Slice,
}

/// The latest state of each object that changed. Bounded by the number of objects.
#[derive(Default)]
struct Changes {
    latest: Mutex<Latest>,
    arrived: Notify,
}

type Latest = BTreeMap<(Kind, ObjectKey), Option<Arc<Object>>>;

impl Changes {
    fn handler(changes: &Arc<Self>, kind: Kind) -> Handler {
        let changes = Arc::clone(changes);
        Arc::new(move |delta: &Delta| {
            changes.latest.lock().insert((kind, delta.object().meta.key()), delta.new.clone());
            changes.arrived.notify_one();
        })
    }

    /// Resolves when there is something to take.
    async fn some(&self) {
        while self.latest.lock().is_empty() {
            self.arrived.notified().await;
        }
    }

    fn take(&self) -> Latest {
        std::mem::take(&mut *self.latest.lock())
    }
}

/// What the rules are planned from.
#[derive(Default)]
struct Known {
    services: BTreeMap<ObjectKey, Stored<Service>>,
    slices: BTreeMap<ObjectKey, Stored<EndpointSlice>>,
}

impl Known {
    async fn sync(&self, proxy: &mut Proxy) -> Result<Applied, ProxyError> {
        proxy.sync(self.services.values().map(|s| &**s), self.slices.values().map(|s| &**s)).await
    }

    fn learn(&mut self, latest: Latest, given: &NodeView, view: &mut NodeView) {
        for ((kind, key), object) in latest {
            match kind {
                Kind::Service => put(&mut self.services, key, object),
                Kind::Slice => put(&mut self.slices, key, object),
                Kind::Node => {
                    if let Some(node) = object.and_then(typed::<Node>) {
                        *view = complete(given.clone(), &node);
                    }
                }
            }
        }
    }
}

fn put<K: Resource>(known: &mut BTreeMap<ObjectKey, Stored<K>>, key: ObjectKey, object: Option<Arc<Object>>) {
    match object {
        // What no longer decodes stays as it was: better yesterday's rules than none.
        Some(object) => drop(typed(object).map(|stored| known.insert(key, stored))),
        None => drop(known.remove(&key)),
    }
}

fn typed<K: Resource>(object: Arc<Object>) -> Option<Stored<K>> {
    let outcome = Stored::new(object);
    outcome.inspect_err(|error| tracing::error!(%error, kind = K::kind(), "passed over an object")).ok()
}

/// Fills in what `view` leaves open.
fn complete(mut view: NodeView, node: &Node) -> NodeView {
    if view.addresses.is_empty() {
        let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
        let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
        view.addresses = internal.filter_map(|address| address.address.parse().ok()).collect();
    }
    let labels = node.metadata.labels.as_ref();
    view.zone = view.zone.or_else(|| labels?.get(ZONE).cloned());
    view
}
