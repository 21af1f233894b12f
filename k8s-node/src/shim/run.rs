//! `run FOLDER`: starts one container, keeps its streams, records its end.

use std::{
    fs::File,
    io::Write,
    os::{fd::OwnedFd, unix::net::UnixListener},
    path::Path,
};

use nix::{
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        wait::waitpid,
    },
    unistd::Pid,
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::{
    Doing, Step, channel,
    init::{self, Entry, Word},
    log::Log,
    now, stdio,
    supervise::{self, Ended},
};
use crate::{
    native::launch::{self, Failure, Launch, ProcessId, Report, Stage, Started},
    runtime::Exit,
    sys,
};

pub(super) fn main(folder: &Path) -> i32 {
    match run(folder) {
        Ok(()) => 0,
        Err(failure) => {
            // The record first: whoever reads the report may look at it.
            record_failure(folder, &failure);
            report(&Report::Failed(failure));
            1
        }
    }
}

/// A container that was started, and the shim's ends of all that leads to it.
pub(super) struct Running {
    pub process: Pid,
    pub started: Started,
    pub streams: stdio::Outer,
    pub log: Log,
    pub signals: SignalFd,
    pub listener: UnixListener,
}

fn run(folder: &Path) -> Step<()> {
    // Out of reach of the agent's terminal. It cannot fail for a fresh child, which leads no group.
    let _ = rustix::process::setsid();
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let me = ProcessId::of(rustix::process::getpid().as_raw_nonzero().get()).doing("look at the shim")?;
    if !launch::claim(folder, "shim.json", &me).doing("claim the container")? {
        return Err(Failure::create("start the container", "it was started before"));
    }
    let launch: Launch = launch::read(folder, "launch.json")
        .doing("read launch.json")?
        .ok_or_else(|| Failure::create("read launch.json", "it is missing"))?;
    nix::sys::prctl::set_child_subreaper(true).doing("adopt orphans")?;
    sys::ignore_signal(Signal::SIGPIPE).doing("set signals")?;
    protect_from_oom_killer();
    init::make_cgroup(&launch)?;
    let running = start(&launch, folder).inspect_err(|_| discard_cgroup(&launch))?;
    launch::write(folder, "running.json", &running.started).doing("record the start")?;
    report(&Report::Started(running.started.clone()));
    release_standard_streams()?;
    let started_at = running.started.started_at;
    let ended = supervise::supervise(running, &launch);
    record_end(folder, &launch, ended, started_at)
}

fn start(launch: &Launch, folder: &Path) -> Step<Running> {
    let log = Log::open(launch.log_path.as_deref()).doing("open the container log")?;
    let (inner, mut streams) = stdio::make(launch.tty, launch.stdin)?;
    let listener = listen(folder)?;
    let signals = watch_signals()?;
    let (ours, theirs) = rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)
        .doing("make a socket")?;
    init::choose_pid_namespace(&launch.pid)?;
    let Some(process) = sys::fork().doing("fork")? else {
        drop(ours);
        init::enter(Entry { launch, folder, streams: inner, report: theirs });
        sys::exit_now(1);
    };
    drop((inner, theirs));
    let (user, terminal) = hear(&ours).inspect_err(|_| {
        // It ends by itself after reporting; waiting only clears it away.
        let _ = waitpid(process, None);
    })?;
    if let Some(terminal) = terminal {
        streams.stdin = Some(terminal.try_clone().doing("copy the terminal")?);
        streams.stdout = Some(terminal);
    }
    let id = ProcessId::of(process.as_raw()).doing("look at the first process")?;
    let started = Started { process: id, started_at: now(), user };
    Ok(Running { process, started, streams, log, signals, listener })
}

/// User, group and supplementary groups of the program; its terminal.
type Heard = ((u32, u32, Vec<u32>), Option<OwnedFd>);

