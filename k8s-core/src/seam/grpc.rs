//! How an API server asks a gRPC service on its own machine: one message is sent, and one comes back.
//!
//! Called by `k8s-apiserver` (plugins that keep encryption keys); given by `k8s-wire` (`UnixGrpcCaller`), or by whoever
//! embeds a server and wants to answer in process. Nothing here knows what the messages say.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;

/// Makes unary calls.
#[async_trait]
pub trait GrpcCaller: Send + Sync + 'static {
    /// Sends `message` to `method` (`/PACKAGE.SERVICE/METHOD`) of whoever listens at `endpoint`: `unix:///PATH`, or
    /// `unix:///@NAME` for a socket in Linux's abstract namespace. Answers the message that comes back.
    ///
    /// `limit` covers all of it, connecting included. Nothing is asked twice. Dropping the future leaves open whether
    /// the service has seen the message.
    async fn call(&self, endpoint: &str, method: &str, limit: Duration, message: Bytes) -> Result<Bytes, GrpcError>;
}

/// Why no message came back.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrpcError {
    /// Nobody answered: there is no socket, nobody listens, or the connection ended early.
    #[error("{endpoint} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        endpoint: String,
        /// What went wrong.
        why: String,
    },
    /// The time was up.
    #[error("{endpoint} gave no answer within {limit:?}")]
    TimedOut {
        /// Where.
        endpoint: String,
        /// How long it had.
        limit: Duration,
    },
    /// The service answered that it does not do it.
    #[error("{endpoint} answered with code {code}: {text}")]
    Status {
        /// Where.
        endpoint: String,
        /// The status code of gRPC, never 0.
        code: u32,
        /// What it said.
        text: String,
    },
    /// What came back is no answer of gRPC.
    #[error("{endpoint} does not speak gRPC: {why}")]
    Malformed {
        /// Where.
        endpoint: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The status codes of gRPC that say nothing about the message: `DEADLINE_EXCEEDED`, `RESOURCE_EXHAUSTED`, `ABORTED`,
/// `UNAVAILABLE`.
const PASSING: [u32; 4] = [4, 8, 10, 14];

impl GrpcError {
    /// Whether asking again may help: the service was not there, was too slow, or had too much to do.
    pub fn retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Status { code, .. } => PASSING.contains(code),
            Self::Malformed { .. } => false,
        }
    }
}
