//! `Accept`: what was acceptable stays so when more is accepted.

use http::{HeaderMap, HeaderValue, header::ACCEPT};
use k8s_apiserver::outer::{Accepted, Conversion, Encoding, Offer};

const OFFERED: &[Conversion] = &[
    Conversion { kind: "APIGroupDiscoveryList", group: "apidiscovery.k8s.io", version: "v2" },
    Conversion { kind: "APIGroupDiscoveryList", group: "apidiscovery.k8s.io", version: "v2beta1" },
];

/// One header per line.
pub fn run(input: &[u8]) {
    let mut headers = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n').take(8) {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append(ACCEPT, value);
        }
    }
    let accepted = Accepted::read(&headers);
    let (built_in, custom) = (accepted.resource_form(Offer::BuiltIn), accepted.resource_form(Offer::Custom));
    if let Ok(form) = &custom {
        assert!(built_in.is_ok(), "{form:?} is offered of built-in kinds too");
    }
    for refused in [&built_in, &custom].into_iter().filter_map(|form| form.as_ref().err()) {
        assert_eq!(refused.code(), 406);
    }
    let json = accepted.json().is_ok();
    if json {
        assert!(built_in.is_ok() && accepted.document_encoding().is_ok());
    }
    assert_ne!(accepted.failure_encoding(), Encoding::Yaml, "a failure is told in JSON or protobuf");
    accepted.conversion(OFFERED);
    headers.append(ACCEPT, HeaderValue::from_static("application/json"));
    let more = Accepted::read(&headers);
    assert!(more.json().is_ok() && more.resource_form(Offer::Custom).is_ok());
}
