//! Webhooks as the conformance suite asks for them, with a real HTTPS server: the rows "Admission webhooks".

mod hook;

use k8s_core::request::{ApiRequest, Options, PatchKind, RequestBody, ResourceType, Target};

use self::hook::{Scene, config, pod, scene, scene_with};
use super::*;
use crate::{auth::Follower, server::tests::fixture::Fixture};

const CONFIGMAPS: &str = "/v1/configmaps";

async fn create(api: &Fixture, name: &str, data: Doc) -> Result<Doc, String> {
    api.create("configmaps", "default", config(name, data)).await.map_err(|error| format!("{} {error}", error.code()))
}

fn with(mut hook: Doc, field: &str, value: impl Into<Doc>) -> Doc {
    hook.set_at(&[field], value.into());
    hook
}

#[tokio::test]
async fn a_review_says_everything_about_a_request() {
    let scene = scene().await;
    scene.register("validating", "all", &[scene.hook("/allow", &["*"], "*/*/*")]).await;
    let created = create(&scene.api, "a", doc!({"k": "v"})).await.unwrap();
    let (path, asked) = scene.asked().pop().unwrap();
    assert_eq!(path, "/allow?timeout=10s");
    let kind = doc!({"group": "", "version": "v1", "kind": "ConfigMap"});
    let resource = doc!({"group": "", "version": "v1", "resource": "configmaps"});
    for (field, expected) in [
        ("kind", kind.clone()),
        ("requestKind", kind),
        ("resource", resource.clone()),
        ("requestResource", resource),
        ("name", "a".into()),
        ("namespace", "default".into()),
        ("operation", "CREATE".into()),
        ("userInfo", doc!({"username": "admin", "groups": ["system:masters", "system:authenticated"]})),
        ("oldObject", Doc::Null),
        ("dryRun", false.into()),
        ("options", doc!({"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"})),
    ] {
        assert_eq!(asked.get(field), Some(&expected), "{field}");
    }
    assert_eq!(asked.get("subResource"), None);
    assert_eq!(asked.str_at(&["object", "data", "k"]), "v");
    assert_eq!(asked.str_at(&["uid"]).len(), 36);

    let mut changed = created.clone();
    changed.set_at(&["data", "k"], "w".into());
    scene.api.update("configmaps/a", "default", changed).await.unwrap();
    let (_, asked) = scene.asked().pop().unwrap();
    assert_eq!((asked.str_at(&["operation"]), asked.str_at(&["options", "kind"])), ("UPDATE", "UpdateOptions"));
    assert_eq!((asked.str_at(&["object", "data", "k"]), asked.str_at(&["oldObject", "data", "k"])), ("w", "v"));

    let options = Options { dry_run: true, grace_period_seconds: Some(3), ..Options::default() };
    let answer = scene.api.delete("configmaps/a", "default", options).await.unwrap();
    assert_eq!(answer.warnings, ["be careful"]);
    let (_, asked) = scene.asked().pop().unwrap();
    assert_eq!((asked.str_at(&["operation"]), asked.get("object")), ("DELETE", Some(&Doc::Null)));
    assert_eq!(asked.str_at(&["oldObject", "data", "k"]), "w");
    let options =
        doc!({"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"], "gracePeriodSeconds": 3});
    assert_eq!((asked.get("options"), asked.get("dryRun")), (Some(&options), Some(&true.into())));
}

