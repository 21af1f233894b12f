//! Admission: what is changed about a write, and what is refused, after authorization and before the store.
//!
//! Follows upstream's chain: every plugin may change the object, then every plugin may refuse it. Embedders add their
//! own at construction.

pub mod namespace_lifecycle;
pub mod node_restriction;
pub mod priority;
pub mod service_account;
pub mod tolerations;

use std::sync::Arc;

use async_trait::async_trait;
use k8s_core::{
    doc::Doc,
    object::Object,
    registry::ResourceInfo,
    request::{Caller, Options, Target, Verb},
    status::ApiResult,
};

use crate::inner::Reads;

/// One write on its way to the store.
pub struct AdmissionRequest<'a> {
    /// Who writes.
    pub caller: &'a Caller,
    /// Create, update (also for patches) or delete.
    pub verb: Verb,
    /// The kind.
    pub info: &'a ResourceInfo,
    /// Namespace, name and subresource. The name may be empty while it is still to be generated.
    pub target: &'a Target,
    /// The options of the request.
    pub options: &'a Options,
    /// The object as it was, for updates and deletions.
    pub old: Option<&'a Arc<Object>>,
    /// What else there is.
    pub reads: &'a Reads,
}

/// One plugin of the chain. Both steps pass everything by default.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// The plugin's name.
    fn name(&self) -> &'static str;

    /// May change the object.
    async fn mutate(&self, request: &AdmissionRequest<'_>, doc: &mut Doc) -> ApiResult<()> {
        let _ = (request, doc);
        Ok(())
    }

    /// May refuse; `doc` is the object as it will be stored, `None` for deletions.
    async fn validate(&self, request: &AdmissionRequest<'_>, doc: Option<&Doc>) -> ApiResult<()> {
        let _ = (request, doc);
        Ok(())
    }
}

/// The plugins that are on by default, in upstream's order, as far as the kinds they act on are there.
pub fn default_plugins() -> Vec<Arc<dyn Admission>> {
    vec![
        Arc::new(namespace_lifecycle::NamespaceLifecycle),
        Arc::new(service_account::ServiceAccount),
        Arc::new(node_restriction::NodeRestriction),
        Arc::new(tolerations::TaintNodesByCondition),
        Arc::new(priority::Priority),
        Arc::new(tolerations::DefaultTolerationSeconds),
    ]
}
