//! What a runtime may offer beyond running containers. Each is a trait of its own, reached through
//! [`PodRuntime`](super::PodRuntime); a runtime that lacks one answers `None` there.

use std::{pin::Pin, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use futures::{
    future::{Either, select},
    stream::BoxStream,
};
use k8s_core::env::{BoxFuture, Environment, Timestamp};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

use super::RuntimeError;

/// Reading what containers wrote. Works for containers that ended, until they are removed.
#[async_trait]
pub trait Logs: Send + Sync {
    /// The log of a container as `kubectl logs` shows it.
    ///
    /// With `follow` the stream goes on until the container has ended and all was read; drop it to stop sooner.
    async fn read(&self, container: &str, options: LogOptions) -> Result<LogReader, RuntimeError>;

    /// Makes the runtime open the log file by its path again, after the agent renamed it away.
    async fn reopen(&self, container: &str) -> Result<(), RuntimeError>;
}

/// Chunks of log; lines are not split across chunks.
pub type LogReader = BoxStream<'static, Result<Bytes, RuntimeError>>;

/// Which part of a log. Upstream: `PodLogOptions`.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LogOptions {
    /// Go on with what is written later.
    pub follow: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only what was written at or after this time.
    pub since: Option<Timestamp>,
    /// Begin each line with its time.
    pub timestamps: bool,
    /// Stop after so many bytes.
    pub limit_bytes: Option<u64>,
    /// Only one of the two streams.
    pub stream: Option<LogStream>,
}

/// A standard stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// Running further commands inside running containers.
#[async_trait]
pub trait Exec: Send + Sync {
    /// Starts a command with the container's environment, user, confinement and cgroup.
    async fn exec(&self, spec: ExecSpec) -> Result<Session, RuntimeError>;
}

/// A command to run inside a container.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExecSpec {
    /// The container.
    pub container: String,
    /// Program and arguments.
    pub command: Vec<String>,
    /// Give it a terminal; then there is no separate standard error.
    pub tty: bool,
    /// Open standard input.
    pub stdin: bool,
    /// Open standard output.
    pub stdout: bool,
    /// Open standard error.
    pub stderr: bool,
}

/// Joining the standard streams of a running container's first process.
#[async_trait]
pub trait Attach: Send + Sync {
    /// Joins from now on; what was written before is in the log. Dropping the session detaches.
    async fn attach(&self, spec: AttachSpec) -> Result<Session, RuntimeError>;
}

/// What to join.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AttachSpec {
    /// The container.
    pub container: String,
    /// Write to its standard input (it must have been created with one).
    pub stdin: bool,
    /// Read its standard output.
    pub stdout: bool,
    /// Read its standard error.
    pub stderr: bool,
}

/// A command or an attachment in progress.
///
/// Dropping the session of a command kills the command; dropping an attachment detaches.
pub struct Session {
    /// Writes to standard input; shutting it down closes the input.
    pub stdin: Option<Pin<Box<dyn AsyncWrite + Send>>>,
    /// Standard output, or the terminal.
    pub stdout: Option<Pin<Box<dyn AsyncRead + Send>>>,
    /// Standard error.
    pub stderr: Option<Pin<Box<dyn AsyncRead + Send>>>,
    /// The terminal's size, if there is a terminal.
    pub terminal: Option<Box<dyn Terminal>>,
    /// Resolves with the exit code of the command, or of the container for an attachment. Output may still be
    /// unread then. Dropping it kills the command.
    pub exit: BoxFuture<'static, Result<i32, RuntimeError>>,
}

/// The size of a terminal.
pub trait Terminal: Send + Sync {
    /// Tells the terminal its size. A terminal that is gone ignores it.
    fn resize(&self, size: TerminalSize);
}

/// In characters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TerminalSize {
    /// Columns.
    pub width: u16,
    /// Rows.
    pub height: u16,
}

/// Connections into pods.
#[async_trait]
pub trait PortForward: Send + Sync {
    /// Connects to a TCP port on the loopback address inside the sandbox.
    async fn connect(&self, sandbox: &str, port: u16) -> Result<Box<dyn Duplex>, RuntimeError>;
}

/// A byte stream in both directions.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// What containers use.
#[async_trait]
pub trait Stats: Send + Sync {
    /// Usage of one running container.
    async fn container(&self, id: &str) -> Result<ContainerStats, RuntimeError>;
    /// Usage of a pod as a whole, with all its containers.
    async fn sandbox(&self, id: &str) -> Result<SandboxStats, RuntimeError>;
}

/// Usage of one cgroup.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ContainerStats {
    /// CPU time used since the start, in nanoseconds.
    pub cpu_usage_ns: u64,
    /// Memory in use, page cache included, in bytes.
    pub memory_usage_bytes: u64,
    /// Memory in use less what the kernel can drop easily, in bytes: what limits and evictions look at.
    pub memory_working_set_bytes: u64,
    /// Anonymous memory, in bytes.
    pub memory_rss_bytes: u64,
    /// Page faults since the start.
    pub page_faults: u64,
    /// Page faults that needed the disk, since the start.
    pub major_page_faults: u64,
    /// Processes and threads now.
    pub pids: u64,
    /// Bytes written to the container's own layer; not known for a sandbox.
    pub writable_layer_bytes: Option<u64>,
}

/// Usage of a pod.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct SandboxStats {
    /// The pod's cgroup as a whole.
    pub usage: ContainerStats,
    /// Bytes received on every interface but loopback; none on the host's network.
    pub network_received_bytes: Option<u64>,
    /// Bytes sent on every interface but loopback; none on the host's network.
    pub network_sent_bytes: Option<u64>,
}

/// The result of [`run_to_end`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExecOutput {
    /// The exit code; `None` when the time was up and the command was killed.
    pub code: Option<i32>,
    /// Standard output and error, cut at the limit.
    pub output: Vec<u8>,
}

/// Runs a command to its end, as probes and lifecycle hooks need it: no input, output limited to `limit` bytes per
/// stream (the rest is read and dropped), killed after `timeout`.
pub async fn run_to_end(
    exec: &dyn Exec,
    env: &dyn Environment,
    container: &str,
    command: Vec<String>,
    timeout: Duration,
    limit: usize,
) -> Result<ExecOutput, RuntimeError> {
    let spec = ExecSpec { container: container.to_owned(), command, stdout: true, stderr: true, ..ExecSpec::default() };
    let mut session = exec.exec(spec).await?;
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let work = async {
        let reading = futures::future::join(
            read_limited(session.stdout.as_mut(), &mut stdout, limit),
            read_limited(session.stderr.as_mut(), &mut stderr, limit),
        );
        match select(Box::pin(reading), session.exit).await {
            Either::Left((_, exit)) => exit.await,
            Either::Right((code, reading)) => {
                k8s_core::env::timeout(env, DRAIN, reading).await;
                code
            }
        }
    };
    let code = k8s_core::env::timeout(env, timeout, work).await.transpose()?;
    stdout.append(&mut stderr);
    Ok(ExecOutput { code, output: stdout })
}

/// How long the output of a command that has ended is waited for: what it left running may hold the streams for ever.
const DRAIN: Duration = Duration::from_secs(1);

async fn read_limited(stream: Option<&mut Pin<Box<dyn AsyncRead + Send>>>, into: &mut Vec<u8>, limit: usize) {
    let Some(stream) = stream else { return };
    let mut chunk = vec![0; 4096];
    // A failed read ends the output like an end of file does: the exit code is what counts.
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        let room = limit.saturating_sub(into.len()).min(length);
        into.extend_from_slice(&chunk[..room]);
    }
}
