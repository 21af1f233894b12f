//! The authorizer through its own door: objects in, decisions out.

use k8s_core::request::ResourceType;
use serde_json::{Value, json};

use super::*;

fn object(value: Value) -> (ObjectKey, Arc<Object>) {
    let object = Object::from_json(value.to_string().into(), Some(1)).unwrap();
    (object.meta.key(), Arc::new(object))
}

fn rbac(objects: &[(&str, Value)]) -> Rbac {
    let rbac = Rbac::default();
    for (plural, value) in objects {
        let (key, object) = object(value.clone());
        rbac.changed(GROUP, plural, &key, Some(&object));
    }
    rbac
}

fn decide(rbac: &Rbac, user: &str, verb: &str, target: &Target) -> bool {
    let caller = Caller::new(user, &["devs"]);
    let attributes = Attributes { caller: &caller, verb, subject: Subject::Resource(target), fields: None };
    futures::FutureExt::now_or_never(rbac.authorize(&attributes)) == Some(Decision::Allow)
}

fn pods(namespace: &str, name: &str, subresource: &str) -> Target {
    Target::one(ResourceType::new("", "v1", "pods"), namespace, name).subresource(subresource)
}

fn sample() -> Rbac {
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "reader"},
        "rules": [{"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods", "*/scale"]},
                  {"verbs": ["get"], "apiGroups": [""], "resources": ["pods/log"], "resourceNames": ["one"]}]});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "b", "namespace": "a"},
        "roleRef": {"apiGroup": GROUP, "kind": "ClusterRole", "name": "reader"},
        "subjects": [{"kind": "Group", "name": "devs", "apiGroup": GROUP}, {"kind": "ServiceAccount", "name": "robot"}]});
    rbac(&[("clusterroles", role), ("rolebindings", binding)])
}

#[test]
fn rules_hold_in_the_binding_s_namespace_only() {
    let rbac = sample();
    let cases = [
        ("get", pods("a", "x", ""), true),
        ("list", pods("a", "", ""), true),
        ("get", pods("b", "x", ""), false),
        ("get", pods("", "", ""), false),
        ("delete", pods("a", "x", ""), false),
        ("get", pods("a", "one", "log"), true),
        ("get", pods("a", "two", "log"), false),
        ("get", pods("a", "x", "exec"), false),
        ("get", pods("a", "x", "scale"), true),
    ];
    for (verb, target, expected) in cases {
        assert_eq!(decide(&rbac, "jane", verb, &target), expected, "{verb} {target:?}");
    }
    let robot = Caller::service_account("a", "robot");
    let target = pods("a", "x", "");
    let attributes = Attributes { caller: &robot, verb: "get", subject: Subject::Resource(&target), fields: None };
    assert_eq!(futures::FutureExt::now_or_never(rbac.authorize(&attributes)), Some(Decision::Allow));
}

#[test]
fn what_is_taken_away_is_gone_at_once() {
    let rbac = sample();
    rbac.changed(GROUP, "rolebindings", &ObjectKey::new("a", "b"), None);
    assert!(!decide(&rbac, "jane", "get", &pods("a", "x", "")));
}

#[test]
fn escalation_is_what_is_not_held() {
    let rbac = sample();
    let jane = Caller::new("jane", &["devs"]);
    let rule = |verbs: &[&str], resource: &str| PolicyRule {
        verbs: verbs.iter().map(|verb| (*verb).to_owned()).collect(),
        api_groups: Some(vec![String::new()]),
        resources: Some(vec![resource.to_owned()]),
        ..Default::default()
    };
    assert!(rbac.missing(&jane, "a", &[rule(&["get"], "pods")]).is_empty());
    assert_eq!(rbac.missing(&jane, "a", &[rule(&["get", "delete"], "pods")]), [rule(&["delete"], "pods")]);
    assert_eq!(rbac.missing(&jane, "b", &[rule(&["get"], "pods")]).len(), 1);
    assert_eq!(rbac.missing(&jane, "a", &[rule(&["*"], "*")]).len(), 1);
}
