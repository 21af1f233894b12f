//! The table as text for `nft`: all of it, or the difference between two. Pure.

use std::{cmp::Ordering, collections::BTreeMap, fmt::Write};

use super::{
    own,
    table::{Chain, Element, Pick, Set, Table, Value, family},
};
use crate::proxy::Protocol;

/// A transaction and how many elements and chains it touches.
pub(super) struct Change {
    pub(super) text: String,
    pub(super) elements: usize,
}

const PROTOCOLS: [Protocol; 3] = [Protocol::Tcp, Protocol::Udp, Protocol::Sctp];

/// Clients that one map remembers at most: a bound on memory in the kernel. Beyond it new
/// clients are balanced anew with each connection.
pub(super) const REMEMBERED: u32 = 262_144;

/// Replaces the table `name`, whatever it held.
pub(super) fn full(name: &str, mark: &str, table: &Table) -> String {
    let mut script = format!("add table inet {name}\ndelete table inet {name}\ntable inet {name} {{\n");
    let _ = writeln!(script, "  comment \"{mark}\"");
    for ipv6 in [false, true] {
        define_sets(&mut script, table, ipv6);
    }
    let _ = writeln!(
        script,
        "  map affinity4 {{ type ipv4_addr . ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; \
         size {REMEMBERED}; flags dynamic,timeout; }}"
    );
    fixed_chains(&mut script);
    script.push_str("}\n");
    for chain in &table.chains {
        define_chain(&mut script, name, *chain);
    }
    own::define(&mut script, name, &BTreeMap::new(), &table.own);
    elements(&mut script, "add", name, table.elements.iter());
    script
}

/// Brings the table `name` from `before` to `after`.
///
/// What a map leads to exists before it is added and goes after it is removed. `None` when only replacing the table
/// will do.
pub(super) fn change(name: &str, before: &Table, after: &Table) -> Option<Change> {
    if before.pod_cidrs != after.pod_cidrs {
        return None;
    }
    let (gone, new) = differences(before, after);
    let mut text = String::new();
    for chain in after.chains.difference(&before.chains) {
        define_chain(&mut text, name, *chain);
    }
    let own = own::define(&mut text, name, &before.own, &after.own);
    elements(&mut text, "delete", name, gone.iter().map(|(key, _)| (*key, &Value::Member)));
    elements(&mut text, "add", name, new.iter().copied());
    for chain in before.chains.difference(&after.chains) {
        let _ = writeln!(text, "flush chain inet {name} {chain}\ndelete chain inet {name} {chain}");
    }
    own::remove(&mut text, name, &before.own, &after.own);
    Some(Change { text, elements: gone.len() + new.len() + own })
}

type Entry<'a> = (&'a Element, &'a Value);

/// What only `before` has, and what only `after` has. A changed value is in both. One walk over two sorted maps.
fn differences<'a>(before: &'a Table, after: &'a Table) -> (Vec<Entry<'a>>, Vec<Entry<'a>>) {
    let (mut gone, mut new) = (Vec::new(), Vec::new());
    let (mut old, mut now) = (before.elements.iter().peekable(), after.elements.iter().peekable());
    loop {
        let order = match (old.peek(), now.peek()) {
            (None, None) => return (gone, new),
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some((before, _)), Some((after, _))) => before.cmp(after),
        };
        let was = if order.is_le() { old.next() } else { None };
        let is = if order.is_ge() { now.next() } else { None };
        if was != is {
            gone.extend(was);
            new.extend(is);
        }
    }
}

/// One command for each run of elements of one set.
fn elements<'a>(
    script: &mut String,
    verb: &str,
    table: &str,
    elements: impl Iterator<Item = (&'a Element, &'a Value)>,
) {
    let mut open: Option<(Set, bool)> = None;
    for (element, value) in elements {
        let place = (element.set, element.ipv6);
        if open == Some(place) {
            script.push_str(", ");
        } else {
            if open.is_some() {
                script.push_str(" }\n");
            }
            let _ = write!(script, "{verb} element inet {table} {}{} {{ ", element.set.name(), family(element.ipv6));
            open = Some(place);
        }
        let _ = write!(script, "{}{value}", element.key);
    }
    if open.is_some() {
        script.push_str(" }\n");
    }
}

fn define_sets(script: &mut String, table: &Table, ipv6: bool) {
    let n = family(ipv6);
    let (address, ip) = if ipv6 { ("ipv6_addr", "ip6") } else { ("ipv4_addr", "ip") };
    let frontend = format!("{address} . inet_proto . inet_service");
    for set in Set::ALL {
        let (word, definition) = match set {
            Set::Services | Set::Outside | Set::Refused | Set::RefusedOutside | Set::Masquerade | Set::Sticky => {
                ("map", format!("type {frontend} : verdict;"))
            }
            // The number drawn has no type that could be named, so the map is described by an example. The modulus in
            // it means nothing.
            Set::Endpoints(protocol) | Set::OutsideEndpoints(protocol) => {
                let port = format!("{} dport", protocol.as_str());
                let key = format!("{ip} daddr . {port} . numgen random mod 65536");
                ("map", format!("typeof {key} : {ip} daddr . {port};"))
            }
            Set::Restricted => ("set", format!("type {frontend};")),
            Set::Allowed => ("set", format!("type {frontend} . {address}; flags interval;")),
            Set::ClusterIps | Set::Accepting => ("set", format!("type {address};")),
            Set::Hairpin => ("set", format!("type {address} . {address};")),
        };
        let _ = writeln!(script, "  {word} {}{n} {{ {definition} }}", set.name());
    }
    let nets = table.pod_cidrs.iter().filter(|net| net.addr().is_ipv6() == ipv6);
    let nets: Vec<_> = nets.map(|net| net.trunc().to_string()).collect();
    let nets = if nets.is_empty() { String::new() } else { format!(" elements = {{ {} }}", nets.join(", ")) };
    let _ = writeln!(script, "  set pod-cidrs{n} {{ type {address}; flags interval;{nets} }}");
}

