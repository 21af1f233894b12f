//! What passes between the shim and an attached client: a greeting line, then frames.
//!
//! A frame is one byte of kind, four bytes of length (big-endian), and so many bytes.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    os::unix::net::UnixStream,
};

use serde::{Deserialize, Serialize};

use crate::runtime::LogStream;

/// What a client wants, as the first line that it sends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Greeting {
    /// It will send input.
    pub stdin: bool,
    /// Send it standard output.
    pub stdout: bool,
    /// Send it standard error.
    pub stderr: bool,
}

/// One message in either direction.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// To the shim: bytes for standard input.
    Stdin(Vec<u8>),
    /// To the shim: no more input from this client.
    CloseStdin,
    /// To the shim: size of the terminal, columns and rows.
    Resize(u16, u16),
    /// To the client: the shim knows it; output from here on is sent.
    Welcome,
    /// To the client: standard output.
    Stdout(Vec<u8>),
    /// To the client: standard error.
    Stderr(Vec<u8>),
    /// To the client: the container ended with this code.
    Exited(i32),
}

/// Longest frame that is accepted.
const FRAME_LIMIT: usize = 64 << 10;
/// Output that waits for a client before the container is held back.
const OUTPUT_LIMIT: usize = 256 << 10;

impl Frame {
    /// The frame as bytes.
    pub fn encode(&self) -> Vec<u8> {
        let (kind, content): (u8, Vec<u8>) = match self {
            Self::Stdin(bytes) => (0, bytes.clone()),
            Self::Stdout(bytes) => (1, bytes.clone()),
            Self::Stderr(bytes) => (2, bytes.clone()),
            Self::Resize(width, height) => (3, [width.to_be_bytes(), height.to_be_bytes()].concat()),
            Self::CloseStdin => (4, Vec::new()),
            Self::Exited(code) => (5, code.to_be_bytes().to_vec()),
            Self::Welcome => (6, Vec::new()),
        };
        let mut frame = vec![kind];
        frame.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
        frame.extend_from_slice(&content);
        frame
    }

    fn decode(kind: u8, content: &[u8]) -> Option<Self> {
        match (kind, content) {
            (0, bytes) => Some(Self::Stdin(bytes.to_vec())),
            (1, bytes) => Some(Self::Stdout(bytes.to_vec())),
            (2, bytes) => Some(Self::Stderr(bytes.to_vec())),
            (3, &[a, b, c, d]) => Some(Self::Resize(u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]))),
            (4, []) => Some(Self::CloseStdin),
            (5, &[a, b, c, d]) => Some(Self::Exited(i32::from_be_bytes([a, b, c, d]))),
            (6, []) => Some(Self::Welcome),
            _ => None,
        }
    }
}

/// Puts frames together from pieces.
#[derive(Debug, Default)]
pub struct FrameReader {
    bytes: Vec<u8>,
}

impl FrameReader {
    /// Takes the next piece.
    pub fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// The next whole frame, nothing, or an error when what came is no frame.
    pub fn next_frame(&mut self) -> io::Result<Option<Frame>> {
        let Some((head, rest)) = self.bytes.split_at_checked(5) else { return Ok(None) };
        let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]) as usize;
        if length > FRAME_LIMIT {
            return Err(io::Error::other("a frame is too long"));
        }
        let Some(content) = rest.get(..length) else { return Ok(None) };
        let frame = Frame::decode(head[0], content).ok_or_else(|| io::Error::other("a frame of unknown form"))?;
        self.bytes.drain(..5 + length);
        Ok(Some(frame))
    }
}

/// An attached client, seen from the shim. Invariant: its socket does not block.
pub(super) struct Client {
    pub(super) socket: UnixStream,
    /// Its connection ended or broke.
    pub(super) gone: bool,
    tty: bool,
    greeting: Option<Greeting>,
    line: Vec<u8>,
    frames: FrameReader,
    output: VecDeque<u8>,
}

impl Client {
    pub(super) fn new(socket: UnixStream, tty: bool) -> Option<Self> {
        socket.set_nonblocking(true).ok()?;
        let (greeting, line, frames, output) = (None, Vec::new(), FrameReader::default(), VecDeque::new());
        Some(Self { socket, gone: false, tty, greeting, line, frames, output })
    }

