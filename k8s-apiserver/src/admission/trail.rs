//! What is noted about one request while it is answered, for the audit log.

use parking_lot::Mutex;

/// The annotations of one request's audit event. A key keeps its first value, as upstream.
#[derive(Debug, Default)]
pub struct Trail(Mutex<Vec<(String, String)>>);

impl Trail {
    /// Notes `value` under `key`, unless something is noted there.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        let (key, mut noted) = (key.into(), self.0.lock());
        if noted.iter().all(|(known, _)| *known != key) {
            noted.push((key, value.into()));
        }
    }

    /// Everything that was noted, in order.
    pub fn annotations(&self) -> Vec<(String, String)> {
        self.0.lock().clone()
    }
}
