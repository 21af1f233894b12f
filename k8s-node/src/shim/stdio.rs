//! The standard streams of a container: pipes, or a terminal.

use std::{
    fs::File,
    os::fd::{AsFd, OwnedFd},
};

use rustix::{
    fs::{CWD, Mode, OFlags},
    pipe::PipeFlags,
    pty::OpenptFlags,
};

use super::{Doing, Step};

/// The container's ends.
pub struct Inner {
    /// None with a terminal, which is made inside.
    streams: Option<[OwnedFd; 3]>,
}

/// The shim's ends. With a terminal, all are empty until it arrives.
#[derive(Default)]
pub struct Outer {
    /// Writes to standard input.
    pub stdin: Option<OwnedFd>,
    /// Reads standard output, or the terminal.
    pub stdout: Option<OwnedFd>,
    /// Reads standard error.
    pub stderr: Option<OwnedFd>,
}

/// Makes both ends.
pub fn make(tty: bool, stdin: bool) -> Step<(Inner, Outer)> {
    if tty {
        return Ok((Inner { streams: None }, Outer::default()));
    }
    let pipe = || rustix::pipe::pipe_with(PipeFlags::CLOEXEC).doing("make a pipe");
    let (input, stdin) = if stdin {
        let (read, write) = pipe()?;
        (read, Some(write))
    } else {
        (OwnedFd::from(File::open("/dev/null").doing("open /dev/null")?), None)
    };
    let ((stdout, output), (stderr, error)) = (pipe()?, pipe()?);
    let outer = Outer { stdin, stdout: Some(stdout), stderr: Some(stderr) };
    Ok((Inner { streams: Some([input, output, error]) }, outer))
}

impl Inner {
    /// Given streams, for commands whose caller made them.
    pub fn given(streams: [OwnedFd; 3]) -> Self {
        Self { streams: Some(streams) }
    }

    /// Makes them the standard streams of this process, owned by `uid` so that programs can open them by name.
    ///
    /// With a terminal: makes it from `/dev/ptmx` as the controlling terminal and answers its master side. Call it
    /// inside the container, with a session of one's own.
    pub fn install(self, uid: u32) -> Step<Option<OwnedFd>> {
        let Some([input, output, error]) = self.streams else { return terminal(uid).map(Some) };
        rustix::stdio::dup2_stdin(&input).doing("set standard input")?;
        rustix::stdio::dup2_stdout(&output).doing("set standard output")?;
        rustix::stdio::dup2_stderr(&error).doing("set standard error")?;
        let null = rustix::fs::stat("/dev/null").doing("look at /dev/null")?;
        for stream in [&input, &output, &error] {
            let is_null =
                rustix::fs::fstat(stream).is_ok_and(|found| found.st_rdev == null.st_rdev && found.st_rdev != 0);
            if !is_null {
                // Where it cannot change hands it is used as it is.
                let _ = rustix::fs::fchown(stream, Some(rustix::fs::Uid::from_raw(uid)), None);
            }
        }
        Ok(None)
    }
}

fn terminal(uid: u32) -> Step<OwnedFd> {
    let master = rustix::fs::openat(CWD, "/dev/ptmx", OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC, Mode::empty())
        .doing("open /dev/ptmx")?;
    rustix::pty::unlockpt(&master).doing("unlock the terminal")?;
    let slave =
        rustix::pty::ioctl_tiocgptpeer(&master, OpenptFlags::RDWR | OpenptFlags::NOCTTY).doing("open the terminal")?;
    rustix::process::ioctl_tiocsctty(&slave).doing("take the terminal")?;
    // Where it cannot change hands it is used as it is.
    let _ = rustix::fs::fchown(slave.as_fd(), Some(rustix::fs::Uid::from_raw(uid)), None);
    rustix::stdio::dup2_stdin(&slave).doing("set standard input")?;
    rustix::stdio::dup2_stdout(&slave).doing("set standard output")?;
    rustix::stdio::dup2_stderr(&slave).doing("set standard error")?;
    Ok(master)
}