    pub(super) fn is_full(&self) -> bool {
        self.output.len() >= OUTPUT_LIMIT
    }

    pub(super) fn has_output(&self) -> bool {
        !self.output.is_empty()
    }

    pub(super) fn wants_stdin(&self) -> bool {
        self.greeting.as_ref().is_some_and(|greeting| greeting.stdin)
    }

    /// Sends output, if the client asked for that stream. A terminal has only one.
    pub(super) fn output(&mut self, stream: LogStream, bytes: &[u8]) {
        let Some(greeting) = &self.greeting else { return };
        let frame = match stream {
            LogStream::Stdout if greeting.stdout || (self.tty && greeting.stderr) => Frame::Stdout(bytes.to_vec()),
            LogStream::Stderr if greeting.stderr => Frame::Stderr(bytes.to_vec()),
            _ => return,
        };
        self.send(&frame);
    }

    fn send(&mut self, frame: &Frame) {
        self.output.extend(frame.encode());
        self.flush();
    }

    /// Writes as much as the socket takes.
    pub(super) fn flush(&mut self) {
        while !self.gone && !self.output.is_empty() {
            let (front, _) = self.output.as_slices();
            match (&self.socket).write(front) {
                Ok(length) => drop(self.output.drain(..length)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => self.gone = true,
            }
        }
    }

    /// Tells the end, and waits until the client has taken all: the shim ends next.
    pub(super) fn finish(&mut self, code: i32) {
        // A client that is stuck must not keep the end of the container from being recorded.
        let patience = Some(std::time::Duration::from_secs(1));
        let ready = self.socket.set_nonblocking(false).and_then(|()| self.socket.set_write_timeout(patience));
        if ready.is_ok() {
            self.send(&Frame::Exited(code));
        }
    }

    /// The next frame that the client sent, after what can be read now.
    pub(super) fn next_frame(&mut self) -> Option<Frame> {
        loop {
            match self.frames.next_frame() {
                Ok(Some(frame)) => return Some(frame),
                Ok(None) => {}
                Err(_) => self.gone = true,
            }
            let mut buffer = [0; 4096];
            if self.gone {
                return None;
            }
            match (&self.socket).read(&mut buffer) {
                Ok(length @ 1..) => self.take(&buffer[..length]),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(_) | Err(_) => self.gone = true,
            }
        }
    }

    fn take(&mut self, bytes: &[u8]) {
        if self.greeting.is_some() {
            return self.frames.push(bytes);
        }
        self.line.extend_from_slice(bytes);
        let Some(end) = self.line.iter().position(|&byte| byte == b'\n') else {
            self.gone |= self.line.len() > FRAME_LIMIT;
            return;
        };
        match serde_json::from_slice(&self.line[..end]) {
            Ok(greeting) => {
                self.greeting = Some(greeting);
                self.frames.push(&self.line[end + 1..]);
                self.send(&Frame::Welcome);
            }
            Err(_) => self.gone = true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_survive_any_cut() {
        let frames = [
            Frame::Stdin(b"in".to_vec()),
            Frame::CloseStdin,
            Frame::Resize(80, 24),
            Frame::Welcome,
            Frame::Stdout(vec![0; 300]),
            Frame::Stderr(Vec::new()),
            Frame::Exited(-1),
        ];
        let bytes: Vec<u8> = frames.iter().flat_map(Frame::encode).collect();
        for size in [1, 2, 7, bytes.len()] {
            let (mut reader, mut found) = (FrameReader::default(), Vec::new());
            for piece in bytes.chunks(size) {
                reader.push(piece);
                while let Some(frame) = reader.next_frame().unwrap() {
                    found.push(frame);
                }
            }
            assert_eq!(found, frames);
        }
    }

    #[test]
    fn what_is_no_frame_is_refused() {
        for bytes in [&[9, 0, 0, 0, 0][..], &[0, 255, 0, 0, 0], &[3, 0, 0, 0, 1, 7]] {
            let mut reader = FrameReader::default();
            reader.push(bytes);
            assert!(reader.next_frame().is_err(), "{bytes:?}");
        }
    }
}
