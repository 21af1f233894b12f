//! Service account tokens: signed, bound, short-lived.
//!
//! Follows upstream's bound tokens (`kubernetes.io` claims: namespace, service account, pod, node, secret). A token
//! is good only while everything that it is bound to exists with the uid it was bound to.

mod key;
pub mod legacy;

#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use jsonwebtoken::{EncodingKey, Header, Validation};
use k8s_core::{
    env::Env,
    object::{Object, ObjectKey},
    request::Caller,
    status::{ApiError, ApiResult},
};
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::Notify;

pub use self::key::{SigningKey, VerificationKey};
use super::{
    Follower, TokenClaims, TokenIssuer,
    bearer::{Known, TokenAuthenticator, unverified},
};

/// Upstream refuses shorter and longer lives of a token.
pub const MIN_SECONDS: u64 = 600;
/// See [`MIN_SECONDS`].
pub const MAX_SECONDS: u64 = 1 << 32;
/// What kubelets ask for in the name of pods: such a token is made to live longer, for clients that never read it anew.
pub const EXTENDED_FROM: u64 = 3607;
/// How long an extended token lives: a year.
pub const EXTENDED_TO: u64 = 365 * 24 * 3600;

/// How long tokens may live.
#[derive(Debug, Clone, Copy)]
pub struct Lifetimes {
    /// No token lives longer than this, in seconds; one that is asked for longer is made shorter, with a warning.
    pub max_seconds: Option<u64>,
    /// Whether pods' tokens for this server are extended: asked for [`EXTENDED_FROM`], they live [`EXTENDED_TO`].
    pub extend: bool,
}

impl Default for Lifetimes {
    /// No bound but [`MAX_SECONDS`], and extended, as upstream.
    fn default() -> Self {
        Self { max_seconds: None, extend: true }
    }
}

/// Issues tokens, and tells callers by them.
pub struct ServiceAccountTokens {
    env: Env,
    /// The first one issues; tokens of all of them are good. Never empty.
    issuers: Vec<String>,
    audiences: Vec<String>,
    encoding: EncodingKey,
    /// The first one belongs to `encoding`. Never empty.
    keys: Vec<VerificationKey>,
    lifetimes: Lifetimes,
    /// What tokens may be bound to, by plural: key to uid.
    known: RwLock<BTreeMap<&'static str, BTreeMap<ObjectKey, String>>>,
    /// The Secrets that hold tokens.
    secrets: Mutex<legacy::Secrets>,
    /// Told when the label of such a Secret is to be written.
    used: Notify,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    aud: Vec<String>,
    exp: i64,
    iat: i64,
    nbf: i64,
    iss: String,
    jti: String,
    sub: String,
    #[serde(rename = "kubernetes.io")]
    kubernetes: Bound,
}

#[derive(Serialize, Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Reference,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pod: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    node: Option<Reference>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    secret: Option<Reference>,
    /// When an extended token would have ended.
    #[serde(default, rename = "warnafter", skip_serializing_if = "Option::is_none")]
    warn_after: Option<i64>,
}

#[derive(Serialize, Deserialize)]
struct Reference {
    name: String,
    uid: String,
}

const BINDABLE: [&str; 4] = ["serviceaccounts", "pods", "nodes", "secrets"];

impl ServiceAccountTokens {
    /// An issuer. `issuer` is the `iss` of every token and the default audience.
    pub fn new(env: Env, key: &SigningKey, issuer: impl Into<String>) -> ApiResult<Self> {
        let issuer = issuer.into();
        Ok(Self {
            env,
            audiences: vec![issuer.clone()],
            issuers: vec![issuer],
            encoding: key.encoding()?,
            keys: vec![key.verification()],
            lifetimes: Lifetimes::default(),
            known: RwLock::default(),
            secrets: Mutex::default(),
            used: Notify::new(),
        })
    }

    /// The same with these audiences, of which tokens for this server name at least one; the issuer by default.
    pub fn audiences(mut self, audiences: Vec<String>) -> Self {
        self.audiences = audiences;
        self
    }

    /// The same, also believing tokens that other keys signed: those before and after a rotation.
    pub fn also_verify_with(mut self, keys: impl IntoIterator<Item = VerificationKey>) -> Self {
        for key in keys {
            if self.keys.iter().all(|known| known.id != key.id) {
                self.keys.push(key);
            }
        }
        self
    }

    /// The same, also believing tokens of issuers that this one replaces.
    pub fn also_issued_by(mut self, issuers: impl IntoIterator<Item = String>) -> Self {
        self.issuers.extend(issuers);
        self
    }

    /// The same with other bounds.
    pub fn lifetimes(mut self, lifetimes: Lifetimes) -> Self {
        self.lifetimes = lifetimes;
        self
    }

    /// How long tokens may live.
    pub fn allowed_lifetimes(&self) -> Lifetimes {
        self.lifetimes
    }

    fn exists(&self, plural: &str, namespace: &str, reference: &Reference) -> bool {
        let known = self.known.read();
        let uid = known.get(plural).and_then(|kind| kind.get(&ObjectKey::new(namespace, reference.name.as_str())));
        uid.is_some_and(|uid| *uid == reference.uid)
    }

    /// The claims of a token that one of the keys signed, and that is for one of `audiences`.
    fn verified(&self, token: &str, audiences: &[String]) -> Option<Claims> {
        let claims: Claims = self.signed(token)?;
        let is_ours = self.issuers.contains(&claims.iss) && claims.aud.iter().any(|aud| audiences.contains(aud));
        is_ours.then_some(claims)
    }

