//! Bodies that are right: a valid object of every kind, and what is asked below objects.

use serde_json::{Value, json};

use super::samples::{name_of, sample};

/// The name of the `number`th object of a kind.
pub fn name(plural: &str, number: u64) -> String {
    match plural {
        "ipaddresses" => format!("192.0.2.{}", number % 256),
        // The names of these follow from what they say.
        "apiservices" => format!("v1.{}", group(number)),
        "customresourcedefinitions" => format!("things.{}", group(number)),
        _ => format!("{}-{number}", name_of(plural)),
    }
}

fn group(number: u64) -> String {
    format!("group{number}.example.com")
}

/// The `number`th object of a kind, but for its version and kind.
pub fn object(version: &str, plural: &str, number: u64) -> Value {
    let mut body: Value = match plural {
        "customresourcedefinitions" => definition(number),
        _ => own(plural)
            .unwrap_or_else(|| serde_json::from_slice(&sample(version, plural).to_json()).expect("a document is JSON")),
    };
    if plural == "apiservices" {
        body["spec"]["group"] = json!(group(number));
    }
    body["metadata"]["name"] = json!(name(plural, number));
    body["metadata"]["labels"]["app"] = json!("web");
    body
}

fn definition(number: u64) -> Value {
    json!({"spec": {
        "group": group(number), "scope": "Namespaced",
        "names": {"plural": "things", "singular": "thing", "kind": "Thing", "listKind": "ThingList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
            "type": "object", "properties": {"spec": {"type": "object", "properties": {
                "size": {"type": "integer", "minimum": 0}}}}}}}]}})
}

/// What is no sample because it is not stored, or because samples leave out what does something.
fn own(plural: &str) -> Option<Value> {
    let asked = json!({"verb": "get", "resource": "pods", "namespace": "default"});
    let rules = json!({"resourceRules": [{"apiGroups": ["nobody.example.com"], "apiVersions": ["v1"],
        "operations": ["CREATE"], "resources": ["nothings"]}]});
    Some(match plural {
        "tokenreviews" => json!({"spec": {"token": "unknown"}}),
        "selfsubjectaccessreviews" => json!({"spec": {"resourceAttributes": asked}}),
        "subjectaccessreviews" | "localsubjectaccessreviews" => {
            json!({"metadata": {"namespace": "default"}, "spec": {"user": "u", "resourceAttributes": asked}})
        }
        "selfsubjectrulesreviews" => json!({"spec": {"namespace": "default"}}),
        "bindings" => target(),
        "validatingadmissionpolicies" => {
            json!({"spec": {"matchConstraints": rules, "validations": [{"expression": "true"}]}})
        }
        "mutatingadmissionpolicies" => json!({"spec": {"matchConstraints": rules, "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
        "validatingadmissionpolicybindings" => json!({"spec": {"policyName": "p", "validationActions": ["Deny"]}}),
        "mutatingadmissionpolicybindings" => json!({"spec": {"policyName": "p"}}),
        _ => return None,
    })
}

fn target() -> Value {
    json!({"target": {"kind": "Node", "name": "node-1"}})
}

/// What is posted below an object.
pub fn below(subresource: &str) -> Value {
    match subresource {
        "binding" => target(),
        "token" => json!({"spec": {"expirationSeconds": 3600}}),
        _ => json!({}),
    }
}
