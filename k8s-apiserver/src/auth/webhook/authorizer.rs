//! Permissions that another server knows: `SubjectAccessReview` of version v1.

use std::time::Duration;

use async_trait::async_trait;
use k8s_core::{
    doc,
    doc::{Doc, Map},
    request::Caller,
    selector::FieldSelector,
};
use parking_lot::Mutex;

use super::{Reviewer, kept::Kept};
use crate::auth::{Attributes, Authorizer, Decision, Subject};

/// Questions that are longer are asked every time, so that nobody fills the memory with them.
const MAX_QUESTION_BYTES: usize = 10_000;

/// What a webhook that cannot be asked means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailurePolicy {
    /// The next authorizer is asked.
    NoOpinion,
    /// Nobody may.
    Deny,
}

/// Lets another server decide.
pub struct AccessWebhook {
    reviewer: Reviewer,
    /// How long a yes is kept.
    authorized: Duration,
    /// How long anything else is kept.
    unauthorized: Duration,
    on_failure: FailurePolicy,
    kept: Mutex<Kept<Decision>>,
}

impl AccessWebhook {
    /// Asks `reviewer`; keeps a yes for `authorized`, and anything else for `unauthorized`. Failures are not kept.
    pub fn new(reviewer: Reviewer, authorized: Duration, unauthorized: Duration, on_failure: FailurePolicy) -> Self {
        Self { reviewer, authorized, unauthorized, on_failure, kept: Mutex::default() }
    }
}

#[async_trait]
impl Authorizer for AccessWebhook {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let spec = spec(attributes);
        let question = spec.to_json();
        let now = self.reviewer.env.monotonic();
        if let Some(decision) = self.kept.lock().get(&question, now) {
            return decision;
        }
        let review = doc!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": spec
        });
        let decision = match self.reviewer.review(&review).await {
            Ok(status) => decision(&status),
            Err(why) => {
                tracing::warn!(%why, "the authorization webhook could not be asked");
                return match self.on_failure {
                    FailurePolicy::NoOpinion => Decision::NoOpinion(String::new()),
                    FailurePolicy::Deny => Decision::Deny(why.to_string()),
                };
            }
        };
        if question.len() <= MAX_QUESTION_BYTES {
            let ttl = if decision == Decision::Allow { self.authorized } else { self.unauthorized };
            let now = self.reviewer.env.monotonic();
            self.kept.lock().keep(question, now, now + ttl, decision.clone());
        }
        decision
    }
}

fn decision(status: &Doc) -> Decision {
    let says = |field: &str| status.get(field).and_then(Doc::as_bool) == Some(true);
    let reason = status.str_at(&["reason"]).to_owned();
    match (says("allowed"), says("denied")) {
        (true, false) => Decision::Allow,
        (false, true) => Decision::Deny(reason),
        (false, false) => Decision::NoOpinion(reason),
        (true, true) => Decision::Deny("the webhook both allowed and denied it".into()),
    }
}

fn spec(attributes: &Attributes<'_>) -> Doc {
    let Caller { name, uid, groups, extra, .. } = attributes.caller;
    let mut spec = Map::new();
    let mut set = |field: &str, value: Doc| {
        spec.insert(field, value);
    };
    match attributes.subject {
        Subject::Path(path) => set("nonResourceAttributes", doc!({"path": path, "verb": attributes.verb})),
        Subject::Resource(target) => {
            let resource = &target.resource;
            let mut asked = Map::new();
            for (field, value) in [
                ("namespace", target.namespace.as_str()),
                ("verb", attributes.verb),
                ("group", resource.group.as_str()),
                ("version", resource.version.as_str()),
                ("resource", resource.plural.as_str()),
                ("subresource", target.subresource.as_str()),
                ("name", target.name.as_str()),
            ] {
                if !value.is_empty() {
                    asked.insert(field, value.into());
                }
            }
            if let Some(selector) = attributes.fields.and_then(field_selector) {
                asked.insert("fieldSelector", selector);
            }
            set("resourceAttributes", Doc::Object(asked));
        }
    }
    set("user", name.clone().into());
    if !groups.is_empty() {
        set("groups", Doc::from(groups.clone()));
    }
    if !uid.is_empty() {
        set("uid", uid.clone().into());
    }
    if !extra.is_empty() {
        let mut all = Map::new();
        extra.iter().for_each(|(key, values)| drop(all.insert(key.as_str(), Doc::from(values.clone()))));
        set("extra", Doc::Object(all));
    }
    Doc::Object(spec)
}

/// `requirements` of a field selector; `None` where nothing is asked for.
fn field_selector(selector: &FieldSelector) -> Option<Doc> {
    let terms: Vec<Doc> = selector
        .terms
        .iter()
        .map(|term| {
            let operator = if term.negated { "NotIn" } else { "In" };
            doc!({"key": term.path.as_str(), "operator": operator, "values": [term.value.as_str()]})
        })
        .collect();
    (!terms.is_empty()).then(|| doc!({"requirements": Doc::Array(terms)}))
}
