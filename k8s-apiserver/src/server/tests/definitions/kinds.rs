//! What a definition says of its kind: subresources, selectors, deprecation, and rules about definitions themselves.

use super::*;
use crate::server::tests::fixture::server;

const NAME: &str = "wheels.example.com";

fn with_parts() -> Doc {
    let schema = doc!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {"n": {"type": "integer"}, "color": {"type": "string"}}},
        "status": {"type": "object", "properties": {"n": {"type": "integer"}, "selector": {"type": "string"}}}
    }});
    let mut definition = wheels(schema);
    definition.set_at(
        &["spec", "versions", "0", "subresources"],
        doc!({"status": {}, "scale": {
        "specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n", "labelSelectorPath": ".status.selector"}}),
    );
    definition.set_at(&["spec", "versions", "0", "selectableFields"], doc!([{"jsonPath": ".spec.color"}]));
    definition
}

#[tokio::test(start_paused = true)]
async fn the_status_is_its_subresources_alone() {
    let api = server().await;
    api.define(with_parts()).await;
    let made = api.make_wheel(doc!({"metadata": {"name": "a"}, "spec": {"n": 2}, "status": {"n": 9}})).await.unwrap();
    assert_eq!(made.get("status"), None);
    let status = RequestBody::Patch(PatchKind::Merge, doc!({"spec": {"n": 7}, "status": {"n": 1, "selector": "a=b"}}));
    let patched = api.wheel(Verb::Patch, "v1/a/status", status).await.unwrap();
    assert_eq!(patched.at(&["spec", "n"]).and_then(Doc::as_i64), Some(2));
    assert_eq!(patched.at(&["status", "n"]).and_then(Doc::as_i64), Some(1));
    assert_eq!(patched.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(1));
    let spec = RequestBody::Patch(PatchKind::Merge, doc!({"spec": {"n": 3}, "status": null}));
    let patched = api.wheel(Verb::Patch, "v1/a", spec).await.unwrap();
    assert_eq!(patched.at(&["status", "n"]).and_then(Doc::as_i64), Some(1));
    assert_eq!(patched.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(2));
    let scale = api.read_wheel("v1/a/scale").await.unwrap();
    assert_eq!((scale.str_at(&["kind"]), scale.str_at(&["status", "selector"])), ("Scale", "a=b"));
    let counts = |scale: &Doc| ["spec", "status"].map(|of| scale.at(&[of, "replicas"]).and_then(Doc::as_i64));
    assert_eq!(counts(&scale), [Some(3), Some(1)]);
    let more = RequestBody::Patch(PatchKind::Merge, doc!({"spec": {"replicas": 5}}));
    assert_eq!(counts(&api.wheel(Verb::Patch, "v1/a/scale", more).await.unwrap()), [Some(5), Some(1)]);
    assert_eq!(api.read_wheel("v1/a").await.unwrap().at(&["spec", "n"]).and_then(Doc::as_i64), Some(5));
}

#[tokio::test(start_paused = true)]
async fn without_a_subresource_the_status_is_a_field() {
    let api = server().await;
    api.define(wheels(anything())).await;
    let made = api.make_wheel(doc!({"metadata": {"name": "a"}, "status": {"n": 9}})).await.unwrap();
    assert_eq!(made.at(&["status", "n"]).and_then(Doc::as_i64), Some(9));
    assert_eq!(refusal(api.read_wheel("v1/a/status").await, 404), "the server could not find the requested resource");
    let patch = RequestBody::Patch(PatchKind::Merge, doc!({"status": {"n": 8}}));
    let patched = api.wheel(Verb::Patch, "v1/a", patch).await.unwrap();
    assert_eq!(patched.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(2));
    let unconditional = doc!({"metadata": {"name": "a"}});
    let refused = api.wheel(Verb::Update, "v1/a", RequestBody::Doc(unconditional)).await;
    assert!(refusal(refused, 422).contains("metadata.resourceVersion"));
}

#[tokio::test(start_paused = true)]
async fn selectable_fields_select() {
    let api = server().await;
    api.define(with_parts()).await;
    for (name, color) in [("a", "red"), ("b", "blue"), ("c", "red")] {
        api.make_wheel(doc!({"metadata": {"name": name}, "spec": {"color": color}})).await.unwrap();
    }
    let by = |text: &str| Options { field_selector: text.parse().unwrap(), ..Options::default() };
    assert_eq!(api.wheel_names(by("spec.color=red")).await.unwrap(), ["a", "c"]);
    assert_eq!(api.wheel_names(by("spec.color!=red,metadata.name=b")).await.unwrap(), ["b"]);
    assert!(refusal(api.wheel_names(by("spec.n=1")).await, 400).contains("field label not supported: spec.n"));
}

