//! Discovery of a few kinds in several groups and versions.

use k8s_core::{
    doc::Doc,
    registry::{Registry, ResourceInfo, Scope, Subresource},
    request::Verb,
    schema::Schemas,
};

use super::*;

fn info(group: &str, version: &str, plural: &str, kind: &str) -> ResourceInfo {
    let schema = Schemas::builtin().schema("", "v1", "ConfigMap").unwrap();
    let verbs = vec![Verb::List, Verb::Get];
    ResourceInfo { subresources: Vec::new(), verbs, ..ResourceInfo::custom(group, version, plural, kind, schema) }
}

fn catalog() -> Registry {
    let below = |name: &str, verbs: Vec<Verb>, body| Subresource { name: name.into(), verbs, body };
    let scale = below("scale", vec![Verb::Get], Some(("autoscaling".into(), "v1".into(), "Scale".into())));
    let mut cars = info("a.example.com", "v1", "cars", "Car");
    cars.subresources = vec![scale, below("proxy", vec![Verb::Connect], None)];
    cars.short_names = vec!["c".into()];
    cars.categories = vec!["all".into()];
    let versions = ["v1alpha1", "v1beta2", "v1beta10", "v2", "special"];
    let wheels = versions.map(|version| info("example.com", version, "wheels", "Wheel"));
    let roads = ResourceInfo { scope: Scope::Cluster, ..info("a.example.com", "v1", "roads", "Road") };
    wheels.into_iter().chain([cars, roads]).fold(Registry::builtin(), Registry::with)
}

fn names(doc: &Doc, list: &str, name: &[&str]) -> Vec<String> {
    doc.get(list).unwrap().items().iter().map(|item| item.str_at(name).to_owned()).collect()
}

#[test]
fn groups_and_versions_come_in_upstreams_order() {
    let groups = groups(&catalog());
    let listed = names(&groups, "groups", &["name"]);
    assert_eq!(listed[..2], ["apiregistration.k8s.io", "apps"]);
    assert_eq!(listed[listed.len() - 2..], ["a.example.com", "example.com"], "custom groups come last");
    let group = group(&catalog(), "example.com").unwrap();
    assert_eq!(names(&group, "versions", &["version"]), ["v2", "v1beta10", "v1beta2", "v1alpha1", "special"]);
    assert_eq!(group.str_at(&["preferredVersion", "groupVersion"]), "example.com/v2");
    assert_eq!(group.str_at(&["kind"]), "APIGroup");
    assert_eq!(core_versions(&catalog()).get("versions").unwrap().to_string(), r#"["v1"]"#);
    assert!(super::group(&catalog(), "").is_none() && super::group(&catalog(), "nothing").is_none());
    assert!(super::group(&catalog(), "apiregistration.k8s.io").is_none(), "what is not served is not shown");
}

#[test]
fn resources_come_with_what_hangs_below_them() {
    let list = resources(&catalog(), "a.example.com", "v1").unwrap();
    assert_eq!(list.str_at(&["groupVersion"]), "a.example.com/v1");
    assert_eq!(names(&list, "resources", &["name"]), ["cars", "cars/scale", "cars/proxy", "roads"]);
    let [_, scale, proxy, _] = list.get("resources").unwrap().items() else { panic!("{list}") };
    assert_eq!((scale.str_at(&["group"]), scale.str_at(&["kind"])), ("autoscaling", "Scale"));
    assert_eq!(proxy.str_at(&["kind"]), "CarProxyOptions");
    assert_eq!(proxy.get("verbs").unwrap().to_string(), r#"["create","delete","get","patch","update"]"#);
    assert_eq!(resources(&catalog(), "", "v1").unwrap().str_at(&["groupVersion"]), "v1");
    assert!(resources(&catalog(), "apps", "v9").is_none());
}

#[test]
fn the_aggregated_document_says_the_same() {
    let core = aggregated(&catalog(), true, "v2");
    assert_eq!(core.str_at(&["apiVersion"]), "apidiscovery.k8s.io/v2");
    let version = &core.get("items").unwrap().items()[0].get("versions").unwrap().items()[0];
    let resources = names(version, "resources", &["resource"]);
    assert!(resources.is_sorted() && resources.iter().any(|name| name == "pods"), "{resources:?}");
    let named = aggregated(&catalog(), false, "v2beta1");
    let group =
        named.get("items").unwrap().items().iter().find(|item| item.str_at(&["metadata", "name"]) == "a.example.com");
    let [cars, roads] = group.unwrap().get("versions").unwrap().items()[0].get("resources").unwrap().items() else {
        panic!("{named}")
    };
    assert_eq!((cars.str_at(&["scope"]), roads.str_at(&["scope"])), ("Namespaced", "Cluster"));
    assert_eq!(cars.str_at(&["responseKind", "kind"]), "Car");
    assert_eq!(cars.get("verbs").unwrap().to_string(), r#"["get","list"]"#);
    assert_eq!(cars.get("shortNames").unwrap().to_string(), r#"["c"]"#);
    assert_eq!(cars.get("categories").unwrap().to_string(), r#"["all"]"#);
    let below = &cars.get("subresources").unwrap().items()[0];
    assert_eq!((below.str_at(&["subresource"]), below.str_at(&["responseKind", "group"])), ("scale", "autoscaling"));
}
