//! The audit log of a control plane: by which policy, and where to.

use std::{sync::Arc, time::Duration};

use k8s_apiserver::audit::{Audit, AuditSink, LogFile, LogSettings, Policy, WebhookSink};
use k8s_core::env::Env;
use k8s_wire::client::{Config, HttpWebhookCaller, webhook};

use crate::cluster::ClusterError;

/// What is noted of requests, and where.
pub struct AuditSettings {
    /// How much of which request.
    pub policy: Policy,
    /// Into a file.
    pub log: Option<LogSettings>,
    /// To a webhook: where and as whom, as a kubeconfig says, and how long to wait before a batch is sent again.
    pub webhook: Option<(Config, Duration)>,
}

impl AuditSettings {
    /// The log. Fails where the file cannot be opened.
    pub(super) async fn start(self, env: &Env) -> Result<Arc<Audit>, ClusterError> {
        let mut sinks: Vec<Box<dyn AuditSink>> = Vec::new();
        if let Some(settings) = self.log {
            let path = settings.path.clone();
            let file = LogFile::open(env.clone(), settings).await;
            sinks.push(Box::new(file.map_err(|source| ClusterError::AuditLog { path, source })?));
        }
        if let Some((config, backoff)) = self.webhook {
            sinks.push(Box::new(WebhookSink {
                env: env.clone(),
                caller: Arc::new(HttpWebhookCaller::new(env.clone())),
                endpoint: Box::new(move || webhook::endpoint(&config).map_err(|why| why.to_string())),
                backoff,
            }));
        }
        Ok(Audit::new(env.clone(), self.policy, sinks))
    }
}
