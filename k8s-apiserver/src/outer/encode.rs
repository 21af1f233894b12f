//! Answers as bytes: objects, lists and documents, in the form that was negotiated.
//!
//! An object that is served as itself in JSON is copied from its stored bytes and never encoded again; a list in JSON is
//! written piece by piece while it is sent. A list in protobuf is written before it is sent, as its length comes first.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};
use k8s_core::{
    doc::{Doc, Text},
    object::Object,
    request::ObjectList,
    schema::Schemas,
    status::{ApiError, ApiResult, Status},
};
use k8s_wire::body::{self, Body};

use super::{
    negotiate::{Encoding, Form, Shape},
    protobuf::{self, Message},
    table::Rows,
};

/// A list of no more bytes is sent at once, with its length.
const AT_ONCE_BYTES: usize = 64 * 1024;
/// How many bytes of a longer list are gathered before they are sent: with its header, one frame of HTTP/2, and one
/// record of TLS. Such a buffer stays in the processor's cache until it is encrypted, and one that was given back is
/// used again.
const PIECE_BYTES: usize = 16 * 1024 - 9;

/// How the objects of one answer are shown.
#[derive(Clone)]
pub struct View {
    /// The negotiated form.
    pub form: Form,
    /// Whether people read it: `pretty=true`.
    pub pretty: bool,
    /// The kind of one object.
    pub kind: Text,
    /// The kind of a list.
    pub list_kind: Text,
    /// `apiVersion` of the objects.
    pub api_version: Text,
    /// The table's columns and rows; there if the form is a table.
    pub rows: Option<Arc<Rows>>,
    /// How objects become messages; there if the form is protobuf.
    pub messages: Option<Arc<Messages>>,
}

/// What answers in protobuf are made with.
pub struct Messages {
    /// The kind of one object, or its metadata alone.
    pub object: Message,
    /// The built-in kinds, for answers of another kind.
    pub schemas: Schemas,
}

