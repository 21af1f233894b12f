//! While the container runs: its output into the log and to whoever is attached, input from them, and its end.

use std::os::{
    fd::{AsFd, BorrowedFd, OwnedFd},
    unix::net::UnixListener,
};

use k8s_core::env::Timestamp;
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::Signal,
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};

use super::{
    attach::{Client, Frame},
    log::Log,
    now,
    run::Running,
};
use crate::{
    native::launch::{Launch, LaunchPid},
    runtime::LogStream,
};

/// How the container ended.
pub struct Ended {
    /// 128 + n after signal n.
    pub code: i32,
    /// The signal.
    pub signal: Option<i32>,
    /// When.
    pub at: Timestamp,
}

/// Most bytes of input that wait for a container that does not read.
const INPUT_LIMIT: usize = 64 << 10;

struct Supervisor<'a> {
    launch: &'a Launch,
    stdin: Option<OwnedFd>,
    input: Vec<u8>,
    close_input: bool,
    outputs: [Option<OwnedFd>; 2],
    log: Log,
    listener: UnixListener,
    clients: Vec<Client>,
    buffer: Box<[u8]>,
}

const STREAMS: [LogStream; 2] = [LogStream::Stdout, LogStream::Stderr];

/// Runs until the first process has ended and all its output was taken.
pub fn supervise(running: Running, launch: &Launch) -> Ended {
    let Running { process, streams, log, signals, listener, .. } = running;
    let outputs = [streams.stdout, streams.stderr];
    for descriptor in outputs.iter().chain([&streams.stdin]).flatten() {
        // One that stays blocking is still correct, only slower for its neighbours.
        let _ = rustix::io::ioctl_fionbio(descriptor, true);
    }
    let mut supervisor = Supervisor {
        launch,
        stdin: streams.stdin,
        input: Vec::new(),
        close_input: false,
        outputs,
        log,
        listener,
        clients: Vec::new(),
        buffer: vec![0; 16 << 10].into(),
    };
    loop {
        supervisor.turn(signals.as_fd());
        let mut child_ended = false;
        while let Ok(Some(signal)) = signals.read_signal() {
            match Signal::try_from(signal.ssi_signo.cast_signed()) {
                Ok(Signal::SIGCHLD) => child_ended = true,
                Ok(Signal::SIGUSR1) => supervisor.reopen_log(),
                _ => {}
            }
        }
        if child_ended && let Some((code, signal)) = reap(process) {
            let at = now();
            supervisor.finish(code);
            return Ended { code, signal, at };
        }
    }
}

/// Clears away every child that ended; answers how the first process did, if it is among them.
fn reap(process: Pid) -> Option<(i32, Option<i32>)> {
    let mut end = None;
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(pid, code)) if pid == process => end = Some((code, None)),
            Ok(WaitStatus::Signaled(pid, signal, _)) if pid == process => {
                end = Some((128 + signal as i32, Some(signal as i32)));
            }
            Ok(WaitStatus::StillAlive) | Err(_) => return end,
            Ok(_) => {}
        }
    }
}

