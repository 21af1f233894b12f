//! Heads read and written.

use std::time::Duration;

use super::*;
use crate::{
    request::{ApiRequest, Fence, FieldValidation, Propagation, VersionMatch},
    selector::FieldSelector,
};

fn resource(method: Method, path: &str, query: &str) -> ResourceRequest {
    match RequestInfo::parse(method, path, query) {
        Ok(RequestInfo::Resource(request)) => *request,
        other => panic!("{path}: {other:?}"),
    }
}

/// `verb group/version/plural namespace name subresource`, with `-` for what is empty.
fn summary(method: Method, path: &str, query: &str) -> String {
    let ResourceRequest { verb, target, .. } = resource(method, path, query);
    let dash = |text: &str| if text.is_empty() { "-".to_owned() } else { text.to_owned() };
    let of = &target.resource;
    format!(
        "{} {}/{}/{} {} {} {}",
        verb.as_str(),
        dash(&of.group),
        of.version,
        of.plural,
        dash(&target.namespace),
        dash(&target.name),
        dash(&target.subresource)
    )
}

#[test]
fn paths_say_what_upstream_says_they_say() {
    use Method::*;
    let cases = [
        (Get, "/api/v1/namespaces", "", "list -/v1/namespaces - - -"),
        (Post, "/api/v1/namespaces", "", "create -/v1/namespaces - - -"),
        (Get, "/api/v1/namespaces/a", "", "get -/v1/namespaces - a -"),
        (Put, "/api/v1/namespaces/a/finalize", "", "update -/v1/namespaces - a finalize"),
        (Patch, "/api/v1/namespaces/a/status", "", "patch -/v1/namespaces - a status"),
        (Get, "/api/v1/namespaces/a/pods", "", "list -/v1/pods a - -"),
        (Get, "/api/v1/namespaces/a/pods/", "", "list -/v1/pods a - -"),
        (Get, "/api/v1/namespaces/a/pods/b", "", "get -/v1/pods a b -"),
        (Head, "/api/v1/namespaces/a/pods/b", "", "get -/v1/pods a b -"),
        (Post, "/api/v1/namespaces/a/pods/b/binding", "", "create -/v1/pods a b binding"),
        (Get, "/api/v1/namespaces/a/pods/b/exec", "command=sh", "connect -/v1/pods a b exec"),
        (Get, "/api/v1/namespaces/a/pods/b/log", "follow=true", "connect -/v1/pods a b log"),
        (Get, "/api/v1/pods", "watch=true", "watch -/v1/pods - - -"),
        (Get, "/api/v1/pods", "watch=1", "watch -/v1/pods - - -"),
        (Get, "/api/v1/pods", "watch", "watch -/v1/pods - - -"),
        (Get, "/api/v1/pods", "watch=0", "list -/v1/pods - - -"),
        (Get, "/api/v1/pods", "watch=False", "list -/v1/pods - - -"),
        (Get, "/api/v1/namespaces/a/pods/b", "watch=true", "get -/v1/pods a b -"),
        (Get, "/api/v1/watch/pods", "", "watch -/v1/pods - - -"),
        (Get, "/api/v1/watch/namespaces/a/pods/b", "", "watch -/v1/pods a - -"),
        (Get, "/apis/apps/v1/namespaces/a/deployments/b/scale", "", "get apps/v1/deployments a b scale"),
        (Delete, "/apis/apps/v1/namespaces/a/deployments/b", "", "delete apps/v1/deployments a b -"),
        (Delete, "/apis/apps/v1/namespaces/a/deployments", "", "deletecollection apps/v1/deployments a - -"),
        (Get, "/api/v1/nodes/a%3Ab", "", "get -/v1/nodes - a:b -"),
        (Post, "/api/v1/namespaces/a/services/https:b:web/proxy/x/y", "", "connect -/v1/services a https:b:web proxy"),
        (Get, "/apis/x.io/v1/namespaces/a/pods/b/exec", "", "get x.io/v1/pods a b exec"),
    ];
    for (method, path, query, expected) in cases {
        assert_eq!(summary(method, path, query), expected, "{method:?} {path}?{query}");
    }
}

#[test]
fn paths_that_are_no_resource_stay_paths() {
    for path in ["/version", "/api", "/api/v1", "/apis", "/apis/apps", "/apis/apps/v1", "/healthz/ping", "/"] {
        assert_eq!(RequestInfo::parse(Method::Get, path, "").unwrap(), RequestInfo::Path(path.into()), "{path}");
    }
    assert_eq!(RequestInfo::parse(Method::Get, "/apis/", "").unwrap(), RequestInfo::Path("/apis".into()));
}

