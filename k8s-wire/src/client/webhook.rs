//! Calling webhooks over the network.

use std::{collections::BTreeMap, error::Error, net::SocketAddr, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::header;
use k8s_core::{
    env::{self, Env},
    seam::webhook::{WebhookCaller, WebhookEndpoint, WebhookError, WebhookIdentity, WebhookTls, WebhookToken},
};
use parking_lot::Mutex;

use super::{
    config::{Config, ConfigError, Token},
    route::{Route, under_name},
};
use crate::{
    pki::{self, Identity},
    tls::{self, API_PROTOCOLS, ServerTrust},
};

/// How much of an answer is read.
pub const MAX_ANSWER_BYTES: usize = 32 * 1024 * 1024;
/// How many endpoints keep their connections; the one that was called longest ago is forgotten for a new one.
pub const MAX_PEERS: usize = 256;
/// How long an idle connection is kept, so that an endpoint that went away is noticed.
const IDLE: Duration = Duration::from_secs(30);
/// How much of an answer that is no 2xx is shown.
const MAX_SHOWN_CHARS: usize = 300;

/// Posts to webhooks by TLS, over HTTP/2 or HTTP/1.1. Connections are kept per endpoint and trust, at most
/// [`MAX_PEERS`] of them.
pub struct HttpWebhookCaller {
    env: Env,
    agent: String,
    peers: Mutex<Peers>,
}

#[derive(Default)]
struct Peers {
    clients: BTreeMap<Peer, (u64, reqwest::Client)>,
    calls: u64,
}

/// What connections are kept for: they may be used again by whoever means the same one and shows the same.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Peer {
    host: String,
    port: u16,
    address: Option<SocketAddr>,
    authorities: Option<String>,
    server_name: Option<String>,
    insecure: bool,
    identity: Option<(String, String)>,
}

impl HttpWebhookCaller {
    /// A caller under the environment's clock.
    pub fn new(env: Env) -> Self {
        let agent = concat!("k8s-rs/", env!("CARGO_PKG_VERSION")).into();
        Self { env, agent, peers: Mutex::default() }
    }

    fn client(&self, endpoint: &WebhookEndpoint, url: &reqwest::Url) -> Result<reqwest::Client, WebhookError> {
        let peer = Peer::new(endpoint, url)?;
        let mut peers = self.peers.lock();
        peers.calls += 1;
        let now = peers.calls;
        if let Some((used, client)) = peers.clients.get_mut(&peer) {
            *used = now;
            return Ok(client.clone());
        }
        let client = self.connect(&peer, &endpoint.tls)?;
        if peers.clients.len() >= MAX_PEERS {
            let oldest = peers.clients.iter().min_by_key(|(_, (used, _))| *used).map(|(peer, _)| peer.clone());
            oldest.map(|peer| peers.clients.remove(&peer));
        }
        peers.clients.insert(peer, (now, client.clone()));
        Ok(client)
    }

    fn connect(&self, peer: &Peer, tls: &WebhookTls) -> Result<reqwest::Client, WebhookError> {
        let wrong = |what: &str, why: &dyn std::fmt::Display| WebhookError::Config(format!("{what}: {why}"));
        let authorities = match &tls.authorities_pem {
            Some(pem) => {
                pki::certificates("caBundle", pem.as_bytes()).map_err(|why| WebhookError::Config(why.to_string()))?
            }
            None => Vec::new(),
        };
        let trust = if tls.insecure { ServerTrust::Anyone } else { ServerTrust::Authorities(&authorities) };
        let identity = tls.identity.as_ref().map(|identity| Identity {
            certificate_pem: identity.certificate_pem.clone(),
            key_pem: identity.key_pem.clone(),
        });
        let config =
            tls::client(&self.env, trust, identity.as_ref(), API_PROTOCOLS).map_err(|why| wrong("TLS", &why))?;
        reqwest::Client::builder()
            .tls_backend_preconfigured(config)
            .user_agent(self.agent.clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .tcp_nodelay(true)
            .pool_idle_timeout(IDLE)
            .dns_resolver(Arc::new(Route { host: peer.host.clone(), port: peer.port, address: peer.address }))
            .build()
            .map_err(|why| wrong("client", &why))
    }

    async fn ask(&self, endpoint: &WebhookEndpoint, body: Bytes) -> Result<Bytes, WebhookError> {
        let shown = &endpoint.url;
        let mut url = parse(shown)?;
        let client = self.client(endpoint, &url)?;
        if let Some(name) = &endpoint.tls.server_name {
            url = under_name(url, name).map_err(WebhookError::Config)?;
        }
        if endpoint.address.is_some() {
            // A port in the URL would count more than the address's own. An https URL with a host always takes this.
            let _ = url.set_port(None);
        }
        let mut request = client.post(url).header(header::CONTENT_TYPE, "application/json");
        request = request.header(header::ACCEPT, "application/json").body(body);
        if let Some(WebhookToken(token)) = &endpoint.token {
            request = request.bearer_auth(token);
        }
        let unreachable = |error: &reqwest::Error| WebhookError::Unreachable { url: shown.clone(), why: cause(error) };
        let mut response = request.send().await.map_err(|error| unreachable(&error))?;
        let mut answer = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| unreachable(&error))? {
            if answer.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(WebhookError::TooLarge { url: shown.clone(), limit: MAX_ANSWER_BYTES });
            }
            answer.extend_from_slice(&chunk);
        }
        if response.status().is_success() {
            return Ok(answer.freeze());
        }
        let text = String::from_utf8_lossy(&answer).trim().chars().take(MAX_SHOWN_CHARS).collect();
        Err(WebhookError::Status { url: shown.clone(), code: response.status().as_u16(), text })
    }
}

