//! What the cache counts, under upstream's names where it has them.

use std::{
    fmt::Write as _,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use super::{Cache, KindCache};

/// What was done with one kind.
#[derive(Debug, Default)]
pub struct Counts {
    lists: AtomicU64,
    looked_at: AtomicU64,
    listed: AtomicU64,
    terminated: AtomicU64,
    consistent: AtomicU64,
    inconsistent: AtomicU64,
    unchecked: AtomicU64,
}

/// The outcome of a comparison of the cache with the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// They agree.
    Same,
    /// They do not.
    Different,
    /// There was no telling.
    Failed,
}

impl Counts {
    /// A list that looked at some objects and answered with some of them.
    pub fn listed(&self, looked_at: usize, answered: usize) {
        self.lists.fetch_add(1, Relaxed);
        self.looked_at.fetch_add(looked_at as u64, Relaxed);
        self.listed.fetch_add(answered as u64, Relaxed);
    }

    /// A watch that fell behind, or whose cache was made anew.
    pub fn terminated(&self) {
        self.terminated.fetch_add(1, Relaxed);
    }

    /// A comparison with the store.
    pub fn checked(&self, outcome: Checked) {
        self.of(outcome).fetch_add(1, Relaxed);
    }

    fn of(&self, outcome: Checked) -> &AtomicU64 {
        match outcome {
            Checked::Same => &self.consistent,
            Checked::Different => &self.inconsistent,
            Checked::Failed => &self.unchecked,
        }
    }

    /// How many objects lists have looked at.
    #[cfg(test)]
    pub fn looked_at(&self) -> u64 {
        self.looked_at.load(Relaxed)
    }

    /// How many comparisons had an outcome.
    #[cfg(test)]
    pub fn checks(&self, outcome: Checked) -> u64 {
        self.of(outcome).load(Relaxed)
    }
}

impl Cache {
    /// The samples of the cache in the Prometheus text format.
    pub fn samples(&self) -> String {
        let mut out = format!(
            "# TYPE apiserver_watch_cache_rebuilds_total counter\napiserver_watch_cache_rebuilds_total {}\n",
            self.rebuilds()
        );
        type Read = fn(&KindCache) -> u64;
        let families: [(&str, &str, Read); 7] = [
            ("apiserver_resource_objects", "gauge", |kind| kind.state().count("")),
            ("apiserver_cache_list_total", "counter", |kind| kind.counts.lists.load(Relaxed)),
            ("apiserver_cache_list_fetched_objects_total", "counter", |kind| kind.counts.looked_at.load(Relaxed)),
            ("apiserver_cache_list_returned_objects_total", "counter", |kind| kind.counts.listed.load(Relaxed)),
            ("apiserver_terminated_watchers_total", "counter", |kind| kind.counts.terminated.load(Relaxed)),
            ("apiserver_registered_watchers", "gauge", |kind| kind.interest.lock().len() as u64),
            ("apiserver_watch_cache_compared_filters_total", "counter", |kind| kind.interest.lock().compared),
        ];
        for (name, form, read) in families {
            self.family(name, form, &mut out, |kind| vec![(String::new(), read(kind))]);
        }
        self.family("apiserver_storage_consistency_checks_total", "counter", &mut out, |kind| {
            let statuses = [("success", Checked::Same), ("failure", Checked::Different), ("error", Checked::Failed)];
            let sample = |(status, outcome)| (format!(",status={status:?}"), kind.counts.of(outcome).load(Relaxed));
            statuses.map(sample).into()
        });
        out
    }

    /// The kinds, each once: the versions of a custom one hold the same objects.
    fn served(&self) -> Vec<Arc<KindCache>> {
        self.kinds().into_iter().filter(|kind| kind.is_stored_form()).collect()
    }

    /// One metric of every kind. What is zero is left out: most kinds are never asked for.
    fn family(&self, name: &str, form: &str, out: &mut String, read: impl Fn(&KindCache) -> Vec<(String, u64)>) {
        // Invariant: writing to a string does not fail.
        let _ = writeln!(out, "# TYPE {name} {form}");
        for kind in self.served() {
            let (group, resource) = (&kind.info.group, &kind.info.plural);
            for (labels, value) in read(&kind).into_iter().filter(|(_, value)| *value > 0) {
                let _ = writeln!(out, "{name}{{group={group:?},resource={resource:?}{labels}}} {value}");
            }
        }
    }
}
