//! Nodes are given networks for their pods, each its own, also by the next process.
#![allow(clippy::disallowed_methods)] // Tests own the clock.

use std::{collections::BTreeMap, sync::Arc};

use k8s::{
    controllers::{node_ipam::Range, start::NodeCidrs},
    prelude::{
        types::core::v1::{Event, Node},
        *,
    },
    store::Memory,
    wire::env::System,
};
use serde_json::{from_value, json};

/// Four blocks, of which the first is for `own` only.
fn cidrs() -> NodeCidrs {
    let range = Range::new("10.244.0.0/22".parse().unwrap(), 24).unwrap();
    NodeCidrs { ranges: vec![range], reserved: vec![("own".to_owned(), vec!["10.244.0.0/24".parse().unwrap()])] }
}

async fn cluster(store: &Arc<Memory>) -> Cluster {
    Cluster::builder().store(store.clone()).node_cidrs(cidrs()).start().await.unwrap()
}

async fn add(cluster: &Cluster, name: &str) {
    let node: Node = from_value(json!({"metadata": {"name": name}})).unwrap();
    cluster.client().all::<Node>().create(node).await.unwrap();
}

/// Waits until so many nodes have networks, and answers which.
async fn given(cluster: &Cluster, count: usize) -> BTreeMap<String, String> {
    let nodes = cluster.client().informer::<Node>(InformerScope::all());
    let has = |node: &Stored<Node>| node.spec.as_ref()?.pod_cidrs.as_ref()?.first().cloned();
    nodes.wait_until(|known| known.iter().filter(|node| has(node).is_some()).count() == count).await;
    nodes.list().iter().filter_map(|node| Some((node.name().to_owned(), has(node)?))).collect()
}

#[tokio::test]
async fn every_node_has_a_network_of_its_own_whatever_process_gave_it() {
    let store = Arc::new(Memory::new(System::current()));
    let first = cluster(&store).await;
    add(&first, "a").await;
    add(&first, "b").await;
    let before = given(&first, 2).await;
    assert!(before.values().all(|net| net != "10.244.0.0/24"), "that one is kept: {before:?}");
    assert_ne!(before["a"], before["b"]);
    first.stop().await;

    let second = cluster(&store).await;
    add(&second, "own").await;
    add(&second, "c").await;
    let mut after = given(&second, 4).await;
    assert_eq!(after.remove("own").as_deref(), Some("10.244.0.0/24"));
    let c = after.remove("c").unwrap();
    assert_eq!(after, before, "what a node has it keeps");
    assert!(!before.values().any(|net| *net == c) && c != "10.244.0.0/24");

    // The range is used up: the node is told, and served when another goes.
    add(&second, "d").await;
    let events = second.client().informer::<Event>(InformerScope::all());
    let told = |event: &Stored<Event>| event.reason.as_deref() == Some("CIDRNotAvailable");
    events.wait_until(|known| known.iter().any(told)).await;
    second.client().all::<Node>().delete("b").await.unwrap();
    let nodes = second.client().informer::<Node>(InformerScope::all());
    let is_served = |node: &Stored<Node>| {
        let spec = node.spec.as_ref();
        node.name() == "d" && spec.is_some_and(|spec| spec.pod_cidr.as_ref() == Some(&before["b"]))
    };
    nodes.wait_until(|known| known.iter().any(is_served)).await;
    second.stop().await;
}
