//! The keys of an identity provider: found by discovery, kept, and looked up again when they do not fit.

use std::{sync::Arc, time::Duration};

use jsonwebtoken::{DecodingKey, Header, Validation, jwk::Jwk};
use k8s_core::{
    env::Env,
    status::{ApiError, ApiResult},
};
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::Mutex;

use super::Fetch;

/// How often the provider is asked at most, whatever tokens come.
const INTERVAL: Duration = Duration::from_secs(10);

pub(super) struct Keys {
    env: Env,
    issuer: String,
    discovery_url: String,
    documents: Arc<dyn Fetch>,
    known: RwLock<Arc<[Key]>>,
    /// When the provider was last asked, with success or not. Held while it is asked, so that it is asked once.
    asked: Mutex<Option<Duration>>,
}

struct Key {
    id: Option<String>,
    decoding: DecodingKey,
}

impl Keys {
    pub fn new(env: Env, issuer: String, discovery_url: String, documents: Arc<dyn Fetch>) -> Self {
        Self { env, issuer, discovery_url, documents, known: RwLock::default(), asked: Mutex::default() }
    }

    /// The claims of a token that one of the keys signed. 401 if none did, 503 if the keys cannot be had.
    pub async fn verify(&self, token: &str, header: &Header) -> ApiResult<Value> {
        let known = self.known.read().clone();
        if let Some(claims) = signed_by(&known, token, header) {
            return Ok(claims);
        }
        signed_by(&self.newer_than(&known).await?, token, header).ok_or_else(ApiError::unauthorized)
    }

    /// Keys that may be other ones than `known`.
    async fn newer_than(&self, known: &Arc<[Key]>) -> ApiResult<Arc<[Key]>> {
        let mut asked = self.asked.lock().await;
        let now = self.env.monotonic();
        let lately = asked.is_some_and(|asked| now < asked + INTERVAL);
        if Arc::ptr_eq(&self.known.read(), known) && !lately {
            *asked = Some(now);
            let found = self.fetch().await?;
            *self.known.write() = found;
        }
        Ok(self.known.read().clone())
    }

    async fn fetch(&self) -> ApiResult<Arc<[Key]>> {
        let discovered = self.document(&self.discovery_url).await?;
        if discovered["issuer"].as_str() != Some(&self.issuer) {
            let said = &discovered["issuer"];
            return Err(ApiError::unavailable(format!("{}: the issuer is {said}", self.discovery_url)));
        }
        let Some(url) = discovered["jwks_uri"].as_str() else {
            return Err(ApiError::unavailable(format!("{}: it has no jwks_uri", self.discovery_url)));
        };
        let set = self.document(url).await?;
        let listed = set["keys"].as_array().map_or(&[][..], Vec::as_slice);
        // A set may hold keys for other uses and of kinds that are not known here.
        Ok(listed
            .iter()
            .filter(|key| key["use"].as_str().is_none_or(|used| used == "sig"))
            .filter_map(Key::read)
            .collect())
    }

    async fn document(&self, url: &str) -> ApiResult<Value> {
        let bytes = self.documents.get(url, None).await?;
        serde_json::from_slice(&bytes).map_err(|why| ApiError::unavailable(format!("{url}: {why}")))
    }
}

impl Key {
    fn read(value: &Value) -> Option<Self> {
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        Some(Self { decoding: DecodingKey::from_jwk(&jwk).ok()?, id: jwk.common.key_id })
    }
}

fn signed_by(keys: &[Key], token: &str, header: &Header) -> Option<Value> {
    let mut validation = Validation::new(header.alg);
    // Claims are judged under our own clock.
    (validation.validate_exp, validation.validate_aud) = (false, false);
    validation.required_spec_claims.clear();
    let may_be = |key: &&Key| header.kid.is_none() || key.id.is_none() || key.id == header.kid;
    keys.iter()
        .filter(may_be)
        .find_map(|key| jsonwebtoken::decode::<Value>(token, &key.decoding, &validation).ok().map(|token| token.claims))
}