/// Listens until the program is executed: who it runs as, its terminal, or why it does not run.
pub(super) fn hear(report: &OwnedFd) -> Step<Heard> {
    let (mut text, mut terminal, mut buffer) = (Vec::new(), None, [0; 4096]);
    loop {
        let (length, descriptor) = channel::receive(report, &mut buffer).doing("hear from the container")?;
        terminal = descriptor.or(terminal);
        if length == 0 {
            break;
        }
        text.extend_from_slice(&buffer[..length]);
    }
    let mut user = None;
    for line in text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()) {
        match serde_json::from_slice(line).doing("hear from the container")? {
            Word::User(uid, gid, groups) => user = Some((uid, gid, groups)),
            Word::Failed(failure) => return Err(failure),
        }
    }
    let user =
        user.ok_or_else(|| Failure::create("start the container", "its first process was killed while setting up"))?;
    Ok((user, terminal))
}

/// Bound through the folder's descriptor: paths of sockets may have only 108 bytes.
fn listen(folder: &Path) -> Step<UnixListener> {
    use std::os::fd::AsRawFd;
    let open = File::open(folder).doing("open the container's folder")?;
    let path = format!("/proc/self/fd/{}/attach.sock", open.as_raw_fd());
    let listener = UnixListener::bind(path).doing("make attach.sock")?;
    listener.set_nonblocking(true).doing("make attach.sock")?;
    Ok(listener)
}

/// The end of a child, the request to open the log again, and those that would end the shim by mistake.
fn watch_signals() -> Step<SignalFd> {
    let mut set = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGUSR1, Signal::SIGTERM, Signal::SIGINT, Signal::SIGHUP] {
        set.add(signal);
    }
    set.thread_block().doing("block signals")?;
    SignalFd::with_flags(&set, SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC).doing("watch signals")
}

fn protect_from_oom_killer() {
    // Needs CAP_SYS_RESOURCE; without it the shim is small enough to be an unlikely choice.
    let _ = std::fs::write("/proc/self/oom_score_adj", "-999");
}

pub(super) fn report(report: &Report) {
    // Invariant: the report is plain data, which always serialises.
    let mut line = serde_json::to_vec(report).expect("reports serialise");
    line.push(b'\n');
    // An agent that is gone reads the files instead.
    let _ = std::io::stdout().write_all(&line).and_then(|()| std::io::stdout().flush());
}

/// Lets go of the agent's pipes: it waits for their end.
fn release_standard_streams() -> Step<()> {
    let null = File::options().read(true).write(true).open("/dev/null").doing("open /dev/null")?;
    rustix::stdio::dup2_stdout(&null).doing("release standard output")
}

fn discard_cgroup(launch: &Launch) {
    // What cannot be removed now is removed with the container.
    let _ = launch.cgroup.remove(Path::new("/nothing-above"));
}

fn record_failure(folder: &Path, failure: &Failure) {
    let time = now();
    let reason = match failure.stage {
        Stage::Create => "ContainerCannotRun",
        Stage::Start => "StartError",
    };
    let (reason, message) = (reason.to_owned(), failure.message.clone());
    let exit = Exit { code: 128, signal: None, reason, message, started_at: time, finished_at: time };
    if let Err(error) = launch::write(folder, "exit.json", &exit) {
        eprintln!("record the failure to start: {error}");
    }
}

fn record_end(folder: &Path, launch: &Launch, ended: Ended, started_at: k8s_core::env::Timestamp) -> Step<()> {
    let out_of_memory = ended.code != 0 && launch.cgroup.memory_kills() > 0;
    let reason = match (ended.code, out_of_memory) {
        (_, true) => "OOMKilled",
        (0, _) => "Completed",
        _ => "Error",
    };
    let (reason, message) = (reason.to_owned(), String::new());
    let exit = Exit { code: ended.code, signal: ended.signal, reason, message, started_at, finished_at: ended.at };
    discard_cgroup(launch);
    launch::write(folder, "exit.json", &exit).doing("record the end")
}
