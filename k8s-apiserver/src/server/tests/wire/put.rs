//! Names and kinds that a server makes up its own mind about: PUT of what is not there, and generated names.

use std::{sync::Arc, time::Duration};

use k8s_core::{
    doc,
    env::{BoxFuture, Env, Environment, Task, Timestamp},
};
use k8s_store::Memory;

use super::{super::clock::paused, super::fixture::over, *};

const LEASE: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases/l";

#[tokio::test(start_paused = true)]
async fn what_may_be_created_by_put_is_created() {
    let wire = Wire::new().await;
    let dry = wire.send("PUT", &format!("{LEASE}?dryRun=All"), JSON, r#"{"metadata":{"name":"l"}}"#).await;
    assert_eq!(dry.code, 201, "{}", dry.text());
    let held = r#"{"metadata":{"name":"l","resourceVersion":"77"},"spec":{"holderIdentity":"me"}}"#;
    let made = wire.send("PUT", &format!("{LEASE}?fieldManager=m"), JSON, held).await;
    assert_eq!(made.code, 201, "{}", made.text());
    let manager = made.json();
    assert_eq!(manager.at(&["metadata", "managedFields"]).unwrap().items()[0].str_at(&["manager"]), "m");
    assert_eq!(wire.send("PUT", LEASE, JSON, manager.to_json()).await.code, 200);
    wire.send("PUT", &format!("{MAPS}/none"), JSON, r#"{"metadata":{"name":"none"}}"#).await.failed(404);
    let mine = r#"{"metadata":{"name":"k","uid":"gone"}}"#;
    let late = wire.send("PUT", &LEASE.replace("leases/l", "leases/k"), JSON, mine).await;
    assert!(late.failed(409).contains("Precondition failed: UID in precondition: gone"));
    let service = r#"{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}"#;
    let made = wire.send("PUT", "/api/v1/namespaces/default/services/s", JSON, service).await;
    assert_eq!(made.code, 201, "{}", made.text());
    assert!(made.json().str_at(&["spec", "clusterIP"]).starts_with("10."), "addresses are given as by POST");
}

#[tokio::test(start_paused = true)]
async fn the_right_to_update_is_not_the_right_to_create() {
    let wire = Wire::new().await;
    let rules = doc!([{"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["update"]}]);
    wire.api.create("clusterroles", "", doc!({"metadata": {"name": "r"}, "rules": rules})).await.unwrap();
    let role = doc!({"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "r"});
    let subjects = doc!([{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": "updater"}]);
    let binding = doc!({"metadata": {"name": "b"}, "roleRef": role, "subjects": subjects});
    wire.api.create("clusterrolebindings", "", binding).await.unwrap();
    let put = async |lease: Bytes| {
        let headers = [("authorization", "Bearer updater"), ("content-type", JSON)];
        wire.ask("PUT", LEASE, &headers, lease).await
    };
    let lease = Bytes::from_static(br#"{"metadata":{"name":"l"}}"#);
    assert!(put(lease.clone()).await.failed(403).contains("cannot create resource \"leases\""));
    let made = wire.send("PUT", LEASE, JSON, lease).await;
    assert_eq!((made.code, put(made.body).await.code), (201, 200));
}

/// Its random numbers are all the same.
struct Stuck(Env);

impl Environment for Stuck {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn monotonic(&self) -> Duration {
        self.0.monotonic()
    }

    fn sleep(&self, duration: Duration) -> BoxFuture<'static, ()> {
        self.0.sleep(duration)
    }

    fn random(&self) -> u64 {
        7
    }

    fn spawn(&self, name: &'static str, future: BoxFuture<'static, ()>) -> Task {
        self.0.spawn(name, future)
    }
}

#[tokio::test(start_paused = true)]
async fn names_that_are_taken_again_and_again_are_given_up() {
    let env: Env = Arc::new(Stuck(paused()));
    let wire = Wire::over(over(Arc::new(Memory::new(env.clone())), env, |builder| builder).await);
    let generate = async || wire.send("POST", MAPS, JSON, r#"{"metadata":{"generateName":"g-"}}"#).await;
    let first = generate().await;
    assert_eq!(first.code, 201);
    let name = first.json().str_at(&["metadata", "name"]).to_owned();
    assert!(name.starts_with("g-") && name.len() == 7, "{name}");
    let second = generate().await;
    let expected =
        format!("configmaps {name:?} already exists, the server was not able to generate a unique name for the object");
    assert_eq!(second.failed(409), expected);
    assert_eq!((second.json().str_at(&["reason"]), second.header("retry-after")), ("AlreadyExists", "1"));
}