impl View {
    /// Appends one object, as an answer or a watch event shows it.
    pub fn write_object(&self, object: &Object, first: bool, out: &mut Vec<u8>) {
        match (self.form.shape, &self.rows) {
            (Shape::Table, Some(rows)) => {
                out.extend_from_slice(br#"{"kind":"Table","apiVersion":"meta.k8s.io/v1","metadata":{"#);
                out.extend_from_slice(object.revision_field().trim_end_matches(',').as_bytes());
                out.extend_from_slice(b"},");
                if first {
                    rows.write_columns(out);
                } else {
                    out.extend_from_slice(br#""columnDefinitions":null"#);
                }
                out.extend_from_slice(br#","rows":["#);
                rows.write_row(object, out);
                out.extend_from_slice(b"]}");
            }
            (Shape::Metadata, _) => write_partial(object, out),
            _ => object.write_json(out),
        }
    }

    fn write_item(&self, object: &Object, out: &mut Vec<u8>) {
        match (self.form.shape, &self.rows) {
            (Shape::Table, Some(rows)) => rows.write_row(object, out),
            (Shape::Metadata, _) => write_partial(object, out),
            _ => object.write_json(out),
        }
    }

    /// What stands before the items of a list.
    fn write_list_head(&self, list: &ObjectList, out: &mut Vec<u8>) {
        let (kind, api_version) = match self.form.shape {
            Shape::Whole => (self.list_kind.as_str(), self.api_version.as_str()),
            Shape::Table => ("Table", "meta.k8s.io/v1"),
            Shape::Metadata => ("PartialObjectMetadataList", "meta.k8s.io/v1"),
        };
        let revision = list.revision;
        let head =
            format!(r#"{{"kind":"{kind}","apiVersion":"{api_version}","metadata":{{"resourceVersion":"{revision}""#);
        out.extend_from_slice(head.as_bytes());
        if let Some(token) = &list.continue_token {
            // Tokens are base64: nothing to escape.
            out.extend_from_slice(format!(r#","continue":"{token}""#).as_bytes());
        }
        if let Some(remaining) = list.remaining {
            out.extend_from_slice(format!(r#","remainingItemCount":{remaining}"#).as_bytes());
        }
        out.extend_from_slice(b"},");
        match &self.rows {
            Some(rows) if self.form.shape == Shape::Table => {
                rows.write_columns(out);
                out.extend_from_slice(br#","rows":["#);
            }
            _ => out.extend_from_slice(br#""items":["#),
        }
    }

    /// One object as an answer.
    pub fn object(&self, code: u16, object: &Object) -> ApiResult<Response<Body>> {
        let mut out = Vec::with_capacity(object.stored_json().len() + 64);
        self.write_object(object, true, &mut out);
        match &self.messages {
            Some(messages) => Ok(response(code, Encoding::Protobuf, body::full(messages.object.object(&out)?))),
            None => self.finished(code, out),
        }
    }

    /// A collection as an answer: at once if it is small, else in pieces as the client takes them.
    pub fn list(&self, code: u16, list: ObjectList) -> ApiResult<Response<Body>> {
        if let Some(messages) = &self.messages {
            let pieces = messages.object.list(&list, |item, out| self.write_item(item, out))?;
            return Ok(response(code, Encoding::Protobuf, joined(pieces)));
        }
        let size: usize = list.items.iter().map(|item| served_length(item)).sum();
        let writer = ListWriter { view: self.clone(), list, next: None };
        if self.pretty || self.form.encoding != Encoding::Json || size <= AT_ONCE_BYTES {
            let mut whole = Vec::with_capacity(size + 256);
            writer.for_each(|piece| whole.extend_from_slice(&piece));
            return self.finished(code, whole);
        }
        let pieces = futures::stream::iter(writer.map(|piece| Ok::<_, std::convert::Infallible>(Bytes::from(piece))));
        Ok(response(code, Encoding::Json, body::stream(pieces)))
    }

    /// A value that is not stored. It has no table, and no metadata to show alone.
    pub fn document(&self, code: u16, doc: &Doc) -> ApiResult<Response<Body>> {
        if self.form.shape != Shape::Whole {
            return Err(ApiError::not_acceptable("application/json, application/yaml"));
        }
        let Some(messages) = &self.messages else { return self.finished(code, doc.to_json()) };
        let message = Message::of(&messages.schemas, doc);
        let message = message.ok_or_else(|| ApiError::not_acceptable("application/json, application/yaml"))?;
        Ok(response(code, Encoding::Protobuf, body::full(message.object(&doc.to_json())?)))
    }

    /// How a request went, where there is nothing to show.
    pub fn status(&self, code: u16, status: &Status) -> ApiResult<Response<Body>> {
        match &self.messages {
            Some(messages) => {
                Ok(response(code, Encoding::Protobuf, body::full(protobuf::status(&messages.schemas, status)?)))
            }
            None => self.finished(code, status.to_json()),
        }
    }

    /// JSON that is complete, as it is or as YAML.
    fn finished(&self, code: u16, json: Vec<u8>) -> ApiResult<Response<Body>> {
        let text = match self.form.encoding {
            Encoding::Yaml => yaml(&json)?,
            _ if self.pretty => pretty(&json)?,
            _ => json,
        };
        Ok(response(code, self.form.encoding, body::full(text)))
    }
}

/// A list's pieces as one body. A short list has a length that the client sees.
fn joined(pieces: Vec<Bytes>) -> Body {
    if pieces.iter().map(Bytes::len).sum::<usize>() <= AT_ONCE_BYTES {
        return body::full(pieces.concat());
    }
    body::stream(futures::stream::iter(pieces.into_iter().map(Ok::<_, std::convert::Infallible>)))
}

/// Yields a list's text in pieces of [`PIECE_BYTES`] at most, unless one item is longer.
struct ListWriter {
    view: View,
    list: ObjectList,
    /// The next item; `None` before the head was written.
    next: Option<usize>,
}

impl Iterator for ListWriter {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        let mut out = Vec::with_capacity(PIECE_BYTES);
        let mut at = match self.next {
            Some(at) if at > self.list.items.len() => return None,
            Some(at) => at,
            None => {
                self.view.write_list_head(&self.list, &mut out);
                0
            }
        };
        while let Some(item) = self.list.items.get(at) {
            if !out.is_empty() && out.len() + served_length(item) > PIECE_BYTES {
                self.next = Some(at);
                return Some(out);
            }
            if at > 0 {
                out.push(b',');
            }
            self.view.write_item(item, &mut out);
            at += 1;
        }
        out.extend_from_slice(b"]}");
        self.next = Some(self.list.items.len() + 1);
        Some(out)
    }
}

/// About how long an object is when it is served, comma included; never less if it is served whole.
fn served_length(object: &Object) -> usize {
    object.stored_json().len() + 48
}

/// `PartialObjectMetadata`: the metadata as it stands, under the kind of metadata.
pub(super) fn write_partial(object: &Object, out: &mut Vec<u8>) {
    out.extend_from_slice(br#"{"kind":"PartialObjectMetadata","apiVersion":"meta.k8s.io/v1","metadata":"#);
    let (_, after) = object.halves();
    out.push(b'{');
    let inside = metadata_inside(&after);
    let revision = object.revision_field();
    // At revision 0, or beside an empty metadata, there is no comma to keep.
    out.extend_from_slice(if inside.is_empty() { revision.trim_end_matches(',') } else { &revision }.as_bytes());
    out.extend_from_slice(inside);
    out.extend_from_slice(b"}}");
}

/// What stands between the braces of `metadata`, given the JSON from right behind the opening one.
fn metadata_inside(after: &[u8]) -> &[u8] {
    let (mut depth, mut in_string, mut escaped) = (0usize, false, false);
    for (at, byte) in after.iter().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => depth += 1,
            b'}' if depth == 0 => return &after[..at],
            b'}' | b']' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    // Invariant: stored JSON is well-formed, so the brace was found.
    &[]
}

fn pretty(json: &[u8]) -> ApiResult<Vec<u8>> {
    let doc = Doc::parse(json).map_err(|why| ApiError::internal(format!("answer: {why}")))?;
    let mut text = serde_json::to_vec_pretty(&doc).map_err(|why| ApiError::internal(format!("answer: {why}")))?;
    text.push(b'\n');
    Ok(text)
}

fn yaml(json: &[u8]) -> ApiResult<Vec<u8>> {
    let doc = Doc::parse(json).map_err(|why| ApiError::internal(format!("answer: {why}")))?;
    let text = serde_saphyr::to_string(&doc).map_err(|why| ApiError::internal(format!("answer: {why}")))?;
    Ok(text.into_bytes())
}

/// A response with a body in an encoding.
pub fn response(code: u16, encoding: Encoding, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    // Invariant: the codes that are answered are valid ones; anything else would be our own fault.
    *response.status_mut() = StatusCode::from_u16(code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(encoding.media_type()));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache, private"));
    response
}

/// A failure, in JSON or protobuf.
pub fn failure(error: &ApiError, encoding: Encoding, schemas: &Schemas) -> Response<Body> {
    let message = match encoding {
        // Who is told that nothing fits may not read protobuf either.
        Encoding::Protobuf if error.code() != 406 => protobuf::status(schemas, error.status()).ok(),
        _ => None,
    };
    let mut response = match message {
        Some(message) => response(error.code(), Encoding::Protobuf, body::full(message)),
        None => response(error.code(), Encoding::Json, body::full(error.status().to_json())),
    };
    let retry = error.status().details.as_ref().map_or(0, |details| details.retry_after_seconds);
    if retry > 0 {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(retry));
    }
    if error.code() == 401 {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Adds warnings, in the form of RFC 7234: `299 - "text"`. What no header can hold is left out of the text.
pub fn add_warnings(response: &mut Response<Body>, warnings: &[String]) {
    const MAX_WARNING_CHARS: usize = 4096;
    for warning in warnings {
        let mut quoted = String::with_capacity(warning.len() + 8);
        for c in warning.chars().filter(|c| !c.is_control()).take(MAX_WARNING_CHARS) {
            if matches!(c, '"' | '\\') {
                quoted.push('\\');
            }
            quoted.push(c);
        }
        if let Ok(value) = HeaderValue::from_bytes(format!("299 - \"{quoted}\"").as_bytes()) {
            response.headers_mut().append(header::WARNING, value);
        }
    }
}
