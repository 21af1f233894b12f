//! Asking mutating plugins again: what one changed, an earlier one may want to see.
//!
//! As upstream: when a webhook (or policy) changes an object, all plugins run once more, and of the webhooks those that ran
//! before a change and said `IfNeeded`. There is no third round.

use std::collections::{BTreeMap, BTreeSet};

use k8s_core::doc::Doc;

/// What is kept of one request between its rounds.
#[derive(Default)]
pub struct Reinvocation {
    round: usize,
    wanted: bool,
    plugins: BTreeMap<&'static str, Invoked>,
}

/// What one plugin has asked.
#[derive(Default)]
struct Invoked {
    /// Asked before the last change, and not to be asked again yet.
    before: BTreeSet<String>,
    /// To be asked again.
    again: BTreeSet<String>,
    /// The object as the plugin left it.
    left: Option<Doc>,
}

impl Reinvocation {
    /// 0 at first, 1 when plugins run again.
    pub fn round(&self) -> usize {
        self.round
    }

    /// A plugin begins. What others changed since it ran is a reason to ask its own again.
    pub fn begin(&mut self, plugin: &'static str, object: Option<&Doc>) {
        let invoked = self.plugins.entry(plugin).or_default();
        if self.round > 0 && invoked.left.as_ref() != object {
            invoked.again.append(&mut invoked.before);
        }
    }

    /// Whether one of a plugin's is to be asked in this round. What was not asked in the first is not in the second.
    pub fn is_due(&self, plugin: &'static str, id: &str) -> bool {
        self.round == 0 || self.plugins.get(plugin).is_some_and(|invoked| invoked.again.contains(id))
    }

    /// One of a plugin's changed the object: its earlier ones, and every plugin, are to be asked again.
    pub fn changed(&mut self, plugin: &'static str) {
        self.wanted = true;
        let invoked = self.plugins.entry(plugin).or_default();
        invoked.again.append(&mut invoked.before);
    }

    /// One that wants to see later changes was asked.
    pub fn asked(&mut self, plugin: &'static str, id: &str) {
        self.plugins.entry(plugin).or_default().before.insert(id.to_owned());
    }

    /// A plugin is done.
    pub fn end(&mut self, plugin: &'static str, object: Option<&Doc>) {
        self.plugins.entry(plugin).or_default().left = object.cloned();
    }

    /// Begins the second round, if there is to be one.
    pub(super) fn again(&mut self) -> bool {
        let again = self.wanted && self.round == 0;
        self.round += usize::from(again);
        again
    }
}