#[tokio::test]
async fn what_is_denied_is_not_written_whatever_the_way() {
    let scene = scene().await;
    let api = &scene.api;
    create(api, "good", doc!({"a": "b"})).await.unwrap();
    create(api, "bad", doc!({"bad": "yes"})).await.unwrap();
    let hook = scene.hook("/no-bad", &["CREATE", "UPDATE", "DELETE"], CONFIGMAPS);
    scene.register("validating", "no-bad", &[hook]).await;
    let denied = "400 admission webhook \"no-bad.hooks.example.com\" denied the request: it is bad";
    let error = create(api, "worse", doc!({"bad": "yes"})).await.unwrap_err();
    assert!(error.starts_with(denied), "{error}");
    let patch = doc!({"data": {"bad": "yes"}});
    let error = api.patch("configmaps/good", "default", PatchKind::Merge, patch).await.unwrap_err();
    assert_eq!((error.code(), error.status().status.as_str()), (400, "Failure"));
    let error = api.delete("configmaps/bad", "default", Options::default()).await.unwrap_err();
    assert_eq!(error.code(), 400);
    let collection = api.call(Verb::DeleteCollection, "configmaps", "default", Options::default(), RequestBody::None);
    assert_eq!(collection.await.unwrap_err().code(), 400);
    assert!(api.get("configmaps/bad", "default").await.is_ok());
    create(api, "fine", doc!({"a": "b"})).await.unwrap();
}

#[tokio::test]
async fn a_denial_carries_the_webhooks_own_status() {
    let scene = scene().await;
    scene.register("validating", "deny", &[scene.hook("/deny", &["CREATE"], "/v1/pods")]).await;
    let error = scene.api.create("pods", "default", pod("p")).await.unwrap_err();
    let status = error.status();
    assert_eq!(status.message, "admission webhook \"deny.hooks.example.com\" denied the request: denied by the test");
    assert_eq!((status.code, status.reason), (403, Some(k8s_core::status::Reason::Forbidden)));
}

#[tokio::test]
async fn webhooks_that_do_not_answer_in_time_count_as_their_policy_says() {
    let scene = scene().await;
    let silent = with(scene.hook("/silent", &["CREATE"], CONFIGMAPS), "timeoutSeconds", 1);
    scene.register("validating", "silent", std::slice::from_ref(&silent)).await;
    let error = create(&scene.api, "a", doc!({})).await.unwrap_err();
    assert!(
        error.contains("500 Internal error occurred: failed calling webhook \"silent.hooks.example.com\": "),
        "{error}"
    );
    assert!(error.contains("failed to call webhook: Post ") && error.contains("deadline exceeded"), "{error}");
    let ignored = with(silent, "failurePolicy", "Ignore");
    let slow = with(scene.hook("/slow", &["CREATE"], CONFIGMAPS), "timeoutSeconds", 10);
    let patch = doc!({"webhooks": [ignored, slow]});
    let kind = PatchKind::Merge;
    scene.api.patch("validatingwebhookconfigurations/silent", "", kind, patch).await.unwrap();
    create(&scene.api, "a", doc!({})).await.unwrap();
}

#[tokio::test]
async fn a_webhook_that_cannot_be_trusted_fails_closed() {
    let scene = scene().await;
    let mut hook = scene.hook("/allow", &["CREATE"], CONFIGMAPS);
    hook.set_at(&["clientConfig"], doc!({"service": {"namespace": "default", "name": "nowhere", "path": "/x"}}));
    scene.register("validating", "closed", &[hook]).await;
    let error = create(&scene.api, "a", doc!({})).await.unwrap_err();
    assert!(error.contains("service \"nowhere\" not found"), "{error}");
    let mut untrusted = scene.hook("/allow", &["CREATE"], CONFIGMAPS);
    untrusted.remove_at(&["clientConfig", "caBundle"]);
    let patch = doc!({"webhooks": [untrusted]});
    scene.api.patch("validatingwebhookconfigurations/closed", "", PatchKind::Merge, patch).await.unwrap();
    let error = create(&scene.api, "a", doc!({})).await.unwrap_err();
    assert!(error.starts_with("500 ") && error.contains("UnknownIssuer"), "{error}");
    assert_eq!(scene.asked(), []);
}

