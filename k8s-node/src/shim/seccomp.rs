//! The system call filter, as a program for the kernel's packet filter machine.

mod table;

use std::{collections::BTreeMap, path::Path};

use nix::libc;
use serde::Deserialize;

use super::{Doing, Step};
use crate::{
    runtime::{Seccomp, Security},
    sys::FilterStep,
};

/// The filter that a specification asks for; `capabilities` are the container's. `None`: no filter.
pub fn filter(security: &Security, capabilities: u64) -> Step<Option<Vec<FilterStep>>> {
    match &security.seccomp {
        _ if security.privileged => Ok(None),
        Seccomp::Unconfined => Ok(None),
        Seccomp::RuntimeDefault => Ok(Some(assemble(&runtime_default(capabilities)))),
        Seccomp::Localhost(path) => {
            let profile = read_profile(path).doing(format!("seccomp profile {}", path.display()))?;
            Ok(Some(assemble(&profile)))
        }
    }
}

/// What is decided for one system call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Allow,
    Errno(u16),
    Kill,
    Log,
    /// Allowed unless this argument has one of these bits.
    UnlessBits {
        argument: u8,
        bits: u32,
        otherwise: u16,
    },
}

/// Verdicts by number, and for all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Profile {
    verdicts: BTreeMap<u32, Verdict>,
    otherwise: Verdict,
}

const EPERM: u16 = libc::EPERM as u16;
const ENOSYS: u16 = libc::ENOSYS as u16;
/// Flags of `clone` that make namespaces.
const CLONE_NAMESPACES: u32 = 0x7e02_0000;

/// Refused without the capability (by bit number) that they are for.
const NEEDS: &[(u32, &[&str])] = &[
    (2, &["open_by_handle_at"]),
    (16, &["delete_module", "init_module", "finit_module"]),
    (17, &["iopl", "ioperm"]),
    (18, &["chroot"]),
    (20, &["acct"]),
    (
        21,
        &[
            "bpf",
            "fanotify_init",
            "fsconfig",
            "fsmount",
            "fsopen",
            "fspick",
            "lookup_dcookie",
            "mount",
            "mount_setattr",
            "move_mount",
            "open_tree",
            "perf_event_open",
            "quotactl",
            "quotactl_fd",
            "setdomainname",
            "sethostname",
            "setns",
            "syslog",
            "umount2",
            "unshare",
        ],
    ),
    (22, &["reboot"]),
    (23, &["get_mempolicy", "mbind", "set_mempolicy", "set_mempolicy_home_node"]),
    (25, &["settimeofday", "clock_settime"]),
    (26, &["vhangup"]),
];

/// Refused in any case.
const NEVER: &[&str] = &[
    "_sysctl",
    "add_key",
    "afs_syscall",
    "epoll_ctl_old",
    "epoll_wait_old",
    "getpmsg",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "migrate_pages",
    "move_pages",
    "nfsservctl",
    "pidfd_getfd",
    "pivot_root",
    "process_madvise",
    "putpmsg",
    "request_key",
    "security",
    "swapoff",
    "swapon",
    "sysfs",
    "tuxcall",
    "uselib",
    "userfaultfd",
    "ustat",
    "vserver",
];

const SYS_ADMIN: u32 = 21;

/// The filter of containers that ask for the runtime's own. The counterpart of the one that containerd and Docker
/// have: what is not known answers as an old kernel would.
fn runtime_default(capabilities: u64) -> Profile {
    let has = |bit: u32| capabilities & (1 << bit) != 0;
    let mut verdicts: BTreeMap<u32, Verdict> = calls().map(|(_, number)| (number, Verdict::Allow)).collect();
    let mut set = |name: &str, verdict: Verdict| {
        if let Some(number) = number_of(name) {
            verdicts.insert(number, verdict);
        }
    };
    for (capability, names) in NEEDS {
        if !has(*capability) {
            names.iter().for_each(|name| set(name, Verdict::Errno(EPERM)));
        }
    }
    NEVER.iter().for_each(|name| set(name, Verdict::Errno(EPERM)));
    if !has(SYS_ADMIN) {
        // Its flags lie in memory, where a filter cannot look; libraries fall back to `clone`.
        set("clone3", Verdict::Errno(ENOSYS));
        set("clone", Verdict::UnlessBits { argument: 0, bits: CLONE_NAMESPACES, otherwise: EPERM });
    }
    Profile { verdicts, otherwise: Verdict::Errno(ENOSYS) }
}

