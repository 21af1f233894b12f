//! The service CIDR controller: a range says that it can be used, and goes when no address of it is taken any more.

use std::net::IpAddr;

use ipnet::IpNet;
use k8s_core::{
    api::{
        api::networking::v1::{IPAddress, ServiceCIDR, ServiceCIDRStatus},
        apimachinery::pkg::apis::meta::v1::{Condition, Time},
    },
    doc,
    object::ObjectKey,
    request::PatchKind,
    resource::Stored,
    status::ApiError,
};
use k8s_reconcile::{
    Controller, Cx, InformerScope, Next, Reconciler,
    informer::{Delta, DynamicInformer},
};

const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";

/// The service CIDR controller, ready to start.
pub fn controller() -> Controller<ServiceCidrs> {
    Controller::new("service-cidr-controller", ServiceCidrs)
        .watches::<IPAddress>(InformerScope::all(), ending)
        .workers(1)
}

/// An address that went may have been the last one of a range that is going.
fn ending(delta: &Delta, ranges: &DynamicInformer) -> Vec<ObjectKey> {
    if delta.new.is_some() {
        return Vec::new();
    }
    ranges.list().iter().filter(|range| range.meta.deleted.is_some()).map(|range| range.meta.key()).collect()
}

/// Its reconciler.
pub struct ServiceCidrs;

fn nets(range: &ServiceCIDR) -> Vec<IpNet> {
    let cidrs = range.spec.iter().flat_map(|spec| spec.cidrs.iter().flatten());
    cidrs.filter_map(|cidr| cidr.parse().ok()).collect()
}

/// Whether an address lies in one of `own` and in none of the ranges that stay.
fn holds(own: &[IpNet], others: &[IpNet], address: IpAddr) -> bool {
    own.iter().any(|net| net.contains(&address)) && !others.iter().any(|net| net.contains(&address))
}

impl Reconciler for ServiceCidrs {
    type Object = ServiceCIDR;
    type Error = ApiError;

    async fn reconcile(&self, range: Stored<ServiceCIDR>, cx: Cx) -> Result<Next, ApiError> {
        let meta = &range.object().meta;
        let is_held = meta.finalizers.iter().any(|held| held == FINALIZER);
        if meta.deleted.is_none() {
            if !is_held {
                let mut held: Vec<String> = meta.finalizers.iter().map(ToString::to_string).collect();
                held.push(FINALIZER.to_owned());
                set_finalizers(&range, held, &cx).await?;
                // The change wakes this again.
                return Ok(Next::Done);
            }
            let message = "Kubernetes Service CIDR is ready";
            set_ready(&range, "True", "", message, &cx).await?;
            return Ok(Next::Done);
        }
        if !is_held {
            return Ok(Next::Done);
        }
        let own = nets(&range);
        let stays = |other: &Stored<ServiceCIDR>| other.name() != range.name() && other.object().meta.deleted.is_none();
        let others: Vec<IpNet> = cx
            .cached::<ServiceCIDR>()?
            .list()
            .iter()
            .filter(|other| stays(other))
            .flat_map(|other| nets(other))
            .collect();
        let taken = cx.cached::<IPAddress>()?.list();
        let is_used = taken.iter().any(|it| it.name().parse().is_ok_and(|address| holds(&own, &others, address)));
        if is_used {
            let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new \
                           ServiceCIDR";
            set_ready(&range, "False", "Terminating", message, &cx).await?;
            return Ok(Next::Done);
        }
        let left = meta.finalizers.iter().filter(|held| *held != FINALIZER).map(ToString::to_string).collect();
        set_finalizers(&range, left, &cx).await?;
        Ok(Next::Done)
    }
}

async fn set_finalizers(range: &Stored<ServiceCIDR>, finalizers: Vec<String>, cx: &Cx) -> Result<(), ApiError> {
    let revision = range.object().revision().to_string();
    let patch = doc!({"metadata": {"resourceVersion": revision, "finalizers": finalizers}});
    match cx.patch::<ServiceCIDR>(range.object(), PatchKind::Merge, patch).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

async fn set_ready(
    range: &Stored<ServiceCIDR>,
    status: &str,
    reason: &str,
    message: &str,
    cx: &Cx,
) -> Result<(), ApiError> {
    let found = range.status.as_ref().and_then(|status| status.conditions.as_ref());
    let mut conditions = found.cloned().unwrap_or_default();
    let ready = conditions.iter().position(|condition| condition.type_ == "Ready");
    if ready.is_some_and(|place| conditions[place].status == status) {
        return Ok(());
    }
    let condition = Condition {
        type_: "Ready".into(),
        status: status.into(),
        reason: reason.into(),
        message: message.into(),
        last_transition_time: Time(cx.now()),
        observed_generation: None,
    };
    match ready {
        Some(place) => conditions[place] = condition,
        None => conditions.push(condition),
    }
    cx.set_status(range, |range| range.status = Some(ServiceCIDRStatus { conditions: Some(conditions) }))
        .await
        .map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_another_range_has_holds_nothing() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let (own, address) = ([net("10.0.0.0/24")], "10.0.0.7".parse().unwrap());
        assert!(holds(&own, &[], address));
        assert!(holds(&own, &[net("10.0.1.0/24")], address));
        assert!(!holds(&own, &[net("10.0.0.0/16")], address));
        assert!(!holds(&own, &[], "10.0.1.1".parse().unwrap()));
    }
}
