//! The cache of one kind: its objects now, its recent changes, and who waits for more.

use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use arc_swap::ArcSwap;
use k8s_core::{
    object::{Object, ObjectKey},
    registry::ResourceInfo,
    schema::Schema,
    status::{ApiError, ApiResult},
};
use k8s_store::{Attachment, Entry, Key};
use parking_lot::{Mutex, RwLock};

use super::{
    filter::Filter,
    index::Index,
    interest::Interest,
    metrics::Counts,
    ring::{Event, Ring},
    state::State,
    written::Written,
};
use crate::{auth::Follower, conversion::Converter, storage};

/// How many older states are kept whole for readers of further pages; others are made again from the changes.
const KEPT_STATES: usize = 8;

/// A list that would look at no more objects than this needs no index.
const SCANNED: u64 = 256;

/// Everything known of one kind.
pub struct KindCache {
    /// The kind, at the version that is stored.
    pub info: Arc<ResourceInfo>,
    /// What its objects look like.
    pub schema: Schema,
    /// Where it is stored, ending in `/`.
    pub prefix: String,
    /// Who turns its objects into those of this version, where a webhook does.
    pub(crate) converter: Option<Converter>,
    /// Told of every change.
    pub(super) followers: Vec<Arc<dyn Follower>>,
    state: ArcSwap<State>,
    pub(super) ring: RwLock<Ring>,
    pub(super) interest: Mutex<Interest>,
    kept: Mutex<Kept>,
    /// Whether the kind is no longer served, or served in another form: nothing is published here any more.
    closed: AtomicBool,
    /// What was done, for metrics.
    pub(super) counts: Counts,
}

/// Older states, and how far back they may be asked for.
#[derive(Default)]
struct Kept {
    states: VecDeque<Arc<State>>,
    floor: u64,
}

impl KindCache {
    /// An empty cache.
    pub fn new(info: Arc<ResourceInfo>, schema: Schema, followers: Vec<Arc<dyn Follower>>) -> Self {
        let followers = followers.into_iter().filter(|f| f.follows(&info.group, &info.plural)).collect();
        Self {
            prefix: info.storage_prefix(),
            converter: Converter::of(&info),
            info,
            schema,
            followers,
            state: ArcSwap::from_pointee(State::default()),
            ring: RwLock::new(Ring::new(0)),
            interest: Mutex::default(),
            kept: Mutex::default(),
            closed: AtomicBool::new(false),
            counts: Counts::default(),
        }
    }

    /// Whether somebody must know of a change before its writer is answered.
    pub fn is_followed(&self) -> bool {
        !self.followers.is_empty()
    }

    /// Ends every watch, after what it has not read yet.
    pub(super) fn close(&self, wakers: &mut Vec<Waker>) {
        self.closed.store(true, Ordering::Release);
        self.interest.lock().wake_all(wakers);
    }

    /// Whether nothing is published here any more: the kind is gone, or served in another form.
    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The objects now.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// The objects at an older revision. 410 if that is no longer known.
    pub fn state_at(&self, revision: u64) -> ApiResult<Arc<State>> {
        let mut kept = self.kept.lock();
        // The ring is read before the state: a state that is newer only means more to take back.
        let ring = self.ring.read();
        let now = self.state();
        let too_old = || ApiError::expired(format!("The resourceVersion {revision} for the provided list is too old."));
        if revision < kept.floor {
            return Err(too_old());
        }
        if now.revision <= revision {
            return Ok(now);
        }
        if let Some(state) = kept.states.iter().find(|state| state.revision == revision) {
            return Ok(state.clone());
        }
        let changes = ring.after(revision).ok_or_else(too_old)?;
        let mut state = State::clone(&now);
        state.undo(changes.rev().filter(|event| event.revision <= now.revision), revision);
        let state = Arc::new(state);
        kept.states.push_back(state.clone());
        while kept.states.len() > KEPT_STATES {
            kept.states.pop_front();
        }
        Ok(state)
    }

    /// Makes sure that a filter among many objects is answered from an index. Costs a walk over all objects, once.
    pub(super) fn prepare(&self, filter: &Filter) {
        let Some((path, _)) = filter.most_telling() else { return };
        let is_one = path == "metadata.name" && (!filter.namespace.is_empty() || !self.info.is_namespaced());
        let generation = self.ring.read().generation;
        let state = self.state();
        if is_one || state.has_index(path) || state.count(&filter.namespace) <= SCANNED {
            return;
        }
        let mut index = Index::of(path, &state);
        // While this is held, nothing is published. What was published meanwhile is caught up with.
        let ring = self.ring.write();
        let Some(changes) = ring.after(state.revision).filter(|_| ring.generation == generation) else { return };
        changes.for_each(|event| index.change(&event.key, event.old.as_deref(), event.new.as_deref()));
        let mut state = State::clone(&self.state());
        state.add_index(index);
        // A publisher that took its copy before loses the index; the next reader makes it again.
        self.state.store(Arc::new(state));
    }