fn calls() -> impl Iterator<Item = (&'static str, u32)> {
    let all = table::COMMON.iter().chain(table::OLDER);
    all.filter_map(|&(name, number)| Some((name, u32::try_from(number).ok()?)))
}

fn number_of(name: &str) -> Option<u32> {
    calls().find(|(known, _)| *known == name).map(|(_, number)| number)
}

/// A profile file in the OCI's form.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct File {
    default_action: String,
    #[serde(default)]
    default_errno_ret: Option<u16>,
    #[serde(default)]
    syscalls: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    names: Vec<String>,
    action: String,
    #[serde(default)]
    errno_ret: Option<u16>,
    #[serde(default)]
    args: Vec<serde_json::Value>,
}

/// Reads a profile file. Rules that look at arguments are refused rather than taken for what they are not.
pub fn read_profile(path: &Path) -> Result<Profile, String> {
    let text = std::fs::read(path).map_err(|error| error.to_string())?;
    let file: File = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let otherwise = verdict(&file.default_action, file.default_errno_ret)?;
    let mut verdicts = BTreeMap::new();
    for rule in file.syscalls {
        if !rule.args.is_empty() {
            return Err(format!("conditions on arguments (of {}) are not supported", rule.names.join(", ")));
        }
        let verdict = verdict(&rule.action, rule.errno_ret)?;
        // Names of other machines and kernels are part of every profile.
        verdicts.extend(rule.names.iter().filter_map(|name| number_of(name)).map(|number| (number, verdict)));
    }
    Ok(Profile { verdicts, otherwise })
}

fn verdict(action: &str, errno: Option<u16>) -> Result<Verdict, String> {
    match action {
        "SCMP_ACT_ALLOW" => Ok(Verdict::Allow),
        "SCMP_ACT_ERRNO" => Ok(Verdict::Errno(errno.unwrap_or(EPERM))),
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" | "SCMP_ACT_KILL_PROCESS" => Ok(Verdict::Kill),
        "SCMP_ACT_LOG" => Ok(Verdict::Log),
        other => Err(format!("action {other} is not supported")),
    }
}

