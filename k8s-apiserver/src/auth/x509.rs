//! Client certificates: the common name is the user, each organization a group.
//!
//! The TLS layer has verified the chain against the client CA before the certificate gets here; this file only
//! reads it. Follows upstream's `x509` request authenticator with its common-name conversion.

use async_trait::async_trait;
use k8s_core::{
    request::Caller,
    status::{ApiError, ApiResult},
};
use k8s_wire::tls::ClientTrust;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::{Authenticator, Credentials};

/// Tells callers by their client certificate.
pub struct ClientCertificates;

/// The same where the TLS layer also lets certificates of other authorities in, those of front proxies: only
/// certificates of the client CA tell who their holders are.
pub struct VerifiedCertificates(pub ClientTrust);

#[async_trait]
impl Authenticator for VerifiedCertificates {
    async fn authenticate(&self, credentials: &Credentials) -> ApiResult<Option<Caller>> {
        if credentials.certificates.is_empty() {
            return Ok(None);
        }
        self.0.verify(&credentials.certificates).map_err(|_| ApiError::unauthorized())?;
        ClientCertificates.authenticate(credentials).await
    }
}

#[async_trait]
impl Authenticator for ClientCertificates {
    async fn authenticate(&self, credentials: &Credentials) -> ApiResult<Option<Caller>> {
        let Some(leaf) = credentials.certificates.first() else { return Ok(None) };
        let (_, certificate) = X509Certificate::from_der(leaf).map_err(|_| ApiError::unauthorized())?;
        let subject = certificate.subject();
        let name = subject.iter_common_name().next().and_then(|name| name.as_str().ok()).unwrap_or("");
        if name.is_empty() {
            return Ok(None);
        }
        let groups: Vec<&str> = subject.iter_organization().filter_map(|name| name.as_str().ok()).collect();
        Ok(Some(Caller::new(name, &groups)))
    }
}
