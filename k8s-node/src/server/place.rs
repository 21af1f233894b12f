//! Which instance of which container a request means.

use std::sync::Arc;

use k8s_core::{
    api::api::core::v1::{self, Pod},
    object::ObjectKey,
    resource::Stored,
    status::{ApiError, ApiResult},
};

use crate::{
    agent::Shared,
    plan::parts,
    runtime::{ContainerState, ContainerStatus},
};

/// Namespace, pod and container as the path names them.
pub(super) type Named<'a> = (&'a str, &'a str, &'a str);

/// A container that was asked for.
pub(super) struct Place {
    pub pod: Stored<Pod>,
    pub container: v1::Container,
    /// Newest first.
    pub instances: Vec<ContainerStatus>,
}

impl Place {
    /// Finds a container of a pod on this node. 404 says what there is not.
    pub async fn find(shared: &Arc<Shared>, (namespace, pod, container): Named<'_>) -> ApiResult<Self> {
        let key = ObjectKey::new(namespace, pod);
        let found = shared.pods.get(&key).filter(|found| found.object().meta.node_name == shared.node_name);
        let found = found.ok_or_else(|| ApiError::not_found("pods", "", pod))?;
        let typed = found.typed().clone();
        let part = parts(&typed).into_iter().find(|part| part.container.name == container);
        let part = part.ok_or_else(|| {
            ApiError::new(
                404,
                k8s_core::status::Reason::NotFound,
                format!("container {container} not found in pod {pod}"),
            )
        })?;
        let sight = shared.observatory.look().await.map_err(ApiError::internal)?;
        let all = sight.get(found.uid()).map(|sight| sight.containers.clone()).unwrap_or_default();
        let mut instances: Vec<_> = all.into_iter().filter(|instance| instance.name == container).collect();
        instances.sort_by_key(|instance| std::cmp::Reverse(instance.attempt));
        Ok(Self { container: part.container.into_owned(), pod: found.clone(), instances })
    }

    fn known(&self) -> Option<&v1::ContainerStatus> {
        let status = self.pod.status.as_ref()?;
        let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
        lists.into_iter().flatten().flatten().find(|known| known.name == self.container.name)
    }

    /// The instance whose log is meant. While a container waits for its restart, `previous` is the one that ended.
    pub fn logged(&self, previous: bool) -> ApiResult<&ContainerStatus> {
        let waiting = self.known().and_then(|known| known.state.as_ref()?.waiting.as_ref());
        let name = (&self.container.name, self.pod.name());
        let mut ran = self.instances.iter().filter(|instance| instance.state != ContainerState::Created);
        if previous {
            let ended = |instance: &&ContainerStatus| matches!(instance.state, ContainerState::Exited(_));
            let newest_waits = waiting.is_some() && self.instances.first().is_some_and(|newest| ended(&newest));
            let found = if newest_waits { ran.next() } else { ran.nth(1) };
            return found.filter(ended).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "previous terminated container {:?} in pod {:?} not found",
                    name.0, name.1
                ))
            });
        }
        ran.next().ok_or_else(|| {
            let reason =
                waiting.and_then(|waiting| waiting.reason.clone()).unwrap_or_else(|| "ContainerCreating".into());
            let message = format!("container {:?} in pod {:?} is waiting to start: {reason}", name.0, name.1);
            ApiError::bad_request(message)
        })
    }

    /// The running instance.
    pub fn running(&self) -> ApiResult<&ContainerStatus> {
        let running = |instance: &&ContainerStatus| matches!(instance.state, ContainerState::Running { .. });
        let (name, pod) = (&self.container.name, self.pod.name());
        let missing = || {
            let message = format!("container {name:?} of pod {pod:?} is not running");
            ApiError::new(404, k8s_core::status::Reason::NotFound, message)
        };
        self.instances.iter().find(running).ok_or_else(missing)
    }
}
