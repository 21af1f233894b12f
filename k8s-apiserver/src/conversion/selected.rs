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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use k8s_core::{
        doc,
        object::Object,
        request::{Options, Target},
    };

    use super::*;

    fn object(form: &str) -> Arc<Object> {
        let mut doc = doc!({"apiVersion": "g/v2", "kind": "K", "metadata": {"name": "a", "labels": {"form": form}}});
        Arc::new(Object::from_doc(&mut doc, 1).unwrap())
    }

    fn told(events: Vec<WatchEvent>) -> Vec<&'static str> {
        let options = Options { label_selector: "form=in".parse().unwrap(), ..Options::default() };
        let filter = Filter { version: "g/v2".into(), ..Filter::new(&Target::default(), &options) };
        let mut selected = Selected::by(&filter);
        let told = events.into_iter().map(|event| match selected.judge(event) {
            Some(WatchEvent::Added(_)) => "added",
            Some(WatchEvent::Modified(_)) => "modified",
            Some(WatchEvent::Deleted(_)) => "deleted",
            Some(WatchEvent::Bookmark { .. }) => "bookmark",
            None => "-",
        });
        told.collect()
    }

    #[test]
    fn an_object_comes_and_goes_with_what_it_says() {
        use WatchEvent::{Added, Deleted, Modified};
        let (inside, outside) = (|| object("in"), || object("out"));
        let events =
            vec![Added(outside()), Modified(inside()), Modified(inside()), Modified(outside()), Modified(outside())];
        assert_eq!(told(events), ["-", "added", "modified", "deleted", "-"]);
        assert_eq!(told(vec![Added(inside()), Deleted(outside())]), ["added", "deleted"]);
        assert_eq!(told(vec![Added(outside()), Deleted(outside())]), ["-", "-"]);
        let bookmark = WatchEvent::Bookmark { revision: 3, initial_events_end: false };
        assert_eq!(told(vec![Modified(inside()), bookmark]), ["modified", "bookmark"]);
    }

    #[test]
    fn what_was_not_seen_before_is_deleted_once() {
        use WatchEvent::{Deleted, Modified};
        let (inside, outside) = (|| object("in"), || object("out"));
        assert_eq!(told(vec![Modified(outside()), Modified(outside()), Deleted(outside())]), ["deleted", "-", "-"]);
        assert_eq!(told(vec![Deleted(inside())]), ["deleted"]);
    }
}
