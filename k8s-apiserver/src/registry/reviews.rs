//! Kinds that are asked and not kept: who am I, may I, may they, whose token is this.

use std::sync::Arc;

use k8s_core::{
    api::api::rbac::v1::PolicyRule,
    defaulting, doc,
    doc::{Doc, Text},
    registry::ResourceInfo,
    request::{ApiRequest, ApiResponse, Caller, RequestBody, ResourceType, ResponseBody, Target},
    status::{ApiError, ApiResult, FieldError},
    structure::{self, Mode},
};

use super::operation::{Operation, accept_type, metadata};
use crate::{
    admission::Trail,
    auth::{Attributes, Decision, Subject, bearer::Known},
    server::Inner,
};

/// Answers a request on a kind that is not stored.
pub(crate) async fn review(
    server: &Inner,
    caller: &Caller,
    info: &Arc<ResourceInfo>,
    request: &ApiRequest,
    body: RequestBody,
) -> ApiResult<ApiResponse> {
    let RequestBody::Doc(mut doc) = body else { return Err(ApiError::bad_request("the request has no object")) };
    if info.plural == "bindings" {
        return bind(server, caller, request, doc).await;
    }
    accept_type(&mut doc, &info.resource(), &info.kind)?;
    if let Some(schema) = server.kinds.now().schema(info) {
        let report = structure::check(&schema, &mut doc, Mode::Whole);
        if let Some(wrong) = report.wrong.first() {
            return Err(wrong.to_api_error(&info.version, &info.kind));
        }
        defaulting::default(&schema, &mut doc);
    }
    let status = match info.plural.as_str() {
        "selfsubjectreviews" => doc!({"userInfo": user_info(caller)}),
        "selfsubjectaccessreviews" => access(server, caller, info, &doc).await?,
        "subjectaccessreviews" => access(server, &subject(info, &doc)?, info, &doc).await?,
        "localsubjectaccessreviews" => {
            check_namespace(info, request, &doc)?;
            access(server, &subject(info, &doc)?, info, &doc).await?
        }
        "selfsubjectrulesreviews" => rules(server, caller, &doc),
        "tokenreviews" => token(server, info, &doc).await?,
        other => return Err(ApiError::not_implemented(format!("{other}: a kind that is neither stored nor reviewed"))),
    };
    doc.set_at(&["status"], status);
    Ok(ApiResponse::created(ResponseBody::Doc(doc)))
}

/// The old way to bind: the pod's name is in the body.
async fn bind(server: &Inner, caller: &Caller, request: &ApiRequest, doc: Doc) -> ApiResult<ApiResponse> {
    let pods = ResourceType::new("", "v1", "pods");
    let target = Target::one(pods.clone(), request.target.namespace.clone(), metadata(&doc, "name"));
    let request = ApiRequest { target: target.subresource("binding"), ..request.clone() };
    let info = server.kinds.now().served(&pods)?.clone();
    let kind = server.cache.kind(&pods).ok_or_else(ApiError::no_such_path)?;
    let (info, kind) = (&info, &kind);
    let (trail, warnings, behind) = (&Trail::default(), Vec::new(), false);
    let mut operation = Operation { server, caller, request: &request, info, kind, warnings, trail, behind };
    operation.bind(doc).await
}

/// A caller as reviews show them (`authentication.k8s.io` UserInfo).
pub(crate) fn user_info(caller: &Caller) -> Doc {
    let mut info = doc!({"username": caller.name.as_str()});
    if !caller.uid.is_empty() {
        info.set_at(&["uid"], caller.uid.clone().into());
    }
    if !caller.groups.is_empty() {
        info.set_at(&["groups"], Doc::from(caller.groups.clone()));
    }
    for (key, values) in &caller.extra {
        info.set_at(&["extra", key], Doc::from(values.clone()));
    }
    info
}

fn texts(doc: Option<&Doc>) -> Vec<Text> {
    doc.map_or(&[][..], Doc::items).iter().filter_map(|item| item.as_str().map(Text::from)).collect()
}

/// The subject that a review names.
fn subject(info: &ResourceInfo, doc: &Doc) -> ApiResult<Caller> {
    let extra = doc.at(&["spec", "extra"]).and_then(Doc::as_object);
    let subject = Caller {
        name: doc.str_at(&["spec", "user"]).into(),
        uid: doc.str_at(&["spec", "uid"]).into(),
        groups: texts(doc.at(&["spec", "groups"])),
        extra: extra
            .into_iter()
            .flat_map(|map| map.iter())
            .map(|(key, value)| (key.into(), texts(Some(value))))
            .collect(),
        agent: Text::default(),
    };
    if subject.name.is_empty() && subject.groups.is_empty() {
        let error = FieldError::invalid("spec.user", "", "at least one of user or group must be specified");
        return Err(ApiError::invalid(&info.kind, &info.group, "", &[error]));
    }
    Ok(subject)
}

