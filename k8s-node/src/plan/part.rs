//! The containers of a pod in one list, each with its role.

use std::borrow::Cow;

use k8s_core::api::api::core::v1::{Container, EphemeralContainer, Pod};

/// What a container is to its pod.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Runs to its end before the others.
    Init,
    /// An init container with `restartPolicy: Always`: starts before the others and ends after them.
    Sidecar,
    /// What the pod is for.
    App,
    /// Put into a running pod to look at it.
    Ephemeral,
}

/// One container of a pod.
#[derive(Debug, Clone)]
pub struct Part<'a> {
    /// Its specification; an ephemeral container in the shape of an ordinary one.
    pub container: Cow<'a, Container>,
    /// What it is to the pod.
    pub role: Role,
}

/// All containers of a pod, in starting order.
pub fn parts(pod: &Pod) -> Vec<Part<'_>> {
    let Some(spec) = &pod.spec else { return vec![] };
    let init = spec.init_containers.iter().flatten().map(|container| {
        let role = if container.restart_policy.as_deref() == Some("Always") { Role::Sidecar } else { Role::Init };
        Part { container: Cow::Borrowed(container), role }
    });
    let apps = spec.containers.iter().map(|c| Part { container: Cow::Borrowed(c), role: Role::App });
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|e| Part { container: Cow::Owned(ordinary(e)), role: Role::Ephemeral });
    init.chain(apps).chain(ephemeral).collect()
}

/// The fields that an ephemeral container shares with an ordinary one and may set.
fn ordinary(ephemeral: &EphemeralContainer) -> Container {
    let e = ephemeral.clone();
    Container {
        name: e.name,
        image: e.image,
        image_pull_policy: e.image_pull_policy,
        command: e.command,
        args: e.args,
        env: e.env,
        env_from: e.env_from,
        working_dir: e.working_dir,
        volume_mounts: e.volume_mounts,
        security_context: e.security_context,
        stdin: e.stdin,
        stdin_once: e.stdin_once,
        tty: e.tty,
        termination_message_path: e.termination_message_path,
        termination_message_policy: e.termination_message_policy,
        ..Container::default()
    }
}
