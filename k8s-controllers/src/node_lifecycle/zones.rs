//! How much of each zone is down, and how fast nodes may therefore be handed over to eviction.
//!
//! Follows upstream: one node in ten seconds per zone; where most of a zone is down, one in a hundred seconds if the
//! zone is large, none if it is small; and none anywhere when no node is up at all.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    time::Duration,
};

use k8s_core::doc::Text;

use super::plan::Eviction;

/// The share of a zone that must be down for it to count as disrupted, in percent.
const UNHEALTHY_PERCENT: usize = 55;
/// A zone with more nodes than this is large.
const LARGE: usize = 50;
const INTERVAL: Duration = Duration::from_secs(10);
const DISRUPTED_INTERVAL: Duration = Duration::from_secs(100);

/// How much of a zone is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disruption {
    /// Little.
    None,
    /// Most, but not all.
    Partial,
    /// Everything.
    Full,
}

/// What of a node matters to its zone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// The zone's name, made of region and zone; empty for nodes that name none.
    pub zone: Text,
    /// Whether the node is ready.
    pub ready: bool,
}

/// All zones of a cluster.
#[derive(Debug, Default)]
pub struct Zones {
    members: BTreeMap<Text, Member>,
    zones: BTreeMap<Text, Zone>,
}

#[derive(Debug, Default)]
struct Zone {
    ready: usize,
    unready: usize,
    /// When the next node may be handed over, on the monotonic clock.
    next: Duration,
}

impl Zone {
    fn disruption(&self) -> Disruption {
        match (self.ready, self.unready) {
            (0, 1..) => Disruption::Full,
            (_, 3..) if self.unready * 100 >= UNHEALTHY_PERCENT * self.size() => Disruption::Partial,
            _ => Disruption::None,
        }
    }

    fn size(&self) -> usize {
        self.ready + self.unready
    }

    fn interval(&self) -> Option<Duration> {
        match self.disruption() {
            Disruption::None | Disruption::Full => Some(INTERVAL),
            Disruption::Partial => (self.size() > LARGE).then_some(DISRUPTED_INTERVAL),
        }
    }

    fn count(&mut self, ready: bool) -> &mut usize {
        if ready { &mut self.ready } else { &mut self.unready }
    }
}

/// What a change of one node means for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// Nothing.
    None,
    /// Other nodes may be handed over faster or slower than before.
    Pace,
    /// No node was up, and now one is: everybody's silence counts from now.
    Recovered,
}

impl Zones {
    /// Takes note of a node as it is now; `None` if it is gone.
    pub fn note(&mut self, name: &Text, member: Option<Member>) -> Change {
        if self.members.get(name) == member.as_ref() {
            return Change::None;
        }
        let (were_down, before) = (self.all_down(), self.disruptions());
        if let Some(old) = self.members.remove(name)
            && let Entry::Occupied(mut zone) = self.zones.entry(old.zone)
        {
            *zone.get_mut().count(old.ready) -= 1;
            if zone.get().size() == 0 {
                zone.remove();
            }
        }
        if let Some(new) = member {
            *self.zones.entry(new.zone.clone()).or_default().count(new.ready) += 1;
            self.members.insert(name.clone(), new);
        }
        match (were_down, self.all_down()) {
            (true, false) => Change::Recovered,
            (false, true) => Change::Pace,
            _ if before != self.disruptions() => Change::Pace,
            _ => Change::None,
        }
    }

    /// Whether the node may be handed over now. That uses the zone's turn up; [`Zones::give_back`] undoes it.
    ///
    /// Where it must wait, the second value says how long; `None` if until something changes.
    pub fn take_turn(&mut self, name: &Text, now: Duration) -> (Eviction, Option<Duration>) {
        if self.all_down() {
            return (Eviction::Suspended, None);
        }
        let zone = self.members.get(name).and_then(|member| self.zones.get_mut(&member.zone));
        let Some((zone, interval)) = zone.and_then(|zone| zone.interval().map(|interval| (zone, interval))) else {
            return (Eviction::Withheld, None);
        };
        if now < zone.next {
            return (Eviction::Withheld, Some(zone.next - now));
        }
        zone.next = now + interval;
        (Eviction::Granted, None)
    }

    /// A turn that was taken was not used after all.
    pub fn give_back(&mut self, name: &Text, now: Duration) {
        if let Some(zone) = self.members.get(name).and_then(|member| self.zones.get_mut(&member.zone)) {
            zone.next = now;
        }
    }

    /// Whether there are nodes and none of them is up.
    pub fn all_down(&self) -> bool {
        !self.zones.is_empty() && self.zones.values().all(|zone| zone.disruption() == Disruption::Full)
    }

    fn disruptions(&self) -> Vec<Disruption> {
        self.zones.values().map(Zone::disruption).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(zone: &str, ready: bool) -> Option<Member> {
        Some(Member { zone: zone.into(), ready })
    }

    fn zones(ready: usize, unready: usize) -> Zones {
        let mut zones = Zones::default();
        for number in 0..ready + unready {
            zones.note(&format!("n{number}").into(), member("z", number >= unready));
        }
        zones
    }

    #[test]
    fn how_much_is_down() {
        use Disruption::{Full, None, Partial};
        let cases = [
            (0, 1, Full),
            (1, 1, None),
            (1, 2, None),
            (1, 3, Partial),
            (3, 3, None),
            (45, 55, Partial),
            (46, 54, None),
        ];
        for (ready, unready, expected) in cases {
            assert_eq!(zones(ready, unready).disruptions(), [expected], "{ready} up, {unready} down");
        }
    }

    #[test]
    fn one_node_at_a_time() {
        let (first, second) = ("n0".into(), "n1".into());
        let at = Duration::from_secs;
        let mut zones = zones(3, 2);
        assert_eq!(zones.take_turn(&first, at(100)), (Eviction::Granted, None));
        assert_eq!(zones.take_turn(&second, at(104)), (Eviction::Withheld, Some(at(6))));
        assert_eq!(zones.take_turn(&second, at(110)), (Eviction::Granted, None));
        zones.give_back(&second, at(111));
        assert_eq!(zones.take_turn(&second, at(111)), (Eviction::Granted, None));
    }

    #[test]
    fn where_most_is_down_small_zones_stop_and_large_ones_slow_down() {
        let node = "n0".into();
        assert_eq!(zones(2, 5).take_turn(&node, Duration::ZERO), (Eviction::Withheld, None));
        let mut large = zones(20, 60);
        assert_eq!(large.take_turn(&node, Duration::ZERO), (Eviction::Granted, None));
        assert_eq!(large.take_turn(&node, Duration::ZERO).1, Some(DISRUPTED_INTERVAL));
    }

    #[test]
    fn when_nothing_is_up_nobody_is_blamed() {
        let mut zones = zones(1, 1);
        let (down, up) = (Text::from("n0"), Text::from("n1"));
        assert_eq!(zones.note(&up, member("z", true)), Change::None);
        assert_eq!(zones.note(&up, member("z", false)), Change::Pace);
        assert_eq!(zones.take_turn(&down, Duration::ZERO), (Eviction::Suspended, None));
        assert_eq!(zones.note(&"other".into(), member("y", true)), Change::Recovered);
        assert_eq!(zones.take_turn(&down, Duration::ZERO).0, Eviction::Granted, "another zone is up");
        assert_eq!(zones.note(&"other".into(), None), Change::Pace);
        assert!(zones.all_down());
    }
}
