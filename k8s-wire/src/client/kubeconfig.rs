//! The kubeconfig file: upstream's `client-go` v1 configuration, merged over several files.

use std::path::{Path, PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::request::Caller;
use serde::Deserialize;

use super::config::{Config, ConfigError, Token};
use crate::pki::Identity;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct File {
    #[serde(default)]
    current_context: Option<String>,
    #[serde(default)]
    clusters: Option<Vec<NamedCluster>>,
    #[serde(default)]
    contexts: Option<Vec<NamedContext>>,
    #[serde(default)]
    users: Option<Vec<NamedUser>>,
}

#[derive(Deserialize)]
struct NamedCluster {
    name: String,
    #[serde(default)]
    cluster: Option<Cluster>,
}

#[derive(Deserialize)]
struct NamedContext {
    name: String,
    #[serde(default)]
    context: Option<Context>,
}

#[derive(Deserialize)]
struct NamedUser {
    name: String,
    #[serde(default)]
    user: Option<User>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct Cluster {
    server: String,
    certificate_authority: Option<PathBuf>,
    certificate_authority_data: Option<String>,
    insecure_skip_tls_verify: bool,
    tls_server_name: Option<String>,
    proxy_url: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Context {
    cluster: String,
    user: Option<String>,
    namespace: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "kebab-case", default)]
struct User {
    client_certificate: Option<PathBuf>,
    client_certificate_data: Option<String>,
    client_key: Option<PathBuf>,
    client_key_data: Option<String>,
    token: Option<String>,
    #[serde(rename = "tokenFile")]
    token_file: Option<PathBuf>,
    username: Option<String>,
    #[serde(rename = "as")]
    act_as: Option<String>,
    as_uid: Option<String>,
    as_groups: Option<Vec<String>>,
    exec: Option<Exec>,
    auth_provider: Option<AuthProvider>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Exec {
    command: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AuthProvider {
    name: String,
}

/// An entry and the file that it came from: its relative paths start there.
struct Found<'a, T> {
    entry: &'a T,
    path: &'a Path,
}

/// Reads files and resolves one context. Of several entries of one name the first counts.
pub(super) fn load(paths: &[PathBuf], context: Option<&str>) -> Result<Config, ConfigError> {
    let files = paths.iter().map(|path| Ok((read(path)?, path.as_path()))).collect::<Result<Vec<_>, ConfigError>>()?;
    let wrong = |path: &Path, why: String| ConfigError::Invalid { path: path.into(), why };
    let first = paths.first().map_or(Path::new(""), PathBuf::as_path);
    let current = files.iter().filter_map(|(file, _)| file.current_context.as_deref()).find(|name| !name.is_empty());
    let name = context
        .or(current)
        .ok_or_else(|| wrong(first, "current-context is not set; set it, or name a context".into()))?;
    let context = find(&files, |file| file.contexts.as_deref(), |entry| entry.name == name)
        .ok_or_else(|| wrong(first, format!("context {name:?} does not exist")))?;
    let context_path = context.path;
    let context = context.entry.context.as_ref();
    let context = context.ok_or_else(|| wrong(context_path, format!("context {name:?} is empty")))?;
    let cluster = find(&files, |file| file.clusters.as_deref(), |entry| entry.name == context.cluster)
        .ok_or_else(|| wrong(context_path, format!("cluster {:?} does not exist", context.cluster)))?;
    let mut config = cluster_config(&cluster)?;
    if let Some(user) = context.user.as_deref().filter(|user| !user.is_empty()) {
        let user = find(&files, |file| file.users.as_deref(), |entry| entry.name == user)
            .ok_or_else(|| wrong(context_path, format!("user {user:?} does not exist")))?;
        add_user(&mut config, &user)?;
    }
    if let Some(namespace) = context.namespace.as_ref().filter(|namespace| !namespace.is_empty()) {
        config.namespace.clone_from(namespace);
    }
    Ok(config)
}

fn find<'a, T>(
    files: &'a [(File, &'a Path)],
    list: impl Fn(&'a File) -> Option<&'a [T]>,
    matches: impl Fn(&T) -> bool,
) -> Option<Found<'a, T>> {
    files.iter().find_map(|(file, path)| {
        let entry = list(file)?.iter().find(|entry| matches(entry))?;
        Some(Found { entry, path })
    })
}

