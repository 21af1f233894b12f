//! Evicting a pod: a deletion that asks the pod's disruption budget first.

use std::sync::Arc;

use k8s_core::{
    apply::{self, Operation as How},
    doc,
    doc::Doc,
    object::Object,
    path::read_delete_options,
    request::{ApiRequest, ApiResponse, Options, ResourceType, ResponseBody, Target, Verb},
    status::{ApiError, ApiResult, Reason, Status},
    structure::Mode,
};

use super::{
    budget::{guards, spares_unready, spend},
    create::Outcome,
    operation::{Operation, accept_type, metadata},
    status::set_condition,
    time::rfc3339,
    update::{Base, Part},
};

/// How often an eviction is decided again when the pod changes in the meantime.
const ATTEMPTS: usize = 8;
const BUDGETS: [&str; 3] = ["policy", "v1", "poddisruptionbudgets"];

/// On which ground a pod may go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ground {
    /// A budget was spent, or none guards it.
    Granted,
    /// As it is now, it serves nobody: it must not have changed when it goes.
    Idle,
}

impl Operation<'_> {
    /// Deletes the target pod as an `Eviction` says, if its disruption budget allows; 429 if not.
    pub async fn evict(&mut self, mut eviction: Doc) -> ApiResult<ApiResponse> {
        // Older clients send the first version still, and it says the same; upstream takes both.
        if eviction.str_at(&["apiVersion"]) == "policy/v1beta1" {
            eviction.set_at(&["apiVersion"], "policy/v1".into());
        }
        accept_type(&mut eviction, &ResourceType::new("policy", "v1", "evictions"), "Eviction")?;
        let schema = self.server.kinds.now().schemas().schema("policy", "v1", "Eviction");
        let schema = schema.ok_or_else(|| ApiError::internal("the kind Eviction has no schema"))?;
        self.check(&schema, &mut eviction, Mode::Whole)?;
        let name = metadata(&eviction, "name");
        if !name.is_empty() && *name != *self.target().name {
            return Err(ApiError::bad_request(format!("name in URL does not match name in Eviction object: {name}")));
        }
        let eviction = self.admit_eviction(eviction).await?;
        let mut options = Options { dry_run: self.options().dry_run, ..Options::default() };
        if let Some(wanted) = eviction.get("deleteOptions") {
            read_delete_options(&mut options, &wanted.to_json())?;
        }
        self.evict_with(options).await?;
        Ok(ApiResponse::created(ResponseBody::Status(Status { code: 201, ..Status::success() })))
    }

    /// Lets plugins judge the eviction, with the pod that it is about. What follows from it is judged with it.
    async fn admit_eviction(&mut self, eviction: Doc) -> ApiResult<Doc> {
        let (target, pod) = (self.target().clone(), Base::new(self.existing().await?)?.doc);
        let mut request = self.admission_request(Verb::Create, &target).with(Some(&pod), Some(eviction));
        self.server.admission.admit(&mut request).await?;
        self.server.admission.validate(&request).await?;
        self.warnings.append(&mut request.take_warnings());
        Ok(request.into_object().unwrap_or_default())
    }

    async fn evict_with(&mut self, options: Options) -> ApiResult<()> {
        let mut target = self.target().clone();
        target.subresource = Default::default();
        let fence = self.request.fence.clone();
        let request = ApiRequest { verb: Verb::Delete, target, options, fence, ..ApiRequest::default() };
        for _ in 0..ATTEMPTS {
            let mut deletion = Operation { request: &request, warnings: Vec::new(), behind: true, ..*self };
            let base = Base::new(deletion.existing().await?)?;
            deletion.check_preconditions(&base.object)?;
            let ground = deletion.ground(&base).await?;
            match deletion.go(&base, ground).await {
                Err(error) if error.is_conflict() => {}
                Err(error) => return Err(error),
                Ok(()) => {
                    self.warnings.append(&mut deletion.warnings);
                    return Ok(());
                }
            }
        }
        Err(self.modified())
    }

    /// On which ground the pod may go; 429 if on none.
    async fn ground(&self, base: &Base) -> ApiResult<Ground> {
        let phase = base.doc.str_at(&["status", "phase"]);
        if matches!(phase, "Succeeded" | "Failed" | "Pending") || base.object.meta.deleted.is_some() {
            return Ok(Ground::Idle);
        }
        // A budget that was answered for must count.
        self.server.cache.wait_for_head().await?;
        let [group, version, plural] = BUDGETS;
        let mut budgets = self.server.cluster.all(group, version, plural);
        budgets.retain(|budget| guards(budget, &base.object.meta));
        let budget = match budgets.as_slice() {
            [] => return Ok(Ground::Granted),
            [budget] => Base::new(budget.clone())?,
            _ => {
                let why =
                    "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.";
                return Err(ApiError::new(500, Reason::InternalError, why));
            }
        };
        if !is_ready(&base.doc) && spares_unready(&budget.doc) {
            return Ok(Ground::Idle);
        }
        self.spend_budget(&budget.object).await?;
        Ok(Ground::Granted)
    }

    async fn spend_budget(&self, budget: &Arc<Object>) -> ApiResult<()> {
        let [group, version, plural] = BUDGETS;
        let resource = ResourceType::new(group, version, plural);
        let registry = self.server.kinds.now();
        let info = registry.served(&resource)?;
        let kind = self.server.cache.kind(&resource).ok_or_else(|| ApiError::internal("budgets are not kept"))?;
        let target = Target::one(resource, budget.meta.namespace.clone(), budget.meta.name.clone());
        let request = self.status_request(target);
        let mut spending =
            Operation { request: &request, info, kind: &kind, warnings: Vec::new(), behind: true, ..*self };
        let (manager, now, pod) = (spending.manager(How::Update), self.server.env.now(), &self.target().name);
        let spent = spending
            .change(
                Part::Status,
                |base, _| spend(&base.doc, pod, now).map(unconditional),
                |old, new, this| apply::track_update(Some(old), new, &this.kind.schema, &manager),
            )
            .await;
        match spent {
            // A budget that went in the meantime forbids nothing.
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Tells the pod why it goes, and deletes it. A conflict if it may no longer go on this ground.
    async fn go(&mut self, base: &Base, ground: Ground) -> ApiResult<()> {
        let mut options = self.request.options.clone();
        let is_told = base.object.meta.deleted.is_some() || options.dry_run;
        let seen = base.object.revision();
        let revision = if is_told { seen } else { self.tell_why(seen, ground).await? };
        if ground == Ground::Idle || options.precondition_version.is_some() {
            options.precondition_version = Some(revision);
        }
        let request = ApiRequest { options, ..self.request.clone() };
        let mut deletion = Operation { request: &request, warnings: Vec::new(), behind: true, ..*self };
        deletion.delete().await?;
        let mut warnings = deletion.warnings;
        self.warnings.append(&mut warnings);
        Ok(())
    }

    /// Sets the condition `DisruptionTarget`; answers the pod's revision after that.
    async fn tell_why(&self, seen: u64, ground: Ground) -> ApiResult<u64> {
        let request = self.status_request(self.target().clone());
        let mut telling = Operation { request: &request, warnings: Vec::new(), behind: true, ..*self };
        let (manager, now) = (telling.manager(How::Update), rfc3339(self.server.env.now()));
        let told = telling
            .change(
                Part::Status,
                |base, this| {
                    if ground == Ground::Idle && base.object.revision() != seen {
                        return Err(this.modified());
                    }
                    let mut new = base.doc.clone();
                    let condition = doc!({
                        "type": "DisruptionTarget", "status": "True", "reason": "EvictionByEvictionAPI",
                        "message": "Eviction API: evicting", "lastTransitionTime": now.as_str()
                    });
                    set_condition(&mut new, condition);
                    Ok(unconditional(new))
                },
                |old, new, this| apply::track_update(Some(old), new, &this.kind.schema, &manager),
            )
            .await?;
        Ok(match told {
            Outcome::Done(object) => object.revision(),
            Outcome::WouldBe(_) => seen,
        })
    }

    fn status_request(&self, target: Target) -> ApiRequest {
        let options = Options { dry_run: self.options().dry_run, ..Options::default() };
        let target = target.subresource("status");
        ApiRequest { verb: Verb::Update, target, options, fence: self.request.fence.clone(), ..ApiRequest::default() }
    }
}

/// A change of whatever the object is by then.
fn unconditional(mut doc: Doc) -> Doc {
    doc.remove_at(&["metadata", "resourceVersion"]);
    doc
}

fn is_ready(pod: &Doc) -> bool {
    let conditions = pod.at(&["status", "conditions"]).map_or(&[][..], Doc::items);
    conditions.iter().any(|c| c.str_at(&["type"]) == "Ready" && c.str_at(&["status"]) == "True")
}
