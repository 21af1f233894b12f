//! Addresses of Services that this machine gets, on a link of their own.
//!
//! The link is one end of a pair whose other end stays down: nothing comes or goes there, and everything on it was put
//! there by this backend. Dummy links would do, but not every kernel has them. Blocking, and quick.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket},
    os::fd::AsRawFd,
};

use crate::netlink::{End, Link, Netlink, Request};

/// Marks the link as made here.
const MARK: &str = "k8s-net userspace service proxy";
/// Requests in one system call.
const BATCH: usize = 64;
/// The hardware addresses of the two ends, which nobody meets: locally administered.
const MACS: [[u8; 6]; 2] = [[0x02, 0x6b, 0x38, 0x73, 0, 0], [0x06, 0x6b, 0x38, 0x73, 0, 0]];

/// What this backend has added to the machine. Dropping it takes that back.
pub(super) struct Addresses {
    /// The link's name.
    pub(super) link: String,
    netlink: Option<Netlink>,
    added: BTreeSet<IpAddr>,
    /// Whether somebody may have taken away what was added.
    doubted: bool,
    /// The index of the link, once it is known to be there and ours.
    index: Option<u32>,
    /// Whether what an earlier process left has been removed.
    fresh: bool,
}

impl Addresses {
    pub(super) fn new(link: String) -> Self {
        Self { link, netlink: None, added: BTreeSet::new(), doubted: false, index: None, fresh: false }
    }

    /// Makes all of `wanted` addresses of this machine, and takes back what else it added. Answers what is not there, and
    /// why.
    pub(super) fn bring(&mut self, wanted: &BTreeSet<IpAddr>) -> BTreeMap<IpAddr, io::Error> {
        let mut lacking = BTreeMap::new();
        if let Err(error) = self.begin() {
            self.index = None;
            lacking.extend(wanted.iter().filter(|address| !is_here(**address)).map(|address| (*address, copy(&error))));
            return lacking;
        }
        let doubted = std::mem::take(&mut self.doubted);
        if doubted {
            let name = self.link.clone();
            let link = self.netlink().and_then(|netlink| netlink.link(&name)).ok().flatten();
            self.index = link.filter(is_ours).map(|link| link.index);
        }
        let gone: Vec<_> = self.added.difference(wanted).copied().collect();
        for batch in gone.chunks(BATCH) {
            // Gone already is as good.
            let _ = self.run(batch, Request::delete_address);
        }
        self.added.retain(|address| wanted.contains(address));
        let missing = |address: &IpAddr| if self.added.contains(address) { doubted } else { !is_here(*address) };
        let new: Vec<_> = wanted.iter().copied().filter(missing).collect();
        for batch in new.chunks(BATCH) {
            match self.create().and_then(|()| self.run(batch, Request::address)) {
                Ok(()) => self.added.extend(batch),
                Err(error) => {
                    let (here, not): (Vec<&IpAddr>, Vec<&IpAddr>) =
                        batch.iter().partition(|address| is_here(**address));
                    self.added.extend(here);
                    lacking.extend(not.into_iter().map(|address| (*address, copy(&error))));
                }
            }
        }
        lacking
    }

    /// Whether the link, if it is needed, is still there.
    pub(super) fn intact(&mut self) -> io::Result<bool> {
        let Some(index) = self.index.filter(|_| !self.added.is_empty()) else { return Ok(true) };
        let name = self.link.clone();
        Ok(self.netlink()?.link(&name)?.is_some_and(|link| link.index == index))
    }

    /// Makes the next [`bring`](Self::bring) look at every address again.
    pub(super) fn doubt(&mut self) {
        self.index = None;
        self.doubted = true;
    }

    /// Removes the link and with it every address, if it was made by this backend or an earlier process's.
    pub(super) fn remove(&mut self) -> io::Result<()> {
        (self.index, self.fresh) = (None, false);
        self.added.clear();
        self.begin()
    }

    /// Removes what an earlier process left, once.
    fn begin(&mut self) -> io::Result<()> {
        if self.fresh {
            return Ok(());
        }
        let name = self.link.clone();
        if let Some(link) = self.netlink()?.link(&name)? {
            if !is_ours(&link) {
                return Err(foreign(&name));
            }
            self.netlink()?.run(vec![Request::delete_link(link.index)])?;
        }
        self.fresh = true;
        Ok(())
    }

    /// Makes the link unless it is there.
    fn create(&mut self) -> io::Result<()> {
        if self.index.is_some() {
            return Ok(());
        }
        let (near, far) = (self.link.clone(), format!("{}-end", self.link));
        let here = File::open("/proc/thread-self/ns/net")?;
        let ends = [End { name: &near, mac: MACS[0] }, End { name: &far, mac: MACS[1] }];
        let made = self.netlink()?.run(vec![Request::new_pair(&ends[0], &ends[1], here.as_raw_fd(), 65_535)]);
        let link = match (made, self.netlink()?.link(&near)?) {
            (Ok(()), Some(link)) => link,
            (Ok(()), None) => return Err(io::Error::new(io::ErrorKind::NotFound, "vanished")),
            (Err(error), _) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
            (Err(_), Some(link)) if is_ours(&link) => link,
            (Err(_), _) => return Err(foreign(&near)),
        };
        let index = link.index;
        self.netlink()?.run(vec![Request::mark(index, MARK), Request::up(index)])?;
        self.index = Some(index);
        Ok(())
    }

    fn run(&mut self, addresses: &[IpAddr], request: impl Fn(u32, IpAddr) -> Request) -> io::Result<()> {
        let Some(index) = self.index else { return Ok(()) };
        let requests = addresses.iter().map(|address| request(index, *address)).collect();
        // Who could make the link lacks no privilege: what is refused now is refused for another reason.
        self.netlink()?.run(requests).map_err(|error| io::Error::other(error.to_string()))
    }

    fn netlink(&mut self) -> io::Result<&mut Netlink> {
        match &mut self.netlink {
            Some(netlink) => Ok(netlink),
            none => Ok(none.insert(Netlink::open()?)),
        }
    }
}

impl Drop for Addresses {
    fn drop(&mut self) {
        // By its number: by now somebody else may have a link of that name.
        let Some(index) = self.index else { return };
        let outcome = self.netlink().and_then(|netlink| netlink.run(vec![Request::delete_link(index)]));
        if let Err(error) = outcome {
            tracing::warn!(%error, link = self.link, "addresses of services stay behind");
        }
    }
}

fn is_ours(link: &Link) -> bool {
    link.alias.as_deref() == Some(MARK)
}

fn foreign(link: &str) -> io::Error {
    let why = format!(
        "exists and was not made by this program; configure another name, or remove it with `ip link delete {link}`"
    );
    io::Error::new(io::ErrorKind::AlreadyExists, why)
}

/// Whether the machine has the address, from wherever.
fn is_here(address: IpAddr) -> bool {
    // Connecting a datagram socket sends nothing; it only asks for the route. To itself the machine speaks as itself.
    let any: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let route = || -> io::Result<IpAddr> {
        let socket = UdpSocket::bind((any, 0))?;
        socket.connect((address, 9))?;
        Ok(socket.local_addr()?.ip())
    };
    route().is_ok_and(|from| from == address)
}

fn copy(error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), error.to_string())
}
