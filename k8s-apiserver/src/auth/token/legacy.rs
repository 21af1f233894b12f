//! Tokens that are kept in Secrets of the type `kubernetes.io/service-account-token`.
//!
//! They have no end of their own: such a token is good as long as its Secret holds it, and its account is the one that
//! it was made for. The day of its last use stands on the Secret as a label, so that what nobody uses can be cleaned up.

use std::{collections::BTreeMap, sync::Arc};

use aws_lc_rs::digest::{SHA256, digest};
use base64::{Engine, engine::general_purpose::STANDARD};
use jsonwebtoken::Header;
use k8s_core::{
    doc,
    doc::Doc,
    env::Timestamp,
    object::{Object, ObjectKey},
    request::{Caller, PatchKind, RequestBody, ResourceType, Target, Verb},
    status::{ApiError, ApiResult},
    token_secret::{INVALID_SINCE, LAST_USED, TYPE},
};
use serde::{Deserialize, Serialize};

use super::{ServiceAccountTokens, SigningKey};
use crate::server::Inner;

/// The `iss` of these tokens, whoever signs them.
pub const LEGACY_ISSUER: &str = "kubernetes/serviceaccount";

/// Of whom a token in a Secret is to be.
#[derive(Debug, Clone, Copy)]
pub struct LegacyClaims<'a> {
    /// The namespace of both.
    pub namespace: &'a str,
    /// The name of the account.
    pub service_account: &'a str,
    /// The account's uid.
    pub uid: &'a str,
    /// The name of the Secret.
    pub secret: &'a str,
}

#[derive(Serialize, Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    #[serde(rename = "kubernetes.io/serviceaccount/namespace")]
    namespace: String,
    #[serde(rename = "kubernetes.io/serviceaccount/secret.name")]
    secret: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.name")]
    service_account: String,
    #[serde(rename = "kubernetes.io/serviceaccount/service-account.uid")]
    uid: String,
}

/// The Secrets that hold tokens, as far as it matters.
#[derive(Default)]
pub(super) struct Secrets {
    known: BTreeMap<ObjectKey, Kept>,
    /// Whose label is to be written.
    used: BTreeMap<ObjectKey, String>,
}

struct Kept {
    /// Of the token; the token itself is nobody's to keep.
    hash: Box<[u8]>,
    last_used: String,
    is_invalid: bool,
}

impl SigningKey {
    /// A token for a Secret.
    pub fn legacy_token(&self, of: LegacyClaims<'_>) -> ApiResult<String> {
        let LegacyClaims { namespace, service_account, uid, secret } = of;
        let claims = Claims {
            iss: LEGACY_ISSUER.into(),
            sub: format!("system:serviceaccount:{namespace}:{service_account}"),
            namespace: namespace.into(),
            secret: secret.into(),
            service_account: service_account.into(),
            uid: uid.into(),
        };
        let key = self.verification();
        let header = Header { kid: Some(key.id.clone()), ..Header::new(key.algorithm) };
        jsonwebtoken::encode(&header, &claims, &self.encoding()?)
            .map_err(|why| ApiError::internal(format!("token: {why}")))
    }
}

impl Secrets {
    /// Takes note of a Secret, or of its end.
    pub fn changed(&mut self, key: &ObjectKey, new: Option<&Arc<Object>>) {
        match new.and_then(|object| Kept::of(object)) {
            Some(kept) => self.known.insert(key.clone(), kept),
            None => self.known.remove(key),
        };
    }

    fn use_it(&mut self, key: &ObjectKey, token: &str, today: &str) -> Result<(), &'static str> {
        let kept = self.known.get_mut(key).ok_or("its Secret is not there")?;
        if *kept.hash != *digest(&SHA256, token.as_bytes()).as_ref() {
            return Err("its Secret holds another one");
        }
        if kept.is_invalid {
            return Err("it was marked as invalid");
        }
        if kept.last_used != today {
            kept.last_used = today.into();
            self.used.insert(key.clone(), today.into());
        }
        Ok(())
    }
}

impl Kept {
    /// What a Secret holds, if it is one of tokens.
    fn of(object: &Object) -> Option<Self> {
        let json = object.stored_json();
        // Most Secrets are of other types: they are not parsed.
        if object.meta.deleted.is_some() || !json.windows(TYPE.len()).any(|window| window == TYPE.as_bytes()) {
            return None;
        }
        let secret = Doc::parse(json).ok()?;
        if secret.str_at(&["type"]) != TYPE {
            return None;
        }
        let token = STANDARD.decode(secret.str_at(&["data", "token"])).ok()?;
        let label =
            |name: &str| object.meta.labels.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
        Some(Self {
            hash: digest(&SHA256, &token).as_ref().into(),
            last_used: label(LAST_USED).unwrap_or_default().into(),
            is_invalid: label(INVALID_SINCE).is_some_and(|since| !since.is_empty()),
        })
    }
}

impl ServiceAccountTokens {
    /// Who presents a token of a Secret. 401 if it is not good any more.
    pub(super) fn legacy(&self, token: &str) -> ApiResult<Caller> {
        let refused = |why: &str| {
            tracing::debug!(why, "service account token of a Secret refused");
            ApiError::unauthorized()
        };
        let claims: Claims = self.signed(token).ok_or_else(|| refused("nobody whom we believe signed it"))?;
        let account = super::Reference { name: claims.service_account.clone(), uid: claims.uid.clone() };
        let of = format!("system:serviceaccount:{}:{}", claims.namespace, claims.service_account);
        if claims.sub != of {
            return Err(refused("it is of two accounts"));
        }
        if !self.exists("serviceaccounts", &claims.namespace, &account) {
            return Err(refused("its account is gone"));
        }
        let key = ObjectKey::new(claims.namespace.as_str(), claims.secret.as_str());
        self.secrets.lock().use_it(&key, token, &day(self.env.now())).map_err(refused)?;
        self.used.notify_one();
        let mut caller = Caller::service_account(&claims.namespace, &claims.service_account);
        caller.uid = claims.uid.into();
        Ok(caller)
    }
}

/// A day in UTC, as the labels have it.
pub fn day(now: Timestamp) -> String {
    now.strftime("%Y-%m-%d").to_string()
}

/// Writes on Secrets that their tokens were used. Never ends.
pub(crate) async fn label_used(inner: Arc<Inner>, tokens: Arc<ServiceAccountTokens>) {
    loop {
        tokens.used.notified().await;
        let used = std::mem::take(&mut tokens.secrets.lock().used);
        for (key, day) in used {
            let secrets = ResourceType::new("", "v1", "secrets");
            let target = Target::one(secrets, key.namespace.clone(), key.name.clone());
            let mut labels = doc!({});
            labels.set_at(&[LAST_USED], day.into());
            let patch = RequestBody::Patch(PatchKind::Merge, doc!({"metadata": {"labels": labels}}));
            // Somebody deletes it at the same time, or the store is away: the next use says it again tomorrow.
            if let Err(error) = inner.ask_own(Verb::Patch, target, patch).await {
                tracing::debug!(%error, secret = %key, "the last use of a token cannot be noted");
            }
        }
    }
}
