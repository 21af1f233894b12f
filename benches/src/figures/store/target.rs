//! What puts go to: the embedded store in this process, or something to compare it with.

use std::{future::Future, sync::Arc, time::Duration};

use bytes::Bytes;
use futures::{StreamExt, stream};
use k8s::{
    store::{Embedded, EmbeddedOptions, Key, Store, Transaction},
    wire::env::System,
};
use tempfile::TempDir;

use super::super::{
    etcd::{self, Etcd},
    usage::Process,
};

/// How many keys are written again and again.
pub const KEYS: usize = 10_000;
/// The size of a value.
pub const VALUE_BYTES: usize = 1024;

/// Takes durable puts of [`VALUE_BYTES`] bytes. Cloning shares.
pub trait Target: Clone + Send + Sync + 'static {
    /// Puts the value of a key; it is durable when this resolves.
    fn put(&self, key: usize) -> impl Future<Output = ()> + Send;
    /// CPU so far of the process that takes the puts.
    fn cpu(&self) -> Duration;
}

/// Puts every key once.
pub async fn fill(target: &impl Target) {
    stream::iter((0..KEYS).map(|key| target.put(key))).buffer_unordered(256).collect::<()>().await;
}

/// The embedded store on a folder of its own. Its CPU is this whole process's: that of its callers counts, too.
#[derive(Clone)]
pub struct Embedding {
    store: Arc<Embedded>,
    keys: Arc<[Key]>,
    value: Bytes,
    folder: Arc<TempDir>,
}

impl Embedding {
    /// A new store.
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Embedded::open(folder.path(), System::current(), EmbeddedOptions::default()).expect("a store");
        let keys = (0..KEYS).map(|number| Key::from(name(number))).collect();
        Self { store, keys, value: value(), folder: Arc::new(folder) }
    }

    /// How often the log was flushed so far.
    pub async fn flushes(&self) -> u64 {
        let statistics = self.store.statistics().await.expect("statistics");
        statistics.disk.expect("a store on a disk").flushes
    }

    /// The file system under it.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }
}

impl Target for Embedding {
    async fn put(&self, key: usize) {
        let transaction = Transaction::new().put(self.keys[key % KEYS].clone(), self.value.clone());
        self.store.commit(transaction).await.expect("a put");
    }

    fn cpu(&self) -> Duration {
        Process::own().cpu()
    }
}

/// The real etcd. Its CPU is the server's alone, its callers' does not count.
#[derive(Clone)]
pub struct Beside {
    etcd: Etcd,
    /// The request that puts each key.
    requests: Arc<[Bytes]>,
}

impl Beside {
    /// Starts one; `None` if the program is not installed.
    pub async fn start() -> Option<Self> {
        let requests = (0..KEYS).map(|number| etcd::put(&name(number), &value()).framed()).collect();
        Some(Self { etcd: Etcd::start().await?, requests })
    }
}

impl Target for Beside {
    async fn put(&self, key: usize) {
        self.etcd.call(key, "KV/Put", self.requests[key % KEYS].clone()).await;
    }

    fn cpu(&self) -> Duration {
        self.etcd.cpu()
    }
}

/// The key of a number.
pub fn name(number: usize) -> String {
    format!("/registry/pods/default/pod-{number:07}")
}

/// A value.
pub fn value() -> Bytes {
    Bytes::from(vec![b'x'; VALUE_BYTES])
}
