//! Admission as the server runs it: quotas under many writers, pod security, classes, verdicts about certificates.

use futures::future::join_all;
use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiRequest, Caller, PatchKind, RequestBody, Verb},
};

use super::{
    fixture::{Fixture, built, server, target},
    samples::sample,
};

fn named(plural: &str, name: &str) -> Doc {
    let mut body = sample("v1", plural);
    body.set_at(&["metadata", "name"], name.into());
    body
}

/// What the quota controller does first.
async fn quota(api: &Fixture, hard: Doc, scopes: Doc) {
    let body = doc!({"metadata": {"name": "q"}, "spec": {"hard": hard.clone(), "scopes": scopes}});
    let mut made = api.create("resourcequotas", "default", body).await.unwrap();
    let mut used = Doc::object();
    for (name, _) in hard.as_object().unwrap().iter() {
        used.set_at(&[name], "0".into());
    }
    made.set_at(&["status"], doc!({"hard": hard, "used": used}));
    api.update("resourcequotas/q/status", "default", made).await.unwrap();
}

async fn used(api: &Fixture, name: &str) -> String {
    let quota = api.get("resourcequotas/q", "default").await.unwrap();
    quota.str_at(&["status", "used", name]).to_owned()
}

#[tokio::test(start_paused = true)]
async fn no_more_is_used_than_is_hard_however_many_write_at_once() {
    let api = server().await;
    quota(&api, doc!({"count/secrets": "5", "secrets": "5"}), doc!([])).await;
    let writes = (0..12).map(|place| {
        let api = api.clone();
        async move { api.create("secrets", "default", named("secrets", &format!("s{place}"))).await }
    });
    let answers = join_all(writes).await;
    let made = answers.iter().filter(|answer| answer.is_ok()).count();
    assert_eq!((made, used(&api, "secrets").await.as_str()), (5, "5"));
    let refused = answers.into_iter().find_map(Result::err).unwrap();
    let expected = "exceeded quota: q, requested: count/secrets=1,secrets=1, used: count/secrets=5,secrets=5, limited: \
                    count/secrets=5,secrets=5";
    assert!(refused.code() == 403 && refused.to_string().ends_with(expected), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_or_only_tried_is_not_charged() {
    let api = server().await;
    quota(&api, doc!({"configmaps": "5", "pods": "5", "requests.cpu": "1"}), doc!([])).await;
    api.create("configmaps", "default", named("configmaps", "UPPER")).await.unwrap_err();
    let dry = k8s_core::request::Options { dry_run: true, ..Default::default() };
    let body = RequestBody::Doc(named("configmaps", "dry"));
    api.call(Verb::Create, "configmaps", "default", dry, body).await.unwrap();
    assert_eq!(used(&api, "configmaps").await, "0");
    let silent = api.create("pods", "default", named("pods", "silent")).await.unwrap_err();
    assert!(silent.to_string().ends_with("failed quota: q: must specify requests.cpu for: c"), "{silent}");
    let mut greedy = named("pods", "greedy");
    greedy.set_at(&["spec", "containers", "0", "resources"], doc!({"requests": {"cpu": "2"}}));
    assert_eq!(api.create("pods", "default", greedy.clone()).await.unwrap_err().code(), 403);
    greedy.set_at(&["spec", "containers", "0", "resources"], doc!({"requests": {"cpu": "300m"}}));
    api.create("pods", "default", greedy).await.unwrap();
    assert_eq!((used(&api, "pods").await.as_str(), used(&api, "requests.cpu").await.as_str()), ("1", "300m"));
}

#[tokio::test(start_paused = true)]
async fn a_scoped_quota_counts_its_pods_only() {
    let api = server().await;
    quota(&api, doc!({"pods": "1"}), doc!(["Terminating"])).await;
    api.create("pods", "default", named("pods", "a")).await.unwrap();
    assert_eq!(used(&api, "pods").await, "0");
    let mut timed = named("pods", "b");
    timed.set_at(&["spec", "activeDeadlineSeconds"], 5.into());
    api.create("pods", "default", timed.clone()).await.unwrap();
    timed.set_at(&["metadata", "name"], "c".into());
    assert_eq!(api.create("pods", "default", timed).await.unwrap_err().code(), 403);
}

#[tokio::test(start_paused = true)]
async fn a_namespace_asks_how_much_pods_may_do() {
    let api = server().await;
    let label = |value: &str| doc!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": value}}});
    let mut privileged = named("pods", "p");
    privileged.set_at(&["spec", "hostNetwork"], true.into());
    api.create("pods", "default", privileged.clone()).await.unwrap();
    assert_eq!(api.patch("namespaces/default", "", PatchKind::Merge, label("strict")).await.unwrap_err().code(), 422);
    let patch = RequestBody::Patch(PatchKind::Merge, label("baseline"));
    let target = target("namespaces/default", "");
    let answer = api.ask(ApiRequest { verb: Verb::Patch, target, body: patch, ..ApiRequest::default() }).await.unwrap();
    let expected = [
        "existing pods in namespace \"default\" violate the new PodSecurity enforce level \"baseline:latest\"",
        "p: host namespaces",
    ];
    assert_eq!(answer.warnings, expected);
    privileged.set_at(&["metadata", "name"], "q".into());
    let refused = api.create("pods", "default", privileged.clone()).await.unwrap_err();
    let expected = "violates PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    assert!(refused.code() == 403 && refused.to_string().ends_with(expected), "{refused}");
    let warn = doc!({"metadata": {"labels": {"pod-security.kubernetes.io/warn": "baseline"}}});
    api.patch("namespaces/default", "", PatchKind::Merge, warn).await.unwrap();
    let mut template = named("deployments", "d");
    template.set_at(&["spec", "template", "spec", "hostNetwork"], true.into());
    let body = RequestBody::Doc(template);
    let request = ApiRequest {
        verb: Verb::Create,
        target: super::fixture::target("deployments", "default"),
        body,
        ..ApiRequest::default()
    };
    let answer = api.ask(request).await.unwrap();
    let expected = "would violate PodSecurity \"baseline:latest\": host namespaces (hostNetwork=true)";
    assert_eq!(answer.warnings, [expected]);
}

#[tokio::test(start_paused = true)]
async fn classes_that_are_the_default_are_given() {
    let api = server().await;
    for (name, mark) in [("slow", "false"), ("fast", "true")] {
        let mut class = named("storageclasses", name);
        class.set_at(&["metadata", "annotations", "storageclass.kubernetes.io/is-default-class"], mark.into());
        api.create("storageclasses", "", class).await.unwrap();
    }
    let claim = api.create("persistentvolumeclaims", "default", named("persistentvolumeclaims", "c")).await.unwrap();
    assert_eq!(claim.str_at(&["spec", "storageClassName"]), "fast");
    assert_eq!(claim.at(&["metadata", "finalizers"]).unwrap().to_string(), r#"["kubernetes.io/pvc-protection"]"#);
    let mut class = named("ingressclasses", "web");
    class.set_at(&["metadata", "annotations", "ingressclass.kubernetes.io/is-default-class"], "true".into());
    api.create("ingressclasses", "", class).await.unwrap();
    let ingress = api.create("ingresses", "default", named("ingresses", "i")).await.unwrap();
    assert_eq!(ingress.str_at(&["spec", "ingressClassName"]), "web");
}

#[tokio::test(start_paused = true)]
async fn a_runtime_class_says_what_it_costs_and_where_it_runs() {
    let api = server().await;
    let class = doc!({
        "metadata": {"name": "vm"}, "handler": "kata", "overhead": {"podFixed": {"memory": "100Mi"}},
        "scheduling": {"nodeSelector": {"vm": "yes"}, "tolerations": [{"key": "vm", "operator": "Exists"}]}
    });
    api.create("runtimeclasses", "", class).await.unwrap();
    let mut pod = named("pods", "p");
    pod.set_at(&["spec", "runtimeClassName"], "vm".into());
    let made = api.create("pods", "default", pod.clone()).await.unwrap();
    assert_eq!(made.str_at(&["spec", "overhead", "memory"]), "100Mi");
    assert_eq!(made.str_at(&["spec", "nodeSelector", "vm"]), "yes");
    let tolerations = made.at(&["spec", "tolerations"]).unwrap().items();
    assert!(tolerations.iter().any(|toleration| toleration.str_at(&["key"]) == "vm"));
    pod.set_at(&["metadata", "name"], "q".into());
    pod.set_at(&["spec", "nodeSelector"], doc!({"vm": "no"}));
    let refused = api.create("pods", "default", pod).await.unwrap_err();
    assert!(refused.code() == 403 && refused.to_string().contains("conflict"), "{refused}");
}

#[tokio::test(start_paused = true)]
async fn who_may_not_decide_for_a_signer_does_not() {
    let api = server().await;
    api.create("certificatesigningrequests", "", named("certificatesigningrequests", "r")).await.unwrap();
    let rules = doc!([{"apiGroups": ["certificates.k8s.io"], "verbs": ["*"], "resources": [
        "certificatesigningrequests", "certificatesigningrequests/approval"]}]);
    api.create("clusterroles", "", doc!({"metadata": {"name": "csr"}, "rules": rules})).await.unwrap();
    let binding = doc!({
        "metadata": {"name": "csr"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "csr"},
        "subjects": [{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}]
    });
    api.create("clusterrolebindings", "", binding).await.unwrap();
    let eve = api.acting(Caller::new("eve", &[]));
    let verdict =
        doc!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]}});
    let one = "certificatesigningrequests/r/approval";
    let refused = eve.patch(one, "", PatchKind::Merge, verdict.clone()).await.unwrap_err();
    let expected = "user not permitted to approve requests with signerName \"example.com/signer\"";
    assert!(refused.code() == 403 && refused.to_string().ends_with(expected), "{refused}");
    api.patch(one, "", PatchKind::Merge, verdict).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn what_nobody_acts_on_is_told() {
    let api = built(|builder| builder.nobody_acts_on("jobs.batch")).await;
    let create = |plural: &str| {
        let body = RequestBody::Doc(named(plural, "x"));
        ApiRequest { verb: Verb::Create, target: target(plural, "default"), body, ..ApiRequest::default() }
    };
    let told = api.ask(create("jobs")).await.unwrap().warnings;
    assert_eq!(told, ["jobs.batch are stored, but no controller of this cluster acts on them yet"]);
    assert!(api.ask(create("cronjobs")).await.unwrap().warnings.is_empty());
}

