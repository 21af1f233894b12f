//! A controller of a cluster elsewhere, this project's or any other: it notes on every config map how many keys it has.
//!
//! `KUBECONFIG=... cargo run -p k8s --example against_any_cluster`; Ctrl-C ends it.

use std::sync::Arc;

use k8s::{
    prelude::{types::core::v1::ConfigMap, *},
    wire::{
        client::{Config, HttpTransport},
        env::System,
    },
};
use serde_json::{from_value, json};

struct CountKeys;

impl Reconciler for CountKeys {
    type Object = ConfigMap;
    type Error = ApiError;

    async fn reconcile(&self, map: Stored<ConfigMap>, cx: Cx) -> Result<Next, ApiError> {
        let keys = map.data.iter().flatten().count().to_string();
        let noted = map.metadata.annotations.as_ref().and_then(|notes| notes.get("example.com/keys"));
        if noted != Some(&keys) {
            let note = json!({"metadata": {
                "name": map.name(), "namespace": map.namespace(), "annotations": {"example.com/keys": keys}}});
            cx.apply::<ConfigMap>(from_value(note).map_err(ApiError::internal)?).await?;
        }
        Ok(Next::Done)
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let env = System::current();
    let transport = HttpTransport::new(Config::from_env()?, env.clone())?;
    let running = Controller::new("count-keys", CountKeys).start(Client::new(Arc::new(transport), env));
    tokio::signal::ctrl_c().await?;
    running.stop().await;
    Ok(())
}
