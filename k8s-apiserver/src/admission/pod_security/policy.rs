//! Levels and versions of the Pod Security Standards, and what the labels of a namespace say about them.

use k8s_core::{doc::Doc, status::FieldError};

/// How much pods may do; a greater level is stricter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// Everything.
    Privileged,
    /// What has no known way out.
    Baseline,
    /// What current practice recommends.
    Restricted,
}

impl Level {
    /// Reads a label's value.
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "privileged" => Self::Privileged,
            "baseline" => Self::Baseline,
            "restricted" => Self::Restricted,
            _ => return None,
        })
    }

    /// As labels have it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Privileged => "privileged",
            Self::Baseline => "baseline",
            Self::Restricted => "restricted",
        }
    }
}

/// The version of the standards: of a minor version of Kubernetes, or the latest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Version(Option<u32>);

impl Version {
    /// The latest.
    pub const LATEST: Self = Self(None);

    /// Reads `latest` or `v1.N`.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "latest" => Some(Self::LATEST),
            _ => text.strip_prefix("v1.").and_then(|minor| minor.parse().ok()).map(|minor| Self(Some(minor))),
        }
    }

    /// Whether it has what came with a minor version.
    pub fn has(self, since: u32) -> bool {
        self.0.is_none_or(|minor| minor >= since)
    }
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            None => f.write_str("latest"),
            Some(minor) => write!(f, "v1.{minor}"),
        }
    }
}

/// A level of a version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standard {
    /// The level.
    pub level: Level,
    /// Its version.
    pub version: Version,
}

impl Default for Standard {
    fn default() -> Self {
        Self { level: Level::Privileged, version: Version::LATEST }
    }
}

impl std::fmt::Display for Standard {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}", self.level.as_str(), self.version)
    }
}

/// What labels of a namespace begin with.
pub const PREFIX: &str = "pod-security.kubernetes.io/";

/// What a namespace asks for in one mode (`enforce`, `warn`, `audit`). A value that cannot be read asks for the most.
pub fn asked(labels: &impl Fn(&str) -> Option<String>, mode: &str, default: Standard) -> Standard {
    let level = labels(&format!("{PREFIX}{mode}"));
    let version = labels(&format!("{PREFIX}{mode}-version"));
    Standard {
        level: level.map_or(default.level, |text| Level::parse(&text).unwrap_or(Level::Restricted)),
        version: version.map_or(default.version, |text| Version::parse(&text).unwrap_or(Version::LATEST)),
    }
}

/// What is wrong with the labels of a namespace.
pub fn check_labels(namespace: &Doc) -> Vec<FieldError> {
    let mut errors = Vec::new();
    for mode in ["enforce", "audit", "warn"] {
        let of = |key: &str| namespace.at(&["metadata", "labels", key]).and_then(Doc::as_str);
        let key = format!("{PREFIX}{mode}");
        if let Some(text) = of(&key).filter(|text| Level::parse(text).is_none()) {
            let detail = "must be one of privileged, baseline, restricted";
            errors.push(FieldError::invalid(format!("metadata.labels[{key}]"), text, detail));
        }
        let key = format!("{PREFIX}{mode}-version");
        if let Some(text) = of(&key).filter(|text| Version::parse(text).is_none()) {
            let detail = "must be \"latest\" or \"v1.x\"";
            errors.push(FieldError::invalid(format!("metadata.labels[{key}]"), text, detail));
        }
    }
    errors
}
