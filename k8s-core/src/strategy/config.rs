//! `v1` ConfigMap and Secret.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Strategy, immutable, metadata, named};
use crate::{
    doc::{Doc, Map},
    names,
    status::{FieldError, FieldErrorKind},
};

/// The most bytes that all values may have together.
const MAX_BYTES: usize = 1 << 20;

pub(super) struct ConfigMap;

impl Strategy for ConfigMap {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let (mut total, data) = (0, fields(doc, "data"));
        for (key, value) in data.iter().copied().flat_map(Map::iter) {
            named(&mut errors, &format!("data[{key}]"), key, names::config_key(key));
            total += value.as_str().map_or(0, str::len);
        }
        for (key, value) in fields(doc, "binaryData").into_iter().flat_map(Map::iter) {
            named(&mut errors, &format!("binaryData[{key}]"), key, names::config_key(key));
            if data.is_some_and(|data| data.contains(key)) {
                errors.push(FieldError::invalid(format!("data[{key}]"), key, "duplicate of key present in binaryData"));
            }
            total += decoded_length(value);
        }
        check_total(&mut errors, total, "");
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        check_frozen(&mut errors, new, old, &["data", "binaryData"]);
        errors
    }
}

pub(super) struct Secret;

impl Strategy for Secret {
    fn prepare_create(&self, doc: &mut Doc) {
        encode_strings(doc);
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        encode_strings(new);
        // A client that leaves the type out does not mean to change it.
        if new.str_at(&["type"]).is_empty()
            && let Some(kind) = old.get("type")
        {
            new.set_at(&["type"], kind.clone());
        }
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let mut total = 0;
        for (key, value) in fields(doc, "data").into_iter().flat_map(Map::iter) {
            named(&mut errors, &format!("data[{key}]"), key, names::config_key(key));
            total += decoded_length(value);
        }
        check_total(&mut errors, total, "data");
        for key in required_keys(doc.str_at(&["type"])) {
            if !fields(doc, "data").is_some_and(|data| data.contains(key)) {
                errors.push(FieldError::required(format!("data[{key}]"), ""));
            }
        }
        check_content(&mut errors, doc);
        let account = ["metadata", "annotations", "kubernetes.io/service-account.name"];
        if doc.str_at(&["type"]) == "kubernetes.io/service-account-token" && doc.str_at(&account).is_empty() {
            errors.push(FieldError::required("metadata.annotations[kubernetes.io/service-account.name]", ""));
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = self.validate_create(new);
        errors.extend(metadata::check_update(new, old));
        immutable(&mut errors, new, old, &["type"]);
        check_frozen(&mut errors, new, old, &["data"]);
        errors
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "type" => metadata::text_field(doc, path),
            _ => metadata::field(doc, path),
        }
    }
}

/// What each built-in type must hold.
fn required_keys(kind: &str) -> &'static [&'static str] {
    match kind {
        "kubernetes.io/dockercfg" => &[".dockercfg"],
        "kubernetes.io/dockerconfigjson" => &[".dockerconfigjson"],
        "kubernetes.io/ssh-auth" => &["ssh-privatekey"],
        "kubernetes.io/tls" => &["tls.crt", "tls.key"],
        _ => &[],
    }
}

/// What keys alone do not tell: that a password file is JSON, and that basic authentication has something to say.
fn check_content(errors: &mut Vec<FieldError>, doc: &Doc) {
    let data = fields(doc, "data");
    let json_key = match doc.str_at(&["type"]) {
        "kubernetes.io/dockercfg" => ".dockercfg",
        "kubernetes.io/dockerconfigjson" => ".dockerconfigjson",
        "kubernetes.io/basic-auth" => {
            if !["username", "password"].iter().any(|key| data.is_some_and(|data| data.contains(key))) {
                errors.push(FieldError::required("data[username]", ""));
                errors.push(FieldError::required("data[password]", ""));
            }
            return;
        }
        _ => return,
    };
    let text = data.and_then(|data| data.get(json_key)).and_then(Doc::as_str);
    let bytes = text.and_then(|text| STANDARD.decode(text).ok());
    if bytes.is_some_and(|bytes| Doc::parse(&bytes).is_err()) {
        let (path, hidden) = (format!("data[{json_key}]"), "<secret contents redacted>");
        errors.push(FieldError::new(FieldErrorKind::Invalid, path, hidden, "must be JSON"));
    }
}

/// `stringData` is for writing only.
fn encode_strings(doc: &mut Doc) {
    let Some(Doc::Object(strings)) = doc.remove_at(&["stringData"]) else { return };
    if strings.is_empty() {
        return;
    }
    let data = doc.entry_at(&["data"]).make_object();
    for (key, value) in strings.iter() {
        data.insert(key, STANDARD.encode(value.as_str().unwrap_or("")).into());
    }
}

fn fields<'a>(doc: &'a Doc, name: &str) -> Option<&'a Map> {
    doc.get(name).and_then(Doc::as_object)
}

fn decoded_length(value: &Doc) -> usize {
    let text = value.as_str().unwrap_or("").trim_end_matches('=');
    text.len() * 3 / 4
}

fn check_total(errors: &mut Vec<FieldError>, total: usize, path: &str) {
    if total > MAX_BYTES {
        let detail = format!("may not be more than {MAX_BYTES} bytes");
        errors.push(FieldError::new(FieldErrorKind::TooLong, path, "", detail));
    }
}

fn check_frozen(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc, content: &[&str]) {
    let is_frozen = |doc: &Doc| doc.get("immutable").and_then(Doc::as_bool) == Some(true);
    if !is_frozen(old) {
        return;
    }
    let detail = "field is immutable when `immutable` is set";
    if !is_frozen(new) {
        errors.push(FieldError::forbidden("immutable", detail));
    }
    let changed = content.iter().filter(|name| new.get(name) != old.get(name));
    errors.extend(changed.map(|name| FieldError::forbidden(*name, detail)));
}
