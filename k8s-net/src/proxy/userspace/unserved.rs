//! What the backend cannot serve, in one line for each reason. Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
    sync::Arc,
};

use crate::proxy::{Frontend, Protocol};

/// How many Services a line names.
const NAMED: usize = 8;

/// Why something is not served.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Obstacle {
    /// The process may not give the machine the address: it lacks `CAP_NET_ADMIN`.
    AddAddresses,
    /// The process may not listen on the port: it lacks `CAP_NET_BIND_SERVICE`.
    LowPorts,
    /// Sockets do not forward SCTP.
    Sctp,
    /// The operating system refused, and may not the next time: somebody else has the port, for instance.
    Refused {
        /// What it said, and of what.
        message: String,
    },
}

/// Services that are not served everywhere they should be. Its `Display` has one line for each reason.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Unserved {
    services: BTreeMap<Obstacle, BTreeSet<Arc<str>>>,
}

impl Obstacle {
    /// Why a socket could not be opened.
    pub(super) fn of_socket(frontend: Frontend, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied if frontend.port < 1024 => Self::LowPorts,
            _ => Self::Refused { message: format!("{frontend}: {error}") },
        }
    }

    /// Why an address could not be added.
    pub(super) fn of_address(link: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::PermissionDenied => Self::AddAddresses,
            _ => Self::Refused { message: format!("link {link}: {error}") },
        }
    }

    /// The obstacle that no try overcomes.
    pub(super) fn of_protocol(protocol: Protocol) -> Option<Self> {
        (protocol == Protocol::Sctp).then_some(Self::Sctp)
    }

    /// Whether the next try may succeed though nothing changes in the cluster.
    pub(super) fn may_pass(&self) -> bool {
        matches!(self, Self::Refused { .. })
    }
}

impl Unserved {
    /// Whether everything is served.
    pub fn is_empty(&self) -> bool {
        self.services.is_empty()
    }

    /// Why something is not served: each reason and the Services concerned, as `namespace/name:port`.
    pub fn reasons(&self) -> impl Iterator<Item = (&Obstacle, &BTreeSet<Arc<str>>)> {
        self.services.iter()
    }

    pub(super) fn add(&mut self, obstacle: Obstacle, service: Arc<str>) {
        self.services.entry(obstacle).or_default().insert(service);
    }

    /// What is in here and was not in `before`.
    pub(super) fn since(&self, before: &Self) -> Self {
        let mut new = Self::default();
        for (obstacle, services) in &self.services {
            let known = before.services.get(obstacle);
            let unknown = services.iter().filter(|service| known.is_none_or(|known| !known.contains(*service)));
            unknown.for_each(|service| new.add(obstacle.clone(), Arc::clone(service)));
        }
        new
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AddAddresses => f.write_str(
                "this process lacks CAP_NET_ADMIN to add service addresses to this machine; \
                 node ports are served, cluster IPs and external addresses are not",
            ),
            Self::LowPorts => f.write_str(
                "this process lacks CAP_NET_BIND_SERVICE to listen on ports below 1024; \
                 higher ports are served, these are not",
            ),
            Self::Sctp => f.write_str("SCTP is not served in user space"),
            Self::Refused { message } => write!(f, "not served, and tried again: {message}"),
        }
    }
}

impl fmt::Display for Unserved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, (obstacle, services)) in self.services.iter().enumerate() {
            let named: Vec<_> = services.iter().take(NAMED).map(|service| &**service).collect();
            let line = if number == 0 { "" } else { "\n" };
            write!(f, "{line}{obstacle}: {}", named.join(", "))?;
            if services.len() > NAMED {
                write!(f, " and {} more", services.len() - NAMED)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_names_what_is_missing_and_who_is_concerned() {
        let mut unserved = Unserved::default();
        assert_eq!(unserved.to_string(), "");
        for number in 0..10 {
            unserved.add(Obstacle::AddAddresses, format!("ns/web-{number}:").into());
        }
        unserved.add(Obstacle::Sctp, "ns/phone:".into());
        insta::assert_snapshot!(unserved, @"
        this process lacks CAP_NET_ADMIN to add service addresses to this machine; node ports are served, cluster IPs and external addresses are not: ns/web-0:, ns/web-1:, ns/web-2:, ns/web-3:, ns/web-4:, ns/web-5:, ns/web-6:, ns/web-7: and 2 more
        SCTP is not served in user space: ns/phone:
        ");
    }

    #[test]
    fn what_was_said_before_is_not_said_again() {
        let mut before = Unserved::default();
        before.add(Obstacle::AddAddresses, "ns/a:".into());
        let mut now = before.clone();
        assert!(now.since(&before).is_empty());
        now.add(Obstacle::AddAddresses, "ns/b:".into());
        now.add(Obstacle::LowPorts, "ns/a:".into());
        let new = now.since(&before);
        let new: Vec<_> = new.reasons().map(|(obstacle, services)| (obstacle, services.len())).collect();
        assert_eq!(new, [(&Obstacle::AddAddresses, 1), (&Obstacle::LowPorts, 1)]);
    }

    #[test]
    fn a_refusal_is_told_apart_from_a_missing_privilege() {
        let frontend = |port| Frontend { address: [192, 0, 2, 1].into(), protocol: Protocol::Tcp, port };
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        assert_eq!(Obstacle::of_socket(frontend(80), &denied), Obstacle::LowPorts);
        assert!(Obstacle::of_socket(frontend(8080), &denied).may_pass());
        let in_use = Obstacle::of_socket(frontend(80), &io::Error::from(io::ErrorKind::AddrInUse));
        assert_eq!(in_use.to_string(), "not served, and tried again: 192.0.2.1:80/tcp: address in use");
    }
}
