//! The validators are trusted because they find known defects at the layers above the store.

use super::proof::{
    defective::Defect,
    history::{Plan, run},
    stack::Layer,
};

/// Within how many histories a defect must be found.
const HISTORIES: u64 = 200;

/// At watchers, or at informers.
#[derive(Clone, Copy)]
enum By {
    Watchers,
    Informers,
}

/// The number of histories after which a defect was found, and by which promise.
fn found(defect: Defect, by: By, histories: u64) -> Option<(u64, &'static str)> {
    let (watchers, components) = match by {
        By::Watchers => (12, 0),
        By::Informers => (0, 12),
    };
    let plan = Plan { watchers, components, writers: 3, writes: 60, defect, ..Plan::at(Layer::Cache) };
    (1..=histories).find_map(|count| {
        let failure = run(3000 + count, &plan).err()?;
        Some((count, failure.contradiction.promise))
    })
}

macro_rules! finds {
    ($($test:ident: $defect:ident at $by:ident breaks $($promise:literal)|+;)*) => {
        $(
            #[test]
            fn $test() {
                let (count, promise) = found(Defect::$defect, By::$by, HISTORIES).expect("it is not noticed");
                println!("{:?} was found in history {count} as broken: {promise}", Defect::$defect);
                assert!(matches!(promise, $($promise)|+), "found in history {count} as broken: {promise}");
            }
        )*
    };
}

finds! {
    a_first_event_that_is_missed: EmptyWindow at Watchers breaks "resumable" | "bookmarkable";
    a_registration_while_a_cache_begins: ReinitGap at Watchers breaks "resumable" | "bookmarkable";
    deletions_that_are_lost: DeletesAreLost at Watchers breaks "reliable" | "resumable" | "bookmarkable";
    deletions_that_informers_miss: DeletesAreLost at Informers breaks "current" | "compressed" | "whole";
    an_old_cache_that_answers: ListIsStale at Watchers breaks "fresh";
    an_old_list_that_resurrects: FirstListIsStale at Informers breaks "forward" | "current";
    a_watch_that_replays: Replays at Watchers breaks "ordered";
    a_bookmark_that_overtakes: BookmarkOvertakes at Watchers breaks "bookmarkable";
    a_change_that_comes_twice: Twice at Watchers breaks "unique";
    a_watch_that_goes_deaf: GoesDeaf at Watchers breaks "bookmarkable";
    an_update_that_looks_like_a_creation: UpdateIsAdded at Watchers breaks "flags" | "previous values";
    a_deletion_that_shows_something_else: OlderGone at Watchers breaks "previous values";
    a_deletion_that_is_not_told: GoneIsUntold at Informers breaks "chained" | "whole";
}

#[test]
fn without_a_defect_nothing_is_found() {
    assert_eq!(found(Defect::None, By::Watchers, 20), None);
    assert_eq!(found(Defect::None, By::Informers, 20), None);
}
