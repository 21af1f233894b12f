//! Who holds which pod address: in memory, and in one small file per holder.
//!
//! A file is written under another name and renamed, so a reader sees all of it or nothing. It is not forced to the
//! disk: addresses matter only as long as the namespaces that carry them, and those do not survive a power failure.
//! Blocking: a lease costs one file creation and one rename.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The leases of one node. At most one process holds them at a time.
pub(super) struct Leases {
    directory: PathBuf,
    pools: Vec<Pool>,
    held: BTreeMap<String, Lease>,
    taken: BTreeSet<IpAddr>,
    /// Locked for as long as these leases live.
    _lock: File,
}

/// What one holder has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Lease {
    /// One per address family, primary first.
    pub(super) addresses: Vec<IpAddr>,
    /// Ports of the host that lead to the holder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(super) ports: Vec<Port>,
}

/// One port of the host that leads to a holder.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Port {
    /// `tcp`, `udp` or `sctp`.
    pub(super) protocol: String,
    /// The host's address, or any.
    pub(super) host_address: Option<IpAddr>,
    pub(super) host: u16,
    pub(super) pod: u16,
}

/// The addresses of one CIDR.
struct Pool {
    net: IpNet,
    /// Where the next search begins: addresses are reused as late as possible, since others may remember them.
    next: u128,
}

impl Leases {
    /// Reads the leases in `directory`, which is created when absent.
    pub(super) fn open(directory: &Path, cidrs: &[IpNet]) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let lock = File::create(directory.join(".lock"))?;
        lock.try_lock().map_err(|error| {
            io::Error::new(io::ErrorKind::ResourceBusy, format!("another process manages these pods ({error})"))
        })?;
        let pools = cidrs.iter().map(|net| Pool { net: net.trunc(), next: 0 }).collect();
        let mut leases =
            Self { directory: directory.into(), pools, held: BTreeMap::new(), taken: BTreeSet::new(), _lock: lock };
        leases.read()?;
        Ok(leases)
    }

    fn read(&mut self) -> io::Result<()> {
        for entry in fs::read_dir(&self.directory)? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()).filter(|name| !name.starts_with('.')) else {
                continue;
            };
            match serde_json::from_slice::<Lease>(&fs::read(&path)?) {
                Ok(lease) => {
                    self.taken.extend(&lease.addresses);
                    self.held.insert(id.to_owned(), lease);
                }
                // Only a power failure leaves half a file, and it has ended the holder too.
                Err(error) => {
                    tracing::warn!(path = %path.display(), %error, "dropped an unreadable lease");
                    fs::remove_file(&path)?;
                }
            }
        }
        for pool in &mut self.pools {
            pool.next = self.taken.iter().filter_map(|ip| offset(&pool.net, *ip)).max().map_or(0, |last| last + 1);
        }
        Ok(())
    }

    /// What `id` holds.
    pub(super) fn get(&self, id: &str) -> Option<&Lease> {
        self.held.get(id)
    }

    /// Everybody who holds something, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&String, &Lease)> {
        self.held.iter()
    }

    /// Leases one address of each CIDR to `id`, or answers what it holds already, with `ports` from now on.
    pub(super) fn take(&mut self, id: &str, ports: Vec<Port>) -> io::Result<Lease> {
        self.check_ports(id, &ports)?;
        let lease = match self.held.get(id) {
            Some(lease) if lease.ports == ports => return Ok(lease.clone()),
            Some(lease) => Lease { addresses: lease.addresses.clone(), ports },
            None => Lease { addresses: self.choose()?, ports },
        };
        self.write(id, &lease)?;
        self.taken.extend(&lease.addresses);
        self.held.insert(id.to_owned(), lease.clone());
        Ok(lease)
    }

    /// Frees what `id` holds, if anything.
    pub(super) fn give_back(&mut self, id: &str) -> io::Result<()> {
        if !self.held.contains_key(id) {
            return Ok(());
        }
        match fs::remove_file(self.directory.join(id)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        for address in self.held.remove(id).into_iter().flat_map(|lease| lease.addresses) {
            self.taken.remove(&address);
        }
        Ok(())
    }

    fn choose(&mut self) -> io::Result<Vec<IpAddr>> {
        let taken = &self.taken;
        self.pools
            .iter_mut()
            .map(|pool| {
                pool.choose(taken).ok_or_else(|| {
                    io::Error::new(io::ErrorKind::StorageFull, format!("no address of {} is free", pool.net))
                })
            })
            .collect()
    }

    /// Two holders cannot have the same port of the same host address.
    fn check_ports(&self, id: &str, ports: &[Port]) -> io::Result<()> {
        for port in ports {
            let clash = self
                .held
                .iter()
                .find(|(other, lease)| other.as_str() != id && lease.ports.iter().any(|taken| taken.clashes(port)));
            if let Some((other, _)) = clash {
                let message = format!("host port {}/{} already leads to {other}", port.host, port.protocol);
                return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
            }
        }
        Ok(())
    }

    fn write(&self, id: &str, lease: &Lease) -> io::Result<()> {
        let draft = self.directory.join(format!(".{id}"));
        fs::write(&draft, serde_json::to_vec(lease)?)?;
        fs::rename(&draft, self.directory.join(id))
    }
}

impl Port {
    fn clashes(&self, other: &Self) -> bool {
        let same_address = match (self.host_address, other.host_address) {
            (Some(one), Some(two)) => one == two,
            _ => true,
        };
        same_address && self.host == other.host && self.protocol == other.protocol
    }
}

impl Pool {
    /// The next free address after the last one given, around the end. The first is the gateway's.
    fn choose(&mut self, taken: &BTreeSet<IpAddr>) -> Option<IpAddr> {
        let (first, count) = usable(&self.net);
        // However many there are, among one more than are taken there is a free one.
        let tries = count.min(taken.len() as u128 + 1);
        let start = self.next.max(first);
        for step in 0..tries {
            let offset = first + (start - first + step) % count;
            let address = at(&self.net, offset)?;
            if !taken.contains(&address) {
                self.next = offset + 1;
                return Some(address);
            }
        }
        None
    }
}

/// The node's own address in a pod CIDR: the first after the network's.
pub fn gateway(net: &IpNet) -> Option<IpAddr> {
    at(&net.trunc(), 1)
}

/// The offset of the first address for pods, and how many there are: all but network, gateway and (IPv4) broadcast.
fn usable(net: &IpNet) -> (u128, u128) {
    let bits = u32::from(net.max_prefix_len() - net.prefix_len());
    let size = if bits >= 128 { u128::MAX } else { 1 << bits };
    let reserved = if net.network().is_ipv4() { 3 } else { 2 };
    (2, size.saturating_sub(reserved))
}

fn at(net: &IpNet, offset: u128) -> Option<IpAddr> {
    let address = match net.network() {
        IpAddr::V4(base) => IpAddr::V4(base.to_bits().checked_add(u32::try_from(offset).ok()?)?.into()),
        IpAddr::V6(base) => IpAddr::V6(base.to_bits().checked_add(offset)?.into()),
    };
    net.contains(&address).then_some(address)
}

fn offset(net: &IpNet, address: IpAddr) -> Option<u128> {
    if !net.contains(&address) {
        return None;
    }
    match (net.network(), address) {
        (IpAddr::V4(base), IpAddr::V4(address)) => Some(u128::from(address.to_bits() - base.to_bits())),
        (IpAddr::V6(base), IpAddr::V6(address)) => Some(address.to_bits() - base.to_bits()),
        _ => None,
    }
}

#[cfg(test)]
mod tests;
