//! Who may do what, as whom; and the kinds that are asked about it.

use std::sync::Arc;

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiRequest, Caller, Options, RequestBody, Verb},
};

use super::{
    clock::paused,
    fixture::{Fixture, built, server, target},
};
use crate::auth::token::{Lifetimes, ServiceAccountTokens, SigningKey};

fn user(name: &str) -> Caller {
    Caller::new(name, &[])
}

async fn grant(api: &Fixture, user: &str, rules: Doc) {
    let role = doc!({"metadata": {"name": user}, "rules": rules});
    api.create("clusterroles", "", role).await.unwrap();
    let group = "rbac.authorization.k8s.io";
    let binding = doc!({
        "metadata": {"name": user},
        "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": user},
        "subjects": [{"kind": "User", "name": user, "apiGroup": group}]
    });
    api.create("clusterrolebindings", "", binding).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn rights_hold_as_soon_as_they_are_given() {
    let api = server().await;
    let eve = api.acting(user("eve"));
    let error = eve.list("configmaps", "default", Options::default()).await.unwrap_err();
    assert_eq!(error.code(), 403);
    let expected = "configmaps is forbidden: User \"eve\" cannot list resource \"configmaps\" in API group \"\" in the namespace \"default\"";
    assert_eq!(error.to_string(), expected);
    grant(&api, "eve", doc!([{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["list"]}])).await;
    eve.list("configmaps", "default", Options::default()).await.unwrap();
    assert_eq!(eve.watch("configmaps", "default", Options::default()).await.err().map(|e| e.code()), Some(403));
    assert_eq!(eve.get("configmaps/x", "default").await.unwrap_err().code(), 403, "not even whether it exists");
}

#[tokio::test(start_paused = true)]
async fn a_right_to_one_name_is_no_right_to_the_collection() {
    let api = server().await;
    let rules = doc!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list"], "resourceNames": ["a"]}]);
    grant(&api, "eve", rules).await;
    api.create("secrets", "default", doc!({"metadata": {"name": "a"}})).await.unwrap();
    let eve = api.acting(user("eve"));
    eve.get("secrets/a", "default").await.unwrap();
    assert_eq!(eve.list("secrets", "default", Options::default()).await.unwrap_err().code(), 403);
    let named =
        |name: &str| Options { field_selector: format!("metadata.name={name}").parse().unwrap(), ..Options::default() };
    eve.list("secrets", "default", named("a")).await.unwrap();
    assert_eq!(eve.list("secrets", "default", named("b")).await.unwrap_err().code(), 403);
}

#[tokio::test(start_paused = true)]
async fn acting_as_somebody_needs_the_right_to_every_part_of_them() {
    let api = server().await;
    grant(&api, "eve", doc!([{"apiGroups": [""], "resources": ["users"], "verbs": ["impersonate"]}])).await;
    let eve = api.acting(user("eve"));
    let as_caller = |caller: Caller| ApiRequest {
        verb: Verb::Create,
        target: target("selfsubjectreviews", ""),
        body: RequestBody::Doc(doc!({})),
        caller: Some(caller),
        ..ApiRequest::default()
    };
    let mut bob = user("bob");
    let answer = eve.ask(as_caller(bob.clone())).await.unwrap().into_doc().unwrap();
    assert_eq!(answer.str_at(&["status", "userInfo", "username"]), "bob");
    bob.groups.push("system:masters".into());
    assert_eq!(eve.refused(as_caller(bob)).await.code(), 403);
    let account = Caller::service_account("default", "x");
    assert_eq!(eve.refused(as_caller(account)).await.code(), 403);
    let nobody = api.acting(user("nobody"));
    assert_eq!(nobody.refused(as_caller(user("bob"))).await.code(), 403);
}

