//! Requests that take turns, under a paused clock.

use futures::{FutureExt, future::join_all};
use k8s_core::{
    doc,
    request::{ResourceType, Target},
};

use super::*;
use crate::server::tests::{clock::paused, fixture::built};

fn object(doc: &Doc) -> Arc<Object> {
    Arc::new(Object::from_doc(&mut doc.clone(), 1).unwrap())
}

/// A server of `seats` seats, all of one level `l`, whose flows are users. `queues` and their length are given.
fn fairness(seats: u32, queues: i64, length: i64) -> Arc<Fairness> {
    let fairness = Fairness::new(paused(), FairnessLimits { seats, wait: Duration::from_secs(15) });
    let level = doc!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "PriorityLevelConfiguration",
        "metadata": {"name": "l", "uid": "level-uid"},
        "spec": {"type": "Limited", "limited": {"nominalConcurrencyShares": 10, "limitResponse": {
            "type": "Queue", "queuing": {"queues": queues, "handSize": 1, "queueLengthLimit": length}}}}
    });
    let schema = doc!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema",
        "metadata": {"name": "s", "uid": "schema-uid"},
        "spec": {"priorityLevelConfiguration": {"name": "l"}, "distinguisherMethod": {"type": "ByUser"}, "rules": [{
            "subjects": [{"kind": "Group", "group": {"name": "limited"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true}]}]}
    });
    for (plural, name, doc) in [(LEVELS, "l", level), (SCHEMAS, "s", schema)] {
        fairness.changed(GROUP, plural, &ObjectKey::new("", name), Some(&object(&doc)));
    }
    fairness
}

fn request(verb: Verb) -> ApiRequest {
    let target = Target::all(ResourceType::new("", "v1", "nodes"), "");
    ApiRequest { verb, target, ..ApiRequest::default() }
}

async fn enter(fairness: &Arc<Fairness>, user: &str, verb: Verb, objects: u64) -> ApiResult<Option<Seat>> {
    fairness.enter(&Caller::new(user, &["limited"]), &request(verb), objects).await
}

#[tokio::test(start_paused = true)]
async fn what_has_no_room_waits_and_is_let_in_or_refused_in_time() {
    let fairness = fairness(2, 4, 1);
    let first = enter(&fairness, "u", Verb::Get, 0).await.unwrap().unwrap();
    assert_eq!((first.schema_uid.as_str(), first.level_uid.as_str()), ("schema-uid", "level-uid"));
    let _second = enter(&fairness, "u", Verb::Get, 0).await.unwrap();
    let mut third = Box::pin(enter(&fairness, "u", Verb::Get, 0));
    assert!((&mut third).now_or_never().is_none());
    let full = enter(&fairness, "u", Verb::Get, 0).await.err().unwrap();
    assert_eq!((full.code(), full.retry()), (429, Some(Duration::from_secs(1))));
    drop(first);
    let third = third.await.unwrap();
    assert!(third.is_some());
    let late = enter(&fairness, "u", Verb::Get, 0).await.err().unwrap();
    assert_eq!((late.code(), fairness.env.monotonic()), (429, Duration::from_secs(15)));
    let samples = fairness.samples();
    for sample in [
        "apiserver_flowcontrol_dispatched_requests_total{priority_level=\"l\"} 3",
        "apiserver_flowcontrol_rejected_requests_total{priority_level=\"l\",reason=\"queue-full\"} 1",
        "apiserver_flowcontrol_rejected_requests_total{priority_level=\"l\",reason=\"time-out\"} 1",
        "apiserver_flowcontrol_current_executing_seats{priority_level=\"l\"} 2",
        "apiserver_flowcontrol_current_inqueue_requests{priority_level=\"l\"} 0",
    ] {
        assert!(samples.contains(sample), "{sample}: {samples}");
    }
}

#[tokio::test(start_paused = true)]
async fn paths_take_seats_of_the_level_that_names_them() {
    let fairness = fairness(1, 4, 1);
    let schema = doc!({
        "apiVersion": "flowcontrol.apiserver.k8s.io/v1", "kind": "FlowSchema", "metadata": {"name": "paths"},
        "spec": {"priorityLevelConfiguration": {"name": "l"}, "rules": [{
            "subjects": [{"kind": "User", "user": {"name": "*"}}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]}]}
    });
    fairness.changed(GROUP, SCHEMAS, &ObjectKey::new("", "paths"), Some(&object(&schema)));
    let caller = Caller::new("u", &[]);
    let seat = fairness.enter_path(&caller, "get", "/metrics").await.unwrap();
    assert!(seat.is_some());
    assert!(fairness.enter_path(&caller, "get", "/version").await.unwrap().is_none(), "no schema names it");
    let mut waits = Box::pin(fairness.enter_path(&caller, "get", "/metrics"));
    assert!((&mut waits).now_or_never().is_none());
    drop(seat);
    assert!(waits.await.unwrap().is_some());
}

