//! The keys of one cluster: its authority, the key that signs tokens, those that encrypt what is stored, and the
//! identities of its parts.
//!
//! Made in memory for an embedded cluster, or kept in a folder (`ca.crt`, `ca.key`, `front-proxy-ca.crt`,
//! `front-proxy-ca.key`, `sa.key`, `encryption.key`; files of
//! secrets are readable by their owner only), or given in files that several API servers of one cluster share. Every
//! component has an identity of its own, as upstream names them.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use k8s_apiserver::{
    auth::token::{SigningKey, legacy::LegacyClaims},
    storage::{KeyError, Keys},
};
use k8s_controllers::service_account_tokens::Issuer;
use k8s_core::env::Env;
use k8s_wire::pki::{self, Authority, Identity, PkiError, write_private};

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
    /// The service account in `kube-system` of cluster DNS.
    pub const DNS_ACCOUNT: &str = "kube-dns";
    /// The API server, when it talks to nodes.
    pub const API_SERVER: &str = "kube-apiserver-kubelet-client";
    /// The API server, when it passes requests of others on to extension API servers.
    pub const FRONT_PROXY: &str = "front-proxy-client";
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
    /// Issues the certificate that extension API servers believe our word about callers by, and nothing else.
    front_proxy_authority: Authority,
    signing_key: Arc<SigningKey>,
    encryption_keys: Option<Keys>,
}

/// Files that keys are given in, instead of those in the cluster's folder. Those that are given must be there.
#[derive(Clone, Debug, Default)]
pub struct KeyFiles {
    /// The authority's certificate, PEM. Goes with `ca_key`.
    pub ca_certificate: Option<PathBuf>,
    /// The authority's key, PEM. Goes with `ca_certificate`.
    pub ca_key: Option<PathBuf>,
    /// The key that signs service account tokens: ECDSA on P-256 or P-384, or RSA, PEM or DER.
    pub service_account_key: Option<PathBuf>,
    /// The keys that encrypt what is stored, as [`Keys::parse`] reads them.
    pub encryption_keys: Option<PathBuf>,
}

impl Credentials {
    /// New keys, kept nowhere. Nothing is encrypted with them: nobody could read it after this process.
    pub fn generate(env: &Env) -> Result<Self, PkiError> {
        let authority = Authority::generate("kubernetes", env.now())?;
        let signing_key = Arc::new(SigningKey::generate().map_err(key_error)?);
        let front_proxy_authority = Authority::generate("front-proxy-ca", env.now())?;
        Ok(Self { env: env.clone(), authority, front_proxy_authority, signing_key, encryption_keys: None })
    }

    /// The keys in a folder; what is not there is made.
    pub fn load_or_generate(folder: &Path, env: &Env) -> Result<Self, PkiError> {
        Self::load(&KeyFiles::default(), folder, env)
    }

    /// The keys in the files that are given, and the others in a folder, where what is not there is made.
    pub fn load(given: &KeyFiles, folder: &Path, env: &Env) -> Result<Self, PkiError> {
        std::fs::create_dir_all(folder).map_err(|source| PkiError::File { path: folder.into(), source })?;
        let authority = match (&given.ca_certificate, &given.ca_key) {
            (Some(certificate), Some(key)) => {
                Authority::from_identity(Identity { certificate_pem: read(certificate)?, key_pem: read(key)? })?
            }
            (None, None) => Authority::load_or_generate(folder, "ca", env.now())?,
            _ => {
                let why = "its certificate and its key are given together or not at all".into();
                return Err(PkiError::Pem { what: "authority".into(), why });
            }
        };
        let signing_key = match &given.service_account_key {
            Some(path) => signing_key(path)?,
            None => {
                let path = folder.join("sa.key");
                kept(&path, signing_key, || {
                    let made = SigningKey::generate().map_err(key_error)?;
                    write_private(&path, made.pkcs8())?;
                    Ok(made)
                })?
            }
        };
        let signing_key = Arc::new(signing_key);
        let encryption_keys = match &given.encryption_keys {
            Some(path) => encryption_keys(path)?,
            None => {
                let path = folder.join("encryption.key");
                kept(&path, encryption_keys, || {
                    let made = Keys::generate().map_err(|why| in_file(&path, &why))?;
                    write_private(&path, made.to_text().as_bytes())?;
                    Ok(made)
                })?
            }
        };
        let front_proxy_authority = Authority::load_or_generate(folder, "front-proxy-ca", env.now())?;
        let encryption_keys = Some(encryption_keys);
        Ok(Self { env: env.clone(), authority, front_proxy_authority, signing_key, encryption_keys })
    }

    /// The keys that encrypt what is stored; `None` for credentials that are kept nowhere.
    pub fn encryption_keys(&self) -> Option<&Keys> {
        self.encryption_keys.as_ref()
    }

