//! What a pod says about its network: name resolution, host names, ports on the node.

use std::net::IpAddr;

use super::{indexed, list_at, named};
use crate::{
    doc::Doc,
    names,
    status::{FieldError, FieldErrorKind},
};

/// As many as resolvers take.
const MAX_NAMESERVERS: usize = 3;
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;

/// The network parts of a pod's spec at `path`; also for templates.
pub(super) fn check(errors: &mut Vec<FieldError>, spec: &Doc, path: &str) {
    let servers = list_at(spec, &["dnsConfig", "nameservers"]);
    if spec.str_at(&["dnsPolicy"]) == "None" && servers.is_empty() {
        let detail = "must provide at least one DNS nameserver when `dnsPolicy` is None";
        errors.push(FieldError::required(format!("{path}.dnsConfig.nameservers"), detail));
    }
    if servers.len() > MAX_NAMESERVERS {
        let (place, value) = (format!("{path}.dnsConfig.nameservers"), Doc::Array(servers.to_vec()).to_string());
        let detail = format!("must not have more than {MAX_NAMESERVERS} nameservers");
        errors.push(FieldError::new(FieldErrorKind::Invalid, place, value, detail));
    }
    check_searches(errors, list_at(spec, &["dnsConfig", "searches"]), &format!("{path}.dnsConfig.searches"));
    for (path, option) in indexed(list_at(spec, &["dnsConfig", "options"]), &format!("{path}.dnsConfig.options")) {
        if option.str_at(&["name"]).is_empty() {
            errors.push(FieldError::required(path, "must not be empty"));
        }
    }
    for (path, server) in indexed(servers, &format!("{path}.dnsConfig.nameservers")) {
        check_address(errors, &path, server.as_str().unwrap_or(""));
    }
    for (path, alias) in indexed(list_at(spec, &["hostAliases"]), &format!("{path}.hostAliases")) {
        check_address(errors, &format!("{path}.ip"), alias.str_at(&["ip"]));
        for (path, name) in indexed(list_at(alias, &["hostnames"]), &format!("{path}.hostnames")) {
            let name = name.as_str().unwrap_or("");
            named(errors, &path, name, names::dns_subdomain(name));
        }
    }
    if spec.get("hostNetwork").and_then(Doc::as_bool) == Some(true) {
        for (path, container) in indexed(list_at(spec, &["containers"]), &format!("{path}.containers")) {
            check_host_ports(errors, list_at(container, &["ports"]), &path);
        }
    }
    for (path, sysctl) in
        indexed(list_at(spec, &["securityContext", "sysctls"]), &format!("{path}.securityContext.sysctls"))
    {
        check_sysctl(errors, sysctl.str_at(&["name"]), &format!("{path}.name"));
    }
}

/// The domains that short names are looked for in.
fn check_searches(errors: &mut Vec<FieldError>, searches: &[Doc], path: &str) {
    let value = || Doc::Array(searches.to_vec()).to_string();
    if searches.len() > MAX_SEARCHES {
        let detail = format!("must not have more than {MAX_SEARCHES} search paths");
        errors.push(FieldError::new(FieldErrorKind::Invalid, path, value(), detail));
    }
    let bytes: usize = searches.iter().filter_map(Doc::as_str).map(|search| search.len() + 1).sum();
    if bytes > MAX_SEARCH_BYTES + 1 {
        let detail =
            format!("must not have more than {MAX_SEARCH_BYTES} characters (including spaces) in the search list");
        errors.push(FieldError::new(FieldErrorKind::Invalid, path, value(), detail));
    }
    for (path, search) in indexed(searches, path) {
        let search = search.as_str().unwrap_or("");
        let name = search.strip_suffix('.').unwrap_or(search);
        if !name.is_empty() {
            // Names of services begin with an underscore: it counts as a letter.
            named(errors, &path, search, names::dns_subdomain(&name.replace('_', "x")));
        }
    }
}

/// An IP address, of either family.
pub(super) fn check_address(errors: &mut Vec<FieldError>, path: &str, address: &str) {
    if address.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid(
            path,
            address,
            "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
        ));
    }
}

