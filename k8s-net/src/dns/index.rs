//! What the zone holds: the cluster's Services, endpoints and namespaces, kept by name and by address.
//!
//! Holds extracts, never the objects.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use hickory_proto::rr::Name;
use k8s_core::{
    api::api::{
        core::v1::Service,
        discovery::v1::{Endpoint, EndpointSlice},
    },
    object::ObjectKey,
};

use super::Zone;

/// Links a slice to its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// The cluster as far as names need it. Fed one object at a time, in any order.
#[derive(Debug)]
pub struct Index {
    zone: Zone,
    complete: bool,
    namespaces: BTreeSet<String>,
    services: BTreeMap<ObjectKey, ServiceEntry>,
    slices: BTreeMap<ObjectKey, SliceEntry>,
    slices_of: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
    service_at: BTreeMap<IpAddr, ObjectKey>,
    slices_at: BTreeMap<IpAddr, BTreeSet<ObjectKey>>,
}

/// What names need of a Service.
#[derive(Debug)]
pub(super) struct ServiceEntry {
    pub(super) form: Form,
    pub(super) ports: Vec<Port>,
    publish_not_ready: bool,
}

/// What a Service's name leads to.
#[derive(Debug)]
pub(super) enum Form {
    ClusterIp(Vec<IpAddr>),
    Headless,
    External(Name),
}

/// A named port.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Port {
    pub(super) name: String,
    /// In lower case.
    pub(super) protocol: String,
    pub(super) number: u16,
}

#[derive(Debug)]
struct SliceEntry {
    service: ObjectKey,
    ports: Vec<Port>,
    endpoints: Vec<EndpointEntry>,
}

#[derive(Debug)]
struct EndpointEntry {
    ready: bool,
    hostname: Option<String>,
    addresses: Vec<IpAddr>,
}

/// One address of an endpoint that may be told.
#[derive(Debug, Clone, Copy)]
pub(super) struct Told<'a> {
    hostname: Option<&'a str>,
    pub(super) address: IpAddr,
    pub(super) ports: &'a [Port],
}

impl Told<'_> {
    /// The label that the endpoint goes by below its Service.
    pub(super) fn label(&self) -> String {
        match self.hostname {
            Some(hostname) => hostname.to_owned(),
            None => dashed(self.address),
        }
    }
}

/// An address as one label.
fn dashed(address: IpAddr) -> String {
    address.to_string().replace(['.', ':'], "-")
}

impl Index {
    /// An empty index. It does not know that it is empty until it is [complete](Index::set_complete).
    pub fn new(zone: Zone) -> Self {
        Self {
            zone,
            complete: false,
            namespaces: BTreeSet::new(),
            services: BTreeMap::new(),
            slices: BTreeMap::new(),
            slices_of: BTreeMap::new(),
            service_at: BTreeMap::new(),
            slices_at: BTreeMap::new(),
        }
    }

    /// The zone.
    pub fn zone(&self) -> &Zone {
        &self.zone
    }

    /// From now on, what is not here does not exist. Before, nobody is told so.
    pub fn set_complete(&mut self) {
        self.complete = true;
    }

    pub(super) fn is_complete(&self) -> bool {
        self.complete
    }

    /// Adds a namespace.
    pub fn put_namespace(&mut self, name: &str) {
        self.namespaces.insert(name.to_owned());
    }

    /// Removes a namespace.
    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Adds or replaces a Service.
    pub fn put_service(&mut self, service: &Service) {
        let metadata = &service.metadata;
        let key = key(metadata.namespace.as_deref(), metadata.name.as_deref());
        self.remove_service(&key);
        let Some(entry) = ServiceEntry::read(service) else { return };
        if let Form::ClusterIp(addresses) = &entry.form {
            self.service_at.extend(addresses.iter().map(|address| (*address, key.clone())));
        }
        self.services.insert(key, entry);
    }

    /// Removes a Service.
    pub fn remove_service(&mut self, key: &ObjectKey) {
        let Some(entry) = self.services.remove(key) else { return };
        if let Form::ClusterIp(addresses) = entry.form {
            for address in addresses {
                // Somebody else may have the address by now.
                if self.service_at.get(&address) == Some(key) {
                    self.service_at.remove(&address);
                }
            }
        }
    }

    /// Adds or replaces an EndpointSlice.
    pub fn put_slice(&mut self, slice: &EndpointSlice) {
        let metadata = &slice.metadata;
        let key = key(metadata.namespace.as_deref(), metadata.name.as_deref());
        self.remove_slice(&key);
        let Some(entry) = SliceEntry::read(slice, &key) else { return };
        for address in entry.addresses() {
            self.slices_at.entry(address).or_default().insert(key.clone());
        }
        self.slices_of.entry(entry.service.clone()).or_default().insert(key.clone());
        self.slices.insert(key, entry);
    }

    /// Removes an EndpointSlice.
    pub fn remove_slice(&mut self, key: &ObjectKey) {
        let Some(entry) = self.slices.remove(key) else { return };
        for address in entry.addresses() {
            unlink(&mut self.slices_at, &address, key);
        }
        unlink(&mut self.slices_of, &entry.service, key);
    }

