//! Starts the shim's modes.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use super::launch::Report;

/// How to start the shim: usually this very program, with a hidden subcommand that calls [`crate::shim::main`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShimCommand {
    /// The program, an absolute path; `/proc/self/exe` survives its replacement by an upgrade.
    pub program: PathBuf,
    /// What comes before the shim's own arguments.
    pub args: Vec<String>,
}

impl ShimCommand {
    fn command(&self, mode: &str) -> Command {
        let mut command = Command::new(&self.program);
        command.args(&self.args).arg(mode).env_clear().current_dir("/");
        command
    }

    /// Starts `mode FOLDER` and waits for its report. What it complains about goes to `shim.log` in the folder.
    pub fn report(&self, mode: &str, folder: &Path) -> io::Result<(Child, Report)> {
        let complaints = folder.join("shim.log");
        let log = File::options().create(true).append(true).open(&complaints)?;
        let mut command = self.command(mode);
        command.arg(folder).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", self.program.display())))?;
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
