//! What the cache counts, under upstream's names where it has them.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering::Relaxed},
};

use k8s_core::metrics::Samples;

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
        let mut out = Samples::default();
        let help = "How often the cache was made anew because it or the store's watch was wrong.";
        out.single("apiserver_watch_cache_rebuilds_total", "counter", help, self.rebuilds());
        let name = "apiserver_storage_objects";
        out.family(name, "gauge", "Objects that are stored, by resource and group in one word.");
        for kind in self.served() {
            let count = kind.state().count("");
            if count > 0 {
                out.sample(name, &[("resource", kind.info.resource().to_string().as_str())], count);
            }
        }
        for (name, form, help, read) in FAMILIES {
            self.family(&mut out, name, form, help, |kind| vec![(None, read(kind))]);
        }
        let (name, help) = ("apiserver_storage_consistency_checks_total", "Comparisons of the cache with the store.");
        self.family(&mut out, name, "counter", help, |kind| {
            let statuses = [("success", Checked::Same), ("failure", Checked::Different), ("error", Checked::Failed)];
            let sample = |(status, outcome)| (Some(("status", status)), kind.counts.of(outcome).load(Relaxed));
            statuses.map(sample).into()
        });
        out.into_text()
    }

    /// The kinds, each once: the versions of a custom one hold the same objects.
    fn served(&self) -> Vec<Arc<KindCache>> {
        self.kinds().into_iter().filter(|kind| kind.is_stored_form()).collect()
    }

    /// One metric of every kind. What is zero is left out: most kinds are never asked for.
    fn family(
        &self,
        out: &mut Samples,
        name: &str,
        form: &str,
        help: &str,
        read: impl Fn(&KindCache) -> Vec<(Option<(&'static str, &'static str)>, u64)>,
    ) {
        out.family(name, form, help);
        for kind in self.served() {
            let labels = [("group", kind.info.group.as_str()), ("resource", kind.info.plural.as_str())];
            for (more, value) in read(&kind).into_iter().filter(|(_, value)| *value > 0) {
                let labels: Vec<(&str, &str)> = labels.into_iter().chain(more).collect();
                out.sample(name, &labels, value);
            }
        }
    }
}

/// The metrics of every kind: name, form, what it tells, and where it is read.
type Family = (&'static str, &'static str, &'static str, fn(&KindCache) -> u64);

const FAMILIES: [Family; 7] = [
    ("apiserver_resource_objects", "gauge", "Objects that are stored.", |kind| kind.state().count("")),
    ("apiserver_cache_list_total", "counter", "Lists that the cache answered.", |kind| kind.counts.lists.load(Relaxed)),
    ("apiserver_cache_list_fetched_objects_total", "counter", "Objects that lists looked at.", |kind| {
        kind.counts.looked_at.load(Relaxed)
    }),
    ("apiserver_cache_list_returned_objects_total", "counter", "Objects that lists answered.", |kind| {
        kind.counts.listed.load(Relaxed)
    }),
    ("apiserver_terminated_watchers_total", "counter", "Watches that fell behind.", |kind| {
        kind.counts.terminated.load(Relaxed)
    }),
    ("apiserver_registered_watchers", "gauge", "Watches that are open.", |kind| kind.interest.lock().len() as u64),
    ("apiserver_watch_cache_compared_filters_total", "counter", "Filters that changes were compared with.", |kind| {
        kind.interest.lock().compared
    }),
];
