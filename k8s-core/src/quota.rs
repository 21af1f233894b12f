//! What objects count towards resource quotas, and which quotas they count towards. Pure.
//!
//! Follows upstream's quota evaluators: admission charges what an object uses when it is made, and the quota controller
//! adds up what is there.

use std::collections::BTreeMap;

use crate::{
    doc::{Doc, Map},
    env::Timestamp,
    quantity::Format,
};

pub use crate::quantity::Quantity;

/// Amounts by the names that quotas have for them, such as `requests.cpu` or `count/jobs.batch`.
pub type Amounts = BTreeMap<String, Quantity>;

/// The scopes that a quota may be limited to.
pub const SCOPES: [&str; 7] = [
    "Terminating",
    "NotTerminating",
    "BestEffort",
    "NotBestEffort",
    "PriorityClass",
    "CrossNamespacePodAffinity",
    "VolumeAttributesClass",
];

const NATIVE: [&str; 3] = ["cpu", "memory", "ephemeral-storage"];
const COUNTED: [&str; 9] = [
    "pods",
    "services",
    "services.nodeports",
    "services.loadbalancers",
    "replicationcontrollers",
    "resourcequotas",
    "secrets",
    "configmaps",
    "persistentvolumeclaims",
];
/// What a claim for all devices counts as: the most that one claim can be given.
const ALL_DEVICES: i64 = 32;

/// Whether a name without a domain can be limited.
pub fn is_standard_name(name: &str) -> bool {
    let compute = name.strip_prefix("requests.").or_else(|| name.strip_prefix("limits.")).unwrap_or(name);
    NATIVE.contains(&compute)
        || compute.starts_with("hugepages-")
        || name == "requests.storage"
        || COUNTED.contains(&name)
}

/// Whether amounts of this name come in whole pieces only.
pub fn counts_whole(name: &str) -> bool {
    COUNTED.contains(&name) || name.starts_with("count/") || name.ends_with("/persistentvolumeclaims")
}

/// The name under which objects of a kind are counted.
pub fn count_name(group: &str, plural: &str) -> String {
    if group.is_empty() { format!("count/{plural}") } else { format!("count/{plural}.{group}") }
}

/// Group and plural name of the kind whose objects an amount counts; none for a name that counts nothing here.
pub fn counted_kind(name: &str) -> Option<(&str, &str)> {
    if let Some(counted) = name.strip_prefix("count/") {
        let (plural, group) = counted.split_once('.').unwrap_or((counted, ""));
        return Some((group, plural));
    }
    if name.ends_with(".deviceclass.resource.k8s.io/devices") {
        return Some(("resource.k8s.io", "resourceclaims"));
    }
    let is_claims = name == "requests.storage" || name.contains(".storageclass.storage.k8s.io/");
    Some((
        "",
        match name {
            _ if is_claims => "persistentvolumeclaims",
            "services.nodeports" | "services.loadbalancers" => "services",
            plural if COUNTED.contains(&plural) => plural,
            _ if name.starts_with("requests.") || name.starts_with("limits.") => "pods",
            _ if NATIVE.contains(&name) || name.starts_with("hugepages-") => "pods",
            _ => return None,
        },
    ))
}

/// What is used of each name in `hard` by these objects, as of `now`: of a quota with this spec.
pub fn used<'a>(
    spec: &Doc,
    hard: &Amounts,
    objects: impl IntoIterator<Item = (&'a str, &'a str, &'a Doc)>,
    now: Timestamp,
) -> Amounts {
    let mut used: Amounts = hard.keys().map(|name| (name.clone(), Quantity::ZERO)).collect();
    for (group, plural, object) in objects {
        if !is_in_scope(spec, group, plural, object) {
            continue;
        }
        for (name, amount) in usage(group, plural, object, now) {
            if let Some(sum) = used.get_mut(&name) {
                *sum = *sum + amount;
            }
        }
    }
    used
}

/// What one object uses, as of `now`.
pub fn usage(group: &str, plural: &str, object: &Doc, now: Timestamp) -> Amounts {
    let one = whole(1);
    let mut amounts = Amounts::from([(count_name(group, plural), one)]);
    match (group, plural) {
        ("", "pods") if is_over(object, now) => {}
        ("", "pods") => pod_usage(&mut amounts, object),
        ("", "services") => service_usage(&mut amounts, object),
        ("", "persistentvolumeclaims") => claim_usage(&mut amounts, object),
        ("", plural) if COUNTED.contains(&plural) => {
            amounts.insert(plural.to_owned(), one);
        }
        ("resource.k8s.io", "resourceclaims") => device_usage(&mut amounts, object),
        _ => {}
    }
    amounts
}

