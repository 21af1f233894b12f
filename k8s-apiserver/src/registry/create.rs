//! Creating an object.

use std::sync::Arc;

use k8s_core::{
    apply::{self, Manager, Operation as How},
    defaulting,
    doc::Doc,
    object::{Object, ObjectKey},
    request::{ApiResponse, ResourceType, ResponseBody, Target, Verb},
    status::{ApiError, ApiResult, Reason},
    strategy::strategy_of,
};
use k8s_store::{Guard, Revision};

use super::{
    certificates,
    commit::Refused,
    operation::{Operation, metadata},
    time::rfc3339,
};
use crate::{admission::check_namespace, definitions::definitions};

/// How often another generated name or allocation is tried.
const ATTEMPTS: usize = 8;
/// The letters that a generated name gets, and the longest name before them.
const SUFFIX: usize = 5;
const MAX_GENERATED_BASE: usize = 63 - SUFFIX;

/// What becomes of a new object: it was stored, or it would have been.
pub enum Outcome {
    /// Stored (or removed).
    Done(Arc<Object>),
    /// The request was a dry run.
    WouldBe(Doc),
}

impl Outcome {
    /// The answer's body.
    pub fn into_body(self) -> ResponseBody {
        match self {
            Self::Done(object) => ResponseBody::Object(object),
            Self::WouldBe(doc) => ResponseBody::Doc(doc),
        }
    }
}

