//! What is inside the PEM of certificate kinds: it must be what it says it is, and a signing request must be signed with
//! the key that it is for.

mod signature;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::{doc::Doc, registry::ResourceInfo, status::FieldError, strategy::pem_blocks};
use x509_parser::{certification_request::X509CertificationRequest, prelude::FromDer};

/// What is wrong with the certificates or the signing request of an object that is to be created or changed.
pub fn check(info: &ResourceInfo, doc: &Doc) -> Vec<FieldError> {
    match (info.group.as_str(), info.plural.as_str()) {
        ("certificates.k8s.io", "certificatesigningrequests") => check_request(doc),
        ("certificates.k8s.io", "clustertrustbundles") => check_bundle(doc),
        ("certificates.k8s.io", "podcertificaterequests") => check_stub(doc),
        _ => Vec::new(),
    }
}

/// The DER of a signing request; an error says why there is none.
pub fn signing_request(doc: &Doc) -> Result<Vec<u8>, String> {
    let text = STANDARD.decode(doc.str_at(&["spec", "request"])).map_err(|why| why.to_string())?;
    let text = String::from_utf8(text).map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    let blocks = pem_blocks(&text, "CERTIFICATE REQUEST");
    let blocks = blocks.map_err(|_| "PEM block type must be CERTIFICATE REQUEST".to_owned())?;
    Ok(blocks.into_iter().next().unwrap_or_default())
}

fn check_request(doc: &Doc) -> Vec<FieldError> {
    if doc.str_at(&["spec", "request"]).is_empty() {
        // The schema says that it is missing.
        return Vec::new();
    }
    let parsed = signing_request(doc).and_then(|der| match X509CertificationRequest::from_der(&der) {
        Ok((_, request)) => signature::check(&request).map_err(str::to_owned),
        Err(why) => Err(format!("it is no certificate signing request: {why}")),
    });
    parsed.err().map(|why| FieldError::invalid("spec.request", "<certificate request>", why)).into_iter().collect()
}

fn check_bundle(doc: &Doc) -> Vec<FieldError> {
    let Ok(blocks) = pem_blocks(doc.str_at(&["spec", "trustBundle"]), "CERTIFICATE") else { return Vec::new() };
    let broken = |(place, der): (usize, &Vec<u8>)| {
        let detail = format!("entry {place} does not parse as X.509");
        let is_broken = x509_parser::parse_x509_certificate(der).is_err();
        is_broken.then(|| FieldError::invalid("spec.trustBundle", "<value omitted>", detail))
    };
    blocks.iter().enumerate().filter_map(broken).collect()
}

fn check_stub(doc: &Doc) -> Vec<FieldError> {
    const PATH: &str = "spec.stubPKCS10Request";
    let text = doc.str_at(&["spec", "stubPKCS10Request"]);
    if text.is_empty() {
        return vec![FieldError::required(PATH, "must be a DER-serialized PKCS#10 certificate signing request")];
    }
    let der = STANDARD.decode(text).unwrap_or_default();
    match X509CertificationRequest::from_der(&der) {
        Ok((_, request)) => {
            let wrong = signature::check(&request).err();
            let detail = wrong.map(|why| format!("bad proof of possession signature: {why}"));
            detail.map(|detail| FieldError::invalid(PATH, "<certificate request>", detail)).into_iter().collect()
        }
        Err(_) => {
            let detail = "must be a DER-serialized PKCS#10 certificate signing request";
            vec![FieldError::invalid(PATH, "<certificate request>", detail)]
        }
    }
}