    /// A namespace that has a Service exists, whatever was heard of it.
    pub(super) fn has_namespace(&self, name: &str) -> bool {
        let from = ObjectKey::new(name, "");
        let occupied = || self.services.range(from..).next().is_some_and(|(key, _)| key.namespace == name);
        self.namespaces.contains(name) || occupied()
    }

    pub(super) fn service(&self, key: &ObjectKey) -> Option<&ServiceEntry> {
        self.services.get(key)
    }

    /// The Service with this cluster IP.
    pub(super) fn service_at(&self, address: IpAddr) -> Option<&ObjectKey> {
        self.service_at.get(&address)
    }

    /// The endpoints of a Service that may be told: the ready ones, or all if it says so.
    pub(super) fn endpoints<'a>(&'a self, key: &ObjectKey) -> impl Iterator<Item = Told<'a>> + use<'a> {
        let all = self.services.get(key).is_some_and(|service| service.publish_not_ready);
        let slices = self.slices_of.get(key).into_iter().flatten().filter_map(|slice| self.slices.get(slice));
        slices.flat_map(move |slice| slice.told(all))
    }

    /// The endpoints with this address that may be told, each with its Service.
    pub(super) fn endpoints_at(&self, address: IpAddr) -> impl Iterator<Item = (&ObjectKey, Told<'_>)> {
        let slices = self.slices_at.get(&address).into_iter().flatten().filter_map(|slice| self.slices.get(slice));
        slices.flat_map(move |slice| {
            let service = self.services.get(&slice.service);
            let all = service.is_some_and(|service| service.publish_not_ready);
            let told = slice.told(all).filter(move |told| service.is_some() && told.address == address);
            told.map(|told| (&slice.service, told))
        })
    }
}

impl ServiceEntry {
    fn read(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        let ports = spec.ports.iter().flatten();
        let ports = ports.filter_map(|port| Port::read(port.name.as_deref(), port.protocol.as_deref(), port.port));
        Some(Self {
            form: Form::read(service)?,
            ports: ports.collect(),
            publish_not_ready: spec.publish_not_ready_addresses.unwrap_or(false),
        })
    }
}

impl Form {
    /// `None` for a Service that has no name yet, or one that leads nowhere.
    fn read(service: &Service) -> Option<Self> {
        let spec = service.spec.as_ref()?;
        if spec.type_.as_deref() == Some("ExternalName") {
            let mut target = Name::from_ascii(spec.external_name.as_deref()?).ok()?;
            target.set_fqdn(true);
            return Some(Self::External(target));
        }
        let all = spec.cluster_ips.as_deref().unwrap_or_default();
        let all = if all.is_empty() { spec.cluster_ip.as_slice() } else { all };
        if all.iter().any(|text| text == "None") {
            return Some(Self::Headless);
        }
        let addresses: Vec<IpAddr> = all.iter().filter_map(|text| text.parse().ok()).collect();
        (!addresses.is_empty()).then_some(Self::ClusterIp(addresses))
    }
}

impl Port {
    /// `None` for a port without a name: there is no record for it.
    fn read(name: Option<&str>, protocol: Option<&str>, number: i32) -> Option<Self> {
        let name = name.filter(|name| !name.is_empty())?.to_owned();
        let number = u16::try_from(number).ok()?;
        Some(Self { name, protocol: protocol.unwrap_or("TCP").to_ascii_lowercase(), number })
    }
}

impl SliceEntry {
    fn read(slice: &EndpointSlice, key: &ObjectKey) -> Option<Self> {
        let service = slice.metadata.labels.as_ref()?.get(SERVICE_NAME)?;
        let ports = slice.ports.iter().flatten();
        let ports = ports.filter_map(|port| Port::read(port.name.as_deref(), port.protocol.as_deref(), port.port?));
        Some(Self {
            service: ObjectKey::new(key.namespace.clone(), service.as_str()),
            ports: ports.collect(),
            endpoints: slice.endpoints.iter().flatten().map(EndpointEntry::read).collect(),
        })
    }

    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.endpoints.iter().flat_map(|endpoint| endpoint.addresses.iter().copied())
    }

    fn told(&self, all: bool) -> impl Iterator<Item = Told<'_>> {
        let told = self.endpoints.iter().filter(move |endpoint| all || endpoint.ready);
        told.flat_map(move |endpoint| {
            let hostname = endpoint.hostname.as_deref();
            endpoint.addresses.iter().map(move |address| Told { hostname, address: *address, ports: &self.ports })
        })
    }
}

impl EndpointEntry {
    /// Absent conditions mean ready. Names in place of addresses are passed over.
    fn read(endpoint: &Endpoint) -> Self {
        Self {
            ready: endpoint.conditions.as_ref().and_then(|conditions| conditions.ready).unwrap_or(true),
            hostname: endpoint.hostname.as_ref().map(|name| name.to_ascii_lowercase()),
            addresses: endpoint.addresses.iter().filter_map(|text| text.parse().ok()).collect(),
        }
    }
}

fn key(namespace: Option<&str>, name: Option<&str>) -> ObjectKey {
    ObjectKey::new(namespace.unwrap_or_default(), name.unwrap_or_default())
}

fn unlink<K: Ord>(links: &mut BTreeMap<K, BTreeSet<ObjectKey>>, from: &K, to: &ObjectKey) {
    if let Some(linked) = links.get_mut(from) {
        linked.remove(to);
        if linked.is_empty() {
            links.remove(from);
        }
    }
}
