//! The link between a pod and its node: a veth pair, one route on each side, and no bridge.
//!
//! Both hardware addresses are known in advance, so the two ends are told about each other once and for all and
//! never ask (no ARP, no neighbour discovery). Blocking.

use std::{fs::File, io, net::IpAddr, os::fd::AsRawFd};

use ipnet::IpNet;
use nix::sched::{CloneFlags, setns};
use sha2::{Digest, Sha256};

use crate::netlink::{End, Link, Mac, Netlink, Request};

/// The link's name inside the pod.
const INSIDE: &str = "eth0";
/// The link on the node that Services are routed into.
const SERVICES: &str = "k8s-services";
/// Its other end.
const NOWHERE: &str = "k8s-nowhere";
/// The loopback's index in every network namespace.
const LOOPBACK: u32 = 1;

/// One address of a pod and the address of the node that it goes through.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leg {
    pub(super) pod: IpAddr,
    pub(super) gateway: IpAddr,
}

/// Makes the node answer on its gateway addresses, which all links share.
///
/// They stand on the loopback, so that they exist exactly once and whether or not there are pods.
pub(super) fn prepare_host(netlink: &mut Netlink, gateways: &[IpAddr]) -> io::Result<()> {
    let mut requests = vec![Request::up(LOOPBACK)];
    requests.extend(gateways.iter().map(|gateway| Request::address(LOOPBACK, *gateway)));
    netlink.run(requests)
}

/// Gives the node's own processes a route to Services, whatever other routes there are.
///
/// Translation happens after routing for what the node itself sends, so that there must be some route. What is not
/// translated is swallowed, rather than sent into the world.
pub(super) fn route_services(netlink: &mut Netlink, nets: &[IpNet], gateways: &[IpAddr]) -> io::Result<()> {
    if nets.is_empty() {
        return Ok(());
    }
    // A pair whose other end stays down swallows everything. Dummy links would do, but not every kernel has them.
    let here = File::open("/proc/thread-self/ns/net")?;
    let ends = [(SERVICES, 0), (NOWHERE, 1)].map(|(name, end)| End { name, mac: mac(SERVICES, end) });
    match netlink.run(vec![Request::new_pair(&ends[0], &ends[1], here.as_raw_fd(), 1500)]) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let link = existing(netlink, SERVICES)?;
    let mut requests = vec![Request::up(link.index)];
    for net in nets {
        let source = gateways.iter().find(|gateway| gateway.is_ipv4() == net.addr().is_ipv4());
        if let Some(source) = source {
            requests.push(Request::route(link.index, *net, *source)?);
        }
    }
    netlink.run(requests)
}

/// Connects the namespace. Repeating it mends what is missing.
pub(super) fn connect(netlink: &mut Netlink, id: &str, netns: &File, legs: &[Leg], mtu: u32) -> io::Result<()> {
    let near = name(id);
    let link = match create(netlink, id, netns, mtu) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => reuse_or_replace(netlink, id, netns, mtu)?,
        Err(error) => return Err(error),
        Ok(()) => existing(netlink, &near)?,
    };
    in_namespace(netns, || set_up_inside(legs, mac(id, 0)))?;
    route(netlink, id, &link, legs)
}

/// Restores the node's side of a connected namespace: its routes go when the gateway address does.
pub(super) fn restore(netlink: &mut Netlink, id: &str, legs: &[Leg]) -> io::Result<()> {
    match netlink.link(&name(id))? {
        Some(link) => route(netlink, id, &link, legs),
        // The namespace is gone; the agent will detach it.
        None => Ok(()),
    }
}

fn route(netlink: &mut Netlink, id: &str, link: &Link, legs: &[Leg]) -> io::Result<()> {
    let mut requests = Vec::new();
    for leg in legs {
        requests.push(Request::neighbour(link.index, leg.pod, mac(id, 1)));
        requests.push(Request::route(link.index, leg.pod.into(), leg.gateway)?);
    }
    netlink.run(requests)
}

/// Removes the pair; routes and neighbours go with it.
pub(super) fn disconnect(netlink: &mut Netlink, id: &str) -> io::Result<()> {
    match netlink.link(&name(id))? {
        Some(link) => match netlink.run(vec![Request::delete_link(link.index)]) {
            // The namespace was deleted meanwhile, and the pair with it.
            Err(_) if netlink.link(&name(id))?.is_none() => Ok(()),
            outcome => outcome,
        },
        None => Ok(()),
    }
}

fn create(netlink: &mut Netlink, id: &str, netns: &File, mtu: u32) -> io::Result<()> {
    let name = name(id);
    let (near, far) = (End { name: &name, mac: mac(id, 0) }, End { name: INSIDE, mac: mac(id, 1) });
    netlink.run(vec![Request::new_pair(&near, &far, netns.as_raw_fd(), mtu)])
}

/// Keeps a pair that already connects this very namespace; otherwise makes a new one in its place.
fn reuse_or_replace(netlink: &mut Netlink, id: &str, netns: &File, mtu: u32) -> io::Result<Link> {
    let near = name(id);
    if let Some(link) = netlink.link(&near)? {
        let inside = in_namespace(netns, || Netlink::open()?.link(INSIDE))?;
        if inside.is_some_and(|inside| inside.peer == Some(link.index) && link.peer == Some(inside.index)) {
            return Ok(link);
        }
        netlink.run(vec![Request::delete_link(link.index)])?;
    }
    create(netlink, id, netns, mtu)?;
    existing(netlink, &near)
}

fn existing(netlink: &mut Netlink, name: &str) -> io::Result<Link> {
    netlink.link(name)?.ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("link {name} vanished")))
}

fn set_up_inside(legs: &[Leg], gateway_mac: Mac) -> io::Result<()> {
    let mut netlink = Netlink::open()?;
    let link = existing(&mut netlink, INSIDE)?;
    let mut requests = vec![Request::up(LOOPBACK), Request::up(link.index)];
    for leg in legs {
        requests.push(Request::address(link.index, leg.pod));
        requests.push(Request::neighbour(link.index, leg.gateway, gateway_mac));
        requests.push(Request::default_route(link.index, leg.gateway)?);
    }
    netlink.run(requests)
}

/// Runs `work` on a thread of its own that has entered `netns` and ends there.
fn in_namespace<T: Send>(netns: &File, work: impl FnOnce() -> io::Result<T> + Send) -> io::Result<T> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(netns, CloneFlags::CLONE_NEWNET)?;
            work()
        });
        thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread inside the namespace panicked")))
    })
}

/// The name of the node's end: at most 15 characters, the same for the same id on every start.
fn name(id: &str) -> String {
    Sha256::digest(id).iter().take(6).fold(String::from("k8s"), |name, byte| name + &format!("{byte:02x}"))
}

/// A locally administered hardware address for one end (`0`: the node's, `1`: the pod's).
fn mac(id: &str, end: u8) -> Mac {
    let digest = Sha256::digest(id);
    [0x02 | (end << 2), digest[0], digest[1], digest[2], digest[3], digest[4]]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_the_kernels_limit_and_differ() {
        let (a, b) = (name("a"), name("b"));
        assert_eq!(a.len(), 15);
        assert_ne!(a, b);
        assert_eq!(a, name("a"));
    }

    #[test]
    fn hardware_addresses_are_unicast_and_locally_administered() {
        for end in [0, 1] {
            assert_eq!(mac("a", end)[0] & 0b11, 0b10);
        }
        assert_ne!(mac("a", 0), mac("a", 1));
    }
}
