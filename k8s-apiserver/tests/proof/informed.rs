//! A component with an informer: what the informer's handler is told, what lists it was given, and looks at its store.

use std::{
    sync::{Arc, atomic::Ordering::SeqCst},
    time::Duration,
};

use async_trait::async_trait;
use futures::{StreamExt, stream};
use k8s_core::{
    object::Object,
    request::{ApiRequest, ApiResponse, ResponseBody, Verb},
    seam::transport::Transport,
    status::{ApiError, ApiResult},
};
use k8s_reconcile::{
    Client,
    informer::{Delta, DynamicInformer, Subscription},
};
use k8s_store::{
    Key, Revision,
    check::{
        Contradiction, Random,
        mirrors::{Look, MirrorRecord, Told, Version},
    },
};
use parking_lot::Mutex;

use super::{
    defective::Defect,
    scene::Scene,
    wanted::{PREFIX, Wanted, config_maps},
};

/// How long an informer may take to come to the end of the history.
const PATIENCE: Duration = Duration::from_secs(3600);

/// What is known of one component's informers, one after the other.
pub struct Informed {
    pub wanted: Wanted,
    pub record: MirrorRecord,
    /// How often it began.
    pub begun: u64,
}

/// A component that restarts now and then.
pub struct Component {
    pub scene: Arc<Scene>,
    pub door: Arc<dyn Transport>,
    pub random: Random,
    pub number: usize,
    pub wanted: Wanted,
    pub defect: Defect,
}

impl Component {
    pub async fn run(mut self) -> Result<Informed, Contradiction> {
        let noted: Arc<Mutex<MirrorRecord>> = Arc::default();
        {
            let mut record = noted.lock();
            record.client = self.number;
            record.prefix = self.wanted.prefix();
        }
        let mut begun = 1;
        let mut running = self.begin(&noted);
        loop {
            self.scene.clone().pause(&mut self.random, Duration::from_secs(6)).await;
            self.look(&running.0, &noted);
            let until = self.scene.until.load(SeqCst);
            if until > 0 {
                break;
            }
            if self.random.one_in(12) {
                drop(running);
                begun += 1;
                running = self.begin(&noted);
            }
        }
        let until = self.scene.until.load(SeqCst);
        if !running.0.caught_up(until, PATIENCE).await {
            let what = format!("the informer of {:?} came to {} of {until} only", self.wanted, running.0.revision());
            return Err(Contradiction::new("live", self.scene.now(), what));
        }
        self.look(&running.0, &noted);
        drop(running);
        let record = std::mem::take(&mut *noted.lock());
        Ok(Informed { wanted: self.wanted, record, begun })
    }

    fn begin(&mut self, noted: &Arc<Mutex<MirrorRecord>>) -> (DynamicInformer, Subscription) {
        noted.lock().told.push((self.scene.now(), Told::Began));
        let shaky = Shaky {
            inner: self.door.clone(),
            noted: noted.clone(),
            random: Arc::new(Mutex::new(Random::new(self.random.bits()))),
        };
        let client = Client::new(Arc::new(shaky), self.scene.env.clone());
        let informer = client.dynamic_informer(config_maps(), self.wanted.scope());
        let (scene, noted, defect) = (self.scene.clone(), noted.clone(), self.defect);
        let subscription = informer.subscribe(Arc::new(move |delta: &Delta| {
            if defect != Defect::GoneIsUntold || delta.new.is_some() {
                noted.lock().told.push((scene.now(), told(delta)));
            }
        }));
        (informer, subscription)
    }

    fn look(&self, informer: &DynamicInformer, noted: &Mutex<MirrorRecord>) {
        let reached = Revision(informer.revision());
        let shown = informer.list().iter().map(|object| (key(object), version(object))).collect();
        if reached > Revision::ZERO {
            noted.lock().looks.push(Look { at: self.scene.now(), reached, shown });
        }
    }
}

fn told(delta: &Delta) -> Told {
    let side = |object: &Option<Arc<Object>>| object.as_ref().map(|object| version(object));
    Told::Change { key: key(delta.object()), old: side(&delta.old), new: side(&delta.new) }
}

/// The storage key of a config map.
pub fn key(object: &Object) -> Key {
    format!("{PREFIX}{}/{}", object.meta.namespace, object.meta.name).into()
}

fn version(object: &Object) -> Version {
    Version { modified: Revision(object.revision()), value: object.stored_json().clone() }
}

/// A way to the server that fails now and then, cuts watches, and claims that they are too old; it notes the lists.
struct Shaky {
    inner: Arc<dyn Transport>,
    noted: Arc<Mutex<MirrorRecord>>,
    random: Arc<Mutex<Random>>,
}

#[async_trait]
impl Transport for Shaky {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        let draw = self.random.lock().below(30);
        match (draw, request.verb) {
            (0..3, _) => return Err(ApiError::unavailable("shaky")),
            (3..5, Verb::Watch) => return Err(ApiError::expired("shaky")),
            _ => {}
        }
        let mut answer = self.inner.call(request).await?;
        answer.body = match answer.body {
            ResponseBody::List(list) => {
                self.noted.lock().lists.insert(Revision(list.revision));
                ResponseBody::List(list)
            }
            ResponseBody::Watch(watch) => {
                let random = self.random.clone();
                let cut = watch.flat_map(move |event| {
                    let end = match random.lock().below(80) {
                        0 => Some(ApiError::unavailable("shaky")),
                        1 => Some(ApiError::expired("shaky")),
                        _ => None,
                    };
                    stream::iter([Some(event), end.map(Err)]).filter_map(std::future::ready)
                });
                ResponseBody::Watch(Box::pin(cut))
            }
            other => other,
        };
        Ok(answer)
    }
}
