//! Images on this node: pulled from registries or imported from files, verified, unpacked, and named.
//!
//! [`ImageStore`] is a folder. Any number of processes may use it at once (a running agent and a command line that
//! imports): everything appears by one rename, and the few changes that need more hold a lock file.
//!
//! ```text
//! blobs/sha256/HEX       manifests and configurations, as they came
//! layers/SHORT/fs        an unpacked layer, ready as a lower layer of an overlay mount
//! layers/SHORT/layer     digest of the layer's tar, and its size
//! images/HEX             one image: what to run, which layers
//! names/HEX              a reference and the image that it means; HEX is the digest of the reference
//! pins/CONTAINER         an image that a container uses: its layers stay
//! downloads/HEX          a layer on its way from a registry; a pull that broke off goes on from there
//! tmp/, lock
//! ```
//!
//! All calls block on the disk: call them from a thread that may.

pub mod archive;
mod import;
mod manifest;
mod reference;
#[cfg(feature = "service")]
pub mod registry;
mod source;
mod unpack;

pub use reference::{InvalidReference, Reference};

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use async_trait::async_trait;
use k8s_core::env::Timestamp;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};

use crate::runtime::{ImageInfo, ImagePull, RuntimeError};
use reference::{is_digest, is_hex_sha256};

/// The images in one folder. Holds no state but the path: what another process imports is seen at once.
#[derive(Debug, Clone)]
pub struct ImageStore {
    root: PathBuf,
}

/// Where images that are not on this node come from: [`registry`], or whatever else can bring them.
#[async_trait]
pub trait ImageSource: Send + Sync + 'static {
    /// Brings what the reference means now into the store, as far as it is not there, and answers it.
    ///
    /// Cancel-safety: a dropped call leaves the images in the store as they were; what was loaded may be used by the
    /// next one.
    async fn fetch(&self, store: &ImageStore, pull: &ImagePull) -> Result<ImageInfo, ImageError>;
}

/// Told while a layer is read: how far it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Progress {
    /// Digest of the layer's tar.
    pub layer: String,
    /// Bytes of the archive's copy read so far.
    pub done_bytes: u64,
    /// Its length.
    pub total_bytes: u64,
}

/// An image could not be imported, found or removed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageError {
    /// The machine failed us.
    #[error("{doing}: {message}")]
    Io {
        /// What was being done, to what.
        doing: String,
        /// The operating system's words.
        message: String,
    },
    /// What was given is not an image, or a damaged one.
    #[error("{what}: {problem}")]
    Invalid {
        /// The file, or the name inside it.
        what: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The content is not what its digest says.
    #[error("{what}: the content has digest {actual}, not {expected}: it is damaged or was changed")]
    Digest {
        /// What was read.
        what: String,
        /// As announced.
        expected: String,
        /// As computed.
        actual: String,
    },
    /// A registry could not be asked, refused, or sent something else than it announced.
    #[error("failed to pull and unpack image {reference:?}: {problem}")]
    Pull {
        /// The full form of the reference.
        reference: String,
        /// What was being done, and what the registry answered.
        problem: String,
    },
    /// The text is no image reference.
    #[error(transparent)]
    Reference(#[from] InvalidReference),
    /// There is no such image.
    #[error("image {0:?} is not present on this node")]
    NotPresent(String),
}

impl ImageError {
    fn io(doing: impl Into<String>, error: io::Error) -> Self {
        Self::Io { doing: doing.into(), message: error.to_string() }
    }

    fn invalid(what: impl ToString, problem: impl ToString) -> Self {
        Self::Invalid { what: what.to_string(), problem: problem.to_string() }
    }
}

impl From<ImageError> for RuntimeError {
    fn from(error: ImageError) -> Self {
        match error {
            ImageError::NotPresent(reference) => Self::ImageNotPresent { reference },
            other => Self::Image { message: other.to_string() },
        }
    }
}

/// The layers of a pinned image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Layers {
    /// The folder to mount from: short relative names keep long stacks within the kernel's limit.
    pub folder: PathBuf,
    /// Relative to `folder`, top first, as overlayfs wants them.
    pub lower: Vec<String>,
}

