//! What a replica set needs, as a pure function.

use std::{collections::BTreeMap, time::Duration};

use k8s_core::{
    api::{
        api::{
            apps::v1::{ReplicaSet, ReplicaSetStatus},
            core::v1::Pod,
        },
        apimachinery::pkg::apis::meta::v1::ObjectMeta,
    },
    env::Timestamp,
};

use crate::pod_state::{deletion_order, is_active, is_finished, is_ready, until_available};

/// At most this many pods are created or deleted in one step, as upstream's burst.
pub const BURST: usize = 500;

/// What to do.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// How many pods to create.
    pub create: usize,
    /// Which pods to delete, by index into the pods given; least missed first.
    pub delete: Vec<usize>,
    /// What the status should say, before anything is created or deleted.
    pub status: ReplicaSetStatus,
    /// When to look again although nothing changes: a pod becomes available then.
    pub wake_after: Option<Duration>,
}

/// Plans for a replica set that owns exactly `pods`.
pub fn plan(set: &ReplicaSet, pods: &[&Pod], now: Timestamp) -> Plan {
    let spec = &set.spec;
    let active: Vec<usize> = (0..pods.len()).filter(|index| is_active(pods[*index])).collect();
    let min_ready = Duration::from_secs(spec.min_ready_seconds.unwrap_or(0).max(0) as u64);
    let status = status(set, pods, &active, min_ready, now);
    let wake_after = active
        .iter()
        .filter_map(|index| until_available(pods[*index], min_ready, now))
        .filter(|left| !left.is_zero())
        .min();
    let idle = Plan { create: 0, delete: Vec::new(), status, wake_after };
    if set.metadata.deletion_timestamp.is_some() {
        return idle;
    }
    let wanted = spec.replicas.unwrap_or(1).max(0) as usize;
    if active.len() <= wanted {
        Plan { create: (wanted - active.len()).min(BURST), ..idle }
    } else {
        let surplus = (active.len() - wanted).min(BURST);
        Plan { delete: least_missed(pods, active, surplus), ..idle }
    }
}

fn least_missed(pods: &[&Pod], mut active: Vec<usize>, count: usize) -> Vec<usize> {
    let node = |pod: &Pod| pod.spec.as_ref().and_then(|spec| spec.node_name.clone()).unwrap_or_default();
    let mut per_node: BTreeMap<String, usize> = BTreeMap::new();
    for index in &active {
        *per_node.entry(node(pods[*index])).or_default() += 1;
    }
    let rank = |index: &usize| per_node.get(&node(pods[*index])).copied().unwrap_or(0);
    active.sort_by(|a, b| deletion_order((pods[*a], rank(a)), (pods[*b], rank(b))));
    active.truncate(count);
    active
}

fn status(set: &ReplicaSet, pods: &[&Pod], active: &[usize], min_ready: Duration, now: Timestamp) -> ReplicaSetStatus {
    let count = |test: &dyn Fn(&Pod) -> bool| active.iter().filter(|index| test(pods[**index])).count() as i32;
    let template_labels = set
        .spec
        .template
        .as_ref()
        .and_then(|template| template.metadata.as_ref())
        .and_then(|meta| meta.labels.clone())
        .unwrap_or_default();
    let labelled = |pod: &Pod| {
        let labels = pod.metadata.labels.as_ref();
        template_labels.iter().all(|(key, value)| labels.and_then(|labels| labels.get(key)) == Some(value))
    };
    let available = |pod: &Pod| until_available(pod, min_ready, now).is_some_and(|left| left.is_zero());
    let leaving = pods.iter().filter(|pod| pod.metadata.deletion_timestamp.is_some() && !is_finished(pod)).count();
    let old = set.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: active.len() as i32,
        fully_labeled_replicas: Some(count(&labelled)),
        ready_replicas: Some(count(&is_ready)),
        available_replicas: Some(count(&available)),
        terminating_replicas: Some(leaving as i32),
        observed_generation: set.metadata.generation,
        conditions: old.conditions,
    }
}

/// A pod from the set's template. The owner reference and the name are the shell's to fill in.
pub fn pod_from_template(set: &ReplicaSet) -> Pod {
    let template = set.spec.template.clone().unwrap_or_default();
    let meta = template.metadata.unwrap_or_default();
    let name = set.metadata.name.clone().unwrap_or_default();
    Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{name}-")),
            namespace: set.metadata.namespace.clone(),
            labels: meta.labels,
            annotations: meta.annotations,
            finalizers: meta.finalizers,
            ..Default::default()
        },
        spec: template.spec,
        status: None,
    }
}

#[cfg(test)]
mod tests;
