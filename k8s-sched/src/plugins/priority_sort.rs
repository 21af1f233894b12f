//! Pods of higher priority first, then those that have waited longer.

use std::cmp::Ordering;

use crate::{framework::QueueSort, pod::PodInfo};

/// The default order of the queue.
pub struct PrioritySort;

impl QueueSort for PrioritySort {
    fn compare(&self, a: (&PodInfo, u64), b: (&PodInfo, u64)) -> Ordering {
        b.0.priority.cmp(&a.0.priority).then(a.1.cmp(&b.1))
    }
}
