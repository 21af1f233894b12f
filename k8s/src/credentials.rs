//! The keys of one cluster: its authority, the key that signs tokens, and the identities of its parts.
//!
//! Made in memory for an embedded cluster, or kept in a folder (`ca.crt`, `ca.key`, `sa.key`; files of secrets are
//! readable by their owner only). Every component has an identity of its own, as upstream names them.

use std::{net::IpAddr, path::Path};

use k8s_apiserver::auth::token::SigningKey;
use k8s_core::env::Env;
use k8s_wire::pki::{Authority, Identity, PkiError, write_private};

/// The user names and groups that the parts of a cluster go by.
pub mod identity {
    /// The administrator's group: everything is allowed to it.
    pub const MASTERS: &str = "system:masters";
    /// The administrator's user name.
    pub const ADMIN: &str = "kubernetes-admin";
    /// The scheduler.
    pub const SCHEDULER: &str = "system:kube-scheduler";
    /// The controller manager.
    pub const CONTROLLER_MANAGER: &str = "system:kube-controller-manager";
    /// The service proxy.
    pub const PROXY: &str = "system:kube-proxy";
    /// The API server, when it talks to nodes.
    pub const API_SERVER: &str = "kube-apiserver-kubelet-client";
    /// The group of nodes.
    pub const NODES: &str = "system:nodes";

    /// A node's user name.
    pub fn node(name: &str) -> String {
        format!("system:node:{name}")
    }
}

/// The keys of one cluster.
pub struct Credentials {
    env: Env,
    authority: Authority,
    signing_key: SigningKey,
}

impl Credentials {
    /// New keys, kept nowhere.
    pub fn generate(env: &Env) -> Result<Self, PkiError> {
        let authority = Authority::generate("kubernetes", env.now())?;
        let signing_key = SigningKey::generate().map_err(key_error)?;
        Ok(Self { env: env.clone(), authority, signing_key })
    }

    /// The keys in a folder; what is not there is made.
    pub fn load_or_generate(folder: &Path, env: &Env) -> Result<Self, PkiError> {
        std::fs::create_dir_all(folder).map_err(|source| PkiError::File { path: folder.into(), source })?;
        let authority = Authority::load_or_generate(folder, "ca", env.now())?;
        let path = folder.join("sa.key");
        let signing_key = match std::fs::read(&path) {
            Ok(pkcs8) => SigningKey::from_pkcs8(&pkcs8).map_err(key_error)?,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let made = SigningKey::generate().map_err(key_error)?;
                write_private(&path, made.pkcs8())?;
                made
            }
            Err(source) => return Err(PkiError::File { path, source }),
        };
        Ok(Self { env: env.clone(), authority, signing_key })
    }

    /// The authority's certificate, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// The key that signs service account tokens.
    pub fn signing_key(&self) -> &SigningKey {
        &self.signing_key
    }

    /// A certificate for the API server at these addresses, and at the names that pods know it by.
    pub fn api_server(&self, addresses: &[IpAddr]) -> Result<Identity, PkiError> {
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let names = names.iter().map(|name| (*name).to_owned());
        let hosts: Vec<String> = names.chain(addresses.iter().map(IpAddr::to_string)).collect();
        self.authority.issue_server("kube-apiserver", &hosts, self.env.now())
    }

    /// A certificate for a node's own server.
    pub fn node_server(&self, name: &str, addresses: &[IpAddr]) -> Result<Identity, PkiError> {
        let addresses = addresses.iter().map(IpAddr::to_string);
        let hosts: Vec<String> = std::iter::once(name.to_owned()).chain(addresses).collect();
        self.authority.issue_server(&identity::node(name), &hosts, self.env.now())
    }

    /// A client certificate.
    pub fn client(&self, user: &str, groups: &[&str]) -> Result<Identity, PkiError> {
        self.authority.issue_client(user, groups, self.env.now())
    }

    /// A kubeconfig for a user at `server` (`https://host:port`).
    pub fn kubeconfig(&self, server: &str, user: &str, groups: &[&str]) -> Result<String, PkiError> {
        let identity = self.client(user, groups)?;
        Ok(kubeconfig(server, self.ca_pem(), user, &identity))
    }
}

fn key_error(error: k8s_core::status::ApiError) -> PkiError {
    PkiError::Pem { what: "service account key".into(), why: error.to_string() }
}

fn kubeconfig(server: &str, ca_pem: &str, user: &str, identity: &Identity) -> String {
    use base64::{Engine, engine::general_purpose::STANDARD};
    let value = serde_json::json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "k8s", "cluster": {
            "server": server, "certificate-authority-data": STANDARD.encode(ca_pem)}}],
        "users": [{"name": user, "user": {
            "client-certificate-data": STANDARD.encode(&identity.certificate_pem),
            "client-key-data": STANDARD.encode(&identity.key_pem)}}],
        "contexts": [{"name": "k8s", "context": {"cluster": "k8s", "user": user}}],
        "current-context": "k8s",
    });
    // JSON is YAML, and every reader of kubeconfigs takes it.
    format!("{value:#}\n")
}
