//! A blocking rtnetlink socket: a handful of requests in one system call, answered in order.
//!
//! The kernel does the work within the `send`, so there is nothing to wait for and no task to run. A socket belongs
//! to the network namespace it was opened in, whichever thread uses it later.

use std::{io, net::IpAddr, os::fd::RawFd};

use ipnet::IpNet;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, RouteMessageBuilder,
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
        NetlinkPayload,
    },
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
        link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
        route::RouteScope,
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// A socket to the kernel's routing tables of one network namespace.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// One request: a message and how the kernel shall treat what exists.
pub(crate) struct Request {
    message: RouteNetlinkMessage,
    flags: u16,
    /// What is being done, for the error.
    what: &'static str,
}

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// One end of a veth pair as it shall be.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
}

/// An existing link.
pub(crate) struct Link {
    pub(crate) index: u32,
    /// The index of the other end, in its own namespace.
    pub(crate) peer: Option<u32>,
    /// What its maker wrote on it.
    pub(crate) alias: Option<String>,
}

impl Netlink {
    /// Opens a socket in the calling thread's network namespace.
    pub(crate) fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        Ok(Self { socket, sequence: 0 })
    }

    /// Sends all requests at once. All are tried; answers the first failure.
    pub(crate) fn run(&mut self, requests: Vec<Request>) -> io::Result<()> {
        let names: Vec<_> = requests.iter().map(|request| request.what).collect();
        let first = self.sequence.wrapping_add(1);
        self.send(requests)?;
        let mut outcome = Ok(());
        let mut waiting = names.len();
        while waiting > 0 {
            for message in self.receive()? {
                let NetlinkPayload::Error(answer) = message.payload else { continue };
                let Some(what) = names.get(message.header.sequence_number.wrapping_sub(first) as usize) else {
                    continue; // Left over from a request that was given up.
                };
                waiting -= 1;
                if answer.code.is_some() && outcome.is_ok() {
                    let error = answer.to_io();
                    outcome = Err(io::Error::new(error.kind(), format!("{what}: {error}")));
                }
            }
        }
        outcome
    }

    /// Looks a link up by its name.
    pub(crate) fn link(&mut self, name: &str) -> io::Result<Option<Link>> {
        let message = LinkMessageBuilder::<LinkUnspec>::new().name(name).build();
        let request = Request { message: RouteNetlinkMessage::GetLink(message), flags: 0, what: "look up the link" };
        let sequence = self.sequence.wrapping_add(1);
        self.send(vec![request])?;
        let (mut found, mut acknowledged) = (None, None);
        while acknowledged.is_none() {
            for message in self.receive()?.into_iter().filter(|m| m.header.sequence_number == sequence) {
                match message.payload {
                    NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => found = Some(Link::read(&link)),
                    NetlinkPayload::Error(answer) if answer.code.is_none() => acknowledged = Some(Ok(())),
                    NetlinkPayload::Error(answer) => acknowledged = Some(Err(answer.to_io())),
                    _ => {}
                }
            }
        }
        match acknowledged {
            Some(Err(error)) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(None),
            Some(Err(error)) => Err(error),
            _ => Ok(found),
        }
    }

    fn send(&mut self, requests: Vec<Request>) -> io::Result<()> {
        let mut bytes = Vec::with_capacity(1024);
        for request in requests {
            self.sequence = self.sequence.wrapping_add(1);
            let mut header = NetlinkHeader::default();
            header.flags = NLM_F_REQUEST | NLM_F_ACK | request.flags;
            header.sequence_number = self.sequence;
            let mut message = NetlinkMessage::new(header, NetlinkPayload::from(request.message));
            message.finalize();
            let start = bytes.len();
            bytes.resize(start + message.buffer_len().next_multiple_of(4), 0);
            message.serialize(&mut bytes[start..]);
        }
        self.socket.send(&bytes, 0).map(drop)
    }

    fn receive(&mut self) -> io::Result<Vec<NetlinkMessage<RouteNetlinkMessage>>> {
        let (bytes, _) = self.socket.recv_from_full()?;
        let mut messages = Vec::new();
        let mut rest = &bytes[..];
        while rest.len() >= 4 {
            let length = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
            if length < 16 || length > rest.len() {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "the kernel sent a malformed netlink message"));
            }
            let message = NetlinkMessage::deserialize(&rest[..length])
                .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
            messages.push(message);
            rest = &rest[length.next_multiple_of(4).min(rest.len())..];
        }
        Ok(messages)
    }
}

impl Link {
    fn read(message: &LinkMessage) -> Self {
        let (mut peer, mut alias) = (None, None);
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Link(index) => peer = Some(*index),
                LinkAttribute::IfAlias(text) => alias = Some(text.clone()),
                _ => {}
            }
        }
        Self { index: message.header.index, peer, alias }
    }
}

