//! Runs the plan.

use std::sync::Arc;

use k8s_core::{
    api::api::core::v1::{Secret, ServiceAccount},
    object::ObjectKey,
    resource::Stored,
    status::{ApiError, ApiResult},
    token_secret,
};
use k8s_reconcile::{
    Controller, Cx, InformerScope, Next, Reconciler,
    informer::{Delta, DynamicInformer},
};

use super::plan::{Plan, account, fill, plan};

/// Makes the token of a Secret: given its namespace, the account's name and uid, and the Secret's name.
pub type Issuer = Arc<dyn Fn(&str, &str, &str, &str) -> ApiResult<String> + Send + Sync>;

/// The controller, ready to start. `authorities_pem` are published beside each token.
pub fn controller(issuer: Issuer, authorities_pem: Option<String>) -> Controller<ServiceAccountTokens> {
    Controller::new("serviceaccount-token-controller", ServiceAccountTokens { issuer, authorities_pem })
        .scope(InformerScope::field("type", token_secret::TYPE))
        .watches::<ServiceAccount>(InformerScope::all(), secrets_of_account)
}

fn secrets_of_account(delta: &Delta, secrets: &DynamicInformer) -> Vec<ObjectKey> {
    let changed = &delta.object().meta;
    let is_of = |secret: &&Arc<k8s_core::object::Object>| {
        secret.typed::<Secret>().is_ok_and(|secret| account(&secret).is_some_and(|(name, _)| *name == changed.name))
    };
    secrets.list_in(&changed.namespace).iter().filter(is_of).map(|secret| secret.meta.key()).collect()
}

/// Its reconciler.
pub struct ServiceAccountTokens {
    issuer: Issuer,
    authorities_pem: Option<String>,
}

impl ServiceAccountTokens {
    fn plan(&self, secret: &Secret, found: Option<&Stored<ServiceAccount>>) -> Plan {
        plan(secret, found.map(|account| &**account), self.authorities_pem.as_deref())
    }
}

impl Reconciler for ServiceAccountTokens {
    type Object = Secret;
    type Error = ApiError;

    async fn reconcile(&self, secret: Stored<Secret>, cx: Cx) -> Result<Next, ApiError> {
        let Some((name, _)) = account(&secret) else { return Ok(Next::Done) };
        let found = cx.cached::<ServiceAccount>()?.get(&ObjectKey::new(secret.namespace(), name));
        let mut what = self.plan(&secret, found.as_ref());
        if what == Plan::Delete {
            // The cache may be late, and what is deleted does not come back.
            let found = cx.client().namespaced::<ServiceAccount>(secret.namespace()).find(name).await?;
            what = self.plan(&secret, found.as_ref());
        }
        match what {
            Plan::Leave => {}
            Plan::Delete => cx.delete::<Secret>(secret.object()).await?,
            Plan::Fill { token, data, uid } => {
                let make = || (self.issuer)(secret.namespace(), name, &uid, secret.name());
                let token = token.then(make).transpose()?;
                let mut draft = secret.draft();
                fill(&mut draft, token, data, uid);
                match cx.update(draft).await {
                    Err(error) if !error.is_not_found() => return Err(error),
                    _ => {}
                }
            }
        }
        Ok(Next::Done)
    }

    /// Accounts no longer refer to a Secret that is gone.
    async fn gone(&self, key: ObjectKey, cx: Cx) -> Result<Next, ApiError> {
        for account in cx.cached::<ServiceAccount>()?.list_in(&key.namespace) {
            let refers = |name: &Option<String>| name.as_deref() == Some(key.name.as_str());
            if account.secrets.iter().flatten().any(|secret| refers(&secret.name)) {
                let mut draft = account.draft();
                draft.secrets.iter_mut().for_each(|secrets| secrets.retain(|secret| !refers(&secret.name)));
                cx.update(draft).await?;
            }
        }
        Ok(Next::Done)
    }
}
