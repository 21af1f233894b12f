//! What is known of one node's signs of life, by the clock of who listens.

use std::time::Duration;

use k8s_core::env::Timestamp;

/// When a node was last heard, and by which sign. Times of the node's own clock are compared with each other only.
#[derive(Debug, Clone, PartialEq)]
pub struct Health {
    /// When it was last heard, on the monotonic clock of the controller.
    pub heard: Duration,
    /// The heartbeat time of the Ready condition when its status was last seen to change.
    heartbeat: Option<Timestamp>,
    /// The renewal time of the Lease when that was last seen to change.
    renewed: Option<Timestamp>,
    /// Whether its pods were told not to be ready since it stopped being ready.
    pub pods_told: bool,
}

impl Health {
    /// A node that is seen for the first time counts as heard then.
    pub fn new(now: Duration) -> Self {
        Self { heard: now, heartbeat: None, renewed: None, pods_told: false }
    }

    /// Its status was seen.
    pub fn saw_status(&mut self, heartbeat: Option<Timestamp>, now: Duration) {
        if heartbeat.is_some() && heartbeat != self.heartbeat {
            self.heartbeat = heartbeat;
            self.heard = now;
        }
    }

    /// Its Lease was seen.
    pub fn saw_lease(&mut self, renewed: Option<Timestamp>, now: Duration) {
        if renewed > self.renewed {
            self.renewed = renewed;
            self.heard = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_new_signs_are_signs_of_life() {
        let second = |n: i64| Timestamp::from_second(n).ok();
        let at = Duration::from_secs;
        let mut health = Health::new(at(0));
        health.saw_lease(second(100), at(5));
        assert_eq!(health.heard, at(5));
        health.saw_lease(second(100), at(20));
        health.saw_lease(None, at(21));
        assert_eq!(health.heard, at(5), "the same renewal again says nothing");
        health.saw_status(second(90), at(30));
        assert_eq!(health.heard, at(30), "the node's clock may be behind");
        health.saw_status(second(90), at(40));
        assert_eq!(health.heard, at(30));
    }
}
