//! The policies of this moment with their bindings, compiled once per change.

use std::{collections::BTreeMap, sync::Arc};

use arc_swap::ArcSwap;
use k8s_core::{
    admission_policy::{self, Expressions},
    cel::Type,
    doc::{Doc, Text},
    object::{Object, ObjectKey},
    selector::LabelSelector,
};
use parking_lot::Mutex;

use super::{GROUP, matching::Resources};
use crate::{
    admission::webhook::configuration::{OnFailure, selector},
    auth::Follower,
};

/// A compiled policy.
#[derive(Debug)]
pub struct Policy {
    /// Its name.
    pub name: Text,
    /// Its expressions.
    pub expressions: Expressions,
    /// Why it cannot be evaluated; validation lets no such policy in.
    pub broken: Option<String>,
    /// What it is about.
    pub resources: Resources,
    /// What a failure means.
    pub on_failure: OnFailure,
    /// Group, version and kind of its parameters.
    pub param_kind: Option<(Text, Text, Text)>,
    /// Whether it wants to see what was changed after it.
    pub reinvocable: bool,
}

/// A binding of a policy.
#[derive(Debug)]
pub struct Binding {
    /// Its name.
    pub name: Text,
    /// Which policy it binds.
    pub policy: Text,
    /// What of that policy's resources it is about; `None` is all.
    pub resources: Option<Resources>,
    /// Where the parameters are.
    pub params: Option<ParamRef>,
    /// `validationActions`
    pub actions: Vec<Text>,
}

/// Where the parameters of a binding are.
#[derive(Debug)]
pub struct ParamRef {
    /// The name of the one object, or nothing for all that the selector selects.
    pub name: Text,
    /// The namespace; empty for that of the request.
    pub namespace: Text,
    /// Which objects.
    pub selector: LabelSelector,
    /// Whether finding none is no failure.
    pub may_be_missing: bool,
}

impl Policy {
    fn of(doc: &Doc) -> Self {
        let (expressions, problems) = admission_policy::compile(doc, &Type::Dyn, &Type::Dyn);
        let kind = doc.at(&["spec", "paramKind"]).filter(|kind| !kind.is_null());
        Self {
            name: doc.str_at(&["metadata", "name"]).into(),
            expressions,
            broken: problems.first().map(|problem| format!("{}: {}", problem.path, problem.error)),
            resources: Resources::of(doc.at(&["spec", "matchConstraints"]).unwrap_or(&Doc::Null)),
            on_failure: match doc.str_at(&["spec", "failurePolicy"]) {
                "Ignore" => OnFailure::Ignore,
                _ => OnFailure::Refuse,
            },
            param_kind: kind.map(|kind| {
                let version = kind.str_at(&["apiVersion"]);
                let (group, version) = version.split_once('/').unwrap_or(("", version));
                (group.into(), version.into(), kind.str_at(&["kind"]).into())
            }),
            reinvocable: doc.str_at(&["spec", "reinvocationPolicy"]) == "IfNeeded",
        }
    }
}

impl Binding {
    fn of(doc: &Doc) -> Self {
        let actions = doc.at(&["spec", "validationActions"]).map_or(&[][..], Doc::items);
        let resources = doc.at(&["spec", "matchResources"]).filter(|value| !value.is_null());
        let params = doc.at(&["spec", "paramRef"]).filter(|value| !value.is_null());
        Self {
            name: doc.str_at(&["metadata", "name"]).into(),
            policy: doc.str_at(&["spec", "policyName"]).into(),
            resources: resources.map(Resources::of),
            params: params.map(|params| ParamRef {
                name: params.str_at(&["name"]).into(),
                namespace: params.str_at(&["namespace"]).into(),
                selector: selector(params.get("selector")),
                may_be_missing: params.str_at(&["parameterNotFoundAction"]) == "Allow",
            }),
            actions: actions.iter().filter_map(Doc::as_str).map(Text::from).collect(),
        }
    }
}

/// A policy with one of its bindings.
pub type Active = (Arc<Policy>, Arc<Binding>);

/// The policies of one kind with their bindings, by name. Follows the cache.
pub struct Policies {
    policies: &'static str,
    bindings: &'static str,
    known: Mutex<Known>,
    active: ArcSwap<Vec<Active>>,
}

#[derive(Default)]
struct Known {
    policies: BTreeMap<Text, Arc<Policy>>,
    bindings: BTreeMap<Text, Arc<Binding>>,
}

impl Policies {
    /// Of these kinds, by their plural names; none yet.
    pub fn of(policies: &'static str, bindings: &'static str) -> Self {
        Self { policies, bindings, known: Mutex::default(), active: ArcSwap::default() }
    }

    /// Every policy with every binding of it.
    pub fn active(&self) -> Arc<Vec<Active>> {
        self.active.load_full()
    }

    /// Whether there is nothing to evaluate.
    pub fn is_empty(&self) -> bool {
        self.active.load().is_empty()
    }
}

impl Follower for Policies {
    fn follows(&self, group: &str, plural: &str) -> bool {
        group == GROUP && (plural == self.policies || plural == self.bindings)
    }

    fn changed(&self, _: &str, plural: &str, key: &ObjectKey, new: Option<&Arc<Object>>) {
        let mut known = self.known.lock();
        // What the server stored can be read; anything else would be a policy that nobody evaluates.
        let doc = new.and_then(|object| Doc::parse(object.stored_json()).ok());
        match (plural == self.policies, doc) {
            (true, Some(doc)) => drop(known.policies.insert(key.name.clone(), Arc::new(Policy::of(&doc)))),
            (true, None) => drop(known.policies.remove(&key.name)),
            (false, Some(doc)) => drop(known.bindings.insert(key.name.clone(), Arc::new(Binding::of(&doc)))),
            (false, None) => drop(known.bindings.remove(&key.name)),
        }
        let mut active = Vec::new();
        for policy in known.policies.values() {
            let bindings = known.bindings.values().filter(|binding| binding.policy == policy.name);
            active.extend(bindings.map(|binding| (policy.clone(), binding.clone())));
        }
        self.active.store(Arc::new(active));
    }
}
