//! What pods get of this machine: their volumes, files and variables.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use k8s_core::{
    api::api::core::v1::{ConfigMap, Container, Pod, Secret, Service, Volume, VolumeMount},
    env::{self, Env, Timestamp},
    object::ObjectKey,
    quantity::Quantity,
    resource::{Resource, Stored},
};
use k8s_reconcile::{Client, Informer, InformerScope};
use tokio::sync::Notify;

use super::{
    Folder, Objects,
    folder::{Secrecy, host_path},
    kind, payload, references,
    token::Tokens,
    tokens,
    watched::Watched,
    writer,
};
use crate::{
    agent::provision::{Provision, Wanted},
    environment::{
        ConfigError, ContainerFacts, DnsSettings, FieldContext, ServiceLink, Sources, container_spec, expand,
        hosts_file, sandbox_spec, variables,
    },
    node::{Machine, NodeSettings, allocatable},
    plan::{PodView, parts},
    runtime::{ContainerSpec, ContainerStatus, Mount, PodRuntime, Propagation, SandboxSpec},
};

/// How often configuration volumes are compared with the server even if no watch says anything.
const COMPARE: Duration = Duration::from_secs(600);
/// How long a container waits for the services to be known.
const SERVICES: Duration = Duration::from_secs(10);
/// How much of a failed container's log is its last words, if it left none. Upstream's figures.
const FALLBACK_LINES: u64 = 80;
const FALLBACK_BYTES: usize = 2048;

/// Gives pods what they need of this machine.
pub(crate) struct HostFiles {
    client: Client,
    env: Env,
    node: NodeSettings,
    folder: Folder,
    dns: DnsSettings,
    allocatable: BTreeMap<String, Quantity>,
    host_ips: Vec<String>,
    services: Informer<Service>,
    tokens: Tokens,
    watched: Watched,
    runtime: Arc<dyn PodRuntime>,
}

impl HostFiles {
    /// Uses `folder`. Blocks on the disk.
    pub fn open(
        client: Client,
        env: Env,
        node: NodeSettings,
        machine: &Machine,
        folder: &Path,
        dns: DnsSettings,
        runtime: Arc<dyn PodRuntime>,
    ) -> std::io::Result<Self> {
        Ok(Self {
            services: client.informer(InformerScope::all()),
            tokens: Tokens::new(client.clone(), env.clone()),
            watched: Watched::new(client.clone()),
            host_ips: node.addresses.iter().map(ToString::to_string).collect(),
            allocatable: allocatable(machine),
            folder: Folder::open(folder)?,
            client,
            env,
            node,
            dns,
            runtime,
        })
    }

    fn context<'a>(&'a self, pod_ips: &'a [String]) -> FieldContext<'a> {
        FieldContext { node_name: &self.node.name, host_ips: &self.host_ips, pod_ips, allocatable: &self.allocatable }
    }

    /// What the volumes of a pod show, and when it must be asked for again.
    async fn objects(
        &self,
        pod: &Stored<Pod>,
        changed: &Arc<Notify>,
    ) -> Result<(Objects, Option<Timestamp>), ConfigError> {
        let (config_maps, secrets) = references(pod);
        let shows_objects = !config_maps.is_empty() || !secrets.is_empty();
        let mut refresh = shows_objects.then(|| self.env.now().checked_add(COMPARE).ok()).flatten();
        let mut objects = Objects {
            config_maps: self.read::<ConfigMap>(pod, config_maps, changed).await?,
            secrets: self.read::<Secret>(pod, secrets, changed).await?,
            ..Objects::default()
        };
        for key in tokens(pod) {
            let asked = self.tokens.get(pod, &key).await;
            let (token, at) = asked.map_err(|error| ConfigError::new(format!("failed to fetch token: {error}")))?;
            objects.tokens.insert(key, token);
            refresh = Some(refresh.map_or(at, |refresh| refresh.min(at)));
        }
        Ok((objects, refresh))
    }

