//! The network form of a request's head: method, path and query, read and written.
//!
//! One function reads every path of the API; there is no route per kind. Everything that later looks at a request
//! (authorization, admission, storage keys) sees the strings that were read here, decoded once. Follows upstream's
//! request info resolver.

mod delete;
mod encode;
mod fence;
mod patch;
mod query;

#[cfg(test)]
mod tests;

use std::borrow::Cow;

pub use self::{
    delete::{read_delete_options, write_delete_options},
    encode::{RequestHead, encode},
    fence::FENCE_HEADER,
    query::{decode_options, encode_options},
};
use crate::{
    request::{Options, ResourceType, Target, Verb},
    status::{ApiError, ApiResult},
};

/// What a method, a path and a query ask for.
#[derive(Debug, Clone, PartialEq)]
pub enum RequestInfo {
    /// Something about a resource. Whether the resource exists is not known here.
    Resource(Box<ResourceRequest>),
    /// A path that is no resource: `/version`, `/apis`, `/healthz` and the like. Without a trailing slash.
    Path(String),
}

/// A request on a resource, as its head tells it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct ResourceRequest {
    /// What to do.
    pub verb: Verb,
    /// To what.
    pub target: Target,
    /// How. For a [`Verb::Connect`] only the `connect_*` fields are set.
    pub options: Options,
}

/// The HTTP methods that the API knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // The names are HTTP's.
pub enum Method {
    Get,
    Head,
    Post,
    Put,
    Patch,
    Delete,
    Options,
}

impl Method {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Patch => "PATCH",
            Self::Delete => "DELETE",
            Self::Options => "OPTIONS",
        }
    }

    /// Reads the word on the wire; 405 for any other.
    pub fn parse(word: &str) -> ApiResult<Self> {
        Ok(match word {
            "GET" => Self::Get,
            "HEAD" => Self::Head,
            "POST" => Self::Post,
            "PUT" => Self::Put,
            "PATCH" => Self::Patch,
            "DELETE" => Self::Delete,
            "OPTIONS" => Self::Options,
            other => return Err(ApiError::method_not_allowed(&other.chars().take(20).collect::<String>())),
        })
    }
}

impl RequestInfo {
    /// Reads the head of a request. `path` and `query` are as they stood in the request line, still encoded.
    ///
    /// 400 for a name that could mean two things (`.`, `..`, an encoded slash, percent sign or NUL, bytes that are
    /// no UTF-8) and for malformed parameters; 404 for a resource path that is too long; 405 for a method that
    /// means nothing there.
    pub fn parse(method: Method, path: &str, query: &str) -> ApiResult<Self> {
        let trimmed = path.trim_matches('/');
        let segments = trimmed.split('/').map(decode_segment).collect::<ApiResult<Vec<_>>>()?;
        let parts: Vec<&str> = segments.iter().map(AsRef::as_ref).collect();
        let (group, version, parts) = match parts.as_slice() {
            ["api", version, rest @ ..] if !rest.is_empty() => ("", *version, rest),
            ["apis", group, version, rest @ ..] if !rest.is_empty() => (*group, *version, rest),
            _ => return Ok(Self::Path(format!("/{trimmed}"))),
        };
        if parts.iter().any(|part| part.is_empty()) || version.is_empty() {
            return Err(ApiError::no_such_path());
        }
        let (old_watch, parts) = match parts {
            ["watch", rest @ ..] if !rest.is_empty() => (true, rest),
            parts => (false, parts),
        };
        let place = Place::find(parts);
        let resource = ResourceType::new(group, version, place.plural);
        let target = Target {
            resource,
            namespace: place.namespace.into(),
            name: place.name.into(),
            subresource: place.subresource.into(),
        };
        let read = if old_watch {
            deprecated_watch(method, target, &place, query)
        } else if let Some(authorized_as) = connect_verb(method, &target)? {
            connect(authorized_as, target, trimmed, &place, query)
        } else if place.rest > 0 {
            Err(ApiError::no_such_path())
        } else {
            plain(method, target, query)
        };
        read.map(|request| Self::Resource(Box::new(request)))
    }
}

/// Where the parts of a resource path stand.
struct Place<'a> {
    namespace: &'a str,
    plural: &'a str,
    name: &'a str,
    subresource: &'a str,
    /// How many segments follow the subresource.
    rest: usize,
}

