//! The service account controller: every namespace has a `default` account.

use k8s_core::{
    api::{
        api::core::v1::{Namespace, ServiceAccount},
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    },
    object::ObjectKey,
    resource::Stored,
    status::ApiError,
};
use k8s_reconcile::{Controller, Cx, InformerScope, Next, Reconciler};

const NAME: &str = "default";

/// The service account controller, ready to start.
pub fn controller() -> Controller<ServiceAccounts> {
    Controller::new("service-account-controller", ServiceAccounts)
        .watches::<ServiceAccount>(InformerScope::field("metadata.name", NAME), |delta, _| {
            vec![ObjectKey::new("", delta.object().meta.namespace.clone())]
        })
        .workers(1)
}

/// Its reconciler.
pub struct ServiceAccounts;

impl Reconciler for ServiceAccounts {
    type Object = Namespace;
    type Error = ApiError;

    async fn reconcile(&self, namespace: Stored<Namespace>, cx: Cx) -> Result<Next, ApiError> {
        let key = ObjectKey::new(namespace.name(), NAME);
        let exists = cx.cached::<ServiceAccount>()?.get(&key).is_some();
        if exists || namespace.object().meta.deleted.is_some() {
            return Ok(Next::Done);
        }
        let metadata =
            ObjectMeta { name: Some(NAME.into()), namespace: Some(namespace.name().into()), ..Default::default() };
        match cx.create(ServiceAccount { metadata, ..Default::default() }).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(Next::Done),
        }
    }
}
