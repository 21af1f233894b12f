//! Patches, server-side apply among them.

use k8s_core::{
    apply::{self, Operation as How},
    defaulting,
    doc::Doc,
    patch,
    request::{ApiResponse, PatchKind},
    status::{ApiError, ApiResult, FieldError, FieldErrorKind},
    structure::Mode,
};

use super::{
    create::Outcome,
    operation::{Operation, accept_type, metadata},
    update::{Part, keep_identity},
};

/// What identifies an object: a patch that changes it is refused.
const IDENTITY: [&str; 3] = ["name", "namespace", "uid"];

impl Operation<'_> {
    /// Patches the object or one of its parts.
    pub async fn patch(&mut self, kind: PatchKind, patch: Doc, part: Part) -> ApiResult<ApiResponse> {
        if kind == PatchKind::Apply {
            return self.apply(patch, part).await;
        }
        let manager = self.manager(How::Update);
        let (schema, stored) = (self.schema(), self.kind.schema.clone());
        let insists = names_revision(kind, &patch);
        let outcome = self
            .change(
                part,
                |base, this| {
                    let merging = Some(&schema).filter(|_| this.info.custom.is_none());
                    let mut new = patch::apply(kind, &patch, &this.shown(&base.doc), merging)?;
                    this.check_identity(&new, &base.doc)?;
                    this.accept_patched(&mut new)?;
                    this.turn(&mut new);
                    defaulting::default(&stored, &mut new);
                    keep_identity(&mut new, &base.doc);
                    if !insists {
                        new.remove_at(&["metadata", "resourceVersion"]);
                    }
                    Ok(new)
                },
                |old, new, this| apply::track_update(Some(old), new, &this.kind.schema, &manager),
            )
            .await?;
        Ok(ApiResponse::ok(outcome.into_body()))
    }

    fn accept_patched(&mut self, new: &mut Doc) -> ApiResult<()> {
        if new.at(&["metadata"]).and_then(Doc::as_object).is_none() {
            let error = FieldError::required("metadata", "a patch may not remove it");
            return Err(self.invalid(&self.target().name, &[error]));
        }
        self.accept(new)
    }

    fn check_identity(&self, new: &Doc, old: &Doc) -> ApiResult<()> {
        let changed = IDENTITY.into_iter().filter(|field| metadata(new, field) != metadata(old, field));
        let errors: Vec<FieldError> = changed
            .map(|field| FieldError::invalid(format!("metadata.{field}"), metadata(new, field), "field is immutable"))
            .collect();
        if errors.is_empty() { Ok(()) } else { Err(self.invalid(&self.target().name, &errors)) }
    }

    async fn apply(&mut self, mut configuration: Doc, part: Part) -> ApiResult<ApiResponse> {
        if self.options().field_manager.is_none() {
            let error = FieldError::required("fieldManager", "is required for apply patch");
            return Err(ApiError::invalid("PatchOptions", "meta.k8s.io", "", &[error]));
        }
        self.accept_configuration(&mut configuration)?;
        if self.current(&self.key()).await?.is_none() && part == Part::Main {
            match self.apply_new(&configuration).await {
                // Somebody else created it in between: apply to that.
                Err(error) if error.is_already_exists() => {}
                Err(error) => return Err(error),
                Ok(outcome) => return Ok(ApiResponse::created(outcome.into_body())),
            }
        }
        let (manager, force) = (self.applier(), self.options().force);
        let (schema, stored) = (self.schema(), self.kind.schema.clone());
        let outcome = self
            .change(
                part,
                |base, this| {
                    let live = this.shown(&base.doc);
                    let mut new = apply::apply_configuration(Some(&live), &configuration, &schema, &manager, force)?;
                    this.check_identity(&new, &base.doc)?;
                    this.check(&schema, &mut new, Mode::Whole)?;
                    this.turn(&mut new);
                    defaulting::default(&stored, &mut new);
                    keep_identity(&mut new, &base.doc);
                    if metadata(&configuration, "resourceVersion").is_empty() {
                        new.remove_at(&["metadata", "resourceVersion"]);
                    }
                    Ok(new)
                },
                |_, _, _| {},
            )
            .await?;
        Ok(ApiResponse::ok(outcome.into_body()))
    }

    fn accept_configuration(&mut self, configuration: &mut Doc) -> ApiResult<()> {
        for field in ["apiVersion", "kind"] {
            if configuration.str_at(&[field]).is_empty() {
                return Err(ApiError::bad_request(format!("the applied configuration must say its {field}")));
            }
        }
        accept_type(configuration, &self.info.resource(), &self.info.kind)?;
        let schema = self.schema();
        if self.info.custom.is_some() {
            self.check_declared(&schema, configuration)?;
        }
        self.check(&schema, configuration, Mode::Partial)?;
        self.check_place(configuration)?;
        configuration.set_at(&["metadata", "name"], self.target().name.clone().into());
        Ok(())
    }

    async fn apply_new(&mut self, configuration: &Doc) -> ApiResult<Outcome> {
        let uid = metadata(configuration, "uid");
        if !uid.is_empty() {
            let why =
                format!("uid mismatch: the provided object specified uid {uid}, and no existing object was found");
            return Err(self.conflict(why));
        }
        let manager = self.applier();
        let schema = self.schema();
        let mut new = apply::apply_configuration(None, configuration, &schema, &manager, self.options().force)?;
        new.remove_at(&["metadata", "resourceVersion"]);
        self.check(&schema, &mut new, Mode::Whole)?;
        self.turn(&mut new);
        self.create_checked(new, |_, _| Ok(())).await
    }
}

/// Whether a patch says which revision it is for.
fn names_revision(kind: PatchKind, patch: &Doc) -> bool {
    const POINTER: &str = "/metadata/resourceVersion";
    match kind {
        PatchKind::Json => {
            patch.items().iter().any(|step| step.str_at(&["op"]) != "test" && step.str_at(&["path"]) == POINTER)
        }
        _ => !metadata(patch, "resourceVersion").is_empty(),
    }
}

/// 422 for one field of an object.
pub(super) fn broken(path: &str, value: impl ToString, detail: &str) -> FieldError {
    FieldError::new(FieldErrorKind::Invalid, path, value.to_string(), detail)
}
