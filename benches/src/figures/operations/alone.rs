//! The API server alone, with an audit log of metadata and with requests taking turns, beside the same without either,
//! and beside etcd: what requests cost without the controllers and nodes that act on what they write.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use k8s::{
    core::{
        doc::Doc,
        request::{ApiRequest, Options, RequestBody, ResourceType, Target, Verb},
    },
    reconcile::Client,
};
use serde_json::{Value, json};

use super::{
    super::{
        etcd::Etcd,
        pods::{self, many, pod},
        process::Server,
        report::{
            Aim::{AtMost, Nothing},
            Report,
        },
    },
    AIMS, ROUNDS, etcd,
    load::{LEASE, Load, OPERATIONS, Renewed},
};

/// Who asks: nobody whom fairness lets pass.
const USER: &str = "figures";
/// Pods that are stored to see what they hold.
const STORED: usize = 10_000;

/// Measures each operation on three servers round by round, and what stored pods hold.
pub async fn measure(program: &Path, report: &mut Report) {
    let (all_on, (_, load)) = start(program, true).await;
    let (without, (_, load_without)) = start(program, false).await;
    let etcd = Etcd::start().await;
    let (mut ours, mut plain): ([Vec<f64>; OPERATIONS.len()], [Vec<f64>; OPERATIONS.len()]) = Default::default();
    let mut theirs: [Vec<f64>; etcd::OPERATIONS.len()] = Default::default();
    for round in 0..ROUNDS {
        load.round(&all_on, round, &mut ours).await;
        load_without.round(&without, round, &mut plain).await;
        if let Some(etcd) = &etcd {
            etcd::round(etcd, round, &mut theirs).await;
        }
    }
    for (((name, aim), samples), plain) in OPERATIONS.into_iter().zip(AIMS).zip(ours).zip(plain) {
        report.add(format!("API server alone: {name}"), "us", aim, samples);
        report.add("  without audit and fairness", "us", Nothing, plain);
    }
    custom(&all_on, &load, report).await;
    report.add("API server alone: watch event", "us", AtMost(2.0), load.watch_events(&all_on, ROUNDS).await);
    if let Some(etcd) = &etcd {
        for (name, samples) in etcd::OPERATIONS.into_iter().zip(theirs) {
            report.add(format!("etcd: {name}"), "us", Nothing, samples);
        }
        report.add("etcd: watch event", "us", Nothing, etcd::watch_events(etcd, ROUNDS).await);
    }
    drop((all_on, without, etcd));
    stored(program, report).await;
}

/// What the renewal of a custom object costs beside that of a lease of the same shape, round by round.
async fn custom(server: &Server, load: &Load, report: &mut Report) {
    const HOLD: Renewed = Renewed { group: "figures.example.com", kind: "Hold", plural: "holds" };
    let fields = json!({"holderIdentity": {"type": "string"}, "leaseDurationSeconds": {"type": "integer", "minimum": 1},
        "renewTime": {"type": "string", "format": "date-time"}});
    let schema = json!({"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}});
    let definition = json!({"metadata": {"name": format!("{}.{}", HOLD.plural, HOLD.group)}, "spec": {
        "group": HOLD.group, "scope": "Namespaced", "names": {"kind": HOLD.kind, "plural": HOLD.plural},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}});
    let client = server.client();
    create(
        &client,
        Target::all(ResourceType::new("apiextensions.k8s.io", "v1", "customresourcedefinitions"), ""),
        definition,
    )
    .await;
    let holds = || Target::all(ResourceType::new(HOLD.group, "v1", HOLD.plural), "default");
    let start = Instant::now();
    while client.list_objects(holds(), Options::default()).await.is_err() {
        assert!(start.elapsed() < Duration::from_secs(10), "the custom kind is served");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let (mut of_custom, mut ratios) = (Vec::new(), Vec::new());
    for round in ROUNDS..2 * ROUNDS {
        of_custom.push(load.renewals(server, &HOLD, round).await);
        let of_lease = load.renewals(server, &LEASE, round).await;
        ratios.extend(of_custom.last().map(|custom| custom / of_lease));
    }
    report.add("API server alone: renewal of a custom object", "us", Nothing, of_custom);
    report.add("renewal of a custom object over a lease's", "x", AtMost(1.1), ratios);
}

/// What a stored pod holds, how long it is, and what others cost beside many of them.
async fn stored(program: &Path, report: &mut Report) {
    let (server, (client, load)) = start(program, true).await;
    let mut beside_none = Vec::new();
    for round in 0..ROUNDS {
        beside_none.push(load.renewals(&server, &LEASE, round).await);
    }
    let before = server.process().memory();
    many(&client, STORED, |number| pods::create(pod(&format!("pod-{number}")))).await;
    server.quiet().await;
    let held = (server.process().memory() - before) * 1024.0 / STORED as f64;
    let mut ratios = Vec::new();
    for (round, beside_none) in beside_none.into_iter().enumerate() {
        ratios.push(load.renewals(&server, &LEASE, ROUNDS + round).await / beside_none);
    }
    let served = server.http().read("/api/v1/namespaces/default/pods").await;
    report.add("memory per stored pod", "KiB", Nothing, vec![held]);
    report.add("length of a stored pod", "KiB", Nothing, vec![served as f64 / 1024.0 / STORED as f64]);
    report.add("lease renewal beside 10,000 pods, over beside none", "x", AtMost(1.1), ratios);
}

/// A server that takes pods of [`USER`], who may do everything.
async fn start(program: &Path, with_all: bool) -> (Server, (Client, Load)) {
    let server = Server::start_alone(program, |folder| if with_all { audited(folder) } else { plain() });
    server.ready().await;
    let admin = server.client();
    let binding = json!({"metadata": {"name": "figures"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": USER}]});
    let bindings = Target::all(ResourceType::new("rbac.authorization.k8s.io", "v1", "clusterrolebindings"), "");
    create(&admin, bindings, binding).await;
    // Nobody else makes it here, and pods need one.
    let accounts = Target::all(ResourceType::new("", "v1", "serviceaccounts"), "default");
    create(&admin, accounts, json!({"metadata": {"name": "default"}})).await;
    let (http, client) = (server.http(), server.client_as(USER));
    let load = Load::new(http, client.clone());
    (server, (client, load))
}

fn audited(folder: &Path) -> Vec<String> {
    let (policy, log) = (folder.join("audit.yaml"), folder.join("audit.log"));
    let text = "apiVersion: audit.k8s.io/v1\nkind: Policy\nrules:\n- level: Metadata\n";
    fs::write(&policy, text).expect("the policy is written");
    vec![format!("--audit-policy-file={}", policy.display()), format!("--audit-log-path={}", log.display())]
}

fn plain() -> Vec<String> {
    vec!["--enable-priority-and-fairness=false".into()]
}

async fn create(client: &Client, target: Target, object: Value) {
    let body = RequestBody::Doc(Doc::from_serialize(&object).expect("a document"));
    let request = ApiRequest { verb: Verb::Create, target, body, ..Default::default() };
    client.call(request).await.unwrap_or_else(|error| panic!("create: {error}"));
}
