//! Texts that mean something in a field, and texts that mean trouble.

use k8s_store::check::Random;

/// Names of objects; few, so that requests meet.
pub const NAMES: [&str; 6] = ["a", "b", "web", "default", "node-1", "system:basic-user"];

const QUANTITIES: [&str; 8] = ["1", "100m", "64Mi", "1Gi", "0", "-1", "1e3", "9999999999999999999"];
const LABEL_KEYS: [&str; 4] = ["app", "tier", "example.com/x", "kubernetes.io/hostname"];
const TIMES: [&str; 4] =
    ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.123456Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z"];
/// What fields with few values have, of all kinds together.
const CONSTANTS: [&str; 40] = [
    "Always",
    "Never",
    "OnFailure",
    "IfNotPresent",
    "TCP",
    "UDP",
    "SCTP",
    "ClusterIP",
    "NodePort",
    "LoadBalancer",
    "ExternalName",
    "None",
    "In",
    "NotIn",
    "Exists",
    "DoesNotExist",
    "Equal",
    "NoSchedule",
    "NoExecute",
    "Recreate",
    "RollingUpdate",
    "OnDelete",
    "Retain",
    "Delete",
    "ReadWriteOnce",
    "ReadWriteMany",
    "Filesystem",
    "Block",
    "Allow",
    "Forbid",
    "Replace",
    "Indexed",
    "NonIndexed",
    "Local",
    "Cluster",
    "IPv4",
    "IPv6",
    "ServiceAccount",
    "User",
    "Group",
];

/// A text that a field of this name could have.
pub fn of_field(random: &mut Random, field: &str, format: &str) -> String {
    let choices: &[&str] = match (format, field) {
        ("date-time" | "micro-time", _) => &TIMES,
        ("byte", _) => &["", "aGVsbG8=", "!", "AA=="],
        ("quantity", _) | (_, "limits" | "requests" | "capacity" | "allocatable" | "hard" | "used") => &QUANTITIES,
        ("int-or-string", _) => &["http", "25%", "100%", "1", "-5%", "x%"],
        (_, "name" | "generateName" | "nodeName" | "serviceAccountName" | "container") => &NAMES,
        (_, "namespace") => &["default", "kube-system", "a"],
        (_, "apiVersion") => &["v1", "apps/v1", "batch/v1", "a/b/c"],
        (_, "kind") => &["Pod", "Node", "ConfigMap", "Deployment", "Role", "ClusterRole", "Status"],
        (_, "labels" | "matchLabels" | "selector" | "nodeSelector" | "annotations") => &["web", "web", "web", "db"],
        (_, "key") => &LABEL_KEYS,
        (_, "image") => &["web:1", "example.com/a/b@sha256:00", " "],
        (_, "mountPath" | "path" | "subPath" | "hostPath") => &["/data", "/", "../x", "a/b", "relative"],
        (_, "uid" | "resourceVersion") => &["", "1", "5", "99999999", "x"],
        (
            _,
            "ip" | "podIP" | "hostIP" | "clusterIP" | "clusterIPs" | "addresses" | "loadBalancerIP" | "externalIPs",
        ) => &["10.96.0.50", "10.0.0.1", "fd00::1", "None", "", "300.1.1.1"],
        (_, "cidr" | "podCIDR" | "podCIDRs" | "cidrs") => &["10.244.0.0/24", "fd00::/64", "10.0.0.1/33"],
        (_, "schedule") => &["*/5 * * * *", "@hourly", "61 * * * *", "TZ=UTC * * * * *"],
        (_, "timeZone") => &["Etc/UTC", "Europe/Berlin", "Nowhere"],
        (_, "verbs" | "apiGroups" | "resources") => &["*", "get", "", "pods", "pods/*"],
        (_, "topologyKey") => &["kubernetes.io/hostname", "zone", ""],
        (_, "expression") => &["true", "object.spec.replicas > 1", "self == oldSelf", "1 +", "[1][5] == 2"],
        _ => &CONSTANTS,
    };
    (*random.pick(choices)).to_owned()
}

/// A key of a map.
pub fn key(random: &mut Random, field: &str) -> String {
    let choices: &[&str] = match field {
        "limits" | "requests" | "capacity" | "allocatable" | "hard" | "used" => {
            &["cpu", "memory", "pods", "ephemeral-storage", "hugepages-2Mi", "example.com/gpu", "requests.cpu"]
        }
        "labels" | "matchLabels" | "selector" | "nodeSelector" => &["app", "app", "app", "tier", "bad key"],
        "data" | "stringData" | "binaryData" => &["key", "a.b", "..", ""],
        _ => &LABEL_KEYS,
    };
    (*random.pick(choices)).to_owned()
}

/// A text that no field expects.
pub fn odd(random: &mut Random) -> String {
    match random.below(12) {
        0 => String::new(),
        1 => "x".repeat(70_000),
        2 => "\u{0}".to_owned(),
        3 => "\u{202e}\u{1f4a9}\u{fffd}".to_owned(),
        4 => "../../etc/passwd".to_owned(),
        5 => "%2e%2e%2f%00".to_owned(),
        6 => "-9223372036854775809".to_owned(),
        7 => "{}[]\"\\\n\r\t".to_owned(),
        8 => "a=b,c in (d,e),!f,g notin (".to_owned(),
        9 => "1".repeat(400),
        10 => "AAAA".repeat(1000),
        _ => char::from_u32(random.below(0x11_0000) as u32).unwrap_or('?').to_string(),
    }
}