#[tokio::test(start_paused = true)]
async fn nobody_gives_away_what_they_do_not_have() {
    let api = server().await;
    let group = "rbac.authorization.k8s.io";
    let rules = doc!([
        {"apiGroups": [group], "resources": ["*"], "verbs": ["create", "update", "get"]},
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}
    ]);
    grant(&api, "eve", rules).await;
    let eve = api.acting(user("eve"));
    let role = |name: &str, verb: &str| doc!({"metadata": {"name": name}, "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": [verb]}]});
    eve.create("clusterroles", "", role("fine", "get")).await.unwrap();
    let create = |path: &str, body: Doc| ApiRequest {
        verb: Verb::Create,
        target: target(path, ""),
        body: RequestBody::Doc(body),
        ..ApiRequest::default()
    };
    assert_eq!(eve.refused(create("clusterroles", role("more", "delete"))).await.code(), 403);
    let bind = |role: &str| {
        doc!({
            "metadata": {"name": format!("to-{role}")},
            "roleRef": {"apiGroup": group, "kind": "ClusterRole", "name": role},
            "subjects": [{"kind": "User", "name": "eve", "apiGroup": group}]
        })
    };
    eve.create("clusterrolebindings", "", bind("fine")).await.unwrap();
    assert_eq!(eve.refused(create("clusterrolebindings", bind("cluster-admin"))).await.code(), 403);
    let escalate = doc!([{"apiGroups": [group], "resources": ["clusterroles"], "verbs": ["escalate", "bind", "create"]},
        {"apiGroups": [group], "resources": ["clusterrolebindings"], "verbs": ["create"]}]);
    grant(&api, "adam", escalate).await;
    let adam = api.acting(user("adam"));
    adam.create("clusterroles", "", role("more", "delete")).await.unwrap();
    adam.create("clusterrolebindings", "", bind("cluster-admin")).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn reviews_say_what_would_be_decided() {
    let api = server().await;
    grant(&api, "eve", doc!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}])).await;
    let ask = |verb: &str| doc!({"resourceAttributes": {"namespace": "default", "verb": verb, "resource": "pods"}});
    let eve = api.acting(user("eve"));
    for (verb, allowed) in [("get", true), ("delete", false)] {
        let review = doc!({"spec": ask(verb)});
        let own = eve.create("selfsubjectaccessreviews", "", review).await.unwrap();
        assert_eq!(own.at(&["status", "allowed"]).and_then(Doc::as_bool), Some(allowed), "{own}");
        let mut spec = ask(verb);
        spec.set_at(&["user"], "eve".into());
        let theirs = api.create("subjectaccessreviews", "", doc!({"spec": spec.clone()})).await.unwrap();
        assert_eq!(theirs.at(&["status", "allowed"]).and_then(Doc::as_bool), Some(allowed), "{theirs}");
        let local = api.create("localsubjectaccessreviews", "default", doc!({"spec": spec})).await.unwrap();
        assert_eq!(local.at(&["status", "allowed"]).and_then(Doc::as_bool), Some(allowed), "{local}");
    }
    let rules = eve.create("selfsubjectrulesreviews", "", doc!({"spec": {"namespace": "default"}})).await.unwrap();
    let resources = rules.at(&["status", "resourceRules"]).unwrap();
    assert!(resources.items().iter().any(|rule| rule.str_at(&["resources", "0"]) == "pods"), "{rules}");
    let empty = api.create("subjectaccessreviews", "", doc!({"spec": {"user": "x"}})).await.unwrap_err();
    assert_eq!(empty.code(), 422);
}