#[tokio::test(start_paused = true)]
async fn services_show_their_addresses_and_take_them_from_more_ranges() {
    let api = server().await;
    let ready = api.get("servicecidrs/kubernetes", "").await.unwrap();
    assert_eq!(ready.str_at(&["status", "conditions", "0", "status"]), "True");
    let made = api.create("services", "default", named("services", "s")).await.unwrap();
    let address = made.str_at(&["spec", "clusterIP"]).to_owned();
    let shown = api.get(&format!("ipaddresses/{address}"), "").await.unwrap();
    assert_eq!(shown.str_at(&["spec", "parentRef", "name"]), "s");
    api.delete("services/s", "default", Default::default()).await.unwrap();
    assert_eq!(api.get(&format!("ipaddresses/{address}"), "").await.unwrap_err().code(), 404);
    let mut outside = named("services", "t");
    outside.set_at(&["spec", "clusterIP"], "10.200.0.7".into());
    assert_eq!(api.create("services", "default", outside.clone()).await.unwrap_err().code(), 422);
    api.create("servicecidrs", "", named("servicecidrs", "more")).await.unwrap();
    api.api.cache().wait_for(api.store.head().await.unwrap().0).await.unwrap();
    api.create("services", "default", outside).await.unwrap();
    let mut taken = named("ipaddresses", "10.200.0.8");
    taken.set_at(&["metadata", "name"], "10.200.0.8".into());
    api.create("ipaddresses", "", taken).await.unwrap();
    let mut third = named("services", "u");
    third.set_at(&["spec", "clusterIP"], "10.200.0.8".into());
    assert_eq!(api.create("services", "default", third).await.unwrap_err().code(), 422, "somebody has it");
}

