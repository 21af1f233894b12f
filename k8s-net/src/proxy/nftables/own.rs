//! IPv6 frontends with affinity, which have chains of their own: one for each frontend and one for each endpoint. Pure.
//!
//! `nft` 1.0.6 cannot write a rule that remembers an IPv6 address together with a port, so that the flat map of IPv4 does
//! not work here. A client is remembered by being in the set of its endpoint, which goes when the endpoint goes.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
};

use super::{
    script::REMEMBERED,
    table::{Chain, Place, Sticky},
};
use crate::proxy::Target;

type Own = BTreeMap<Place, Sticky>;

/// Writes what is in `after` and not the same in `before`, and answers how many frontends that is.
pub(super) fn define(script: &mut String, table: &str, before: &Own, after: &Own) -> usize {
    let changed = || after.iter().filter(|(place, sticky)| before.get(place) != Some(sticky));
    for (place, sticky) in changed() {
        for target in sticky.targets.iter() {
            define_endpoint(script, table, *place, *target, sticky.seconds);
        }
        let chain = Chain::Own(*place);
        let _ = writeln!(script, "add chain inet {table} {chain}\nflush chain inet {table} {chain}");
        let endpoints: Vec<_> = sticky.targets.iter().map(|target| endpoint(*place, *target)).collect();
        for endpoint in &endpoints {
            let _ = writeln!(script, "add rule inet {table} {chain} ip6 saddr @{endpoint} goto {endpoint}");
        }
        let numbered = endpoints.iter().enumerate();
        let numbered: Vec<_> = numbered.map(|(number, endpoint)| format!("{number} : goto {endpoint}")).collect();
        let draw = format!("numgen random mod {} vmap {{ {} }}", endpoints.len(), numbered.join(", "));
        let _ = writeln!(script, "add rule inet {table} {chain} {draw}");
    }
    changed().count()
}

/// Writes the removal of endpoints that are in `before` and not in `after`, once nothing leads to them any more.
pub(super) fn remove(script: &mut String, table: &str, before: &Own, after: &Own) {
    let after = endpoints(after);
    for (place, target) in endpoints(before).difference(&after) {
        let endpoint = endpoint(*place, *target);
        let _ = writeln!(
            script,
            "flush chain inet {table} {endpoint}\ndelete chain inet {table} {endpoint}\ndelete set inet {table} {endpoint}"
        );
    }
}

fn define_endpoint(script: &mut String, table: &str, place: Place, target: Target, seconds: u64) {
    let name = endpoint(place, target);
    let protocol = place.frontend.protocol.as_str();
    let _ = writeln!(
        script,
        "add set inet {table} {name} {{ type ipv6_addr; size {REMEMBERED}; flags dynamic,timeout; }}
add chain inet {table} {name}
flush chain inet {table} {name}
add rule inet {table} {name} meta l4proto {protocol} update @{name} {{ ip6 saddr timeout {seconds}s }} dnat ip6 to {target}"
    );
}

/// The name of an endpoint's chain and set.
fn endpoint(place: Place, target: Target) -> String {
    format!("own-{place}-{}-{}", target.address.to_string().replace(':', "_"), target.port)
}

fn endpoints(own: &Own) -> BTreeSet<(Place, Target)> {
    own.iter().flat_map(|(place, sticky)| sticky.targets.iter().map(|target| (*place, *target))).collect()
}