#[tokio::test]
async fn a_service_is_asked_under_its_name() {
    let scene = scene().await;
    let service = doc!({"metadata": {"name": "hook"}, "spec": {"ports": [{"port": 8443, "targetPort": 1}]}});
    scene.api.create("services", "default", service).await.unwrap();
    let slice = doc!({
        "metadata": {"name": "hook-1", "labels": {"kubernetes.io/service-name": "hook"}}, "addressType": "IPv4",
        "ports": [{"name": "", "port": 8443}], "endpoints": [{"addresses": ["10.244.0.9"]}]
    });
    scene.api.create("endpointslices", "default", slice).await.unwrap();
    // A list waits until the cache shows what was written before.
    scene.api.list("endpointslices", "default", Options::default()).await.unwrap();
    let mut hook = scene.hook("/deny", &["CREATE"], CONFIGMAPS);
    hook.remove_at(&["clientConfig", "url"]);
    let reference = doc!({"namespace": "default", "name": "hook", "path": "/deny", "port": 8443});
    hook.set_at(&["clientConfig", "service"], reference);
    scene.register("validating", "service", &[hook]).await;
    let error = create(&scene.api, "a", doc!({})).await.unwrap_err();
    assert!(error.starts_with("403 ") && error.contains("denied by the test"), "{error}");
}

#[tokio::test]
async fn mutations_are_made_in_order_and_once_more_for_who_asks() {
    let scene = scene().await;
    let stages = |name: &str, policy: &str| {
        let hook = with(scene.hook("/stages", &["CREATE"], CONFIGMAPS), "reinvocationPolicy", policy);
        with(hook, "name", name)
    };
    let two = [stages("one.hooks.example.com", "Never"), stages("two.hooks.example.com", "Never")];
    scene.register("mutating", "ordered", &two).await;
    let made = create(&scene.api, "a", doc!({"mutation-start": "yes"})).await.unwrap();
    let data = doc!({"mutation-start": "yes", "mutation-stage-1": "yes", "mutation-stage-2": "yes"});
    assert_eq!(made.get("data"), Some(&data));
    assert_eq!(scene.asked().len(), 2);

    // One webhook alone reaches one stage; asked again after a later one changed something, it reaches the next.
    let label = scene.hook("/label", &["CREATE"], CONFIGMAPS);
    for (policy, stage, calls) in [("Never", None, 2), ("IfNeeded", Some("yes"), 3)] {
        let patch = doc!({"webhooks": [stages("one.hooks.example.com", policy), label.clone()]});
        scene.api.patch("mutatingwebhookconfigurations/ordered", "", PatchKind::Merge, patch).await.unwrap();
        let made = create(&scene.api, &policy.to_lowercase(), doc!({"mutation-start": "yes"})).await.unwrap();
        assert_eq!(made.at(&["data", "mutation-stage-2"]).and_then(Doc::as_str), stage, "{policy}");
        assert_eq!(made.str_at(&["metadata", "labels", "touched"]), "yes");
        assert_eq!(scene.asked().len(), calls, "{policy}");
    }
}

#[tokio::test]
async fn what_a_webhook_adds_is_defaulted_and_judged() {
    let scene = scene().await;
    let (inject, see) =
        (scene.hook("/init-container", &["CREATE"], "/v1/pods"), scene.hook("/allow", &["CREATE"], "/v1/pods"));
    scene.register("mutating", "inject", &[inject, see]).await;
    let pod_made = scene.api.create("pods", "default", pod("p")).await.unwrap();
    let added = &pod_made.at(&["spec", "initContainers"]).unwrap().items()[0];
    let defaulted = (added.str_at(&["name"]), added.str_at(&["terminationMessagePolicy"]));
    assert_eq!(defaulted, ("added", "File"));
    let (_, asked) = scene.asked().pop().unwrap();
    let shown = &asked.at(&["object", "spec", "initContainers"]).unwrap().items()[0];
    assert_eq!(shown.str_at(&["terminationMessagePolicy"]), "File", "the next webhook sees defaults, too");

    let identity = scene.hook("/identity", &["CREATE"], "/v1/pods");
    let patch = doc!({"webhooks": [identity]});
    scene.api.patch("mutatingwebhookconfigurations/inject", "", PatchKind::Merge, patch).await.unwrap();
    let made = scene.api.create("pods", "default", pod("q")).await.unwrap();
    assert_eq!(made.str_at(&["metadata", "namespace"]), "default");
    assert_ne!(made.str_at(&["metadata", "uid"]), "forged");
    assert_eq!(made.str_at(&["status", "phase"]), "Pending", "the status is not the webhook's to write here");

    let nonsense = scene.hook("/nonsense", &["CREATE"], CONFIGMAPS);
    let patch = doc!({"webhooks": [nonsense]});
    scene.api.patch("mutatingwebhookconfigurations/inject", "", PatchKind::Merge, patch).await.unwrap();
    let error = create(&scene.api, "a", doc!({"k": "v"})).await.unwrap_err();
    assert!(error.starts_with("500 ") && error.contains("leaves no ConfigMap: data"), "{error}");
}

