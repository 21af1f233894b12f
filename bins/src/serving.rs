//! The port that a component opens for operators: health over TLS for everyone, metrics for those who may.

use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use http::{Request, Response, StatusCode, header};
use k8s::{
    apiserver::auth::Credentials,
    core::{
        env::{Env, Task},
        metrics::Samples,
        status::{ApiError, ApiResult},
    },
    reconcile::Client,
    reviews::Reviews,
    wire::{
        body::Body,
        health::{self, Health},
        pki::{self, Authority, Identity},
        serve::{CancellationToken, Peer, Server},
        tls::{self, ServerConfig, TlsVersion},
    },
};
use parking_lot::Mutex;
use tokio::net::TcpListener;

use crate::{component::Reach, process_metrics, program::Failure};

/// The flags of a component's own port.
#[derive(Args)]
pub struct ServingArguments {
    /// The address of the port for health and metrics
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    bind_address: IpAddr,
    #[command(flatten)]
    tls: TlsArguments,
    /// The authorities whose client certificates are believed on this port [default: none are]
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// The kubeconfig by which tokens are reviewed [default: that of --kubeconfig]
    #[arg(long, value_name = "FILE")]
    authentication_kubeconfig: Option<PathBuf>,
    /// The kubeconfig by which permissions are reviewed [default: that of --kubeconfig]
    #[arg(long, value_name = "FILE")]
    authorization_kubeconfig: Option<PathBuf>,
}

/// The flags of a TLS server.
#[derive(Args)]
pub struct TlsArguments {
    /// The certificate to serve with, and those above it, in PEM [default: one is made]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// The oldest version of TLS that is spoken
    #[arg(long, default_value = "VersionTLS12", value_name = "VERSION", value_parser = tls_version)]
    pub tls_min_version: TlsVersion,
}

fn tls_version(text: &str) -> Result<TlsVersion, String> {
    match text {
        "VersionTLS12" => Ok(TlsVersion::V1_2),
        "VersionTLS13" => Ok(TlsVersion::V1_3),
        _ => Err("it is VersionTLS12 or VersionTLS13".into()),
    }
}

impl TlsArguments {
    /// The certificate and key that are given.
    pub fn identity(&self) -> Result<Option<Identity>, Failure> {
        let (Some(certificate), Some(key)) = (&self.tls_cert_file, &self.tls_private_key_file) else { return Ok(None) };
        let identity = Identity {
            certificate_pem: read_flag("--tls-cert-file", certificate)?,
            key_pem: read_flag("--tls-private-key-file", key)?,
        };
        identity.certificates().map_err(|why| format!("--tls-cert-file {}: {why}", certificate.display()))?;
        identity.key().map_err(|why| format!("--tls-private-key-file {}: {why}", key.display()))?;
        Ok(Some(identity))
    }
}

/// The text of a file that a flag names.
pub fn read_flag(flag: &str, path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|why| format!("{flag} {}: {why}", path.display()).into())
}

/// Where parts of a program leave what they count. Cloning shares.
#[derive(Clone, Default)]
pub struct Metrics(Arc<Mutex<Vec<Source>>>);

type Source = Arc<dyn Fn() -> String + Send + Sync>;

impl Metrics {
    /// One more source of samples in the Prometheus text format.
    pub fn add(&self, source: impl Fn() -> String + Send + Sync + 'static) {
        self.0.lock().push(Arc::new(source));
    }

    /// All samples, with those of the process.
    pub fn text(&self) -> String {
        let sources = self.0.lock().clone();
        let mut out = Samples::default();
        out.family("kubernetes_build_info", "gauge", "The version. The value is always 1.");
        let version = [("git_version", "v1.37.0"), ("major", "1"), ("minor", "37"), ("platform", "linux/amd64")];
        out.sample("kubernetes_build_info", &version, 1);
        sources.iter().fold(out.into_text() + &process_metrics::samples(), |text, source| text + &source())
    }
}

