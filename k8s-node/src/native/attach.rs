//! Joining a container's streams, through its shim's socket.

use std::{fs::File, io, os::fd::AsRawFd};

use async_trait::async_trait;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, DuplexStream, ReadHalf},
    net::UnixStream,
    sync::{mpsc, oneshot},
};

use super::Native;
use crate::{
    runtime::{Attach, AttachSpec, RuntimeError, Session, Terminal, TerminalSize},
    shim::{Frame, FrameReader, Greeting},
};

/// Bytes that wait between the socket and a slow reader, per stream.
const BUFFER: usize = 64 << 10;
/// Sizes that wait to be sent; more are dropped, for the next one replaces them.
const SIZES: usize = 8;

#[async_trait]
impl Attach for Native {
    async fn attach(&self, spec: AttachSpec) -> Result<Session, RuntimeError> {
        let container = self.inner.existing_container(&spec.container)?;
        if !container.is_running() {
            return Err(RuntimeError::NotRunning { id: spec.container });
        }
        let failed = |error: io::Error| RuntimeError::system(format!("attach to {}", spec.container), error);
        // Through the folder's descriptor: paths of sockets may have only 108 bytes.
        let folder = File::open(&container.folder).map_err(failed)?;
        let path = format!("/proc/self/fd/{}/attach.sock", folder.as_raw_fd());
        let mut socket = UnixStream::connect(path).await.map_err(failed)?;
        let greeting = Greeting { stdin: spec.stdin, stdout: spec.stdout, stderr: spec.stderr };
        let mut line = serde_json::to_vec(&greeting).map_err(|error| failed(error.into()))?;
        line.push(b'\n');
        socket.write_all(&line).await.map_err(failed)?;
        let mut frames = FrameReader::default();
        match next(&mut socket, &mut frames).await.map_err(failed)? {
            Some(Frame::Welcome) => {}
            _ => return Err(RuntimeError::NotRunning { id: spec.container }),
        }
        Ok(self.join(socket, frames, &spec, container.record.spec.tty))
    }
}

impl Native {
    fn join(&self, socket: UnixStream, frames: FrameReader, spec: &AttachSpec, tty: bool) -> Session {
        let (input, stdin) = tokio::io::duplex(BUFFER);
        let (output, stdout) = tokio::io::duplex(BUFFER);
        let (error, stderr) = tokio::io::duplex(BUFFER);
        let (sizes, size) = mpsc::channel(SIZES);
        let (ended, end) = oneshot::channel();
        let input = spec.stdin.then(|| tokio::io::split(input).0);
        let pump = Pump { socket, frames, input, output, error, size };
        let pump = async move {
            let result = pump.run().await;
            // A session that was dropped wants no result.
            let _ = ended.send(result);
        };
        let task = self.inner.config.env.spawn("attach", Box::pin(pump));
        let exit = async move {
            // Kept here: dropping the session detaches.
            let _task = task;
            let result = end.await.unwrap_or_else(|_| Err(io::Error::other("the attachment was cancelled")));
            result.map_err(|error| RuntimeError::system("attach", error))
        };
        Session {
            stdin: if spec.stdin { Some(Box::pin(stdin)) } else { None },
            stdout: if spec.stdout { Some(Box::pin(stdout)) } else { None },
            stderr: if spec.stderr && !tty { Some(Box::pin(stderr)) } else { None },
            terminal: if tty { Some(Box::new(Sizes(sizes))) } else { None },
            exit: Box::pin(exit),
        }
    }
}

struct Sizes(mpsc::Sender<TerminalSize>);

impl Terminal for Sizes {
    fn resize(&self, size: TerminalSize) {
        // Full or closed: see `SIZES`, and a terminal that is gone has no size.
        let _ = self.0.try_send(size);
    }
}

/// Carries frames between the shim and the session's streams.
struct Pump {
    socket: UnixStream,
    frames: FrameReader,
    input: Option<ReadHalf<DuplexStream>>,
    output: DuplexStream,
    error: DuplexStream,
    size: mpsc::Receiver<TerminalSize>,
}

impl Pump {
    /// Runs until the container ends; answers its exit code.
    async fn run(self) -> io::Result<i32> {
        let Self { socket, mut frames, mut input, mut output, mut error, mut size } = self;
        let (mut from_shim, mut to_shim) = socket.into_split();
        let send = async move {
            let mut buffer = vec![0; 16 << 10];
            let mut sizes_open = true;
            while input.is_some() || sizes_open {
                let frame = tokio::select! {
                    biased;
                    size = size.recv(), if sizes_open => match size {
                        Some(size) => Frame::Resize(size.width, size.height),
                        None => { sizes_open = false; continue }
                    },
                    length = read(&mut input, &mut buffer) => match length {
                        0 => { input = None; Frame::CloseStdin }
                        length => Frame::Stdin(buffer[..length].to_vec()),
                    },
                };
                to_shim.write_all(&frame.encode()).await?;
            }
            // Closing our half would tell the shim that we are gone.
            std::future::pending::<io::Result<i32>>().await
        };
        let receive = async {
            loop {
                let frame = next(&mut from_shim, &mut frames).await?;
                // A reader that dropped its stream does not want the rest of it.
                match frame {
                    Some(Frame::Stdout(bytes)) => drop(output.write_all(&bytes).await),
                    Some(Frame::Stderr(bytes)) => drop(error.write_all(&bytes).await),
                    Some(Frame::Exited(code)) => return Ok(code),
                    Some(_) => {}
                    None => return Err(io::Error::other("the shim closed the connection")),
                }
            }
        };
        tokio::select! {
            biased;
            result = receive => result,
            result = send => result,
        }
    }
}

async fn read(input: &mut Option<ReadHalf<DuplexStream>>, buffer: &mut [u8]) -> usize {
    match input {
        // A session that was dropped has no more input.
        Some(input) => input.read(buffer).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

async fn next(socket: &mut (impl AsyncReadExt + Unpin), frames: &mut FrameReader) -> io::Result<Option<Frame>> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        if let Some(frame) = frames.next_frame()? {
            return Ok(Some(frame));
        }
        match socket.read(&mut buffer).await? {
            0 => return Ok(None),
            length => frames.push(&buffer[..length]),
        }
    }
}
