//! Where connections lead when a server's certificate is for another name than the host that is connected to.

use std::net::{IpAddr, SocketAddr};

use reqwest::{
    Url,
    dns::{Addrs, Name, Resolve, Resolving},
};

/// Where every name leads: to the address that was given, or else to those of the host.
pub(super) struct Route {
    /// A name or an address.
    pub host: String,
    /// Its port, unless the URL that is asked for names one.
    pub port: u16,
    /// What the host is not looked up for.
    pub address: Option<SocketAddr>,
}

impl Route {
    /// To the host of a URL, or to an address instead; `None` for a URL without a host.
    pub fn to(url: &Url, address: Option<SocketAddr>) -> Option<Self> {
        let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
        Some(Self { host, port: url.port_or_known_default().unwrap_or(443), address })
    }
}

impl Resolve for Route {
    fn resolve(&self, _: Name) -> Resolving {
        let (host, port, address) = (self.host.clone(), self.port, self.address);
        Box::pin(async move {
            let found: Addrs = match address {
                Some(address) => Box::new(std::iter::once(address)),
                None => Box::new(tokio::net::lookup_host((host, port)).await?.collect::<Vec<_>>().into_iter()),
            };
            Ok(found)
        })
    }
}

/// The same URL with the name in the server's certificate for its host: TLS asks for it and verifies it. A client that
/// is asked for such a URL finds its way by a [`Route`]. The error says what is wrong with the name.
pub(super) fn under_name(mut url: Url, name: &str) -> Result<Url, String> {
    let is_host = url.host_str().is_some_and(|host| host.trim_matches(['[', ']']) == name);
    if is_host {
        return Ok(url);
    }
    if name.parse::<IpAddr>().is_ok() {
        // A client would connect to it without asking anybody where it is.
        return Err(format!("server name {name:?}: an address cannot stand for another host"));
    }
    url.set_host(Some(name)).map_err(|why| format!("server name {name:?}: {why}"))?;
    Ok(url)
}
