//! Starts the shim's modes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use rustix::{fs::CWD, mount::OpenTreeFlags};

use super::launch::Report;
use crate::sys;

/// How to start the shim: usually this very program, with a hidden subcommand that calls [`crate::shim::main`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimCommand {
    /// The program, an absolute path; `/proc/self/exe` survives its replacement by an upgrade.
    pub program: PathBuf,
    /// What comes before the shim's own arguments.
    pub args: Vec<String>,
}

/// The program of a [`ShimCommand`], held.
pub struct Shim {
    command: ShimCommand,
    /// The program, seen through a read-only mount that nobody else can reach: a container that gets hold of it as
    /// `/proc/self/exe` cannot write to it. Also, replacing the program on disk does not take it away.
    program: OwnedFd,
}

impl Shim {
    /// Takes hold of the program.
    pub fn new(command: ShimCommand) -> io::Result<Self> {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        let program = rustix::mount::open_tree(CWD, &command.program, flags)?;
        sys::mount_read_only_recursive(program.as_fd())?;
        Ok(Self { command, program })
    }

    fn command(&self, mode: &str) -> Command {
        let mut command = Command::new(format!("/proc/self/fd/{}", self.program.as_raw_fd()));
        command.arg0(&self.command.program).args(&self.command.args).arg(mode).env_clear().current_dir("/");
        command
    }

    /// Starts `mode FOLDER` and waits for its report. What it complains about goes to `shim.log` in the folder.
    pub fn report(&self, mode: &str, folder: &Path) -> io::Result<(Child, Report)> {
        let complaints = folder.join("shim.log");
        let log = File::options().create(true).append(true).open(&complaints)?;
        let mut command = self.command(mode);
        command.arg(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let named = |error| io::Error::other(format!("{}: {error}", self.command.program.display()));
        let mut child = command.spawn().map_err(|error: io::Error| named(error))?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match serde_json::from_str(&line) {
            Ok(report) => Ok((child, report)),
            Err(_) => {
                let status = child.wait()?;
                let text = std::fs::read_to_string(&complaints).unwrap_or_default();
                Err(io::Error::other(format!("the shim ended without a report ({status}): {}", text.trim())))
            }
        }
    }

    /// Starts the `exec` helper with `control` as its standard input.
    pub fn exec(&self, control: OwnedFd) -> io::Result<Child> {
        self.command("exec").stdin(control).stdout(Stdio::null()).stderr(Stdio::null()).spawn()
    }
}

/// A handle on a child that was just started and not yet waited for.
pub fn handle(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
    let pid = pid.ok_or_else(|| io::Error::other("a process id out of range"))?;
    Ok(rustix::process::pidfd_open(pid, rustix::process::PidfdFlags::empty())?)
}
