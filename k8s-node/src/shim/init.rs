//! From a fresh fork to the container's program: the part that runs as the container's first process.

use std::{
    fs::{self, File},
    os::fd::OwnedFd,
    path::Path,
};

use nix::sched::{CloneFlags, setns, unshare};

use super::{Doing, Step, capability, channel, program, rootfs, seccomp, stdio, user};
use crate::{
    native::{
        cgroup,
        launch::{Failure, Launch, LaunchPid},
    },
    sys,
};

/// What the first process needs from before the fork.
pub struct Entry<'a> {
    /// What to run.
    pub launch: &'a Launch,
    /// The container's folder.
    pub folder: &'a Path,
    /// Its ends of the streams.
    pub streams: stdio::Inner,
    /// Where failures, and the terminal, are sent. Closes when the program is executed.
    pub report: OwnedFd,
}

/// What the program will be: sent to the shim before it is executed.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub enum Word {
    /// User, group and supplementary groups.
    User(u32, u32, Vec<u32>),
    /// The end.
    Failed(Failure),
}

/// Becomes the container. Returns only when that failed; the failure has then been reported.
pub fn enter(entry: Entry<'_>) {
    let Entry { launch, folder, streams, report } = entry;
    let failure = match prepare(launch, folder, streams, &report) {
        Ok(env) => program::execute(&launch.argv, &env),
        Err(failure) => failure,
    };
    say(&report, &Word::Failed(failure), None);
}

/// Sends one word. A shim that is gone needs none: the kernel ends this process with it.
pub fn say(report: &OwnedFd, word: &Word, descriptor: Option<&OwnedFd>) {
    use std::os::fd::AsFd;
    // Invariant: the word is plain data, which always serialises.
    let mut text = serde_json::to_vec(word).expect("words serialise");
    text.push(b'\n');
    let _ = channel::send(report, &text, descriptor.map(|descriptor| descriptor.as_fd()));
}

fn prepare(launch: &Launch, folder: &Path, streams: stdio::Inner, report: &OwnedFd) -> Step<Vec<(String, String)>> {
    sys::default_signals().doing("reset signals")?;
    rustix::process::setsid().doing("begin a session")?;
    launch.cgroup.enter(&launch.resources).doing("enter the cgroup")?;
    join_namespaces(launch)?;
    unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWCGROUP).doing("make a mount namespace")?;
    let (sources, nodes) = rootfs::open_sources(launch)?;
    rootfs::enter(launch, folder)?;
    rootfs::furnish(launch, sources, &nodes)?;
    let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
    let identity = user::resolve(&launch.user, &launch.image_user, &read("/etc/passwd"), &read("/etc/group"))?;
    let terminal = streams.install(identity.uid)?;
    if terminal.is_some() {
        bind_console()?;
    }
    if launch.security.read_only_rootfs {
        rootfs::protect_root()?;
    }
    say(report, &Word::User(identity.uid, identity.gid, identity.groups.clone()), terminal.as_ref());
    drop(terminal);
    rootfs::enter_working_folder(&launch.cwd)?;
    become_user(launch, &identity)?;
    let mut env = launch.env.clone();
    if !env.iter().any(|(name, _)| name == "HOME") {
        env.push(("HOME".to_owned(), identity.home));
    }
    Ok(env)
}

/// Confines this process: system call filter, capabilities, user. Shared with commands run later.
pub fn become_user(launch: &Launch, identity: &user::Identity) -> Step<()> {
    use nix::unistd::{Gid, Uid};
    let bits = capability::parse(&launch.security, launch.cgroup.can_restrict_devices()).doing("capabilities")?;
    adjust_oom_score(launch);
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    sys::close_on_exec_from(3).doing("close files")?;
    capability::limit_bounding_set(bits)?;
    if launch.security.no_new_privileges {
        rustix::thread::set_no_new_privs(true).doing("refuse new privileges")?;
    }
    if let Some(filter) = seccomp::filter(&launch.security, bits)? {
        sys::install_filter(&filter).doing("install the system call filter")?;
    }
    let groups: Vec<Gid> = identity.groups.iter().map(|&group| Gid::from_raw(group)).collect();
    nix::unistd::setgroups(&groups).doing("set groups")?;
    let gid = Gid::from_raw(identity.gid);
    nix::unistd::setresgid(gid, gid, gid).doing(format!("become group {gid}"))?;
    let uid = Uid::from_raw(identity.uid);
    nix::unistd::setresuid(uid, uid, uid).doing(format!("become user {uid}"))?;
    capability::set(bits)?;
    // A container whose shim was killed could not be stopped or waited for any more.
    let signal = Some(rustix::process::Signal::KILL);
    rustix::process::set_parent_process_death_signal(signal).doing("end with the shim")
}

fn join_namespaces(launch: &Launch) -> Step<()> {
    for (path, kind) in [
        (&launch.ipc, CloneFlags::CLONE_NEWIPC),
        (&launch.uts, CloneFlags::CLONE_NEWUTS),
        (&launch.network, CloneFlags::CLONE_NEWNET),
    ] {
        if let Some(path) = path {
            let what = format!("join {}", path.display());
            setns(File::open(path).doing(&what)?, kind).doing(&what)?;
        }
    }
    Ok(())
}

/// Decides the process namespace of the next fork.
pub fn choose_pid_namespace(pid: &LaunchPid) -> Step<()> {
    match pid {
        LaunchPid::New => unshare(CloneFlags::CLONE_NEWPID).doing("make a process namespace"),
        LaunchPid::Join(path) => {
            let what = format!("join {}", path.display());
            setns(File::open(path).doing(&what)?, CloneFlags::CLONE_NEWPID).doing(&what)
        }
        LaunchPid::Host => Ok(()),
    }
}

/// Limits the cgroup, before anything enters it.
pub fn make_cgroup(launch: &Launch) -> Step<()> {
    launch.cgroup.create().doing("make the cgroup")?;
    launch.cgroup.apply(&launch.resources).doing("limit the cgroup")?;
    if launch.security.privileged {
        return Ok(());
    }
    let devices = cgroup::device_numbers(&launch.devices).doing("offer devices")?;
    launch.cgroup.restrict_devices(&devices).doing("restrict devices")
}

/// Without one of its own a container has the neutral score, not the one that the shim or the agent has.
fn adjust_oom_score(launch: &Launch) {
    let score = launch.resources.oom_score_adj.unwrap_or(0);
    // Without CAP_SYS_RESOURCE the score can only rise: if this would lower it, the present one is the nearest.
    let _ = fs::write("/proc/self/oom_score_adj", score.to_string());
}

fn bind_console() -> Step<()> {
    use nix::mount::{MsFlags, mount};
    let nothing: Option<&str> = None;
    File::create("/dev/console").doing("make /dev/console")?;
    let name = rustix::termios::ttyname(rustix::stdio::stdin(), Vec::new()).doing("name the terminal")?;
    mount(Some(name.as_c_str()), "/dev/console", nothing, MsFlags::MS_BIND, nothing).doing("make /dev/console")
}
