//! `ValidatingAdmissionPolicy` and `MutatingAdmissionPolicy`: expressions decide about writes, in the server itself.
//!
//! Follows upstream's policy plugins: a policy says what is checked or changed, a binding says where, and with which
//! parameters. Nothing waits while expressions are evaluated: what they look at is gathered before. What configures
//! admission itself is never judged by a policy, so that a bad one can be removed.

mod active;
mod matching;
mod mutating;
mod params;
mod validating;

#[cfg(test)]
mod tests;

use std::{rc::Rc, sync::Arc};

use k8s_core::{
    admission_policy::{Answers, Bound},
    doc::Doc,
    env::Env,
    object::Object,
    registry::ResourceInfo,
    request::Verb,
    status::ApiResult,
};

use self::active::{Binding, Policy};
pub use self::{active::Policies, mutating::MutatingPolicies, validating::ValidatingPolicies};
use super::{
    AdmissionRequest, Cluster,
    webhook::{
        conditions::{Asking, question},
        review,
        shown::Shown,
    },
};
use crate::{auth::Authorizer, conversion, webhook::Webhooks};

/// The group of what configures admission.
const GROUP: &str = "admissionregistration.k8s.io";

/// The policies of a plugin, and whom their expressions ask.
pub struct Judging {
    /// Those of this moment.
    pub policies: Arc<Policies>,
    /// Answers questions about permissions.
    pub authorizer: Arc<dyn Authorizer>,
    /// Draws the names of questions.
    pub env: Env,
    /// Calls who converts objects.
    pub webhooks: Arc<Webhooks>,
}

/// A policy that is about a request.
struct Case {
    policy: Arc<Policy>,
    binding: Arc<Binding>,
    form: Arc<ResourceInfo>,
}

/// What expressions see of a request, in the words of one version of its kind.
struct Scene<'s> {
    request: Doc,
    namespace: &'s Doc,
    object: Doc,
    old: Doc,
}

impl Judging {
    /// How objects are brought to another version, where a webhook does.
    fn converting<'c>(&'c self, cluster: &'c Cluster) -> conversion::Asking<'c> {
        conversion::Asking { env: &self.env, webhooks: &self.webhooks, cluster }
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        if self.policies.is_empty() || request.info.group == GROUP {
            return false;
        }
        matches!(request.verb, Verb::Create | Verb::Update | Verb::Delete | Verb::Connect)
            && request.target.subresource != "log"
    }

    /// The policies that are about a request, in order.
    fn cases(&self, request: &AdmissionRequest<'_>, namespace: Option<&Object>) -> Vec<Case> {
        let mut cases = Vec::new();
        for (policy, binding) in self.policies.active().iter() {
            let Some(form) = policy.resources.form(request, namespace) else { continue };
            let bound = binding.resources.as_ref().is_none_or(|of| of.form(request, namespace).is_some());
            if bound {
                cases.push(Case { policy: policy.clone(), binding: binding.clone(), form });
            }
        }
        cases
    }

    /// Evaluates a policy with one set of parameters. Synchronous: values do not outlive it.
    fn evaluate<R>(
        &self,
        request: &AdmissionRequest<'_>,
        case: &Case,
        scene: &Scene<'_>,
        params: &Doc,
        with: impl FnOnce(&mut Answers<'_>) -> R,
    ) -> R {
        let asker = Rc::new(Asking { authorizer: &*self.authorizer, caller: request.caller });
        let bound = Bound {
            object: &scene.object,
            old: &scene.old,
            request: &scene.request,
            namespace: scene.namespace,
            params,
            authorizer: asker,
            question: question(request.target),
        };
        with(&mut Answers::new(&case.policy.expressions, &bound))
    }
}

/// A request's namespace as a document: read once for all policies.
fn parsed(namespace: Option<&Object>) -> Doc {
    namespace.and_then(|namespace| Doc::parse(&namespace.to_json()).ok()).unwrap_or_default()
}

impl Judging {
    async fn scene<'s>(
        &self,
        request: &AdmissionRequest<'_>,
        form: &Arc<ResourceInfo>,
        namespace: &'s Doc,
    ) -> ApiResult<Scene<'s>> {
        let shown = Shown::converted(request, form, &self.converting(request.cluster)).await?;
        Ok(Scene {
            request: describe(request, form),
            namespace,
            object: shown.object.unwrap_or_default(),
            old: shown.old.unwrap_or_default(),
        })
    }
}

/// The variable `request`: a review's request, in which text that is not there is empty.
fn describe(request: &AdmissionRequest<'_>, form: &ResourceInfo) -> Doc {
    let mut described = review::described(request, form);
    for field in ["subResource", "requestSubResource", "name", "namespace"] {
        if described.str_at(&[field]).is_empty() {
            described.set_at(&[field], "".into());
        }
    }
    described
}
