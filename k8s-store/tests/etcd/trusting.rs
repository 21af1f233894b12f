//! A store over etcd that does as etcd's interface suggests: it watches a prefix only, and when somebody asks how far a
//! watch has come, it asks the server and hands on what the server says.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

use async_trait::async_trait;
use etcd_client::{Client, Event, EventType, KeyValue, WatchOptions, WatchResponse};
use futures::stream;
use k8s_core::env::Env;
use k8s_store::{
    Change, ChangeEvent, Committed, Digest, Entry, Etcd, Key, LeaseId, Listing, Page, Revision, Statistics, Store,
    StoreError, Transaction, WatchItem, WatchStream,
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, sync::Notify};

/// How soon a server that did not answer a question for progress is asked again; it need not answer.
const PAUSE: Duration = Duration::from_millis(100);

/// Our backend, with watches that believe the server.
pub struct Trusting {
    inner: Etcd,
    endpoint: String,
    env: Env,
    /// Where the connections live.
    runtime: Handle,
    questions: Mutex<Vec<Weak<Question>>>,
}

/// How far somebody wants a watch to have come.
#[derive(Default)]
struct Question {
    asked: AtomicU64,
    told: Notify,
}

struct Watch {
    env: Env,
    question: Arc<Question>,
    /// The newest progress that the server told.
    answered: u64,
    stream: etcd_client::WatchStream,
    ready: VecDeque<WatchItem>,
    ended: bool,
}

impl Trusting {
    pub fn new(inner: Etcd, endpoint: String, env: Env) -> Self {
        Self { inner, endpoint, env, runtime: Handle::current(), questions: Mutex::default() }
    }
}

impl Watch {
    async fn next(&mut self) -> Result<WatchItem, StoreError> {
        loop {
            if let Some(item) = self.ready.pop_front() {
                return Ok(item);
            }
            let unanswered = self.question.asked.load(SeqCst) > self.answered;
            if unanswered {
                self.stream.request_progress().await.map_err(unavailable)?;
            }
            let patience = self.env.sleep(PAUSE);
            tokio::select! {
                biased;
                response = self.stream.message() => match response.map_err(unavailable)? {
                    Some(response) => self.take(&response)?,
                    None => return Err(StoreError::Unavailable("the stream ended".into())),
                },
                () = self.question.told.notified() => {}
                () = patience, if unanswered => {}
            }
        }
    }

    fn take(&mut self, response: &WatchResponse) -> Result<(), StoreError> {
        if response.canceled() {
            return Err(StoreError::Unavailable(response.cancel_reason().into()));
        }
        if response.events().is_empty() && !response.created() {
            self.answered = number(response.header().map_or(0, etcd_client::ResponseHeader::revision));
            self.ready.push_back(WatchItem::Progress(Revision(self.answered)));
        }
        for events in response.events().chunk_by(|one, other| modified(one) == modified(other)) {
            let (revision, events) = (modified(&events[0]), events.iter().map(event).collect());
            self.ready.push_back(WatchItem::Change(Arc::new(Change { revision, events })));
        }
        Ok(())
    }
}

fn event(event: &Event) -> ChangeEvent {
    let kv = event.kv().expect("an event is about a key");
    let entry = (event.event_type() == EventType::Put).then(|| entry(kv));
    ChangeEvent { key: key(kv), entry, previous: event.prev_kv().map(self::entry) }
}

fn entry(kv: &KeyValue) -> Entry {
    let (created, modified) = (Revision(number(kv.create_revision())), Revision(number(kv.mod_revision())));
    let lease = (kv.lease() != 0).then(|| LeaseId(number(kv.lease())));
    Entry { key: key(kv), value: kv.value().to_vec().into(), created, modified, lease, attachment: None }
}

fn key(kv: &KeyValue) -> Key {
    Key::from(kv.key_str().expect("stores write keys of text"))
}

fn modified(event: &Event) -> Revision {
    Revision(number(event.kv().map_or(0, KeyValue::mod_revision)))
}

fn number(number: i64) -> u64 {
    u64::try_from(number).expect("etcd counts upwards")
}

fn unavailable(error: etcd_client::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

#[async_trait]
impl Store for Trusting {
    async fn head(&self) -> Result<Revision, StoreError> {
        self.inner.head().await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.inner.get(key).await
    }

    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError> {
        self.inner.list(prefix, page).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let (endpoint, watched) = (self.endpoint.clone(), prefix.to_owned());
        let start = i64::try_from(from.0 + 1).expect("a revision of etcd");
        let started = self.runtime.spawn(async move {
            let mut client = Client::connect([endpoint], None).await?;
            let options = WatchOptions::new().with_prefix().with_prev_key().with_start_revision(start);
            client.watch(watched, Some(options)).await
        });
        let stream = started.await.expect("connecting does not panic").map_err(unavailable)?;
        // etcd itself takes revisions that are to come, and one that is compacted.
        self.inner.list(prefix, Page { at: Some(from), limit: Some(0), ..Page::all() }).await?;
        let question = Arc::new(Question::default());
        self.questions.lock().push(Arc::downgrade(&question));
        let env = self.env.clone();
        let watch = Watch { env, question, answered: 0, stream, ready: VecDeque::new(), ended: false };
        Ok(Box::pin(stream::unfold(watch, |mut watch| async move {
            if watch.ended {
                return None;
            }
            let item = watch.next().await;
            watch.ended = item.is_err();
            Some((item, watch))
        })))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        self.inner.commit(transaction).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.inner.compact(revision).await
    }

    async fn progress(&self) -> Result<Revision, StoreError> {
        let head = self.inner.head().await?;
        for question in self.questions.lock().iter().filter_map(Weak::upgrade) {
            question.asked.fetch_max(head.0, SeqCst);
            question.told.notify_one();
        }
        Ok(head)
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.inner.grant(ttl).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.inner.keep_alive(lease).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.inner.revoke(lease).await
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.inner.statistics().await
    }

    async fn digest(&self) -> Result<Digest, StoreError> {
        self.inner.digest().await
    }
}
