//! `MutatingAdmissionWebhook` and `ValidatingAdmissionWebhook`: others decide about writes, over HTTPS.
//!
//! Follows upstream's generic webhook plugins: which requests a webhook sees, what it is asked, what its answer means and
//! what its absence means. What configures admission itself is never shown to a webhook, so that a bad one can be removed.

pub(super) mod conditions;
pub(super) mod configuration;
pub(super) mod matching;
pub(super) mod review;
pub(super) mod shown;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use async_trait::async_trait;
use futures::future::join_all;
use k8s_core::{
    doc,
    doc::Doc,
    env::Env,
    object::ObjectKey,
    patch,
    registry::ResourceInfo,
    request::{PatchKind, Verb},
    selector::Labels,
    status::{ApiError, ApiResult},
};

pub use self::configuration::Configurations;
use self::{
    conditions::Case,
    configuration::{Hook, OnFailure},
    matching::Asked,
    review::{Answer, Role},
    shown::Shown,
};
use super::{Admission, AdmissionRequest, Cluster};
use crate::{auth::Authorizer, conversion, webhook::Webhooks};

/// The group of what configures admission.
const GROUP: &str = "admissionregistration.k8s.io";
const MUTATING: &str = "MutatingAdmissionWebhook";
const VALIDATING: &str = "ValidatingAdmissionWebhook";

/// Lets webhooks change what is written, one after the other.
pub struct MutatingWebhooks(pub Asking);

/// Lets webhooks judge what is written, all at once.
pub struct ValidatingWebhooks(pub Asking);

/// How webhooks are asked, and which.
pub struct Asking {
    /// Makes the ids of reviews.
    pub env: Env,
    /// Calls them.
    pub webhooks: Arc<Webhooks>,
    /// Those of this moment.
    pub configurations: Arc<Configurations>,
    /// Answers what match conditions ask.
    pub authorizer: Arc<dyn Authorizer>,
}

/// A webhook that is to be asked, in the words of a version that its rules name.
struct Invocation {
    hook: Arc<Hook>,
    form: Arc<ResourceInfo>,
}

/// Why a webhook did not let a request pass.
enum Refusal {
    /// It gave no answer that counts.
    Unanswered(String),
    /// It said no, or cannot be asked about this.
    Denied(ApiError),
}