#[test]
fn a_connect_carries_path_and_query_as_they_came() {
    let request = resource(Method::Post, "/api/v1/namespaces/a/pods/b:80/proxy/x%20y/z", "q=%2f");
    assert_eq!(request.options.connect_path, "/x%20y/z");
    assert_eq!(request.options.connect_query, "q=%2f");
    assert_eq!(request.options.connect_as, Verb::Create);
    let shell = resource(Method::Get, "/api/v1/namespaces/a/pods/b/exec", "");
    assert_eq!(shell.options.connect_as, Verb::Create);
    let log = resource(Method::Get, "/api/v1/namespaces/a/pods/b/log", "");
    assert_eq!((log.options.connect_as, log.options.connect_path.as_str()), (Verb::Get, ""));
}

#[test]
fn a_name_in_a_deprecated_watch_becomes_a_field_selector() {
    let request = resource(Method::Get, "/api/v1/watch/namespaces/a/pods/b", "");
    assert_eq!(request.options.field_selector.pinned("metadata.name"), Some("b"));
}

#[test]
fn names_that_could_mean_two_things_are_refused() {
    let bad = [".", "..", "%2e%2e", "%2E", "a%2fb", "a%2Fb", "a%00b", "a%25b", "%2", "%zz", "%ff", "a%5cb", "a%0ab"];
    for name in bad {
        for path in [
            format!("/api/v1/namespaces/{name}/pods"),
            format!("/api/v1/namespaces/a/pods/{name}"),
            format!("/api/v1/watch/namespaces/{name}/pods"),
            format!("/apis/x.io/v1/namespaces/a/things/{name}"),
            format!("/apis/{name}/v1"),
        ] {
            let error = RequestInfo::parse(Method::Get, &path, "").unwrap_err();
            assert_eq!(error.code(), 400, "{path}");
        }
    }
}

#[test]
fn what_is_not_there_is_not_found_and_what_means_nothing_is_not_allowed() {
    let code = |method, path| RequestInfo::parse(method, path, "").unwrap_err().code();
    assert_eq!(code(Method::Get, "/api/v1/namespaces/a/pods/b/status/more"), 404);
    assert_eq!(code(Method::Get, "/api/v1/namespaces//pods"), 404);
    assert_eq!(code(Method::Post, "/api/v1/namespaces/a/pods/b"), 405);
    assert_eq!(code(Method::Put, "/api/v1/namespaces/a/pods"), 405);
    assert_eq!(code(Method::Patch, "/api/v1/namespaces/a/pods"), 405);
    assert_eq!(code(Method::Delete, "/api/v1/namespaces/a/pods/b/exec"), 405);
    assert_eq!(code(Method::Post, "/api/v1/watch/pods"), 405);
    assert_eq!(Method::parse("BREW").unwrap_err().code(), 405);
}

#[test]
fn malformed_parameters_are_named() {
    for (query, code) in [
        ("limit=x", 400),
        ("resourceVersion=abc", 400),
        ("resourceVersionMatch=Near", 422),
        ("dryRun=Some", 422),
        ("fieldValidation=Maybe", 422),
        ("propagationPolicy=Later", 422),
        ("gracePeriodSeconds=9223372036854775808", 400),
        ("labelSelector=%zz", 400),
        ("fieldManager=a%0ab", 422),
    ] {
        let error = RequestInfo::parse(Method::Get, "/api/v1/pods", query).unwrap_err();
        assert_eq!(error.code(), code, "{query}");
        let name = query.split('=').next().unwrap();
        assert!(error.to_string().contains(name), "{query}: {error}");
    }
}

#[test]
fn what_is_not_permitted_is_told_all_at_once_and_under_the_verbs_name() {
    let query = "dryRun=Some&fieldValidation=Maybe";
    let error = RequestInfo::parse(Method::Post, "/api/v1/namespaces/a/pods", query).unwrap_err();
    let expected = "CreateOptions.meta.k8s.io \"\" is invalid: [dryRun: Unsupported value: \"Some\": supported values: \
                    \"All\", fieldValidation: Unsupported value: \"Maybe\": supported values: \"\", \"Ignore\", \
                    \"Strict\", \"Warn\"]";
    assert_eq!(error.to_string(), expected);
    assert_eq!(error.status().details.as_ref().map(|details| details.causes.len()), Some(2));
}

#[test]
fn numbers_that_are_not_above_zero_limit_nothing() {
    let options = resource(Method::Get, "/api/v1/pods", "limit=-1&timeoutSeconds=-3").options;
    assert_eq!((options.limit, options.timeout), (None, None));
}

