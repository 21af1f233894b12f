//! Structure and field rules, as data.

use super::*;
use crate::{doc, schema::Schemas};

fn schema(group: &str, version: &str, kind: &str) -> Schema {
    Schemas::builtin().schema(group, version, kind).unwrap()
}

fn whole(kind: &str, doc: &Doc) -> (Doc, Report) {
    let group = if matches!(kind, "Deployment") { "apps" } else { "" };
    let mut doc = doc.clone();
    let report = check(&schema(group, "v1", kind), &mut doc, Mode::Whole);
    (doc, report)
}

#[test]
fn prunes_and_names_unknown_fields() {
    let pod = doc!({"kind": "Pod", "spec": {"foo": 1, "containers": [{"name": "a", "bar": {}}], "nodeSelector": {"any": "key"}},
        "metadata": {"name": "x", "labels": {"a.b/c": "d"}, "nope": null}, "extra": true});
    let (pruned, report) = whole("Pod", &pod);
    let said: Vec<String> = report.unknown_messages().collect();
    assert_eq!(
        said,
        [
            r#"unknown field "spec.foo""#,
            r#"unknown field "spec.containers[0].bar""#,
            r#"unknown field "metadata.nope""#,
            r#"unknown field "extra""#,
        ]
    );
    assert_eq!(
        pruned,
        doc!({"kind": "Pod", "spec": {"containers": [{"name": "a"}], "nodeSelector": {"any": "key"}},
        "metadata": {"name": "x", "labels": {"a.b/c": "d"}}})
    );
    let mut same = pod.clone();
    let partial = check(&schema("", "v1", "Pod"), &mut same, Mode::Partial);
    assert_eq!((same, partial.unknown), (pod, report.unknown));
}

#[test]
fn names_wrong_types() {
    let cases = [
        (doc!({"spec": {"replicas": "3"}}), "spec.replicas: expected an integer of 32 bits, found string"),
        (
            doc!({"spec": {"replicas": 2147483648i64}}),
            "spec.replicas: expected an integer of 32 bits, found number 2147483648",
        ),
        (doc!({"spec": {"replicas": 1.5}}), "spec.replicas: expected an integer of 32 bits, found number 1.5"),
        (doc!({"spec": {"paused": 1}}), "spec.paused: expected true or false, found number 1"),
        (doc!({"spec": []}), "spec: expected an object, found array"),
        (
            doc!({"spec": {"template": {"spec": {"containers": {}}}}}),
            "spec.template.spec.containers: expected an array, found object",
        ),
        (doc!({"metadata": {"labels": {"a": 1}}}), "metadata.labels.a: expected a string, found number 1"),
        (doc!({"metadata": {"name": true}}), "metadata.name: expected a string, found boolean"),
        (
            doc!({"metadata": {"creationTimestamp": "yesterday"}}),
            "metadata.creationTimestamp: expected a time such as 2006-01-02T15:04:05Z, found string \"yesterday\"",
        ),
        (
            doc!({"spec": {"template": {"spec": {"containers": [{"resources": {"limits": {"cpu": "x"}}}]}}}}),
            "spec.template.spec.containers[0].resources.limits.cpu: expected a quantity, found \"x\" is no quantity: \
             expected a number with an optional suffix, such as 500m, 1.5Gi or 1e3",
        ),
        (doc!("text"), "the object: expected an object, found string"),
    ];
    for (doc, expected) in cases {
        let (_, report) = whole("Deployment", &doc);
        let said: Vec<String> = report.wrong.iter().map(TypeError::to_string).collect();
        assert_eq!(said, [expected], "{doc}");
    }
    let error = TypeError { path: "spec.x".into(), expected: "a string", found: "null".into(), is_typed: true };
    assert_eq!(
        error.to_api_error("v1", "Pod").to_string(),
        r#"Pod in version "v1" cannot be handled as a Pod: spec.x: expected a string, found null"#
    );
}

