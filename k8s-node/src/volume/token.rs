//! Service account tokens of pods, asked for when needed and again before they run out.

use std::{collections::BTreeMap, time::Duration};

use k8s_core::{
    api::api::{
        authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec},
        core::v1::{Pod, ServiceAccount},
    },
    doc::Doc,
    env::{Env, Timestamp},
    request::{ApiRequest, RequestBody, Target, Verb},
    resource::{Resource, Stored},
    status::{ApiError, ApiResult},
};
use k8s_reconcile::Client;
use parking_lot::Mutex;

use super::TokenKey;

/// A token is replaced after this share of its life, or this age. Upstream's figures.
const REFRESH_SHARE: f64 = 0.8;
const REFRESH_AGE: Duration = Duration::from_secs(24 * 3600);

/// The tokens that pods of this node hold.
pub(super) struct Tokens {
    client: Client,
    env: Env,
    held: Mutex<BTreeMap<(String, TokenKey), Held>>,
}

#[derive(Clone)]
struct Held {
    token: String,
    refresh_at: Timestamp,
}

impl Tokens {
    pub fn new(client: Client, env: Env) -> Self {
        Self { client, env, held: Mutex::default() }
    }

    /// A token for a pod, and when to ask again.
    pub async fn get(&self, pod: &Stored<Pod>, key: &TokenKey) -> ApiResult<(String, Timestamp)> {
        let place = (pod.uid().to_owned(), key.clone());
        let held = self.held.lock().get(&place).cloned();
        let now = self.env.now();
        if let Some(held) = held.filter(|held| held.refresh_at > now) {
            return Ok((held.token, held.refresh_at));
        }
        let (token, expires) = self.request(pod, key).await?;
        let life = Duration::try_from(expires.duration_since(now)).unwrap_or_default();
        let refresh_at = now.checked_add(life.mul_f64(REFRESH_SHARE).min(REFRESH_AGE)).unwrap_or(now);
        let held = Held { token: token.clone(), refresh_at };
        self.held.lock().insert(place, held);
        Ok((token, refresh_at))
    }

    /// Forgets the tokens of a pod.
    pub fn forget(&self, uid: &str) {
        self.held.lock().retain(|(of, _), _| of != uid);
    }

    async fn request(&self, pod: &Stored<Pod>, key: &TokenKey) -> ApiResult<(String, Timestamp)> {
        let account =
            pod.spec.as_ref().and_then(|spec| spec.service_account_name.clone()).filter(|name| !name.is_empty());
        let account = account.unwrap_or_else(|| "default".to_owned());
        let request = TokenRequest {
            spec: Some(TokenRequestSpec {
                audiences: Some(
                    Some(key.audience.clone()).filter(|audience| !audience.is_empty()).into_iter().collect(),
                ),
                expiration_seconds: Some(key.seconds),
                bound_object_ref: Some(BoundObjectReference {
                    api_version: Some("v1".to_owned()),
                    kind: Some("Pod".to_owned()),
                    name: Some(pod.name().to_owned()),
                    uid: Some(pod.uid().to_owned()),
                }),
                ..TokenRequestSpec::default()
            }),
            ..TokenRequest::default()
        };
        let body = Doc::from_serialize(&request).map_err(ApiError::internal)?;
        let target = Target::one(ServiceAccount::resource(), pod.namespace(), account).subresource("token");
        let request = ApiRequest { verb: Verb::Create, target, body: RequestBody::Doc(body), ..ApiRequest::default() };
        let answer = self.client.call(request).await?.into_doc()?;
        let answer: TokenRequest = answer.deserialize().map_err(ApiError::internal)?;
        let status = answer.status.unwrap_or_default();
        let token = status.token.filter(|token| !token.is_empty());
        let token = token.ok_or_else(|| ApiError::internal("the server answered no token"))?;
        let expires = status.expiration_timestamp.map_or_else(|| self.env.now(), |time| time.0);
        Ok((token, expires))
    }
}