#[cfg(target_arch = "x86_64")]
const AUDIT_ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const AUDIT_ARCH: u32 = 0xc000_00b7;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const IF_AT_LEAST: u16 = (libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K) as u16;
const IF_ABOVE: u16 = (libc::BPF_JMP | libc::BPF_JGT | libc::BPF_K) as u16;
const IF_BITS: u16 = (libc::BPF_JMP | libc::BPF_JSET | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

/// Ranges of equal verdicts in ascending order: at most some dozens of comparisons for a call.
fn assemble(profile: &Profile) -> Vec<FilterStep> {
    let mut steps = vec![
        step(LOAD, 0, 0, 4),
        step(IF_EQUAL, 1, 0, AUDIT_ARCH),
        answer(Verdict::Errno(ENOSYS)),
        step(LOAD, 0, 0, 0),
        // Numbers of the 32-bit pointer variant of x86_64.
        step(IF_AT_LEAST, 0, 1, 0x4000_0000),
        answer(Verdict::Errno(ENOSYS)),
    ];
    for (first, last, verdict) in ranges(profile) {
        let body = body(verdict);
        let length = u8::try_from(body.len()).unwrap_or(u8::MAX);
        steps.push(step(IF_AT_LEAST, 0, length + 1, first));
        steps.push(step(IF_ABOVE, length, 0, last));
        steps.extend(body);
    }
    steps.push(answer(profile.otherwise));
    steps
}

fn ranges(profile: &Profile) -> Vec<(u32, u32, Verdict)> {
    let mut ranges: Vec<(u32, u32, Verdict)> = Vec::new();
    for (&number, &verdict) in &profile.verdicts {
        match ranges.last_mut() {
            Some((_, last, same)) if *last + 1 == number && *same == verdict => *last = number,
            _ => ranges.push((number, number, verdict)),
        }
    }
    ranges
}

fn body(verdict: Verdict) -> Vec<FilterStep> {
    match verdict {
        Verdict::UnlessBits { argument, bits, otherwise } => vec![
            // The low half of a 64-bit argument, on little-endian machines.
            step(LOAD, 0, 0, 16 + 8 * u32::from(argument)),
            step(IF_BITS, 0, 1, bits),
            answer(Verdict::Errno(otherwise)),
            answer(Verdict::Allow),
        ],
        plain => vec![answer(plain)],
    }
}

fn answer(verdict: Verdict) -> FilterStep {
    let value = match verdict {
        Verdict::Allow | Verdict::UnlessBits { .. } => libc::SECCOMP_RET_ALLOW,
        Verdict::Errno(number) => libc::SECCOMP_RET_ERRNO | u32::from(number),
        Verdict::Kill => libc::SECCOMP_RET_KILL_PROCESS,
        Verdict::Log => libc::SECCOMP_RET_LOG,
    };
    step(RETURN, 0, 0, value)
}

fn step(code: u16, jump_true: u8, jump_false: u8, operand: u32) -> FilterStep {
    FilterStep { code, jump_true, jump_false, operand }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs a filter as the kernel would.
    fn run(steps: &[FilterStep], arch: u32, number: u32, argument: u32) -> u32 {
        let (mut at, mut value) = (0, 0);
        loop {
            let step = steps[at];
            at += 1;
            let jump = |yes: bool| usize::from(if yes { step.jump_true } else { step.jump_false });
            match step.code {
                LOAD => {
                    value = match step.operand {
                        0 => number,
                        4 => arch,
                        16 => argument,
                        other => panic!("load {other}"),
                    }
                }
                IF_EQUAL => at += jump(value == step.operand),
                IF_AT_LEAST => at += jump(value >= step.operand),
                IF_ABOVE => at += jump(value > step.operand),
                IF_BITS => at += jump(value & step.operand != 0),
                RETURN => return step.operand,
                other => panic!("step {other}"),
            }
        }
    }

    fn ask(capabilities: u64, name: &str, argument: u32) -> u32 {
        run(&assemble(&runtime_default(capabilities)), AUDIT_ARCH, number_of(name).unwrap(), argument)
    }

    const ALLOWED: u32 = libc::SECCOMP_RET_ALLOW;
    const REFUSED: u32 = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    const UNKNOWN: u32 = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;

    #[test]
    fn ordinary_calls_pass_and_dangerous_ones_need_their_capability() {
        for name in ["read", "execve", "openat", "futex", "setuid", "capset", "prctl", "seccomp", "ptrace"] {
            assert_eq!(ask(0, name, 0), ALLOWED, "{name}");
        }
        for name in ["mount", "unshare", "setns", "bpf", "reboot", "keyctl", "io_uring_setup", "kexec_load"] {
            assert_eq!(ask(0, name, 0), REFUSED, "{name}");
        }
        assert_eq!(ask(1 << SYS_ADMIN, "mount", 0), ALLOWED);
        assert_eq!(ask(1 << SYS_ADMIN, "keyctl", 0), REFUSED);
        assert_eq!(ask(0, "clone", 0), ALLOWED);
        assert_eq!(ask(0, "clone", 0x1000_0000), REFUSED);
        assert_eq!(ask(0, "clone3", 0), UNKNOWN);
    }

    #[test]
    fn every_known_call_gets_its_own_verdict() {
        let profile = runtime_default(0);
        let steps = assemble(&profile);
        for (name, number) in calls() {
            if name != "clone" {
                assert_eq!(run(&steps, AUDIT_ARCH, number, 0), answer(profile.verdicts[&number]).operand, "{name}");
            }
        }
        assert_eq!(run(&steps, AUDIT_ARCH, 9999, 0), UNKNOWN);
        assert_eq!(run(&steps, AUDIT_ARCH, 0x4000_0001, 0), UNKNOWN);
        assert_eq!(run(&steps, 0x4000_0003, 1, 0), UNKNOWN);
    }

    #[test]
    fn a_file_is_read_or_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("profile.json");
        let text = r#"{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["read","nonsense"],"action":"SCMP_ACT_ALLOW"}]}"#;
        std::fs::write(&path, text).unwrap();
        let steps = assemble(&read_profile(&path).unwrap());
        assert_eq!(run(&steps, AUDIT_ARCH, number_of("read").unwrap(), 0), ALLOWED);
        assert_eq!(run(&steps, AUDIT_ARCH, number_of("write").unwrap(), 0), REFUSED);
        std::fs::write(&path, text.replace("ALLOW", "TRACE")).unwrap();
        assert_eq!(read_profile(&path), Err("action SCMP_ACT_TRACE is not supported".to_owned()));
    }
}