#[tokio::test]
async fn configurations_can_be_changed_listed_and_deleted_together() {
    for kind in ["mutating", "validating"] {
        let scene = scene().await;
        let path = if kind == "mutating" { "/label" } else { "/deny" };
        for index in 0..10 {
            scene.register(kind, &format!("c-{index}"), &[scene.hook(path, &["CREATE"], CONFIGMAPS)]).await;
        }
        let plural = format!("{kind}webhookconfigurations");
        let mine = Options { label_selector: "suite=hooks".parse().unwrap(), ..Options::default() };
        assert_eq!(scene.api.list(&plural, "", mine.clone()).await.unwrap().items.len(), 10);
        let acts = async |name: &str| match create(&scene.api, name, doc!({})).await {
            Ok(made) => made.at(&["metadata", "labels", "touched"]).is_some(),
            Err(error) => error.contains("denied the request"),
        };
        assert!(acts("before").await, "{kind}");
        // Not for creations any more, and again.
        for (operation, expected) in [("UPDATE", false), ("CREATE", true)] {
            for index in 0..10 {
                let hook = scene.hook(path, &[operation], CONFIGMAPS);
                let patch = doc!({"webhooks": [hook]});
                scene.api.patch(&format!("{plural}/c-{index}"), "", PatchKind::Strategic, patch).await.unwrap();
            }
            assert_eq!(acts(&format!("on-{}", operation.to_lowercase())).await, expected, "{kind} {operation}");
        }
        scene.api.call(Verb::DeleteCollection, &plural, "", mine, RequestBody::None).await.unwrap();
        assert!(!acts("after").await, "{kind}");
    }
}

#[tokio::test]
async fn what_configures_admission_is_shown_to_no_webhook() {
    let scene = scene().await;
    let all = |path: &str| scene.hook(path, &["*"], "admissionregistration.k8s.io/*/*");
    scene.register("validating", "deny", &[all("/deny")]).await;
    scene.register("mutating", "label", &[all("/label")]).await;
    let made = scene.register("validating", "dummy", &[scene.hook("/allow", &["CREATE"], "/v1/nothing")]).await;
    assert_eq!(made.at(&["metadata", "labels", "touched"]), None);
    let gone = scene.api.delete("validatingwebhookconfigurations/dummy", "", Options::default()).await;
    assert!(gone.is_ok());
    assert_eq!(scene.asked(), []);
}