#[tokio::test(start_paused = true)]
async fn an_autoscaler_is_the_same_in_both_versions() {
    use k8s_core::request::{ResourceType, Target};
    let api = server().await;
    let v1 =
        |name: &str| Target::one(ResourceType::new("autoscaling", "v1", "horizontalpodautoscalers"), "default", name);
    let mut body = named("horizontalpodautoscalers", "h");
    body.set_at(&["spec", "targetCPUUtilizationPercentage"], 60.into());
    let create =
        ApiRequest { verb: Verb::Create, target: v1(""), body: RequestBody::Doc(body), ..ApiRequest::default() };
    let made = api.ask(create).await.unwrap().into_doc().unwrap();
    assert_eq!(made.str_at(&["apiVersion"]), "autoscaling/v1");
    let newer = api.get("horizontalpodautoscalers/h", "default").await.unwrap();
    assert_eq!(newer.str_at(&["apiVersion"]), "autoscaling/v2");
    let target = ["spec", "metrics", "0", "resource", "target", "averageUtilization"];
    assert_eq!(newer.at(&target).and_then(Doc::as_i64), Some(60), "{newer}");
    let metrics = doc!([{"type": "Pods", "pods": {
        "metric": {"name": "m"}, "target": {"type": "AverageValue", "averageValue": "5"}}}]);
    api.patch("horizontalpodautoscalers/h", "default", PatchKind::Merge, doc!({"spec": {"metrics": metrics}}))
        .await
        .unwrap();
    let get = ApiRequest { verb: Verb::Get, target: v1("h"), ..ApiRequest::default() };
    let older = api.ask(get).await.unwrap().into_doc().unwrap();
    assert!(older.at(&["spec", "targetCPUUtilizationPercentage"]).is_none());
    let said = older.str_at(&["metadata", "annotations", "autoscaling.alpha.kubernetes.io/metrics"]);
    assert!(said.contains("targetAverageValue"), "{said}");
}
