//! Requests that must be refused, each with its `Status`, and without a trace in the store.

use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiRequest, Options, PatchKind, RequestBody, ResourceType, Target, Verb},
};

use super::{
    crud::example,
    fixture::{server, target},
};

fn create(path: &str, body: Doc) -> ApiRequest {
    let namespace = if path == "nodes" || path == "namespaces" { "" } else { "default" };
    ApiRequest {
        verb: Verb::Create,
        target: target(path, namespace),
        body: RequestBody::Doc(body),
        ..ApiRequest::default()
    }
}

fn named(name: &str) -> Doc {
    doc!({"metadata": {"name": name}})
}

fn with(plural: &str, path: &[&str], value: impl Into<Doc>) -> ApiRequest {
    let mut body = example(plural);
    body.set_at(&["metadata", "name"], "x".into());
    body.set_at(path, value.into());
    create(plural, body)
}

fn patch(kind: PatchKind, body: Doc) -> ApiRequest {
    ApiRequest {
        verb: Verb::Patch,
        target: target("configmaps/a", "default"),
        body: RequestBody::Patch(kind, body),
        options: Options { field_manager: Some("m".into()), ..Options::default() },
        ..ApiRequest::default()
    }
}

fn at(verb: Verb, target: Target) -> ApiRequest {
    ApiRequest { verb, target, ..ApiRequest::default() }
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_refused_and_leaves_no_trace() {
    let api = server().await;
    api.create("configmaps", "default", doc!({"metadata": {"name": "a"}, "data": {"k": "v"}})).await.unwrap();
    let core = |plural: &str| ResourceType::new("", "v1", plural);
    let owner = |name: &str| doc!({"apiVersion": "v1", "kind": "K", "name": name, "uid": name, "controller": true});
    let cases: Vec<(&str, ApiRequest, u16)> = vec![
        ("no name", create("configmaps", doc!({})), 422),
        ("a long name", create("configmaps", named(&"a".repeat(254))), 422),
        ("upper case", create("configmaps", named("A")), 422),
        ("a leading dash", create("configmaps", named("-a")), 422),
        ("dots in a namespace", create("namespaces", named("a.b")), 422),
        ("a long label", with("configmaps", &["metadata", "labels", "l"], "x".repeat(64)), 422),
        ("large annotations", with("configmaps", &["metadata", "annotations", "a"], "x".repeat(262_145)), 422),
        ("two controllers", with("configmaps", &["metadata", "ownerReferences"], doc!([owner("a"), owner("b")])), 422),
        ("too large", create("configmaps", doc!({"metadata": {"name": "x"}, "data": {"a": "y".repeat(1 << 21)}})), 422),
        (
            "too large to store",
            with("podtemplates", &["template", "metadata", "annotations", "a"], "y".repeat(1600 * 1024)),
            413,
        ),
        (
            "another kind",
            create("configmaps", doc!({"kind": "Secret", "apiVersion": "v1", "metadata": {"name": "x"}})),
            400,
        ),
        ("another version", create("configmaps", doc!({"apiVersion": "v2", "metadata": {"name": "x"}})), 400),
        ("another namespace", create("configmaps", doc!({"metadata": {"name": "x", "namespace": "y"}})), 400),
        ("a revision", create("configmaps", doc!({"metadata": {"name": "x", "resourceVersion": "1"}})), 400),
        ("a number for a text", with("configmaps", &["data", "k"], 1), 400),
        ("an integer overflow", with("deployments", &["spec", "replicas"], 1i64 << 40), 400),
        ("negative replicas", with("deployments", &["spec", "replicas"], -1), 422),
        ("port 0", with("services", &["spec", "ports", "0", "port"], 0), 422),
        ("port 65536", with("services", &["spec", "ports", "0", "port"], 65_536), 422),
        ("a strange quantity", with("pods", &["spec", "containers", "0", "resources", "requests", "cpu"], "x"), 400),
        ("no containers", with("pods", &["spec", "containers"], doc!([])), 422),
        ("no namespace", at(Verb::Create, Target::all(core("configmaps"), "")), 404),
        ("a namespace for a node", at(Verb::Get, Target::one(core("nodes"), "default", "x")), 404),
        (
            "a missing namespace",
            {
                let mut request = create("configmaps", named("x"));
                request.target.namespace = "nowhere".into();
                request
            },
            404,
        ),
        ("dots for a name", at(Verb::Get, Target::one(core("configmaps"), "default", "..")), 400),
        ("a slash in a namespace", at(Verb::List, Target::all(core("configmaps"), "a/b")), 400),
        ("a kind that is not there", at(Verb::List, Target::all(core("wheels"), "default")), 404),
        (
            "a kind that is not served",
            at(Verb::List, Target::all(ResourceType::new("example.com", "v1", "strangers"), "")),
            404,
        ),
        ("a subresource that is not there", at(Verb::Get, target("configmaps/a/status", "default")), 404),
        ("a verb that is not there", at(Verb::Delete, target("pods/a/status", "default")), 405),
        ("a body that is not there", at(Verb::Create, target("configmaps", "default")), 400),
        ("a failing test", patch(PatchKind::Json, doc!([{"op": "test", "path": "/data/k", "value": "w"}])), 422),
        ("a bad pointer", patch(PatchKind::Json, doc!([{"op": "remove", "path": "/data/~2"}])), 400),
        (
            "many operations",
            patch(
                PatchKind::Json,
                Doc::Array(vec![doc!({"op": "test", "path": "/kind", "value": "ConfigMap"}); 10_001]),
            ),
            413,
        ),
        ("another uid", patch(PatchKind::Merge, doc!({"metadata": {"uid": "x"}})), 422),
        ("a moved object", patch(PatchKind::Merge, doc!({"metadata": {"namespace": "x"}})), 422),
        ("another name", patch(PatchKind::Merge, doc!({"metadata": {"name": "x"}})), 422),
        ("no metadata", patch(PatchKind::Merge, doc!({"metadata": null})), 422),
        (
            "a stale revision",
            patch(PatchKind::Merge, doc!({"metadata": {"resourceVersion": "1"}, "data": {"x": "y"}})),
            409,
        ),
        (
            "owners in an application",
            patch(
                PatchKind::Apply,
                doc!({
                    "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "managedFields": [{"manager": "x"}]}
                }),
            ),
            400,
        ),
        (
            "an application without a kind",
            patch(PatchKind::Apply, doc!({"apiVersion": "v1", "metadata": {"name": "a"}})),
            400,
        ),
    ];
    let mut wrong = Vec::new();
    for (what, request, code) in cases {
        let error = api.refused(request).await;
        if error.code() != code || error.status().message.is_empty() || error.status().reason.is_none() {
            wrong.push(format!("{what}: {} instead of {code}: {error}", error.code()));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    api.get("configmaps/a", "default").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn an_object_that_only_the_store_cannot_take_is_too_large() {
    let api = server().await;
    // Within every rule about its fields.
    let mut template = example("podtemplates");
    template.set_at(&["metadata", "name"], "x".into());
    template.set_at(&["template", "spec", "containers", "0", "args"], Doc::from(vec!["y".repeat(1 << 20); 2]));
    let error = api.refused(create("podtemplates", template)).await;
    assert_eq!(error.code(), 413, "{error}");
}

#[tokio::test(start_paused = true)]
async fn numbers_are_exact_or_refused() {
    let api = server().await;
    let replicas = |number: &str| {
        let mut body = example("deployments");
        body.set_at(&["metadata", "name"], "x".into());
        body.set_at(&["spec", "replicas"], 424_242.into());
        let text = body.to_string().replace("424242", number);
        create("deployments", Doc::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}: {text}")))
    };
    let long = "9".repeat(100_000);
    for number in ["1e400", "9223372036854775808", "9007199254740993", "2147483648", "1.5", long.as_str()] {
        let error = api.refused(replicas(number)).await;
        assert_eq!(error.code(), 400, "{}: {error}", number.len());
    }
    let kept = api.ask(replicas("-0")).await.unwrap().into_doc().unwrap();
    assert_eq!(kept.at(&["spec", "replicas"]).and_then(Doc::as_i64), Some(0));
}
