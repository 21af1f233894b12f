//! Policies as data, requests as data, what comes of them.

use std::rc::Rc;

use super::*;
use crate::{
    cel::authorizer::{Authorizer, Decision, Question},
    doc,
};

struct Nobody;

impl Authorizer for Nobody {
    fn decide(&self, question: &Question) -> Decision {
        Decision { allowed: question.resource == "pods", ..Decision::default() }
    }
}

fn compiled(spec: Doc) -> Expressions {
    let (expressions, problems) = compile(&doc!({"spec": spec}), &Type::Dyn, &Type::Dyn);
    assert!(problems.is_empty(), "{problems:?}");
    expressions
}

fn with<R>(expressions: &Expressions, object: &Doc, params: &Doc, run: impl FnOnce(&mut Answers<'_>) -> R) -> R {
    let request = doc!({"operation": "CREATE", "userInfo": {"username": "eve"}});
    let namespace = doc!({"metadata": {"name": "n", "labels": {"env": "prod"}}});
    let bound = Bound {
        object,
        old: &Doc::Null,
        request: &request,
        namespace: &namespace,
        params,
        authorizer: Rc::new(Nobody),
        question: Question { resource: "pods".into(), ..Question::default() },
    };
    run(&mut Answers::new(expressions, &bound))
}

fn denials(spec: Doc, object: &Doc, params: &Doc) -> Vec<String> {
    with(&compiled(spec), object, params, |answers| {
        answers.denials().into_iter().map(|denial| denial.message).collect()
    })
}

#[test]
fn validations_are_told_by_message_expression_message_or_expression() {
    let object = doc!({"spec": {"replicas": 7}});
    let rule = "object.spec.replicas <= 5";
    assert_eq!(
        denials(doc!({"validations": [{"expression": rule}]}), &object, &Doc::Null),
        ["failed expression: object.spec.replicas <= 5"]
    );
    let told = doc!({"validations": [{"expression": rule, "message": "too many"}]});
    assert_eq!(denials(told, &object, &Doc::Null), ["too many"]);
    let computed = doc!({"paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}, "validations": [{
        "expression": "object.spec.replicas <= int(params.data.most)", "message": "too many",
        "messageExpression": "'at most ' + params.data.most"}]});
    assert_eq!(denials(computed.clone(), &object, &doc!({"data": {"most": "5"}})), ["at most 5"]);
    assert!(denials(computed, &object, &doc!({"data": {"most": "9"}})).is_empty());
    let failing = doc!({"validations": [{"expression": rule, "message": "too many",
        "messageExpression": "object.nothing"}]});
    assert_eq!(denials(failing, &object, &Doc::Null), ["too many"]);
    assert_eq!(
        denials(doc!({"validations": [{"expression": "object.nothing.here"}]}), &object, &Doc::Null),
        ["expression 'object.nothing.here' resulted in error: no such key: nothing"]
    );
}

#[test]
fn variables_are_lazy_and_name_earlier_ones() {
    let spec = doc!({
        "variables": [
            {"name": "n", "expression": "object.spec.replicas"},
            {"name": "odd", "expression": "variables.n % 2 == 1"},
            {"name": "broken", "expression": "1 / 0"}
        ],
        "validations": [
            {"expression": "variables.odd"},
            {"expression": "variables.n > 1"},
            {"expression": "namespaceObject.metadata.labels.env == 'prod'"},
            {"expression": "authorizer.requestResource.check('get').allowed()"},
            {"expression": "request.userInfo.username == 'eve'"}
        ]
    });
    assert!(denials(spec.clone(), &doc!({"spec": {"replicas": 3}}), &Doc::Null).is_empty());
    assert_eq!(
        denials(spec, &doc!({"spec": {"replicas": 0}}), &Doc::Null),
        ["failed expression: variables.odd", "failed expression: variables.n > 1"]
    );
}