    /// The authority's certificate, as PEM.
    pub fn ca_pem(&self) -> &str {
        self.authority.certificate_pem()
    }

    /// The certificate of the authority of front proxies, as PEM.
    pub fn front_proxy_ca_pem(&self) -> &str {
        self.front_proxy_authority.certificate_pem()
    }

    /// The certificate by which extension API servers know this one.
    pub fn front_proxy(&self) -> Result<Identity, PkiError> {
        self.front_proxy_authority.issue_client(identity::FRONT_PROXY, &[], self.env.now())
    }

    /// The key that signs service account tokens.
    pub fn signing_key(&self) -> &Arc<SigningKey> {
        &self.signing_key
    }

    /// A certificate for the API server at these addresses and names, and at those that pods know it by.
    pub fn api_server(&self, addresses: &[IpAddr], more: &[String]) -> Result<Identity, PkiError> {
        let names = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ];
        let names = names.iter().map(|name| (*name).to_owned());
        let hosts: Vec<String> =
            names.chain(addresses.iter().map(IpAddr::to_string)).chain(more.iter().cloned()).collect();
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

/// What a file holds, or what `make` makes when there is none.
fn kept<T>(
    path: &Path,
    load: impl Fn(&Path) -> Result<T, PkiError>,
    make: impl Fn() -> Result<T, PkiError>,
) -> Result<T, PkiError> {
    match load(path) {
        Err(PkiError::File { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => make(),
        other => other,
    }
}

fn read(path: &Path) -> Result<String, PkiError> {
    std::fs::read_to_string(path).map_err(|source| PkiError::File { path: path.into(), source })
}

/// Reads the private key that signs service account tokens: PEM or DER.
pub fn signing_key(path: &Path) -> Result<SigningKey, PkiError> {
    let bytes = std::fs::read(path).map_err(|source| PkiError::File { path: path.into(), source })?;
    let is_pem = bytes.starts_with(b"-----BEGIN");
    let der = if is_pem { pki::private_key(&path.display().to_string(), &bytes)? } else { bytes };
    SigningKey::from_der(&der).map_err(key_error)
}

fn encryption_keys(path: &Path) -> Result<Keys, PkiError> {
    Keys::parse(&read(path)?).map_err(|why| in_file(path, &why))
}

fn in_file(path: &Path, why: &KeyError) -> PkiError {
    PkiError::Pem { what: path.display().to_string(), why: why.to_string() }
}

/// What makes the tokens that are kept in Secrets, for the controllers.
pub fn token_issuer(key: Arc<SigningKey>) -> Issuer {
    Arc::new(move |namespace, service_account, uid, secret| {
        key.legacy_token(LegacyClaims { namespace, service_account, uid, secret })
    })
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use k8s_wire::env::System;

    use super::*;

    #[tokio::test]
    async fn keys_are_made_once_and_given_files_count_instead() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let env = System::current();
        let names = |credentials: &Credentials| {
            let keys = credentials.encryption_keys().unwrap();
            keys.names().map(str::to_owned).collect::<Vec<_>>()
        };
        let made = Credentials::load_or_generate(one.path(), &env).unwrap();
        let file = one.path().join("encryption.key");
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        let again = Credentials::load_or_generate(one.path(), &env).unwrap();
        assert_eq!(names(&made), names(&again));
        let of_one = |name: &str| Some(one.path().join(name));
        let given = KeyFiles {
            ca_certificate: of_one("ca.crt"),
            ca_key: of_one("ca.key"),
            service_account_key: of_one("sa.key"),
            encryption_keys: of_one("encryption.key"),
        };
        let shared = Credentials::load(&given, two.path(), &env).unwrap();
        assert_eq!((names(&shared), shared.ca_pem()), (names(&made), made.ca_pem()));
        assert_eq!(shared.signing_key().pkcs8(), made.signing_key().pkcs8());
        let mut made: Vec<_> = std::fs::read_dir(two.path()).unwrap().map(|file| file.unwrap().file_name()).collect();
        made.sort();
        assert_eq!(made, ["front-proxy-ca.crt", "front-proxy-ca.key"], "nothing else is made beside what is given");
        let half = KeyFiles { ca_key: None, ..given };
        assert!(Credentials::load(&half, two.path(), &env).is_err());
        let missing = KeyFiles { encryption_keys: Some(two.path().join("none")), ..KeyFiles::default() };
        assert!(Credentials::load(&missing, two.path(), &env).is_err(), "what is given is never made");
        std::fs::write(&file, "key-1 short").unwrap();
        let error = Credentials::load_or_generate(one.path(), &env).err().unwrap().to_string();
        assert!(error.contains("encryption.key: line 1: "), "{error}");
    }
}
