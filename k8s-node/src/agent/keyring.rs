//! The credentials that a pod brings for registries: which of them fit an image.
//!
//! Pure. The secrets are of the types `kubernetes.io/dockerconfigjson` and `kubernetes.io/dockercfg`; how their entries
//! match is upstream's rule.

use std::collections::BTreeMap;

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::api::api::core::v1::Secret;
use serde::Deserialize;

use crate::image::Reference;

/// Who may stand for all of docker.io, whatever its address.
const DEFAULT_REGISTRY: &str = "index.docker.io";

/// Credentials by the registries and repositories that they are for.
#[derive(Default)]
pub(crate) struct Keyring {
    /// Host (with port, perhaps with `*`) and path, and who one is there.
    entries: Vec<(String, (String, String))>,
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
}

#[derive(Deserialize)]
#[serde(default)]
#[derive(Default)]
struct Entry {
    username: String,
    password: String,
    auth: String,
}

impl Keyring {
    /// Adds what a secret holds. The error says why it holds nothing of use.
    pub fn add(&mut self, secret: &Secret) -> Result<(), String> {
        let data = |key: &str| secret.data.as_ref()?.get(key).map(|content| content.0.as_slice());
        let (key, content) = match secret.type_.as_deref() {
            Some("kubernetes.io/dockerconfigjson") => (".dockerconfigjson", data(".dockerconfigjson")),
            Some("kubernetes.io/dockercfg") => (".dockercfg", data(".dockercfg")),
            other => return Err(format!("is of type {:?}, which holds no registry credentials", other.unwrap_or(""))),
        };
        let content = content.ok_or_else(|| format!("has no {key}"))?;
        // What is wrong is told without a word of the content.
        let invalid = |error: serde_json::Error| format!("{key}: no valid JSON of its type in line {}", error.line());
        let entries = match key {
            ".dockerconfigjson" => serde_json::from_slice::<DockerConfig>(content).map_err(invalid)?.auths,
            _ => serde_json::from_slice(content).map_err(invalid)?,
        };
        for (place, entry) in entries {
            let identity = identity(entry).ok_or_else(|| format!("{key}: {place:?} has no valid auth"))?;
            self.entries.push((registry(&place), identity));
        }
        Ok(())
    }

    /// User and password for an image, the most specific entries first. Empty: none fits.
    pub fn find(&self, image: &Reference) -> Vec<(String, String)> {
        let mut fitting: Vec<_> = self.entries.iter().filter(|(pattern, _)| fits(pattern, image)).collect();
        fitting.sort_by(|(one, _), (other, _)| other.cmp(one));
        let mut found = Vec::new();
        for (_, identity) in fitting {
            if !found.contains(identity) {
                found.push(identity.clone());
            }
        }
        found
    }
}

/// `auth` is `user:password` in base64; the two may also stand by themselves.
fn identity(entry: Entry) -> Option<(String, String)> {
    if entry.auth.is_empty() {
        return Some((entry.username, entry.password));
    }
    let text = String::from_utf8(STANDARD.decode(entry.auth.trim()).ok()?).ok()?;
    let (user, password) = text.split_once(':')?;
    Some((user.to_owned(), password.trim_end_matches('\0').to_owned()))
}

/// Host and path of a place, without the scheme and the API's version that older tools wrote.
fn registry(place: &str) -> String {
    let place = place.strip_prefix("https://").or(place.strip_prefix("http://")).unwrap_or(place);
    let (host, path) = place.split_once('/').unwrap_or((place, ""));
    let path = match path.split_once('/') {
        Some(("v1" | "v2", rest)) => rest,
        _ if path == "v1" || path == "v2" => "",
        _ => path,
    };
    let path = path.trim_end_matches('/');
    if path.is_empty() { host.to_owned() } else { format!("{host}/{path}") }
}

/// Whether an entry is for an image: equal ports, each part of the host equal or matched by `*`, and a path that leads
/// to the repository.
fn fits(pattern: &str, image: &Reference) -> bool {
    let (host, path) = pattern.split_once('/').unwrap_or((pattern, ""));
    if image.registry == "docker.io" && host == DEFAULT_REGISTRY && path.is_empty() {
        return true;
    }
    let leads = image
        .repository
        .strip_prefix(path)
        .is_some_and(|rest| path.is_empty() || rest.is_empty() || rest.starts_with('/'));
    leads && host_fits(host, &image.registry)
}

