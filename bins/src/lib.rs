//! What the programs share: flags and files, the runtime, the end, the folder, and what people see.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods)] // Programs read the environment and end the process; libraries do not.

pub mod apiserver_flags;
pub mod audit_flags;
pub mod authentication_flags;
pub mod authorization_flags;
pub mod component;
pub mod config_file;
pub mod controller_names;
pub mod counted;
pub mod data_dir;
pub use k8s::core::go_duration;
pub mod image;
pub mod kubeconfig;
pub mod kubelet_config;
pub mod process_metrics;
pub mod program;
pub mod progress;
pub mod proxy_config;
pub mod reset;
pub mod scheduler_config;
pub mod serving;
pub mod storage;
pub mod up;

/// What documents are made of is small and short-lived: of what a request costs, a tenth or more went to the allocator of
/// the C library, and a third of what a deletion costs. Without huge pages: with them an idle cluster held 24 MiB more.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
