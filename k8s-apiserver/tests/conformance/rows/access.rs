//! Service accounts, their tokens, and who may.

use serde_json::{Value, json};

use super::needs_service_account;
use crate::api::{Api, name};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const PODS: &str = "/api/v1/namespaces/default/pods";

fn account(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name}})
}

pub async fn auto_mount(api: &Api) {
    for (name, mount) in [("default-mount", None), ("mount", Some(true)), ("no-mount", Some(false))] {
        let mut account = account(name);
        if let Some(mount) = mount {
            account["automountServiceAccountToken"] = mount.into();
        }
        api.create(ACCOUNTS, &account).await;
        for (suffix, pod_mount) in [("unset", None), ("true", Some(true)), ("false", Some(false))] {
            let container = json!({"name": "c", "image": "x"});
            let spec = json!({"serviceAccountName": name, "containers": [container]});
            let metadata = json!({"name": format!("{name}-{suffix}")});
            let mut pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec});
            if let Some(mount) = pod_mount {
                pod["spec"]["automountServiceAccountToken"] = mount.into();
            }
            let made = api.create(PODS, &pod).await;
            let mounts = made["spec"]["containers"][0]["volumeMounts"].as_array().cloned().unwrap_or_default();
            let path = "/var/run/secrets/kubernetes.io/serviceaccount";
            let mounted = mounts.iter().any(|mount| mount["mountPath"] == path);
            assert_eq!(mounted, pod_mount.or(mount).unwrap_or(true), "{name} {suffix}");
        }
    }
}

pub async fn create_and_review_token(api: &Api) {
    let made = api.create(ACCOUNTS, &account("a")).await;
    let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"audiences": []}});
    let answer = api.create(&format!("{ACCOUNTS}/a/token"), &request).await;
    let token = answer["status"]["token"].as_str().expect("a token");
    assert!(!token.is_empty());
    let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
    let reviewed = api.create("/apis/authentication.k8s.io/v1/tokenreviews", &review).await;
    let status = &reviewed["status"];
    assert_eq!(status["authenticated"], true, "{reviewed}");
    assert!(status["error"].as_str().unwrap_or_default().is_empty(), "{reviewed}");
    assert_eq!(status["user"]["username"], "system:serviceaccount:default:a");
    assert_eq!(status["user"]["uid"], made["metadata"]["uid"]);
    let groups = status["user"]["groups"].as_array().expect("groups");
    assert!(groups.contains(&json!("system:serviceaccounts:default")), "{groups:?}");
    let me = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"});
    let me = api.with_token(token).create("/apis/authentication.k8s.io/v1/selfsubjectreviews", &me).await;
    assert_eq!(me["status"]["userInfo"]["username"], "system:serviceaccount:default:a");
}

pub async fn account_lifecycle(api: &Api) {
    let mut watch = api.watch(&format!("{ACCOUNTS}?watch=1&labelSelector=test-serviceaccount-static%3Dtrue")).await;
    let mut static_account = account("a");
    static_account["metadata"]["labels"] = json!({"test-serviceaccount-static": "true"});
    api.create(ACCOUNTS, &static_account).await;
    let added = watch.expect("ADDED", "a").await;
    assert_eq!(added["metadata"]["labels"]["test-serviceaccount-static"], "true");
    let patch = json!({"automountServiceAccountToken": false});
    let patched = api.patch(&format!("{ACCOUNTS}/a"), "strategic", &patch).await.expect(200);
    assert_eq!(patched["automountServiceAccountToken"], false);
    watch.expect("MODIFIED", "a").await;
    let listed = api.items("/api/v1/serviceaccounts?labelSelector=test-serviceaccount-static%3Dtrue").await;
    assert_eq!(listed.len(), 1);
    assert_eq!((name(&listed[0]), &listed[0]["automountServiceAccountToken"]), ("a", &json!(false)));
    api.delete(&format!("{ACCOUNTS}?labelSelector=test-serviceaccount-static%3Dtrue")).await.expect(200);
    watch.expect("DELETED", "a").await;
}

pub async fn account_update(api: &Api) {
    let mut made = api.create(ACCOUNTS, &account("a")).await;
    made["automountServiceAccountToken"] = true.into();
    let updated = api.put(&format!("{ACCOUNTS}/a"), &made).await.expect(200);
    assert_eq!(updated["automountServiceAccountToken"], true);
    assert_eq!(api.read(&format!("{ACCOUNTS}/a")).await["automountServiceAccountToken"], true);
}

pub async fn subject_access_reviews(api: &Api) {
    const REVIEWS: &str = "/apis/authorization.k8s.io/v1";
    const USER: &str = "system:serviceaccount:default:reader";
    needs_service_account(api, "default").await;
    api.create(ACCOUNTS, &account("reader")).await;
    let rule = json!({"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]});
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": "r"}, "rules": [rule]});
    api.create("/apis/rbac.authorization.k8s.io/v1/namespaces/default/roles", &role).await;
    let reference = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "r"});
    let subject = json!({"kind": "ServiceAccount", "name": "reader", "namespace": "default"});
    let binding = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": {"name": "b"}, "roleRef": reference, "subjects": [subject]});
    let bindings = "/apis/rbac.authorization.k8s.io/v1/namespaces/default/rolebindings";
    let bound = api.create(bindings, &binding).await;
    let version = bound["metadata"]["resourceVersion"].as_str().and_then(|text| text.parse().ok());
    api.server.cache().wait_for(version.expect("a version")).await.expect("it comes");

    let groups = ["system:serviceaccounts", "system:serviceaccounts:default", "system:authenticated"];
    let reader = api.acting_as(USER, &groups);
    for (resource, allowed) in [("configmaps", true), ("secrets", false), ("pods", false)] {
        let attributes = json!({"namespace": "default", "verb": "list", "version": "v1", "resource": resource});
        let spec = json!({"user": USER, "groups": groups, "resourceAttributes": attributes});
        let review =
            |kind: &str| json!({"apiVersion": "authorization.k8s.io/v1", "kind": kind, "metadata": {}, "spec": spec});
        let whole = api.create(&format!("{REVIEWS}/subjectaccessreviews"), &review("SubjectAccessReview")).await;
        let mut local = review("LocalSubjectAccessReview");
        local["metadata"]["namespace"] = "default".into();
        let local = api.create(&format!("{REVIEWS}/namespaces/default/localsubjectaccessreviews"), &local).await;
        let answer = reader.get(&format!("/api/v1/namespaces/default/{resource}")).await;
        assert_eq!(answer.code == 200, allowed, "{resource}: {}", answer.value);
        assert_eq!(whole["status"]["allowed"], allowed, "{resource}: {whole}");
        assert_eq!(local["status"]["allowed"], allowed, "{resource}: {local}");
    }
}