impl Asking {
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        if self.configurations.is_empty() || request.info.group == GROUP {
            return false;
        }
        let subresource = request.target.subresource.as_str();
        match request.verb {
            Verb::Create => true,
            // What is written behind a binding was judged with it.
            Verb::Update => subresource != "binding",
            Verb::Delete => subresource.is_empty(),
            Verb::Connect => subresource != "log",
            _ => false,
        }
    }

    /// How a webhook is to be asked about a request; `None` if it does not want to be.
    async fn invocation(&self, hook: &Arc<Hook>, request: &AdmissionRequest<'_>) -> ApiResult<Option<Invocation>> {
        let Some(form) = form(hook, request) else { return Ok(None) };
        if !self.selects_object(hook, request, &form).await? || !selects_namespace(hook, request).await? {
            return Ok(None);
        }
        match self.conditions_hold(hook, request, &form).await? {
            Ok(true) => Ok(Some(Invocation { hook: hook.clone(), form })),
            Ok(false) => Ok(None),
            Err(why) if hook.on_failure == OnFailure::Ignore => {
                tracing::warn!(webhook = %hook.name, %why, "match conditions cannot be told, failing open");
                Ok(None)
            }
            Err(why) => Err(request.forbidden(why)),
        }
    }

    async fn conditions_hold(
        &self,
        hook: &Hook,
        request: &AdmissionRequest<'_>,
        form: &Arc<ResourceInfo>,
    ) -> ApiResult<Result<bool, String>> {
        if hook.conditions.is_empty() {
            return Ok(Ok(true));
        }
        let (shown, described) = (self.shown(request, form).await?, review::described(request, form));
        Ok(hook.conditions.hold(&Case {
            object: shown.object.as_ref().unwrap_or(&Doc::Null),
            old: shown.old.as_ref().unwrap_or(&Doc::Null),
            request: &described,
            caller: request.caller,
            target: request.target,
            authorizer: &*self.authorizer,
        }))
    }

    /// A request in the words of `form`.
    async fn shown(&self, request: &AdmissionRequest<'_>, form: &Arc<ResourceInfo>) -> ApiResult<Shown> {
        Shown::converted(request, form, &self.converting(request.cluster)).await
    }

    fn converting<'c>(&'c self, cluster: &'c Cluster) -> conversion::Asking<'c> {
        conversion::Asking { env: &self.env, webhooks: &self.webhooks, cluster }
    }

    /// Whether the object, as it was or as it shall be, is one of those that the webhook wants to see.
    async fn selects_object(
        &self,
        hook: &Hook,
        request: &AdmissionRequest<'_>,
        form: &Arc<ResourceInfo>,
    ) -> ApiResult<bool> {
        if hook.objects.is_everything() {
            return Ok(true);
        }
        if request.verb == Verb::Connect {
            return Ok(false);
        }
        let shown = self.shown(request, form).await?;
        Ok([shown.object, shown.old].iter().flatten().any(|doc| hook.objects.matches(&LabelsOf(doc))))
    }

    /// Asks one webhook.
    async fn ask(
        &self,
        request: &AdmissionRequest<'_>,
        invocation: &Invocation,
        role: Role,
    ) -> Result<Answer, Refusal> {
        let Invocation { hook, form } = invocation;
        if request.options.dry_run && !hook.dry_runs {
            let why = format!("admission webhook {:?} does not support dry run", hook.name);
            return Err(Refusal::Denied(ApiError::bad_request(why)));
        }
        let shown = self.shown(request, form).await.map_err(Refusal::Denied)?;
        let uid = self.env.uuid();
        let body = review::write(request, form, &shown, hook.version, &uid);
        let parameters = format!("timeout={}s", hook.timeout.as_secs());
        let answer = self.webhooks.call(request.cluster, &hook.client, &parameters, hook.timeout, body).await;
        let answer = answer.map_err(|why| Refusal::Unanswered(format!("failed to call webhook: {why}")))?;
        let answer = review::read(&answer, hook.version, &uid, role)
            .map_err(|why| Refusal::Unanswered(format!("received invalid webhook response: {why}")))?;
        for (key, value) in &answer.annotations {
            request.annotate(format!("{}/{key}", hook.name), value.as_str());
        }
        answer.warnings.iter().for_each(|warning| request.warn(warning.as_str()));
        if answer.allowed {
            return Ok(answer);
        }
        Err(Refusal::Denied(review::refusal(&hook.name, answer.status.as_ref())))
    }
}

/// What a refusal means for the request; `place` tells webhooks apart in the audit log.
fn judge(request: &AdmissionRequest<'_>, hook: &Hook, refusal: Refusal, place: &str) -> ApiResult<()> {
    match refusal {
        Refusal::Denied(error) => Err(error),
        Refusal::Unanswered(why) if hook.on_failure == OnFailure::Ignore => {
            tracing::warn!(webhook = %hook.name, %why, "calling a webhook failed, failing open");
            request.annotate(place, hook.name.as_str());
            Ok(())
        }
        Refusal::Unanswered(why) => {
            Err(ApiError::internal(format!("failed calling webhook {:?}: {why}", hook.name.as_str())))
        }
    }
}

/// In which version a webhook wants to see a request: the one that was asked for if a rule names it, else one that means
/// the same.
fn form(hook: &Hook, request: &AdmissionRequest<'_>) -> Option<Arc<ResourceInfo>> {
    let asked = |info: &ResourceInfo| {
        let asked = Asked {
            operation: review::operation(request.verb),
            group: &info.group,
            version: &info.version,
            plural: &info.plural,
            subresource: &request.target.subresource,
            namespaced: info.is_namespaced(),
        };
        hook.rules.iter().any(|rule| rule.matches(&asked))
    };
    if asked(request.info) {
        return Some(request.info.clone());
    }
    if hook.exact {
        return None;
    }
    request.cluster.equivalents(request.info).into_iter().find(|info| asked(info))
}

/// The labels of a document.
pub(super) struct LabelsOf<'a>(pub &'a Doc);

impl Labels for LabelsOf<'_> {
    fn label(&self, key: &str) -> Option<&str> {
        self.0.at(&["metadata", "labels"])?.get(key)?.as_str()
    }
}

