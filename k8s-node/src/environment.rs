//! The environment of a container: its variables, its files under `/etc`, and the specification that a runtime gets.
//!
//! Pure: whatever variables refer to was fetched before and is handed in as [`Sources`].

mod container;
mod expand;
mod field;
mod files;
mod sandbox;
mod service;

pub use container::{ContainerFacts, container_spec};
pub use expand::expand;
pub use field::{FieldContext, field, resource_field};
pub use files::{DnsSettings, hosts_file, resolv_conf};
pub use sandbox::{hostname, is_host_network, sandbox_spec};
pub use service::{ServiceLink, service_variables};

use std::collections::{BTreeMap, BTreeSet};

use k8s_core::api::api::core::v1::{ConfigMap, Container, EnvVar, Pod, Secret};

/// Why a container cannot be configured as its pod says. Shown as `CreateContainerConfigError`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ConfigError {
    /// What is missing or wrong, and where.
    pub message: String,
}

impl ConfigError {
    /// An error with this message.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }
}

/// What variables may refer to.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Config maps of the pod's namespace, by name; those that are missing are absent.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Secrets of the pod's namespace, by name; those that are missing are absent.
    pub secrets: BTreeMap<String, Secret>,
    /// Services that the pod is told about.
    pub services: Vec<ServiceLink>,
}

/// The names of config maps and of secrets that the variables of a container refer to.
pub fn references(container: &Container) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for from in container.env_from.iter().flatten() {
        config_maps.extend(from.config_map_ref.iter().map(|source| source.name.clone()));
        secrets.extend(from.secret_ref.iter().map(|source| source.name.clone()));
    }
    for source in container.env.iter().flatten().filter_map(|variable| variable.value_from.as_ref()) {
        config_maps.extend(source.config_map_key_ref.iter().map(|key| key.name.clone()));
        secrets.extend(source.secret_key_ref.iter().map(|key| key.name.clone()));
    }
    (config_maps, secrets)
}

/// The variables of a container, names unique, in the order of their first mention.
///
/// As upstream: the host name and services first, then `envFrom`, then `env`, which may refer to all before it as
/// `$(NAME)`. What a container sets itself wins over services.
pub fn variables(
    pod: &Pod,
    container: &Container,
    sources: &Sources,
    context: &FieldContext<'_>,
) -> Result<Vec<(String, String)>, ConfigError> {
    let mut found = Variables::default();
    found.set("HOSTNAME", hostname(pod, context.node_name));
    for (name, value) in service_variables(pod, &sources.services) {
        found.set(&name, value);
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    for from in container.env_from.iter().flatten() {
        let prefix = from.prefix.as_deref().unwrap_or_default();
        if let Some(source) = &from.config_map_ref {
            match sources.config_maps.get(&source.name) {
                Some(map) => found.set_all(prefix, map.data.iter().flatten().map(|(k, v)| (k, v.clone()))),
                None if source.optional == Some(true) => {}
                None => return Err(ConfigError::new(format!("configmap {:?} not found", source.name))),
            }
        }
        if let Some(source) = &from.secret_ref {
            match sources.secrets.get(&source.name) {
                Some(secret) => {
                    let texts = secret.data.iter().flatten();
                    found.set_all(prefix, texts.map(|(k, v)| (k, String::from_utf8_lossy(&v.0).into_owned())));
                }
                None if source.optional == Some(true) => {}
                None => return Err(ConfigError::new(format!("secret {:?} not found", source.name))),
            }
        }
    }
    for variable in container.env.iter().flatten() {
        if let Some(value) = value_of(pod, container, variable, sources, context, namespace, &found)? {
            found.set(&variable.name, value);
        }
    }
    Ok(found.list)
}

/// Variables in order, with quick look-up.
#[derive(Default)]
struct Variables {
    list: Vec<(String, String)>,
    places: BTreeMap<String, usize>,
}

impl Variables {
    fn get(&self, name: &str) -> Option<&str> {
        self.places.get(name).map(|place| self.list[*place].1.as_str())
    }

    fn set(&mut self, name: &str, value: String) {
        match self.places.get(name) {
            Some(place) => self.list[*place].1 = value,
            None => {
                self.places.insert(name.to_owned(), self.list.len());
                self.list.push((name.to_owned(), value));
            }
        }
    }

    /// Keys that cannot be variable names are left out, as upstream does.
    fn set_all<'a>(&mut self, prefix: &str, pairs: impl Iterator<Item = (&'a String, String)>) {
        for (key, value) in pairs.filter(|(key, _)| !key.is_empty() && !key.contains('=')) {
            self.set(&format!("{prefix}{key}"), value);
        }
    }
}

fn value_of(
    pod: &Pod,
    container: &Container,
    variable: &EnvVar,
    sources: &Sources,
    context: &FieldContext<'_>,
    namespace: &str,
    before: &Variables,
) -> Result<Option<String>, ConfigError> {
    let Some(from) = &variable.value_from else {
        let text = variable.value.as_deref().unwrap_or_default();
        return Ok(Some(expand(text, |name| before.get(name).map(str::to_owned))));
    };
    if let Some(reference) = &from.field_ref {
        return field(pod, &reference.field_path, context).map(Some);
    }
    if let Some(reference) = &from.resource_field_ref {
        return resource_field(pod, reference, Some(container), context).map(Some);
    }
    if let Some(key) = &from.config_map_key_ref {
        let map = sources.config_maps.get(&key.name);
        let value = map.and_then(|map| map.data.as_ref()?.get(&key.key).cloned());
        return keyed("configmap", "ConfigMap", namespace, &key.name, &key.key, map.is_some(), value, key.optional);
    }
    if let Some(key) = &from.secret_key_ref {
        let secret = sources.secrets.get(&key.name);
        let value = secret.and_then(|secret| secret.data.as_ref()?.get(&key.key));
        let value = value.map(|bytes| String::from_utf8_lossy(&bytes.0).into_owned());
        return keyed("secret", "Secret", namespace, &key.name, &key.key, secret.is_some(), value, key.optional);
    }
    Err(ConfigError::new(format!("env {}: this kind of valueFrom is not supported by this node", variable.name)))
}

/// A missing object or key is an error unless the reference is optional: then the variable is not set.
#[allow(clippy::too_many_arguments)]
fn keyed(
    what: &str,
    kind: &str,
    namespace: &str,
    name: &str,
    key: &str,
    exists: bool,
    value: Option<String>,
    optional: Option<bool>,
) -> Result<Option<String>, ConfigError> {
    match value {
        Some(value) => Ok(Some(value)),
        None if optional == Some(true) => Ok(None),
        None if exists => Err(ConfigError::new(format!("couldn't find key {key} in {kind} {namespace}/{name}"))),
        None => Err(ConfigError::new(format!("{what} {name:?} not found"))),
    }
}

#[cfg(test)]
mod tests;