    /// Forgets how things were before `revision`. Watches may still resume from before it.
    pub(super) fn compact(&self, revision: u64) {
        let mut kept = self.kept.lock();
        kept.floor = kept.floor.max(revision);
        kept.states.retain(|state| state.revision >= revision);
    }

    /// Starts anew with what a list showed. Everybody who watches must start anew, too.
    pub(super) fn reset(&self, state: State, ring: Ring, wakers: &mut Vec<Waker>) {
        let before = self.state();
        for (key, _) in before.iter().filter(|(key, _)| state.get(key).is_none()) {
            self.tell(key, None);
        }
        for (key, object) in state.iter() {
            self.tell(key, Some(object));
        }
        *self.kept.lock() = Kept { floor: ring.oldest(), ..Kept::default() };
        let mut held = self.ring.write();
        self.state.store(Arc::new(state));
        let generation = held.generation + 1;
        *held = ring;
        held.generation = generation;
        drop(held);
        self.interest.lock().wake_all(wakers);
    }

    /// Publishes changes, in order, with the state that they lead to.
    pub(super) fn publish(&self, state: State, events: &[Arc<Event>], wakers: &mut Vec<Waker>) {
        for event in events {
            self.tell(&event.key, event.new.as_ref());
        }
        {
            let mut ring = self.ring.write();
            events.iter().for_each(|event| ring.push(event.clone()));
            self.state.store(Arc::new(state));
        }
        self.interest.lock().note(events, wakers);
    }

    fn tell(&self, key: &ObjectKey, new: Option<&Arc<Object>>) {
        for follower in &self.followers {
            follower.changed(&self.info.group, &self.info.plural, key, new);
        }
    }

    /// The object of a stored entry, without decoding it where somebody in this process already has.
    pub fn object(&self, entry: &Entry) -> ApiResult<Arc<Object>> {
        if let Some(object) = self.written(entry.attachment.as_ref(), entry.modified.0) {
            return Ok(object);
        }
        let state = self.state.load();
        let suffix = entry.key.as_str().strip_prefix(self.prefix.as_str()).unwrap_or_default();
        if let Some(object) = state.get(&self.key(suffix))
            && object.revision() == entry.modified.0
        {
            return Ok(object.clone());
        }
        self.decode(entry)
    }

    /// The object of a stored entry, decoded. What does not say that it is what its key says cannot be relied on: it is
    /// no object, either.
    pub(super) fn decode(&self, entry: &Entry) -> ApiResult<Arc<Object>> {
        if let Some(id) = storage::key_id(&entry.value) {
            return Err(ApiError::internal(format!("it is encrypted with {id}, which does not open it here")));
        }
        let object = Object::from_json(entry.value.clone(), Some(entry.modified.0))?;
        let key = self.key(entry.key.strip_prefix(self.prefix.as_str()).unwrap_or_default());
        if object.meta.key() != key {
            return Err(ApiError::internal(format!("it is stored as {key} and says that it is {}", object.meta.key())));
        }
        self.shown(object).map(Arc::new)
    }

    /// A stored object in the form of this version; one of another version as it is where a webhook converts.
    pub fn shown(&self, object: Object) -> ApiResult<Object> {
        match &self.info.custom {
            Some(custom) => custom.show(&self.info.api_version(), object),
            None => Ok(object),
        }
    }

    /// Whether objects are stored in the form in which they are shown here.
    pub fn is_stored_form(&self) -> bool {
        self.info.custom.as_ref().is_none_or(|custom| custom.is_storage)
    }

    /// What the writer hung on the entry, if it was written in this process and under the same definition of the kind.
    fn written(&self, attachment: Option<&Attachment>, revision: u64) -> Option<Arc<Object>> {
        let written = attachment?.downcast_ref::<Written>()?;
        let is_same = self.info.custom.is_none() || Arc::ptr_eq(written.kind(), &self.info);
        is_same.then(|| written.object(revision))
    }

    /// The storage key of an object.
    pub fn storage_key(&self, key: &ObjectKey) -> Key {
        let Self { prefix, .. } = self;
        let text = match self.info.is_namespaced() {
            true => format!("{prefix}{}/{}", key.namespace, key.name),
            false => format!("{prefix}{}", key.name),
        };
        text.into()
    }

    /// The key of an object from the part of its storage key that follows the prefix.
    pub(super) fn key(&self, suffix: &str) -> ObjectKey {
        let (namespace, name) = suffix.split_once('/').unwrap_or(("", suffix));
        ObjectKey::new(namespace, name)
    }
}
