//! How an API server calls out: a JSON document is posted to somebody's HTTPS endpoint, and one comes back.
//!
//! Called by `k8s-apiserver` (admission, conversion, authentication, authorization, audit); given by `k8s-wire`
//! (`HttpWebhookCaller`), or by whoever embeds a server and wants to answer in process. Nothing here knows what is asked.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;

/// Posts JSON to endpoints.
#[async_trait]
pub trait WebhookCaller: Send + Sync + 'static {
    /// Posts `body` as `application/json` and answers the body of a 2xx answer.
    ///
    /// `limit` covers all of it, connecting included. No redirect is followed, nothing is asked twice. Dropping the future
    /// leaves open whether the endpoint has seen the request.
    async fn post(&self, endpoint: &WebhookEndpoint, limit: Duration, body: Bytes) -> Result<Bytes, WebhookError>;
}

/// Whom to ask, and how both sides are known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct WebhookEndpoint {
    /// `https://host[:port]/path[?query]`.
    pub url: String,
    /// Where to connect, in place of the address that the URL's host has.
    pub address: Option<SocketAddr>,
    /// How the connection is made safe. Shared, because one configuration is used for many calls.
    pub tls: Arc<WebhookTls>,
    /// A bearer token to present.
    pub token: Option<WebhookToken>,
}

/// What is believed of the endpoint, and what it is shown.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Default)]
pub struct WebhookTls {
    /// The authorities that may have issued the endpoint's certificate, as PEM. Without any nobody is believed: the
    /// system's authorities do not count.
    pub authorities_pem: Option<String>,
    /// The DNS name that the certificate must be for, where it is not the URL's host. It is also asked for (SNI).
    pub server_name: Option<String>,
    /// Whether any certificate is believed: `insecure-skip-tls-verify`.
    pub insecure: bool,
    /// Our certificate (the chain, leaf first) and its key.
    pub identity: Option<WebhookIdentity>,
}

/// A client certificate.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WebhookIdentity {
    /// The chain, leaf first, as PEM.
    pub certificate_pem: String,
    /// The private key, as PEM.
    pub key_pem: String,
}

/// A bearer token, which is never shown.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct WebhookToken(pub String);

impl fmt::Debug for WebhookIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookIdentity(...)")
    }
}

impl fmt::Debug for WebhookToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookToken(...)")
    }
}

/// Why an endpoint gave no answer that counts. The words are those that upstream's users know.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WebhookError {
    /// The configuration names nothing that can be called: a URL, certificate, Service or port is not what it should be.
    #[error("{0}")]
    Config(String),
    /// Nobody answered: no route, no trust, or a connection that ended early.
    #[error("Post {url:?}: {why}")]
    Unreachable {
        /// Where.
        url: String,
        /// What went wrong.
        why: String,
    },
    /// The time was up.
    #[error("Post {url:?}: context deadline exceeded")]
    TimedOut {
        /// Where.
        url: String,
    },
    /// The endpoint answered with another status than 2xx.
    #[error("Post {url:?}: the server answered {code}: {text}")]
    Status {
        /// Where.
        url: String,
        /// The status.
        code: u16,
        /// The beginning of what it said.
        text: String,
    },
    /// The answer is larger than anything that is expected.
    #[error("Post {url:?}: the answer is larger than {limit} bytes")]
    TooLarge {
        /// Where.
        url: String,
        /// What is read at most.
        limit: usize,
    },
}

impl WebhookError {
    /// Whether asking again may help: the endpoint was not there, was too slow, or said that it has too much to do.
    pub fn retry(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::TimedOut { .. } => true,
            Self::Status { code, .. } => *code == 429 || *code >= 500,
            Self::Config(_) | Self::TooLarge { .. } => false,
        }
    }
}
