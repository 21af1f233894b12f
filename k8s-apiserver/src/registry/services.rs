//! What a write changes beside its object: the addresses and ports of Services, and the fence of a Lease.
//!
//! An allocation is a key of its own, put and deleted in the same transaction as the Service that holds it. So none is
//! ever given twice, and none is left behind. The IPAddress objects that show who has which address follow right after;
//! one that somebody else makes takes its address, too. Addresses come from the server's own range first, then from those
//! of ServiceCIDRs.

use std::{collections::BTreeSet, net::IpAddr, ops::RangeInclusive};

use ipnet::IpNet;
use k8s_core::{
    doc,
    doc::Doc,
    object::ObjectKey,
    request::{RequestBody, ResourceType, Target, Verb},
    status::{ApiError, ApiResult, FieldError, FieldErrorKind},
};
use k8s_store::{Guard, Key, Op, Page};

use super::{
    commit::{Beside, fence_key, store_error},
    operation::{Operation, metadata},
};
use crate::server::{Inner, OWN_NAME};

const IPS: &str = "/registry/ranges/serviceips/";
const PORTS: &str = "/registry/ranges/servicenodeports/";
/// How many places are tried by chance before the range is searched.
const GUESSES: usize = 16;

/// From where Services get addresses and ports.
#[derive(Debug, Clone)]
pub struct Ranges {
    /// The cluster IPs.
    pub cidr: IpNet,
    /// The node ports.
    pub ports: RangeInclusive<u16>,
}

impl Ranges {
    /// The first address: that of the API server's own Service.
    pub fn first_address(&self) -> IpAddr {
        self.address(1)
    }

    fn address(&self, offset: u128) -> IpAddr {
        match self.cidr.network() {
            IpAddr::V4(base) => IpAddr::V4((u32::from(base).wrapping_add(offset as u32)).into()),
            IpAddr::V6(base) => IpAddr::V6((u128::from(base).wrapping_add(offset)).into()),
        }
    }

    /// How many addresses there are from the network's own to the last usable one.
    fn size(&self) -> u128 {
        let bits = u32::from(self.cidr.max_prefix_len() - self.cidr.prefix_len()).min(64);
        // The last one of IPv4 is the broadcast address.
        (1u128 << bits) - u128::from(self.cidr.addr().is_ipv4() && bits > 1)
    }

    fn family(&self) -> &'static str {
        if self.cidr.addr().is_ipv4() { "IPv4" } else { "IPv6" }
    }

    /// Whether an address can be given.
    fn has(&self, address: &IpAddr) -> bool {
        self.cidr.contains(address) && *address != self.cidr.network()
    }
}

fn ip_key(address: &str) -> Key {
    format!("{IPS}{address}").into()
}

fn port_key(port: i64) -> Key {
    format!("{PORTS}{port}").into()
}

fn service_type(service: &Doc) -> &str {
    match service.str_at(&["spec", "type"]) {
        "" => "ClusterIP",
        other => other,
    }
}

fn is_headless(service: &Doc) -> bool {
    service.str_at(&["spec", "clusterIP"]) == "None"
}

fn wants_address(service: &Doc) -> bool {
    service_type(service) != "ExternalName" && !is_headless(service)
}

fn wants_node_ports(service: &Doc) -> bool {
    match service_type(service) {
        "NodePort" => true,
        "LoadBalancer" => service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Doc::as_bool).unwrap_or(true),
        _ => false,
    }
}

fn wants_health_port(service: &Doc) -> bool {
    service_type(service) == "LoadBalancer" && service.str_at(&["spec", "externalTrafficPolicy"]) == "Local"
}

fn ports(service: &Doc) -> &[Doc] {
    service.at(&["spec", "ports"]).map_or(&[], Doc::items)
}

fn node_port(port: &Doc) -> Option<i64> {
    port.get("nodePort").and_then(Doc::as_i64).filter(|port| *port != 0)
}

