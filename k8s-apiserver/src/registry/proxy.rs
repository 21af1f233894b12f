//! The proxy to pods and services: which address a request is for.
//!
//! As upstream, a service leads to one of its ready endpoints, and only to pods of its own namespace: an address that
//! somebody merely wrote into a slice is no reason to connect there. What leads back to this machine or to its
//! network's own addresses is refused, and what was checked is what is dialled.

use std::net::{IpAddr, SocketAddr};

use k8s_core::{
    doc::Doc,
    object::ObjectKey,
    request::{ApiResponse, Connection, ResponseBody},
    status::{ApiError, ApiResult},
};

use super::{operation::Operation, update::Base};

/// The label by which a slice belongs to a service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";

/// `[scheme:]name[:port]`, as it stands in the path.
#[derive(Debug, PartialEq, Eq)]
struct Reference<'a> {
    tls: bool,
    name: &'a str,
    port: &'a str,
}

impl<'a> Reference<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let parts: Vec<&str> = text.split(':').collect();
        let (scheme, name, port) = match parts.as_slice() {
            [name] => ("", *name, ""),
            [name, port] => ("", *name, *port),
            [scheme, name, port] => (*scheme, *name, *port),
            _ => return None,
        };
        let tls = match scheme {
            "" | "http" => false,
            "https" => true,
            _ => return None,
        };
        (!name.is_empty()).then_some(Self { tls, name, port })
    }
}

impl Operation<'_> {
    /// Opens a connection to a pod, or to a pod behind a service.
    pub async fn proxy(&mut self) -> ApiResult<ApiResponse> {
        let target = self.target().clone();
        let invalid = || ApiError::bad_request(format!("{:?} is no [scheme:]name[:port]", target.name.as_str()));
        let reference = Reference::parse(&target.name).ok_or_else(invalid)?;
        let key = ObjectKey::new(target.namespace.clone(), reference.name);
        let missing = || ApiError::not_found(&self.info.plural, &self.info.group, reference.name);
        let object = Base::new(self.current(&key).await?.ok_or_else(missing)?)?.doc;
        self.admit_connection(&object).await?;
        let address = match self.info.plural.as_str() {
            "services" => {
                self.server.cluster.caught_up().await?;
                self.endpoint(&object, &reference)?
            }
            _ => pod_address(&object, &reference)?,
        };
        if !may_be_reached(address.ip()) {
            return Err(self.forbidden(format!("{} is not the address of a pod", address.ip())));
        }
        let Some(dialer) = &self.server.pod_dialer else {
            return Err(ApiError::unavailable("this server has no way to reach pods"));
        };
        let stream = dialer.dial(address, reference.tls).await?;
        let path_and_query = self.path_behind_the_proxy();
        Ok(ApiResponse::ok(ResponseBody::Connection(Connection { stream, host: address.to_string(), path_and_query })))
    }

    /// The path and query that the proxied server is asked for.
    pub(super) fn path_behind_the_proxy(&self) -> String {
        let (path, query) = (&self.options().connect_path, &self.options().connect_query);
        let path = if path.is_empty() { "/" } else { path };
        if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") }
    }

    /// One of the ready endpoints of a service, by the environment's chance.
    fn endpoint(&self, service: &Doc, reference: &Reference<'_>) -> ApiResult<SocketAddr> {
        let name = service.str_at(&["metadata", "name"]);
        let port = port_name(service, reference.port).ok_or_else(|| {
            ApiError::unavailable(format!("no service port {:?} of service {name:?}", reference.port))
        })?;
        let namespace = service.str_at(&["metadata", "namespace"]);
        let mut found = Vec::new();
        for slice in self.server.cluster.all("discovery.k8s.io", "v1", "endpointslices") {
            if slice.meta.namespace == namespace
                && slice.meta.labels.iter().any(|(label, of)| label == SERVICE_LABEL && of == name)
            {
                found.extend(self.endpoints_of(&Base::new(slice)?.doc, namespace, port));
            }
        }
        if found.is_empty() {
            return Err(ApiError::unavailable(format!("no endpoints available for service {name:?}")));
        }
        let chosen = self.server.env.random() % found.len() as u64;
        Ok(found[chosen as usize])
    }

    /// The ready endpoints of a slice that are pods.
    fn endpoints_of(&self, slice: &Doc, namespace: &str, port: &str) -> Vec<SocketAddr> {
        let ports = slice.at(&["ports"]).map_or(&[][..], Doc::items);
        let Some(port) = ports.iter().find(|other| other.str_at(&["name"]) == port).and_then(port_of) else {
            return Vec::new();
        };
        let is_ready = |endpoint: &&Doc| endpoint.at(&["conditions", "ready"]).and_then(Doc::as_bool) != Some(false);
        let ready = slice.at(&["endpoints"]).map_or(&[][..], Doc::items).iter().filter(is_ready);
        let addresses = ready.filter_map(|endpoint| {
            let address: IpAddr = endpoint.at(&["addresses"])?.items().first()?.as_str()?.parse().ok()?;
            let pod = endpoint.at(&["targetRef"]).filter(|pod| pod.str_at(&["kind"]) == "Pod")?;
            let pod = self.server.cluster.get("", "v1", "pods", &ObjectKey::new(namespace, pod.str_at(&["name"])))?;
            let pod = Base::new(pod).ok()?.doc;
            let own = pod.at(&["status", "podIPs"]).map_or(&[][..], Doc::items);
            let is_own = own.iter().any(|own| own.str_at(&["ip"]).parse() == Ok(address));
            is_own.then(|| SocketAddr::new(address, port))
        });
        addresses.collect()
    }
}

