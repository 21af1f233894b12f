//! Whom a reference means. The calls themselves are tested where they are made.

use async_trait::async_trait;
use k8s_core::doc;
use parking_lot::Mutex;

use super::*;
use crate::server::tests::fixture::{Fixture, built};

/// Notes whom it was asked to call, and answers nothing.
#[derive(Default)]
struct Noting(Mutex<Vec<WebhookEndpoint>>);

#[async_trait]
impl WebhookCaller for Noting {
    async fn post(&self, endpoint: &WebhookEndpoint, _: Duration, _: Bytes) -> Result<Bytes, WebhookError> {
        self.0.lock().push(endpoint.clone());
        Ok(Bytes::new())
    }
}

async fn call(api: &Fixture, caller: &Arc<Noting>, client: Doc) -> Result<WebhookEndpoint, String> {
    let cluster = Cluster::new(api.api.cache().clone(), api.api.kinds().clone());
    cluster.caught_up().await.unwrap();
    let webhooks = Webhooks::new(api.env.clone(), Some(caller.clone()));
    let client = ClientConfig::of(&client);
    let limit = Duration::from_secs(1);
    webhooks.call(&cluster, &client, "timeout=1s", limit, Bytes::new()).await.map_err(|error| error.to_string())?;
    Ok(caller.0.lock().pop().unwrap())
}

async fn scene() -> (Fixture, Arc<Noting>) {
    let api = built(|builder| builder).await;
    let service = doc!({
        "metadata": {"name": "hook"},
        "spec": {"clusterIP": "10.96.0.77", "ports": [{"name": "tls", "port": 443, "targetPort": 8443}]}
    });
    api.create("services", "default", service).await.unwrap();
    (api, Arc::default())
}

#[tokio::test(start_paused = true)]
async fn a_url_is_called_as_it_is() {
    let (api, caller) = scene().await;
    let bundle = STANDARD.encode("PEM");
    let called = call(&api, &caller, doc!({"url": "https://h:8443/p?a=b", "caBundle": bundle})).await.unwrap();
    assert_eq!(called.url, "https://h:8443/p?a=b&timeout=1s");
    assert_eq!(called.tls.authorities_pem.as_deref(), Some("PEM"));
    assert_eq!(called.address, None);
}

#[tokio::test(start_paused = true)]
async fn a_service_is_called_at_a_ready_endpoint_or_at_its_own_address() {
    let (api, caller) = scene().await;
    let client = doc!({"service": {"namespace": "default", "name": "hook", "path": "/p"}});
    let called = call(&api, &caller, client.clone()).await.unwrap();
    assert_eq!(called.url, "https://hook.default.svc:443/p?timeout=1s");
    assert_eq!(called.address, Some("10.96.0.77:443".parse().unwrap()));

    let slice = doc!({
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}},
        "addressType": "IPv4", "ports": [{"name": "tls", "port": 8443}],
        "endpoints": [
            {"addresses": ["10.244.0.4"], "conditions": {"ready": false}},
            {"addresses": ["10.244.0.5"], "conditions": {"ready": true}}
        ]
    });
    let made = api.create("endpointslices", "default", slice).await.unwrap();
    let called = call(&api, &caller, client.clone()).await.unwrap();
    assert_eq!(called.address, Some("10.244.0.5:8443".parse().unwrap()));

    let mut unready = made;
    unready.set_at(&["endpoints"], doc!([{"addresses": ["10.244.0.4"], "conditions": {"ready": false}}]));
    api.update("endpointslices/hook-1", "default", unready).await.unwrap();
    let error = call(&api, &caller, client).await.unwrap_err();
    assert_eq!(error, "no endpoints available for service \"hook\"");
}

#[tokio::test(start_paused = true)]
async fn what_does_not_exist_is_named() {
    let (api, caller) = scene().await;
    let of = |name: &str, port: u16| doc!({"service": {"namespace": "default", "name": name, "port": port}});
    assert_eq!(call(&api, &caller, of("gone", 443)).await.unwrap_err(), "service \"gone\" not found");
    let error = call(&api, &caller, of("hook", 444)).await.unwrap_err();
    assert_eq!(error, "no service port 444 found for service \"hook\"");
    let none = Webhooks::new(api.env.clone(), None);
    let cluster = Cluster::new(api.api.cache().clone(), api.api.kinds().clone());
    let called = none.call(&cluster, &ClientConfig::default(), "", Duration::ZERO, Bytes::new()).await;
    assert_eq!(called.unwrap_err().to_string(), "this server has no way to call webhooks");
}
