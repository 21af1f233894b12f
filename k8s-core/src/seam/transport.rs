//! How a client reaches an API server.

use async_trait::async_trait;

use crate::{
    request::{ApiRequest, ApiResponse},
    status::ApiResult,
};

/// A way to an API server: in the same process (the server's inner service under an identity of its own), or over
/// a network (`k8s-wire`). Users' types see only a client that holds one of these.
///
/// Cancel-safety: dropping a call of a write leaves open whether it happened; ask again with `get`.
#[async_trait]
pub trait Transport: Send + Sync + 'static {
    /// Asks, and waits for the head of the answer; streams go on after it.
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse>;
}
