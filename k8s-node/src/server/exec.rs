//! `exec` and `attach`: a session carried over a client's streams, and how a command's end is told.

use std::{pin::Pin, sync::Arc, time::Duration};

use http::{Request, Response};
use k8s_core::{
    env,
    status::{ApiError, ApiResult, Reason},
};
use k8s_wire::{
    body::Body,
    remote_command::{self, Receiver, Sender, Wanted},
    websocket::{ERROR, Frame, RESIZE, STDERR, STDIN, STDOUT},
};
use serde::Deserialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};

use super::{
    place::{Named, Place},
    query::Query,
};
use crate::{
    agent::Shared,
    runtime::{AttachSpec, ExecSpec, RuntimeError, Session, Terminal, TerminalSize},
};

/// How long output may still come after the end of a command whose children hold it open.
const DRAIN: Duration = Duration::from_secs(5);
/// How much is read and sent at once.
const CHUNK_BYTES: usize = 32 * 1024;

/// Runs a command in a container.
pub(super) async fn exec(
    shared: Arc<Shared>,
    mut request: Request<Body>,
    named: Named<'_>,
    query: &Query,
) -> ApiResult<Response<Body>> {
    let place = Place::find(&shared, named).await?;
    let spec = ExecSpec {
        container: place.running()?.id.clone(),
        command: query.all("command"),
        tty: query.flag("tty"),
        stdin: query.flag("input"),
        stdout: query.flag("output"),
        stderr: query.flag("error") && !query.flag("tty"),
    };
    if spec.command.is_empty() {
        return Err(ApiError::bad_request("exec: a command is required"));
    }
    if !(spec.stdin || spec.stdout || spec.stderr) {
        return Err(ApiError::bad_request("exec: at least one of stdin, stdout, stderr must be asked for"));
    }
    if shared.runtime.exec().is_none() {
        return Err(ApiError::not_implemented("exec in this container runtime"));
    }
    let runtime = shared.runtime.clone();
    let begin = async move {
        let Some(exec) = runtime.exec() else { return Err(unsupported("exec")) };
        exec.exec(spec).await
    };
    upgrade(&shared, &mut request, wanted(query), begin)
}

/// Joins the streams of a running container.
pub(super) async fn attach(
    shared: Arc<Shared>,
    mut request: Request<Body>,
    named: Named<'_>,
    query: &Query,
) -> ApiResult<Response<Body>> {
    let place = Place::find(&shared, named).await?;
    let tty = place.container.tty == Some(true);
    let spec = AttachSpec {
        container: place.running()?.id.clone(),
        stdin: query.flag("input") && place.container.stdin == Some(true),
        stdout: query.flag("output"),
        stderr: query.flag("error") && !tty,
    };
    if shared.runtime.attach().is_none() {
        return Err(ApiError::not_implemented("attach in this container runtime"));
    }
    let runtime = shared.runtime.clone();
    let begin = async move {
        let Some(attach) = runtime.attach() else { return Err(unsupported("attach")) };
        attach.attach(spec).await
    };
    upgrade(&shared, &mut request, wanted(query), begin)
}

fn unsupported(what: &str) -> RuntimeError {
    RuntimeError::Unsupported { runtime: "container", what: what.to_owned() }
}

fn wanted(query: &Query) -> Wanted {
    let tty = query.flag("tty");
    Wanted { stdin: query.flag("input"), stdout: query.flag("output"), stderr: query.flag("error") && !tty, tty }
}

/// Accepts the client's streams and carries the session over it in a task of its own.
fn upgrade(
    shared: &Arc<Shared>,
    request: &mut Request<Body>,
    wanted: Wanted,
    begin: impl Future<Output = Result<Session, RuntimeError>> + Send + 'static,
) -> ApiResult<Response<Body>> {
    let (response, opening) = match remote_command::accept(request, wanted) {
        Ok(accepted) => accepted,
        Err(refused) => return Ok(refused.response()),
    };
    let env = shared.env.clone();
    let work = async move {
        let Ok((sender, mut receiver)) = opening.streams(&env).await else { return };
        match begin.await {
            Ok(session) => carry(&*env, session, &sender, &mut receiver).await,
            Err(error) => end(&sender, &failed(&error)).await,
        }
        drop(sender);
        receiver.close(&env).await;
    };
    shared.env.spawn("exec session", Box::pin(work)).detach();
    Ok(response)
}

