//! The API server's health: whether its store answers, and whether its cache follows the store.

use std::{sync::Arc, time::Duration};

use k8s_apiserver::{ApiServer, cache::Cache};
use k8s_core::env::{Env, timeout};
use k8s_store::{Revision, Store};
use k8s_wire::{health::Health, serve::CancellationToken};
use parking_lot::Mutex;

/// How often the store is asked.
const PERIOD: Duration = Duration::from_secs(1);
/// How long it may take to answer, as upstream has it.
const LIMIT: Duration = Duration::from_secs(2);

/// What was found last.
pub(super) struct Pulse(Mutex<Found>);

struct Found {
    store: Result<(), String>,
    cache: Result<(), String>,
}

impl Default for Pulse {
    /// A server that has started has just read its store.
    fn default() -> Self {
        Self(Mutex::new(Found { store: Ok(()), cache: Ok(()) }))
    }
}

/// Asks the store again and again. Never ends.
pub(super) async fn watch(pulse: Arc<Pulse>, env: Env, store: Arc<dyn Store>, cache: Arc<Cache>) {
    let mut before = 0;
    loop {
        env.sleep(PERIOD).await;
        let answered = match timeout(&*env, LIMIT, store.head()).await {
            Some(Ok(Revision(head))) => Ok(head),
            Some(Err(error)) => Err(error.to_string()),
            None => Err(format!("no answer within {LIMIT:?}")),
        };
        let mut found = pulse.0.lock();
        // What was committed a period ago must be in the cache by now.
        let behind = cache.revision() < before;
        let lag = || Err(format!("at revision {}, the store was at {before} before", cache.revision()));
        found.cache = if behind { lag() } else { Ok(()) };
        if let Ok(head) = answered {
            before = head;
        }
        found.store = answered.map(drop);
    }
}

fn checked(health: Health, pulse: &Arc<Pulse>) -> Health {
    let (store, cache) = (pulse.clone(), pulse.clone());
    health
        .check("etcd", move || store.0.lock().store.clone())
        .check("informer-sync", move || cache.0.lock().cache.clone())
}

/// The checks of `/livez` and `/healthz`.
pub(super) fn live(pulse: &Arc<Pulse>) -> Health {
    let store = pulse.clone();
    Health::new().check("etcd", move || store.0.lock().store.clone())
}

/// The checks of `/readyz`.
pub(super) fn ready(pulse: &Arc<Pulse>, api: &ApiServer, stop: &CancellationToken) -> Health {
    let (stop, keys) = (stop.clone(), api.clone());
    let health = checked(Health::new(), pulse);
    let health = match api.key_services() {
        Some(_) => health.check("kms-providers", move || keys.key_services().unwrap_or(Ok(()))),
        None => health,
    };
    // A server answers only after the roles that every cluster has are there.
    health
        .check("poststarthook/rbac/bootstrap-roles", || Ok(()))
        .check("shutdown", move || if stop.is_cancelled() { Err("the server is stopping".into()) } else { Ok(()) })
}