/// The field by which pods are found means nothing else in a custom kind.
#[tokio::test(start_paused = true)]
async fn a_field_called_as_that_of_pods_selects_too() {
    let api = server().await;
    let mut definition = wheels(spec(doc!({"nodeName": {"type": "string"}})));
    definition.set_at(&["spec", "versions", "0", "selectableFields"], doc!([{"jsonPath": ".spec.nodeName"}]));
    api.define(definition).await;
    for (name, node) in [("a", "one"), ("b", "two")] {
        api.make_wheel(doc!({"metadata": {"name": name}, "spec": {"nodeName": node}})).await.unwrap();
    }
    let by = |text: &str| Options { field_selector: text.parse().unwrap(), ..Options::default() };
    assert_eq!(api.wheel_names(by("spec.nodeName=two")).await.unwrap(), ["b"]);
    assert_eq!(api.wheel_names(by("spec.nodeName!=two")).await.unwrap(), ["a"]);
}

#[tokio::test(start_paused = true)]
async fn a_deprecated_version_warns() {
    let api = server().await;
    let mut definition = wheels(anything());
    definition.set_at(&["spec", "versions", "0", "deprecated"], true.into());
    api.define(definition).await;
    let target = Target::all(ResourceType::new("example.com", "v1", "wheels"), "default");
    let listed = api.ask(ApiRequest { verb: Verb::List, target, ..ApiRequest::default() }).await.unwrap();
    assert_eq!(listed.warnings, ["example.com/v1 Wheel is deprecated"]);
}

#[tokio::test(start_paused = true)]
async fn bad_definitions_are_refused_and_change_nothing() {
    let api = server().await;
    let refused = |definition: Doc| ApiRequest {
        verb: Verb::Create,
        target: crate::server::tests::fixture::target("customresourcedefinitions", ""),
        body: RequestBody::Doc(definition),
        ..ApiRequest::default()
    };
    let mut webhook = wheels(anything());
    webhook.set_at(&["spec", "conversion"], doc!({"strategy": "Webhook"}));
    let cases = [
        (wheels(doc!({"type": "object", "properties": {"a": {}}})), "must not be empty for specified object fields"),
        (wheels(doc!({})), "must not be empty at the root"),
        (webhook, "spec.conversion.webhookClientConfig: Required value"),
    ];
    for (definition, expected) in cases {
        let error = api.refused(refused(definition)).await;
        assert_eq!(error.code(), 422);
        assert!(error.to_string().contains(expected), "{error}");
    }
    api.define(wheels(anything())).await;
    let path = "customresourcedefinitions/wheels.example.com";
    for patch in [doc!({"spec": {"scope": "Cluster"}}), doc!({"spec": {"names": {"kind": "Round"}}})] {
        let refused = api.patch(path, "", PatchKind::Merge, patch).await;
        assert!(refusal(refused, 422).contains("field is immutable"));
    }
    assert_eq!(condition(&api.until(NAME, |_| true).await, "Established"), "True");
}

#[tokio::test(start_paused = true)]
async fn rules_hold_for_objects_and_their_changes() {
    let api = server().await;
    let mut schema = spec(doc!({"n": {"type": "integer"}, "most": {"type": "integer"}}));
    let rules = doc!([
        {"rule": "self.n <= self.most", "message": "n is beyond most"},
        {"rule": "self.most >= oldSelf.most", "messageExpression": "'most was ' + string(oldSelf.most)"}
    ]);
    schema.set_at(&["properties", "spec", "x-kubernetes-validations"], rules);
    api.define(wheels(schema.clone())).await;
    let wheel = |n: i64, most: i64| doc!({"metadata": {"name": "a"}, "spec": {"n": n, "most": most}});
    assert!(refusal(api.make_wheel(wheel(3, 2)).await, 422).ends_with("n is beyond most"));
    api.make_wheel(wheel(1, 2)).await.unwrap();
    let lower = RequestBody::Patch(PatchKind::Merge, doc!({"spec": {"most": 1}}));
    assert!(refusal(api.wheel(Verb::Patch, "v1/a", lower).await, 422).ends_with("most was 2"));
    schema.set_at(&["properties", "spec", "x-kubernetes-validations", "0", "rule"], "self.odd == 1".into());
    let mut other = wheels(schema);
    other.set_at(&["metadata", "name"], "rounds.example.com".into());
    other.set_at(&["spec", "names"], doc!({"plural": "rounds", "kind": "Round"}));
    let refused = api.create("customresourcedefinitions", "", other).await;
    assert!(refusal(refused, 422).contains("x-kubernetes-validations[0].rule"));
}
