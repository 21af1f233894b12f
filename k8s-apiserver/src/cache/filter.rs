//! What a list or watch wants to see, and whether an object is that.

use std::borrow::Cow;

use k8s_core::{
    doc::Text,
    object::Object,
    request::{Options, Target},
    selector::{FieldSelector, LabelSelector},
};

use super::field::field;

/// The kinds whose objects are found by their node; others may have a field of that name that is one among others.
const ROUTED: [(&str, &str); 3] =
    [("", "pods"), ("certificates.k8s.io", "podcertificaterequests"), ("resource.k8s.io", "resourceslices")];

/// The part of a kind that a reader wants. Equal filters share the work of matching.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Filter {
    /// Only this namespace; empty is all of them.
    pub namespace: Text,
    /// Only this name; empty is all of them.
    pub name: Text,
    /// Only objects whose `spec.nodeName` this is; empty is all of them.
    pub node: Text,
    /// Only objects with such labels.
    pub labels: LabelSelector,
    /// The terms on fields that are not said above.
    pub fields: FieldSelector,
    /// The `apiVersion` of objects that labels and fields are judged of here. Others pass: they are judged after their
    /// conversion. Empty where no webhook converts.
    pub version: Text,
}

impl Filter {
    /// What a list or watch of `target` wants.
    pub fn new(target: &Target, options: &Options) -> Self {
        let mut filter = Self {
            namespace: target.namespace.clone(),
            name: target.name.clone(),
            labels: options.label_selector.clone(),
            ..Self::default()
        };
        for term in &options.field_selector.terms {
            let place = match term.path.as_str() {
                "metadata.name" => Some(&mut filter.name),
                "metadata.namespace" => Some(&mut filter.namespace),
                "spec.nodeName" if ROUTED.contains(&(&*target.resource.group, &*target.resource.plural)) => {
                    Some(&mut filter.node)
                }
                _ => None,
            };
            match place {
                Some(place) if !term.negated && !term.value.is_empty() && place.is_empty() => {
                    *place = term.value.as_str().into();
                }
                _ => filter.fields.terms.push(term.clone()),
            }
        }
        filter
    }

    /// Whether nothing but the namespace limits it.
    pub fn is_whole_collection(&self) -> bool {
        self.name.is_empty() && self.node.is_empty() && self.labels.is_everything() && self.fields.is_everything()
    }

    /// The field and value by which an index finds the fewest objects, as far as can be guessed; `None` if the filter
    /// asks for no value of a field.
    pub fn most_telling(&self) -> Option<(&str, &str)> {
        if !self.name.is_empty() {
            return Some(("metadata.name", &self.name));
        }
        // Objects of another version have other fields, and no index of these knows them.
        if !self.version.is_empty() {
            return None;
        }
        if !self.node.is_empty() {
            return Some(("spec.nodeName", &self.node));
        }
        let wanted = self.fields.terms.iter().filter(|term| !term.negated);
        let term = wanted.min_by_key(|term| telling_rank(&term.path))?;
        Some((&term.path, &term.value))
    }

    /// Whether an object is wanted.
    pub fn matches(&self, object: &Object) -> bool {
        let meta = &object.meta;
        let pinned = |wanted: &Text, found: &Text| wanted.is_empty() || wanted == found;
        pinned(&self.namespace, &meta.namespace)
            && pinned(&self.name, &meta.name)
            && (self.is_later(object) || self.is_selected(object))
    }

    /// Whether an object is judged after its conversion.
    fn is_later(&self, object: &Object) -> bool {
        !self.version.is_empty() && self.version != object.meta.api_version
    }

    fn is_selected(&self, object: &Object) -> bool {
        let meta = &object.meta;
        (self.node.is_empty() || self.node == meta.node_name)
            && self.labels.matches(meta)
            && self.fields.terms.iter().all(|term| {
                let found = field(object, &term.path).unwrap_or(Cow::Borrowed(""));
                (found == term.value.as_str()) != term.negated
            })
    }
}

/// Many objects share a phase or a type, few a name, none a uid.
fn telling_rank(path: &str) -> u8 {
    let field = path.rsplit('.').next().unwrap_or(path);
    match field {
        "uid" => 0,
        "name" | "nodeName" => 1,
        _ => 2,
    }
}
