//! The priority levels and flow schemas that every cluster has: those that must be there, and those that upstream
//! suggests.

use k8s_core::{doc, doc::Doc};

/// Says that the server keeps an object as it made it; who takes it over sets it to `false`.
pub const AUTO_UPDATE: &str = "apf.kubernetes.io/autoupdate-spec";

/// The group of these kinds.
pub const GROUP: &str = "flowcontrol.apiserver.k8s.io";

/// What must be there as it is, whoever says otherwise.
const MANDATORY: [&str; 2] = ["exempt", "catch-all"];

/// Whether an object of this name must be there as it is.
pub fn is_mandatory(name: &str) -> bool {
    MANDATORY.contains(&name)
}

const LEVELS: &str = "prioritylevelconfigurations";
const SCHEMAS: &str = "flowschemas";

/// All of them, with the plural name of their kind; levels first.
pub fn objects() -> Vec<(&'static str, Doc)> {
    let levels = [
        level("exempt", doc!({"type": "Exempt", "exempt": {"nominalConcurrencyShares": 0, "lendablePercent": 0}})),
        level("catch-all", limited(5, 0, None)),
        level("system", limited(30, 33, Some((64, 6)))),
        level("node-high", limited(40, 25, Some((64, 6)))),
        level("leader-election", limited(10, 0, Some((16, 4)))),
        level("workload-high", limited(40, 50, Some((128, 6)))),
        level("workload-low", limited(100, 90, Some((128, 6)))),
        level("global-default", limited(20, 50, Some((128, 6)))),
    ];
    let levels = levels.into_iter().map(|level| (LEVELS, level));
    levels.chain(schemas().into_iter().map(|schema| (SCHEMAS, schema))).collect()
}

fn schemas() -> Vec<Doc> {
    let everyone = || vec![group("system:unauthenticated"), group("system:authenticated")];
    let accounts = || vec![account("*")];
    let leases = || rule(&["get", "create", "update"], "coordination.k8s.io", &["leases"], false);
    let nodes = || {
        vec![
            rule(&["*"], "", &["nodes", "nodes/status"], true),
            rule(&["*"], "coordination.k8s.io", &["leases"], false),
        ]
    };
    let endpoints = || rule(&["get", "create", "update"], "", &["endpoints"], false);
    let managers = || vec![user("system:kube-controller-manager"), user("system:kube-scheduler")];
    let endpoint_writers = || {
        vec![
            user("system:kube-controller-manager"),
            account("endpoint-controller"),
            account("endpointslicemirroring-controller"),
        ]
    };
    vec![
        schema("exempt", "exempt", 1, None, anything(vec![group("system:masters")])),
        schema(
            "probes",
            "exempt",
            2,
            None,
            doc!({
                "subjects": everyone(),
                "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/readyz", "/livez"]}]
            }),
        ),
        schema(
            "system-leader-election",
            "leader-election",
            100,
            BY_USER,
            doc!({
                "subjects": [managers(), accounts()].concat(), "resourceRules": [leases()]
            }),
        ),
        schema(
            "endpoint-controller",
            "workload-high",
            150,
            BY_USER,
            doc!({
                "subjects": endpoint_writers(), "resourceRules": [endpoints()]
            }),
        ),
        schema(
            "workload-leader-election",
            "leader-election",
            200,
            BY_USER,
            doc!({
                "subjects": accounts(), "resourceRules": [leases()]
            }),
        ),
        schema(
            "system-node-high",
            "node-high",
            400,
            BY_USER,
            doc!({
                "subjects": [group("system:nodes")], "resourceRules": nodes()
            }),
        ),
        schema("system-nodes", "system", 500, BY_USER, anything(vec![group("system:nodes")])),
        schema(
            "kube-controller-manager",
            "workload-high",
            800,
            BY_NAMESPACE,
            anything(vec![user("system:kube-controller-manager")]),
        ),
        schema("kube-scheduler", "workload-high", 800, BY_NAMESPACE, anything(vec![user("system:kube-scheduler")])),
        schema("kube-system-service-accounts", "workload-high", 900, BY_NAMESPACE, anything(accounts())),
        schema("service-accounts", "workload-low", 9000, BY_USER, anything(vec![group("system:serviceaccounts")])),
        schema("global-default", "global-default", 9900, BY_USER, anything(everyone())),
        schema("catch-all", "catch-all", 10_000, BY_USER, anything(everyone())),
    ]
}

const BY_USER: Option<&str> = Some("ByUser");
const BY_NAMESPACE: Option<&str> = Some("ByNamespace");

fn named(name: &str, spec: Doc) -> Doc {
    let mut object = doc!({"metadata": {"name": name}, "spec": spec});
    object.set_at(&["metadata", "annotations", AUTO_UPDATE], "true".into());
    object
}

fn level(name: &str, spec: Doc) -> Doc {
    named(name, spec)
}

/// A level with a share of the seats; its requests wait in queues (how many, and how many a flow may use), or are
/// refused.
fn limited(shares: i64, lendable: i64, queues: Option<(i64, i64)>) -> Doc {
    let response = match queues {
        Some((queues, hand)) => doc!({
            "type": "Queue", "queuing": {"queues": queues, "handSize": hand, "queueLengthLimit": 50}
        }),
        None => doc!({"type": "Reject"}),
    };
    doc!({"type": "Limited", "limited": {
        "nominalConcurrencyShares": shares, "lendablePercent": lendable, "limitResponse": response
    }})
}

fn schema(name: &str, level: &str, precedence: i64, flows: Option<&str>, rules: Doc) -> Doc {
    let mut spec = doc!({
        "matchingPrecedence": precedence, "priorityLevelConfiguration": {"name": level}, "rules": [rules]
    });
    if let Some(flows) = flows {
        spec.set_at(&["distinguisherMethod", "type"], flows.into());
    }
    named(name, spec)
}

fn anything(subjects: Vec<Doc>) -> Doc {
    doc!({
        "subjects": subjects,
        "resourceRules": [{
            "verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "namespaces": ["*"], "clusterScope": true
        }],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]
    })
}

fn rule(verbs: &[&str], group: &str, resources: &[&str], cluster: bool) -> Doc {
    let texts = |list: &[&str]| Doc::Array(list.iter().map(|text| Doc::from(*text)).collect());
    let mut rule = doc!({
        "verbs": texts(verbs), "apiGroups": [group], "resources": texts(resources), "namespaces": ["*"]
    });
    if cluster {
        rule.set_at(&["clusterScope"], true.into());
    }
    rule
}

fn group(name: &str) -> Doc {
    doc!({"kind": "Group", "group": {"name": name}})
}

fn user(name: &str) -> Doc {
    doc!({"kind": "User", "user": {"name": name}})
}

fn account(name: &str) -> Doc {
    doc!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "kube-system", "name": name}})
}
