//! Tokens that another server knows: `TokenReview` of version v1.

use std::time::Duration;

use async_trait::async_trait;
use aws_lc_rs::digest::{SHA256, digest};
use k8s_core::{
    doc,
    doc::{Doc, Text},
    request::Caller,
    status::{ApiError, ApiResult, Reason},
};
use parking_lot::Mutex;

use super::{Reviewer, kept::Kept};
use crate::auth::bearer::{Known, TokenAuthenticator};

/// Tells callers by asking another server about their tokens.
pub struct TokenWebhook {
    reviewer: Reviewer,
    /// How long an answer is kept, whatever it is.
    ttl: Duration,
    kept: Mutex<Kept<Option<Known>>>,
}

impl TokenWebhook {
    /// Asks `reviewer`, and keeps what it answers for `ttl`. Failures are not kept.
    pub fn new(reviewer: Reviewer, ttl: Duration) -> Self {
        Self { reviewer, ttl, kept: Mutex::default() }
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> ApiResult<Option<Known>> {
        let review = doc!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview",
            "spec": {"token": token, "audiences": audiences.to_vec()}
        });
        let status = self.reviewer.review(&review).await?;
        if status.get("authenticated").and_then(Doc::as_bool) != Some(true) {
            return match status.str_at(&["error"]) {
                "" => Ok(None),
                why => Err(ApiError::new(401, Reason::Unauthorized, why)),
            };
        }
        let named = texts(status.get("audiences"));
        let for_us: Vec<String> =
            audiences.iter().filter(|wanted| named.iter().any(|n| n == *wanted)).cloned().collect();
        // A server that knows no audiences answers none; one that does must mean us.
        let is_meant = named.is_empty() || !for_us.is_empty();
        Ok(is_meant.then(|| Known { caller: caller(&status), audiences: for_us }))
    }
}

fn caller(status: &Doc) -> Caller {
    let groups: Vec<Text> = texts(status.at(&["user", "groups"]));
    let groups: Vec<&str> = groups.iter().map(Text::as_str).filter(|group| *group != "system:authenticated").collect();
    let mut caller = Caller::new(status.str_at(&["user", "username"]), &groups);
    caller.uid = status.str_at(&["user", "uid"]).into();
    let extra = status.at(&["user", "extra"]).and_then(Doc::as_object);
    caller.extra =
        extra.into_iter().flat_map(|map| map.iter()).map(|(key, list)| (key.into(), texts(Some(list)))).collect();
    caller
}

fn texts(list: Option<&Doc>) -> Vec<Text> {
    list.map_or(&[][..], Doc::items).iter().filter_map(|item| item.as_str().map(Text::from)).collect()
}

#[async_trait]
impl TokenAuthenticator for TokenWebhook {
    async fn authenticate(&self, token: &str, audiences: &[String]) -> ApiResult<Option<Known>> {
        // The token itself is not kept.
        let question = digest(&SHA256, format!("{token}\n{}", audiences.join("\n")).as_bytes()).as_ref().to_vec();
        let now = self.reviewer.env.monotonic();
        if let Some(answer) = self.kept.lock().get(&question, now) {
            return Ok(answer);
        }
        let answer = self.ask(token, audiences).await?;
        let now = self.reviewer.env.monotonic();
        self.kept.lock().keep(question, now, now + self.ttl, answer.clone());
        Ok(answer)
    }
}