/// What must be there comes back while the server runs; what is suggested and taken over stays as it is.
#[tokio::test(start_paused = true)]
async fn what_must_be_there_comes_back() {
    let api = built(|builder| builder).await;
    let until = async |path: &str, is_right: &dyn Fn(&Doc) -> bool| {
        for _ in 0..100 {
            if api.get(path, "").await.is_ok_and(|found| is_right(&found)) {
                return;
            }
            api.env.sleep(Duration::from_millis(10)).await;
        }
        panic!("{path} did not come back: {:?}", api.get(path, "").await);
    };
    for path in ["flowschemas/catch-all", "prioritylevelconfigurations/exempt", "prioritylevelconfigurations/catch-all"]
    {
        let before = api.get(path, "").await.unwrap();
        api.delete(path, "", k8s_core::request::Options::default()).await.unwrap();
        until(path, &|found| found.get("spec") == before.get("spec")).await;
    }
    let changed = doc!({"spec": {"matchingPrecedence": 9000}, "metadata": {"annotations": {
        "apf.kubernetes.io/autoupdate-spec": "false"}}});
    let merge = k8s_core::request::PatchKind::Merge;
    api.patch("flowschemas/global-default", "", merge, changed.clone()).await.unwrap();
    api.patch("flowschemas/catch-all", "", merge, changed).await.unwrap();
    let precedence = |doc: &Doc| doc.at(&["spec", "matchingPrecedence"]).and_then(Doc::as_i64);
    until("flowschemas/catch-all", &|found| precedence(found) == Some(10_000)).await;
    assert_eq!(precedence(&api.get("flowschemas/global-default", "").await.unwrap()), Some(9000));
}

#[tokio::test(start_paused = true)]
async fn who_gives_up_gives_their_place_up() {
    let fairness = fairness(1, 4, 8);
    let running = enter(&fairness, "u", Verb::Get, 0).await.unwrap();
    let mut gives_up = Box::pin(enter(&fairness, "u", Verb::Get, 0));
    let mut stays = Box::pin(enter(&fairness, "u", Verb::Get, 0));
    assert!((&mut gives_up).now_or_never().is_none() && (&mut stays).now_or_never().is_none());
    // Its turn comes, and it goes before it notices.
    drop(running);
    drop(gives_up);
    assert!((&mut stays).now_or_never().is_some_and(|seat| seat.is_ok()));
}

#[tokio::test(start_paused = true)]
async fn a_user_who_asks_much_does_not_keep_the_others_waiting() {
    let fairness = fairness(2, 64, 100);
    let ask = async |user: String| {
        let seat = enter(&fairness, &user, Verb::Get, 0).await;
        fairness.env.sleep(Duration::from_millis(100)).await;
        drop(seat);
        fairness.env.monotonic()
    };
    let loud = join_all((0..80).map(|_| ask("loud".into())));
    let quiet = join_all((0..4).map(|user| ask(format!("quiet-{user}"))));
    let (loud, quiet) = futures::join!(loud, quiet);
    let (last_quiet, last_loud) = (quiet.iter().max().unwrap(), loud.iter().max().unwrap());
    assert!(
        *last_quiet <= Duration::from_millis(1000) && *last_loud >= Duration::from_secs(4),
        "{quiet:?} {last_loud:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn wide_lists_take_more_and_connections_nothing() {
    let fairness = fairness(10, 4, 8);
    let wide = enter(&fairness, "u", Verb::List, 5000).await.unwrap();
    assert!(enter(&fairness, "u", Verb::Connect, 0).await.unwrap().is_none());
    let other = Caller::new("somebody", &["unlimited"]);
    assert!(
        fairness.enter(&other, &request(Verb::Get), 0).await.unwrap().is_none(),
        "what no schema means is not limited"
    );
    let mut narrow = Box::pin(enter(&fairness, "u", Verb::Get, 0));
    assert!((&mut narrow).now_or_never().is_none());
    drop(wide);
    assert!(narrow.await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn every_cluster_has_levels_for_everybody() {
    let api = built(|builder| builder.fairness(FairnessLimits::default())).await;
    let fairness = api.api.fairness().unwrap();
    let level = async |caller: Caller| {
        let seat = fairness.enter(&caller, &request(Verb::Get), 0).await.unwrap();
        seat.map(|seat| seat.level.name.to_string())
    };
    for (caller, expected) in [
        (Caller::new("admin", &["system:masters"]), "exempt"),
        (Caller::new("system:node:n", &["system:nodes"]), "node-high"),
        (Caller::new("system:kube-scheduler", &[]), "workload-high"),
        (Caller::service_account("kube-system", "a"), "workload-high"),
        (Caller::service_account("team", "a"), "workload-low"),
        (Caller::new("somebody", &[]), "global-default"),
        (Caller::anonymous(), "global-default"),
    ] {
        assert_eq!(level(caller.clone()).await.as_deref(), Some(expected), "{}", caller.name);
    }
}
