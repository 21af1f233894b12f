//! Service account tokens: signed, bound, short-lived.
//!
//! Follows upstream's bound tokens (`kubernetes.io` claims: namespace, service account, pod, node, secret). A token
//! is good only while everything that it is bound to exists with the uid it was bound to.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use aws_lc_rs::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use k8s_core::{
    env::Env,
    object::{Object, ObjectKey},
    request::Caller,
    status::{ApiError, ApiResult},
};
use parking_lot::RwLock;
use serde::{Deserialize, Serialize};

use super::{Authenticator, Credentials, Follower, TokenClaims, TokenIssuer};

/// Upstream refuses shorter and longer lives of a token.
pub const MIN_SECONDS: u64 = 600;
/// See [`MIN_SECONDS`].
pub const MAX_SECONDS: u64 = 1 << 32;

/// The key that signs tokens: ECDSA on P-256.
pub struct SigningKey {
    pkcs8: Vec<u8>,
    public: Vec<u8>,
}

impl SigningKey {
    /// A new key, from the operating system's randomness.
    pub fn generate() -> ApiResult<Self> {
        let document = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
            .map_err(|_| ApiError::internal("no signing key could be made"))?;
        Self::from_pkcs8(document.as_ref())
    }

    /// A kept key: PKCS#8, DER.
    pub fn from_pkcs8(pkcs8: &[u8]) -> ApiResult<Self> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8)
            .map_err(|why| ApiError::internal(format!("service account key: {why}")))?;
        Ok(Self { pkcs8: pkcs8.to_vec(), public: pair.public_key().as_ref().to_vec() })
    }

    /// To keep it: PKCS#8, DER. Secret.
    pub fn pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    fn id(&self) -> String {
        URL_SAFE_NO_PAD.encode(digest(&SHA256, &self.public))
    }
}

/// Issues tokens, and tells callers by them.
pub struct ServiceAccountTokens {
    env: Env,
    issuer: String,
    audiences: Vec<String>,
    key_id: String,
    public: Vec<u8>,
    encoding: EncodingKey,
    decoding: DecodingKey,
    /// What tokens may be bound to, by plural: key to uid.
    known: RwLock<BTreeMap<&'static str, BTreeMap<ObjectKey, String>>>,
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
            issuer,
            key_id: key.id(),
            public: key.public.clone(),
            encoding: EncodingKey::from_ec_der(&key.pkcs8),
            decoding: DecodingKey::from_ec_der(&key.public),
            known: RwLock::default(),
        })
    }

    /// The same with these audiences, of which tokens for this server name at least one; the issuer by default.
    pub fn audiences(mut self, audiences: Vec<String>) -> Self {
        self.audiences = audiences;
        self
    }

    fn exists(&self, plural: &str, namespace: &str, reference: &Reference) -> bool {
        let known = self.known.read();
        let uid = known.get(plural).and_then(|kind| kind.get(&ObjectKey::new(namespace, reference.name.as_str())));
        uid.is_some_and(|uid| *uid == reference.uid)
    }

    fn check(&self, token: &str, audiences: &[String]) -> Option<Claims> {
        let mut validation = Validation::new(Algorithm::ES256);
        validation.set_audience(audiences);
        validation.set_issuer(&[&self.issuer]);
        // The clock is ours, not the library's: it would ask the system.
        validation.validate_exp = false;
        validation.required_spec_claims.clear();
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &validation).ok()?.claims;
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

    /// Tells the caller of a token for any of `audiences` (`TokenReview`); answers the audiences that match.
    pub fn review(&self, token: &str, audiences: &[String]) -> Option<(Caller, Vec<String>)> {
        let audiences = if audiences.is_empty() { &self.audiences } else { audiences };
        let claims = self.check(token, audiences)?;
        let matching = claims.aud.iter().filter(|aud| audiences.contains(aud)).cloned().collect();
        Some((caller(claims), matching))
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
            iss: self.issuer.clone(),
            jti: self.env.uuid(),
            sub: format!("system:serviceaccount:{}:{}", claims.namespace, claims.service_account),
            kubernetes: Bound {
                namespace: claims.namespace.clone(),
                serviceaccount: Reference { name: claims.service_account.clone(), uid: claims.uid.clone() },
                pod: claims.pod.as_ref().map(reference),
                node: claims.node.as_ref().map(reference),
                secret: claims.secret.as_ref().map(reference),
            },
        };
        let header = Header { kid: Some(self.key_id.clone()), ..Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&header, &body, &self.encoding)
            .map_err(|why| ApiError::internal(format!("token: {why}")))?;
        Ok((token, expires))
    }

    fn issuer(&self) -> &str {
        &self.issuer
    }

    fn default_audiences(&self) -> &[String] {
        &self.audiences
    }

    fn jwks(&self) -> String {
        // An uncompressed point: 0x04, then both coordinates of 32 bytes.
        let (x, y) = (URL_SAFE_NO_PAD.encode(&self.public[1..33]), URL_SAFE_NO_PAD.encode(&self.public[33..65]));
        let key = serde_json::json!({
            "use": "sig", "kty": "EC", "kid": self.key_id, "crv": "P-256", "alg": "ES256", "x": x, "y": y,
        });
        serde_json::json!({ "keys": [key] }).to_string()
    }
}

#[async_trait]
impl Authenticator for ServiceAccountTokens {
    async fn authenticate(&self, credentials: &Credentials) -> ApiResult<Option<Caller>> {
        let Some(token) = &credentials.bearer else { return Ok(None) };
        match self.review(token, &self.audiences) {
            Some((caller, _)) => Ok(Some(caller)),
            // A token that is none of ours is nobody: never fall through to anonymous.
            None => Err(ApiError::unauthorized()),
        }
    }
}
