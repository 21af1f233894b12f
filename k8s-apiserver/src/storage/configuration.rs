//! Upstream's `EncryptionConfiguration`.

mod resources;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::{go_duration::GoDuration, registry::Registry};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{
    cipher::Provider,
    encryption::{Encryption, Place, Writes},
    keys::{EncryptionKey, KeyError, Keys},
    kms::Kms,
};

/// How long one call of a plugin may take where the configuration does not say.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(default)]
    resources: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    providers: Vec<Element>,
}

/// One element of `providers`: exactly one of these is there.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Element {
    aesgcm: Option<NamedKeys>,
    aescbc: Option<NamedKeys>,
    secretbox: Option<NamedKeys>,
    kms: Option<Plugin>,
    identity: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedKeys {
    #[serde(default)]
    keys: Vec<NamedKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedKey {
    #[serde(default)]
    name: String,
    #[serde(default)]
    secret: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Plugin {
    #[serde(default)]
    api_version: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    endpoint: String,
    timeout: Option<String>,
    cachesize: Option<i64>,
}

impl Encryption {
    /// Reads upstream's `EncryptionConfiguration` (YAML). Its first provider writes, all of them read. What is not
    /// supported is an error that names the field.
    pub fn from_configuration(yaml: &str, registry: &Registry) -> Result<Self, KeyError> {
        let read: Result<Configuration, _> = serde_saphyr::from_str(yaml);
        // The reader's own message may quote the line, and the line may be a key.
        let configuration = read.map_err(|error| {
            let line = error.location().map_or(String::new(), |at| format!(", near line {}", at.line()));
            wrong("EncryptionConfiguration", format!("it is not one of apiserver.config.k8s.io/v1{line}"))
        })?;
        if configuration.kind != "EncryptionConfiguration" || configuration.api_version != "apiserver.config.k8s.io/v1"
        {
            let found = format!("{} of {}", configuration.kind, configuration.api_version);
            return Err(wrong(
                "kind",
                format!("EncryptionConfiguration of apiserver.config.k8s.io/v1 is expected, not {found}"),
            ));
        }
        if configuration.resources.is_empty() {
            return Err(wrong("resources", "at least one is expected".into()));
        }
        let (mut places, mut plugins) = (Vec::new(), BTreeSet::new());
        for (number, entry) in configuration.resources.iter().enumerate() {
            places.push(entry.place(&format!("resources[{number}]"), registry, &mut plugins)?);
        }
        let builtin = registry.iter().filter(|info| info.is_stored()).map(|info| info.storage_prefix());
        Ok(Self::of(places, builtin.collect()))
    }
}

impl Entry {
    fn place(&self, field: &str, registry: &Registry, plugins: &mut BTreeSet<String>) -> Result<Place, KeyError> {
        let (prefixes, custom) = resources::chosen(&self.resources, &format!("{field}.resources"), registry)?;
        let (mut keys, mut services, mut writes) = (Vec::new(), Vec::new(), None);
        for (number, provider) in self.providers.iter().enumerate() {
            let field = format!("{field}.providers[{number}]");
            let does = match provider.part(&field)? {
                Part::Keys(provider, named) => {
                    let field = format!("{field}.{}.keys", provider.name());
                    keys.extend(named.read(provider, &field)?);
                    Writes::Sealed
                }
                Part::Kms(plugin) => {
                    let service = Arc::new(plugin.service(&format!("{field}.kms"), plugins)?);
                    services.push(service.clone());
                    Writes::ByService(service)
                }
                Part::Identity => Writes::Plain,
            };
            writes.get_or_insert(does);
        }
        let writes = writes.ok_or_else(|| wrong(&format!("{field}.providers"), "at least one is expected".into()))?;
        let keys = if keys.is_empty() { Keys::default() } else { Keys::new(keys)? };
        Ok(Place { prefixes, custom, keys, services, writes })
    }
}

/// What an element of `providers` holds.
enum Part<'a> {
    Keys(Provider, &'a NamedKeys),
    Kms(&'a Plugin),
    Identity,
}

impl Element {
    fn part(&self, field: &str) -> Result<Part<'_>, KeyError> {
        let keys = [
            (Provider::AesGcm, &self.aesgcm),
            (Provider::AesCbc, &self.aescbc),
            (Provider::Secretbox, &self.secretbox),
        ];
        let keys = keys.into_iter().filter_map(|(provider, keys)| Some(Part::Keys(provider, keys.as_ref()?)));
        let mut parts: Vec<Part<'_>> = keys.collect();
        parts.extend(self.kms.iter().map(Part::Kms));
        parts.extend(self.identity.iter().map(|_| Part::Identity));
        match (parts.pop(), parts.is_empty()) {
            (Some(part), true) => Ok(part),
            (Some(_), false) => {
                let why = "more than one provider specified in a single element, should split into different list \
                           elements";
                Err(wrong(field, why.into()))
            }
            (None, _) => {
                let why = "one of the providers kms, aesgcm, aescbc, secretbox and identity is expected";
                Err(wrong(field, why.into()))
            }
        }
    }
}

impl NamedKeys {
    fn read(&self, provider: Provider, field: &str) -> Result<Vec<EncryptionKey>, KeyError> {
        if self.keys.is_empty() {
            return Err(wrong(field, "at least one is expected".into()));
        }
        let read = |(number, key): (usize, &NamedKey)| {
            let place = format!("{field}[{number}]");
            let required = |name: &str| wrong(&format!("{place}.{name}"), "it is mandatory for a key".into());
            if key.name.is_empty() {
                return Err(required("name"));
            }
            if key.secret.is_empty() {
                return Err(required("secret"));
            }
            let bytes = STANDARD.decode(&key.secret).map_err(|_| wrong(&place, "its secret is no base64".into()))?;
            EncryptionKey::of(provider, &key.name, &bytes).map_err(|why| wrong(&place, why.to_string()))
        };
        self.keys.iter().enumerate().map(read).collect()
    }
}

impl Plugin {
    /// `names` are those of the plugins before it.
    fn service(&self, field: &str, names: &mut BTreeSet<String>) -> Result<Kms, KeyError> {
        let wrong = |below: &str, why: String| Err(wrong(&format!("{field}.{below}"), why));
        match self.api_version.as_str() {
            "v2" => {}
            "" | "v1" => {
                let why = "version v1 of KMS is deprecated and off; v2 is expected";
                return wrong("apiVersion", why.into());
            }
            other => return wrong("apiVersion", format!("unsupported version {other:?}; v2 is expected")),
        }
        if self.name.is_empty() {
            return wrong("name", "name is a mandatory field for a provider".into());
        }
        if self.name.contains(':') {
            return wrong("name", format!("invalid KMS provider name {}, must not contain ':'", self.name));
        }
        if !names.insert(self.name.clone()) {
            return wrong("name", format!("duplicate KMS provider name {}, names must be unique", self.name));
        }
        let limit = match self.timeout.as_deref().map(str::parse) {
            None => DEFAULT_TIMEOUT,
            Some(Ok(GoDuration(limit))) if !limit.is_zero() => limit,
            Some(Err(why)) if !self.timeout.as_deref().is_some_and(|text| text.starts_with('-')) => {
                return wrong("timeout", why);
            }
            Some(_) => return wrong("timeout", "timeout should be a positive value".into()),
        };
        if self.endpoint.is_empty() {
            return wrong("endpoint", "endpoint is a mandatory field for a kms".into());
        }
        match self.endpoint.split_once("://") {
            Some(("unix", path)) if !path.is_empty() => {}
            Some(("unix", _)) => return wrong("endpoint", "the path of a socket is expected behind unix://".into()),
            other => {
                let scheme = other.map_or("", |(scheme, _)| scheme);
                let why = format!("unsupported scheme {scheme:?} for KMS provider, only unix is supported");
                return wrong("endpoint", why);
            }
        }
        if self.cachesize.is_some() {
            return wrong("cachesize", "cachesize is not supported in v2".into());
        }
        Ok(Kms::new(&self.name, &self.endpoint, limit))
    }
}

fn wrong(place: &str, why: String) -> KeyError {
    KeyError { place: place.into(), why }
}
