//! What etcd's errors mean to a caller of the store.

use std::{error::Error as _, io};

use etcd_client::Error;

use crate::{LeaseId, Revision, StoreError};

/// The reason while a member's database is full.
pub(super) const NO_SPACE: &str =
    "etcd raised the alarm NOSPACE: its database is full. Compact, defragment, then `etcdctl alarm disarm`";

/// The reason while etcd distrusts its own data.
pub(super) const CORRUPT: &str =
    "etcd raised the alarm CORRUPT: its members disagree. Replace the member that differs, then `etcdctl alarm disarm`";

/// What etcd takes in one request unless it was started with another `--max-request-bytes`.
pub(super) const USUAL_REQUEST_BYTES: usize = 3 << 19;

/// What a member without a leader says before it has taken a write.
const LEADERLESS: [&str; 2] = ["etcdserver: no leader", "raft proposal dropped"];

/// Translates by etcd's messages, which are the same on every version: codes are too few to tell them apart. Where the
/// error needs a number that etcd does not give, it is zero and completed by the caller.
pub(super) fn store_error(error: &Error) -> StoreError {
    let text = match error {
        Error::GRpcStatus(status) => status.message().to_owned(),
        other => other.to_string(),
    };
    let has = |part: &str| text.contains(part);
    if has("required revision has been compacted") {
        StoreError::Compacted { oldest: Revision::ZERO }
    } else if has("required revision is a future revision") {
        StoreError::Future { head: Revision::ZERO }
    } else if has("requested lease not found") {
        StoreError::LeaseNotFound { lease: LeaseId(0) }
    } else if has("request is too large") || has("message larger than max") {
        StoreError::TooLarge { bytes: 0, limit: USUAL_REQUEST_BYTES }
    } else if has("database space exceeded") {
        StoreError::ReadOnly { reason: NO_SPACE.into() }
    } else if has("corrupt cluster") {
        StoreError::ReadOnly { reason: CORRUPT.into() }
    } else if has("too many operations") || has("permission denied") || has("user name is empty") || is_argument(error)
    {
        StoreError::Invalid { reason: format!("etcd refused it: {text}") }
    } else {
        StoreError::Unavailable(format!("etcd: {}", with_sources(error, text)))
    }
}

/// Whether the request cannot have done anything: nobody listens where it was sent, or the member had no leader to
/// hand it to.
pub(super) fn is_unsent(error: &Error) -> bool {
    if let Error::GRpcStatus(status) = error
        && LEADERLESS.iter().any(|message| status.message().contains(message))
    {
        return true;
    }
    let mut next = source(error);
    while let Some(cause) = next {
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::ConnectionRefused) {
            return true;
        }
        next = cause.source();
    }
    false
}

fn is_argument(error: &Error) -> bool {
    matches!(error, Error::InvalidArgs(_) | Error::InvalidUri(_))
}

/// The client's error names no source itself.
fn source(error: &Error) -> Option<&(dyn std::error::Error + 'static)> {
    match error {
        Error::GRpcStatus(status) => status.source(),
        Error::TransportError(error) => error.source(),
        _ => None,
    }
}

fn with_sources(error: &Error, mut text: String) -> String {
    let mut next = source(error);
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        next = cause.source();
    }
    text
}
