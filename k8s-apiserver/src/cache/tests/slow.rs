//! A reader that is stuck costs itself only.

use super::*;
use crate::cache::ring::{MAX_BYTES, MAX_EVENTS};

#[tokio::test(start_paused = true)]
async fn a_stuck_reader_is_told_410_and_others_miss_nothing() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let (cache, _task) = cache_over(&store, env).await;
    let kind = cache.kind(&config_maps()).unwrap();
    let mut stuck = watch(&cache, "", Some(cache.revision())).await.unwrap();
    let mut reader = watch(&cache, "", Some(cache.revision())).await.unwrap();
    let events = MAX_EVENTS + 3000;
    let mut last = 0;
    for n in 0..events {
        let name = format!("c{}", n % 100);
        store.put(&name, "1").await;
        // The reader is sometimes behind, but not far.
        if n % 50 == 49 {
            for _ in 0..50 {
                let Some(Ok(event)) = reader.next().await else { panic!("event {n} is missed") };
                assert!(event.revision() > last);
                last = event.revision();
            }
            let (kept, bytes) = kind.ring.read().size();
            assert!(kept <= MAX_EVENTS && bytes <= MAX_BYTES, "{kept} events, {bytes} bytes");
        }
    }
    assert_eq!(next(&mut stuck).await, "410");
    assert_eq!(next(&mut stuck).await, "END");
    store.put("end", "1").await;
    let unread = events % 50;
    for _ in 0..unread {
        next(&mut reader).await;
    }
    assert_eq!(next(&mut reader).await, "end");
    assert!(cache.samples().contains(r#"apiserver_terminated_watchers_total{group="",resource="configmaps"} 1"#));
}

#[tokio::test(start_paused = true)]
async fn large_objects_that_shrank_count_by_what_they_were() {
    let env = paused();
    let store = Faulty::new(env.clone());
    let (cache, _task) = cache_over(&store, env).await;
    let kind = cache.kind(&config_maps()).unwrap();
    let large = "x".repeat(1 << 20);
    for n in 0..40 {
        store.put(&format!("c{n}"), &large).await;
    }
    let made = store.put("end", "1").await;
    cache.wait_for(made).await.unwrap();
    assert!(kind.ring.read().size().1 < 1 << 20, "what the newest state holds costs the ring nothing");
    let mut stuck = watch(&cache, "", Some(made)).await.unwrap();
    let mut last = 0;
    for n in 0..40 {
        last = store.put(&format!("c{n}"), "small").await;
    }
    cache.wait_for(last).await.unwrap();
    let (kept, bytes) = kind.ring.read().size();
    assert!(bytes <= MAX_BYTES && kept < 17, "{kept} events hold {bytes} bytes");
    assert_eq!(next(&mut stuck).await, "410");
}
