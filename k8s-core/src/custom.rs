//! Kinds that a CustomResourceDefinition describes: each served version becomes an entry in the table of kinds.
//!
//! A definition is read as a document, after it was validated and its names were accepted. What is said here of its
//! versions holds for as long as its `spec` and `status.acceptedNames` stay the same.

mod columns;
mod conversion;
mod format;
mod json_path;
pub(crate) mod pattern;
pub(crate) mod rules;
mod validator;

use std::sync::Arc;

use crate::{
    defaulting,
    doc::{Doc, Text},
    object::Object,
    registry::{ResourceInfo, Scope, Served, Subresource},
    request::Verb,
    schema::Schema,
    status::{ApiError, ApiResult, FieldError},
    structure::{self, Mode},
};

pub use self::{
    columns::CustomColumn,
    conversion::{Conversion, Flaw, check_converted},
    json_path::JsonPath,
    rules::Rules,
    validator::Validator,
};

/// The finalizer of definitions: every object of the kind goes first.
pub const CLEANUP_FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";
/// What can be done with a part of an object.
const OBJECT_VERBS: [Verb; 3] = [Verb::Get, Verb::Patch, Verb::Update];

/// One version of a custom kind: what a built-in kind has in tables made when this was compiled.
#[derive(Debug)]
pub struct CustomKind {
    /// The name of its definition: `PLURAL.GROUP`.
    pub definition: Text,
    /// The kind of its lists.
    pub list_kind: Text,
    /// Whether objects are stored at this version.
    pub is_storage: bool,
    /// `apiVersion` of stored objects.
    pub stored_as: Text,
    /// What stored objects look like.
    pub stored_schema: Schema,
    /// Who turns objects of one version into those of another; `None` where versions differ in `apiVersion` alone.
    pub conversion: Option<Conversion>,
    /// What objects look like at this version.
    pub schema: Schema,
    /// What values they may have.
    pub validator: Validator,
    /// What is said of them by expressions.
    pub rules: Rules,
    /// Whether the status is written through its subresource alone.
    pub has_status: bool,
    /// Where the scale's values are, if it has a scale.
    pub scale: Option<ScalePaths>,
    /// The columns that people see behind the name.
    pub columns: Vec<CustomColumn>,
    /// What users of a deprecated version are told.
    pub deprecation: Option<String>,
    /// The schema as it was written, with its descriptions.
    pub written: Arc<Doc>,
}

/// Where an object says how many replicas there are; each path is of fields alone.
#[derive(Debug, Clone, PartialEq)]
pub struct ScalePaths {
    /// How many there should be.
    pub spec: Vec<Text>,
    /// How many there are.
    pub status: Vec<Text>,
    /// The selector of what is counted, as text; empty if there is none.
    pub selector: Vec<Text>,
}

/// The served versions of a definition whose names were accepted. The stored version comes first.
pub fn kinds_of(definition: &Doc) -> Vec<ResourceInfo> {
    let versions = definition.at(&["spec", "versions"]).map_or(&[][..], Doc::items);
    let flag = |version: &Doc, name: &str| version.get(name).and_then(Doc::as_bool) == Some(true);
    let Some(stored) = versions.iter().find(|version| flag(version, "storage")) else { return Vec::new() };
    let stored_schema = Schema::structural(schema_of(stored));
    let mut kinds: Vec<ResourceInfo> = Vec::new();
    for version in versions.iter().filter(|version| flag(version, "served")) {
        let is_storage = flag(version, "storage");
        let schema = if is_storage { stored_schema.clone() } else { Schema::structural(schema_of(version)) };
        let kind = kind_of(definition, version, (stored.str_at(&["name"]), &stored_schema), schema, is_storage);
        if is_storage { kinds.insert(0, kind) } else { kinds.push(kind) }
    }
    kinds
}

fn schema_of(version: &Doc) -> &Doc {
    version.at(&["schema", "openAPIV3Schema"]).unwrap_or(&Doc::Null)
}

