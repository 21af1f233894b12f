//! One request on its way through the registry: who asks what, of which kind, and what they are told beside the answer.

use std::{borrow::Cow, sync::Arc};

use k8s_core::{
    apply::{Manager, Operation as How},
    defaulting,
    doc::{Doc, Text},
    object::{Object, ObjectKey},
    registry::ResourceInfo,
    request::{ApiRequest, Caller, FieldValidation, Options, ResourceType, Target, Verb},
    schema::Schema,
    status::{ApiError, ApiResult, FieldError},
    structure::{self, Mode},
};

use super::view::View;
use crate::{
    admission::{AdmissionRequest, Chain, Trail},
    cache::KindCache,
    server::Inner,
};

/// The longest name of a field manager that is derived from a user agent.
const MAX_MANAGER_CHARS: usize = 128;

/// A request on a stored kind, authorized.
pub struct Operation<'a> {
    /// The server.
    pub server: &'a Inner,
    /// Who asks.
    pub caller: &'a Caller,
    /// What they ask; the body has been taken out.
    pub request: &'a ApiRequest,
    /// The kind, as it was named.
    pub info: &'a Arc<ResourceInfo>,
    /// Its objects, in the form in which they are stored.
    pub kind: &'a Arc<KindCache>,
    /// What the caller will be told in warnings.
    pub warnings: Vec<String>,
    /// What is noted for the audit log.
    pub trail: &'a Trail,
    /// Whether the server does this behind another request, with which admission has judged it.
    pub behind: bool,
}

impl<'a> Operation<'a> {
    /// A write that admission is to see.
    pub fn admission_request<'b>(&self, verb: Verb, target: &'b Target) -> AdmissionRequest<'b>
    where
        'a: 'b,
    {
        let Self { server, caller, request, info, trail, .. } = *self;
        AdmissionRequest::new(caller, verb, info, target, &request.options, &server.cluster).noting(trail)
    }

    /// Who judges what this writes.
    pub fn admission(&self) -> Chain {
        if self.behind { Chain::default() } else { self.server.admission.clone() }
    }
}

