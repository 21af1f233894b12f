//! Lists: pages, revisions, and a restart.

use k8s_core::{
    doc,
    request::{Options, VersionMatch},
};

use super::{
    clock::paused,
    fixture::{Fixture, names, next, over, ready, revision, server},
};

async fn many(count: usize) -> Fixture {
    let api = server().await;
    for n in 0..count {
        api.create("configmaps", "default", doc!({"metadata": {"name": format!("c{n}")}})).await.unwrap();
    }
    api
}

#[tokio::test(start_paused = true)]
async fn pages_show_one_moment() {
    let api = many(7).await;
    let mut options = Options { limit: Some(3), ..Options::default() };
    let first = api.list("configmaps", "default", options.clone()).await.unwrap();
    assert_eq!((names(&first), first.remaining), (vec!["c0", "c1", "c2"], Some(4)));
    api.delete("configmaps/c4", "default", Options::default()).await.unwrap();
    api.create("configmaps", "default", doc!({"metadata": {"name": "c3x"}})).await.unwrap();
    options.continue_token = first.continue_token.clone();
    let second = api.list("configmaps", "default", options.clone()).await.unwrap();
    assert_eq!((names(&second), second.remaining), (vec!["c3", "c4", "c5"], Some(1)));
    assert_eq!(second.revision, first.revision);
    options.continue_token = second.continue_token;
    let third = api.list("configmaps", "default", options).await.unwrap();
    assert_eq!((names(&third), third.continue_token.clone(), third.remaining), (vec!["c6"], None, None));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_too_late_is_told_how_to_go_on() {
    let api = many(5).await;
    let limit = Options { limit: Some(2), ..Options::default() };
    let first = api.list("configmaps", "default", limit.clone()).await.unwrap();
    for _ in 0..3 {
        // Compaction happens every five minutes, and forgets what was before the last one.
        (api.api.inner.env).sleep(std::time::Duration::from_secs(301)).await;
        api.create("secrets", "default", doc!({"metadata": {"generateName": "s-"}})).await.unwrap();
    }
    let late = Options { continue_token: first.continue_token, ..limit.clone() };
    let error = api.list("configmaps", "default", late).await.unwrap_err();
    assert_eq!(error.code(), 410, "{error}");
    let token = error.status().metadata.get("continue").and_then(|token| token.as_str()).unwrap().to_owned();
    let rest = api.list("configmaps", "default", Options { continue_token: Some(token), ..limit }).await.unwrap();
    assert_eq!(names(&rest), ["c2", "c3"]);
    let old = Options {
        resource_version: Some(first.revision),
        resource_version_match: Some(VersionMatch::Exact),
        ..Options::default()
    };
    assert_eq!(api.list("configmaps", "default", old).await.unwrap_err().code(), 410);
}

#[tokio::test(start_paused = true)]
async fn a_list_is_as_old_as_it_is_asked_to_be() {
    let api = many(3).await;
    let then = api.list("configmaps", "default", Options::default()).await.unwrap();
    api.delete("configmaps/c1", "default", Options::default()).await.unwrap();
    let now = api.list("configmaps", "default", Options::default()).await.unwrap();
    assert_eq!(names(&now), ["c0", "c2"]);
    let at = |matching| Options {
        resource_version: Some(then.revision),
        resource_version_match: matching,
        ..Options::default()
    };
    let exact = api.list("configmaps", "default", at(Some(VersionMatch::Exact))).await.unwrap();
    assert_eq!((names(&exact), exact.revision), (vec!["c0", "c1", "c2"], then.revision));
    let newer = api.list("configmaps", "default", at(Some(VersionMatch::NotOlderThan))).await.unwrap();
    assert_eq!(names(&newer), ["c0", "c2"]);
    let limited = Options { limit: Some(10), ..at(None) };
    assert_eq!(names(&api.list("configmaps", "default", limited).await.unwrap()), ["c0", "c1", "c2"]);
    for limit in [None, Some(10)] {
        let future = Options { resource_version: Some(99_999), limit, ..Options::default() };
        let error = api.list("configmaps", "default", future).await.unwrap_err();
        assert_eq!((error.code(), error.retry().map(|wait| wait.as_secs())), (504, Some(1)));
    }
}

#[tokio::test(start_paused = true)]
async fn combinations_that_mean_nothing_are_refused() {
    let api = many(1).await;
    let token = crate::cache::Token { revision: Some(1), after: Default::default(), shown: 0 }.encode();
    let cases = [
        (Options { resource_version_match: Some(VersionMatch::Exact), ..Options::default() }, 422),
        (
            Options {
                resource_version: Some(0),
                resource_version_match: Some(VersionMatch::Exact),
                ..Options::default()
            },
            422,
        ),
        (Options { send_initial_events: Some(true), ..Options::default() }, 422),
        (Options { continue_token: Some("x".into()), ..Options::default() }, 400),
        (Options { continue_token: Some(token), resource_version: Some(3), ..Options::default() }, 400),
    ];
    for (options, code) in cases {
        let error = api.list("configmaps", "default", options.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{options:?}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn selectors_choose_and_namespaces_are_kept_apart() {
    let api = server().await;
    for namespace in ["default", "default-2"] {
        if namespace != "default" {
            api.create("namespaces", "", doc!({"metadata": {"name": namespace}})).await.unwrap();
        }
        for name in ["a", "b"] {
            let body = doc!({"metadata": {"name": name, "labels": {"n": name}}, "type": format!("t-{name}")});
            api.create("secrets", namespace, body).await.unwrap();
        }
    }
    let by = |labels: &str, fields: &str| Options {
        label_selector: labels.parse().unwrap(),
        field_selector: fields.parse().unwrap(),
        ..Options::default()
    };
    let cases = [
        ("default", "", "", 2),
        ("", "", "", 4),
        ("default", "n=a", "", 1),
        ("default", "n in (a,b),n!=a", "", 1),
        ("", "", "type=t-b", 2),
        ("", "", "metadata.name=a", 2),
        ("", "", "metadata.namespace=default-2", 2),
        ("default", "", "metadata.name=a,metadata.namespace=default-2", 0),
        ("default", "", "metadata.name=a,type=t-b", 0),
    ];
    for (namespace, labels, fields, expected) in cases {
        let list = api.list("secrets", namespace, by(labels, fields)).await.unwrap();
        assert_eq!(list.items.len(), expected, "{namespace:?} {labels:?} {fields:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_restart_keeps_objects_and_lets_watches_resume() {
    let api = many(2).await;
    let seen = api.get("configmaps/c0", "default").await.unwrap();
    api.api.shutdown().await;
    let again = over(api.store.clone(), paused(), |builder| builder).await;
    assert_eq!(again.get("configmaps/c0", "default").await.unwrap(), seen);
    let from = Options { resource_version: Some(revision(&seen)), ..Options::default() };
    let mut watch = again.watch("configmaps", "default", from).await.unwrap();
    assert_eq!(ready(&mut watch), ["ADDED c1"]);
    again.delete("configmaps/c1", "default", Options::default()).await.unwrap();
    assert_eq!(next(&mut watch).await, "DELETED c1");
    let digest = again.digest().await;
    again.api.shutdown().await;
    over(api.store.clone(), paused(), |builder| builder).await;
    assert_eq!(digest, again.digest().await, "what is there already is not written again at a start");
}
