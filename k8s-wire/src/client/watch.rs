//! A watch over a network: lines of JSON, decoded as they come.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::{Stream, StreamExt};
use k8s_core::{
    object::Object,
    request::{WatchEvent, WatchStream},
    status::{ApiError, ApiResult},
};
use serde::Deserialize;
use serde_json::value::RawValue;

use super::answer::{failure, undecodable};

/// The longest line that is taken; an object is far smaller.
const MAX_LINE_BYTES: usize = 16 * 1024 * 1024;

/// The annotation of the bookmark that ends the initial events.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Turns the chunks of a watch's body, however they are cut, into events. The stream ends after its first error, and where
/// the body ends. An error of the server is told with its own code, a body that breaks off as 503.
pub fn events<E>(chunks: impl Stream<Item = Result<Bytes, E>> + Send + 'static) -> WatchStream
where
    E: std::fmt::Display + Send + 'static,
{
    let state = State { chunks: Box::pin(chunks), buffer: BytesMut::new(), searched: 0, ended: false };
    Box::pin(futures::stream::unfold(state, |mut state| async move {
        if state.ended {
            return None;
        }
        let event = match state.line().await {
            Ok(Some(line)) => event(&line),
            Ok(None) => return None,
            Err(error) => Err(error),
        };
        state.ended = event.is_err();
        Some((event, state))
    }))
}

struct State<S> {
    chunks: S,
    buffer: BytesMut,
    /// How much of the buffer is known to hold no newline.
    searched: usize,
    ended: bool,
}

impl<S, E> State<S>
where
    S: Stream<Item = Result<Bytes, E>> + Unpin,
    E: std::fmt::Display,
{
    /// The next line that is not blank; `None` at the end of the body.
    async fn line(&mut self) -> ApiResult<Option<Bytes>> {
        loop {
            if let Some(found) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.buffer.split_to(self.searched + found + 1).freeze();
                self.searched = 0;
                if line.iter().all(u8::is_ascii_whitespace) {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.buffer.len();
            if self.buffer.len() > MAX_LINE_BYTES {
                return Err(undecodable(&format!("a watch event is longer than {MAX_LINE_BYTES} bytes")));
            }
            match self.chunks.next().await {
                Some(Ok(chunk)) => self.buffer.extend_from_slice(&chunk),
                Some(Err(error)) => return Err(ApiError::unavailable(format!("watch was cut off: {error}"))),
                None if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                // The last line may lack its newline; if it was cut off it does not parse.
                None => {
                    self.searched = 0;
                    return Ok(Some(self.buffer.split().freeze()));
                }
            }
        }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: String,
    #[serde(borrow)]
    object: &'a RawValue,
}

fn event(line: &Bytes) -> ApiResult<WatchEvent> {
    let Line { kind, object: raw } = serde_json::from_slice(line).map_err(|why| undecodable(&why))?;
    let object = || Object::from_json(line.slice_ref(raw.get().as_bytes()), None).map(Arc::new);
    match kind.as_str() {
        "ADDED" => Ok(WatchEvent::Added(object()?)),
        "MODIFIED" => Ok(WatchEvent::Modified(object()?)),
        "DELETED" => Ok(WatchEvent::Deleted(object()?)),
        "BOOKMARK" => bookmark(raw.get()),
        "ERROR" => Err(stated_failure(raw.get())),
        other => Err(undecodable(&format!("unknown watch event {other:?}"))),
    }
}

#[derive(Deserialize)]
struct BookmarkObject {
    metadata: BookmarkMeta,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct BookmarkMeta {
    resource_version: String,
    #[serde(default)]
    annotations: Option<std::collections::BTreeMap<String, String>>,
}

fn bookmark(json: &str) -> ApiResult<WatchEvent> {
    let BookmarkObject { metadata } = serde_json::from_str(json).map_err(|why| undecodable(&why))?;
    let revision = metadata.resource_version.parse().map_err(|why| undecodable(&why))?;
    let initial_events_end =
        metadata.annotations.is_some_and(|all| all.get(INITIAL_EVENTS_END).is_some_and(|value| value == "true"));
    Ok(WatchEvent::Bookmark { revision, initial_events_end })
}

/// An ERROR event carries its own code.
fn stated_failure(json: &str) -> ApiError {
    #[derive(Deserialize)]
    struct Code {
        #[serde(default)]
        code: u16,
    }
    let code = serde_json::from_str::<Code>(json).map_or(0, |status| status.code);
    failure(if code == 0 { 500 } else { code }, json.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINES: &str = concat!(
        r#"{"type":"ADDED","object":{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","resourceVersion":"5"}}}"#,
        "\n",
        r#"{"type":"BOOKMARK","object":{"kind":"Pod","metadata":{"resourceVersion":"9","annotations":{"k8s.io/initial-events-end":"true"}}}}"#,
        "\n\n",
        r#"{"type":"DELETED","object":{"kind":"Pod","metadata":{"name":"a","resourceVersion":"11"}}}"#,
        "\n",
        r#"{"type":"ERROR","object":{"kind":"Status","status":"Failure","reason":"Expired","message":"too old","code":410}}"#,
        "\n",
        r#"{"type":"ADDED","object":{}}"#,
        "\n",
    );

    fn in_pieces(size: usize) -> WatchStream {
        let pieces: Vec<Result<Bytes, String>> =
            LINES.as_bytes().chunks(size).map(|piece| Ok(Bytes::copy_from_slice(piece))).collect();
        events(futures::stream::iter(pieces))
    }

    #[tokio::test]
    async fn events_come_whole_however_the_bytes_are_cut() {
        for size in [1, 7, 64, 100_000] {
            let all: Vec<ApiResult<WatchEvent>> = in_pieces(size).collect().await;
            assert_eq!(all.len(), 4, "nothing comes after an error");
            let Ok(WatchEvent::Added(pod)) = &all[0] else { panic!("{all:?}") };
            assert_eq!((pod.revision(), pod.meta.name.as_str()), (5, "a"));
            assert!(matches!(all[1], Ok(WatchEvent::Bookmark { revision: 9, initial_events_end: true })));
            assert!(matches!(&all[2], Ok(WatchEvent::Deleted(pod)) if pod.revision() == 11));
            assert!(all[3].as_ref().is_err_and(ApiError::is_expired));
        }
    }

    #[tokio::test]
    async fn a_cut_line_and_a_broken_connection_are_errors() {
        let cut = events(futures::stream::iter([Ok::<_, String>(Bytes::from_static(b"{\"type\":\"ADD"))]));
        assert!(matches!(cut.collect::<Vec<_>>().await.as_slice(), [Err(_)]));
        let broken = events(futures::stream::iter([Err::<Bytes, _>("reset")]));
        let all: Vec<ApiResult<WatchEvent>> = broken.collect().await;
        assert!(matches!(all.as_slice(), [Err(error)] if error.code() == 503));
    }
}
