//! The identity matrix of a node, as a table.

use k8s_core::{request::ResourceType, selector::FieldSelector};
use serde_json::json;

use super::*;
use crate::auth::Subject;

fn authorizer() -> NodeAuthorizer {
    let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p", "namespace": "a", "uid": "u"},
        "spec": {"nodeName": "n1", "serviceAccountName": "robot",
            "volumes": [{"name": "v", "configMap": {"name": "cm"}},
                        {"name": "w", "projected": {"sources": [{"secret": {"name": "in-projection"}}]}}],
            "containers": [{"name": "c", "envFrom": [{"secretRef": {"name": "env"}}]}]}});
    let object = Arc::new(Object::from_json(pod.to_string().into(), Some(1)).unwrap());
    let authorizer = NodeAuthorizer::default();
    authorizer.changed("", "pods", &object.meta.key(), Some(&object));
    authorizer
}

fn allowed(authorizer: &NodeAuthorizer, user: &str, verb: &str, target: &Target, fields: &str) -> bool {
    let caller = Caller::new(user, &[NODES_GROUP]);
    let fields: FieldSelector = fields.parse().unwrap();
    let attributes = Attributes { caller: &caller, verb, subject: Subject::Resource(target), fields: Some(&fields) };
    futures::FutureExt::now_or_never(authorizer.authorize(&attributes)) == Some(Decision::Allow)
}

#[test]
fn a_node_sees_what_its_pods_use_and_nothing_else() {
    let authorizer = authorizer();
    let core = |plural: &str, name: &str| Target::one(ResourceType::new("", "v1", plural), "a", name);
    let cluster = |plural: &str, name: &str| Target::one(ResourceType::new("", "v1", plural), "", name);
    let lease = |namespace: &str, name: &str| {
        Target::one(ResourceType::new("coordination.k8s.io", "v1", "leases"), namespace, name)
    };
    // verb, target, field selector, whether n1 may, whether n2 may
    let cases = [
        ("get", core("configmaps", "cm"), "", true, false),
        ("get", core("secrets", "env"), "", true, false),
        ("get", core("secrets", "in-projection"), "", true, false),
        ("get", core("secrets", "other"), "", false, false),
        ("list", core("secrets", ""), "", false, false),
        ("watch", core("secrets", ""), "metadata.name=env", true, false),
        ("delete", core("secrets", "env"), "", false, false),
        ("create", core("serviceaccounts", "robot").subresource("token"), "", true, false),
        ("create", core("serviceaccounts", "default").subresource("token"), "", false, false),
        ("list", cluster("pods", ""), "spec.nodeName=n1", true, false),
        ("list", cluster("pods", ""), "", false, false),
        ("get", core("pods", "p"), "", true, false),
        ("update", core("pods", "p").subresource("status"), "", true, false),
        ("delete", core("pods", "p"), "", true, false),
        ("update", core("pods", "p"), "", false, false),
        ("get", cluster("nodes", "n1"), "", true, false),
        ("patch", cluster("nodes", "n1").subresource("status"), "", true, false),
        ("delete", cluster("nodes", "n1"), "", false, false),
        ("create", cluster("nodes", ""), "", true, true),
        ("update", lease("kube-node-lease", "n1"), "", true, false),
        ("update", lease("kube-system", "n1"), "", false, false),
        ("list", cluster("services", ""), "", true, true),
        ("create", core("events", ""), "", true, true),
        ("list", cluster("namespaces", ""), "", false, false),
    ];
    for (verb, target, fields, first, second) in cases {
        assert_eq!(
            allowed(&authorizer, "system:node:n1", verb, &target, fields),
            first,
            "n1 {verb} {target:?} {fields}"
        );
        assert_eq!(
            allowed(&authorizer, "system:node:n2", verb, &target, fields),
            second,
            "n2 {verb} {target:?} {fields}"
        );
        assert!(!allowed(&authorizer, "jane", verb, &target, fields), "no node: {verb} {target:?}");
    }
}

#[test]
fn access_ends_with_the_pod() {
    let authorizer = authorizer();
    authorizer.changed("", "pods", &ObjectKey::new("a", "p"), None);
    let target = Target::one(ResourceType::new("", "v1", "secrets"), "a", "env");
    assert!(!allowed(&authorizer, "system:node:n1", "get", &target, ""));
}
