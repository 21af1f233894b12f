//! Watches as lines of JSON, frames of protobuf or a sequence in CBOR, written as the changes come.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use futures::{Stream, StreamExt};
use http::{HeaderValue, Response, header};
use k8s_core::{
    doc::Doc,
    request::{WatchEvent, WatchStream},
    status::{ApiError, ApiResult},
};
use k8s_wire::body::{self, Body};
use tokio_util::sync::WaitForCancellationFutureOwned;

use super::{
    cbor,
    encode::{View, parsed, response},
    frames::Frames,
    metrics::InFlight,
    negotiate::{Encoding, Shape},
    protobuf,
};

/// A stream of changes as an answer. An error becomes an ERROR event and ends it. `kept` lives as long as the stream,
/// and ends it when the server is to stop.
pub fn stream(view: View, events: WatchStream, kept: InFlight, frames: Arc<Frames>) -> ApiResult<Response<Body>> {
    let encoding = view.form.encoding;
    if encoding == Encoding::Yaml {
        return Err(ApiError::not_acceptable("application/json, application/vnd.kubernetes.protobuf"));
    }
    let stopped = Box::pin(kept.stop.clone().cancelled_owned());
    let lines = Lines { view, frames, events, is_first: true, has_ended: false, stopped, kept };
    Ok(begun(encoding, body::stream(lines)))
}

/// A watch that failed before it began, told in the way of watches.
pub fn failed(view: &View, error: &ApiError) -> Response<Body> {
    begun(view.form.encoding, body::full(error_line(view, error)))
}

fn begun(encoding: Encoding, body: Body) -> Response<Body> {
    let mut response = response(200, encoding, body);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(encoding.watch_media_type()));
    response
}

/// The lines (or frames) of a watch.
struct Lines {
    view: View,
    frames: Arc<Frames>,
    events: WatchStream,
    /// The columns of a table go with the first object only.
    is_first: bool,
    has_ended: bool,
    stopped: Pin<Box<WaitForCancellationFutureOwned>>,
    kept: InFlight,
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
        this.kept.event(line.len());
        this.is_first &= !matches!(&event, Ok(event) if event.object().is_some());
        // After an error nothing follows.
        this.has_ended = event.is_err();
        Poll::Ready(Some(Ok(line)))
    }
}

impl Lines {
    fn line(&self, event: &ApiResult<WatchEvent>) -> Bytes {
        let (word, object) = match event {
            Ok(WatchEvent::Added(object)) => ("ADDED", object),
            Ok(WatchEvent::Modified(object)) => ("MODIFIED", object),
            Ok(WatchEvent::Deleted(object)) => ("DELETED", object),
            Ok(WatchEvent::Bookmark { revision, initial_events_end }) => {
                let bookmark = bookmark(&self.view, *revision, *initial_events_end);
                return line(&self.view, "BOOKMARK", bookmark.len(), |out| out.extend_from_slice(bookmark.as_bytes()));
            }
            Err(error) => return error_line(&self.view, error),
        };
        let size = object.stored_json().len() + 64;
        let write = || line(&self.view, word, size, |out| self.view.write_object(object, self.is_first, out));
        // Tables show ages, and columns once: no two watchers' are the same.
        match self.view.form.shape {
            Shape::Table => write(),
            _ => self.frames.get(object, word, self.view.form, write),
        }
    }
}

/// One event, of an object whose JSON `write` appends: about `size` bytes.
fn line(view: &View, word: &str, size: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    if view.form.encoding == Encoding::Cbor {
        let mut json = Vec::with_capacity(size);
        write(&mut json);
        return cbor_item(word, &json);
    }
    let Some(messages) = &view.messages else { return json_line(word, size, write) };
    let mut json = Vec::with_capacity(size);
    write(&mut json);
    match messages.object.object(&json) {
        Ok(object) => protobuf::watch_frame(word, &object),
        Err(error) => error_line(view, &error),
    }
}

/// One event as an item of a sequence, from its object's JSON.
fn cbor_item(word: &str, json: &[u8]) -> Bytes {
    match parsed(json) {
        Ok(object) => cbor::event(word, &object).into(),
        Err(error) => cbor::event("ERROR", &error_document(&error)).into(),
    }
}

fn error_document(error: &ApiError) -> Doc {
    // Invariant: a status is written as JSON.
    Doc::parse(&error.status().to_json()).unwrap_or_default()
}

fn json_line(word: &str, size: usize, write: impl FnOnce(&mut Vec<u8>)) -> Bytes {
    let mut out = Vec::with_capacity(size + 32);
    out.extend_from_slice(br#"{"type":""#);
    out.extend_from_slice(word.as_bytes());
    out.extend_from_slice(br#"","object":"#);
    write(&mut out);
    out.extend_from_slice(b"}\n");
    out.into()
}

fn error_line(view: &View, error: &ApiError) -> Bytes {
    if view.form.encoding == Encoding::Cbor {
        return cbor::event("ERROR", &error_document(error)).into();
    }
    let message = view.messages.as_ref().and_then(|messages| protobuf::status(&messages.schemas, error.status()).ok());
    match message {
        Some(status) => protobuf::watch_frame("ERROR", &status),
        None => json_line("ERROR", 256, |out| out.extend_from_slice(&error.status().to_json())),
    }
}

/// The object of a bookmark: an empty one at a revision.
fn bookmark(view: &View, revision: u64, initial_events_end: bool) -> String {
    let (kind, api_version) = match view.form.shape {
        Shape::Whole => (view.kind.as_str(), view.api_version.as_str()),
        Shape::Table => ("Table", "meta.k8s.io/v1"),
        Shape::Metadata => ("PartialObjectMetadata", "meta.k8s.io/v1"),
    };
    let annotations = if initial_events_end { r#","annotations":{"k8s.io/initial-events-end":"true"}"# } else { "" };
    let rows = if view.form.shape == Shape::Table { r#","columnDefinitions":null,"rows":[]"# } else { "" };
    format!(
        "{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\",\
         \"metadata\":{{\"resourceVersion\":\"{revision}\"{annotations}}}{rows}}}"
    )
}
