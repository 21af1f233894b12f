//! What policies decide, and what decides about policies.

use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiResponse, Options, RequestBody, Verb},
    status::ApiResult,
};

use crate::server::tests::fixture::{Fixture, server};

/// A policy for config maps, with what is said of it, and its binding.
async fn validating(api: &Fixture, spec: Doc, binding: Doc) {
    create(api, "validatingadmissionpolicies", "p", with_rules(spec)).await;
    let mut bound = doc!({"policyName": "p", "validationActions": ["Deny"]});
    merge(&mut bound, &binding);
    create(api, "validatingadmissionpolicybindings", "b", bound).await;
    settled(api).await;
}

async fn mutating(api: &Fixture, name: &str, spec: Doc) {
    let mut spec = with_rules(spec);
    if spec.get("reinvocationPolicy").is_none() {
        spec.set_at(&["reinvocationPolicy"], "Never".into());
    }
    create(api, "mutatingadmissionpolicies", name, spec).await;
    create(api, "mutatingadmissionpolicybindings", name, doc!({"policyName": name})).await;
    settled(api).await;
}

fn with_rules(mut spec: Doc) -> Doc {
    if spec.get("matchConstraints").is_none() {
        let rule = doc!({"apiGroups": [""], "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]});
        spec.set_at(&["matchConstraints"], doc!({ "resourceRules": [rule] }));
    }
    spec
}

fn merge(into: &mut Doc, more: &Doc) {
    for (field, value) in more.as_object().into_iter().flat_map(|map| map.iter()) {
        into.set_at(&[field], value.clone());
    }
}

async fn create(api: &Fixture, plural: &str, name: &str, spec: Doc) {
    let made = api.create(plural, "", doc!({"metadata": {"name": name}, "spec": spec})).await;
    made.unwrap_or_else(|error| panic!("{plural}: {error}"));
}

/// The cache has seen everything that was written.
async fn settled(api: &Fixture) {
    api.api.cache().wait_for_head().await.unwrap();
}

fn config(name: &str, data: Doc) -> Doc {
    doc!({"metadata": {"name": name, "labels": {"app": name}}, "data": data})
}

async fn ask(api: &Fixture, name: &str, data: Doc) -> ApiResult<ApiResponse> {
    let body = RequestBody::Doc(config(name, data));
    api.call(Verb::Create, "configmaps", "default", Options::default(), body).await
}

/// `ok`, or the code and what follows `denied request: `.
async fn outcome(api: &Fixture, name: &str, data: Doc) -> String {
    match ask(api, name, data).await {
        Ok(_) => "ok".into(),
        Err(error) => {
            let text = error.to_string();
            format!("{} {}", error.code(), text.split("denied request: ").last().unwrap_or(&text))
        }
    }
}

#[tokio::test]
async fn a_denial_says_who_denied_and_why() {
    let api = server().await;
    let rules = doc!({"validations": [
        {"expression": "has(object.data.good)", "message": "not good", "reason": "Forbidden"}]});
    validating(&api, rules, Doc::object()).await;
    let error = ask(&api, "a", doc!({"k": "v"})).await.err().unwrap();
    let status = error.status();
    assert_eq!(
        status.message,
        "configmaps \"a\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: not good"
    );
    assert_eq!((status.code, status.reason), (403, Some(k8s_core::status::Reason::Forbidden)));
    assert!(status.details.as_ref().is_some_and(|details| details.causes[0].message == "not good"));
    assert!(ask(&api, "a", doc!({"good": "v"})).await.is_ok());
    // A policy that is gone judges nothing.
    api.delete("validatingadmissionpolicybindings/b", "", Options::default()).await.unwrap();
    settled(&api).await;
    assert_eq!(outcome(&api, "b", doc!({"k": "v"})).await, "ok");
}

#[tokio::test]
async fn warnings_and_audits_let_the_write_pass() {
    let api = server().await;
    let rules = doc!({"validations": [{"expression": "false", "message": "careful"}]});
    validating(&api, rules, doc!({"validationActions": ["Warn", "Audit"]})).await;
    let answer = ask(&api, "a", Doc::object()).await.unwrap();
    let told = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'b': careful";
    assert_eq!(answer.warnings, [told]);
}

#[tokio::test]
async fn deletions_and_updates_are_judged_with_the_object_as_it_was() {
    let api = server().await;
    ask(&api, "kept", doc!({"keep": "yes"})).await.unwrap();
    ask(&api, "free", Doc::object()).await.unwrap();
    let rules = doc!({"validations": [{
        "expression": "request.operation != 'DELETE' || object == null && oldObject.?data.?keep == optional.none()"}]});
    validating(&api, rules, Doc::object()).await;
    let refused = api.delete("configmaps/kept", "default", Options::default()).await.err().unwrap();
    assert_eq!(refused.code(), 422);
    assert!(api.delete("configmaps/free", "default", Options::default()).await.is_ok());
    assert!(api.get("configmaps/kept", "default").await.is_ok());
}

#[tokio::test]
async fn failures_follow_the_failure_policy() {
    for (policy, expected) in
        [("Fail", "422 expression 'object.data.x == 'y'' resulted in error: no such key: x"), ("Ignore", "ok")]
    {
        let api = server().await;
        let rules = doc!({"failurePolicy": policy, "validations": [{"expression": "object.data.x == 'y'"}]});
        validating(&api, rules, Doc::object()).await;
        assert_eq!(outcome(&api, "a", doc!({"k": "v"})).await, expected);
        // What does not hold is denied in both.
        assert_eq!(outcome(&api, "a", doc!({"x": "z"})).await, "422 failed expression: object.data.x == 'y'");
    }
}

#[tokio::test]
async fn conditions_and_selectors_choose_requests() {
    let api = server().await;
    let mut rules = with_rules(doc!({
        "matchConditions": [{"name": "not-free", "expression": "!('free' in object.data)"}],
        "validations": [{"expression": "false"}]
    }));
    rules.set_at(&["matchConstraints", "objectSelector"], doc!({"matchLabels": {"app": "chosen"}}));
    rules.set_at(
        &["matchConstraints", "excludeResourceRules"],
        doc!([{"resourceNames": ["never"], "apiGroups": [""],
        "apiVersions": ["v1"], "operations": ["*"], "resources": ["configmaps"]}]),
    );
    validating(&api, rules, Doc::object()).await;
    assert_eq!(outcome(&api, "other", doc!({"k": "v"})).await, "ok");
    assert_eq!(outcome(&api, "chosen", doc!({"free": "v"})).await, "ok");
    let chosen = |name: &str| doc!({"metadata": {"name": name, "labels": {"app": "chosen"}}, "data": {"k": "v"}});
    assert!(api.create("configmaps", "default", chosen("never")).await.is_ok());
    assert!(api.create("configmaps", "default", chosen("some")).await.is_err());
    let elsewhere = doc!({"metadata": {"name": "s", "labels": {"app": "chosen"}}, "stringData": {"k": "v"}});
    assert!(api.create("secrets", "default", elsewhere).await.is_ok());
}

#[tokio::test]
async fn namespaces_are_selected_and_shown() {
    let api = server().await;
    for (name, env) in [("prod", "prod"), ("dev", "dev")] {
        let namespace = doc!({"metadata": {"name": name, "labels": {"env": env}}});
        api.create("namespaces", "", namespace).await.unwrap();
        api.create("serviceaccounts", name, doc!({"metadata": {"name": "default"}})).await.unwrap();
    }
    let rules = doc!({"validations": [{"expression": "false",
        "messageExpression": "'in ' + namespaceObject.metadata.labels.env"}]});
    let binding = doc!({"matchResources": {"namespaceSelector": {"matchLabels": {"env": "prod"}}}});
    validating(&api, rules, binding).await;
    assert!(api.create("configmaps", "dev", config("a", Doc::object())).await.is_ok());
    let refused = api.create("configmaps", "prod", config("a", Doc::object())).await.unwrap_err();
    assert!(refused.to_string().ends_with("denied request: in prod"), "{refused}");
}

#[tokio::test]
async fn parameters_are_found_by_name_and_by_selector() {
    let rules = doc!({
        "paramKind": {"apiVersion": "v1", "kind": "Secret"},
        "validations": [{"expression": "object.data.n in params.metadata.annotations"}]
    });
    let secret = |name: &str, key: &str| doc!({"metadata": {"name": name, "labels": {"is": "param"}, "annotations": {(key): "yes"}}});
    let named = |action: &str| doc!({"paramRef": {"name": "s", "parameterNotFoundAction": action}});
    let missing = "422 failed to configure binding: no params found for policy binding with `Deny` \
                   parameterNotFoundAction";
    for (action, expected) in [("Deny", missing), ("Allow", "ok")] {
        let api = server().await;
        validating(&api, rules.clone(), named(action)).await;
        assert_eq!(outcome(&api, "a", doc!({"n": "x"})).await, expected);
        api.create("secrets", "default", secret("s", "x")).await.unwrap();
        settled(&api).await;
        assert_eq!(outcome(&api, "b", doc!({"n": "x"})).await, "ok");
        assert!(outcome(&api, "c", doc!({"n": "y"})).await.starts_with("422 failed expression"));
    }
    let api = server().await;
    let selector = doc!({"matchLabels": {"is": "param"}});
    let selected = doc!({"paramRef": {"selector": selector, "parameterNotFoundAction": "Deny"}});
    api.create("secrets", "default", secret("s", "x")).await.unwrap();
    validating(&api, rules, selected).await;
    assert_eq!(outcome(&api, "a", doc!({"n": "x"})).await, "ok");
    // With several, all must agree.
    api.create("secrets", "default", secret("t", "y")).await.unwrap();
    settled(&api).await;
    assert!(outcome(&api, "b", doc!({"n": "x"})).await.starts_with("422 failed expression"));
}

#[tokio::test]
async fn the_authorizer_answers_for_the_caller() {
    let api = server().await;
    let rules = doc!({"validations": [{
        "expression": "authorizer.group('').resource('secrets').namespace('default').check('get').allowed()"},
        {"expression": "authorizer.requestResource.check('create').allowed()"}]});
    validating(&api, rules, Doc::object()).await;
    assert_eq!(outcome(&api, "a", Doc::object()).await, "ok");
    let role = doc!({"metadata": {"name": "r"}, "rules": [
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["create"]}]});
    api.create("roles", "default", role).await.unwrap();
    let bound = doc!({"metadata": {"name": "r"}, "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role",
        "name": "r"}, "subjects": [{"kind": "User", "name": "eve", "apiGroup": "rbac.authorization.k8s.io"}]});
    api.create("rolebindings", "default", bound).await.unwrap();
    settled(&api).await;
    let eve = api.acting(k8s_core::request::Caller::new("eve", &[]));
    let refused = outcome(&eve, "b", Doc::object()).await;
    assert!(refused.starts_with("422 failed expression: authorizer.group"), "{refused}");
}

