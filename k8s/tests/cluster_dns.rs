//! Cluster DNS under its own identity, in a whole cluster: what it may, and what it keeps true.
#![allow(clippy::disallowed_methods, reason = "tests run by the machine's own clock")]

use std::{net::SocketAddr, sync::Arc, time::Duration};

use k8s::{
    Cluster,
    core::{
        api::api::{core::v1::Service, discovery::v1::EndpointSlice},
        request::Caller,
    },
    credentials::identity,
    net::dns::{
        Dns, Forwarder, Published, Sockets, Zone,
        proto::{
            op::{Message, MessageType, OpCode, Query},
            rr::{Name, RecordType},
        },
        publish,
    },
    reconcile::InformerScope,
};
use tokio::{net::UdpSocket, time::timeout};

const PATIENCE: Duration = Duration::from_secs(20);

/// The first address of a name, asked of `server` until it has one.
async fn resolve(server: SocketAddr, name: &str) -> String {
    let mut message = Message::new(1, MessageType::Query, OpCode::Query);
    message.queries = vec![Query::query(Name::from_ascii(name).unwrap(), RecordType::A)];
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    socket.connect(server).await.unwrap();
    loop {
        socket.send(&message.to_vec().unwrap()).await.unwrap();
        let mut buffer = [0; 1500];
        let length = socket.recv(&mut buffer).await.unwrap();
        if let Some(record) = Message::from_vec(&buffer[..length]).unwrap().answers.first() {
            return record.data.to_string();
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_server_follows_the_cluster_and_keeps_its_own_service() {
    let cluster = Cluster::builder().start().await.unwrap();
    let (env, admin) = (cluster.env().clone(), cluster.client());
    let client = cluster.client_as("cluster-dns", Caller::service_account("kube-system", identity::DNS_ACCOUNT));
    let sockets = Sockets::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = sockets.address().unwrap();
    let zone = Zone::new("cluster.local").unwrap();
    let dns = Arc::new(Dns::new(env.clone(), zone, Forwarder::new(env.clone(), vec![])));
    let (serving, followed) = (dns.clone(), client.clone());
    let server: SocketAddr = "192.0.2.1:10053".parse().unwrap();
    let published = Published { cluster_ip: [10, 96, 0, 10].into(), server, node: "n1".into() };
    let _tasks = [
        env.spawn("serve", Box::pin(async move { serving.serve(sockets).await })),
        env.spawn("follow", Box::pin(async move { dns.follow(&followed).await })),
        env.spawn("publish", Box::pin(async move { publish(&client, &published).await })),
    ];
    let test = async {
        assert_eq!(resolve(address, "kube-dns.kube-system.svc.cluster.local.").await, "10.96.0.10");
        let services = admin.namespaced::<Service>("kube-system");
        let slices = admin.informer::<EndpointSlice>(InformerScope::object("kube-system", "kube-dns-n1"));
        let leads_here = |slice: &EndpointSlice| {
            slice.endpoints.iter().flatten().any(|endpoint| endpoint.addresses == ["192.0.2.1"])
        };
        slices.wait_until(|found| found.iter().any(|slice| leads_here(slice))).await;
        // Somebody deletes both: they come back.
        let before = services.get("kube-dns").await.unwrap();
        services.delete("kube-dns").await.unwrap();
        let all = admin.informer::<Service>(InformerScope::object("kube-system", "kube-dns"));
        all.wait_until(|found| found.iter().any(|service| service.metadata.uid != before.metadata.uid)).await;
        let before = slices.list()[0].metadata.uid.clone();
        admin.namespaced::<EndpointSlice>("kube-system").delete("kube-dns-n1").await.unwrap();
        let is_new = |slice: &EndpointSlice| slice.metadata.uid != before && leads_here(slice);
        slices.wait_until(|found| found.iter().any(|slice| is_new(slice))).await;
        assert_eq!(resolve(address, "kube-dns.kube-system.svc.cluster.local.").await, "10.96.0.10");
    };
    timeout(PATIENCE, test).await.expect("in time");
    cluster.stop().await;
}
