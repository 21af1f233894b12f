//! Definitions become kinds, and objects take the form of a version.

use super::*;
use crate::doc;

fn definition() -> Doc {
    doc!({
        "metadata": {"name": "wheels.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Wheel"}, "versions": [
            {"name": "v2", "served": true, "storage": false, "deprecated": true, "selectableFields": [{"jsonPath": ".spec.size"}],
                "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}},
            {"name": "v1", "served": true, "storage": true, "subresources": {"status": {},
                "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"}},
                "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"},
                    {"name": "Up", "type": "string", "jsonPath": ".status.conditions[?(@.type=='Up')].status"}],
                "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object",
                    "properties": {"size": {"type": "integer", "default": 3}}}}}}},
            {"name": "v0", "served": false, "storage": false}
        ]},
        "status": {"acceptedNames": {"kind": "Wheel", "listKind": "Wheels", "plural": "wheels", "singular": "wheel",
            "shortNames": ["wl"], "categories": ["all"]}}
    })
}

#[test]
fn every_served_version_is_a_kind() {
    let kinds = kinds_of(&definition());
    let [one, two] = kinds.as_slice() else { panic!("{}", kinds.len()) };
    assert_eq!((one.api_version(), two.api_version()), ("example.com/v1".into(), "example.com/v2".into()));
    assert_eq!((one.list_kind(), one.storage_prefix()), ("Wheels".into(), "/registry/example.com/wheels/".into()));
    assert!(one.subresource("status").is_some() && one.subresource("scale").is_some() && two.subresources.is_empty());
    assert!(two.is_selectable("spec.size") && !one.is_selectable("spec.size"));
    assert_eq!(one.custom.as_ref().unwrap().scale.as_ref().unwrap().spec, ["spec", "n"]);
    assert_eq!(two.custom.as_ref().unwrap().deprecation.as_deref(), Some("example.com/v2 Wheel is deprecated"));
}

#[test]
fn objects_take_the_form_of_a_version() {
    let kinds = kinds_of(&definition());
    let (v1, v2) = (kinds[0].custom.as_ref().unwrap(), kinds[1].custom.as_ref().unwrap());
    let json = r#"{"apiVersion":"example.com/v1","kind":"Wheel","metadata":{"name":"a","odd":1},"spec":{"x":1}}"#;
    let object = |json: &str| Object::from_json(json.to_owned().into(), Some(7)).unwrap();
    let shown = v1.show("example.com/v1", object(json)).unwrap();
    let expected = r#"{"apiVersion":"example.com/v1","kind":"Wheel","metadata":{"name":"a"},"spec":{"size":3}}"#;
    assert_eq!(&shown.stored_json()[..], expected.as_bytes());
    assert_eq!(shown.revision(), 7);
    let other = v2.show("example.com/v2", object(json)).unwrap();
    let expected = r#"{"apiVersion":"example.com/v2","kind":"Wheel","metadata":{"name":"a"},"spec":{"x":1}}"#;
    assert_eq!(&other.stored_json()[..], expected.as_bytes());
    let mut doc = Doc::parse(other.stored_json()).unwrap();
    doc.set_at(&["spec", "size"], 5.into());
    assert_eq!(
        v2.store(&doc),
        doc!({"apiVersion": "example.com/v1", "kind": "Wheel", "metadata": {"name": "a"}, "spec": {"size": 5}})
    );
}

#[test]
fn columns_show_what_is_there() {
    let kinds = kinds_of(&definition());
    let doc = doc!({"spec": {"size": 4}, "status": {"conditions": [{"type": "Up", "status": "True"}]}});
    let cells = |kind: &ResourceInfo, doc: &Doc| -> Vec<String> {
        kind.custom
            .as_ref()
            .unwrap()
            .columns
            .iter()
            .map(|c| c.cell(doc, crate::env::Timestamp::UNIX_EPOCH).to_string())
            .collect()
    };
    assert_eq!(cells(&kinds[0], &doc), ["4", "\"True\""]);
    assert_eq!(cells(&kinds[0], &doc!({"spec": {"size": "four"}})), ["null", "null"]);
    let old = doc!({"metadata": {"creationTimestamp": "1969-12-31T23:58:00Z"}});
    assert_eq!(cells(&kinds[1], &old), ["\"2m\""]);
}