/// What `images/HEX` holds.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
struct Record {
    info: ImageInfo,
    /// Digests of the layers' tars, bottom first.
    layers: Vec<String>,
}

/// What `names/HEX` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Name {
    reference: String,
    image: String,
}

/// What `layers/SHORT/layer` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct LayerRecord {
    diff_id: String,
    size_bytes: u64,
}

/// What `pins/CONTAINER` holds.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Pin {
    layers: Vec<String>,
}

impl ImageStore {
    /// Opens the store in `root`, made if absent, and clears what imports that died left behind.
    pub fn open(root: impl Into<PathBuf>) -> Result<Self, ImageError> {
        let store = Self { root: root.into() };
        for folder in ["blobs/sha256", "layers", "images", "names", "pins", "downloads", "tmp"] {
            let path = store.root.join(folder);
            std::fs::create_dir_all(&path).map_err(|e| ImageError::io(format!("make {}", path.display()), e))?;
        }
        // Layers hold set-user-id programs that are not meant for users of the machine.
        std::fs::set_permissions(&store.root, std::fs::Permissions::from_mode(0o700))
            .map_err(|error| ImageError::io(format!("protect {}", store.root.display()), error))?;
        let _lock = store.lock()?;
        store.clear_dead_imports()?;
        Ok(store)
    }

    /// Imports every image of a docker archive (`docker save`) or OCI layout (folder or tar), gzipped or not.
    ///
    /// Nothing is visible until all is verified and on disk. A name that was taken moves to the new image. With
    /// `name` the archive's only image gets that name in place of its own.
    pub fn import(
        &self,
        path: &Path,
        name: Option<&str>,
        now: Timestamp,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Vec<ImageInfo>, ImageError> {
        import::import(self, path, name, now, progress)
    }

    /// Gives a present image a name, which another image may have had before.
    #[cfg(feature = "service")]
    fn tag(&self, reference: &Reference, image: &ImageInfo) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        if !self.image_path(&image.id).exists() {
            return Err(ImageError::NotPresent(image.id.clone()));
        }
        let reference = reference.to_string();
        let path = self.name_path(&reference);
        self.write(&path, &Name { reference, image: image.id.clone() }, Durability::Machine)
    }

    /// Whether an unpacked layer is here, by the digest of its tar.
    #[cfg(feature = "service")]
    fn has_layer(&self, diff_id: &str) -> bool {
        self.layer_path(diff_id).join("layer").exists()
    }

    /// Deletes what pulls that broke off have loaded so far, but for those that are under way.
    pub fn clear_downloads(&self) -> Result<(), ImageError> {
        for path in self.entries("downloads")? {
            let unused = File::open(&path).is_ok_and(|file| try_lock(&file));
            if unused {
                self.delete(&path)?;
            }
        }
        Ok(())
    }

    /// All images, ordered by id.
    pub fn list(&self) -> Result<Vec<ImageInfo>, ImageError> {
        let mut names = BTreeMap::<String, Vec<String>>::new();
        for name in self.all::<Name>("names")? {
            names.entry(name.image).or_default().push(name.reference);
        }
        let mut images: Vec<ImageInfo> = self.all::<Record>("images")?.into_iter().map(|record| record.info).collect();
        for image in &mut images {
            let (digests, mut tags): (Vec<_>, Vec<_>) =
                names.remove(&image.id).unwrap_or_default().into_iter().partition(|name| name.contains('@'));
            tags.sort();
            image.names = tags;
            image.digests = digests;
            image.digests.sort();
        }
        images.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(images)
    }

    /// The image that a reference, or an image id, means.
    pub fn find(&self, reference: &str) -> Result<Option<ImageInfo>, ImageError> {
        let Some(id) = self.resolve(reference)? else { return Ok(None) };
        Ok(self.list()?.into_iter().find(|image| image.id == id))
    }

