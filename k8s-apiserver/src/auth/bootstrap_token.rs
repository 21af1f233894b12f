//! Bootstrap tokens: how a machine asks for its first credentials.
//!
//! Follows upstream's bootstrap token authenticator: `ID.SECRET`, kept in the Secret `kube-system/bootstrap-token-ID`
//! of type `bootstrap.kubernetes.io/token`.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::{
    env::{Env, Timestamp},
    object::{Object, ObjectKey},
    request::Caller,
    status::{ApiError, ApiResult},
};
use parking_lot::RwLock;
use serde::Deserialize;

use super::{
    Follower,
    bearer::{Known, TokenAuthenticator},
};

const NAMESPACE: &str = "kube-system";
const PREFIX: &str = "bootstrap-token-";
const TYPE: &str = "bootstrap.kubernetes.io/token";
const GROUP: &str = "system:bootstrappers";
/// The longest part of an extra group after `system:bootstrappers:`.
const MAX_GROUP_CHARS: usize = 256;

/// Tells machines by their bootstrap tokens. Must follow Secrets (see [`Follower`]).
pub struct BootstrapTokens {
    env: Env,
    tokens: RwLock<BTreeMap<String, Token>>,
}

/// A token that may authenticate.
struct Token {
    secret: String,
    expires: Option<Timestamp>,
    groups: Vec<String>,
}

#[derive(Deserialize)]
struct Secret {
    #[serde(default, rename = "type")]
    kind: String,
    #[serde(default)]
    data: BTreeMap<String, String>,
}

impl BootstrapTokens {
    /// Knows no token until it is told of Secrets.
    pub fn new(env: Env) -> Self {
        Self { env, tokens: RwLock::default() }
    }

    fn caller(&self, id: &str, secret: &str) -> Option<Caller> {
        let tokens = self.tokens.read();
        let token = tokens.get(id)?;
        let expired = token.expires.is_some_and(|expires| expires <= self.env.now());
        let equal = aws_lc_rs::constant_time::verify_slices_are_equal(token.secret.as_bytes(), secret.as_bytes());
        if expired || equal.is_err() {
            return None;
        }
        let groups: Vec<&str> = std::iter::once(GROUP).chain(token.groups.iter().map(String::as_str)).collect();
        Some(Caller::new(format!("system:bootstrap:{id}"), &groups))
    }
}

impl Follower for BootstrapTokens {
    fn follows(&self, group: &str, plural: &str) -> bool {
        group.is_empty() && plural == "secrets"
    }

    fn changed(&self, _: &str, _: &str, key: &ObjectKey, new: Option<&Arc<Object>>) {
        let Some(id) = key.name.strip_prefix(PREFIX).filter(|_| key.namespace == NAMESPACE) else { return };
        let mut tokens = self.tokens.write();
        match new.and_then(|object| read(id, object)) {
            Some(token) => tokens.insert(id.to_owned(), token),
            None => tokens.remove(id),
        };
    }
}

/// The token that a Secret holds; `None` if it is none, or none that authenticates.
fn read(id: &str, object: &Object) -> Option<Token> {
    let secret: Secret = serde_json::from_slice(object.stored_json()).ok()?;
    let word = |field: &str| {
        let bytes = STANDARD.decode(secret.data.get(field)?).ok()?;
        String::from_utf8(bytes).ok()
    };
    let names_itself = word("token-id").as_deref() == Some(id);
    let authenticates = word("usage-bootstrap-authentication").as_deref() == Some("true");
    if secret.kind != TYPE || object.meta.deleted.is_some() || !names_itself || !authenticates {
        return None;
    }
    let expires = match word("expiration").filter(|text| !text.is_empty()) {
        // An expiration that nobody can read has passed.
        Some(text) => Some(text.parse().ok()?),
        None => None,
    };
    let groups = word("auth-extra-groups").unwrap_or_default();
    let groups: Vec<String> = groups.split(',').map(str::trim).filter(|g| !g.is_empty()).map(str::to_owned).collect();
    let token = Token { secret: word("token-secret").filter(|text| !text.is_empty())?, expires, groups };
    token.groups.iter().all(|group| is_extra_group(group)).then_some(token)
}

/// `system:bootstrappers:` and 1 to 256 of `a-z0-9:-`, the last one a letter or digit.
fn is_extra_group(group: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let rest = group.strip_prefix(GROUP).and_then(|rest| rest.strip_prefix(':')).unwrap_or("");
    rest.len() <= MAX_GROUP_CHARS
        && rest.bytes().last().is_some_and(plain)
        && rest.bytes().all(|byte| plain(byte) || matches!(byte, b':' | b'-'))
}

