//! Pulls images from registries: the distribution specification, version 2.
//!
//! Asked for are the digest that a name means (`HEAD`), the manifest for this machine, the configuration, and the
//! layers that the store does not have. Everything is verified by digest and size, and layers go to disk as they come.

mod auth;
mod download;
mod problem;
mod repository;

use std::{
    collections::BTreeMap,
    fmt,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use futures::{
    FutureExt, StreamExt, TryStreamExt,
    future::{BoxFuture, Shared, WeakShared},
    stream,
};
use k8s_core::env::Env;
use k8s_wire::tls::{self, API_PROTOCOLS, ServerTrust};
use parking_lot::Mutex;
use rustls_pki_types::CertificateDer;

use self::{
    download::Held,
    problem::Problem,
    repository::{Document, Repository},
};
use super::{
    ImageError, ImageSource, ImageStore, Progress, Reference,
    import::{self, Found, for_this_machine, parse},
    manifest::{Descriptor, Index, Manifest, architecture},
};
use crate::runtime::{ImageInfo, ImagePull};

/// How many layers of one image are loaded at once.
const LAYERS_AT_ONCE: usize = 3;
/// Most layers of an image: more than the kernel stacks.
const MAX_LAYERS: usize = 500;
/// Most levels of indexes within indexes.
const INDEX_DEPTH: usize = 4;
/// How long opening a connection may take.
const CONNECT: Duration = Duration::from_secs(15);
/// Most redirections that one request follows.
const MAX_REDIRECTS: usize = 10;

/// How registries are spoken to.
#[derive(Clone)]
pub struct RegistrySettings {
    /// Registries (`host` or `host:port`, as in image names) that are asked over plain HTTP. Those on the loopback
    /// interface always are; all others over HTTPS only.
    pub insecure: Vec<String>,
    /// Certificate authorities that are believed besides those of the system.
    pub authorities: Vec<CertificateDer<'static>>,
    /// How long a registry may be silent before a request or a load counts as broken.
    pub silence: Duration,
    /// Told while layers are loaded.
    pub progress: Option<Arc<dyn Fn(Progress) + Send + Sync>>,
}

impl Default for RegistrySettings {
    fn default() -> Self {
        Self { insecure: Vec::new(), authorities: Vec::new(), silence: Duration::from_secs(60), progress: None }
    }
}

/// All registries, as a source of images. Cloning shares: equal pulls at the same time are one.
#[derive(Clone)]
pub struct Registries {
    inner: Arc<Inner>,
}

struct Inner {
    env: Env,
    settings: RegistrySettings,
    /// Made on the first use: reading the system's authorities takes a moment and a megabyte.
    http: OnceLock<Result<reqwest::Client, String>>,
    under_way: Mutex<BTreeMap<PullKey, WeakShared<Pulling>>>,
}

type Pulling = BoxFuture<'static, Result<ImageInfo, ImageError>>;

/// What makes two pulls equal. Who presents other credentials must be answered by the registry itself.
type PullKey = (PathBuf, String, Vec<(String, String)>);

impl Registries {
    /// Connects to nothing yet.
    pub fn new(env: Env, settings: RegistrySettings) -> Self {
        Self { inner: Arc::new(Inner { env, settings, http: OnceLock::new(), under_way: Mutex::default() }) }
    }

    fn join(&self, store: &ImageStore, pull: &ImagePull) -> Shared<Pulling> {
        let key = (store.root.clone(), pull.reference.clone(), pull.credentials.clone());
        let mut under_way = self.inner.under_way.lock();
        under_way.retain(|_, pulling| pulling.upgrade().is_some());
        if let Some(pulling) = under_way.get(&key).and_then(WeakShared::upgrade) {
            return pulling;
        }
        let (inner, store, pull) = (self.inner.clone(), store.clone(), pull.clone());
        let pulling = async move { inner.pull(&store, &pull).await }.boxed().shared();
        under_way.extend(pulling.downgrade().map(|weak| (key, weak)));
        pulling
    }
}

impl fmt::Debug for Registries {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registries").field("insecure", &self.inner.settings.insecure).finish_non_exhaustive()
    }
}

#[async_trait]
impl ImageSource for Registries {
    async fn fetch(&self, store: &ImageStore, pull: &ImagePull) -> Result<ImageInfo, ImageError> {
        self.join(store, pull).await
    }
}

