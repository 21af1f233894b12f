//! Cluster IPs and node ports: allocated with the service that gets them, in one transaction, and given back likewise.
//!
//! Each allocation is a key of its own, so that nothing is ever allocated twice or lost: it exists exactly as long as
//! the service that holds it.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::{IpNet, Ipv4Net};
use k8s_core::{
    doc::Doc,
    env::Env,
    registry::ResourceInfo,
    status::{ApiError, ApiResult, FieldError},
};
use k8s_store::{Guard, Key, Op, Page, Store, Transaction};

use super::commit::{Refused, unavailable};

/// Where cluster IPs come from unless said otherwise.
pub const DEFAULT_CIDR: IpNet = IpNet::V4(Ipv4Net::new_assert(Ipv4Addr::new(10, 96, 0, 0), 16));
/// Upstream's default range of node ports.
const NODE_PORTS: std::ops::RangeInclusive<u16> = 30_000..=32_767;
const IPS: &str = "/registry/ranges/serviceips/";
const PORTS: &str = "/registry/ranges/servicenodeports/";
/// After this many random choices that were taken, what is free is looked up.
const RANDOM_ROUNDS: usize = 8;
/// After this many rounds the range is full, or nearly so.
const MAX_ROUNDS: usize = 64;

/// The ranges of one cluster.
pub(super) struct ServiceNetwork {
    cidr: IpNet,
}

/// What a service holds.
#[derive(Default, PartialEq, Eq)]
struct Held {
    ips: BTreeSet<String>,
    ports: BTreeSet<String>,
}

impl Held {
    fn of(doc: &Doc) -> Self {
        let mut held = Self::default();
        let mut addresses: Vec<&str> = vec![doc.str_at(&["spec", "clusterIP"])];
        addresses.extend(doc.at(&["spec", "clusterIPs"]).map(Doc::items).unwrap_or_default().iter().filter_map(Doc::as_str));
        held.ips.extend(addresses.into_iter().filter(|ip| !ip.is_empty() && *ip != "None").map(str::to_owned));
        for port in doc.at(&["spec", "ports"]).map(Doc::items).unwrap_or_default() {
            if let Some(number) = port.get("nodePort").and_then(Doc::as_i64).filter(|number| *number > 0) {
                held.ports.insert(format!("{number}-{}", port.str_at(&["protocol"])));
            }
        }
        held
    }

    fn keys(&self) -> BTreeSet<Key> {
        let ips = self.ips.iter().map(|ip| Key::from(format!("{IPS}{ip}")));
        ips.chain(self.ports.iter().map(|port| Key::from(format!("{PORTS}{port}")))).collect()
    }
}

impl ServiceNetwork {
    pub fn new(cidr: IpNet) -> Self {
        Self { cidr }
    }

    /// The first address of the range: the `kubernetes` service's.
    pub fn first(&self) -> IpAddr {
        self.cidr.hosts().next().unwrap_or(self.cidr.addr())
    }

    /// Fills in what a service needs and answers the changes that take and give back its allocations.
    ///
    /// `round` counts up when a choice turned out to be taken.
    pub async fn allocate(
        &self,
        info: &ResourceInfo,
        old: Option<&Doc>,
        doc: &mut Doc,
        env: &Env,
        store: &dyn Store,
        round: usize,
    ) -> Result<Transaction, Refused> {
        let mut transaction = Transaction::new();
        if info.plural != "services" || !info.group.is_empty() {
            return Ok(transaction);
        }
        if round > MAX_ROUNDS {
            return Err(ApiError::internal("the range of cluster IPs or node ports is full").into());
        }
        let taken = if round > RANDOM_ROUNDS { Some(taken(store).await?) } else { None };
        self.choose(old, doc, env, taken.as_ref())?;
        let before = old.map(Held::of).unwrap_or_default().keys();
        let after = Held::of(doc).keys();
        let owner = format!("{}/{}", doc.str_at(&["metadata", "namespace"]), doc.str_at(&["metadata", "name"]));
        for key in after.difference(&before) {
            transaction = transaction.guard(Guard::Absent(key.clone())).put(key, owner.clone());
        }
        for key in before.difference(&after) {
            transaction = transaction.op(Op::Delete { key: key.clone() });
        }
        Ok(transaction)
    }

    /// Gives everything back that a service holds.
    pub fn release(&self, info: &ResourceInfo, doc: &Doc) -> Transaction {
        let keys = if info.plural == "services" && info.group.is_empty() { Held::of(doc).keys() } else { BTreeSet::new() };
        keys.into_iter().fold(Transaction::new(), |transaction, key| transaction.delete(key))
    }

    /// An allocation that the client asked for by name and that is taken is the client's error.
    pub fn refuse_if_asked_for(&self, info: &ResourceInfo, asked: &Doc, key: &str) -> ApiResult<()> {
        if !Held::of(asked).keys().contains(key) {
            return Ok(());
        }
        let name = asked.str_at(&["metadata", "name"]);
        let error = match (key.strip_prefix(IPS), key.strip_prefix(PORTS)) {
            (Some(ip), _) => FieldError::invalid("spec.clusterIPs", ip, "provided IP is already allocated"),
            (_, Some(port)) => {
                let port = port.split('-').next().unwrap_or(port);
                FieldError::invalid("spec.ports[0].nodePort", port, "provided port is already allocated")
            }
            _ => return Ok(()),
        };
        Err(ApiError::invalid(&info.kind, &info.group, name, &[error]))
    }

