//! What went wrong, as the API says it: a `Status` with a code, a reason and the fields at fault.
//!
//! Follows `metav1.Status` and the error constructors of apimachinery. Every failure that may reach a client is an
//! [`ApiError`]; no other error type crosses the API server's door.

use std::{fmt, time::Duration};

use serde::{Deserialize, Serialize};

/// `metav1.CauseTypeResourceVersionTooLarge`.
const RESOURCE_VERSION_TOO_LARGE: &str = "ResourceVersionTooLarge";

/// The result of everything that goes through the API server's door.
pub type ApiResult<T> = Result<T, ApiError>;

/// A failed request: the `Status` that the client gets. One pointer wide.
#[derive(Clone, PartialEq)]
pub struct ApiError(Box<Status>);

/// The wire form of a failure (or, for deletions, of a success).
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Status {
    /// Always `Status`.
    pub kind: String,
    /// Always `v1`.
    pub api_version: String,
    /// Empty list metadata, present for upstream's clients.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// `Success` or `Failure`.
    pub status: String,
    /// For people: what was wrong, where, and what to do.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// For programs: one word of the fixed list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<Reason>,
    /// Which object, and which of its fields.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub details: Option<StatusDetails>,
    /// The HTTP status code.
    #[serde(skip_serializing_if = "is_zero")]
    pub code: u16,
}

/// Which object a [`Status`] speaks of.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct StatusDetails {
    /// The object's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub name: String,
    /// The API group.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub group: String,
    /// The resource (plural), or the kind where fields are at fault.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub kind: String,
    /// The object's uid, where known.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// One entry per field at fault.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<StatusCause>,
    /// Seconds that the client should wait before it tries again.
    #[serde(skip_serializing_if = "is_zero_u32")]
    pub retry_after_seconds: u32,
}

/// One field at fault.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct StatusCause {
    /// One word of the fixed list, such as `FieldValueInvalid`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// What is wrong with it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub message: String,
    /// Its path, such as `spec.containers[0].name`.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub field: String,
}

/// The machine-readable reasons of `metav1.StatusReason`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
#[allow(missing_docs)] // The names are the documentation; upstream's meta/v1 types describe each.
pub enum Reason {
    Unauthorized,
    Forbidden,
    NotFound,
    AlreadyExists,
    Conflict,
    Gone,
    Invalid,
    ServerTimeout,
    StoreReadError,
    Timeout,
    TooManyRequests,
    BadRequest,
    MethodNotAllowed,
    NotAcceptable,
    RequestEntityTooLarge,
    UnsupportedMediaType,
    InternalError,
    Expired,
    ServiceUnavailable,
    #[serde(other)]
    Unknown,
}

/// One broken rule about one field; several make an `Invalid` [`ApiError`].
#[derive(Debug, Clone, PartialEq)]
pub struct FieldError {
    /// What kind of rule.
    pub kind: FieldErrorKind,
    /// Where, such as `spec.containers[0].name`.
    pub path: String,
    /// The value at fault, rendered, or empty.
    pub value: String,
    /// What is wrong and what would be right.
    pub detail: String,
}

/// The rule kinds of upstream's `field.ErrorType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs)] // As upstream's field package names them.
pub enum FieldErrorKind {
    NotFound,
    Required,
    Duplicate,
    Invalid,
    NotSupported,
    Forbidden,
    TooLong,
    TooMany,
    TypeInvalid,
    Internal,
}