fn full_options() -> Options {
    Options {
        label_selector: "app=a b,tier in (x,y)".parse().unwrap_or_else(|_| "app=a,tier in (x,y)".parse().unwrap()),
        field_selector: FieldSelector::equal("metadata.name", "a,b"),
        limit: Some(500),
        continue_token: Some("a+/=&".into()),
        resource_version: Some(7),
        resource_version_match: Some(VersionMatch::NotOlderThan),
        timeout: Some(Duration::from_secs(30)),
        allow_watch_bookmarks: true,
        send_initial_events: Some(false),
        dry_run: true,
        field_manager: Some("kubectl apply/ä".into()),
        force: true,
        field_validation: FieldValidation::Strict,
        grace_period_seconds: Some(-1),
        propagation: Some(Propagation::Foreground),
        ..Options::default()
    }
}

#[test]
fn options_survive_the_query() {
    for options in [Options::default(), full_options()] {
        assert_eq!(decode_options(Verb::List, &encode_options(&options)).unwrap(), options);
    }
    assert_eq!(encode_options(&Options::default()), "");
}

#[test]
fn options_survive_the_body_of_a_deletion() {
    let said = Options {
        grace_period_seconds: Some(0),
        propagation: Some(Propagation::Orphan),
        dry_run: true,
        precondition_uid: Some("u".into()),
        precondition_version: Some(9),
        ..Options::default()
    };
    let mut read = Options::default();
    read_delete_options(&mut read, &write_delete_options(&said).unwrap()).unwrap();
    assert_eq!(read, said);
    assert_eq!(write_delete_options(&Options::default()), None);
    for (bad, code) in [
        (r#"{"kind":"Pod"}"#, 400),
        (r#"{"propagationPolicy":"x"}"#, 422),
        (r#"{"dryRun":["x"]}"#, 422),
        (r#"{"gracePeriodSeconds":"1"}"#, 400),
        (r#"{"preconditions":{"resourceVersion":"x"}}"#, 400),
        (r#"{"orphanDependents":true,"propagationPolicy":"Orphan"}"#, 422),
        ("[", 400),
    ] {
        assert_eq!(read_delete_options(&mut read, bad.as_bytes()).unwrap_err().code(), code, "{bad}");
    }
}

#[test]
fn a_fence_survives_its_header() {
    let fence = Fence { namespace: "kube-system".into(), name: "scheduler".into(), revision: 12 };
    assert_eq!(fence.to_string().parse::<Fence>().unwrap(), fence);
    for bad in ["", "a/b", "a@1", "a/b@x", "../b@1", "a/b/c@1", "/b@1"] {
        assert_eq!(bad.parse::<Fence>().unwrap_err().code(), 400, "{bad}");
    }
}

/// Every head that can be written reads back as what it said: all verbs over all shapes of target and many names.
#[test]
fn heads_round_trip() {
    let names = ["a", "a.b-c", "system:node:x", "ä ö", "q?#&=", "a+b", "https:b:80"];
    let resources = [("", "pods"), ("apps", "deployments"), ("x.io", "watch"), ("", "namespaces")];
    let mut count = 0;
    for (group, plural) in resources {
        for namespace in ["", "ns"] {
            for name in names {
                for subresource in ["", "status", "scale"] {
                    for verb in [Verb::Get, Verb::Update, Verb::Patch, Verb::Delete] {
                        if plural == "namespaces" && !namespace.is_empty() || plural == "watch" && namespace.is_empty()
                        {
                            continue;
                        }
                        if plural == "namespaces" && subresource == "scale" {
                            continue;
                        }
                        let target = Target::one(ResourceType::new(group, "v1", plural), namespace, name);
                        round_trip(verb, target.subresource(subresource));
                        count += 1;
                    }
                }
            }
            if plural != "watch" {
                for verb in [Verb::List, Verb::Watch, Verb::Create, Verb::DeleteCollection] {
                    let namespace = if plural == "namespaces" { "" } else { namespace };
                    round_trip(verb, Target::all(ResourceType::new(group, "v1", plural), namespace));
                    count += 1;
                }
            }
        }
    }
    assert!(count > 400, "{count} heads");
}

fn round_trip(verb: Verb, target: Target) {
    let mut options = full_options();
    if matches!(verb, Verb::Delete | Verb::DeleteCollection) {
        // These travel in the body.
        options = Options { limit: Some(3), ..Options::default() };
    }
    let request = ApiRequest { verb, target, options, ..ApiRequest::default() };
    let head = encode(&request);
    let read = resource(head.method, &head.path, &head.query);
    assert_eq!((read.verb, read.target, read.options), (request.verb, request.target, request.options), "{head:?}");
}
