//! ValidatingAdmissionPolicy and MutatingAdmissionPolicy.

use std::time::Duration;

use serde_json::{Value, json};

use super::operations::{Sample, every_verb_works, is_discovered};
use crate::api::Api;

const VERSION: &str = "admissionregistration.k8s.io/v1";
const GROUP: &str = "/apis/admissionregistration.k8s.io/v1";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn constraints() -> Value {
    json!({"resourceRules": [{
        "apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["deployments"]
    }]})
}

fn deployment(name: &str, replicas: i64) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": replicas,
        "selector": {"matchLabels": {"app": "x"}},
        "template": {"metadata": {"labels": {"app": "x"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    }})
}

async fn validating(api: &Api, spec: Value) {
    let policy = json!({"apiVersion": VERSION, "kind": "ValidatingAdmissionPolicy", "metadata": {"name": "p"},
        "spec": spec});
    api.create(&format!("{GROUP}/validatingadmissionpolicies"), &policy).await;
    let binding = json!({"apiVersion": VERSION, "kind": "ValidatingAdmissionPolicyBinding", "metadata": {"name": "b"},
        "spec": {"policyName": "p", "validationActions": ["Deny"]}});
    api.create(&format!("{GROUP}/validatingadmissionpolicybindings"), &binding).await;
}

async fn mutating(api: &Api, mutations: Value) {
    let policy = json!({"apiVersion": VERSION, "kind": "MutatingAdmissionPolicy", "metadata": {"name": "p"},
        "spec": {"matchConstraints": constraints(), "mutations": mutations, "reinvocationPolicy": "Never",
            "failurePolicy": "Fail"}});
    api.create(&format!("{GROUP}/mutatingadmissionpolicies"), &policy).await;
    let binding = json!({"apiVersion": VERSION, "kind": "MutatingAdmissionPolicyBinding", "metadata": {"name": "b"},
        "spec": {"policyName": "p"}});
    api.create(&format!("{GROUP}/mutatingadmissionpolicybindings"), &binding).await;
}

/// Policies act within moments: a dry run shows when.
async fn acts(api: &Api, probe: &Value, shows: impl Fn(u16, &Value) -> bool) {
    let path = format!("{DEPLOYMENTS}?dryRun=All");
    let all = async {
        loop {
            let answer = api.post(&path, probe).await;
            if shows(answer.code, &answer.value) {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), all).await.expect("the policy acts within moments");
}

pub async fn validates_a_deployment(api: &Api) {
    validating(
        api,
        json!({"matchConstraints": constraints(), "validations": [{
            "expression": "object.spec.replicas > 1",
            "messageExpression": "'wants replicas > 1, got ' + string(object.spec.replicas)"
        }]}),
    )
    .await;
    acts(api, &deployment("probe", 1), |code, _| code != 201).await;
    let refused = api.post(DEPLOYMENTS, &deployment("low", 1)).await.failed(422, "Invalid");
    assert_eq!(
        refused["message"],
        "deployments.apps \"low\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: wants \
         replicas > 1, got 1"
    );
    api.get(&format!("{DEPLOYMENTS}/low")).await.failed(404, "NotFound");
    let made = api.create(DEPLOYMENTS, &deployment("high", 2)).await;
    assert_eq!(made["spec"]["replicas"], 2);
    let patch = json!({"spec": {"replicas": 1}});
    api.patch(&format!("{DEPLOYMENTS}/high"), "merge", &patch).await.failed(422, "Invalid");
}

pub async fn expressions_refer_to_variables(api: &Api) {
    validating(
        api,
        json!({"matchConstraints": constraints(),
            "variables": [
                {"name": "replicas", "expression": "object.spec.replicas"},
                {"name": "oddReplicas", "expression": "variables.replicas % 2 == 1"}
            ],
            "validations": [{"expression": "variables.replicas > 1"}, {"expression": "variables.oddReplicas"}]
        }),
    )
    .await;
    acts(api, &deployment("probe", 1), |code, _| code != 201).await;
    for (replicas, told) in [(1, "variables.replicas > 1"), (2, "variables.oddReplicas")] {
        let refused = api.post(DEPLOYMENTS, &deployment("a", replicas)).await.failed(422, "Invalid");
        let message = refused["message"].as_str().unwrap_or_default();
        assert!(message.ends_with(&format!("denied request: failed expression: {told}")), "{message}");
    }
    api.create(DEPLOYMENTS, &deployment("a", 3)).await;
}

fn validating_sample() -> Sample {
    Sample {
        api_version: VERSION,
        plural: "validatingadmissionpolicies",
        namespaced: false,
        object: json!({"kind": "ValidatingAdmissionPolicy", "metadata": {}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": ["none"], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["nothing"]}]},
            "validations": [{"expression": "true"}]}}),
    }
}

