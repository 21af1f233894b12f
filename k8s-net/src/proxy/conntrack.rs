//! Ends UDP flows that the kernel still sends to endpoints that are gone.
//!
//! The rules decide about new connections only. A TCP connection to a dead pod ends by itself; a UDP flow never does
//! while its client keeps sending, so the kernel's record of it is deleted and the next datagram is decided anew.
//! Blocking: reads the whole connection table, but only when a UDP Service changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::IpAddr,
};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NlaBuffer},
    sys::Socket,
};

use super::{Frontend, Protocol, Rules, Target};
use crate::netfilter::{self, MESSAGE_DONE, MESSAGE_ERROR, Message};

/// UDP frontends whose flows may be astray, with the targets that are right.
pub(super) type Stale = BTreeMap<Frontend, BTreeSet<Target>>;

/// The frontends that `rules` treats differently from `before` in a way that leaves flows astray: a target is gone,
/// or there was none and now there is. Without `before`, every UDP frontend.
pub(super) fn stale(before: Option<&Rules>, rules: &Rules) -> Stale {
    let mut stale = Stale::new();
    let now = udp(rules);
    match before.map(udp) {
        None => stale = now,
        Some(before) => {
            for (frontend, targets) in &now {
                let earlier = before.get(frontend);
                if earlier.is_none_or(|earlier| earlier.is_empty() || !earlier.is_subset(targets)) {
                    stale.insert(*frontend, targets.clone());
                }
            }
            let gone = before.into_keys().filter(|frontend| !now.contains_key(frontend));
            stale.extend(gone.map(|frontend| (frontend, BTreeSet::new())));
        }
    }
    stale
}

fn udp(rules: &Rules) -> Stale {
    let udp = rules.frontends.iter().filter(|(frontend, _)| frontend.protocol == Protocol::Udp);
    udp.map(|(frontend, destination)| (*frontend, destination.targets().collect())).collect()
}

/// Deletes the kernel's record of every flow to a frontend in `stale` that goes to none of its targets.
///
/// Needs `CAP_NET_ADMIN`. Looks at the network namespace of the calling thread.
pub(super) fn end(stale: &Stale) -> io::Result<()> {
    let socket = netfilter::open()?;
    for ipv6 in [false, true] {
        if !stale.keys().any(|frontend| frontend.address.is_ipv6() == ipv6) {
            continue;
        }
        for flow in astray(&socket, ipv6, stale)? {
            delete(&socket, &flow)?;
        }
    }
    Ok(())
}

// Numbers of linux/netfilter/nfnetlink_conntrack.h.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const ZONE: u16 = 18;
const IP_SOURCE: [u16; 2] = [1, 3];
const IP_DESTINATION: [u16; 2] = [2, 4];
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const UDP: u8 = 17;

/// What identifies a flow to the kernel: the attributes as it sent them.
struct Flow {
    ipv6: bool,
    identity: Vec<u8>,
}

/// One direction of a flow.
#[derive(Debug, Default)]
struct Tuple {
    source: Option<IpAddr>,
    destination: Option<IpAddr>,
    protocol: Option<u8>,
    source_port: Option<u16>,
    destination_port: Option<u16>,
}

fn astray(socket: &Socket, ipv6: bool, stale: &Stale) -> io::Result<Vec<Flow>> {
    socket.send(&netfilter::request(GET, NLM_F_DUMP, family(ipv6), &[]), 0)?;
    let mut flows = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        for message in netfilter::messages(&bytes)? {
            match message.kind {
                MESSAGE_DONE => return Ok(flows),
                MESSAGE_ERROR => {
                    return Err(message.error().unwrap_or_else(|| io::Error::other("listing ended early")));
                }
                _ => flows.extend(examine(&message, ipv6, stale)),
            }
        }
    }
}

/// The flow's identity if it is astray.
fn examine(message: &Message<'_>, ipv6: bool, stale: &Stale) -> Option<Flow> {
    let (mut original, mut reply) = (Tuple::default(), Tuple::default());
    let mut identity = Vec::new();
    for attribute in message.attributes() {
        match attribute.kind() {
            TUPLE_ORIGINAL => {
                original = Tuple::read(attribute.value());
                put(&mut identity, &attribute);
            }
            TUPLE_REPLY => reply = Tuple::read(attribute.value()),
            ZONE => put(&mut identity, &attribute),
            _ => {}
        }
    }
    if original.protocol != Some(UDP) {
        return None;
    }
    let frontend =
        Frontend { address: original.destination?, protocol: Protocol::Udp, port: original.destination_port? };
    // The reply comes from where the flow really goes.
    let target = Target { address: reply.source?, port: reply.source_port? };
    let targets = stale.get(&frontend)?;
    (!targets.contains(&target)).then_some(Flow { ipv6, identity })
}

fn delete(socket: &Socket, flow: &Flow) -> io::Result<()> {
    socket.send(&netfilter::request(DELETE, NLM_F_ACK, family(flow.ipv6), &flow.identity), 0)?;
    let (bytes, _) = socket.recv_from_full()?;
    let errors = netfilter::messages(&bytes)?.into_iter().filter_map(|message| message.error());
    // What is not found has ended by itself meanwhile.
    errors.filter(|error| error.kind() != io::ErrorKind::NotFound).map(Err).next().unwrap_or(Ok(()))
}

impl Tuple {
    fn read(bytes: &[u8]) -> Self {
        let mut tuple = Self::default();
        for part in netfilter::attributes(bytes) {
            for field in netfilter::attributes(part.value()) {
                let value = field.value();
                match (part.kind(), field.kind()) {
                    (TUPLE_IP, kind) if IP_SOURCE.contains(&kind) => tuple.source = address(value),
                    (TUPLE_IP, kind) if IP_DESTINATION.contains(&kind) => tuple.destination = address(value),
                    (TUPLE_PROTOCOL, PROTOCOL_NUMBER) => tuple.protocol = value.first().copied(),
                    (TUPLE_PROTOCOL, SOURCE_PORT) => tuple.source_port = port(value),
                    (TUPLE_PROTOCOL, DESTINATION_PORT) => tuple.destination_port = port(value),
                    _ => {}
                }
            }
        }
        tuple
    }
}

fn address(bytes: &[u8]) -> Option<IpAddr> {
    <[u8; 4]>::try_from(bytes).map(IpAddr::from).or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn port(bytes: &[u8]) -> Option<u16> {
    bytes.try_into().ok().map(u16::from_be_bytes)
}

fn put(identity: &mut Vec<u8>, attribute: &NlaBuffer<&[u8]>) {
    // A tuple is itself a list of attributes, which the kernel wants marked.
    const NESTED: u16 = 1 << 15;
    let kind = attribute.kind() | if attribute.kind() == TUPLE_ORIGINAL { NESTED } else { 0 };
    let length = 4 + attribute.value().len();
    identity.extend((length as u16).to_ne_bytes());
    identity.extend(kind.to_ne_bytes());
    identity.extend(attribute.value());
    identity.resize(identity.len().next_multiple_of(4), 0);
}

fn family(ipv6: bool) -> u8 {
    (if ipv6 { nix::libc::AF_INET6 } else { nix::libc::AF_INET }) as u8
}

#[cfg(test)]
mod tests;
