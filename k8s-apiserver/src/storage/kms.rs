//! Keys that a key management service keeps: upstream's KMS, version 2.
//!
//! A plugin on this machine encrypts one random seed for this server, and stands by with its key id. Every value is
//! sealed with a key of its own that follows from the seed, and carries the encrypted seed along, so that whoever the
//! plugin decrypts the seed for can open it. The plugin is asked for its status again and again; another key id makes
//! a new seed. It is never asked for a value: seeds that it decrypted are remembered.

mod data_key;
mod message;

use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

use bytes::Bytes;
use k8s_core::{
    env::Env,
    seam::grpc::{GrpcCaller, GrpcError},
};
use parking_lot::Mutex;

use self::{
    data_key::DataKey,
    message::{EncryptedObject, Source, Status},
};
use super::{cipher::NotSealed, keys::KeyError};

/// How long a seed may be written with after the plugin last said that its key is the one.
pub const WRITABLE_FOR: Duration = Duration::from_secs(180);
/// How often the plugin is asked how it is.
pub const PROBE_EVERY: Duration = Duration::from_secs(20);
/// The same while it is not well.
pub const PROBE_AGAIN: Duration = Duration::from_secs(3);
/// How many decrypted seeds are remembered. The one that was learnt first is forgotten for a new one, and the plugin
/// is asked for it again when a value needs it.
pub const MAX_SEEDS: usize = 4096;
/// How long it is remembered that the plugin does not decrypt a seed.
const REFUSED_FOR: Duration = Duration::from_secs(10);
/// The versions of the protocol that are spoken; they are the same.
const VERSIONS: [&str; 2] = ["v2", "v2beta1"];

/// One provider `kms` of an `EncryptionConfiguration`.
pub(super) struct Kms {
    name: String,
    endpoint: String,
    /// How long one call may take.
    limit: Duration,
    /// Set once, by the server that starts with it.
    way: OnceLock<Way>,
    state: Mutex<State>,
    /// Held while the plugin is asked for a seed, so that it is asked once for many values.
    asking: tokio::sync::Mutex<()>,
}

struct Way {
    env: Env,
    caller: Arc<dyn GrpcCaller>,
}

struct State {
    current: Option<Current>,
    known: BTreeMap<Source, Known>,
    /// The keys of `known`, the one that was learnt first at the front.
    order: VecDeque<Source>,
    health: Result<(), String>,
}

/// What values are sealed with.
struct Current {
    source: Source,
    key: Arc<DataKey>,
    /// On the environment's monotonic clock.
    writable_until: Duration,
}

enum Known {
    Key(Arc<DataKey>),
    /// The plugin does not decrypt it; do not ask before that moment.
    Refused(String, Duration),
}

/// Why a value cannot be opened.
#[derive(Debug)]
pub(super) enum Closed {
    /// The plugin has to be asked for its seed first.
    Asks,
    /// The plugin cannot be asked now.
    Away(String),
    /// It cannot be told, and asking again does not help.
    Never(String),
}

impl Kms {
    pub fn new(name: &str, endpoint: &str, limit: Duration) -> Self {
        let state = State {
            current: None,
            known: BTreeMap::new(),
            order: VecDeque::new(),
            health: Err("the plugin was not asked yet".into()),
        };
        Self {
            name: name.into(),
            endpoint: endpoint.into(),
            limit,
            way: OnceLock::new(),
            state: Mutex::new(state),
            asking: tokio::sync::Mutex::new(()),
        }
    }

    /// Asks the plugin for the first time and makes a seed. The error says why that cannot be.
    pub async fn begin(&self, env: &Env, caller: &Arc<dyn GrpcCaller>) -> Result<(), String> {
        self.way.get_or_init(|| Way { env: env.clone(), caller: caller.clone() });
        self.probe().await;
        self.health()
    }

