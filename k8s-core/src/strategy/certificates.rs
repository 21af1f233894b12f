//! `certificates.k8s.io`: signing requests, trust bundles, certificates of pods.
//!
//! What is inside the PEM is read where an X.509 parser is at hand, by the server.

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{Strategy, broken, immutable, indexed, integer, list_at, metadata, named};
use crate::{
    doc::{Doc, Map},
    names,
    status::{FieldError, FieldErrorKind},
};

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];
/// Verdicts about a signing request.
const VERDICTS: [&str; 3] = ["Approved", "Denied", "Failed"];
/// The largest trust bundle, in bytes.
const MAX_BUNDLE: usize = 1 << 20;
/// The seconds that the certificate of a pod may be valid for, and the most that signers of Kubernetes give.
const POD_SECONDS: std::ops::RangeInclusive<i64> = 3600..=7_862_400;
const OWN_POD_SECONDS: i64 = 86_400;

pub(super) struct SigningRequest;

impl Strategy for SigningRequest {
    fn prepare_create(&self, doc: &mut Doc) {
        super::drop_status(doc);
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        super::keep_status(new, old);
    }

    /// Verdicts belong to the `approval` subresource.
    fn prepare_status(&self, new: &mut Doc, old: &Doc) {
        super::keep_spec(new, old);
        let is_verdict = |condition: &Doc| matches!(condition.str_at(&["type"]), "Approved" | "Denied");
        let conditions = |doc: &Doc| list_at(doc, &["status", "conditions"]).to_vec();
        let mut kept: Vec<Doc> = conditions(new).into_iter().filter(|condition| !is_verdict(condition)).collect();
        kept.extend(conditions(old).into_iter().filter(is_verdict));
        if kept.is_empty() {
            new.remove_at(&["status", "conditions"]);
        } else {
            new.set_at(&["status", "conditions"], Doc::Array(kept));
        }
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        let signer = spec.str_at(&["signerName"]);
        if !signer.is_empty() {
            named(&mut errors, "spec.signerName", signer, names::signer_name(signer));
        }
        if signer == "kubernetes.io/legacy-unknown" {
            let detail = "the legacy signerName is not allowed via this API version";
            errors.push(FieldError::invalid("spec.signerName", signer, detail));
        }
        let mut seen = std::collections::BTreeSet::new();
        for (path, usage) in indexed(list_at(spec, &["usages"]), "spec.usages") {
            let usage = usage.as_str().unwrap_or("");
            if !USAGES.contains(&usage) {
                errors.push(FieldError::not_supported(&path, usage, &USAGES));
            }
            if !seen.insert(usage) {
                errors.push(FieldError::duplicate(path, usage));
            }
        }
        errors.extend(check_conditions(list_at(doc, &["status", "conditions"])));
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        errors
    }

    /// Of the status and of the verdict. A certificate, once issued, stays; so does a verdict.
    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        let conditions = list_at(new, &["status", "conditions"]);
        errors.extend(check_conditions(conditions));
        for verdict in VERDICTS {
            let has = |list: &[Doc]| list.iter().any(|condition| condition.str_at(&["type"]) == verdict);
            if has(list_at(old, &["status", "conditions"])) && !has(conditions) {
                let detail = format!("updates may not remove a condition of type {verdict:?}");
                errors.push(FieldError::forbidden("status.conditions", detail));
            }
        }
        let certificate = |doc: &Doc| doc.str_at(&["status", "certificate"]).to_owned();
        let (before, after) = (certificate(old), certificate(new));
        if !before.is_empty() && before != after {
            errors.push(FieldError::forbidden(
                "status.certificate",
                "updates may not set certificate content once it is set",
            ));
        }
        if before != after && !after.is_empty() && pem_blocks(&decoded(&after), "CERTIFICATE").is_err() {
            let detail = "must contain one or more PEM blocks of type CERTIFICATE";
            errors.push(FieldError::invalid("status.certificate", "<certificate data>", detail));
        }
        errors
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "spec.signerName" => metadata::text_field(doc, path),
            _ => metadata::field(doc, path),
        }
    }
}

