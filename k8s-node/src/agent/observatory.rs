//! One look at the runtime shared by all who want one at the same time.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

use crate::runtime::{ContainerStatus, PodRuntime, RuntimeError, SandboxStatus};

/// What a runtime has, by pod uid.
pub(crate) type Sight = BTreeMap<String, PodSight>;

/// What a runtime has of one pod.
#[derive(Debug, Clone, Default)]
pub(crate) struct PodSight {
    pub sandboxes: Vec<SandboxStatus>,
    pub containers: Vec<ContainerStatus>,
}

/// Looks at a runtime. Those who ask while a look is under way share the next one.
pub(crate) struct Observatory {
    runtime: Arc<dyn PodRuntime>,
    /// Counts looks as they begin.
    begun: AtomicU64,
    looking: tokio::sync::Mutex<()>,
    latest: Mutex<(u64, Arc<Sight>)>,
}

impl Observatory {
    pub fn new(runtime: Arc<dyn PodRuntime>) -> Self {
        Self { runtime, begun: AtomicU64::new(0), looking: tokio::sync::Mutex::default(), latest: Mutex::default() }
    }

    /// What there is; the look began after the call.
    pub async fn look(&self) -> Result<Arc<Sight>, RuntimeError> {
        let asked = self.begun.load(Ordering::SeqCst);
        let _turn = self.looking.lock().await;
        {
            let latest = self.latest.lock();
            if latest.0 > asked {
                return Ok(latest.1.clone());
            }
        }
        let number = self.begun.fetch_add(1, Ordering::SeqCst) + 1;
        let observation = self.runtime.observe().await?;
        let mut sight = Sight::new();
        let mut uids = BTreeMap::new();
        for sandbox in observation.sandboxes {
            uids.insert(sandbox.id.clone(), sandbox.uid.clone());
            sight.entry(sandbox.uid.clone()).or_default().sandboxes.push(sandbox);
        }
        for container in observation.containers {
            let Some(uid) = uids.get(&container.sandbox) else { continue };
            sight.entry(uid.clone()).or_default().containers.push(container);
        }
        let sight = Arc::new(sight);
        *self.latest.lock() = (number, sight.clone());
        Ok(sight)
    }
}
