//! OpenID Connect: tokens of an identity provider.
//!
//! Follows upstream's `oidc` token authenticator: the provider's keys are found by discovery and looked up again when a
//! token names one that is not known. Groups that are kept elsewhere (distributed claims) are fetched.

mod algorithm;
mod distributed;
mod keys;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use k8s_core::{
    doc,
    doc::{Doc, Text},
    env::Env,
    request::Caller,
    status::{ApiError, ApiResult},
};
use k8s_wire::client::Documents;
use serde_json::Value;

pub use self::algorithm::{ALGORITHMS, Algorithm};
use self::{
    distributed::Issuers,
    keys::{Header, Keys},
};
use super::{
    bearer::{Known, TokenAuthenticator, unverified},
    expression::Expression,
};

/// How far a provider's clock may be ahead of ours when it says since when a token is good.
const LEEWAY_SECONDS: i64 = 300;

/// Where documents come from. Given by [`Documents`].
#[async_trait]
pub trait Fetch: Send + Sync + 'static {
    /// Gets the document at an `https` URL, presenting a bearer token if one is given.
    async fn get(&self, url: &str, bearer: Option<&str>) -> ApiResult<Bytes>;
}

#[async_trait]
impl Fetch for Documents {
    async fn get(&self, url: &str, bearer: Option<&str>) -> ApiResult<Bytes> {
        Documents::get(self, url, bearer).await
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

/// How a part of a caller is read from claims.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    /// As a claim has it.
    Claim(Claim),
    /// By an expression over `claims`.
    Expression(Expression),
}

impl Default for Source {
    fn default() -> Self {
        Self::Claim(Claim::default())
    }
}

/// What must hold of a token's claims, or of the caller that they make.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    /// Over `claims`, or over `user`.
    pub expression: Expression,
    /// What is said when it does not hold.
    pub message: String,
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
    pub username: Source,
    /// The groups: a text or a list of texts; optional in a token.
    pub groups: Option<Source>,
    /// The uid; required in a token if it is named here. A prefix is not put before it.
    pub uid: Option<Source>,
    /// What else is known of the caller: keys, and expressions over `claims`.
    pub extra: Vec<(String, Expression)>,
    /// What must hold of `claims`.
    pub claim_rules: Vec<Rule>,
    /// What must hold of `user`, the caller as a `UserInfo`.
    pub user_rules: Vec<Rule>,
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
    documents: Arc<dyn Fetch>,
    /// Of distributed claims.
    issuers: Issuers,
}

/// Where the discovery document of an issuer is.
fn well_known(issuer: &str) -> String {
    format!("{}/.well-known/openid-configuration", issuer.trim_end_matches('/'))
}

impl Oidc {
    /// Asks the provider nothing before the first of its tokens comes.
    pub fn new(env: Env, mut settings: Settings, documents: Arc<dyn Fetch>) -> Self {
        if settings.algorithms.is_empty() {
            settings.algorithms.push(Algorithm::Rs256);
        }
        let discovery = settings.discovery_url.clone().unwrap_or_else(|| well_known(&settings.issuer));
        let keys = Keys::new(env.clone(), settings.issuer.clone(), discovery, documents.clone());
        Self { env, settings, keys, documents, issuers: Issuers::default() }
    }

