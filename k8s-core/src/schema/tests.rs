//! The built-in schemas as a whole, and single facts that others rely on.

use std::collections::BTreeSet;

use super::*;
use crate::{
    doc,
    doc::{Doc, Map},
};

#[path = "../../build/overlay.rs"]
mod overlay;

#[test]
fn overlays_that_say_what_is_not_there_are_refused() {
    let definitions = std::collections::BTreeMap::from([(
        "p.v1.A".to_owned(),
        serde_json::json!({"properties": {"x": {"type": "string"}}}),
    )]);
    let cases = [
        ("package p\nv1.A\n  # why\n  *  atomic\n  x  1 list=map keys=k\n", Ok(())),
        ("package p\nv1.A\n  y  1\n", Err("f:3: p.v1.A has no field y")),
        ("package p\nv1.B\n", Err("overlay: there is no struct p.v1.B")),
        ("package p\nv1.A\n  x\n  x\n", Err("f:4: x stands here twice")),
        ("package p\nv1.A\nv1.A\n", Err("f:3: p.v1.A stands here twice")),
        ("  x  1\n", Err("f:1: a field without its struct")),
        ("package\n  p  q\nv1.A x\n", Err("f:3: expected `package NAME`, `STRUCT` or an indented field line")),
    ];
    for (text, expected) in cases {
        let mut overlay = overlay::Overlay::default();
        let found = overlay.add("f", text).and_then(|()| overlay.check(&definitions));
        assert_eq!(found, expected.map_err(str::to_owned), "{text}");
        if expected.is_ok() {
            assert_eq!(overlay.rules("p.v1.A", "x"), "1 list=map keys=k");
            assert_eq!(overlay.extensions("p.v1.A", "*")[0].0, "x-kubernetes-map-type");
        }
    }
    let own =
        overlay::Overlay::read(std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("schema").as_path()).unwrap();
    assert!(own.rules("io.k8s.api.core.v1.Container", "ports").contains("keys=containerPort,protocol"));
}

/// Every field of every built-in struct.
fn every_field(mut see: impl FnMut(&Schemas, Struct<'_>, FieldView<'_>)) -> usize {
    let schemas = Schemas::builtin();
    let mut seen = 0;
    for name in schemas.names() {
        let schema = schemas.named(name).unwrap();
        let fields = schema.root().as_struct().unwrap();
        assert_eq!(fields.name(), name);
        for field in fields.fields() {
            see(&schemas, fields, field);
            seen += 1;
        }
    }
    seen
}

#[test]
fn every_struct_decodes() {
    let seen = every_field(|_, _, field| assert!(!field.name().is_empty()));
    assert!(seen > 2900, "{seen}");
}

#[test]
fn every_list_says_how_its_items_are_told_apart() {
    let (mut maps, mut sets) = (0, 0);
    every_field(|_, fields, field| {
        let (node, place) = (field.node(), format!("{}.{}", fields.name(), field.name()));
        let Some(items) = node.items() else {
            assert!(node.list_keys().is_empty(), "{place} is no list and has keys");
            return;
        };
        let has = |key: &str| items.as_struct().is_some_and(|item| item.field(key).is_some());
        match node.list_type() {
            ListType::Map => {
                maps += 1;
                assert!(!node.list_keys().is_empty(), "{place} is a map without keys");
                assert!(node.list_keys().iter().all(|key| has(key)), "{place}: {:?}", node.list_keys());
            }
            ListType::Set => {
                sets += 1;
                assert!(node.list_keys().is_empty(), "{place}");
            }
            ListType::Atomic => assert!(node.list_keys().is_empty(), "{place}"),
        }
        if let Some(key) = node.merge_key() {
            assert!(node.patch().merge && has(key), "{place} merges by {key}");
        }
    });
    assert!(maps > 50 && sets > 10, "{maps} maps, {sets} sets");
}

#[test]
fn protobuf_numbers_are_unique() {
    let schemas = Schemas::builtin();
    let mut numbered = 0;
    for name in schemas.names() {
        let schema = schemas.named(name).unwrap();
        let mut seen = BTreeSet::new();
        for field in schema.root().as_struct().unwrap().fields().filter(|field| field.proto() > 0) {
            let path = (field.proto_inside().to_vec(), field.proto());
            assert!(seen.insert(path), "{name}.{} shares its number", field.name());
            numbered += 1;
        }
    }
    assert!(numbered > 2000, "{numbered}");
}

