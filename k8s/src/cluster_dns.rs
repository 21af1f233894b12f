//! Cluster DNS on this machine: the server in this process, and the Service that leads pods to it.
//!
//! The server listens on the node's own address in the pod network, so that pods and the node reach it and nobody else
//! does, and on a port that is not DNS's, so that it takes none from another name server. Pods know the cluster IP.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use ipnet::IpNet;
use k8s_core::env::{Env, Task};
use k8s_net::{
    dns::{Dns, Forwarder, Published, Sockets, Zone, publish, upstreams},
    pod::gateway,
};
use k8s_reconcile::Client;

use crate::machine::MachineError;

/// The cluster's domain unless said otherwise.
pub const DOMAIN: &str = "cluster.local";
/// What pods know as their name server unless said otherwise.
pub const CLUSTER_IP: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 96, 0, 10));
/// The port that the server listens on unless said otherwise.
pub const PORT: u16 = 10053;
/// Where Services have their addresses.
const SERVICE_CIDR: &str = "10.96.0.0/12";
/// How often to look whether the pod network has made the address to listen on.
const LOOK: Duration = Duration::from_millis(200);

/// What makes a DNS server for a cluster.
#[derive(Debug, Clone)]
pub struct ClusterDnsOptions {
    /// The node that it runs on.
    pub node: String,
    /// Where it listens, UDP and TCP: on the first of these that is free.
    pub listen: Vec<SocketAddr>,
    /// What pods know as their name server.
    pub cluster_ip: IpAddr,
    /// The cluster's domain.
    pub domain: String,
    /// Where pods have their addresses, cluster-wide.
    pub cluster_cidrs: Vec<IpNet>,
    /// The machine's `resolv.conf`: who is asked for all other names.
    pub resolv_conf: String,
}

impl ClusterDnsOptions {
    /// The usual, on the address of a node whose pods have these addresses.
    pub fn new(node: &str, pod_cidr: IpNet, cluster_cidrs: Vec<IpNet>, resolv_conf: String) -> Self {
        let address = gateway(&pod_cidr).unwrap_or(pod_cidr.addr());
        Self {
            node: node.to_owned(),
            listen: vec![SocketAddr::new(address, PORT), SocketAddr::new(address, 0)],
            cluster_ip: CLUSTER_IP,
            domain: DOMAIN.to_owned(),
            cluster_cidrs,
            resolv_conf,
        }
    }
}

/// A running DNS server. Dropping it stops it; the Service stays.
pub struct ClusterDns {
    /// Where it listens.
    pub address: SocketAddr,
    tasks: [Task; 3],
}

impl ClusterDns {
    /// Starts the server. It waits for the address to listen on while the machine does not have it.
    pub async fn start(client: Client, env: &Env, options: ClusterDnsOptions) -> Result<Self, MachineError> {
        let ClusterDnsOptions { node, listen, cluster_ip, domain, cluster_cidrs, resolv_conf } = options;
        let zone = Zone::new(&domain).map_err(|error| MachineError(error.to_string()))?;
        let services: Option<IpNet> = SERVICE_CIDR.parse().ok();
        let zone = zone.networks(cluster_cidrs.into_iter().chain(services).collect());
        let failed = |why: io::Error| MachineError(format!("cluster DNS on {listen:?}: {why}"));
        let sockets = bind(env, &listen).await.map_err(failed)?;
        let address = sockets.address().map_err(failed)?;
        let forwarder = Forwarder::new(env.clone(), upstreams(&resolv_conf, &[cluster_ip, address.ip()]));
        let dns = Arc::new(Dns::new(env.clone(), zone, forwarder));
        let published = Published { cluster_ip, server: address, node };
        let (serving, following, followed) = (dns.clone(), dns, client.clone());
        let tasks = [
            env.spawn("dns server", Box::pin(async move { serving.serve(sockets).await })),
            env.spawn("dns index", Box::pin(async move { following.follow(&followed).await })),
            env.spawn("dns service", Box::pin(async move { publish(&client, &published).await })),
        ];
        Ok(Self { address, tasks })
    }

    /// Stops answering.
    pub async fn stop(self) {
        for task in self.tasks {
            task.stop().await;
        }
    }
}

async fn bind(env: &Env, listen: &[SocketAddr]) -> io::Result<Sockets> {
    let mut choices = listen.iter();
    let mut choice = choices.next();
    loop {
        let address = choice.ok_or(io::ErrorKind::InvalidInput)?;
        match Sockets::bind(*address).await {
            Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => env.sleep(LOOK).await,
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && choices.len() > 0 => choice = choices.next(),
            bound => return bound,
        }
    }
}
