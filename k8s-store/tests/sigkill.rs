//! Acknowledged writes survive `kill -9`.
//!
//! The test starts itself again as a child that writes with several writers into a folder and reports each
//! acknowledgement on a pipe, kills the child at some moment, opens the folder, and compares. Five hundred times, on
//! one folder.
//!
//! What a writer does in its n-th step follows from its number and n alone, and each step also stores n. So the parent
//! knows, from the n that it finds, every byte that must be there, and that no step is half there.
#![allow(clippy::disallowed_methods, reason = "a program that is killed in real time")]

use std::{
    collections::BTreeMap,
    env, fs,
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
};

use futures::StreamExt;
use k8s_store::{
    Embedded, EmbeddedOptions, Key, Page, Retention, Revision, Statistics, Store, Transaction, WatchItem,
    contract::Clock,
};

const CYCLES: u64 = 500;
const WRITERS: u64 = 4;
/// Where a child finds its folder: a program that is started with it runs [`child`].
pub const FOLDER: &str = "K8S_STORE_SIGKILL_FOLDER";

/// Small, so that everything happens often.
fn options() -> EmbeddedOptions {
    EmbeddedOptions {
        retention: Retention { revisions: 2000, bytes: 4 << 20 },
        segment_bytes: 128 << 10,
        snapshot_after_bytes: 256 << 10,
    }
}

#[test]
fn acknowledged_writes_survive_sigkill() {
    match env::var_os(FOLDER) {
        Some(folder) => child(Path::new(&folder)),
        None => parent(CYCLES),
    }
}

/// A number without pattern that follows from `seed`.
fn scramble(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9).wrapping_add(0x9e37_79b9_7f4a_7c15);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

fn step_key(writer: u64) -> String {
    format!("{writer}/step")
}

/// The key that a writer's n-th step touches, and what it puts there; `None` deletes it.
fn step(writer: u64, n: u64) -> (String, Option<Vec<u8>>) {
    let chance = scramble(writer << 48 | n);
    let key = format!("{writer}/key-{:02}", chance % 40);
    let length = if chance >> 32 & 63 == 0 { 200_000 } else { (chance >> 32 & 0xfff) as usize };
    let value = (chance >> 8 & 3 != 0).then(|| {
        let mut value = format!("{writer} {n} ").into_bytes();
        value.resize(value.len() + length, (n & 0xff) as u8);
        value
    });
    (key, value)
}

fn transaction(writer: u64, n: u64) -> Transaction {
    let (key, value) = step(writer, n);
    let counted = Transaction::new().put(step_key(writer), n.to_string());
    match value {
        Some(value) => counted.put(key, value),
        None => counted.delete(key),
    }
}

/// Writes into the folder until it is killed.
pub fn child(folder: &Path) {
    report("opening");
    let store = Embedded::open(folder, Clock::new().env(), options()).expect("the folder opens");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    runtime.block_on(async {
        let writers = (0..WRITERS).map(|writer| tokio::spawn(write_forever(store.clone(), writer)));
        futures::future::join_all(writers).await;
    });
}

async fn write_forever(store: Arc<Embedded>, writer: u64) {
    let mut n = steps(&*store, writer).await;
    loop {
        n += 1;
        let revision = store.commit(transaction(writer, n)).await.expect("a plain commit succeeds").revision;
        report(&format!("ack {writer} {n} {revision}"));
        if writer == 0 && n.is_multiple_of(10) {
            store.compact(Revision(revision.0.saturating_sub(100))).await.expect("compacts");
            let disk = store.statistics().await.expect("statistics").disk.expect("it has a disk");
            report(&format!("disk {} {} {}", disk.snapshots, disk.segments_recycled, disk.segments_begun));
        }
    }
}

fn report(line: &str) {
    // One write of a few bytes into a pipe happens wholly or not at all.
    std::io::stdout().lock().write_all(format!("\n{line}\n").as_bytes()).expect("the parent listens");
}

/// How many steps of the writer are in the store.
async fn steps(store: &dyn Store, writer: u64) -> u64 {
    let entry = store.get(&Key::from(step_key(writer))).await.expect("a get succeeds");
    entry.map_or(0, |entry| std::str::from_utf8(&entry.value).expect("text").parse().expect("a number"))
}

/// What the parent knows about one writer.
#[derive(Default)]
struct Writer {
    /// The last step found in the store.
    steps: u64,
    /// What must be under its keys after that step, and the step that put it there.
    state: BTreeMap<String, (u64, Vec<u8>)>,
    /// The revisions of acknowledged steps.
    acknowledged: BTreeMap<u64, Revision>,
}

#[derive(Default)]
struct Seen {
    acknowledged: u64,
    snapshots: u64,
    recycled: u64,
    begun: u64,
    unacknowledged: u64,
    replayed: u64,
    compacted: Revision,
    killed_while_opening: u64,
}