/// Each type once, verdicts are true, and a request is not both approved and denied.
fn check_conditions(conditions: &[Doc]) -> Vec<FieldError> {
    let (mut errors, mut seen) = (Vec::new(), std::collections::BTreeSet::new());
    for (path, condition) in indexed(conditions, "status.conditions") {
        let (kind, status) = (condition.str_at(&["type"]), condition.str_at(&["status"]));
        if kind.is_empty() {
            errors.push(FieldError::required(format!("{path}.type"), ""));
        }
        match status {
            "" => errors.push(FieldError::required(format!("{path}.status"), "")),
            "True" => {}
            other if VERDICTS.contains(&kind) => {
                errors.push(FieldError::not_supported(format!("{path}.status"), other, &["True"]));
            }
            "False" | "Unknown" => {}
            other => {
                errors.push(FieldError::not_supported(format!("{path}.status"), other, &["False", "True", "Unknown"]))
            }
        }
        let other = if kind == "Approved" { "Denied" } else { "Approved" };
        if matches!(kind, "Approved" | "Denied") && seen.contains(other) {
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.push(FieldError::invalid(format!("{path}.type"), kind, detail));
        }
        if !seen.insert(kind) {
            errors.push(FieldError::duplicate(format!("{path}.type"), kind));
        }
    }
    errors
}

/// The text of a field that JSON carries in base64; empty if it is not that.
fn decoded(base64: &str) -> String {
    STANDARD.decode(base64).ok().and_then(|bytes| String::from_utf8(bytes).ok()).unwrap_or_default()
}

/// The contents of the PEM blocks of a text, all of which must have this label and no headers.
pub fn pem_blocks(text: &str, label: &str) -> Result<Vec<Vec<u8>>, String> {
    let mut blocks = Vec::new();
    let mut rest = text;
    while let Some(start) = rest.find("-----BEGIN ") {
        rest = &rest[start + "-----BEGIN ".len()..];
        let (found, after) = rest.split_once("-----").ok_or("a PEM block does not end its first line")?;
        if found != label {
            return Err(format!("only {label} PEM blocks are allowed, found {found:?}"));
        }
        let end = format!("-----END {label}-----");
        let (body, after) =
            after.split_once(end.as_str()).ok_or_else(|| format!("a PEM block does not end with {end}"))?;
        if body.contains(':') {
            return Err("no PEM block headers are permitted".into());
        }
        let body: String = body.split_whitespace().collect();
        blocks.push(STANDARD.decode(&body).map_err(|why| format!("a PEM block is no base64: {why}"))?);
        rest = after;
    }
    if blocks.is_empty() { Err(format!("there is no PEM block of type {label}")) } else { Ok(blocks) }
}

pub(super) struct ClusterTrustBundle;

impl Strategy for ClusterTrustBundle {
    fn prepare_create(&self, _doc: &mut Doc) {}
    fn prepare_update(&self, _new: &mut Doc, _old: &Doc) {}

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let (name, signer) = (doc.str_at(&["metadata", "name"]), doc.str_at(&["spec", "signerName"]));
        let mut errors = metadata::check(doc, metadata::NameRule::PathSegment);
        if signer.is_empty() {
            if name.contains(':') {
                let detail = "ClusterTrustBundle without signer name must not have \":\" in its name";
                errors.push(FieldError::invalid("metadata.name", name, detail));
            } else if !name.is_empty() {
                named(&mut errors, "metadata.name", name, names::dns_subdomain(name));
            }
        } else {
            named(&mut errors, "spec.signerName", signer, names::signer_name(signer));
            let prefix = format!("{}:", signer.replace('/', ":"));
            match name.strip_prefix(&prefix) {
                Some(rest) => named(&mut errors, "metadata.name", name, names::dns_subdomain(rest)),
                None => {
                    let detail =
                        format!("ClusterTrustBundle for signerName {signer} must be named with prefix {prefix}");
                    errors.push(FieldError::invalid("metadata.name", name, detail));
                }
            }
        }
        check_bundle(&mut errors, doc.str_at(&["spec", "trustBundle"]));
        errors
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "spec.signerName" => metadata::text_field(doc, path),
            _ => metadata::field(doc, path),
        }
    }
}

fn check_bundle(errors: &mut Vec<FieldError>, bundle: &str) {
    const PATH: &str = "spec.trustBundle";
    const SHOWN: &str = "<value omitted>";
    if bundle.is_empty() {
        return;
    }
    if bundle.len() > MAX_BUNDLE {
        let detail = format!("may not be more than {MAX_BUNDLE} bytes");
        errors.push(FieldError::new(FieldErrorKind::TooLong, PATH, "", detail));
        return;
    }
    match pem_blocks(bundle, "CERTIFICATE") {
        Err(why) => errors.push(FieldError::invalid(PATH, SHOWN, why)),
        Ok(blocks) => {
            let mut seen = std::collections::BTreeMap::new();
            for (place, block) in blocks.iter().enumerate() {
                if let Some(first) = seen.insert(block, place) {
                    let detail = format!("duplicate trust anchor (indices [{first} {place}])");
                    errors.push(FieldError::invalid(PATH, SHOWN, detail));
                }
            }
        }
    }
}