    /// Asks the plugin how it is, again and again. Never ends.
    pub async fn follow(self: Arc<Self>) {
        let Some(way) = self.way.get() else { return };
        loop {
            way.env.sleep(if self.health().is_ok() { PROBE_EVERY } else { PROBE_AGAIN }).await;
            let before = self.health();
            self.probe().await;
            match (before, self.health()) {
                (Ok(()), Err(why)) => tracing::warn!(kms = self.name, why, "the KMS plugin is not well"),
                (Err(_), Ok(())) => tracing::info!(kms = self.name, "the KMS plugin is well again"),
                _ => {}
            }
        }
    }

    /// What was found when the plugin was last asked. The error names the provider.
    pub fn health(&self) -> Result<(), String> {
        self.state.lock().health.clone().map_err(|why| format!("kms-provider {}: {why}", self.name))
    }

    async fn probe(&self) {
        let found = self.look().await;
        self.state.lock().health = found;
    }

    /// Asks for the status, and makes a seed where the key has changed or there is none.
    async fn look(&self) -> Result<(), String> {
        let way = self.way.get().ok_or("it was not begun")?;
        let status = self.call("Status", Bytes::new()).await.map_err(|why| why.to_string())?;
        let status = Status::read(&status).map_err(|why| format!("its status cannot be read: {why}"))?;
        if status.healthz != "ok" {
            return Err(format!("got unexpected healthz status: {}", status.healthz));
        }
        if !VERSIONS.contains(&status.version.as_str()) {
            return Err(format!("got unexpected version {}, expected v2", status.version));
        }
        message::validate_key_id(&status.key_id).map_err(|why| format!("got invalid KMSv2 key ID: {why}"))?;
        let writable_until = way.env.monotonic() + WRITABLE_FOR;
        {
            let mut state = self.state.lock();
            if let Some(current) = state.current.as_mut().filter(|current| current.source.key_id == status.key_id) {
                current.writable_until = writable_until;
                return Ok(());
            }
        }
        let seed = data_key::generate().map_err(|NotSealed| "the operating system gives no randomness")?;
        let request = message::encrypt_request(&seed, &way.env.uuid());
        let answer = self.call("Encrypt", request).await.map_err(|why| format!("failed to encrypt DEK: {why}"))?;
        let source = message::encrypt_response(&answer).map_err(|why| format!("failed to encrypt DEK: {why}"))?;
        if source.key_id != status.key_id {
            return Err("failed to encrypt DEK: the key is another one than that of the status".into());
        }
        let key = DataKey::new(source.derives, &seed).map(Arc::new).ok_or("the seed is too short")?;
        let mut state = self.state.lock();
        state.learn(source.clone(), Known::Key(key.clone()));
        state.current = Some(Current { source, key, writable_until });
        Ok(())
    }

    async fn call(&self, method: &str, message: Bytes) -> Result<Bytes, GrpcError> {
        let unreachable = || GrpcError::Unreachable { endpoint: self.endpoint.clone(), why: "no way to it".into() };
        let way = self.way.get().ok_or_else(unreachable)?;
        let method = format!("/v2.KeyManagementService/{method}");
        way.caller.call(&self.endpoint, &method, self.limit, message).await
    }

    /// What values begin with that it seals.
    pub fn prefix(&self) -> String {
        format!("k8s:enc:kms:v2:{}:", self.name)
    }

    /// Seals a value that is kept under `context`.
    pub fn seal(&self, context: &str, plain: &[u8]) -> Result<Bytes, KeyError> {
        let error = |why: String| KeyError { place: format!("kms-provider {}", self.name), why };
        let (source, key) = {
            let state = self.state.lock();
            let now = self.way.get().map(|way| way.env.monotonic());
            match &state.current {
                Some(current) if now.is_some_and(|now| now <= current.writable_until) => {
                    (current.source.clone(), current.key.clone())
                }
                _ => {
                    let why = state.health.as_ref().err().map_or("its key is not confirmed", String::as_str);
                    return Err(error(format!("nothing can be encrypted: {why}")));
                }
            }
        };
        let mut data = Vec::new();
        key.seal(context, plain, &mut data).map_err(|NotSealed| error("the value cannot be encrypted".into()))?;
        let mut out = self.prefix().into_bytes();
        EncryptedObject::write(&source, &data, &mut out);
        Ok(out.into())
    }