#[tokio::test]
async fn selectors_choose_namespaces_and_objects() {
    let scene = scene().await;
    let namespace = doc!({"metadata": {"name": "exempt", "labels": {"exempt": "yes"}}});
    scene.api.create("namespaces", "", namespace).await.unwrap();
    let unless = doc!({"matchExpressions": [{"key": "exempt", "operator": "DoesNotExist"}]});
    let of_all = |resource: &str| with(scene.hook("/deny", &["CREATE"], resource), "namespaceSelector", unless.clone());
    let mut namespaces = of_all("/v1/namespaces");
    namespaces.set_at(&["name"], "namespaces.hooks.example.com".into());
    scene.register("validating", "deny", &[of_all(CONFIGMAPS), namespaces]).await;
    assert!(create(&scene.api, "a", doc!({})).await.is_err());
    scene.api.create("configmaps", "exempt", config("a", doc!({}))).await.unwrap();
    let labelled = |labels: Doc| doc!({"metadata": {"name": "n", "labels": labels}});
    assert!(scene.api.create("namespaces", "", labelled(doc!({}))).await.is_err());
    let made = scene.api.create("namespaces", "", labelled(doc!({"exempt": "yes"}))).await;
    assert!(made.is_ok(), "a namespace is judged by its own labels");

    let only =
        with(scene.hook("/deny", &["CREATE"], CONFIGMAPS), "objectSelector", doc!({"matchLabels": {"deny": "me"}}));
    let patch = doc!({"webhooks": [only]});
    scene.api.patch("validatingwebhookconfigurations/deny", "", PatchKind::Merge, patch).await.unwrap();
    create(&scene.api, "b", doc!({})).await.unwrap();
    let mut marked = config("c", doc!({}));
    marked.set_at(&["metadata", "labels"], doc!({"deny": "me"}));
    assert!(scene.api.create("configmaps", "default", marked).await.is_err());
}

#[tokio::test]
async fn match_conditions_are_kept_judged_and_followed() {
    let scene = scene().await;
    let skip = |hook: Doc, expression: &str| {
        with(hook, "matchConditions", doc!([{"name": "exclude", "expression": expression}]))
    };
    let label = || scene.hook("/label", &["CREATE"], CONFIGMAPS);
    let made = scene.register("mutating", "skip", &[skip(label(), "object.metadata.name != 'skip-me'")]).await;
    let condition = &made.get("webhooks").unwrap().items()[0].get("matchConditions").unwrap().items()[0];
    assert_eq!(condition.str_at(&["expression"]), "object.metadata.name != 'skip-me'");
    let touched = async |name: &str| {
        create(&scene.api, name, doc!({})).await.map(|made| made.at(&["metadata", "labels", "touched"]).is_some())
    };
    assert_eq!(touched("skip-me").await, Ok(false));
    assert_eq!(touched("other").await, Ok(true));
    let cases = [
        ("request.userInfo.username == 'admin' && request.resource.resource == 'configmaps'", Ok(true)),
        ("oldObject != null", Ok(false)),
        ("authorizer.group('').resource('secrets').namespace('default').check('get').allowed()", Ok(true)),
        ("authorizer.requestResource.check('anything').allowed()", Ok(true)),
        (
            "authorizer.serviceAccount('default', 'default').group('').resource('pods').check('get').allowed()",
            Ok(false),
        ),
        ("object.data.nothing == 'x'", Err("403")),
    ];
    for (index, (expression, expected)) in cases.into_iter().enumerate() {
        let patch = doc!({"webhooks": [skip(label(), expression)]});
        scene.api.patch("mutatingwebhookconfigurations/skip", "", PatchKind::Merge, patch).await.unwrap();
        let found = touched(&format!("case-{index}")).await;
        assert_eq!(
            found.as_ref().map_err(|error| &error[..3]),
            expected.as_ref().map_err(|code| *code),
            "{expression}: {found:?}"
        );
    }
    for kind in ["mutating", "validating"] {
        let wrong = skip(scene.hook("/allow", &["CREATE"], CONFIGMAPS), "...");
        let doc = doc!({"metadata": {"name": "wrong"}, "webhooks": [wrong]});
        let error = scene.api.create(&format!("{kind}webhookconfigurations"), "", doc).await.unwrap_err();
        assert!(error.code() == 422 && error.to_string().contains("compilation failed"), "{error}");
    }
}

