//! Whom to ask for names outside of the zone: what a `resolv.conf` says.

use std::net::{IpAddr, SocketAddr};

/// The most name servers that a resolver takes.
const MAX_SERVERS: usize = 3;
/// The port of name servers.
const PORT: u16 = 53;

/// The name servers of a `resolv.conf`, but those at `own` addresses: a server that asks itself never ends.
pub fn upstreams(resolv_conf: &str, own: &[IpAddr]) -> Vec<SocketAddr> {
    let addresses = resolv_conf.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()?.parse::<IpAddr>().ok())?
    });
    let mut servers = Vec::new();
    for address in addresses {
        if own.contains(&address) {
            tracing::warn!(%address, "this name server is ourselves; it is not asked for other names");
        } else if servers.len() < MAX_SERVERS && !servers.contains(&SocketAddr::new(address, PORT)) {
            servers.push(SocketAddr::new(address, PORT));
        }
    }
    servers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_servers_are_taken_but_our_own() {
        let text = "# comment\nsearch a b\nnameserver 10.96.0.10\nnameserver 192.0.2.1 # first\n\
            nameserver\nnameserver nonsense\n  nameserver ::1\noptions ndots:5\nnameserver 192.0.2.1\n\
            nameserver 192.0.2.2\nnameserver 192.0.2.3\n";
        let own: IpAddr = "10.96.0.10".parse().unwrap();
        let servers: Vec<String> = upstreams(text, &[own]).iter().map(ToString::to_string).collect();
        assert_eq!(servers, ["192.0.2.1:53", "[::1]:53", "192.0.2.2:53"]);
        assert_eq!(upstreams("nameserver 10.96.0.10\n", &[own]), []);
    }
}
