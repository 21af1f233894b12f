//! Volumes and files of pods on this machine's disk.
//!
//! ```text
//! pods/UID/volumes/NAME            one folder per volume; host paths have none
//! pods/UID/etc-hosts               the managed /etc/hosts
//! pods/UID/containers/NAME/N       termination message of instance N
//! pods/UID/subpaths/NAME/N         bind mounts of the container's sub-paths
//! logs/NAMESPACE_NAME_UID/NAME/N.log
//! ```
//!
//! [`payload`] says what configuration volumes show, and is pure; `writer` puts it on the disk so that a reader sees
//! the old or the new state whole. Disk work blocks, so it runs on blocking threads.

mod folder;
#[cfg(feature = "service")]
mod host;
mod payload;
mod sub_path;
#[cfg(feature = "service")]
mod token;
#[cfg(feature = "service")]
mod watched;
mod writer;

pub use folder::{Folder, VolumeError};
#[cfg(feature = "service")]
pub(crate) use host::HostFiles;
pub use payload::{Objects, TokenKey, VolumeFile, payload, references, tokens};
pub use writer::write;

use k8s_core::api::api::core::v1::Volume;

/// The kind of a volume, as its field is called.
pub fn kind(volume: &Volume) -> &'static str {
    let kinds = [
        (volume.empty_dir.is_some(), "emptyDir"),
        (volume.host_path.is_some(), "hostPath"),
        (volume.config_map.is_some(), "configMap"),
        (volume.secret.is_some(), "secret"),
        (volume.downward_api.is_some(), "downwardAPI"),
        (volume.projected.is_some(), "projected"),
        (volume.persistent_volume_claim.is_some(), "persistentVolumeClaim"),
        (volume.ephemeral.is_some(), "ephemeral"),
        (volume.csi.is_some(), "csi"),
        (volume.image.is_some(), "image"),
        (volume.nfs.is_some(), "nfs"),
        (volume.iscsi.is_some(), "iscsi"),
        (volume.fc.is_some(), "fc"),
        (volume.flex_volume.is_some(), "flexVolume"),
        (volume.git_repo.is_some(), "gitRepo"),
        (volume.cephfs.is_some(), "cephfs"),
        (volume.rbd.is_some(), "rbd"),
    ];
    kinds.into_iter().find(|(is, _)| *is).map_or("of a cloud provider", |(_, kind)| kind)
}

#[cfg(test)]
mod tests;