impl Inner {
    /// Tries one credential after another, as long as the registry says that it is about them.
    async fn pull(&self, store: &ImageStore, pull: &ImagePull) -> Result<ImageInfo, ImageError> {
        let reference: Reference = pull.reference.parse()?;
        let failed =
            |problem: Problem| ImageError::Pull { reference: reference.to_string(), problem: problem.to_string() };
        let client = self.http.get_or_init(|| self.client()).clone();
        let http = client.map_err(|why| failed(Problem::new(format!("set up HTTPS: {why}"))))?;
        let mut identities: Vec<_> = pull.credentials.iter().cloned().map(Some).collect();
        if identities.is_empty() {
            identities.push(None);
        }
        let mut refused = Problem::new("nobody was asked");
        for identity in identities {
            let repository = Repository::new(&self.env, &http, &self.settings, &reference, identity);
            match self.pull_from(store, &reference, &repository).await {
                Err(problem) if problem.may_depend_on_identity() => refused = problem,
                Err(problem) => return Err(failed(problem)),
                Ok(image) => return Ok(image),
            }
        }
        Err(failed(refused))
    }

    fn client(&self) -> Result<reqwest::Client, String> {
        let builder = || {
            let redirects = reqwest::redirect::Policy::custom(|attempt| {
                let was_private = attempt.previous().last().is_some_and(|url| url.scheme() == "https");
                if was_private && attempt.url().scheme() != "https" {
                    return attempt.error("refused to be redirected from HTTPS to plain HTTP");
                }
                if attempt.previous().len() > MAX_REDIRECTS {
                    return attempt.error("too many redirections");
                }
                attempt.follow()
            });
            reqwest::Client::builder()
                .user_agent(concat!("k8s-node/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT)
                .redirect(redirects)
                .no_proxy()
        };
        let own = self.settings.authorities.iter().map(|der| reqwest::Certificate::from_der(der));
        let own = own.collect::<Result<Vec<_>, _>>().map_err(|error| error.to_string())?;
        match builder().tls_certs_merge(own).build() {
            Ok(client) => Ok(client),
            // A machine without any authorities can still use the registries that need none.
            Err(error) => {
                tracing::warn!(error = %problem::causes(&error), "the system's certificate authorities cannot be read");
                let trust = ServerTrust::Authorities(&self.settings.authorities);
                let tls = tls::client(&self.env, trust, None, API_PROTOCOLS).map_err(|error| error.to_string())?;
                builder().tls_backend_preconfigured(tls).build().map_err(|error| problem::causes(&error))
            }
        }
    }

    async fn pull_from(
        &self,
        store: &ImageStore,
        reference: &Reference,
        repository: &Repository<'_>,
    ) -> Result<ImageInfo, Problem> {
        let asked = reference.digest.as_deref().or(reference.tag.as_deref()).unwrap_or("latest");
        let known = repository.digest_of(asked).await?;
        if let Some(digest) = &known
            && let Some(image) = present(store, reference, digest).await?
        {
            return Ok(image);
        }
        let top = repository.document(known.as_deref().unwrap_or(asked)).await?;
        if known.is_none()
            && let Some(image) = present(store, reference, &top.digest).await?
        {
            return Ok(image);
        }
        let manifest = manifest(repository, &top).await?;
        self.load(store, reference, repository, top, manifest).await
    }

    /// Loads what the store does not have, and brings the image into it.
    async fn load(
        &self,
        store: &ImageStore,
        reference: &Reference,
        repository: &Repository<'_>,
        top: Document,
        manifest: Manifest,
    ) -> Result<ImageInfo, Problem> {
        let config = repository.blob(&manifest.config).await?;
        let diff_ids = import::read_config(&config, manifest.layers.len())?.rootfs.diff_ids;
        let layers = manifest.layers.iter().cloned().zip(diff_ids).collect();
        let held = hold_missing(store, layers).await?;
        let progress = self.settings.progress.as_deref();
        let mut loads: Vec<BoxFuture<'_, Result<(), Problem>>> = Vec::new();
        for (held, layer) in &held {
            loads.push(download::load(repository, held, layer, progress).boxed());
        }
        stream::iter(loads).buffer_unordered(LAYERS_AT_ONCE).try_collect::<()>().await?;
        let place = |layer: &Descriptor| (download::file_name(&layer.digest).to_owned(), Some(layer.digest.clone()));
        let found = Found {
            names: vec![reference.to_string()],
            manifest: Some((top.digest, top.content)),
            config,
            layers: manifest.layers.iter().map(place).collect(),
            pulled: true,
        };
        let (store, now) = (store.clone(), self.env.now());
        let brought = blocking(move || {
            let brought = import::loaded(&store, &store.root.join("downloads"), found, now);
            // Loaded again if need be: what could not be unpacked is not worth keeping.
            held.into_iter().for_each(|(held, _)| held.remove());
            brought
        });
        brought.await?.pop().ok_or_else(|| Problem::new("the image was removed while it was pulled"))
    }
}

/// The image with this digest if it is here, with the name that it was asked for by.
async fn present(store: &ImageStore, reference: &Reference, digest: &str) -> Result<Option<ImageInfo>, Problem> {
    let (store, reference, digest) = (store.clone(), reference.clone(), digest.to_owned());
    let look = move || {
        let Some(found) = store.find(&format!("{}@{digest}", reference.name()))? else { return Ok(None) };
        store.tag(&reference, &found)?;
        store.find(&found.id)
    };
    Ok(blocking(look).await?)
}

/// The manifest for this machine, through indexes.
async fn manifest(repository: &Repository<'_>, top: &Document) -> Result<Manifest, Problem> {
    let mut document = top.clone();
    for _ in 0..INDEX_DEPTH {
        if !document.is_index()? {
            let manifest: Manifest = parse(&document.digest, &document.content)?;
            return check(manifest);
        }
        let index: Index = parse(&document.digest, &document.content)?;
        let chosen = index.manifests.iter().find(|descriptor| for_this_machine(descriptor));
        let chosen = chosen.ok_or_else(|| no_match(&index))?;
        document = repository.document(&chosen.digest).await?;
        if document.content.len() as u64 != chosen.size {
            let problem = format!("has {} bytes, not {} as its index says", document.content.len(), chosen.size);
            return Err(Problem::new(format!("manifest {}: {problem}", chosen.digest)));
        }
    }
    Err(Problem::new("too many indexes within indexes"))
}

fn no_match(index: &Index) -> Problem {
    let platforms = index.manifests.iter().filter_map(|descriptor| descriptor.platform.as_ref());
    let platforms: Vec<_> = platforms
        .filter(|platform| platform.os != "unknown")
        .map(|platform| format!("{}/{}", platform.os, platform.architecture))
        .collect();
    Problem::new(format!("no match for platform linux/{}: there is {}", architecture(), platforms.join(", ")))
}

fn check(manifest: Manifest) -> Result<Manifest, Problem> {
    if manifest.layers.len() > MAX_LAYERS {
        return Err(Problem::new(format!("{} layers are more than the {MAX_LAYERS} allowed", manifest.layers.len())));
    }
    for descriptor in manifest.layers.iter().chain([&manifest.config]) {
        if !super::is_digest(&descriptor.digest) {
            return Err(Problem::new(format!("digest {:?}: only sha256 is supported", descriptor.digest)));
        }
        if descriptor.media_type.ends_with("zstd") {
            let what = format!("layer {}: zstd layers are not supported", descriptor.digest);
            return Err(Problem::new(format!("{what}: push the image with gzip layers")));
        }
    }
    Ok(manifest)
}

/// Takes the files of the layers that are to be loaded, each but once.
async fn hold_missing(
    store: &ImageStore,
    layers: Vec<(Descriptor, String)>,
) -> Result<Vec<(Held, Descriptor)>, Problem> {
    let store = store.clone();
    let work = move || {
        let missing = |(_, (_, diff_id)): &(String, (Descriptor, String))| !store.has_layer(diff_id);
        // Ordered by digest: two pulls that wait for each other's layers would else wait forever.
        let wanted: BTreeMap<_, _> =
            layers.into_iter().map(|(layer, id)| (layer.digest.clone(), (layer, id))).filter(missing).collect();
        let mut all = Vec::new();
        for (digest, (layer, diff_id)) in wanted {
            let held = Held::take(&store.root.join("downloads"), &digest)?;
            // Whoever held it before may have brought the layer.
            match store.has_layer(&diff_id) {
                true => held.remove(),
                false => all.push((held, layer)),
            }
        }
        Ok(all)
    };
    Ok(blocking(work).await?)
}

/// Runs disk work where it may block.
async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, ImageError> + Send + 'static,
) -> Result<T, ImageError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.unwrap_or_else(|error| Err(ImageError::io("work on the image store", std::io::Error::other(error))))
}