impl Request {
    /// Creates a veth pair: `near` here and up, `far` in the namespace behind `netns` and still down, because the
    /// kernel creates it first and a lone end cannot be up.
    pub(crate) fn new_pair(near: &End<'_>, far: &End<'_>, netns: RawFd, mtu: u32) -> Self {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(far.name)
            .address(far.mac.to_vec())
            .mtu(mtu)
            .setns_by_fd(netns)
            .build();
        let message = LinkMessageBuilder::<LinkUnspec>::new_with_info_kind(InfoKind::Veth)
            .name(near.name)
            .address(near.mac.to_vec())
            .mtu(mtu)
            .up()
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        Self {
            message: RouteNetlinkMessage::NewLink(message),
            flags: NLM_F_CREATE | NLM_F_EXCL,
            what: "create the veth pair",
        }
    }

    /// Removes a link; the other end of a pair goes with it.
    pub(crate) fn delete_link(index: u32) -> Self {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).build();
        Self { message: RouteNetlinkMessage::DelLink(message), flags: 0, what: "delete the link" }
    }

    pub(crate) fn up(index: u32) -> Self {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
        Self { message: RouteNetlinkMessage::SetLink(message), flags: 0, what: "bring the link up" }
    }

    /// Writes on a link whose it is. When a link is made the kernel does not listen to that.
    pub(crate) fn mark(index: u32, alias: &str) -> Self {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).alias(alias).build();
        Self { message: RouteNetlinkMessage::SetLink(message), flags: 0, what: "mark the link" }
    }

    /// Gives a link one address, alone in its network.
    pub(crate) fn address(index: u32, address: IpAddr) -> Self {
        Self {
            message: RouteNetlinkMessage::NewAddress(lone_address(index, address)),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            what: "add the address",
        }
    }

    /// Takes such an address from a link.
    pub(crate) fn delete_address(index: u32, address: IpAddr) -> Self {
        Self {
            message: RouteNetlinkMessage::DelAddress(lone_address(index, address)),
            flags: 0,
            what: "remove the address",
        }
    }

    /// Says once and for all which hardware address an address on the link has.
    pub(crate) fn neighbour(index: u32, address: IpAddr, mac: Mac) -> Self {
        let mut message = NeighbourMessage::default();
        message.header.family = family(address);
        message.header.ifindex = index;
        message.header.state = NeighbourState::Permanent;
        let destination = match address {
            IpAddr::V4(v4) => NeighbourAddress::Inet(v4),
            IpAddr::V6(v6) => NeighbourAddress::Inet6(v6),
        };
        message.attributes =
            vec![NeighbourAttribute::Destination(destination), NeighbourAttribute::LinkLayerAddress(mac.to_vec())];
        Self {
            message: RouteNetlinkMessage::NewNeighbour(message),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            what: "add the neighbour",
        }
    }

    /// Sends traffic for `net` into the link, from `source` when the node itself is the sender.
    pub(crate) fn route(index: u32, net: IpNet, source: IpAddr) -> io::Result<Self> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(net.network(), net.prefix_len())
            .and_then(|route| route.pref_source(source))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?
            .output_interface(index)
            .scope(if source.is_ipv4() { RouteScope::Link } else { RouteScope::Universe })
            .build();
        Ok(Self {
            message: RouteNetlinkMessage::NewRoute(route),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            what: "add a route",
        })
    }

    /// Sends everything through `gateway`, which the link reaches although no prefix says so.
    pub(crate) fn default_route(index: u32, gateway: IpAddr) -> io::Result<Self> {
        let everywhere: IpAddr = match gateway {
            IpAddr::V4(_) => std::net::Ipv4Addr::UNSPECIFIED.into(),
            IpAddr::V6(_) => std::net::Ipv6Addr::UNSPECIFIED.into(),
        };
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(everywhere, 0)
            .and_then(|route| route.gateway(gateway))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?
            .output_interface(index)
            .onlink()
            .build();
        Ok(Self {
            message: RouteNetlinkMessage::NewRoute(route),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            what: "add the pod's default route",
        })
    }
}

fn lone_address(index: u32, address: IpAddr) -> AddressMessage {
    let mut message = AddressMessage::default();
    message.header.family = family(address);
    message.header.prefix_len = host_prefix(address);
    message.header.index = index;
    message.header.scope = AddressScope::Universe;
    // Nobody else is on the link, so there are no duplicates to wait for.
    message.header.flags = AddressHeaderFlags::Nodad;
    message.attributes = vec![AddressAttribute::Local(address), AddressAttribute::Address(address)];
    message
}

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}
