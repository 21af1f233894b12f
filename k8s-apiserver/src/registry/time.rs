//! Times as objects have them: UTC, to the second.

use k8s_core::env::Timestamp;

/// Such as `2006-01-02T15:04:05Z`.
pub fn rfc3339(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}
