//! Deletion: at once, gracefully, or after finalizers.

use std::sync::Arc;

use k8s_core::{
    doc::Doc,
    object::Object,
    registry::ResourceInfo,
    request::{ApiRequest, ApiResponse, Caller, ObjectList, Propagation, ResponseBody, Target, Verb},
    status::{ApiError, ApiResult, Status, StatusDetails},
};

use super::{
    Shared,
    commit::{Refused, Write},
    write::{answer, parse, refused_error, seconds},
};
use crate::admission::AdmissionRequest;

const ATTEMPTS: usize = 8;
const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

impl Shared {
    pub(super) async fn delete(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        request: &ApiRequest,
    ) -> ApiResult<ApiResponse> {
        let target = &request.target;
        let key = info.storage_key(&target.namespace, &target.name);
        for attempt in 0..ATTEMPTS {
            if attempt > 0 || self.cached(info, target).is_none() || request.options.precondition_version.is_some() {
                self.cache.wait_for_head().await?;
            }
            let old = self.cached(info, target);
            let old = old.ok_or_else(|| ApiError::not_found(&info.plural, &info.group, &target.name))?;
            check_preconditions(info, request, &old)?;
            let admission = AdmissionRequest {
                caller,
                verb: Verb::Delete,
                info,
                target,
                options: &request.options,
                old: Some(&old),
                reads: &self.reads,
            };
            for plugin in &self.admission {
                plugin.validate(&admission, None).await?;
            }
            match self.delete_once(info, request, &old, key.clone()).await {
                Ok(body) => return answer(200, body, Vec::new()),
                Err(Refused::Changed) => {}
                Err(refused) => return Err(refused_error(info, target, refused)),
            }
        }
        Err(ApiError::modified(&info.plural, &info.group, &target.name))
    }

    async fn delete_once(
        &self,
        info: &Arc<ResourceInfo>,
        request: &ApiRequest,
        old: &Arc<Object>,
        key: String,
    ) -> Result<ResponseBody, Refused> {
        let mut doc = parse(old)?;
        let rules = self.rules(info)?;
        let asked = request.options.grace_period_seconds;
        let mut grace = rules.strategy.grace_period(&doc, asked).max(0);
        set_finalizers(&mut doc, request.options.propagation);
        let waits = waits_for_finalizers(info, &doc);
        if old.meta.deleted.is_some() {
            // Already on its way: the grace period may only shrink.
            let known = doc.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Doc::as_i64).unwrap_or(0);
            grace = grace.min(known);
            if grace == known && (waits || known > 0) && asked != Some(0) {
                return Ok(ResponseBody::Object(old.clone()));
            }
        }
        if request.options.dry_run {
            return Ok(ResponseBody::Object(old.clone()));
        }
        let fence = request.fence.as_ref();
        if grace == 0 && !waits {
            let extra = self.service_network.release(info, &doc);
            self.commit(Write { info, key, old: Some(old), doc: None, fence, extra }).await?;
            return Ok(ResponseBody::Status(done(info, old)));
        }
        if old.meta.deleted.is_none() {
            let at = self.env.now().checked_add(std::time::Duration::from_secs(grace as u64)).unwrap_or(self.env.now());
            doc.set_at(&["metadata", "deletionTimestamp"], Doc::String(seconds(at).into()));
            let generation = doc.at(&["metadata", "generation"]).and_then(Doc::as_i64);
            if let Some(generation) = generation {
                doc.set_at(&["metadata", "generation"], Doc::from(generation + 1));
            }
        }
        doc.set_at(&["metadata", "deletionGracePeriodSeconds"], Doc::from(grace));
        if info.kind == "Namespace" {
            doc.set_at(&["status", "phase"], Doc::String("Terminating".into()));
        }
        let extra = k8s_store::Transaction::new();
        let object = self.commit(Write { info, key, old: Some(old), doc: Some(&mut doc), fence, extra }).await?;
        Ok(ResponseBody::Object(object))
    }

    pub(super) async fn delete_collection(
        &self,
        caller: &Caller,
        info: &Arc<ResourceInfo>,
        request: &ApiRequest,
    ) -> ApiResult<ApiResponse> {
        let listing = ApiRequest { verb: Verb::List, ..request.clone() };
        let ResponseBody::List(list) = self.list(info, &listing).await?.body else {
            return Err(ApiError::internal("a list was expected"));
        };
        for object in &list.items {
            let target = Target { name: object.meta.name.clone(), namespace: object.meta.namespace.clone(), ..request.target.clone() };
            let one = ApiRequest { verb: Verb::Delete, target, ..request.clone() };
            match self.delete(caller, info, &one).await {
                Err(error) if !error.is_not_found() => return Err(error),
                _ => {}
            }
        }
        let list = ObjectList { continue_token: None, remaining: None, ..list };
        answer(200, ResponseBody::List(list), Vec::new())
    }
}

fn check_preconditions(info: &ResourceInfo, request: &ApiRequest, old: &Object) -> ApiResult<()> {
    let options = &request.options;
    if let Some(uid) = options.precondition_uid.as_ref().filter(|uid| **uid != old.meta.uid) {
        let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", old.meta.uid);
        return Err(ApiError::conflict(&info.plural, &info.group, &old.meta.name, why));
    }
    if let Some(version) = options.precondition_version.filter(|version| *version != old.revision()) {
        let have = old.revision();
        let why = format!("Precondition failed: ResourceVersion in precondition: {version}, ResourceVersion in object meta: {have}");
        return Err(ApiError::conflict(&info.plural, &info.group, &old.meta.name, why));
    }
    Ok(())
}

/// What happens to the dependents is said by a finalizer that the garbage collector takes off.
fn set_finalizers(doc: &mut Doc, propagation: Option<Propagation>) {
    let wanted = match propagation {
        Some(Propagation::Foreground) => Some(FOREGROUND),
        Some(Propagation::Orphan) => Some(ORPHAN),
        Some(Propagation::Background) => None,
        None => return,
    };
    let have = doc.at(&["metadata", "finalizers"]).map(Doc::items).unwrap_or_default();
    let mut kept: Vec<Doc> =
        have.iter().filter(|name| !matches!(name.as_str(), Some(FOREGROUND | ORPHAN))).cloned().collect();
    kept.extend(wanted.map(|name| Doc::String(name.into())));
    if kept.is_empty() {
        doc.remove_at(&["metadata", "finalizers"]);
    } else {
        doc.set_at(&["metadata", "finalizers"], Doc::Array(kept));
    }
}

fn waits_for_finalizers(info: &ResourceInfo, doc: &Doc) -> bool {
    let has = |path: &[&str]| doc.at(path).is_some_and(|list| !list.items().is_empty());
    has(&["metadata", "finalizers"]) || (info.kind == "Namespace" && has(&["spec", "finalizers"]))
}

/// What a finished deletion answers.
fn done(info: &ResourceInfo, old: &Object) -> Status {
    let details = StatusDetails {
        name: old.meta.name.to_string(),
        group: info.group.to_string(),
        kind: info.plural.to_string(),
        uid: old.meta.uid.to_string(),
        ..Default::default()
    };
    Status { details: Some(details), ..Status::success() }
}
