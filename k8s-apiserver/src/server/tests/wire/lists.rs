//! Lists, watches and what concerns every answer.

use std::io::Read;

use super::*;

/// As kubectl waits for one object: what it asks for, and a bookmark when all of it was said.
const WATCH_LIST: &str =
    "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true&timeoutSeconds=1";

#[tokio::test(start_paused = true)]
async fn combinations_that_mean_nothing_are_named_all_at_once() {
    let wire = Wire::new().await;
    let cases: [(&str, &[&str]); 9] = [
        ("resourceVersionMatch=Exact", &["resourceVersionMatch"]),
        ("resourceVersionMatch=Near&resourceVersion=1", &["resourceVersionMatch"]),
        ("resourceVersionMatch=Exact&resourceVersion=0", &["resourceVersionMatch"]),
        ("resourceVersionMatch=NotOlderThan&continue=x", &["resourceVersionMatch", "resourceVersionMatch"]),
        ("sendInitialEvents=false", &["sendInitialEvents"]),
        ("watch=1&sendInitialEvents=true", &["resourceVersionMatch"]),
        ("watch=1&resourceVersionMatch=NotOlderThan", &["resourceVersionMatch"]),
        ("watch=1&resourceVersionMatch=Exact", &["resourceVersionMatch", "resourceVersionMatch"]),
        (
            "watch=1&sendInitialEvents=true&resourceVersionMatch=Exact",
            &["resourceVersionMatch", "resourceVersionMatch"],
        ),
    ];
    for (query, blamed) in cases {
        let got = wire.get(&format!("{MAPS}?{query}")).await;
        let message = got.failed(422);
        assert!(message.starts_with("ListOptions.meta.k8s.io \"\" is invalid: "), "{query}: {message}");
        assert_eq!(got.blamed(), blamed, "{query}");
    }
    for query in ["continue=x", "resourceVersion=x", "limit=x", "labelSelector=%3D", "fieldSelector=data.x%3D1"] {
        wire.get(&format!("{MAPS}?{query}")).await.failed(400);
    }
}

#[tokio::test(start_paused = true)]
async fn pages_show_one_moment_and_count_what_is_left_unless_a_selector_chooses() {
    let wire = Wire::new().await;
    wire.maps(&["a", "b", "c", "d"]).await;
    let first = wire.get(&format!("{MAPS}?limit=2")).await;
    assert_eq!(first.names(), ["a", "b"]);
    let metadata = first.json();
    let (token, revision) =
        (metadata.str_at(&["metadata", "continue"]), metadata.str_at(&["metadata", "resourceVersion"]));
    assert_eq!(metadata.at(&["metadata", "remainingItemCount"]).and_then(Doc::as_i64), Some(2));
    wire.maps(&["bb", "e"]).await;
    assert_eq!(wire.send("DELETE", &format!("{MAPS}/d"), JSON, "").await.code, 200);
    let second = wire.get(&format!("{MAPS}?limit=2&continue={token}")).await;
    assert_eq!(second.names(), ["c", "d"], "as it was when the first page was read");
    assert_eq!(second.json().str_at(&["metadata", "resourceVersion"]), revision);
    assert_eq!(second.json().at(&["metadata", "continue"]), None);
    let exact = wire.get(&format!("{MAPS}?resourceVersion={revision}&resourceVersionMatch=Exact")).await;
    assert_eq!(exact.names(), ["a", "b", "c", "d"]);
    let chosen = wire.get(&format!("{MAPS}?limit=1&labelSelector=name")).await.json();
    assert!(chosen.at(&["metadata", "continue"]).is_some());
    assert_eq!(chosen.at(&["metadata", "remainingItemCount"]), None);
    let table = [("accept", "application/json;as=Table;v=v1;g=meta.k8s.io")];
    let table = wire.ask("GET", &format!("{MAPS}?limit=2"), &table, "").await.json();
    assert_eq!(table.at(&["rows"]).map_or(0, |rows| rows.items().len()), 2);
    assert_eq!(table.at(&["metadata", "remainingItemCount"]).and_then(Doc::as_i64), Some(3));
}