fn whole(count: i64) -> Quantity {
    Quantity::new(count, Format::DecimalSi)
}

/// Whether a pod uses nothing any more: it is finished, or it should have gone already.
fn is_over(pod: &Doc, now: Timestamp) -> bool {
    if matches!(pod.str_at(&["status", "phase"]), "Succeeded" | "Failed") {
        return true;
    }
    // The time of deletion is the end of the grace.
    let ends = pod.str_at(&["metadata", "deletionTimestamp"]).parse::<Timestamp>();
    let has_grace = pod.at(&["metadata", "deletionGracePeriodSeconds"]).is_some();
    has_grace && ends.is_ok_and(|ends| now > ends)
}

fn pod_usage(amounts: &mut Amounts, pod: &Doc) {
    amounts.insert("pods".into(), whole(1));
    let spec = pod.get("spec").unwrap_or(&Doc::Null);
    for (name, amount) in pod_amounts(spec, "requests") {
        if NATIVE.contains(&name.as_str()) || name.starts_with("hugepages-") {
            amounts.insert(name.clone(), amount);
        }
        amounts.insert(format!("requests.{name}"), amount);
    }
    for (name, amount) in pod_amounts(spec, "limits") {
        if NATIVE.contains(&name.as_str()) {
            amounts.insert(format!("limits.{name}"), amount);
        }
    }
}

/// What a pod asks for in all, `requests` or `limits`: its containers together or its greediest moment of
/// initialization, what it says for itself as a whole, and its overhead.
pub fn pod_amounts(spec: &Doc, what: &str) -> Amounts {
    let mut running = Amounts::new();
    let mut peak = Amounts::new();
    for container in spec.get("initContainers").map_or(&[][..], Doc::items) {
        let mut moment = running.clone();
        add(&mut moment, container.at(&["resources", what]));
        raise(&mut peak, &moment);
        if container.str_at(&["restartPolicy"]) == "Always" {
            running = moment;
        }
    }
    for container in spec.get("containers").map_or(&[][..], Doc::items) {
        add(&mut running, container.at(&["resources", what]));
    }
    raise(&mut running, &peak);
    for (name, value) in entries(spec.at(&["resources", what])) {
        running.insert(name.to_owned(), value);
    }
    for (name, value) in entries(spec.get("overhead")) {
        // A limit of what is not limited says nothing.
        if what == "requests" || running.contains_key(name) {
            let sum = running.get(name).copied().unwrap_or_default() + value;
            running.insert(name.to_owned(), sum);
        }
    }
    running
}

fn entries(list: Option<&Doc>) -> impl Iterator<Item = (&str, Quantity)> {
    let fields = list.and_then(Doc::as_object).into_iter().flat_map(Map::iter);
    fields.filter_map(|(name, value)| Some((name, read(value)?)))
}

/// The amount in a value.
pub fn read(value: &Doc) -> Option<Quantity> {
    match value {
        Doc::String(text) => Quantity::parse(text).ok(),
        Doc::Number(number) => Quantity::parse(number.as_str()).ok(),
        _ => None,
    }
}

/// The amounts of a list such as `spec.hard`.
pub fn amounts(list: Option<&Doc>) -> Amounts {
    entries(list).map(|(name, value)| (name.to_owned(), value)).collect()
}

fn add(sums: &mut Amounts, list: Option<&Doc>) {
    for (name, value) in entries(list) {
        let sum = sums.get(name).copied().unwrap_or_default() + value;
        sums.insert(name.to_owned(), sum);
    }
}

fn raise(sums: &mut Amounts, least: &Amounts) {
    for (name, value) in least {
        let now = sums.get(name).copied().unwrap_or_default();
        sums.insert(name.clone(), now.max(*value));
    }
}

fn service_usage(amounts: &mut Amounts, service: &Doc) {
    let ports = service.at(&["spec", "ports"]).map_or(&[][..], Doc::items);
    let given = service.at(&["spec", "allocateLoadBalancerNodePorts"]).and_then(Doc::as_bool) != Some(false);
    let (balancers, node_ports) = match service.str_at(&["spec", "type"]) {
        "NodePort" => (0, ports.len()),
        "LoadBalancer" if given => (1, ports.len()),
        "LoadBalancer" => {
            let chosen = |port: &&Doc| port.get("nodePort").and_then(Doc::as_i64).is_some_and(|port| port != 0);
            (1, ports.iter().filter(chosen).count())
        }
        _ => (0, 0),
    };
    amounts.insert("services".into(), whole(1));
    amounts.insert("services.nodeports".into(), whole(node_ports as i64));
    amounts.insert("services.loadbalancers".into(), whole(balancers));
}

