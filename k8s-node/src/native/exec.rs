//! Commands in running containers, through a helper process that enters them.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    sync::Arc,
};

use async_trait::async_trait;
use rustix::pipe::PipeFlags;
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{
    Native,
    launch::{ExecReport, ExecRequest, Failure, Stage},
    pty::Pty,
    spawn,
};
use crate::{
    runtime::{Exec, ExecSpec, RuntimeError, Session},
    shim,
};

/// A command that runs, before its descriptors became asynchronous.
struct Begun {
    control: UnixStream,
    /// What came on the control socket after the first report.
    rest: Vec<u8>,
    terminal: Option<OwnedFd>,
    stdin: Option<OwnedFd>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
}

#[async_trait]
impl Exec for Native {
    async fn exec(&self, spec: ExecSpec) -> Result<Session, RuntimeError> {
        let container = self.inner.existing_container(&spec.container)?;
        if !container.is_running() {
            return Err(RuntimeError::NotRunning { id: spec.container });
        }
        let (wanted, target) = (spec.clone(), Arc::clone(&container));
        let begun = self
            .blocking(move |inner| {
                let request =
                    ExecRequest { folder: container.folder.clone(), argv: wanted.command.clone(), tty: wanted.tty };
                let failed = |error: io::Error| RuntimeError::Start { message: error.to_string() };
                let (mut begun, control, theirs) = open_streams(&wanted).map_err(failed)?;
                let helper = inner.shim.exec(control.into()).map_err(failed)?;
                inner.watch.add(spawn::handle(&helper).map_err(failed)?, Box::new(|| {})).map_err(failed)?;
                ask(&begun.control, &request, theirs).map_err(failed)?;
                hear(&mut begun)?;
                Ok(begun)
            })
            .await;
        let begun = match begun {
            // It ended while the helper was about to enter it.
            Err(RuntimeError::Create { .. }) if !target.is_running() => {
                return Err(RuntimeError::NotRunning { id: spec.container });
            }
            other => other?,
        };
        session(begun, &spec).map_err(|error| RuntimeError::system("exec", error))
    }
}

/// Our ends, the helper's control socket, and the command's ends (none with a terminal).
fn open_streams(spec: &ExecSpec) -> io::Result<(Begun, UnixStream, Vec<OwnedFd>)> {
    let (control, helper) = UnixStream::pair()?;
    let mut begun = Begun { control, rest: Vec::new(), terminal: None, stdin: None, stdout: None, stderr: None };
    let mut theirs = Vec::new();
    if !spec.tty {
        let null = || Ok::<_, io::Error>(OwnedFd::from(File::options().read(true).write(true).open("/dev/null")?));
        let mut end = |wanted: bool, input: bool| {
            if !wanted {
                theirs.push(null()?);
                return Ok(None);
            }
            let (read, write) = rustix::pipe::pipe_with(PipeFlags::CLOEXEC)?;
            let (their, our) = if input { (read, write) } else { (write, read) };
            theirs.push(their);
            Ok::<_, io::Error>(Some(our))
        };
        begun.stdin = end(spec.stdin, true)?;
        begun.stdout = end(spec.stdout, false)?;
        begun.stderr = end(spec.stderr, false)?;
    }
    Ok((begun, helper, theirs))
}

fn ask(control: &UnixStream, request: &ExecRequest, streams: Vec<OwnedFd>) -> io::Result<()> {
    let mut text = serde_json::to_vec(request)?;
    text.push(b'\n');
    for stream in &streams {
        // A descriptor needs a byte to travel with; before the request, blanks mean nothing.
        shim::send(control, b" ", Some(stream.as_fd()))?;
    }
    Ok(shim::send(control, &text, None)?)
}