    /// The claims of a token that one of the keys signed. The key that it names is tried first.
    fn signed<T: DeserializeOwned>(&self, token: &str) -> Option<T> {
        let named = jsonwebtoken::decode_header(token).ok()?.kid.unwrap_or_default();
        let (first, others): (Vec<_>, Vec<_>) = self.keys.iter().partition(|key| key.id == named);
        first.into_iter().chain(others).find_map(|key| {
            let mut validation = Validation::new(key.algorithm);
            // The clock is ours, not the library's: it would ask the system.
            (validation.validate_exp, validation.validate_aud) = (false, false);
            validation.required_spec_claims.clear();
            jsonwebtoken::decode::<T>(token, &key.decoding, &validation).ok().map(|token| token.claims)
        })
    }

    fn check(&self, token: &str, audiences: &[String]) -> Option<Claims> {
        let claims = self.verified(token, audiences)?;
        let now = self.env.now().as_second();
        let in_time = claims.nbf <= now && now < claims.exp;
        let bound = &claims.kubernetes;
        let alive = self.exists("serviceaccounts", &bound.namespace, &bound.serviceaccount)
            && bound.pod.as_ref().is_none_or(|pod| self.exists("pods", &bound.namespace, pod))
            && bound.secret.as_ref().is_none_or(|secret| self.exists("secrets", &bound.namespace, secret));
        // A token bound to a pod outlives nothing: its node is information. One bound to a node alone depends on it.
        let node = bound.pod.is_some() || bound.node.as_ref().is_none_or(|node| self.exists("nodes", "", node));
        (in_time && alive && node).then_some(claims)
    }
}

fn caller(claims: Claims) -> Caller {
    let bound = claims.kubernetes;
    let mut caller = Caller::service_account(&bound.namespace, &bound.serviceaccount.name);
    caller.uid = bound.serviceaccount.uid.into();
    let mut extra =
        vec![("authentication.kubernetes.io/credential-id".into(), vec![format!("JTI={}", claims.jti).into()])];
    for (kind, reference) in [("pod", bound.pod), ("node", bound.node)] {
        if let Some(reference) = reference {
            extra.push((format!("authentication.kubernetes.io/{kind}-name").into(), vec![reference.name.into()]));
            extra.push((format!("authentication.kubernetes.io/{kind}-uid").into(), vec![reference.uid.into()]));
        }
    }
    caller.extra = extra;
    caller
}

impl Follower for ServiceAccountTokens {
    fn follows(&self, group: &str, plural: &str) -> bool {
        group.is_empty() && BINDABLE.contains(&plural)
    }

    fn changed(&self, _group: &str, plural: &str, key: &ObjectKey, new: Option<&Arc<Object>>) {
        let Some(plural) = BINDABLE.into_iter().find(|name| *name == plural) else { return };
        if plural == "secrets" {
            self.secrets.lock().changed(key, new);
        }
        let mut known = self.known.write();
        let kind = known.entry(plural).or_default();
        match new {
            Some(object) => kind.insert(key.clone(), object.meta.uid.to_string()),
            None => kind.remove(key),
        };
    }
}

impl TokenIssuer for ServiceAccountTokens {
    fn issue(&self, claims: &TokenClaims) -> ApiResult<(String, i64)> {
        let now = self.env.now().as_second();
        let expires = now + claims.seconds.clamp(MIN_SECONDS, MAX_SECONDS) as i64;
        let reference = |(name, uid): &(String, String)| Reference { name: name.clone(), uid: uid.clone() };
        let audiences = if claims.audiences.is_empty() { &self.audiences } else { &claims.audiences };
        let body = Claims {
            aud: audiences.clone(),
            exp: expires,
            iat: now,
            nbf: now,
            iss: self.issuer().to_owned(),
            jti: self.env.uuid(),
            sub: format!("system:serviceaccount:{}:{}", claims.namespace, claims.service_account),
            kubernetes: Bound {
                namespace: claims.namespace.clone(),
                serviceaccount: Reference { name: claims.service_account.clone(), uid: claims.uid.clone() },
                pod: claims.pod.as_ref().map(reference),
                node: claims.node.as_ref().map(reference),
                secret: claims.secret.as_ref().map(reference),
                warn_after: claims.warn_after_seconds.map(|seconds| now + seconds as i64),
            },
        };
        let header = Header { kid: Some(self.keys[0].id.clone()), ..Header::new(self.keys[0].algorithm) };
        let token = jsonwebtoken::encode(&header, &body, &self.encoding)
            .map_err(|why| ApiError::internal(format!("token: {why}")))?;
        Ok((token, expires))
    }

    fn issuer(&self) -> &str {
        &self.issuers[0]
    }

    fn default_audiences(&self) -> &[String] {
        &self.audiences
    }

    fn jwks(&self) -> String {
        let keys: Vec<_> = self.keys.iter().map(VerificationKey::jwk).collect();
        serde_json::json!({ "keys": keys }).to_string()
    }

    fn algorithms(&self) -> Vec<&str> {
        let mut names: Vec<&str> = self.keys.iter().filter_map(|key| key.jwk()["alg"].as_str()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

#[async_trait]
impl TokenAuthenticator for ServiceAccountTokens {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> ApiResult<Option<Known>> {
        let issuer = unverified(token).and_then(|claims| claims["iss"].as_str().map(str::to_owned));
        match issuer {
            Some(issuer) if issuer == legacy::LEGACY_ISSUER => {
                return Ok(Some(Known { caller: self.legacy(token)?, audiences: Vec::new() }));
            }
            Some(issuer) if self.issuers.contains(&issuer) => {}
            _ => return Ok(None),
        }
        let claims = self.check(token, audiences).ok_or_else(ApiError::unauthorized)?;
        let audiences = claims.aud.iter().filter(|aud| audiences.contains(aud)).cloned().collect();
        Ok(Some(Known { caller: caller(claims), audiences }))
    }
}