#[tokio::test]
async fn dry_runs_are_refused_where_a_webhook_has_effects() {
    let scene = scene().await;
    let error = scene
        .api
        .create(
            "validatingwebhookconfigurations",
            "",
            doc!({
                "metadata": {"name": "x"},
                "webhooks": [with(scene.hook("/allow", &["CREATE"], CONFIGMAPS), "sideEffects", "Some")]
            }),
        )
        .await
        .unwrap_err();
    assert!(error.status().message.contains("sideEffects: Unsupported value"), "{error}");
    // What was stored by another server may still say so.
    let configurations = Configurations::of("validatingwebhookconfigurations");
    let mut stored = doc!({"apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingWebhookConfiguration"});
    stored.set_at(&["metadata", "name"], "old".into());
    let hook = with(scene.hook("/allow", &["CREATE"], CONFIGMAPS), "sideEffects", "Some");
    stored.set_at(&["webhooks"], doc!([hook]));
    let object = Arc::new(k8s_core::object::Object::from_doc(&mut stored, 1).unwrap());
    configurations.changed(GROUP, "", &ObjectKey::new("", "old"), Some(&object));
    let hook = configurations.hooks()[0].clone();
    let options = Options { dry_run: true, ..Options::default() };
    let caller = k8s_core::request::Caller::new("u", &[]);
    let info = scene.api.api.registry().find(&ResourceType::new("", "v1", "configmaps")).unwrap().clone();
    let target = Target::one(info.resource(), "default", "a");
    let cluster = crate::admission::Cluster::new(scene.api.api.cache().clone(), scene.api.api.kinds().clone());
    let request = AdmissionRequest::new(&caller, Verb::Create, &info, &target, &options, &cluster);
    let asking = Asking {
        env: scene.api.env.clone(),
        webhooks: scene.api.api.webhooks().clone(),
        configurations: Arc::new(configurations),
        authorizer: scene.api.api.authorizer().clone(),
    };
    let invocation = Invocation { hook, form: info.clone() };
    let refusal = asking.ask(&request, &invocation, Role::Validating).await;
    let Err(Refusal::Denied(error)) = refusal else { panic!("not refused") };
    assert_eq!(
        (error.code(), error.status().message.as_str()),
        (400, "admission webhook \"allow.hooks.example.com\" does not support dry run")
    );
}

#[tokio::test]
async fn custom_objects_are_mutated_pruned_and_denied() {
    let registry = k8s_core::registry::Registry::builtin();
    let of = |plural: &str| registry.iter().find(|info| info.plural == plural).and_then(|info| registry.schema(info));
    let info = ResourceInfo::custom("example.com", "v1", "wheels", "Wheel", of("configmaps").unwrap());
    let scene = scene_with(|builder| builder.registry(registry.clone().with(info))).await;
    let all = "example.com/v1/wheels";
    scene.register("mutating", "stages", &[scene.hook("/stages", &["CREATE"], all)]).await;
    scene.register("validating", "no-bad", &[scene.hook("/no-bad", &["CREATE", "UPDATE", "DELETE"], all)]).await;
    let ask = |verb: Verb, name: &str, body: RequestBody| {
        let target = Target::one(ResourceType::new("example.com", "v1", "wheels"), "default", name);
        scene.api.ask(ApiRequest { verb, target, body, ..ApiRequest::default() })
    };
    let wheel = |name: &str, data: Doc| RequestBody::Doc(config(name, data));
    let made = ask(Verb::Create, "", wheel("w", doc!({"mutation-start": "yes"}))).await.unwrap().into_doc().unwrap();
    assert_eq!(made.str_at(&["data", "mutation-stage-1"]), "yes");
    let (_, asked) = scene.asked().pop().unwrap();
    assert_eq!(asked.get("kind"), Some(&doc!({"group": "example.com", "version": "v1", "kind": "Wheel"})));
    let error = ask(Verb::Create, "", wheel("x", doc!({"bad": "yes"}))).await.unwrap_err();
    assert_eq!(error.code(), 400, "{error}");
    let patch = RequestBody::Patch(PatchKind::Merge, doc!({"data": {"bad": "yes"}}));
    assert_eq!(ask(Verb::Patch, "w", patch).await.unwrap_err().code(), 400);

    // A field that the schema does not have is dropped, also when a webhook adds it.
    scene
        .api
        .patch(
            "mutatingwebhookconfigurations/stages",
            "",
            PatchKind::Merge,
            doc!({
                "webhooks": [scene.hook("/identity", &["CREATE"], all)]
            }),
        )
        .await
        .unwrap();
    let made = ask(Verb::Create, "", wheel("y", doc!({}))).await.unwrap().into_doc().unwrap();
    assert_eq!(made.get("status"), None, "{made}");
}