/// `ID.SECRET`: 6 and 16 of `a-z0-9`.
fn parts(token: &str) -> Option<(&str, &str)> {
    let (id, secret) = token.split_once('.')?;
    let plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    (id.len() == 6 && secret.len() == 16 && plain(id) && plain(secret)).then_some((id, secret))
}

#[async_trait]
impl TokenAuthenticator for BootstrapTokens {
    async fn authenticate(&self, token: &str, _: &[String]) -> ApiResult<Option<Known>> {
        let Some((id, secret)) = parts(token) else { return Ok(None) };
        let caller = self.caller(id, secret).ok_or_else(ApiError::unauthorized)?;
        Ok(Some(Known { caller, audiences: Vec::new() }))
    }
}

#[cfg(test)]
mod tests {
    use k8s_core::{doc, doc::Doc};

    use super::*;
    use crate::server::tests::clock::paused;

    fn secret(change: impl FnOnce(&mut Doc)) -> Arc<Object> {
        let encode = |text: &str| STANDARD.encode(text);
        let mut doc = doc!({
            "apiVersion": "v1", "kind": "Secret", "type": TYPE,
            "metadata": {"name": "bootstrap-token-abcdef", "namespace": NAMESPACE, "uid": "u"},
            "data": {
                "token-id": encode("abcdef"), "token-secret": encode("0123456789abcdef"),
                "usage-bootstrap-authentication": encode("true"),
                "auth-extra-groups": encode("system:bootstrappers:kubeadm:default-node-token")
            }
        });
        change(&mut doc);
        Arc::new(Object::from_json(doc.to_json().into(), Some(1)).unwrap())
    }

    async fn asked(change: impl FnOnce(&mut Doc), token: &str) -> Result<Option<Caller>, u16> {
        let tokens = BootstrapTokens::new(paused());
        let object = secret(change);
        tokens.changed("", "secrets", &object.meta.key(), Some(&object));
        let found = tokens.authenticate(token, &[]).await;
        found.map(|known| known.map(|known| known.caller)).map_err(|error| error.code())
    }

    const GOOD: &str = "abcdef.0123456789abcdef";

    #[tokio::test(start_paused = true)]
    async fn a_token_is_good_for_what_its_secret_says() {
        let caller = asked(|_| (), GOOD).await.unwrap().unwrap();
        assert_eq!(caller.name, "system:bootstrap:abcdef");
        let groups =
            ["system:bootstrappers", "system:bootstrappers:kubeadm:default-node-token", "system:authenticated"];
        assert_eq!(caller.groups, groups);
        assert_eq!(asked(|_| (), "abcdef.0123456789abcdeX").await, Ok(None), "not of this sort");
        assert_eq!(asked(|_| (), "abcdef.0123456789abcde0").await, Err(401));
        assert_eq!(asked(|_| (), "bbbbbb.0123456789abcdef").await, Err(401));
    }

    #[tokio::test(start_paused = true)]
    async fn every_field_of_the_secret_counts() {
        let set = |field: &'static str, value: &'static str| {
            move |doc: &mut Doc| doc.set_at(&["data", field], STANDARD.encode(value).into())
        };
        asked(set("expiration", "2999-01-01T00:00:00Z"), GOOD).await.unwrap().unwrap();
        for (field, value) in [
            ("expiration", "1990-01-01T00:00:00Z"),
            ("expiration", "tomorrow"),
            ("usage-bootstrap-authentication", "false"),
            ("token-id", "aaaaaa"),
            ("auth-extra-groups", "system:masters"),
            ("auth-extra-groups", "system:bootstrappers:x,system:bootstrappers:"),
        ] {
            assert_eq!(asked(set(field, value), GOOD).await, Err(401), "{field}: {value}");
        }
        assert_eq!(asked(|doc| doc.set_at(&["type"], "Opaque".into()), GOOD).await, Err(401));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_ends_with_its_secret() {
        let (tokens, object) = (BootstrapTokens::new(paused()), secret(|_| ()));
        let key = object.meta.key();
        tokens.changed("", "secrets", &key, Some(&object));
        assert!(tokens.authenticate(GOOD, &[]).await.is_ok());
        tokens.changed("", "secrets", &key, None);
        assert!(tokens.authenticate(GOOD, &[]).await.is_err());
        tokens.changed("", "secrets", &ObjectKey::new("default", key.name.clone()), Some(&object));
        assert!(tokens.authenticate(GOOD, &[]).await.is_err(), "another namespace");
    }
}