/// The name of the service's port that is meant: by number or name, or its only one.
fn port_name<'a>(service: &'a Doc, wanted: &'a str) -> Option<&'a str> {
    let ports = service.at(&["spec", "ports"]).map_or(&[][..], Doc::items);
    if wanted.is_empty()
        && let [only] = ports
    {
        return Some(only.str_at(&["name"]));
    }
    match wanted.parse::<u16>() {
        Ok(number) => ports.iter().find(|port| port_of(port) == Some(number)).map(|port| port.str_at(&["name"])),
        Err(_) => Some(wanted),
    }
}

/// Where a pod listens: the port that is named in the path, its first TCP port, or that of the scheme.
fn pod_address(pod: &Doc, reference: &Reference<'_>) -> ApiResult<SocketAddr> {
    let name = pod.str_at(&["metadata", "name"]);
    let ip = pod.str_at(&["status", "podIP"]).parse();
    let ip = ip.map_err(|_| ApiError::unavailable(format!("pod {name:?} has no address yet")))?;
    let port = match reference.port {
        "" => first_tcp_port(pod).unwrap_or(if reference.tls { 443 } else { 80 }),
        text => text.parse().map_err(|_| ApiError::bad_request(format!("{text:?} is no port")))?,
    };
    Ok(SocketAddr::new(ip, port))
}

fn first_tcp_port(pod: &Doc) -> Option<u16> {
    let containers = pod.at(&["spec", "containers"])?.items().iter();
    let mut ports = containers.flat_map(|container| container.at(&["ports"]).map_or(&[][..], Doc::items));
    let tcp = ports.find(|port| matches!(port.str_at(&["protocol"]), "" | "TCP"))?;
    tcp.at(&["containerPort"])?.as_u64()?.try_into().ok()
}

fn port_of(port: &Doc) -> Option<u16> {
    port.at(&["port"])?.as_u64()?.try_into().ok()
}

/// Whether an address can be a pod's: not this machine's own, nor one that only means something on a link (cloud
/// metadata services listen there).
fn may_be_reached(ip: IpAddr) -> bool {
    let ip = ip.to_canonical();
    let local = match ip {
        IpAddr::V4(ip) => ip.is_link_local() || ip.is_broadcast(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    !(local || ip.is_loopback() || ip.is_multicast() || ip.is_unspecified())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_may_have_a_scheme_and_a_port() {
        let of = |tls, name, port| Some(Reference { tls, name, port });
        assert_eq!(Reference::parse("web"), of(false, "web", ""));
        assert_eq!(Reference::parse("web:80"), of(false, "web", "80"));
        assert_eq!(Reference::parse("https:web:"), of(true, "web", ""));
        assert_eq!(Reference::parse(":web:http"), of(false, "web", "http"));
        for nonsense in ["", ":80", "ftp:web:1", "a:b:c:d", "https::1"] {
            assert_eq!(Reference::parse(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn what_leads_back_is_no_pod() {
        for (ip, reached) in [
            ("10.244.0.2", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("::1", false),
            ("::ffff:127.0.0.1", false),
            ("169.254.169.254", false),
            ("fe80::1", false),
            ("224.0.0.1", false),
            ("0.0.0.0", false),
        ] {
            assert_eq!(may_be_reached(ip.parse().unwrap()), reached, "{ip}");
        }
    }
}
