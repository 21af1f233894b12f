//! The header form of a [`Fence`]: `namespace/name@revision`.

use std::{fmt, str::FromStr};

use crate::{request::Fence, status::ApiError};

/// The header that carries the fence of a write. An API server that does not know it ignores it.
pub const FENCE_HEADER: &str = "k8s-fence";

impl fmt::Display for Fence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}@{}", self.namespace, self.name, self.revision)
    }
}

impl FromStr for Fence {
    type Err = ApiError;

    fn from_str(text: &str) -> Result<Self, ApiError> {
        let malformed = || {
            let shown: String = text.chars().take(100).collect();
            ApiError::bad_request(format!("header {FENCE_HEADER}: {shown:?} is not namespace/name@revision"))
        };
        let (lease, revision) = text.split_once('@').ok_or_else(malformed)?;
        let (namespace, name) = lease.split_once('/').ok_or_else(malformed)?;
        let plain = |part: &str| {
            !part.is_empty()
                && part.len() <= 253
                && part != "."
                && part != ".."
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'.')
        };
        if !plain(namespace) || !plain(name) {
            return Err(malformed());
        }
        let revision = revision.parse().map_err(|_| malformed())?;
        Ok(Self { namespace: namespace.into(), name: name.into(), revision })
    }
}
