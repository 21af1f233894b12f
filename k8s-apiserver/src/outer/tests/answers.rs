//! Answers in every form, and what the inner service was asked.

use http_body_util::BodyExt;
use k8s_core::{
    doc::Doc,
    request::{FieldValidation, PatchKind, Propagation, RequestBody},
};
use tower::ServiceExt;

use super::{super::*, fake::*};

async fn with_accept(outer: &Outer, path: &str, accept: &str) -> Got {
    call(outer, request("GET", path).header("accept", accept).body(body::empty()).unwrap()).await
}

#[tokio::test]
async fn an_object_goes_in_and_comes_out() {
    let (outer, door) = outer();
    let made = send(&outer, "POST", &format!("{CONFIG_MAPS}?fieldManager=me"), JSON, config_map("a")).await;
    assert_eq!((made.code, made.header("content-type")), (201, JSON));
    let (caller, asked) = door.last();
    assert_eq!((caller.name.as_str(), caller.agent.as_str()), ("tester", "test/1"));
    assert_eq!(asked.options.field_manager.as_deref(), Some("me"));
    let got = get(&outer, &format!("{CONFIG_MAPS}/a")).await;
    assert_eq!(got.json().str_at(&["metadata", "resourceVersion"]), "11");
    assert_eq!(got.json().str_at(&["data", "k"]), "v");
    let list = get(&outer, CONFIG_MAPS).await.json();
    assert_eq!(list.str_at(&["kind"]), "ConfigMapList");
    assert_eq!(list.str_at(&["metadata", "resourceVersion"]), "11");
    assert_eq!(list.at(&["items"]).unwrap().items().len(), 1);
    let head = call(&outer, request("HEAD", &format!("{CONFIG_MAPS}/a")).body(body::empty()).unwrap()).await;
    assert_eq!((head.code, head.body.as_str()), (200, ""));
}

#[tokio::test]
async fn a_long_list_is_whole() {
    let (outer, _) = outer();
    for n in 0..1500 {
        send(&outer, "POST", CONFIG_MAPS, JSON, config_map(&format!("map-{n:04}"))).await;
    }
    let got = get(&outer, CONFIG_MAPS).await;
    assert_eq!(got.head.headers.get("content-length"), None);
    let list = got.json();
    let names: Vec<&str> =
        list.at(&["items"]).unwrap().items().iter().map(|i| i.str_at(&["metadata", "name"])).collect();
    assert_eq!(names.len(), 1500);
    assert!(names.is_sorted());
}

#[tokio::test]
async fn the_same_object_in_other_forms() {
    let (outer, _) = outer();
    send(&outer, "POST", CONFIG_MAPS, JSON, config_map("a")).await;
    let one = format!("{CONFIG_MAPS}/a");
    let yaml = with_accept(&outer, &one, "application/yaml").await;
    assert_eq!(yaml.header("content-type"), "application/yaml");
    assert!(yaml.body.contains("kind: ConfigMap"), "{}", yaml.body);
    let partial =
        with_accept(&outer, &one, "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1").await.json();
    assert_eq!(partial.str_at(&["kind"]), "PartialObjectMetadata");
    assert_eq!(partial.str_at(&["metadata", "labels", "a"]), "}");
    assert_eq!(partial.str_at(&["metadata", "resourceVersion"]), "11");
    assert_eq!(partial.get("data"), None);
    let table = with_accept(&outer, CONFIG_MAPS, "application/json;as=Table;g=meta.k8s.io;v=v1").await.json();
    assert_eq!(table.str_at(&["kind"]), "Table");
    assert_eq!(table.at(&["columnDefinitions"]).unwrap().items().len(), 3);
    let rows = table.at(&["rows"]).unwrap().items();
    let cells = rows[0].at(&["cells"]).unwrap().items();
    assert_eq!((cells[0].as_str(), cells[1].to_string()), (Some("a"), "1".to_owned()));
    assert_eq!(rows[0].str_at(&["object", "kind"]), "PartialObjectMetadata");
    let including = format!("{one}?includeObject=Object");
    let whole = with_accept(&outer, &including, "application/json;as=Table;g=meta.k8s.io;v=v1").await;
    assert_eq!(whole.json().at(&["rows"]).unwrap().items()[0].str_at(&["object", "data", "k"]), "v");
    assert_eq!(with_accept(&outer, &one, "application/xml").await.code, 406);
    let pretty = get(&outer, &format!("{one}?pretty=true")).await;
    assert!(pretty.body.contains("\n  \"kind\""), "{}", pretty.body);
}

