//! Brings the kernel's routes to a plan. Blocking.

use std::{collections::BTreeMap, io, net::IpAddr};

use ipnet::IpNet;

use super::{
    overlay::Overlay,
    plan::{Peer, Plan},
};
use crate::netlink::{Netlink, Request, Route, Towards};

/// What marks a route as made here: its origin, as `ip route` shows it (`proto 107`).
pub const PROTOCOL: u8 = 107;

/// The routes of this process's network namespace that lead to other nodes' pods.
///
/// Dropping it leaves the routes in force, so that a restart interrupts no traffic; [`Routes::cleanup`] removes them.
/// Needs `CAP_NET_ADMIN`.
pub struct Routes {
    netlink: Netlink,
    overlay: Overlay,
}

/// A network that is not reached now, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreached {
    /// The Node whose it is.
    pub node: String,
    /// The network.
    pub net: IpNet,
    /// What stands in the way.
    pub why: String,
}

impl Routes {
    /// Opens a way to the kernel. Changes nothing.
    pub fn open() -> io::Result<Self> {
        Ok(Self { netlink: Netlink::open()?, overlay: Overlay::default() })
    }

    /// Brings the kernel to `plan`, whatever it was before, and answers what is not reached.
    ///
    /// Sends nothing when all is as it should be. A network whose machine cannot be found at the moment keeps the route
    /// that it has. After an error the next call picks up.
    pub fn sync(&mut self, plan: &Plan) -> io::Result<Vec<Unreached>> {
        let mut present: BTreeMap<IpNet, Route> =
            self.netlink.routes(PROTOCOL)?.into_iter().map(|route| (route.net, route)).collect();
        let mut unreached = Vec::new();
        let mut overlaid = Vec::new();
        for (net, peer) in &plan.peers {
            let before = present.remove(net);
            let outcome = self.way(plan, *net, peer).and_then(|(route, is_overlaid)| {
                overlaid.extend(is_overlaid.then_some(*net));
                self.set(before, route)
            });
            if let Err(error) = outcome {
                unreached.push(Unreached { node: peer.node.clone(), net: *net, why: error.to_string() });
            }
        }
        for route in present.into_values() {
            self.delete(&route)?;
        }
        self.overlay.retain(&mut self.netlink, &overlaid)?;
        Ok(unreached)
    }

    /// Removes everything that was made here.
    pub fn cleanup(&mut self) -> io::Result<()> {
        for route in self.netlink.routes(PROTOCOL)? {
            self.delete(&route)?;
        }
        self.overlay.close(&mut self.netlink)
    }

    /// The route to `net`, and whether it goes over the overlay.
    fn way(&mut self, plan: &Plan, net: IpNet, peer: &Peer) -> io::Result<(Route, bool)> {
        let unfit = |why: String| io::Error::new(io::ErrorKind::AddrInUse, why);
        let towards = self.netlink.towards(peer.address).map_err(|error| no_way(peer.address, &error))?;
        match towards {
            Towards::Here => Err(unfit(format!("its address {} is this machine's", peer.address))),
            Towards::OnLink(link) => Ok((Route { net, via: peer.address, link }, false)),
            Towards::Router => {
                let (via, link) = self.overlay.reach(&mut self.netlink, plan, net, peer.address)?;
                Ok((Route { net, via, link }, true))
            }
        }
    }

    fn set(&mut self, before: Option<Route>, route: Route) -> io::Result<()> {
        match before {
            Some(before) if before == route => return Ok(()),
            Some(before) => self.delete(&before)?,
            None => {}
        }
        match self.netlink.run(vec![Request::add_route(&route, PROTOCOL)?]) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                let why = format!("{} has a route that somebody else made; it is left alone", route.net);
                Err(io::Error::new(error.kind(), why))
            }
            outcome => outcome,
        }
    }

    /// Deletes a route of ours. It may have gone with its link meanwhile.
    fn delete(&mut self, route: &Route) -> io::Result<()> {
        match self.netlink.run(vec![Request::delete_route(route, PROTOCOL)?]) {
            Err(_) if !self.netlink.routes(PROTOCOL)?.contains(route) => Ok(()),
            outcome => outcome,
        }
    }
}

fn no_way(address: IpAddr, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("this machine knows no way to {address}: {error}"))
}
