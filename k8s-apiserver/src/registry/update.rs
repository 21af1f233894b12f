//! Replacing an object, or a part of it.

use std::sync::Arc;

use k8s_core::{
    apply::{self, Operation as How},
    defaulting,
    doc::Doc,
    object::Object,
    request::{ApiResponse, Verb},
    status::{ApiError, ApiResult, FieldError, FieldErrorKind},
    strategy::{Strategy, strategy_of},
};

use super::{
    certificates,
    commit::Refused,
    create::Outcome,
    delete::holds_namespace,
    operation::{Operation, metadata, metadata_list},
    resize::{check_resize, only_resources},
    status::{only_conditions, only_ephemeral_containers},
};
/// How often an update that does not name a revision is tried again when others write at the same time.
const ATTEMPTS: usize = 16;

/// The part of an object that a write may change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// All but what belongs to subresources.
    Main,
    /// The status.
    Status,
    /// The conditions of a certificate signing request, verdicts among them.
    Approval,
    /// The ephemeral containers of a pod.
    Ephemeral,
    /// What the containers of a pod may use.
    Resize,
    /// The server changes what it wants: no rule keeps anything.
    Server,
}

impl Part {
    /// Takes of `new` what this part may change, and does what the kind does before it is written.
    fn prepare(self, strategy: &dyn Strategy, new: &mut Doc, base: &Base) {
        match self {
            Self::Main => strategy.prepare_update(new, &base.doc),
            Self::Status => strategy.prepare_status(new, &base.doc),
            Self::Approval => only_conditions(new, &base.doc),
            Self::Resize => only_resources(new, &base.doc),
            Self::Ephemeral => only_ephemeral_containers(new, base),
            Self::Server => {}
        }
    }
}

/// An object as it was read, to be changed.
pub struct Base {
    /// As stored.
    pub object: Arc<Object>,
    /// The same as a document, with its `resourceVersion`.
    pub doc: Doc,
}

impl Base {
    /// Reads a stored object.
    pub fn new(object: Arc<Object>) -> ApiResult<Self> {
        let doc = Doc::parse(&object.to_json()).map_err(|why| ApiError::internal(format!("stored object: {why}")))?;
        Ok(Self { object, doc })
    }
}