/// The chains that every table has: what comes from where, in the order in which a packet meets them.
fn fixed_chains(script: &mut String) {
    let each = |rule: &str| {
        let four = rule.replace('#', "4").replace("ip_", "ip ");
        let six = rule.replace('#', "6").replace("ip_", "ip6 ");
        format!("    {four}\n    {six}\n")
    };
    let frontend = "ip_daddr . meta l4proto . th dport";
    let from_outside = "ip_saddr != @pod-cidrs#";

    // Refusing comes before translating: afterwards the frontend is no longer to be seen.
    let refused = each(&format!("{frontend} vmap @refused#"));
    let refused_outside = each(&format!("{from_outside} {frontend} vmap @refused-outside#"));
    let restricted = each(&format!("{frontend} @restricted# {frontend} . ip_saddr != @allowed# drop"));
    let unknown_port = each("ct state new ip_daddr @cluster-ips# goto unreachable");
    let outside = each(&format!("{from_outside} {frontend} vmap @outside#"));
    let services = each(&format!("{frontend} vmap @services#"));
    let hairpin = each("ip_saddr . ip_daddr @hairpin# masquerade fully-random");
    let off_cluster = each(&format!("{from_outside} masquerade fully-random"));
    let original = |map: &str| -> String {
        let rule = |protocol: &Protocol| {
            let protocol = protocol.as_str();
            each(&format!(
                "meta l4proto {protocol} ct original ip_daddr . meta l4proto . ct original proto-dst vmap @{map}#"
            ))
        };
        PROTOCOLS.iter().map(rule).collect()
    };
    let (sticky, masquerade) = (original("sticky"), original("masquerade"));

    let _ = write!(
        script,
        "  chain unreachable {{
    reject with icmpx type port-unreachable
  }}
  chain refuse-outside {{
{refused_outside}{restricted}  }}
  chain refuse {{
{refused}  }}
  chain filter-prerouting {{
    type filter hook prerouting priority -110; policy accept;
    ct state new jump refuse-outside
    ct state new jump refuse
  }}
  chain filter-output {{
    type filter hook output priority -110; policy accept;
    ct state new jump refuse
  }}
  chain filter-forward {{
    type filter hook forward priority -90; policy accept;
{unknown_port}  }}
  chain filter-output-translated {{
    type filter hook output priority -90; policy accept;
{unknown_port}  }}
  chain prerouting {{
    type nat hook prerouting priority -100; policy accept;
{outside}{services}  }}
  chain output {{
    type nat hook output priority -100; policy accept;
{services}  }}
  chain masquerade-always {{
    masquerade fully-random
  }}
  chain masquerade-off-cluster {{
{off_cluster}  }}
  chain masquerade-node {{
    fib saddr type local masquerade fully-random
  }}
  chain remember {{
{sticky}  }}
  chain translated {{
    jump remember
{hairpin}{masquerade}  }}
  chain postrouting {{
    type nat hook postrouting priority 100; policy accept;
    ct status dnat jump translated
  }}
  chain input {{
    type nat hook input priority 100; policy accept;
    ct status dnat jump remember
  }}
"
    );
}

fn define_chain(script: &mut String, table: &str, chain: Chain) {
    let _ = writeln!(script, "add chain inet {table} {chain}\nflush chain inet {table} {chain}");
    let mut rule = |rule: String| {
        let _ = writeln!(script, "add rule inet {table} {chain} {rule}");
    };
    match chain {
        Chain::Pick(pick) => {
            if pick.sticky {
                rule("dnat ip to ip saddr . ip daddr . meta l4proto . th dport map @affinity4".into());
            }
            rule(draw(pick));
        }
        Chain::Remember(seconds) => {
            for protocol in PROTOCOLS.map(Protocol::as_str) {
                // Here, after the translation, the destination is the endpoint.
                rule(format!(
                    "meta l4proto {protocol} update @affinity4 {{ ct original ip saddr . ct original ip daddr . meta l4proto \
                     . ct original proto-dst timeout {seconds}s : ip daddr . th dport }}"
                ));
            }
        }
        Chain::Own(_) => {} // Its rules depend on more than its name.
    }
}

/// The rule that draws a number and goes to the endpoint of that number.
fn draw(Pick { outside, protocol, ipv6, count, .. }: Pick) -> String {
    let (n, ip) = (family(ipv6), if ipv6 { "ip6" } else { "ip" });
    let set = if outside { Set::OutsideEndpoints(protocol) } else { Set::Endpoints(protocol) };
    let key = format!("{ip} daddr . {} dport . numgen random mod {count}", protocol.as_str());
    format!("dnat {ip} to {key} map @{}{n}", set.name())
}

#[cfg(test)]
mod tests;
