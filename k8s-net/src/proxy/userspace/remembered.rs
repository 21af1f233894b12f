//! Clients that keep their endpoint (`sessionAffinity: ClientIP`). Pure.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::Duration,
};

use crate::proxy::Target;

/// Clients that one frontend remembers at most: a bound on memory. Beyond it, the one whose time ends first is forgotten.
pub(super) const REMEMBERED: usize = 65_536;

/// Which endpoint each client had last, and until when that counts.
#[derive(Debug, Default)]
pub(super) struct Remembered {
    clients: BTreeMap<IpAddr, (Target, Duration)>,
    /// Invariant: the same clients, by the end of their time.
    ends: BTreeSet<(Duration, IpAddr)>,
}

impl Remembered {
    /// The client's endpoint, unless its time is over.
    pub(super) fn get(&self, client: IpAddr, now: Duration) -> Option<Target> {
        self.clients.get(&client).filter(|(_, end)| *end > now).map(|(target, _)| *target)
    }

    /// Remembers the client until `end`, and forgets everybody whose time is over.
    pub(super) fn put(&mut self, client: IpAddr, target: Target, now: Duration, end: Duration) {
        self.remove(client);
        while let Some((first, longest)) = self.ends.first().copied() {
            if first > now && self.clients.len() < REMEMBERED {
                break;
            }
            self.remove(longest);
        }
        self.clients.insert(client, (target, end));
        self.ends.insert((end, client));
    }

    /// Forgets the clients of all other endpoints.
    pub(super) fn retain(&mut self, mut wanted: impl FnMut(&Target) -> bool) {
        let ends = &mut self.ends;
        self.clients.retain(|client, (target, end)| {
            let keep = wanted(target);
            if !keep {
                ends.remove(&(*end, *client));
            }
            keep
        });
    }

    fn remove(&mut self, client: IpAddr) {
        if let Some((_, end)) = self.clients.remove(&client) {
            self.ends.remove(&(end, client));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(last: u8) -> Target {
        Target { address: IpAddr::from([10, 1, 0, last]), port: 80 }
    }

    fn client(number: u32) -> IpAddr {
        IpAddr::from(number.to_be_bytes())
    }

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_client_is_forgotten_when_its_time_is_over() {
        let mut remembered = Remembered::default();
        remembered.put(client(1), target(1), SECOND, 3 * SECOND);
        assert_eq!(remembered.get(client(1), 2 * SECOND), Some(target(1)));
        assert_eq!(remembered.get(client(1), 3 * SECOND), None);
        remembered.put(client(2), target(2), 3 * SECOND, 5 * SECOND);
        assert_eq!(remembered.clients.len(), 1, "and takes no memory");
        assert_eq!(remembered.ends.len(), 1);
    }

    #[test]
    fn a_new_connection_begins_the_time_anew() {
        let mut remembered = Remembered::default();
        remembered.put(client(1), target(1), SECOND, 3 * SECOND);
        remembered.put(client(1), target(1), 2 * SECOND, 4 * SECOND);
        assert_eq!(remembered.get(client(1), 3 * SECOND), Some(target(1)));
        assert_eq!(remembered.ends.len(), 1);
    }

    #[test]
    fn at_the_bound_the_client_that_ends_first_makes_room() {
        let mut remembered = Remembered::default();
        for number in 0..=REMEMBERED as u32 {
            remembered.put(client(number), target(1), SECOND, 2 * SECOND + Duration::from_millis(number.into()));
        }
        assert_eq!(remembered.clients.len(), REMEMBERED);
        assert_eq!(remembered.get(client(0), SECOND), None);
        assert_eq!(remembered.get(client(1), SECOND), Some(target(1)));
    }

    #[test]
    fn clients_of_an_endpoint_that_is_gone_are_forgotten() {
        let mut remembered = Remembered::default();
        remembered.put(client(1), target(1), SECOND, 3 * SECOND);
        remembered.put(client(2), target(2), SECOND, 3 * SECOND);
        remembered.retain(|kept| *kept == target(2));
        assert_eq!(remembered.get(client(1), SECOND), None);
        assert_eq!(remembered.get(client(2), SECOND), Some(target(2)));
        assert_eq!(remembered.ends.len(), 1);
    }
}
