//! Asks the authorizer about a request.

use k8s_core::{
    request::{ApiRequest, Caller, Target, Verb},
    status::ApiResult,
};

use crate::auth::{Attributes, Authorizer, check};

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
