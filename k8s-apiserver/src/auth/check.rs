//! A decision as an answer: 403, which says who may not do what.

use k8s_core::status::{ApiError, ApiResult, Reason};

use super::{Attributes, Authorizer, Decision, Subject};

/// 403 unless what the attributes say is allowed.
pub async fn check(authorizer: &dyn Authorizer, attributes: &Attributes<'_>) -> ApiResult<()> {
    let reason = match authorizer.authorize(attributes).await {
        Decision::Allow => return Ok(()),
        Decision::Deny(reason) | Decision::NoOpinion(reason) => reason,
    };
    let because = if reason.is_empty() { reason } else { format!(": {reason}") };
    let (user, verb) = (&attributes.caller.name, attributes.verb);
    let target = match attributes.subject {
        Subject::Resource(target) => target,
        Subject::Path(path) => {
            let message = format!("forbidden: User {user:?} cannot {verb} path {path:?}{because}");
            return Err(ApiError::new(403, Reason::Forbidden, message));
        }
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
    let group = &resource.group;
    let why = format!("User {user:?} cannot {verb} resource {plural:?} in API group {group:?} {place}{because}");
    Err(ApiError::forbidden(&resource.plural, group, &target.name, why))
}
