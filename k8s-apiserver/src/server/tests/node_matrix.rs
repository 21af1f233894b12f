//! The identity of a node as one table: what the node authorizer and the node restriction let `n1` do, together, with what
//! its own pod uses and what the pod of another node uses.

use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiRequest, Caller, Options, PatchKind, RequestBody, Target, Verb},
    selector::FieldSelector,
};

use super::{
    crud::example,
    fixture::{Fixture, server, target},
};

/// Resource, namespace, and the names of what is the node's own and of what is not.
const ROWS: [(&str, &str, [&str; 2]); 13] = [
    ("nodes", "", ["n1", "n2"]),
    ("nodes/status", "", ["n1", "n2"]),
    ("leases", "kube-node-lease", ["n1", "n2"]),
    ("pods", "default", ["p1", "p2"]),
    ("pods/status", "default", ["p1", "p2"]),
    ("pods/eviction", "default", ["p1", "p2"]),
    ("pods/binding", "default", ["p1", "p2"]),
    ("secrets", "default", ["s1", "s2"]),
    ("configmaps", "default", ["c1", "c2"]),
    ("serviceaccounts", "default", ["a1", "a2"]),
    ("serviceaccounts/token", "default", ["a1", "a2"]),
    ("services", "default", ["w1", "w2"]),
    ("clusterroles", "", ["view", "edit"]),
];

const GOLDEN: &str = "\
nodes                  own    get list watch create update patch
nodes                  other  -
nodes/status           own    get update patch
nodes/status           other  -
leases                 own    get create update patch delete
leases                 other  -
pods                   own    get list watch create delete
pods                   other  -
pods/status            own    get update patch
pods/status            other  -
pods/eviction          own    create
pods/eviction          other  -
pods/binding           own    -
pods/binding           other  -
secrets                own    get list watch
secrets                other  -
configmaps             own    get list watch
configmaps             other  -
serviceaccounts        own    get list watch
serviceaccounts        other  -
serviceaccounts/token  own    create
serviceaccounts/token  other  -
services               own    get list watch
services               other  get list watch
clusterroles           own    -
clusterroles           other  -
";

const VERBS: [Verb; 7] = [Verb::Get, Verb::List, Verb::Watch, Verb::Create, Verb::Update, Verb::Patch, Verb::Delete];

async fn scene() -> Fixture {
    let api = server().await;
    for number in ["1", "2"] {
        let named = |letter: &str| doc!({"metadata": {"name": format!("{letter}{number}")}});
        let node = format!("n{number}");
        api.create("nodes", "", named("n")).await.unwrap();
        api.create("leases", "kube-node-lease", named("n")).await.unwrap();
        for (plural, letter) in [("secrets", "s"), ("configmaps", "c"), ("serviceaccounts", "a")] {
            api.create(plural, "default", named(letter)).await.unwrap();
        }
        let mut service = example("services");
        service.set_at(&["metadata", "name"], format!("w{number}").into());
        api.create("services", "default", service).await.unwrap();
        let mut pod = example("pods");
        pod.set_at(&["metadata", "name"], format!("p{number}").into());
        pod.set_at(&["spec", "nodeName"], node.into());
        pod.set_at(&["spec", "serviceAccountName"], format!("a{number}").into());
        let volumes = doc!([
            {"name": "s", "secret": {"secretName": format!("s{number}")}},
            {"name": "c", "configMap": {"name": format!("c{number}")}}
        ]);
        pod.set_at(&["spec", "volumes"], volumes);
        api.create("pods", "default", pod).await.unwrap();
    }
    api
}

/// What is sent with a creation: as right as it can be, so that only who asks can be wrong.
async fn new(api: &Fixture, resource: &str, name: &str, number: &str) -> Doc {
    match resource {
        "pods" => {
            let mut pod = example("pods");
            let mirror = doc!({"name": "mirror", "annotations": {"kubernetes.io/config.mirror": "x"}});
            pod.set_at(&["metadata"], mirror);
            pod.set_at(&["spec", "nodeName"], format!("n{number}").into());
            pod
        }
        "pods/binding" => doc!({"target": {"kind": "Node", "name": format!("n{number}")}}),
        "serviceaccounts/token" => {
            let pod = api.get(&format!("pods/p{number}"), "default").await.unwrap();
            let uid = pod.str_at(&["metadata", "uid"]);
            let bound = doc!({"kind": "Pod", "apiVersion": "v1", "name": format!("p{number}"), "uid": uid});
            doc!({"spec": {"boundObjectRef": bound}})
        }
        _ => doc!({"metadata": {"name": name}}),
    }
}

async fn request(api: &Fixture, verb: Verb, row: (&str, &str), name: &str, number: &str) -> ApiRequest {
    let (resource, namespace) = row;
    let (plural, below) = resource.split_once('/').unwrap_or((resource, ""));
    let one = target(&format!("{plural}/{name}/{below}"), namespace);
    let mut options = Options { dry_run: true, ..Options::default() };
    let mut chosen = one.clone();
    let body = match verb {
        Verb::List | Verb::Watch => {
            chosen = Target { name: "".into(), ..one };
            let field = if resource == "pods" {
                ("spec.nodeName", format!("n{number}"))
            } else {
                ("metadata.name", name.to_owned())
            };
            options = Options { field_selector: FieldSelector::equal(field.0, field.1), ..Options::default() };
            RequestBody::None
        }
        Verb::Create => {
            if below.is_empty() {
                chosen = Target { name: "".into(), ..one };
            }
            RequestBody::Doc(new(api, resource, name, number).await)
        }
        Verb::Update => RequestBody::Doc(api.get(&format!("{plural}/{name}"), namespace).await.unwrap()),
        Verb::Patch => RequestBody::Patch(PatchKind::Merge, doc!({"metadata": {"annotations": {"a": "b"}}})),
        _ => RequestBody::None,
    };
    ApiRequest { verb, target: chosen, options, body, ..ApiRequest::default() }
}

#[tokio::test(start_paused = true)]
async fn a_node_may_what_the_table_says() {
    let api = scene().await;
    let node = api.acting(Caller::new("system:node:n1", &["system:nodes"]));
    let mut found = String::new();
    for (resource, namespace, names) in ROWS {
        for (relation, (name, number)) in ["own", "other"].iter().zip(names.iter().zip(["1", "2"])) {
            let mut allowed = Vec::new();
            for verb in VERBS {
                let request = request(&api, verb, (resource, namespace), name, number).await;
                let answer = node.ask(request).await;
                // What is allowed may be wrong for other reasons: there is no such verb, or it exists already.
                let code = answer.map_or_else(|error| error.code(), |answer| answer.code);
                if !matches!(code, 403 | 405) {
                    allowed.push(verb.as_str());
                }
            }
            let allowed = if allowed.is_empty() { "-".to_owned() } else { allowed.join(" ") };
            found.push_str(&format!("{resource:<22} {relation:<6} {allowed}\n"));
        }
    }
    assert_eq!(found, GOLDEN, "\n{found}");
}