impl Operation<'_> {
    /// Replaces the object (or its status) by the body.
    pub async fn update(&mut self, mut doc: Doc, part: Part) -> ApiResult<ApiResponse> {
        self.accept(&mut doc)?;
        self.turn(&mut doc);
        self.check_place(&mut doc)?;
        let manager = self.manager(How::Update);
        let schema = self.kind.schema.clone();
        let outcome = self
            .change(
                part,
                |base, this| {
                    let mut new = doc.clone();
                    this.check_uid(&new, &base.object)?;
                    this.check_revision(&new)?;
                    defaulting::default(&schema, &mut new);
                    keep_identity(&mut new, &base.doc);
                    Ok(new)
                },
                |old, new, this| apply::track_update(Some(old), new, &this.kind.schema, &manager),
            )
            .await?;
        Ok(ApiResponse::ok(outcome.into_body()))
    }

    /// Changes the target: reads it, lets `make` say what it shall be, and writes that. When somebody else writes in
    /// between and `make`'s result does not insist on a revision, all of it happens again.
    ///
    /// `make` answers a document with the `resourceVersion` that it insists on, if any. `track` enters who set which
    /// field.
    pub(super) async fn change(
        &mut self,
        part: Part,
        make: impl Fn(&Base, &mut Self) -> ApiResult<Doc> + Send + Sync,
        track: impl Fn(&Doc, &mut Doc, &Self) + Send + Sync,
    ) -> ApiResult<Outcome> {
        let told = self.warnings.len();
        for _ in 0..ATTEMPTS {
            self.warnings.truncate(told);
            let base = Base::new(self.existing().await?)?;
            let new = make(&base, self)?;
            let insists = self.insisted(&new)?;
            if insists.is_some_and(|revision| revision != base.object.revision()) {
                return Err(self.modified());
            }
            match self.write(&base, new, part, &track).await {
                Ok(outcome) => return Ok(outcome),
                Err(Refused::Failed(error)) => return Err(error),
                Err(Refused::Changed) if insists.is_some() => return Err(self.modified()),
                Err(Refused::Changed | Refused::Beside(_)) => {}
            }
        }
        Err(self.modified())
    }

    /// The revision that a body names.
    fn insisted(&self, new: &Doc) -> ApiResult<Option<u64>> {
        match metadata(new, "resourceVersion") {
            "" | "0" => Ok(None),
            text => text.parse().map(Some).map_err(|_| {
                let error = FieldError::invalid("metadata.resourceVersion", text, "must be a number");
                self.invalid(&self.target().name, &[error])
            }),
        }
    }

    /// Whether the kind lets an update leave the revision out.
    fn check_revision(&self, new: &Doc) -> ApiResult<()> {
        let may = strategy_of(self.info).allows_unconditional_update();
        if may || self.insisted(new)?.is_some() {
            return Ok(());
        }
        let detail = "must be specified for an update";
        let error = FieldError::new(FieldErrorKind::Invalid, "metadata.resourceVersion", "0", detail);
        Err(self.invalid(&self.target().name, &[error]))
    }

    fn check_uid(&self, new: &Doc, object: &Object) -> ApiResult<()> {
        let (wanted, found) = (metadata(new, "uid"), object.meta.uid.as_str());
        if wanted.is_empty() || wanted == found {
            return Ok(());
        }
        Err(self.conflict(format!("Precondition failed: UID in precondition: {wanted}, UID in object meta: {found}")))
    }

    /// Takes a new form of an object through preparation, admission and validation, and stores it.
    pub(super) async fn write(
        &mut self,
        base: &Base,
        mut new: Doc,
        part: Part,
        track: impl Fn(&Doc, &mut Doc, &Self) + Send + Sync,
    ) -> Result<Outcome, Refused> {
        let strategy = strategy_of(self.info);
        let old = &base.doc;
        new.set_at(&["metadata", "resourceVersion"], base.object.revision().to_string().into());
        part.prepare(strategy, &mut new, base);
        self.stamp_change(&mut new, old);
        self.keep_allocated(&mut new, old);
        let target = self.target().clone();
        let admission = self.admission();
        let mut request = self.admission_request(Verb::Update, &target).with(Some(old), Some(new));
        admission.admit(&mut request).await?;
        if request.is_edited()
            && let Some(new) = request.edit()
        {
            self.settle(new);
            // Nor may a plugin write what this part does not reach.
            part.prepare(strategy, new, base);
        }
        if let Some(new) = request.edit() {
            track(old, new, self);
            let mut errors = match part {
                Part::Main => strategy.validate_update(new, old),
                Part::Status | Part::Approval => strategy.validate_status(new, old),
                Part::Resize => check_resize(new, old),
                Part::Ephemeral | Part::Server => Vec::new(),
            };
            errors.extend(self.field_errors(new, Some(old)));
            if part == Part::Main {
                errors.extend(certificates::check(self.info, new));
            }
            if !errors.is_empty() {
                return Err(self.invalid(&self.target().name, &errors).into());
            }
        }
        admission.validate(&request).await?;
        self.warnings.append(&mut request.take_warnings());
        let new = request.into_object().unwrap_or_default();
        self.store_changed(base, new).await
    }

    async fn store_changed(&mut self, base: &Base, mut new: Doc) -> Result<Outcome, Refused> {
        let beside = self.beside(&mut new, Some(&base.doc)).await?;
        if self.options().dry_run {
            return Ok(Outcome::WouldBe(new));
        }
        if is_finished(&new) {
            let beside = self.beside_delete(&base.doc);
            return Ok(Outcome::Done(self.remove(&base.object, beside).await?));
        }
        if beside.ops.is_empty() && new == base.doc && !self.is_stale(&base.object.meta.key(), &new).await? {
            return Ok(Outcome::Done(base.object.clone()));
        }
        let key = base.object.meta.key();
        Ok(Outcome::Done(self.put(&key, &new, Some(base.object.revision()), beside).await?))
    }
}

/// What a client cannot change, whatever it sends.
pub(super) fn keep_identity(new: &mut Doc, old: &Doc) {
    const FIELDS: [&str; 7] = [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "generateName",
        "selfLink",
    ];
    for field in FIELDS {
        match old.at(&["metadata", field]) {
            Some(value) => new.set_at(&["metadata", field], value.clone()),
            None => drop(new.remove_at(&["metadata", field])),
        }
    }
}

/// Whether nothing holds an object that is being deleted any more.
fn is_finished(doc: &Doc) -> bool {
    let grace = doc.at(&["metadata", "deletionGracePeriodSeconds"]).and_then(Doc::as_i64).unwrap_or(0);
    !metadata(doc, "deletionTimestamp").is_empty()
        && grace == 0
        && metadata_list(doc, "finalizers").is_empty()
        && !holds_namespace(doc)
}