#[tokio::test(start_paused = true)]
async fn a_revision_that_is_to_come_is_told_apart_from_other_timeouts() {
    let wire = Wire::new().await;
    for query in ["resourceVersion=1000000", "resourceVersion=1000000&limit=1", "watch=1&resourceVersion=1000000"] {
        let got = wire.get(&format!("{MAPS}?{query}")).await;
        let message = got.failed(504);
        assert!(message.starts_with("Timeout: Too large resource version: 1000000, current: "), "{message}");
        assert_eq!(got.header("retry-after"), "1");
        let status = got.json();
        let cause = &status.at(&["details", "causes"]).unwrap().items()[0];
        assert_eq!(cause.str_at(&["reason"]), "ResourceVersionTooLarge");
    }
    wire.get(&format!("{MAPS}/a?resourceVersion=1000000")).await.failed(504);
}

#[tokio::test(start_paused = true)]
async fn a_watch_of_one_name_says_when_all_was_said() {
    let wire = Wire::new().await;
    wire.maps(&["a", "b"]).await;
    let got = wire.get(&format!("{MAPS}?{WATCH_LIST}&limit=1&fieldSelector=metadata.name%3Db")).await;
    assert_eq!(got.events(), ["ADDED b", "BOOKMARK "]);
    let last = Doc::parse(got.text().lines().last().unwrap().as_bytes()).unwrap();
    assert_eq!(last.str_at(&["object", "metadata", "annotations", "k8s.io/initial-events-end"]), "true");
    let accept = [("accept", "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io")];
    let partial = wire.ask("GET", &format!("{MAPS}?{WATCH_LIST}"), &accept, "").await;
    let kinds: Vec<String> = partial
        .text()
        .lines()
        .map(|line| Doc::parse(line.as_bytes()).unwrap().str_at(&["object", "kind"]).to_owned())
        .collect();
    assert_eq!(kinds, ["PartialObjectMetadata"; 3]);
}

