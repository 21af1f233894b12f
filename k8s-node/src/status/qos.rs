//! The quality-of-service class of a pod.

use k8s_core::{
    api::api::core::v1::{Pod, ResourceRequirements},
    quantity::Quantity,
};

/// Who suffers first when a node runs short. Upstream: `v1.PodQOSClass`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QosClass {
    /// Every container asks for exactly what it may use, CPU and memory both.
    Guaranteed,
    /// Something is asked for or limited.
    Burstable,
    /// Nothing is.
    BestEffort,
}

impl QosClass {
    /// The word in status.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guaranteed => "Guaranteed",
            Self::Burstable => "Burstable",
            Self::BestEffort => "BestEffort",
        }
    }

    /// The class of a pod by its specification.
    pub fn of(pod: &Pod) -> Self {
        let Some(spec) = &pod.spec else { return Self::BestEffort };
        let containers = spec.containers.iter().chain(spec.init_containers.iter().flatten());
        let all: Vec<Option<&ResourceRequirements>> = match &spec.resources {
            Some(of_pod) => vec![Some(of_pod)],
            None => containers.map(|container| container.resources.as_ref()).collect(),
        };
        let classes: Vec<Self> = all.into_iter().map(Self::of_requirements).collect();
        if classes.iter().all(|class| *class == Self::BestEffort) {
            Self::BestEffort
        } else if classes.iter().all(|class| *class == Self::Guaranteed) {
            Self::Guaranteed
        } else {
            Self::Burstable
        }
    }

    fn of_requirements(resources: Option<&ResourceRequirements>) -> Self {
        let read = |list: &Option<std::collections::BTreeMap<String, _>>, name: &str| {
            let text: Option<&k8s_core::api::apimachinery::pkg::api::resource::Quantity> = list.as_ref()?.get(name);
            Quantity::parse(&text?.0).ok().filter(|amount| !amount.is_zero())
        };
        let Some(resources) = resources else { return Self::BestEffort };
        let sides = ["cpu", "memory"].map(|name| {
            let limit = read(&resources.limits, name);
            (read(&resources.requests, name).or(limit), limit)
        });
        if sides.iter().all(|(request, limit)| request.is_none() && limit.is_none()) {
            Self::BestEffort
        } else if sides.iter().all(|(request, limit)| limit.is_some() && request == limit) {
            Self::Guaranteed
        } else {
            Self::Burstable
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn class(resources: &[Value]) -> &'static str {
        let containers: Vec<Value> = resources.iter().map(|r| json!({"name": "c", "resources": r})).collect();
        let pod = json!({"metadata": {}, "spec": {"containers": containers}});
        QosClass::of(&serde_json::from_value(pod).unwrap()).as_str()
    }

    #[test]
    fn classes_follow_requests_and_limits() {
        let full = json!({"limits": {"cpu": "1", "memory": "1Gi"}});
        let equal = json!({"limits": {"cpu": "1", "memory": "1Gi"}, "requests": {"cpu": "1000m", "memory": "1024Mi"}});
        assert_eq!(class(&[json!({})]), "BestEffort");
        assert_eq!(class(&[json!({"requests": {"cpu": "0"}})]), "BestEffort");
        assert_eq!(class(&[full.clone(), equal.clone()]), "Guaranteed");
        assert_eq!(class(&[full, json!({})]), "Burstable");
        assert_eq!(class(&[json!({"limits": {"cpu": "1"}})]), "Burstable");
        assert_eq!(
            class(&[json!({"requests": {"memory": "1Gi"}, "limits": {"cpu": "1", "memory": "2Gi"}})]),
            "Burstable"
        );
    }
}
