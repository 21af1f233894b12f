//! Policies that judge.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_core::{
    admission_policy::Denial,
    doc,
    doc::Doc,
    registry::ResourceInfo,
    status::{ApiError, ApiResult, Reason, StatusCause},
};

use super::{Case, Judging, Scene, matching::namespace_of, params, parsed};
use crate::admission::{Admission, AdmissionRequest, webhook::configuration::OnFailure};

/// Lets policies judge what is written.
pub struct ValidatingPolicies(pub Judging);

/// The annotation of the audit log that lists what was to be audited.
const FAILURES: &str = "validation.policy.admission.k8s.io/validation_failure";

/// What policies have to say about one request.
#[derive(Default)]
struct Verdict {
    denied: Option<(String, Denial)>,
    audited: Vec<Doc>,
    annotations: Vec<(String, Vec<String>)>,
}

#[async_trait]
impl Admission for ValidatingPolicies {
    fn name(&self) -> &'static str {
        "ValidatingAdmissionPolicy"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        self.0.handles(request)
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let namespace = namespace_of(request).await?;
        let cases = self.0.cases(request, namespace.as_deref());
        if cases.is_empty() {
            return Ok(());
        }
        let (mut verdict, namespace) = (Verdict::default(), parsed(namespace.as_deref()));
        let mut scenes: Vec<(Arc<ResourceInfo>, Scene<'_>)> = Vec::new();
        for case in cases {
            // Policies that are about the same version see the same.
            let known = scenes.iter().position(|(form, _)| Arc::ptr_eq(form, &case.form));
            let place = match known {
                Some(place) => place,
                None => {
                    scenes.push((case.form.clone(), self.0.scene(request, &case.form, &namespace).await?));
                    scenes.len() - 1
                }
            };
            self.judge(request, &case, &scenes[place].1, &mut verdict).await;
        }
        if !verdict.audited.is_empty() {
            request.annotate(FAILURES, Doc::Array(verdict.audited).to_string());
        }
        for (key, values) in verdict.annotations {
            request.annotate(key, values.join(", "));
        }
        match verdict.denied {
            Some((message, denial)) => Err(refusal(request, message, &denial)),
            None => Ok(()),
        }
    }
}

impl ValidatingPolicies {
    async fn judge(&self, request: &AdmissionRequest<'_>, case: &Case, scene: &Scene<'_>, verdict: &mut Verdict) {
        let converting = self.0.converting(request.cluster);
        let found = match &case.policy.broken {
            Some(why) => Err(format!("failed to configure policy: {why}")),
            None => {
                let found = params::find(request, &case.policy, &case.binding, &converting).await;
                found.map_err(|why| format!("failed to configure binding: {why}"))
            }
        };
        match found {
            Err(why) if case.policy.on_failure == OnFailure::Refuse => verdict.deny(case, Denial::failure(why)),
            Err(why) => tracing::warn!(policy = %case.policy.name, %why, "a policy failed, failing open"),
            Ok(found) => {
                for params in &found {
                    self.judge_with(request, case, scene, params, verdict);
                }
            }
        }
    }

    fn judge_with(
        &self,
        request: &AdmissionRequest<'_>,
        case: &Case,
        scene: &Scene<'_>,
        params: &Doc,
        verdict: &mut Verdict,
    ) {
        let (denials, annotations) = self.0.evaluate(request, case, scene, params, |answers| match answers.matches() {
            Ok(false) => (Vec::new(), Vec::new()),
            Ok(true) => (answers.denials(), answers.annotations()),
            Err(why) => (vec![Denial::failure(why)], Vec::new()),
        });
        let mut all = denials;
        for (key, value) in annotations {
            match value {
                Ok(value) => verdict.note(format!("{}/{key}", case.policy.name), value),
                Err(denial) => all.push(denial),
            }
        }
        for denial in all {
            if !denial.failed || case.policy.on_failure == OnFailure::Refuse {
                verdict.act(request, case, denial);
            }
        }
    }
}

impl Verdict {
    /// Refuses, if nothing did before.
    fn deny(&mut self, case: &Case, denial: Denial) {
        let (policy, binding) = (&case.policy.name, &case.binding.name);
        let message =
            format!("ValidatingAdmissionPolicy '{policy}' with binding '{binding}' denied request: {}", denial.message);
        self.denied.get_or_insert((message, denial));
    }

    /// Does with a denial what the binding says.
    fn act(&mut self, request: &AdmissionRequest<'_>, case: &Case, denial: Denial) {
        let (policy, binding) = (&case.policy.name, &case.binding.name);
        for action in &case.binding.actions {
            match action.as_str() {
                "Deny" => self.deny(case, denial.clone()),
                "Warn" => request.warn(format!(
                    "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{binding}': {}",
                    denial.message
                )),
                _ => self.audited.push(doc!({
                    "message": denial.message.as_str(), "policy": policy.as_str(), "binding": binding.as_str(),
                    "expressionIndex": (denial.place.unwrap_or(0) as i64),
                    "validationActions": Doc::Array(case.binding.actions.iter().cloned().map(Doc::from).collect())
                })),
            }
        }
    }

    /// An annotation that several policies or parameters give has all their values, each once.
    fn note(&mut self, key: String, value: String) {
        match self.annotations.iter_mut().find(|(known, _)| *known == key) {
            Some((_, values)) if values.contains(&value) => {}
            Some((_, values)) => values.push(value),
            None => self.annotations.push((key, vec![value])),
        }
    }
}

/// A refusal with the reason that the validation gives, `Invalid` without one.
pub(super) fn refusal(request: &AdmissionRequest<'_>, message: String, denial: &Denial) -> ApiError {
    let (code, reason) = match denial.reason.as_str() {
        "Unauthorized" => (401, Reason::Unauthorized),
        "Forbidden" => (403, Reason::Forbidden),
        "RequestEntityTooLarge" => (413, Reason::RequestEntityTooLarge),
        _ => (422, Reason::Invalid),
    };
    let mut status = request.forbidden(&message).status().clone();
    status.code = code;
    status.reason = Some(reason);
    ApiError::from_status(status).cause(StatusCause { message: denial.message.clone(), ..StatusCause::default() })
}
