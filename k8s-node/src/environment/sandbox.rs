//! From a pod to the specification of its sandbox.

use k8s_core::api::api::core::v1::Pod;

use super::{ConfigError, DnsSettings, resolv_conf};
use crate::{
    plan::{SANDBOX_ATTEMPT, pod_resources},
    runtime::{IpcMode, NetworkMode, PidMode, SandboxSpec},
    status::QosClass,
};

/// The longest host name that Linux takes.
const MAX_HOSTNAME: usize = 63;

/// Whether a pod runs on the machine's own network.
pub fn is_host_network(pod: &Pod) -> bool {
    pod.spec.as_ref().and_then(|spec| spec.host_network).unwrap_or(false)
}

/// The host name that containers of a pod see.
pub fn hostname(pod: &Pod, node_name: &str) -> String {
    let spec = pod.spec.as_ref();
    if let Some(name) = spec.and_then(|spec| spec.hostname_override.clone()) {
        return name;
    }
    if is_host_network(pod) {
        return node_name.to_owned();
    }
    let own = spec.and_then(|spec| spec.hostname.clone()).filter(|name| !name.is_empty());
    let mut name = own.or_else(|| pod.metadata.name.clone()).unwrap_or_default();
    name.truncate(MAX_HOSTNAME);
    name.truncate(name.trim_end_matches(['-', '.']).len());
    name
}

/// The specification of a pod's sandbox.
pub fn sandbox_spec(
    pod: &Pod,
    id: &str,
    attempt: u32,
    node_name: &str,
    dns: &DnsSettings,
) -> Result<SandboxSpec, ConfigError> {
    let spec = pod.spec.clone().unwrap_or_default();
    let meta = &pod.metadata;
    let uid = meta.uid.clone().unwrap_or_default();
    let mut annotations = meta.annotations.clone().unwrap_or_default();
    annotations.insert(SANDBOX_ATTEMPT.to_owned(), attempt.to_string());
    let sysctls = spec.security_context.as_ref().and_then(|context| context.sysctls.clone());
    let name = hostname(pod, node_name);
    let fully_qualified = spec.set_hostname_as_fqdn == Some(true);
    let hostname = match spec.subdomain.as_deref().filter(|subdomain| fully_qualified && !subdomain.is_empty()) {
        Some(subdomain) => {
            let namespace = meta.namespace.as_deref().unwrap_or_default();
            let full = format!("{name}.{subdomain}.{namespace}.svc.{}", dns.cluster_domain);
            if full.len() > MAX_HOSTNAME + 1 {
                let message = format!("setHostnameAsFQDN: {full:?} is longer than {} characters", MAX_HOSTNAME + 1);
                return Err(ConfigError::new(message));
            }
            full
        }
        None => name,
    };
    Ok(SandboxSpec {
        id: id.to_owned(),
        namespace: meta.namespace.clone().unwrap_or_default(),
        name: meta.name.clone().unwrap_or_default(),
        cgroup_parent: match QosClass::of(pod) {
            QosClass::Guaranteed => format!("pod-{uid}"),
            QosClass::Burstable => format!("burstable/pod-{uid}"),
            QosClass::BestEffort => format!("besteffort/pod-{uid}"),
        },
        uid,
        labels: meta.labels.clone().unwrap_or_default(),
        annotations,
        hostname,
        resolv_conf: Some(resolv_conf(pod, dns)?),
        network: if is_host_network(pod) { NetworkMode::Host } else { NetworkMode::Pod },
        pid: match (spec.host_pid, spec.share_process_namespace) {
            (Some(true), _) => PidMode::Host,
            (_, Some(true)) => PidMode::Pod,
            _ => PidMode::Container,
        },
        ipc: if spec.host_ipc == Some(true) { IpcMode::Host } else { IpcMode::Pod },
        resources: pod_resources(pod),
        sysctls: sysctls.into_iter().flatten().map(|sysctl| (sysctl.name, sysctl.value)).collect(),
    })
}
