//! Asking another server who asks, and whether they may.
//!
//! Follows upstream's webhook token authenticator and webhook authorizer: reviews of version v1, answers kept for a
//! while, and a failure tried again a few times.

mod authorizer;
mod kept;
mod tokens;

#[cfg(test)]
mod tests;

use std::{sync::Arc, time::Duration};

use k8s_core::{
    doc::Doc,
    env::{Env, timeout},
    seam::webhook::{WebhookCaller, WebhookEndpoint},
    status::{ApiError, ApiResult},
};

pub use self::{
    authorizer::{AccessWebhook, FailurePolicy},
    tokens::TokenWebhook,
};

/// How long the first wait after a failure is; each further one is half as long again.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// How often a webhook is asked at most.
const ATTEMPTS: u32 = 5;

/// Makes the endpoint for one call: a token's file may have been written again since the last one. The error says what
/// cannot be read.
pub type Endpoint = Arc<dyn Fn() -> Result<WebhookEndpoint, String> + Send + Sync>;

/// A server that reviews are posted to.
#[derive(Clone)]
pub struct Reviewer {
    /// Time.
    pub env: Env,
    /// The way there.
    pub caller: Arc<dyn WebhookCaller>,
    /// Where it is.
    pub endpoint: Endpoint,
    /// How long all attempts together may take.
    pub limit: Duration,
}

impl Reviewer {
    /// Posts a review and answers its `status`. 503 says what went wrong.
    async fn review(&self, review: &Doc) -> ApiResult<Doc> {
        let asking = timeout(&*self.env, self.limit, self.ask(review)).await;
        asking.unwrap_or_else(|| Err(ApiError::unavailable("the webhook did not answer in time")))
    }

    async fn ask(&self, review: &Doc) -> ApiResult<Doc> {
        let (body, mut wait) = (bytes::Bytes::from(review.to_json()), FIRST_WAIT);
        let mut attempt = 1;
        loop {
            let endpoint = (self.endpoint)().map_err(ApiError::unavailable)?;
            match self.caller.post(&endpoint, self.limit, body.clone()).await {
                Ok(answer) => return status(&endpoint.url, &answer),
                Err(why) if !why.retry() || attempt == ATTEMPTS => return Err(ApiError::unavailable(why.to_string())),
                Err(why) => tracing::debug!(%why, attempt, "webhook"),
            }
            attempt += 1;
            self.env.sleep(wait).await;
            wait = wait * 3 / 2;
        }
    }
}

fn status(url: &str, answer: &[u8]) -> ApiResult<Doc> {
    let wrong = |why: &dyn std::fmt::Display| ApiError::unavailable(format!("Post {url:?}: {why}"));
    let mut answer = Doc::parse(answer).map_err(|why| wrong(&why))?;
    answer.remove_at(&["status"]).ok_or_else(|| wrong(&"the answer has no status"))
}