    fn choose(&self, old: Option<&Doc>, doc: &mut Doc, env: &Env, taken: Option<&BTreeSet<String>>) -> ApiResult<()> {
        let kind = doc.str_at(&["spec", "type"]).to_owned();
        if kind == "ExternalName" {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                doc.remove_at(&["spec", field]);
            }
            return Ok(());
        }
        if doc.str_at(&["spec", "clusterIP"]).is_empty() {
            let kept = old.map(|old| old.str_at(&["spec", "clusterIP"])).filter(|ip| !ip.is_empty());
            let ip = match kept {
                Some(ip) => ip.to_owned(),
                None => self.free_ip(env, taken),
            };
            doc.set_at(&["spec", "clusterIP"], Doc::String(ip.into()));
        }
        let ip = doc.str_at(&["spec", "clusterIP"]).to_owned();
        if ip != "None" {
            self.check_ip(doc, &ip)?;
        }
        if doc.at(&["spec", "clusterIPs"]).is_none() {
            doc.set_at(&["spec", "clusterIPs"], Doc::Array(vec![Doc::String(ip.as_str().into())]));
        }
        if doc.at(&["spec", "ipFamilies"]).is_none() {
            let family = if ip.contains(':') { "IPv6" } else { "IPv4" };
            doc.set_at(&["spec", "ipFamilies"], Doc::Array(vec![Doc::String(family.into())]));
        }
        if doc.at(&["spec", "ipFamilyPolicy"]).is_none() {
            doc.set_at(&["spec", "ipFamilyPolicy"], Doc::String("SingleStack".into()));
        }
        choose_ports(&kind, doc, env, taken);
        Ok(())
    }

    fn check_ip(&self, doc: &Doc, ip: &str) -> ApiResult<()> {
        let is_ours = ip.parse::<IpAddr>().is_ok_and(|ip| self.cidr.contains(&ip));
        if is_ours {
            return Ok(());
        }
        let why = format!("failed to allocate IP {ip}: the provided IP is not in the valid range {}", self.cidr);
        let error = FieldError::invalid("spec.clusterIPs", ip, why);
        Err(ApiError::invalid("Service", "", doc.str_at(&["metadata", "name"]), &[error]))
    }

    fn free_ip(&self, env: &Env, taken: Option<&BTreeSet<String>>) -> String {
        let first = self.first();
        if let Some(taken) = taken {
            let free = self.cidr.hosts().find(|ip| *ip != first && !taken.contains(&format!("{IPS}{ip}")));
            return free.unwrap_or(first).to_string();
        }
        match (self.cidr, first) {
            (IpNet::V4(net), IpAddr::V4(first)) => {
                let size = 1u64 << (32 - net.prefix_len());
                // Not the network, not the first (the `kubernetes` service's), not the last (broadcast).
                let offset = 2 + env.random() % size.saturating_sub(3).max(1);
                Ipv4Addr::from(u32::from(first) - 1 + offset as u32).to_string()
            }
            (IpNet::V6(net), _) => {
                let offset = 2 + env.random() % (1 << 16);
                std::net::Ipv6Addr::from(u128::from(net.network()) + u128::from(offset)).to_string()
            }
            _ => first.to_string(),
        }
    }
}

fn choose_ports(kind: &str, doc: &mut Doc, env: &Env, taken: Option<&BTreeSet<String>>) {
    let needs_ports = kind == "NodePort"
        || (kind == "LoadBalancer"
            && doc.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Doc::as_bool).unwrap_or(true));
    let span = u64::from(NODE_PORTS.end() - NODE_PORTS.start()) + 1;
    for port in doc.at_mut(&["spec", "ports"]).map(Doc::items_mut).unwrap_or_default() {
        let has_one = port.get("nodePort").and_then(Doc::as_i64).is_some_and(|number| number > 0);
        if !needs_ports {
            port.remove_at(&["nodePort"]);
        } else if !has_one {
            let protocol = port.str_at(&["protocol"]).to_owned();
            let is_free = |number: &u16| !taken.is_some_and(|taken| taken.contains(&format!("{PORTS}{number}-{protocol}")));
            let start = NODE_PORTS.start() + (env.random() % span) as u16;
            let chosen = (start..=*NODE_PORTS.end()).chain(NODE_PORTS).find(is_free).unwrap_or(start);
            port.set_at(&["nodePort"], Doc::from(i64::from(chosen)));
        }
    }
}

async fn taken(store: &dyn Store) -> ApiResult<BTreeSet<String>> {
    let listing = store.list("/registry/ranges/", Page::all()).await.map_err(unavailable)?;
    Ok(listing.entries.into_iter().map(|entry| entry.key.as_str().to_owned()).collect())
}