fn health_port(service: &Doc) -> Option<i64> {
    service.at(&["spec", "healthCheckNodePort"]).and_then(Doc::as_i64).filter(|port| *port != 0)
}

/// The addresses that a Service names.
fn addresses(service: &Doc) -> Vec<String> {
    let listed = service.at(&["spec", "clusterIPs"]).map_or(&[][..], Doc::items);
    let one = service.str_at(&["spec", "clusterIP"]);
    let texts: Vec<&str> = if listed.is_empty() { vec![one] } else { listed.iter().filter_map(Doc::as_str).collect() };
    texts.into_iter().filter(|text| !text.is_empty() && *text != "None").map(str::to_owned).collect()
}

/// The keys of everything that a Service holds.
fn held(service: &Doc) -> BTreeSet<Key> {
    let ips = addresses(service).into_iter().filter(|_| wants_address(service)).map(|ip| ip_key(&ip));
    let ports = ports(service).iter().filter_map(node_port);
    let health = health_port(service);
    let ports = ports.chain(health).filter(|_| service_type(service) != "ClusterIP");
    ips.chain(ports.map(port_key)).collect()
}

impl Operation<'_> {
    fn is_service(&self) -> bool {
        self.info.group.is_empty() && self.info.plural == "services"
    }

    /// Whether writes of this kind may choose something.
    pub(super) fn allocates(&self) -> bool {
        self.is_service()
    }

    /// What a new or changed object needs beside itself.
    pub(super) async fn beside(&self, new: &mut Doc, old: Option<&Doc>) -> ApiResult<Beside> {
        match (self.info.group.as_str(), self.info.plural.as_str()) {
            ("", "services") => self.allocate(new, old).await,
            ("networking.k8s.io", "ipaddresses") if old.is_none() => Ok(self.reserve(new)),
            ("coordination.k8s.io", "leases") => Ok(fence(new, old)),
            _ => Ok(Beside::default()),
        }
    }

    /// What goes with an object.
    pub(super) fn beside_delete(&self, old: &Doc) -> Beside {
        let keys = match (self.info.group.as_str(), self.info.plural.as_str()) {
            ("", "services") => held(old),
            ("coordination.k8s.io", "leases") => {
                BTreeSet::from([fence_key(metadata(old, "namespace"), metadata(old, "name"))])
            }
            ("networking.k8s.io", "ipaddresses") if !is_managed(old) => BTreeSet::from([ip_key(metadata(old, "name"))]),
            _ => BTreeSet::new(),
        };
        Beside { guards: Vec::new(), ops: keys.into_iter().map(|key| Op::Delete { key }).collect() }
    }

    /// An update that leaves out what the server chose keeps it, as long as the new type has use for it.
    pub(super) fn keep_allocated(&self, new: &mut Doc, old: &Doc) {
        if self.is_service() {
            keep_addresses(new, old);
            keep_ports(new, old);
        }
    }

    /// An address that somebody takes by hand; the server's own objects show what a Service holds already.
    fn reserve(&self, new: &Doc) -> Beside {
        if self.caller.name == OWN_NAME && is_managed(new) {
            return Beside::default();
        }
        let key = ip_key(metadata(new, "name"));
        let put = Op::Put { key: key.clone(), value: "ipaddresses".into(), lease: None, attachment: None };
        Beside { guards: vec![Guard::Absent(key)], ops: vec![put] }
    }

    /// Shows in IPAddress objects what a write changed about addresses. What fails here the next start of a server
    /// makes good.
    pub(super) async fn show_addresses(&self, changes: Vec<AddressChange>) {
        for change in changes {
            let shown = match change {
                AddressChange::Taken { address, owner } => self.server.show_address(&address, &owner).await,
                AddressChange::Free { address } => {
                    let target = Target::one(ip_addresses(), "", address);
                    self.server.ask_own(Verb::Delete, target, RequestBody::None).await
                }
            };
            if let Err(error) = done(shown) {
                tracing::warn!(%error, "an IPAddress does not show what a Service holds");
            }
        }
    }

    /// The ranges that addresses come from: the server's own first.
    fn address_ranges(&self) -> Vec<Ranges> {
        let own = &self.server.ranges;
        let mut ranges = vec![own.clone()];
        let mut others = self.server.cluster.all("networking.k8s.io", "v1", "servicecidrs");
        others.retain(|object| object.meta.deleted.is_none());
        for object in others {
            let Ok(doc) = Doc::parse(object.stored_json()) else { continue };
            let cidrs = doc.at(&["spec", "cidrs"]).map_or(&[][..], Doc::items).iter().filter_map(Doc::as_str);
            let nets = cidrs.filter_map(|text| text.parse::<IpNet>().ok());
            let same = nets.filter(|net| net.addr().is_ipv4() == own.cidr.addr().is_ipv4() && *net != own.cidr);
            ranges.extend(same.map(|cidr| Ranges { cidr, ports: own.ports.clone() }));
        }
        ranges
    }

    async fn allocate(&self, new: &mut Doc, old: Option<&Doc>) -> ApiResult<Beside> {
        let before = old.map(held).unwrap_or_default();
        let mut chosen = BTreeSet::new();
        self.choose_address(new, &mut chosen).await?;
        self.choose_ports(new, &before, &mut chosen).await?;
        let after = held(new);
        let mut beside = Beside::default();
        let owner = format!("{}/{}", metadata(new, "namespace"), metadata(new, "name"));
        for key in after.difference(&before) {
            if !chosen.contains(key) {
                self.check_free(new, key).await?;
            }
            beside.guards.push(Guard::Absent(key.clone()));
            beside.ops.push(Op::Put { key: key.clone(), value: owner.clone().into(), lease: None, attachment: None });
        }
        beside.ops.extend(before.difference(&after).map(|key| Op::Delete { key: key.clone() }));
        Ok(beside)
    }

    async fn choose_address(&self, new: &mut Doc, chosen: &mut BTreeSet<Key>) -> ApiResult<()> {
        let ranges = &self.server.ranges;
        if service_type(new) == "ExternalName" {
            return Ok(());
        }
        if new.str_at(&["spec", "ipFamilyPolicy"]) == "RequireDualStack" {
            let detail = "this cluster is not configured for dual-stack services";
            let error = FieldError::invalid("spec.ipFamilyPolicy", "RequireDualStack", detail);
            return Err(self.invalid(metadata(new, "name"), &[error]));
        }
        if new.str_at(&["spec", "ipFamilyPolicy"]).is_empty() {
            new.set_at(&["spec", "ipFamilyPolicy"], "SingleStack".into());
        }
        let families = new.at(&["spec", "ipFamilies"]).map_or(&[][..], Doc::items).iter().filter_map(Doc::as_str);
        let strange = families.enumerate().find(|(_, family)| *family != ranges.family());
        if let Some((place, family)) = strange {
            let path = format!("spec.ipFamilies[{place}]");
            let error = FieldError::invalid(path, family, "not configured on this cluster");
            return Err(self.invalid(metadata(new, "name"), &[error]));
        }
        if new.at(&["spec", "ipFamilies"]).is_none_or(|families| families.items().is_empty()) {
            new.set_at(&["spec", "ipFamilies"], doc!([ranges.family()]));
        }
        if is_headless(new) {
            new.set_at(&["spec", "clusterIPs"], doc!(["None"]));
            return Ok(());
        }
        let mut addresses = addresses(new);
        if addresses.is_empty() {
            let address = self.free_address().await?;
            chosen.insert(ip_key(&address));
            addresses.push(address);
        }
        new.set_at(&["spec", "clusterIP"], addresses[0].as_str().into());
        new.set_at(&["spec", "clusterIPs"], Doc::from(addresses));
        Ok(())
    }

    /// An address that nobody holds, from the upper part of the range if there is one: the lower is for those who ask.
    async fn free_address(&self) -> ApiResult<String> {
        for range in self.address_ranges() {
            if let Some(address) = self.free_address_in(&range).await? {
                return Ok(address);
            }
        }
        Err(ApiError::internal("failed to allocate a serviceIP: range is full"))
    }

    async fn free_address_in(&self, ranges: &Ranges) -> ApiResult<Option<String>> {
        let size = ranges.size();
        let reserved = (size / 16).clamp(16, 256).min(size.saturating_sub(1) / 2).max(1);
        for _ in 0..GUESSES {
            let span = size.saturating_sub(reserved + 1).max(1);
            let offset = reserved + 1 + u128::from(self.server.env.random()) % span;
            let address = ranges.address(offset).to_string();
            if offset < size && self.is_free(&ip_key(&address)).await? {
                return Ok(Some(address));
            }
        }
        let taken = self.taken(IPS).await?;
        let offsets = (reserved + 1..size).chain(1..=reserved);
        Ok(offsets.map(|offset| ranges.address(offset).to_string()).find(|ip| !taken.contains(ip.as_str())))
    }

    async fn choose_ports(&self, new: &mut Doc, before: &BTreeSet<Key>, chosen: &mut BTreeSet<Key>) -> ApiResult<()> {
        if wants_node_ports(new) {
            for place in 0..ports(new).len() {
                let port = &ports(new)[place];
                if node_port(port).is_some() {
                    continue;
                }
                let number = match twin(new, port) {
                    Some(number) => number,
                    None => self.free_port(before, chosen).await?,
                };
                chosen.insert(port_key(number));
                new.set_at(&["spec", "ports", &place.to_string(), "nodePort"], number.into());
            }
        }
        if wants_health_port(new) && health_port(new).is_none() {
            let number = self.free_port(before, chosen).await?;
            chosen.insert(port_key(number));
            new.set_at(&["spec", "healthCheckNodePort"], number.into());
        }
        Ok(())
    }

    async fn free_port(&self, before: &BTreeSet<Key>, chosen: &BTreeSet<Key>) -> ApiResult<i64> {
        let (first, last) = (i64::from(*self.server.ranges.ports.start()), i64::from(*self.server.ranges.ports.end()));
        let span = (last - first + 1).max(1) as u64;
        for _ in 0..GUESSES {
            let port = first + (self.server.env.random() % span) as i64;
            let key = port_key(port);
            if !before.contains(&key) && !chosen.contains(&key) && self.is_free(&key).await? {
                return Ok(port);
            }
        }
        let taken = self.taken(PORTS).await?;
        let free = |port: &i64| !taken.contains(&port.to_string()) && !chosen.contains(&port_key(*port));
        let found = (first..=last).find(free);
        found.ok_or_else(|| ApiError::internal("failed to allocate a nodePort: range is full"))
    }

    async fn is_free(&self, key: &Key) -> ApiResult<bool> {
        Ok(self.server.store.get(key).await.map_err(|error| store_error(&error))?.is_none())
    }

    async fn taken(&self, prefix: &str) -> ApiResult<BTreeSet<String>> {
        let listing = self.server.store.list(prefix, Page::all()).await.map_err(|error| store_error(&error))?;
        Ok(listing.entries.iter().map(|entry| entry.key[prefix.len()..].to_owned()).collect())
    }

    /// 422 for an address or port that was asked for and cannot be had.
    async fn check_free(&self, service: &Doc, key: &Key) -> ApiResult<()> {
        let name = metadata(service, "name");
        let refused = |path: &str, value: String, detail: String| {
            Err(self.invalid(name, &[FieldError::new(FieldErrorKind::Invalid, path, value, detail)]))
        };
        if let Some(text) = key.strip_prefix(IPS) {
            let Ranges { cidr, .. } = self.server.ranges;
            let (path, value) = ("spec.clusterIPs", format!("[\"{text}\"]"));
            let fits = |address: IpAddr| self.address_ranges().iter().any(|range| range.has(&address));
            if !text.parse().is_ok_and(fits) {
                let why = format!("provided IP is not in the valid range. The range of valid IPs is {cidr}");
                return refused(path, value, format!("failed to allocate IP {text}: {why}"));
            }
            if !self.is_free(key).await? {
                return refused(path, value, format!("failed to allocate IP {text}: provided IP is already allocated"));
            }
        } else if let Some(text) = key.strip_prefix(PORTS) {
            let range = &self.server.ranges.ports;
            let place = ports(service).iter().position(|port| node_port(port).is_some_and(|n| n.to_string() == text));
            let path = place.map_or("spec.healthCheckNodePort".to_owned(), |at| format!("spec.ports[{at}].nodePort"));
            if !text.parse().is_ok_and(|port| range.contains(&port)) {
                let (first, last) = (range.start(), range.end());
                let why =
                    format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
                return refused(&path, text.to_owned(), why);
            }
            if !self.is_free(key).await? {
                return refused(&path, text.to_owned(), "provided port is already allocated".to_owned());
            }
        }
        Ok(())
    }
}