/// Carries a session to its end, or until the client leaves; then the session is dropped, which ends its command.
async fn carry(env: &dyn env::Environment, session: Session, sender: &Sender, receiver: &mut Receiver) {
    let Session { stdin, stdout, stderr, terminal, exit } = session;
    let output = async {
        futures::join!(copy_out(stdout, STDOUT, sender), copy_out(stderr, STDERR, sender));
    };
    let work = async {
        let mut output = std::pin::pin!(output);
        let mut exit = exit;
        let code = tokio::select! {
            biased;
            // Output that ends first says nothing about the command's end, and the other way round.
            () = &mut output => exit.await,
            code = &mut exit => {
                env::timeout(env, DRAIN, &mut output).await;
                code
            }
        };
        end(sender, &code.map_or_else(|error| failed(&error), ended)).await;
    };
    let input = copy_in(receiver, stdin, terminal);
    tokio::select! {
        biased;
        () = work => {}
        () = input => {}
    }
}

async fn copy_out(stream: Option<Pin<Box<dyn AsyncRead + Send>>>, channel: u8, sender: &Sender) {
    let Some(mut stream) = stream else { return };
    let mut chunk = vec![0; CHUNK_BYTES];
    // A terminal whose other side is gone fails to be read: that is its end.
    while let Ok(length @ 1..) = stream.read(&mut chunk).await {
        if sender.send(channel, &chunk[..length]).await.is_err() {
            return;
        }
    }
}

/// Passes input and terminal sizes on. Ends only when the client has left.
async fn copy_in(
    receiver: &mut Receiver,
    mut stdin: Option<Pin<Box<dyn tokio::io::AsyncWrite + Send>>>,
    terminal: Option<Box<dyn Terminal>>,
) {
    while let Some(frame) = receiver.next().await {
        match frame {
            Frame::Data { channel: STDIN, bytes } => {
                // A command that no longer reads gets nothing more; that is its own affair.
                if let Some(open) = &mut stdin
                    && (open.write_all(&bytes).await.is_err() || open.flush().await.is_err())
                {
                    stdin = None;
                }
            }
            Frame::Ended(STDIN) => {
                if let Some(mut open) = stdin.take() {
                    let _ = open.shutdown().await;
                }
            }
            Frame::Data { channel: RESIZE, bytes } => {
                if let (Some(terminal), Ok(size)) = (&terminal, serde_json::from_slice::<Size>(&bytes)) {
                    terminal.resize(TerminalSize { width: size.width, height: size.height });
                }
            }
            Frame::Data { .. } | Frame::Ended(_) => {}
        }
    }
}

/// What clients send when their window changes.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Size {
    width: u16,
    height: u16,
}

/// Tells how it ended, and closes.
async fn end(sender: &Sender, status: &serde_json::Value) {
    let text = status.to_string();
    // A client that has left needs no status.
    let _ = sender.send(ERROR, text.as_bytes()).await;
    let _ = sender.close().await;
}

/// The status for an exit code, in the form that clients of the kubelet read.
fn ended(code: i32) -> serde_json::Value {
    if code == 0 {
        return json!({"metadata": {}, "status": "Success"});
    }
    json!({
        "metadata": {},
        "status": "Failure",
        "message": format!("command terminated with non-zero exit code: exit status {code}"),
        "reason": "NonZeroExitCode",
        "details": {"causes": [{"reason": "ExitCode", "message": code.to_string()}]},
    })
}

fn failed(error: &RuntimeError) -> serde_json::Value {
    let error = ApiError::new(500, Reason::InternalError, format!("error executing command in container: {error}"));
    serde_json::to_value(error.status()).unwrap_or_default()
}
