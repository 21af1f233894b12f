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

/// The seeds of the histories in this file begin here.
const SEED: u64 = 2000;

/// Judges as many histories; a failure names its seed.
fn proven(histories: u64, plan: &Plan) -> Proven {
    let each = (SEED..SEED + histories).map(|seed| run(seed, plan).unwrap_or_else(|failure| panic!("{failure}")));
    let all = each.fold(Proven::default(), Proven::and);
    println!("{:?}: {} events validated; {all:?}", plan.layer, all.all_events());
    all
}

#[test]
fn the_watch_cache_keeps_the_promises() {
    let all = proven(40, &Plan { servers: 2, watchers: 32, ..Plan::at(Layer::Cache) });
    assert!(all.events >= 130_000 && all.store_events >= 20_000, "{all:?}");
    assert!(all.watches >= 8_000 && all.bookmarks >= 2_000 && all.lists >= 1_000, "{all:?}");
    assert!(all.restarts >= 40 && all.rebuilds >= 10 && all.expired >= 100, "{all:?}");
}

#[test]
fn watches_over_http_keep_the_promises() {
    let all = proven(6, &Plan { servers: 2, watchers: 32, ..Plan::at(Layer::Http) });
    assert!(all.events >= 20_000 && all.bookmarks >= 300 && all.lists >= 150, "{all:?}");
    assert!(all.restarts >= 6 && all.expired >= 10, "{all:?}");
}

#[test]
fn informers_keep_the_promises() {
    let [door, http] = [Layer::Door, Layer::Http]
        .map(|layer| proven(3, &Plan { servers: 2, watchers: 8, components: 24, ..Plan::at(layer) }));
    let all = door.and(http);
    assert!(all.told >= 20_000 && all.looks >= 1_000, "{all:?}");
    assert!(all.begun >= 300 && all.relists >= 600, "{all:?}");
}

#[test]
fn watches_and_informers_over_tls_keep_the_promises() {
    let all = proven(1, &Plan { watchers: 24, components: 8, writes: 60, ..Plan::at(Layer::Tls) });
    assert!(all.events >= 1_500 && all.told >= 500 && all.bookmarks >= 20, "{all:?}");
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
