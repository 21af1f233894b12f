//! What a watcher wants to see, as it asks for it and as the truth shows it.

use bytes::Bytes;
use k8s_core::{
    request::{ApiRequest, Options, ResourceType, Target, Verb, VersionMatch},
    selector::FieldSelector,
};
use k8s_reconcile::InformerScope;
use k8s_store::Entry;

/// Under which all objects are that watchers want.
pub const PREFIX: &str = "/registry/configmaps/";

/// Which objects a watcher wants.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub namespace: &'static str,
    pub name: &'static str,
    pub label: &'static str,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// After a revision.
    After(u64),
    /// With what is there, which a bookmark ends.
    Initially,
}

const fn wanted(namespace: &'static str, name: &'static str, label: &'static str) -> Wanted {
    Wanted { namespace, name, label }
}

/// Every way to want something: everything, and by namespace, name and label in all combinations that differ.
pub const WANTS: [Wanted; 8] = [
    wanted("", "", ""),
    wanted("default", "", ""),
    wanted("kube-public", "", ""),
    wanted("", "c3", ""),
    wanted("default", "c1", ""),
    wanted("", "", "yes"),
    wanted("default", "", "no"),
    wanted("kube-public", "c2", "yes"),
];

/// The kind that is watched.
pub fn config_maps() -> ResourceType {
    ResourceType::new("", "v1", "configmaps")
}

impl Wanted {
    /// The prefix of the keys that are wanted.
    pub fn prefix(&self) -> String {
        match self.namespace {
            "" => PREFIX.into(),
            namespace => format!("{PREFIX}{namespace}/"),
        }
    }

    fn labels(&self) -> String {
        if self.label.is_empty() { String::new() } else { format!("l={}", self.label) }
    }

    fn ask(&self, verb: Verb, options: Options) -> ApiRequest {
        let mut options = options;
        options.label_selector = self.labels().parse().expect("a selector");
        if !self.name.is_empty() {
            options.field_selector = FieldSelector::equal("metadata.name", self.name);
        }
        ApiRequest { verb, target: Target::all(config_maps(), self.namespace), options, ..ApiRequest::default() }
    }

    /// Asks for what is there now.
    pub fn list(&self) -> ApiRequest {
        self.ask(Verb::List, Options::default())
    }

    /// Asks for what changes, with bookmarks, for as long as `timeout` says.
    pub fn watch(&self, begin: Begin, timeout: Option<std::time::Duration>) -> ApiRequest {
        let mut options = Options { allow_watch_bookmarks: true, timeout, ..Options::default() };
        match begin {
            Begin::After(revision) => options.resource_version = Some(revision),
            Begin::Initially => {
                options.send_initial_events = Some(true);
                options.resource_version_match = Some(VersionMatch::NotOlderThan);
            }
        }
        self.ask(Verb::Watch, options)
    }

    /// The same for an informer.
    pub fn scope(&self) -> InformerScope {
        let named =
            if self.name.is_empty() { InformerScope::all() } else { InformerScope::field("metadata.name", self.name) };
        InformerScope { namespace: self.namespace.into(), labels: self.labels().parse().expect("a selector"), ..named }
    }

    /// What of a stored entry is wanted: its bytes, or nothing. What is no object is shown to nobody.
    pub fn shows(&self, entry: &Entry) -> Option<Bytes> {
        let key = entry.key.strip_prefix(&*self.prefix())?;
        let name = key.rsplit('/').next().unwrap_or(key);
        let text = std::str::from_utf8(&entry.value).ok()?;
        let labelled = self.label.is_empty() || text.contains(&format!(r#""labels":{{"l":"{}"}}"#, self.label));
        let named = self.name.is_empty() || self.name == name;
        (named && labelled && text.starts_with('{')).then(|| entry.value.clone())
    }
}