/// An address that another machine can be reached at.
pub(super) fn check_reachable(errors: &mut Vec<FieldError>, path: &str, address: &str) {
    let Ok(ip) = address.parse::<IpAddr>() else { return check_address(errors, path, address) };
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    let is_local_multicast = match ip {
        IpAddr::V4(ip) => ip.octets()[..3] == [224, 0, 0],
        IpAddr::V6(ip) => ip.segments()[0] & 0xff0f == 0xff02,
    };
    for (is_wrong, detail) in [
        (ip.is_unspecified(), format!("may not be unspecified ({ip})")),
        (ip.is_loopback(), "may not be in the loopback range (127.0.0.0/8, ::1/128)".to_owned()),
        (is_link_local, "may not be in the link-local range (169.254.0.0/16, fe80::/10)".to_owned()),
        (is_local_multicast, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)".to_owned()),
    ] {
        if is_wrong {
            errors.push(FieldError::invalid(path, address, detail));
        }
    }
}

/// A range of addresses.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Cidr {
    /// The first address, as a number of the family's width.
    network: u128,
    length: u8,
    bits: u8,
}

impl Cidr {
    /// Reads `10.0.0.0/8`; bits of the host are dropped.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let (address, length) = text.split_once('/')?;
        let length: u8 = length.parse().ok()?;
        let (value, bits): (u128, u8) = match address.parse().ok()? {
            IpAddr::V4(address) => (u128::from(u32::from(address)), 32),
            IpAddr::V6(address) => (u128::from(address), 128),
        };
        let host = bits.checked_sub(length)?;
        let network = value.checked_shr(u32::from(host)).unwrap_or(0).checked_shl(u32::from(host)).unwrap_or(0);
        Some(Self { network, length, bits })
    }

    /// Whether it is of the older family.
    pub(super) fn is_ipv4(self) -> bool {
        self.bits == 32
    }

    /// Whether all of `other` lies in it, and it is larger.
    pub(super) fn strictly_contains(self, other: Self) -> bool {
        let host = u32::from(self.bits - self.length);
        let part = |value: u128| value.checked_shr(host).unwrap_or(0);
        self.bits == other.bits && self.length < other.length && part(other.network) == part(self.network)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = match self.bits {
            32 => IpAddr::V4((self.network as u32).into()),
            _ => IpAddr::V6(self.network.into()),
        };
        write!(f, "{address}/{}", self.length)
    }
}

/// An address with the length of its prefix.
pub(super) fn check_cidr(errors: &mut Vec<FieldError>, path: &str, cidr: &str) {
    if Cidr::parse(cidr).is_none() {
        errors.push(FieldError::invalid(path, cidr, "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)"));
    }
}

/// In the node's network a port of the container is that port of the node.
fn check_host_ports(errors: &mut Vec<FieldError>, ports: &[Doc], path: &str) {
    for (path, port) in indexed(ports, &format!("{path}.ports")) {
        let number = |field: &str| port.get(field).and_then(Doc::as_i64).unwrap_or(0);
        if number("hostPort") != 0 && number("hostPort") != number("containerPort") {
            let (path, value) = (format!("{path}.hostPort"), number("hostPort").to_string());
            let detail = "must match `containerPort` when `hostNetwork` is true";
            errors.push(FieldError::new(FieldErrorKind::Invalid, path, value, detail));
        }
    }
}

fn check_sysctl(errors: &mut Vec<FieldError>, name: &str, path: &str) {
    let is_letter = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let is_part = |part: &str| {
        part.bytes().all(|byte| is_letter(byte) || matches!(byte, b'-' | b'_'))
            && part.bytes().next().is_some_and(is_letter)
            && part.bytes().last().is_some_and(is_letter)
    };
    if name.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if name.len() > names::MAX_SUBDOMAIN || !name.split(['.', '/']).all(is_part) {
        let detail = "must have at most 253 characters and consist of lower case letters, digits, '-' and '_', in \
            parts that '.' or '/' separate";
        errors.push(FieldError::invalid(path, name, detail));
    }
}
