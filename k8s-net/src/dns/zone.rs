//! The zone: its name, how long its answers hold, and the records that every zone has.

use std::net::IpAddr;

use hickory_proto::rr::{
    Name, RData, Record,
    rdata::{NS, SOA},
};
use ipnet::IpNet;

/// How long an answer may be kept, in seconds. Short, because endpoints come and go; upstream's default.
const TTL: u32 = 5;
/// What a zone's start of authority says to secondary servers, of which there are none: refresh, retry, expire, in seconds.
const SECONDARIES: (i32, i32, i32) = (7200, 1800, 86_400);

/// What the zone is, besides the objects in it.
#[derive(Debug, Clone)]
pub struct Zone {
    domain: Name,
    networks: Vec<IpNet>,
}

/// The domain's name is none.
#[derive(Debug, thiserror::Error)]
#[error("cluster domain `{domain}`: {why}")]
pub struct ZoneError {
    /// What was given.
    pub domain: String,
    /// What is wrong with it.
    pub why: String,
}

impl Zone {
    /// The zone of a cluster domain, such as `cluster.local`.
    pub fn new(domain: &str) -> Result<Self, ZoneError> {
        let failed = |why: String| ZoneError { domain: domain.to_owned(), why };
        let mut name = Name::from_ascii(domain).map_err(|why| failed(why.to_string()))?;
        name.set_fqdn(true);
        if name.is_root() {
            return Err(failed("it is the root of all domains".into()));
        }
        Ok(Self { domain: name.to_lowercase(), networks: Vec::new() })
    }

    /// The cluster's own addresses (of pods, of Services): nobody else is asked whose they are.
    pub fn networks(mut self, networks: Vec<IpNet>) -> Self {
        self.networks = networks;
        self
    }

    pub(super) fn owns(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(&address))
    }

    /// The labels of `name` below the zone, in lower case; `None` if it is not in the zone.
    pub(super) fn labels_below(&self, name: &Name) -> Option<Vec<String>> {
        if !self.domain.zone_of(name) {
            return None;
        }
        let own = usize::from(self.domain.num_labels());
        let below = name.iter().len().checked_sub(own)?;
        // Bytes beyond ASCII are in no name of a cluster; whatever they become, it is not found.
        Some(name.iter().take(below).map(|label| String::from_utf8_lossy(label).to_ascii_lowercase()).collect())
    }

    /// The name made of these labels below the zone; `None` if it would be too long.
    pub(super) fn name(&self, labels: &[&str]) -> Option<Name> {
        let labels = labels.iter().map(|label| label.as_bytes());
        Name::from_labels(labels).ok()?.append_domain(&self.domain).ok()
    }

    pub(super) fn record(&self, name: Name, data: RData) -> Record {
        Record::from_rdata(name, TTL, data)
    }

    /// The start of authority at the zone's own name.
    pub(super) fn authority(&self) -> Record {
        self.authority_at(self.domain.clone())
    }

    /// The start of authority of a reverse zone of ours.
    pub(super) fn authority_at(&self, owner: Name) -> Record {
        let (refresh, retry, expire) = SECONDARIES;
        let contact = self.name(&["hostmaster"]).unwrap_or_else(|| self.domain.clone());
        // Nobody compares serial numbers, since nobody transfers the zone.
        let start = SOA::new(self.server(), contact, 1, refresh, retry, expire, TTL);
        self.record(owner, RData::SOA(start))
    }

    /// The name server's own record.
    pub(super) fn name_server(&self) -> Record {
        self.record(self.domain.clone(), RData::NS(NS(self.server())))
    }

    fn server(&self) -> Name {
        self.name(&["kube-dns", "kube-system", "svc"]).unwrap_or_else(|| self.domain.clone())
    }
}