impl FieldErrorKind {
    /// The word used as the cause's reason.
    pub fn cause(self) -> &'static str {
        match self {
            Self::NotFound => "FieldValueNotFound",
            Self::Required => "FieldValueRequired",
            Self::Duplicate => "FieldValueDuplicate",
            Self::Invalid => "FieldValueInvalid",
            Self::NotSupported => "FieldValueNotSupported",
            Self::Forbidden => "FieldValueForbidden",
            Self::TooLong => "FieldValueTooLong",
            Self::TooMany => "FieldValueTooMany",
            Self::TypeInvalid => "FieldValueTypeInvalid",
            Self::Internal => "InternalError",
        }
    }

    fn prose(self) -> &'static str {
        match self {
            Self::NotFound => "Not found",
            Self::Required => "Required value",
            Self::Duplicate => "Duplicate value",
            Self::Invalid => "Invalid value",
            Self::NotSupported => "Unsupported value",
            Self::Forbidden => "Forbidden",
            Self::TooLong => "Too long",
            Self::TooMany => "Too many",
            Self::TypeInvalid => "Invalid value",
            Self::Internal => "Internal error",
        }
    }
}

impl FieldError {
    /// A rule broken at `path`; `value` is rendered as the message shows it (quote strings yourself).
    pub fn new(
        kind: FieldErrorKind,
        path: impl Into<String>,
        value: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self { kind, path: path.into(), value: value.into(), detail: detail.into() }
    }

    /// `Required value`.
    pub fn required(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Required, path, "", detail)
    }

    /// `Invalid value` of a string.
    pub fn invalid(path: impl Into<String>, value: &str, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Invalid, path, format!("{value:?}"), detail)
    }

    /// `Forbidden`.
    pub fn forbidden(path: impl Into<String>, detail: impl Into<String>) -> Self {
        Self::new(FieldErrorKind::Forbidden, path, "", detail)
    }

    /// `Duplicate value`.
    pub fn duplicate(path: impl Into<String>, value: &str) -> Self {
        Self::new(FieldErrorKind::Duplicate, path, format!("{value:?}"), "")
    }

    /// `Unsupported value`, naming what is supported.
    pub fn not_supported(path: impl Into<String>, value: &str, supported: &[&str]) -> Self {
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        let detail = format!("supported values: {}", list.join(", "));
        Self::new(FieldErrorKind::NotSupported, path, format!("{value:?}"), detail)
    }

    /// The message without the path, as a cause carries it.
    pub fn message(&self) -> String {
        let mut text = self.kind.prose().to_owned();
        if !self.value.is_empty() {
            text.push_str(": ");
            text.push_str(&self.value);
        }
        if !self.detail.is_empty() {
            text.push_str(": ");
            text.push_str(&self.detail);
        }
        text
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path, self.message())
    }
}

impl Status {
    /// A success, as deletions answer it.
    pub fn success() -> Self {
        Self { status: "Success".into(), code: 200, ..Self::skeleton() }
    }

    fn skeleton() -> Self {
        Self { kind: "Status".into(), api_version: "v1".into(), ..Self::default() }
    }

    /// The JSON that goes over the wire.
    pub fn to_json(&self) -> Vec<u8> {
        // Invariant: a Status has string keys only, so it always serializes.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

impl ApiError {
    /// Any code and reason.
    pub fn new(code: u16, reason: Reason, message: impl Into<String>) -> Self {
        Self(Box::new(Status {
            status: "Failure".into(),
            message: message.into(),
            reason: Some(reason),
            code,
            ..Status::skeleton()
        }))
    }

    /// 400: the request itself is malformed.
    pub fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, Reason::BadRequest, message)
    }

    /// 401: nobody we know.
    pub fn unauthorized() -> Self {
        Self::new(401, Reason::Unauthorized, "Unauthorized")
    }

    /// 403 for an object; `why` follows upstream's shape `pods "x" is forbidden: why`.
    pub fn forbidden(resource: &str, group: &str, name: &str, why: impl fmt::Display) -> Self {
        let subject = qualified(resource, group);
        let message = if name.is_empty() {
            format!("{subject} is forbidden: {why}")
        } else {
            format!("{subject} {name:?} is forbidden: {why}")
        };
        Self::new(403, Reason::Forbidden, message).about(resource, group, name)
    }

