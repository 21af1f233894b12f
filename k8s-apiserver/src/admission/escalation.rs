//! Against escalation: nobody gives away rights that they do not hold.
//!
//! Upstream keeps this in the storage of the RBAC kinds. A caller may write a role only with rules that they hold
//! themselves (or with the verb `escalate` on it), and a binding only to such a role (or with the verb `bind`).

use std::sync::Arc;

use async_trait::async_trait;
use k8s_core::{
    api::api::rbac::v1::{PolicyRule, RoleRef},
    doc::Doc,
    request::{ResourceType, Target, Verb},
    status::{ApiError, ApiResult},
};

use super::{Admission, AdmissionRequest};
use crate::auth::{
    Attributes, Authorizer, Decision, Subject,
    rbac::{GROUP, Rbac},
};

/// The group that holds every right by definition.
const MASTERS: &str = "system:masters";

/// The check.
pub struct Escalation {
    /// The rules of everybody.
    pub rbac: Arc<Rbac>,
}

#[async_trait]
impl Admission for Escalation {
    fn name(&self) -> &'static str {
        "RBACEscalation"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.info.group == GROUP
            && matches!(request.verb, Verb::Create | Verb::Update)
            && !request.caller.is_in(MASTERS)
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(object) = request.object() else { return Ok(()) };
        let is_binding = request.info.plural.ends_with("bindings");
        // A change of labels is no change of rights.
        let said = if is_binding { &["roleRef", "subjects"][..] } else { &["rules", "aggregationRule"] };
        if request.old.is_some_and(|old| said.iter().all(|field| old.get(field) == object.get(field))) {
            return Ok(());
        }
        if is_binding { self.check_binding(request, object).await } else { self.check_role(request, object).await }
    }
}

impl Escalation {
    async fn check_role(&self, request: &AdmissionRequest<'_>, role: &Doc) -> ApiResult<()> {
        let resource = ResourceType::new(GROUP, "v1", request.info.plural.clone());
        if self.may(request, "escalate", resource, &request.target.name).await {
            return Ok(());
        }
        let mut rules = rules(role)?;
        if role.get("aggregationRule").is_some_and(|rule| !rule.is_null()) {
            // What it will collect cannot be known: only who holds everything may say so.
            let all = || Some(vec!["*".to_owned()]);
            rules.push(PolicyRule {
                verbs: vec!["*".into()],
                api_groups: all(),
                resources: all(),
                ..Default::default()
            });
            rules.push(PolicyRule { verbs: vec!["*".into()], non_resource_urls: all(), ..Default::default() });
        }
        self.check(request, &rules)
    }

    async fn check_binding(&self, request: &AdmissionRequest<'_>, binding: &Doc) -> ApiResult<()> {
        let role: RoleRef = match binding.get("roleRef").map(Doc::deserialize) {
            Some(Ok(role)) => role,
            _ => return Err(ApiError::bad_request("roleRef: it names no role")),
        };
        let plural = if role.kind == "ClusterRole" { "clusterroles" } else { "roles" };
        if self.may(request, "bind", ResourceType::new(GROUP, "v1", plural), &role.name).await {
            return Ok(());
        }
        let rules = self.rbac.rules_of_role(&role, &request.target.namespace);
        let rules = rules.ok_or_else(|| ApiError::not_found(plural, GROUP, &role.name))?;
        self.check(request, &rules)
    }

    async fn may(&self, request: &AdmissionRequest<'_>, verb: &str, resource: ResourceType, name: &str) -> bool {
        let target = Target::one(resource, request.target.namespace.clone(), name);
        let subject = Subject::Resource(&target);
        let attributes = Attributes { caller: request.caller, verb, subject, fields: None };
        self.rbac.authorize(&attributes).await == Decision::Allow
    }

    fn check(&self, request: &AdmissionRequest<'_>, rules: &[PolicyRule]) -> ApiResult<()> {
        let missing = self.rbac.missing(request.caller, &request.target.namespace, rules);
        if missing.is_empty() {
            return Ok(());
        }
        let shown: Vec<String> = missing.iter().take(20).map(describe).collect();
        Err(request.forbidden(format!(
            "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
            request.caller.name,
            request.caller.groups,
            shown.join("\n")
        )))
    }
}

fn rules(role: &Doc) -> ApiResult<Vec<PolicyRule>> {
    let Some(rules) = role.get("rules").filter(|rules| !rules.is_null()) else { return Ok(Vec::new()) };
    rules.deserialize().map_err(|why| ApiError::bad_request(format!("rules: {why}")))
}

fn describe(rule: &PolicyRule) -> String {
    let mut parts = Vec::new();
    for (name, list) in [
        ("APIGroups", &rule.api_groups),
        ("Resources", &rule.resources),
        ("ResourceNames", &rule.resource_names),
        ("NonResourceURLs", &rule.non_resource_urls),
    ] {
        if let Some(list) = list.as_ref().filter(|list| !list.is_empty()) {
            parts.push(format!("{name}:{list:?}"));
        }
    }
    parts.push(format!("Verbs:{:?}", rule.verbs));
    format!("{{{}}}", parts.join(", "))
}