fn claim_usage(amounts: &mut Amounts, claim: &Doc) {
    let asked = claim.at(&["spec", "resources", "requests", "storage"]).and_then(read).unwrap_or_default();
    // A claim that shrinks again still has what it was given.
    let given = claim.at(&["status", "allocatedResources", "storage"]).and_then(read).unwrap_or_default();
    let size = asked.max(given);
    let class = match claim.at(&["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"]) {
        Some(class) => class.as_str().unwrap_or(""),
        None => claim.str_at(&["spec", "storageClassName"]),
    };
    amounts.insert("persistentvolumeclaims".into(), whole(1));
    amounts.insert("requests.storage".into(), size);
    if !class.is_empty() {
        amounts.insert(format!("{class}.storageclass.storage.k8s.io/persistentvolumeclaims"), whole(1));
        amounts.insert(format!("{class}.storageclass.storage.k8s.io/requests.storage"), size);
    }
}

fn device_usage(amounts: &mut Amounts, claim: &Doc) {
    let count = |request: &Doc| match request.str_at(&["allocationMode"]) {
        "All" => ALL_DEVICES,
        _ => request.get("count").and_then(Doc::as_i64).unwrap_or(1),
    };
    let name = |request: &Doc| format!("{}.deviceclass.resource.k8s.io/devices", request.str_at(&["deviceClassName"]));
    let mut sums: BTreeMap<String, i64> = BTreeMap::new();
    for request in claim.at(&["spec", "devices", "requests"]).map_or(&[][..], Doc::items) {
        if let Some(exact) = request.get("exactly").filter(|exact| !exact.is_null()) {
            *sums.entry(name(exact)).or_default() += count(exact);
        }
        // Of alternatives, the greediest of each class counts.
        let mut most: BTreeMap<String, i64> = BTreeMap::new();
        for alternative in request.get("firstAvailable").map_or(&[][..], Doc::items) {
            let slot = most.entry(name(alternative)).or_default();
            *slot = (*slot).max(count(alternative));
        }
        most.into_iter().for_each(|(name, count)| *sums.entry(name).or_default() += count);
    }
    amounts.extend(sums.into_iter().map(|(name, count)| (name, whole(count))));
}

/// Whether an object counts towards a quota with this spec: every scope and every expression must hold. Scopes are
/// about pods (and attribute classes about claims); a quota that has any counts nothing else.
pub fn is_in_scope(spec: &Doc, group: &str, plural: &str, object: &Doc) -> bool {
    let scopes = spec.get("scopes").map_or(&[][..], Doc::items);
    let expressions = spec.at(&["scopeSelector", "matchExpressions"]).map_or(&[][..], Doc::items);
    let holds = |scope: &str, operator: &str, values: &[Doc]| match (group, plural) {
        ("", "pods") => pod_is_in(object, scope, operator, values),
        ("", "persistentvolumeclaims") => {
            let class = object.str_at(&["spec", "volumeAttributesClassName"]);
            scope == "VolumeAttributesClass" && selects(operator, values, class)
        }
        _ => false,
    };
    scopes.iter().filter_map(Doc::as_str).all(|scope| holds(scope, "Exists", &[]))
        && expressions.iter().all(|wanted| {
            let values = wanted.get("values").map_or(&[][..], Doc::items);
            holds(wanted.str_at(&["scopeName"]), wanted.str_at(&["operator"]), values)
        })
}

fn pod_is_in(pod: &Doc, scope: &str, operator: &str, values: &[Doc]) -> bool {
    let spec = pod.get("spec").unwrap_or(&Doc::Null);
    let ends = spec.get("activeDeadlineSeconds").and_then(Doc::as_i64).is_some_and(|seconds| seconds >= 0);
    match scope {
        "Terminating" => ends,
        "NotTerminating" => !ends,
        "BestEffort" => is_best_effort(spec),
        "NotBestEffort" => !is_best_effort(spec),
        "PriorityClass" => selects(operator, values, spec.str_at(&["priorityClassName"])),
        "CrossNamespacePodAffinity" => crosses_namespaces(spec),
        _ => false,
    }
}

