//! Upstream's `EncryptionConfiguration`, as far as it is supported: `aesgcm` and `identity`.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_core::registry::{Registry, ResourceInfo};
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::{
    encryption::{Encryption, Place, Writes},
    keys::{EncryptionKey, KeyError, Keys},
};

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
    providers: Vec<Provider>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Provider {
    aesgcm: Option<AesGcm>,
    identity: Option<IgnoredAny>,
    aescbc: Option<IgnoredAny>,
    secretbox: Option<IgnoredAny>,
    kms: Option<IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AesGcm {
    #[serde(default)]
    keys: Vec<NamedKey>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NamedKey {
    name: String,
    secret: String,
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
        let entries = configuration.resources.iter().enumerate();
        let places: Result<Vec<Place>, KeyError> =
            entries.map(|(number, entry)| entry.place(&format!("resources[{number}]"), registry)).collect();
        Ok(Self { places: places?.into() })
    }
}

impl Entry {
    fn place(&self, field: &str, registry: &Registry) -> Result<Place, KeyError> {
        let mut prefixes = Vec::new();
        for (number, name) in self.resources.iter().enumerate() {
            let chosen = registry.iter().filter(|info| info.is_stored() && is_meant(info, name));
            let before = prefixes.len();
            prefixes.extend(chosen.map(|info| info.storage_prefix()));
            if prefixes.len() == before {
                return Err(wrong(
                    &format!("{field}.resources[{number}]"),
                    format!("{name:?} is no kind that is stored"),
                ));
            }
        }
        let (mut keys, mut writes) = (Vec::new(), None);
        for (number, provider) in self.providers.iter().enumerate() {
            let does = provider.keys(&format!("{field}.providers[{number}]"), &mut keys)?;
            writes.get_or_insert(does);
        }
        let writes = writes.ok_or_else(|| wrong(&format!("{field}.providers"), "at least one is expected".into()))?;
        let keys = if keys.is_empty() { Keys::default() } else { Keys::new(keys)? };
        Ok(Place { prefixes, keys, writes })
    }
}

impl Provider {
    /// Takes the provider's keys; says what is done with a write if it is the first one.
    fn keys(&self, field: &str, keys: &mut Vec<EncryptionKey>) -> Result<Writes, KeyError> {
        let others = [("aescbc", &self.aescbc), ("secretbox", &self.secretbox), ("kms", &self.kms)];
        if let Some((name, _)) = others.iter().find(|(_, provider)| provider.is_some()) {
            return Err(wrong(
                &format!("{field}.{name}"),
                "this provider is not supported; aesgcm and identity are".into(),
            ));
        }
        match (&self.aesgcm, &self.identity) {
            (Some(provider), None) if !provider.keys.is_empty() => {
                for (number, key) in provider.keys.iter().enumerate() {
                    let place = format!("{field}.aesgcm.keys[{number}]");
                    let bytes =
                        STANDARD.decode(&key.secret).map_err(|_| wrong(&place, "its secret is no base64".into()))?;
                    keys.push(EncryptionKey::new(&key.name, &bytes).map_err(|why| wrong(&place, why.to_string()))?);
                }
                Ok(Writes::Sealed)
            }
            (Some(_), None) => Err(wrong(&format!("{field}.aesgcm.keys"), "at least one is expected".into())),
            (None, Some(_)) => Ok(Writes::Plain),
            _ => Err(wrong(field, "either aesgcm or identity is expected".into())),
        }
    }
}

/// `plural` of the core group, `plural.group`, `*.group`, `*.` (the core group), or `*.*`.
fn is_meant(info: &ResourceInfo, name: &str) -> bool {
    let (plural, group) = name.split_once('.').unwrap_or((name, ""));
    (plural == "*" || plural == info.plural) && (group == info.group || (plural == "*" && group == "*"))
}

fn wrong(place: &str, why: String) -> KeyError {
    KeyError { place: place.into(), why }
}
