//! What is seen of a store at each layer keeps the promises, and the validators that say so find known defects.

#[path = "layers/defects.rs"]
mod defects;
mod proof;
#[path = "layers/regressions.rs"]
mod regressions;

use self::proof::{
    history::{Plan, Proven, run},
    stack::Layer,
};

/// The seeds of the histories in this file begin here; each test has its own.
const SEED: u64 = 2000;

/// Judges as many histories; a failure names its seed.
fn proven(seed: u64, histories: u64, plan: &Plan) -> Proven {
    let each = (seed..seed + histories).map(|seed| run(seed, plan).unwrap_or_else(|failure| panic!("{failure}")));
    let all = each.fold(Proven::default(), Proven::and);
    println!("{:?}: {} events validated; {all:?}", plan.layer, all.all_events());
    all
}

#[test]
fn the_watch_cache_keeps_the_promises() {
    let all = proven(SEED, 50, &Plan { servers: 2, watchers: 32, ..Plan::at(Layer::Cache) });
    assert!(all.events >= 150_000 && all.store_events >= 40_000 && all.all_events() >= 200_000, "{all:?}");
    assert!(all.watches >= 6_000 && all.bookmarks >= 1_500 && all.lists >= 1_500, "{all:?}");
    assert!(all.restarts >= 100 && all.rebuilds >= 40 && all.expired >= 500, "{all:?}");
}

#[test]
fn watches_over_http_keep_the_promises() {
    let all = proven(SEED + 100, 9, &Plan { servers: 2, watchers: 32, ..Plan::at(Layer::Http) });
    assert!(all.events >= 20_000 && all.bookmarks >= 150 && all.lists >= 250, "{all:?}");
    assert!(all.restarts >= 9 && all.watches >= 800 && all.expired >= 50, "{all:?}");
}

#[test]
fn informers_keep_the_promises() {
    let plan = |layer| Plan { servers: 2, watchers: 8, components: 24, ..Plan::at(layer) };
    let all = proven(SEED + 200, 3, &plan(Layer::Door)).and(proven(SEED + 300, 3, &plan(Layer::Http)));
    assert!(all.told >= 15_000 && all.looks >= 10_000, "{all:?}");
    assert!(all.begun >= 1_000 && all.relists >= 1_000, "{all:?}");
}

#[test]
fn watches_and_informers_over_tls_keep_the_promises() {
    let all = proven(SEED + 400, 2, &Plan { watchers: 32, components: 8, writes: 80, ..Plan::at(Layer::Tls) });
    assert!(all.events >= 2_500 && all.told >= 800 && all.bookmarks >= 30, "{all:?}");
    assert!(all.restarts >= 1 && all.watches >= 100, "{all:?}");
}

#[test]
fn the_same_seed_is_the_same_history() {
    for layer in [Layer::Cache, Layer::Http] {
        let plan = Plan { servers: 2, components: 8, writes: 60, ..Plan::at(layer) };
        let twice = [run(SEED, &plan), run(SEED, &plan)];
        let [one, other] = twice.map(|outcome| outcome.unwrap_or_else(|failure| panic!("{failure}")));
        assert_eq!(one, other);
        assert!(one.events > 0 && one.told > 0);
    }
}