#[test]
fn expressions_that_do_not_compile_are_told_with_their_place() {
    let spec = doc!({
        "variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}],
        "matchConditions": [{"name": "m", "expression": "variables.a"}],
        "validations": [
            {"expression": "object.x == nope"},
            {"expression": "'text'"},
            {"expression": "true", "messageExpression": "1"},
            {"expression": "params.x"},
            {"expression": "variables.b == 'x'"}
        ],
        "auditAnnotations": [{"key": "k", "valueExpression": "1"}]
    });
    let (_, problems) = compile(&doc!({"spec": spec}), &Type::Dyn, &Type::Dyn);
    let paths: Vec<&str> = problems.iter().map(|problem| problem.path.as_str()).collect();
    assert_eq!(
        paths,
        [
            "spec.matchConditions[0].expression",
            "spec.variables[0].expression",
            "spec.validations[0].expression",
            "spec.validations[1].expression",
            "spec.validations[2].messageExpression",
            "spec.validations[3].expression",
            "spec.validations[4].expression",
            "spec.auditAnnotations[0].valueExpression",
        ]
    );
    assert_eq!(problems[3].error.to_string(), "must evaluate to bool");
}

#[test]
fn match_conditions_decide_even_beside_failures() {
    let conditions = |expressions: &[&str]| {
        let list = expressions.iter().map(|text| doc!({"name": "c", "expression": *text})).collect();
        let expressions = compiled(doc!({"matchConditions": Doc::Array(list)}));
        with(&expressions, &doc!({"a": 1}), &Doc::Null, |answers| answers.matches())
    };
    assert_eq!(conditions(&["object.a == 1", "request.operation == 'CREATE'"]), Ok(true));
    assert_eq!(conditions(&["object.b == 1", "object.a == 2"]), Ok(false));
    let failed = conditions(&["object.b == 1"]).unwrap_err();
    assert_eq!(failed, "match condition \"c\": expression 'object.b == 1' resulted in error: no such key: b");
}

#[test]
fn mutations_come_to_documents() {
    let mutations = doc!([
        {"patchType": "ApplyConfiguration", "applyConfiguration": {
            "expression": "Object{metadata: Object.metadata{labels: {'a': 'b'}}, spec: Object.spec{replicas: 3}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {
            "expression": "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b'), value: 'x'}]"}},
        {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.status{a: 1}}"}}
    ]);
    let expressions = compiled(doc!({ "mutations": mutations }));
    let made: Vec<Result<Doc, String>> =
        with(&expressions, &Doc::object(), &Doc::Null, |answers| (0..3).map(|place| answers.mutation(place)).collect());
    assert_eq!(made[0], Ok(doc!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 3}})));
    assert_eq!(made[1], Ok(doc!([{"op": "add", "path": "/metadata/labels/a~1b", "value": "x"}])));
    assert!(made[2].as_ref().is_err_and(|why| why.contains("unexpected type name \"Object.status\"")), "{made:?}");
}

#[test]
fn annotations_are_text_or_nothing() {
    let expressions = compiled(doc!({"auditAnnotations": [
        {"key": "a", "valueExpression": "'replicas: ' + string(object.n)"},
        {"key": "b", "valueExpression": "null"},
        {"key": "c", "valueExpression": "object.n > 9 ? dyn('many') : null"}
    ]}));
    let found = with(&expressions, &doc!({"n": 4}), &Doc::Null, |answers| answers.annotations());
    assert_eq!(found, [("a".into(), Ok("replicas: 4".into()))]);
}

#[test]
fn types_are_checked_for_the_kinds_that_rules_name() {
    let rule = doc!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"],
        "resources": ["deployments", "replicasets", "deployments/scale"]});
    let policy = doc!({"spec": {
        "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"},
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [
            {"expression": "object.spec.replicas > 1"},
            {"expression": "object.spec.replicas > '1'"},
            {"expression": "object.spec.strategy.type == 'Recreate'"},
            {"expression": "params.data.x == 'y' && params.nothing == 1"}
        ]
    }});
    let warnings = type_warnings(&policy, &crate::registry::Registry::builtin());
    let places: Vec<&str> = warnings.iter().map(|(place, _)| place.as_str()).collect();
    assert_eq!(places, [1, 3, 2].map(|place| format!("spec.validations[{place}].expression")));
    let replicas = "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to \
                    '(int, string)'\n | object.spec.replicas > '1'\n | .....................^\n\
                    apps/v1, Kind=ReplicaSet: ERROR";
    assert!(warnings[0].1.starts_with(replicas), "{}", warnings[0].1);
    assert!(warnings[2].1.starts_with("apps/v1, Kind=ReplicaSet: ERROR: <input>:1:12: undefined field 'strategy'"));
}