/// A scene with the pod `p` and the deployment `d`.
async fn scene_with_a_pod() -> Scene {
    let scene = scene().await;
    scene.api.create("pods", "default", pod("p")).await.unwrap();
    let deployment = doc!({
        "metadata": {"name": "d"}, "spec": {"replicas": 1, "selector": {"matchLabels": {"a": "b"}}, "template": {
            "metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}}
    });
    scene.api.create("deployments", "default", deployment).await.unwrap();
    scene
}

#[tokio::test]
async fn subresources_are_seen_in_their_own_kinds() {
    let scene = scene_with_a_pod().await;
    scene.register("validating", "all", &[scene.hook("/allow", &["*"], "*/*/*/*")]).await;
    let api = &scene.api;
    let scale =
        doc!({"kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": {"name": "d"}, "spec": {"replicas": 3}});
    api.update("deployments/d/scale", "default", scale).await.unwrap();
    api.patch("pods/p/status", "default", PatchKind::Merge, doc!({"status": {"message": "m"}})).await.unwrap();
    let binding = doc!({"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    let eviction = doc!({"metadata": {"name": "p"}});
    for (path, body) in [("pods/p/binding", binding), ("pods/p/eviction", eviction)] {
        api.call(Verb::Create, path, "default", Options::default(), RequestBody::Doc(body)).await.unwrap();
    }
    let asked = scene.asked();
    let seen: Vec<String> = asked
        .iter()
        .map(|(_, asked)| {
            let text = |path: &[&str]| asked.str_at(path).to_owned();
            let plural = text(&["resource", "resource"]);
            format!("{} {plural}/{} {}", text(&["operation"]), text(&["subResource"]), text(&["object", "kind"]))
        })
        .collect();
    let expected = [
        "UPDATE deployments/scale Scale",
        "UPDATE pods/status Pod",
        "CREATE pods/binding Binding",
        "CREATE pods/eviction Eviction",
    ];
    assert_eq!(seen, expected, "and what follows from them is not asked about");
    let scale = &asked[0].1;
    assert_eq!(scale.get("kind"), Some(&doc!({"group": "autoscaling", "version": "v1", "kind": "Scale"})));
    let replicas = |field: &str| scale.at(&[field, "spec", "replicas"]).and_then(Doc::as_i64);
    assert_eq!((replicas("oldObject"), replicas("object")), (Some(1), Some(3)));

    scene.register("mutating", "scale", &[scene.hook("/scale", &["UPDATE"], "apps/v1/deployments/scale")]).await;
    let patch = doc!({"spec": {"replicas": 4}});
    api.patch("deployments/d/scale", "default", PatchKind::Merge, patch).await.unwrap();
    let deployment = api.get("deployments/d", "default").await.unwrap();
    assert_eq!(deployment.at(&["spec", "replicas"]).and_then(Doc::as_i64), Some(7));
}

#[tokio::test]
async fn connections_can_be_denied() {
    let scene = scene_with_a_pod().await;
    scene.register("validating", "deny", &[scene.hook("/deny", &["CONNECT"], "/v1/pods/attach")]).await;
    let options = Options { connect_query: "container=c&stdin=true&stdout=1&tty=false".into(), ..Options::default() };
    let error =
        scene.api.call(Verb::Connect, "pods/p/attach", "default", options, RequestBody::None).await.unwrap_err();
    assert_eq!(error.code(), 403, "{error}");
    let (_, asked) = scene.asked().pop().unwrap();
    let object =
        doc!({"kind": "PodAttachOptions", "apiVersion": "v1", "stdin": true, "stdout": true, "container": "c"});
    assert_eq!(asked.get("object"), Some(&object));
    assert_eq!((asked.str_at(&["operation"]), asked.str_at(&["name"])), ("CONNECT", "p"));
    assert_eq!(asked.str_at(&["kind", "kind"]), "PodAttachOptions");
    assert_eq!((asked.get("oldObject"), asked.get("options")), (Some(&Doc::Null), Some(&Doc::Null)));
    let options = Options { connect_query: "stdout=1&command=ls&command=-l".into(), ..Options::default() };
    let error = scene.api.call(Verb::Connect, "pods/p/exec", "default", options, RequestBody::None).await.unwrap_err();
    assert!(!error.to_string().contains("denied"), "{error}");
}

#[tokio::test]
async fn a_patch_of_what_is_deleted_is_refused() {
    let scene = scene().await;
    create(&scene.api, "a", doc!({})).await.unwrap();
    scene.register("mutating", "m", &[scene.hook("/patch-delete", &["DELETE"], CONFIGMAPS)]).await;
    let error = scene.api.delete("configmaps/a", "default", Options::default()).await.unwrap_err();
    assert!(error.to_string().contains("attempted to modify the object, which is not supported"), "{error}");
}

#[tokio::test]
async fn events_are_the_same_under_both_names() {
    let scene = scene().await;
    let hook = scene.hook("/allow", &["CREATE"], "/v1/events");
    scene.register("validating", "old", std::slice::from_ref(&hook)).await;
    let event = doc!({
        "metadata": {"name": "e"}, "eventTime": "2026-01-01T00:00:00.000000Z", "action": "a", "reason": "r", "type": "Normal",
        "note": "hello", "reportingController": "example.com/c", "reportingInstance": "i",
        "regarding": {"kind": "Pod", "namespace": "default", "name": "p"}
    });
    let create = |name: &str| {
        let mut event = event.clone();
        event.set_at(&["metadata", "name"], name.into());
        let target = Target::all(ResourceType::new("events.k8s.io", "v1", "events"), "default");
        scene.api.ask(ApiRequest { verb: Verb::Create, target, body: RequestBody::Doc(event), ..ApiRequest::default() })
    };
    create("e").await.unwrap();
    let (_, asked) = scene.asked().pop().unwrap();
    assert_eq!(
        (asked.str_at(&["resource", "group"]), asked.str_at(&["requestResource", "group"])),
        ("", "events.k8s.io")
    );
    assert_eq!((asked.str_at(&["object", "apiVersion"]), asked.str_at(&["object", "message"])), ("v1", "hello"));
    let patch = doc!({"webhooks": [with(hook, "matchPolicy", "Exact")]});
    scene.api.patch("validatingwebhookconfigurations/old", "", PatchKind::Merge, patch).await.unwrap();
    create("f").await.unwrap();
    assert_eq!(scene.asked(), [], "only the name that was asked for counts");
}

#[tokio::test]
async fn definitions_of_kinds_can_be_denied() {
    let scene = scene().await;
    let resource = "apiextensions.k8s.io/*/customresourcedefinitions";
    scene.register("validating", "deny", &[scene.hook("/deny", &["CREATE"], resource)]).await;
    let schema = doc!({"openAPIV3Schema": {"type": "object"}});
    let definition = doc!({
        "metadata": {"name": "wheels.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": {"plural": "wheels", "singular": "wheel", "kind": "Wheel", "listKind": "WheelList"},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": schema}]
        }
    });
    let error = scene.api.create("customresourcedefinitions", "", definition.clone()).await.unwrap_err();
    assert!(error.code() == 403 && error.to_string().contains("denied by the test"), "{error}");
    scene.api.delete("validatingwebhookconfigurations/deny", "", Options::default()).await.unwrap();
    scene.api.create("customresourcedefinitions", "", definition).await.unwrap();
}
