//! Who is to be woken by a change: watchers grouped by equal filter, the groups found by name, node, another field, or namespace.
//!
//! A watcher that waits is *parked*. A change looks up the few groups that it may concern, matches each group's filter
//! once, and either wakes its parked watchers or passes them by. A quiet watch costs nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    task::Waker,
};

use k8s_core::{doc::Text, object::Object};

use super::{field::field, filter::Filter, ring::Event};

/// Names a group; never given twice.
pub type GroupId = u64;
/// Names a watcher; never given twice.
pub type WatcherId = u64;

/// What happened to a watcher since it parked.
#[derive(Debug)]
pub enum Parked {
    /// It is not parked: it reads, and looks for new changes itself before it parks.
    No,
    /// Nothing that it wants.
    Waiting(Waker),
    /// The first change that it wants was at this revision.
    Found(u64),
    /// It was woken for another reason; it wants nothing up to this revision.
    Nudged(u64),
}

/// The watchers of one kind.
#[derive(Default)]
pub struct Interest {
    groups: BTreeMap<GroupId, Group>,
    by_filter: BTreeMap<Arc<Filter>, GroupId>,
    by_name: BTreeMap<Text, BTreeSet<GroupId>>,
    by_node: BTreeMap<Text, BTreeSet<GroupId>>,
    /// By field, then by value.
    by_field: BTreeMap<String, BTreeMap<String, BTreeSet<GroupId>>>,
    by_namespace: BTreeMap<Text, BTreeSet<GroupId>>,
    broad: BTreeSet<GroupId>,
    last: u64,
    /// Every change up to here has been compared with the parked watchers.
    pub noted: u64,
    /// How many filters were compared with changes.
    pub compared: u64,
}

struct Group {
    filter: Arc<Filter>,
    members: BTreeMap<WatcherId, Parked>,
}

impl Interest {
    /// Adds a watcher, not parked.
    pub fn join(&mut self, filter: Filter) -> (GroupId, WatcherId, Arc<Filter>) {
        self.last += 1;
        let watcher = self.last;
        let group = match self.by_filter.get(&filter) {
            Some(group) => *group,
            None => self.open(Arc::new(filter)),
        };
        // Invariant: `by_filter` names live groups only.
        let entry = self.groups.get_mut(&group).unwrap_or_else(|| unreachable!("an indexed group exists"));
        entry.members.insert(watcher, Parked::No);
        (group, watcher, entry.filter.clone())
    }

    fn open(&mut self, filter: Arc<Filter>) -> GroupId {
        self.last += 1;
        let group = self.last;
        self.by_filter.insert(filter.clone(), group);
        self.slot(&filter).insert(group);
        self.groups.insert(group, Group { filter, members: BTreeMap::new() });
        group
    }

    /// The most telling index of a filter.
    fn slot(&mut self, filter: &Filter) -> &mut BTreeSet<GroupId> {
        if !filter.name.is_empty() {
            self.by_name.entry(filter.name.clone()).or_default()
        } else if !filter.node.is_empty() {
            self.by_node.entry(filter.node.clone()).or_default()
        } else if let Some((path, value)) = filter.most_telling() {
            self.by_field.entry(path.into()).or_default().entry(value.into()).or_default()
        } else if !filter.namespace.is_empty() {
            self.by_namespace.entry(filter.namespace.clone()).or_default()
        } else {
            &mut self.broad
        }
    }

    /// Removes a watcher.
    pub fn leave(&mut self, group: GroupId, watcher: WatcherId) {
        let Some(entry) = self.groups.get_mut(&group) else { return };
        entry.members.remove(&watcher);
        if !entry.members.is_empty() {
            return;
        }
        let filter = entry.filter.clone();
        self.groups.remove(&group);
        self.by_filter.remove(&filter);
        self.slot(&filter).remove(&group);
        // Of an index only what is empty goes: others may be found by the same namespace or node.
        prune(&mut self.by_name, &filter.name);
        prune(&mut self.by_node, &filter.node);
        prune(&mut self.by_namespace, &filter.namespace);
        self.by_field.values_mut().for_each(|values| values.retain(|_, groups| !groups.is_empty()));
        self.by_field.retain(|_, values| !values.is_empty());
    }

    /// The state of a watcher, to read and change.
    pub fn member(&mut self, group: GroupId, watcher: WatcherId) -> Option<&mut Parked> {
        self.groups.get_mut(&group)?.members.get_mut(&watcher)
    }

    /// How many watchers there are.
    pub fn len(&self) -> usize {
        self.groups.values().map(|group| group.members.len()).sum()
    }

    /// Compares changes with the parked watchers and hands the wakers of those that want one to `wakers`.
    pub fn note(&mut self, events: &[Arc<Event>], wakers: &mut Vec<Waker>) {
        for event in events {
            for group in self.candidates(event) {
                let Some(group) = self.groups.get_mut(&group) else { continue };
                let waits = group.members.values().any(|member| matches!(member, Parked::Waiting(_)));
                if !waits {
                    continue;
                }
                self.compared += 1;
                if event.concerns(&group.filter) {
                    group.wake(Parked::Found(event.revision), wakers);
                }
            }
            self.noted = event.revision;
        }
    }

    /// The groups that may want a change.
    fn candidates(&self, event: &Event) -> Vec<GroupId> {
        let nodes = [&event.new, &event.old].into_iter().flatten().map(|object: &Arc<Object>| &object.meta.node_name);
        let mut nodes: Vec<&Text> = nodes.filter(|node| !node.is_empty()).collect();
        nodes.dedup();
        let by_node = nodes.into_iter().filter_map(|node| self.by_node.get(node)).flatten();
        let by_field = self.by_field.iter().flat_map(|(path, values)| {
            let sides = [&event.new, &event.old].into_iter().flatten();
            let mut found: Vec<_> = sides.map(|object| field(object, path).unwrap_or_default()).collect();
            found.dedup();
            found.into_iter().filter_map(|value| values.get(&*value)).flatten()
        });
        let by_name = self.by_name.get(&event.key.name).into_iter().flatten();
        let by_namespace = self.by_namespace.get(&event.key.namespace).into_iter().flatten();
        by_name.chain(by_node).chain(by_field).chain(by_namespace).chain(&self.broad).copied().collect()
    }

    /// Wakes every parked watcher: the cache was made anew or ends.
    pub fn wake_all(&mut self, wakers: &mut Vec<Waker>) {
        let noted = self.noted;
        self.groups.values_mut().for_each(|group| group.wake(Parked::Nudged(noted), wakers));
    }
}

fn prune(index: &mut BTreeMap<Text, BTreeSet<GroupId>>, value: &Text) {
    if index.get(value).is_some_and(BTreeSet::is_empty) {
        index.remove(value);
    }
}

impl Group {
    fn wake(&mut self, because: Parked, wakers: &mut Vec<Waker>) {
        let revision = match because {
            Parked::Found(revision) | Parked::Nudged(revision) => revision,
            Parked::No | Parked::Waiting(_) => return,
        };
        let found = matches!(because, Parked::Found(_));
        for member in self.members.values_mut() {
            if !matches!(member, Parked::Waiting(_)) {
                continue;
            }
            let next = if found { Parked::Found(revision) } else { Parked::Nudged(revision) };
            if let Parked::Waiting(waker) = std::mem::replace(member, next) {
                wakers.push(waker);
            }
        }
    }
}