#[tokio::test]
async fn mutations_see_one_another_and_are_asked_again() {
    let api = server().await;
    let patch =
        |expression: &str| doc!({"mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": expression}}]});
    // The first wants to see what later ones made; the second makes it.
    let mut first = patch("has(object.data.two) ? [JSONPatch{op: 'add', path: '/data/seen', value: 'yes'}] : []");
    first.set_at(&["reinvocationPolicy"], "IfNeeded".into());
    mutating(&api, "a", first).await;
    mutating(&api, "b", patch("[JSONPatch{op: 'add', path: '/data/two', value: '2'}]")).await;
    let made = api.create("configmaps", "default", config("x", doc!({"k": "v"}))).await.unwrap();
    assert_eq!(made.get("data"), Some(&doc!({"k": "v", "two": "2", "seen": "yes"})));
}

#[tokio::test]
async fn a_mutation_that_fails_denies_or_is_left_out() {
    for (policy, refused) in [("Fail", true), ("Ignore", false)] {
        let api = server().await;
        let mutation = doc!({"patchType": "ApplyConfiguration", "applyConfiguration": {
            "expression": "Object{data: Object.data{k: object.data.nothing}}"}});
        mutating(&api, "m", doc!({"failurePolicy": policy, "mutations": [mutation]})).await;
        let outcome = ask(&api, "x", doc!({"k": "v"})).await;
        match outcome {
            Err(error) if refused => assert!(
                error.to_string().contains(
                    "policy 'm' with binding 'm' denied request: expression 'Object{data: Object.data{k: \
                     object.data.nothing}}' resulted in error: no such key: nothing"
                ),
                "{error}"
            ),
            Ok(answer) if !refused => assert_eq!(answer.into_doc().unwrap().str_at(&["data", "k"]), "v"),
            other => panic!("{policy}: {:?}", other.map(|_| ())),
        }
    }
}

