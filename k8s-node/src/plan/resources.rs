//! Requests and limits of a pod, as amounts and as what the kernel is told.

use std::collections::BTreeMap;

use k8s_core::{
    api::{
        api::core::v1::{Container, Pod, ResourceRequirements},
        apimachinery::pkg::api::resource::Quantity as Text,
    },
    quantity::Quantity,
};

use super::{Role, parts};
use crate::{runtime::Resources, status::QosClass};

/// The share of a CPU that the kernel weighs 1024 for, in thousandths.
const MILLI_PER_CPU: u64 = 1000;
/// The scheduling period, in microseconds.
const PERIOD_US: i64 = 100_000;
/// The smallest weight and quota that the kernel takes.
const MIN_SHARES: u64 = 2;
const MIN_QUOTA_US: i64 = 1000;

/// The limits of one container.
///
/// Memory requests are not told to the kernel; they count in scheduling alone.
pub fn container_resources(pod: &Pod, container: &Container) -> Resources {
    let cpu_request = amount(container, "cpu", Side::Requests).or_else(|| amount(container, "cpu", Side::Limits));
    let cpu_limit = amount(container, "cpu", Side::Limits).filter(|limit| !limit.is_zero());
    Resources {
        cpu_shares: Some(shares(cpu_request.unwrap_or_default())),
        cpu_quota_us: cpu_limit.map(quota),
        cpu_period_us: Some(PERIOD_US.unsigned_abs()),
        memory_limit_bytes: amount(container, "memory", Side::Limits).filter(|l| !l.is_zero()).map(Quantity::value),
        oom_score_adj: Some(oom_score(pod, container)),
        ..Resources::default()
    }
}

/// The limits of a pod as a whole: limits only where every container has one.
pub fn pod_resources(pod: &Pod) -> Resources {
    let requests = total_requests(pod);
    let apps = || parts(pod).into_iter().filter(|part| matches!(part.role, Role::App | Role::Sidecar));
    let limit = |name: &str| -> Option<Quantity> {
        let limits: Option<Vec<Quantity>> = apps().map(|part| amount(&part.container, name, Side::Limits)).collect();
        let sum = limits?.into_iter().fold(Quantity::ZERO, |sum, limit| sum + limit);
        (!sum.is_zero()).then_some(sum + overhead(pod, name))
    };
    Resources {
        cpu_shares: Some(shares(requests.get("cpu").copied().unwrap_or_default())),
        cpu_quota_us: limit("cpu").map(quota),
        cpu_period_us: Some(PERIOD_US.unsigned_abs()),
        memory_limit_bytes: limit("memory").map(Quantity::value),
        ..Resources::default()
    }
}

fn shares(cpu: Quantity) -> u64 {
    (cpu.milli_value().max(0).unsigned_abs() * 1024 / MILLI_PER_CPU).max(MIN_SHARES)
}

fn quota(cpu: Quantity) -> i64 {
    (cpu.milli_value() * PERIOD_US / 1000).max(MIN_QUOTA_US)
}

/// Upstream's rule: guaranteed pods last, best-effort pods first, others by the memory they asked for.
///
/// Without the machine's size at hand the share is taken of sixteen gibibytes; only the order among pods counts.
fn oom_score(pod: &Pod, container: &Container) -> i32 {
    const MEASURE: i64 = 16 << 30;
    match QosClass::of(pod) {
        QosClass::Guaranteed => -997,
        QosClass::BestEffort => 1000,
        QosClass::Burstable => {
            let asked = amount(container, "memory", Side::Requests).unwrap_or_default().value().clamp(0, MEASURE);
            i32::try_from(1000 - 1000 * asked / MEASURE).unwrap_or(1000).clamp(3, 999)
        }
    }
}

#[derive(Clone, Copy)]
enum Side {
    Requests,
    Limits,
}

fn amount(container: &Container, name: &str, side: Side) -> Option<Quantity> {
    let resources = container.resources.as_ref()?;
    let list = match side {
        Side::Requests => &resources.requests,
        Side::Limits => &resources.limits,
    };
    read(list.as_ref()?.get(name)?)
}