    /// Opens what stands behind the prefix, if its seed is known.
    pub fn open(&self, context: &str, body: &[u8]) -> Result<Bytes, Closed> {
        let object = self.read(body)?;
        let now = self.way.get().map_or(Duration::ZERO, |way| way.env.monotonic());
        let key = match self.state.lock().known.get(&object.source) {
            Some(Known::Key(key)) => key.clone(),
            Some(Known::Refused(why, until)) if now < *until => return Err(self.refused(why)),
            _ => return Err(Closed::Asks),
        };
        self.opened(&key, context, &object.data)
    }

    /// The same, asking the plugin for the seed if need be.
    pub async fn open_asking(&self, context: &str, body: &[u8]) -> Result<Bytes, Closed> {
        match self.open(context, body) {
            Err(Closed::Asks) => {}
            other => return other,
        }
        let _turn = self.asking.lock().await;
        // Somebody else may have asked for it meanwhile.
        match self.open(context, body) {
            Err(Closed::Asks) => {}
            other => return other,
        }
        let object = self.read(body)?;
        let key = self.decrypt(&object.source).await?;
        self.opened(&key, context, &object.data)
    }

    async fn decrypt(&self, source: &Source) -> Result<Arc<DataKey>, Closed> {
        let way =
            self.way.get().ok_or_else(|| Closed::Away(format!("kms-provider {}: it was not begun", self.name)))?;
        let answer = self.call("Decrypt", message::decrypt_request(source, &way.env.uuid())).await;
        let plain = match answer {
            Ok(answer) => message::decrypt_response(&answer),
            Err(why) if why.retry() => return Err(Closed::Away(format!("kms-provider {}: {why}", self.name))),
            Err(why) => Err(why.to_string()),
        };
        let wrong = || "what was decrypted is no key".to_owned();
        let key = plain.and_then(|plain| DataKey::new(source.derives, &plain).map(Arc::new).ok_or_else(wrong));
        let known = match &key {
            Ok(key) => Known::Key(key.clone()),
            Err(why) => Known::Refused(why.clone(), way.env.monotonic() + REFUSED_FOR),
        };
        self.state.lock().learn(source.clone(), known);
        key.map_err(|why| self.refused(&why))
    }

    fn read(&self, body: &[u8]) -> Result<EncryptedObject, Closed> {
        EncryptedObject::read(body)
            .map_err(|why| Closed::Never(format!("what kms:v2:{} sealed is damaged: {why}", self.name)))
    }

    fn refused(&self, why: &str) -> Closed {
        Closed::Never(format!("it is encrypted with kms:v2:{}, and its key cannot be decrypted: {why}", self.name))
    }

    fn opened(&self, key: &DataKey, context: &str, data: &[u8]) -> Result<Bytes, Closed> {
        let altered = || {
            let name = &self.name;
            Closed::Never(format!("kms:v2:{name} does not open it: the value was altered or moved here"))
        };
        key.open(context, data).map(Bytes::from).ok_or_else(altered)
    }

    /// Whether a value would be sealed otherwise if it were written now.
    pub fn is_stale(&self, sealed: &[u8]) -> bool {
        let body = sealed.strip_prefix(self.prefix().as_bytes());
        let Some(object) = body.and_then(|body| EncryptedObject::read(body).ok()) else { return true };
        let state = self.state.lock();
        state.current.as_ref().is_none_or(|current| {
            (&current.source.key_id, current.source.derives) != (&object.source.key_id, object.source.derives)
        })
    }
}

impl State {
    fn learn(&mut self, source: Source, known: Known) {
        if self.known.insert(source.clone(), known).is_none() {
            self.order.push_back(source);
        }
        while self.order.len() > MAX_SEEDS
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }
}

/// Only the name: the rest is secret.
impl fmt::Debug for Kms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Kms").field(&self.name).finish()
    }
}
