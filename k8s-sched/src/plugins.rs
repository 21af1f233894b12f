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

use crate::framework::Profile;

/// The plugins that filter, by name, in upstream's order.
pub const FILTERS: [&str; 6] =
    ["NodeUnschedulable", "NodeName", "TaintToleration", "NodeAffinity", "NodePorts", "NodeResourcesFit"];

/// The plugins that score, by name, in upstream's order, with upstream's weights.
pub const SCORERS: [(&str, i64); 5] = [
    ("TaintToleration", 3),
    ("NodeAffinity", 2),
    ("NodeResourcesFit", 1),
    ("NodeResourcesBalancedAllocation", 1),
    ("ImageLocality", 1),
];

/// A profile with the filters and the weighted scorers of these names; `None` if a name is not among [`FILTERS`] or
/// [`SCORERS`]. What no plugin here can judge is refused in any case (see [`unsupported`]).
pub fn profile(scheduler_name: &str, filters: &[&str], scorers: &[(&str, i64)]) -> Option<Profile> {
    let mut profile = Profile::empty(scheduler_name);
    for name in filters {
        profile = match *name {
            "NodeUnschedulable" => profile.filter(node_unschedulable::NodeUnschedulable),
            "NodeName" => profile.filter(node_name::NodeName),
            "TaintToleration" => profile.filter(taint_toleration::TaintToleration),
            "NodeAffinity" => profile.filter(node_affinity::NodeAffinity),
            "NodePorts" => profile.filter(node_ports::NodePorts),
            "NodeResourcesFit" => profile.filter(node_resources::Fit),
            _ => return None,
        };
    }
    profile = profile.filter(unsupported::Unsupported);
    for (name, weight) in scorers {
        profile = match *name {
            "TaintToleration" => profile.score(taint_toleration::TaintToleration, *weight),
            "NodeAffinity" => profile.score(node_affinity::NodeAffinity, *weight),
            "NodeResourcesFit" => profile.score(node_resources::LeastAllocated, *weight),
            "NodeResourcesBalancedAllocation" => profile.score(node_resources::BalancedAllocation, *weight),
            "ImageLocality" => profile.score(image_locality::ImageLocality, *weight),
            _ => return None,
        };
    }
    Some(profile)
}
