//! What a request says of who asks: certificate, token, user agent, and whom to act as.

use http::{HeaderMap, HeaderName, header};
use k8s_core::{
    doc::Text,
    path::percent_decode,
    request::Caller,
    status::{ApiError, ApiResult},
};
use k8s_wire::serve::Peer;

use crate::auth::{Anonymous, Credentials};

/// The longest user agent that is kept.
const MAX_AGENT_CHARS: usize = 256;

const IMPERSONATE_USER: HeaderName = HeaderName::from_static("impersonate-user");
const IMPERSONATE_UID: HeaderName = HeaderName::from_static("impersonate-uid");
const IMPERSONATE_GROUP: HeaderName = HeaderName::from_static("impersonate-group");
const IMPERSONATE_EXTRA: &str = "impersonate-extra-";

/// Reads certificate and token. The token's header is taken out, so that it can go nowhere else.
pub fn credentials(headers: &mut HeaderMap, peer: Option<&Peer>) -> Credentials {
    let certificates = peer.map(|peer| peer.certificates.iter().map(|c| c.to_vec()).collect()).unwrap_or_default();
    let authorization = headers.remove(header::AUTHORIZATION);
    let bearer = authorization.as_ref().and_then(|value| value.to_str().ok()).and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        let token = token.trim();
        (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then(|| token.to_owned())
    });
    Credentials { certificates, bearer }
}

/// Who asks, given what the authenticators made of the credentials.
///
/// Nobody in particular is `system:anonymous`, where the path lets them in; credentials that nobody knows are refused
/// rather than taken for none.
pub fn caller(
    found: Option<Caller>,
    credentials: &Credentials,
    anonymous: &Anonymous,
    path: &str,
    headers: &HeaderMap,
) -> ApiResult<Caller> {
    let presented = credentials.bearer.is_some() || !credentials.certificates.is_empty();
    let caller = match found {
        Some(caller) => caller,
        None if presented || !anonymous.is_let_in(path) => return Err(ApiError::unauthorized()),
        None => Caller::anonymous(),
    };
    Ok(with_agent(caller, headers))
}

/// The same caller with the program that speaks for them.
pub fn with_agent(caller: Caller, headers: &HeaderMap) -> Caller {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or("");
    caller.with_agent(agent.chars().take(MAX_AGENT_CHARS).collect::<Text>())
}

/// Whom the `Impersonate-*` headers say to act as. The headers are taken out.
///
/// 400 for groups, uid or extras without a user, for a repeated user, and for values that are no text.
pub fn impersonated(headers: &mut HeaderMap) -> ApiResult<Option<Caller>> {
    let names: Vec<HeaderName> =
        headers.keys().filter(|name| name.as_str().starts_with("impersonate-")).cloned().collect();
    if names.is_empty() {
        return Ok(None);
    }
    let mut caller = Caller::default();
    for name in names {
        let values = values(headers, &name)?;
        headers.remove(&name);
        if name == IMPERSONATE_USER {
            caller.name = single(&name, values)?;
        } else if name == IMPERSONATE_UID {
            caller.uid = single(&name, values)?;
        } else if name == IMPERSONATE_GROUP {
            caller.groups = values;
        } else if let Some(key) = name.as_str().strip_prefix(IMPERSONATE_EXTRA) {
            caller.extra.push((extra_key(key)?, values));
        }
    }
    caller.extra.sort();
    if caller.name.is_empty() {
        return Err(ApiError::bad_request(
            "impersonation: Impersonate-User is required beside other Impersonate headers",
        ));
    }
    Ok(Some(caller))
}

fn values(headers: &HeaderMap, name: &HeaderName) -> ApiResult<Vec<Text>> {
    let text = |value: &http::HeaderValue| {
        value.to_str().map(Text::from).map_err(|_| ApiError::bad_request(format!("header {name}: not printable ASCII")))
    };
    headers.get_all(name).iter().map(text).collect()
}

fn single(name: &HeaderName, values: Vec<Text>) -> ApiResult<Text> {
    match values.as_slice() {
        [one] if !one.is_empty() => Ok(one.clone()),
        [_] => Err(ApiError::bad_request(format!("header {name}: may not be empty"))),
        _ => Err(ApiError::bad_request(format!("header {name}: may be given once"))),
    }
}

/// Keys of extras are percent-encoded, because header names hold few characters.
fn extra_key(key: &str) -> ApiResult<Text> {
    let malformed = || ApiError::bad_request(format!("header {IMPERSONATE_EXTRA}{key}: not percent-encoded UTF-8"));
    percent_decode(key).map(Text::from).ok_or_else(malformed)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// Headers from their lines.
    pub fn headers(lines: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in lines {
            headers.append(*name, value.parse().unwrap());
        }
        headers
    }

    #[test]
    fn only_a_bearer_token_is_a_token_and_it_goes_no_further() {
        for (value, expected) in
            [("Bearer abc", Some("abc")), ("bearer abc", Some("abc")), ("Basic abc", None), ("Bearer ", None)]
        {
            let mut headers = headers(&[("authorization", value)]);
            assert_eq!(credentials(&mut headers, None).bearer.as_deref(), expected, "{value}");
            assert!(headers.is_empty());
        }
    }

    #[test]
    fn credentials_that_nobody_knows_are_not_anonymous() {
        let asked = |credentials: &Credentials, anonymous: &Anonymous| {
            let caller = caller(None, credentials, anonymous, "/livez", &HeaderMap::new());
            caller.map(|caller| caller.name.to_string()).map_err(|error| error.code())
        };
        let (none, anybody) = (Credentials::default(), Ok("system:anonymous".to_owned()));
        assert_eq!(asked(&none, &Anonymous::Anywhere), anybody);
        assert_eq!(asked(&none, &Anonymous::At(vec!["/livez".into()])), anybody);
        assert_eq!(asked(&none, &Anonymous::At(vec!["/readyz".into()])), Err(401));
        assert_eq!(asked(&none, &Anonymous::Nowhere), Err(401));
        let token = Credentials { bearer: Some("x".into()), ..Credentials::default() };
        assert_eq!(asked(&token, &Anonymous::Anywhere), Err(401));
    }

    #[test]
    fn impersonation_names_everything_or_nothing() {
        let mut good = headers(&[
            ("impersonate-user", "a"),
            ("impersonate-group", "g"),
            ("impersonate-group", "h"),
            ("impersonate-uid", "u"),
            ("impersonate-extra-acme.com%2fscope", "s"),
            ("accept", "x"),
        ]);
        let caller = impersonated(&mut good).unwrap().unwrap();
        assert_eq!((caller.name.as_str(), caller.uid.as_str()), ("a", "u"));
        assert_eq!(caller.groups, ["g", "h"]);
        assert_eq!(caller.extra, [(Text::from("acme.com/scope"), vec![Text::from("s")])]);
        assert_eq!(good.len(), 1, "only the other header is left");
        assert_eq!(impersonated(&mut headers(&[("accept", "x")])).unwrap(), None);
        for bad in [
            &[("impersonate-group", "g")][..],
            &[("impersonate-uid", "u")],
            &[("impersonate-extra-x", "u")],
            &[("impersonate-user", "a"), ("impersonate-user", "b")],
            &[("impersonate-user", "")],
        ] {
            assert_eq!(impersonated(&mut headers(bad)).unwrap_err().code(), 400, "{bad:?}");
        }
    }
}