fn selects(operator: &str, values: &[Doc], found: &str) -> bool {
    let is_listed = values.iter().any(|value| value.as_str() == Some(found));
    match operator {
        "Exists" => !found.is_empty(),
        "DoesNotExist" => found.is_empty(),
        "In" => !found.is_empty() && is_listed,
        "NotIn" => !is_listed,
        _ => false,
    }
}

fn is_best_effort(spec: &Doc) -> bool {
    let asks = |of: &Doc| {
        ["requests", "limits"]
            .iter()
            .flat_map(|what| entries(of.at(&["resources", what])))
            .any(|(name, amount)| matches!(name, "cpu" | "memory") && !amount.is_zero())
    };
    let containers =
        ["containers", "initContainers"].iter().flat_map(|list| spec.get(list).map_or(&[][..], Doc::items));
    !asks(spec) && !containers.into_iter().any(asks)
}

/// Whether a pod's affinity looks into other namespaces.
fn crosses_namespaces(spec: &Doc) -> bool {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    let crosses = |term: &Doc| {
        !term.get("namespaces").map_or(&[][..], Doc::items).is_empty()
            || term.get("namespaceSelector").is_some_and(|selector| !selector.is_null())
    };
    ["podAffinity", "podAntiAffinity"].iter().any(|kind| {
        let list = |field: &str| spec.at(&["affinity", kind, field]).map_or(&[][..], Doc::items);
        list(REQUIRED).iter().any(crosses)
            || list(PREFERRED).iter().filter_map(|term| term.get("podAffinityTerm")).any(crosses)
    })
}

