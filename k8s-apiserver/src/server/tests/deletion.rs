//! Deleting: finalizers, grace, dependents, collections, namespaces.

use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiRequest, Options, PatchKind, Propagation, RequestBody, ResponseBody, Verb},
};

use super::{
    crud::example,
    fixture::{Fixture, names, next, revision, server, target},
};

fn now() -> Options {
    Options { grace_period_seconds: Some(0), ..Options::default() }
}

/// A pod that a node has.
async fn bound_pod(api: &Fixture, name: &str) -> Doc {
    let mut pod = example("pods");
    pod.set_at(&["metadata", "name"], name.into());
    pod.set_at(&["metadata", "labels"], doc!({"app": name}));
    api.create("pods", "default", pod).await.unwrap();
    let binding = doc!({"metadata": {"name": name}, "target": {"kind": "Node", "name": "n1"}});
    let options = Options::default();
    let path = format!("pods/{name}/binding");
    api.call(Verb::Create, &path, "default", options, RequestBody::Doc(binding)).await.unwrap();
    api.get(&format!("pods/{name}"), "default").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_pod_is_bound_once() {
    let api = server().await;
    let pod = bound_pod(&api, "p").await;
    assert_eq!(pod.str_at(&["spec", "nodeName"]), "n1");
    assert_eq!(pod.str_at(&["status", "conditions", "0", "type"]), "PodScheduled");
    let binding = || doc!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n2"}});
    for path in ["pods/p/binding", "bindings"] {
        let request = ApiRequest {
            verb: Verb::Create,
            target: target(path, "default"),
            body: RequestBody::Doc(binding()),
            ..ApiRequest::default()
        };
        let error = api.refused(request).await;
        assert_eq!(error.code(), 409, "{path}: {error}");
        assert!(error.to_string().contains("pod p is already assigned to node \"n1\""), "{error}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_pod_goes_gracefully_and_its_node_finishes_it() {
    let api = server().await;
    let pod = bound_pod(&api, "p").await;
    let mut watch = api
        .watch("pods", "default", Options { resource_version: Some(revision(&pod)), ..Options::default() })
        .await
        .unwrap();
    let marked = api.delete("pods/p", "default", Options::default()).await.unwrap().into_doc().unwrap();
    assert_eq!(marked.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Doc::as_i64), Some(30));
    assert!(!marked.str_at(&["metadata", "deletionTimestamp"]).is_empty());
    let again = api.delete("pods/p", "default", Options::default()).await.unwrap().into_doc().unwrap();
    assert_eq!(revision(&again), revision(&marked), "a second request changes nothing");
    let five = Options { grace_period_seconds: Some(5), ..Options::default() };
    let sooner = api.delete("pods/p", "default", five).await.unwrap().into_doc().unwrap();
    assert_eq!(sooner.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Doc::as_i64), Some(5));
    assert!(sooner.str_at(&["metadata", "deletionTimestamp"]) < marked.str_at(&["metadata", "deletionTimestamp"]));
    let wrong = Options { precondition_uid: Some("x".into()), ..now() };
    assert_eq!(api.delete("pods/p", "default", wrong).await.unwrap_err().code(), 409);
    api.delete("pods/p", "default", now()).await.unwrap();
    assert!(api.get("pods/p", "default").await.unwrap_err().is_not_found());
    for expected in ["MODIFIED p", "MODIFIED p", "DELETED p"] {
        assert_eq!(next(&mut watch).await, expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_no_node_has_goes_at_once() {
    let api = server().await;
    let mut pod = example("pods");
    pod.set_at(&["metadata", "name"], "p".into());
    api.create("pods", "default", pod).await.unwrap();
    api.delete("pods/p", "default", Options::default()).await.unwrap();
    assert!(api.get("pods/p", "default").await.unwrap_err().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn finalizers_hold_an_object_until_the_last_one_goes() {
    let api = server().await;
    let body = doc!({"metadata": {"name": "a", "finalizers": ["example.com/hold"]}});
    let created = api.create("configmaps", "default", body).await.unwrap();
    let marked = api.delete("configmaps/a", "default", Options::default()).await.unwrap().into_doc().unwrap();
    assert!(!marked.str_at(&["metadata", "deletionTimestamp"]).is_empty());
    let more = doc!({"metadata": {"finalizers": ["example.com/hold", "example.com/more"]}});
    let error = api.patch("configmaps/a", "default", PatchKind::Merge, more).await.unwrap_err();
    assert_eq!(error.code(), 422, "{error}");
    let mut watch = api
        .watch("configmaps", "default", Options { resource_version: Some(revision(&created)), ..Options::default() })
        .await
        .unwrap();
    let none = doc!({"metadata": {"finalizers": null}});
    api.patch("configmaps/a", "default", PatchKind::Merge, none).await.unwrap();
    assert!(api.get("configmaps/a", "default").await.unwrap_err().is_not_found());
    assert_eq!(next(&mut watch).await, "MODIFIED a");
    assert_eq!(next(&mut watch).await, "DELETED a");
}

#[tokio::test(start_paused = true)]
async fn what_becomes_of_dependents_is_said_by_finalizers() {
    let api = server().await;
    for (propagation, finalizer) in [(Propagation::Foreground, "foregroundDeletion"), (Propagation::Orphan, "orphan")] {
        let mut body = example("replicasets");
        body.set_at(&["metadata", "name"], finalizer.to_lowercase().into());
        api.create("replicasets", "default", body).await.unwrap();
        let path = format!("replicasets/{}", finalizer.to_lowercase());
        let options = Options { propagation: Some(propagation), ..Options::default() };
        let marked = api.delete(&path, "default", options).await.unwrap().into_doc().unwrap();
        assert_eq!(marked.str_at(&["metadata", "finalizers", "0"]), finalizer);
        let background = Options { propagation: Some(Propagation::Background), ..Options::default() };
        api.delete(&path, "default", background).await.unwrap();
        assert!(api.get(&path, "default").await.unwrap_err().is_not_found());
    }
}

#[tokio::test(start_paused = true)]
async fn a_collection_is_deleted_by_selector() {
    let api = server().await;
    for name in ["a", "b", "c"] {
        let body = doc!({"metadata": {"name": name, "labels": {"keep": if name == "c" { "yes" } else { "no" }}}});
        api.create("configmaps", "default", body).await.unwrap();
    }
    let options = Options { label_selector: "keep=no".parse().unwrap(), ..Options::default() };
    api.call(Verb::DeleteCollection, "configmaps", "default", options, RequestBody::None).await.unwrap();
    assert_eq!(names(&api.list("configmaps", "default", Options::default()).await.unwrap()), ["c"]);
}

#[tokio::test(start_paused = true)]
async fn an_eviction_deletes_as_it_says() {
    let api = server().await;
    let pod = bound_pod(&api, "p").await;
    let evict = async |version: &str, uid: &str| {
        let body = doc!({
            "apiVersion": version, "kind": "Eviction", "metadata": {"name": "p"},
            "deleteOptions": {"preconditions": {"uid": uid}, "gracePeriodSeconds": 7}
        });
        api.call(Verb::Create, "pods/p/eviction", "default", Options::default(), RequestBody::Doc(body)).await
    };
    for (version, code) in [("policy/v1", 409), ("policy/v1beta1", 409), ("policy/v2", 400)] {
        assert_eq!(evict(version, "x").await.unwrap_err().code(), code, "{version}");
    }
    let answer = evict("policy/v1beta1", pod.str_at(&["metadata", "uid"])).await.unwrap();
    assert_eq!(answer.code, 201);
    let marked = api.get("pods/p", "default").await.unwrap();
    assert_eq!(marked.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Doc::as_i64), Some(7));
}

#[tokio::test(start_paused = true)]
async fn an_eviction_asks_the_budget_of_the_pod() {
    let api = server().await;
    bound_pod(&api, "p").await;
    let condition = async |status: &str| {
        let ready = doc!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": status}]}});
        api.patch("pods/p/status", "default", PatchKind::Merge, ready).await.unwrap();
    };
    let counted = async |allowed: i64| {
        let status = doc!({"observedGeneration": 1, "disruptionsAllowed": allowed, "desiredHealthy": 1,
            "currentHealthy": 1, "expectedPods": 1});
        let patch = doc!({"status": status});
        api.patch("poddisruptionbudgets/a/status", "default", PatchKind::Merge, patch).await.unwrap();
    };
    let evict = async |dry_run: bool| {
        let options = Options { dry_run, ..Options::default() };
        let body = RequestBody::Doc(doc!({"metadata": {"name": "p"}}));
        let answer = api.call(Verb::Create, "pods/p/eviction", "default", options, body).await;
        answer.map_or_else(|error| error.code(), |answer| answer.code)
    };
    let budget = |name: &str| doc!({"metadata": {"name": name}, "spec": {"minAvailable": 1, "selector": {}}});
    condition("True").await;
    api.create("poddisruptionbudgets", "default", budget("a")).await.unwrap();
    assert_eq!(evict(false).await, 429, "nobody counted yet");
    counted(0).await;
    assert_eq!(evict(false).await, 429);
    counted(1).await;
    assert_eq!(evict(true).await, 201);
    let left = api.get("poddisruptionbudgets/a", "default").await.unwrap();
    assert_eq!(left.at(&["status", "disruptionsAllowed"]).and_then(Doc::as_i64), Some(1), "a dry run spends nothing");
    api.create("poddisruptionbudgets", "default", budget("b")).await.unwrap();
    assert_eq!(evict(false).await, 500, "two budgets contradict each other");
    api.delete("poddisruptionbudgets/b", "default", Options::default()).await.unwrap();
    counted(0).await;
    condition("False").await;
    assert!(api.get("pods/p", "default").await.unwrap().at(&["metadata", "deletionTimestamp"]).is_none());
    assert_eq!(evict(false).await, 201, "a pod that serves nobody is not missed");
    let gone = api.get("pods/p", "default").await.unwrap();
    assert!(gone.at(&["metadata", "deletionTimestamp"]).is_some());
    let conditions = gone.at(&["status", "conditions"]).map_or(&[][..], Doc::items);
    assert!(conditions.iter().any(|c| c.str_at(&["reason"]) == "EvictionByEvictionAPI"), "{gone}");
}

#[tokio::test(start_paused = true)]
async fn a_namespace_ends_when_its_finalizer_is_taken_away() {
    let api = server().await;
    api.create("namespaces", "", doc!({"metadata": {"name": "n"}})).await.unwrap();
    api.create("configmaps", "n", doc!({"metadata": {"name": "a"}})).await.unwrap();
    let marked = api.delete("namespaces/n", "", Options::default()).await.unwrap().into_doc().unwrap();
    assert_eq!(marked.str_at(&["status", "phase"]), "Terminating");
    let create = ApiRequest {
        verb: Verb::Create,
        target: target("configmaps", "n"),
        body: RequestBody::Doc(doc!({"metadata": {"name": "b"}})),
        ..ApiRequest::default()
    };
    let error = api.refused(create).await;
    assert_eq!(error.code(), 403, "{error}");
    let causes = &error.status().details.as_ref().unwrap().causes;
    assert_eq!(causes[0].reason, "NamespaceTerminating");
    api.delete("configmaps/a", "n", Options::default()).await.unwrap();
    let mut last = api.get("namespaces/n", "").await.unwrap();
    last.set_at(&["spec", "finalizers"], Doc::Array(Vec::new()));
    api.update("namespaces/n/finalize", "", last).await.unwrap();
    assert!(api.get("namespaces/n", "").await.unwrap_err().is_not_found());
    let missing = api.create("configmaps", "n", doc!({"metadata": {"name": "b"}})).await.unwrap_err();
    assert_eq!(missing.code(), 404, "{missing}");
    for immortal in ["default", "kube-system", "kube-public"] {
        let error = api.delete(&format!("namespaces/{immortal}"), "", Options::default()).await.unwrap_err();
        assert_eq!(error.code(), 403, "{immortal}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_went_is_told_with_its_uid() {
    let api = server().await;
    let created = api.create("configmaps", "default", doc!({"metadata": {"name": "a"}})).await.unwrap();
    let answer = api.delete("configmaps/a", "default", Options::default()).await.unwrap();
    let ResponseBody::Status(status) = answer.body else { panic!("no status: {answer:?}") };
    let details = status.details.unwrap();
    assert_eq!((details.kind.as_str(), details.uid.as_str()), ("configmaps", created.str_at(&["metadata", "uid"])));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_left_behind_by_creates_that_meet_the_end_of_a_namespace() {
    let api = server().await;
    api.create("namespaces", "", doc!({"metadata": {"name": "n"}})).await.unwrap();
    let creates = (0..20).map(|n| {
        let api = api.clone();
        async move {
            if n == 10 {
                api.delete("namespaces/n", "", Options::default()).await.unwrap();
                return 200;
            }
            let body = doc!({"metadata": {"name": format!("c{n}")}});
            api.create("configmaps", "n", body).await.map_or_else(|error| error.code(), |_| 201)
        }
    });
    let codes = futures::future::join_all(creates).await;
    assert!(codes.contains(&201) || codes.contains(&403), "{codes:?}");
    let deleted = api.get("namespaces/n", "").await.unwrap();
    for object in api.list("configmaps", "n", Options::default()).await.unwrap().items {
        assert!(object.revision() < revision(&deleted), "{object:?} was created after the end had begun");
    }
    let late = api.create("configmaps", "n", doc!({"metadata": {"name": "late"}})).await.unwrap_err();
    assert_eq!(late.code(), 403, "{late}");
}
