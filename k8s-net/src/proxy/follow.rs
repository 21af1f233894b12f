//! The shell of the service proxy: informers in, [`Proxy::sync`] out. Decides nothing.

use std::{collections::BTreeMap, net::IpAddr, sync::Arc, time::Duration};

use k8s_core::{
    api::api::{
        core::v1::{Node, Service},
        discovery::v1::EndpointSlice,
    },
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

use super::Proxy;

/// How failed attempts are spaced.
const BACK_OFF: BackOff = BackOff { base: Duration::from_millis(500), max: Duration::from_secs(30) };

/// How often everything is replaced although nothing changed, in case somebody else removed it.
pub const RESYNC: Duration = Duration::from_secs(3_600);

/// Keeps `proxy` true to the cluster that `client` sees, for as long as the future is polled.
///
/// The first rules wait until Services and EndpointSlices are known completely, so that a restart cuts no traffic.
/// Changes that come while rules are being applied are applied together afterwards; there is no other delay. What
/// fails is reported and tried again with back-off. Every `resync` ([`RESYNC`]) everything is replaced.
///
/// If the proxy's [`NodeView`](super::NodeView) has no addresses, the `InternalIP`s of the Node of its name are used.
///
/// Cancel-safe: dropping the future leaves the rules in force.
pub async fn follow(client: &Client, proxy: &mut Proxy, resync: Duration) {
    let changes = Arc::new(Changes::default());
    let services = client.informer::<Service>(InformerScope::all());
    let slices = client.informer::<EndpointSlice>(InformerScope::all());
    let node_name = proxy.node_mut().name.clone();
    let node = (proxy.node_mut().addresses.is_empty() && !node_name.is_empty())
        .then(|| client.informer::<Node>(InformerScope::field("metadata.name", &node_name)));

    let _services = services.subscribe(Changes::handler(&changes, Kind::Service));
    let _slices = slices.subscribe(Changes::handler(&changes, Kind::Slice));
    let _node = node.as_ref().map(|node| node.subscribe(Changes::handler(&changes, Kind::Node)));
    services.synced().await;
    slices.synced().await;
    if let Some(node) = &node {
        node.synced().await;
    }

    let env = client.env();
    let mut known = Known::default();
    let mut failures = 0;
    loop {
        known.learn(changes.take(), proxy);
        let synced = proxy.sync(known.services.values().map(|s| &**s), known.slices.values().map(|s| &**s)).await;
        let pause = match synced {
            Ok(applied) => {
                tracing::debug!(?applied, "service rules are in force");
                failures = 0;
                resync
            }
            Err(error) => {
                tracing::warn!(%error, "service rules are not in force");
                failures += 1;
                env.jitter(BACK_OFF.wait(failures - 1), 0.5)
            }
        };
        let timer = env.sleep(pause);
        tokio::select! {
            biased;
            // A failure waits its time out, however much changes meanwhile.
            () = changes.some(), if failures == 0 => {}
            () = timer => proxy.forget(),
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
    fn learn(&mut self, latest: Latest, proxy: &mut Proxy) {
        for ((kind, key), object) in latest {
            match kind {
                Kind::Service => put(&mut self.services, key, object),
                Kind::Slice => put(&mut self.slices, key, object),
                Kind::Node => {
                    if let Some(node) = object.and_then(typed::<Node>) {
                        proxy.node_mut().addresses = internal_addresses(&node);
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

fn internal_addresses(node: &Node) -> Vec<IpAddr> {
    let addresses = node.status.as_ref().and_then(|status| status.addresses.as_deref()).unwrap_or_default();
    let internal = addresses.iter().filter(|address| address.type_ == "InternalIP");
    internal.filter_map(|address| address.address.parse().ok()).collect()
}
