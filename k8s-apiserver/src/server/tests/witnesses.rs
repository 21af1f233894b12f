//! Many write at the same time, many watch at every layer, and each was told exactly what happened.

mod history;
mod layers;

use std::time::Duration;

use futures::StreamExt;
use k8s_core::{doc, env, request::Options};

use self::{
    history::{History, Record, Wanted, What, check},
    layers::{From, Layer, Witness, informer, open, restless},
};
use super::fixture::{Fixture, server};

const PREFIX: &str = "/registry/configmaps/";
const NAMESPACES: [&str; 2] = ["default", "kube-public"];
const WRITERS: u64 = 6;
/// Writers pause for up to twenty of these: bookmarks come while they write, and they end before the store is compacted.
const PAUSE: Duration = Duration::from_millis(250);
/// How long a record may take to come.
const LIMIT: Duration = Duration::from_secs(300);

/// A small generator: the tests' choices depend on a seed and nothing else.
#[derive(Clone)]
struct Draws(u64);

impl Draws {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 33) % bound
    }
}

fn wants() -> Vec<Wanted> {
    let all = Wanted::default();
    vec![
        all.clone(),
        Wanted { namespace: Some("default"), ..all.clone() },
        Wanted { name: Some("c3"), ..all.clone() },
        Wanted { namespace: Some("kube-public"), name: Some("c3"), ..all.clone() },
        Wanted { label: Some("yes"), ..all.clone() },
        Wanted { namespace: Some("default"), label: Some("yes"), ..all },
    ]
}

/// Creates, changes, relabels and deletes a few objects that all writers share.
async fn write(api: Fixture, mut draws: Draws, writes: u64, pause: Option<Duration>) {
    for n in 0..writes {
        let (namespace, name) = (NAMESPACES[draws.below(2) as usize], format!("c{}", draws.below(8)));
        let label = ["yes", "no"][draws.below(2) as usize];
        let value = format!("{:x}-{n}", draws.0);
        let object = doc!({"metadata": {"name": name.as_str(), "labels": {"l": label}}, "data": {"v": value}});
        let path = format!("configmaps/{name}");
        // Others may have been faster: then this writer has done nothing.
        match draws.below(4) {
            0 => drop(api.delete(&path, namespace, Options::default()).await),
            1 => drop(api.create("configmaps", namespace, object).await),
            _ => {
                if api.update(&path, namespace, object.clone()).await.is_err() {
                    drop(api.create("configmaps", namespace, object).await);
                }
            }
        }
        if let Some(pause) = pause {
            api.env.sleep(pause * draws.below(20) as u32).await;
        }
    }
}

/// The last writes: every watcher is told of one of them.
async fn finish(api: &Fixture) {
    for namespace in NAMESPACES {
        for name in ["c3", "end"] {
            let object = doc!({"metadata": {"name": name, "labels": {"l": "yes"}}, "data": {"v": "end"}});
            if api.create("configmaps", namespace, object.clone()).await.is_err() {
                api.update(&format!("configmaps/{name}"), namespace, object).await.unwrap();
            }
        }
    }
}

/// Takes what a watcher writes down until it has been told as many changes as it should, and then (if there are any to
/// come) a bookmark after all that happened.
async fn take(witness: &mut Witness, api: &Fixture, changes: usize, until: Option<u64>) -> Vec<Record> {
    let (mut told, mut count) = (Vec::new(), 0);
    let mut is_marked = until.is_none();
    while count < changes || !is_marked {
        match env::timeout(&*api.env, LIMIT, witness.told.recv()).await.flatten() {
            Some(record) if record.what == What::Bookmark => {
                is_marked |= until.is_some_and(|until| record.revision >= until);
                told.push(record);
            }
            Some(record) => {
                count += 1;
                told.push(record);
            }
            None => break,
        }
    }
    // What comes beyond what was expected.
    while let Ok(record) = witness.told.try_recv() {
        told.push(record);
    }
    told
}

