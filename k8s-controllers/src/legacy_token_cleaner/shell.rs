//! Runs the plan.

use std::time::Duration;

use k8s_core::{
    api::api::core::v1::{ConfigMap, Pod, Secret, ServiceAccount},
    request::Options,
    resource::Stored,
    status::ApiError,
    token_secret::{INVALID_SINCE, TRACKING, TYPE},
};
use k8s_reconcile::{Controller, Cx, InformerScope, Next, Reconciler};

use super::plan::{Plan, Times, may_be_due, mentions, plan};
use crate::service_account_tokens::plan::account;

/// How often each Secret is looked at, as upstream.
const EVERY: Duration = Duration::from_secs(24 * 3600);

/// The controller, ready to start. `period` is how long a token may go unused, and how long it is then marked.
pub fn controller(period: Duration) -> Controller<LegacyTokenCleaner> {
    Controller::new("legacy-serviceaccount-token-cleaner", LegacyTokenCleaner { period })
        .scope(InformerScope::field("type", TYPE))
        .workers(1)
}

/// Its reconciler.
pub struct LegacyTokenCleaner {
    period: Duration,
}

impl Reconciler for LegacyTokenCleaner {
    type Object = Secret;
    type Error = ApiError;

    async fn reconcile(&self, secret: Stored<Secret>, cx: Cx) -> Result<Next, ApiError> {
        let now = cx.client().env().now();
        let Some((owner, _)) = account(&secret).filter(|_| may_be_due(&secret, now, self.period)) else {
            return Ok(Next::After(EVERY));
        };
        let (client, namespace) = (cx.client(), secret.namespace());
        let tracking = client.namespaced::<ConfigMap>("kube-system").find(TRACKING).await?;
        let since = tracking.as_ref().and_then(|map| map.data.as_ref()?.get("since"));
        let owner = client.namespaced::<ServiceAccount>(namespace).find(owner).await?;
        let times = Times { now, tracked_since: since.map_or("", String::as_str), period: self.period };
        let what = |is_in_use: bool| plan(&secret, owner.as_deref(), is_in_use, times);
        if what(false) == Plan::Leave {
            return Ok(Next::After(EVERY));
        }
        let pods = client.namespaced::<Pod>(namespace).list(Options::default()).await?;
        match what(pods.iter().any(|pod| mentions(pod, secret.name()))) {
            Plan::Leave => {}
            Plan::Mark => {
                let mut draft = secret.draft();
                let today = now.strftime("%Y-%m-%d").to_string();
                draft.metadata.labels.get_or_insert_default().insert(INVALID_SINCE.into(), today);
                cx.update(draft).await?;
            }
            Plan::Delete => cx.delete::<Secret>(secret.object()).await?,
        }
        Ok(Next::After(EVERY))
    }
}
