//! Services and network policies.

use super::{is_unset, object_at, set, text};
use crate::{
    doc,
    doc::{Doc, Map},
};

/// How long a client sticks to one endpoint, in seconds.
const AFFINITY_SECONDS: i64 = 10_800;

pub(super) fn service_spec(spec: &mut Map) {
    match text(spec, "sessionAffinity") {
        "None" => {
            spec.remove("sessionAffinityConfig");
        }
        "ClientIP" => {
            let said = spec.get("sessionAffinityConfig").and_then(|config| config.at(&["clientIP", "timeoutSeconds"]));
            if said.is_none_or(Doc::is_null) {
                spec.insert("sessionAffinityConfig", doc!({"clientIP": {"timeoutSeconds": AFFINITY_SECONDS}}));
            }
        }
        _ => {}
    }
    for port in spec.get_mut("ports").and_then(Doc::as_array_mut).into_iter().flatten() {
        let Some(port) = port.as_object_mut() else { continue };
        if port.get("targetPort").is_none_or(is_unset)
            && let Some(number) = port.get("port").cloned()
        {
            port.insert("targetPort", number);
        }
    }
    let kind = text(spec, "type").to_owned();
    let external_ips = spec.get("externalIPs").is_some_and(|ips| !ips.items().is_empty());
    let reachable = matches!(kind.as_str(), "LoadBalancer" | "NodePort") || (kind == "ClusterIP" && external_ips);
    if reachable && text(spec, "externalTrafficPolicy").is_empty() {
        spec.insert("externalTrafficPolicy", "Cluster".into());
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer" | "ClusterIP") {
        set(spec, "internalTrafficPolicy", "Cluster");
    }
    if kind == "LoadBalancer" {
        set(spec, "allocateLoadBalancerNodePorts", true);
    }
}

/// The addresses of a load balancer are virtual ones unless it says otherwise.
pub(super) fn service(service: &mut Map) {
    let balanced = service.get("spec").is_some_and(|spec| spec.str_at(&["type"]) == "LoadBalancer");
    if !balanced {
        return;
    }
    let Some(status) = object_at(service, "status") else { return };
    let ingress = status.get_mut("loadBalancer").and_then(|balancer| balancer.get_mut("ingress"));
    for entry in ingress.and_then(Doc::as_array_mut).into_iter().flatten().filter_map(Doc::as_object_mut) {
        if !text(entry, "ip").is_empty() {
            set(entry, "ipMode", "VIP");
        }
    }
}

/// A policy that does not say what it is about is about what comes in, and about what goes out if it says so.
pub(super) fn network_policy_spec(spec: &mut Map) {
    if !spec.get("policyTypes").is_none_or(is_unset) {
        return;
    }
    let mut types = vec![Doc::from("Ingress")];
    if spec.get("egress").is_some_and(|egress| !egress.items().is_empty()) {
        types.push("Egress".into());
    }
    spec.insert("policyTypes", Doc::Array(types));
}
