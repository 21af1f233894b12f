//! Broken invariants stop writes, and waiting watches are left alone.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    task::{Context, Poll, Wake, Waker},
};

use futures::{Stream, StreamExt};

use super::Core;
use crate::{
    Change, ChangeEvent, Entry, Retention, Revision, StoreError, WatchItem, contract::Clock, plan::Effect, watch::Watch,
};

fn core() -> Arc<Core> {
    Arc::new(Core::empty(Clock::new().env(), Retention::default()))
}

fn put(key: &str, revision: u64, previous: Option<&Effect>) -> Effect {
    let previous = previous.and_then(|effect| effect.change.as_ref()?.events[0].entry.clone());
    let (modified, value) = (Revision(revision), "v".into());
    let entry = Entry { key: key.into(), value, created: modified, modified, lease: None, attachment: None };
    let events = vec![ChangeEvent { key: key.into(), entry: Some(entry), previous }];
    Effect { change: Some(Arc::new(Change { revision: modified, events })), ..Effect::default() }
}

fn expect_stopped(core: &Arc<Core>, effects: &[Effect], head: u64) {
    let mut watch = Box::pin(Watch::open(core, "", Revision::ZERO).expect("it can be watched"));
    assert!(matches!(core.publish(effects), Err(StoreError::ReadOnly { .. })));
    assert!(matches!(core.published.read().writable(), Err(StoreError::ReadOnly { .. })));
    assert!(core.statistics().read_only.expect("it says why").contains("invariant"));
    assert_eq!(core.head().expect("reads go on"), Revision(head));
    let mut cx = Context::from_waker(Waker::noop());
    for revision in 1..=head {
        match watch.poll_next_unpin(&mut cx) {
            Poll::Ready(Some(Ok(WatchItem::Change(change)))) => assert_eq!(change.revision, Revision(revision)),
            other => panic!("revision {revision} was sound, and the watch gave {other:?}"),
        }
    }
    assert!(watch.poll_next_unpin(&mut cx).is_pending(), "what broke the invariant is not published");
}

#[test]
fn a_revision_out_of_turn_stops_writes_and_not_reads() {
    let first = put("a", 1, None);
    for wrong in [1, 3, 0] {
        let core = core();
        expect_stopped(&core, &[first.clone(), put("b", wrong, None), put("c", 2, None)], 1);
        assert!(core.publish([&put("b", 2, None)]).is_err(), "it stays stopped");
        assert_eq!(core.head().expect("reads go on"), Revision(1));
    }
}

#[test]
fn a_change_of_what_is_not_there_stops_writes() {
    let first = put("a", 1, None);
    expect_stopped(&core(), &[first.clone(), put("a", 2, None)], 1);
    expect_stopped(&core(), &[first.clone(), put("b", 2, Some(&first))], 1);
}

#[derive(Default)]
struct Wakes(AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, SeqCst);
    }
}

#[test]
fn a_waiting_watch_is_woken_for_its_prefix_alone() {
    let core = core();
    let wakes = Arc::new(Wakes::default());
    let waker = Waker::from(wakes.clone());
    let mut cx = Context::from_waker(&waker);
    let mut watch = Box::pin(Watch::open(&core, "mine/", Revision::ZERO).expect("it can be watched"));
    assert!(watch.as_mut().poll_next(&mut cx).is_pending());
    for revision in 1..=100 {
        core.publish([&put(&format!("other/{revision}"), revision, None)]).expect("publishes");
    }
    assert_eq!(wakes.0.load(SeqCst), 0, "woken for nothing");
    core.publish([&put("mine/a", 101, None)]).expect("publishes");
    core.publish([&put("mine/b", 102, None)]).expect("publishes");
    assert_eq!(wakes.0.load(SeqCst), 1, "woken once for what it has not read yet");
    for revision in [101, 102] {
        match watch.as_mut().poll_next(&mut cx) {
            Poll::Ready(Some(Ok(WatchItem::Change(change)))) => assert_eq!(change.revision, Revision(revision)),
            other => panic!("revision {revision} should come next, not {other:?}"),
        }
    }
    assert!(watch.as_mut().poll_next(&mut cx).is_pending());
}
