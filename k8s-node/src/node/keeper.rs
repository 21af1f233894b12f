//! Registering a node and keeping its object and its lease up to date.

use std::{sync::Arc, time::Duration};

use k8s_core::{
    api::{
        api::{
            coordination::v1::{Lease, LeaseSpec},
            core::v1::Node,
        },
        apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta, OwnerReference},
    },
    env::Env,
    resource::{Draft, Stored},
    seam::network::PodNetwork,
    status::ApiResult,
};
use k8s_reconcile::Client;

use super::{Machine, NodeSettings, Pressure, Sight, claim_networks, differs, labels, node, status};
use crate::runtime::PodRuntime;

/// Where leases of nodes live.
const LEASES: &str = "kube-node-lease";
/// How long others believe the node alive after a renewal. Upstream's.
const LEASE_SECONDS: i32 = 40;
/// How often the lease is renewed.
const RENEWAL: Duration = Duration::from_secs(10);
/// How often the node looks at itself, and how often at least it writes its status.
const LOOK: Duration = Duration::from_secs(10);
const REPORT: Duration = Duration::from_secs(300);
/// The pause after a failed attempt.
const RETRY: Duration = Duration::from_secs(1);

/// Keeps one Node object.
pub(crate) struct Keeper {
    pub client: Client,
    pub env: Env,
    pub settings: NodeSettings,
    pub machine: Machine,
    pub runtime: Arc<dyn PodRuntime>,
    /// Says what it waits for, and which addresses pods have.
    pub network: Arc<dyn PodNetwork>,
    /// Measures what the machine runs short of.
    pub pressure: Arc<dyn Fn() -> Pressure + Send + Sync>,
    /// Told the labels whenever the object was read.
    pub labels: Arc<dyn Fn(std::collections::BTreeMap<String, String>) + Send + Sync>,
}

impl Keeper {
    /// Registers the node and keeps its status. Never ends.
    pub async fn keep_status(self: Arc<Self>) {
        let mut written: Option<Duration> = None;
        loop {
            let is_connected = self.network.status().is_ok();
            let wait = match self.look(written).await {
                Ok(true) => {
                    written = Some(self.env.monotonic());
                    LOOK
                }
                Ok(false) => LOOK,
                Err(error) => {
                    tracing::warn!(node = self.settings.name, %error, "the node object was not written");
                    RETRY
                }
            };
            let rest = self.env.sleep(self.env.jitter(wait, 0.04));
            if is_connected {
                rest.await;
                continue;
            }
            // A node that waits for its pod network says at once that it waits no more.
            tokio::select! {
                biased;
                () = self.network.ready() => {}
                () = rest => {}
            }
        }
    }

    /// Writes the object if it was not written for long, or does not say what it should, whoever changed it. Answers
    /// whether it did.
    async fn look(&self, written: Option<Duration>) -> ApiResult<bool> {
        let images = self.runtime.images().await.unwrap_or_default();
        let pressure = (self.pressure)();
        let found = self.client.all::<Node>().find(&self.settings.name).await?;
        let pod_cidrs = self.network.pod_cidrs();
        let waits = self.network_waits(found.as_ref(), &pod_cidrs);
        let sight = Sight { pressure, images: &images, network_waits: waits.as_deref(), pod_cidrs: &pod_cidrs };
        if !self.is_due(written, found.as_ref(), &sight) {
            return Ok(false);
        }
        self.report(found, &sight).await?;
        Ok(true)
    }

    /// Why no pod can be connected: the network's own reason, or that the cluster routes other addresses here.
    fn network_waits(&self, found: Option<&Stored<Node>>, own: &[String]) -> Option<String> {
        if let Err(error) = self.network.status() {
            return Some(error.message);
        }
        let given = found?.spec.as_ref()?.pod_cidrs.as_deref().filter(|given| !given.is_empty() && !own.is_empty())?;
        (given != own).then(|| format!("the Node's pod CIDR is {}, but pods have addresses of {}", given[0], own[0]))
    }

