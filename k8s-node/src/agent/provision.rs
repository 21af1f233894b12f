//! What a pod needs of the machine besides its runtime: volumes, files, variables.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_core::{api::api::core::v1::Pod, env::Timestamp, resource::Stored};
use tokio::sync::Notify;

use crate::{
    environment::{ConfigError, ContainerFacts, DnsSettings, container_spec, sandbox_spec},
    plan::{BackOff, Part},
    runtime::{ContainerSpec, ContainerStatus, ImageInfo, SandboxSpec},
};

/// A container to be made.
pub(crate) struct Wanted<'a> {
    pub id: String,
    pub attempt: u32,
    pub back_off: Option<BackOff>,
    pub part: Part<'a>,
    /// The pod's addresses, primary first.
    pub addresses: Vec<String>,
    pub image: ImageInfo,
}

/// Gives pods what they need of the machine. Every verb is idempotent.
#[async_trait]
pub(crate) trait Provision: Send + Sync + 'static {
    /// Sets the volumes of a pod up, or brings them up to date. Answers until when they are current at most; `changed`
    /// is told when something that they show changes before that.
    async fn mount(&self, pod: &Stored<Pod>, changed: &Arc<Notify>) -> Result<Option<Timestamp>, ConfigError>;

    /// The specification of a sandbox.
    async fn sandbox(&self, pod: &Stored<Pod>, id: &str, attempt: u32) -> Result<SandboxSpec, ConfigError>;

    /// The specification of a container, with everything that it refers to at hand.
    async fn container(&self, pod: &Stored<Pod>, wanted: Wanted<'_>) -> Result<ContainerSpec, ConfigError>;

    /// What an ended container left in its termination message file; empty if nothing.
    async fn termination_message(&self, pod: &Pod, container: &ContainerStatus) -> String;

    /// Removes volumes, files and logs of a pod.
    async fn clean_up(&self, uid: &str) -> Result<(), ConfigError>;

    /// The pods that something is left of.
    async fn left_over(&self) -> Vec<String>;
}

/// For simulated nodes: nothing is needed, nothing is done.
pub(crate) struct NoProvision {
    pub node_name: String,
}

#[async_trait]
impl Provision for NoProvision {
    async fn mount(&self, _pod: &Stored<Pod>, _changed: &Arc<Notify>) -> Result<Option<Timestamp>, ConfigError> {
        Ok(None)
    }

    async fn sandbox(&self, pod: &Stored<Pod>, id: &str, attempt: u32) -> Result<SandboxSpec, ConfigError> {
        sandbox_spec(pod, id, attempt, &self.node_name, &DnsSettings::default())
    }

    async fn container(&self, pod: &Stored<Pod>, wanted: Wanted<'_>) -> Result<ContainerSpec, ConfigError> {
        let Wanted { id, attempt, back_off, image, part, .. } = wanted;
        container_spec(pod, &part, ContainerFacts { id, attempt, back_off, image, ..ContainerFacts::default() })
    }

    async fn termination_message(&self, _pod: &Pod, _container: &ContainerStatus) -> String {
        String::new()
    }

    async fn clean_up(&self, _uid: &str) -> Result<(), ConfigError> {
        Ok(())
    }

    async fn left_over(&self) -> Vec<String> {
        vec![]
    }
}