    /// The claims of a token that one of the issuer's keys signed, and that is good now and for us.
    async fn verified_by(&self, keys: &Keys, token: &str, issuer: &str) -> ApiResult<Value> {
        let header = Header::read(token).ok_or_else(ApiError::unauthorized)?;
        if !self.settings.algorithms.contains(&header.algorithm) {
            return Err(refused("it is signed with an algorithm that is not allowed"));
        }
        let claims = keys.verify(token, &header).await?;
        let now = self.env.now().as_second();
        let time = |name: &str| claims[name].as_f64().map(|seconds| seconds as i64);
        let in_time =
            time("exp").is_some_and(|end| now < end) && time("nbf").is_none_or(|begin| begin <= now + LEEWAY_SECONDS);
        let meant =
            texts(&claims["aud"]).is_some_and(|all| all.iter().any(|aud| self.settings.audiences.contains(aud)));
        if claims["iss"].as_str() != Some(issuer) || !in_time || !meant {
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
        // Expressions read documents.
        let text = serde_json::to_vec(claims).map_err(refused)?;
        let doc = Doc::parse(&text).map_err(refused)?;
        check(&self.settings.claim_rules, &doc)?;
        let name = self.name(claims, &doc)?;
        let mut caller = Caller::new(name, &[]);
        let groups = self.groups(claims, &doc)?;
        caller.groups.splice(0..0, groups.into_iter().map(Text::from));
        caller.uid = match &self.settings.uid {
            Some(Source::Claim(Claim { name, .. })) => {
                claims[name].as_str().ok_or_else(|| refused(format!("claim {name:?} is no text")))?.into()
            }
            Some(Source::Expression(expression)) => expression.text(&doc).map_err(refused)?.unwrap_or_default().into(),
            None => Text::default(),
        };
        for (key, expression) in &self.settings.extra {
            let values = expression.texts(&doc).map_err(refused)?;
            if !values.is_empty() {
                caller.extra.push((key.as_str().into(), values.into_iter().map(Text::from).collect()));
            }
        }
        caller.extra.sort();
        if !self.settings.user_rules.is_empty() {
            check(&self.settings.user_rules, &user(&caller))?;
        }
        Ok(caller)
    }

    fn name(&self, claims: &Value, doc: &Doc) -> ApiResult<String> {
        let username = match &self.settings.username {
            Source::Claim(claim) => claim,
            Source::Expression(expression) => {
                let name = expression.text(doc).map_err(refused)?.filter(|name| !name.is_empty());
                return name.ok_or_else(|| refused("the user name is empty"));
            }
        };
        // An address that the provider has not verified is anybody's.
        let unverified = claims.get("email_verified").is_some_and(|verified| *verified != Value::Bool(true));
        if username.name == "email" && unverified {
            return Err(refused("the email address is not verified"));
        }
        let name = claims[&username.name].as_str().filter(|name| !name.is_empty());
        let name = name.ok_or_else(|| refused(format!("claim {:?} is no text", username.name)))?;
        Ok(format!("{}{name}", username.prefix))
    }

    fn groups(&self, claims: &Value, doc: &Doc) -> ApiResult<Vec<String>> {
        match &self.settings.groups {
            None => Ok(Vec::new()),
            Some(Source::Expression(expression)) => expression.texts(doc).map_err(refused),
            Some(Source::Claim(Claim { name, prefix })) => {
                let Some(found) = claims.get(name) else { return Ok(Vec::new()) };
                let found = texts(found).ok_or_else(|| refused(format!("claim {name:?} is no list of texts")))?;
                Ok(found.iter().map(|group| format!("{prefix}{group}")).collect())
            }
        }
    }
}

/// Every rule must hold.
fn check(rules: &[Rule], of: &Doc) -> ApiResult<()> {
    for rule in rules {
        if !rule.expression.holds(of).map_err(refused)? {
            return Err(refused(if rule.message.is_empty() { rule.expression.source() } else { &rule.message }));
        }
    }
    Ok(())
}

/// The caller as expressions see it. `system:authenticated` is added to groups later.
fn user(caller: &Caller) -> Doc {
    let mut extra = doc!({});
    for (key, values) in &caller.extra {
        extra.set_at(&[key], Doc::from(values.clone()));
    }
    let groups: Vec<Text> = caller.groups.iter().filter(|group| *group != "system:authenticated").cloned().collect();
    doc!({"username": caller.name.clone(), "uid": caller.uid.clone(), "groups": groups, "extra": extra})
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
        let mut claims = self.verified_by(&self.keys, token, &self.settings.issuer).await?;
        self.expand(&mut claims).await?;
        Ok(Some(Known { caller: self.caller(&claims)?, audiences: Vec::new() }))
    }
}
