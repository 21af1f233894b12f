//! The cache compared with the store.

use std::sync::atomic::Ordering::Relaxed;

use super::*;
use crate::cache::{consistency, metrics::Checked};

const INTERVAL: Duration = Duration::from_secs(600);

async fn compared_cache(store: &Arc<Faulty>, env: &Env) -> (Arc<Cache>, [Task; 2]) {
    let (cache, feed) = cache_over(store, env.clone()).await;
    let comparison = env.spawn("comparison", Box::pin(consistency::run(cache.clone(), INTERVAL)));
    (cache, [feed, comparison])
}

fn checks(cache: &Cache, outcome: Checked) -> u64 {
    cache.kinds().iter().map(|kind| kind.counts.checks(outcome)).sum()
}

#[tokio::test(start_paused = true)]
async fn what_the_watch_left_out_is_found_repaired_and_counted_and_nobody_resumes_over_it() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let (cache, _tasks) = compared_cache(&store, &env).await;
    let first = store.put("a", "1").await;
    cache.wait_for(first).await.unwrap();
    let mut early = watch(&cache, "", Some(first)).await.unwrap();
    *store.hide.lock() = Some(first + 1);
    store.put("hidden", "1").await;
    let after = store.put("b", "1").await;
    cache.wait_for(after).await.unwrap();
    // Nothing that comes contradicts the cache, which believes to be at the head.
    assert_eq!((names(&cache).await, cache.rebuilds()), (vec!["a".to_owned(), "b".to_owned()], 0));
    assert_eq!(next(&mut early).await, "b");
    let mut late = watch(&cache, "", Some(after)).await.unwrap();

    env.sleep(INTERVAL * 2 - Duration::from_secs(1)).await;
    assert_eq!((names(&cache).await, cache.rebuilds()), (["a", "b", "hidden"].map(str::to_owned).to_vec(), 1));
    assert_eq!(next(&mut early).await, "410");
    assert_eq!(next(&mut late).await, "410", "it was at the newest revision, and lacks an older one");
    let resumed = watch(&cache, "", Some(after)).await;
    assert_eq!(resumed.err().map(|error| error.code()), Some(410), "a client that was away at the time lacks it, too");

    // Whoever starts anew sees everything from then on, once.
    let kind = &cache.kind(&config_maps()).unwrap();
    let list = cache.list(kind, &Filter::default(), &Options::default()).await.unwrap();
    let mut anew = watch(&cache, "", Some(list.revision)).await.unwrap();
    store.put("c", "1").await;
    assert_eq!(next(&mut anew).await, "c");
    assert_eq!(checks(&cache, Checked::Different), 1);
    env.sleep(INTERVAL).await;
    assert_eq!((checks(&cache, Checked::Different), cache.rebuilds()), (1, 1));
    let samples = cache.samples();
    let failure = r#"apiserver_storage_consistency_checks_total{group="",resource="configmaps",status="failure"} 1"#;
    assert!(samples.contains(failure), "{samples}");
    assert!(samples.contains("apiserver_watch_cache_rebuilds_total 1\n"), "{samples}");
}

#[tokio::test(start_paused = true)]
async fn an_object_too_much_or_of_another_revision_is_found_as_well() {
    for deleted in [true, false] {
        let env = paused();
        let store = Faulty::new(env.clone());
        let (cache, _tasks) = compared_cache(&store, &env).await;
        let first = store.put("a", "1").await;
        *store.hide.lock() = Some(first + 1);
        let hidden = if deleted { store.delete("a").await } else { store.put("a", "2").await };
        store.put("b", "1").await;
        env.sleep(INTERVAL + Duration::from_secs(1)).await;
        let kind = &cache.kind(&config_maps()).unwrap();
        let found = kind.state().get(&ObjectKey::new("n", "a")).map(|object| object.revision());
        assert_eq!(found, (!deleted).then_some(hidden));
        assert_eq!((cache.rebuilds(), checks(&cache, Checked::Different)), (1, 1));
    }
}

#[tokio::test(start_paused = true)]
async fn a_cache_that_is_right_is_left_alone_whatever_goes_on() {
    let env = paused();
    let store = Faulty::new(env.clone());
    store.raw("corrupt", "not JSON".into()).await;
    let (cache, _feed) = cache_over(&store, env.clone()).await;
    let often = Duration::from_millis(1);
    let _comparison = env.spawn("comparison", Box::pin(consistency::run(cache.clone(), often)));
    let mut watch = watch(&cache, "", Some(cache.revision())).await.unwrap();
    for n in 0..300 {
        let name = format!("c{}", n % 13);
        let there = n % 26 >= 13;
        if there {
            store.delete(&name).await
        } else {
            store.put(&name, "1").await
        };
        assert_eq!(next(&mut watch).await, name);
        if n % 3 == 0 {
            env.sleep(often).await;
        }
    }
    assert_eq!((cache.rebuilds(), checks(&cache, Checked::Different)), (0, 0));
    let kind = &cache.kind(&config_maps()).unwrap();
    assert!(kind.counts.checks(Checked::Same) > 90, "{}", kind.counts.checks(Checked::Same));
}

#[tokio::test(start_paused = true)]
async fn a_store_that_does_not_answer_is_no_reason_to_doubt() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let (cache, _tasks) = compared_cache(&store, &env).await;
    store.put("a", "1").await;
    store.silent.store(true, Relaxed);
    env.sleep(INTERVAL + Duration::from_secs(1)).await;
    assert_eq!(checks(&cache, Checked::Failed), cache.kinds().len() as u64);
    assert_eq!((names(&cache).await, cache.rebuilds()), (vec!["a".to_owned()], 0));
    cache.close();
    env.sleep(INTERVAL * 2).await;
    assert_eq!(checks(&cache, Checked::Failed), 2 * cache.kinds().len() as u64, "it ends with the cache");
}
