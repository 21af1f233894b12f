//! Deleting: at once, gracefully, or not until every finalizer has gone.

use k8s_core::{
    doc::{Doc, Text},
    env::Timestamp,
    object::Object,
    request::{ApiResponse, Options, Propagation, ResponseBody, Verb},
    status::{ApiResult, Status, StatusDetails},
    strategy::{Strategy, strategy_of},
};

use super::{
    commit::Refused,
    operation::{Operation, metadata, metadata_list},
    time::rfc3339,
    update::Base,
};
/// How often a deletion is tried again when others write at the same time.
const ATTEMPTS: usize = 16;
/// Waits for the garbage collector to let the dependents go.
const ORPHAN: &str = "orphan";
/// Waits for the garbage collector to delete the dependents.
const FOREGROUND: &str = "foregroundDeletion";

/// What a request to delete does to an object.
#[derive(Debug, PartialEq)]
enum Decision {
    /// Nothing: it is being deleted already, and not slower than asked.
    Pending,
    /// It becomes this, and goes later.
    Mark(Doc),
    /// It goes now.
    Remove,
}

impl Operation<'_> {
    /// Deletes the target.
    pub async fn delete(&mut self) -> ApiResult<ApiResponse> {
        for _ in 0..ATTEMPTS {
            let base = Base::new(self.existing().await?)?;
            self.check_preconditions(&base.object)?;
            match self.delete_base(&base).await {
                Ok(response) => return Ok(response),
                Err(Refused::Failed(error)) => return Err(error),
                Err(Refused::Changed) if self.options().precondition_version.is_some() => break,
                Err(Refused::Changed | Refused::Beside(_)) => {}
            }
        }
        Err(self.modified())
    }

    /// Whether the object is the one that the client means.
    pub(super) fn check_preconditions(&self, object: &Object) -> ApiResult<()> {
        let options = self.options();
        if let Some(uid) = options.precondition_uid.as_ref().filter(|uid| **uid != object.meta.uid) {
            let found = &object.meta.uid;
            let why = format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
            return Err(self.conflict(why));
        }
        let revision = object.revision();
        if let Some(wanted) = options.precondition_version.filter(|wanted| *wanted != revision) {
            return Err(self.conflict(format!(
                "Precondition failed: ResourceVersion in precondition: {wanted}, ResourceVersion in object meta: {revision}"
            )));
        }
        Ok(())
    }

    async fn delete_base(&mut self, base: &Base) -> Result<ApiResponse, Refused> {
        let target = self.target().clone();
        let admission = self.admission();
        let mut request = self.admission_request(Verb::Delete, &target).with(Some(&base.doc), None);
        admission.admit(&mut request).await?;
        admission.validate(&request).await?;
        self.warnings.append(&mut request.take_warnings());
        drop(request);
        let strategy = strategy_of(self.info);
        let dry_run = self.options().dry_run;
        let body = match decide(&base.doc, strategy, self.options(), self.server.env.now()) {
            Decision::Pending => ResponseBody::Object(base.object.clone()),
            Decision::Mark(doc) if dry_run => ResponseBody::Doc(doc),
            Decision::Mark(doc) => {
                let (key, revision) = (base.object.meta.key(), base.object.revision());
                ResponseBody::Object(self.put(&key, &doc, Some(revision), Default::default()).await?)
            }
            Decision::Remove if dry_run => self.deleted(base.object.clone()),
            Decision::Remove => {
                let gone = self.remove(&base.object, self.beside_delete(&base.doc)).await?;
                self.deleted(gone)
            }
        };
        Ok(ApiResponse::ok(body))
    }

    /// What a client is told of an object that went: some kinds show it, as upstream, others say `Success`.
    fn deleted(&self, object: std::sync::Arc<Object>) -> ResponseBody {
        let shows = self.info.group.is_empty()
            && matches!(self.info.plural.as_str(), "pods" | "services" | "serviceaccounts" | "podtemplates");
        if shows {
            return ResponseBody::Object(object);
        }
        let details = StatusDetails {
            name: object.meta.name.to_string(),
            group: self.info.group.to_string(),
            kind: self.info.plural.to_string(),
            uid: object.meta.uid.to_string(),
            ..StatusDetails::default()
        };
        ResponseBody::Status(Status { details: Some(details), ..Status::success() })
    }
}

