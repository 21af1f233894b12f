//! The built-in plugins, each named as upstream names it.

pub mod image_locality;
pub mod node_affinity;
pub mod node_name;
pub mod node_ports;
pub mod node_resources;
pub mod node_unschedulable;
pub mod priority_sort;
pub mod taint_toleration;
pub mod unsupported;