/// Runs writers and watchers; answers the history that all were compared with.
async fn run(seed: u64, writes: u64, pause: Option<Duration>) -> (Fixture, History) {
    let api = server().await;
    let start = api.api.revision();
    let mut draws = Draws(seed);
    let (mut streams, mut informers) = (Vec::new(), Vec::new());
    for wanted in wants() {
        for layer in [Layer::Cache, Layer::Http] {
            streams.push(restless(&api, layer, &wanted, start, || usize::MAX));
            let mut own = Draws(seed + streams.len() as u64);
            streams.push(restless(&api, layer, &wanted, start, move || own.below(9) as usize + 1));
        }
        informers.push(informer(&api, &wanted).await);
    }
    let tasks: Vec<_> = (0..WRITERS)
        .map(|_| {
            draws.below(2);
            api.env.spawn("writer", Box::pin(write(api.clone(), draws.clone(), writes, pause)))
        })
        .collect();
    for task in tasks {
        task.join().await.unwrap();
    }
    finish(&api).await;
    let history = History::of(&*api.store, PREFIX).await;
    let head = *history.revisions().last().unwrap();
    let mut early = 0;
    for mut witness in streams {
        let expected = history.expected(&witness.wanted, witness.from);
        // Bookmarks come with time; without pauses there is none.
        let told = take(&mut witness, &api, expected.len(), pause.map(|_| head)).await;
        check(&told, &expected).unwrap_or_else(|why| panic!("seed {seed}: {}: {why}", witness.name));
        early += told.iter().filter(|record| record.what == What::Bookmark && record.revision < head).count();
    }
    assert!(pause.is_none() || early > 0, "no bookmark came while there were writes");
    for mut witness in informers {
        let expected = by_last_state(&history, &witness);
        let told = take(&mut witness, &api, expected.len(), None).await;
        assert_eq!(told, expected, "seed {seed}: {}", witness.name);
    }
    (api, history)
}

/// What an informer is told: of deletions it knows the last state, not the revision of the deletion.
fn by_last_state(history: &History, witness: &Witness) -> Vec<Record> {
    let mut expected = history.expected(&witness.wanted, witness.from);
    let all = expected.clone();
    for (place, record) in expected.iter_mut().enumerate().filter(|(_, record)| record.what == What::Deleted) {
        let last = all[..place].iter().rev().find(|earlier| earlier.key == record.key).expect("it was there");
        record.revision = last.revision;
    }
    expected
}

#[tokio::test(start_paused = true)]
async fn every_watcher_is_told_what_happened_whatever_the_order() {
    for seed in 1..=4 {
        let (_, history) = run(seed, 60, Some(PAUSE)).await;
        assert!(history.len() > 150, "only {} changes happened", history.len());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn every_watcher_is_told_what_happened_when_threads_race() {
    let (_, history) = run(9, 120, None).await;
    assert!(history.len() > 300, "only {} changes happened", history.len());
}

#[tokio::test(start_paused = true)]
async fn a_watch_from_any_revision_is_told_all_that_came_after_and_one_from_now_what_is_there() {
    let (api, history) = run(5, 40, Some(PAUSE)).await;
    let mut draws = Draws(1);
    let revisions = history.revisions();
    let head = *revisions.last().unwrap();
    for round in 0..40 {
        let wanted = wants().swap_remove(round % 6);
        let layer = [Layer::Cache, Layer::Http][round % 2];
        // Revisions of other kinds' changes among them.
        let from = revisions[0] + draws.below(head - revisions[0] + 1);
        let told = until_bookmark(&api, layer, &wanted, From::After(from)).await;
        check(&told, &history.expected(&wanted, from))
            .unwrap_or_else(|why| panic!("{layer:?} {wanted:?} {from}: {why}"));
        let told = until_bookmark(&api, layer, &wanted, From::Now).await;
        let (mark, there) = told.split_last().unwrap();
        assert_eq!((mark.what, there), (What::Bookmark, &history.state(&wanted, mark.revision)[..]), "{wanted:?}");
    }
}

/// What a watch is told up to its first bookmark.
async fn until_bookmark(api: &Fixture, layer: Layer, wanted: &Wanted, from: From) -> Vec<Record> {
    let mut watch = open(api, layer, wanted, from).await;
    let mut told = Vec::new();
    while told.last().is_none_or(|record: &Record| record.what != What::Bookmark) {
        told.push(watch.next().await.expect("the watch goes on"));
    }
    told
}