/// What is to be done. Pure.
fn decide(doc: &Doc, strategy: &dyn Strategy, options: &Options, now: Timestamp) -> Decision {
    let deleting = !metadata(doc, "deletionTimestamp").is_empty();
    let current = doc.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Doc::as_i64);
    let mut new = doc.clone();
    if !deleting {
        strategy.prepare_delete(&mut new, &rfc3339(now));
    }
    let graceful = match (deleting, current, options.grace_period_seconds) {
        (true, Some(current), Some(asked)) if asked.max(0) < current => {
            shorten(&mut new, current, asked.max(0));
            asked > 0
        }
        (true, Some(current), _) if current > 0 => return Decision::Pending,
        (true, ..) => false,
        (false, ..) => {
            let grace = strategy.grace_period(doc, options.grace_period_seconds).max(0);
            if grace > 0 {
                mark(&mut new, grace, now);
            }
            grace > 0
        }
    };
    let finalizers = finalizers(&new, options.propagation);
    if finalizers != metadata_list(doc, "finalizers") {
        set_finalizers(&mut new, &finalizers);
    }
    let held = !finalizers.is_empty() || holds_namespace(doc);
    if !graceful && !held {
        return Decision::Remove;
    }
    if metadata(&new, "deletionTimestamp").is_empty() {
        mark(&mut new, 0, now);
    }
    if doc.str_at(&["kind"]) == "Namespace" {
        new.set_at(&["status", "phase"], "Terminating".into());
    }
    if new == *doc { Decision::Pending } else { Decision::Mark(new) }
}

fn mark(doc: &mut Doc, grace: i64, now: Timestamp) {
    let end = Timestamp::from_second(now.as_second().saturating_add(grace)).unwrap_or(now);
    doc.set_at(&["metadata", "deletionTimestamp"], rfc3339(end).into());
    doc.set_at(&["metadata", "deletionGracePeriodSeconds"], grace.into());
    if let Some(generation) = doc.at(&["metadata", "generation"]).and_then(Doc::as_i64).filter(|n| *n > 0) {
        doc.set_at(&["metadata", "generation"], (generation + 1).into());
    }
}

/// Moves the end of a graceful deletion from `current` to `asked` seconds after its beginning.
fn shorten(doc: &mut Doc, current: i64, asked: i64) {
    if let Ok(end) = metadata(doc, "deletionTimestamp").parse::<Timestamp>() {
        let end = Timestamp::from_second(end.as_second() - current + asked).unwrap_or(end);
        doc.set_at(&["metadata", "deletionTimestamp"], rfc3339(end).into());
    }
    doc.set_at(&["metadata", "deletionGracePeriodSeconds"], asked.into());
}

/// The finalizers after what the client wants done with the dependents. Without a wish, an earlier one stays.
fn finalizers(doc: &Doc, propagation: Option<Propagation>) -> Vec<Text> {
    let mut finalizers = metadata_list(doc, "finalizers");
    let Some(propagation) = propagation else { return finalizers };
    finalizers.retain(|finalizer| finalizer != ORPHAN && finalizer != FOREGROUND);
    match propagation {
        Propagation::Orphan => finalizers.push(ORPHAN.into()),
        Propagation::Foreground => finalizers.push(FOREGROUND.into()),
        Propagation::Background => {}
    }
    finalizers
}

fn set_finalizers(doc: &mut Doc, finalizers: &[Text]) {
    if finalizers.is_empty() {
        doc.remove_at(&["metadata", "finalizers"]);
    } else {
        doc.set_at(&["metadata", "finalizers"], Doc::from(finalizers.to_vec()));
    }
}

/// Namespaces are held by the finalizers of their spec, too.
pub(super) fn holds_namespace(doc: &Doc) -> bool {
    doc.str_at(&["kind"]) == "Namespace" && doc.at(&["spec", "finalizers"]).is_some_and(|held| !held.items().is_empty())
}

#[cfg(test)]
mod tests;