/// Whether the namespace is one of those that the webhook wants to see. What is in no namespace is always seen; a Namespace
/// is judged by its own labels.
async fn selects_namespace(hook: &Hook, request: &AdmissionRequest<'_>) -> ApiResult<bool> {
    if hook.namespaces.is_everything() {
        return Ok(true);
    }
    let name = review::namespace(request);
    if name.is_empty() {
        return Ok(true);
    }
    if request.is_below("", "namespaces")
        && let Some(object) = request.object()
    {
        return Ok(hook.namespaces.matches(&LabelsOf(object)));
    }
    let key = ObjectKey::new("", name);
    let found = match request.cluster.get("", "v1", "namespaces", &key) {
        Some(namespace) => namespace,
        None => {
            let fresh = request.cluster.fresh("", "v1", "namespaces", &key).await?;
            fresh.ok_or_else(|| ApiError::not_found("namespaces", "", name))?
        }
    };
    Ok(hook.namespaces.matches(&*found.meta))
}

#[async_trait]
impl Admission for MutatingWebhooks {
    fn name(&self) -> &'static str {
        MUTATING
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        self.0.handles(request)
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        request.reinvocation(|rounds, object| rounds.begin(MUTATING, object));
        for (place, hook) in self.0.configurations.hooks().iter().enumerate() {
            if let Some(invocation) = self.0.invocation(hook, request).await?
                && request.reinvocation(|rounds, _| rounds.is_due(MUTATING, &hook.id))
            {
                self.run(request, &invocation, place).await?;
            }
        }
        request.reinvocation(|rounds, object| rounds.end(MUTATING, object));
        Ok(())
    }
}

impl MutatingWebhooks {
    async fn run(&self, request: &mut AdmissionRequest<'_>, invocation: &Invocation, place: usize) -> ApiResult<()> {
        let hook = &invocation.hook;
        let round = request.reinvocation(|rounds, _| rounds.round());
        let place = format!("round_{round}_index_{place}");
        let answer = self.0.ask(request, invocation, Role::Mutating).await;
        let (mutated, verdict) = match answer {
            Ok(Answer { patch: Some(patch), .. }) => (self.apply(request, invocation, &patch).await?, Ok(())),
            Ok(_) => (false, Ok(())),
            Err(refusal) => {
                let annotation = format!("failed-open.mutation.webhook.admission.k8s.io/{place}");
                (false, judge(request, hook, refusal, &annotation))
            }
        };
        let told = doc!({
            "configuration": hook.configuration.as_str(), "webhook": hook.name.as_str(), "mutated": mutated
        });
        request.annotate(format!("mutation.webhook.admission.k8s.io/{place}"), told.to_string());
        if mutated {
            request.reinvocation(|rounds, _| rounds.changed(MUTATING));
        }
        if hook.reinvocable {
            request.reinvocation(|rounds, _| rounds.asked(MUTATING, &hook.id));
        }
        verdict
    }

    /// Applies a webhook's patch to what it was shown. Answers whether that changed anything.
    async fn apply(
        &self,
        request: &mut AdmissionRequest<'_>,
        Invocation { hook, form }: &Invocation,
        patch: &Doc,
    ) -> ApiResult<bool> {
        let name = &hook.name;
        let shown = self.0.shown(request, form).await?.object.filter(|_| request.object().is_some());
        let Some(shown) = shown else {
            let why = "attempted to modify the object, which is not supported for this operation";
            return Err(ApiError::internal(format!("admission webhook {name:?} {why}")));
        };
        let new = patch::apply(PatchKind::Json, patch, &shown, None)
            .map_err(|error| ApiError::internal(format!("patch of webhook {name:?}: {}", error.status().message)))?;
        if new == shown {
            return Ok(false);
        }
        let new = shown::turned_back(request, form, new, &self.0.converting(request.cluster)).await?;
        shown::take(request, new)?;
        Ok(true)
    }
}

#[async_trait]
impl Admission for ValidatingWebhooks {
    fn name(&self) -> &'static str {
        VALIDATING
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        self.0.handles(request)
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let mut invocations = Vec::new();
        for hook in self.0.configurations.hooks().iter() {
            invocations.extend(self.0.invocation(hook, request).await?);
        }
        let asking = invocations.iter().map(|invocation| self.0.ask(request, invocation, Role::Validating));
        let answers = join_all(asking).await;
        let judged = invocations.iter().zip(answers).enumerate().map(|(place, (invocation, answer))| {
            let annotation = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{place}");
            answer.map(drop).or_else(|refusal| judge(request, &invocation.hook, refusal, &annotation))
        });
        // All are judged, so that all are noted; the first that refuses is heard.
        judged.fold(Ok(()), ApiResult::and)
    }
}
