//! What a runtime says about images.

use std::collections::BTreeMap;

use k8s_core::env::Timestamp;
use serde::{Deserialize, Serialize};

/// A present image.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct ImageInfo {
    /// Digest of its configuration, `sha256:...`: the image id.
    pub id: String,
    /// Its names in full form, e.g. `docker.io/library/nginx:latest`, ordered.
    pub names: Vec<String>,
    /// Its names by digest of the manifest, e.g. `docker.io/library/nginx@sha256:...`, ordered.
    pub digests: Vec<String>,
    /// Bytes on disk when unpacked, shared layers included.
    pub size_bytes: u64,
    /// `USER` of the image: empty, a name or number, or `user:group`.
    pub user: String,
    /// Its entrypoint.
    pub entrypoint: Vec<String>,
    /// Its default arguments.
    pub cmd: Vec<String>,
    /// Its environment, each `NAME=value`.
    pub env: Vec<String>,
    /// Its working directory; empty means `/`.
    pub working_dir: String,
    /// Its stop signal as written, e.g. `SIGQUIT`; empty means `SIGTERM`.
    pub stop_signal: String,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// When it came to this node.
    pub imported_at: Option<Timestamp>,
    /// It came from a registry, which can bring it again: it may be removed to make room.
    pub pulled: bool,
}

impl ImageInfo {
    /// The numeric user that the image asks for, if it is a number; `Some(0)` when it names none.
    ///
    /// `None` means a user by name: `runAsNonRoot` cannot be verified against it.
    pub fn uid(&self) -> Option<u32> {
        match self.user.split(':').next().unwrap_or_default() {
            "" => Some(0),
            user => user.parse().ok(),
        }
    }
}

/// What to fetch.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImagePull {
    /// The reference as the user wrote it.
    pub reference: String,
    /// User name and password for the registry, tried in order.
    pub credentials: Vec<(String, String)>,
}
