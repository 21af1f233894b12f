//! A cluster with two simulated nodes, and the client that a row is given.

use std::time::Duration;

use k8s::{Cluster, core::request::Caller};
use k8s_openapi::NamespaceResourceScope;
use kube::{
    Api, Client, Config, Resource,
    config::{KubeConfigOptions, Kubeconfig},
};

/// The longest that a row may take.
const PATIENCE: Duration = Duration::from_secs(120);

/// How the client reaches the cluster.
#[derive(Clone, Copy)]
pub enum Way {
    /// By a call.
    InProcess,
    /// By a port of the loopback.
    Https,
}

/// What a row has.
#[derive(Clone)]
pub struct World {
    /// A client as the administrator; its namespace is `default`.
    pub client: Client,
}

impl World {
    /// Runs one row in a cluster of its own.
    pub async fn run(way: Way, row: impl AsyncFnOnce(&World)) {
        let builder = Cluster::builder().hollow_nodes(2);
        let builder = match way {
            Way::InProcess => builder,
            Way::Https => builder.listen(([127, 0, 0, 1], 0).into()),
        };
        let cluster = builder.start().await.unwrap();
        let client = match way {
            Way::InProcess => in_process(&cluster),
            Way::Https => over_https(&cluster).await,
        };
        let world = World { client };
        // The controllers make it for every namespace; pods are refused without.
        let account = async {
            let accounts: Api<k8s_openapi::api::core::v1::ServiceAccount> = world.api();
            let made = kube::runtime::wait::conditions::is_created();
            kube::runtime::wait::await_condition(accounts, "default", made).await.unwrap();
        };
        let done = async {
            account.await;
            row(&world).await;
        };
        tokio::time::timeout(PATIENCE, done).await.expect("the row ends");
        cluster.stop().await;
    }

    /// Objects of a kind in the namespace `default`.
    pub fn api<K>(&self) -> Api<K>
    where
        K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
    {
        Api::default_namespaced(self.client.clone())
    }
}

fn in_process(cluster: &Cluster) -> Client {
    let caller = Caller::new("embedder", &["system:masters"]);
    Client::new(cluster.service("kube-crate", caller), "default")
}

async fn over_https(cluster: &Cluster) -> Client {
    let kubeconfig = Kubeconfig::from_yaml(&cluster.kubeconfig().unwrap().unwrap()).unwrap();
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.unwrap();
    Client::try_from(config).unwrap()
}

/// Carries a test out beside a controller, which goes on meanwhile.
pub async fn beside(running: impl Future<Output = ()>, test: impl Future<Output = ()>) {
    tokio::select! {
        biased;
        () = test => {}
        () = running => panic!("the controller ended"),
    }
}

/// The code of a refusal.
pub fn refused<T: std::fmt::Debug>(answer: kube::Result<T>) -> (u16, String) {
    match answer {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        other => panic!("not refused: {other:?}"),
    }
}

/// An object from JSON.
pub fn object<K: serde::de::DeserializeOwned>(json: serde_json::Value) -> K {
    serde_json::from_value(json).unwrap()
}
