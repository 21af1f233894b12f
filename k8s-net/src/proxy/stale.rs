//! Which UDP flows to Services no longer go where they should, after the rules changed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
};

use super::{Frontend, Protocol, Rules, Target};
use crate::conntrack::{self, Flow};

/// UDP frontends whose flows may be astray, with the targets that are right.
pub(super) type Stale = BTreeMap<Frontend, BTreeSet<Target>>;

/// The frontends that `rules` treats differently from `before` in a way that leaves flows astray: a target is gone,
/// or there was none and now there is. Without `before`, every UDP frontend.
pub(super) fn stale(before: Option<&Rules>, rules: &Rules) -> Stale {
    let mut stale = Stale::new();
    let now = udp(rules);
    match before.map(udp) {
        None => stale = now,
        Some(before) => {
            for (frontend, targets) in &now {
                let earlier = before.get(frontend);
                if earlier.is_none_or(|earlier| earlier.is_empty() || !earlier.is_subset(targets)) {
                    stale.insert(*frontend, targets.clone());
                }
            }
            let gone = before.into_keys().filter(|frontend| !now.contains_key(frontend));
            stale.extend(gone.map(|frontend| (frontend, BTreeSet::new())));
        }
    }
    stale
}

fn udp(rules: &Rules) -> Stale {
    let udp = rules.frontends.iter().filter(|(frontend, _)| frontend.protocol == Protocol::Udp);
    udp.map(|(frontend, destination)| (*frontend, destination.targets().collect())).collect()
}

/// Ends every flow to a frontend in `stale` that goes to none of its targets. Blocking.
pub(super) fn end(stale: &Stale) -> io::Result<()> {
    for ipv6 in [false, true] {
        if stale.keys().any(|frontend| frontend.address.is_ipv6() == ipv6) {
            conntrack::end_udp(ipv6, |flow| is_astray(flow, stale))?;
        }
    }
    Ok(())
}

fn is_astray(flow: &Flow, stale: &Stale) -> bool {
    let frontend = Frontend { address: flow.to.ip(), protocol: Protocol::Udp, port: flow.to.port() };
    let target = Target { address: flow.goes_to.ip(), port: flow.goes_to.port() };
    stale.get(&frontend).is_some_and(|targets| !targets.contains(&target))
}

#[cfg(test)]
mod tests;
