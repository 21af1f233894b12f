//! The decision: a question in, records out. Pure.

use std::{collections::BTreeSet, net::IpAddr};

use hickory_proto::rr::{
    Name, RData, Record, RecordType,
    rdata::{CNAME, PTR, SRV, TXT},
};
use k8s_core::object::ObjectKey;

use super::{
    Index,
    index::{Form, Port, ServiceEntry, Told},
};

/// The version of the specification that the zone follows, as the zone itself says it.
const VERSION: &str = "1.1.0";
/// How many external names may lead to each other.
const MAX_ALIASES: usize = 8;
/// The weights of the targets of one port add up to about this.
const WEIGHT: usize = 100;

/// What there is to say to a question.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Whether that is all.
    pub outcome: Outcome,
    /// The records that were asked for, aliases first.
    pub records: Vec<Record>,
    /// Records that whoever asked will want next.
    pub additionals: Vec<Record>,
    /// Whose word it is that there is nothing.
    pub authorities: Vec<Record>,
}

/// How a question ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// There are records.
    Found,
    /// The name exists, and has no records of that type.
    NoData,
    /// The name does not exist.
    NoName,
    /// The name is not of this zone; somebody else must be asked for this one, with the same type.
    Elsewhere(Name),
    /// It cannot be told: the cluster is not known yet, or aliases lead in a circle.
    Failed,
}

/// Answers a question for `name` from what `index` knows.
///
/// Deterministic; whoever sends the answer decides about the order of addresses.
pub fn answer(index: &Index, name: &Name, kind: RecordType) -> Answer {
    let mut asked = Asked { index, name: name.clone(), kind, answer: Answer::of(Outcome::Failed) };
    for _ in 0..MAX_ALIASES {
        match asked.step() {
            Step::Done(outcome) => return asked.finish(outcome),
            Step::Alias(target) => asked.name = target,
        }
    }
    asked.finish(Outcome::Failed)
}

impl Answer {
    fn of(outcome: Outcome) -> Self {
        Self { outcome, records: Vec::new(), additionals: Vec::new(), authorities: Vec::new() }
    }
}

/// A question, and what there is to say to it so far.
struct Asked<'a> {
    index: &'a Index,
    name: Name,
    kind: RecordType,
    answer: Answer,
}

enum Step {
    Done(Outcome),
    /// Another name stands for this one.
    Alias(Name),
}

/// What stands at a name: its records of any type. Without any, the name still exists.
type Records = Vec<RData>;

