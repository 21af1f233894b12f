//! The root CA publisher: every namespace has the certificate that its pods verify the API server by.

use k8s_core::{
    api::{
        api::core::v1::{ConfigMap, Namespace},
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    },
    object::ObjectKey,
    resource::Stored,
    status::ApiError,
};
use k8s_reconcile::{Controller, Cx, InformerScope, Next, Reconciler};

const NAME: &str = "kube-root-ca.crt";

/// The root CA publisher for a CA certificate in PEM, ready to start.
pub fn controller(ca_pem: String) -> Controller<RootCa> {
    Controller::new("root-ca-cert-publisher", RootCa { ca_pem })
        .watches::<ConfigMap>(InformerScope::field("metadata.name", NAME), |delta, _| {
            vec![ObjectKey::new("", delta.object().meta.namespace.clone())]
        })
        .workers(1)
}

/// Its reconciler.
pub struct RootCa {
    ca_pem: String,
}

impl Reconciler for RootCa {
    type Object = Namespace;
    type Error = ApiError;

    async fn reconcile(&self, namespace: Stored<Namespace>, cx: Cx) -> Result<Next, ApiError> {
        if namespace.object().meta.deleted.is_some() {
            return Ok(Next::Done);
        }
        let data = Some([("ca.crt".to_owned(), self.ca_pem.clone())].into());
        match cx.cached::<ConfigMap>()?.get(&ObjectKey::new(namespace.name(), NAME)) {
            Some(map) if map.data == data => {}
            Some(map) => {
                let mut draft = map.draft();
                draft.data = data;
                cx.update(draft).await?;
            }
            None => {
                let description = "The certificates by which a client verifies the API server from inside the cluster.";
                let metadata = ObjectMeta {
                    name: Some(NAME.into()),
                    namespace: Some(namespace.name().into()),
                    annotations: Some([("kubernetes.io/description".to_owned(), description.to_owned())].into()),
                    ..Default::default()
                };
                let created = cx.create(ConfigMap { metadata, data, ..Default::default() }).await;
                if let Err(error) = created
                    && !error.is_already_exists()
                {
                    return Err(error);
                }
            }
        }
        Ok(Next::Done)
    }
}
