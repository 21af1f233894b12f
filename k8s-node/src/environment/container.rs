//! From a pod to the specification of one of its containers.

use std::{collections::BTreeMap, path::PathBuf};

use k8s_core::api::api::core::v1::{Container, Pod, PodSecurityContext, SeccompProfile, SecurityContext};

use super::{ConfigError, expand};
use crate::{
    plan::{BACK_OFF, BackOff, Part, container_resources},
    runtime::{ContainerSpec, ImageInfo, Mount, ProcMount, Seccomp, Security, SupplementalGroupsPolicy, User},
};

/// What the specification of a container is made of, besides the pod.
#[derive(Debug, Clone, Default)]
pub struct ContainerFacts {
    /// The id chosen by the plan.
    pub id: String,
    /// How many instances came before.
    pub attempt: u32,
    /// The crash-loop back-off to write on it.
    pub back_off: Option<BackOff>,
    /// Its variables, see [`variables`](super::variables).
    pub env: Vec<(String, String)>,
    /// Its mounts.
    pub mounts: Vec<Mount>,
    /// Its log file.
    pub log_path: Option<PathBuf>,
    /// The image that it will run, as far as known.
    pub image: ImageInfo,
    /// Folder of seccomp profiles that `localhostProfile` is relative to.
    pub seccomp_folder: PathBuf,
}

/// The specification of a container.
pub fn container_spec(pod: &Pod, part: &Part<'_>, facts: ContainerFacts) -> Result<ContainerSpec, ConfigError> {
    let container = &*part.container;
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.security_context.clone()).unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let user = user(&of_pod, &own)?;
    check_non_root(pod, container, &of_pod, &own, &facts.image)?;
    let values: BTreeMap<&str, &str> = facts.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let words = |words: &Option<Vec<String>>| -> Vec<String> {
        let value = |name: &str| values.get(name).map(|value| (*value).to_owned());
        words.iter().flatten().map(|word| expand(word, value)).collect()
    };
    let mut annotations = pod.metadata.annotations.clone().unwrap_or_default();
    annotations.retain(|key, _| key.starts_with("hollow/"));
    annotations.extend(facts.back_off.map(|back_off| (BACK_OFF.to_owned(), back_off.to_string())));
    Ok(ContainerSpec {
        command: words(&container.command),
        args: words(&container.args),
        id: facts.id,
        name: container.name.clone(),
        attempt: facts.attempt,
        image: container.image.clone().unwrap_or_default(),
        working_dir: container.working_dir.clone().filter(|folder| !folder.is_empty()),
        user,
        mounts: facts.mounts,
        devices: vec![],
        resources: container_resources(pod, container),
        security: security(&of_pod, &own, &facts.seccomp_folder)?,
        tty: container.tty.unwrap_or(false),
        stdin: container.stdin.unwrap_or(false),
        stdin_once: container.stdin_once.unwrap_or(false),
        log_path: facts.log_path,
        stop_signal: stop_signal(container)?,
        labels: BTreeMap::new(),
        annotations,
        env: facts.env,
    })
}

/// `lifecycle.stopSignal` by name.
fn stop_signal(container: &Container) -> Result<Option<i32>, ConfigError> {
    let Some(name) = container.lifecycle.as_ref().and_then(|lifecycle| lifecycle.stop_signal.as_ref()) else {
        return Ok(None);
    };
    let signal: Result<nix::sys::signal::Signal, _> = name.parse();
    let number = signal.map(|signal| signal as i32);
    number
        .map(Some)
        .map_err(|_| ConfigError::new(format!("lifecycle.stopSignal {name:?} is not a signal of this machine")))
}

fn id(what: &str, number: i64) -> Result<u32, ConfigError> {
    u32::try_from(number).map_err(|_| ConfigError::new(format!("{what} {number} is not between 0 and {}", u32::MAX)))
}

