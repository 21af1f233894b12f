//! Carrying probes and lifecycle hooks out: a command inside the container, an HTTP request, a connection.

use std::{net::IpAddr, sync::Arc, time::Duration};

use http::{Request, StatusCode, header};
use k8s_core::{
    api::{
        api::core::v1::{Container, HTTPGetAction},
        apimachinery::pkg::util::intstr::IntOrString,
    },
    env::{self, Env},
    seam::node::ByteStream,
};
use k8s_wire::{
    body,
    http1::{self, Answer},
    tls::{self, ServerTrust, UPGRADE_PROTOCOLS},
};
use tokio::net::TcpStream;
use tokio_util::compat::TokioAsyncReadCompatExt;

use crate::runtime::{PodRuntime, run_to_end};

/// How much of an answer or an output is read and shown.
const MAX_SHOWN_BYTES: usize = 10 * 1024;
/// How many redirects within the same host are followed.
const MAX_REDIRECTS: usize = 10;

/// What to do; probes and hooks share these.
#[derive(Debug, Clone)]
pub enum Action {
    /// Run a command in the container; code 0 succeeds.
    Exec(Vec<String>),
    /// Ask over HTTP; 200 to 399 succeeds.
    Http(HTTPGetAction),
    /// Connect.
    Tcp {
        /// The pod's address unless given.
        host: Option<String>,
        /// By number or by the name of a container port.
        port: IntOrString,
    },
    /// Do nothing for a while.
    Sleep(Duration),
    /// Something that this node cannot do, by name.
    Unsupported(&'static str),
}

/// What an action is carried out on.
#[derive(Clone)]
pub struct Scene {
    /// Time.
    pub env: Env,
    /// The runtime that holds the container.
    pub runtime: Arc<dyn PodRuntime>,
    /// The instance.
    pub id: String,
    /// Its specification, for named ports.
    pub container: Container,
    /// The pod's primary address.
    pub address: Option<IpAddr>,
}

impl Action {
    /// What a probe does.
    pub fn of_probe(probe: &k8s_core::api::api::core::v1::Probe) -> Self {
        if let Some(exec) = &probe.exec {
            return Self::Exec(exec.command.clone().unwrap_or_default());
        }
        if let Some(get) = &probe.http_get {
            return Self::Http(get.clone());
        }
        if let Some(tcp) = &probe.tcp_socket {
            return Self::Tcp { host: tcp.host.clone(), port: tcp.port.clone() };
        }
        Self::Unsupported("gRPC probes")
    }

    /// What a lifecycle hook does.
    pub fn of_hook(hook: &k8s_core::api::api::core::v1::LifecycleHandler) -> Self {
        if let Some(exec) = &hook.exec {
            return Self::Exec(exec.command.clone().unwrap_or_default());
        }
        if let Some(get) = &hook.http_get {
            return Self::Http(get.clone());
        }
        if let Some(sleep) = &hook.sleep {
            return Self::Sleep(Duration::from_secs(sleep.seconds.max(0).unsigned_abs()));
        }
        match &hook.tcp_socket {
            Some(tcp) => Self::Tcp { host: tcp.host.clone(), port: tcp.port.clone() },
            None => Self::Unsupported("lifecycle hooks of this kind"),
        }
    }

