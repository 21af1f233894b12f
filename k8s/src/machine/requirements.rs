//! What a node needs of its machine. Each check says in one sentence what is missing, before anything is started.

use std::{fs, path::Path};

use super::{MachineError, NFT};

/// The capabilities that namespaces, mounts, cgroups and packet rules take, and their bits.
const CAPABILITIES: [(&str, u32); 2] = [("CAP_NET_ADMIN", 12), ("CAP_SYS_ADMIN", 21)];
/// The kinds of namespaces that a pod has of its own.
const NAMESPACES: [&str; 5] = ["ipc", "mnt", "net", "pid", "uts"];

/// Checks what nodes and the service proxy need: to be root, unhindered, and the program for packet rules.
pub fn check_privileges() -> Result<(), MachineError> {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    match lacking_privilege(&status) {
        Some(why) => Err(MachineError(why)),
        None if !Path::new(NFT).exists() => {
            let why =
                "the program nft is missing (Debian package nftables): the pod network and the service proxy need it";
            Err(MachineError(why.into()))
        }
        None => Ok(()),
    }
}

/// Checks what the kernel must be able to do for containers.
pub fn check_kernel() -> Result<(), MachineError> {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let modules = Path::new("/lib/modules").join(release.trim());
    let known = ["modules.builtin", "modules.dep"].map(|list| fs::read_to_string(modules.join(list)));
    let loadable = known.into_iter().flatten().any(|list| list.contains("/overlay.ko"));
    let filesystems = fs::read_to_string("/proc/filesystems").unwrap_or_default();
    let namespaces = fs::read_dir("/proc/self/ns").into_iter().flatten().flatten();
    let namespaces: Vec<String> = namespaces.filter_map(|entry| entry.file_name().into_string().ok()).collect();
    lacking_feature(&filesystems, loadable, &namespaces).map_or(Ok(()), |why| Err(MachineError(why)))
}

/// Reads `/proc/self/status`.
fn lacking_privilege(status: &str) -> Option<String> {
    let value = |field: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().split_whitespace().collect::<Vec<_>>()
    };
    if value("Uid").get(1) != Some(&"0") {
        let why = "a node with containers needs root (namespaces, cgroups, mounts); without it, add `--nodes hollow:1` \
                   for simulated nodes";
        return Some(why.to_owned());
    }
    let effective = value("CapEff").first().and_then(|bits| u64::from_str_radix(bits, 16).ok()).unwrap_or(0);
    let lacking = CAPABILITIES.iter().find(|(_, bit)| effective & (1 << bit) == 0);
    lacking.map(|(name, _)| {
        format!(
            "root lacks the capability {name} here (a container without privileges?): a node with containers needs \
             it; without it, add `--nodes hollow:1` for simulated nodes"
        )
    })
}

/// `loadable`: whether overlayfs is a module that the kernel finds when it is first used.
fn lacking_feature(filesystems: &str, loadable: bool, namespaces: &[String]) -> Option<String> {
    let has_overlay = filesystems.lines().any(|line| line.split_whitespace().last() == Some("overlay"));
    if !has_overlay && !loadable {
        return Some("this kernel has no overlayfs, which containers' file systems are made of".to_owned());
    }
    let lacking = NAMESPACES.iter().find(|kind| !namespaces.iter().any(|name| name == *kind))?;
    Some(format!("this kernel has no namespaces of the kind {lacking:?}, which keep pods apart"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(uid: &str, capabilities: &str) -> Option<String> {
        lacking_privilege(&format!("Name:\tk8s\nUid:\t1000\t{uid}\t0\t0\nCapPrm:\t0\nCapEff:\t{capabilities}\n"))
    }

    #[test]
    fn the_privilege_that_is_missing_is_named() {
        assert_eq!(status("0", "000001ffffffffff"), None);
        for (uid, capabilities, named) in [
            ("1000", "000001ffffffffff", "root"),
            ("0", "00000000a80425fb", "CAP_NET_ADMIN"),
            ("0", "000001ffffdfffff", "CAP_SYS_ADMIN"),
            ("0", "", "CAP_NET_ADMIN"),
        ] {
            let said = status(uid, capabilities).unwrap();
            assert!(said.contains(named) && said.contains("--nodes hollow:1"), "{said}");
        }
    }

    #[test]
    fn the_feature_that_is_missing_is_named() {
        let all = NAMESPACES.map(str::to_owned);
        assert_eq!(lacking_feature("nodev\ttmpfs\nnodev\toverlay\n", false, &all), None);
        assert_eq!(lacking_feature("nodev\ttmpfs\n", true, &all), None, "the module is loaded when it is needed");
        assert!(lacking_feature("nodev\tmyoverlay\n", false, &all).unwrap().contains("overlayfs"));
        assert!(lacking_feature("nodev\toverlay\n", false, &all[1..]).unwrap().contains("\"ipc\""));
    }
}
