//! When a quota may say less than is charged.
//!
//! Between a charge and its object there is a moment in which the object cannot be counted. Less than is charged is
//! therefore written only when the quota has not changed for [`QUIET`] since that was first seen.

use std::{collections::BTreeMap, time::Duration};

use k8s_core::{env::Timestamp, object::ObjectKey, quota::Amounts};
use parking_lot::Mutex;

/// How long nobody may have charged. A request lasts no longer than this between its charge and its object, unless the
/// store stands still.
pub const QUIET: Duration = Duration::from_secs(2);

/// What is to be done.
#[derive(Debug, PartialEq)]
pub enum Verdict {
    /// Look again after this long.
    Wait(Duration),
    /// Write this.
    Write(Amounts),
}

/// Since when quotas are as they are: the revision at which less was counted, and when.
#[derive(Default)]
pub struct Settled(Mutex<BTreeMap<ObjectKey, (u64, Timestamp)>>);

impl Settled {
    /// What is to be done about a quota at `revision` that has `charged` where `counted` is there.
    pub fn judge(
        &self,
        key: &ObjectKey,
        revision: u64,
        charged: &Amounts,
        counted: &Amounts,
        now: Timestamp,
    ) -> Verdict {
        let is_less = counted.iter().any(|(name, amount)| charged.get(name).is_some_and(|charged| amount < charged));
        let mut since = self.0.lock();
        if !is_less {
            since.remove(key);
            return Verdict::Write(counted.clone());
        }
        let (seen, at) = *since.entry(key.clone()).or_insert((revision, now));
        let quiet = Duration::try_from(now.duration_since(at)).unwrap_or_default();
        if seen == revision && quiet >= QUIET {
            since.remove(key);
            return Verdict::Write(counted.clone());
        }
        if seen != revision {
            since.insert(key.clone(), (revision, now));
            return Verdict::Wait(QUIET);
        }
        Verdict::Wait(QUIET - quiet)
    }

    /// Forgets a quota that went.
    pub fn forget(&self, key: &ObjectKey) {
        self.0.lock().remove(key);
    }
}

#[cfg(test)]
mod tests {
    use k8s_core::quantity::{Format, Quantity};

    use super::*;

    fn pods(count: i64) -> Amounts {
        Amounts::from([("pods".to_owned(), Quantity::new(count, Format::DecimalSi))])
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn less_waits_until_nobody_charges() {
        let (settled, key) = (Settled::default(), ObjectKey::new("n", "q"));
        let judge = |revision, charged, counted, second| {
            settled.judge(&key, revision, &pods(charged), &pods(counted), at(second))
        };
        assert_eq!(judge(1, 1, 2, 0), Verdict::Write(pods(2)), "more is written at once");
        assert_eq!(judge(2, 3, 2, 10), Verdict::Wait(QUIET));
        assert_eq!(judge(2, 3, 2, 11), Verdict::Wait(Duration::from_secs(1)));
        assert_eq!(judge(3, 4, 2, 12), Verdict::Wait(QUIET), "somebody charged");
        assert_eq!(judge(3, 4, 2, 14), Verdict::Write(pods(2)));
        assert_eq!(judge(4, 2, 2, 15), Verdict::Write(pods(2)));
    }
}