fn check_namespace(info: &ResourceInfo, request: &ApiRequest, doc: &Doc) -> ApiResult<()> {
    let named = doc.str_at(&["spec", "resourceAttributes", "namespace"]);
    if *named == *request.target.namespace {
        return Ok(());
    }
    let error = FieldError::invalid("spec.resourceAttributes.namespace", named, "must match metadata.namespace");
    Err(ApiError::invalid(&info.kind, &info.group, "", &[error]))
}

/// The status of an access review.
async fn access(server: &Inner, subject: &Caller, info: &ResourceInfo, doc: &Doc) -> ApiResult<Doc> {
    let (resource, path) = (doc.at(&["spec", "resourceAttributes"]), doc.at(&["spec", "nonResourceAttributes"]));
    let decision = match (resource, path) {
        (Some(asked), None) => {
            let word = |field: &str| Text::from(asked.str_at(&[field]));
            let resource = ResourceType::new(word("group"), word("version"), word("resource"));
            let target =
                Target { resource, subresource: word("subresource"), namespace: word("namespace"), name: word("name") };
            let verb = asked.str_at(&["verb"]);
            let attributes = Attributes { caller: subject, verb, subject: Subject::Resource(&target), fields: None };
            server.authorizer.authorize(&attributes).await
        }
        (None, Some(asked)) => {
            let attributes = Attributes::on_path(subject, asked.str_at(&["verb"]), asked.str_at(&["path"]));
            server.authorizer.authorize(&attributes).await
        }
        _ => {
            let detail = "exactly one of nonResourceAttributes or resourceAttributes must be specified";
            let error = FieldError::invalid("spec.resourceAttributes", "", detail);
            return Err(ApiError::invalid(&info.kind, &info.group, "", &[error]));
        }
    };
    let (allowed, denied, reason) = match decision {
        Decision::Allow => (true, false, String::new()),
        Decision::Deny(reason) => (false, true, reason),
        Decision::NoOpinion(reason) => (false, false, reason),
    };
    let mut status = doc!({"allowed": allowed});
    if denied {
        status.set_at(&["denied"], true.into());
    }
    if !reason.is_empty() {
        status.set_at(&["reason"], reason.into());
    }
    Ok(status)
}

/// What the caller may do in a namespace, as far as rules say it.
fn rules(server: &Inner, caller: &Caller, doc: &Doc) -> Doc {
    let rules = server.rbac.rules_of(caller, doc.str_at(&["spec", "namespace"]));
    let (paths, resources): (Vec<PolicyRule>, Vec<PolicyRule>) =
        rules.into_iter().partition(|rule| rule.non_resource_urls.as_ref().is_some_and(|urls| !urls.is_empty()));
    let list = |items: &Option<Vec<String>>| Doc::from(items.clone().unwrap_or_default());
    let resource = |rule: &PolicyRule| {
        let mut entry = doc!({
            "verbs": rule.verbs.clone(), "apiGroups": list(&rule.api_groups), "resources": list(&rule.resources)
        });
        if rule.resource_names.as_ref().is_some_and(|names| !names.is_empty()) {
            entry.set_at(&["resourceNames"], list(&rule.resource_names));
        }
        entry
    };
    let path =
        |rule: &PolicyRule| doc!({"verbs": rule.verbs.clone(), "nonResourceURLs": list(&rule.non_resource_urls)});
    doc!({
        "resourceRules": Doc::Array(resources.iter().map(resource).collect()),
        "nonResourceRules": Doc::Array(paths.iter().map(path).collect()),
        "incomplete": false
    })
}

/// The status of a token review.
async fn token(server: &Inner, info: &ResourceInfo, doc: &Doc) -> ApiResult<Doc> {
    let token = doc.str_at(&["spec", "token"]);
    if token.is_empty() {
        return Err(ApiError::invalid(&info.kind, &info.group, "", &[FieldError::required("spec.token", "")]));
    }
    let audiences: Vec<String> = texts(doc.at(&["spec", "audiences"])).iter().map(Text::to_string).collect();
    Ok(match server.bearer_tokens.review(token, &audiences).await {
        Ok(Known { caller, audiences }) => {
            doc!({"authenticated": true, "user": user_info(&caller), "audiences": Doc::from(audiences)})
        }
        Err(why) if why.code() == 401 => {
            doc!({"user": {}, "error": "the token is none of this cluster's, has expired, or is no longer bound"})
        }
        Err(why) => doc!({"user": {}, "error": why.to_string()}),
    })
}
