//! The phases of scheduling, as small traits, and the profile that puts plugins together.
//!
//! Follows upstream's scheduling framework. A plugin keeps what it works out about a pod as a value of its own type
//! (`State`); nothing is looked up by name. `wakes_on` has no default: a filter that forgets what could make a pod fit
//! again would leave it waiting for ever.

use std::{any::Any, cmp::Ordering, sync::Arc};

use crate::{
    plugins,
    pod::PodInfo,
    snapshot::{NodeView, Snapshot},
};

/// The highest score of one plugin on one node.
pub const MAX_SCORE: i64 = 100;

/// What may change in a cluster so that a pod fits that did not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterChange {
    /// A node came.
    NodeAdded,
    /// A node's allocatable amounts grew.
    NodeAllocatable,
    /// A node's labels changed.
    NodeLabels,
    /// A node's taints changed, or it was uncordoned.
    NodeTaints,
    /// A pod left a node.
    PodRemoved,
    /// A pod was placed, or its labels changed.
    PodPlaced,
    /// The waiting pod itself changed.
    PodItself,
}

/// Why a pod cannot go to a node: one of the few texts that are counted in the message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reject {
    /// For people, such as `Insufficient cpu`.
    pub reason: String,
}

impl Reject {
    /// A rejection with a reason.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { reason: reason.into() }
    }
}

/// Says on which nodes a pod may run: a predicate.
pub trait Filter: Send + Sync + 'static {
    /// What is worked out about a pod once, before nodes are looked at.
    type State: Send + Sync + 'static;

    /// The plugin's name, as upstream's configuration has it.
    fn name(&self) -> &'static str;

    /// What may make a pod fit that this filter turned away.
    fn wakes_on(&self) -> &'static [ClusterChange];

    /// Works out the state. `Ok(None)`: this filter has nothing to say about the pod. An error: no node will do.
    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Result<Option<Self::State>, Reject>;

    /// Whether the pod may run on a node.
    fn filter(&self, state: &Self::State, pod: &PodInfo, node: NodeView<'_>) -> Result<(), Reject>;
}

/// Says which node is better: a priority.
pub trait Score: Send + Sync + 'static {
    /// What is worked out about a pod once.
    type State: Send + Sync + 'static;

    /// The plugin's name, as upstream's configuration has it.
    fn name(&self) -> &'static str;

    /// Works out the state. `None`: all nodes are the same to this scorer.
    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Option<Self::State>;

    /// A node's score; any range if `normalize` brings it into `0..=MAX_SCORE`.
    fn score(&self, state: &Self::State, pod: &PodInfo, node: NodeView<'_>) -> i64;

    /// Brings the scores of all feasible nodes into `0..=MAX_SCORE`.
    fn normalize(&self, scores: &mut [i64]) {
        let _ = scores;
    }
}

/// The order in which waiting pods are taken.
pub trait QueueSort: Send + Sync + 'static {
    /// Which of two pods goes first; the times are when they joined the queue, for ties.
    fn compare(&self, a: (&PodInfo, u64), b: (&PodInfo, u64)) -> Ordering;
}

/// A [`Filter`] of any state.
pub(crate) trait AnyFilter: Send + Sync {
    fn name(&self) -> &'static str;
    fn wakes_on(&self) -> &'static [ClusterChange];
    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Result<Option<Box<dyn Any + Send + Sync>>, Reject>;
    fn filter(&self, state: &(dyn Any + Send + Sync), pod: &PodInfo, node: NodeView<'_>) -> Result<(), Reject>;
}

impl<F: Filter> AnyFilter for F {
    fn name(&self) -> &'static str {
        Filter::name(self)
    }
    fn wakes_on(&self) -> &'static [ClusterChange] {
        Filter::wakes_on(self)
    }
    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Result<Option<Box<dyn Any + Send + Sync>>, Reject> {
        Ok(Filter::prepare(self, pod, snapshot)?.map(|state| Box::new(state) as _))
    }
    fn filter(&self, state: &(dyn Any + Send + Sync), pod: &PodInfo, node: NodeView<'_>) -> Result<(), Reject> {
        // Invariant: the state was made by this plugin's own `prepare`; `decide` pairs them by position.
        Filter::filter(self, state.downcast_ref().expect("state of this plugin"), pod, node)
    }
}

/// A [`Score`] of any state.
pub(crate) trait AnyScore: Send + Sync {
    fn score_all(&self, pod: &PodInfo, snapshot: &Snapshot, slots: &[usize]) -> Option<Vec<i64>>;
}

impl<S: Score> AnyScore for S {
    fn score_all(&self, pod: &PodInfo, snapshot: &Snapshot, slots: &[usize]) -> Option<Vec<i64>> {
        let state = self.prepare(pod, snapshot)?;
        let mut scores: Vec<i64> = slots.iter().map(|slot| self.score(&state, pod, snapshot.node(*slot))).collect();
        self.normalize(&mut scores);
        Some(scores)
    }
}

/// Which plugins decide, in which order and with which weights.
#[derive(Clone)]
pub struct Profile {
    /// The name that pods ask for in `spec.schedulerName`.
    pub scheduler_name: String,
    pub(crate) sort: Arc<dyn QueueSort>,
    pub(crate) filters: Vec<Arc<dyn AnyFilter>>,
    pub(crate) scores: Vec<(Arc<dyn AnyScore>, i64)>,
}

impl Profile {
    /// A profile without plugins: every node will do.
    pub fn empty(scheduler_name: impl Into<String>) -> Self {
        Self {
            scheduler_name: scheduler_name.into(),
            sort: Arc::new(plugins::priority_sort::PrioritySort),
            filters: Vec::new(),
            scores: Vec::new(),
        }
    }

    /// Adds a filter; they run in the order added, and the first that refuses a node is the one that is told.
    pub fn filter(mut self, filter: impl Filter) -> Self {
        self.filters.push(Arc::new(filter));
        self
    }

    /// Adds a scorer with its weight.
    pub fn score(mut self, score: impl Score, weight: i64) -> Self {
        self.scores.push((Arc::new(score), weight));
        self
    }

    /// Replaces the order of the queue.
    pub fn sort(mut self, sort: impl QueueSort) -> Self {
        self.sort = Arc::new(sort);
        self
    }

    /// What may make a pod fit that these filters turned away. A new node always may: no filter has seen it.
    pub fn wakes_on(&self, filters: &[&'static str]) -> Vec<ClusterChange> {
        let named = self.filters.iter().filter(|filter| filters.contains(&filter.name()));
        let mut changes: Vec<ClusterChange> = named.flat_map(|filter| filter.wakes_on()).copied().collect();
        changes.push(ClusterChange::NodeAdded);
        changes.sort_unstable();
        changes.dedup();
        changes
    }
}

/// The default profile, with upstream's order and weights for the plugins that are there.
impl Default for Profile {
    fn default() -> Self {
        // Invariant: the names are the plugins' own.
        plugins::profile("default-scheduler", &plugins::FILTERS, &plugins::SCORERS).expect("plugins of these names")
    }
}
