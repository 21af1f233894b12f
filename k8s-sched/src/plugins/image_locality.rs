//! Nodes that have the images already score higher, the more the larger the images.

use crate::{
    framework::{MAX_SCORE, Score},
    pod::PodInfo,
    snapshot::{NodeView, Snapshot},
};

const MIB: i64 = 1024 * 1024;
/// Below this total, images do not matter.
const MIN_BYTES: i64 = 23 * MIB;
/// Above this total per container, they matter as much as they can.
const MAX_BYTES_PER_CONTAINER: i64 = 1000 * MIB;

/// The scorer.
pub struct ImageLocality;

impl Score for ImageLocality {
    /// For each image of the pod, how many nodes have it.
    type State = Vec<(String, i64)>;

    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn prepare(&self, pod: &PodInfo, snapshot: &Snapshot) -> Option<Self::State> {
        let spread = |image: &String| snapshot.nodes().filter(|node| node.images().contains_key(image)).count() as i64;
        let images: Vec<_> = pod.images.iter().map(|image| (image.clone(), spread(image))).collect();
        let nodes = snapshot.len().max(1) as i64;
        let found = images.iter().any(|(_, count)| *count > 0);
        found.then(|| images.into_iter().map(|(image, count)| (image, count * MAX_SCORE / nodes)).collect())
    }

    fn score(&self, images: &Self::State, _: &PodInfo, node: NodeView<'_>) -> i64 {
        let size =
            |(image, spread): &(String, i64)| node.images().get(image).map_or(0, |bytes| bytes * spread / MAX_SCORE);
        let total: i64 = images.iter().map(size).sum();
        let most = MAX_BYTES_PER_CONTAINER * images.len() as i64;
        MAX_SCORE * (total.clamp(MIN_BYTES, most) - MIN_BYTES) / (most - MIN_BYTES)
    }
}
