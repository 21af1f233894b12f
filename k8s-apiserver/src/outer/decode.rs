//! The bodies of requests: read within a limit, understood by their media type, turned into documents.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, header};
use k8s_core::{
    doc::Doc,
    env::{self, Env},
    path::read_delete_options,
    request::{ApiRequest, FieldValidation, PatchKind, RequestBody, Verb},
    schema::Schemas,
    status::{ApiError, ApiResult, Reason},
};
use k8s_wire::body::{self, Body, ReadError};

use super::protobuf::{self, Fault};

/// The largest body that is read.
pub const MAX_BODY_BYTES: usize = 3 * 1024 * 1024;
/// How long a client may take to send a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(30);
/// How many values a YAML body may hold; aliases may add a tenth of it.
const MAX_YAML_NODES: usize = 1_000_000;

/// The media types of bodies that are objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Media {
    Json,
    Yaml,
    Protobuf,
    Patch(PatchKind),
}

/// Reads the body into the request: an object, a patch, or the options of a deletion.
pub async fn read_into(
    request: &mut ApiRequest,
    headers: &HeaderMap,
    body: Body,
    env: &Env,
    schemas: &Schemas,
) -> ApiResult<()> {
    match request.verb {
        Verb::Create | Verb::Update => {
            let (media, bytes) = sent(headers, body, env, request.verb).await?;
            if bytes.iter().all(u8::is_ascii_whitespace) {
                return Err(ApiError::bad_request("the request has no body; it must be an object"));
            }
            let doc = document(media, &bytes, request, schemas)?;
            if doc.as_object().is_none() {
                return Err(ApiError::bad_request(format!("the body is a JSON {}, not an object", doc.type_name())));
            }
            request.body = RequestBody::Doc(doc);
        }
        Verb::Patch => {
            let (media, bytes) = sent(headers, body, env, request.verb).await?;
            let Media::Patch(kind) = media else { return Err(unsupported_patch("")) };
            let doc = document(media, &bytes, request, schemas)?;
            request.body = RequestBody::Patch(kind, doc);
        }
        Verb::Delete | Verb::DeleteCollection => {
            let (media, bytes) = sent(headers, body, env, request.verb).await?;
            if !bytes.iter().all(u8::is_ascii_whitespace) {
                let doc = document(media, &bytes, request, schemas)?;
                read_delete_options(&mut request.options, &doc.to_json())?;
                request.duplicates.clear();
            }
        }
        Verb::Get | Verb::List | Verb::Watch | Verb::Connect => {}
    }
    Ok(())
}

async fn sent(headers: &HeaderMap, body: Body, env: &Env, verb: Verb) -> ApiResult<(Media, Bytes)> {
    let media = media(headers, verb)?;
    let reading = env::timeout(&**env, BODY_TIMEOUT, body::read(body, MAX_BODY_BYTES));
    match reading.await {
        Some(Ok(bytes)) => Ok((media, bytes)),
        Some(Err(ReadError::TooLarge { limit })) => {
            Err(ApiError::too_large(format!("Request entity too large: limit is {limit}")))
        }
        Some(Err(_)) => Err(ApiError::bad_request("the body ended before it was complete")),
        None => {
            let message = format!("the body did not arrive within {} s", BODY_TIMEOUT.as_secs());
            Err(ApiError::new(408, Reason::Timeout, message))
        }
    }
}

fn media(headers: &HeaderMap, verb: Verb) -> ApiResult<Media> {
    let encoding = headers.get(header::CONTENT_ENCODING).map(|value| value.as_bytes());
    if encoding.is_some_and(|encoding| !encoding.eq_ignore_ascii_case(b"identity")) {
        return Err(ApiError::unsupported_media_type("Content-Encoding: request bodies may not be compressed"));
    }
    let content_type = headers.get(header::CONTENT_TYPE).map_or(Ok(""), |value| value.to_str());
    let content_type = content_type.map_err(|_| ApiError::unsupported_media_type("Content-Type: not ASCII"))?;
    let media_type = content_type.split(';').next().unwrap_or("").trim();
    if verb == Verb::Patch {
        return PatchKind::from_content_type(media_type).map(Media::Patch).ok_or_else(|| unsupported_patch(media_type));
    }
    match media_type.to_ascii_lowercase().as_str() {
        "" | "application/json" => Ok(Media::Json),
        "application/yaml" | "text/yaml" | "application/x-yaml" => Ok(Media::Yaml),
        "application/vnd.kubernetes.protobuf" => Ok(Media::Protobuf),
        other => {
            let shown: String = other.chars().take(100).collect();
            let message = format!(
                "the body of the request was in an unknown format {shown:?} - accepted media types include: \
                 application/json, application/yaml, application/vnd.kubernetes.protobuf"
            );
            Err(ApiError::unsupported_media_type(message))
        }
    }
}

