//! What a webhook is shown of a request, and how what it changed is taken back.

use std::sync::Arc;

use k8s_core::{
    defaulting, doc,
    doc::Doc,
    path::percent_decode,
    registry::ResourceInfo,
    request::{Options, Verb},
    status::{ApiError, ApiResult},
    structure::{self, Mode},
};

use crate::{
    admission::AdmissionRequest,
    cache::KindCache,
    conversion::Asking,
    registry::{View, scale},
};

/// What no webhook changes: it is the server's, or says which object it is.
const IDENTITY: [&str; 8] = [
    "namespace",
    "uid",
    "resourceVersion",
    "generation",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
];

/// A request in the words of one version of a kind.
pub struct Shown {
    /// The object as it shall be; of a connection, its options.
    pub object: Option<Doc>,
    /// The object as it was.
    pub old: Option<Doc>,
}

impl Shown {
    /// `request` in the words of `form`, also where a webhook converts between the two.
    pub async fn converted(
        request: &AdmissionRequest<'_>,
        form: &Arc<ResourceInfo>,
        asking: &Asking<'_>,
    ) -> ApiResult<Self> {
        let Some(converter) = converted(request, form) else { return Ok(Self::of(request, form)) };
        let Self { object, old } = Self::of(request, request.info);
        let mut shown = Self { object: None, old: None };
        for (doc, place) in [(object, &mut shown.object), (old, &mut shown.old)] {
            if let (Some(doc), Some(converter)) = (doc, &converter.converter) {
                *place = Some(converter.shown_doc(asking, doc).await.map_err(internal)?);
            }
        }
        Ok(shown)
    }

    /// `request` in the words of `form`: the kind that was asked for, or one that means the same.
    pub fn of(request: &AdmissionRequest<'_>, form: &Arc<ResourceInfo>) -> Self {
        if request.verb == Verb::Connect {
            let options = connect_options(&kind(request, form).2, request.options);
            return Self { object: Some(options), old: None };
        }
        let seen = |doc: &Doc| seen(request, form, doc);
        let old = request.old.filter(|_| matches!(request.verb, Verb::Update | Verb::Delete));
        Self { object: request.object().map(seen), old: old.map(seen) }
    }
}

/// The cache of `form`, if it is another version than the one that was asked for and a webhook converts between them.
fn converted(request: &AdmissionRequest<'_>, form: &ResourceInfo) -> Option<Arc<KindCache>> {
    let is_other = form.version != request.info.version;
    let is_object = request.verb != Verb::Connect && (request.target.subresource.is_empty() || is_part(request));
    request.cluster.converted_kind(form).filter(|_| is_other && is_object)
}

fn internal(error: ApiError) -> ApiError {
    ApiError::internal(&error.status().message)
}

/// What a webhook made of an object of `form`, at the version that was asked for.
pub async fn turned_back(
    request: &AdmissionRequest<'_>,
    form: &ResourceInfo,
    new: Doc,
    asking: &Asking<'_>,
) -> ApiResult<Doc> {
    let kind = converted(request, form).and_then(|_| request.cluster.converted_kind(request.info));
    match kind.as_ref().and_then(|kind| kind.converter.as_ref()) {
        Some(converter) => converter.shown_doc(asking, new).await.map_err(internal),
        None => Ok(new),
    }
}

/// Group, version and kind of the body of a request.
pub fn kind(request: &AdmissionRequest<'_>, form: &ResourceInfo) -> (String, String, String) {
    let subresource = request.target.subresource.as_str();
    if request.verb == Verb::Connect {
        let kind = match (form.plural.as_str(), subresource) {
            ("pods", "exec") => "PodExecOptions",
            ("pods", "attach") => "PodAttachOptions",
            ("pods", "portforward") => "PodPortForwardOptions",
            ("services", _) => "ServiceProxyOptions",
            ("nodes", _) => "NodeProxyOptions",
            _ => "PodProxyOptions",
        };
        return (String::new(), "v1".into(), kind.into());
    }
    match form.subresource(subresource).and_then(|sub| sub.body.as_ref()) {
        Some((group, version, kind)) => (group.to_string(), version.to_string(), kind.to_string()),
        None => (form.group.to_string(), form.version.to_string(), form.kind.to_string()),
    }
}

