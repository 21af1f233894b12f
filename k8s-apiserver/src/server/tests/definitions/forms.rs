//! What custom objects look like: pruned, defaulted, validated, and in the form of each version.

use k8s_core::request::FieldValidation;

use super::*;
use crate::server::tests::fixture::server;

const NAME: &str = "wheels.example.com";

fn sized() -> Doc {
    spec(doc!({"size": {"type": "integer", "minimum": 1}, "color": {"type": "string"}}))
}

#[tokio::test(start_paused = true)]
async fn defaults_are_set_on_writes_and_on_reads_from_the_store() {
    let api = server().await;
    let fields = |a: Doc, b: Doc| {
        let schema = doc!({"type": "object", "properties": {"a": a, "b": b}});
        doc!({"spec": {"versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]}})
    };
    let (plain, of_a, of_b) =
        (doc!({"type": "string"}), doc!({"type": "string", "default": "A"}), doc!({"type": "string", "default": "B"}));
    api.define(wheels(
        fields(plain.clone(), plain.clone())
            .at(&["spec", "versions", "0", "schema", "openAPIV3Schema"])
            .unwrap()
            .clone(),
    ))
    .await;
    let first = api.make_wheel(doc!({"metadata": {"name": "one"}})).await.unwrap();
    assert_eq!(first.get("a"), None);
    api.redefine(NAME, fields(of_a, plain.clone())).await;
    assert_eq!(api.read_wheel("v1/one").await.unwrap().str_at(&["a"]), "A", "set when it is read");
    assert_eq!(api.make_wheel(doc!({"metadata": {"name": "two"}})).await.unwrap().str_at(&["a"]), "A");
    api.redefine(NAME, fields(plain, of_b)).await;
    let (one, two) = (api.read_wheel("v1/one").await.unwrap(), api.read_wheel("v1/two").await.unwrap());
    assert_eq!((one.get("a"), one.str_at(&["b"])), (None, "B"));
    assert_eq!((two.str_at(&["a"]), two.str_at(&["b"])), ("A", "B"), "what was stored stays");
    assert_eq!(one.str_at(&["metadata", "resourceVersion"]), first.str_at(&["metadata", "resourceVersion"]));
}

#[tokio::test(start_paused = true)]
async fn unknown_fields_go_or_are_refused_as_asked() {
    let api = server().await;
    api.define(wheels(sized())).await;
    let odd = || doc!({"metadata": {"name": "a", "odd": 1}, "spec": {"size": 1, "x": 1}, "more": 1});
    let made = api.make_wheel(odd()).await.unwrap();
    assert_eq!(made.at(&["spec"]).unwrap().to_string(), r#"{"size":1}"#);
    assert!(made.get("more").is_none() && made.at(&["metadata", "odd"]).is_none());
    let strict = Options { field_validation: FieldValidation::Strict, ..Options::default() };
    let refused = api.wheel_with(Verb::Create, "v1", RequestBody::Doc(odd()), strict.clone()).await;
    let expected = r#"Wheel in version "v1" cannot be handled as a Wheel: strict decoding error: unknown field "metadata.odd", unknown field "spec.x", unknown field "more""#;
    assert_eq!(refusal(refused, 400), expected);
    let options = Options { field_manager: Some("m".into()), ..strict };
    let body = doc!({"apiVersion": "example.com/v1", "kind": "Wheel", "metadata": {"name": "a"}, "spec": {}, "odd": 1});
    let applied = api.wheel_with(Verb::Patch, "v1/b", RequestBody::Patch(PatchKind::Apply, body), options).await;
    assert!(refusal(applied, 400).ends_with(": .odd: field not declared in schema"));
}

#[tokio::test(start_paused = true)]
async fn values_are_validated_in_upstreams_words() {
    let api = server().await;
    api.define(wheels(sized())).await;
    let refused = api.make_wheel(doc!({"metadata": {"name": "a"}, "spec": {"size": 0, "color": 3}})).await;
    let expected = "Wheel.example.com \"a\" is invalid: [spec.size: Invalid value: 0: spec.size in body should be \
                    greater than or equal to 1, spec.color: Invalid value: \"integer\": spec.color in body must be of \
                    type string: \"integer\"]";
    assert_eq!(refusal(refused, 422), expected);
    let meta = api.make_wheel(doc!({"metadata": {"name": "a", "labels": {"a": 1}}})).await;
    assert!(refusal(meta, 400).contains("metadata.labels.a"));
}

#[tokio::test(start_paused = true)]
async fn a_rule_that_became_stricter_binds_only_what_changes() {
    let api = server().await;
    api.define(wheels(sized())).await;
    let mut made =
        api.make_wheel(doc!({"metadata": {"name": "a"}, "spec": {"size": 3, "color": "red"}})).await.unwrap();
    let stricter = spec(doc!({"size": {"type": "integer", "maximum": 2}, "color": {"type": "string"}}));
    let version = doc!({"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": stricter}});
    api.redefine(NAME, doc!({"spec": {"versions": [version]}})).await;
    made.set_at(&["spec", "color"], "blue".into());
    let mut made = api.wheel(Verb::Update, "v1/a", RequestBody::Doc(made)).await.unwrap();
    made.set_at(&["spec", "size"], 4.into());
    assert!(
        refusal(api.wheel(Verb::Update, "v1/a", RequestBody::Doc(made)).await, 422).contains("less than or equal to 2")
    );
}

#[tokio::test(start_paused = true)]
async fn patches_of_custom_objects() {
    let api = server().await;
    api.define(wheels(sized())).await;
    api.make_wheel(doc!({"metadata": {"name": "a"}, "spec": {"size": 3, "color": "red"}})).await.unwrap();
    let patch = |kind, patch| RequestBody::Patch(kind, patch);
    let merged =
        api.wheel(Verb::Patch, "v1/a", patch(PatchKind::Merge, doc!({"spec": {"color": null}}))).await.unwrap();
    assert_eq!(merged.at(&["spec"]).unwrap().to_string(), r#"{"size":3}"#);
    assert_eq!(merged.at(&["metadata", "generation"]).and_then(Doc::as_i64), Some(2));
    refusal(api.wheel(Verb::Patch, "v1/a", patch(PatchKind::Strategic, doc!({"spec": {"size": 4}}))).await, 415);
    let steps = doc!([{"op": "replace", "path": "/spec/size", "value": 5}]);
    let replaced = api.wheel(Verb::Patch, "v1/a", patch(PatchKind::Json, steps)).await.unwrap();
    assert_eq!(replaced.at(&["spec", "size"]).and_then(Doc::as_i64), Some(5));
    let configuration =
        doc!({"apiVersion": "example.com/v1", "kind": "Wheel", "metadata": {"name": "a"}, "spec": {"color": "blue"}});
    let options = Options { field_manager: Some("painter".into()), ..Options::default() };
    let body = patch(PatchKind::Apply, configuration);
    let applied = api.wheel_with(Verb::Patch, "v1/a", body, options).await.unwrap();
    assert_eq!(
        (applied.str_at(&["spec", "color"]), applied.at(&["spec", "size"]).and_then(Doc::as_i64)),
        ("blue", Some(5))
    );
    let managers = applied.at(&["metadata", "managedFields"]).unwrap().items();
    assert!(managers.iter().any(|entry| entry.str_at(&["manager"]) == "painter"), "{managers:?}");
}

#[tokio::test(start_paused = true)]
async fn every_version_shows_the_same_objects_in_its_own_form() {
    let api = server().await;
    let mut definition = wheels(sized());
    let two = spec(doc!({"size": {"type": "integer"}, "label": {"type": "string", "default": "none"}}));
    let two = doc!({"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": two}});
    definition.at_mut(&["spec", "versions"]).and_then(Doc::as_array_mut).unwrap().push(two.clone());
    api.define(definition).await;
    let mut watch = api.watch_wheels("v2").await;
    let made = api.make_wheel(doc!({"metadata": {"name": "a"}, "spec": {"size": 3, "color": "red"}})).await.unwrap();
    let other = api.read_wheel("v2/a").await.unwrap();
    assert_eq!(other.str_at(&["apiVersion"]), "example.com/v2");
    assert_eq!(other.at(&["spec"]).unwrap().to_string(), r#"{"size":3,"label":"none"}"#);
    assert_eq!(other.str_at(&["metadata", "resourceVersion"]), made.str_at(&["metadata", "resourceVersion"]));
    let Some(Ok(event)) = watch.next().await else { panic!("no event") };
    assert_eq!(event.object().unwrap().meta.api_version, "example.com/v2");
    let mut changed = other.clone();
    changed.set_at(&["spec", "size"], 4.into());
    let written = api.wheel(Verb::Update, "v2/a", RequestBody::Doc(changed)).await.unwrap();
    assert_eq!((written.str_at(&["apiVersion"]), written.str_at(&["spec", "label"])), ("example.com/v2", "none"));
    let stored = api.store.get(&"/registry/example.com/wheels/default/a".into()).await.unwrap().unwrap();
    let stored = Doc::parse(&stored.value).unwrap();
    assert_eq!((stored.str_at(&["apiVersion"]), stored.at(&["spec", "label"])), ("example.com/v1", None));
    // The other version becomes the stored one: what is written as it is migrates.
    let mut versions = doc!([{"name": "v1", "served": true, "storage": false}]);
    versions.set_at(&["0", "schema"], doc!({"openAPIV3Schema": sized()}));
    let mut two = two;
    two.set_at(&["storage"], true.into());
    versions.as_array_mut().unwrap().push(two);
    let redefined = api.redefine(NAME, doc!({"spec": {"versions": versions}})).await;
    assert_eq!(redefined.at(&["status", "storedVersions"]).unwrap().to_string(), r#"["v1","v2"]"#);
    let same = api.read_wheel("v1/a").await.unwrap();
    assert_eq!(same.at(&["spec", "size"]).and_then(Doc::as_i64), Some(4));
    let migrated = api.wheel(Verb::Update, "v1/a", RequestBody::Doc(same.clone())).await.unwrap();
    assert_ne!(migrated.str_at(&["metadata", "resourceVersion"]), same.str_at(&["metadata", "resourceVersion"]));
    let stored = api.store.get(&"/registry/example.com/wheels/default/a".into()).await.unwrap().unwrap();
    assert_eq!(Doc::parse(&stored.value).unwrap().str_at(&["apiVersion"]), "example.com/v2");
    let again = api.wheel(Verb::Update, "v1/a", RequestBody::Doc(migrated.clone())).await.unwrap();
    assert_eq!(again, migrated, "nothing is left to migrate");
}