fn kind_of(
    definition: &Doc,
    version: &Doc,
    (stored_version, stored_schema): (&str, &Schema),
    schema: Schema,
    is_storage: bool,
) -> ResourceInfo {
    let group = definition.str_at(&["spec", "group"]);
    let accepted = |name: &str| definition.str_at(&["status", "acceptedNames", name]);
    let texts = |doc: Option<&Doc>| -> Vec<Text> {
        doc.map_or(&[][..], Doc::items).iter().filter_map(|item| item.as_str().map(Text::from)).collect()
    };
    let written = schema_of(version);
    let scale = version.at(&["subresources", "scale"]).map(ScalePaths::new);
    let custom = CustomKind {
        definition: definition.str_at(&["metadata", "name"]).into(),
        list_kind: accepted("listKind").into(),
        is_storage,
        stored_as: format!("{group}/{stored_version}").into(),
        stored_schema: stored_schema.clone(),
        conversion: Conversion::of(definition),
        schema: schema.clone(),
        validator: Validator::new(written),
        // What does not compile was refused when the definition was written.
        rules: Rules::compile(written, &schema, "").0,
        has_status: version.at(&["subresources", "status"]).is_some(),
        scale,
        columns: columns::columns_of(version),
        deprecation: deprecation(definition, version),
        written: Arc::new(written.clone()),
    };
    let selectable = version.get("selectableFields").map_or(&[][..], Doc::items).iter();
    let selectable = selectable.map(|field| field.str_at(&["jsonPath"]).trim_start_matches('.').into());
    let namespaced = definition.str_at(&["spec", "scope"]) == "Namespaced";
    ResourceInfo {
        scope: if namespaced { Scope::Namespaced } else { Scope::Cluster },
        singular: accepted("singular").into(),
        short_names: texts(definition.at(&["status", "acceptedNames", "shortNames"])),
        categories: texts(definition.at(&["status", "acceptedNames", "categories"])),
        subresources: subresources(&custom),
        selectable_fields: selectable.collect(),
        served: Served::Yes,
        custom: Some(Arc::new(custom)),
        ..ResourceInfo::custom(group, version.str_at(&["name"]), accepted("plural"), accepted("kind"), schema)
    }
}

fn subresources(custom: &CustomKind) -> Vec<Subresource> {
    let verbs = || OBJECT_VERBS.to_vec();
    let status = custom.has_status.then(|| Subresource { name: "status".into(), verbs: verbs(), body: None });
    let body = Some(("autoscaling".into(), "v1".into(), "Scale".into()));
    let scale = custom.scale.is_some().then(|| Subresource { name: "scale".into(), verbs: verbs(), body });
    status.into_iter().chain(scale).collect()
}

fn deprecation(definition: &Doc, version: &Doc) -> Option<String> {
    version.get("deprecated").and_then(Doc::as_bool).filter(|deprecated| *deprecated)?;
    let own = version.get("deprecationWarning").and_then(Doc::as_str).map(str::to_owned);
    Some(own.unwrap_or_else(|| {
        let (group, kind) = (definition.str_at(&["spec", "group"]), definition.str_at(&["spec", "names", "kind"]));
        format!("{group}/{} {kind} is deprecated", version.str_at(&["name"]))
    }))
}

impl ScalePaths {
    fn new(scale: &Doc) -> Self {
        let path = |name: &str| -> Vec<Text> {
            let path = JsonPath::parse(scale.str_at(&[name])).ok();
            path.and_then(|path| Some(path.fields()?.into_iter().map(Text::from).collect())).unwrap_or_default()
        };
        Self { spec: path("specReplicasPath"), status: path("statusReplicasPath"), selector: path("labelSelectorPath") }
    }
}

impl CustomKind {
    /// A stored object as it is at this version: with what the schema sets by default, without what it does not know.
    /// An object that says the same already is not copied. One of another version stays as it is where a webhook
    /// converts: that is asked when the object is read.
    pub fn show(&self, api_version: &str, object: Object) -> ApiResult<Object> {
        if self.conversion.is_some() && object.meta.api_version != api_version {
            return Ok(object);
        }
        let stored =
            Doc::parse(object.stored_json()).map_err(|why| ApiError::internal(format!("stored object: {why}")))?;
        let mut doc = stored.clone();
        self.shape(api_version, &mut doc);
        if doc == stored { Ok(object) } else { Object::from_doc(&mut doc, object.revision()) }
    }

    /// Gives a document the form of this version: its `apiVersion`, defaults, and no field that is unknown here.
    pub fn shape(&self, api_version: &str, doc: &mut Doc) {
        take_form(doc, api_version, &self.schema);
        defaulting::default(&self.schema, doc);
    }

    /// An object of this version as it is stored.
    pub fn store(&self, doc: &Doc) -> Doc {
        let mut doc = doc.clone();
        take_form(&mut doc, &self.stored_as, &self.stored_schema);
        doc
    }

    /// The broken rules of an object; `old` is its former state on updates.
    pub fn validate(&self, doc: &Doc, old: Option<&Doc>) -> Vec<FieldError> {
        let errors = self.validator.validate(doc, old);
        if errors.is_empty() { self.rules.validate(&self.schema, doc, old) } else { errors }
    }
}

fn take_form(doc: &mut Doc, api_version: &str, schema: &Schema) {
    if doc.str_at(&["apiVersion"]) != api_version {
        doc.set_at(&["apiVersion"], api_version.into());
    }
    // What is of the wrong type has been let in under an earlier schema; it stays until somebody changes it.
    drop(structure::check(schema, doc, Mode::Whole));
}

#[cfg(test)]
mod tests;
