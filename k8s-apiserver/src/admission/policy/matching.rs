//! Which requests a policy or a binding is about.

use std::sync::Arc;

use k8s_core::{
    doc::{Doc, Text},
    object::{Object, ObjectKey},
    registry::ResourceInfo,
    request::Verb,
    selector::LabelSelector,
    status::{ApiError, ApiResult},
};

use crate::admission::{
    AdmissionRequest,
    webhook::{
        LabelsOf,
        configuration::selector,
        matching::{Asked, Rule},
        review,
    },
};

/// `matchConstraints` and `matchResources`.
#[derive(Debug)]
pub struct Resources {
    rules: Vec<Named>,
    excluded: Vec<Named>,
    namespaces: LabelSelector,
    objects: LabelSelector,
    exact: bool,
}

/// A rule, for the objects of some names or of all.
#[derive(Debug)]
struct Named {
    rule: Rule,
    names: Vec<Text>,
}

impl Named {
    fn of(doc: &Doc) -> Self {
        let names = doc.get("resourceNames").map_or(&[][..], Doc::items);
        Self { rule: Rule::of(doc), names: names.iter().filter_map(Doc::as_str).map(Text::from).collect() }
    }

    fn matches(&self, asked: &Asked<'_>, name: &str) -> bool {
        self.rule.matches(asked) && (self.names.is_empty() || self.names.iter().any(|wanted| wanted == name))
    }
}

impl Resources {
    /// Reads them.
    pub fn of(doc: &Doc) -> Self {
        let rules = |field: &str| doc.get(field).map_or(&[][..], Doc::items).iter().map(Named::of).collect();
        Self {
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            namespaces: selector(doc.get("namespaceSelector")),
            objects: selector(doc.get("objectSelector")),
            exact: doc.str_at(&["matchPolicy"]) == "Exact",
        }
    }

    /// In the words of which version of its kind they are about a request; `None` if they are not. Without rules they
    /// are about every kind.
    pub fn form(&self, request: &AdmissionRequest<'_>, namespace: Option<&Object>) -> Option<Arc<ResourceInfo>> {
        if !self.selects_object(request) || !self.selects_namespace(request, namespace) {
            return None;
        }
        let equivalents = if self.exact { Vec::new() } else { request.cluster.equivalents(request.info) };
        let forms = || std::iter::once(request.info).chain(&equivalents);
        let named = |rules: &[Named], form: &ResourceInfo| {
            let asked = asked(request, form);
            rules.iter().any(|rule| rule.matches(&asked, &request.target.name))
        };
        if forms().any(|form| named(&self.excluded, form)) {
            return None;
        }
        if self.rules.is_empty() {
            return Some(request.info.clone());
        }
        forms().find(|form| named(&self.rules, form)).cloned()
    }

    fn selects_object(&self, request: &AdmissionRequest<'_>) -> bool {
        if self.objects.is_everything() {
            return true;
        }
        if request.verb == Verb::Connect {
            return false;
        }
        [request.object(), request.old].into_iter().flatten().any(|doc| self.objects.matches(&LabelsOf(doc)))
    }

    fn selects_namespace(&self, request: &AdmissionRequest<'_>, namespace: Option<&Object>) -> bool {
        if self.namespaces.is_everything() {
            return true;
        }
        if request.is_below("", "namespaces")
            && let Some(object) = request.object()
        {
            return self.namespaces.matches(&LabelsOf(object));
        }
        namespace.is_none_or(|namespace| self.namespaces.matches(&*namespace.meta))
    }
}

fn asked<'a>(request: &'a AdmissionRequest<'_>, form: &'a ResourceInfo) -> Asked<'a> {
    Asked {
        operation: review::operation(request.verb),
        group: &form.group,
        version: &form.version,
        plural: &form.plural,
        subresource: &request.target.subresource,
        namespaced: form.is_namespaced(),
    }
}

/// The namespace that a request is in, if it is in one. One that is being created is not there yet.
pub async fn namespace_of(request: &AdmissionRequest<'_>) -> ApiResult<Option<Arc<Object>>> {
    let name = review::namespace(request);
    if name.is_empty() {
        return Ok(None);
    }
    let key = ObjectKey::new("", name);
    if let Some(found) = request.cluster.get("", "v1", "namespaces", &key) {
        return Ok(Some(found));
    }
    if request.is_below("", "namespaces") {
        return Ok(None);
    }
    let fresh = request.cluster.fresh("", "v1", "namespaces", &key).await?;
    fresh.map(Some).ok_or_else(|| ApiError::not_found("namespaces", "", name))
}
