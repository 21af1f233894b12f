//! What happens while others watch: writers who share a few objects, and weather.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use k8s_core::{
    doc,
    env::Env,
    request::{ApiRequest, Options, PatchKind, RequestBody, Target, Verb},
    seam::transport::Transport,
};
use k8s_store::{
    Calls, Failure, Faulty, Key, Op, Revision, Store, StoreError, Transaction,
    check::{Random, Recorder, Tick},
};

use super::{
    stack::Stack,
    wanted::{PREFIX, config_maps},
};

const NAMESPACES: [&str; 3] = ["default", "kube-public", "kube-system"];
const LABELS: [&str; 2] = ["yes", "no"];

/// What all who take part share.
pub struct Scene {
    pub env: Env,
    pub recorder: Arc<Recorder>,
    /// The newest revision that a writer was told of.
    pub acknowledged: AtomicU64,
    /// The last revision of the history; 0 while there are writers.
    pub until: AtomicU64,
    /// The longest pause between two writes of one writer.
    pub pace: Duration,
}

impl Scene {
    /// The moment now, for the order of what was seen.
    pub fn now(&self) -> Tick {
        self.recorder.now()
    }

    fn acknowledge(&self, revision: u64) {
        self.acknowledged.fetch_max(revision, SeqCst);
    }

    /// Sleeps for some part of `longest`, now and then not at all.
    pub async fn pause(&self, random: &mut Random, longest: Duration) {
        match random.below(4) {
            0 => {}
            1 => tokio::task::yield_now().await,
            2 => self.env.sleep(longest.mul_f64(random.below(100) as f64 / 3000.0)).await,
            _ => self.env.sleep(longest.mul_f64(random.below(100) as f64 / 100.0)).await,
        }
    }
}

/// One of those who write, into the store directly (as another server does) or through the API.
pub struct Writer {
    pub number: usize,
    pub scene: Arc<Scene>,
    pub store: Arc<dyn Store>,
    /// The API, if there is more than a cache.
    pub door: Option<Arc<dyn Transport>>,
    pub random: Random,
}

impl Writer {
    pub async fn run(mut self, writes: usize) {
        for n in 0..writes {
            let (namespace, name) = (*self.random.pick(&NAMESPACES), format!("c{}", self.random.below(8)));
            match self.door.clone() {
                Some(door) if self.random.one_in(3) => self.ask(&*door, namespace, name, n).await,
                _ => self.commit(namespace, &name, n).await,
            }
            let (scene, pace) = (self.scene.clone(), self.scene.pace);
            scene.pause(&mut self.random, pace).await;
        }
    }

    async fn commit(&mut self, namespace: &str, name: &str, n: usize) {
        let key = Key::from(format!("{PREFIX}{namespace}/{name}"));
        let number = self.number;
        let op = match self.random.below(24) {
            0..6 => Op::Delete { key },
            // Other kinds move the revision. What is no object, or one that is elsewhere, is left out.
            6 | 7 => put("/registry/secrets/default/s".into(), format!(r#"{{"metadata":{{"name":"s"}},"n":{n}}}"#)),
            8 => {
                put("/registry/leases/x/l".into(), format!(r#"{{"metadata":{{"name":"l","namespace":"x"}},"n":{n}}}"#))
            }
            9 => put(key, format!("no object {number}.{n}")),
            _ => {
                let label = *self.random.pick(&LABELS);
                put(key, object(namespace, name, label, &format!("{number}.{n}")))
            }
        };
        if let Ok(committed) = self.store.commit(Transaction::new().op(op)).await {
            self.scene.acknowledge(committed.revision.0);
        }
    }

    async fn ask(&mut self, door: &dyn Transport, namespace: &str, name: String, n: usize) {
        let value = format!("{}.{n}", self.number);
        let label = *self.random.pick(&LABELS);
        let whole = doc!({"metadata": {"name": name.as_str(), "labels": {"l": label}}, "data": {"v": value.as_str()}});
        let one = Target::one(config_maps(), namespace, name);
        let (verb, target, body) = match self.random.below(5) {
            0 => (Verb::Delete, one, RequestBody::None),
            1 => (Verb::Patch, one, RequestBody::Patch(PatchKind::Merge, doc!({"data": {"v": value}}))),
            2 => (Verb::Update, one, RequestBody::Doc(whole)),
            _ => (Verb::Create, Target::all(config_maps(), namespace), RequestBody::Doc(whole)),
        };
        let request = ApiRequest { verb, target, body, options: Options::default(), ..ApiRequest::default() };
        // Others may have been faster: then this writer has done nothing.
        if let Ok(answer) = door.call(request).await
            && let Ok(written) = answer.into_object()
            && verb != Verb::Delete
        {
            self.scene.acknowledge(written.revision());
        }
    }
}

fn put(key: Key, value: String) -> Op {
    Op::Put { key, value: value.into(), lease: None, attachment: None }
}

/// A config map as it is stored.
pub fn object(namespace: &str, name: &str, label: &str, value: &str) -> String {
    format!(
        r#"{{"kind":"ConfigMap","apiVersion":"v1","metadata":{{"name":"{name}","namespace":"{namespace}","uid":"u-{name}","labels":{{"l":"{label}"}}}},"data":{{"v":"{value}"}}}}"#
    )
}

/// What goes wrong around them: the store's watches end, it does not answer, it forgets, servers restart.
pub struct Weather {
    pub scene: Arc<Scene>,
    pub faulty: Arc<Faulty>,
    pub store: Arc<dyn Store>,
    pub stack: Arc<Stack>,
    pub random: Random,
    pub over: Arc<AtomicBool>,
    /// The longest time between two such things.
    pub every: Duration,
}

impl Weather {
    pub async fn run(mut self) {
        while !self.over.load(SeqCst) {
            let wait = self.every.mul_f64(self.random.below(100) as f64 / 100.0) + Duration::from_millis(1);
            self.scene.env.sleep(wait).await;
            self.happen().await;
        }
    }

    async fn happen(&mut self) {
        let unavailable = StoreError::Unavailable("weather".into());
        match self.random.below(10) {
            0..3 => self.faulty.end_watches(&unavailable),
            3 => {
                // While the caches are away, what they would go on from is forgotten.
                self.faulty.end_watches(&unavailable);
                self.scene.env.sleep(Duration::from_millis(150)).await;
                self.compact(0).await;
            }
            4 => {
                let back = self.random.below(60);
                self.compact(back).await;
            }
            5 => self.faulty.fail(Calls::Reads, Failure::Refuse(unavailable), 1 + self.random.below(4)),
            6 => self.faulty.fail(Calls::Watches, Failure::Refuse(unavailable), 1 + self.random.below(2)),
            7 => {
                let now = self.scene.acknowledged.load(SeqCst);
                self.stack.forget(now.saturating_sub(self.random.below(40)));
            }
            _ => self.stack.restart(&mut self.random).await,
        }
    }

    async fn compact(&self, back: u64) {
        let upto = Revision(self.scene.acknowledged.load(SeqCst).saturating_sub(back));
        // What comes back is recorded.
        let _ = self.store.compact(upto).await;
    }
}
