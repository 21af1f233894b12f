//! `Priority`: a pod's class becomes its number.

use async_trait::async_trait;
use k8s_core::{
    doc::Doc,
    object::ObjectKey,
    request::Verb,
    status::{ApiError, ApiResult},
};

use super::{Admission, AdmissionRequest};
use crate::cache::field;

const GROUP: &str = "scheduling.k8s.io";

/// The plugin.
pub struct Priority;

#[async_trait]
impl Admission for Priority {
    fn name(&self) -> &'static str {
        "Priority"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let pod = request.verb == Verb::Create && request.is_on("", "pods");
        let class = matches!(request.verb, Verb::Create | Verb::Update) && request.is_on(GROUP, "priorityclasses");
        pod || class
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        if !request.is_on("", "pods") {
            return Ok(());
        }
        let found = find(request).await?;
        let given = request.object().and_then(|pod| pod.at(&["spec", "priority"])).and_then(Doc::as_i64);
        if let Some(given) = given.filter(|given| *given != found.value) {
            return Err(request.forbidden(format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                 controller computed {} from the given PriorityClass name",
                found.value
            )));
        }
        let asked = request.object().map_or("", |pod| pod.str_at(&["spec", "preemptionPolicy"]));
        if !asked.is_empty() && asked != found.preemption {
            return Err(request.forbidden(format!(
                "the string value of PreemptionPolicy ({asked}) must not be provided in pod spec; priority admission \
                 controller computed {} from the given PriorityClass name",
                found.preemption
            )));
        }
        if let Some(pod) = request.edit() {
            pod.set_at(&["spec", "priority"], found.value.into());
            pod.set_at(&["spec", "preemptionPolicy"], found.preemption.as_str().into());
            if !found.name.is_empty() {
                pod.set_at(&["spec", "priorityClassName"], found.name.as_str().into());
            }
        }
        Ok(())
    }

    /// Only one class can be the default.
    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let is_default = |doc: &Doc| doc.get("globalDefault").and_then(Doc::as_bool) == Some(true);
        if !request.is_on(GROUP, "priorityclasses") || !request.object().is_some_and(is_default) {
            return Ok(());
        }
        for class in request.cluster.all(GROUP, "v1", "priorityclasses") {
            if class.meta.name != request.target.name && field(&class, "globalDefault").as_deref() == Some("true") {
                let name = &class.meta.name;
                return Err(request.forbidden(format!("PriorityClass {name} is already marked as global default")));
            }
        }
        Ok(())
    }
}

/// What a class gives a pod.
struct Found {
    name: String,
    value: i64,
    preemption: String,
}

async fn find(request: &AdmissionRequest<'_>) -> ApiResult<Found> {
    let named = request.object().map_or("", |pod| pod.str_at(&["spec", "priorityClassName"])).to_owned();
    let class = if named.is_empty() {
        let all = request.cluster.all(GROUP, "v1", "priorityclasses");
        all.into_iter().find(|class| field(class, "globalDefault").as_deref() == Some("true"))
    } else {
        let key = ObjectKey::new("", named.as_str());
        let found = match request.cluster.get(GROUP, "v1", "priorityclasses", &key) {
            Some(found) => Some(found),
            None => request.cluster.fresh(GROUP, "v1", "priorityclasses", &key).await?,
        };
        Some(found.ok_or_else(|| request.forbidden(format!("no PriorityClass with name {named} was found")))?)
    };
    let Some(class) = class else {
        return Ok(Found { name: String::new(), value: 0, preemption: "PreemptLowerPriority".into() });
    };
    let value = field(&class, "value").and_then(|text| text.parse().ok());
    let preemption = field(&class, "preemptionPolicy").unwrap_or("PreemptLowerPriority".into());
    Ok(Found {
        name: class.meta.name.to_string(),
        value: value.ok_or_else(|| ApiError::internal(format!("PriorityClass {named} has no value")))?,
        preemption: preemption.into_owned(),
    })
}
