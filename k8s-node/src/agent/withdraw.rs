//! Waiting until clients have been led away from a pod that is going to end.
//!
//! A deleted pod and a service that forgets it are two readers of one change, and an ordinary server ends at once when
//! it is told to. So the signal waits: first until nobody leads new clients to the pod, then until those that came
//! before are answered. Upstream does neither, and asks for a `preStop` hook that sleeps.

use std::{net::IpAddr, time::Duration};

use k8s_core::{
    api::api::core::v1::Pod,
    env::timeout,
    resource::Stored,
    seam::traffic::{Inflow, PodTraffic, TrafficError},
};

use super::Shared;
use crate::environment::is_host_network;

/// How long others may take to learn that a pod is on its way out. They take milliseconds, unless they are not there.
const LEARNING: Duration = Duration::from_secs(5);
/// How long connections that were opened before may take to end. Those that clients keep open for later do not end.
const ANSWERING: Duration = Duration::from_secs(1);
/// How often to look: what tells is the kernel, which tells nobody by itself.
const LOOK: Duration = Duration::from_millis(20);
/// Each wait takes this part of the pod's grace period at most: the rest belongs to its program.
const SHARE: u32 = 4;

/// Resolves when the containers of `pod` may be told to end: its clients are elsewhere, or that took too long.
///
/// Only pods that are being deleted have clients to be led away, and pods on the host's network have no address of
/// their own to tell by. Not knowing is no reason to wait. Cancel-safe.
pub(super) async fn withdrawn(shared: &Shared, pod: &Stored<Pod>, grace: Duration) {
    let Some(traffic) = &shared.traffic else { return };
    if pod.metadata.deletion_timestamp.is_none() || is_host_network(pod) {
        return;
    }
    let ips = pod.status.iter().flat_map(|status| status.pod_ips.iter().flatten());
    let addresses: Vec<IpAddr> = ips.filter_map(|known| known.ip.parse().ok()).collect();
    if addresses.is_empty() {
        return;
    }
    for (most, limit) in [(Inflow::Open, LEARNING), (Inflow::Nothing, ANSWERING)] {
        let settled = settled(shared, &**traffic, &addresses, most);
        match timeout(&*shared.env, limit.min(grace / SHARE), settled).await {
            Some(Ok(())) => {}
            Some(Err(error)) => return tracing::warn!(?pod, %error, "ends without waiting for its clients"),
            None if most == Inflow::Open => tracing::warn!(?pod, "ends while clients are still led to it"),
            None => tracing::debug!(?pod, "ends with open connections"),
        }
    }
}

/// Resolves when no more than `most` comes in.
async fn settled(
    shared: &Shared,
    traffic: &dyn PodTraffic,
    addresses: &[IpAddr],
    most: Inflow,
) -> Result<(), TrafficError> {
    while traffic.inflow(addresses).await? > most {
        shared.env.sleep(LOOK).await;
    }
    Ok(())
}
