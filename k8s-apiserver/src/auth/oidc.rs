//! OpenID Connect: tokens of an identity provider.
//!
//! Follows upstream's `oidc` token authenticator: the provider's keys are found by discovery and looked up again when a
//! token names one that is not known. Claims that are kept elsewhere (distributed claims) are not fetched.

mod keys;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
pub use jsonwebtoken::Algorithm;
use k8s_core::{
    env::Env,
    request::Caller,
    status::{ApiError, ApiResult},
};
use k8s_wire::client::Documents;
use serde_json::Value;

use self::keys::Keys;
use super::bearer::{Known, TokenAuthenticator, unverified};

/// How far a provider's clock may be ahead of ours when it says since when a token is good.
const LEEWAY_SECONDS: i64 = 300;

/// The signing algorithms that are known, as the provider names them. Upstream's `ES512` is not among them.
pub const ALGORITHMS: [(&str, Algorithm); 8] = [
    ("RS256", Algorithm::RS256),
    ("RS384", Algorithm::RS384),
    ("RS512", Algorithm::RS512),
    ("ES256", Algorithm::ES256),
    ("ES384", Algorithm::ES384),
    ("PS256", Algorithm::PS256),
    ("PS384", Algorithm::PS384),
    ("PS512", Algorithm::PS512),
];

/// Where documents come from. Given by [`Documents`].
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    /// Gets the document at an `https` URL.
    async fn get(&self, url: &str) -> ApiResult<Bytes>;
}

#[async_trait]
impl Fetch for Documents {
    async fn get(&self, url: &str) -> ApiResult<Bytes> {
        Documents::get(self, url).await
    }
}

/// A claim, and what is put before its value.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Claim {
    /// The claim's name.
    pub name: String,
    /// The prefix; may be empty.
    pub prefix: String,
}

/// What is believed of a provider, and how its claims are read.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Settings {
    /// The `iss` of its tokens, an `https` URL.
    pub issuer: String,
    /// Where its discovery document is, if not at `/.well-known/openid-configuration` under the issuer.
    pub discovery_url: Option<String>,
    /// A token is for one of these.
    pub audiences: Vec<String>,
    /// The user name.
    pub username: Claim,
    /// The groups: a text or a list of texts; optional in a token.
    pub groups: Option<Claim>,
    /// The uid; required in a token if it is named here.
    pub uid: Option<String>,
    /// Claims that must be there with these values.
    pub required: BTreeMap<String, String>,
    /// The algorithms that tokens may be signed with. Empty: `RS256`.
    pub algorithms: Vec<Algorithm>,
}

/// Tells callers by the tokens of one provider.
pub struct Oidc {
    env: Env,
    settings: Settings,
    keys: Keys,
}

impl Oidc {
    /// Asks the provider nothing before the first of its tokens comes.
    pub fn new(env: Env, mut settings: Settings, documents: Arc<dyn Fetch>) -> Self {
        if settings.algorithms.is_empty() {
            settings.algorithms.push(Algorithm::RS256);
        }
        let under = || format!("{}/.well-known/openid-configuration", settings.issuer.trim_end_matches('/'));
        let discovery = settings.discovery_url.clone().unwrap_or_else(under);
        let keys = Keys::new(env.clone(), settings.issuer.clone(), discovery, documents);
        Self { env, settings, keys }
    }

    async fn verified(&self, token: &str) -> ApiResult<Value> {
        let header = jsonwebtoken::decode_header(token).map_err(|_| ApiError::unauthorized())?;
        if !self.settings.algorithms.contains(&header.alg) {
            return Err(refused("it is signed with an algorithm that is not allowed"));
        }
        let claims = self.keys.verify(token, &header).await?;
        let now = self.env.now().as_second();
        let time = |name: &str| claims[name].as_f64().map(|seconds| seconds as i64);
        let in_time =
            time("exp").is_some_and(|end| now < end) && time("nbf").is_none_or(|begin| begin <= now + LEEWAY_SECONDS);
        let meant =
            texts(&claims["aud"]).is_some_and(|all| all.iter().any(|aud| self.settings.audiences.contains(aud)));
        if claims["iss"].as_str() != Some(&self.settings.issuer) || !in_time || !meant {
            return Err(refused("it has expired, or is for somebody else"));
        }
        Ok(claims)
    }

    /// Who the claims of a verified token stand for.
    fn caller(&self, claims: &Value) -> ApiResult<Caller> {
        for (name, value) in &self.settings.required {
            if claims[name].as_str() != Some(value) {
                return Err(refused(format!("claim {name:?} is not {value:?}")));
            }
        }
        let username = &self.settings.username;
        // An address that the provider has not verified is anybody's.
        let unverified = claims.get("email_verified").is_some_and(|verified| *verified != Value::Bool(true));
        if username.name == "email" && unverified {
            return Err(refused("the email address is not verified"));
        }
        let name = claims[&username.name].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| refused(format!("claim {:?} is no text", username.name)))?;
        let mut caller = Caller::new(format!("{}{name}", username.prefix), &[]);
        if let Some(groups) = &self.settings.groups
            && let Some(found) = claims.get(&groups.name)
        {
            let found = texts(found).ok_or_else(|| refused(format!("claim {:?} is no list of texts", groups.name)))?;
            let prefixed = found.iter().map(|group| format!("{}{group}", groups.prefix).into());
            caller.groups.splice(0..0, prefixed);
        }
        if let Some(uid) = &self.settings.uid {
            let found = claims[uid].as_str().ok_or_else(|| refused(format!("claim {uid:?} is no text")))?;
            caller.uid = found.into();
        }
        Ok(caller)
    }
}

fn refused(why: impl std::fmt::Display) -> ApiError {
    tracing::debug!(%why, "OIDC token refused");
    ApiError::unauthorized()
}

/// A text, or a list of texts.
fn texts(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Array(items) => items.iter().map(|item| item.as_str().map(str::to_owned)).collect(),
        _ => None,
    }
}

#[async_trait]
impl TokenAuthenticator for Oidc {
    async fn authenticate(&self, token: &str, _: &[String]) -> ApiResult<Option<Known>> {
        let ours = unverified(token).is_some_and(|claims| claims["iss"].as_str() == Some(&self.settings.issuer));
        if !ours {
            return Ok(None);
        }
        let claims = self.verified(token).await?;
        Ok(Some(Known { caller: self.caller(&claims)?, audiences: Vec::new() }))
    }
}