impl ServingArguments {
    /// Opens the port; port 0 opens none. `ready` is what `/readyz` says; alive is who answers.
    pub async fn serve(
        &self,
        env: &Env,
        port: u16,
        (reach, client): (&Reach, &Client),
        (ready, metrics): (Health, Metrics),
        stop: &CancellationToken,
    ) -> Result<Option<Task>, Failure> {
        if port == 0 {
            return Ok(None);
        }
        let identity = match self.tls.identity()? {
            Some(identity) => identity,
            None => {
                let authority = Authority::generate("self-signed", env.now())?;
                authority.issue_server("localhost", &["localhost".into(), self.bind_address.to_string()], env.now())?
            }
        };
        let authorities = match &self.client_ca_file {
            Some(path) => {
                let pem = read_flag("--client-ca-file", path)?;
                let failed = |why| format!("--client-ca-file {}: {why}", path.display());
                Some(pki::certificates("client CA", pem.as_bytes()).map_err(failed)?)
            }
            None => None,
        };
        let reviewer = |path: &Option<PathBuf>| match path {
            Some(path) => reach.client_of(path, env),
            None => Ok(client.clone()),
        };
        let reviews =
            Reviews::new(reviewer(&self.authentication_kubeconfig)?, reviewer(&self.authorization_kubeconfig)?);
        let tls = tls::server_from(env, &identity, authorities.as_deref(), self.tls.tls_min_version)?;
        let address = SocketAddr::new(self.bind_address, port);
        let port =
            Port { live: Arc::default(), ready: Arc::new(ready), metrics: Some(metrics), reviews: Some(reviews) };
        Ok(Some(port.open(env, address, Some(tls), stop).await?))
    }
}

/// What answers on such a port.
#[derive(Clone)]
pub struct Port {
    /// What `/healthz` and `/livez` say.
    pub live: Arc<Health>,
    /// What `/readyz` says.
    pub ready: Arc<Health>,
    /// What `/metrics` says, if there is that.
    pub metrics: Option<Metrics>,
    /// Who is asked whether somebody may read what is not open to everyone; without, everything is.
    pub reviews: Option<Reviews>,
}

impl Port {
    /// Listens until `stop`.
    pub async fn open(
        self,
        env: &Env,
        address: SocketAddr,
        tls: Option<Arc<ServerConfig>>,
        stop: &CancellationToken,
    ) -> Result<Task, Failure> {
        let listener = TcpListener::bind(address).await.map_err(|why| format!("listen on {address}: {why}"))?;
        let service = tower::service_fn(move |request: Request<Body>| {
            let port = self.clone();
            // The body is not read; without it the request can be looked at from any thread.
            let request = request.map(drop);
            async move { Ok::<_, Infallible>(port.answer(&request).await.unwrap_or_else(|error| refusal(&error))) }
        });
        let (server, stop) = (Server::new(env.clone(), service), stop.clone());
        Ok(env.spawn("health", Box::pin(async move { server.serve(listener, tls, stop).await })))
    }

    async fn answer(&self, request: &Request<()>) -> ApiResult<Response<Body>> {
        let (path, query) = (request.uri().path(), request.uri().query().unwrap_or_default());
        // Upstream's --authorization-always-allow-paths.
        if !matches!(path, "/healthz" | "/livez" | "/readyz")
            && let Some(reviews) = &self.reviews
        {
            let caller = reviews.caller(&credentials(request)).await?;
            let verb = request.method().as_str().to_ascii_lowercase();
            reviews.may_use_path(&caller, &verb, path).await?;
        }
        let (first, rest) = path.trim_start_matches('/').split_once('/').unwrap_or((path.trim_start_matches('/'), ""));
        match (first, rest) {
            ("metrics", "") => {
                let metrics = self.metrics.as_ref().ok_or_else(ApiError::no_such_path)?;
                Ok(health::metrics(metrics.text()))
            }
            ("healthz" | "livez" | "readyz", name) => {
                let health = if first == "readyz" { &self.ready } else { &self.live };
                let verdict = health.verdict(first, Some(name).filter(|name| !name.is_empty()), query);
                verdict.map(health::Verdict::response).ok_or_else(ApiError::no_such_path)
            }
            _ => Err(ApiError::no_such_path()),
        }
    }
}

fn credentials(request: &Request<()>) -> Credentials {
    let peer = request.extensions().get::<Arc<Peer>>();
    let certificates = peer.map(|peer| peer.certificates.iter().map(|der| der.to_vec()).collect()).unwrap_or_default();
    let authorization = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let bearer = authorization.and_then(|value| value.split_once(' '));
    let bearer = bearer.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
    Credentials { certificates, bearer: bearer.map(|(_, token)| token.trim().to_owned()) }
}

fn refusal(error: &ApiError) -> Response<Body> {
    let code = StatusCode::from_u16(error.code()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    health::text(code, format!("{error}\n"))
}