    async fn read<K: Resource>(
        &self,
        pod: &Stored<Pod>,
        names: BTreeSet<String>,
        changed: &Arc<Notify>,
    ) -> Result<BTreeMap<String, K>, ConfigError> {
        let mut found = BTreeMap::new();
        for name in names {
            let read = self.watched.read::<K>(pod.uid(), pod.namespace(), &name, changed).await;
            let read = read.map_err(|error| ConfigError::new(format!("{} {name:?}: {error}", K::kind())))?;
            found.extend(read.map(|object| (name, (*object).clone())));
        }
        Ok(found)
    }

    /// What the variables of a container refer to.
    async fn sources(&self, pod: &Stored<Pod>, container: &Container) -> Result<Sources, ConfigError> {
        let (config_maps, secrets) = crate::environment::references(container);
        let mut sources = Sources { services: self.links(pod).await, ..Sources::default() };
        for name in config_maps {
            let found = self.client.namespaced::<ConfigMap>(pod.namespace()).find(&name).await;
            let found = found.map_err(|error| ConfigError::new(format!("configmap {name:?}: {error}")))?;
            sources.config_maps.extend(found.map(|object| (name, (*object).clone())));
        }
        for name in secrets {
            let found = self.client.namespaced::<Secret>(pod.namespace()).find(&name).await;
            let found = found.map_err(|error| ConfigError::new(format!("secret {name:?}: {error}")))?;
            sources.secrets.extend(found.map(|object| (name, (*object).clone())));
        }
        Ok(sources)
    }

    async fn links(&self, pod: &Stored<Pod>) -> Vec<ServiceLink> {
        if env::timeout(&*self.env, SERVICES, self.services.synced()).await.is_none() {
            tracing::warn!(?pod, "services are not known yet: the pod is not told of them");
        }
        let mut links: Vec<ServiceLink> =
            self.services.list_in(pod.namespace()).iter().filter_map(|service| ServiceLink::of(service)).collect();
        if pod.namespace() != "default" {
            let api = self.services.get(&ObjectKey::new("default", "kubernetes"));
            links.extend(api.and_then(|service| ServiceLink::of(&service)));
        }
        links
    }
}

/// Runs disk work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ConfigError> + Send + 'static,
) -> Result<T, ConfigError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ConfigError::new(format!("disk work failed: {error}"))))
}

fn group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

