//! The checker is trusted because it finds known defects, and the backends because it finds none in them.

#[allow(dead_code, reason = "some defects are for the other suite")]
mod defective;

use std::{sync::Arc, time::Duration};

use k8s_store::{
    Embedded, EmbeddedOptions, Faulty, Memory,
    check::{self, Checked, Workload},
    contract::Clock,
};

use self::defective::{Defect, subject};

/// Within how many histories a defect must be found. Most are found in the first; the others say in how many.
const HISTORIES: u64 = 200;
/// The seeds of the histories in this file begin here.
const SEED: u64 = 1000;

/// Few clients and many short histories: a defect that needs long ones would hide in them as well.
fn short() -> Workload {
    Workload { clients: 4, steps: 400, patience: Duration::from_millis(300), ..Workload::default() }
}

/// The number of histories after which a defect was found, and by which promise.
fn found(defect: Defect) -> Option<(u64, &'static str)> {
    (1..=HISTORIES).find_map(|count| {
        let subject = subject(Clock::new().env(), defect);
        let failure = check::run(subject.store, SEED + count, &short()).err()?;
        Some((count, failure.contradiction.promise))
    })
}

macro_rules! finds {
    ($($test:ident: $defect:ident breaks $promise:literal within $within:literal;)*) => {
        $(
            #[test]
            fn $test() {
                let (count, promise) = found(Defect::$defect).expect("the checker does not notice");
                println!("{:?} was found in history {count} as broken: {promise}", Defect::$defect);
                assert!(promise == $promise && count <= $within, "found in history {count} as broken: {promise}");
            }
        )*
    };
}

finds! {
    a_head_that_falls: HeadFallsAfterCompaction breaks "linearizable" within 2;
    progress_that_overtakes: ProgressOvertakes breaks "bookmarkable" within 2;
    progress_that_falls: ProgressFalls breaks "bookmarkable" within 2;
    progress_that_runs_ahead: ProgressRunsAhead breaks "linearizable" within 2;
    progress_that_is_forgotten: ProgressIsForgotten breaks "live" within 2;
    a_watch_that_replays: WatchReplays breaks "ordered" within 2;
    a_change_that_comes_twice: ChangeTwice breaks "unique" within 2;
    a_slow_reader_that_loses: SlowReaderLoses breaks "reliable" within 2;
    a_compacted_delete_that_is_skipped: CompactedIsSkipped breaks "no gaps" within 2;
    a_first_change_that_compaction_takes: FirstAfterCompactionIsLost breaks "resumable" within 20;
    a_future_that_is_past: FutureIsPast breaks "linearizable" within 8;
    a_compacted_list_that_is_answered: CompactedIsListed breaks "pages" within 2;
    a_compacted_list_that_is_empty: CompactedIsEmpty breaks "pages" within 2;
    a_stale_get: GetIsStale breaks "linearizable" within 8;
    a_stale_head: HeadIsStale breaks "linearizable" within 2;
    a_stale_list: ListIsStale breaks "linearizable" within 2;
    a_prefix_that_leaks: PrefixLeaks breaks "filtered" within 2;
    an_empty_window_that_loses: EmptyWindow breaks "resumable" within 2;
    a_registration_that_loses: RegistrationGap breaks "resumable" within 2;
    deletes_that_are_lost: DeletesAreLost breaks "reliable" within 2;
    commits_that_are_split: CommitsAreSplit breaks "reliable" within 2;
    guards_that_are_late: GuardsAreLate breaks "guards" within 8;
    pages_that_drift: PagesDrift breaks "pages" within 2;
    more_that_is_forgotten: MoreIsForgotten breaks "pages" within 2;
    compaction_that_loses_state: CompactionLosesState breaks "dense" within 2;
    an_acknowledged_write_that_is_lost: AcknowledgedIsLost breaks "dense" within 2;
    a_commit_that_happens_twice: AppliedTwice breaks "dense" within 2;
    half_a_transaction: HalfATransaction breaks "atomic" within 2;
    a_refusal_that_leaves_a_key: RefusedLeavesAKey breaks "dense" within 2;
    a_previous_value_that_is_lost: PreviousIsLost breaks "previous values" within 2;
    an_update_that_looks_like_a_create: UpdateIsCreate breaks "flags" within 2;
    a_revoke_that_leaves_keys: RevokeLeavesKeys breaks "dense" within 2;
    a_lease_number_that_is_given_twice: LeaseTwice breaks "leases" within 2;
}

