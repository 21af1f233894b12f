//! What a selector lets pass of a watch whose objects were converted: judged by what they are after it.

use std::collections::BTreeMap;

use k8s_core::{object::ObjectKey, request::WatchEvent};

use crate::cache::Filter;

/// Judges the events of one watch. It remembers of each object whether it was let pass, because the cache, which does
/// not convert, cannot tell when one begins or ceases to match: as many keys as the kind has objects.
pub struct Selected {
    filter: Filter,
    matched: BTreeMap<ObjectKey, bool>,
}

impl Selected {
    /// By a filter, of any version.
    pub fn by(filter: &Filter) -> Self {
        Self { filter: Filter { version: Default::default(), ..filter.clone() }, matched: BTreeMap::new() }
    }

    /// What is told of an event, if anything: an object that begins to match is added, one that ceases to is deleted.
    ///
    /// Of an object that this watch has not seen before nobody knows what its reader knows. One that does not match is
    /// deleted then: who does not have it loses nothing.
    pub fn judge(&mut self, event: WatchEvent) -> Option<WatchEvent> {
        let Some(object) = event.object() else { return Some(event) };
        let (key, matches) = (object.meta.key(), self.filter.matches(object));
        if let WatchEvent::Deleted(_) = event {
            let before = self.matched.remove(&key);
            return (matches || before == Some(true)).then_some(event);
        }
        let before = self.matched.insert(key, matches);
        match (event, matches, before) {
            (WatchEvent::Added(object) | WatchEvent::Modified(object), true, Some(false)) => {
                Some(WatchEvent::Added(object))
            }
            (event, true, _) => Some(event),
            (WatchEvent::Modified(object), false, None | Some(true))
            | (WatchEvent::Added(object), false, Some(true)) => Some(WatchEvent::Deleted(object)),
            _ => None,
        }
    }
}