#[test]
fn defaults_and_permitted_values_fit_their_fields() {
    let mut seen = 0;
    every_field(|schemas, fields, field| {
        let rules = field.node().rules();
        for value in rules.default.iter().chain(&rules.allowed) {
            let mut doc = Doc::Object(Map::from_iter([(field.name(), value.clone())]));
            let schema = schemas.named(fields.name()).unwrap();
            let report = crate::structure::check(&schema, &mut doc, crate::structure::Mode::Partial);
            assert_eq!((report.unknown, report.wrong), (vec![], vec![]), "{}.{}", fields.name(), field.name());
            seen += 1;
        }
        if let (Some(default), false) = (&rules.default, rules.allowed.is_empty()) {
            assert!(rules.allowed.contains(default), "{}.{}: {default}", fields.name(), field.name());
        }
    });
    assert!(seen > 200, "{seen}");
}

#[test]
fn facts_about_lists() {
    let schemas = Schemas::builtin();
    let pod = schemas.schema("", "v1", "Pod").unwrap();
    let at = |path: &[&str]| pod.root().at(path).unwrap();
    let containers = at(&["spec", "containers"]);
    assert_eq!((containers.list_type(), containers.list_keys()), (ListType::Map, &["name".into()][..]));
    assert_eq!((containers.patch().merge, containers.merge_key()), (true, Some("name")));
    let ports = at(&["spec", "containers", "0", "ports"]);
    assert_eq!(ports.list_keys(), ["containerPort", "protocol"]);
    assert_eq!(ports.merge_key(), Some("containerPort"));
    let volumes = at(&["spec", "volumes"]);
    assert!(volumes.patch().merge && volumes.patch().retain_keys);
    assert_eq!(at(&["spec", "tolerations"]).list_type(), ListType::Atomic);
    assert_eq!(at(&["metadata", "finalizers"]).list_type(), ListType::Set);
    assert!(at(&["metadata", "finalizers"]).patch().merge);
    assert_eq!(at(&["metadata", "ownerReferences"]).list_keys(), ["uid"]);
    assert!(at(&["spec", "nodeSelector"]).is_atomic() && !at(&["metadata", "labels"]).is_atomic());
    assert!(at(&["spec", "imagePullSecrets", "0"]).is_atomic() && !at(&["spec"]).is_atomic());
    let deployment = schemas.schema("apps", "v1", "Deployment").unwrap();
    assert!(deployment.root().at(&["spec", "selector"]).unwrap().is_atomic());
    assert!(deployment.root().at(&["spec", "strategy"]).unwrap().patch().retain_keys);
    let volume = schemas.schema("", "v1", "PersistentVolume").unwrap();
    assert!(!volume.root().at(&["spec", "claimRef"]).unwrap().is_atomic());
}

#[test]
fn facts_about_fields() {
    let schemas = Schemas::builtin();
    let pod = schemas.schema("", "v1", "Pod").unwrap();
    let spec = pod.root().field("spec").and_then(Node::as_struct).unwrap();
    let grace = spec.field("terminationGracePeriodSeconds").unwrap();
    assert_eq!((grace.proto(), grace.node().rules().default.clone()), (4, Some(30.into())));
    assert!(spec.field("containers").unwrap().required() && !spec.field("volumes").unwrap().required());
    assert!(!pod.root().as_struct().unwrap().field("metadata").unwrap().required());
    let probe = pod.root().at(&["spec", "containers", "0", "livenessProbe"]).and_then(Node::as_struct).unwrap();
    let http = probe.field("httpGet").unwrap();
    assert_eq!((probe.short_name(), http.proto_inside(), http.proto()), ("Probe", &[1][..], 2));
    let kind = |path: &[&str]| format!("{:?}", pod.root().at(path).unwrap());
    assert_eq!(kind(&["spec", "containers", "0", "resources", "limits", "cpu"]), "Quantity");
    assert_eq!(kind(&["metadata", "creationTimestamp"]), "Time");
    assert_eq!(kind(&["spec", "containers", "0", "livenessProbe", "httpGet", "port"]), "IntOrString");
    assert_eq!(kind(&["metadata", "managedFields", "0", "fieldsV1"]), "AnyObject");
    let secret = schemas.schema("", "v1", "Secret").unwrap();
    assert_eq!(format!("{:?}", secret.root().at(&["data", "x"]).unwrap()), "Bytes");
    let lease = schemas.schema("coordination.k8s.io", "v1", "Lease").unwrap();
    assert_eq!(format!("{:?}", lease.root().at(&["spec", "renewTime"]).unwrap()), "MicroTime");
}

