//! The small process beside each container, and the helpers that enter containers.
//!
//! The program that contains this crate executes itself with a hidden subcommand that calls [`main`], before it
//! starts any thread or async runtime: everything here is single-threaded and blocking, which is what makes forking
//! and changing namespaces safe. Nothing here may use tokio.
//!
//! | Arguments | What it does |
//! |---|---|
//! | `run FOLDER` | starts the container described in the folder, keeps its streams, records its end |
//! | `exec` | runs one command in a running container; told what over the socket that is its standard input |
//! | `pause FOLDER` | holds the process namespace of a pod |
//!
//! The shim takes its time from the system clock: it outlives the agent, and nobody can hand it one.

mod attach;
mod capability;
mod channel;
mod exec;
mod init;
mod log;
mod pause;
mod program;
mod rootfs;
mod run;
mod seccomp;
mod stdio;
mod supervise;
mod user;

pub(crate) use attach::{Frame, FrameReader, Greeting};
pub(crate) use capability::parse as check_capabilities;
pub(crate) use channel::{receive, send};
pub(crate) use seccomp::read_profile as check_seccomp;

use std::{ffi::OsString, fmt::Display, path::Path};

use k8s_core::env::Timestamp;

use crate::native::launch::Failure;

/// Runs one of the modes to its end and answers the exit code for the process.
pub fn main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    let words: Vec<&str> = arguments.iter().map(|word| word.to_str().unwrap_or_default()).collect();
    // Processes of a container that this one enters must not look at what it still holds of the machine. It cannot
    // fail with this value.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    // Processes of a container that this one enters must not look at what it still holds of the machine. It cannot
    // fail with this value.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    match words.as_slice() {
        ["run", folder] => run::main(Path::new(folder)),
        ["exec"] => exec::main(),
        ["pause", folder] => pause::main(Path::new(folder)),
        _ => {
            eprintln!("this is the container shim: it is started by the node agent, not by hand");
            2
        }
    }
}

/// The result of one step of setting up.
type Step<T> = Result<T, Failure>;

/// Says what was being done when a step of setting up failed.
trait Doing<T> {
    fn doing(self, what: impl Display) -> Step<T>;
}

impl<T, E: Display> Doing<T> for Result<T, E> {
    fn doing(self, what: impl Display) -> Step<T> {
        self.map_err(|error| Failure::create(what, error))
    }
}

fn now() -> Timestamp {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Realtime);
    // Invariant: the nanoseconds of a kernel time are below one second, and its year is one that jiff knows.
    Timestamp::new(time.tv_sec, i32::try_from(time.tv_nsec).unwrap_or(0)).unwrap_or(Timestamp::UNIX_EPOCH)
}
