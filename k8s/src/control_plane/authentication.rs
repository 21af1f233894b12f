//! How the API server tells who asks: what operators choose, and what that comes to.

use std::sync::Arc;

use k8s_apiserver::auth::{
    Anonymous, Authenticator, Follower, PublishedAuthentication, TokenIssuer,
    bearer::{BearerTokens, TokenAuthenticator},
    bootstrap_token::BootstrapTokens,
    front_proxy::{FrontProxy, RequestHeaders},
    token::{Lifetimes, ServiceAccountTokens, VerificationKey},
    x509::VerifiedCertificates,
};
use k8s_core::env::Env;
use k8s_wire::{
    pki::{self, Identity},
    tls::ClientTrust,
};

use crate::{
    cluster::ClusterError,
    credentials::{Credentials, identity},
};

/// Who signs service account tokens, as their `iss` says.
pub const TOKEN_ISSUER: &str = "https://kubernetes.default.svc.cluster.local";

/// What operators choose of authentication. The defaults are those of `kube-apiserver`.
pub struct AuthenticationSettings {
    /// Who signs service account tokens, as their `iss` says.
    pub issuer: String,
    /// Issuers whose tokens are good, too: the issuer's older names.
    pub other_issuers: Vec<String>,
    /// The audiences of this server; the issuer if there are none.
    pub audiences: Vec<String>,
    /// Keys that verify service account tokens beside the one that signs them.
    pub verification_keys: Vec<VerificationKey>,
    /// How long service account tokens may live.
    pub lifetimes: Lifetimes,
    /// Where clients are told to get the keys; a path of this server if it does not say.
    pub jwks_uri: Option<String>,
    /// More authorities of client certificates, PEM, beside the cluster's own.
    pub client_authorities_pem: Option<String>,
    /// Who may speak for others; only the cluster's own front proxy if it does not say.
    pub front_proxy: Option<FrontProxySettings>,
    /// The certificate by which extension servers know this one; one of the cluster's own front proxy by default.
    pub proxy_client: Option<Identity>,
    /// Whether Secrets of the type `bootstrap.kubernetes.io/token` are tokens.
    pub bootstrap_tokens: bool,
    /// Other sorts of tokens, asked after the built-in ones.
    pub token_sorts: Vec<Arc<dyn TokenAuthenticator>>,
    /// Whether somebody who shows nothing may ask.
    pub anonymous: Anonymous,
}

/// Servers that say for whom they ask (`--requestheader-*`).
#[derive(Debug, Clone)]
pub struct FrontProxySettings {
    /// Their authorities, PEM.
    pub authorities_pem: String,
    /// The common names of their certificates; any if there are none.
    pub allowed_names: Vec<String>,
    /// The headers that they say it with.
    pub headers: RequestHeaders,
}

impl Default for AuthenticationSettings {
    fn default() -> Self {
        Self {
            issuer: TOKEN_ISSUER.to_owned(),
            other_issuers: Vec::new(),
            audiences: Vec::new(),
            verification_keys: Vec::new(),
            lifetimes: Lifetimes::default(),
            jwks_uri: None,
            client_authorities_pem: None,
            front_proxy: None,
            proxy_client: None,
            bootstrap_tokens: false,
            token_sorts: Vec::new(),
            anonymous: Anonymous::default(),
        }
    }
}

/// The parts that tell who asks.
pub(super) struct Authentication {
    pub tokens: Arc<ServiceAccountTokens>,
    pub bearer_tokens: Arc<BearerTokens>,
    pub authenticators: Vec<Arc<dyn Authenticator>>,
    pub front_proxy: Arc<FrontProxy>,
    /// How this server shows itself to extension servers.
    pub front_proxy_identity: Identity,
    pub followers: Vec<Arc<dyn Follower>>,
    pub published: PublishedAuthentication,
    pub anonymous: Anonymous,
    pub jwks_uri: Option<String>,
    /// Everybody whose certificates the TLS layer lets in: clients' authorities and those of front proxies, PEM.
    pub authorities_pem: String,
}

impl AuthenticationSettings {
    pub(super) fn build(self, env: &Env, credentials: &Credentials) -> Result<Authentication, ClusterError> {
        let mut tokens = ServiceAccountTokens::new(env.clone(), credentials.signing_key(), self.issuer)?
            .also_verify_with(self.verification_keys)
            .also_issued_by(self.other_issuers)
            .lifetimes(self.lifetimes);
        if !self.audiences.is_empty() {
            tokens = tokens.audiences(self.audiences);
        }
        let tokens = Arc::new(tokens);
        let mut sorts: Vec<Arc<dyn TokenAuthenticator>> = vec![tokens.clone()];
        let mut followers: Vec<Arc<dyn Follower>> = Vec::new();
        if self.bootstrap_tokens {
            let bootstrap = Arc::new(BootstrapTokens::new(env.clone()));
            sorts.push(bootstrap.clone());
            followers.push(bootstrap);
        }
        sorts.extend(self.token_sorts);
        let bearer_tokens = Arc::new(BearerTokens::new(sorts, tokens.default_audiences().to_vec()));
        let clients_pem = joined(credentials.ca_pem(), self.client_authorities_pem.as_deref());
        let front = self.front_proxy.unwrap_or_else(|| FrontProxySettings {
            authorities_pem: credentials.front_proxy_ca_pem().to_owned(),
            allowed_names: vec![identity::FRONT_PROXY.to_owned()],
            headers: RequestHeaders::standard(),
        });
        let front_proxy_identity = match self.proxy_client {
            Some(identity) => identity,
            None => credentials.front_proxy()?,
        };
        let trust = |what: &str, pem: &str| -> Result<ClientTrust, ClusterError> {
            Ok(ClientTrust::new(env.clone(), &pki::certificates(what, pem.as_bytes())?)?)
        };
        let certificates = VerifiedCertificates(trust("client authorities", &clients_pem)?);
        let front_proxy = FrontProxy {
            trust: trust("authorities of front proxies", &front.authorities_pem)?,
            allowed_names: front.allowed_names.clone(),
            headers: front.headers.clone(),
        };
        Ok(Authentication {
            tokens,
            bearer_tokens: bearer_tokens.clone(),
            authenticators: vec![Arc::new(certificates), bearer_tokens],
            front_proxy: Arc::new(front_proxy),
            front_proxy_identity,
            followers,
            authorities_pem: joined(&clients_pem, Some(&front.authorities_pem)),
            published: PublishedAuthentication {
                client_authorities_pem: clients_pem,
                front_proxy_authorities_pem: front.authorities_pem,
                allowed_names: front.allowed_names,
                headers: front.headers,
            },
            anonymous: self.anonymous,
            jwks_uri: self.jwks_uri,
        })
    }
}

fn joined(first: &str, second: Option<&str>) -> String {
    second.map_or_else(|| first.to_owned(), |second| format!("{}\n{second}", first.trim_end()))
}
