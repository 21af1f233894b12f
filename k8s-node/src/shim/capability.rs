//! Which capabilities a container has.

use rustix::thread::{CapabilitySet, CapabilitySets};

use super::{Doing, Step};
use crate::runtime::Security;

/// By bit number.
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What a container has that asks for nothing.
const DEFAULT: [&str; 14] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "FSETID",
    "FOWNER",
    "MKNOD",
    "NET_RAW",
    "SETGID",
    "SETUID",
    "SETFCAP",
    "SETPCAP",
    "NET_BIND_SERVICE",
    "SYS_CHROOT",
    "KILL",
    "AUDIT_WRITE",
];

const ALL: u64 = (1 << NAMES.len()) - 1;

/// The bits that a specification asks for, or the name that is no capability.
///
/// `devices_restricted` says whether a cgroup keeps the container from using devices that it makes: where none does,
/// `MKNOD` is not in the default set.
pub fn parse(security: &Security, devices_restricted: bool) -> Result<u64, String> {
    let (mut add, mut drop, mut add_all, mut drop_all) = (0, 0, false, false);
    for (names, bits, all, verb) in [
        (&security.add_capabilities, &mut add, &mut add_all, "add"),
        (&security.drop_capabilities, &mut drop, &mut drop_all, "drop"),
    ] {
        for name in names {
            match bit(name) {
                _ if is_all(name) => *all = true,
                Some(bit) => *bits |= bit,
                None => return Err(format!("unknown capability {name:?} to {verb}")),
            }
        }
    }
    if security.privileged {
        return Ok(ALL);
    }
    let mut bits: u64 = DEFAULT.iter().filter_map(|name| bit(name)).sum();
    if !devices_restricted {
        bits &= !bit("MKNOD").unwrap_or(0);
    }
    if add_all {
        bits = ALL;
    }
    if drop_all {
        bits = 0;
    }
    Ok((bits | add) & !drop)
}

fn is_all(name: &str) -> bool {
    name.eq_ignore_ascii_case("ALL") || name.eq_ignore_ascii_case("CAP_ALL")
}

fn bit(name: &str) -> Option<u64> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    NAMES.iter().position(|known| *known == short).map(|number| 1 << number)
}

/// Takes everything but `bits` out of reach, for this process and all that it executes.
///
/// What the machine does not let us have is left out silently: nobody can give more than he has.
pub(super) fn limit_bounding_set(bits: u64) -> Step<()> {
    for (number, name) in NAMES.iter().enumerate() {
        let one = CapabilitySet::from_bits_retain(1 << number);
        // A kernel that does not know the capability refuses to answer: then there is nothing to drop.
        if bits & one.bits() == 0 && rustix::thread::capability_is_in_bounding_set(one).unwrap_or(false) {
            rustix::thread::remove_capability_from_bounding_set(one).doing(format!("drop capability {name}"))?;
        }
    }
    Ok(())
}

/// Sets the capabilities of the process itself. A process that is not root keeps none through `execve` anyway.
pub(super) fn set(bits: u64) -> Step<()> {
    let have = rustix::thread::capabilities(None).doing("read capabilities")?;
    let bits = CapabilitySet::from_bits_retain(bits) & have.permitted;
    let sets = CapabilitySets { effective: bits, permitted: bits, inheritable: CapabilitySet::empty() };
    rustix::thread::set_capabilities(None, sets).doing("set capabilities")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(add: &[&str], drop: &[&str]) -> Result<Vec<&'static str>, String> {
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let security = Security { add_capabilities: own(add), drop_capabilities: own(drop), ..Security::default() };
        let bits = parse(&security, true)?;
        Ok((0..NAMES.len()).filter(|n| bits & (1 << n) != 0).map(|n| NAMES[n]).collect())
    }

    #[test]
    fn dropping_all_and_adding_one_leaves_one() {
        assert_eq!(names(&["NET_BIND_SERVICE"], &["ALL"]), Ok(vec!["NET_BIND_SERVICE"]));
        assert_eq!(names(&["cap_sys_time"], &["all"]), Ok(vec!["SYS_TIME"]));
        assert_eq!(names(&[], &[]).map(|names| names.len()), Ok(14));
        assert_eq!(names(&["ALL"], &["SYS_ADMIN"]).map(|names| names.len()), Ok(40));
        assert_eq!(names(&["NICE"], &[]), Err("unknown capability \"NICE\" to add".to_owned()));
    }

    #[test]
    fn nodes_cannot_be_made_where_nothing_restricts_their_use() {
        let bits = parse(&Security::default(), false).unwrap();
        assert_eq!(bits & bit("MKNOD").unwrap(), 0);
    }
}
