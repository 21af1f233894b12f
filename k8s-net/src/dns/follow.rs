//! Keeps a server true to a cluster: informers in, index out. Decides nothing.

use std::sync::Arc;

use futures::future::join3;
use k8s_core::{
    api::api::{
        core::v1::{Namespace, Service},
        discovery::v1::EndpointSlice,
    },
    object::{Object, ObjectKey},
    resource::{Resource, Stored},
};
use k8s_reconcile::{
    Client, InformerScope,
    informer::{Delta, Handler},
};

use super::{Dns, Index};

impl Dns {
    /// Keeps the server true to the cluster that `client` sees, for as long as the future is polled.
    ///
    /// Until Services, EndpointSlices and Namespaces are known completely, no name of the zone is said not to exist.
    /// Needs `list` and `watch` of these three. Cancel-safe: the server goes on with what it knows.
    pub async fn follow(self: &Arc<Self>, client: &Client) {
        let services = client.informer::<Service>(InformerScope::all());
        let slices = client.informer::<EndpointSlice>(InformerScope::all());
        let namespaces = client.informer::<Namespace>(InformerScope::all());
        let _services = services.subscribe(self.handler(Index::put_service, Index::remove_service));
        let _slices = slices.subscribe(self.handler(Index::put_slice, Index::remove_slice));
        let _namespaces = namespaces.subscribe(self.handler(put_namespace, remove_namespace));
        join3(services.synced(), slices.synced(), namespaces.synced()).await;
        self.index.write().set_complete();
        std::future::pending().await
    }

    fn handler<K: Resource>(self: &Arc<Self>, put: fn(&mut Index, &K), remove: fn(&mut Index, &ObjectKey)) -> Handler {
        let dns = self.clone();
        Arc::new(move |delta: &Delta| match &delta.new {
            Some(object) => {
                if let Some(object) = typed::<K>(object) {
                    put(&mut dns.index.write(), &object);
                }
            }
            None => remove(&mut dns.index.write(), &delta.object().meta.key()),
        })
    }
}

fn put_namespace(index: &mut Index, namespace: &Namespace) {
    index.put_namespace(namespace.metadata.name.as_deref().unwrap_or_default());
}

fn remove_namespace(index: &mut Index, key: &ObjectKey) {
    index.remove_namespace(&key.name);
}

/// What no longer decodes stays as it was.
fn typed<K: Resource>(object: &Arc<Object>) -> Option<Stored<K>> {
    let outcome = Stored::new(object.clone());
    outcome.inspect_err(|error| tracing::error!(%error, kind = K::kind(), "passed over an object")).ok()
}