fn host_fits(pattern: &str, host: &str) -> bool {
    let split = |text: &str| match text.rsplit_once(':') {
        Some((host, port)) => (host.to_owned(), port.to_owned()),
        None => (text.to_owned(), String::new()),
    };
    let ((pattern, port), (host, its_port)) = (split(pattern), split(host));
    let (wanted, parts): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), host.split('.').collect());
    port == its_port && wanted.len() == parts.len() && wanted.iter().zip(parts).all(|(glob, part)| matches(glob, part))
}

/// Whether `text` is matched by `glob`, in which `*` stands for any characters.
fn matches(glob: &str, text: &str) -> bool {
    let Some((start, rest)) = glob.split_once('*') else { return glob == text };
    let Some(text) = text.strip_prefix(start) else { return false };
    (0..=text.len()).any(|skip| text.is_char_boundary(skip) && matches(rest, &text[skip..]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn keyring(auths: serde_json::Value) -> Keyring {
        let content = STANDARD.encode(json!({ "auths": auths }).to_string());
        let secret = json!({"type": "kubernetes.io/dockerconfigjson", "data": {".dockerconfigjson": content}});
        let mut keyring = Keyring::default();
        keyring.add(&serde_json::from_value(secret).unwrap()).unwrap();
        keyring
    }

    fn users(keyring: &Keyring, image: &str) -> String {
        let found = keyring.find(&image.parse().unwrap());
        found.into_iter().map(|(user, _)| user).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn entries_match_hosts_ports_and_paths() {
        let user = |name: &str| json!({"username": name, "password": "p"});
        let keyring = keyring(json!({
            "https://index.docker.io/v1/": user("hub"), "*.example.com": user("glob"), "r.example.com": user("host"),
            "r.example.com/team": user("team"), "http://lan:5000/v2/": user("lan"), "a*.org": user("a")}));
        let cases = [
            ("nginx", "hub"),
            ("docker.io/me/app", "hub"),
            ("q.example.com/x", "glob"),
            ("r.example.com/x", "host glob"),
            ("r.example.com/team/x", "team host glob"),
            ("r.example.com/team", "team host glob"),
            ("r.example.com/teams/x", "host glob"),
            ("r.example.com:5000/x", ""),
            ("q.r.example.com/x", ""),
            ("example.com/x", ""),
            ("lan:5000/x", "lan"),
            ("lan:5001/x", ""),
            ("abc.org/x", "a"),
            ("bc.org/x", ""),
        ];
        for (image, wanted) in cases {
            assert_eq!(users(&keyring, image), wanted, "{image}");
        }
    }

    #[test]
    fn both_forms_of_secrets_are_read_and_others_refused() {
        let add = |kind: &str, key: &str, content: String| {
            let mut keyring = Keyring::default();
            let secret = json!({"type": kind, "data": {key: STANDARD.encode(content)}});
            let added = keyring.add(&serde_json::from_value(secret).unwrap());
            added.map(|()| keyring.find(&"r.example.com/x".parse().unwrap()))
        };
        let auth = json!({"r.example.com": {"auth": STANDARD.encode("u:p:q")}});
        let found = Ok(vec![("u".to_owned(), "p:q".to_owned())]);
        assert_eq!(add("kubernetes.io/dockercfg", ".dockercfg", auth.to_string()), found);
        let json = "kubernetes.io/dockerconfigjson";
        assert_eq!(add(json, ".dockerconfigjson", json!({ "auths": auth }).to_string()), found);
        assert_eq!(add(json, ".dockerconfigjson", "{}".into()), Ok(vec![]));
        assert!(
            add(json, ".dockerconfigjson", r#"{"auths": "geheim"#.into()).is_err_and(|why| !why.contains("geheim"))
        );
        assert!(add(json, "other", "{}".into()).is_err());
        assert!(add("Opaque", ".dockerconfigjson", "{}".into()).is_err());
        let broken = json!({"auths": {"r.example.com": {"auth": "!"}}});
        assert!(add(json, ".dockerconfigjson", broken.to_string()).is_err());
    }
}