/// Kills as many children.
pub fn parent(cycles: u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut writers: Vec<Writer> = (0..WRITERS).map(|_| Writer::default()).collect();
    let mut seen = Seen::default();
    for cycle in 0..cycles {
        // Every eighth child is killed while it opens the folder.
        let acknowledgements = if cycle % 8 == 7 { 0 } else { 1 + scramble(cycle) % 120 };
        run_and_kill(folder.path(), acknowledgements, &mut writers, &mut seen);
        runtime.block_on(verify(folder.path(), &mut writers, &mut seen));
    }
    let files = fs::read_dir(folder.path()).expect("the folder is there").count();
    assert!(files < 40, "{files} files are left: what is not needed is not removed");
    assert!(seen.acknowledged > 10 * cycles, "only {} writes", seen.acknowledged);
    assert!(seen.snapshots > 20, "only {} snapshots", seen.snapshots);
    assert!(seen.begun > 50 && seen.recycled > 20, "{} segments, {} recycled", seen.begun, seen.recycled);
    assert!(seen.compacted > Revision(1000), "compacted up to {} only", seen.compacted);
    assert!(seen.replayed > 0 && seen.killed_while_opening > 0, "the moments were not random enough");
    assert!(seen.unacknowledged > 0, "no kill came between a write and its acknowledgement");
}

/// Lets a child write, kills it after it has acknowledged `acknowledgements` steps, and notes what it reported.
fn run_and_kill(folder: &Path, acknowledgements: u64, writers: &mut [Writer], seen: &mut Seen) {
    let mut child = start(folder);
    let lines = BufReader::new(child.stdout.take().expect("it was piped")).split(b'\n');
    let mut disk = [0; 3];
    let mut count = 0;
    let mut killed = false;
    for line in lines {
        let line = String::from_utf8(line.expect("a line")).expect("text");
        let words: Vec<_> = line.split(' ').collect();
        match words[..] {
            ["ack", writer, n, revision] => {
                count += 1;
                let number = |word: &str| word.parse::<u64>().expect("a number");
                writers[number(writer) as usize].acknowledged.insert(number(n), Revision(number(revision)));
            }
            ["disk", ..] => disk = std::array::from_fn(|index| words[index + 1].parse().expect("a number")),
            _ => {}
        }
        let opening = acknowledgements == 0 && line == "opening";
        if !killed && (opening || (count > 0 && count >= acknowledgements)) {
            killed = true;
            seen.killed_while_opening += u64::from(opening);
            child.kill().expect("it can be killed");
        }
    }
    assert!(killed, "the child ended by itself");
    child.wait().expect("it was killed");
    seen.acknowledged += count;
    seen.snapshots += disk[0];
    seen.recycled += disk[1];
    seen.begun += disk[2];
}

fn start(folder: &Path) -> Child {
    Command::new(env::current_exe().expect("this is a program"))
        .args(["acknowledged_writes_survive_sigkill", "--exact", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .spawn()
        .expect("this program starts")
}

async fn verify(folder: &Path, writers: &mut [Writer], seen: &mut Seen) {
    let store = Embedded::open(folder, Clock::new().env(), options()).expect("the folder opens after a kill");
    for (number, writer) in writers.iter_mut().enumerate() {
        verify_writer(&*store, number as u64, writer, seen).await;
    }
    let statistics = store.statistics().await.expect("statistics");
    verify_history(&*store, &statistics).await;
    seen.compacted = seen.compacted.max(statistics.oldest);
    seen.replayed += statistics.disk.expect("it has a disk").replayed;
}

async fn verify_writer(store: &dyn Store, number: u64, writer: &mut Writer, seen: &mut Seen) {
    let found = steps(store, number).await;
    let acknowledged = writer.acknowledged.last_key_value().map_or(writer.steps, |(n, _)| *n);
    assert!(found >= acknowledged, "writer {number}: step {acknowledged} was acknowledged, {found} is there");
    assert!(found <= acknowledged.max(writer.steps) + 1, "writer {number}: step {found} was never begun");
    seen.unacknowledged += found - acknowledged.max(writer.steps);
    for n in writer.steps + 1..=found {
        match step(number, n) {
            (key, Some(value)) => drop(writer.state.insert(key, (n, value))),
            (key, None) => drop(writer.state.remove(&key)),
        }
    }
    writer.steps = found;
    let entries = store.list(&format!("{number}/key-"), Page::all()).await.expect("a list succeeds").entries;
    assert_eq!(entries.len(), writer.state.len(), "writer {number} at step {found}");
    for (entry, (key, (n, value))) in entries.iter().zip(&writer.state) {
        assert_eq!(entry.key.as_str(), key);
        assert!(entry.value == *value, "writer {number}: {key} does not hold what step {n} put there");
        if let Some(revision) = writer.acknowledged.get(n) {
            assert_eq!(entry.modified, *revision, "writer {number}: {key} was acknowledged at another revision");
        }
    }
}

/// The kept history leads without a gap to the head.
async fn verify_history(store: &dyn Store, statistics: &Statistics) {
    let mut watch = store.watch("", statistics.oldest).await.expect("it is kept");
    let mut at = statistics.oldest;
    while at < statistics.head {
        match watch.next().await.expect("the watch goes on").expect("it has no error") {
            WatchItem::Change(change) => {
                assert_eq!(change.revision, at.next());
                at = change.revision;
            }
            WatchItem::Progress(_) => {}
        }
    }
}
