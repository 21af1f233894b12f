//! Asks the authorizer about a request.

use k8s_core::{
    request::{ApiRequest, Caller, Target, Verb},
    status::{ApiError, ApiResult},
};

use crate::auth::{Attributes, Authorizer, Decision, Subject};

/// 403 unless the caller may.
pub async fn authorize(authorizer: &dyn Authorizer, caller: &Caller, request: &ApiRequest) -> ApiResult<()> {
    let verb = match (request.verb, request.target.subresource.as_str()) {
        // Whatever the caller says: to open a shell or a tunnel is to create one.
        (Verb::Connect, "exec" | "attach" | "portforward") => Verb::Create,
        (Verb::Connect, _) => request.options.connect_as,
        (verb, _) => verb,
    };
    let target = effective(request);
    let attributes = Attributes::on(caller, verb, &target).with_fields(&request.options.field_selector);
    check(authorizer, &attributes).await
}

/// 403 unless what the attributes say is allowed.
pub async fn check(authorizer: &dyn Authorizer, attributes: &Attributes<'_>) -> ApiResult<()> {
    let reason = match authorizer.authorize(attributes).await {
        Decision::Allow => return Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => reason,
    };
    let Subject::Resource(target) = attributes.subject else {
        return Err(ApiError::forbidden("", "", "", reason));
    };
    let resource = &target.resource;
    let plural = match target.subresource.as_str() {
        "" => resource.plural.to_string(),
        subresource => format!("{}/{subresource}", resource.plural),
    };
    let place = match target.namespace.as_str() {
        "" => "at the cluster scope".to_owned(),
        namespace => format!("in the namespace {namespace:?}"),
    };
    let (user, verb, group) = (&attributes.caller.name, attributes.verb, &resource.group);
    let mut why = format!("User {user:?} cannot {verb} resource {plural:?} in API group {group:?} {place}");
    if !reason.is_empty() {
        why = format!("{why}: {reason}");
    }
    Err(ApiError::forbidden(&resource.plural, &resource.group, &target.name, why))
}

/// A list or watch of one name is authorized as about that name, as upstream does.
fn effective(request: &ApiRequest) -> Target {
    let mut target = request.target.clone();
    if matches!(request.verb, Verb::List | Verb::Watch | Verb::DeleteCollection)
        && target.name.is_empty()
        && let Some(name) = request.options.field_selector.pinned("metadata.name")
    {
        target.name = name.into();
    }
    target
}
