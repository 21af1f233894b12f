//! Documents over HTTPS: one small file by its URL.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, Uri, header};
use k8s_core::{
    env::{self, Env},
    status::{ApiError, ApiResult},
};
use rustls_pki_types::CertificateDer;

use super::dial::Dialer;
use crate::{
    body,
    http1::{self, Answer},
    tls::{ServerTrust, TlsError},
};

/// The most that a document may have.
pub const MAX_DOCUMENT_BYTES: usize = 4 * 1024 * 1024;
/// How long getting one may take.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Gets documents from servers that one of a few authorities vouches for. No redirect is followed.
pub struct Documents {
    env: Env,
    dialer: Dialer,
}

impl Documents {
    /// Believes servers whose certificate one of `authorities` issued.
    pub fn new(env: Env, authorities: &[CertificateDer<'static>]) -> Result<Self, TlsError> {
        let dialer = Dialer::new(env.clone(), ServerTrust::Authorities(authorities), None)?;
        Ok(Self { env, dialer })
    }

    /// Gets the document at `url` (`https://host[:port]/path`), presenting a bearer token if one is given. 503 says what
    /// went wrong.
    pub async fn get(&self, url: &str, bearer: Option<&str>) -> ApiResult<Bytes> {
        let failed = |why: &dyn std::fmt::Display| ApiError::unavailable(format!("Get {url:?}: {why}"));
        let uri: Uri = url.parse().map_err(|why| failed(&why))?;
        let Some(host) = uri.host().filter(|_| uri.scheme_str() == Some("https")) else {
            return Err(failed(&"it is no https URL with a host"));
        };
        let getting = async {
            let bare = host.trim_matches(['[', ']']);
            let stream = self.dialer.dial(bare, uri.port_u16().unwrap_or(443), bare).await?;
            let path = uri.path_and_query().map_or("/", |path| path.as_str());
            let mut request = Request::get(path);
            if let Some(bearer) = bearer {
                request = request.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
            }
            let request = request
                .header(header::HOST, uri.authority().map_or(host, |authority| authority.as_str()))
                .header(header::ACCEPT, "application/json")
                .body(body::empty())
                .map_err(|why| failed(&why))?;
            match http1::exchange(&self.env, stream, request).await.map_err(|why| failed(&why))? {
                Answer::Response(response) if response.status().is_success() => {
                    body::read(response.into_body(), MAX_DOCUMENT_BYTES).await.map_err(|why| failed(&why))
                }
                Answer::Response(response) => Err(failed(&response.status())),
                Answer::Upgraded { .. } => Err(failed(&"it changed the protocol")),
            }
        };
        env::timeout(&*self.env, TIMEOUT, getting).await.unwrap_or_else(|| Err(failed(&"it took too long")))
    }
}
