//! Random histories: both backends agree with a model that keeps every state, and with each other.

use std::{collections::BTreeMap, sync::Arc};

use futures::{FutureExt, StreamExt};
use k8s_store::{
    Embedded, EmbeddedOptions, Entry, Guard, Memory, Page, Revision, Store, StoreError, Transaction, WatchItem,
    contract::Clock,
};
use proptest::{collection::vec, option, prelude::*, sample::select};

type State = BTreeMap<String, Entry>;

/// Every state that there ever was; the index is the revision.
struct Model {
    states: Vec<State>,
    oldest: usize,
}

#[derive(Clone, Debug)]
enum Action {
    Commit { guards: Vec<(u8, &'static str, u64)>, ops: BTreeMap<&'static str, Option<Vec<u8>>> },
    List { prefix: &'static str, at: Option<u64>, after: Option<&'static str>, limit: Option<usize> },
    Watch { prefix: &'static str, from: u64 },
    Compact { at: u64 },
    Reopen,
}

const KEYS: [&str; 7] = ["a", "a/", "a/1", "a/2", "b", "b/1", ""];
const PREFIXES: [&str; 5] = ["", "a", "a/", "b/", "c"];

fn action() -> impl Strategy<Value = Action> {
    let key = || select(&KEYS[..]);
    let prefix = || select(&PREFIXES[..]);
    let value = || option::weighted(0.7, vec(any::<u8>(), 0..20));
    // Revisions are drawn from a little more than the longest history.
    let revision = || 0_u64..70;
    prop_oneof![
        8 => (vec((0_u8..3, key(), revision()), 0..2), proptest::collection::btree_map(key(), value(), 0..4))
            .prop_map(|(guards, ops)| Action::Commit { guards, ops }),
        3 => (prefix(), option::of(revision()), option::of(key()), option::of(0_usize..5))
            .prop_map(|(prefix, at, after, limit)| Action::List { prefix, at, after, limit }),
        3 => (prefix(), revision()).prop_map(|(prefix, from)| Action::Watch { prefix, from }),
        1 => revision().prop_map(|at| Action::Compact { at }),
        1 => Just(Action::Reopen),
    ]
}

impl Model {
    fn head(&self) -> usize {
        self.states.len() - 1
    }

    fn now(&self) -> &State {
        &self.states[self.head()]
    }

    /// What a revision answers: its state, or the error.
    fn range(&self, revision: u64) -> Result<usize, String> {
        let revision = revision as usize;
        match revision {
            _ if revision < self.oldest => Err(format!("Compacted {}", self.oldest)),
            _ if revision > self.head() => Err(format!("Future {}", self.head())),
            _ => Ok(revision),
        }
    }

    /// Every event after `from` under `prefix`, with its revision: what is there now and what was before.
    fn events(&self, prefix: &str, from: usize) -> Vec<(u64, String, Option<Entry>, Option<Entry>)> {
        let mut events = Vec::new();
        for revision in from + 1..self.states.len() {
            let (before, after) = (&self.states[revision - 1], &self.states[revision]);
            for key in KEYS.iter().filter(|key| key.starts_with(prefix)) {
                if before.get(*key) != after.get(*key) {
                    let [was, is] = [before, after].map(|state| state.get(*key).cloned());
                    events.push((revision as u64, key.to_string(), is, was));
                }
            }
        }
        events.sort_by(|one, other| (one.0, &one.1).cmp(&(other.0, &other.1)));
        events
    }

    fn commit(&mut self, guards: &[Guard], ops: &BTreeMap<&'static str, Option<Vec<u8>>>) -> Result<u64, String> {
        for guard in guards {
            let found = self.now().get(guard.key().as_str());
            let holds = match guard {
                Guard::Absent(_) => found.is_none(),
                Guard::Exists(_) => found.is_some(),
                Guard::At(_, revision) => found.is_some_and(|entry| entry.modified == *revision),
            };
            if !holds {
                return Err(format!("Conflict {} {:?}", guard.key(), found.map(|entry| entry.modified)));
            }
        }
        let mut state = self.now().clone();
        let revision = Revision(self.states.len() as u64);
        let mut changed = false;
        for (key, value) in ops {
            let created = state.get(*key).map_or(revision, |entry| entry.created);
            changed |= match value {
                Some(value) => {
                    let value = value.clone().into();
                    let (modified, lease, attachment) = (revision, None, None);
                    let entry = Entry { key: (*key).into(), value, created, modified, lease, attachment };
                    state.insert(key.to_string(), entry);
                    true
                }
                None => state.remove(*key).is_some(),
            };
        }
        if changed {
            self.states.push(state);
        }
        Ok(self.head() as u64)
    }
}

/// The part of an error that the model predicts.
fn predicted(error: &StoreError) -> String {
    match error {
        StoreError::Conflict { key, found } => {
            format!("Conflict {key} {:?}", found.as_ref().map(|entry| entry.modified))
        }
        StoreError::Compacted { oldest } => format!("Compacted {oldest}"),
        StoreError::Future { head } => format!("Future {head}"),
        other => panic!("the model knows nothing of {other}"),
    }
}

fn guards(drawn: &[(u8, &'static str, u64)]) -> Vec<Guard> {
    let guard = |(kind, key, revision): &(u8, &'static str, u64)| match kind {
        0 => Guard::Absent((*key).into()),
        1 => Guard::Exists((*key).into()),
        _ => Guard::At((*key).into(), Revision(*revision)),
    };
    drawn.iter().map(guard).collect()
}

async fn check(store: &dyn Store, model: &Model, action: &Action, expected: &Result<u64, String>) {
    match action {
        Action::Commit { guards: drawn, ops } => {
            let mut transaction = guards(drawn).into_iter().fold(Transaction::new(), Transaction::guard);
            for (key, value) in ops {
                transaction = match value {
                    Some(value) => transaction.put(*key, value.clone()),
                    None => transaction.delete(*key),
                };
            }
            let outcome = store.commit(transaction).await;
            let outcome = outcome.map(|committed| committed.revision.0).map_err(|error| predicted(&error));
            assert_eq!(&outcome, expected);
        }
        Action::Compact { at } => {
            let outcome = store.compact(Revision(*at)).await;
            assert_eq!(outcome.map(|()| *at).map_err(|error| predicted(&error)), *expected);
        }
        Action::List { prefix, at, after, limit } => {
            let page = Page { at: at.map(Revision), after: after.map(Into::into), limit: *limit };
            let listing = store.list(prefix, page).await.map_err(|error| predicted(&error));
            match model.range(at.unwrap_or(model.head() as u64)) {
                Err(error) => assert_eq!(listing.expect_err("the model refuses it"), error),
                Ok(revision) => check_listing(listing.expect("the model has it"), model, revision, action),
            }
        }
        Action::Watch { prefix, from } => check_watch(store, model, prefix, *from).await,
        Action::Reopen => {}
    }
}

fn check_listing(listing: k8s_store::Listing, model: &Model, revision: usize, action: &Action) {
    let Action::List { prefix, after, limit, .. } = action else { unreachable!("only lists come here") };
    let state = &model.states[revision];
    let wanted = |key: &str| key.starts_with(prefix) && after.is_none_or(|after| key > after);
    let all: Vec<_> = state.values().filter(|entry| wanted(&entry.key)).cloned().collect();
    let limit = limit.unwrap_or(usize::MAX).min(all.len());
    assert_eq!(listing.entries, all[..limit]);
    assert_eq!(listing.revision, Revision(revision as u64));
    assert_eq!((listing.more, listing.remaining), (limit < all.len(), (all.len() - limit) as u64));
}

async fn check_watch(store: &dyn Store, model: &Model, prefix: &str, from: u64) {
    let mut watch = match (store.watch(prefix, Revision(from)).await, model.range(from)) {
        (Ok(watch), Ok(_)) => watch,
        (Err(error), Err(expected)) => return assert_eq!(predicted(&error), expected),
        (outcome, expected) => panic!("the model says {expected:?}, the store {:?}", outcome.err()),
    };
    let mut events = Vec::new();
    while let Some(item) = watch.next().now_or_never() {
        let Some(Ok(WatchItem::Change(change))) = item else { panic!("a change, not {item:?}") };
        let mut of_change: Vec<_> = change.events.clone();
        of_change.sort_by(|one, other| one.key.cmp(&other.key));
        for event in of_change {
            events.push((change.revision.0, event.key.to_string(), event.entry, event.previous));
        }
    }
    assert_eq!(events, model.events(prefix, from as usize));
}

fn predict(model: &mut Model, action: &Action) -> Result<u64, String> {
    match action {
        Action::Commit { guards: drawn, ops } => model.commit(&guards(drawn), ops),
        Action::Compact { at } if *at as usize > model.head() => Err(format!("Future {}", model.head())),
        Action::Compact { at } => {
            model.oldest = model.oldest.max(*at as usize);
            Ok(*at)
        }
        _ => Ok(0),
    }
}

async fn run(actions: Vec<Action>) {
    let folder = tempfile::tempdir().expect("a folder");
    let options = EmbeddedOptions { segment_bytes: 8 << 10, ..EmbeddedOptions::default() };
    let open = || Embedded::open(folder.path(), Clock::new().env(), options.clone()).expect("the folder opens");
    let memory = Memory::new(Clock::new().env());
    let mut embedded: Arc<Embedded> = open();
    let mut model = Model { states: vec![State::new()], oldest: 0 };
    for action in &actions {
        let expected = predict(&mut model, action);
        if let Action::Reopen = action {
            embedded.close();
            embedded = open();
        }
        for store in [&memory as &dyn Store, &*embedded] {
            check(store, &model, action, &expected).await;
            assert_eq!(store.head().await.expect("a head"), Revision(model.head() as u64));
            let entries = store.list("", Page::all()).await.expect("a list succeeds").entries;
            assert_eq!(entries, model.now().values().cloned().collect::<Vec<_>>());
        }
        let digests = (memory.digest().await.expect("a digest"), embedded.digest().await.expect("a digest"));
        assert_eq!(digests.0, digests.1, "the backends have drifted apart");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn both_backends_agree_with_the_model(actions in vec(action(), 1..70)) {
        tokio::runtime::Builder::new_current_thread().build().expect("a runtime").block_on(run(actions));
    }
}
