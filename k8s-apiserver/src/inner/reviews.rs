//! Reviews: questions about who one is and what one may; and the checks that keep anyone from giving away what they
//! do not have.

use std::sync::Arc;

use k8s_core::{
    api::api::rbac::v1::{PolicyRule, RoleRef},
    doc::Doc,
    registry::ResourceInfo,
    request::{ApiRequest, ApiResponse, Caller, RequestBody, ResourceType, ResponseBody, Target},
    selector::FieldSelector,
    status::{ApiError, ApiResult},
};
use serde_json::{Value, json};

use super::{Shared, write::answer};
use crate::auth::{Attributes, Decision, Subject, rbac};

impl Shared {
    pub(super) async fn review(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        request: ApiRequest,
    ) -> ApiResult<ApiResponse> {
        let RequestBody::Doc(mut doc) = request.body else { return Err(ApiError::bad_request("review: the body must be an object")) };
        let status = match info.kind.as_str() {
            "SelfSubjectReview" => json!({"userInfo": user_info(caller)}),
            "TokenReview" => self.token_review(&doc)?,
            "SelfSubjectAccessReview" => self.access_review(caller, &doc).await?,
            "SubjectAccessReview" | "LocalSubjectAccessReview" => self.access_review(&reviewed(&doc)?, &doc).await?,
            "SelfSubjectRulesReview" => self.rules_review(caller, doc.str_at(&["spec", "namespace"]))?,
            other => return Err(ApiError::not_implemented(other)),
        };
        doc.set_at(&["apiVersion"], Doc::String(info.api_version().into()));
        doc.set_at(&["kind"], Doc::String(info.kind.clone()));
        doc.set_at(&["status"], Doc::from_serialize(&status).map_err(ApiError::internal)?);
        if doc.get("metadata").is_none() {
            doc.set_at(&["metadata"], Doc::object());
        }
        answer(201, ResponseBody::Doc(doc), Vec::new())
    }

    fn token_review(&self, doc: &Doc) -> ApiResult<Value> {
        let audiences = doc.at(&["spec", "audiences"]).map(Doc::items).unwrap_or_default();
        let audiences: Vec<String> = audiences.iter().filter_map(Doc::as_str).map(str::to_owned).collect();
        let found = self.issuer()?.review(doc.str_at(&["spec", "token"]), &audiences);
        Ok(match found {
            Some((caller, audiences)) => {
                json!({"authenticated": true, "user": user_info(&caller), "audiences": audiences})
            }
            None => json!({"authenticated": false, "error": "the token is not valid"}),
        })
    }

    async fn access_review(&self, caller: &Caller, doc: &Doc) -> ApiResult<Value> {
        let resource = doc.at(&["spec", "resourceAttributes"]);
        let path = doc.at(&["spec", "nonResourceAttributes"]);
        let target;
        let fields = FieldSelector::default();
        let (verb, subject) = match (resource, path) {
            (Some(resource), None) => {
                let text = |key: &str| resource.str_at(&[key]);
                let kind = ResourceType::new(text("group"), text("version"), text("resource"));
                target = Target::one(kind, text("namespace"), text("name")).subresource(text("subresource"));
                (text("verb"), Subject::Resource(&target))
            }
            (None, Some(path)) => (path.str_at(&["verb"]), Subject::Path(path.str_at(&["path"]))),
            _ => return Err(ApiError::bad_request("spec: exactly one of resourceAttributes and nonResourceAttributes is needed")),
        };
        let attributes = Attributes { caller, verb, subject, fields: Some(&fields) };
        Ok(match self.authorizer.authorize(&attributes).await {
            Decision::Allow => json!({"allowed": true}),
            Decision::Deny(reason) => json!({"allowed": false, "denied": true, "reason": reason}),
            Decision::NoOpinion(reason) => json!({"allowed": false, "reason": reason}),
        })
    }

    fn rules_review(&self, caller: &Caller, namespace: &str) -> ApiResult<Value> {
        let rules = self.rbac.rules_of(caller, namespace);
        let (paths, resources): (Vec<PolicyRule>, Vec<PolicyRule>) =
            rules.into_iter().partition(|rule| rule.non_resource_urls.as_ref().is_some_and(|urls| !urls.is_empty()));
        Ok(json!({"resourceRules": resources, "nonResourceRules": paths, "incomplete": false}))
    }

