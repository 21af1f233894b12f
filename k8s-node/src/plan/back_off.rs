//! How long to wait before something is tried again.

use std::{fmt, str::FromStr, time::Duration};

use k8s_core::env::Timestamp;

/// Delays that double from `base` to `max`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ladder {
    /// The first delay.
    pub base: Duration,
    /// The longest delay.
    pub max: Duration,
}

impl Ladder {
    /// The delay after so many failures; none after no failure.
    pub fn delay(self, failures: u32) -> Duration {
        match failures {
            0 => Duration::ZERO,
            n => self.base.saturating_mul(1 << (n - 1).min(20)).min(self.max),
        }
    }
}

/// Containers that end again and again: ten seconds to five minutes, as upstream.
pub const CRASH_LOOP: Ladder = Ladder { base: Duration::from_secs(10), max: Duration::from_secs(300) };

/// The crash-loop back-off of one container, written on each instance of it so that it outlives the agent.
///
/// Upstream's rule: the first restart happens at once; an end more than twice the longest delay after the end before it
/// starts over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// How long to wait once this instance has ended.
    pub delay: Duration,
    /// When the instance before it ended.
    pub since: Timestamp,
}

impl BackOff {
    /// The back-off for the instance that follows one that ended at `ended`, and the time it may start.
    ///
    /// `carried` is what the ended instance carries; the first instance carries none.
    pub fn next(carried: Option<Self>, ended: Timestamp) -> (Timestamp, Self) {
        let live = carried.filter(|back_off| {
            ended.duration_since(back_off.since) <= (CRASH_LOOP.max * 2).try_into().unwrap_or_default()
        });
        let wait = live.map_or(Duration::ZERO, |back_off| back_off.delay);
        let delay = live.map_or(CRASH_LOOP.base, |back_off| (back_off.delay * 2).min(CRASH_LOOP.max));
        let start = ended.checked_add(wait).unwrap_or(ended);
        (start, Self { delay, since: ended })
    }
}

impl fmt::Display for BackOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.delay.as_secs(), self.since)
    }
}

/// Reads what [`fmt::Display`] writes.
impl FromStr for BackOff {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (delay, since) = text.split_once(' ').ok_or(())?;
        let delay = Duration::from_secs(delay.parse().map_err(drop)?);
        Ok(Self { delay, since: since.parse().map_err(drop)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + seconds).unwrap()
    }

    #[test]
    fn restarts_wait_twice_as_long_each_time_up_to_five_minutes() {
        let (mut carried, mut ended, mut waits) = (None, at(0), Vec::new());
        for _ in 0..8 {
            let (start, next) = BackOff::next(carried, ended);
            waits.push(start.duration_since(ended).as_secs());
            (carried, ended) = (Some(next), start.checked_add(Duration::from_secs(1)).unwrap());
        }
        assert_eq!(waits, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn ten_good_minutes_start_over() {
        let carried = BackOff { delay: Duration::from_secs(160), since: at(0) };
        assert_eq!(BackOff::next(Some(carried), at(600)).0, at(760));
        let (start, next) = BackOff::next(Some(carried), at(601));
        assert_eq!((start, next.delay.as_secs()), (at(601), 10));
    }

    #[test]
    fn the_text_form_keeps_everything() {
        let back_off = BackOff { delay: Duration::from_secs(40), since: at(7) };
        assert_eq!(back_off.to_string().parse(), Ok(back_off));
        assert_eq!("40".parse::<BackOff>(), Err(()));
    }
}