fn read(path: &Path) -> Result<File, ConfigError> {
    let text = std::fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.into(), source })?;
    serde_saphyr::from_str(&text).map_err(|why| ConfigError::Invalid { path: path.into(), why: why.to_string() })
}

fn cluster_config(found: &Found<'_, NamedCluster>) -> Result<Config, ConfigError> {
    let empty = Cluster::default();
    let cluster = found.entry.cluster.as_ref().unwrap_or(&empty);
    let wrong = |why: &str| ConfigError::Invalid {
        path: found.path.into(),
        why: format!("cluster {:?}: {why}", found.entry.name),
    };
    if cluster.server.is_empty() {
        return Err(wrong("server is not set"));
    }
    if cluster.proxy_url.as_ref().is_some_and(|url| !url.is_empty()) {
        return Err(wrong("proxy-url is not supported"));
    }
    let authorities = pem(
        found.path,
        "certificate-authority",
        cluster.certificate_authority_data.as_deref(),
        cluster.certificate_authority.as_deref(),
    )?;
    Ok(Config {
        authorities_pem: authorities,
        insecure: cluster.insecure_skip_tls_verify,
        server_name: cluster.tls_server_name.clone().filter(|name| !name.is_empty()),
        ..Config::new(&cluster.server)
    })
}

fn add_user(config: &mut Config, found: &Found<'_, NamedUser>) -> Result<(), ConfigError> {
    let Some(user) = &found.entry.user else { return Ok(()) };
    let name = &found.entry.name;
    let wrong = |why: String| ConfigError::Invalid { path: found.path.into(), why: format!("user {name:?}: {why}") };
    if let Some(exec) = &user.exec {
        let why = "credential plugins (exec) are not supported; use a certificate, a token or a tokenFile";
        return Err(wrong(format!("{:?}: {why}", exec.command)));
    }
    if let Some(provider) = &user.auth_provider {
        return Err(wrong(format!("auth-provider {:?} is not supported", provider.name)));
    }
    if user.username.as_ref().is_some_and(|username| !username.is_empty()) {
        return Err(wrong("username and password are not supported".into()));
    }
    let certificate = pem(
        found.path,
        "client-certificate",
        user.client_certificate_data.as_deref(),
        user.client_certificate.as_deref(),
    )?;
    let key = pem(found.path, "client-key", user.client_key_data.as_deref(), user.client_key.as_deref())?;
    config.identity = match (certificate, key) {
        (Some(certificate_pem), Some(key_pem)) => Some(Identity { certificate_pem, key_pem }),
        (None, None) => None,
        (Some(_), None) => return Err(wrong("client-certificate without client-key".into())),
        (None, Some(_)) => return Err(wrong("client-key without client-certificate".into())),
    };
    if let Some(path) = user.token_file.as_ref().map(|path| beside(found.path, path)) {
        std::fs::metadata(&path).map_err(|why| wrong(format!("tokenFile: {}: {why}", path.display())))?;
    }
    let file = user.token_file.as_ref().map(|path| Token::File(beside(found.path, path)));
    config.token = file.or_else(|| user.token.clone().filter(|token| !token.is_empty()).map(Token::Text));
    config.impersonate = user.act_as.as_ref().filter(|name| !name.is_empty()).map(|name| Caller {
        name: name.as_str().into(),
        uid: user.as_uid.as_deref().unwrap_or("").into(),
        groups: user.as_groups.iter().flatten().map(|group| group.as_str().into()).collect(),
        ..Caller::default()
    });
    Ok(())
}

