//! Events as lists, posted to a webhook.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use k8s_core::{
    env::Env,
    seam::webhook::{WebhookCaller, WebhookEndpoint},
};

use super::AuditSink;

/// How long one call may take.
const LIMIT: Duration = Duration::from_secs(30);
/// How often a batch is sent before it is given up.
const ATTEMPTS: u32 = 5;

/// The sink. A batch that the webhook does not take is sent again, after the wait and then half as much longer each time;
/// in the meantime the queue fills.
pub struct WebhookSink {
    /// Time.
    pub env: Env,
    /// Calls it.
    pub caller: Arc<dyn WebhookCaller>,
    /// Where it is: made anew for every call, because a token's file may have been written anew.
    pub endpoint: Box<dyn Fn() -> Result<WebhookEndpoint, String> + Send + Sync>,
    /// How long to wait before a batch is sent again.
    pub backoff: Duration,
}

#[async_trait]
impl AuditSink for WebhookSink {
    fn name(&self) -> &'static str {
        "webhook"
    }

    async fn write(&mut self, events: Vec<Bytes>) -> Result<(), String> {
        let mut list =
            b"{\"kind\":\"EventList\",\"apiVersion\":\"audit.k8s.io/v1\",\"metadata\":{},\"items\":[".to_vec();
        list.extend_from_slice(&events.join(&b','));
        list.extend_from_slice(b"]}");
        let (body, mut wait) = (Bytes::from(list), self.backoff);
        for attempt in 1.. {
            let sent = match (self.endpoint)() {
                Ok(endpoint) => {
                    self.caller.post(&endpoint, LIMIT, body.clone()).await.map_err(|why| (why.retry(), why.to_string()))
                }
                Err(why) => Err((true, why)),
            };
            match sent {
                Ok(_) => break,
                Err((true, _)) if attempt < ATTEMPTS => self.env.sleep(wait).await,
                Err((_, why)) => return Err(why),
            }
            wait = wait.mul_f64(1.5);
        }
        Ok(())
    }
}