/// Waits for the first report.
fn hear(begun: &mut Begun) -> Result<(), RuntimeError> {
    let mut buffer = [0; 4096];
    loop {
        let (length, descriptor) =
            shim::receive(&begun.control, &mut buffer).map_err(|error| RuntimeError::system("exec", error))?;
        begun.terminal = descriptor.or(begun.terminal.take());
        begun.rest.extend_from_slice(&buffer[..length]);
        if length == 0 {
            return Err(RuntimeError::Start { message: "the exec helper ended without a report".to_owned() });
        }
        if let Some(report) = next_report(&mut begun.rest)? {
            return match report {
                ExecReport::Started => Ok(()),
                ExecReport::Failed(failure) => Err(exec_error(failure)),
                ExecReport::Exited(code) => {
                    Err(RuntimeError::Start { message: format!("ended with {code} unstarted") })
                }
            };
        }
    }
}

fn next_report(text: &mut Vec<u8>) -> Result<Option<ExecReport>, RuntimeError> {
    let Some(end) = text.iter().position(|&byte| byte == b'\n') else { return Ok(None) };
    let line: Vec<u8> = text.drain(..=end).collect();
    serde_json::from_slice(&line).map(Some).map_err(|error| RuntimeError::system("hear from the exec helper", error))
}

fn exec_error(failure: Failure) -> RuntimeError {
    match failure.stage {
        Stage::Create => RuntimeError::Create { message: failure.message },
        Stage::Start => RuntimeError::Start { message: failure.message },
    }
}

fn session(begun: Begun, spec: &ExecSpec) -> io::Result<Session> {
    begun.control.set_nonblocking(true)?;
    let control = tokio::net::UnixStream::from_std(begun.control)?;
    let exit = Box::pin(exit_code(control, begun.rest));
    if let Some(terminal) = begun.terminal {
        let pty = Pty::new(terminal)?;
        return Ok(Session {
            stdin: if spec.stdin { Some(Box::pin(pty.clone())) } else { None },
            stdout: Some(Box::pin(pty.clone())),
            stderr: None,
            terminal: Some(Box::new(pty)),
            exit,
        });
    }
    let sender = |end: Option<OwnedFd>| end.map(pipe::Sender::from_owned_fd).transpose();
    let receiver = |end: Option<OwnedFd>| end.map(pipe::Receiver::from_owned_fd).transpose();
    let mut session = Session { stdin: None, stdout: None, stderr: None, terminal: None, exit };
    if let Some(stdin) = sender(begun.stdin)? {
        session.stdin = Some(Box::pin(ClosingPipe(Some(stdin))));
    }
    if let Some(stdout) = receiver(begun.stdout)? {
        session.stdout = Some(Box::pin(stdout));
    }
    if let Some(stderr) = receiver(begun.stderr)? {
        session.stderr = Some(Box::pin(stderr));
    }
    Ok(session)
}

/// Holds the control socket: dropping it has the helper kill the command.
async fn exit_code(mut control: tokio::net::UnixStream, mut text: Vec<u8>) -> Result<i32, RuntimeError> {
    loop {
        if let Some(ExecReport::Exited(code)) = next_report(&mut text)? {
            return Ok(code);
        }
        let length = control.read_buf(&mut text).await.map_err(|error| RuntimeError::system("exec", error))?;
        if length == 0 {
            return Err(RuntimeError::system("exec", "the helper was killed"));
        }
    }
}

/// A pipe whose shutdown closes it: the reader sees the end of input.
struct ClosingPipe(Option<pipe::Sender>);

impl tokio::io::AsyncWrite for ClosingPipe {
    fn poll_write(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        bytes: &[u8],
    ) -> std::task::Poll<io::Result<usize>> {
        match &mut self.0 {
            Some(pipe) => std::pin::Pin::new(pipe).poll_write(cx, bytes),
            None => std::task::Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: std::pin::Pin<&mut Self>, _: &mut std::task::Context<'_>) -> std::task::Poll<io::Result<()>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn poll_shutdown(
        mut self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        self.0 = None;
        std::task::Poll::Ready(Ok(()))
    }
}
