//! Who may use the node's server.

use std::sync::Arc;

use http::Request;
use k8s_core::status::{ApiError, Reason};
use k8s_wire::{body::Body, serve::Peer};
use x509_parser::prelude::{FromDer, X509Certificate};

/// Who may use the node's server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Callers {
    /// Whoever connects inside this process: the API server, which has authorized what it asks.
    InProcess,
    /// Who presents a client certificate of the cluster's authority for one of these users. The TLS layer has verified
    /// the certificate; everything else about the request was authorized by the API server.
    Users(Vec<String>),
}

impl Callers {
    /// 401 without a certificate, 403 for anybody else's.
    pub(super) fn check(&self, request: &Request<Body>) -> Result<(), ApiError> {
        let Self::Users(users) = self else { return Ok(()) };
        let peer = request.extensions().get::<Arc<Peer>>().cloned().unwrap_or_default();
        let Some(leaf) = peer.certificates.first() else { return Err(ApiError::unauthorized()) };
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| ApiError::unauthorized())?;
        let name = certificate.subject().iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or("");
        if users.iter().any(|user| user == name) {
            return Ok(());
        }
        Err(ApiError::new(403, Reason::Forbidden, format!("Forbidden: user {name:?} may not use the node's server")))
    }
}
