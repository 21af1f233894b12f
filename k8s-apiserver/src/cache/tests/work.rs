//! How much is looked at for what is answered.

use std::sync::atomic::Ordering::Relaxed;

use k8s_core::request::{ObjectList, VersionMatch};
use k8s_store::Op;

use super::*;

const NODES: usize = 500;
const PODS: usize = 5_000;

fn pods() -> ResourceType {
    ResourceType::new("", "v1", "pods")
}

fn pod(name: &str, namespace: &str, node: &str, phase: &str) -> String {
    format!(
        r#"{{"apiVersion":"v1","kind":"Pod","metadata":{{"name":"{name}","namespace":"{namespace}"}},"spec":{{"nodeName":"{node}"}},"status":{{"phase":"{phase}"}}}}"#
    )
}

async fn put(store: &Faulty, name: &str, namespace: &str, node: &str, phase: &str) -> u64 {
    let key = format!("/registry/pods/{namespace}/{name}");
    store.store.commit(Transaction::new().put(key, pod(name, namespace, node, phase))).await.unwrap().revision.0
}

async fn five_thousand() -> (Arc<Faulty>, Arc<Cache>, Task) {
    cache_of(PODS).await
}

/// Pods in 5 namespaces on 500 nodes; every hundredth has failed.
async fn cache_of(count: usize) -> (Arc<Faulty>, Arc<Cache>, Task) {
    let env = paused();
    let store = Faulty::new(env.clone());
    let mut all = Transaction::new();
    for n in 0..count {
        let (namespace, node) = (format!("n{}", n % 5), format!("node-{}", n % NODES));
        let phase = if n % 100 == 0 { "Failed" } else { "Running" };
        let key = Key::from(format!("/registry/pods/{namespace}/p{n}"));
        let value = pod(&format!("p{n}"), &namespace, &node, phase).into();
        all = all.op(Op::Put { key, value, lease: None, attachment: None });
    }
    store.store.commit(all).await.unwrap();
    let (cache, task) = cache_over(&store, env).await;
    (store, cache, task)
}

fn options(fields: &str) -> Options {
    Options { field_selector: fields.parse().unwrap(), ..Options::default() }
}

async fn list(cache: &Arc<Cache>, namespace: &str, options: &Options) -> ObjectList {
    let filter = Filter::new(&Target::all(pods(), namespace), options);
    cache.list(&cache.kind(&pods()).unwrap(), &filter, options).await.unwrap()
}

/// How many objects a list answers with, and how many it looks at for that.
async fn cost(cache: &Arc<Cache>, namespace: &str, options: &Options) -> (usize, u64) {
    let kind = &cache.kind(&pods()).unwrap();
    let before = kind.counts.looked_at();
    let found = list(cache, namespace, options).await.items.len();
    (found, kind.counts.looked_at() - before)
}

#[tokio::test(start_paused = true)]
async fn a_list_looks_at_what_it_answers_with() {
    let (store, cache, _task) = five_thousand().await;
    let of = |fields: &str| options(fields);
    assert_eq!(cost(&cache, "", &of("spec.nodeName=node-7")).await, (10, 10));
    assert_eq!(
        cost(&cache, "n2", &of("spec.nodeName=node-7")).await,
        (10, 10),
        "all of that node are in one namespace"
    );
    assert_eq!(cost(&cache, "n3", &of("spec.nodeName=node-7")).await, (0, 0));
    assert_eq!(cost(&cache, "", &of("spec.nodeName=nowhere")).await, (0, 0));
    assert_eq!(cost(&cache, "", &of("spec.nodeName=")).await, (0, 0), "those without a node, too");
    assert_eq!(cost(&cache, "", &of("metadata.name=p42")).await, (1, 1), "in whatever namespace");
    assert_eq!(cost(&cache, "n2", &of("metadata.name=p42")).await, (1, 1));
    assert_eq!(cost(&cache, "n3", &of("metadata.name=p42")).await, (0, 0));
    assert_eq!(cost(&cache, "", &of("status.phase=Failed")).await, (50, 50));
    assert_eq!(cost(&cache, "n0", &of("status.phase=Failed,spec.nodeName=node-100")).await, (10, 10));
    assert_eq!(cost(&cache, "n1", &Options::default()).await, (1000, 1000), "a namespace and no other");
    let first = Options { limit: Some(4), ..of("spec.nodeName=node-7") };
    assert_eq!(cost(&cache, "", &first).await, (4, 5), "one more tells that there is more");
    let token = list(&cache, "", &first).await.continue_token;
    let second = Options { continue_token: token, ..of("spec.nodeName=node-7") };
    assert_eq!(cost(&cache, "", &second).await, (6, 6));

    // Changes of every kind, seen through the index.
    put(&store, "p7", "n2", "node-8", "Running").await;
    put(&store, "new", "n0", "node-7", "Running").await;
    store.store.commit(Transaction::new().delete("/registry/pods/n2/p507")).await.unwrap();
    assert_eq!(cost(&cache, "", &of("spec.nodeName=node-7")).await, (9, 9));
    assert_eq!(cost(&cache, "", &of("spec.nodeName=node-8")).await, (11, 11));
}