#[tokio::test(start_paused = true)]
async fn long_answers_are_compressed_for_who_takes_it() {
    let wire = Wire::new().await;
    let big = format!(r#"{{"metadata":{{"name":"big"}},"data":{{"k":"{}"}}}}"#, "v".repeat(200_000));
    let gzip = ("accept-encoding", "gzip");
    let made = wire.ask("POST", MAPS, &[gzip, ("content-type", JSON)], big).await;
    assert_eq!((made.code, made.header("content-encoding"), made.header("vary")), (201, "gzip", "Accept-Encoding"));
    for path in [MAPS.to_owned(), format!("{MAPS}/big")] {
        let plain = wire.get(&path).await;
        assert_eq!(plain.header("content-encoding"), "");
        for accept in [JSON, "application/vnd.kubernetes.protobuf", "application/yaml"] {
            let plain = wire.ask("GET", &path, &[("accept", accept)], "").await;
            let zipped = wire.ask("GET", &path, &[gzip, ("accept", accept)], "").await;
            assert_eq!(zipped.header("content-encoding"), "gzip", "{path} {accept}");
            assert!(zipped.body.len() < 10_000);
            let mut unzipped = Vec::new();
            flate2::read::GzDecoder::new(&zipped.body[..]).read_to_end(&mut unzipped).unwrap();
            assert_eq!(Bytes::from(unzipped), plain.body, "{path} {accept}");
        }
    }
    let watch = wire.ask("GET", &format!("{MAPS}?watch=1&timeoutSeconds=1"), &[gzip], "").await;
    assert_eq!((watch.header("content-encoding"), watch.events().len()), ("", 1));
    wire.maps(&["small"]).await;
    let small = wire.ask("GET", &format!("{MAPS}/small"), &[gzip], "").await;
    assert_eq!(small.header("content-encoding"), "");
}

#[tokio::test(start_paused = true)]
async fn the_servers_figures_stand_below_what_describes_them() {
    let wire = Wire::new().await;
    wire.maps(&["a"]).await;
    let nowhere = wire.send("POST", &MAPS.replace("default", "nowhere"), JSON, r#"{"metadata":{"name":"a"}}"#).await;
    nowhere.failed(404);
    let samples = wire.api.api.cache().samples() + &wire.get("/metrics").await.text();
    for line in [
        r#"apiserver_storage_objects{resource="configmaps"} 1"#,
        r#"apiserver_resource_objects{group="",resource="configmaps"} 1"#,
        r#"apiserver_admission_step_admission_duration_seconds_count{operation="CREATE",rejected="true",type="admit"} 1"#,
        r#"apiserver_admission_controller_admission_duration_seconds_count{name="NamespaceLifecycle",operation="CREATE",rejected="true",type="admit"} 1"#,
    ] {
        assert!(samples.lines().any(|found| found == line), "{line} in {samples}");
    }
    let mut family = "";
    for line in samples.lines().filter(|line| !line.starts_with("# TYPE ")) {
        match line.strip_prefix("# HELP ") {
            Some(help) => family = help.split(' ').next().unwrap(),
            None => assert!(!family.is_empty() && line.starts_with(family), "{line} below {family}"),
        }
    }
}

#[tokio::test(start_paused = true)]
async fn people_get_indented_json() {
    let wire = Wire::new().await;
    wire.maps(&["a"]).await;
    let cases = [
        ("", "kubectl/v1.37", false),
        ("", "curl/8.0", true),
        ("?pretty=true", "kubectl/v1.37", true),
        ("?pretty=0", "curl/8.0", false),
        ("?pretty=maybe", "curl/8.0", false),
        ("?pretty", "Mozilla/5.0 (X11)", true),
    ];
    for (query, agent, expected) in cases {
        let got = wire.ask("GET", &format!("{MAPS}/a{query}"), &[("user-agent", agent)], "").await;
        assert_eq!(got.text().contains("\n  \"kind\""), expected, "{query} {agent}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_question_here_is_ignored_or_refused() {
    let wire = Wire::new().await;
    wire.maps(&["a"]).await;
    assert_eq!(wire.get(&format!("{MAPS}?whatever=1&limit=-1")).await.names(), ["a"]);
    assert_eq!(
        wire.ask("OPTIONS", MAPS, &[], "").await.failed(405),
        "OPTIONS is not supported on resources of this kind"
    );
    let head = wire.ask("HEAD", &format!("{MAPS}/a"), &[], "").await;
    assert_eq!((head.code, head.body.len()), (200, 0));
    let liked = [("accept", "text/html, application/yaml;q=0.4, application/json;q=0.9")];
    assert_eq!(wire.ask("GET", MAPS, &liked, "").await.header("content-type"), JSON);
    wire.ask("GET", MAPS, &[("accept", "text/html")], "").await.failed(406);
}

#[tokio::test(start_paused = true)]
async fn a_collection_is_deleted_as_far_as_it_is_chosen() {
    let wire = Wire::new().await;
    wire.maps(&["a", "b", "c", "d"]).await;
    let all = async || wire.get(MAPS).await.names();
    let delete = async |query: &str| wire.send("DELETE", &format!("{MAPS}?{query}"), JSON, "").await.names();
    assert_eq!(delete("dryRun=All").await, ["a", "b", "c", "d"]);
    assert_eq!(all().await, ["a", "b", "c", "d"]);
    assert_eq!(delete("labelSelector=name+in+(b,c)").await, ["b", "c"]);
    assert_eq!(delete("fieldSelector=metadata.name%3Dd").await, ["d"]);
    wire.maps(&["e"]).await;
    assert_eq!(delete("limit=1").await, ["a"]);
    assert_eq!(all().await, ["e"]);
}
