//! Continue tokens: where the next page of a list begins, and at which revision.
//!
//! The form is upstream's: base64 of a small JSON. A token of revision -1 goes on at the newest revision, with no
//! promise that the pages fit together; it is offered where a true one has expired.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use k8s_core::{
    object::ObjectKey,
    status::{ApiError, ApiResult},
};
use serde::{Deserialize, Serialize};

const VERSION: &str = "meta.k8s.io/v1";
const INCONSISTENT: i64 = -1;

/// Where a page begins.
#[derive(Debug, Clone, PartialEq)]
pub struct Token {
    /// The revision of the first page; `None` goes on at the newest.
    pub revision: Option<u64>,
    /// The key of the last object that was shown.
    pub after: ObjectKey,
    /// How many objects were shown so far.
    pub shown: u64,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    v: String,
    rv: i64,
    start: String,
    #[serde(default)]
    shown: u64,
}

impl Token {
    /// The text that clients send back.
    pub fn encode(&self) -> String {
        let wire = Wire {
            v: VERSION.into(),
            rv: self.revision.map_or(INCONSISTENT, |revision| revision as i64),
            start: format!("{}/{}\0", self.after.namespace, self.after.name),
            shown: self.shown,
        };
        // Invariant: strings and numbers always serialize.
        URL_SAFE_NO_PAD.encode(serde_json::to_vec(&wire).unwrap_or_default())
    }

    /// Reads what a client sent back. 400 if it is none of ours.
    pub fn decode(text: &str) -> ApiResult<Self> {
        let malformed = |why: &str| ApiError::bad_request(format!("continue key is not valid: {why}"));
        let bytes = URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).map_err(|_| malformed("it is no base64"))?;
        let wire: Wire = serde_json::from_slice(&bytes).map_err(|_| malformed("it is no token of this server"))?;
        if wire.v != VERSION {
            return Err(malformed("server does not recognize this encoded version"));
        }
        let revision = match wire.rv {
            INCONSISTENT => None,
            rv if rv > 0 => Some(rv as u64),
            _ => return Err(malformed("incorrect encoded start resourceVersion")),
        };
        let start = wire.start.strip_suffix('\0').unwrap_or(&wire.start);
        let (namespace, name) = start.split_once('/').ok_or_else(|| malformed("incorrect start key"))?;
        Ok(Self { revision, after: ObjectKey::new(namespace, name), shown: wire.shown })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_round_trip() {
        for revision in [Some(7), None] {
            let token = Token { revision, after: ObjectKey::new("n", "x"), shown: 2 };
            assert_eq!(Token::decode(&token.encode()).unwrap(), token);
        }
    }

    #[test]
    fn foreign_tokens_are_refused() {
        let wire = |text: &str| URL_SAFE_NO_PAD.encode(text);
        for text in [
            "",
            "???",
            "e30",
            &wire(r#"{"v":"x","rv":1,"start":"a/b"}"#),
            &wire(r#"{"v":"meta.k8s.io/v1","rv":0,"start":"a/b"}"#),
        ] {
            assert_eq!(Token::decode(text).unwrap_err().code(), 400, "{text}");
        }
    }
}
