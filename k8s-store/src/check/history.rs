//! What clients asked of a store, what they were answered, and when.

use std::{
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use async_trait::async_trait;
use futures::Stream;
use parking_lot::Mutex;

use super::{executor::hesitate, random::Random};
use crate::{
    Committed, Digest, Entry, Key, LeaseId, Listing, Page, Revision, Statistics, Store, StoreError, Transaction,
    WatchItem, WatchStream,
};

/// A moment: moments are numbered in the order in which the recorder saw them.
pub type Tick = u64;

/// What one or more clients did with a store.
#[derive(Clone, Debug, Default)]
pub struct History {
    /// In the order of their invocation.
    pub operations: Vec<Operation>,
    /// In the order in which they were opened.
    pub watches: Vec<WatchRecord>,
    /// Whether the store may have forgotten history that nobody asked it to compact.
    pub compacts_itself: bool,
    /// The store's own number for the revision zero of this history. Digests are made with the store's numbers.
    pub base: u64,
}

/// One call and its outcome.
#[derive(Clone, Debug)]
pub struct Operation {
    /// Who asked.
    pub client: usize,
    /// When the call began.
    pub invoked: Tick,
    /// What was asked.
    pub call: Call,
    /// When it returned, and what; `None` if it never did, which leaves the outcome unknown.
    pub returned: Option<(Tick, Result<Answer, StoreError>)>,
}

/// What can be asked of a [`Store`].
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is the method of `Store` with that name")]
pub enum Call {
    Head,
    Get(Key),
    List(String, Page),
    Watch(String, Revision),
    Commit(Transaction),
    Compact(Revision),
    Progress,
    Grant(Duration),
    KeepAlive(LeaseId),
    Revoke(LeaseId),
    Digest,
}

/// What a [`Store`] answers.
#[derive(Clone, Debug)]
#[allow(missing_docs, reason = "each is what the method of `Store` returns")]
pub enum Answer {
    Revision(Revision),
    Entry(Option<Entry>),
    Listing(Listing),
    /// The index of the watch's record.
    Watching(usize),
    Committed(Committed),
    Granted(LeaseId),
    Alive(Duration),
    Digest(Digest),
    Done,
}

/// One watch and what it yielded.
#[derive(Clone, Debug)]
pub struct WatchRecord {
    /// Who watched.
    pub client: usize,
    /// The prefix that was watched.
    pub prefix: String,
    /// The revision after which the watch began.
    pub from: Revision,
    /// What it yielded, and when. An error is the last item.
    pub items: Vec<(Tick, Result<WatchItem, StoreError>)>,
}

impl Operation {
    /// Whether it may have happened although nobody said so.
    pub fn outcome_unknown(&self) -> bool {
        match &self.returned {
            None => true,
            Some((_, outcome)) => outcome.as_ref().is_err_and(StoreError::outcome_unknown),
        }
    }

    /// The answer, if there is one.
    pub fn answer(&self) -> Option<&Answer> {
        self.returned.as_ref().and_then(|(_, outcome)| outcome.as_ref().ok())
    }
}

/// Records what its clients do with a store.
pub struct Recorder {
    store: Arc<dyn Store>,
    log: Mutex<Log>,
}

#[derive(Default)]
struct Log {
    history: History,
    ticks: Tick,
    /// Decides how long a call hesitates before and after; `None` if it does not.
    hesitation: Option<Random>,
}

impl Log {
    fn tick(&mut self) -> Tick {
        self.ticks += 1;
        self.ticks
    }
}

impl Recorder {
    /// Records what happens to `store`, as fast as it happens.
    pub fn new(store: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self { store, log: Mutex::default() })
    }

    /// As [`new`](Self::new), but calls hesitate before and after, so that they overlap even over a store that never
    /// waits.
    pub fn hesitant(store: Arc<dyn Store>, random: Random) -> Arc<Self> {
        let log = Log { hesitation: Some(random), ..Log::default() };
        Arc::new(Self { store, log: Mutex::new(log) })
    }

    /// The store as `client` sees it.
    pub fn client(self: &Arc<Self>, client: usize) -> Arc<dyn Store> {
        Arc::new(Client { recorder: self.clone(), client })
    }

    /// What was recorded since the last time that it was taken.
    pub fn take(&self) -> History {
        std::mem::take(&mut self.log.lock().history)
    }

    /// What was recorded since then, while it goes on.
    pub fn so_far(&self) -> History {
        self.log.lock().history.clone()
    }

    /// The last moment that was recorded.
    pub fn now(&self) -> Tick {
        self.log.lock().ticks
    }

    async fn hesitate(&self) {
        let times = self.log.lock().hesitation.as_mut().map_or(0, |random| random.below(6).saturating_sub(2));
        hesitate(times).await;
    }

    fn begin(&self, client: usize, call: Call) -> usize {
        let mut log = self.log.lock();
        let invoked = log.tick();
        log.history.operations.push(Operation { client, invoked, call, returned: None });
        log.history.operations.len() - 1
    }

    fn end(&self, operation: usize, outcome: Result<Answer, StoreError>) {
        let mut log = self.log.lock();
        let tick = log.tick();
        log.history.operations[operation].returned = Some((tick, outcome));
    }

    fn watching(&self, client: usize, prefix: &str, from: Revision) -> usize {
        let mut log = self.log.lock();
        log.history.watches.push(WatchRecord { client, prefix: prefix.into(), from, items: Vec::new() });
        log.history.watches.len() - 1
    }

    fn item(&self, watch: usize, item: &Result<WatchItem, StoreError>) {
        let mut log = self.log.lock();
        let tick = log.tick();
        log.history.watches[watch].items.push((tick, item.clone()));
    }
}