#[test]
fn defects_do_not_hide_behind_unknown_outcomes() {
    for defect in [Defect::HalfATransaction, Defect::AppliedTwice, Defect::GetIsStale, Defect::AcknowledgedIsLost] {
        let check = |seed| {
            let subject = subject(Clock::new().env(), defect);
            check::run(Arc::new(Faulty::unreliable(subject.store, seed, 12)), seed, &short())
        };
        assert!((0..HISTORIES).any(|seed| check(seed).is_err()), "{defect:?} is not noticed");
    }
}

#[test]
fn the_wrapper_itself_is_sound() {
    assert_eq!(found(Defect::None), None);
}

#[test]
fn a_report_says_what_where_and_how_to_see_it_again() {
    let subject = subject(Clock::new().env(), Defect::GetIsStale);
    let failure = check::run(subject.store, SEED, &short()).expect_err("it is found");
    let report = failure.to_string();
    let (first, around) = report.split_once('\n').expect("several lines");
    assert!(first.starts_with("seed 1000: linearizable: ") && first.contains("Get("), "{report}");
    assert!(first.contains("expected was") && first.contains("between revisions"), "{report}");
    assert!(around.lines().count() > 10 && around.contains("Commit(") && around.contains("revision "), "{report}");
}

/// Adds up what checks of as many histories came to.
fn all(histories: u64, check: impl Fn(u64) -> Result<Checked, Box<check::Failure>>) -> Checked {
    let each = (0..histories).map(|seed| check(SEED + seed).unwrap_or_else(|failure| panic!("{failure}")));
    let checked = each.fold(Checked::default(), Checked::and);
    println!("{checked:?}");
    checked
}

#[test]
fn unknown_outcomes_are_found_out() {
    let checked = all(300, |seed| {
        let memory = Arc::new(Memory::new(Clock::new().env()));
        check::run(Arc::new(Faulty::unreliable(memory, seed, 12)), seed, &Workload::default())
    });
    assert!(checked.unknown > 300 * 40, "{checked:?}");
}

#[test]
fn embedded_keeps_the_contract() {
    let checked = all(420, |seed| check::history_with_power_cuts(seed, 0, &Workload::default()));
    assert!(checked.watch_events >= 100_000 && checked.operations >= 420 * 2000, "{checked:?}");
}

#[test]
fn embedded_keeps_the_contract_through_losses_of_power() {
    let checked = all(80, |seed| check::history_with_power_cuts(seed, 150, &Workload::default()));
    assert!(checked.unknown > 80 && checked.changes > 80 * 300, "{checked:?}");
}

/// Checks as many histories of a backend, and that they held what histories are about.
fn sound(histories: u64, make: impl Fn() -> Arc<dyn k8s_store::Store>) -> Checked {
    let checked = all(histories, |seed| check::run(make(), seed, &Workload::default()));
    assert!(checked.operations >= histories * 2000, "{checked:?}");
    assert!(checked.changes >= histories * 400 && checked.watches >= histories * 50, "{checked:?}");
    checked
}

#[test]
fn memory_keeps_the_contract() {
    let checked = sound(500, || Arc::new(Memory::new(Clock::new().env())));
    assert!(checked.watch_events >= 100_000, "{checked:?}");
}

#[test]
fn the_same_seed_is_the_same_history() {
    let record = || {
        let store = Arc::new(Memory::new(Clock::new().env()));
        let history = check::record(store, SEED, &Workload::default()).expect("it is sound");
        history.operations.iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    assert_eq!(record(), record());
}

#[test]
fn embedded_keeps_the_contract_on_a_real_disk() {
    let folder = tempfile::tempdir().expect("a folder");
    let count = std::sync::atomic::AtomicU64::new(0);
    let options = EmbeddedOptions { segment_bytes: 32 << 10, snapshot_after_bytes: 64 << 10, ..Default::default() };
    sound(40, || {
        let number = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let folder = folder.path().join(number.to_string());
        Embedded::open(&folder, Clock::new().env(), options.clone()).expect("an empty folder opens")
    });
}