impl Operation<'_> {
    /// What is asked about.
    pub fn target(&self) -> &Target {
        &self.request.target
    }

    /// How it is asked.
    pub fn options(&self) -> &Options {
        &self.request.options
    }

    /// The key of the target.
    pub fn key(&self) -> ObjectKey {
        ObjectKey::new(self.target().namespace.clone(), self.target().name.clone())
    }

    /// 404 for the target.
    pub fn not_found(&self) -> ApiError {
        ApiError::not_found(&self.info.plural, &self.info.group, &self.target().name)
    }

    /// 409 for the target.
    pub fn conflict(&self, why: impl std::fmt::Display) -> ApiError {
        ApiError::conflict(&self.info.plural, &self.info.group, &self.target().name, why)
    }

    /// 409 for a stale revision of the target.
    pub fn modified(&self) -> ApiError {
        ApiError::modified(&self.info.plural, &self.info.group, &self.target().name)
    }

    /// 422 for fields of an object of this kind.
    pub fn invalid(&self, name: &str, errors: &[FieldError]) -> ApiError {
        ApiError::invalid(&self.info.kind, &self.info.group, name, errors)
    }

    /// 403 for the target.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> ApiError {
        ApiError::forbidden(&self.info.plural, &self.info.group, &self.target().name, why)
    }

    /// The target as it is now; 404 if there is none.
    pub async fn existing(&self) -> ApiResult<Arc<Object>> {
        let found = self.current(&self.key()).await?.ok_or_else(|| self.not_found())?;
        self.converted(found).await
    }

    /// Who is entered as the manager of what this request writes.
    pub fn manager(&self, operation: How) -> Manager {
        let name = match &self.options().field_manager {
            Some(name) => name.to_string(),
            None => {
                let program = self.caller.agent.split('/').next().unwrap_or("");
                let name: String = program.chars().filter(|c| !c.is_control()).take(MAX_MANAGER_CHARS).collect();
                if name.is_empty() { "unknown".to_owned() } else { name }
            }
        };
        Manager {
            name,
            operation,
            api_version: self.info.api_version(),
            subresource: self.target().subresource.to_string(),
            time: self.server.env.now(),
        }
    }

    /// Takes a body that must be of the kind: its type, its structure, and what the caller wants done about fields
    /// that the kind does not have.
    pub fn accept(&mut self, doc: &mut Doc) -> ApiResult<()> {
        let schema = self.schema();
        accept_type(doc, &self.info.resource(), &self.info.kind)?;
        self.check(&schema, doc, Mode::Whole)
    }

    /// How the kind, as it was named, differs from the one that is stored, if it does.
    pub fn view(&self) -> Option<&'static View> {
        View::of(self.info)
    }

    /// What objects of the kind, as it was named, look like.
    pub fn schema(&self) -> Schema {
        let of_view = self.view().and_then(|_| self.server.kinds.now().schema(self.info));
        of_view.unwrap_or_else(|| self.kind.schema.clone())
    }

    /// A stored document as the caller knows it.
    pub fn shown<'d>(&self, doc: &'d Doc) -> Cow<'d, Doc> {
        let Some(view) = self.view() else { return Cow::Borrowed(doc) };
        let mut doc = doc.clone();
        view.show(&mut doc);
        Cow::Owned(doc)
    }

    /// Turns what the caller sent into the form in which it is stored.
    pub fn turn(&self, doc: &mut Doc) {
        if let Some(view) = self.view() {
            view.store(doc);
        }
    }

    /// Refuses an applied configuration with fields that a custom kind does not have, in upstream's words.
    pub fn check_declared(&self, schema: &Schema, configuration: &mut Doc) -> ApiResult<()> {
        let unknown = structure::check(schema, configuration, Mode::Partial).unknown;
        let lines: Vec<String> = unknown.iter().map(|path| format!(".{path}: field not declared in schema")).collect();
        let text = match lines.as_slice() {
            [] => return Ok(()),
            [one] => one.clone(),
            many => format!("errors:\n  {}", many.join("\n  ")),
        };
        let (target, info) = (self.target(), self.info);
        Err(ApiError::bad_request(format!(
            "failed to create typed patch object ({}/{}; {}, Kind={}): {text}",
            target.namespace,
            target.name,
            info.api_version(),
            info.kind
        )))
    }

    /// What is wrong with an object beside its kind's own rules: its fields one by one, and what a custom kind's
    /// definition says of values.
    pub fn field_errors(&self, doc: &Doc, old: Option<&Doc>) -> Vec<FieldError> {
        let mut errors = structure::validate_fields(&self.kind.schema, doc, old);
        if let Some(custom) = &self.kind.info.custom {
            // Of its own fields the definition speaks; the metadata is every object's.
            errors.retain(|error| error.path.starts_with("metadata"));
            errors.extend(custom.validate(doc, old));
        }
        errors
    }

    /// Gives an object that admission has changed the form that it is stored in.
    pub fn settle(&self, doc: &mut Doc) {
        if self.kind.info.custom.is_some() {
            // What is of the wrong type, the validator tells.
            drop(structure::check(&self.kind.schema, doc, Mode::Whole));
        }
        defaulting::default(&self.kind.schema, doc);
    }

    /// Checks a document against a schema, and treats unknown and duplicate fields as the caller wants.
    pub fn check(&mut self, schema: &Schema, doc: &mut Doc, mode: Mode) -> ApiResult<()> {
        let report = structure::check(schema, doc, mode);
        // Of a custom kind's own fields the validator tells what is wrong with them.
        if let Some(wrong) = report.wrong.iter().find(|wrong| wrong.is_typed || self.info.custom.is_none()) {
            return Err(wrong.to_api_error(&self.info.version, &self.info.kind));
        }
        let strange: Vec<String> = report.unknown_messages().chain(self.request.duplicates.iter().cloned()).collect();
        if strange.is_empty() {
            return Ok(());
        }
        match self.options().field_validation {
            FieldValidation::Ignore => {}
            FieldValidation::Warn => self.warnings.extend(strange),
            FieldValidation::Strict => {
                let Self { info, .. } = self;
                return Err(ApiError::bad_request(format!(
                    "{} in version {:?} cannot be handled as a {}: strict decoding error: {}",
                    info.kind,
                    info.version,
                    info.kind,
                    strange.join(", ")
                )));
            }
        }
        Ok(())
    }
}

/// Refuses a body of another type than the path names; a body that does not say is taken to be of that type.
pub fn accept_type(doc: &mut Doc, resource: &ResourceType, kind: &str) -> ApiResult<()> {
    let api_version = resource.api_version();
    let (found_version, found_kind) = (doc.str_at(&["apiVersion"]).to_owned(), doc.str_at(&["kind"]).to_owned());
    if !found_version.is_empty() && found_version != api_version {
        let message = format!(
            "the API version in the data ({found_version}) does not match the expected API version ({api_version})"
        );
        return Err(ApiError::bad_request(message));
    }
    if !found_kind.is_empty() && found_kind != kind {
        let message = format!("the object provided is unrecognized (must be of type {kind}): found {found_kind}");
        return Err(ApiError::bad_request(message));
    }
    if doc.as_object().is_none() {
        return Err(ApiError::bad_request(format!("the body is a JSON {}, not an object", doc.type_name())));
    }
    if found_version.is_empty() {
        doc.set_at(&["apiVersion"], Doc::from(api_version));
    }
    if found_kind.is_empty() {
        doc.set_at(&["kind"], Doc::from(kind));
    }
    Ok(())
}

/// A text field of the metadata.
pub fn metadata<'a>(doc: &'a Doc, field: &str) -> &'a str {
    doc.str_at(&["metadata", field])
}

/// The texts of a list of the metadata.
pub fn metadata_list(doc: &Doc, field: &str) -> Vec<Text> {
    let items = doc.at(&["metadata", field]).map_or(&[][..], Doc::items);
    items.iter().filter_map(|item| item.as_str().map(Text::from)).collect()
}
