//! Leader election: of several instances, one works at a time, and what it writes is fenced.
//!
//! Follows client-go's leader election over a Lease, with its defaults (15 s lease, 10 s renewal deadline, 2 s
//! period). Leadership is a scope: [`Election::lead`] runs a future while it lasts and drops it when it is lost. Writes
//! through the scope's client name the leadership epoch, so that what was sent before the loss and arrives after it
//! is refused. That covers the store only, not effects elsewhere.

use std::{future::Future, time::Duration};

use futures::future::{Either, select};
use k8s_core::{
    api::{
        api::coordination::v1::{Lease, LeaseSpec},
        apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
    },
    env::timeout,
    request::Fence,
    resource::Stored,
    status::ApiResult,
};

use crate::client::Client;

/// How and for what to stand for election.
#[derive(Debug, Clone)]
pub struct Election {
    /// Namespace of the Lease.
    pub namespace: String,
    /// Name of the Lease.
    pub name: String,
    /// Who stands; must differ between instances.
    pub identity: String,
    /// How long others wait after the last renewal before they take over.
    pub lease: Duration,
    /// How long the leader tries to renew before it gives up. Less than `lease`.
    pub renew_deadline: Duration,
    /// The pause between attempts.
    pub retry_period: Duration,
}

impl Election {
    /// An election with upstream's times.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>, identity: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
            identity: identity.into(),
            lease: Duration::from_secs(15),
            renew_deadline: Duration::from_secs(10),
            retry_period: Duration::from_secs(2),
        }
    }

    /// Waits to be elected, then runs `work` with a fenced client until it ends (`Some`) or leadership is lost
    /// (`None`; the work is dropped first).
    ///
    /// Cancel-safe: dropping it drops the work; the Lease then runs out by itself.
    pub async fn lead<T, F: Future<Output = T> + Send>(
        &self,
        client: &Client,
        work: impl FnOnce(Client) -> F,
    ) -> Option<T> {
        let held = self.acquire(client).await;
        let fence = Fence {
            namespace: self.namespace.as_str().into(),
            name: self.name.as_str().into(),
            revision: held.revision(),
        };
        tracing::info!(lease = self.name, identity = self.identity, "elected");
        let work = work(client.fenced(fence));
        let renewals = self.renew_until_lost(client, held);
        futures::pin_mut!(work, renewals);
        match select(work, renewals).await {
            Either::Left((done, _)) => {
                self.release(client).await;
                Some(done)
            }
            Either::Right(_) => {
                tracing::warn!(lease = self.name, identity = self.identity, "leadership lost");
                None
            }
        }
    }

    async fn acquire(&self, client: &Client) -> Stored<Lease> {
        let env = client.env();
        let mut seen: Option<(u64, Duration)> = None;
        loop {
            match self.try_acquire(client, &mut seen).await {
                Ok(Some(lease)) => return lease,
                Ok(None) => {}
                Err(error) => tracing::debug!(lease = self.name, %error, "election attempt failed"),
            }
            env.sleep(env.jitter(self.retry_period, 0.2)).await;
        }
    }

    /// `seen` is the revision last seen and when (by our own clock): foreign clocks are never compared with ours.
    async fn try_acquire(
        &self,
        client: &Client,
        seen: &mut Option<(u64, Duration)>,
    ) -> ApiResult<Option<Stored<Lease>>> {
        let leases = client.namespaced::<Lease>(self.namespace.as_str());
        let Some(current) = leases.find(&self.name).await? else {
            let metadata = ObjectMeta { name: Some(self.name.clone()), ..Default::default() };
            let spec = Some(self.spec(client, 0, None));
            return leases.create(Lease { metadata, spec }).await.map(Some);
        };
        let now = client.env().monotonic();
        let spec = current.spec.clone().unwrap_or_default();
        let holder = spec.holder_identity.as_deref().unwrap_or("");
        let unchanged_since = match seen {
            Some((revision, at)) if *revision == current.revision() => *at,
            _ => {
                *seen = Some((current.revision(), now));
                now
            }
        };
        let duration = spec.lease_duration_seconds.map_or(self.lease, |s| Duration::from_secs(s.max(0) as u64));
        let expired = now.saturating_sub(unchanged_since) >= duration;
        if !holder.is_empty() && !expired {
            return Ok(None);
        }
        let mut draft = current.draft();
        draft.spec = Some(self.spec(client, spec.lease_transitions.unwrap_or(0) + 1, None));
        // Two writes where we held it before: the fence marks a change of holder, and a new term is one.
        if holder == self.identity {
            let mut vacant = current.draft();
            vacant.spec = Some(LeaseSpec { holder_identity: None, ..spec });
            let vacated = leases.update(vacant).await?;
            let taken = draft.spec.take();
            draft = vacated.draft();
            draft.spec = taken;
        }
        leases.update(draft).await.map(Some)
    }

    async fn renew_until_lost(&self, client: &Client, mut held: Stored<Lease>) {
        let env = client.env();
        let leases = client.namespaced::<Lease>(self.namespace.as_str());
        let mut renewed_at = env.monotonic();
        loop {
            let left = |renewed_at: Duration| (renewed_at + self.renew_deadline).saturating_sub(env.monotonic());
            // However long the pause, the deadline is kept: others count on it.
            env.sleep(self.retry_period.min(left(renewed_at))).await;
            let left = left(renewed_at);
            let started = env.monotonic();
            let mut draft = held.draft();
            let spec = held.spec.clone().unwrap_or_default();
            draft.spec = Some(self.spec(client, spec.lease_transitions.unwrap_or(0), spec.acquire_time));
            match timeout(&**env, left, leases.update(draft)).await {
                Some(Ok(lease)) => {
                    held = lease;
                    renewed_at = started;
                }
                Some(Err(error)) if error.is_conflict() => match leases.get(&self.name).await {
                    Ok(lease) if self.is_holder(&lease) => held = lease,
                    Ok(_) => return,
                    Err(error) => tracing::debug!(lease = self.name, %error, "renewal failed"),
                },
                Some(Err(error)) => tracing::debug!(lease = self.name, %error, "renewal failed"),
                None => return,
            }
            if env.monotonic().saturating_sub(renewed_at) >= self.renew_deadline {
                return;
            }
        }
    }

    fn is_holder(&self, lease: &Lease) -> bool {
        lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()) == Some(&self.identity)
    }

    /// Gives the Lease back so that the next leader need not wait for it to run out.
    async fn release(&self, client: &Client) {
        let leases = client.namespaced::<Lease>(self.namespace.as_str());
        if let Ok(Some(lease)) = leases.find(&self.name).await
            && self.is_holder(&lease)
        {
            let mut draft = lease.draft();
            let spec = lease.spec.clone().unwrap_or_default();
            draft.spec = Some(LeaseSpec { holder_identity: None, lease_duration_seconds: Some(1), ..spec });
            if let Err(error) = leases.update(draft).await {
                tracing::debug!(lease = self.name, %error, "lease was not given back; it runs out by itself");
            }
        }
    }

    fn spec(&self, client: &Client, transitions: i32, acquired: Option<MicroTime>) -> LeaseSpec {
        let now = MicroTime(client.env().now());
        LeaseSpec {
            holder_identity: Some(self.identity.clone()),
            lease_duration_seconds: Some(self.lease.as_secs() as i32),
            acquire_time: Some(acquired.unwrap_or_else(|| now.clone())),
            renew_time: Some(now),
            lease_transitions: Some(transitions),
            ..Default::default()
        }
    }
}
