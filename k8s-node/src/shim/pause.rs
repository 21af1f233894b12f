//! `pause FOLDER`: holds the process namespace that the containers of one pod share.
//!
//! A process namespace lives as long as its first process. That process does nothing but clear away orphans; it has
//! no rights and sees no files.

use std::path::Path;

use nix::{
    mount::{MsFlags, mount},
    sched::{CloneFlags, unshare},
    sys::{
        signal::{SigSet, Signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Gid, Uid},
};

use super::{Doing, Step, capability, run::report};
use crate::{
    native::{
        cgroup::Cgroup,
        launch::{self, Failure, ProcessId, Report},
    },
    sys,
};

/// Nobody in particular.
const NOBODY: u32 = 65535;

pub(super) fn main(folder: &Path) -> i32 {
    match pin(folder) {
        Ok(process) => {
            report(&Report::Pinned(process));
            0
        }
        Err(failure) => {
            report(&Report::Failed(failure));
            1
        }
    }
}

fn pin(folder: &Path) -> Step<ProcessId> {
    let cgroup: Cgroup = launch::read(folder, "pause.json")
        .doing("read pause.json")?
        .ok_or_else(|| Failure::create("read pause.json", "it is missing"))?;
    cgroup.create().doing("make the cgroup")?;
    let (hold, held) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).doing("make a pipe")?;
    unshare(CloneFlags::CLONE_NEWPID).doing("make a process namespace")?;
    let Some(child) = sys::fork().doing("fork")? else {
        drop(hold);
        if let Err(failure) = become_nobody(&cgroup, folder) {
            eprintln!("{}", failure.message);
            sys::exit_now(1);
        }
        drop(held);
        wait_forever();
    };
    drop(held);
    // Its end closes as soon as the child is ready, or gone.
    let _ = rustix::io::read(&hold, &mut [0; 1]);
    let target = folder.join("ns/pid");
    std::fs::File::create(&target).doing("pin the process namespace")?;
    let (source, nothing) = (format!("/proc/{child}/ns/pid"), None::<&str>);
    mount(Some(source.as_str()), &target, nothing, MsFlags::MS_BIND, nothing).doing("pin the process namespace")?;
    ProcessId::of(child.as_raw()).doing("look at the first process")
}

fn become_nobody(cgroup: &Cgroup, folder: &Path) -> Step<()> {
    sys::default_signals().doing("reset signals")?;
    rustix::process::setsid().doing("begin a session")?;
    cgroup.enter(&crate::runtime::Resources::default()).doing("enter the cgroup")?;
    unshare(CloneFlags::CLONE_NEWNS).doing("make a mount namespace")?;
    let nothing = None::<&str>;
    mount(nothing, "/", nothing, MsFlags::MS_PRIVATE | MsFlags::MS_REC, nothing).doing("separate mounts")?;
    let null = std::fs::File::options().read(true).write(true).open("/dev/null").doing("open /dev/null")?;
    rustix::stdio::dup2_stdin(&null).doing("close streams")?;
    rustix::stdio::dup2_stdout(&null).doing("close streams")?;
    nix::unistd::chroot(&folder.join("empty")).doing("leave the machine's files")?;
    nix::unistd::chdir("/").doing("leave the machine's files")?;
    nix::unistd::setgroups(&[]).doing("set groups")?;
    let (gid, uid) = (Gid::from_raw(NOBODY), Uid::from_raw(NOBODY));
    capability::limit_bounding_set(0)?;
    nix::unistd::setresgid(gid, gid, gid).doing("become nobody")?;
    nix::unistd::setresuid(uid, uid, uid).doing("become nobody")
}

fn wait_forever() -> ! {
    let mut children = SigSet::empty();
    children.add(Signal::SIGCHLD);
    // Without it, waiting for the signal would never return, which only leaves orphans uncleared.
    let _ = children.thread_block();
    loop {
        let _ = children.wait();
        while let Ok(WaitStatus::Exited(..) | WaitStatus::Signaled(..)) = waitpid(None, Some(WaitPidFlag::WNOHANG)) {}
    }
}
