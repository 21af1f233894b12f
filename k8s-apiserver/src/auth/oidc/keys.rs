//! The keys of an identity provider: found by discovery, kept, and looked up again when they do not fit.

use std::{sync::Arc, time::Duration};

use aws_lc_rs::signature::{ECDSA_P521_SHA512_FIXED, UnparsedPublicKey};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{DecodingKey, Validation, jwk::Jwk};
use k8s_core::{
    env::Env,
    status::{ApiError, ApiResult},
};
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::Mutex;

use super::{Algorithm, Fetch};
use crate::auth::bearer::unverified;

/// How often the provider is asked at most, whatever tokens come.
const INTERVAL: Duration = Duration::from_secs(10);
/// How many bytes a coordinate of P-521 has.
const P521_BYTES: usize = 66;

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
    form: Form,
}

enum Form {
    /// What the library of tokens verifies by.
    Library(DecodingKey),
    /// A point of P-521, uncompressed: for `ES512`, which the library does not know.
    P521(Vec<u8>),
}

/// What a token says of its signature.
pub(super) struct Header {
    pub algorithm: Algorithm,
    key_id: Option<String>,
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

impl Header {
    /// What a token says of its signature; `None` if it is no token, or names an algorithm that is not known.
    pub fn read(token: &str) -> Option<Self> {
        let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?).ok()?;
        let key_id = header["kid"].as_str().map(str::to_owned);
        Some(Self { algorithm: Algorithm::named(header["alg"].as_str()?)?, key_id })
    }
}

impl Key {
    fn read(value: &Value) -> Option<Self> {
        let id = value["kid"].as_str().map(str::to_owned);
        if value["crv"] == "P-521" {
            let number = |name: &str| {
                let bytes = URL_SAFE_NO_PAD.decode(value[name].as_str()?).ok()?;
                (bytes.len() == P521_BYTES).then_some(bytes)
            };
            let point = [&[4][..], &number("x")?, &number("y")?].concat();
            return Some(Self { id, form: Form::P521(point) });
        }
        let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
        Some(Self { form: Form::Library(DecodingKey::from_jwk(&jwk).ok()?), id })
    }

    /// The claims of a token, if this key has signed it.
    fn claims(&self, token: &str, algorithm: Algorithm) -> Option<Value> {
        match (&self.form, algorithm.library()) {
            (Form::Library(key), Some(algorithm)) => {
                let mut validation = Validation::new(algorithm);
                // Claims are judged under our own clock.
                (validation.validate_exp, validation.validate_aud) = (false, false);
                validation.required_spec_claims.clear();
                jsonwebtoken::decode::<Value>(token, key, &validation).ok().map(|token| token.claims)
            }
            (Form::P521(point), None) => {
                let (signed, signature) = token.rsplit_once('.')?;
                let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
                let key = UnparsedPublicKey::new(&ECDSA_P521_SHA512_FIXED, point);
                key.verify(signed.as_bytes(), &signature).ok()?;
                unverified(token)
            }
            _ => None,
        }
    }
}

fn signed_by(keys: &[Key], token: &str, header: &Header) -> Option<Value> {
    let may_be = |key: &&Key| header.key_id.is_none() || key.id.is_none() || key.id == header.key_id;
    keys.iter().filter(may_be).find_map(|key| key.claims(token, header.algorithm))
}
