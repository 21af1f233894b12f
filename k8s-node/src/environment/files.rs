//! The files under `/etc` that the node manages: `hosts` and `resolv.conf`.

use std::net::IpAddr;

use k8s_core::api::api::core::v1::Pod;

use super::{ConfigError, hostname, is_host_network};

/// The most search domains and the longest list of them, in bytes, that a resolver takes. Upstream's limits.
const MAX_SEARCHES: usize = 32;
const MAX_SEARCH_BYTES: usize = 2048;
/// The most name servers that a resolver takes.
const MAX_SERVERS: usize = 3;

/// How names are resolved on this node.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsSettings {
    /// The cluster's own name servers; none while there is no cluster DNS: then pods resolve as the machine does.
    pub cluster_servers: Vec<IpAddr>,
    /// The cluster's domain, such as `cluster.local`.
    pub cluster_domain: String,
    /// The machine's `resolv.conf`.
    pub host_resolv_conf: String,
}

/// `/etc/hosts` of a pod. `host_file` is the machine's, which pods on the host's network see.
pub fn hosts_file(pod: &Pod, addresses: &[String], node_name: &str, cluster_domain: &str, host_file: &str) -> String {
    let spec = pod.spec.as_ref();
    let mut text = if is_host_network(pod) {
        format!("# Kubernetes-managed hosts file (host network).\n{host_file}")
    } else {
        let mut text = "# Kubernetes-managed hosts file.\n\
            127.0.0.1\tlocalhost\n\
            ::1\tlocalhost ip6-localhost ip6-loopback\n\
            fe00::\tip6-localnet\n\
            fe00::\tip6-mcastprefix\n\
            fe00::1\tip6-allnodes\n\
            fe00::2\tip6-allrouters\n"
            .to_owned();
        let name = hostname(pod, node_name);
        let domain = domain(pod, cluster_domain).map(|domain| format!("{name}.{domain}\t")).unwrap_or_default();
        for address in addresses {
            text.push_str(&format!("{address}\t{domain}{name}\n"));
        }
        text
    };
    let aliases: Vec<_> = spec.and_then(|spec| spec.host_aliases.as_ref()).into_iter().flatten().collect();
    if !aliases.is_empty() {
        text.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names: Vec<&str> = alias.hostnames.iter().flatten().map(String::as_str).collect();
            text.push_str(&format!("{}\t{}\n", alias.ip, names.join("\t")));
        }
    }
    text
}

/// The domain of a pod that has a subdomain.
fn domain(pod: &Pod, cluster_domain: &str) -> Option<String> {
    let subdomain = pod.spec.as_ref()?.subdomain.as_deref().filter(|subdomain| !subdomain.is_empty())?;
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    Some(format!("{subdomain}.{namespace}.svc.{cluster_domain}"))
}

/// What a resolver is told.
#[derive(Debug, Default)]
struct Resolver {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

/// `/etc/resolv.conf` of a pod, by its `dnsPolicy` and `dnsConfig`.
pub fn resolv_conf(pod: &Pod, settings: &DnsSettings) -> Result<String, ConfigError> {
    let spec = pod.spec.as_ref();
    let policy = spec.and_then(|spec| spec.dns_policy.as_deref()).unwrap_or("ClusterFirst");
    let host = parse(&settings.host_resolv_conf);
    let cluster = !settings.cluster_servers.is_empty();
    let mut resolver = match policy {
        "None" => Resolver::default(),
        "ClusterFirst" if cluster && !is_host_network(pod) => cluster_first(pod, settings, host),
        "ClusterFirstWithHostNet" if cluster => cluster_first(pod, settings, host),
        "Default" | "ClusterFirst" | "ClusterFirstWithHostNet" => host,
        other => return Err(ConfigError::new(format!("dnsPolicy {other:?} is not known"))),
    };
    if let Some(config) = spec.and_then(|spec| spec.dns_config.as_ref()) {
        resolver.servers.extend(config.nameservers.iter().flatten().cloned());
        resolver.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            resolver.options.retain(|known| known.split(':').next() != Some(name));
            resolver.options.push(match &option.value {
                Some(value) => format!("{name}:{value}"),
                None => name.clone(),
            });
        }
    }
    Ok(render(resolver))
}

fn cluster_first(pod: &Pod, settings: &DnsSettings, host: Resolver) -> Resolver {
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let domain = &settings.cluster_domain;
    let own = [format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.clone()];
    Resolver {
        servers: settings.cluster_servers.iter().map(ToString::to_string).collect(),
        searches: own.into_iter().chain(host.searches).collect(),
        options: vec!["ndots:5".to_owned()],
    }
}

fn parse(text: &str) -> Resolver {
    let mut resolver = Resolver::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        let (key, rest) = (words.next().unwrap_or_default(), words.map(str::to_owned));
        match key {
            "nameserver" => resolver.servers.extend(rest.take(1)),
            "search" => resolver.searches = rest.collect(),
            "options" => resolver.options = rest.collect(),
            _ => {}
        }
    }
    resolver
}

fn render(resolver: Resolver) -> String {
    let mut text = String::new();
    let mut seen: Vec<String> = vec![];
    for search in resolver.searches {
        let bytes: usize = seen.iter().map(|known| known.len() + 1).sum::<usize>() + search.len();
        if !seen.contains(&search) && seen.len() < MAX_SEARCHES && bytes <= MAX_SEARCH_BYTES {
            seen.push(search);
        }
    }
    if !seen.is_empty() {
        text.push_str(&format!("search {}\n", seen.join(" ")));
    }
    for server in resolver.servers.iter().take(MAX_SERVERS) {
        text.push_str(&format!("nameserver {server}\n"));
    }
    if !resolver.options.is_empty() {
        text.push_str(&format!("options {}\n", resolver.options.join(" ")));
    }
    text
}
