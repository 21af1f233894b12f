//! Each promise is checked by itself: a mirror that breaks it is found by its function.

use super::*;
use crate::{Memory, Store, Transaction, check::executor::block_on, contract::Clock};

fn version(modified: u64, value: &'static str) -> Option<Version> {
    Some(Version { modified: Revision(modified), value: value.into() })
}

fn told(key: &str, old: Option<Version>, new: Option<Version>) -> Told {
    Told::Change { key: key.into(), old, new }
}

/// Seven revisions, and a mirror that listed at the second and at the sixth, and watched the rest.
fn sound() -> (Truth, MirrorRecord) {
    let store = Memory::new(Clock::new().env());
    let transactions = [
        Transaction::new().put("k/a", "1"),
        Transaction::new().put("k/b", "2"),
        Transaction::new().put("k/a", "3"),
        Transaction::new().delete("k/a"),
        Transaction::new().put("k/a", "5"),
        Transaction::new().put("k/b", "6"),
        Transaction::new().delete("k/b"),
    ];
    let mut truth = Truth::default();
    for transaction in transactions {
        let committed = block_on(store.commit(transaction)).expect("it is a plain commit");
        truth.push(committed.change.expect("it changes something"), 0);
    }
    let items = vec![
        Told::Began,
        told("k/a", None, version(1, "1")),
        told("k/b", None, version(2, "2")),
        told("k/a", version(1, "1"), version(3, "3")),
        told("k/a", version(3, "3"), version(5, "5")),
        told("k/b", version(2, "2"), version(6, "6")),
        told("k/b", version(6, "6"), None),
    ];
    let shown = [("k/a".into(), version(3, "3")), ("k/b".into(), version(2, "2"))];
    let shown = shown.into_iter().filter_map(|(key, version)| Some((key, version?))).collect();
    let mirror = MirrorRecord {
        client: 0,
        prefix: "k/".into(),
        told: (0..).zip(items).collect(),
        lists: [Revision(2), Revision(6)].into(),
        looks: vec![Look { at: 4, reached: Revision(3), shown }],
    };
    (truth, mirror)
}

fn broken(check: impl Fn(&Truth, &MirrorRecord) -> Outcome, spoil: impl FnOnce(&mut MirrorRecord)) -> bool {
    let (truth, mut mirror) = sound();
    validate(&truth, &mirror).expect("it is sound");
    spoil(&mut mirror);
    check(&truth, &mirror).is_err()
}

#[test]
fn each_promise_is_noticed_when_it_is_broken() {
    assert!(broken(|_, mirror| chained(mirror), |mirror| drop(mirror.told.remove(3))));
    assert!(broken(|_, mirror| chained(mirror), |mirror| mirror.told[1].1 = told("k/a", version(1, "1"), None)));
    assert!(broken(genuine, |mirror| mirror.told[6].1 = told("k/b", None, version(6, "x"))));
    assert!(broken(forward, |mirror| mirror.told[4].1 = told("k/a", None, version(1, "1"))));
    assert!(broken(compressed, |mirror| mirror.lists = [Revision(2)].into()));
    assert!(broken(current, |mirror| mirror.looks[0].reached = Revision(4)));
    assert!(broken(current, |mirror| mirror.looks[0].shown.extend(version(2, "2").map(|older| ("k/a".into(), older)))));
    assert!(broken(current, |mirror| mirror.looks[0].shown.extend(version(2, "2").map(|other| ("k/c".into(), other)))));
    assert!(broken(whole, |mirror| drop(mirror.told.pop())));
    assert!(broken(whole, |mirror| mirror.told.truncate(4)));
}

#[test]
fn a_list_may_show_a_later_end_than_the_first() {
    let (mut truth, mut mirror) = sound();
    let store = Memory::new(Clock::new().env());
    let values = [Some("1"), Some("2"), None, Some("4"), None, Some("6")];
    truth.truncate(Revision::ZERO);
    for value in values {
        let transaction = value.map_or(Transaction::new().delete("k/a"), |value| Transaction::new().put("k/a", value));
        truth.push(block_on(store.commit(transaction)).expect("it is a plain commit").change.expect("a change"), 0);
    }
    let told = [
        Told::Began,
        told("k/a", None, version(1, "1")),
        told("k/a", version(1, "1"), None),
        told("k/a", None, version(6, "6")),
    ];
    mirror.told = (0..).zip(told).collect();
    mirror.looks.clear();
    mirror.lists = [Revision(1), Revision(5)].into();
    validate(&truth, &mirror).expect("the list showed that it is gone");
    mirror.lists = [Revision(1), Revision(4)].into();
    compressed(&truth, &mirror).expect_err("the list showed that it is there");
}

#[test]
fn a_mirror_that_begins_again_may_tell_a_state_twice_and_no_older_one() {
    let again = |states: Vec<Told>| {
        move |mirror: &mut MirrorRecord| {
            mirror.lists.insert(Revision(7));
            mirror.told.extend((7..).zip([Told::Began].into_iter().chain(states)));
        }
    };
    assert!(!broken(validate, again(vec![told("k/a", None, version(5, "5"))])));
    assert!(broken(forward, again(vec![told("k/a", None, version(3, "3"))])), "an older one");
    assert!(broken(forward, again(vec![told("k/b", None, version(6, "6"))])), "one that was told to be gone");
    assert!(broken(whole, again(vec![])), "nothing at all");
}