#[test]
fn numbers_of_any_size_are_judged_not_read() {
    for text in ["1e400", "9007199254740993.0", &"9".repeat(1_000_000), "9223372036854775808"] {
        let mut doc = Doc::parse(format!(r#"{{"metadata":{{"generation":{text}}}}}"#).as_bytes()).unwrap();
        let report = check(&schema("", "v1", "Pod"), &mut doc, Mode::Whole);
        assert_eq!(report.wrong.len(), 1, "{text:.40}");
        assert!(report.wrong[0].to_string().len() < 200);
    }
    for text in ["-0", "9007199254740993", "9223372036854775807"] {
        let source = format!(r#"{{"metadata":{{"generation":{text}}}}}"#);
        let mut doc = Doc::parse(source.as_bytes()).unwrap();
        let report = check(&schema("", "v1", "Pod"), &mut doc, Mode::Whole);
        assert!(report.wrong.is_empty());
        if text != "-0" {
            assert_eq!(doc.to_string(), source);
        }
    }
}

#[test]
fn custom_integers_may_be_written_with_a_fraction() {
    let cases = [("3.0", Some("3")), ("3e2", Some("300")), ("3", None), ("-0.0", Some("0"))];
    for (text, expected) in cases {
        let number = crate::doc::Number::from_text(text).unwrap();
        let expected = expected.map(|text| Doc::parse(text.as_bytes()).unwrap());
        assert_eq!(canonical::integer(IntFormat::Whole, &number), Ok(expected), "{text}");
    }
    for text in ["3.5", "1e400", "1e18", "9223372036854775808"] {
        let number = crate::doc::Number::from_text(text).unwrap();
        assert!(canonical::integer(IntFormat::Whole, &number).is_err(), "{text}");
    }
}

#[test]
fn takes_the_form_of_a_typed_server() {
    let (pod, report) = whole(
        "Pod",
        &doc!({
        "metadata": {"creationTimestamp": null, "labels": {}, "annotations": {"a": null},
            "deletionTimestamp": "2026-01-02T03:04:05.999+01:00", "finalizers": []},
        "spec": {"hostNetwork": false, "nodeName": "", "volumes": [{"name": "v", "emptyDir": {}}],
            "containers": [null, {"name": "c", "command": [], "stdin": false, "resources": {"limits":
                {"cpu": "0.5", "memory": 1024, "x": null, "y": 1.5}}}], "nodeSelector": {}}}),
    );
    assert_eq!(report, Report::default());
    assert_eq!(
        pod,
        doc!({
        "metadata": {"annotations": {"a": ""}, "deletionTimestamp": "2026-01-02T02:04:05Z"},
        "spec": {"volumes": [{"name": "v", "emptyDir": {}}], "containers": [{}, {"name": "c", "resources": {"limits":
                {"cpu": "500m", "memory": "1024", "x": "0", "y": "1500m"}}}]}})
    );
}

#[test]
fn times_and_bytes() {
    let accepted = [
        ("2026-01-02T03:04:05Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05.5Z", "2026-01-02T03:04:05Z"),
        ("2026-01-02T03:04:05-07:00", "2026-01-02T10:04:05Z"),
        ("1969-12-31T23:59:59.5Z", "1969-12-31T23:59:59Z"),
    ];
    for (text, expected) in accepted {
        let found = canonical::time(text, false).unwrap().unwrap_or_else(|| text.into());
        assert_eq!(found, expected.into());
    }
    assert_eq!(canonical::time("2026-01-02T03:04:05Z", true), Ok(Some("2026-01-02T03:04:05.000000Z".into())));
    let refused = [
        "",
        "2026-01-02",
        "2026-01-02 03:04:05Z",
        "2026-01-02t03:04:05z",
        "2026-13-02T03:04:05Z",
        "2026-01-02T03:04:60Z",
        "2026-01-02T03:04:05",
        "2026-01-02T03:04:05.Z",
        "2026-01-02T03:04:05+0100",
        "2026-02-30T03:04:05Z",
        "2026-01-02T03:04:05ZZ",
        "２026-01-02T03:04:05Z",
    ];
    for text in refused {
        assert!(canonical::time(text, false).is_err(), "{text}");
    }
    assert_eq!(canonical::bytes("YWJj\nZA=="), Ok(Some("YWJjZA==".into())));
    assert_eq!(canonical::bytes("YWJjZA=="), Ok(None));
    assert!(canonical::bytes("YWJjZA").is_err());
    assert!(canonical::bytes("not base64").is_err());
}

#[test]
fn field_rules_of_the_overlay() {
    let pod = doc!({"spec": {"restartPolicy": "Sometimes", "activeDeadlineSeconds": 0, "nodeSelector": {},
        "containers": [{"image": "i", "ports": [{"containerPort": 65536}, {}]}],
        "affinity": {"podAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 101, "podAffinityTerm": {"topologyKey": "k"}}]}}}});
    let said: Vec<String> =
        validate_fields(&schema("", "v1", "Pod"), &pod, None).iter().map(|e| e.to_string()).collect();
    assert_eq!(
        said,
        [
            r#"spec.restartPolicy: Unsupported value: "Sometimes": supported values: "Always", "Never", "OnFailure""#,
            "spec.activeDeadlineSeconds: Invalid value: 0: must be between 1 and 2147483647, inclusive",
            "spec.containers[0].name: Required value",
            "spec.containers[0].ports[0].containerPort: Invalid value: 65536: must be between 1 and 65535, inclusive",
            "spec.containers[0].ports[1].containerPort: Required value",
            "spec.affinity.podAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: Invalid value: 101: \
         must be between 1 and 100, inclusive",
        ]
    );
    let empty = validate_fields(&schema("", "v1", "Pod"), &doc!({"spec": {"containers": []}}), None);
    assert_eq!(empty.iter().map(|e| e.to_string()).collect::<Vec<_>>(), ["spec.containers: Required value"]);
}

#[test]
fn immutable_fields_stay() {
    let old = doc!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "replicas": 1}});
    let mut new = old.clone();
    new.set_at(&["spec", "replicas"], 5.into());
    assert!(validate_fields(&schema("apps", "v1", "Deployment"), &new, Some(&old)).is_empty());
    new.set_at(&["spec", "selector", "matchLabels", "a"], "c".into());
    let said: Vec<String> =
        validate_fields(&schema("apps", "v1", "Deployment"), &new, Some(&old)).iter().map(|e| e.to_string()).collect();
    assert_eq!(said, [r#"spec.selector: Invalid value: {"matchLabels":{"a":"c"}}: field is immutable"#]);
}
