//! `ResourceQuota`: what is made in a namespace is charged to its quotas first, and refused if they have no room.
//!
//! The charge is written to the quota's status before the object is, and only if nobody else charged in between: what
//! is used never exceeds what is hard, however many write at once. What was charged and not made after all, and what
//! went, the quota controller takes back.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_core::{
    doc,
    doc::Doc,
    env::Env,
    object::{Object, ObjectKey},
    quota::{self, Amounts, is_in_scope, unsaid, usage},
    request::Verb,
    status::{ApiError, ApiResult},
};

use super::{Admission, AdmissionRequest};

/// How often a charge is tried again when others charge at the same time.
const ATTEMPTS: usize = 64;

/// The plugin.
pub struct ResourceQuota {
    /// Tells when pods are over.
    pub env: Env,
}

#[async_trait]
impl Admission for ResourceQuota {
    fn name(&self) -> &'static str {
        "ResourceQuota"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let info = request.info;
        let part = request.target.subresource.as_str();
        if !info.is_namespaced() || info.plural == "events" || !info.is_stored() {
            return false;
        }
        match request.verb {
            Verb::Create => part.is_empty(),
            Verb::Update if part.is_empty() => {
                info.group.is_empty() && matches!(info.plural.as_str(), "services" | "persistentvolumeclaims")
            }
            Verb::Update => part == "resize",
            _ => false,
        }
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(object) = request.object() else { return Ok(()) };
        for quota in quotas(request) {
            self.charge(request, object, quota).await?;
        }
        Ok(())
    }
}

/// The quotas of the namespace, by name.
fn quotas(request: &AdmissionRequest<'_>) -> Vec<Arc<Object>> {
    let all = request.cluster.all("", "v1", "resourcequotas").into_iter();
    all.filter(|quota| quota.meta.namespace == request.target.namespace).collect()
}

/// What a quota says: its bounds and what is used, as its status has them.
struct State {
    name: String,
    spec: Doc,
    hard: Amounts,
    used: Amounts,
}

impl State {
    fn of(quota: &Doc) -> Self {
        Self {
            name: quota.str_at(&["metadata", "name"]).to_owned(),
            spec: quota.get("spec").cloned().unwrap_or_default(),
            hard: quota::amounts(quota.at(&["status", "hard"])),
            used: quota::amounts(quota.at(&["status", "used"])),
        }
    }
}

impl ResourceQuota {
    async fn charge(&self, request: &AdmissionRequest<'_>, object: &Doc, quota: Arc<Object>) -> ApiResult<()> {
        let key = quota.meta.key();
        let mut found = Doc::parse(&quota.to_json()).map_err(|why| ApiError::internal(format!("quota: {why}")))?;
        for _ in 0..ATTEMPTS {
            let state = State::of(&found);
            let Some(charged) = self.charged(request, object, &state)? else { return Ok(()) };
            if request.options.dry_run {
                return Ok(());
            }
            let mut new = found.clone();
            for (name, amount) in charged {
                new.set_at(&["status", "used", &name], doc!(amount.to_string()));
            }
            match request.cluster.write_status("", "v1", "resourcequotas", new).await {
                Ok(()) => return Ok(()),
                Err(error) if error.is_not_found() => return Ok(()),
                Err(error) if error.is_conflict() => match self.newest(request, &key).await? {
                    Some(newest) => found = newest,
                    None => return Ok(()),
                },
                Err(error) => return Err(error),
            }
        }
        let name = &key.name;
        Err(ApiError::conflict("resourcequotas", "", name, "it is charged by others again and again; try again"))
    }

    async fn newest(&self, request: &AdmissionRequest<'_>, key: &ObjectKey) -> ApiResult<Option<Doc>> {
        let found = request.cluster.fresh("", "v1", "resourcequotas", key).await?;
        let read = |object: Arc<Object>| {
            Doc::parse(&object.to_json()).map_err(|why| ApiError::internal(format!("quota: {why}")))
        };
        found.map(read).transpose()
    }

    /// What is used after the write, of what it takes more of; `None` if it takes nothing. 403 if there is no room.
    fn charged(&self, request: &AdmissionRequest<'_>, object: &Doc, state: &State) -> ApiResult<Option<Amounts>> {
        let (group, plural) = (request.info.group.as_str(), request.info.plural.as_str());
        let now = self.env.now();
        let counts = |doc: &Doc| match is_in_scope(&state.spec, group, plural, doc) {
            true => usage(group, plural, doc, now),
            false => Amounts::new(),
        };
        let (after, before) = (counts(object), request.old.map(counts).unwrap_or_default());
        let bounds = quota::amounts(state.spec.get("hard"));
        if request.verb == Verb::Create && plural == "pods" && group.is_empty() && !after.is_empty() {
            let missing = unsaid(object, &bounds);
            if !missing.is_empty() {
                let why = format!("failed quota: {}: must specify {}", state.name, missing.join("; "));
                return Err(request.forbidden(why));
            }
        }
        let more = |(name, amount): (String, quota::Quantity)| {
            let more = amount - before.get(&name).copied().unwrap_or_default();
            (bounds.contains_key(&name) && more > quota::Quantity::ZERO).then_some((name, more))
        };
        let delta: Amounts = after.into_iter().filter_map(more).collect();
        if delta.is_empty() {
            return Ok(None);
        }
        let is_unknown = |name: &&String| !state.hard.contains_key(*name) || !state.used.contains_key(*name);
        let unknown: Vec<&str> = delta.keys().filter(is_unknown).map(String::as_str).collect();
        if !unknown.is_empty() {
            let why = format!("status unknown for quota: {}, resources: {}", state.name, unknown.join(","));
            return Err(request.forbidden(why));
        }
        self.check_room(request, state, &delta)?;
        let sum = |(name, more): (String, quota::Quantity)| {
            let used = state.used.get(&name).copied().unwrap_or_default();
            (name, used + more)
        };
        Ok(Some(delta.into_iter().map(sum).collect()))
    }

    fn check_room(&self, request: &AdmissionRequest<'_>, state: &State, delta: &Amounts) -> ApiResult<()> {
        let of = |amounts: &Amounts, name: &str| amounts.get(name).copied().unwrap_or_default();
        let exceeds = |name: &&String| of(&state.used, name) + of(delta, name) > of(&state.hard, name);
        let full: Vec<&String> = delta.keys().filter(exceeds).collect();
        if full.is_empty() {
            return Ok(());
        }
        let listed = |amounts: &Amounts| {
            full.iter().map(|name| format!("{name}={}", of(amounts, name))).collect::<Vec<_>>().join(",")
        };
        Err(request.forbidden(format!(
            "exceeded quota: {}, requested: {}, used: {}, limited: {}",
            state.name,
            listed(delta),
            listed(&state.used),
            listed(&state.hard)
        )))
    }
}
