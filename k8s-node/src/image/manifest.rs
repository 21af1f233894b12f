//! The documents that describe images: OCI index, manifest and configuration, and the docker archive's list.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// OCI image index, also docker's manifest list.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Index {
    /// Always 2.
    pub schema_version: u32,
    /// Its own type.
    pub media_type: String,
    /// Images, or further indexes.
    pub manifests: Vec<Descriptor>,
}

/// Refers to a blob by its digest.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// `sha256:...` of the blob.
    pub digest: String,
    /// Its length in bytes.
    pub size: u64,
    /// The machine an image is for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Names, among others.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// A kind of machine.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Platform {
    /// Go's name of the architecture, e.g. `amd64`.
    pub architecture: String,
    /// Go's name of the operating system.
    pub os: String,
}

/// OCI image manifest, also docker's.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Manifest {
    /// Always 2.
    pub schema_version: u32,
    /// Its own type.
    pub media_type: String,
    /// The configuration.
    pub config: Descriptor,
    /// Bottom first.
    pub layers: Vec<Descriptor>,
}

/// Image configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageConfig {
    /// Go's name of the architecture.
    pub architecture: String,
    /// Go's name of the operating system.
    pub os: String,
    /// How to run it.
    pub config: RunConfig,
    /// Its layers.
    pub rootfs: RootFs,
}

/// How an image wants to be run. Absent and `null` lists are empty.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RunConfig {
    /// `USER`.
    pub user: Option<String>,
    /// `ENV`.
    pub env: Option<Vec<String>>,
    /// `ENTRYPOINT`.
    pub entrypoint: Option<Vec<String>>,
    /// `CMD`.
    pub cmd: Option<Vec<String>>,
    /// `WORKDIR`.
    pub working_dir: Option<String>,
    /// `STOPSIGNAL`.
    pub stop_signal: Option<String>,
    /// `LABEL`.
    pub labels: Option<BTreeMap<String, String>>,
}

/// The layers of an image by the digests of their unpacked tars.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Bottom first.
    pub diff_ids: Vec<String>,
}

/// One image of a docker archive's `manifest.json`.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ArchiveImage {
    /// Path of the configuration in the archive.
    pub config: String,
    /// Names.
    pub repo_tags: Option<Vec<String>>,
    /// Paths of the layers in the archive, bottom first.
    pub layers: Vec<String>,
}

/// Names by which descriptors in an OCI layout's index carry their image's name.
pub const NAME_ANNOTATIONS: [&str; 2] = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];

/// Whether a media type is an index of images.
pub fn is_index(media_type: &str) -> bool {
    media_type == "application/vnd.oci.image.index.v1+json"
        || media_type == "application/vnd.docker.distribution.manifest.list.v2+json"
}

/// Go's name of the architecture this program was built for.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