#[async_trait]
impl WebhookCaller for HttpWebhookCaller {
    async fn post(&self, endpoint: &WebhookEndpoint, limit: Duration, body: Bytes) -> Result<Bytes, WebhookError> {
        let asking = env::timeout(&*self.env, limit, self.ask(endpoint, body));
        asking.await.unwrap_or_else(|| Err(WebhookError::TimedOut { url: endpoint.url.clone() }))
    }
}

/// The endpoint that a kubeconfig describes, as the files of webhook authenticators, authorizers and audit backends do:
/// its server is the whole URL. A token's file is read now; make the endpoint anew for every call, and a token that was
/// renewed is used.
pub fn endpoint(config: &Config) -> Result<WebhookEndpoint, ConfigError> {
    let token = match &config.token {
        None => None,
        Some(Token::Text(token)) => Some(token.clone()),
        Some(Token::File(path)) => {
            let read = std::fs::read_to_string(path);
            Some(read.map_err(|source| ConfigError::Read { path: path.clone(), source })?.trim().to_owned())
        }
    };
    let identity = config.identity.as_ref().map(|identity| WebhookIdentity {
        certificate_pem: identity.certificate_pem.clone(),
        key_pem: identity.key_pem.clone(),
    });
    let tls = WebhookTls {
        authorities_pem: config.authorities_pem.clone(),
        server_name: config.server_name.clone(),
        insecure: config.insecure,
        identity,
    };
    let (url, token) = (config.server.clone(), token.map(WebhookToken));
    Ok(WebhookEndpoint { url, address: None, tls: Arc::new(tls), token })
}

impl Peer {
    fn new(endpoint: &WebhookEndpoint, url: &reqwest::Url) -> Result<Self, WebhookError> {
        let missing = || WebhookError::Config(format!("{:?} names no host", endpoint.url));
        let Route { host, port, address } = Route::to(url, endpoint.address).ok_or_else(missing)?;
        let tls = &endpoint.tls;
        Ok(Self {
            host,
            port,
            address,
            authorities: tls.authorities_pem.clone(),
            server_name: tls.server_name.clone(),
            insecure: tls.insecure,
            identity: tls.identity.as_ref().map(|own| (own.certificate_pem.clone(), own.key_pem.clone())),
        })
    }
}

fn parse(url: &str) -> Result<reqwest::Url, WebhookError> {
    let parsed: reqwest::Url = url.parse().map_err(|why| WebhookError::Config(format!("{url:?}: {why}")))?;
    if parsed.scheme() != "https" {
        return Err(WebhookError::Config(format!("{url:?}: webhooks are called by https only")));
    }
    Ok(parsed)
}

/// What lies behind a failure: the outer error only repeats the address.
fn cause(error: &reqwest::Error) -> String {
    let mut at: &dyn Error = error;
    let mut texts: Vec<String> = Vec::new();
    while let Some(source) = at.source() {
        let text = source.to_string();
        // Wrappers repeat what they wrap.
        if texts.last().is_none_or(|last| *last != text) {
            texts.push(text);
        }
        at = source;
    }
    if texts.is_empty() { error.to_string() } else { texts.join(": ") }
}

#[cfg(test)]
mod tests;
