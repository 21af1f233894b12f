//! What the outer service counts, under upstream's names and labels.

mod series;

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::Response;
use http_body::{Body as _, Frame, SizeHint};
use k8s_core::{
    metrics::{Histogram, Samples},
    request::Verb,
};
use k8s_wire::{
    body::{Body, BoxError, boxed},
    serve::CancellationToken,
};
use parking_lot::Mutex;

pub(super) use self::series::Series;
use crate::audit::Ongoing;

/// How many different requests are told apart; further ones are counted as `other`.
const MAX_SERIES: usize = 4096;

/// Upstream's bounds, in seconds.
const DURATIONS: &[f64] = &[
    0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0,
    45.0, 60.0,
];
/// Upstream's bounds for answers, in bytes.
const ANSWERS: &[f64] = &[1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9];
/// Upstream's bounds for watch events, in bytes.
const EVENTS: &[f64] = &[1024.0, 2048.0, 4096.0, 8192.0, 16384.0, 32768.0, 65536.0, 131_072.0];

/// Requests by verb, resource and answer.
#[derive(Default)]
pub(super) struct Requests {
    total: Mutex<BTreeMap<(Series, u16), u64>>,
    durations: Mutex<BTreeMap<Series, Arc<Histogram>>>,
    sizes: Mutex<BTreeMap<Series, Arc<Histogram>>>,
    long_running: Mutex<BTreeMap<Series, Arc<AtomicU64>>>,
    events: Mutex<BTreeMap<Series, Arc<Histogram>>>,
    reading: AtomicU64,
    mutating: AtomicU64,
    panics: AtomicU64,
}

/// One request in flight. Dropping it ends the count.
pub(super) struct InFlight {
    running: Running,
    /// The sizes of a watch's events; counting them is counting events.
    events: Option<Arc<Histogram>>,
    /// Cancelled when the server is to stop: what goes on and on must then end.
    pub(super) stop: CancellationToken,
    /// What the audit log keeps of it: it is over for the log when it is over here.
    pub(super) noted: Option<Arc<Ongoing>>,
}

/// Where a request in flight is counted.
enum Running {
    Short(Arc<Requests>, Verb),
    Long(Arc<AtomicU64>),
}

impl InFlight {
    /// Counts an event of a watch.
    pub(super) fn event(&self, bytes: usize) {
        if let Some(events) = &self.events {
            events.observe_size(bytes as u64);
        }
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        match &self.running {
            Running::Short(requests, verb) => requests.gauge(*verb).fetch_sub(1, Relaxed),
            Running::Long(gauge) => gauge.fetch_sub(1, Relaxed),
        };
    }
}

impl Requests {
    /// Counts a request as in flight until the returned value is dropped.
    pub(super) fn begin(self: &Arc<Self>, verb: Verb, series: &Series, stop: CancellationToken) -> InFlight {
        let running = if is_long(verb) {
            let gauge = kept(&self.long_running, series, Arc::default);
            gauge.fetch_add(1, Relaxed);
            Running::Long(gauge)
        } else {
            self.gauge(verb).fetch_add(1, Relaxed);
            Running::Short(self.clone(), verb)
        };
        let sizes = || kept(&self.events, &series.of_events(), || Arc::new(Histogram::of_sizes(EVENTS)));
        InFlight { running, events: (verb == Verb::Watch).then(sizes), stop, noted: None }
    }

    fn gauge(&self, verb: Verb) -> &AtomicU64 {
        if verb.is_write() { &self.mutating } else { &self.reading }
    }

    /// Counts an answer, and how long it took unless it may go on for as long as its caller likes.
    pub(super) fn answered(&self, verb: Verb, series: &Series, code: u16, took: Duration) {
        {
            let mut total = self.total.lock();
            let mut counted = (series.clone(), code);
            if total.len() >= MAX_SERIES && !total.contains_key(&counted) {
                // What does not exist can be asked for under any name.
                counted.0 = series.other();
            }
            *total.entry(counted).or_default() += 1;
        }
        if !is_long(verb) {
            kept(&self.durations, series, || Arc::new(Histogram::new(DURATIONS))).observe(took);
        }
    }