#[tokio::test(start_paused = true)]
async fn a_watch_begins_with_what_it_wants_and_is_compared_with_nothing_else() {
    let (store, cache, _task) = five_thousand().await;
    let kind = &cache.kind(&pods()).unwrap();
    let count = Arc::new(Count::default());
    let waker = Waker::from(count.clone());
    let mut cx = Context::from_waker(&waker);
    let mut watches = Vec::new();
    for n in 0..PODS {
        // By node, by name, and by another field.
        let fields = match n % 3 {
            0 => format!("spec.nodeName=node-{n}"),
            1 => format!("metadata.name=name-{n}"),
            _ => format!("status.podIP=10.0.0.{n}"),
        };
        let options = Options { resource_version: Some(cache.revision()), ..options(&fields) };
        let filter = Filter::new(&Target::all(pods(), ""), &options);
        let mut watch = cache.watch(kind, filter, &options).await.unwrap();
        assert!(watch.poll_next_unpin(&mut cx).is_pending());
        watches.push(watch);
    }
    let before = kind.interest.lock().compared;
    let last = put(&store, "name-4", "n0", "node-3", "Running").await;
    cache.wait_for(last).await.unwrap();
    assert_eq!(kind.interest.lock().compared - before, 2, "the watch of the node and that of the name, of 5,000");
    assert_eq!(count.0.load(Relaxed), 2);
    assert!(watches[3].poll_next_unpin(&mut cx).is_ready() && watches[4].poll_next_unpin(&mut cx).is_ready());
    watches.clear();
    let last = put(&store, "name-4", "n0", "node-6", "Running").await;
    cache.wait_for(last).await.unwrap();
    let compared = kind.interest.lock().compared - before;
    assert_eq!((compared, cache.watches()), (2, 0), "who leaves is forgotten");
}

#[tokio::test(start_paused = true)]
async fn lists_at_any_kept_revision_do_not_touch_the_store() {
    let (store, cache, _task) = five_thousand().await;
    let mut moments = vec![(cache.revision(), PODS)];
    let mut count = PODS;
    for n in 0..200 {
        let revision = match n % 4 {
            3 => {
                count -= 1;
                store
                    .store
                    .commit(Transaction::new().delete(format!("/registry/pods/n0/x{}", n - 1)))
                    .await
                    .unwrap()
                    .revision
                    .0
            }
            _ => {
                count += 1;
                put(&store, &format!("x{n}"), "n0", "node-1", "Running").await
            }
        };
        moments.push((revision, count));
    }
    cache.wait_for(moments[200].0).await.unwrap();
    let reads = store.reads.load(Relaxed);
    let mut random = 1u64;
    for _ in 0..100 {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let (revision, expected) = moments[(random >> 33) as usize % moments.len()];
        let exact = Options {
            resource_version: Some(revision),
            resource_version_match: Some(VersionMatch::Exact),
            ..Options::default()
        };
        let found = list(&cache, "", &exact).await;
        assert_eq!((found.items.len(), found.revision), (expected, revision));
    }
    assert_eq!(list(&cache, "", &Options::default()).await.items.len(), count);
    assert_eq!(store.reads.load(Relaxed), reads, "nothing was read from the store");
}

#[tokio::test(start_paused = true)]
async fn an_index_answers_as_a_walk_does_whatever_changes_now_and_then() {
    let (store, cache, _task) = cache_of(1_500).await;
    let kind = &cache.kind(&pods()).unwrap();
    let filters =
        ["spec.nodeName=node-1", "spec.nodeName=", "status.phase=Failed", "metadata.name=p3", "status.phase!=Failed"];
    let filters: Vec<Filter> = ["", "n1"]
        .iter()
        .flat_map(|namespace| filters.map(|fields| Filter::new(&Target::all(pods(), *namespace), &options(fields))))
        .collect();
    filters.iter().for_each(|filter| kind.prepare(filter));
    let mut random = 3u64;
    let mut draw = |below: u64| {
        random = random.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (random >> 33) % below
    };
    let start = cache.revision();
    for step in 0..40 {
        let (name, namespace) = (format!("p{}", draw(40)), format!("n{}", draw(3)));
        let node = ["", "node-1", "node-2"][draw(3) as usize];
        let phase = ["Failed", "Running"][draw(2) as usize];
        let revision = if draw(3) == 0 {
            store
                .store
                .commit(Transaction::new().delete(format!("/registry/pods/{namespace}/{name}")))
                .await
                .unwrap()
                .revision
                .0
        } else {
            put(&store, &name, &namespace, node, phase).await
        };
        cache.wait_for(revision).await.unwrap();
        let then = kind.state_at(start + draw(revision - start + 1)).unwrap();
        for state in [kind.state(), then] {
            assert!(state.has_index("spec.nodeName") && state.has_index("status.phase"));
            for filter in &filters {
                let found: Vec<_> = state.select(filter, None).map(|object| object.meta.key()).collect();
                let walked = state.iter().filter(|(_, object)| filter.matches(object)).map(|(key, _)| key.clone());
                assert_eq!(found, walked.collect::<Vec<_>>(), "step {step}, {filter:?}");
                let half = found.get(found.len() / 2).cloned().unwrap_or_default();
                let rest = state.select(filter, Some(&half)).count();
                assert_eq!(rest, found.iter().filter(|key| **key > half).count(), "step {step}, after {half}");
            }
        }
    }
}