    /// Carries the action out within `limit`; an error says for people what went wrong.
    ///
    /// Dropping the future kills the command or closes the connection.
    pub async fn perform(&self, scene: &Scene, limit: Duration) -> Result<(), String> {
        match self {
            Self::Exec(command) => exec(scene, command.clone(), limit).await,
            Self::Unsupported(what) => Err(format!("{what} are not supported by this node")),
            Self::Sleep(duration) => {
                scene.env.sleep((*duration).min(limit)).await;
                Ok(())
            }
            Self::Http(get) => bounded(scene, limit, http_get(scene, get)).await,
            Self::Tcp { host, port } => bounded(scene, limit, tcp(scene, host.as_deref(), port)).await,
        }
    }
}

async fn bounded(
    scene: &Scene,
    limit: Duration,
    work: impl Future<Output = Result<(), String>> + Send,
) -> Result<(), String> {
    let late = || Err(format!("no answer within {} s", limit.as_secs()));
    env::timeout(&*scene.env, limit, work).await.unwrap_or_else(late)
}

async fn exec(scene: &Scene, command: Vec<String>, limit: Duration) -> Result<(), String> {
    let exec = scene.runtime.exec().ok_or("the container runtime cannot run commands in containers")?;
    let shown = format!("{command:?}");
    let done = run_to_end(exec, &*scene.env, &scene.id, command, limit, MAX_SHOWN_BYTES).await;
    let output = done.map_err(|error| error.to_string())?;
    let text = String::from_utf8_lossy(&output.output).into_owned();
    match output.code {
        Some(0) => Ok(()),
        None => Err(format!("command timed out: {shown} timed out after {}s", limit.as_secs())),
        Some(code) if text.is_empty() => Err(format!("command {shown} exited with code {code}")),
        Some(_) => Err(text),
    }
}

fn port(container: &Container, port: &IntOrString) -> Result<u16, String> {
    let number = match port {
        IntOrString::Int(number) => Some(*number),
        IntOrString::String(name) => {
            let named = container.ports.iter().flatten().find(|port| port.name.as_ref() == Some(name));
            named.map(|port| port.container_port).or_else(|| name.parse().ok())
        }
    };
    let number = number.and_then(|number| u16::try_from(number).ok()).filter(|number| *number > 0);
    number.ok_or_else(|| {
        format!("port {port:?} is neither a number from 1 to 65535 nor a port of container {}", container.name)
    })
}

fn host(scene: &Scene, host: Option<&str>) -> Result<String, String> {
    match host.filter(|host| !host.is_empty()) {
        Some(host) => Ok(host.to_owned()),
        None => scene.address.map(|address| address.to_string()).ok_or_else(|| "the pod has no address".to_owned()),
    }
}

async fn connect(host: &str, port: u16) -> Result<TcpStream, String> {
    TcpStream::connect((host, port)).await.map_err(|error| format!("dial tcp {}: {error}", joined(host, port)))
}

fn joined(host: &str, port: u16) -> String {
    if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
}

async fn tcp(scene: &Scene, named: Option<&str>, to: &IntOrString) -> Result<(), String> {
    connect(&host(scene, named)?, port(&scene.container, to)?).await.map(drop)
}

async fn http_get(scene: &Scene, get: &HTTPGetAction) -> Result<(), String> {
    let (host, port) = (host(scene, get.host.as_deref())?, port(&scene.container, &get.port)?);
    let secure = get.scheme.as_deref() == Some("HTTPS");
    let mut path = get.path.clone().filter(|path| !path.is_empty()).unwrap_or_else(|| "/".to_owned());
    if !path.starts_with('/') {
        path.insert(0, '/');
    }
    for _ in 0..=MAX_REDIRECTS {
        let stream = open(scene, &host, port, secure).await?;
        let request = request(get, &path, &joined(&host, port))?;
        let answer = http1::exchange(&scene.env, stream, request).await;
        let Answer::Response(response) = answer.map_err(|error| describe(&error))? else {
            return Err("the server changed the protocol".to_owned());
        };
        let (code, location) = (response.status(), response.headers().get(header::LOCATION).cloned());
        if code.is_redirection()
            && let Some(next) = location.as_ref().and_then(|l| same_host(l.to_str().ok()?, &host))
        {
            path = next;
            continue;
        }
        return verdict(code, response.into_body()).await;
    }
    Err(format!("stopped after {MAX_REDIRECTS} redirects"))
}

/// An error with its causes.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text
}

/// The path of a redirect that stays with the host; a redirect elsewhere counts as an answer and is not followed.
fn same_host(location: &str, host: &str) -> Option<String> {
    if location.starts_with('/') && !location.starts_with("//") {
        return Some(location.to_owned());
    }
    let uri: http::Uri = location.parse().ok()?;
    let same = uri.host() == Some(host);
    same.then(|| uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string))
}

async fn open(scene: &Scene, host: &str, port: u16, secure: bool) -> Result<Box<dyn ByteStream>, String> {
    let socket = connect(host, port).await?;
    if !secure {
        return Ok(Box::new(socket.compat()));
    }
    // As upstream, probes believe any certificate: they ask whether something answers, not who.
    let config =
        tls::client(&scene.env, ServerTrust::Anyone, None, UPGRADE_PROTOCOLS).map_err(|error| error.to_string())?;
    let name = rustls_pki_types::ServerName::try_from(host.to_owned()).map_err(|error| error.to_string())?;
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let stream = connector.connect(name, socket).await.map_err(|error| format!("TLS: {error}"))?;
    Ok(Box::new(stream.compat()))
}

fn request(get: &HTTPGetAction, path: &str, authority: &str) -> Result<Request<body::Body>, String> {
    let mut builder = Request::get(path);
    let own: Vec<_> = get.http_headers.iter().flatten().collect();
    let has = |name: &str| own.iter().any(|header| header.name.eq_ignore_ascii_case(name));
    for (name, value) in [("host", authority), ("user-agent", "kube-probe/1.37"), ("accept", "*/*")] {
        if !has(name) {
            builder = builder.header(name, value);
        }
    }
    for header in own {
        builder = builder.header(&header.name, &header.value);
    }
    builder.header(header::CONNECTION, "close").body(body::empty()).map_err(|error| format!("probe request: {error}"))
}

async fn verdict(code: StatusCode, body: body::Body) -> Result<(), String> {
    if (200..400).contains(&code.as_u16()) {
        return Ok(());
    }
    let text = body::read(body, MAX_SHOWN_BYTES).await.unwrap_or_default();
    tracing::debug!(%code, body = %String::from_utf8_lossy(&text), "HTTP probe failed");
    Err(format!("HTTP probe failed with statuscode: {}", code.as_u16()))
}
