//! The webhooks of this moment, read once from their configurations.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use k8s_core::{
    api::apimachinery::pkg::apis::meta::v1 as meta,
    doc::{Doc, Text},
    object::{Object, ObjectKey},
    selector::LabelSelector,
};
use parking_lot::Mutex;

use super::{GROUP, conditions::Conditions, matching::Rule};
use crate::{auth::Follower, webhook::ClientConfig};

/// How long a webhook that does not say may take.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// One webhook.
#[derive(Debug)]
pub struct Hook {
    /// The configuration's name.
    pub configuration: Text,
    /// Its own name.
    pub name: Text,
    /// What tells it from every other one, also of the same name.
    pub id: String,
    /// Whom to call.
    pub client: ClientConfig,
    /// What it wants to see.
    pub rules: Vec<Rule>,
    /// Whether only the version that was asked for counts (`matchPolicy: Exact`).
    pub exact: bool,
    /// Of which namespaces.
    pub namespaces: LabelSelector,
    /// Of which objects.
    pub objects: LabelSelector,
    /// When, in its own words.
    pub conditions: Conditions,
    /// What a call that fails means.
    pub on_failure: OnFailure,
    /// How long a call may take.
    pub timeout: Duration,
    /// Whether dry runs have no effects on its side.
    pub dry_runs: bool,
    /// Whether it wants to see what was changed after it was asked.
    pub reinvocable: bool,
    /// The version of the review that it is sent.
    pub version: &'static str,
}

/// `failurePolicy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnFailure {
    /// The request is refused.
    Refuse,
    /// The request goes on.
    Ignore,
}

impl Hook {
    /// Reads the webhooks of a configuration, in their order.
    fn all(configuration: &Doc) -> Vec<Arc<Self>> {
        let name = configuration.str_at(&["metadata", "name"]);
        let webhooks = configuration.get("webhooks").map_or(&[][..], Doc::items).iter().enumerate();
        webhooks.map(|(place, webhook)| Arc::new(Self::of(name, place, webhook))).collect()
    }

    fn of(configuration: &str, place: usize, doc: &Doc) -> Self {
        let name = doc.str_at(&["name"]);
        let seconds = doc.get("timeoutSeconds").and_then(Doc::as_u64);
        let versions = doc.get("admissionReviewVersions").map_or(&[][..], Doc::items);
        let known = |version: &Doc| match version.as_str() {
            Some("v1") => Some("v1"),
            Some("v1beta1") => Some("v1beta1"),
            _ => None,
        };
        Self {
            configuration: configuration.into(),
            name: name.into(),
            id: format!("{configuration}/{name}/{place}"),
            client: ClientConfig::of(doc.get("clientConfig").unwrap_or(&Doc::Null)),
            rules: doc.get("rules").map_or(&[][..], Doc::items).iter().map(Rule::of).collect(),
            exact: doc.str_at(&["matchPolicy"]) == "Exact",
            namespaces: selector(doc.get("namespaceSelector")),
            objects: selector(doc.get("objectSelector")),
            conditions: Conditions::of(doc),
            on_failure: match doc.str_at(&["failurePolicy"]) {
                "Ignore" => OnFailure::Ignore,
                _ => OnFailure::Refuse,
            },
            timeout: seconds.map_or(DEFAULT_TIMEOUT, Duration::from_secs),
            dry_runs: matches!(doc.str_at(&["sideEffects"]), "None" | "NoneOnDryRun"),
            reinvocable: doc.str_at(&["reinvocationPolicy"]) == "IfNeeded",
            version: versions.iter().find_map(known).unwrap_or("v1"),
        }
    }
}

/// A selector that validation has accepted.
fn selector(doc: Option<&Doc>) -> LabelSelector {
    let parsed = doc.filter(|doc| !doc.is_null()).and_then(|doc| doc.deserialize::<meta::LabelSelector>().ok());
    parsed.and_then(|selector| LabelSelector::try_from(&selector).ok()).unwrap_or_default()
}

/// Every webhook of one kind of configuration, by configuration and then in their order there. Follows the cache.
pub struct Configurations {
    plural: &'static str,
    known: Mutex<BTreeMap<Text, Vec<Arc<Hook>>>>,
    hooks: ArcSwap<Vec<Arc<Hook>>>,
}

impl Configurations {
    /// Of this kind; none yet.
    pub fn of(plural: &'static str) -> Self {
        Self { plural, known: Mutex::default(), hooks: ArcSwap::default() }
    }

    /// The webhooks now.
    pub fn hooks(&self) -> Arc<Vec<Arc<Hook>>> {
        self.hooks.load_full()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.hooks.load().is_empty()
    }
}

impl Follower for Configurations {
    fn follows(&self, group: &str, plural: &str) -> bool {
        group == GROUP && plural == self.plural
    }

    fn changed(&self, _: &str, _: &str, key: &ObjectKey, new: Option<&Arc<Object>>) {
        let mut known = self.known.lock();
        // What the server stored can be read; anything else would be a webhook that nobody asks.
        match new.map(|object| Doc::parse(object.stored_json())) {
            Some(Ok(doc)) => drop(known.insert(key.name.clone(), Hook::all(&doc))),
            _ => drop(known.remove(&key.name)),
        }
        self.hooks.store(Arc::new(known.values().flatten().cloned().collect()));
    }
}