#[tokio::test]
async fn a_configuration_replaces_nothing_as_a_whole() {
    let api = server().await;
    let mutation = doc!({"patchType": "ApplyConfiguration", "applyConfiguration": {
        "expression": "Object{metadata: Object.metadata{ownerReferences: []}, immutable: false}"}});
    mutating(&api, "fine", doc!({"mutations": [mutation]})).await;
    ask(&api, "x", doc!({"k": "v"})).await.unwrap();
    let schema = k8s_core::schema::Schemas::builtin().schema("apps", "v1", "Deployment").unwrap();
    let configuration = doc!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": {"spec": {
        "containers": [{"name": "c", "args": ["x"]}]}}}});
    let refused = k8s_core::apply::merge_configuration(&doc!({}), &configuration, &schema).unwrap_err();
    let expected = "invalid ApplyConfiguration: may not mutate atomic arrays, maps or structs: .spec.selector, \
                    .spec.template.spec.containers[0].args";
    assert_eq!(refused.status().message, expected);
}

#[tokio::test]
async fn policies_do_not_judge_policies() {
    let api = server().await;
    let mut rules = doc!({"validations": [{"expression": "false"}]});
    rules.set_at(
        &["matchConstraints"],
        doc!({"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"],
        "operations": ["*"], "resources": ["*/*"]}]}),
    );
    validating(&api, rules, Doc::object()).await;
    assert_eq!(outcome(&api, "a", Doc::object()).await, "422 failed expression: false");
    api.delete("validatingadmissionpolicies/p", "", Options::default()).await.unwrap();
    settled(&api).await;
    assert_eq!(outcome(&api, "a", Doc::object()).await, "ok");
}
