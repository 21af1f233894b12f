//! The server's door to what other servers answer for.

use std::sync::Arc;

use k8s_core::{
    request::{ApiRequest, Caller},
    status::ApiResult,
};

use super::{Inner, authorize};
use crate::aggregator::{self, Aggregator, Entry, Passing};

/// What other servers answer for: the groups and versions whose APIService names a service. Cloning shares.
#[derive(Clone)]
pub struct Aggregation(pub(super) Arc<Inner>);

impl Aggregation {
    /// The other server that answers for a path: one of the API, or of its OpenAPI documents.
    pub(crate) fn answering(&self, path: &str) -> Option<Arc<Entry>> {
        let mut segments = path.trim_start_matches('/').split('/');
        let mut first = segments.next()?;
        if first == "openapi" && segments.next()? == "v3" {
            first = segments.next()?;
        }
        match (first, segments.next(), segments.next()) {
            ("apis", Some(group), Some(version)) => self.0.aggregator.remote(group, version),
            _ => None,
        }
    }

    /// Connects to a server. 503 while it is not available.
    pub(crate) async fn connect(&self, entry: &Entry) -> ApiResult<Passing> {
        aggregator::connect(&self.0, entry).await
    }

    /// 403 unless the caller may.
    pub(crate) async fn authorize(&self, caller: &Caller, request: &ApiRequest) -> ApiResult<()> {
        authorize::authorize(&*self.0.authorizer, caller, request).await
    }

    /// What is known of the other servers.
    pub(crate) fn aggregator(&self) -> &Aggregator {
        &self.0.aggregator
    }
}