/// A change about an address that a Service holds.
#[derive(Debug, PartialEq)]
pub(super) enum AddressChange {
    /// A Service, as `NAMESPACE/NAME`, has it now.
    Taken { address: String, owner: String },
    /// Nobody has it any more.
    Free { address: String },
}

impl AddressChange {
    /// The changes among what was written beside a Service.
    pub(super) fn among(ops: &[Op]) -> Vec<Self> {
        let address = |key: &Key| key.strip_prefix(IPS).map(str::to_owned);
        let change = |op: &Op| match op {
            Op::Put { key, value, .. } => {
                let owner = String::from_utf8_lossy(value).into_owned();
                address(key).map(|address| Self::Taken { address, owner })
            }
            Op::Delete { key } => address(key).map(|address| Self::Free { address }),
        };
        ops.iter().filter_map(change).collect()
    }
}

const MANAGED_BY: [&str; 3] = ["metadata", "labels", "ipaddress.kubernetes.io/managed-by"];
const MANAGER: &str = "ipallocator.k8s.io";

/// Whether an IPAddress shows what a Service holds.
fn is_managed(address: &Doc) -> bool {
    address.str_at(&MANAGED_BY) == MANAGER
}

/// What another server did at the same time is done.
fn done(result: ApiResult<()>) -> ApiResult<()> {
    match result {
        Err(error) if !error.is_already_exists() && !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

fn ip_addresses() -> ResourceType {
    ResourceType::new("networking.k8s.io", "v1", "ipaddresses")
}

impl Inner {
    /// Makes the IPAddress that shows which Service holds an address.
    pub(crate) async fn show_address(&self, address: &str, owner: &str) -> ApiResult<()> {
        let (namespace, name) = owner.split_once('/').unwrap_or_default();
        let family = if address.contains(':') { "IPv6" } else { "IPv4" };
        let object = doc!({
            "metadata": {"name": address, "labels": {
                "ipaddress.kubernetes.io/ip-family": family, "ipaddress.kubernetes.io/managed-by": MANAGER}},
            "spec": {"parentRef": {"group": "", "resource": "services", "namespace": namespace, "name": name}}
        });
        self.ask_own(Verb::Create, Target::all(ip_addresses(), ""), RequestBody::Doc(object)).await
    }

    /// Makes every IPAddress that is missing, and takes away those of Services that have gone: what a server that ended
    /// between two writes left behind.
    pub(crate) async fn repair_addresses(&self) -> ApiResult<()> {
        let mut held = BTreeSet::new();
        for object in self.cluster.all("", "v1", "services") {
            let Ok(service) = Doc::parse(object.stored_json()) else { continue };
            let owner = format!("{}/{}", object.meta.namespace, object.meta.name);
            for address in addresses(&service).into_iter().filter(|_| wants_address(&service)) {
                let key = ObjectKey::new("", address.as_str());
                if self.cluster.get("networking.k8s.io", "v1", "ipaddresses", &key).is_none() {
                    done(self.show_address(&address, &owner).await)?;
                }
                held.insert(address);
            }
        }
        for object in self.cluster.all("networking.k8s.io", "v1", "ipaddresses") {
            let name = object.meta.name.as_str();
            let managed = object.meta.labels.iter().any(|(key, value)| key == MANAGED_BY[2] && value == MANAGER);
            if managed && !held.contains(name) {
                done(self.ask_own(Verb::Delete, Target::one(ip_addresses(), "", name), RequestBody::None).await)?;
            }
        }
        Ok(())
    }
}

/// The node port of the same port under another protocol: both may share one.
fn twin(service: &Doc, port: &Doc) -> Option<i64> {
    let same = |other: &&Doc| {
        other.get("port") == port.get("port") && other.str_at(&["protocol"]) != port.str_at(&["protocol"])
    };
    let number = ports(service).iter().filter(same).find_map(node_port)?;
    let used =
        |other: &Doc| node_port(other) == Some(number) && other.str_at(&["protocol"]) == port.str_at(&["protocol"]);
    (!ports(service).iter().any(used)).then_some(number)
}

fn keep_addresses(new: &mut Doc, old: &Doc) {
    if service_type(new) == "ExternalName" {
        if new.str_at(&["spec", "clusterIP"]) == old.str_at(&["spec", "clusterIP"]) {
            for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
                new.remove_at(&["spec", field]);
            }
        }
        return;
    }
    if service_type(old) == "ExternalName" {
        return;
    }
    for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
        let unset = match new.at(&["spec", field]) {
            None | Some(Doc::Null) => true,
            Some(Doc::String(text)) => text.is_empty(),
            Some(Doc::Array(items)) => items.is_empty(),
            Some(_) => false,
        };
        if unset && let Some(value) = old.at(&["spec", field]) {
            new.set_at(&["spec", field], value.clone());
        }
    }
}

