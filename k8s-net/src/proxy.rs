//! The service proxy: brings the kernel's idea of Services to the cluster's.
//!
//! [`plan`] decides and never acts; a [`ServiceBackend`] acts and never decides. [`Proxy`] joins the two. The work of
//! upstream's kube-proxy.

mod endpoints;
mod follow;
mod nftables;
mod plan;
mod rules;
mod stale;
mod userspace;

pub use follow::follow;
pub use nftables::{Nftables, NftablesConfig};
pub use plan::{NodeView, plan};
pub use rules::{Backends, Destination, Frontend, Masquerade, Protocol, Rules, Target};
pub use userspace::{Obstacle, Unserved, Userspace, UserspaceConfig};

use async_trait::async_trait;
use k8s_core::api::api::{core::v1::Service, discovery::v1::EndpointSlice};

/// Brings something (the kernel's packet filter, a set of sockets) to a set of [`Rules`].
#[async_trait]
pub trait ServiceBackend: Send + 'static {
    /// Brings reality to `rules`, at the cost of the difference from the last call where possible.
    ///
    /// Not cancel-safe by itself, but self-healing: after a dropped or failed call the next one starts from nothing.
    async fn apply(&mut self, rules: Rules) -> Result<Applied, ProxyError>;

    /// Whether what was applied still stands, as far as can be told cheaply: called every few seconds.
    async fn intact(&mut self) -> Result<bool, ProxyError>;

    /// Forgets what was applied, so that the next `apply` replaces everything.
    ///
    /// For when somebody else may have changed what this backend made.
    fn forget(&mut self);

    /// Removes everything this backend made. Established connections lose their translation.
    async fn cleanup(&mut self) -> Result<(), ProxyError>;
}

/// What an [`apply`](ServiceBackend::apply) cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// Whether everything was replaced, rather than the difference applied.
    pub full: bool,
    /// How many elements were added or removed. Zero means that nothing was sent.
    pub changes: usize,
}

/// Why the rules could not be applied. What was in force before still is.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProxyError {
    /// The packet filter refused.
    #[error("service proxy: {0}")]
    Filter(#[from] crate::NftError),
    /// The link that carries addresses of Services could not be looked at or removed.
    #[error("service proxy: the link that carries addresses of services")]
    Link {
        /// What the kernel said.
        source: std::io::Error,
    },
}

/// Plans for one node and applies the plan.
///
/// Dropping a `Proxy` leaves its rules in force where the kernel keeps them, so that a restart interrupts no traffic;
/// [`cleanup`](Proxy::cleanup) removes them. What the [`Userspace`] backend serves ends with it.
pub struct Proxy {
    node: NodeView,
    backend: Box<dyn ServiceBackend>,
}

impl Proxy {
    /// A proxy for `node` whose rules `backend` puts in force. Does nothing until the first [`sync`](Proxy::sync).
    pub fn new(node: NodeView, backend: impl ServiceBackend) -> Self {
        Self { node, backend: Box::new(backend) }
    }

    /// Brings the backend to `services` and `slices`: the whole truth, not a change.
    ///
    /// Costs nothing but the planning when nothing changed. After an error, or when dropped half-way, the next call
    /// replaces everything.
    pub async fn sync<'a>(
        &mut self,
        services: impl IntoIterator<Item = &'a Service>,
        slices: impl IntoIterator<Item = &'a EndpointSlice>,
    ) -> Result<Applied, ProxyError> {
        let rules = plan(services, slices, &self.node);
        self.backend.apply(rules).await
    }

    /// What the proxy knows of its node. A change takes effect with the next [`sync`](Proxy::sync).
    pub fn node_mut(&mut self) -> &mut NodeView {
        &mut self.node
    }

    /// Whether nobody else has removed or changed what was applied. See the backend for what it notices.
    pub async fn intact(&mut self) -> Result<bool, ProxyError> {
        self.backend.intact().await
    }

    /// Makes the next [`sync`](Proxy::sync) replace everything, whoever changed it meanwhile.
    pub fn forget(&mut self) {
        self.backend.forget();
    }

    /// Removes everything that this proxy's backend made.
    pub async fn cleanup(&mut self) -> Result<(), ProxyError> {
        self.backend.cleanup().await
    }
}