#[test]
fn structs_may_hold_themselves() {
    let schemas = Schemas::builtin();
    let definition = schemas.schema("apiextensions.k8s.io", "v1", "CustomResourceDefinition").unwrap();
    let mut path = vec!["spec", "versions", "0", "schema", "openAPIV3Schema"];
    path.extend(["properties", "x"].repeat(100));
    path.push("description");
    assert_eq!(format!("{:?}", definition.root().at(&path).unwrap()), "String");
}

#[test]
fn every_kind_is_there() {
    let schemas = Schemas::builtin();
    let kinds: Vec<_> = schemas.kinds().collect();
    assert!(kinds.is_sorted() && kinds.len() > 100, "{}", kinds.len());
    for (group, version, kind) in kinds {
        let schema = schemas.schema(group, version, kind).unwrap();
        assert_eq!(schema.root().as_struct().unwrap().short_name(), kind);
        assert!(schema.root().field("kind").is_some());
    }
    assert!(schemas.schema("apps", "v1", "Pod").is_none());
}

#[test]
fn definitions_for_the_openapi_document() {
    let definitions = Schemas::builtin().definitions();
    let find = |name: &str| definitions.iter().find(|definition| definition.name == name).unwrap();
    let deployment = find("io.k8s.api.apps.v1.Deployment");
    let gvk = Gvk { group: "apps".into(), version: "v1".into(), kind: "Deployment".into() };
    assert_eq!(deployment.gvk, Some(gvk));
    let required = deployment.schema.get("required").map_or(&[][..], Doc::items);
    assert!(!required.contains(&"metadata".into()), "{required:?}");
    let spec = deployment.schema.at(&["properties", "spec"]).unwrap();
    assert_eq!(spec.str_at(&["$ref"]), "#/definitions/io.k8s.api.apps.v1.DeploymentSpec");
    assert!(spec.str_at(&["description"]).contains("Deployment"));
    let containers = find("io.k8s.api.core.v1.PodSpec").schema.at(&["properties", "containers"]).cloned().unwrap();
    assert_eq!(containers.get("x-kubernetes-list-map-keys"), Some(&doc!(["name"])));
    assert_eq!(containers.str_at(&["x-kubernetes-patch-merge-key"]), "name");
    assert_eq!(find("io.k8s.api.core.v1.PodList").gvk.as_ref().map(|gvk| gvk.kind.as_str()), Some("PodList"));
    assert_eq!(find("io.k8s.apimachinery.pkg.util.intstr.IntOrString").schema.str_at(&["format"]), "int-or-string");
    let names: BTreeSet<&str> = definitions.iter().map(|definition| definition.name.as_str()).collect();
    assert_eq!(names.len(), definitions.len());
    for definition in &definitions {
        references(&definition.schema, &mut |name| {
            assert!(names.contains(name), "{} refers to {name}", definition.name);
        });
    }
}

fn references(schema: &Doc, see: &mut impl FnMut(&str)) {
    match schema {
        Doc::Object(map) => {
            if let Some(name) = map.get("$ref").and_then(Doc::as_str) {
                see(name.strip_prefix("#/definitions/").unwrap_or(name));
            }
            map.values().for_each(|value| references(value, see));
        }
        Doc::Array(items) => items.iter().for_each(|item| references(item, see)),
        _ => {}
    }
}

#[test]
fn a_custom_arena_stands_on_the_built_in_one() {
    let schemas = Schemas::builtin();
    let metadata = schemas.id("io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta").unwrap();
    let mut arena = ArenaBuilder::new(Some(schemas.arena().clone()));
    let field = |name: &str, shape: Shape| Field {
        name: name.into(),
        node: shape.into(),
        required: false,
        proto: 0,
        proto_inside: Box::default(),
    };
    let fields = vec![field("metadata", Shape::Struct(metadata)), field("spec", Shape::Any)];
    let root = arena.add(StructDef { fields, ..StructDef::default() });
    let schema = Schema::new(arena.finish(), root);
    assert_eq!(format!("{:?}", schema.root().at(&["metadata", "labels", "a"]).unwrap()), "String");
    assert!(!schema.root().as_struct().unwrap().is_typed());
}
