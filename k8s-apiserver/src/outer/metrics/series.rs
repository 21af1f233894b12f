//! What requests are told apart by: upstream's labels.

use http::{HeaderMap, header};
use k8s_core::{
    doc::Text,
    request::{Options, PatchKind, Target, Verb},
};

const COMPONENT: (&str, &str) = ("component", "apiserver");

/// The labels of one kind of request.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Series {
    verb: &'static str,
    dry_run: &'static str,
    group: Text,
    version: Text,
    resource: Text,
    subresource: Text,
    scope: &'static str,
}

impl Series {
    /// How a request is counted.
    pub fn new(verb: Verb, target: &Target, options: &Options, headers: &HeaderMap) -> Self {
        let applies = verb == Verb::Patch
            && headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).is_some_and(|kind| {
                PatchKind::from_content_type(kind.split(';').next().unwrap_or("").trim()) == Some(PatchKind::Apply)
            });
        Self {
            verb: if applies { "APPLY" } else { verb_label(verb) },
            dry_run: if options.dry_run { "All" } else { "" },
            group: target.resource.group.clone(),
            version: target.resource.version.clone(),
            resource: target.resource.plural.clone(),
            subresource: target.subresource.clone(),
            scope: scope(verb, target),
        }
    }

    /// What is counted together when there is too much to tell apart.
    pub fn other(&self) -> Self {
        let none = Text::default();
        Self {
            group: none.clone(),
            version: none.clone(),
            resource: "other".into(),
            subresource: none,
            scope: "",
            ..self.clone()
        }
    }

    /// The series of a watch's events.
    pub fn of_events(&self) -> Self {
        Self { verb: "WATCH", dry_run: "", subresource: Text::default(), scope: "", ..self.clone() }
    }

    /// All labels.
    pub fn labels(&self) -> [(&'static str, &str); 8] {
        let [verb, group, version, resource, subresource, scope, component] = self.read_labels();
        [verb, ("dry_run", self.dry_run), group, version, resource, subresource, scope, component]
    }

    /// Those of what changes nothing.
    pub fn read_labels(&self) -> [(&'static str, &str); 7] {
        let [group, version, resource] = self.event_labels();
        let (subresource, scope) = (("subresource", self.subresource.as_str()), ("scope", self.scope));
        [("verb", self.verb), group, version, resource, subresource, scope, COMPONENT]
    }

    /// Those of a watch's events.
    pub fn event_labels(&self) -> [(&'static str, &str); 3] {
        [("group", self.group.as_str()), ("version", self.version.as_str()), ("resource", self.resource.as_str())]
    }
}

/// How much a request is about.
fn scope(verb: Verb, target: &Target) -> &'static str {
    if !target.name.is_empty() || verb == Verb::Create {
        "resource"
    } else if !target.namespace.is_empty() {
        "namespace"
    } else {
        "cluster"
    }
}

/// Upstream's labels are the methods, with the kinds of reading told apart.
fn verb_label(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
        Verb::Connect => "CONNECT",
    }
}
