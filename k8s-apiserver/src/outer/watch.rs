//! Watches as lines of JSON, written as the changes come.

use bytes::Bytes;
use futures::StreamExt;
use http::Response;
use k8s_core::{
    request::{WatchEvent, WatchStream},
    status::{ApiError, ApiResult},
};
use k8s_wire::body::{self, Body};

use super::{
    encode::{View, response},
    metrics::InFlight,
    negotiate::{Encoding, Shape},
};

/// A stream of changes as an answer. An error becomes an ERROR event and ends it. `kept` lives as long as the stream,
/// and ends it when the server is to stop.
pub fn stream(view: View, events: WatchStream, kept: InFlight) -> ApiResult<Response<Body>> {
    if view.form.encoding != Encoding::Json {
        return Err(ApiError::not_acceptable("application/json"));
    }
    let state = (view, events, true, kept);
    let lines = futures::stream::unfold(Some(state), |state| async move {
        let (view, mut events, first, kept) = state?;
        let event = tokio::select! {
            biased;
            () = kept.stop.cancelled() => return None,
            event = events.next() => event?,
        };
        let line = line(&view, &event, first);
        // After an error nothing follows; the columns of a table go with the first object only.
        let shown = matches!(&event, Ok(event) if event.object().is_some());
        let state = event.is_ok().then_some((view, events, first && !shown, kept));
        Some((Ok::<_, std::convert::Infallible>(line), state))
    });
    Ok(response(200, Encoding::Json, body::stream(lines)))
}

/// A watch that failed before it began, told in the way of watches.
pub fn failed(error: &ApiError) -> Response<Body> {
    let mut line = Vec::new();
    write_error(error, &mut line);
    response(200, Encoding::Json, body::full(line))
}

fn line(view: &View, event: &ApiResult<WatchEvent>, first: bool) -> Bytes {
    let mut out = Vec::with_capacity(512);
    let (word, object) = match event {
        Ok(WatchEvent::Added(object)) => ("ADDED", object),
        Ok(WatchEvent::Modified(object)) => ("MODIFIED", object),
        Ok(WatchEvent::Deleted(object)) => ("DELETED", object),
        Ok(WatchEvent::Bookmark { revision, initial_events_end }) => {
            write_bookmark(view, *revision, *initial_events_end, &mut out);
            return out.into();
        }
        Err(error) => {
            write_error(error, &mut out);
            return out.into();
        }
    };
    out.extend_from_slice(format!(r#"{{"type":"{word}","object":"#).as_bytes());
    view.write_object(object, first, &mut out);
    out.extend_from_slice(b"}\n");
    out.into()
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
