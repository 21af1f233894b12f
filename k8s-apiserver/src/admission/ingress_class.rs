//! `DefaultIngressClass`: an ingress that names no class gets the default one.

use async_trait::async_trait;
use k8s_core::{request::Verb, status::ApiResult};

use super::{Admission, AdmissionRequest, volumes::default_of};

const GROUP: &str = "networking.k8s.io";
const MARK: &str = "ingressclass.kubernetes.io/is-default-class";

/// The plugin.
pub struct DefaultIngressClass;

#[async_trait]
impl Admission for DefaultIngressClass {
    fn name(&self) -> &'static str {
        "DefaultIngressClass"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Create && request.is_on(GROUP, "ingresses")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let has_class = request.object().is_none_or(|ingress| {
            ingress.at(&["metadata", "annotations", "kubernetes.io/ingress.class"]).is_some()
                || ingress.at(&["spec", "ingressClassName"]).is_some_and(|class| !class.is_null())
        });
        if !has_class
            && let Some(class) = default_of(request.cluster, GROUP, "ingressclasses", &[MARK])
            && let Some(ingress) = request.edit()
        {
            ingress.set_at(&["spec", "ingressClassName"], class.into());
        }
        Ok(())
    }
}
