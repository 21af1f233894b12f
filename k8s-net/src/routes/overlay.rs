//! The overlay: a link that packs frames for machines behind a router into UDP. Blocking.
//!
//! Nothing is learnt and nobody is asked: a machine's hardware address on the overlay follows from its address, and each
//! network's first address stands for its machine.

use std::{
    collections::BTreeMap,
    io,
    net::{IpAddr, Ipv4Addr},
};

use ipnet::IpNet;

use super::plan::Plan;
use crate::{
    netlink::{self, Mac, Netlink, Request},
    pod::gateway,
};

/// The overlay link's name.
pub const OVERLAY: &str = "k8s-overlay";
/// Marks the link as made here.
const ALIAS: &str = "k8s-net overlay";
/// The number and the port (IANA's) of the overlay: the same on every node.
const ID: u32 = 244;
const PORT: u16 = 4789;
/// What fits into a usual packet of 1500 bytes beside the outer headers.
const MTU: u32 = 1450;

/// The overlay of one node.
#[derive(Default)]
pub(super) struct Overlay {
    /// The link's index, once it is known to be there.
    link: Option<u32>,
    /// Whether it was looked whether a link is left from before.
    looked: bool,
    ways: BTreeMap<IpNet, Way>,
}

/// How the overlay reaches one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Way {
    gateway: IpAddr,
    mac: Mac,
    to: Ipv4Addr,
}

impl Overlay {
    /// Makes the way to `net` behind the machine at `to` and answers the gateway and the link to route it to.
    pub(super) fn reach(
        &mut self,
        netlink: &mut Netlink,
        plan: &Plan,
        net: IpNet,
        to: IpAddr,
    ) -> io::Result<(IpAddr, u32)> {
        let unable = |why: &str| io::Error::new(io::ErrorKind::Unsupported, format!("not on a shared link, and {why}"));
        let IpAddr::V4(to) = to else { return Err(unable("the overlay carries packets between IPv4 addresses only")) };
        let gateway = gateway(&net).ok_or_else(|| unable("its pod CIDR is too small for the overlay"))?;
        let link = self.open(netlink, plan)?;
        let way = Way { gateway, mac: mac(to), to };
        if self.ways.get(&net) != Some(&way) {
            self.leave(netlink, net)?;
            netlink
                .run(vec![Request::forward(link, way.mac, way.to), Request::neighbour(link, way.gateway, way.mac)])?;
            self.ways.insert(net, way);
        }
        Ok((gateway, link))
    }

    /// Takes back the ways to all networks but these, and the link with the last of them.
    pub(super) fn retain(&mut self, netlink: &mut Netlink, wanted: &[IpNet]) -> io::Result<()> {
        let gone: Vec<IpNet> = self.ways.keys().filter(|net| !wanted.contains(net)).copied().collect();
        for net in gone {
            self.leave(netlink, net)?;
        }
        if wanted.is_empty() && (self.link.is_some() || !self.looked) {
            self.close(netlink)?;
        }
        Ok(())
    }

    /// Removes the link, and all that hangs on it.
    pub(super) fn close(&mut self, netlink: &mut Netlink) -> io::Result<()> {
        if let Some(link) = netlink.link(OVERLAY)?.filter(|link| link.alias.as_deref() == Some(ALIAS)) {
            netlink.run(vec![Request::delete_link(link.index)])?;
        }
        *self = Self { looked: true, ..Self::default() };
        Ok(())
    }

    fn leave(&mut self, netlink: &mut Netlink, net: IpNet) -> io::Result<()> {
        let (Some(link), Some(way)) = (self.link, self.ways.remove(&net)) else { return Ok(()) };
        let mut requests = vec![Request::delete_neighbour(link, way.gateway, way.mac)];
        if self.ways.values().all(|other| other.mac != way.mac) {
            requests.push(Request::delete_forward(link, way.mac, way.to));
        }
        // What somebody else took away already is away.
        if let Err(error) = netlink.run(requests) {
            tracing::debug!(%net, %error, "the overlay's way was not there any more");
        }
        Ok(())
    }

    /// The link's index. Made anew if this node's address is another than before.
    fn open(&mut self, netlink: &mut Netlink, plan: &Plan) -> io::Result<u32> {
        let local = plan.own_addresses.iter().find_map(|address| match address {
            IpAddr::V4(v4) => Some(*v4),
            IpAddr::V6(_) => None,
        });
        let local = local.ok_or_else(|| io::Error::other("this node has no InternalIP of IPv4 yet"))?;
        let index = match netlink.link(OVERLAY)? {
            Some(link) if link.alias.as_deref() != Some(ALIAS) => {
                let why = format!("link {OVERLAY} exists and was not made by this program");
                return Err(io::Error::new(io::ErrorKind::AlreadyExists, why));
            }
            Some(link) if link.mac == mac(local) => link.index,
            found => {
                netlink.run(found.iter().map(|link| Request::delete_link(link.index)).collect())?;
                create(netlink, local)?
            }
        };
        if self.link != Some(index) {
            // The node's own address on the link is what its packets to other machines' pods come from.
            let own = plan.own_nets.iter().filter_map(gateway);
            netlink.run(own.map(|own| Request::address(index, own)).collect())?;
            *self = Self { link: Some(index), looked: true, ways: BTreeMap::new() };
        }
        Ok(index)
    }
}

fn create(netlink: &mut Netlink, local: Ipv4Addr) -> io::Result<u32> {
    let overlay = netlink::Overlay { name: OVERLAY, mac: mac(local), id: ID, port: PORT, local, mtu: MTU };
    netlink.run(vec![Request::new_overlay(&overlay)])?;
    let vanished = || io::Error::new(io::ErrorKind::NotFound, "the overlay link vanished");
    let index = netlink.link(OVERLAY)?.ok_or_else(vanished)?.index;
    netlink.run(vec![Request::mark(index, ALIAS)])?;
    Ok(index)
}

/// The hardware address of a machine on the overlay: locally administered, and different for different addresses.
fn mac(of: Ipv4Addr) -> Mac {
    let [a, b, c, d] = of.octets();
    [0x0a, 0x58, a, b, c, d]
}
