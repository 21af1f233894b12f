//! TLS for both ends: version 1.2 and up, HTTP/2 and HTTP/1.1 by negotiation, client certificates if presented.

use std::{fmt, sync::Arc, time::Duration};

use k8s_core::env::Env;
pub use rustls::ServerConfig;
use rustls::{
    ClientConfig, RootCertStore, SupportedProtocolVersion,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    time_provider::TimeProvider,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};

use crate::pki::{Identity, PkiError};

/// The protocols that the API is served over. Upgrades (exec, attach, port-forward) exist in HTTP/1.1 only.
pub const API_PROTOCOLS: &[&[u8]] = &[b"h2", b"http/1.1"];
/// HTTP/1.1 alone: what connections that are to be upgraded negotiate.
pub const UPGRADE_PROTOCOLS: &[&[u8]] = &[b"http/1.1"];

/// The versions of TLS that are spoken, newest first.
static VERSIONS: [&SupportedProtocolVersion; 2] = [&rustls::version::TLS13, &rustls::version::TLS12];

/// What a client believes of servers.
#[derive(Clone, Copy)]
pub enum ServerTrust<'a> {
    /// Certificates that one of these authorities issued, DER.
    Authorities(&'a [CertificateDer<'static>]),
    /// Anything: `insecure-skip-tls-verify`. The connection is private but nobody knows with whom.
    Anyone,
}

/// The oldest version of TLS that a server speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsVersion {
    /// TLS 1.2 and up.
    V1_2,
    /// TLS 1.3 alone.
    V1_3,
}

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A key or certificate cannot be read.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// Key and certificate do not fit, or an authority is no authority.
    #[error("{doing}: {why}")]
    Config {
        /// What was being done.
        doing: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// The server's side. With `client_authorities`, clients may present a certificate that one of them issued: a
/// certificate of anyone else ends the handshake, none at all leaves the client without a certificate.
pub fn server(
    env: &Env,
    identity: &Identity,
    client_authorities: Option<&[CertificateDer<'static>]>,
) -> Result<Arc<ServerConfig>, TlsError> {
    server_from(env, identity, client_authorities, TlsVersion::V1_2)
}

/// The server's side, as [`server`], speaking nothing older than `oldest`.
pub fn server_from(
    env: &Env,
    identity: &Identity,
    client_authorities: Option<&[CertificateDer<'static>]>,
    oldest: TlsVersion,
) -> Result<Arc<ServerConfig>, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_details(provider.clone(), Arc::new(Clock(env.clone())))
        .with_protocol_versions(match oldest {
            TlsVersion::V1_2 => &VERSIONS,
            TlsVersion::V1_3 => &VERSIONS[..1],
        })
        .map_err(|why| config("TLS versions", why))?;
    let builder = match client_authorities {
        Some(authorities) => {
            let roots = Arc::new(roots(authorities)?);
            let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider)
                .allow_unauthenticated()
                .build()
                .map_err(|why| config("client authorities", why))?;
            builder.with_client_cert_verifier(verifier)
        }
        None => builder.with_no_client_auth(),
    };
    let mut made = builder
        .with_single_cert(identity.certificates()?, identity.key()?)
        .map_err(|why| config("server certificate and key", why))?;
    made.alpn_protocols = API_PROTOCOLS.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(Arc::new(made))
}

/// The client's side, with a certificate of its own or none, offering `protocols`.
pub fn client(
    env: &Env,
    trust: ServerTrust<'_>,
    identity: Option<&Identity>,
    protocols: &[&[u8]],
) -> Result<ClientConfig, TlsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider.clone(), Arc::new(Clock(env.clone())))
        .with_safe_default_protocol_versions()
        .map_err(|why| config("TLS versions", why))?;
    let builder = match trust {
        ServerTrust::Authorities(authorities) => builder.with_root_certificates(roots(authorities)?),
        ServerTrust::Anyone => {
            builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyServer(provider.clone())))
        }
    };
    let mut made = match identity {
        Some(identity) => builder
            .with_client_auth_cert(identity.certificates()?, identity.key()?)
            .map_err(|why| config("client certificate and key", why))?,
        None => builder.with_no_client_auth(),
    };
    made.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(made)
}

/// Verifies the certificates of clients apart from a handshake: where several authorities are believed for different
/// things.
pub struct ClientTrust {
    env: Env,
    verifier: Arc<dyn ClientCertVerifier>,
}

impl ClientTrust {
    /// Believes certificates that one of `authorities` issued to clients.
    pub fn new(env: Env, authorities: &[CertificateDer<'static>]) -> Result<Self, TlsError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots(authorities)?), provider)
            .build()
            .map_err(|why| config("client authorities", why))?;
        Ok(Self { env, verifier })
    }

    /// Verifies a chain, leaf first, DER, as of now. The error says what is wrong with it.
    pub fn verify(&self, chain: &[Vec<u8>]) -> Result<(), TlsError> {
        let chain: Vec<CertificateDer<'_>> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let Some((leaf, others)) = chain.split_first() else { return Err(config("client certificate", "none")) };
        let now = Clock(self.env.clone()).current_time().unwrap_or(UnixTime::since_unix_epoch(Duration::ZERO));
        let verified = self.verifier.verify_client_cert(leaf, others, now);
        verified.map(drop).map_err(|why| config("client certificate", why))
    }
}

fn roots(authorities: &[CertificateDer<'static>]) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(|why| config("authority certificate", why))?;
    }
    Ok(roots)
}

fn config(doing: &'static str, why: impl fmt::Display) -> TlsError {
    TlsError::Config { doing, why: why.to_string() }
}

/// The environment's wall clock, for the validity of certificates.
struct Clock(Env);

impl TimeProvider for Clock {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// Accepts any server; signatures are still checked, so that the key exchange is sound.
#[derive(Debug)]
struct AnyServer(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyServer {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &rustls::DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<rustls::SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