/// Requests of one set of requirements; a limit alone is also a request.
pub fn request(resources: Option<&ResourceRequirements>, name: &str) -> Quantity {
    let Some(resources) = resources else { return Quantity::ZERO };
    let lists = [&resources.requests, &resources.limits];
    lists.into_iter().flatten().find_map(|list| read(list.get(name)?)).unwrap_or_default()
}

fn read(text: &Text) -> Option<Quantity> {
    Quantity::parse(&text.0).ok()
}

fn overhead(pod: &Pod, name: &str) -> Quantity {
    let overhead = pod.spec.as_ref().and_then(|spec| spec.overhead.as_ref());
    overhead.and_then(|list| read(list.get(name)?)).unwrap_or_default()
}

/// What a pod takes of a node: its containers together, or its greediest init container with the sidecars before it, if
/// that is more; plus overhead.
pub fn total_requests(pod: &Pod) -> BTreeMap<String, Quantity> {
    let mut names: Vec<String> = parts(pod)
        .iter()
        .filter_map(|part| part.container.resources.as_ref())
        .flat_map(|r| [&r.requests, &r.limits])
        .flatten()
        .flat_map(|list| list.keys().cloned())
        .collect();
    names.extend(pod.spec.iter().filter_map(|spec| spec.overhead.as_ref()).flat_map(|list| list.keys().cloned()));
    names.sort();
    names.dedup();
    names.into_iter().map(|name| (total_request(pod, &name), name)).map(|(total, name)| (name, total)).collect()
}

fn total_request(pod: &Pod, name: &str) -> Quantity {
    let (mut sidecars, mut apps, mut peak) = (Quantity::ZERO, Quantity::ZERO, Quantity::ZERO);
    for part in parts(pod) {
        let asked = request(part.container.resources.as_ref(), name);
        match part.role {
            Role::Sidecar => sidecars = sidecars + asked,
            Role::App => apps = apps + asked,
            Role::Init => peak = peak.max(sidecars + asked),
            Role::Ephemeral => {}
        }
    }
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.resources.as_ref());
    let stated = of_pod.map(|resources| request(Some(resources), name)).filter(|stated| !stated.is_zero());
    stated.unwrap_or_else(|| (apps + sidecars).max(peak)) + overhead(pod, name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        serde_json::from_value(json!({"metadata": {}, "spec": spec})).unwrap()
    }

    #[test]
    fn init_containers_count_with_the_sidecars_before_them() {
        let pod = pod(json!({
            "initContainers": [
                {"name": "early", "resources": {"requests": {"cpu": "1500m"}}},
                {"name": "side", "restartPolicy": "Always", "resources": {"requests": {"cpu": "500m"}}},
                {"name": "late", "resources": {"limits": {"cpu": "2"}}}],
            "containers": [
                {"name": "a", "resources": {"requests": {"cpu": "1", "memory": "1Gi"}}},
                {"name": "b", "resources": {"requests": {"cpu": "250m"}}}],
            "overhead": {"memory": "10Mi"}}));
        let total = total_requests(&pod);
        assert_eq!(total["cpu"], Quantity::parse("2500m").unwrap());
        assert_eq!(total["memory"], Quantity::parse("1034Mi").unwrap());
    }

    #[test]
    fn the_kernel_is_told_shares_quota_and_memory() {
        let pod = pod(json!({"containers": [
            {"name": "a", "resources": {"requests": {"cpu": "100m"}, "limits": {"cpu": "500m", "memory": "64Mi"}}},
            {"name": "b"}]}));
        let containers = &pod.spec.as_ref().unwrap().containers;
        let a = container_resources(&pod, &containers[0]);
        assert_eq!((a.cpu_shares, a.cpu_quota_us, a.memory_limit_bytes), (Some(102), Some(50_000), Some(64 << 20)));
        let b = container_resources(&pod, &containers[1]);
        assert_eq!((b.cpu_shares, b.cpu_quota_us, b.memory_limit_bytes), (Some(2), None, None));
        assert_eq!(pod_resources(&pod).memory_limit_bytes, None, "one container has no limit, so the pod has none");
    }
}
