//! Requests that nobody thought of are answered, and never with 500.
#![allow(clippy::disallowed_methods)] // Tests own the clock.

#[path = "requests/mod.rs"]
mod requests;

use requests::round;

/// The first seed; each round has its own.
const SEED: u64 = 7000;
/// How many of a hundred operations must have succeeded.
const SHARE: usize = 98;
/// How many requests a round has.
const COUNT: u64 = 2_500;

#[test]
fn ten_thousand_requests_meet_no_failure_of_the_server() {
    let mut succeeded = std::collections::BTreeMap::new();
    let mut codes = std::collections::BTreeMap::<u16, u64>::new();
    let mut operations = std::collections::BTreeSet::new();
    for seed in SEED..SEED + 4 {
        let report = round(seed, COUNT).unwrap_or_else(|why| panic!("seed {seed}: {why}"));
        report.codes.into_iter().for_each(|(code, count)| *codes.entry(code).or_default() += count);
        report.succeeded.into_iter().for_each(|(what, count)| *succeeded.entry(what).or_insert(0) += count);
        operations = report.operations;
    }
    let never: Vec<&String> = operations.iter().filter(|operation| !succeeded.contains_key(*operation)).collect();
    println!("{codes:?}; {} of {} operations have succeeded, but never {never:#?}", succeeded.len(), operations.len());
    assert_eq!(codes.values().sum::<u64>(), 4 * COUNT);
    // They reach what they are about: objects are made, changed, refused and not found.
    for (code, least) in [(200, 600), (201, 50), (400, 500), (404, 500), (409, 5), (415, 20), (422, 300)] {
        assert!(codes.get(&code).is_some_and(|count| *count >= least), "{code}: {codes:?}");
    }
    let share = succeeded.len() * 100 / operations.len();
    assert!(share >= SHARE, "only {share} of 100 operations have succeeded");
}

#[test]
fn the_same_seed_is_the_same_round() {
    let [one, other] = [(); 2].map(|()| round(SEED, 300).unwrap_or_else(|why| panic!("{why}")));
    assert_eq!(one, other);
}
