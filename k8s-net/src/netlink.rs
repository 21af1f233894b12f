//! A blocking rtnetlink socket: a handful of requests in one system call, answered in order.
//!
//! The kernel does the work within the `send`, so there is nothing to wait for and no task to run. A socket belongs
//! to the network namespace it was opened in, whichever thread uses it later.

mod request;

pub(crate) use request::{End, Mac, Overlay, Request, Route};

use std::{io, net::IpAddr};

use ipnet::IpNet;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec,
    packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        link::{LinkAttribute, LinkMessage},
        route::{RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteProtocol, RouteType},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

/// A socket to the kernel's routing tables of one network namespace.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
}

/// An existing link.
pub(crate) struct Link {
    pub(crate) index: u32,
    /// The index of the other end, in its own namespace.
    pub(crate) peer: Option<u32>,
    /// What its maker wrote on it.
    pub(crate) alias: Option<String>,
    /// Its hardware address; empty if it has none.
    pub(crate) mac: Vec<u8>,
}

/// Where the kernel would send what goes to an address.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Towards {
    /// Nowhere else: the address is this machine's.
    Here,
    /// Straight out of the link with this index.
    OnLink(u32),
    /// To a router.
    Router,
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
        if requests.is_empty() {
            return Ok(()); // The kernel takes no empty message.
        }
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
        match self.ask(request) {
            Err(error) if error.raw_os_error() == Some(nix::libc::ENODEV) => Ok(None),
            answers => Ok(answers?.into_iter().find_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(Link::read(&link)),
                _ => None,
            })),
        }
    }

    /// The routes of the main table that were made under the number `protocol`.
    pub(crate) fn routes(&mut self, protocol: u8) -> io::Result<Vec<Route>> {
        let mut routes = Vec::new();
        for family in [AddressFamily::Inet, AddressFamily::Inet6] {
            for answer in self.ask(Request::all_routes(family))? {
                if let RouteNetlinkMessage::NewRoute(route) = answer
                    && route.header.protocol == RouteProtocol::from(protocol)
                    && route.header.table == RouteHeader::RT_TABLE_MAIN
                {
                    routes.extend(read_route(&route));
                }
            }
        }
        Ok(routes)
    }

    /// Where the kernel would send what goes to `address`. An error if it knows no way.
    pub(crate) fn towards(&mut self, address: IpAddr) -> io::Result<Towards> {
        let answers = self.ask(Request::way(address)?)?;
        let way = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewRoute(route) => Some(route),
            _ => None,
        });
        let way = way.ok_or_else(|| io::Error::new(io::ErrorKind::NetworkUnreachable, "the kernel named no route"))?;
        let routed = way.attributes.iter().any(|a| matches!(a, RouteAttribute::Gateway(_) | RouteAttribute::Via(_)));
        match (way.header.kind, output(&way)) {
            (RouteType::Local, _) => Ok(Towards::Here),
            (RouteType::Unicast, _) if routed => Ok(Towards::Router),
            (RouteType::Unicast, Some(index)) => Ok(Towards::OnLink(index)),
            (kind, _) => Err(io::Error::new(io::ErrorKind::NetworkUnreachable, format!("its route is {kind:?}"))),
        }
    }

    /// Sends one request and answers what the kernel says to it.
    fn ask(&mut self, request: Request) -> io::Result<Vec<RouteNetlinkMessage>> {
        let sequence = self.sequence.wrapping_add(1);
        self.send(vec![request])?;
        let mut answers = Vec::new();
        loop {
            for message in self.receive()?.into_iter().filter(|m| m.header.sequence_number == sequence) {
                match message.payload {
                    NetlinkPayload::InnerMessage(answer) => answers.push(answer),
                    NetlinkPayload::Error(end) if end.code.is_some() => return Err(end.to_io()),
                    NetlinkPayload::Error(_) | NetlinkPayload::Done(_) => return Ok(answers),
                    _ => {}
                }
            }
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
        let mut link = Self { index: message.header.index, peer: None, alias: None, mac: Vec::new() };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::Link(index) => link.peer = Some(*index),
                LinkAttribute::IfAlias(alias) => link.alias = Some(alias.clone()),
                LinkAttribute::Address(mac) => link.mac.clone_from(mac),
                _ => {}
            }
        }
        link
    }
}

fn read_route(message: &RouteMessage) -> Option<Route> {
    let (mut net, mut via) = (None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(to) => net = ip(to),
            RouteAttribute::Gateway(gateway) => via = ip(gateway),
            _ => {}
        }
    }
    let net = IpNet::new(net?, message.header.destination_prefix_length).ok()?;
    Some(Route { net, via: via?, link: output(message)? })
}

fn output(message: &RouteMessage) -> Option<u32> {
    message.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Oif(index) => Some(*index),
        _ => None,
    })
}

fn ip(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(v4) => Some((*v4).into()),
        RouteAddress::Inet6(v6) => Some((*v6).into()),
        _ => None,
    }
}