    /// Removes a name, and the image with its last name; or, given an image id, the image with all its names.
    ///
    /// Layers that other images or pinned containers use stay. Succeeds when there is none.
    pub fn remove(&self, reference: &str) -> Result<(), ImageError> {
        let _lock = self.lock()?;
        let Some(id) = self.resolve(reference)? else { return Ok(()) };
        let names: Vec<Name> = self.all::<Name>("names")?.into_iter().filter(|name| name.image == id).collect();
        let whole = id_of(reference).is_some();
        let full = if whole { String::new() } else { reference.parse::<Reference>()?.to_string() };
        let (gone, left): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| whole || name.reference == full);
        for name in &gone {
            self.delete(&self.name_path(&name.reference))?;
        }
        // A digest alone is no name that keeps an image.
        if left.iter().all(|name| name.reference.contains('@')) {
            for name in &left {
                self.delete(&self.name_path(&name.reference))?;
            }
            self.delete(&self.image_path(&id))?;
        }
        self.sweep()
    }

    /// Keeps the layers of an image for a container, whatever happens to the image's names, and answers them.
    pub fn pin(&self, container: &str, image_id: &str) -> Result<Layers, ImageError> {
        let _lock = self.lock()?;
        let record: Record =
            self.read(&self.image_path(image_id))?.ok_or_else(|| ImageError::NotPresent(image_id.to_owned()))?;
        // Not forced to disk: a machine that loses power loses the container too.
        self.write(
            &self.root.join("pins").join(container),
            &Pin { layers: record.layers.clone() },
            Durability::Process,
        )?;
        let lower = record.layers.iter().rev().map(|layer| format!("{}/fs", short(layer))).collect();
        Ok(Layers { folder: self.root.join("layers"), lower })
    }

    /// Ends a pin. Layers that nothing else needs go with the next removal. Succeeds when there is none.
    pub fn unpin(&self, container: &str) -> Result<(), ImageError> {
        self.delete(&self.root.join("pins").join(container))
    }

    /// The containers that have pins, so that the owner can end those of containers that are gone.
    pub fn pinned(&self) -> Result<Vec<String>, ImageError> {
        Ok(self.entries("pins")?.into_iter().filter_map(|path| Some(path.file_name()?.to_str()?.to_owned())).collect())
    }

    fn resolve(&self, reference: &str) -> Result<Option<String>, ImageError> {
        if let Some(id) = id_of(reference) {
            let present = self.image_path(&id).exists();
            return Ok(present.then_some(id));
        }
        let full = reference.parse::<Reference>()?.to_string();
        Ok(self.read::<Name>(&self.name_path(&full))?.map(|name| name.image))
    }

    /// Deletes layers and blobs that no image and no pin needs. Call with the lock held.
    fn sweep(&self) -> Result<(), ImageError> {
        let mut blobs = BTreeSet::new();
        let mut layers = BTreeSet::new();
        for record in self.all::<Record>("images")? {
            blobs.insert(record.info.id.trim_start_matches("sha256:").to_owned());
            let digests = self.all::<Name>("names")?.into_iter().filter(|name| name.image == record.info.id);
            blobs.extend(digests.filter_map(|name| Some(name.reference.split_once("@sha256:")?.1.to_owned())));
            layers.extend(record.layers.iter().map(|layer| short(layer).to_owned()));
        }
        for pin in self.all::<Pin>("pins")? {
            layers.extend(pin.layers.iter().map(|layer| short(layer).to_owned()));
        }
        self.keep_only("layers", &layers)?;
        self.keep_only("blobs/sha256", &blobs)
    }

    fn keep_only(&self, folder: &str, wanted: &BTreeSet<String>) -> Result<(), ImageError> {
        for path in self.entries(folder)? {
            let keep = path.file_name().and_then(|name| name.to_str()).is_some_and(|name| wanted.contains(name));
            if !keep {
                delete_tree(&path)?;
            }
        }
        Ok(())
    }

    fn clear_dead_imports(&self) -> Result<(), ImageError> {
        for path in self.entries("tmp")? {
            let alive = File::open(path.join("lock")).is_ok_and(|lock| !try_lock(&lock));
            if !alive {
                delete_tree(&path)?;
            }
        }
        Ok(())
    }

    /// Waits for the store's lock; it ends with the value, or with the process.
    fn lock(&self) -> Result<File, ImageError> {
        let path = self.root.join("lock");
        let failed = |error| ImageError::io(format!("lock {}", path.display()), error);
        let file = File::options().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).map_err(|e| failed(e.into()))?;
        Ok(file)
    }

    fn image_path(&self, id: &str) -> PathBuf {
        self.root.join("images").join(id.trim_start_matches("sha256:"))
    }

    fn name_path(&self, reference: &str) -> PathBuf {
        self.root.join("names").join(hex(&Sha256::digest(reference.as_bytes())))
    }

    fn layer_path(&self, diff_id: &str) -> PathBuf {
        self.root.join("layers").join(short(diff_id))
    }

    fn entries(&self, folder: &str) -> Result<Vec<PathBuf>, ImageError> {
        let path = self.root.join(folder);
        let failed = |error| ImageError::io(format!("list {}", path.display()), error);
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(&path).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            // Dots begin files that are still being written.
            if !entry.file_name().as_encoded_bytes().starts_with(b".") {
                entries.push(entry.path());
            }
        }
        entries.sort();
        Ok(entries)
    }

    fn all<T: DeserializeOwned>(&self, folder: &str) -> Result<Vec<T>, ImageError> {
        let mut values = Vec::new();
        for path in self.entries(folder)? {
            values.extend(self.read(&path)?);
        }
        Ok(values)
    }

    fn read<T: DeserializeOwned>(&self, path: &Path) -> Result<Option<T>, ImageError> {
        match std::fs::read(path) {
            Ok(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|e| ImageError::invalid(path.display(), e)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(ImageError::io(format!("read {}", path.display()), error)),
        }
    }

    fn write(&self, path: &Path, value: &impl Serialize, durability: Durability) -> Result<(), ImageError> {
        // Invariant: our own records are plain structs with string keys, which always serialise.
        let bytes = serde_json::to_vec(value).expect("records serialise");
        write_atomically(path, &bytes, durability)
    }

    fn delete(&self, path: &Path) -> Result<(), ImageError> {
        match std::fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ImageError::io(format!("delete {}", path.display()), error))
            }
            _ => Ok(()),
        }
    }
}

