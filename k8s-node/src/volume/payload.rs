//! What configuration volumes show, as files.

use std::collections::{BTreeMap, BTreeSet};

use k8s_core::api::api::core::v1::{
    ConfigMap, DownwardAPIVolumeFile, KeyToPath, Pod, Secret, ServiceAccountTokenProjection, Volume,
};

use crate::environment::{ConfigError, FieldContext, field, resource_field};

/// Modes of the API's defaults.
const DEFAULT_MODE: i32 = 0o644;
/// A token that one user or group is to read.
const PRIVATE_MODE: u32 = 0o600;
/// Upstream's default lifetime of a projected token.
const TOKEN_SECONDS: i64 = 3600;

/// One file of a volume.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeFile {
    /// Below the volume, without `..`.
    pub path: String,
    /// What it holds.
    pub content: Vec<u8>,
    /// Permission bits.
    pub mode: u32,
    /// Who owns it, if not root.
    pub owner: Option<u32>,
}

/// The objects that volumes show, by name; those that do not exist are absent.
#[derive(Debug, Clone, Default)]
pub struct Objects {
    /// Of the pod's namespace.
    pub config_maps: BTreeMap<String, ConfigMap>,
    /// Of the pod's namespace.
    pub secrets: BTreeMap<String, Secret>,
    /// Tokens of the pod's service account.
    pub tokens: BTreeMap<TokenKey, String>,
}

/// What a token is for.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct TokenKey {
    /// The audience; empty for the API server's own.
    pub audience: String,
    /// How long it is asked to be valid, in seconds.
    pub seconds: i64,
}

/// The tokens that the volumes of a pod show.
pub fn tokens(pod: &Pod) -> BTreeSet<TokenKey> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let sources = volumes.filter_map(|volume| volume.projected.as_ref()).flat_map(|p| p.sources.iter().flatten());
    sources.filter_map(|source| source.service_account_token.as_ref()).map(token_key).collect()
}

fn token_key(token: &ServiceAccountTokenProjection) -> TokenKey {
    TokenKey {
        audience: token.audience.clone().unwrap_or_default(),
        seconds: token.expiration_seconds.unwrap_or(TOKEN_SECONDS),
    }
}

/// The names of config maps and secrets that the volumes of a pod show.
pub fn references(pod: &Pod) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut config_maps, mut secrets) = (BTreeSet::new(), BTreeSet::new());
    for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
        config_maps.extend(volume.config_map.iter().map(|source| source.name.clone()));
        secrets.extend(volume.secret.iter().filter_map(|source| source.secret_name.clone()));
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            config_maps.extend(source.config_map.iter().map(|source| source.name.clone()));
            secrets.extend(source.secret.iter().map(|source| source.name.clone()));
        }
    }
    (config_maps, secrets)
}

/// The files of a volume, sorted by path; `None` if it is not a configuration volume.
pub fn payload(
    pod: &Pod,
    volume: &Volume,
    objects: &Objects,
    context: &FieldContext<'_>,
) -> Result<Option<Vec<VolumeFile>>, ConfigError> {
    let mut files = Files::default();
    if let Some(source) = &volume.config_map {
        files.mode = mode(source.default_mode);
        files.config_map(objects, &source.name, source.items.as_deref(), source.optional)?;
    } else if let Some(source) = &volume.secret {
        files.mode = mode(source.default_mode);
        let name = source.secret_name.as_deref().unwrap_or_default();
        files.secret(objects, name, source.items.as_deref(), source.optional)?;
    } else if let Some(source) = &volume.downward_api {
        files.mode = mode(source.default_mode);
        files.downward(pod, source.items.iter().flatten(), context)?;
    } else if let Some(projected) = &volume.projected {
        files.mode = mode(projected.default_mode);
        for source in projected.sources.iter().flatten() {
            if let Some(source) = &source.config_map {
                files.config_map(objects, &source.name, source.items.as_deref(), source.optional)?;
            } else if let Some(source) = &source.secret {
                files.secret(objects, &source.name, source.items.as_deref(), source.optional)?;
            } else if let Some(source) = &source.downward_api {
                files.downward(pod, source.items.iter().flatten(), context)?;
            } else if let Some(source) = &source.service_account_token {
                files.token(pod, source, objects)?;
            } else {
                let what = if source.cluster_trust_bundle.is_some() { "clusterTrustBundle" } else { "podCertificate" };
                return Err(ConfigError::new(format!("projections of kind {what} are not supported by this node")));
            }
        }
    } else {
        return Ok(None);
    }
    files.finish().map(Some)
}

fn mode(mode: Option<i32>) -> u32 {
    mode.unwrap_or(DEFAULT_MODE).unsigned_abs() & 0o7777
}