fn unsupported_patch(media_type: &str) -> ApiError {
    let shown: String = media_type.chars().take(100).collect();
    let accepted = PatchKind::ALL.map(PatchKind::content_type).join(", ");
    ApiError::unsupported_media_type(format!("patch format {shown:?} is not understood - accepted: {accepted}"))
}

fn document(media: Media, bytes: &Bytes, request: &mut ApiRequest, schemas: &Schemas) -> ApiResult<Doc> {
    let validates = request.options.field_validation != FieldValidation::Ignore;
    match media {
        Media::Protobuf => protobuf::decode(bytes, schemas).map_err(|fault| match fault {
            Fault::Malformed(_) => ApiError::bad_request(format!("couldn't parse the body as protobuf: {fault}")),
            Fault::UnknownKind(_) => ApiError::unsupported_media_type(fault.to_string()),
        }),
        Media::Yaml => yaml(bytes, validates, &mut request.duplicates),
        // Apply configurations are YAML by name and JSON by custom.
        Media::Patch(PatchKind::Apply) if !looks_like_json(bytes) => yaml(bytes, validates, &mut request.duplicates),
        _ => json(bytes, validates, &mut request.duplicates),
    }
}

fn looks_like_json(bytes: &[u8]) -> bool {
    bytes.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'{') && Doc::parse(bytes).is_ok()
}

fn json(bytes: &[u8], validates: bool, duplicates: &mut Vec<String>) -> ApiResult<Doc> {
    let malformed = |why: &dyn std::fmt::Display| {
        ApiError::bad_request(format!("the object provided is unrecognized: couldn't parse the body as JSON: {why}"))
    };
    if !validates {
        return Doc::parse(bytes).map_err(|why| malformed(&why));
    }
    let mut found = Vec::new();
    let doc = Doc::parse_with(bytes, &mut found).map_err(|why| malformed(&why))?;
    duplicates.extend(found.iter().map(ToString::to_string));
    Ok(doc)
}

/// YAML with the same reading of scalars as upstream's parser: YAML 1.1 booleans and octal numbers.
fn yaml(bytes: &[u8], validates: bool, duplicates: &mut Vec<String>) -> ApiResult<Doc> {
    let malformed = |why: &dyn std::fmt::Display| {
        let shown: String = why.to_string().chars().take(1000).collect();
        ApiError::bad_request(format!("the object provided is unrecognized: couldn't parse the body as YAML: {shown}"))
    };
    let text = std::str::from_utf8(bytes).map_err(|why| malformed(&why))?;
    if validates {
        match serde_saphyr::from_str_with_options::<Doc>(text, yaml_options(serde_saphyr::DuplicateKeyPolicy::Error)) {
            Ok(doc) => return Ok(doc),
            Err(why) if why.to_string().contains("duplicate") => duplicates.push(duplicate(&why)),
            Err(why) => return Err(malformed(&why)),
        }
    }
    serde_saphyr::from_str_with_options(text, yaml_options(serde_saphyr::DuplicateKeyPolicy::LastWins))
        .map_err(|why| malformed(&why))
}

/// A duplicate in upstream's words.
fn duplicate(why: &serde_saphyr::Error) -> String {
    match why {
        serde_saphyr::Error::DuplicateMappingKey { key, location } => {
            format!("line {}: key {:?} already set in map", location.line(), key.as_deref().unwrap_or_default())
        }
        other => other.to_string().lines().next().unwrap_or_default().to_owned(),
    }
}

fn yaml_options(duplicate_keys: serde_saphyr::DuplicateKeyPolicy) -> serde_saphyr::Options {
    serde_saphyr::options! {
        duplicate_keys: duplicate_keys,
        legacy_octal_numbers: true,
        with_snippet: false,
        budget: serde_saphyr::budget! {
            max_events: MAX_YAML_NODES,
            max_depth: 1000,
            max_nodes: MAX_YAML_NODES,
            max_aliases: 10_000,
        },
        alias_limits: serde_saphyr::alias_limits! {
            max_total_replayed_events: MAX_YAML_NODES / 10,
        },
    }
}
