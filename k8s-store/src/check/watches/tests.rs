//! Each promise is checked by itself: a watch that breaks it is found by its function.

use std::sync::Arc;

use super::*;
use crate::{Memory, Store, StoreError, Transaction, check::executor::block_on, contract::Clock};

/// Six revisions, two of them of two keys, and a sound watch of `k/` after the first.
fn sound() -> (Truth, WatchRecord) {
    let store = Memory::new(Clock::new().env());
    let transactions = [
        Transaction::new().put("k/a", "1"),
        Transaction::new().put("k/a", "2").put("k/b", "1"),
        Transaction::new().put("other", "1"),
        Transaction::new().delete("k/a"),
        Transaction::new().put("k/a", "3").put("k/c", "1"),
        Transaction::new().put("k/b", "2"),
    ];
    let mut truth = Truth::default();
    for transaction in transactions {
        let committed = block_on(store.commit(transaction)).expect("it is a plain commit");
        truth.push(committed.change.expect("it changes something"), 0);
    }
    let changes = truth.after(Revision(1)).iter().filter_map(|change| change.under("k/"));
    let items = changes.map(|change| (1, Ok(WatchItem::Change(change))));
    let progress = (2, Ok(WatchItem::Progress(truth.head())));
    let items = items.chain([progress]).collect();
    (truth.clone(), WatchRecord { client: 0, prefix: "k/".into(), from: Revision(1), items })
}

fn change_at(watch: &mut WatchRecord, index: usize) -> &mut Change {
    match &mut watch.items[index].1 {
        Ok(WatchItem::Change(change)) => Arc::make_mut(change),
        other => panic!("a change, not {other:?}"),
    }
}

/// What the function says about a watch to which something was done.
fn broken(check: impl Fn(&Truth, &WatchRecord) -> Outcome, spoil: impl FnOnce(&mut WatchRecord)) -> bool {
    let (truth, mut watch) = sound();
    validate(&truth, &watch).expect("it is sound");
    spoil(&mut watch);
    check(&truth, &watch).is_err()
}

#[test]
fn each_promise_is_noticed_when_it_is_broken() {
    assert!(broken(|_, watch| ordered(watch), |watch| watch.items.swap(0, 1)));
    assert!(broken(|_, watch| ordered(watch), |watch| watch.from = Revision(2)));
    assert!(broken(|_, watch| unique(watch), |watch| watch.items.insert(1, watch.items[0].clone())));
    assert!(broken(atomic, |watch| drop(change_at(watch, 0).events.pop())));
    assert!(broken(reliable, |watch| drop(watch.items.remove(1))));
    assert!(broken(resumable, |watch| drop(watch.items.remove(0))));
    assert!(broken(bookmarkable, |watch| watch.items.rotate_right(1)));
    assert!(broken(bookmarkable, |watch| drop(watch.items.remove(3))));
    assert!(broken(bookmarkable, |watch| watch.items[4].1 = Ok(WatchItem::Progress(Revision(99)))));
    assert!(broken(|_, watch| filtered(watch), |watch| watch.prefix = "k/a".into()));
    assert!(broken(previous_values, |watch| change_at(watch, 0).events[0].previous = None));
    assert!(broken(flags, |watch| {
        change_at(watch, 0).events[0].entry.iter_mut().for_each(|entry| entry.created = entry.modified);
    }));
}

#[test]
fn a_watch_may_end_anywhere() {
    for length in 0..=5 {
        let (truth, mut watch) = sound();
        watch.items.truncate(length);
        watch.items.push((3, Err(StoreError::Closed)));
        validate(&truth, &watch).expect("what it yielded is sound");
    }
}
