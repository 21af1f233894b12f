//! A pod's priority comes from its priority class, or from the default class.

use async_trait::async_trait;
use k8s_core::{
    api::api::scheduling::v1::PriorityClass,
    doc::Doc,
    request::Verb,
    status::{ApiError, ApiResult},
};

use super::{Admission, AdmissionRequest};

/// The plugin.
pub struct Priority;

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    async fn mutate(&self, request: &AdmissionRequest<'_>, doc: &mut Doc) -> ApiResult<()> {
        let is_pod = request.info.kind == "Pod" && request.target.subresource.is_empty();
        if !is_pod || request.verb != Verb::Create {
            return Ok(());
        }
        let named = doc.str_at(&["spec", "priorityClassName"]).to_owned();
        let classes = request.reads.all::<PriorityClass>();
        let class = match named.is_empty() {
            true => classes.iter().filter(|class| class.global_default == Some(true)).max_by_key(|class| class.value),
            false => {
                let found = classes.iter().find(|class| class.metadata.name.as_deref() == Some(&named));
                let why = || format!("no PriorityClass with name {named} was found");
                Some(found.ok_or_else(|| ApiError::forbidden("pods", "", &request.target.name, why()))?)
            }
        };
        let (value, policy) = class.map_or((0, None), |class| (class.value.unwrap_or(0), class.preemption_policy.clone()));
        let asked = doc.at(&["spec", "priority"]).and_then(Doc::as_i64);
        if asked.is_some_and(|asked| asked != i64::from(value)) {
            let why = "the integer value of priority must not be provided in pod spec; priority admission computes it";
            return Err(ApiError::forbidden("pods", "", &request.target.name, why));
        }
        if let Some(name) = class.and_then(|class| class.metadata.name.clone()).filter(|_| named.is_empty()) {
            doc.set_at(&["spec", "priorityClassName"], Doc::String(name.into()));
        }
        doc.set_at(&["spec", "priority"], Doc::from(i64::from(value)));
        if doc.at(&["spec", "preemptionPolicy"]).is_none() {
            let policy = policy.unwrap_or_else(|| "PreemptLowerPriority".into());
            doc.set_at(&["spec", "preemptionPolicy"], Doc::String(policy.into()));
        }
        Ok(())
    }
}