impl Supervisor<'_> {
    /// Waits until something can be done, and does it.
    fn turn(&mut self, signals: BorrowedFd<'_>) {
        let ready = self.wait(signals);
        for (index, stream) in STREAMS.into_iter().enumerate() {
            if ready.outputs[index] {
                self.read_output(index, stream);
            }
        }
        if ready.listener
            && let Ok((socket, _)) = self.listener.accept()
        {
            self.clients.extend(Client::new(socket, self.launch.tty));
        }
        for index in 0..self.clients.len().min(ready.clients.len()) {
            let (readable, writable) = ready.clients[index];
            if writable {
                self.clients[index].flush();
            }
            if readable {
                self.read_client(index);
            }
        }
        self.write_input();
        self.drop_gone_clients();
    }

    fn wait(&self, signals: BorrowedFd<'_>) -> Ready {
        let mut descriptors =
            vec![PollFd::new(signals, PollFlags::POLLIN), PollFd::new(self.listener.as_fd(), PollFlags::POLLIN)];
        // A client that does not keep up holds the container back, as a terminal would.
        let held = self.clients.iter().any(Client::is_full);
        for output in self.outputs.iter().flatten().filter(|_| !held) {
            descriptors.push(PollFd::new(output.as_fd(), PollFlags::POLLIN));
        }
        for client in &self.clients {
            descriptors.push(PollFd::new(client.socket.as_fd(), self.interest(client)));
        }
        if let Some(stdin) = self.stdin.as_ref().filter(|_| !self.input.is_empty()) {
            descriptors.push(PollFd::new(stdin.as_fd(), PollFlags::POLLOUT));
        }
        // An interrupted wait shows nothing ready, and the next turn waits again.
        let _ = poll(&mut descriptors, PollTimeout::NONE);
        let mut flags = descriptors.iter().map(|d| d.revents().unwrap_or(PollFlags::empty())).skip(1);
        let any = |flags: PollFlags| !flags.is_empty();
        let listener = flags.next().is_some_and(any);
        let outputs = [0, 1].map(|index| self.outputs[index].is_some() && !held && flags.next().is_some_and(any));
        let ends = PollFlags::POLLIN | PollFlags::POLLHUP | PollFlags::POLLERR;
        let clients = self.clients.iter().filter_map(|_| flags.next());
        let clients = clients.map(|flags| (flags.intersects(ends), flags.contains(PollFlags::POLLOUT)));
        Ready { listener, outputs, clients: clients.collect() }
    }

    fn interest(&self, client: &Client) -> PollFlags {
        let mut flags = PollFlags::empty();
        if self.input.len() < INPUT_LIMIT {
            flags |= PollFlags::POLLIN;
        }
        if client.has_output() {
            flags |= PollFlags::POLLOUT;
        }
        flags
    }

    fn read_output(&mut self, index: usize, stream: LogStream) {
        let Some(output) = &self.outputs[index] else { return };
        match rustix::io::read(output, &mut self.buffer[..]) {
            Ok(length @ 1..) => {
                self.log.write(stream, &self.buffer[..length], now());
                for client in &mut self.clients {
                    client.output(stream, &self.buffer[..length]);
                }
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // The end; a terminal says so by an input/output error.
            Ok(_) | Err(_) => {
                self.log.end(stream, now());
                self.outputs[index] = None;
            }
        }
    }

    fn read_client(&mut self, index: usize) {
        while let Some(frame) = self.clients[index].next_frame() {
            match frame {
                Frame::Stdin(bytes) if self.stdin.is_some() && !self.close_input => {
                    self.input.extend_from_slice(&bytes)
                }
                Frame::Resize(width, height) if self.launch.tty => self.resize(width, height),
                Frame::CloseStdin if self.launch.stdin_once => self.close_input = true,
                _ => {}
            }
        }
    }

    fn resize(&self, width: u16, height: u16) {
        if let Some(terminal) = &self.outputs[0] {
            let size = rustix::termios::Winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
            // A terminal that is gone has no size.
            let _ = rustix::termios::tcsetwinsize(terminal, size);
        }
    }

    fn write_input(&mut self) {
        let Some(stdin) = &self.stdin else { return };
        while !self.input.is_empty() {
            match nix::unistd::write(stdin, &self.input) {
                Ok(length) => drop(self.input.drain(..length)),
                Err(Errno::EAGAIN) => return,
                Err(Errno::EINTR) => {}
                Err(_) => {
                    // Nobody reads any more.
                    self.input.clear();
                    self.stdin = None;
                    return;
                }
            }
        }
        if self.close_input {
            self.stdin = None;
        }
    }

    fn drop_gone_clients(&mut self) {
        let wrote_input = self.clients.iter().any(|client| client.gone && client.wants_stdin());
        self.clients.retain(|client| !client.gone);
        if wrote_input && self.launch.stdin_once {
            self.close_input = true;
            self.write_input();
        }
    }

    fn reopen_log(&mut self) {
        if let Err(error) = self.log.reopen() {
            eprintln!("open the container log again: {error}");
        }
    }

    /// Takes what output is left and tells the clients the end.
    fn finish(&mut self, code: i32) {
        if self.launch.pid != LaunchPid::New {
            // Only a process namespace of its own ends with its first process.
            while self.launch.cgroup.kill() {
                while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) =
                    waitpid(None, Some(WaitPidFlag::WNOHANG))
                {}
                rustix::thread::sched_yield();
            }
        }
        for (index, stream) in STREAMS.into_iter().enumerate() {
            while let Some(output) = &self.outputs[index] {
                let mut descriptors = [PollFd::new(output.as_fd(), PollFlags::POLLIN)];
                match poll(&mut descriptors, PollTimeout::ZERO) {
                    Ok(1..) => self.read_output(index, stream),
                    Err(Errno::EINTR) => {}
                    _ => break,
                }
            }
            if self.outputs[index].take().is_some() {
                self.log.end(stream, now());
            }
        }
        for client in &mut self.clients {
            client.finish(code);
        }
    }
}

struct Ready {
    listener: bool,
    outputs: [bool; 2],
    clients: Vec<(bool, bool)>,
}
