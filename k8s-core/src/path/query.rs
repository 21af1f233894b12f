//! The query parameters that all resources share, read into [`Options`] and written from them.
//!
//! Names, defaults and the reading of booleans are upstream's (`metav1.ListOptions`, `CreateOptions`,
//! `PatchOptions`, `DeleteOptions`). Unknown parameters are ignored, as upstream does.

use std::{borrow::Cow, time::Duration};

use super::{percent_decode, percent_encode};
use crate::{
    request::{FieldValidation, Options, Propagation, Verb, VersionMatch},
    status::{ApiError, ApiResult, FieldError, FieldErrorKind},
};

/// The longest `fieldManager`.
const MAX_MANAGER_BYTES: usize = 128;

/// Reads a query string (without its `?`) of a request of `verb`. 400 names the parameter that cannot be read, 422 all
/// those whose value is none that is permitted.
pub fn decode_options(verb: Verb, query: &str) -> ApiResult<Options> {
    let (mut options, mut errors) = (Options::default(), Vec::new());
    for (name, value) in pairs(query) {
        match read_parameter(&mut options, &name, &value?) {
            Ok(()) => {}
            Err(Unread::Malformed(error)) => return Err(error),
            Err(Unread::Forbidden(error)) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(options) } else { Err(ApiError::invalid_options(options_kind(verb), &errors)) }
}

/// Why a parameter was not taken.
enum Unread {
    /// It cannot be read.
    Malformed(ApiError),
    /// It can, and is none of those that are permitted.
    Forbidden(FieldError),
}

impl From<ApiError> for Unread {
    fn from(error: ApiError) -> Self {
        Self::Malformed(error)
    }
}

impl From<FieldError> for Unread {
    fn from(error: FieldError) -> Self {
        Self::Forbidden(error)
    }
}

/// What upstream calls the parameters of a verb.
fn options_kind(verb: Verb) -> &'static str {
    match verb {
        Verb::Create => "CreateOptions",
        Verb::Update => "UpdateOptions",
        Verb::Patch => "PatchOptions",
        Verb::Delete | Verb::DeleteCollection => "DeleteOptions",
        Verb::Get => "GetOptions",
        Verb::List | Verb::Watch | Verb::Connect => "ListOptions",
    }
}

/// Writes what is not default, as a query string without its `?`. `connect_query` goes first, as it stands.
pub fn encode_options(options: &Options) -> String {
    let mut out = Writer(options.connect_query.clone());
    out.text("labelSelector", &options.label_selector.to_string());
    out.text("fieldSelector", &options.field_selector.to_string());
    out.number("limit", options.limit);
    out.text("continue", options.continue_token.as_deref().unwrap_or(""));
    out.number("resourceVersion", options.resource_version);
    out.text("resourceVersionMatch", options.resource_version_match.map_or("", VersionMatch::as_str));
    out.number("timeoutSeconds", options.timeout.map(|timeout| timeout.as_secs().max(1)));
    out.flag("allowWatchBookmarks", options.allow_watch_bookmarks);
    out.number("sendInitialEvents", options.send_initial_events);
    out.text("dryRun", if options.dry_run { "All" } else { "" });
    out.text("fieldManager", options.field_manager.as_deref().unwrap_or(""));
    out.flag("force", options.force);
    out.text("fieldValidation", options.field_validation.parameter());
    out.number("gracePeriodSeconds", options.grace_period_seconds);
    out.text("propagationPolicy", options.propagation.map_or("", Propagation::as_str));
    out.0
}

/// Whether a GET of a collection asks for a watch.
pub(super) fn wants_watch(query: &str) -> bool {
    pairs(query).any(|(name, value)| name == "watch" && value.is_ok_and(|value| boolean(&value)))
}

fn read_parameter(options: &mut Options, name: &str, value: &str) -> Result<(), Unread> {
    match name {
        "labelSelector" => options.label_selector = value.parse()?,
        "fieldSelector" => options.field_selector = value.parse()?,
        "limit" => options.limit = number::<i64>(name, value)?.and_then(positive),
        "continue" => options.continue_token = (!value.is_empty()).then(|| value.to_owned()),
        "resourceVersion" => options.resource_version = number(name, value)?,
        "resourceVersionMatch" => options.resource_version_match = VersionMatch::parse(value)?,
        "timeoutSeconds" => {
            options.timeout = number::<i64>(name, value)?.and_then(positive).map(Duration::from_secs);
        }
        "allowWatchBookmarks" => options.allow_watch_bookmarks = boolean(value),
        "sendInitialEvents" => options.send_initial_events = Some(boolean(value)),
        "dryRun" => options.dry_run = dry_run(value)? || options.dry_run,
        "fieldManager" => options.field_manager = field_manager(value)?.map(Into::into),
        "force" => options.force = boolean(value),
        "fieldValidation" => options.field_validation = FieldValidation::parse(value)?,
        "gracePeriodSeconds" => options.grace_period_seconds = number(name, value)?,
        "propagationPolicy" => options.propagation = Propagation::parse(value)?,
        "orphanDependents" => {
            let policy = if boolean(value) { Propagation::Orphan } else { Propagation::Background };
            options.propagation = options.propagation.or(Some(policy));
        }
        _ => {}
    }
    Ok(())
}

