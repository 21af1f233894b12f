//! Custom kinds as clients see them: the table of kinds follows the definitions of a cluster.
//!
//! For controllers in a process of their own. Those that share a process with the API server share its table.

use std::sync::Arc;

use k8s_core::{
    custom::kinds_of,
    doc::Doc,
    env::Task,
    object::Object,
    registry::{Kinds, Registry, ResourceInfo},
    request::ResourceType,
    signal::Signal,
};
use k8s_reconcile::{Client, InformerScope};

/// Keeps `kinds` true until the task is dropped: what they are now, and what the established definitions say.
pub fn follow(client: &Client, kinds: Arc<Kinds>) -> Task {
    let definitions = ResourceType::new("apiextensions.k8s.io", "v1", "customresourcedefinitions");
    let informer = client.dynamic_informer(definitions, InformerScope::all());
    let changes: Arc<Signal<u64>> = Arc::default();
    let told = changes.clone();
    let subscription = informer.subscribe(Arc::new(move |_| told.modify(|count| *count += 1)));
    let base = kinds.now();
    let task = async move {
        let _subscription = subscription;
        informer.synced().await;
        loop {
            let seen = changes.get();
            let custom = informer.list().iter().flat_map(established).collect::<Vec<_>>();
            kinds.set(Arc::new(custom.into_iter().fold(Registry::clone(&base), Registry::with)));
            changes.wait_for(|count| *count != seen).await;
        }
    };
    client.env().spawn("custom kinds", Box::pin(task))
}

fn established(definition: &Arc<Object>) -> Vec<ResourceInfo> {
    let Ok(doc) = Doc::parse(&definition.to_json()) else { return Vec::new() };
    let conditions = doc.at(&["status", "conditions"]).map_or(&[][..], Doc::items);
    let is_established =
        |condition: &Doc| condition.str_at(&["type"]) == "Established" && condition.str_at(&["status"]) == "True";
    if conditions.iter().any(is_established) { kinds_of(&doc) } else { Vec::new() }
}
