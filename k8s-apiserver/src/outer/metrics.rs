//! What the outer service counts, under upstream's names.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    sync::Arc,
    sync::atomic::{AtomicU64, Ordering::Relaxed},
};

use k8s_core::{
    doc::Text,
    request::{Target, Verb},
};
use k8s_wire::serve::CancellationToken;
use parking_lot::Mutex;

/// How many different requests are told apart; further ones are counted as `other`.
const MAX_SERIES: usize = 4096;

/// Requests by verb, resource and answer.
#[derive(Default)]
pub(super) struct Requests {
    total: Mutex<BTreeMap<Series, u64>>,
    reading: AtomicU64,
    mutating: AtomicU64,
    long_running: AtomicU64,
    panics: AtomicU64,
}

/// What is told apart: verb, group, resource with its subresource, code.
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
        InFlight { requests: self.clone(), verb, stop }
    }

    fn gauge(&self, verb: Verb) -> &AtomicU64 {
        match verb {
            Verb::Watch | Verb::Connect => &self.long_running,
            verb if verb.is_write() => &self.mutating,
            _ => &self.reading,
        }
    }

    /// Counts an answer.
    pub(super) fn answered(&self, verb: Verb, target: &Target, code: u16) {
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
        *total.entry(series).or_default() += 1;
    }

    /// Counts a request that panicked.
    pub(super) fn panicked(&self) {
        self.panics.fetch_add(1, Relaxed);
    }

    /// The samples in the Prometheus text format.
    pub(super) fn samples(&self) -> String {
        let mut out = String::from("# TYPE apiserver_request_total counter\n");
        for (series, count) in self.total.lock().iter() {
            let Series { verb, group, resource, subresource, code } = series;
            // Invariant: writing to a string does not fail.
            let _ = writeln!(
                out,
                "apiserver_request_total{{code=\"{code}\",group={group:?},resource={resource:?},\
                 subresource={subresource:?},verb=\"{verb}\"}} {count}"
            );
        }
        let gauges = [
            ("apiserver_current_inflight_requests{request_kind=\"readOnly\"}", &self.reading),
            ("apiserver_current_inflight_requests{request_kind=\"mutating\"}", &self.mutating),
            ("apiserver_longrunning_requests", &self.long_running),
        ];
        for (name, gauge) in gauges {
            let _ = writeln!(out, "{name} {}", gauge.load(Relaxed));
        }
        let _ = writeln!(out, "# TYPE apiserver_request_panics_total counter");
        let _ = writeln!(out, "apiserver_request_panics_total {}", self.panics.load(Relaxed));
        out
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
