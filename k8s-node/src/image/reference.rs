//! Names of images, in the full form that everything else compares.

use std::{fmt, str::FromStr};

/// `registry/repository[:tag][@digest]`, with the defaults filled in: `nginx` is `docker.io/library/nginx:latest`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Host and optional port of the registry.
    pub registry: String,
    /// Path within the registry.
    pub repository: String,
    /// `latest` unless a tag or a digest was given.
    pub tag: Option<String>,
    /// `sha256:` and 64 hexadecimal digits. It wins over the tag.
    pub digest: Option<String>,
}

/// The text is no image reference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("couldn't parse image name {text:?}: {problem}")]
pub struct InvalidReference {
    /// The text as given.
    pub text: String,
    /// What is wrong with it.
    pub problem: &'static str,
}

impl FromStr for Reference {
    type Err = InvalidReference;

    fn from_str(text: &str) -> Result<Self, InvalidReference> {
        parse(text).map_err(|problem| InvalidReference { text: text.to_owned(), problem })
    }
}

fn parse(text: &str) -> Result<Reference, &'static str> {
    let (name, digest) = match text.split_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (text, None),
    };
    if digest.is_some_and(|digest| !is_digest(digest)) {
        return Err("the digest is not sha256: and 64 hexadecimal digits");
    }
    let (path, tag) = split_tag(name);
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err("the tag may have up to 128 letters, digits, `_`, `.` and `-`, not beginning with `.` or `-`");
    }
    let (registry, repository) = split_registry(path);
    if !registry.bytes().all(|letter| letter.is_ascii_alphanumeric() || b".-:[]".contains(&letter)) {
        return Err("the registry must be a host name or address with or without a port");
    }
    if repository.is_empty() || !repository.split('/').all(is_component) {
        return Err("the repository must be lower case components separated by `/`");
    }
    let repository = match registry {
        "docker.io" if !repository.contains('/') => format!("library/{repository}"),
        _ => repository.to_owned(),
    };
    let tag = tag.or(if digest.is_none() { Some("latest") } else { None });
    Ok(Reference {
        registry: registry.to_owned(),
        repository,
        tag: tag.map(str::to_owned),
        digest: digest.map(str::to_owned),
    })
}

/// A colon after the last slash begins a tag; one before it belongs to the registry's port.
fn split_tag(name: &str) -> (&str, Option<&str>) {
    match name.rsplit_once(':') {
        Some((path, tag)) if !tag.contains('/') => (path, Some(tag)),
        _ => (name, None),
    }
}

/// The first component is a registry if it could be a host: it has a dot or a port, or is `localhost`.
fn split_registry(path: &str) -> (&str, &str) {
    match path.split_once('/') {
        Some(("index.docker.io", rest)) => ("docker.io", rest),
        Some((host, rest)) if host.contains(['.', ':']) || host == "localhost" => (host, rest),
        _ => ("docker.io", path),
    }
}

fn is_component(component: &str) -> bool {
    let inner = |letter: u8| letter.is_ascii_lowercase() || letter.is_ascii_digit() || b"._-".contains(&letter);
    let edge = |letter: Option<&u8>| letter.is_some_and(|l| l.is_ascii_lowercase() || l.is_ascii_digit());
    let bytes = component.as_bytes();
    bytes.iter().copied().all(inner) && edge(bytes.first()) && edge(bytes.last())
}

fn is_tag(tag: &str) -> bool {
    (1..=128).contains(&tag.len())
        && !tag.starts_with(['.', '-'])
        && tag.bytes().all(|letter| letter.is_ascii_alphanumeric() || b"_.-".contains(&letter))
}

/// Whether `text` is `sha256:` and 64 hexadecimal digits.
pub fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(is_hex_sha256)
}

/// Whether `text` is 64 lower case hexadecimal digits.
pub fn is_hex_sha256(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|letter| letter.is_ascii_digit() || (b'a'..=b'f').contains(&letter))
}

impl Reference {
    /// `registry/repository`.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        match (&self.digest, &self.tag) {
            (Some(digest), _) => write!(f, "@{digest}"),
            (None, Some(tag)) => write!(f, ":{tag}"),
            (None, None) => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_get_their_defaults() {
        let digest = format!("sha256:{}", "0a".repeat(32));
        let cases = [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".to_owned()),
            ("team/app", "docker.io/team/app:latest".to_owned()),
            ("docker.io/nginx", "docker.io/library/nginx:latest".to_owned()),
            ("index.docker.io/a/b:c", "docker.io/a/b:c".to_owned()),
            ("localhost/app", "localhost/app:latest".to_owned()),
            ("registry:5000/app:v1", "registry:5000/app:v1".to_owned()),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10".to_owned()),
            (&format!("nginx:1.27@{digest}"), format!("docker.io/library/nginx@{digest}")),
        ];
        for (text, full) in cases {
            assert_eq!(text.parse::<Reference>().map(|r| r.to_string()), Ok(full), "{text}");
        }
    }

    #[test]
    fn nonsense_is_refused_with_its_reason() {
        for text in
            ["", "Nginx", "a//b", "nginx:", "nginx:-x", "nginx@sha256:1", "a/../b", "/x", "x y", "a.b?c/d", "u:p#x/d"]
        {
            let error = text.parse::<Reference>().unwrap_err().to_string();
            assert!(error.starts_with("couldn't parse image name "), "{text}: {error}");
        }
    }
}
