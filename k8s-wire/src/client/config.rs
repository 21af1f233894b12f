//! Where a cluster is and who we are there.

use std::path::{Path, PathBuf};

use k8s_core::request::Caller;

use super::kubeconfig;
use crate::pki::Identity;

/// Where a pod finds its service account.
const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Everything that is needed to reach one cluster under one identity.
#[derive(Clone, Debug)]
pub struct Config {
    /// `https://host:port`, possibly with a path that every request's path is appended to.
    pub server: String,
    /// The authorities that may have issued the server's certificate, as PEM; `None` trusts nobody but with
    /// [`Config::insecure`].
    pub authorities_pem: Option<String>,
    /// Whether any server is believed: `insecure-skip-tls-verify`.
    pub insecure: bool,
    /// The name in the server's certificate, where it is not the host of [`Config::server`].
    pub server_name: Option<String>,
    /// Our certificate.
    pub identity: Option<Identity>,
    /// Our token.
    pub token: Option<Token>,
    /// The namespace that is meant where none is named.
    pub namespace: String,
    /// Whom to act as, in every request that names nobody else.
    pub impersonate: Option<Caller>,
    /// What we call ourselves; field managers are derived from it.
    pub user_agent: String,
}

/// A bearer token.
#[derive(Clone)]
pub enum Token {
    /// The token itself.
    Text(String),
    /// A file that holds it and is written anew from time to time.
    File(PathBuf),
}

/// Why there is no usable configuration. Says which file, and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file could not be read.
    #[error("read {}", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: std::io::Error,
    },
    /// A file is no kubeconfig, or lacks something.
    #[error("{}: {why}", path.display())]
    Invalid {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Nothing says where a cluster is.
    #[error("no cluster configuration: set KUBECONFIG, or write ~/.kube/config, or run inside a pod")]
    Missing,
    /// The client cannot be made of what the configuration says.
    #[error("client for {server}: {why}")]
    Client {
        /// Which server.
        server: String,
        /// What is wrong.
        why: String,
    },
}

impl Config {
    /// A configuration that says where the cluster is and nothing of who we are.
    pub fn new(server: impl Into<String>) -> Self {
        Self {
            server: server.into().trim_end_matches('/').to_owned(),
            authorities_pem: None,
            insecure: false,
            server_name: None,
            identity: None,
            token: None,
            namespace: "default".into(),
            impersonate: None,
            user_agent: concat!("k8s-rs/", env!("CARGO_PKG_VERSION")).into(),
        }
    }

    /// What the environment says: the files of `KUBECONFIG`, else `~/.kube/config`, else the service account of the
    /// pod we run in. The only reader of environment variables in the libraries.
    #[allow(clippy::disallowed_methods)]
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_variables(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
    }

    fn from_variables(read: impl Fn(&str) -> Option<String>) -> Result<Self, ConfigError> {
        if let Some(list) = read("KUBECONFIG") {
            let paths: Vec<PathBuf> = list
                .split(':')
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
                .filter(|path| path.exists())
                .collect();
            if !paths.is_empty() {
                return kubeconfig::load(&paths, None);
            }
        }
        let home = read("HOME").map(|home| Path::new(&home).join(".kube/config")).filter(|path| path.exists());
        if let Some(path) = home {
            return kubeconfig::load(&[path], None);
        }
        match (read("KUBERNETES_SERVICE_HOST"), read("KUBERNETES_SERVICE_PORT")) {
            (Some(host), Some(port)) => Self::in_cluster(&host, &port, Path::new(SERVICE_ACCOUNT)),
            _ => Err(ConfigError::Missing),
        }
    }

    /// Reads one kubeconfig file; `context` chooses among its contexts, the file's current one if `None`.
    pub fn from_kubeconfig(path: &Path, context: Option<&str>) -> Result<Self, ConfigError> {
        kubeconfig::load(&[path.to_owned()], context)
    }

    /// The service account whose files lie in `directory` (a pod has it at
    /// `/var/run/secrets/kubernetes.io/serviceaccount`).
    pub fn in_cluster(host: &str, port: &str, directory: &Path) -> Result<Self, ConfigError> {
        let read = |name: &str| {
            let path = directory.join(name);
            std::fs::read_to_string(&path).map_err(|source| ConfigError::Read { path, source })
        };
        let host = if host.contains(':') { format!("[{host}]") } else { host.to_owned() };
        read("token")?;
        Ok(Self {
            authorities_pem: Some(read("ca.crt")?),
            token: Some(Token::File(directory.join("token"))),
            namespace: read("namespace").map_or_else(|_| "default".into(), |name| name.trim().to_owned()),
            ..Self::new(format!("https://{host}:{port}"))
        })
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(_) => f.write_str("Token(...)"),
            Self::File(path) => write!(f, "Token({})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_finds_its_service_account() {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in [("token", "t"), ("ca.crt", "pem"), ("namespace", "team\n")] {
            std::fs::write(directory.path().join(name), text).unwrap();
        }
        let config = Config::in_cluster("fd00::1", "443", directory.path()).unwrap();
        assert_eq!((config.server.as_str(), config.namespace.as_str()), ("https://[fd00::1]:443", "team"));
        assert!(matches!(config.token, Some(Token::File(_))));
        let error = Config::in_cluster("h", "1", Path::new("/nowhere")).unwrap_err();
        assert!(error.to_string().contains("/nowhere/token"), "{error}");
    }

    #[test]
    fn variables_are_asked_in_order() {
        let directory = tempfile::tempdir().unwrap();
        let write = |name: &str, server: &str| {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            let text = format!(
                "{{current-context: c, contexts: [{{name: c, context: {{cluster: k}}}}], \
                 clusters: [{{name: k, cluster: {{server: \"{server}\"}}}}]}}"
            );
            std::fs::write(&path, text).unwrap();
            path.display().to_string()
        };
        let named = write("named", "https://named");
        write(".kube/config", "https://home");
        let home = directory.path().display().to_string();
        let with = |variables: &[(&str, &str)]| {
            let variables: Vec<(String, String)> =
                variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            Config::from_variables(|name| variables.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone()))
        };
        let both = with(&[("KUBECONFIG", &format!("/missing:{named}")), ("HOME", &home)]).unwrap();
        assert_eq!(both.server, "https://named");
        assert_eq!(with(&[("HOME", &home)]).unwrap().server, "https://home");
        assert!(matches!(with(&[]), Err(ConfigError::Missing)));
    }
}
