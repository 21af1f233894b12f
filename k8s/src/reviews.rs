//! Who asks, and whether they may, as the API server says it: for the ports that components open themselves.
//!
//! Follows upstream's delegated authentication and authorization: a certificate of the client authority is read here,
//! a token goes to the API server in a `TokenReview`, and every question in a `SubjectAccessReview`.

use async_trait::async_trait;
use k8s_apiserver::auth::{Authenticator, Credentials, x509::ClientCertificates};
use k8s_core::{
    doc::Doc,
    request::{ApiRequest, Caller, RequestBody, ResourceType, Target, Verb},
    status::{ApiError, ApiResult, Reason},
};
use k8s_node::server::{NodeQuestion, Reviewer};
use k8s_reconcile::Client;
use serde_json::{Value, json};

/// Asks the API server. Both clients need the role `system:auth-delegator`, or one like it.
#[derive(Clone)]
pub struct Reviews {
    authentication: Client,
    authorization: Client,
}

impl Reviews {
    /// Reviews tokens through one client, and permissions through another; often they are the same.
    pub fn new(authentication: Client, authorization: Client) -> Self {
        Self { authentication, authorization }
    }

    /// Whose credentials these are; nobody's are `system:anonymous`. 401 if they are not good, 5xx if that cannot be
    /// found out.
    pub async fn caller(&self, credentials: &Credentials) -> ApiResult<Caller> {
        if let Some(token) = &credentials.bearer {
            return self.by_token(token).await;
        }
        let found = ClientCertificates.authenticate(credentials).await?;
        Ok(found.unwrap_or_else(Caller::anonymous))
    }

    /// Whether a caller may use a path that is no resource. 403 if not.
    pub async fn may_use_path(&self, caller: &Caller, verb: &str, path: &str) -> ApiResult<()> {
        let attributes = json!({"verb": verb, "path": path});
        let what = format!("{verb} path {path:?}");
        self.authorize(caller, "nonResourceAttributes", attributes, &what).await
    }

    async fn may_use_node(&self, caller: &Caller, verb: &str, node: &str, subresource: &str) -> ApiResult<()> {
        let attributes =
            json!({"verb": verb, "version": "v1", "resource": "nodes", "subresource": subresource, "name": node});
        let what = format!("{verb} nodes/{subresource} of node {node:?}");
        self.authorize(caller, "resourceAttributes", attributes, &what).await
    }

    async fn by_token(&self, token: &str) -> ApiResult<Caller> {
        let review = json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token}});
        let answer = create(&self.authentication, "authentication.k8s.io", "tokenreviews", &review).await?;
        if answer.at(&["status", "authenticated"]).and_then(Doc::as_bool) != Some(true) {
            return Err(ApiError::unauthorized());
        }
        let text = answer.to_json();
        let answer: Value = serde_json::from_slice(text.as_ref()).map_err(ApiError::internal)?;
        let user = &answer["status"]["user"];
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let words = |value: &Value| value.as_array().into_iter().flatten().map(word).collect::<Vec<_>>();
        let extra = user["extra"].as_object().into_iter().flatten();
        Ok(Caller {
            name: word(&user["username"]).into(),
            uid: word(&user["uid"]).into(),
            groups: words(&user["groups"]).into_iter().map(Into::into).collect(),
            extra: extra
                .map(|(key, values)| (key.as_str().into(), words(values).into_iter().map(Into::into).collect()))
                .collect(),
            ..Caller::default()
        })
    }

    async fn authorize(&self, caller: &Caller, kind: &str, attributes: Value, what: &str) -> ApiResult<()> {
        let texts = |texts: &[k8s_core::doc::Text]| texts.iter().map(|text| text.to_string()).collect::<Vec<_>>();
        let extra: serde_json::Map<String, Value> =
            caller.extra.iter().map(|(key, values)| (key.to_string(), json!(texts(values)))).collect();
        let review = json!({
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": caller.name.as_str(),
                "uid": caller.uid.as_str(),
                "groups": texts(&caller.groups),
                "extra": extra,
                kind: attributes,
            },
        });
        let answer = create(&self.authorization, "authorization.k8s.io", "subjectaccessreviews", &review).await?;
        if answer.at(&["status", "allowed"]).and_then(Doc::as_bool) == Some(true) {
            return Ok(());
        }
        let why = answer.str_at(&["status", "reason"]);
        let why = if why.is_empty() { String::new() } else { format!(": {why}") };
        let message = format!("forbidden: User {:?} cannot {what}{why}", caller.name);
        Err(ApiError::new(403, Reason::Forbidden, message))
    }
}

#[async_trait]
impl Reviewer for Reviews {
    /// As the kubelet: what has a subresource of its own is also for who may use `nodes/proxy`, but for metrics and
    /// stats.
    async fn review(&self, question: NodeQuestion<'_>) -> ApiResult<()> {
        let NodeQuestion { certificates, bearer, verb, node, subresource } = question;
        let caller = self.caller(&Credentials { certificates, bearer }).await?;
        match self.may_use_node(&caller, verb, node, subresource).await {
            Err(refused) if refused.code() == 403 && matches!(subresource, "pods" | "healthz") => {
                self.may_use_node(&caller, verb, node, "proxy").await.map_err(|_| refused)
            }
            decided => decided,
        }
    }
}

async fn create(client: &Client, group: &str, plural: &str, review: &Value) -> ApiResult<Doc> {
    let target = Target::all(ResourceType::new(group, "v1", plural), "");
    let body = RequestBody::Doc(Doc::from_serialize(review).map_err(ApiError::internal)?);
    client.call(ApiRequest { verb: Verb::Create, target, body, ..Default::default() }).await?.into_doc()
}