    /// Nobody gives away rights that they do not have: roles need `escalate`, bindings need `bind`, for more.
    pub(super) fn may_grant(
        &self,
        caller: &Caller,
        info: &ResourceInfo,
        namespace: &str,
        doc: &Doc,
        old: Option<&Doc>,
    ) -> ApiResult<()> {
        if info.group != rbac::GROUP || caller.is_in("system:masters") {
            return Ok(());
        }
        let path = if info.kind.ends_with("Binding") { "roleRef" } else { "rules" };
        if old.is_some_and(|old| old.get(path) == doc.get(path) && old.get("subjects") == doc.get("subjects")) {
            return Ok(());
        }
        let (wanted, special) = match info.kind.as_str() {
            "Role" | "ClusterRole" => {
                let rules: Vec<PolicyRule> = match doc.get("rules") {
                    Some(rules) => rules.deserialize().map_err(|why| ApiError::bad_request(format!("rules: {why}")))?,
                    None => Vec::new(),
                };
                (rules, "escalate")
            }
            _ => {
                let role: RoleRef = doc.get("roleRef").cloned().unwrap_or_default().deserialize()
                    .map_err(|why| ApiError::bad_request(format!("roleRef: {why}")))?;
                let rules = self.rbac.rules_of_role(&role, namespace);
                let Some(rules) = rules else {
                    return Err(ApiError::not_found(&format!("{}s", role.kind.to_lowercase()), rbac::GROUP, &role.name));
                };
                (rules, "bind")
            }
        };
        let missing = self.rbac.missing(caller, namespace, &wanted);
        if missing.is_empty() || self.holds(caller, special, info, namespace, doc) {
            return Ok(());
        }
        let name = doc.str_at(&["metadata", "name"]);
        let shown: Vec<String> = missing.iter().take(5).map(|rule| format!("{rule:?}")).collect();
        let why = format!("user {:?} is attempting to grant RBAC permissions not currently held: {}", caller.name, shown.join(", "));
        Err(ApiError::forbidden(&info.plural, &info.group, name, why))
    }

    /// Whether the caller holds the verb that allows giving away more.
    fn holds(&self, caller: &Caller, verb: &str, info: &ResourceInfo, namespace: &str, doc: &Doc) -> bool {
        let (plural, name) = match verb {
            "bind" => {
                let kind = doc.str_at(&["roleRef", "kind"]);
                (format!("{}s", kind.to_lowercase()), doc.str_at(&["roleRef", "name"]))
            }
            _ => (info.plural.to_string(), doc.str_at(&["metadata", "name"])),
        };
        let rule = PolicyRule {
            verbs: vec![verb.to_owned()],
            api_groups: Some(vec![rbac::GROUP.to_owned()]),
            resources: Some(vec![plural]),
            resource_names: Some(vec![name.to_owned()]),
            ..Default::default()
        };
        self.rbac.missing(caller, namespace, &[rule]).is_empty()
    }
}

/// Whom a `SubjectAccessReview` asks about.
fn reviewed(doc: &Doc) -> ApiResult<Caller> {
    let spec = doc.get("spec").cloned().unwrap_or_default();
    let groups = spec.get("groups").map(Doc::items).unwrap_or_default();
    let caller = Caller {
        name: spec.str_at(&["user"]).into(),
        uid: spec.str_at(&["uid"]).into(),
        groups: groups.iter().filter_map(Doc::as_str).map(Into::into).collect(),
        ..Caller::default()
    };
    if caller.name.is_empty() && caller.groups.is_empty() {
        return Err(ApiError::bad_request("spec: at least one of user and groups is needed"));
    }
    Ok(caller)
}

fn user_info(caller: &Caller) -> Value {
    let groups: Vec<&str> = caller.groups.iter().map(|group| group.as_str()).collect();
    let mut info = json!({"username": caller.name.as_str(), "groups": groups});
    if !caller.uid.is_empty() {
        info["uid"] = json!(caller.uid.as_str());
    }
    for (key, values) in &caller.extra {
        let values: Vec<&str> = values.iter().map(|value| value.as_str()).collect();
        info["extra"][key.as_str()] = json!(values);
    }
    info
}
