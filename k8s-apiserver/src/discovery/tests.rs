//! Discovery of a few kinds in several groups and versions.

use std::sync::Arc;

use k8s_core::{
    doc::{Doc, Text},
    request::ResourceType,
};

use super::*;

fn served(group: &str, version: &str, plural: &str, kind: &str, namespaced: bool) -> Served {
    Served {
        resource: ResourceType::new(group, version, plural),
        singular: kind.to_lowercase().into(),
        kind: kind.into(),
        namespaced,
        verbs: ["get", "list"].map(Text::from).into(),
        ..Served::default()
    }
}

fn catalog() -> Vec<Arc<Served>> {
    let scale = ServedSubresource {
        name: "scale".into(),
        group: "autoscaling".into(),
        version: "v1".into(),
        kind: "Scale".into(),
        verbs: vec!["get".into()],
    };
    let mut deployments = served("apps", "v1", "deployments", "Deployment", true);
    deployments.subresources = vec![scale];
    deployments.short_names = vec!["deploy".into()];
    deployments.categories = vec!["all".into()];
    let all = vec![
        served("example.com", "v1alpha1", "wheels", "Wheel", true),
        served("example.com", "v1beta2", "wheels", "Wheel", true),
        served("example.com", "v1beta10", "wheels", "Wheel", true),
        served("example.com", "v2", "wheels", "Wheel", true),
        served("example.com", "special", "wheels", "Wheel", true),
        served("rbac.authorization.k8s.io", "v1", "roles", "Role", true),
        deployments,
        served("", "v1", "pods", "Pod", true),
        served("", "v1", "nodes", "Node", false),
    ];
    all.into_iter().map(Arc::new).collect()
}

fn names(doc: &Doc, list: &str, name: &[&str]) -> Vec<String> {
    doc.get(list).unwrap().items().iter().map(|item| item.str_at(name).to_owned()).collect()
}

#[test]
fn groups_and_versions_come_in_upstreams_order() {
    let groups = groups(&catalog());
    assert_eq!(names(&groups, "groups", &["name"]), ["apps", "rbac.authorization.k8s.io", "example.com"]);
    let group = group(&catalog(), "example.com").unwrap();
    assert_eq!(names(&group, "versions", &["version"]), ["v2", "v1beta10", "v1beta2", "v1alpha1", "special"]);
    assert_eq!(group.str_at(&["preferredVersion", "groupVersion"]), "example.com/v2");
    assert_eq!(group.str_at(&["kind"]), "APIGroup");
    assert_eq!(core_versions(&catalog()).get("versions").unwrap().to_string(), r#"["v1"]"#);
    assert!(super::group(&catalog(), "").is_none() && super::group(&catalog(), "nothing").is_none());
}

#[test]
fn resources_come_with_what_hangs_below_them() {
    let list = resources(&catalog(), "apps", "v1").unwrap();
    assert_eq!(list.str_at(&["groupVersion"]), "apps/v1");
    assert_eq!(names(&list, "resources", &["name"]), ["deployments", "deployments/scale"]);
    let scale = &list.get("resources").unwrap().items()[1];
    assert_eq!((scale.str_at(&["group"]), scale.str_at(&["kind"])), ("autoscaling", "Scale"));
    assert_eq!(resources(&catalog(), "", "v1").unwrap().str_at(&["groupVersion"]), "v1");
    assert!(resources(&catalog(), "apps", "v9").is_none());
}

#[test]
fn the_aggregated_document_says_the_same() {
    let core = aggregated(&catalog(), true, "v2");
    assert_eq!(core.str_at(&["apiVersion"]), "apidiscovery.k8s.io/v2");
    let items = core.get("items").unwrap().items();
    assert_eq!(items.len(), 1);
    let version = &items[0].get("versions").unwrap().items()[0];
    assert_eq!(names(version, "resources", &["resource"]), ["nodes", "pods"]);
    assert_eq!(names(version, "resources", &["scope"]), ["Cluster", "Namespaced"]);
    let named = aggregated(&catalog(), false, "v2beta1");
    assert_eq!(names(&named, "items", &["metadata", "name"]), ["apps", "rbac.authorization.k8s.io", "example.com"]);
    let apps = &named.get("items").unwrap().items()[0].get("versions").unwrap().items()[0];
    let deployments = &apps.get("resources").unwrap().items()[0];
    assert_eq!(deployments.str_at(&["responseKind", "kind"]), "Deployment");
    assert_eq!(deployments.get("shortNames").unwrap().to_string(), r#"["deploy"]"#);
    assert_eq!(deployments.get("categories").unwrap().to_string(), r#"["all"]"#);
    let below = &deployments.get("subresources").unwrap().items()[0];
    assert_eq!((below.str_at(&["subresource"]), below.str_at(&["responseKind", "group"])), ("scale", "autoscaling"));
}
