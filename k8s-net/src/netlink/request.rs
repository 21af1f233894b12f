//! What is asked of the kernel, one constructor for each wish.

use std::{
    io,
    net::{IpAddr, Ipv4Addr},
    os::fd::RawFd,
};

use ipnet::IpNet;
use rtnetlink::{
    LinkMessageBuilder, LinkUnspec, LinkVxlan, RouteMessageBuilder,
    packet_core::{NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE},
    packet_route::{
        AddressFamily, RouteNetlinkMessage,
        address::{AddressAttribute, AddressHeaderFlags, AddressMessage, AddressScope},
        link::{InfoData, InfoKind, InfoVeth},
        neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
        route::{RouteMessage, RouteProtocol, RouteScope},
    },
};

/// One request: a message and how the kernel shall treat what exists.
pub(crate) struct Request {
    pub(super) message: RouteNetlinkMessage,
    pub(super) flags: u16,
    /// What is being done, for the error.
    pub(super) what: &'static str,
}

/// A hardware address.
pub(crate) type Mac = [u8; 6];

/// One end of a veth pair as it shall be.
pub(crate) struct End<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
}

/// A route to a network through a machine that the link reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) net: IpNet,
    pub(crate) via: IpAddr,
    /// The link's index.
    pub(crate) link: u32,
}

/// A link that packs frames into UDP (VXLAN), as it shall be. It learns nothing by itself.
pub(crate) struct Overlay<'a> {
    pub(crate) name: &'a str,
    pub(crate) mac: Mac,
    /// The number that keeps it apart from others.
    pub(crate) id: u32,
    pub(crate) port: u16,
    /// This machine's address that packets come from.
    pub(crate) local: Ipv4Addr,
    pub(crate) mtu: u32,
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

    /// Creates an overlay link, up.
    pub(crate) fn new_overlay(overlay: &Overlay<'_>) -> Self {
        let message = LinkVxlan::new(overlay.name, overlay.id)
            .port(overlay.port)
            .local(overlay.local)
            .learning(false)
            .address(overlay.mac.to_vec())
            .mtu(overlay.mtu)
            .up()
            .build();
        Self {
            message: RouteNetlinkMessage::NewLink(message),
            flags: NLM_F_CREATE | NLM_F_EXCL,
            what: "create the overlay link",
        }
    }

    /// Writes on a link whose it is. When a link is made the kernel does not listen to that.
    pub(crate) fn mark(index: u32, alias: &str) -> Self {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).alias(alias).build();
        Self { message: RouteNetlinkMessage::SetLink(message), flags: 0, what: "mark the link" }
    }

    pub(crate) fn up(index: u32) -> Self {
        let message = LinkMessageBuilder::<LinkUnspec>::new().index(index).up().build();
        Self { message: RouteNetlinkMessage::SetLink(message), flags: 0, what: "bring the link up" }
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
        Self {
            message: RouteNetlinkMessage::NewNeighbour(neighbour(index, address, mac)),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            what: "add the neighbour",
        }
    }

    /// Takes that back.
    pub(crate) fn delete_neighbour(index: u32, address: IpAddr, mac: Mac) -> Self {
        let message = RouteNetlinkMessage::DelNeighbour(neighbour(index, address, mac));
        Self { message, flags: 0, what: "delete the neighbour" }
    }

    /// Says which machine an overlay link sends frames for a hardware address to.
    pub(crate) fn forward(index: u32, mac: Mac, to: Ipv4Addr) -> Self {
        Self {
            message: RouteNetlinkMessage::NewNeighbour(forward(index, mac, to)),
            flags: NLM_F_CREATE | NLM_F_REPLACE,
            what: "add the overlay's way to a machine",
        }
    }

    /// Takes that back.
    pub(crate) fn delete_forward(index: u32, mac: Mac, to: Ipv4Addr) -> Self {
        let message = RouteNetlinkMessage::DelNeighbour(forward(index, mac, to));
        Self { message, flags: 0, what: "delete the overlay's way to a machine" }
    }

    /// Every route of a family.
    pub(super) fn all_routes(family: AddressFamily) -> Self {
        let mut message = RouteMessage::default();
        message.header.address_family = family;
        Self { message: RouteNetlinkMessage::GetRoute(message), flags: NLM_F_DUMP, what: "list the routes" }
    }

    /// The route that a packet to `address` would take.
    pub(super) fn way(address: IpAddr) -> io::Result<Self> {
        let route = RouteMessageBuilder::<IpAddr>::new()
            .destination_prefix(address, host_prefix(address))
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?
            .build();
        Ok(Self { message: RouteNetlinkMessage::GetRoute(route), flags: 0, what: "look up a route" })
    }

    /// Adds a route marked with the number `protocol`. Fails if the network has a route already.
    pub(crate) fn add_route(route: &Route, protocol: u8) -> io::Result<Self> {
        let message = RouteNetlinkMessage::NewRoute(through(route, protocol)?);
        Ok(Self { message, flags: NLM_F_CREATE | NLM_F_EXCL, what: "add a route" })
    }

    /// Deletes exactly this route, if it is marked with the number `protocol`.
    pub(crate) fn delete_route(route: &Route, protocol: u8) -> io::Result<Self> {
        let message = RouteNetlinkMessage::DelRoute(through(route, protocol)?);
        Ok(Self { message, flags: 0, what: "delete a route" })
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

fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn host_prefix(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
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

fn neighbour(index: u32, address: IpAddr, mac: Mac) -> NeighbourMessage {
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
    message
}

fn forward(index: u32, mac: Mac, to: Ipv4Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Bridge;
    message.header.ifindex = index;
    message.header.state = NeighbourState::Permanent;
    message.header.flags = NeighbourFlags::Own;
    message.attributes = vec![
        NeighbourAttribute::LinkLayerAddress(mac.to_vec()),
        NeighbourAttribute::Destination(NeighbourAddress::Inet(to)),
    ];
    message
}

fn through(route: &Route, protocol: u8) -> io::Result<RouteMessage> {
    let builder = RouteMessageBuilder::<IpAddr>::new()
        .destination_prefix(route.net.network(), route.net.prefix_len())
        .and_then(|builder| builder.gateway(route.via))
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
    // The other machine is on the link, whether or not a prefix says so.
    Ok(builder.output_interface(route.link).protocol(RouteProtocol::from(protocol)).onlink().build())
}