pub(super) struct PodRequest;

impl Strategy for PodRequest {
    fn prepare_create(&self, doc: &mut Doc) {
        super::drop_status(doc);
    }

    fn prepare_update(&self, new: &mut Doc, old: &Doc) {
        super::keep_status(new, old);
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        let path = |field: &str| format!("spec.{field}");
        let signer = spec.str_at(&["signerName"]);
        named(&mut errors, "spec.signerName", signer, names::signer_name(signer));
        for field in ["podName", "serviceAccountName", "nodeName"] {
            let name = spec.str_at(&[field]);
            named(&mut errors, &path(field), name, names::dns_subdomain(name));
        }
        for field in ["podUID", "serviceAccountUID", "nodeUID"] {
            let uid = spec.str_at(&[field]);
            match uid.len() {
                0 => errors.push(FieldError::required(path(field), "must not be empty")),
                129.. => errors.push(FieldError::new(
                    FieldErrorKind::TooLong,
                    path(field),
                    "",
                    "may not be more than 128 bytes",
                )),
                _ => {}
            }
        }
        check_pod_seconds(&mut errors, spec, signer);
        for (key, _) in spec.get("unverifiedUserAnnotations").and_then(Doc::as_object).into_iter().flat_map(Map::iter) {
            let place = format!("spec.unverifiedUserAnnotations[{key}]");
            if !key.contains('/') {
                errors.push(FieldError::invalid(
                    &place,
                    key,
                    "must be a domain-prefixed path (such as \"acme.io/foo\")",
                ));
            }
            named(&mut errors, &place, key, names::qualified_name(&key.to_ascii_lowercase()));
        }
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        errors
    }

    fn validate_status(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check_update(new, old);
        let conditions = list_at(new, &["status", "conditions"]);
        let is_final = |condition: &&Doc| matches!(condition.str_at(&["type"]), "Issued" | "Denied" | "Failed");
        let finals: Vec<&Doc> = conditions.iter().filter(is_final).collect();
        if finals.len() > 1 {
            let shown = new.at(&["status", "conditions"]).unwrap_or(&Doc::Null);
            let detail = "at most one of the conditions \"Issued\", \"Denied\", \"Failed\" may be present";
            errors.push(broken("status.conditions", shown, detail));
        }
        for (path, condition) in indexed(conditions, "status.conditions") {
            if is_final(&condition) && condition.str_at(&["status"]) != "True" {
                let status = condition.str_at(&["status"]);
                errors.push(FieldError::not_supported(format!("{path}.status"), status, &["True"]));
            }
        }
        check_issued(&mut errors, new, old, finals.first().is_some_and(|one| one.str_at(&["type"]) == "Issued"));
        errors
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "spec.signerName" | "spec.podName" | "spec.nodeName" => metadata::text_field(doc, path),
            _ => metadata::field(doc, path),
        }
    }
}

fn check_pod_seconds(errors: &mut Vec<FieldError>, spec: &Doc, signer: &str) {
    let Some(seconds) = integer(spec, "maxExpirationSeconds") else { return };
    let most = if signer.starts_with("kubernetes.io/") { OWN_POD_SECONDS } else { *POD_SECONDS.end() };
    if seconds < *POD_SECONDS.start() || seconds > most {
        let detail = format!("must be in the range [{}, {most}]", POD_SECONDS.start());
        errors.push(broken("spec.maxExpirationSeconds", &seconds.into(), detail));
    }
}

/// The certificate and its times come together, with the condition `Issued`, and stay.
fn check_issued(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc, is_issued: bool) {
    const FIELDS: [&str; 4] = ["certificateChain", "notBefore", "beginRefreshAt", "notAfter"];
    for field in FIELDS {
        let has =
            |doc: &Doc| doc.at(&["status", field]).is_some_and(|value| !value.is_null() && value.as_str() != Some(""));
        let path = format!("status.{field}");
        if has(old) {
            immutable(errors, new, old, &["status", field]);
        } else if has(new) && !is_issued {
            errors.push(FieldError::forbidden(path, "may only be set together with the condition \"Issued\""));
        } else if !has(new) && is_issued {
            errors.push(FieldError::required(path, "must be set together with the condition \"Issued\""));
        }
    }
    let chain = new.str_at(&["status", "certificateChain"]);
    if !chain.is_empty()
        && let Err(why) = pem_blocks(chain, "CERTIFICATE")
    {
        errors.push(FieldError::invalid("status.certificateChain", chain, why));
    }
}
