//! The contract suite is trusted because it finds known defects.
//!
//! Each case is a defect that a real store had, built into a store that is otherwise sound. The promise that it breaks
//! must notice: by a panic, or by waiting for what never comes.
#![allow(clippy::disallowed_methods, reason = "the limits are on real time")]

#[allow(dead_code, reason = "some defects are for the other suite")]
mod defective;

use std::time::Duration;

use futures::{FutureExt, future};
use k8s_core::env::Env;
use k8s_store::contract;

use self::defective::{Defect, subject};

/// Whether the promise notices the defect within so many seconds.
macro_rules! finds {
    ($promise:ident, $defect:expr, $seconds:expr) => {{
        let new = async |env: Env| subject(env, $defect);
        let checked = std::panic::AssertUnwindSafe(contract::$promise(new)).catch_unwind();
        let limit = tokio::time::sleep(Duration::from_secs($seconds));
        futures::pin_mut!(checked, limit);
        match future::select(checked, limit).await {
            future::Either::Left((outcome, _)) => outcome.is_err(),
            future::Either::Right(_) => true,
        }
    }};
}

macro_rules! found {
    ($($test:ident: $defect:ident by $promise:ident;)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                assert!(!finds!($promise, Defect::None, 60), "a sound store does not keep the promise");
                assert!(finds!($promise, Defect::$defect, 2), "the suite does not notice that {:?}", Defect::$defect);
            }
        )*
    };
}

found! {
    a_head_that_falls: HeadFallsAfterCompaction by compaction_keeps_what_is_stored;
    progress_that_overtakes: ProgressOvertakes by progress_never_overtakes_a_change;
    a_watch_that_replays: WatchReplays by watches_resume_after_any_revision;
    a_change_that_comes_twice: ChangeTwice by watches_yield_every_change_once_in_order;
    a_slow_reader_that_loses: SlowReaderLoses by a_slow_reader_loses_nothing;
    a_compacted_delete_that_is_skipped: CompactedIsSkipped by a_compacted_delete_is_not_seen_again;
    a_first_change_that_compaction_takes: FirstAfterCompactionIsLost by a_delete_outlives_the_compaction_before_it;
    a_future_that_is_past: FutureIsPast by revisions_to_come_are_refused;
    a_compacted_list_that_is_answered: CompactedIsListed by compaction_is_exact;
    a_stale_get: GetIsStale by acknowledged_writes_are_read_at_once;
    a_stale_head: HeadIsStale by acknowledged_writes_are_read_at_once;
    a_prefix_that_leaks: PrefixLeaks by a_prefix_shows_nothing_else;
    an_empty_window_that_loses: EmptyWindow by the_first_change_is_watched;
    a_registration_that_loses: RegistrationGap by watches_resume_after_any_revision;
    deletes_that_are_lost: DeletesAreLost by deletes_are_watched_with_what_was_there;
    commits_that_are_split: CommitsAreSplit by commits_are_seen_whole;
    guards_that_are_late: GuardsAreLate by guarded_writers_lose_no_update;
    pages_that_drift: PagesDrift by pages_are_of_one_snapshot;
    compaction_that_loses_state: CompactionLosesState by compaction_keeps_what_is_stored;
    watches_that_leak: WatchesLeak by dropped_watches_are_forgotten;
    attachments_that_are_lost: AttachmentsAreLost by attachments_are_handed_back;
    a_keep_alive_that_is_idle: KeepAliveIsIdle by leases_live_while_kept_alive;
    a_revoke_that_leaves_keys: RevokeLeavesKeys by leases_can_be_revoked;
}
