//! The `token` subresource of service accounts: a token on request, bound to what the request names.

use std::sync::Arc;

use k8s_core::{
    doc,
    doc::Doc,
    env::Timestamp,
    object::{Object, ObjectKey},
    request::{ApiResponse, ResourceType, ResponseBody, Verb},
    status::{ApiError, ApiResult, FieldError, FieldErrorKind},
    structure::Mode,
};

use super::{
    operation::{Operation, accept_type},
    time::rfc3339,
};
use crate::auth::{
    TokenClaims, TokenIssuer,
    token::{EXTENDED_FROM, EXTENDED_TO, Lifetimes, MAX_SECONDS, MIN_SECONDS},
};

/// How long a token is good for when the request does not say.
const DEFAULT_SECONDS: i64 = 3600;

impl Operation<'_> {
    /// Answers a `TokenRequest` for the target service account.
    pub async fn issue_token(&mut self, mut body: Doc) -> ApiResult<ApiResponse> {
        accept_type(&mut body, &ResourceType::new("authentication.k8s.io", "v1", "tokenrequests"), "TokenRequest")?;
        let schema = self.server.kinds.now().schemas().schema("authentication.k8s.io", "v1", "TokenRequest");
        let schema = schema.ok_or_else(|| ApiError::internal("the kind TokenRequest has no schema"))?;
        self.check(&schema, &mut body, Mode::Whole)?;
        let seconds = self.seconds(&body)?;
        let account = self.existing().await?;
        let target = self.target().clone();
        let mut request = self.admission_request(Verb::Create, &target).with(None, Some(body));
        self.server.admission.admit(&mut request).await?;
        self.server.admission.validate(&request).await?;
        self.warnings.append(&mut request.take_warnings());
        let mut body = request.into_object().unwrap_or_default();
        let Some(tokens) = &self.server.tokens else {
            return Err(ApiError::unavailable("this server has no key to sign tokens with"));
        };
        let lifetimes = tokens.allowed_lifetimes();
        let seconds = self.shortened(seconds, &lifetimes);
        let mut claims = self.claims(&account, &body, seconds)?;
        extend(&mut claims, &lifetimes, tokens.default_audiences());
        if body.at(&["spec", "audiences"]).is_none_or(|list| list.items().is_empty()) {
            body.set_at(&["spec", "audiences"], Doc::from(tokens.default_audiences().to_vec()));
        }
        let (token, mut expires) = tokens.issue(&claims)?;
        if let Some(warn_after) = claims.warn_after_seconds {
            // Who reads it anew reads it as if it had not been extended.
            expires += warn_after as i64 - claims.seconds as i64;
        }
        let expires = Timestamp::from_second(expires).unwrap_or(self.server.env.now());
        body.set_at(&["spec", "expirationSeconds"], seconds.into());
        body.set_at(&["metadata", "name"], self.target().name.clone().into());
        body.set_at(&["metadata", "namespace"], self.target().namespace.clone().into());
        body.set_at(&["metadata", "creationTimestamp"], rfc3339(self.server.env.now()).into());
        body.set_at(&["status"], doc!({"token": token, "expirationTimestamp": rfc3339(expires)}));
        Ok(ApiResponse::created(ResponseBody::Doc(body)))
    }

    fn seconds(&self, body: &Doc) -> ApiResult<i64> {
        let seconds = body.at(&["spec", "expirationSeconds"]).and_then(Doc::as_i64).unwrap_or(DEFAULT_SECONDS);
        let detail = if seconds < MIN_SECONDS as i64 {
            "may not specify a duration less than 10 minutes"
        } else if seconds > MAX_SECONDS as i64 {
            "may not specify a duration larger than 2^32 seconds"
        } else {
            return Ok(seconds);
        };
        let path = "spec.expirationSeconds";
        let error = FieldError::new(FieldErrorKind::Invalid, path, seconds.to_string(), detail);
        Err(ApiError::invalid("TokenRequest", "authentication.k8s.io", &self.target().name, &[error]))
    }

    fn shortened(&mut self, seconds: i64, lifetimes: &Lifetimes) -> i64 {
        let longest = lifetimes.max_seconds.map_or(i64::MAX, |max| i64::try_from(max).unwrap_or(i64::MAX));
        if seconds > longest {
            self.warnings.push(format!("requested expiration of {seconds} seconds shortened to {longest} seconds"));
        }
        seconds.min(longest)
    }

    fn claims(&self, account: &Object, body: &Doc, seconds: i64) -> ApiResult<TokenClaims> {
        let audiences = body.at(&["spec", "audiences"]).map_or(&[][..], Doc::items);
        let mut claims = TokenClaims {
            namespace: account.meta.namespace.to_string(),
            service_account: account.meta.name.to_string(),
            uid: account.meta.uid.to_string(),
            audiences: audiences.iter().filter_map(Doc::as_str).map(str::to_owned).collect(),
            seconds: seconds.max(0) as u64,
            ..TokenClaims::default()
        };
        let Some(bound) = body.at(&["spec", "boundObjectRef"]) else { return Ok(claims) };
        let name = bound.str_at(&["name"]);
        match (bound.str_at(&["apiVersion"]), bound.str_at(&["kind"])) {
            ("v1", "Pod") => {
                let pod = self.bound_to("pods", &account.meta.namespace, bound)?;
                check_account(&pod, &account.meta.name)?;
                let node = ObjectKey::new("", pod.meta.node_name.clone());
                let node = self.server.cluster.get("", "v1", "nodes", &node);
                claims.node = (!pod.meta.node_name.is_empty())
                    .then(|| (pod.meta.node_name.to_string(), node.map_or(String::new(), |n| n.meta.uid.to_string())));
                claims.pod = Some(reference(&pod));
            }
            ("v1", "Secret") => {
                let secret = self.bound_to("secrets", &account.meta.namespace, bound)?;
                claims.secret = Some(reference(&secret));
            }
            ("v1", "Node") => {
                let node = self.bound_to("nodes", "", bound)?;
                claims.node = Some(reference(&node));
            }
            (version, kind) => {
                let why = format!("cannot bind token to object of type {version}, Kind={kind} {name:?}");
                return Err(ApiError::bad_request(why));
            }
        }
        Ok(claims)
    }

    fn bound_to(&self, plural: &str, namespace: &str, bound: &Doc) -> ApiResult<Arc<Object>> {
        let (name, uid) = (bound.str_at(&["name"]), bound.str_at(&["uid"]));
        let found = self.server.cluster.get("", "v1", plural, &ObjectKey::new(namespace, name));
        let object = found.ok_or_else(|| ApiError::not_found(plural, "", name))?;
        if !uid.is_empty() && *uid != *object.meta.uid {
            let why = format!(
                "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have \
                 been deleted and then recreated"
            );
            return Err(ApiError::conflict(plural, "", name, why));
        }
        Ok(object)
    }
}

/// Lets a pod's token for this server live longer than its kubelet asks for, for programs that read it once and never
/// again.
fn extend(claims: &mut TokenClaims, lifetimes: &Lifetimes, own_audiences: &[String]) {
    let is_own = claims.audiences.is_empty() || claims.audiences.iter().all(|name| own_audiences.contains(name));
    if lifetimes.extend && claims.pod.is_some() && claims.seconds == EXTENDED_FROM && is_own {
        claims.warn_after_seconds = Some(EXTENDED_FROM);
        claims.seconds = EXTENDED_TO;
    }
}

fn reference(object: &Object) -> (String, String) {
    (object.meta.name.to_string(), object.meta.uid.to_string())
}

fn check_account(pod: &Object, account: &str) -> ApiResult<()> {
    let used = crate::cache::field(pod, "spec.serviceAccountName").unwrap_or_default();
    if used == account {
        return Ok(());
    }
    Err(ApiError::bad_request(format!(
        "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
    )))
}