    /// Counts the bytes of an answer to a read, once they were sent.
    pub(super) fn measured(&self, verb: Verb, series: &Series, response: Response<Body>) -> Response<Body> {
        if !matches!(verb, Verb::Get | Verb::List) {
            return response;
        }
        let sizes = kept(&self.sizes, series, || Arc::new(Histogram::of_sizes(ANSWERS)));
        match response.body().size_hint().exact() {
            Some(bytes) => {
                sizes.observe_size(bytes);
                response
            }
            None => response.map(|body| boxed(Measured { body, bytes: 0, sizes })),
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
        for ((series, code), count) in self.total.lock().iter() {
            let code = code.to_string();
            out.sample(name, &[&series.labels()[..], &[("code", code.as_str())]].concat(), count);
        }
        let name = "apiserver_request_duration_seconds";
        let help = "How long answers took, without watches and connections.";
        histograms(&mut out, name, help, &self.durations, |series, durations, out| {
            out.histogram(name, &series.labels(), durations);
        });
        let name = "apiserver_response_sizes";
        let help = "The sizes of answers to reads, in bytes.";
        histograms(&mut out, name, help, &self.sizes, |series, sizes, out| {
            out.histogram(name, &series.read_labels(), sizes);
        });
        let name = "apiserver_watch_events_total";
        out.family(name, "counter", "Events that were sent to watches.");
        for (series, events) in self.events.lock().iter() {
            out.sample(name, &series.event_labels(), events.count());
        }
        let name = "apiserver_watch_events_sizes";
        let help = "The sizes of events that were sent to watches, in bytes.";
        histograms(&mut out, name, help, &self.events, |series, sizes, out| {
            out.histogram(name, &series.event_labels(), sizes);
        });
        self.gauges(&mut out);
        out.into_text()
    }

    fn gauges(&self, out: &mut Samples) {
        let name = "apiserver_current_inflight_requests";
        out.family(name, "gauge", "Requests that are being answered.");
        out.sample(name, &[("request_kind", "readOnly")], self.reading.load(Relaxed));
        out.sample(name, &[("request_kind", "mutating")], self.mutating.load(Relaxed));
        let name = "apiserver_longrunning_requests";
        out.family(name, "gauge", "Watches and connections that are open.");
        for (series, open) in self.long_running.lock().iter() {
            out.sample(name, &series.read_labels(), open.load(Relaxed));
        }
        let (name, help) =
            ("apiserver_request_panics_total", "Requests that could not be handled because of a defect.");
        out.single(name, "counter", help, self.panics.load(Relaxed));
    }
}

fn histograms(
    out: &mut Samples,
    name: &str,
    help: &str,
    from: &Mutex<BTreeMap<Series, Arc<Histogram>>>,
    write: impl Fn(&Series, &Histogram, &mut Samples),
) {
    out.family(name, "histogram", help);
    for (series, histogram) in from.lock().iter() {
        write(series, histogram, out);
    }
}

/// What goes on for as long as its caller likes.
fn is_long(verb: Verb) -> bool {
    matches!(verb, Verb::Watch | Verb::Connect)
}

/// What is kept of a series, made when it is first seen; of `other` when there are too many.
fn kept<T: Clone>(from: &Mutex<BTreeMap<Series, T>>, series: &Series, new: impl FnOnce() -> T) -> T {
    let mut from = from.lock();
    if let Some(found) = from.get(series) {
        return found.clone();
    }
    let series = if from.len() >= MAX_SERIES { series.other() } else { series.clone() };
    from.entry(series).or_insert_with(new).clone()
}

/// A body whose length nobody knows before it was sent.
struct Measured {
    body: Body,
    bytes: u64,
    sizes: Arc<Histogram>,
}

impl http_body::Body for Measured {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = self.get_mut();
        let frame = ready!(Pin::new(&mut this.body).poll_frame(cx));
        if let Some(Ok(frame)) = &frame {
            this.bytes += frame.data_ref().map_or(0, |data| data.len() as u64);
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Measured {
    fn drop(&mut self) {
        self.sizes.observe_size(self.bytes);
    }
}