    /// 404 for an object.
    pub fn not_found(resource: &str, group: &str, name: &str) -> Self {
        let message = format!("{} {name:?} not found", qualified(resource, group));
        Self::new(404, Reason::NotFound, message).about(resource, group, name)
    }

    /// 404 for a path that nothing serves.
    pub fn no_such_path() -> Self {
        Self::new(404, Reason::NotFound, "the server could not find the requested resource")
    }

    /// 409: the name is taken.
    pub fn already_exists(resource: &str, group: &str, name: &str) -> Self {
        let message = format!("{} {name:?} already exists", qualified(resource, group));
        Self::new(409, Reason::AlreadyExists, message).about(resource, group, name)
    }

    /// 409: somebody else wrote first, or a precondition does not hold.
    pub fn conflict(resource: &str, group: &str, name: &str, why: impl fmt::Display) -> Self {
        let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", qualified(resource, group));
        Self::new(409, Reason::Conflict, message).about(resource, group, name)
    }

    /// 409 for a stale `resourceVersion`, in the words clients look for.
    pub fn modified(resource: &str, group: &str, name: &str) -> Self {
        let why = "the object has been modified; please apply your changes to the latest version and try again";
        Self::conflict(resource, group, name, why)
    }

    /// 422: fields break rules. `kind` and `group` name the object's type.
    pub fn invalid(kind: &str, group: &str, name: &str, errors: &[FieldError]) -> Self {
        let listed: Vec<String> = errors.iter().map(FieldError::to_string).collect();
        let text = match listed.as_slice() {
            [one] => one.clone(),
            many => format!("[{}]", many.join(", ")),
        };
        let message = format!("{} {name:?} is invalid: {text}", qualified(kind, group));
        let mut error = Self::new(422, Reason::Invalid, message).about(kind, group, name);
        if let Some(details) = &mut error.0.details {
            details.causes = errors
                .iter()
                .map(|e| StatusCause { reason: e.kind.cause().into(), message: e.message(), field: e.path.clone() })
                .collect();
        }
        error
    }

    /// 405.
    pub fn method_not_allowed(verb: &str) -> Self {
        Self::new(405, Reason::MethodNotAllowed, format!("{verb} is not supported on resources of this kind"))
    }

    /// 406.
    pub fn not_acceptable(offered: &str) -> Self {
        let message = format!("only the following media types are accepted: {offered}");
        Self::new(406, Reason::NotAcceptable, message)
    }

    /// 410: the revision is no longer kept. A list or watch must start anew.
    pub fn expired(message: impl Into<String>) -> Self {
        Self::new(410, Reason::Expired, message)
    }

    /// 413.
    pub fn too_large(message: impl Into<String>) -> Self {
        Self::new(413, Reason::RequestEntityTooLarge, message)
    }

    /// 415.
    pub fn unsupported_media_type(message: impl Into<String>) -> Self {
        Self::new(415, Reason::UnsupportedMediaType, message)
    }

    /// 429: try again later (a disruption budget, a full queue).
    pub fn too_many_requests(message: impl Into<String>, retry_after: Duration) -> Self {
        Self::new(429, Reason::TooManyRequests, message).retry_after(retry_after)
    }

