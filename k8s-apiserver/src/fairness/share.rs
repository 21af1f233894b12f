//! How seats are divided among priority levels, and lent. Pure.

use k8s_core::doc::{Doc, Text};

use super::queues::Queuing;

/// What a PriorityLevelConfiguration says.
#[derive(Debug, Clone, PartialEq)]
pub struct Share {
    /// The uid of the object.
    pub uid: Text,
    /// Whether nothing is limited.
    pub exempt: bool,
    /// Its part of the seats, relative to those of the other levels.
    pub shares: u32,
    /// How much of its seats others may have, in percent.
    pub lendable: u32,
    /// How much it may have of others, in percent of its own seats; `None` is everything.
    pub borrowing: Option<u32>,
    /// How its requests wait.
    pub queuing: Queuing,
}

impl Share {
    /// Reads a PriorityLevelConfiguration.
    pub fn of(doc: &Doc) -> Self {
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        let exempt = spec.str_at(&["type"]) == "Exempt";
        let kind = if exempt { "exempt" } else { "limited" };
        let number = |path: &[&str]| -> Option<u32> {
            let found = spec.get(kind)?.at(path)?.as_u64()?;
            Some(u32::try_from(found).unwrap_or(u32::MAX))
        };
        let waits = spec.str_at(&[kind, "limitResponse", "type"]) == "Queue";
        let of_queue = |field: &str, default: u32| -> usize {
            if waits { number(&["limitResponse", "queuing", field]).unwrap_or(default) as usize } else { 0 }
        };
        Self {
            uid: doc.str_at(&["metadata", "uid"]).into(),
            exempt,
            shares: number(&["nominalConcurrencyShares"]).unwrap_or(if exempt { 0 } else { 30 }),
            lendable: number(&["lendablePercent"]).unwrap_or(0).min(100),
            borrowing: number(&["borrowingLimitPercent"]),
            queuing: Queuing {
                queues: of_queue("queues", 64),
                hand: of_queue("handSize", 8),
                length: of_queue("queueLengthLimit", 50),
            },
        }
    }

    /// The seats of the level when nobody lends, out of `seats` for all `shares` together.
    pub fn nominal(&self, seats: u32, shares: u64) -> u32 {
        let part = (u64::from(seats) * u64::from(self.shares)).div_ceil(shares.max(1));
        u32::try_from(part).unwrap_or(u32::MAX)
    }
}

/// The seats of every level, for what each wanted lately: at least what it does not lend, at most what it may borrow, and
/// what is left in proportion to their own seats. What nobody wants goes back to whom it belongs.
pub fn allocate(seats: u32, levels: &[(Share, u32)]) -> Vec<u32> {
    let shares: u64 = levels.iter().map(|(share, _)| u64::from(share.shares)).sum();
    let nominal: Vec<f64> = levels.iter().map(|(share, _)| f64::from(share.nominal(seats, shares))).collect();
    let least = |at: usize| nominal[at] - (nominal[at] * f64::from(levels[at].0.lendable) / 100.0).floor();
    let most = |at: usize| match levels[at].0.borrowing {
        Some(percent) => nominal[at] * (1.0 + f64::from(percent) / 100.0),
        None => f64::from(seats).max(nominal[at]),
    };
    let all = || 0..levels.len();
    let total: f64 = nominal.iter().sum();
    let (low, targets): (Vec<f64>, Vec<f64>) =
        all().map(|at| (least(at), f64::from(levels[at].1).clamp(least(at), most(at)))).unzip();
    let given = fill(total, &nominal, &low, &targets);
    // The rest is its owners', so that the next request of an idle level does not wait.
    let high: Vec<f64> = all().map(|at| nominal[at].max(targets[at])).collect();
    let given = fill(total, &nominal, &given, &high);
    // Sums of parts are not always whole where they should be.
    given.iter().map(|seats| (seats + 1e-6).floor() as u32).collect()
}

/// What everybody gets of `total`: the same multiple of their weight, but not less than `low` and not more than `high`.
fn fill(total: f64, weights: &[f64], low: &[f64], high: &[f64]) -> Vec<f64> {
    let parts = |multiple: f64| -> Vec<f64> {
        let part = |at: usize| (weights[at] * multiple).max(low[at]).min(high[at].max(low[at]));
        (0..weights.len()).map(part).collect()
    };
    let (mut from, mut to) =
        (0.0, high.iter().zip(weights).map(|(high, weight)| high / weight.max(1.0)).fold(1.0, f64::max));
    // The sum grows with the multiple: fifty halvings find it to the last seat and far beyond.
    for _ in 0..50 {
        let middle = (from + to) / 2.0;
        if parts(middle).iter().sum::<f64>() > total {
            to = middle;
        } else {
            from = middle;
        }
    }
    parts(from)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn share(shares: u32, lendable: u32, borrowing: Option<u32>) -> Share {
        let queuing = Queuing { queues: 1, hand: 1, length: 1 };
        Share { uid: Text::default(), exempt: false, shares, lendable, borrowing, queuing }
    }

    #[test]
    fn idle_levels_lend_and_get_back_what_is_theirs() {
        let levels = |wanted: [u32; 3]| {
            [share(50, 50, None), share(30, 0, None), share(20, 100, Some(50))]
                .into_iter()
                .zip(wanted)
                .collect::<Vec<_>>()
        };
        assert_eq!(allocate(100, &levels([0, 0, 0])), [50, 30, 20], "nobody wants anything");
        assert_eq!(allocate(100, &levels([0, 100, 0])), [25, 75, 0], "what is lent is had by who wants it");
        assert_eq!(allocate(100, &levels([0, 0, 100])), [40, 30, 30], "nobody borrows more than they may");
        assert_eq!(allocate(100, &levels([100, 100, 100])), [50, 30, 20], "who wants everything gets their own");
    }

    proptest! {
        #[test]
        fn nobody_gets_less_than_they_keep_and_all_get_no_more_than_there_is(
            seats in 10u32..1000,
            levels in prop::collection::vec((1u32..100, 0u32..=100, prop::option::of(0u32..300), 0u32..2000), 1..9),
        ) {
            let levels: Vec<(Share, u32)> =
                levels.into_iter().map(|(shares, lendable, borrowing, wanted)| (share(shares, lendable, borrowing), wanted)).collect();
            let shares: u64 = levels.iter().map(|(share, _)| u64::from(share.shares)).sum();
            let nominal: Vec<u32> = levels.iter().map(|(share, _)| share.nominal(seats, shares)).collect();
            let given = allocate(seats, &levels);
            prop_assert!(given.iter().sum::<u32>() <= nominal.iter().sum::<u32>());
            for (at, (share, _)) in levels.iter().enumerate() {
                prop_assert!(given[at] + 1 >= nominal[at] - nominal[at] * share.lendable / 100);
                if let Some(percent) = share.borrowing {
                    prop_assert!(given[at] <= nominal[at] + nominal[at] * percent / 100 + 1);
                }
            }
        }
    }
}