#[async_trait]
impl Provision for HostFiles {
    async fn mount(&self, pod: &Stored<Pod>, changed: &Arc<Notify>) -> Result<Option<Timestamp>, ConfigError> {
        let (objects, refresh) = self.objects(pod, changed).await?;
        let observed = Default::default();
        let pod_ips = PodView::new(pod, &observed, self.env.now()).addresses();
        let context = self.context(&pod_ips);
        let mut work = vec![];
        for volume in pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten()) {
            let about = |error: ConfigError| failed(volume, &error.message);
            let files = payload(pod, volume, &objects, &context).map_err(about)?;
            work.push((volume.clone(), files));
        }
        let now = jiff::tz::TimeZone::UTC.to_datetime(self.env.now()).strftime("%Y_%m_%d_%H_%M_%S").to_string();
        let stamp = format!("{now}.{}", self.env.name_suffix(8));
        let (folder, uid, group) = (self.folder.clone(), pod.uid().to_owned(), group(pod));
        blocking(move || {
            for (volume, files) in work {
                set_up(&folder, &uid, &volume, files, &stamp, group)?;
            }
            Ok(())
        })
        .await?;
        Ok(refresh)
    }

    async fn sandbox(&self, pod: &Stored<Pod>, id: &str, attempt: u32) -> Result<SandboxSpec, ConfigError> {
        sandbox_spec(pod, id, attempt, &self.node.name, &self.dns)
    }

    async fn container(&self, pod: &Stored<Pod>, wanted: Wanted<'_>) -> Result<ContainerSpec, ConfigError> {
        let container = wanted.part.container.clone().into_owned();
        let sources = self.sources(pod, &container).await?;
        let env = variables(pod, &container, &sources, &self.context(&wanted.addresses))?;
        let host_file = tokio::fs::read_to_string("/etc/hosts").await.unwrap_or_default();
        let hosts = hosts_file(pod, &wanted.addresses, &self.node.name, &self.dns.cluster_domain, &host_file);
        let log = self.folder.log(pod, &container.name, wanted.attempt);
        let (folder, typed, values, attempt) = (self.folder.clone(), pod.typed().clone(), env.clone(), wanted.attempt);
        let log_folder = log.parent().map(Path::to_owned).unwrap_or_default();
        let mounts = blocking(move || {
            std::fs::create_dir_all(&log_folder).map_err(|error| ConfigError::new(format!("log folder: {error}")))?;
            mounts(&folder, &typed, &container, &values, attempt, &hosts)
        })
        .await?;
        let facts = ContainerFacts {
            id: wanted.id,
            attempt: wanted.attempt,
            back_off: wanted.back_off,
            env,
            mounts,
            log_path: Some(log),
            image: wanted.image,
            seccomp_folder: self.folder.seccomp(),
        };
        container_spec(pod, &wanted.part, facts)
    }

    async fn termination_message(&self, pod: &Pod, container: &ContainerStatus) -> String {
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let (folder, name, attempt) = (self.folder.clone(), container.name.clone(), container.attempt);
        let read = blocking(move || Ok(folder.read_message(&uid, &name, attempt))).await.unwrap_or_default();
        let failed = crate::plan::exit_of(container).is_some_and(|exit| exit.code != 0);
        let falls_back = parts(pod).iter().any(|part| {
            part.container.name == container.name
                && part.container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError")
        });
        if read.is_empty() && failed && falls_back { self.last_words(&container.id).await } else { read }
    }

    async fn clean_up(&self, uid: &str) -> Result<(), ConfigError> {
        self.tokens.forget(uid);
        self.watched.forget(uid);
        let (folder, uid) = (self.folder.clone(), uid.to_owned());
        blocking(move || folder.remove(&uid).map_err(|error| ConfigError::new(error.to_string()))).await
    }

    async fn left_over(&self) -> Vec<String> {
        let folder = self.folder.clone();
        blocking(move || Ok(folder.pods())).await.unwrap_or_default()
    }
}

impl HostFiles {
    /// The end of a container's log.
    async fn last_words(&self, id: &str) -> String {
        use futures::StreamExt;
        let Some(logs) = self.runtime.logs() else { return String::new() };
        let options = crate::runtime::LogOptions { tail_lines: Some(FALLBACK_LINES), ..Default::default() };
        let Ok(mut reader) = logs.read(id, options).await else { return String::new() };
        let mut text = Vec::new();
        while let Some(Ok(chunk)) = reader.next().await {
            text.extend_from_slice(&chunk);
        }
        let from = text.len().saturating_sub(FALLBACK_BYTES);
        String::from_utf8_lossy(&text[from..]).into_owned()
    }
}

fn failed(volume: &Volume, why: &str) -> ConfigError {
    ConfigError::new(format!("MountVolume.SetUp failed for volume {:?} : {why}", volume.name))
}

/// Sets one volume up.
fn set_up(
    folder: &Folder,
    uid: &str,
    volume: &Volume,
    files: Option<Vec<super::VolumeFile>>,
    stamp: &str,
    group: Option<u32>,
) -> Result<(), ConfigError> {
    let about = |error: super::VolumeError| failed(volume, &error.to_string());
    if let Some(files) = files {
        let secret = volume.secret.is_some() || volume.projected.is_some();
        let secrecy = if secret { Secrecy::Secret } else { Secrecy::Open };
        let path = folder.configuration(uid, &volume.name, secrecy).map_err(about)?;
        return writer::write(&path, &files, stamp, group)
            .map(drop)
            .map_err(|error| failed(volume, &format!("write {}: {error}", path.display())));
    }
    if let Some(source) = &volume.empty_dir {
        return folder.empty_dir(uid, &volume.name, source, group).map_err(about);
    }
    if let Some(source) = &volume.host_path {
        return host_path(source).map_err(about);
    }
    Err(failed(volume, &format!("volumes of kind {} are not supported by this node", kind(volume))))
}