impl Asked<'_> {
    fn finish(mut self, outcome: Outcome) -> Answer {
        if matches!(outcome, Outcome::NoData | Outcome::NoName) && self.answer.authorities.is_empty() {
            self.answer.authorities.push(self.index.zone().authority());
        }
        Answer { outcome, ..self.answer }
    }

    fn step(&mut self) -> Step {
        let Some(labels) = self.index.zone().labels_below(&self.name) else { return Step::Done(self.reverse()) };
        if !self.index.is_complete() {
            return Step::Done(Outcome::Failed);
        }
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        let Some(records) = self.at(&labels) else { return Step::Done(Outcome::NoName) };
        if let [RData::CNAME(CNAME(target))] = &records[..] {
            let target = target.clone();
            let is_asked_for = self.wants(RecordType::CNAME);
            self.add(records);
            return if is_asked_for { Step::Done(Outcome::Found) } else { Step::Alias(target) };
        }
        Step::Done(self.add(records))
    }

    /// Everything at the name of these labels below the zone; `None` if there is no such name.
    fn at(&mut self, labels: &[&str]) -> Option<Records> {
        let zone = self.index.zone();
        match *labels {
            [] => Some(vec![zone.authority().data, zone.name_server().data]),
            ["dns-version"] => Some(vec![RData::TXT(TXT::new(vec![VERSION.to_owned()]))]),
            ["svc" | "pod"] => Some(Vec::new()),
            [namespace, "svc" | "pod"] => self.index.has_namespace(namespace).then(Vec::new),
            [pod, namespace, "pod"] => {
                let address = self.index.has_namespace(namespace).then(|| undashed(pod))??;
                Some(vec![address_record(address)])
            }
            [service, namespace, "svc"] => {
                let key = ObjectKey::new(namespace, service);
                Some(self.of_service(&key, self.index.service(&key)?))
            }
            [label, service, namespace, "svc"] => {
                let key = ObjectKey::new(namespace, service);
                let service = self.index.service(&key)?;
                match label.strip_prefix('_') {
                    Some(protocol) => self.has_port(&key, service, protocol).then(Vec::new),
                    None => self.of_endpoint(&key, label),
                }
            }
            [port, protocol, service, namespace, "svc"] => {
                let key = ObjectKey::new(namespace, service);
                let (port, protocol) = (port.strip_prefix('_')?, protocol.strip_prefix('_')?);
                self.of_port(&key, port, protocol)
            }
            _ => None,
        }
    }

    fn of_service(&self, key: &ObjectKey, service: &ServiceEntry) -> Records {
        match &service.form {
            Form::ClusterIp(addresses) => addresses.iter().copied().map(address_record).collect(),
            Form::Headless => distinct(self.index.endpoints(key).map(|endpoint| address_record(endpoint.address))),
            Form::External(target) => vec![RData::CNAME(CNAME(target.clone()))],
        }
    }

    fn of_endpoint(&self, key: &ObjectKey, label: &str) -> Option<Records> {
        let named = self.index.endpoints(key).filter(|endpoint| endpoint.label() == label);
        let records = distinct(named.map(|endpoint| address_record(endpoint.address)));
        (!records.is_empty()).then_some(records)
    }

    /// Whether some port of the Service is of this protocol, so that names end in it.
    fn has_port(&self, key: &ObjectKey, service: &ServiceEntry, protocol: &str) -> bool {
        let is_of = |port: &Port| port.protocol == protocol;
        match service.form {
            Form::ClusterIp(_) => service.ports.iter().any(is_of),
            Form::Headless => self.index.endpoints(key).any(|endpoint| endpoint.ports.iter().any(is_of)),
            Form::External(_) => false,
        }
    }

    /// The targets of a named port, whose addresses become additional records.
    fn of_port(&mut self, key: &ObjectKey, name: &str, protocol: &str) -> Option<Records> {
        let service = self.index.service(key)?;
        let wanted = |port: &&Port| port.name == name && port.protocol == protocol;
        let (service_name, namespace) = (key.name.as_str(), key.namespace.as_str());
        // Name, port and address of each target.
        let mut targets: Vec<(Name, u16, IpAddr)> = Vec::new();
        match &service.form {
            Form::ClusterIp(addresses) => {
                let port = service.ports.iter().find(wanted)?.number;
                let target = self.index.zone().name(&[service_name, namespace, "svc"])?;
                targets.extend(addresses.iter().map(|address| (target.clone(), port, *address)));
            }
            Form::Headless => {
                for endpoint in self.index.endpoints(key) {
                    let port = endpoint.ports.iter().find(wanted);
                    let target = self.endpoint_name(key, &endpoint);
                    targets.extend(target.zip(port).map(|(target, port)| (target, port.number, endpoint.address)));
                }
            }
            Form::External(_) => {}
        }
        if targets.is_empty() {
            return None;
        }
        if self.wants(RecordType::SRV) {
            let zone = self.index.zone();
            let addresses = targets.iter().map(|(target, _, address)| (target.clone(), address_record(*address)));
            self.answer.additionals = addresses.map(|(target, data)| zone.record(target, data)).collect();
        }
        // Both addresses of one name are one target.
        let ends: BTreeSet<(Name, u16)> = targets.into_iter().map(|(target, port, _)| (target, port)).collect();
        let weight = (WEIGHT / ends.len()).max(1) as u16;
        Some(ends.into_iter().map(|(target, port)| RData::SRV(SRV::new(0, weight, port, target))).collect())
    }

    fn endpoint_name(&self, service: &ObjectKey, endpoint: &Told<'_>) -> Option<Name> {
        self.index.zone().name(&[&endpoint.label(), &service.name, &service.namespace, "svc"])
    }

    /// Answers for a name outside of the zone, which may stand for one of the cluster's addresses.
    fn reverse(&mut self) -> Outcome {
        let elsewhere = Outcome::Elsewhere(self.name.clone());
        let Some(net) = self.name.parse_arpa_name().ok().filter(|net| net.prefix_len() == net.max_prefix_len()) else {
            return elsewhere;
        };
        let (zone, address) = (self.index.zone(), net.addr());
        let service = self.index.service_at(address);
        let names = match service {
            Some(service) => vec![zone.name(&[&service.name, &service.namespace, "svc"])],
            None => {
                let endpoints = self.index.endpoints_at(address);
                endpoints.map(|(service, endpoint)| self.endpoint_name(service, &endpoint)).collect()
            }
        };
        let records = distinct(names.into_iter().flatten().map(|name| RData::PTR(PTR(name))));
        if records.is_empty() {
            return self.nobody_at(address, elsewhere);
        }
        let authority = zone.authority_at(self.name.base_name());
        let outcome = self.add(records);
        if outcome == Outcome::NoData {
            self.answer.authorities.push(authority);
        }
        outcome
    }

    fn nobody_at(&mut self, address: IpAddr, elsewhere: Outcome) -> Outcome {
        let zone = self.index.zone();
        if !zone.owns(address) {
            return elsewhere;
        }
        if !self.index.is_complete() {
            return Outcome::Failed;
        }
        self.answer.authorities.push(zone.authority_at(self.name.base_name()));
        Outcome::NoName
    }

    fn wants(&self, kind: RecordType) -> bool {
        self.kind == kind || self.kind == RecordType::ANY
    }

    /// Adds the records that were asked for, and aliases.
    fn add(&mut self, records: Records) -> Outcome {
        let before = self.answer.records.len();
        for data in records {
            let kind = data.record_type();
            if kind == RecordType::CNAME || self.wants(kind) {
                self.answer.records.push(self.index.zone().record(self.name.clone(), data));
            }
        }
        if self.answer.records.len() > before { Outcome::Found } else { Outcome::NoData }
    }
}

fn address_record(address: IpAddr) -> RData {
    match address {
        IpAddr::V4(address) => RData::A(address.into()),
        IpAddr::V6(address) => RData::AAAA(address.into()),
    }
}

/// The address that one label stands for.
fn undashed(label: &str) -> Option<IpAddr> {
    let v4 = || label.replace('-', ".").parse().ok().map(IpAddr::V4);
    v4().or_else(|| label.replace('-', ":").parse().ok().map(IpAddr::V6))
}

/// In order, each once. Slices overlap while endpoints move.
fn distinct(records: impl Iterator<Item = RData>) -> Records {
    let mut known = std::collections::HashSet::new();
    records.filter(|data| known.insert(data.clone())).collect()
}

#[cfg(test)]
mod tests;