fn keep_ports(new: &mut Doc, old: &Doc) {
    let identity = |port: &Doc| (port.get("port").and_then(Doc::as_i64), port.str_at(&["protocol"]).to_owned());
    let known: Vec<_> = ports(old).iter().filter_map(|port| Some((identity(port), node_port(port)?))).collect();
    let wants = wants_node_ports(new);
    if let Some(ports) = new.at_mut(&["spec", "ports"]) {
        for port in ports.items_mut() {
            let before = known.iter().find(|(id, _)| *id == identity(port)).map(|(_, number)| *number);
            match (wants, node_port(port), before) {
                (true, None, Some(number)) => port.set_at(&["nodePort"], number.into()),
                // The type has no node ports any more, and the client did not ask for another one.
                (false, Some(number), Some(before)) if number == before => drop(port.remove_at(&["nodePort"])),
                _ => {}
            }
        }
    }
    match (wants_health_port(new), health_port(new), health_port(old)) {
        (true, None, Some(number)) => new.set_at(&["spec", "healthCheckNodePort"], number.into()),
        (false, Some(number), Some(before)) if number == before => {
            new.remove_at(&["spec", "healthCheckNodePort"]);
        }
        _ => {}
    }
}

/// The fence of a Lease is written when its holder changes, in the same transaction.
fn fence(new: &Doc, old: Option<&Doc>) -> Beside {
    const HOLDER: [&str; 2] = ["spec", "holderIdentity"];
    let mut beside = Beside::default();
    if old.is_none_or(|old| old.str_at(&HOLDER) != new.str_at(&HOLDER)) {
        let key = fence_key(metadata(new, "namespace"), metadata(new, "name"));
        let value = new.str_at(&HOLDER).to_owned().into();
        beside.ops.push(Op::Put { key, value, lease: None, attachment: None });
    }
    beside
}