#[derive(Default)]
struct Files {
    mode: u32,
    by_path: BTreeMap<String, VolumeFile>,
}

impl Files {
    /// A later source wins over an earlier one at the same path, as upstream's.
    fn add(&mut self, path: &str, content: Vec<u8>, own_mode: Option<i32>) {
        let mode = own_mode.map_or(self.mode, |own| mode(Some(own)));
        let file = VolumeFile { path: path.to_owned(), content, mode, owner: None };
        self.by_path.insert(path.to_owned(), file);
    }

    fn config_map(
        &mut self,
        objects: &Objects,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), ConfigError> {
        let Some(map) = objects.config_maps.get(name) else { return absent("configmap", name, optional) };
        let texts = map.data.iter().flatten().map(|(key, value)| (key.as_str(), value.as_bytes()));
        let bytes = map.binary_data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        self.keys(texts.chain(bytes).collect(), items, optional, "references non-existent config key")
    }

    fn secret(
        &mut self,
        objects: &Objects,
        name: &str,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
    ) -> Result<(), ConfigError> {
        let Some(secret) = objects.secrets.get(name) else { return absent("secret", name, optional) };
        let bytes = secret.data.iter().flatten().map(|(key, value)| (key.as_str(), value.0.as_slice()));
        self.keys(bytes.collect(), items, optional, "references non-existent secret key")
    }

    fn keys(
        &mut self,
        data: BTreeMap<&str, &[u8]>,
        items: Option<&[KeyToPath]>,
        optional: Option<bool>,
        complaint: &str,
    ) -> Result<(), ConfigError> {
        let Some(items) = items.filter(|items| !items.is_empty()) else {
            data.into_iter().for_each(|(key, value)| self.add(key, value.to_vec(), None));
            return Ok(());
        };
        for item in items {
            match data.get(item.key.as_str()) {
                Some(value) => self.add(&item.path, value.to_vec(), item.mode),
                None if optional == Some(true) => {}
                None => return Err(ConfigError::new(format!("{complaint}: {}", item.key))),
            }
        }
        Ok(())
    }

    fn downward<'a>(
        &mut self,
        pod: &Pod,
        items: impl Iterator<Item = &'a DownwardAPIVolumeFile>,
        context: &FieldContext<'_>,
    ) -> Result<(), ConfigError> {
        for item in items {
            let text = match (&item.field_ref, &item.resource_field_ref) {
                (Some(reference), _) => field(pod, &reference.field_path, context)?,
                (None, Some(reference)) => resource_field(pod, reference, None, context)?,
                (None, None) => String::new(),
            };
            self.add(&item.path, text.into_bytes(), item.mode);
        }
        Ok(())
    }

    fn token(
        &mut self,
        pod: &Pod,
        source: &ServiceAccountTokenProjection,
        objects: &Objects,
    ) -> Result<(), ConfigError> {
        let token =
            objects.tokens.get(&token_key(source)).ok_or_else(|| ConfigError::new("no service account token"))?;
        self.add(&source.path, token.clone().into_bytes(), None);
        let user = common_user(pod);
        let has_group =
            pod.spec.as_ref().and_then(|s| s.security_context.as_ref()).is_some_and(|c| c.fs_group.is_some());
        if let Some(file) = self.by_path.get_mut(&source.path).filter(|_| user.is_some() || has_group) {
            (file.mode, file.owner) = (PRIVATE_MODE, user);
        }
        Ok(())
    }

    fn finish(self) -> Result<Vec<VolumeFile>, ConfigError> {
        for path in self.by_path.keys() {
            let escapes = path.starts_with('/') || path.split('/').any(|step| step == ".." || step.is_empty());
            if escapes || path.starts_with("..") {
                return Err(ConfigError::new(format!(
                    "path {path:?} must stay below the volume and not begin with `..`"
                )));
            }
        }
        Ok(self.by_path.into_values().collect())
    }
}

fn absent(what: &str, name: &str, optional: Option<bool>) -> Result<(), ConfigError> {
    match optional {
        Some(true) => Ok(()),
        _ => Err(ConfigError::new(format!("{what} {name:?} not found"))),
    }
}

/// The user that all containers run as, if all say the same.
fn common_user(pod: &Pod) -> Option<u32> {
    let of_pod = pod.spec.as_ref()?.security_context.as_ref().and_then(|context| context.run_as_user);
    let all = crate::plan::parts(pod);
    let mut users =
        all.iter().map(|part| part.container.security_context.as_ref().and_then(|c| c.run_as_user).or(of_pod));
    let first = users.next()??;
    users.all(|user| user == Some(first)).then_some(u32::try_from(first).ok()?)
}
