//! Writes: what is validated, who is entered as the manager, and what refusals say.

use http::header::WARNING;

use super::*;

const STRANGE: &str =
    r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"k":"1","k":"2"},"strange":1}"#;
const MERGE: &str = "application/merge-patch+json";

#[tokio::test(start_paused = true)]
async fn fields_that_are_not_there_are_validated_by_every_verb() {
    let wire = Wire::new().await;
    wire.maps(&["a"]).await;
    let one = format!("{MAPS}/a");
    let pieces = r#"{"data":{"k":"1","k":"2"},"strange":1}"#;
    let json_patch =
        r#"[{"op":"add","path":"/strange","value":1},{"op":"add","path":"/data","value":{"k":"1","k":"2"}}]"#;
    let new = STRANGE.replace(r#""a""#, r#""new""#);
    let cases = [
        ("POST", MAPS, JSON, new.as_str(), 201),
        ("PUT", one.as_str(), JSON, STRANGE, 200),
        ("PATCH", &one, MERGE, pieces, 200),
        ("PATCH", &one, "application/strategic-merge-patch+json", pieces, 200),
        ("PATCH", &one, "application/json-patch+json", json_patch, 200),
        ("PATCH", &one, "application/apply-patch+yaml", STRANGE, 200),
    ];
    for (method, path, media_type, text, code) in cases {
        let ask = async |validation: &str| {
            let path = format!("{path}?fieldManager=m{validation}");
            let path = if media_type.contains("apply") { format!("{path}&force=true") } else { path };
            wire.send(method, &path, media_type, text.to_owned()).await
        };
        let case = format!("{method} {media_type}");
        let strict = ask("&fieldValidation=Strict").await.failed(400);
        assert!(
            strict.contains("strict decoding error: ") && strict.contains("unknown field \"strange\""),
            "{case}: {strict}"
        );
        assert!(strict.contains("duplicate field"), "{case}: {strict}");
        let ignored = ask("&fieldValidation=Ignore&dryRun=All").await;
        assert_eq!((ignored.code, ignored.header("warning")), (code, ""), "{case}: {}", ignored.text());
        let warned = ask("").await;
        assert_eq!(warned.code, code, "{case}: {}", warned.text());
        let told: Vec<&str> = warned.headers.get_all(WARNING).iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(told.len(), 2, "{case}: {told:?}");
        assert!(told.contains(&r#"299 - "unknown field \"strange\"""#), "{case}: {told:?}");
        assert_eq!(warned.json().get("strange"), None, "{case}");
    }
}

#[tokio::test(start_paused = true)]
async fn parameters_of_writes_are_judged() {
    let wire = Wire::new().await;
    wire.maps(&["a"]).await;
    let one = format!("{MAPS}/a");
    let apply = "application/apply-patch+yaml";
    let map = r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}}"#;
    let long = format!("fieldManager={}", "m".repeat(129));
    let cases = [
        ("POST", MAPS, JSON, "dryRun=Some", "CreateOptions", "dryRun"),
        ("POST", MAPS, JSON, "fieldValidation=Maybe", "CreateOptions", "fieldValidation"),
        ("POST", MAPS, JSON, long.as_str(), "CreateOptions", "fieldManager"),
        ("PUT", one.as_str(), JSON, "fieldManager=a%07b", "UpdateOptions", "fieldManager"),
        ("PATCH", &one, MERGE, "force=true", "PatchOptions", "force"),
        ("PATCH", &one, apply, "", "PatchOptions", "fieldManager"),
        ("DELETE", &one, JSON, "propagationPolicy=Later", "DeleteOptions", "propagationPolicy"),
    ];
    for (method, path, media_type, query, kind, blamed) in cases {
        let got = wire.send(method, &format!("{path}?{query}"), media_type, map).await;
        let message = got.failed(422);
        assert!(message.starts_with(&format!("{kind}.meta.k8s.io \"\" is invalid: {blamed}: ")), "{query}: {message}");
        assert_eq!(got.blamed(), [blamed]);
    }
    let both = r#"{"orphanDependents":true,"propagationPolicy":"Foreground"}"#;
    assert_eq!(wire.send("DELETE", &one, JSON, both).await.failed(422).matches("cannot be both set").count(), 1);
    assert_eq!(wire.get(MAPS).await.names(), ["a"], "nothing of that changed anything");
}

#[tokio::test(start_paused = true)]
async fn an_apply_that_conflicts_names_every_owner_and_force_takes_it() {
    let wire = Wire::new().await;
    let apply = async |manager: &str, value: &str, query: &str| {
        let text = format!(
            r#"{{"apiVersion":"v1","kind":"ConfigMap","metadata":{{"name":"x"}},"data":{{"k":"{value}","l":"{value}"}}}}"#
        );
        let path = format!("{MAPS}/x?fieldManager={manager}{query}");
        wire.send("PATCH", &path, "application/apply-patch+yaml", text).await
    };
    assert_eq!(apply("one", "1", "").await.code, 201);
    let update = r#"{"data":{"l":"2"}}"#;
    let updated = wire.send("PATCH", &format!("{MAPS}/x?fieldManager=two"), MERGE, update).await;
    assert_eq!(updated.code, 200);
    let managers = |got: &Got| -> Vec<String> {
        let doc = got.json();
        let entries = doc.at(&["metadata", "managedFields"]).map_or(&[][..], Doc::items);
        entries.iter().map(|e| format!("{} {}", e.str_at(&["manager"]), e.str_at(&["operation"]))).collect()
    };
    assert_eq!(managers(&updated), ["one Apply", "two Update"]);
    let refused = apply("three", "3", "").await;
    let message = refused.failed(409);
    assert!(message.starts_with("Apply failed with 2 conflicts: "), "{message}");
    assert!(message.contains("conflicts with \"one\":\n- .data.k"), "{message}");
    assert!(message.contains("conflicts with \"two\" using v1:\n- .data.l"), "{message}");
    assert_eq!(refused.blamed(), [".data.k", ".data.l"]);
    assert_eq!(managers(&apply("three", "3", "&force=true").await), ["three Apply"]);
}

#[tokio::test(start_paused = true)]
async fn what_a_client_names_must_be_what_is_there() {
    let wire = Wire::new().await;
    wire.maps(&["a"]).await;
    let one = format!("{MAPS}/a");
    let put = async |metadata: &str| wire.send("PUT", &one, JSON, format!(r#"{{"metadata":{metadata}}}"#)).await;
    let stale = put(r#"{"name":"a","resourceVersion":"1"}"#).await;
    assert!(stale.failed(409).contains("the object has been modified"));
    assert_eq!(stale.json().str_at(&["reason"]), "Conflict");
    let details = stale.json();
    assert_eq!((details.str_at(&["details", "name"]), details.str_at(&["details", "kind"])), ("a", "configmaps"));
    put(r#"{"name":"a","uid":"other"}"#).await.failed(409);
    put(r#"{"name":"b"}"#).await.failed(400);
    put(r#"{"name":"a","namespace":"other"}"#).await.failed(400);
    for precondition in [r#"{"uid":"other"}"#, r#"{"resourceVersion":"1"}"#] {
        let text = format!(r#"{{"preconditions":{precondition}}}"#);
        assert!(wire.send("DELETE", &one, JSON, text).await.failed(409).contains("Precondition failed"));
    }
    let rename = wire.send("PATCH", &one, MERGE, r#"{"metadata":{"name":"b"}}"#).await;
    assert_eq!(rename.json().str_at(&["status"]), "Failure");
    let again = wire.send("POST", MAPS, JSON, r#"{"metadata":{"name":"a"}}"#).await;
    assert_eq!(again.failed(409), "configmaps \"a\" already exists");
    assert_eq!(again.json().str_at(&["reason"]), "AlreadyExists");
    let set = r#"{"metadata":{"name":"n","resourceVersion":"5"}}"#;
    assert_eq!(
        wire.send("POST", MAPS, JSON, set).await.failed(400),
        "resourceVersion should not be set on objects to be created"
    );
    let gone = wire.send("DELETE", &format!("{MAPS}/none"), JSON, "").await;
    assert_eq!(gone.failed(404), "configmaps \"none\" not found");
    assert_eq!(gone.json().str_at(&["details", "name"]), "none");
}
