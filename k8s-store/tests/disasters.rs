//! Losses of power, failing disks, full disks and flipped bits, by the thousand.

use k8s_store::check::disasters::{self, Survived};

/// The seeds in this file begin here.
const SEED: u64 = 1;

fn all(seeds: u64, disaster: impl Fn(u64) -> Result<Survived, String>) -> Survived {
    let each = (SEED..SEED + seeds).map(|seed| disaster(seed).unwrap_or_else(|wrong| panic!("{wrong}")));
    let survived = each.fold(Survived::default(), Survived::and);
    println!("{survived:?}");
    survived
}

#[test]
fn fifty_thousand_losses_of_power_take_nothing_that_was_acknowledged() {
    let survived = all(25, |seed| disasters::power_cuts(seed, 2000));
    assert!(survived.disasters >= 50_000 && survived.noticed > 10_000, "{survived:?}");
    assert!(survived.snapshots >= 75 && survived.recycled >= 75, "{survived:?}");
}

#[test]
fn a_disk_that_lies_about_flushes_is_found_out() {
    let found = (0..10).filter(|seed| disasters::power_cuts_on_a_disk_that_lies(*seed, 500).is_err()).count();
    assert_eq!(found, 10, "the search does not notice that nothing is flushed");
}

#[test]
fn every_operation_of_the_disk_may_fail() {
    let survived = all(2, |seed| disasters::disk_faults(seed, 40));
    assert!(survived.disasters > 1000 && survived.noticed > 500, "{survived:?}");
    assert!(survived.snapshots > 0 && survived.recycled > 0, "{survived:?}");
}

#[test]
fn ten_thousand_flipped_bits_are_never_read_as_data() {
    let survived = all(4, |seed| disasters::bit_flips(seed, 2500));
    assert!(survived.disasters == 10_000 && survived.noticed > 2000, "{survived:?}");
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_space() {
    let survived = all(4, |seed| disasters::full_disks(seed, 50));
    assert!(survived.disasters == 200 && survived.noticed == 200, "{survived:?}");
}