struct Client {
    recorder: Arc<Recorder>,
    client: usize,
}

impl Client {
    async fn call<T: Clone>(
        &self,
        call: Call,
        work: impl Future<Output = Result<T, StoreError>>,
        answer: impl FnOnce(T) -> Answer,
    ) -> Result<T, StoreError> {
        let operation = self.recorder.begin(self.client, call);
        self.recorder.hesitate().await;
        let outcome = work.await;
        self.recorder.hesitate().await;
        self.recorder.end(operation, outcome.clone().map(answer));
        outcome
    }
}

#[async_trait]
impl Store for Client {
    async fn head(&self) -> Result<Revision, StoreError> {
        self.call(Call::Head, self.recorder.store.head(), Answer::Revision).await
    }

    async fn get(&self, key: &Key) -> Result<Option<Entry>, StoreError> {
        self.call(Call::Get(key.clone()), self.recorder.store.get(key), Answer::Entry).await
    }

    async fn list(&self, prefix: &str, page: Page) -> Result<Listing, StoreError> {
        let work = self.recorder.store.list(prefix, page.clone());
        self.call(Call::List(prefix.into(), page), work, Answer::Listing).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<WatchStream, StoreError> {
        let opened = async {
            let stream = self.recorder.store.watch(prefix, from).await?;
            let watch = self.recorder.watching(self.client, prefix, from);
            Ok((watch, Arc::new(Mutex::new(Some(stream)))))
        };
        let call = Call::Watch(prefix.into(), from);
        let (watch, stream) = self.call(call, opened, |(watch, _)| Answer::Watching(watch)).await?;
        // Invariant: nobody else has the cell in which the stream came through the recorder.
        let stream = stream.lock().take().ok_or(StoreError::Closed)?;
        Ok(Box::pin(RecordedWatch { recorder: self.recorder.clone(), watch, stream }))
    }

    async fn commit(&self, transaction: Transaction) -> Result<Committed, StoreError> {
        let work = self.recorder.store.commit(transaction.clone());
        self.call(Call::Commit(transaction), work, Answer::Committed).await
    }

    async fn compact(&self, revision: Revision) -> Result<(), StoreError> {
        self.call(Call::Compact(revision), self.recorder.store.compact(revision), |()| Answer::Done).await
    }

    async fn progress(&self) -> Result<Revision, StoreError> {
        self.call(Call::Progress, self.recorder.store.progress(), Answer::Revision).await
    }

    async fn grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.call(Call::Grant(ttl), self.recorder.store.grant(ttl), Answer::Granted).await
    }

    async fn keep_alive(&self, lease: LeaseId) -> Result<Duration, StoreError> {
        self.call(Call::KeepAlive(lease), self.recorder.store.keep_alive(lease), Answer::Alive).await
    }

    async fn revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.call(Call::Revoke(lease), self.recorder.store.revoke(lease), |()| Answer::Done).await
    }

    async fn statistics(&self) -> Result<Statistics, StoreError> {
        self.recorder.store.statistics().await
    }

    async fn digest(&self) -> Result<Digest, StoreError> {
        self.call(Call::Digest, self.recorder.store.digest(), Answer::Digest).await
    }
}

struct RecordedWatch {
    recorder: Arc<Recorder>,
    watch: usize,
    stream: WatchStream,
}

impl Stream for RecordedWatch {
    type Item = Result<WatchItem, StoreError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let item = ready!(self.stream.as_mut().poll_next(cx));
        if let Some(item) = &item {
            self.recorder.item(self.watch, item);
        }
        Poll::Ready(item)
    }
}

impl fmt::Display for Operation {
    /// One line: who, what, and what came of it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:>6} client {} {:?}", self.invoked, self.client, self.call)?;
        match &self.returned {
            None => write!(f, " never returned"),
            Some((tick, Ok(answer))) => write!(f, " = {answer} at {tick}"),
            Some((tick, Err(error))) => write!(f, " failed at {tick}: {error}"),
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Revision(revision) => write!(f, "{revision}"),
            Self::Entry(entry) => write!(f, "{}", describe(entry.as_ref())),
            Self::Listing(listing) => {
                let keys: Vec<_> = listing.entries.iter().map(|entry| describe(Some(entry))).collect();
                write!(f, "[{}] at {}", keys.join(", "), listing.revision)
            }
            Self::Watching(watch) => write!(f, "watch {watch}"),
            Self::Committed(committed) => write!(f, "revision {}", committed.revision),
            Self::Granted(lease) => write!(f, "lease {lease}"),
            Self::Alive(ttl) => write!(f, "{ttl:?}"),
            Self::Digest(digest) => write!(f, "{digest}"),
            Self::Done => f.write_str("done"),
        }
    }
}

/// An entry in a few words.
pub(crate) fn describe(entry: Option<&Entry>) -> String {
    match entry {
        None => "nothing".into(),
        Some(entry) => {
            let value = String::from_utf8_lossy(&entry.value[..entry.value.len().min(12)]).into_owned();
            let lease = entry.lease.map_or(String::new(), |lease| format!(" lease {lease}"));
            format!("{}={value:?} ({}..{}{lease})", entry.key, entry.created, entry.modified)
        }
    }
}