/// The decoded pairs, in order. A value that is not percent-encoded UTF-8 is an error where it is used.
fn pairs(query: &str) -> impl Iterator<Item = (Cow<'_, str>, ApiResult<String>)> {
    query.split('&').filter(|pair| !pair.is_empty()).map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = percent_decode(&value.replace('+', " "))
            .ok_or_else(|| ApiError::bad_request(format!("query parameter {name:?}: not percent-encoded UTF-8")));
        let name = percent_decode(name).map_or(Cow::Borrowed(name), Cow::Owned);
        (name, decoded)
    })
}

/// A parameter that is there without a value is true, as are all words but `false` and `0`.
fn boolean(value: &str) -> bool {
    !(value.eq_ignore_ascii_case("false") || value == "0")
}

/// An empty number is an absent one.
fn number<N: std::str::FromStr>(name: &str, value: &str) -> ApiResult<Option<N>> {
    if value.is_empty() {
        return Ok(None);
    }
    let malformed = |_| {
        let shown: String = value.chars().take(40).collect();
        ApiError::bad_request(format!("query parameter {name}: {shown:?} is not a number in range"))
    };
    value.parse().map(Some).map_err(malformed)
}

/// What is not above zero says nothing.
fn positive(value: i64) -> Option<u64> {
    u64::try_from(value).ok().filter(|value| *value > 0)
}

pub(super) fn dry_run(value: &str) -> Result<bool, FieldError> {
    match value {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(unsupported("dryRun", other, &["All"])),
    }
}

/// Upstream counts bytes.
fn field_manager(value: &str) -> Result<Option<&str>, FieldError> {
    if value.len() > MAX_MANAGER_BYTES {
        let detail = format!("may not be more than {MAX_MANAGER_BYTES} bytes");
        return Err(FieldError::new(FieldErrorKind::TooLong, "fieldManager", "", detail));
    }
    if let Some((at, c)) = value.char_indices().find(|(_, c)| c.is_control()) {
        let detail = format!("should only contain printable characters, but has {c:?} at position {at}");
        return Err(FieldError::invalid("fieldManager", value, detail));
    }
    Ok(Some(value).filter(|value| !value.is_empty()))
}

fn unsupported(name: &str, value: &str, supported: &[&str]) -> FieldError {
    let shown: String = value.chars().take(40).collect();
    FieldError::not_supported(name, &shown, supported)
}

impl VersionMatch {
    /// The word on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exact => "Exact",
            Self::NotOlderThan => "NotOlderThan",
        }
    }

    fn parse(value: &str) -> Result<Option<Self>, FieldError> {
        match value {
            "" => Ok(None),
            "Exact" => Ok(Some(Self::Exact)),
            "NotOlderThan" => Ok(Some(Self::NotOlderThan)),
            other => Err(unsupported("resourceVersionMatch", other, &["Exact", "NotOlderThan", ""])),
        }
    }
}

impl FieldValidation {
    fn parse(value: &str) -> Result<Self, FieldError> {
        match value {
            "" | "Warn" => Ok(Self::Warn),
            "Ignore" => Ok(Self::Ignore),
            "Strict" => Ok(Self::Strict),
            other => Err(unsupported("fieldValidation", other, &["", "Ignore", "Strict", "Warn"])),
        }
    }

    /// The parameter's value; empty for the default.
    fn parameter(self) -> &'static str {
        match self {
            Self::Warn => "",
            Self::Ignore => "Ignore",
            Self::Strict => "Strict",
        }
    }
}

impl Propagation {
    pub(super) fn parse(value: &str) -> Result<Option<Self>, FieldError> {
        match value {
            "" => Ok(None),
            "Orphan" => Ok(Some(Self::Orphan)),
            "Background" => Ok(Some(Self::Background)),
            "Foreground" => Ok(Some(Self::Foreground)),
            other => Err(unsupported("propagationPolicy", other, &["Foreground", "Background", "Orphan", "nil"])),
        }
    }
}

struct Writer(String);

impl Writer {
    fn text(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.push_str(name);
        self.0.push('=');
        percent_encode(&mut self.0, value, b",/:");
    }

    fn number(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.text(name, &value.to_string());
        }
    }

    fn flag(&mut self, name: &str, value: bool) {
        self.text(name, if value { "true" } else { "" });
    }
}
