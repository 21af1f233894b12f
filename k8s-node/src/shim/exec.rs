//! `exec`: runs one command in a running container.
//!
//! Standard input is a control socket: the agent sends one [`ExecRequest`] line and, unless a terminal is asked for,
//! three descriptors to use as the streams; it gets [`ExecReport`] lines. When the agent closes the socket, the
//! command is killed.

use std::{
    fs,
    os::fd::{AsFd, OwnedFd},
};

use nix::{
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sched::{CloneFlags, setns},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::Pid,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{
    Doing, Step, channel,
    init::{self, Word, say},
    program, rootfs, run, stdio, user,
};
use crate::{
    native::launch::{self, ExecReport, ExecRequest, Failure, Launch, Started},
    sys,
};

pub(super) fn main() -> i32 {
    let Ok(control) = rustix::stdio::stdin().try_clone_to_owned() else { return 2 };
    match run(&control) {
        Ok(()) => 0,
        Err(failure) => {
            answer(&control, &ExecReport::Failed(failure), None);
            1
        }
    }
}

fn run(control: &OwnedFd) -> Step<()> {
    // Out of reach of the agent's terminal. It cannot fail for a fresh child, which leads no group.
    let _ = rustix::process::setsid();
    let (request, streams) = hear_request(control)?;
    let folder = &request.folder;
    let missing = |name: &str| Failure::create(format!("read {name}"), "the container does not run");
    let launch: Launch =
        launch::read(folder, "launch.json").doing("read launch.json")?.ok_or_else(|| missing("launch.json"))?;
    let started: Started =
        launch::read(folder, "running.json").doing("read running.json")?.ok_or_else(|| missing("running.json"))?;
    let signals = watch_children()?;
    // Entered before the mount namespace changes, and inherited by the command.
    let container = started.process.open().ok_or_else(|| missing("the first process"))?;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .doing("make a socket")?;
    setns(&container, CloneFlags::CLONE_NEWPID).doing("join the process namespace")?;
    let Some(child) = sys::fork().doing("fork")? else {
        drop(ours);
        let failure = match prepare(&launch, &started, &container, streams, &theirs) {
            Ok(env) => program::execute(&request.argv, &env),
            Err(failure) => failure,
        };
        say(&theirs, &Word::Failed(failure), None);
        sys::exit_now(1);
    };
    drop((theirs, streams));
    let (_, terminal) = run::hear(&ours).inspect_err(|_| {
        // It ends by itself after reporting; waiting only clears it away.
        let _ = waitpid(child, None);
    })?;
    answer(control, &ExecReport::Started, terminal);
    let code = wait(child, control, &signals);
    answer(control, &ExecReport::Exited(code), None);
    Ok(())
}

fn hear_request(control: &OwnedFd) -> Step<(ExecRequest, stdio::Inner)> {
    let (mut text, mut descriptors, mut buffer) = (Vec::new(), Vec::new(), vec![0; 64 << 10]);
    let request: ExecRequest = loop {
        let (length, descriptor) = channel::receive(control, &mut buffer).doing("hear the request")?;
        descriptors.extend(descriptor);
        text.extend_from_slice(&buffer[..length]);
        if length == 0 || text.ends_with(b"\n") {
            break serde_json::from_slice(&text).doing("hear the request")?;
        }
    };
    if request.tty {
        return Ok((request, stdio::make(true, true)?.0));
    }
    let count = descriptors.len();
    let streams = <[OwnedFd; 3]>::try_from(descriptors)
        .map_err(|_| Failure::create("hear the request", format!("{count} descriptors came, not 3")))?;
    Ok((request, stdio::Inner::given(streams)))
}

fn prepare(
    launch: &Launch,
    started: &Started,
    container: &OwnedFd,
    streams: stdio::Inner,
    report: &OwnedFd,
) -> Step<Vec<(String, String)>> {
    sys::default_signals().doing("reset signals")?;
    rustix::process::setsid().doing("begin a session")?;
    launch.cgroup.enter(&launch.resources).doing("enter the cgroup")?;
    let kinds = CloneFlags::CLONE_NEWIPC
        | CloneFlags::CLONE_NEWUTS
        | CloneFlags::CLONE_NEWNET
        | CloneFlags::CLONE_NEWCGROUP
        | CloneFlags::CLONE_NEWNS;
    setns(container, kinds).doing("join the container")?;
    let (uid, gid, groups) = started.user.clone();
    let passwd = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let wanted = crate::runtime::User { uid: Some(uid), ..Default::default() };
    let home = user::resolve(&wanted, "", &passwd, "")?.home;
    let identity = user::Identity { uid, gid, groups, home };
    let terminal = streams.install(uid)?;
    say(report, &Word::User(uid, gid, identity.groups.clone()), terminal.as_ref());
    let tty = terminal.is_some();
    drop(terminal);
    rootfs::enter_working_folder(&launch.cwd)?;
    init::become_user(launch, &identity)?;
    let mut env = launch.env.clone();
    let mut default = |name: &str, value: &str| {
        if !env.iter().any(|(known, _)| known == name) {
            env.push((name.to_owned(), value.to_owned()));
        }
    };
    default("HOME", &identity.home);
    if tty {
        default("TERM", "xterm");
    }
    Ok(env)
}

fn watch_children() -> Step<SignalFd> {
    let mut set = SigSet::empty();
    set.add(Signal::SIGCHLD);
    set.thread_block().doing("block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).doing("watch signals")
}

/// Waits for the command's end, and kills it when the agent is gone.
fn wait(child: Pid, control: &OwnedFd, signals: &SignalFd) -> i32 {
    let mut wanted = true;
    loop {
        match waitpid(child, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::Exited(_, code)) => return code,
            Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
            Err(_) => return 255,
            Ok(_) => {}
        }
        let mut descriptors = vec![PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        if wanted {
            descriptors.push(PollFd::new(control.as_fd(), PollFlags::POLLIN));
        }
        // An interrupted wait looks again.
        let _ = poll(&mut descriptors, PollTimeout::NONE);
        let closed = descriptors.get(1).and_then(|d| d.revents()).is_some_and(|flags| !flags.is_empty());
        while let Ok(Some(_)) = signals.read_signal() {}
        if closed {
            // Nothing is ever sent after the request: whatever is ready is the end.
            wanted = false;
            let _ = kill(child, Signal::SIGKILL);
        }
    }
}

fn answer(control: &OwnedFd, report: &ExecReport, terminal: Option<OwnedFd>) {
    // Invariant: the report is plain data, which always serialises.
    let mut line = serde_json::to_vec(report).expect("reports serialise");
    line.push(b'\n');
    // An agent that is gone needs no answer.
    let _ = channel::send(control, &line, terminal.as_ref().map(|terminal| terminal.as_fd()));
}