#[tokio::test(start_paused = true)]
async fn tokens_are_issued_bound_and_reviewed() {
    let key = SigningKey::generate().unwrap();
    let tokens = Arc::new(ServiceAccountTokens::new(paused(), &key, "https://issuer").unwrap());
    let api = built(|builder| builder.tokens(tokens)).await;
    let mut pod = super::crud::example("pods");
    pod.set_at(&["metadata", "name"], "p".into());
    let pod = api.create("pods", "default", pod).await.unwrap();
    let bound =
        |uid: &str| doc!({"spec": {"boundObjectRef": {"kind": "Pod", "apiVersion": "v1", "name": "p", "uid": uid}}});
    let request = bound(pod.str_at(&["metadata", "uid"]));
    let issued = api.create("serviceaccounts/default/token", "default", request).await.unwrap();
    let token = issued.str_at(&["status", "token"]).to_owned();
    assert!(!issued.str_at(&["status", "expirationTimestamp"]).is_empty());
    let review = || doc!({"spec": {"token": token.as_str()}});
    let known = api.create("tokenreviews", "", review()).await.unwrap();
    assert_eq!(known.str_at(&["status", "user", "username"]), "system:serviceaccount:default:default", "{known}");
    assert_eq!(api.create("serviceaccounts/default/token", "default", bound("x")).await.unwrap_err().code(), 409);
    let short = doc!({"spec": {"expirationSeconds": 60}});
    assert_eq!(api.create("serviceaccounts/default/token", "default", short).await.unwrap_err().code(), 422);
    assert_eq!(api.create("serviceaccounts/other/token", "default", doc!({"spec": {}})).await.unwrap_err().code(), 404);
    api.delete("pods/p", "default", Options::default()).await.unwrap();
    let gone = api.create("tokenreviews", "", review()).await.unwrap();
    assert_ne!(gone.at(&["status", "authenticated"]).and_then(Doc::as_bool), Some(true), "the pod is gone");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_a_kubelet_asks_for_lives_longer_than_it_says() {
    let key = SigningKey::generate().unwrap();
    let env = paused();
    let tokens = ServiceAccountTokens::new(env.clone(), &key, "https://issuer").unwrap();
    let lifetimes = Lifetimes { max_seconds: Some(7200), extend: true };
    let tokens = Arc::new(tokens.lifetimes(lifetimes));
    let api = built(|builder| builder.tokens(tokens)).await;
    let mut pod = super::crud::example("pods");
    pod.set_at(&["metadata", "name"], "p".into());
    api.create("pods", "default", pod).await.unwrap();
    let ask = async |seconds: u32, bound: bool, audience: &str| {
        let mut request = doc!({"spec": {"expirationSeconds": seconds, "audiences": [audience]}});
        if bound {
            request.set_at(&["spec", "boundObjectRef"], doc!({"kind": "Pod", "apiVersion": "v1", "name": "p"}));
        }
        let issued = api.create("serviceaccounts/default/token", "default", request).await.unwrap();
        let token = issued.str_at(&["status", "token"]);
        let claims: serde_json::Value =
            serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap();
        let said: k8s_core::env::Timestamp = issued.str_at(&["status", "expirationTimestamp"]).parse().unwrap();
        let life = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
        (life, said.as_second() - claims["iat"].as_i64().unwrap())
    };
    assert_eq!(ask(3607, true, "https://issuer").await, (365 * 24 * 3600, 3607));
    assert_eq!(ask(3607, true, "vault").await, (3607, 3607), "for somebody else");
    assert_eq!(ask(3607, false, "https://issuer").await, (3607, 3607), "bound to no pod");
    assert_eq!(ask(3600, true, "https://issuer").await, (3600, 3600));
    assert_eq!(ask(90000, true, "https://issuer").await, (7200, 7200), "no longer than the operator allows");
}

#[tokio::test(start_paused = true)]
async fn pods_get_identity_priority_and_tolerations() {
    let api = server().await;
    let mut pod = super::crud::example("pods");
    pod.set_at(&["metadata", "name"], "p".into());
    pod.set_at(&["spec", "priorityClassName"], "system-node-critical".into());
    let pod = api.create("pods", "default", pod).await.unwrap();
    assert_eq!(pod.str_at(&["spec", "serviceAccountName"]), "default");
    assert_eq!(pod.at(&["spec", "priority"]).and_then(Doc::as_i64), Some(2_000_001_000));
    let tolerations = pod.at(&["spec", "tolerations"]).unwrap().items();
    let keys: Vec<&str> = tolerations.iter().map(|toleration| toleration.str_at(&["key"])).collect();
    assert_eq!(keys, ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"]);
    let volume = pod.at(&["spec", "volumes", "0"]).unwrap();
    let name = volume.str_at(&["name"]);
    assert!(name.starts_with("kube-api-access-") && name.len() == 21, "{name}");
    assert_eq!(volume.at(&["projected", "sources"]).map(|sources| sources.items().len()), Some(3));
    let mount = pod.at(&["spec", "containers", "0", "volumeMounts", "0"]).unwrap();
    assert_eq!(
        (mount.str_at(&["name"]), mount.str_at(&["mountPath"])),
        (name, "/var/run/secrets/kubernetes.io/serviceaccount")
    );
    let refused = |field: &'static str, value: &'static str| {
        let mut pod = super::crud::example("pods");
        pod.set_at(&["metadata", "name"], "q".into());
        pod.set_at(&["spec", field], value.into());
        ApiRequest {
            verb: Verb::Create,
            target: target("pods", "default"),
            body: RequestBody::Doc(pod),
            ..ApiRequest::default()
        }
    };
    for (field, value) in [("serviceAccountName", "nobody"), ("priorityClassName", "nothing")] {
        assert_eq!(api.refused(refused(field, value)).await.code(), 403, "{field}");
    }
}