impl<'a> Place<'a> {
    /// `parts` is what follows the version; never empty.
    fn find(parts: &[&'a str]) -> Self {
        let (namespace, parts) = match parts {
            // The subresources of a Namespace itself; everything else at this place is a resource inside it.
            ["namespaces", _, "status" | "finalize"] => ("", parts),
            ["namespaces", namespace, inside @ ..] if !inside.is_empty() => (*namespace, inside),
            parts => ("", parts),
        };
        let at = |index: usize| parts.get(index).copied().unwrap_or("");
        Self { namespace, plural: at(0), name: at(1), subresource: at(2), rest: parts.len().saturating_sub(3) }
    }
}

/// `/api/v1/watch/...`: kept for old clients; a name becomes a field selector.
fn deprecated_watch(method: Method, target: Target, place: &Place<'_>, query: &str) -> ApiResult<ResourceRequest> {
    if method != Method::Get {
        return Err(ApiError::method_not_allowed(method.as_str()));
    }
    if !place.subresource.is_empty() {
        return Err(ApiError::no_such_path());
    }
    let mut options = decode_options(query)?;
    let mut target = target;
    if !target.name.is_empty() {
        let name = std::mem::take(&mut target.name);
        let terms = match options.field_selector.to_string() {
            others if others.is_empty() => format!("metadata.name={name}"),
            others => format!("{others},metadata.name={name}"),
        };
        options.field_selector = terms.parse()?;
    }
    Ok(ResourceRequest { verb: Verb::Watch, target, options })
}

/// How a connection to a node or pod is authorized; `None` for every other request.
///
/// Opening a shell is a `create` whatever the method: a WebSocket can only be opened by GET, and the right to read
/// pods is not the right to run commands in them.
fn connect_verb(method: Method, target: &Target) -> ApiResult<Option<Verb>> {
    let resource = &target.resource;
    if !resource.group.is_empty() || target.name.is_empty() {
        return Ok(None);
    }
    let verb = match (resource.plural.as_str(), target.subresource.as_str()) {
        ("pods", "exec" | "attach" | "portforward") => match method {
            Method::Get | Method::Post => Verb::Create,
            _ => return Err(ApiError::method_not_allowed(method.as_str())),
        },
        ("pods", "log") => match method {
            Method::Get | Method::Head => Verb::Get,
            _ => return Err(ApiError::method_not_allowed(method.as_str())),
        },
        ("pods" | "services" | "nodes", "proxy") => match method {
            Method::Get | Method::Head | Method::Options => Verb::Get,
            Method::Post => Verb::Create,
            Method::Put => Verb::Update,
            Method::Patch => Verb::Patch,
            Method::Delete => Verb::Delete,
        },
        _ => return Ok(None),
    };
    Ok(Some(verb))
}

fn connect(connect_as: Verb, target: Target, path: &str, place: &Place<'_>, query: &str) -> ApiResult<ResourceRequest> {
    if place.rest > 0 && place.subresource != "proxy" {
        return Err(ApiError::no_such_path());
    }
    let options = Options {
        connect_query: query.to_owned(),
        connect_path: last_segments(path, place.rest),
        connect_as,
        ..Options::default()
    };
    Ok(ResourceRequest { verb: Verb::Connect, target, options })
}

/// The last `count` segments, still encoded, each with its slash.
fn last_segments(path: &str, count: usize) -> String {
    let mut start = path.len();
    for _ in 0..count {
        start = path[..start].rfind('/').unwrap_or(0);
    }
    path[start..].to_owned()
}

fn plain(method: Method, target: Target, query: &str) -> ApiResult<ResourceRequest> {
    let named = !target.name.is_empty();
    let options = decode_options(query)?;
    let verb = match method {
        Method::Get | Method::Head if named => Verb::Get,
        Method::Get | Method::Head if query::wants_watch(query) => Verb::Watch,
        Method::Get | Method::Head => Verb::List,
        Method::Post if !named || !target.subresource.is_empty() => Verb::Create,
        Method::Put if named => Verb::Update,
        Method::Patch if named => Verb::Patch,
        Method::Delete if named => Verb::Delete,
        Method::Delete => Verb::DeleteCollection,
        other => return Err(ApiError::method_not_allowed(other.as_str())),
    };
    Ok(ResourceRequest { verb, target, options })
}

/// Decodes one path segment, once. A segment that another reader might take for something else is refused.
fn decode_segment(raw: &str) -> ApiResult<Cow<'_, str>> {
    let refused = |why: &str| {
        let shown: String = raw.chars().take(100).collect();
        ApiError::bad_request(format!("path segment {shown:?}: {why}"))
    };
    let decoded = if raw.contains('%') {
        Cow::Owned(percent_decode(raw).ok_or_else(|| refused("is not percent-encoded UTF-8"))?)
    } else {
        Cow::Borrowed(raw)
    };
    match decoded.as_ref() {
        "." | ".." => Err(refused("may not be '.' or '..'")),
        text if text.contains(['/', '%', '\\']) => Err(refused("may not contain '/', '\\' or '%'")),
        text if text.chars().any(|c| c.is_control()) => Err(refused("may not contain control characters")),
        _ => Ok(decoded),
    }
}

/// Undoes percent-encoding, once; `None` when a `%` is not followed by two hexadecimal digits or the bytes are no UTF-8.
pub fn percent_decode(raw: &str) -> Option<String> {
    let mut out = Vec::with_capacity(raw.len());
    let mut bytes = raw.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            out.push((high * 16 + low) as u8);
        } else {
            out.push(byte);
        }
    }
    String::from_utf8(out).ok()
}

/// Percent-encodes everything that is not unreserved.
pub fn percent_encoded(text: &str) -> String {
    let mut out = String::new();
    percent_encode(&mut out, text, &[]);
    out
}

/// Percent-encodes everything that is not unreserved. `keep` names further bytes to leave as they are.
fn percent_encode(out: &mut String, text: &str, keep: &[u8]) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) || keep.contains(&byte) {
            out.push(byte as char);
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
}