/// The mounts of a container: its volumes, `/etc/hosts` and the termination message file.
fn mounts(
    folder: &Folder,
    pod: &Pod,
    container: &Container,
    variables: &[(String, String)],
    attempt: u32,
    hosts: &str,
) -> Result<Vec<Mount>, ConfigError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let mut all = vec![];
    for (index, mount) in container.volume_mounts.iter().flatten().enumerate() {
        all.push(volume_mount(folder, pod, container, index, mount, variables)?);
    }
    let taken: BTreeSet<PathBuf> = all.iter().map(|mount| mount.container_path.clone()).collect();
    let broken = |error: super::VolumeError| ConfigError::new(error.to_string());
    let mut file = |host_path: PathBuf, at: &str| {
        if !taken.contains(Path::new(at)) {
            let container_path = PathBuf::from(at);
            all.push(Mount { host_path, container_path, read_only: false, propagation: Propagation::Private });
        }
    };
    folder.write(&folder.hosts(uid), hosts).map_err(broken)?;
    file(folder.hosts(uid), "/etc/hosts");
    let at = container.termination_message_path.as_deref().filter(|path| !path.is_empty());
    let message = folder.message(uid, &container.name, attempt);
    folder.make_message(&message).map_err(broken)?;
    file(message, at.unwrap_or("/dev/termination-log"));
    Ok(all)
}

fn volume_mount(
    folder: &Folder,
    pod: &Pod,
    container: &Container,
    index: usize,
    mount: &VolumeMount,
    variables: &[(String, String)],
) -> Result<Mount, ConfigError> {
    let uid = pod.metadata.uid.as_deref().unwrap_or_default();
    let volumes = || pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let volume = volumes().find(|volume| volume.name == mount.name);
    let volume =
        volume.ok_or_else(|| ConfigError::new(format!("volumeMounts: there is no volume {:?}", mount.name)))?;
    let root = match &volume.host_path {
        Some(source) => PathBuf::from(&source.path),
        None => folder.volume(uid, &volume.name),
    };
    let host_path = match sub_path(mount, variables)? {
        Some(sub_path) => folder.sub_path(uid, &root, &container.name, index, &sub_path).map_err(|error| {
            ConfigError::new(format!(
                "failed to prepare subPath for volumeMount {:?} of container {:?}: {error}",
                mount.name, container.name
            ))
        })?,
        None => root,
    };
    let is_configuration = volume.config_map.is_some()
        || volume.secret.is_some()
        || volume.downward_api.is_some()
        || volume.projected.is_some();
    let path = Path::new(&mount.mount_path);
    Ok(Mount {
        host_path,
        // A relative path is taken from the root, as upstream does.
        container_path: if path.is_absolute() { path.to_owned() } else { Path::new("/").join(path) },
        read_only: mount.read_only.unwrap_or(false) || is_configuration,
        propagation: match mount.mount_propagation.as_deref() {
            Some("HostToContainer") => Propagation::HostToContainer,
            Some("Bidirectional") => Propagation::Bidirectional,
            _ => Propagation::Private,
        },
    })
}

fn sub_path(mount: &VolumeMount, variables: &[(String, String)]) -> Result<Option<String>, ConfigError> {
    if let Some(expression) = mount.sub_path_expr.as_deref().filter(|expression| !expression.is_empty()) {
        let missing = std::cell::RefCell::new(None);
        let expanded = expand(expression, |name| {
            let value = variables.iter().find(|(known, _)| known == name).map(|(_, value)| value.clone());
            if value.is_none() {
                *missing.borrow_mut() = Some(name.to_owned());
            }
            value
        });
        return match missing.into_inner() {
            Some(name) => Err(ConfigError::new(format!("subPathExpr {expression:?}: variable {name:?} is not set"))),
            None => Ok(Some(expanded)),
        };
    }
    Ok(mount.sub_path.clone().filter(|sub_path| !sub_path.is_empty()))
}