    fn is_due(&self, written: Option<Duration>, found: Option<&Stored<Node>>, sight: &Sight<'_>) -> bool {
        let (Some(written), Some(found)) = (written, found) else { return true };
        let known = found.status.as_ref();
        let wanted = status(&self.settings, &self.machine, sight, known, self.env.now());
        self.env.monotonic().saturating_sub(written) >= REPORT || known.is_none_or(|known| differs(known, &wanted))
    }

    /// Writes the object, making it if there is none.
    async fn report(&self, found: Option<Stored<Node>>, sight: &Sight<'_>) -> ApiResult<()> {
        let nodes = self.client.all::<Node>();
        let found = match found {
            Some(known) => self.adopt(known, sight).await?,
            None => nodes.create(node(&self.settings, &self.machine, sight, self.env.now())).await?,
        };
        (self.labels)(found.metadata.labels.clone().unwrap_or_default());
        let mut draft: Draft<Node> = found.draft();
        let known = found.status.as_ref();
        draft.status = Some(status(&self.settings, &self.machine, sight, known, self.env.now()));
        nodes.update_status(draft).await.map(drop)
    }

    /// Sets the node's own labels and networks on an object that was there before.
    async fn adopt(&self, known: Stored<Node>, sight: &Sight<'_>) -> ApiResult<Stored<Node>> {
        let own = labels(&self.settings, &self.machine);
        let set = known.metadata.labels.clone().unwrap_or_default();
        let mut draft = known.draft();
        let claims = claim_networks(draft.spec.get_or_insert_default(), sight);
        if !claims && own.iter().all(|(key, value)| set.get(key) == Some(value)) {
            return Ok(known);
        }
        draft.metadata.labels.get_or_insert_default().extend(own);
        self.client.all::<Node>().update(draft).await
    }

    /// Renews the lease. Never ends.
    pub async fn keep_lease(self: Arc<Self>) {
        let mut held = None;
        loop {
            let wait = match self.renew(held.take()).await {
                Ok(lease) => {
                    held = Some(lease);
                    RENEWAL
                }
                Err(error) => {
                    tracing::debug!(node = self.settings.name, %error, "the node lease was not renewed");
                    RETRY
                }
            };
            self.env.sleep(self.env.jitter(wait, 0.04)).await;
        }
    }

    async fn renew(&self, held: Option<Stored<Lease>>) -> ApiResult<Stored<Lease>> {
        let leases = self.client.namespaced::<Lease>(LEASES);
        let known = match held {
            Some(held) => Some(held),
            None => leases.find(&self.settings.name).await?,
        };
        let spec = LeaseSpec {
            holder_identity: Some(self.settings.name.clone()),
            lease_duration_seconds: Some(LEASE_SECONDS),
            renew_time: Some(MicroTime(self.env.now())),
            ..LeaseSpec::default()
        };
        match known {
            Some(known) => {
                let mut draft = known.draft();
                draft.spec = Some(spec);
                leases.update(draft).await
            }
            None => {
                let metadata = ObjectMeta {
                    name: Some(self.settings.name.clone()),
                    namespace: Some(LEASES.to_owned()),
                    owner_references: self.owner().await?,
                    ..ObjectMeta::default()
                };
                leases.create(Lease { metadata, spec: Some(spec) }).await
            }
        }
    }

    /// The lease goes with the Node.
    async fn owner(&self) -> ApiResult<Option<Vec<OwnerReference>>> {
        let node = self.client.all::<Node>().find(&self.settings.name).await?;
        Ok(node.map(|node| {
            vec![OwnerReference {
                api_version: "v1".to_owned(),
                kind: "Node".to_owned(),
                name: node.name().to_owned(),
                uid: node.uid().to_owned(),
                ..OwnerReference::default()
            }]
        }))
    }
}
