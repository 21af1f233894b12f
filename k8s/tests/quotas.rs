//! Quotas of a whole cluster: counted when they are made, charged by admission, given back by the controller. And what
//! else is held until nobody uses it.
#![allow(clippy::disallowed_methods)] // Tests own the clock.

use k8s::prelude::{
    types::{
        core::v1::{PersistentVolumeClaim, Pod, ResourceQuota},
        networking::v1::ServiceCIDR,
    },
    *,
};
use serde_json::{Value, from_value, json};

fn made<K: serde::de::DeserializeOwned>(value: Value) -> K {
    from_value(value).unwrap()
}

/// Waits until the quota says that so much of a name is used.
async fn wait_for(cluster: &Cluster, name: &str, amount: &str) {
    let quotas = cluster.client().informer::<ResourceQuota>(InformerScope::all());
    let says = |quota: &Stored<ResourceQuota>| {
        let used = quota.status.as_ref().and_then(|status| status.used.as_ref()?.get(name));
        used.is_some_and(|used| used.0 == amount)
    };
    quotas.wait_until(|known| known.iter().any(says)).await;
}

#[tokio::test]
async fn what_goes_is_given_back() {
    let cluster = Cluster::builder().start().await.unwrap();
    let client = cluster.client();
    let pod = |name: &str| -> Pod {
        made(json!({"metadata": {"name": name, "namespace": "default"},
            "spec": {"automountServiceAccountToken": false, "containers": [{"name": "c", "image": "i"}]}}))
    };
    let accounts = client.informer::<k8s::core::api::api::core::v1::ServiceAccount>(InformerScope::all());
    accounts.wait_until(|known| known.iter().any(|account| account.object().meta.namespace == "default")).await;
    let pods = client.namespaced::<Pod>("default");
    pods.create(pod("before")).await.unwrap();
    let quota = json!({"metadata": {"name": "q", "namespace": "default"}, "spec": {"hard": {"pods": "2"}}});
    client.namespaced::<ResourceQuota>("default").create(made(quota)).await.unwrap();
    wait_for(&cluster, "pods", "1").await;
    pods.create(pod("second")).await.unwrap();
    assert_eq!(pods.create(pod("third")).await.unwrap_err().code(), 403);
    wait_for(&cluster, "pods", "2").await;
    pods.delete("before").await.unwrap();
    wait_for(&cluster, "pods", "1").await;
    pods.create(pod("third")).await.unwrap();
    cluster.stop().await;
}

#[tokio::test]
async fn what_is_in_use_stays_until_it_is_not() {
    let cluster = Cluster::builder().start().await.unwrap();
    let client = cluster.client();
    let accounts = client.informer::<k8s::core::api::api::core::v1::ServiceAccount>(InformerScope::all());
    accounts.wait_until(|known| known.iter().any(|account| account.object().meta.namespace == "default")).await;
    let claims = client.namespaced::<PersistentVolumeClaim>("default");
    let claim = json!({"metadata": {"name": "c", "namespace": "default"}, "spec": {
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    claims.create(made(claim)).await.unwrap();
    let pod = json!({"metadata": {"name": "p", "namespace": "default"}, "spec": {
        "containers": [{"name": "c", "image": "i"}],
        "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}]}});
    let pods = client.namespaced::<Pod>("default");
    pods.create(made(pod)).await.unwrap();
    claims.delete("c").await.unwrap();
    assert!(claims.get("c").await.unwrap().object().meta.deleted.is_some(), "a pod uses it");
    pods.delete("p").await.unwrap();
    let known = client.informer::<PersistentVolumeClaim>(InformerScope::all());
    known.wait_until(|known| known.is_empty()).await;

    let ranges = client.informer::<ServiceCIDR>(InformerScope::all());
    let range = json!({"metadata": {"name": "more"}, "spec": {"cidrs": ["10.77.0.0/24"]}});
    client.all::<ServiceCIDR>().create(made(range)).await.unwrap();
    let is_ready = |range: &Stored<ServiceCIDR>| {
        let conditions = range.status.iter().flat_map(|status| status.conditions.iter().flatten());
        range.name() == "more" && conditions.into_iter().any(|it| it.type_ == "Ready" && it.status == "True")
    };
    ranges.wait_until(|known| known.iter().any(is_ready)).await;
    client.all::<ServiceCIDR>().delete("more").await.unwrap();
    ranges.wait_until(|known| known.iter().all(|range| range.name() != "more")).await;
    cluster.stop().await;
}
