//! What the outer service counts, under upstream's names.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use k8s_core::{
    doc::Text,
    metrics::{Histogram, Samples},
    request::{Target, Verb},
};
use k8s_wire::serve::CancellationToken;
use parking_lot::Mutex;

use crate::audit::Ongoing;

/// How many different requests are told apart; further ones are counted as `other`.
const MAX_SERIES: usize = 4096;

/// Upstream's bounds, in seconds.
const BOUNDS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];

/// Requests by verb, resource and answer.
#[derive(Default)]
pub(super) struct Requests {
    total: Mutex<BTreeMap<Series, u64>>,
    durations: Mutex<BTreeMap<Series, Arc<Histogram>>>,
    reading: AtomicU64,
    mutating: AtomicU64,
    long_running: AtomicU64,
    panics: AtomicU64,
}

/// What is told apart: verb, group, resource with its subresource, code. Durations are not told apart by code: 0.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Series {
    verb: &'static str,
    group: Text,
    resource: Text,
    subresource: Text,
    code: u16,
}

/// One request in flight. Dropping it ends the count.
pub(super) struct InFlight {
    requests: Arc<Requests>,
    verb: Verb,
    /// Cancelled when the server is to stop: what goes on and on must then end.
    pub(super) stop: CancellationToken,
    /// What the audit log keeps of it: it is over for the log when it is over here.
    pub(super) noted: Option<Arc<Ongoing>>,
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.requests.gauge(self.verb).fetch_sub(1, Relaxed);
    }
}

impl Requests {
    /// Counts a request as in flight until the returned value is dropped.
    pub(super) fn begin(self: &Arc<Self>, verb: Verb, stop: CancellationToken) -> InFlight {
        self.gauge(verb).fetch_add(1, Relaxed);
        InFlight { requests: self.clone(), verb, stop, noted: None }
    }

    fn gauge(&self, verb: Verb) -> &AtomicU64 {
        match verb {
            Verb::Watch | Verb::Connect => &self.long_running,
            verb if verb.is_write() => &self.mutating,
            _ => &self.reading,
        }
    }

    /// Counts an answer, and how long it took unless it may go on for as long as its caller likes.
    pub(super) fn answered(&self, verb: Verb, target: &Target, code: u16, took: Duration) {
        let mut series = Series {
            verb: verb_label(verb),
            group: target.resource.group.clone(),
            resource: target.resource.plural.clone(),
            subresource: target.subresource.clone(),
            code,
        };
        let mut total = self.total.lock();
        if total.len() >= MAX_SERIES && !total.contains_key(&series) {
            // What does not exist can be asked for under any name.
            (series.group, series.resource, series.subresource) = (Text::default(), "other".into(), Text::default());
        }
        *total.entry(series.clone()).or_default() += 1;
        drop(total);
        if !matches!(verb, Verb::Watch | Verb::Connect) {
            let new = || Arc::new(Histogram::new(BOUNDS));
            self.durations.lock().entry(Series { code: 0, ..series }).or_insert_with(new).observe(took);
        }
    }

    /// Counts a request that panicked.
    pub(super) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// The samples in the Prometheus text format.
    pub(super) fn samples(&self) -> String {
        let mut out = Samples::default();
        let name = "apiserver_request_total";
        out.family(name, "counter", "Requests by verb, resource and answer.");
        for (series, count) in self.total.lock().iter() {
            let code = series.code.to_string();
            let labels = [&[("code", code.as_str())][..], &series.labels()].concat();
            out.sample(name, &labels, count);
        }
        let name = "apiserver_request_duration_seconds";
        out.family(name, "histogram", "How long answers took, without watches and connections.");
        for (series, durations) in self.durations.lock().iter() {
            out.histogram(name, &series.labels(), durations);
        }
        let name = "apiserver_current_inflight_requests";
        out.family(name, "gauge", "Requests that are being answered.");
        out.sample(name, &[("request_kind", "readOnly")], self.reading.load(Relaxed));
        out.sample(name, &[("request_kind", "mutating")], self.mutating.load(Relaxed));
        let (name, help) = ("apiserver_longrunning_requests", "Watches and connections that are open.");
        out.single(name, "gauge", help, self.long_running.load(Relaxed));
        let (name, help) =
            ("apiserver_request_panics_total", "Requests that could not be handled because of a defect.");
        out.single(name, "counter", help, self.panics.load(Relaxed));
        out.into_text()
    }
}

impl Series {
    fn labels(&self) -> [(&'static str, &str); 4] {
        let Self { verb, group, resource, subresource, .. } = self;
        [
            ("group", group.as_str()),
            ("resource", resource.as_str()),
            ("subresource", subresource.as_str()),
            ("verb", *verb),
        ]
    }
}

/// Upstream's labels are the methods, with the kinds of reading told apart.
fn verb_label(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::List => "LIST",
        Verb::Watch => "WATCH",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete => "DELETE",
        Verb::DeleteCollection => "DELETECOLLECTION",
        Verb::Connect => "CONNECT",
    }
}
