//! What a plan wants done.

use k8s_core::env::Timestamp;

use super::BackOff;
use crate::runtime::Resources;

/// One thing to do for a pod. Every one is idempotent.
#[derive(Debug, Clone, PartialEq)]
pub enum Op {
    /// Set the volumes up, or bring what they show up to date.
    MountVolumes,
    /// Make the sandbox.
    StartSandbox {
        /// Its id.
        id: String,
        /// How many sandboxes the pod had before.
        attempt: u32,
    },
    /// Connect the sandbox to the pod network.
    Connect {
        /// Its id.
        sandbox: String,
    },
    /// Make the image present, create the container, start it, and run its `postStart` hook.
    RunContainer {
        /// Its id.
        id: String,
        /// Its name in the pod.
        name: String,
        /// The sandbox it goes into.
        sandbox: String,
        /// How many instances of it came before.
        attempt: u32,
        /// The crash-loop back-off to write on it.
        back_off: Option<BackOff>,
    },
    /// Run the `preStop` hook, ask the container to end, and kill it at the deadline.
    StopContainer {
        /// Its id.
        id: String,
        /// Its name in the pod.
        name: String,
        /// When patience ends.
        deadline: Timestamp,
        /// Why, for people.
        message: String,
    },
    /// Change the limits of a running container.
    UpdateResources {
        /// Its id.
        id: String,
        /// The limits wanted.
        resources: Resources,
    },
    /// Remove an ended container.
    RemoveContainer {
        /// Its id.
        id: String,
    },
    /// Give the addresses of a sandbox back.
    Disconnect {
        /// Its id.
        sandbox: String,
    },
    /// Disconnect and remove a sandbox with everything in it.
    RemoveSandbox {
        /// Its id.
        id: String,
    },
    /// Remove volumes, files and logs.
    CleanUp,
    /// Delete the pod from the API server for good: nothing of it is left here.
    Finish,
}

/// What an operation works on: no two with the same key are carried out at once.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum OpKey {
    /// The volumes and files.
    Volumes,
    /// A sandbox, by id.
    Sandbox(String),
    /// Running the container of this id.
    Run(String),
    /// Stopping or changing the container of this id.
    Change(String),
    /// The API object.
    Object,
}

impl Op {
    /// See [`OpKey`].
    pub fn key(&self) -> OpKey {
        match self {
            Self::MountVolumes | Self::CleanUp => OpKey::Volumes,
            Self::StartSandbox { id, .. } | Self::RemoveSandbox { id } => OpKey::Sandbox(id.clone()),
            Self::Connect { sandbox } | Self::Disconnect { sandbox } => OpKey::Sandbox(sandbox.clone()),
            Self::RunContainer { id, .. } => OpKey::Run(id.clone()),
            Self::StopContainer { id, .. } | Self::RemoveContainer { id } | Self::UpdateResources { id, .. } => {
                OpKey::Change(id.clone())
            }
            Self::Finish => OpKey::Object,
        }
    }

    /// Whether this must take the place of `running`, which has the same key and is under way.
    pub fn replaces(&self, running: &Op) -> bool {
        match (self, running) {
            (Self::StopContainer { deadline, .. }, Self::StopContainer { deadline: later, .. }) => deadline < later,
            (Self::StopContainer { .. }, Self::UpdateResources { .. }) => true,
            _ => false,
        }
    }
}