fn user(of_pod: &PodSecurityContext, own: &SecurityContext) -> Result<User, ConfigError> {
    let uid = own.run_as_user.or(of_pod.run_as_user).map(|n| id("runAsUser", n)).transpose()?;
    let gid = own.run_as_group.or(of_pod.run_as_group).map(|n| id("runAsGroup", n)).transpose()?;
    let groups = of_pod.supplemental_groups.iter().flatten().chain(&of_pod.fs_group);
    let policy = match of_pod.supplemental_groups_policy.as_deref() {
        Some("Strict") => SupplementalGroupsPolicy::Strict,
        _ => SupplementalGroupsPolicy::Merge,
    };
    Ok(User {
        uid,
        gid,
        supplemental_groups: groups.map(|n| id("supplementalGroups", *n)).collect::<Result<_, _>>()?,
        supplemental_groups_policy: policy,
    })
}

fn check_non_root(
    pod: &Pod,
    container: &Container,
    of_pod: &PodSecurityContext,
    own: &SecurityContext,
    image: &ImageInfo,
) -> Result<(), ConfigError> {
    if own.run_as_non_root.or(of_pod.run_as_non_root) != Some(true) {
        return Ok(());
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let about = format!("(pod: {name:?}, container: {:?})", container.name);
    match own.run_as_user.or(of_pod.run_as_user) {
        Some(0) => Err(ConfigError::new(format!("container's runAsUser breaks non-root policy {about}"))),
        Some(_) => Ok(()),
        None => match image.uid() {
            Some(0) => Err(ConfigError::new(format!("container has runAsNonRoot and image will run as root {about}"))),
            Some(_) => Ok(()),
            None => Err(ConfigError::new(format!(
                "container has runAsNonRoot and image has non-numeric user ({}), cannot verify user is non-root {about}",
                image.user
            ))),
        },
    }
}

fn security(
    of_pod: &PodSecurityContext,
    own: &SecurityContext,
    folder: &std::path::Path,
) -> Result<Security, ConfigError> {
    let privileged = own.privileged.unwrap_or(false);
    let profile = own.seccomp_profile.as_ref().or(of_pod.seccomp_profile.as_ref());
    let capabilities = own.capabilities.clone().unwrap_or_default();
    let names = |list: Option<Vec<String>>| -> Vec<String> {
        let bare = |name: String| name.strip_prefix("CAP_").map(str::to_owned).unwrap_or(name);
        list.into_iter().flatten().map(bare).collect()
    };
    Ok(Security {
        privileged,
        no_new_privileges: own.allow_privilege_escalation == Some(false),
        read_only_rootfs: own.read_only_root_filesystem.unwrap_or(false),
        add_capabilities: names(capabilities.add),
        drop_capabilities: names(capabilities.drop),
        seccomp: if privileged { Seccomp::Unconfined } else { seccomp(profile, folder)? },
        proc_mount: match own.proc_mount.as_deref() {
            Some("Unmasked") => ProcMount::Unmasked,
            _ => ProcMount::Default,
        },
    })
}

fn seccomp(profile: Option<&SeccompProfile>, folder: &std::path::Path) -> Result<Seccomp, ConfigError> {
    let Some(profile) = profile else { return Ok(Seccomp::Unconfined) };
    match profile.type_.as_str() {
        "Unconfined" => Ok(Seccomp::Unconfined),
        "RuntimeDefault" => Ok(Seccomp::RuntimeDefault),
        "Localhost" => {
            let name = profile.localhost_profile.as_deref().unwrap_or_default();
            if name.is_empty() || name.split('/').any(|step| step == "..") || name.starts_with('/') {
                let message =
                    format!("seccompProfile.localhostProfile {name:?} must be a path below the node's folder");
                return Err(ConfigError::new(message));
            }
            Ok(Seccomp::Localhost(folder.join(name)))
        }
        other => Err(ConfigError::new(format!("seccompProfile.type {other:?} is not known"))),
    }
}
