//! Watches as lines of JSON, written as the changes come.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::Response;
use k8s_core::{
    object::Object,
    request::{WatchEvent, WatchStream},
    status::{ApiError, ApiResult},
};
use k8s_wire::body::{self, Body};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    encode::{View, response},
    frames::Frames,
    metrics::InFlight,
    negotiate::{Encoding, Shape},
};

/// A stream of changes as an answer. An error becomes an ERROR event and ends it. `kept` lives as long as the stream,
/// and ends it when the server is to stop.
pub fn stream(view: View, events: WatchStream, kept: InFlight, frames: Arc<Frames>) -> ApiResult<Response<Body>> {
    if view.form.encoding != Encoding::Json {
        return Err(ApiError::not_acceptable("application/json"));
    }
    let stopped = Box::pin(kept.stop.clone().cancelled_owned());
    let lines = Lines { view, frames, events, is_first: true, has_ended: false, stopped, _kept: kept };
    Ok(response(200, Encoding::Json, body::stream(lines)))
}

/// The lines of a watch.
struct Lines {
    view: View,
    frames: Arc<Frames>,
    events: WatchStream,
    /// The columns of a table go with the first object only.
    is_first: bool,
    has_ended: bool,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    _kept: InFlight,
}

impl Stream for Lines {
    type Item = Result<Bytes, std::convert::Infallible>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.has_ended || this.stopped.as_mut().poll(cx).is_ready() {
            return Poll::Ready(None);
        }
        let Some(event) = ready!(this.events.poll_next_unpin(cx)) else { return Poll::Ready(None) };
        let line = this.line(&event);
        this.is_first &= !matches!(&event, Ok(event) if event.object().is_some());
        // After an error nothing follows.
        this.has_ended = event.is_err();
        Poll::Ready(Some(Ok(line)))
    }
}

impl Lines {
    fn line(&self, event: &ApiResult<WatchEvent>) -> Bytes {
        let mut out = Vec::new();
        let (word, object) = match event {
            Ok(WatchEvent::Added(object)) => ("ADDED", object),
            Ok(WatchEvent::Modified(object)) => ("MODIFIED", object),
            Ok(WatchEvent::Deleted(object)) => ("DELETED", object),
            Ok(WatchEvent::Bookmark { revision, initial_events_end }) => {
                write_bookmark(&self.view, *revision, *initial_events_end, &mut out);
                return out.into();
            }
            Err(error) => {
                write_error(error, &mut out);
                return out.into();
            }
        };
        // Tables show ages, and columns once: no two watchers' are the same.
        match self.view.form.shape {
            Shape::Table => write_line(&self.view, word, object, self.is_first),
            shape => self.frames.get(object, word, shape, || write_line(&self.view, word, object, self.is_first)),
        }
    }
}

fn write_line(view: &View, word: &'static str, object: &Object, is_first: bool) -> Bytes {
    let mut out = Vec::with_capacity(object.stored_json().len() + 96);
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(br#"","object":"#);
    view.write_object(object, is_first, &mut out);
    out.extend_from_slice(b"}\n");
    out.into()
}

/// A watch that failed before it began, told in the way of watches.
pub fn failed(error: &ApiError) -> Response<Body> {
    let mut line = Vec::new();
    write_error(error, &mut line);
    response(200, Encoding::Json, body::full(line))
}

fn write_bookmark(view: &View, revision: u64, initial_events_end: bool, out: &mut Vec<u8>) {
    let (kind, api_version) = match view.form.shape {
        Shape::Whole => (view.kind.as_str(), view.api_version.as_str()),
        Shape::Table => ("Table", "meta.k8s.io/v1"),
        Shape::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1"),
    };
    let annotations = if initial_events_end { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
    let rows = if view.form.shape == Shape::Table { r#","columnDefinitions":null,"rows":[]"# } else { "" };
    let text = format!(
        "{{\"type\":\"BOOKMARK\",\"object\":{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\
         \"metadata\":{{\"resourceVersion\":\"{revision}\"{annotations}}}{rows}}}}}\n"
    );
    out.extend_from_slice(text.as_bytes());
}

fn write_error(error: &ApiError, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"type":"ERROR","object":"#);
    out.extend_from_slice(&error.status().to_json());
    out.extend_from_slice(b"}\n");
}