/// What containers of a pod fail to say although the quota limits it, as the refusal has it: `limits.cpu for: a,b`.
pub fn unsaid(pod: &Doc, hard: &Amounts) -> Vec<String> {
    let spec = pod.get("spec").unwrap_or(&Doc::Null);
    let lists = ["containers", "initContainers"];
    let mut missing = Vec::new();
    for name in hard.keys() {
        let (what, resource) = match name.split_once('.') {
            Some(("requests", resource)) => ("requests", resource),
            Some(("limits", resource)) => ("limits", resource),
            _ => ("requests", name.as_str()),
        };
        if !matches!(resource, "cpu" | "memory") || spec.at(&["resources", what, resource]).is_some() {
            continue;
        }
        let containers = lists.iter().flat_map(|list| spec.get(list).map_or(&[][..], Doc::items));
        let silent = containers.filter(|container| container.at(&["resources", what, resource]).is_none());
        let mut silent: Vec<&str> = silent.map(|container| container.str_at(&["name"])).collect();
        silent.sort_unstable();
        if !silent.is_empty() {
            missing.push(format!("{name} for: {}", silent.join(",")));
        }
    }
    missing
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Doc {
        Doc::parse(text.as_bytes()).unwrap_or_else(|why| panic!("{text}: {why:?}"))
    }

    fn shown(amounts: &Amounts) -> String {
        amounts.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn objects_use_what_they_ask_for() {
        let cases = [
            (
                "pods",
                r#"{"spec":{"overhead":{"cpu":"100m"},"initContainers":[
                    {"restartPolicy":"Always","resources":{"requests":{"cpu":"1"}}},
                    {"resources":{"requests":{"cpu":"3","x.y/z":"2"}}}],
                    "containers":[{"resources":{"requests":{"cpu":"2"},"limits":{"memory":"1Gi"}}}]}}"#,
                "count/pods=1 cpu=4100m limits.memory=1Gi pods=1 requests.cpu=4100m requests.x.y/z=2",
            ),
            ("pods", r#"{"status":{"phase":"Failed"},"spec":{"containers":[{}]}}"#, "count/pods=1"),
            (
                "services",
                r#"{"spec":{"type":"LoadBalancer","ports":[{"port":1},{"port":2}]}}"#,
                "count/services=1 services=1 services.loadbalancers=1 services.nodeports=2",
            ),
            (
                "persistentvolumeclaims",
                r#"{"spec":{"storageClassName":"fast","resources":{"requests":{"storage":"5Gi"}}}}"#,
                "count/persistentvolumeclaims=1 fast.storageclass.storage.k8s.io/persistentvolumeclaims=1 \
                 fast.storageclass.storage.k8s.io/requests.storage=5Gi persistentvolumeclaims=1 requests.storage=5Gi",
            ),
            ("secrets", "{}", "count/secrets=1 secrets=1"),
            ("endpoints", "{}", "count/endpoints=1"),
        ];
        for (plural, object, expected) in cases {
            assert_eq!(shown(&usage("", plural, &parse(object), Timestamp::UNIX_EPOCH)), expected, "{plural}");
        }
        let claim = r#"{"spec":{"devices":{"requests":[{"exactly":{"deviceClassName":"gpu","count":2}},
            {"firstAvailable":[{"deviceClassName":"gpu","count":3},{"deviceClassName":"npu","allocationMode":"All"}]}]}}}"#;
        let used = usage("resource.k8s.io", "resourceclaims", &parse(claim), Timestamp::UNIX_EPOCH);
        let expected = "count/resourceclaims.resource.k8s.io=1 gpu.deviceclass.resource.k8s.io/devices=5 \
            npu.deviceclass.resource.k8s.io/devices=32";
        assert_eq!(shown(&used), expected);
    }

    #[test]
    fn scopes_choose_pods() {
        let best_effort = r#"{"spec":{"containers":[{"name":"c"}]}}"#;
        let timed = r#"{"spec":{"activeDeadlineSeconds":5,"priorityClassName":"high","containers":[
            {"resources":{"limits":{"cpu":"1"}}}],"affinity":{"podAffinity":{
            "requiredDuringSchedulingIgnoredDuringExecution":[{"namespaces":["x"]}]}}}}"#;
        let selector = |operator: &str, values: &str| {
            format!(
                r#"{{"scopeSelector":{{"matchExpressions":[
                {{"scopeName":"PriorityClass","operator":"{operator}","values":{values}}}]}}}}"#
            )
        };
        let cases = [
            (r#"{"scopes":["BestEffort"]}"#.to_owned(), true, false),
            (r#"{"scopes":["NotBestEffort"]}"#.to_owned(), false, true),
            (r#"{"scopes":["Terminating"]}"#.to_owned(), false, true),
            (r#"{"scopes":["NotTerminating","BestEffort"]}"#.to_owned(), true, false),
            (r#"{"scopes":["CrossNamespacePodAffinity"]}"#.to_owned(), false, true),
            ("{}".to_owned(), true, true),
            (selector("In", r#"["high"]"#), false, true),
            (selector("NotIn", r#"["high"]"#), true, false),
            (selector("Exists", "[]"), false, true),
            (selector("DoesNotExist", "[]"), true, false),
        ];
        for (spec, first, second) in cases {
            let counts = |pod: &str| is_in_scope(&parse(&spec), "", "pods", &parse(pod));
            assert_eq!((counts(best_effort), counts(timed)), (first, second), "{spec}");
        }
        assert!(!is_in_scope(&parse(r#"{"scopes":["BestEffort"]}"#), "", "secrets", &Doc::object()));
    }

    #[test]
    fn what_is_there_is_added_up() {
        let hard = amounts(Some(&parse(r#"{"pods":"5","requests.cpu":"2","count/jobs.batch":"1"}"#)));
        let pod = parse(r#"{"spec":{"containers":[{"resources":{"requests":{"cpu":"300m"}}}]}}"#);
        let objects = [("", "pods", &pod), ("", "pods", &pod), ("batch", "jobs", &Doc::Null)];
        let now = Timestamp::UNIX_EPOCH;
        assert_eq!(shown(&used(&Doc::object(), &hard, objects, now)), "count/jobs.batch=1 pods=2 requests.cpu=600m");
        let scoped = parse(r#"{"scopes":["BestEffort"]}"#);
        assert_eq!(shown(&used(&scoped, &hard, objects, now)), "count/jobs.batch=0 pods=0 requests.cpu=0");
        let kinds = [
            ("requests.cpu", Some(("", "pods"))),
            ("requests.storage", Some(("", "persistentvolumeclaims"))),
            ("fast.storageclass.storage.k8s.io/requests.storage", Some(("", "persistentvolumeclaims"))),
            ("services.nodeports", Some(("", "services"))),
            ("count/jobs.batch", Some(("batch", "jobs"))),
            ("requests.example.com/gpu", Some(("", "pods"))),
            ("other", None),
        ];
        for (name, kind) in kinds {
            assert_eq!(counted_kind(name), kind, "{name}");
        }
    }

    #[test]
    fn what_is_limited_must_be_said() {
        let pod = parse(r#"{"spec":{"containers":[{"name":"b"},{"name":"a","resources":{"limits":{"cpu":"1"}}}]}}"#);
        let hard = amounts(Some(&parse(r#"{"limits.cpu":"5","requests.memory":"1Gi","pods":"3"}"#)));
        assert_eq!(unsaid(&pod, &hard), ["limits.cpu for: b", "requests.memory for: a,b"]);
    }
}