    /// 500: our own fault. Say what was being done.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self::new(500, Reason::InternalError, format!("Internal error occurred: {message}"))
    }

    /// 501: a capability that is not there yet, named so that nobody wonders.
    pub fn not_implemented(what: impl fmt::Display) -> Self {
        Self::new(501, Reason::Unknown, format!("not implemented: {what}"))
    }

    /// 503: a part we need cannot answer now.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self::new(503, Reason::ServiceUnavailable, message)
    }

    /// 504: the deadline passed before the answer was there.
    pub fn timeout(message: impl Into<String>) -> Self {
        Self::new(504, Reason::Timeout, message)
    }

    /// 504: a read asks for a revision that is not there yet, or (after a restore) no longer.
    pub fn too_large_resource_version(wanted: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {wanted}, current: {current}");
        let cause = StatusCause {
            reason: RESOURCE_VERSION_TOO_LARGE.into(),
            message: "Too large resource version".into(),
            field: String::new(),
        };
        Self::new(504, Reason::Timeout, message).cause(cause).retry_after(Duration::from_secs(1))
    }

    /// 422 for parameters of the request itself: `kind` is `ListOptions`, `PatchOptions` and the like.
    pub fn invalid_options(kind: &str, errors: &[FieldError]) -> Self {
        Self::invalid(kind, "meta.k8s.io", "", errors)
    }

    /// 409: every name that was generated was taken.
    pub fn generated_names_taken(resource: &str, group: &str, name: &str) -> Self {
        let message = format!(
            "{} {name:?} already exists, the server was not able to generate a unique name for the object",
            qualified(resource, group)
        );
        let error = Self::new(409, Reason::AlreadyExists, message).about(resource, group, name);
        error.retry_after(Duration::from_secs(1))
    }

    /// Takes a `Status` that came over the wire.
    pub fn from_status(status: Status) -> Self {
        Self(Box::new(status))
    }

    /// Names the object that the error is about.
    pub fn about(mut self, kind: &str, group: &str, name: &str) -> Self {
        let details = self.0.details.get_or_insert_default();
        details.kind = kind.into();
        details.group = group.into();
        details.name = name.into();
        self
    }

    /// Adds one cause.
    pub fn cause(mut self, cause: StatusCause) -> Self {
        self.0.details.get_or_insert_default().causes.push(cause);
        self
    }

    /// Tells the client when to try again; at least a second.
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.0.details.get_or_insert_default().retry_after_seconds = (wait.as_secs() as u32).max(1);
        self
    }

    /// The whole `Status`.
    pub fn status(&self) -> &Status {
        &self.0
    }

    /// The HTTP status code.
    pub fn code(&self) -> u16 {
        self.0.code
    }

    /// The reason, `Unknown` if the server gave none.
    pub fn reason(&self) -> Reason {
        self.0.reason.unwrap_or(Reason::Unknown)
    }

    /// Whether the object is not there.
    pub fn is_not_found(&self) -> bool {
        self.reason() == Reason::NotFound
    }

    /// Whether somebody else wrote first.
    pub fn is_conflict(&self) -> bool {
        self.reason() == Reason::Conflict
    }

    /// Whether the name was taken.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == Reason::AlreadyExists
    }

    /// Whether the revision is no longer kept and the reader must list anew.
    pub fn is_expired(&self) -> bool {
        matches!(self.reason(), Reason::Expired | Reason::Gone)
    }

    /// Whether the server has not reached the revision that was asked for: a reader that goes on with it might wait for
    /// ever, because the store may have been restored from a backup.
    pub fn is_too_large_resource_version(&self) -> bool {
        let causes = self.0.details.as_ref().map_or(&[][..], |details| &details.causes);
        self.reason() == Reason::Timeout && causes.iter().any(|cause| cause.reason == RESOURCE_VERSION_TOO_LARGE)
    }

    /// Whether the same request may succeed later, and how long to wait at least.
    pub fn retry(&self) -> Option<Duration> {
        let transient = matches!(self.code(), 429 | 500 | 502 | 503 | 504) || self.is_conflict();
        let seconds = self.0.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        transient.then(|| Duration::from_secs(seconds.into()))
    }
}

impl fmt::Display for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)
    }
}

impl fmt::Debug for ApiError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?}: {}", self.0.code, self.reason(), self.0.message)
    }
}

impl std::error::Error for ApiError {}

fn qualified(resource: &str, group: &str) -> String {
    if group.is_empty() { resource.to_owned() } else { format!("{resource}.{group}") }
}

fn is_zero(code: &u16) -> bool {
    *code == 0
}

fn is_zero_u32(seconds: &u32) -> bool {
    *seconds == 0
}
