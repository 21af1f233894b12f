//! What the kernel remembers of connections: ends UDP flows that it still translates to where they should no longer
//! go, and tells whether TCP connections to a pod are open.
//!
//! The packet filter decides about new connections only. A TCP connection to a dead pod ends by itself; a UDP flow never
//! does while its client keeps sending, so the kernel's record of it is deleted and the next datagram is decided anew.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NlaBuffer},
    sys::Socket,
};

use crate::netfilter::{self, MESSAGE_DONE, MESSAGE_ERROR, Message, NESTED, attribute};

/// A UDP flow, as the kernel remembers it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Where its client sends.
    pub(crate) to: SocketAddr,
    /// Where it really goes.
    pub(crate) goes_to: SocketAddr,
}

/// Deletes the kernel's record of every UDP flow of one address family that `is_astray`.
///
/// Blocking: reads the whole connection table, so call it only when something changed. Needs `CAP_NET_ADMIN`.
pub(crate) fn end_udp(ipv6: bool, is_astray: impl Fn(&Flow) -> bool) -> io::Result<()> {
    let socket = netfilter::open()?;
    let family = family(ipv6);
    for (_, identity) in list(&socket, family, &[], read_udp)?.iter().filter(|(flow, _)| is_astray(flow)) {
        delete(&socket, family, identity)?;
    }
    Ok(())
}

/// Whether a TCP connection to `address` is open, or about to be: whoever opened it, and however it got there.
///
/// One that its client or the pod has begun to close does not count. Blocking: the kernel goes through its whole
/// connection table, though it answers with what goes there only (since Linux 5.8).
pub(crate) fn has_open_tcp(address: IpAddr) -> io::Result<bool> {
    let open = list(&netfilter::open()?, family(address.is_ipv6()), &replies_from(address), |message| {
        read_tcp(message).filter(|(source, state)| *source == address && OPEN.contains(state))
    })?;
    Ok(!open.is_empty())
}

fn family(ipv6: bool) -> u8 {
    (if ipv6 { nix::libc::AF_INET6 } else { nix::libc::AF_INET }) as u8
}

// Numbers of linux/netfilter/nfnetlink_conntrack.h.
const GET: u16 = (1 << 8) | 1;
const DELETE: u16 = (1 << 8) | 2;
const TUPLE_ORIGINAL: u16 = 1;
const TUPLE_REPLY: u16 = 2;
const TUPLE_IP: u16 = 1;
const TUPLE_PROTOCOL: u16 = 2;
const PROTOCOL_INFO: u16 = 4;
const PROTOCOL_INFO_TCP: u16 = 1;
const TCP_STATE: u16 = 1;
const ZONE: u16 = 18;
const FILTER: u16 = 25;
const FILTER_ORIGINAL: u16 = 1;
const FILTER_REPLY: u16 = 2;
const BY_SOURCE: u32 = 1;
const IP_SOURCE: [u16; 2] = [1, 3];
const IP_DESTINATION: [u16; 2] = [2, 4];
const PROTOCOL_NUMBER: u16 = 1;
const SOURCE_PORT: u16 = 2;
const DESTINATION_PORT: u16 = 3;
const TCP: u8 = 6;
const UDP: u8 = 17;
/// From the first packet of a connection until either side closes it: the states SYN_SENT, SYN_RECV and ESTABLISHED.
const OPEN: std::ops::RangeInclusive<u8> = 1..=3;

/// What identifies a flow to the kernel: the attributes as it sent them.
type Identity = Vec<u8>;

/// One direction of a flow.
#[derive(Debug, Default)]
struct Tuple {
    source: Option<IpAddr>,
    source_port: Option<u16>,
    destination: Option<IpAddr>,
    destination_port: Option<u16>,
    protocol: Option<u8>,
}

/// What `read` makes of each connection that `filter` lets through.
fn list<T>(socket: &Socket, family: u8, filter: &[u8], read: impl Fn(&Message<'_>) -> Option<T>) -> io::Result<Vec<T>> {
    socket.send(&netfilter::request(GET, NLM_F_DUMP, family, filter), 0)?;
    let mut flows = Vec::new();
    loop {
        let (bytes, _) = socket.recv_from_full()?;
        for message in netfilter::messages(&bytes)? {
            match message.kind {
                MESSAGE_DONE => return Ok(flows),
                MESSAGE_ERROR => {
                    return Err(message.error().unwrap_or_else(|| io::Error::other("listing ended early")));
                }
                _ => flows.extend(read(&message)),
            }
        }
    }
}

/// Lets through what `address` answers. Kernels that know no filter let everything through.
fn replies_from(address: IpAddr) -> Vec<u8> {
    let source = match address {
        IpAddr::V4(address) => attribute(IP_SOURCE[0], &address.octets()),
        IpAddr::V6(address) => attribute(IP_SOURCE[1], &address.octets()),
    };
    let tuple = attribute(NESTED | TUPLE_REPLY, &attribute(NESTED | TUPLE_IP, &source));
    let flag = |kind, flags: u32| attribute(kind, &flags.to_ne_bytes());
    let flags = [flag(FILTER_ORIGINAL, 0), flag(FILTER_REPLY, BY_SOURCE)].concat();
    [tuple, attribute(NESTED | FILTER, &flags)].concat()
}

/// Where the replies of a TCP connection come from, and its state; `None` unless it is TCP.
fn read_tcp(message: &Message<'_>) -> Option<(IpAddr, u8)> {
    let (mut reply, mut state) = (Tuple::default(), None);
    for attribute in message.attributes() {
        match attribute.kind() {
            TUPLE_REPLY => reply = Tuple::read(attribute.value()),
            PROTOCOL_INFO => state = tcp_state(attribute.value()),
            _ => {}
        }
    }
    (reply.protocol == Some(TCP)).then_some((reply.source?, state?))
}

fn tcp_state(bytes: &[u8]) -> Option<u8> {
    let tcp = netfilter::attributes(bytes).find(|part| part.kind() == PROTOCOL_INFO_TCP)?;
    let state = netfilter::attributes(tcp.value()).find(|field| field.kind() == TCP_STATE)?;
    state.value().first().copied()
}

/// `None` unless it is UDP.
fn read_udp(message: &Message<'_>) -> Option<(Flow, Identity)> {
    let (mut original, mut reply) = (Tuple::default(), Tuple::default());
    let mut identity = Identity::new();
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
    let to = SocketAddr::new(original.destination?, original.destination_port?);
    // The reply comes from where the flow really goes.
    let goes_to = SocketAddr::new(reply.source?, reply.source_port?);
    Some((Flow { to, goes_to }, identity))
}

fn delete(socket: &Socket, family: u8, identity: &[u8]) -> io::Result<()> {
    socket.send(&netfilter::request(DELETE, NLM_F_ACK, family, identity), 0)?;
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

fn put(identity: &mut Identity, part: &NlaBuffer<&[u8]>) {
    // A tuple is itself a list of attributes, which the kernel wants marked.
    let kind = part.kind() | if part.kind() == TUPLE_ORIGINAL { NESTED } else { 0 };
    identity.extend(attribute(kind, part.value()));
}
