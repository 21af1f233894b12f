//! A transport under a service account's identity, for components outside the API server's process.
//!
//! Follows upstream's `--use-service-account-credentials`: a program that may ask for tokens gives each of its parts an
//! account of its own, and renews the token before it runs out.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_core::{
    api::{api::core::v1::ServiceAccount, apimachinery::pkg::apis::meta::v1::ObjectMeta},
    doc::Doc,
    env::Env,
    request::{ApiRequest, ApiResponse, RequestBody, Target, Verb},
    resource::Resource,
    seam::transport::Transport,
    status::{ApiError, ApiResult},
};
use k8s_reconcile::Client;
use k8s_wire::client::{Config, HttpTransport, Token};
use parking_lot::Mutex;
use serde_json::json;

/// Where the accounts of components live.
const NAMESPACE: &str = "kube-system";
/// How long a token is asked for.
const LIFETIME: Duration = Duration::from_secs(3600);
/// A token is renewed once this much of its life is over.
const RENEW_AFTER: Duration = Duration::from_secs(2700);

/// The transport. It makes the account if there is none.
pub struct ServiceAccountTransport {
    account: String,
    owner: Client,
    config: Config,
    env: Env,
    current: Mutex<Option<(Duration, Arc<HttpTransport>)>>,
}

impl ServiceAccountTransport {
    /// A transport under `account` in `kube-system`; `owner` may ask for its tokens, `config` says where the cluster is.
    pub fn new(account: &str, owner: Client, config: &Config, env: Env) -> Self {
        let config = Config { identity: None, token: None, user_agent: account.to_owned(), ..config.clone() };
        Self { account: account.to_owned(), owner, config, env, current: Mutex::default() }
    }

    async fn transport(&self) -> ApiResult<Arc<HttpTransport>> {
        let now = self.env.monotonic();
        if let Some((made, transport)) = &*self.current.lock()
            && now < *made + RENEW_AFTER
        {
            return Ok(transport.clone());
        }
        let token = self.token().await?;
        let config = Config { token: Some(Token::Text(token)), ..self.config.clone() };
        let transport = Arc::new(HttpTransport::new(config, self.env.clone()).map_err(ApiError::internal)?);
        *self.current.lock() = Some((now, transport.clone()));
        Ok(transport)
    }

    async fn token(&self) -> ApiResult<String> {
        match self.request_token().await {
            Err(error) if error.is_not_found() => {
                self.create_account().await?;
                self.request_token().await
            }
            outcome => outcome,
        }
    }

    async fn request_token(&self) -> ApiResult<String> {
        let request = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest",
            "spec": {"expirationSeconds": LIFETIME.as_secs()}});
        let target = Target::one(ServiceAccount::resource(), NAMESPACE, self.account.as_str()).subresource("token");
        let body = RequestBody::Doc(Doc::from_serialize(&request).map_err(ApiError::internal)?);
        let answer = self.owner.call(ApiRequest { verb: Verb::Create, target, body, ..Default::default() }).await?;
        let doc = answer.into_doc()?;
        match doc.str_at(&["status", "token"]) {
            "" => Err(ApiError::internal("the server answered a token request without a token")),
            token => Ok(token.to_owned()),
        }
    }

    async fn create_account(&self) -> ApiResult<()> {
        let metadata = ObjectMeta { name: Some(self.account.clone()), ..Default::default() };
        let account = ServiceAccount { metadata, ..Default::default() };
        match self.owner.namespaced::<ServiceAccount>(NAMESPACE).create(account).await {
            Err(error) if !error.is_already_exists() => Err(error),
            _ => Ok(()),
        }
    }
}

#[async_trait]
impl Transport for ServiceAccountTransport {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        self.transport().await?.call(request).await
    }
}
