//! Records what clients see that work in real time, at once, over servers that may fail meanwhile.
//!
//! [`record`](super::record) decides whose turn it is. Here each client is a task of an environment, and the operating
//! system, the network and the servers decide, so no two runs are the same. What was seen is judged by the same
//! [`verify`](super::verify).

use std::{
    pin::pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    time::Duration,
};

use futures::future::{join, join_all};
use k8s_core::env::{Env, Task, timeout};

use super::{
    Contradiction, History, Random, Recorder, Workload, audit, explain,
    workload::{Client, Shared},
};
use crate::{Revision, Store, rebased::Rebased};

/// How soon a store that did not answer is asked again.
const PAUSE: Duration = Duration::from_millis(50);

/// Lets clients work on an empty store that nobody else writes to, and returns what they saw.
///
/// They go on until they have taken the workload's steps and `meanwhile` is over. It may do to the store's servers what
/// it likes, and must leave them well: then everything is looked at once more, and every watch read to its end. The
/// store's counter may begin anywhere. Dropping the future cancels the clients.
///
/// # Errors
///
/// A contradiction that says which calls never returned, or that the store does not answer.
pub async fn record_live(
    env: &Env,
    store: Arc<dyn Store>,
    seed: u64,
    workload: &Workload,
    meanwhile: impl Future<Output = ()> + Send,
) -> Result<History, Contradiction> {
    let base = answered(env, &*store, workload.patience).await?.0;
    let recorder = Recorder::new(Arc::new(Rebased { inner: store.clone(), base }));
    let shared = Arc::new(Shared::default());
    shared.longer.store(true, Relaxed);
    let clients = start(env, &recorder, &shared, seed, workload);
    let disturbed = async {
        meanwhile.await;
        shared.longer.store(false, Relaxed);
    };
    let worked = join(join_all(clients.into_iter().map(Task::join)), disturbed);
    let (outcomes, ()) = patient(env, &recorder, workload.patience, worked).await?;
    if let Some(panic) = outcomes.into_iter().find_map(Result::err) {
        return Err(Contradiction::new("live", recorder.now(), panic));
    }
    answered(env, &*store, workload.patience).await?;
    let auditor = recorder.client(workload.clients);
    patient(env, &recorder, workload.patience, audit(auditor, &shared)).await?;
    Ok(History { compacts_itself: workload.compacts_itself, base, ..recorder.take() })
}

fn start(env: &Env, recorder: &Arc<Recorder>, shared: &Arc<Shared>, seed: u64, workload: &Workload) -> Vec<Task> {
    let mut random = Random::new(seed);
    let steps = workload.steps / workload.clients.max(1);
    let clients = (0..workload.clients).map(|number| {
        let own = Random::new(random.bits());
        let client = Client::new(number, recorder.client(number), own, shared.clone(), steps);
        env.spawn("check-client", Box::pin(client.run()))
    });
    clients.collect()
}

/// The head, as soon as somebody tells it.
async fn answered(env: &Env, store: &dyn Store, patience: Duration) -> Result<Revision, Contradiction> {
    let head = async {
        loop {
            match store.head().await {
                Ok(head) => return head,
                Err(_) => env.sleep(PAUSE).await,
            }
        }
    };
    timeout(&**env, patience, head).await.ok_or_else(|| Contradiction::new("live", 0, "the store does not answer"))
}

/// Waits for as long as something is recorded now and then.
async fn patient<T>(
    env: &Env,
    recorder: &Recorder,
    patience: Duration,
    work: impl Future<Output = T> + Send,
) -> Result<T, Contradiction> {
    let mut work = pin!(work);
    let mut before = recorder.now();
    loop {
        if let Some(done) = timeout(&**env, patience, work.as_mut()).await {
            return Ok(done);
        }
        let now = recorder.now();
        if now == before {
            let history = recorder.so_far();
            let waiting = history.operations.iter().filter(|operation| operation.returned.is_none()).count();
            return Err(explain(waiting, &history));
        }
        before = now;
    }
}
