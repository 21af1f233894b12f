//! What the programs share: the runtime, the end, the folder, and what people see.
#![forbid(unsafe_code)]
#![allow(clippy::disallowed_methods)] // Programs read the environment and end the process; libraries do not.

pub mod component;
pub mod data_dir;
pub mod image;
pub mod kubeconfig;
pub mod program;
pub mod progress;
pub mod reset;
pub mod storage;
pub mod up;
