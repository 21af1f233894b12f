//! What an API server sent back, as values: for [`HttpTransport`](super::HttpTransport), and for whoever asks over HTTP by
//! other means.

use bytes::Bytes;
use k8s_core::{
    doc::Doc,
    object::Object,
    request::{ObjectList, ResponseBody},
    status::{ApiError, ApiResult, Reason, Status},
};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::sync::Arc;

/// How much of an answer that is no Status is shown.
const MAX_SHOWN_CHARS: usize = 500;

/// A failed answer: the `Status` of its body, or what can be said without one.
pub fn failure(code: u16, body: &[u8]) -> ApiError {
    match serde_json::from_slice::<Status>(body) {
        Ok(mut status) if status.kind == "Status" && !status.status.is_empty() => {
            // The line counts: proxies rewrite codes, not bodies.
            status.code = code;
            ApiError::from_status(status)
        }
        _ => {
            let shown: String = String::from_utf8_lossy(body).trim().chars().take(MAX_SHOWN_CHARS).collect();
            ApiError::new(code, reason(code), format!("the server answered {code}: {shown}"))
        }
    }
}

fn reason(code: u16) -> Reason {
    match code {
        400 => Reason::BadRequest,
        401 => Reason::Unauthorized,
        403 => Reason::Forbidden,
        404 => Reason::NotFound,
        405 => Reason::MethodNotAllowed,
        406 => Reason::NotAcceptable,
        409 => Reason::Conflict,
        410 => Reason::Gone,
        413 => Reason::RequestEntityTooLarge,
        415 => Reason::UnsupportedMediaType,
        422 => Reason::Invalid,
        429 => Reason::TooManyRequests,
        500 => Reason::InternalError,
        503 => Reason::ServiceUnavailable,
        504 => Reason::Timeout,
        _ => Reason::Unknown,
    }
}

/// The head of any answer that is not a list.
#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow, default)]
    kind: Option<std::borrow::Cow<'a, str>>,
    #[serde(default)]
    metadata: Option<HeadMeta>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct HeadMeta {
    #[serde(default)]
    resource_version: Option<String>,
}

/// A whole object, a value that is not stored, or a `Status`. 500 for anything else.
pub fn single(body: Bytes) -> ApiResult<ResponseBody> {
    let head: Head<'_> = serde_json::from_slice(&body).map_err(|why| undecodable(&why))?;
    if head.kind.as_deref() == Some("Status") {
        return Ok(ResponseBody::Status(serde_json::from_slice(&body).map_err(|why| undecodable(&why))?));
    }
    let version = head.metadata.and_then(|metadata| metadata.resource_version).unwrap_or_default();
    if version.is_empty() {
        return Ok(ResponseBody::Doc(Doc::parse(&body).map_err(|why| undecodable(&why))?));
    }
    Ok(ResponseBody::Object(Arc::new(Object::from_json(body, None)?)))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    #[serde(default)]
    kind: String,
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    metadata: ListMeta,
    #[serde(borrow, default)]
    items: Option<Vec<&'a RawValue>>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct ListMeta {
    resource_version: Option<String>,
    #[serde(rename = "continue")]
    token: Option<String>,
    remaining_item_count: Option<u64>,
}

/// A collection. Items that do not name their type (an upstream server's do not) get it from the list's. 500 for what is no
/// list.
pub fn list(body: &Bytes) -> ApiResult<ObjectList> {
    let list: List<'_> = serde_json::from_slice(body).map_err(|why| undecodable(&why))?;
    let kind = list.kind.strip_suffix("List").unwrap_or_default();
    let item = |raw: &&RawValue| {
        let bytes = typed_item(raw.get(), &list.api_version, kind)?;
        Object::from_json(bytes, None).map(Arc::new)
    };
    let items = list.items.iter().flatten().map(item).collect::<ApiResult<Vec<_>>>()?;
    let revision = list.metadata.resource_version.as_deref().unwrap_or("").parse().unwrap_or(0);
    let continue_token = list.metadata.token.filter(|token| !token.is_empty());
    Ok(ObjectList { items, revision, continue_token, remaining: list.metadata.remaining_item_count })
}

fn typed_item(json: &str, api_version: &str, kind: &str) -> ApiResult<Bytes> {
    let head: Head<'_> = serde_json::from_str(json).map_err(|why| undecodable(&why))?;
    let inside = json.trim_start().strip_prefix('{').map(str::trim_start);
    match inside {
        Some(inside) if head.kind.is_none() && !kind.is_empty() => {
            let comma = if inside.starts_with('}') { "" } else { "," };
            // Invariant: strings always serialize; kinds and versions hold nothing to escape.
            Ok(Bytes::from(format!("{{\"kind\":\"{kind}\",\"apiVersion\":\"{api_version}\"{comma}{inside}")))
        }
        _ => Ok(Bytes::copy_from_slice(json.as_bytes())),
    }
}

/// The texts of `Warning` headers: `299 - "text"`.
pub(super) fn warnings(headers: &http::HeaderMap) -> Vec<String> {
    let text = |value: &str| {
        let quoted = value.splitn(3, ' ').nth(2)?.trim().strip_prefix('"')?;
        let mut out = String::new();
        let mut chars = quoted.chars();
        while let Some(c) = chars.next() {
            match c {
                '"' => return Some(out),
                '\\' => out.extend(chars.next()),
                other => out.push(other),
            }
        }
        None
    };
    let values = headers.get_all(http::header::WARNING).iter();
    values.filter_map(|value| value.to_str().ok().and_then(text)).collect()
}

/// What the server sent is not what the API says it sends.
pub(super) fn undecodable(why: &dyn std::fmt::Display) -> ApiError {
    ApiError::internal(format!("the server's answer cannot be decoded: {why}"))
}