/// What a written file survives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Durability {
    /// The end of this process.
    Process,
    /// A loss of power.
    Machine,
}

/// Writes a hidden file beside `path` and renames it, so that readers see the old content or the new.
fn write_atomically(path: &Path, bytes: &[u8], durability: Durability) -> Result<(), ImageError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let hidden = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let write = || {
        let mut file = File::create(&hidden)?;
        file.write_all(bytes)?;
        if durability == Durability::Machine {
            file.sync_data()?;
        }
        std::fs::rename(&hidden, path)
    };
    write().map_err(|error| ImageError::io(format!("write {}", path.display()), error))
}

fn delete_tree(path: &Path) -> Result<(), ImageError> {
    let result = if path.is_dir() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
    match result {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(ImageError::io(format!("delete {}", path.display()), error))
        }
        _ => Ok(()),
    }
}

fn try_lock(file: &File) -> bool {
    rustix::fs::flock(file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_ok()
}

/// The image id that a reference is, if it is one.
fn id_of(reference: &str) -> Option<String> {
    match reference {
        id if is_digest(id) => Some(id.to_owned()),
        hex if is_hex_sha256(hex) => Some(format!("sha256:{hex}")),
        _ => None,
    }
}

/// Folder name of a layer: 96 bits of its digest. The whole digest is checked before a layer is shared.
fn short(diff_id: &str) -> &str {
    let hex = diff_id.trim_start_matches("sha256:");
    &hex[..hex.len().min(24)]
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// `sha256:` and the digest of `bytes`.
fn digest_of(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

/// Passes bytes on, and knows their digest and number.
struct Hashing<R> {
    inner: R,
    hash: Sha256,
    length: u64,
}

impl<R: Read> Hashing<R> {
    fn new(inner: R) -> Self {
        Self { inner, hash: Sha256::new(), length: 0 }
    }

    fn digest(self) -> String {
        format!("sha256:{}", hex(&self.hash.finalize()))
    }
}

impl<R: Read> Read for Hashing<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.hash.update(&buffer[..length]);
        self.length += length as u64;
        Ok(length)
    }
}
