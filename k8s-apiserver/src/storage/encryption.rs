//! What is encrypted in the store, and with which keys.

use std::{fmt, sync::Arc};

use bytes::Bytes;
use futures::future::BoxFuture;
use k8s_core::{env::Env, seam::grpc::GrpcCaller};

use super::{
    envelope,
    keys::{KeyError, Keys},
    kms::{Closed, Kms},
};

/// Where Secrets are kept.
pub const SECRETS: &str = "/registry/secrets/";

/// What is encrypted, and with which keys. Cloning shares.
///
/// A plain value under a prefix that is to be encrypted is read as it is, and is encrypted when it is written next.
#[derive(Clone, Debug)]
pub struct Encryption {
    /// The first place that a key belongs to counts.
    pub(super) places: Arc<[Place]>,
    /// Where the kinds are kept that are there from the start. What is below no such prefix, and below a group, is of a
    /// custom kind.
    pub(super) builtin: Arc<[String]>,
}

/// Some kinds, and what is done with their values.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// Where kinds are kept that are there from the start. Each ends in `/`.
    pub prefixes: Vec<String>,
    /// Which custom kinds are meant, whether they are there or not.
    pub custom: Vec<CustomKinds>,
    /// What opens values; empty if nothing does.
    pub keys: Keys,
    /// The key management services that open values.
    pub services: Vec<Arc<Kms>>,
    /// What is done with values that are written.
    pub writes: Writes,
}

/// Some custom kinds. What is `None` may be anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct CustomKinds {
    pub group: Option<String>,
    pub plural: Option<String>,
}

/// What is done with values that are written.
#[derive(Clone, Debug, Default)]
pub(super) enum Writes {
    /// The first key seals them.
    Sealed,
    /// The service's seed seals them.
    ByService(Arc<Kms>),
    /// Nothing: what is sealed becomes plain at its next write.
    #[default]
    Plain,
}

/// A key management service cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ServiceError(String);

impl Encryption {
    /// Encrypts Secrets.
    pub fn of_secrets(keys: Keys) -> Self {
        let place = Place { prefixes: vec![SECRETS.into()], keys, writes: Writes::Sealed, ..Place::default() };
        Self::of(vec![place], Vec::new())
    }

    pub(super) fn of(places: Vec<Place>, builtin: Vec<String>) -> Self {
        Self { places: places.into(), builtin: builtin.into() }
    }

    fn place(&self, key: &str) -> Option<&Place> {
        let kind = self.custom_kind(key);
        self.places.iter().find(|place| {
            place.prefixes.iter().any(|prefix| key.starts_with(prefix.as_str()))
                || kind.is_some_and(|kind| place.custom.iter().any(|kinds| kinds.covers(kind)))
        })
    }

    /// The group and the plural name of the custom kind that a key is of. Groups of custom kinds have a dot.
    fn custom_kind<'a>(&self, key: &'a str) -> Option<(&'a str, &'a str)> {
        let mut parts = key.strip_prefix("/registry/")?.split('/');
        let (group, plural) = (parts.next().filter(|group| group.contains('.'))?, parts.next()?);
        let is_builtin = self.builtin.iter().any(|prefix| key.starts_with(prefix.as_str()));
        (!is_builtin && parts.next().is_some()).then_some((group, plural))
    }

    /// The form in which a value is stored: sealed, or `None` to store it as it is.
    pub(super) fn seal(&self, key: &str, plain: &[u8]) -> Result<Option<Bytes>, KeyError> {
        match self.place(key) {
            Some(Place { keys, writes: Writes::Sealed, .. }) => {
                keys.first().map(|first| envelope::seal(first, key, plain)).transpose()
            }
            Some(Place { writes: Writes::ByService(service), .. }) => service.seal(key, plain).map(Some),
            _ => Ok(None),
        }
    }

    /// What a stored value says: `None` if it is plain already. The error says why it cannot be told.
    pub(super) fn open(&self, key: &str, stored: &[u8]) -> Result<Option<Bytes>, Closed> {
        if !envelope::is_sealed(stored) {
            return Ok(None);
        }
        let place = self.place(key).ok_or_else(|| Closed::Never(without_key(stored)))?;
        match place.service(stored) {
            Some((service, body)) => service.open(key, body).map(Some),
            None => envelope::open(&place.keys, key, stored).map(Some).map_err(Closed::Never),
        }
    }

    /// The same, asking key management services where they have to be asked.
    pub(super) async fn open_asking(&self, key: &str, stored: &[u8]) -> Result<Option<Bytes>, Closed> {
        match self.open(key, stored) {
            Err(Closed::Asks) => {}
            other => return other,
        }
        match self.place(key).and_then(|place| place.service(stored)) {
            Some((service, body)) => service.open_asking(key, body).await.map(Some),
            None => Err(Closed::Never(without_key(stored))),
        }
    }

    /// Whether a value would be stored in another form if it were written now.
    pub(super) fn is_stale(&self, key: &str, stored: &[u8]) -> bool {
        match self.place(key) {
            Some(Place { keys, writes: Writes::Sealed, .. }) => {
                keys.first().is_some_and(|first| !envelope::is_sealed_by(stored, first))
            }
            Some(Place { writes: Writes::ByService(service), .. }) => service.is_stale(stored),
            Some(_) => envelope::is_sealed(stored),
            None => false,
        }
    }

    fn services(&self) -> impl Iterator<Item = &Arc<Kms>> {
        self.places.iter().flat_map(|place| &place.services)
    }

    /// Asks every key management service for the first time. The error names the first one that cannot be used.
    pub(crate) async fn begin(&self, env: &Env, caller: Option<&Arc<dyn GrpcCaller>>) -> Result<(), ServiceError> {
        for service in self.services() {
            let caller = caller.ok_or_else(|| ServiceError("this server was given no way to KMS plugins".into()))?;
            service.begin(env, caller).await.map_err(ServiceError)?;
        }
        Ok(())
    }

    /// What goes on asking them, each without end.
    pub(crate) fn follow(&self) -> Vec<BoxFuture<'static, ()>> {
        self.services().map(|service| Box::pin(service.clone().follow()) as BoxFuture<'static, ()>).collect()
    }

    /// What the key management services were found to be when they were last asked: `None` where there are none.
    pub(crate) fn health(&self) -> Option<Result<(), String>> {
        let mut found = self.services().map(|service| service.health()).peekable();
        found.peek()?;
        let wrong: Vec<String> = found.filter_map(Result::err).collect();
        Some(if wrong.is_empty() { Ok(()) } else { Err(wrong.join(", ")) })
    }
}

impl Place {
    /// The service that sealed a value, and what it made of it.
    fn service<'a>(&self, stored: &'a [u8]) -> Option<(&Arc<Kms>, &'a [u8])> {
        self.services.iter().find_map(|service| Some((service, stored.strip_prefix(service.prefix().as_bytes())?)))
    }
}

impl CustomKinds {
    fn covers(&self, (group, plural): (&str, &str)) -> bool {
        self.group.as_ref().is_none_or(|own| own == group) && self.plural.as_ref().is_none_or(|own| own == plural)
    }
}

/// Why a sealed value that no key was given for cannot be read.
pub(crate) fn without_key(sealed: &[u8]) -> String {
    let id = envelope::key_id(sealed).unwrap_or_default();
    format!("it is encrypted with {id}, and this server was given no key for it")
}

impl fmt::Display for Closed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Asks => f.write_str("its key has to be asked for"),
            Self::Away(why) | Self::Never(why) => f.write_str(why),
        }
    }
}