#[tokio::test]
async fn a_value_that_is_not_stored_has_no_table() {
    let (outer, _) = outer();
    let path = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
    let review = r#"{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{}}"#;
    assert_eq!(send(&outer, "POST", path, JSON, review).await.code, 201);
    let request = request("POST", path).header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1");
    let got = call(&outer, request.header("content-type", JSON).body(body::full(review)).unwrap()).await;
    assert_eq!(got.code, 406);
}

#[tokio::test]
async fn bodies_are_read_by_their_media_type() {
    let (outer, door) = outer();
    let yaml = "kind: ConfigMap\nmetadata: {name: a}\ndata:\n  k: 0644\n  on: yes\n";
    assert_eq!(send(&outer, "POST", CONFIG_MAPS, "application/yaml", yaml).await.code, 201);
    let RequestBody::Doc(doc) = door.last().1.body else { panic!("no document") };
    assert_eq!(doc.at(&["data"]).unwrap().to_string(), r#"{"k":420,"on":true}"#);
    for kind in PatchKind::ALL {
        let text = if kind == PatchKind::Json { "[]" } else { r#"{"data":{}}"# };
        assert_eq!(send(&outer, "PATCH", &format!("{CONFIG_MAPS}/a"), kind.content_type(), text).await.code, 200);
        assert!(matches!(door.last().1.body, RequestBody::Patch(seen, _) if seen == kind));
    }
    let apply = "kind: ConfigMap\nmetadata:\n  name: a\n";
    let path = format!("{CONFIG_MAPS}/a?fieldManager=m&force=true");
    assert_eq!(send(&outer, "PATCH", &path, "application/apply-patch+yaml", apply).await.code, 200);
    assert!(door.last().1.options.force);
}

#[tokio::test]
async fn duplicates_are_passed_on_for_validation() {
    let (outer, door) = outer();
    let twice = r#"{"kind":"ConfigMap","metadata":{"name":"a","name":"b"},"data":{}}"#;
    send(&outer, "POST", &format!("{CONFIG_MAPS}?fieldValidation=Strict"), JSON, twice).await;
    let (_, asked) = door.last();
    assert_eq!(asked.options.field_validation, FieldValidation::Strict);
    assert_eq!(asked.duplicates, [r#"duplicate field "metadata.name""#]);
    send(&outer, "POST", &format!("{CONFIG_MAPS}?fieldValidation=Ignore"), JSON, twice).await;
    assert!(door.last().1.duplicates.is_empty());
    let twice = "kind: ConfigMap\nmetadata: {name: a}\nmetadata: {name: b}\n";
    send(&outer, "POST", CONFIG_MAPS, "application/yaml", twice).await;
    let (_, asked) = door.last();
    assert_eq!(asked.duplicates.len(), 1);
    let RequestBody::Doc(doc) = asked.body else { panic!("no document") };
    assert_eq!(doc.str_at(&["metadata", "name"]), "b", "the last one wins");
}

#[tokio::test]
async fn a_deletion_reads_its_options_from_the_body() {
    let (outer, door) = outer();
    send(&outer, "POST", CONFIG_MAPS, JSON, config_map("a")).await;
    let options =
        r#"{"kind":"DeleteOptions","apiVersion":"v1","propagationPolicy":"Foreground","preconditions":{"uid":"u"}}"#;
    let got = send(&outer, "DELETE", &format!("{CONFIG_MAPS}/a?gracePeriodSeconds=3"), JSON, options).await;
    assert_eq!((got.code, got.json().str_at(&["status"])), (200, "Success"));
    let asked = door.last().1.options;
    assert_eq!(asked.propagation, Some(Propagation::Foreground));
    assert_eq!((asked.grace_period_seconds, asked.precondition_uid.as_deref()), (Some(3), Some("u")));
}

#[tokio::test]
async fn a_watch_is_lines_as_they_come() {
    let (outer, _) = outer();
    send(&outer, "POST", CONFIG_MAPS, JSON, config_map("a")).await;
    let watch = request("GET", &format!("{CONFIG_MAPS}?watch=true")).body(body::empty()).unwrap();
    let mut body = outer.clone().oneshot(watch).await.unwrap().into_body();
    let mut line = async || {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        assert!(frame.ends_with(b"}\n"));
        Doc::parse(&frame).unwrap()
    };
    let added = line().await;
    assert_eq!((added.str_at(&["type"]), added.str_at(&["object", "metadata", "name"])), ("ADDED", "a"));
    let bookmark = line().await;
    assert_eq!((bookmark.str_at(&["type"]), bookmark.str_at(&["object", "kind"])), ("BOOKMARK", "ConfigMap"));
    assert_eq!(bookmark.str_at(&["object", "metadata", "annotations", "k8s.io/initial-events-end"]), "true");
    send(&outer, "PUT", &format!("{CONFIG_MAPS}/a"), JSON, config_map("a")).await;
    let modified = line().await;
    assert_eq!(modified.str_at(&["type"]), "MODIFIED");
    assert_eq!(modified.str_at(&["object", "metadata", "resourceVersion"]), "12");
}

#[tokio::test]
async fn a_watched_table_names_its_columns_once() {
    let (outer, _) = outer();
    for name in ["a", "b"] {
        send(&outer, "POST", CONFIG_MAPS, JSON, config_map(name)).await;
    }
    let watch = request("GET", &format!("{CONFIG_MAPS}?watch=true"))
        .header("accept", "application/json;as=Table;g=meta.k8s.io;v=v1")
        .body(body::empty())
        .unwrap();
    let mut body = outer.oneshot(watch).await.unwrap().into_body();
    let mut columns = Vec::new();
    for _ in 0..2 {
        let frame = body.frame().await.unwrap().unwrap().into_data().unwrap();
        let event = Doc::parse(&frame).unwrap();
        assert_eq!(event.at(&["object", "rows"]).unwrap().items().len(), 1);
        columns.push(event.at(&["object", "columnDefinitions"]).unwrap().items().len());
    }
    assert_eq!(columns, [3, 0]);
}

#[tokio::test]
async fn a_watch_ends_when_the_server_stops() {
    let (outer, _) = outer();
    let stop = k8s_wire::serve::CancellationToken::new();
    let watch = request("GET", &format!("{CONFIG_MAPS}?watch=true")).extension(stop.clone()).body(body::empty());
    let mut body = outer.oneshot(watch.unwrap()).await.unwrap().into_body();
    assert!(body.frame().await.is_some(), "the bookmark");
    stop.cancel();
    assert!(body.frame().await.is_none());
}

#[tokio::test]
async fn an_expired_watch_says_so_in_an_event() {
    let (outer, door) = outer();
    *door.fail.lock() = Some(ApiError::expired("too old resource version"));
    let got = get(&outer, &format!("{CONFIG_MAPS}?watch=true&resourceVersion=1")).await;
    assert_eq!(got.code, 200);
    let event = got.json();
    assert_eq!((event.str_at(&["type"]), event.str_at(&["object", "reason"])), ("ERROR", "Expired"));
    let listed = get(&outer, &format!("{CONFIG_MAPS}?resourceVersion=1&resourceVersionMatch=Exact")).await;
    assert_eq!(listed.code, 410);
}

#[tokio::test]
async fn a_failure_is_a_status_and_may_say_when_to_come_back() {
    let (outer, door) = outer();
    let got = get(&outer, &format!("{CONFIG_MAPS}/missing")).await;
    assert_eq!((got.code, got.json().str_at(&["reason"])), (404, "NotFound"));
    *door.fail.lock() = Some(ApiError::too_many_requests("slow down", std::time::Duration::from_secs(7)));
    let got = get(&outer, CONFIG_MAPS).await;
    assert_eq!((got.code, got.header("retry-after")), (429, "7"));
    *door.fail.lock() = None;
    let got = get(&outer, &format!("{CONFIG_MAPS}/panic")).await;
    assert_eq!((got.code, got.json().str_at(&["reason"])), (500, "InternalError"));
    assert!(!got.body.contains("on purpose"), "{}", got.body);
    assert_eq!(get(&outer, CONFIG_MAPS).await.code, 200);
}

#[tokio::test]
async fn requests_are_counted_and_a_watch_until_it_ends() {
    let (outer, _) = outer();
    send(&outer, "POST", CONFIG_MAPS, JSON, config_map("a")).await;
    get(&outer, &format!("{CONFIG_MAPS}/missing")).await;
    let watch = request("GET", &format!("{CONFIG_MAPS}?watch=true")).body(body::empty()).unwrap();
    let watch = outer.clone().oneshot(watch).await.unwrap();
    let metrics = get(&outer, "/metrics").await.body;
    for line in [
        r#"apiserver_request_total{verb="POST",dry_run="",group="",version="v1",resource="configmaps",subresource="",scope="resource",component="apiserver",code="201"} 1"#,
        r#"apiserver_request_total{verb="GET",dry_run="",group="",version="v1",resource="configmaps",subresource="",scope="resource",component="apiserver",code="404"} 1"#,
        r#"apiserver_longrunning_requests{verb="WATCH",group="",version="v1",resource="configmaps",subresource="",scope="namespace",component="apiserver"} 1"#,
        "apiserver_current_inflight_requests{request_kind=\"readOnly\"} 0",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    let mut events = watch.into_body();
    events.frame().await.unwrap().unwrap();
    drop(events);
    get(&outer, CONFIG_MAPS).await;
    let apply = "kind: ConfigMap\nmetadata:\n  name: a\n";
    let path = format!("{CONFIG_MAPS}/a?fieldManager=m&dryRun=All");
    send(&outer, "PATCH", &path, "application/apply-patch+yaml", apply).await;
    let metrics = get(&outer, "/metrics").await.body;
    for line in [
        r#"apiserver_longrunning_requests{verb="WATCH",group="",version="v1",resource="configmaps",subresource="",scope="namespace",component="apiserver"} 0"#,
        r#"apiserver_watch_events_total{group="",version="v1",resource="configmaps"} 1"#,
        r#"apiserver_watch_events_sizes_count{group="",version="v1",resource="configmaps"} 1"#,
        r#"apiserver_response_sizes_count{verb="LIST",group="",version="v1",resource="configmaps",subresource="",scope="namespace",component="apiserver"} 1"#,
        r#"apiserver_request_total{verb="APPLY",dry_run="All",group="",version="v1",resource="configmaps",subresource="",scope="resource",component="apiserver",code="200"} 1"#,
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line} in {metrics}");
    }
    families_are_whole(&metrics);
}

/// Every sample stands below the lines that describe its family, and no family is described twice.
fn families_are_whole(metrics: &str) {
    let (mut described, mut family) = (std::collections::BTreeSet::new(), "");
    for line in metrics.lines() {
        if let Some(help) = line.strip_prefix("# HELP ") {
            family = help.split(' ').next().unwrap();
            assert!(described.insert(family), "{family} is described twice");
        } else if let Some(form) = line.strip_prefix("# TYPE ") {
            assert_eq!(form.split(' ').next(), Some(family), "help stands before the type");
        } else {
            assert!(line.starts_with(family), "{line} below {family}");
        }
    }
    assert!(described.len() >= 7, "{described:?}");
}

#[tokio::test]
async fn who_may_read_paths_is_asked_of_the_authorizer() {
    let (outer, _) = outer();
    let anonymous = async |path: &str| {
        let request = http::Request::get(path.to_owned()).body(body::empty()).unwrap();
        call(&outer, request).await
    };
    assert_eq!(anonymous("/version").await.json().str_at(&["minor"]), "37");
    assert_eq!(anonymous("/readyz").await.body, "ok");
    for path in ["/metrics", "/apis", "/openapi/v3", "/", "/nothing"] {
        let got = anonymous(path).await;
        assert_eq!((got.code, got.json().str_at(&["reason"])), (403, "Forbidden"), "{path}");
    }
    let got = get(&outer, "/nothing").await;
    assert_eq!((got.code, got.json().at(&["code"]).unwrap().as_i64()), (404, Some(404)));
    assert_eq!(send(&outer, "POST", "/version", JSON, "{}").await.code, 405);
}

#[tokio::test]
async fn acting_as_another_is_the_doors_to_decide_but_for_paths() {
    let (outer, door) = outer();
    let asked = async |path: &str, user: &str| {
        call(&outer, request("GET", path).header("impersonate-user", user).body(body::empty()).unwrap()).await
    };
    asked(CONFIG_MAPS, "someone").await;
    let (caller, request) = door.last();
    assert_eq!((caller.name.as_str(), request.caller.unwrap().name.as_str()), ("tester", "someone"));
    let refused = asked("/version", "root").await;
    assert_eq!((refused.code, refused.json().str_at(&["reason"])), (403, "Forbidden"));
    assert_eq!(asked("/version", "someone").await.code, 200);
    assert_eq!(asked("/metrics", "someone").await.code, 403, "the other has no such right");
}
