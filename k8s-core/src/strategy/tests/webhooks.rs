//! Configurations of admission webhooks.

use super::*;

const WEBHOOKS: &str = r#"{"metadata":{"name":"h"},"webhooks":[{"name":"a.b.c","admissionReviewVersions":["v1"],"sideEffects":"None",
    "clientConfig":{"url":"https://h/p"},"rules":[{"operations":["CREATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["pods"]}]}]}"#;

#[test]
fn webhook_configurations() {
    let webhook = |field: &str, value: &str| {
        let base = parse(WEBHOOKS);
        let webhook = with(&base.get("webhooks").unwrap().items()[0], field, value);
        Doc::Array(vec![webhook]).to_string()
    };
    let rule = |field: &str, value: &str| {
        let rule = parse(r#"{"operations":["CREATE"],"apiGroups":[""],"apiVersions":["v1"],"resources":["pods"]}"#);
        webhook("rules", &Doc::Array(vec![with(&rule, field, value)]).to_string())
    };
    let cases = [
        (webhook("name", "\"a.b\""), "webhooks[0].name:Invalid"),
        (webhook("admissionReviewVersions", "[]"), "webhooks[0].admissionReviewVersions:Required"),
        (webhook("admissionReviewVersions", "[\"v2\"]"), "webhooks[0].admissionReviewVersions:Invalid"),
        (webhook("admissionReviewVersions", "[\"v2\",\"v1\"]"), ""),
        (webhook("clientConfig", "{}"), "webhooks[0].clientConfig:Required"),
        (webhook("clientConfig", r#"{"url":"http://h"}"#), "webhooks[0].clientConfig.url:Invalid"),
        (webhook("clientConfig", r#"{"url":"https://h/?a=b"}"#), "webhooks[0].clientConfig.url:Invalid"),
        (webhook("clientConfig", r#"{"service":{"name":"s"}}"#), "webhooks[0].clientConfig.service.namespace:Required"),
        (
            webhook("clientConfig", r#"{"service":{"name":"s","namespace":"n","path":"p"}}"#),
            "webhooks[0].clientConfig.service.path:Invalid",
        ),
        (
            webhook("clientConfig", r#"{"url":"https://h","service":{"name":"s","namespace":"n"}}"#),
            "webhooks[0].clientConfig:Required",
        ),
        (webhook("objectSelector", r#"{"matchLabels":{"-":"x"}}"#), "webhooks[0].objectSelector.matchLabels:Invalid"),
        (webhook("matchConditions", r#"[{"name":"a","expression":"request.name != 'x'"}]"#), ""),
        (
            webhook("matchConditions", r#"[{"name":"-","expression":"request.name !="}]"#),
            "webhooks[0].matchConditions[0].name:Invalid webhooks[0].matchConditions[0].expression:Invalid",
        ),
        (
            webhook("matchConditions", r#"[{"name":"a","expression":"'text'"},{"name":"a","expression":"true"}]"#),
            "webhooks[0].matchConditions[0].expression:Invalid webhooks[0].matchConditions[1].name:Duplicate",
        ),
        (rule("operations", "[\"*\",\"CREATE\"]"), "webhooks[0].rules[0].operations:Invalid"),
        (rule("operations", "[\"READ\"]"), "webhooks[0].rules[0].operations[0]:NotSupported"),
        (rule("apiGroups", "[]"), "webhooks[0].rules[0].apiGroups:Required"),
        (rule("resources", "[\"*\",\"pods\"]"), "webhooks[0].rules[0].resources:Invalid"),
        (rule("resources", "[\"*\",\"pods/status\"]"), ""),
        (rule("resources", "[\"pods/*\",\"pods/status\"]"), "webhooks[0].rules[0].resources[1]:Invalid"),
    ];
    let cases: Vec<(&str, &str, &str)> =
        cases.iter().map(|(value, expected)| ("webhooks", value.as_str(), *expected)).collect();
    for kind in ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"] {
        check_creation("admissionregistration.k8s.io", kind, WEBHOOKS, &cases);
    }
}