fn seen(request: &AdmissionRequest<'_>, form: &ResourceInfo, doc: &Doc) -> Doc {
    if request.target.subresource == "scale" {
        return scale(doc);
    }
    let mut doc = doc.clone();
    if request.target.subresource.is_empty() || is_part(request) {
        if let Some(view) = View::of(form) {
            view.show(&mut doc);
        } else {
            doc.set_at(&["apiVersion"], form.api_version().into());
        }
    }
    doc
}

/// Whether the body of a subresource is the object itself.
fn is_part(request: &AdmissionRequest<'_>) -> bool {
    request.info.subresource(&request.target.subresource).is_some_and(|sub| sub.body.is_none())
}

/// Takes what a webhook made of the object that it was shown. 500 where that is no such object any more.
pub fn take(request: &mut AdmissionRequest<'_>, mut new: Doc) -> ApiResult<()> {
    if request.target.subresource == "scale" {
        let replicas = new.at(&["spec", "replicas"]).and_then(Doc::as_i64).unwrap_or(0);
        if let Some(object) = request.edit() {
            object.set_at(&["spec", "replicas"], replicas.into());
        }
        return Ok(());
    }
    if request.target.subresource.is_empty() || is_part(request) {
        let stored = request.object().map(|object| object.str_at(&["apiVersion"]).to_owned()).unwrap_or_default();
        match View::of(request.info) {
            Some(view) => view.store(&mut new),
            None => new.set_at(&["apiVersion"], stored.into()),
        }
        if let Some(schema) = request.cluster.schema(request.info) {
            // As upstream: fields that the kind does not have are dropped without a word.
            let report = structure::check(&schema, &mut new, Mode::Whole);
            // Of a custom kind's own fields its validation tells.
            if let Some(wrong) = report.wrong.iter().find(|wrong| wrong.is_typed || request.info.custom.is_none()) {
                let why = wrong.to_field_error();
                return Err(ApiError::internal(format!("the webhook's patch leaves no {}: {why}", request.info.kind)));
            }
            defaulting::default(&schema, &mut new);
        }
    }
    if let Some(object) = request.edit() {
        for field in IDENTITY {
            match object.at(&["metadata", field]) {
                Some(value) => new.set_at(&["metadata", field], value.clone()),
                None => drop(new.remove_at(&["metadata", field])),
            }
        }
        *object = new;
    }
    Ok(())
}

/// The options of a connection, as upstream's kinds have them.
fn connect_options(kind: &str, options: &Options) -> Doc {
    let pairs = options.connect_query.split('&').filter(|pair| !pair.is_empty());
    let pairs: Vec<(&str, String)> = pairs
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .map(|(name, value)| (name, percent_decode(value).unwrap_or_else(|| value.to_owned())))
        .collect();
    let all =
        |wanted: &str| pairs.iter().filter(|(name, _)| *name == wanted).map(|(_, value)| value.as_str()).collect();
    let mut doc = doc!({"kind": kind, "apiVersion": "v1"});
    if kind.ends_with("ProxyOptions") {
        if !options.connect_path.is_empty() {
            doc.set_at(&["path"], options.connect_path.as_str().into());
        }
        return doc;
    }
    if kind == "PodPortForwardOptions" {
        let ports: Vec<&str> = all("ports");
        let ports: Vec<Doc> = ports.iter().flat_map(|ports| ports.split(',')).filter_map(number).collect();
        doc.set_at(&["ports"], Doc::Array(ports));
        return doc;
    }
    for flag in ["stdin", "stdout", "stderr", "tty"] {
        let values: Vec<&str> = all(flag);
        if values.first().is_some_and(|value| !matches!(*value, "false" | "False" | "0")) {
            doc.set_at(&[flag], true.into());
        }
    }
    let containers: Vec<&str> = all("container");
    if let Some(container) = containers.first() {
        doc.set_at(&["container"], (*container).into());
    }
    let command: Vec<&str> = all("command");
    if !command.is_empty() {
        doc.set_at(&["command"], Doc::Array(command.into_iter().map(Doc::from).collect()));
    }
    doc
}

fn number(text: &str) -> Option<Doc> {
    text.parse::<i64>().ok().map(Doc::from)
}
