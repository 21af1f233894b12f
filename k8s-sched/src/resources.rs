//! Amounts of resources, as integers that add up.

use std::collections::BTreeMap;

use k8s_core::{
    api::{
        api::core::v1::{Container, PodSpec},
        apimachinery::pkg::api::resource::Quantity,
    },
    quantity,
};

/// What a pod that asks for no CPU counts with when nodes are scored (never when they are filtered).
const DEFAULT_MILLI_CPU: i64 = 100;
/// The same for memory, in bytes.
const DEFAULT_MEMORY: i64 = 200 * 1024 * 1024;

/// CPU in thousandths of a core, memory and storage in bytes, pods by count, everything else in whole units.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resources {
    /// Thousandths of a core.
    pub milli_cpu: i64,
    /// Bytes.
    pub memory: i64,
    /// Bytes.
    pub ephemeral_storage: i64,
    /// How many pods.
    pub pods: i64,
    /// Extended resources by name, in whole units.
    pub extended: BTreeMap<String, i64>,
}

impl Resources {
    /// Reads a resource list. A quantity that cannot be read counts as nothing: admission has refused those.
    pub fn from_list(list: &BTreeMap<String, Quantity>) -> Self {
        let mut resources = Self::default();
        for (name, quantity) in list {
            match name.as_str() {
                "cpu" => resources.milli_cpu = milli(quantity),
                "memory" => resources.memory = whole(quantity),
                "ephemeral-storage" => resources.ephemeral_storage = whole(quantity),
                "pods" => resources.pods = whole(quantity),
                _ => {
                    resources.extended.insert(name.clone(), whole(quantity));
                }
            }
        }
        resources
    }

    /// What a pod asks for: the sum of its containers, or its most demanding init container if that is more, plus
    /// overhead. Init containers that keep running (sidecars) count with everything started after them.
    pub fn requested_by(spec: &PodSpec) -> Self {
        let mut running = Self::default();
        let mut peak = Self::default();
        for container in spec.init_containers.iter().flatten() {
            let own = requests(container);
            if container.restart_policy.as_deref() == Some("Always") {
                running.add(&own);
                peak.raise(&running);
            } else {
                let mut moment = running.clone();
                moment.add(&own);
                peak.raise(&moment);
            }
        }
        spec.containers.iter().for_each(|container| running.add(&requests(container)));
        running.raise(&peak);
        if let Some(pod_level) = spec.resources.as_ref().and_then(|resources| resources.requests.as_ref()) {
            running.replace(&Self::from_list(pod_level));
        }
        if let Some(overhead) = &spec.overhead {
            running.add(&Self::from_list(overhead));
        }
        running.pods = 1;
        running
    }

    /// CPU and memory as scores count them: a pod that asks for nothing counts with upstream's defaults.
    pub fn counted(&self) -> (i64, i64) {
        let at_least = |asked: i64, default: i64| if asked > 0 { asked } else { default };
        (at_least(self.milli_cpu, DEFAULT_MILLI_CPU), at_least(self.memory, DEFAULT_MEMORY))
    }

    /// Adds, saturating.
    pub fn add(&mut self, other: &Self) {
        self.combine(other, i64::saturating_add);
    }

    /// Takes away, saturating.
    pub fn subtract(&mut self, other: &Self) {
        self.combine(other, i64::saturating_sub);
    }

    /// The larger of each.
    fn raise(&mut self, other: &Self) {
        self.combine(other, i64::max);
    }

    /// Pod-level requests take the place of the sum where they are given.
    fn replace(&mut self, other: &Self) {
        self.combine(other, |own, given| if given > 0 { given } else { own });
    }

    fn combine(&mut self, other: &Self, by: impl Fn(i64, i64) -> i64) {
        self.milli_cpu = by(self.milli_cpu, other.milli_cpu);
        self.memory = by(self.memory, other.memory);
        self.ephemeral_storage = by(self.ephemeral_storage, other.ephemeral_storage);
        self.pods = by(self.pods, other.pods);
        for (name, amount) in &other.extended {
            let own = self.extended.entry(name.clone()).or_insert(0);
            *own = by(*own, *amount);
        }
    }
}

fn requests(container: &Container) -> Resources {
    let list = container.resources.as_ref().and_then(|resources| resources.requests.as_ref());
    list.map(Resources::from_list).unwrap_or_default()
}

fn milli(quantity: &Quantity) -> i64 {
    quantity::Quantity::parse(&quantity.0).map_or(0, |quantity| quantity.milli_value())
}

fn whole(quantity: &Quantity) -> i64 {
    quantity::Quantity::parse(&quantity.0).map_or(0, |quantity| quantity.value())
}