/// PEM from the `-data` field (base64), else from the file; data wins, as upstream.
fn pem(kubeconfig: &Path, field: &str, data: Option<&str>, path: Option<&Path>) -> Result<Option<String>, ConfigError> {
    let wrong = |why: String| ConfigError::Invalid { path: kubeconfig.into(), why: format!("{field}-data: {why}") };
    if let Some(data) = data.filter(|data| !data.is_empty()) {
        let joined: String = data.split_whitespace().collect();
        let bytes = STANDARD.decode(joined).map_err(|why| wrong(why.to_string()))?;
        return String::from_utf8(bytes).map(Some).map_err(|_| wrong("holds no PEM text".into()));
    }
    let Some(path) = path.filter(|path| !path.as_os_str().is_empty()) else { return Ok(None) };
    let path = beside(kubeconfig, path);
    let unread =
        |why| ConfigError::Invalid { path: kubeconfig.into(), why: format!("{field}: {}: {why}", path.display()) };
    std::fs::read_to_string(&path).map(Some).map_err(unread)
}

/// A path in a kubeconfig is relative to the file.
fn beside(kubeconfig: &Path, path: &Path) -> PathBuf {
    kubeconfig.parent().unwrap_or(Path::new("")).join(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = r#"
apiVersion: v1
kind: Config
preferences: {}
current-context: dev
clusters:
- name: dev
  cluster:
    server: https://10.0.0.1:6443/prefix/
    certificate-authority-data: UEVN
    tls-server-name: kubernetes
- name: files
  cluster: {server: "https://h", certificate-authority: ca.crt, insecure-skip-tls-verify: true}
- name: absent
  cluster: {server: "https://h", certificate-authority: nowhere.crt}
contexts:
- name: dev
  context: {cluster: dev, user: admin, namespace: team}
- name: files
  context: {cluster: files, user: token}
- name: plugin
  context: {cluster: dev, user: plugin}
- name: half
  context: {cluster: dev, user: half}
- name: lost
  context: {cluster: gone}
- name: absent
  context: {cluster: absent}
- name: forgotten
  context: {cluster: dev, user: forgotten}
users:
- name: admin
  user: {client-certificate-data: Q0VSVA==, client-key-data: S0VZ, as: someone, as-groups: [g]}
- name: token
  user: {tokenFile: token, token: ignored}
- name: plugin
  user: {exec: {apiVersion: client.authentication.k8s.io/v1, command: get-token, args: [x]}}
- name: half
  user: {client-certificate-data: Q0VSVA==}
- name: forgotten
  user: {tokenFile: nowhere}
"#;

    fn written() -> (tempfile::TempDir, PathBuf) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("config");
        std::fs::write(&path, SAMPLE).unwrap();
        std::fs::write(directory.path().join("ca.crt"), "CA").unwrap();
        std::fs::write(directory.path().join("token"), "t").unwrap();
        (directory, path)
    }

    #[test]
    fn data_is_decoded_and_the_current_context_counts() {
        let (_kept, path) = written();
        let config = load(&[path], None).unwrap();
        assert_eq!(config.server, "https://10.0.0.1:6443/prefix");
        assert_eq!(config.authorities_pem.as_deref(), Some("PEM"));
        assert_eq!(config.server_name.as_deref(), Some("kubernetes"));
        let identity = config.identity.unwrap();
        assert_eq!((identity.certificate_pem.as_str(), identity.key_pem.as_str()), ("CERT", "KEY"));
        assert_eq!(config.namespace, "team");
        assert_eq!(config.impersonate.unwrap().name, "someone");
    }

    #[test]
    fn files_are_found_beside_the_kubeconfig() {
        let (kept, path) = written();
        let config = load(&[path], Some("files")).unwrap();
        assert!(config.insecure);
        assert_eq!(config.authorities_pem.as_deref(), Some("CA"));
        assert!(matches!(config.token, Some(Token::File(path)) if path == kept.path().join("token")));
    }

    #[test]
    fn what_does_not_work_is_named() {
        let (_kept, path) = written();
        for (context, expected) in [
            ("plugin", "get-token"),
            ("half", "without client-key"),
            ("absent", "certificate-authority: "),
            ("forgotten", "user \"forgotten\": tokenFile: "),
            ("lost", "cluster \"gone\" does not exist"),
            ("nowhere", "context \"nowhere\" does not exist"),
        ] {
            let error = load(std::slice::from_ref(&path), Some(context)).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("config"), "{context}: {error}");
        }
        let error = load(&[PathBuf::from("/nowhere/config")], None).unwrap_err().to_string();
        assert!(error.contains("/nowhere/config"), "{error}");
    }
}