impl Operation<'_> {
    /// Creates the object in the body.
    pub async fn create(&mut self, mut doc: Doc) -> ApiResult<ApiResponse> {
        self.accept(&mut doc)?;
        self.turn(&mut doc);
        let manager = self.manager(How::Update);
        let outcome = self.create_checked(doc, |new, this| {
            apply::track_update(None, new, &this.kind.schema, &manager);
            Ok(())
        });
        Ok(ApiResponse::created(outcome.await?.into_body()))
    }

    /// Creates an object whose structure has been checked. `track` enters who set which field.
    pub(super) async fn create_checked(
        &mut self,
        mut doc: Doc,
        track: impl FnOnce(&mut Doc, &Self) -> ApiResult<()> + Send,
    ) -> ApiResult<Outcome> {
        let generated = self.begin(&mut doc)?;
        let schema = self.kind.schema.clone();
        defaulting::default(&schema, &mut doc);
        let strategy = strategy_of(self.info);
        strategy.prepare_create(&mut doc);
        self.stamp_new(&mut doc);
        let target = self.named(metadata(&doc, "name"));
        let admission = self.admission();
        let mut request = self.admission_request(Verb::Create, &target).with(None, Some(doc));
        admission.admit(&mut request).await?;
        if request.is_edited()
            && let Some(doc) = request.edit()
        {
            // What follows from the spec, such as a pod's class, follows from it as it is now.
            self.settle(doc);
            strategy.prepare_create(doc);
        }
        if let Some(doc) = request.edit() {
            track(doc, self)?;
            let mut errors = strategy.validate_create(doc);
            errors.extend(self.field_errors(doc, None));
            errors.extend(certificates::check(self.info, doc));
            if !errors.is_empty() {
                return Err(self.invalid(&target.name, &errors));
            }
        }
        admission.validate(&request).await?;
        self.warnings.append(&mut request.take_warnings());
        let doc = request.into_object().unwrap_or_default();
        self.store_new(doc, generated.as_deref()).await
    }

    /// What every new object gets from the server. Answers the base of a generated name.
    fn begin(&self, doc: &mut Doc) -> ApiResult<Option<String>> {
        self.check_place(doc)?;
        let base = metadata(doc, "generateName").chars().take(MAX_GENERATED_BASE).collect::<String>();
        let generated = metadata(doc, "name").is_empty() && !base.is_empty();
        if generated {
            doc.set_at(&["metadata", "name"], self.free_name(&base).into());
        }
        for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "generation"] {
            doc.remove_at(&["metadata", field]);
        }
        doc.set_at(&["metadata", "uid"], self.server.env.uuid().into());
        doc.set_at(&["metadata", "creationTimestamp"], rfc3339(self.server.env.now()).into());
        Ok(generated.then_some(base))
    }

    /// The namespace and name of a body must be those of the path, where both say so.
    pub(super) fn check_place(&self, doc: &mut Doc) -> ApiResult<()> {
        if doc.at(&["metadata"]).and_then(Doc::as_object).is_none() {
            doc.set_at(&["metadata"], Doc::object());
        }
        let (namespace, name) = (metadata(doc, "namespace"), metadata(doc, "name"));
        if !namespace.is_empty() && namespace != self.target().namespace {
            let message = "the namespace of the provided object does not match the namespace sent on the request";
            return Err(ApiError::bad_request(message));
        }
        if !self.target().name.is_empty() && !name.is_empty() && name != self.target().name {
            let message =
                format!("the name of the object ({name}) does not match the name on the URL ({})", self.target().name);
            return Err(ApiError::bad_request(message));
        }
        if !metadata(doc, "resourceVersion").is_empty() && self.request.verb == Verb::Create {
            return Err(ApiError::bad_request("resourceVersion should not be set on objects to be created"));
        }
        if self.info.is_namespaced() {
            doc.set_at(&["metadata", "namespace"], self.target().namespace.clone().into());
        } else {
            doc.remove_at(&["metadata", "namespace"]);
        }
        Ok(())
    }

    /// A generated name that the cache does not show to be taken.
    fn free_name(&self, base: &str) -> String {
        let state = self.kind.state();
        let mut name = String::new();
        for _ in 0..ATTEMPTS {
            name = format!("{base}{}", self.server.env.name_suffix(SUFFIX));
            if state.get(&ObjectKey::new(self.target().namespace.clone(), name.as_str())).is_none() {
                break;
            }
        }
        name
    }

    /// The target with a name.
    pub(super) fn named(&self, name: &str) -> Target {
        Target { name: name.into(), ..self.target().clone() }
    }

    async fn store_new(&mut self, mut doc: Doc, generated: Option<&str>) -> ApiResult<Outcome> {
        for attempt in 1.. {
            let key = ObjectKey::new(self.target().namespace.clone(), metadata(&doc, "name"));
            let unallocated = self.allocates().then(|| doc.clone());
            let mut beside = self.beside(&mut doc, None).await?;
            beside.guards.extend(self.namespace_guard().await?);
            beside.guards.extend(self.definition_guard()?);
            if self.options().dry_run {
                if self.current(&key).await?.is_some() {
                    return Err(self.already_exists(&key));
                }
                return Ok(Outcome::WouldBe(doc));
            }
            match self.put(&key, &doc, None, beside).await {
                Ok(object) => return Ok(Outcome::Done(object)),
                Err(Refused::Failed(error)) => return Err(error),
                Err(Refused::Changed) => match generated {
                    Some(base) if attempt < ATTEMPTS => {
                        doc.set_at(&["metadata", "name"], self.free_name(base).into());
                        continue;
                    }
                    _ => return Err(self.already_exists(&key)),
                },
                Err(Refused::Beside(taken)) if attempt == ATTEMPTS => {
                    return Err(ApiError::unavailable(format!("{taken} was taken by others again and again")));
                }
                // What is beside it is looked at anew, at its newest.
                Err(Refused::Beside(_)) => self.server.cache.wait_for_head().await?,
            }
            if let Some(unallocated) = unallocated {
                doc = unallocated;
            }
        }
        // Invariant: the loop above ends by returning.
        Err(ApiError::internal("no attempt was made"))
    }

    /// The namespace stays as it was when this was admitted: nothing is created in one that has begun to end since.
    async fn namespace_guard(&self) -> ApiResult<Option<Guard>> {
        let Some(namespaces) = self.server.cache.kind(&ResourceType::new("", "v1", "namespaces")) else {
            return Ok(None);
        };
        if !self.info.is_namespaced() {
            return Ok(None);
        }
        let namespace = check_namespace(&self.server.cluster, self.info, self.target()).await?;
        let key = namespaces.storage_key(&namespace.meta.key());
        Ok(Some(Guard::At(key, Revision(namespace.revision()))))
    }

    /// The definition of a custom kind stays as it was: nothing is created in a kind that has begun to end since.
    fn definition_guard(&self) -> ApiResult<Option<Guard>> {
        let Some(custom) = &self.info.custom else { return Ok(None) };
        let definitions = self.server.cache.kind(&definitions()).ok_or_else(ApiError::no_such_path)?;
        let key = ObjectKey::new("", custom.definition.clone());
        let state = definitions.state();
        match state.get(&key) {
            Some(definition) if definition.meta.deleted.is_none() => {
                Ok(Some(Guard::At(definitions.storage_key(&key), Revision(definition.revision()))))
            }
            Some(_) => {
                let why = "create not allowed while custom resource definition is terminating";
                Err(ApiError::new(405, Reason::MethodNotAllowed, why))
            }
            None => Err(ApiError::no_such_path()),
        }
    }

    fn already_exists(&self, key: &ObjectKey) -> ApiError {
        ApiError::already_exists(&self.info.plural, &self.info.group, &key.name)
    }

    /// Who is entered as the manager of an apply.
    pub(super) fn applier(&self) -> Manager {
        self.manager(How::Apply)
    }
}
