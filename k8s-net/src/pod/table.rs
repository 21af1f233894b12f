//! The pod network's packet filter table, as text: masquerading of what leaves the cluster, and host ports. Pure.

use std::{fmt::Write, net::IpAddr};

use ipnet::IpNet;

use super::leases::{Lease, Port};

/// Marks the table as made here.
pub(super) const MARK: &str = "k8s-net pod network";

/// What the table depends on.
pub(super) struct Contents<'a> {
    pub(super) table: &'a str,
    /// This node's pod CIDRs: their traffic is masqueraded...
    pub(super) pod_cidrs: &'a [IpNet],
    /// ...unless it goes here.
    pub(super) cluster_cidrs: &'a [IpNet],
    pub(super) leases: Vec<&'a Lease>,
}

/// A script that replaces the table as a whole.
pub(super) fn script(contents: &Contents<'_>) -> String {
    let table = contents.table;
    let mut script = format!("add table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
    let _ = writeln!(script, "  comment \"{MARK}\"");
    let mut translate = String::new();
    let mut masquerade = String::new();
    for family in [Family::V4, Family::V6] {
        family.sets(contents, &mut script);
        family.rules(contents, &mut translate, &mut masquerade);
    }
    let _ = write!(
        script,
        "  chain host-ports {{\n{translate}  }}
  chain prerouting {{
    type nat hook prerouting priority dstnat; policy accept;
    jump host-ports
  }}
  chain output {{
    type nat hook output priority -100; policy accept;
    jump host-ports
  }}
  chain postrouting {{
    type nat hook postrouting priority srcnat; policy accept;
{masquerade}  }}
}}
"
    );
    script
}

#[derive(Clone, Copy, PartialEq)]
enum Family {
    V4,
    V6,
}

impl Family {
    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn number(self) -> u8 {
        if self == Self::V4 { 4 } else { 6 }
    }

    fn keyword(self) -> &'static str {
        if self == Self::V4 { "ip" } else { "ip6" }
    }

    fn address_type(self) -> &'static str {
        if self == Self::V4 { "ipv4_addr" } else { "ipv6_addr" }
    }

    fn sets(self, contents: &Contents<'_>, script: &mut String) {
        let (n, address) = (self.number(), self.address_type());
        let cluster = IpNet::aggregate(&[contents.pod_cidrs, contents.cluster_cidrs].concat());
        let cluster = self.nets(&cluster);
        set(script, &format!("set cluster{n} {{ type {address}; flags interval;"), &cluster);

        let ports = || self.ports(contents);
        let any: Vec<_> = ports()
            .filter(|(port, _)| port.host_address.is_none())
            .map(|(port, pod)| format!("{} . {} : {pod} . {}", port.protocol, port.host, port.pod))
            .collect();
        let kind = format!("inet_proto . inet_service : {address} . inet_service");
        set(script, &format!("map host-ports{n} {{ type {kind};"), &any);

        let one: Vec<_> = ports()
            .filter_map(|(port, pod)| {
                let host = port.host_address.filter(|host| Self::of(*host) == self)?;
                Some(format!("{host} . {} . {} : {pod} . {}", port.protocol, port.host, port.pod))
            })
            .collect();
        set(script, &format!("map host-address-ports{n} {{ type {address} . {kind};"), &one);

        let mut hairpins: Vec<_> = ports().map(|(_, pod)| format!("{pod} . {pod}")).collect();
        hairpins.dedup();
        set(script, &format!("set hairpin{n} {{ type {address} . {address};"), &hairpins);
    }

    fn rules(self, contents: &Contents<'_>, translate: &mut String, masquerade: &mut String) {
        let (n, ip) = (self.number(), self.keyword());
        let _ = writeln!(translate, "    dnat {ip} to {ip} daddr . meta l4proto . th dport map @host-address-ports{n}");
        // The loopback's own addresses cannot leave the host.
        let loopback = if self == Self::V4 { "127.0.0.0/8" } else { "::1" };
        let _ = writeln!(
            translate,
            "    {ip} daddr != {loopback} fib daddr type local dnat {ip} to meta l4proto . th dport map @host-ports{n}"
        );
        let _ = writeln!(masquerade, "    ct status dnat {ip} saddr . {ip} daddr @hairpin{n} masquerade");
        for net in self.nets(contents.pod_cidrs) {
            let _ = writeln!(masquerade, "    {ip} saddr {net} {ip} daddr != @cluster{n} masquerade");
        }
    }

    fn nets(self, nets: &[IpNet]) -> Vec<String> {
        nets.iter().filter(|net| Self::of(net.network()) == self).map(|net| net.trunc().to_string()).collect()
    }

    fn ports<'a>(self, contents: &'a Contents<'_>) -> impl Iterator<Item = (&'a Port, IpAddr)> {
        contents.leases.iter().flat_map(move |lease| {
            let pod = lease.addresses.iter().copied().find(|address| Self::of(*address) == self);
            pod.into_iter().flat_map(|pod| lease.ports.iter().map(move |port| (port, pod)))
        })
    }
}

fn set(script: &mut String, head: &str, elements: &[String]) {
    let _ = match elements {
        [] => writeln!(script, "  {head} }}"),
        elements => writeln!(script, "  {head} elements = {{ {} }} }}", elements.join(", ")),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pods_leave_masqueraded_and_host_ports_lead_in() {
        let lease = Lease {
            addresses: vec!["10.1.0.2".parse().unwrap()],
            ports: vec![
                Port { protocol: "tcp".into(), host_address: None, host: 8080, pod: 80 },
                Port { protocol: "udp".into(), host_address: Some("192.0.2.1".parse().unwrap()), host: 53, pod: 5353 },
            ],
        };
        let pod_cidrs = ["10.1.0.0/24".parse().unwrap()];
        let cluster_cidrs = ["10.1.0.0/16".parse().unwrap()];
        let contents =
            Contents { table: "pods", pod_cidrs: &pod_cidrs, cluster_cidrs: &cluster_cidrs, leases: vec![&lease] };
        let script = script(&contents);
        let wanted: Vec<_> = script.lines().filter(|line| line.contains('4') && !line.contains("fib")).collect();
        insta::assert_snapshot!(wanted.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n"), @"
        set cluster4 { type ipv4_addr; flags interval; elements = { 10.1.0.0/16 } }
        map host-ports4 { type inet_proto . inet_service : ipv4_addr . inet_service; elements = { tcp . 8080 : 10.1.0.2 . 80 } }
        map host-address-ports4 { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; elements = { 192.0.2.1 . udp . 53 : 10.1.0.2 . 5353 } }
        set hairpin4 { type ipv4_addr . ipv4_addr; elements = { 10.1.0.2 . 10.1.0.2 } }
        dnat ip to ip daddr . meta l4proto . th dport map @host-address-ports4
        dnat ip6 to ip6 daddr . meta l4proto . th dport map @host-address-ports6
        ct status dnat ip saddr . ip daddr @hairpin4 masquerade
        ip saddr 10.1.0.0/24 ip daddr != @cluster4 masquerade
        ");
        assert!(script.contains("set cluster6 { type ipv6_addr; flags interval; }"), "{script}");
    }
}
