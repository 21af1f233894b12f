//! Policies and bindings that are refused, and where.

use super::*;
use crate::doc;

fn rule() -> Doc {
    doc!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["deployments"]})
}

fn policy(mutates: bool, spec: Doc) -> Doc {
    let mut whole = doc!({"matchConstraints": {"resourceRules": [rule()]}});
    if mutates {
        whole.set_at(&["mutations"], doc!([{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]));
    } else {
        whole.set_at(&["validations"], doc!([{"expression": "true"}]));
    }
    for (field, value) in spec.as_object().unwrap().iter() {
        whole.set_at(&[field], value.clone());
    }
    doc!({"metadata": {"name": "p.example.com"}, "spec": whole})
}

fn places(errors: Vec<FieldError>) -> Vec<String> {
    errors.into_iter().map(|error| format!("{}:{:?}", error.path, error.kind)).collect()
}

#[test]
fn policies() {
    for (spec, wanted) in [
        (doc!({}), &[][..]),
        (doc!({"matchConstraints": null}), &["spec.matchConstraints:Required"]),
        (doc!({"matchConstraints": {}}), &["spec.matchConstraints.resourceRules:Required"]),
        (doc!({"paramKind": {"kind": "ConfigMap"}}), &["spec.paramKind.apiVersion:Required"]),
        (doc!({"validations": []}), &["spec.validations:Required", "spec.auditAnnotations:Required"]),
        (doc!({"validations": [{"expression": ""}]}), &["spec.validations[0].expression:Required"]),
        (doc!({"validations": [{"expression": "x"}]}), &["spec.validations[0].expression:Invalid"]),
        (doc!({"validations": [{"expression": "true", "message": "a\nb"}]}), &["spec.validations[0].message:Invalid"]),
        (doc!({"validations": [{"expression": "true", "reason": "x"}]}), &["spec.validations[0].reason:NotSupported"]),
        (doc!({"variables": [{"name": "a b", "expression": "1"}]}), &["spec.variables[0].name:Invalid"]),
        (
            doc!({"matchConditions": [{"name": "a", "expression": "true"}, {"name": "a", "expression": "true"}]}),
            &["spec.matchConditions[1].name:Duplicate"],
        ),
        (
            doc!({"auditAnnotations": [{"key": "", "valueExpression": "''"}]}),
            &["spec.auditAnnotations[0].key:Required"],
        ),
    ] {
        let found = Policy { mutates: false }.validate_create(&policy(false, spec.clone()));
        assert_eq!(places(found), wanted, "{spec}");
    }
    let mutations = |mutation: Doc| doc!({ "mutations": [mutation] });
    for (spec, wanted) in [
        (doc!({}), &[][..]),
        (doc!({"mutations": []}), &["spec.mutations:Required"]),
        (mutations(doc!({"patchType": "Other"})), &["spec.mutations[0].patchType:NotSupported"]),
        (mutations(doc!({"patchType": "JSONPatch"})), &["spec.mutations[0].jsonPatch:Required"]),
        (
            mutations(doc!({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "1"}})),
            &["spec.mutations[0].applyConfiguration.expression:Invalid"],
        ),
        (
            mutations(doc!({"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}, "applyConfiguration": {}})),
            &["spec.mutations[0].applyConfiguration:Invalid"],
        ),
    ] {
        let found = Policy { mutates: true }.validate_create(&policy(true, spec.clone()));
        assert_eq!(places(found), wanted, "{spec}");
    }
}

#[test]
fn what_does_not_compile_is_told_as_the_compiler_tells_it() {
    let wrong = policy(false, doc!({"validations": [{"expression": "object.x ==  nope"}]}));
    let errors = Policy { mutates: false }.validate_create(&wrong);
    assert_eq!(
        errors[0].detail,
        "compilation failed: ERROR: <input>:1:14: undeclared reference to 'nope' (in container '')\n | object.x ==  \
         nope\n | .............^"
    );
    // A policy of old stays as it is when something else changes.
    let mut touched = wrong.clone();
    touched.set_at(&["metadata", "labels"], doc!({"a": "b"}));
    assert!(Policy { mutates: false }.validate_update(&touched, &wrong).is_empty());
}

#[test]
fn bindings() {
    for (spec, wanted) in [
        (doc!({"policyName": "p", "validationActions": ["Deny"]}), &[][..]),
        (doc!({"validationActions": ["Deny"]}), &["spec.policyName:Required"]),
        (doc!({"policyName": "p"}), &["spec.validationActions:Required"]),
        (doc!({"policyName": "p", "validationActions": ["Deny", "Warn"]}), &["spec.validationActions:Invalid"]),
        (doc!({"policyName": "p", "validationActions": ["No"]}), &["spec.validationActions[0]:NotSupported"]),
        (
            doc!({"policyName": "p", "validationActions": ["Deny"], "paramRef": {}}),
            &["spec.paramRef:Required", "spec.paramRef.parameterNotFoundAction:Required"],
        ),
        (
            doc!({"policyName": "p", "validationActions": ["Deny"],
                "paramRef": {"name": "a", "selector": {}, "parameterNotFoundAction": "Allow"}}),
            &["spec.paramRef.name:Forbidden"],
        ),
    ] {
        let binding = doc!({"metadata": {"name": "b"}, "spec": (spec.clone())});
        assert_eq!(places(Binding { mutates: false }.validate_create(&binding)), wanted, "{spec}");
    }
    let binding = doc!({"metadata": {"name": "b"}, "spec": {"policyName": "p"}});
    assert!(Binding { mutates: true }.validate_create(&binding).is_empty());
}
