//! Keeps the flow schemas and priority levels without which nobody is let in: what somebody deletes or changes comes back.

use std::{sync::Arc, time::Duration};

use k8s_core::{
    object::{Object, ObjectKey},
    request::Caller,
    signal::Signal,
};

use super::{Own, flow_control};
use crate::{
    auth::Follower,
    server::{Inner, OWN_NAME},
};

/// How soon after a failure it is tried again.
const RETRY: Duration = Duration::from_secs(1);

/// Counts the changes of what must be there.
#[derive(Default)]
pub struct Mandatory(Signal<u64>);

impl Follower for Mandatory {
    fn follows(&self, group: &str, _: &str) -> bool {
        group == flow_control::GROUP
    }

    fn changed(&self, _: &str, _: &str, key: &ObjectKey, _: Option<&Arc<Object>>) {
        if flow_control::is_mandatory(&key.name) {
            self.0.modify(|count| *count += 1);
        }
    }
}

/// Puts right what changes, until the cache is closed.
pub async fn keep(inner: Arc<Inner>, changes: Arc<Mandatory>) {
    let own = Own { inner: &inner, caller: Caller::new(OWN_NAME, &["system:masters"]).with_agent("kube-apiserver") };
    loop {
        let seen = changes.0.get();
        if let Err(why) = own.mandatory_flow_control().await {
            if inner.cache.is_closed() {
                return;
            }
            tracing::warn!(%why, "what flow control must have could not be put right");
            inner.env.sleep(RETRY).await;
            continue;
        }
        changes.0.wait_for(|count| *count != seen).await;
    }
}