pub async fn validating_policy_operations(api: &Api) {
    let sample = validating_sample();
    is_discovered(api, &sample, &["status"]).await;
    every_verb_works(api, &sample, ["a", "b", "c"]).await;
    let one = format!("{}/s", sample.path());
    api.create(&sample.path(), &sample.named("s")).await;
    let condition = json!({"type": "Checked", "status": "True", "reason": "Test", "message": "",
        "lastTransitionTime": "2024-01-02T03:04:05Z"});
    let status = json!({"status": {"conditions": [condition], "observedGeneration": 1}});
    let patched = api.patch(&format!("{one}/status"), "merge", &status).await.expect(200);
    assert_eq!(patched["status"]["conditions"][0]["type"], "Checked");
    assert_eq!(api.read(&format!("{one}/status")).await["status"]["observedGeneration"], 1);
    let mut updated = patched;
    updated["status"]["conditions"][0]["type"] = "Updated".into();
    let updated = api.put(&format!("{one}/status"), &updated).await.expect(200);
    assert_eq!(updated["status"]["conditions"][0]["type"], "Updated");
}

pub async fn validating_binding_operations(api: &Api) {
    let sample = Sample {
        api_version: VERSION,
        plural: "validatingadmissionpolicybindings",
        namespaced: false,
        object: json!({"kind": "ValidatingAdmissionPolicyBinding", "metadata": {},
            "spec": {"policyName": "nothing", "validationActions": ["Deny"]}}),
    };
    is_discovered(api, &sample, &[]).await;
    every_verb_works(api, &sample, ["a", "b", "c"]).await;
}

pub async fn mutates_a_deployment(api: &Api) {
    mutating(api, json!([{"patchType": "ApplyConfiguration", "applyConfiguration": {
        "expression": "Object{spec: Object.spec{replicas: object.spec.replicas + 1, template: Object.spec.template{\
            spec: Object.spec.template.spec{containers: [Object.spec.template.spec.containers{name: 'side', image: 's'}]}}}}"
    }}]))
    .await;
    acts(api, &deployment("probe", 1), |_, made| made["spec"]["replicas"] == 2).await;
    let made = api.create(DEPLOYMENTS, &deployment("a", 1)).await;
    assert_eq!(made["spec"]["replicas"], 2);
    let containers = made["spec"]["template"]["spec"]["containers"].as_array().expect("containers");
    let mut names: Vec<&str> = containers.iter().filter_map(|container| container["name"].as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["c", "side"]);
    // What the policy added has its defaults.
    assert!(containers.iter().all(|container| container["terminationMessagePath"] == "/dev/termination-log"));
}

pub async fn mutates_annotations(api: &Api) {
    mutating(api, json!([
        {"patchType": "ApplyConfiguration", "applyConfiguration": {
            "expression": "Object{metadata: Object.metadata{annotations: {'my-foo-annotation': 'myAnnotationValue'}}}"}},
        {"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 'add', path: '/metadata/annotations/' + \
            jsonpatch.escapeKey('example.com/b'), value: object.metadata.annotations['my-foo-annotation']}]"}}
    ]))
    .await;
    let key = "my-foo-annotation";
    acts(api, &deployment("probe", 1), |_, made| made["metadata"]["annotations"][key].is_string()).await;
    let made = api.create(DEPLOYMENTS, &deployment("a", 1)).await;
    assert_eq!(made["metadata"]["annotations"][key], "myAnnotationValue");
    assert_eq!(made["metadata"]["annotations"]["example.com/b"], "myAnnotationValue");
}

pub async fn mutating_policy_operations(api: &Api) {
    let sample = Sample {
        api_version: VERSION,
        plural: "mutatingadmissionpolicies",
        namespaced: false,
        object: json!({"kind": "MutatingAdmissionPolicy", "metadata": {}, "spec": {
            "matchConstraints": {"resourceRules": [{"apiGroups": ["none"], "apiVersions": ["v1"],
                "operations": ["CREATE"], "resources": ["nothing"]}]},
            "reinvocationPolicy": "Never",
            "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": "[]"}}]}}),
    };
    is_discovered(api, &sample, &[]).await;
    every_verb_works(api, &sample, ["a", "b", "c"]).await;
}

pub async fn mutating_binding_operations(api: &Api) {
    let sample = Sample {
        api_version: VERSION,
        plural: "mutatingadmissionpolicybindings",
        namespaced: false,
        object: json!({"kind": "MutatingAdmissionPolicyBinding", "metadata": {}, "spec": {"policyName": "nothing"}}),
    };
    is_discovered(api, &sample, &[]).await;
    every_verb_works(api, &sample, ["a", "b", "c"]).await;
}
