//! Brings images from an archive, or from what was loaded from a registry, into the store.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fs::File,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
};

use k8s_core::env::Timestamp;

use super::{
    Durability, Hashing, ImageError, ImageInfo, ImageStore, LayerRecord, Name, Progress, Record, Reference,
    delete_tree, digest_of,
    manifest::{ArchiveImage, Descriptor, ImageConfig, Index, Manifest, NAME_ANNOTATIONS, architecture, is_index},
    source::Source,
    try_lock,
    unpack::unpack,
    write_atomically,
};

/// Most bytes of a manifest, index or configuration.
pub(super) const DOCUMENT_LIMIT: u64 = 16 << 20;
/// Most levels of indexes within indexes.
const INDEX_DEPTH: usize = 4;

/// One image found in an archive.
pub(super) struct Found {
    /// Names as they were given.
    pub names: Vec<String>,
    /// The document that the names by digest mean, and its digest.
    pub manifest: Option<(String, Vec<u8>)>,
    /// The configuration, as it came.
    pub config: Vec<u8>,
    /// Where each layer lies, and its digest as stored there if it has one; bottom first.
    pub layers: Vec<(String, Option<String>)>,
    /// Whether a registry can bring it again.
    pub pulled: bool,
}

pub(super) fn import(
    store: &ImageStore,
    path: &Path,
    name: Option<&str>,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<ImageInfo>, ImageError> {
    let scratch = Scratch::new(store)?;
    let source = Source::open(path, &scratch.folder)?;
    let mut found = find_images(&source, path)?;
    if let Some(name) = name {
        let [only] = found.as_mut_slice() else {
            let problem = format!("holds {} images: a name can be given only to an only one", found.len());
            return Err(ImageError::invalid(path.display(), problem));
        };
        only.names = vec![name.to_owned()];
    }
    bring(store, &scratch, &source, found, now, progress)
}

/// Brings one image whose layers lie in a folder, as far as the store does not have them.
#[cfg(feature = "service")]
pub(super) fn loaded(
    store: &ImageStore,
    folder: &Path,
    image: Found,
    now: Timestamp,
) -> Result<Vec<ImageInfo>, ImageError> {
    let scratch = Scratch::new(store)?;
    bring(store, &scratch, &Source::Folder(folder.to_owned()), vec![image], now, &mut |_| {})
}

fn bring(
    store: &ImageStore,
    scratch: &Scratch,
    source: &Source,
    found: Vec<Found>,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<Vec<ImageInfo>, ImageError> {
    let mut ids = Vec::new();
    let mut staged = Vec::new();
    for image in found {
        let staged_image = stage(store, scratch, source, image, now, progress)?;
        ids.push(staged_image.record.info.id.clone());
        staged.push(staged_image);
    }
    scratch.sync()?;
    publish(store, scratch, &staged)?;
    Ok(store.list()?.into_iter().filter(|image| ids.contains(&image.id)).collect())
}

fn find_images(source: &Source, path: &Path) -> Result<Vec<Found>, ImageError> {
    // A docker archive of today is also an OCI layout, whose names are only tags: its own list knows better.
    let found = match source.read("manifest.json", DOCUMENT_LIMIT)? {
        Some(list) => docker_images(source, &list)?,
        None => match source.read("index.json", DOCUMENT_LIMIT)? {
            Some(index) => oci_images(source, &index)?,
            None => {
                let problem = "neither a docker archive (no manifest.json) nor an OCI layout (no index.json)";
                return Err(ImageError::invalid(path.display(), problem));
            }
        },
    };
    if found.is_empty() {
        return Err(ImageError::invalid(path.display(), format!("holds no image for linux/{}", architecture())));
    }
    Ok(found)
}

fn docker_images(source: &Source, list: &[u8]) -> Result<Vec<Found>, ImageError> {
    let list: Vec<ArchiveImage> = parse("manifest.json", list)?;
    list.into_iter()
        .map(|image| {
            let config = required(source, &image.config)?;
            if let Some(expected) = digest_in_path(&image.config) {
                verify(&image.config, &expected, &digest_of(&config))?;
            }
            let layers = image.layers.into_iter().map(|layer| (layer, None)).collect();
            Ok(Found { names: image.repo_tags.unwrap_or_default(), manifest: None, config, layers, pulled: false })
        })
        .collect()
}

/// `HEX.json` and `blobs/sha256/HEX` say what their content must be.
fn digest_in_path(path: &str) -> Option<String> {
    let stem = path.rsplit('/').next()?.trim_end_matches(".json");
    super::is_hex_sha256(stem).then(|| format!("sha256:{stem}"))
}

fn oci_images(source: &Source, index: &[u8]) -> Result<Vec<Found>, ImageError> {
    let index: Index = parse("index.json", index)?;
    let mut found = Vec::new();
    for descriptor in &index.manifests {
        let name = NAME_ANNOTATIONS.iter().find_map(|key| descriptor.annotations.get(*key)).cloned();
        if let Some(mut image) = oci_image(source, descriptor, INDEX_DEPTH)? {
            image.names.extend(name);
            found.push(image);
        }
    }
    Ok(found)
}

/// The image behind a descriptor, through indexes, if there is one for this machine.
fn oci_image(source: &Source, descriptor: &Descriptor, depth: usize) -> Result<Option<Found>, ImageError> {
    if !for_this_machine(descriptor) || depth == 0 {
        return Ok(None);
    }
    let document = blob(source, &descriptor.digest)?;
    if is_index(&descriptor.media_type) {
        let index: Index = parse(&descriptor.digest, &document)?;
        for inner in &index.manifests {
            if let Some(image) = oci_image(source, inner, depth - 1)? {
                return Ok(Some(image));
            }
        }
        return Ok(None);
    }
    let manifest: Manifest = parse(&descriptor.digest, &document)?;
    let config = blob(source, &manifest.config.digest)?;
    let layers = manifest.layers.into_iter().map(|layer| Ok((blob_path(&layer.digest)?, Some(layer.digest))));
    let layers = layers.collect::<Result<_, ImageError>>()?;
    let manifest = Some((descriptor.digest.clone(), document));
    Ok(Some(Found { names: Vec::new(), manifest, config, layers, pulled: false }))
}

/// A descriptor without a platform is taken; `unknown` marks attestations.
pub(super) fn for_this_machine(descriptor: &Descriptor) -> bool {
    let Some(platform) = &descriptor.platform else { return true };
    (platform.os == "linux" || platform.os.is_empty())
        && (platform.architecture == architecture() || platform.architecture.is_empty())
}

fn blob(source: &Source, digest: &str) -> Result<Vec<u8>, ImageError> {
    let content = required(source, &blob_path(digest)?)?;
    verify(digest, digest, &digest_of(&content))?;
    Ok(content)
}

fn blob_path(digest: &str) -> Result<String, ImageError> {
    if !super::is_digest(digest) {
        return Err(ImageError::invalid(digest, "only sha256 digests are supported"));
    }
    Ok(digest.replace(':', "/")).map(|path| format!("blobs/{path}"))
}

fn required(source: &Source, name: &str) -> Result<Vec<u8>, ImageError> {
    source.read(name, DOCUMENT_LIMIT)?.ok_or_else(|| ImageError::invalid(name, "is missing in the archive"))
}

pub(super) fn parse<T: serde::de::DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ImageError> {
    serde_json::from_slice(bytes).map_err(|error| ImageError::invalid(what, error))
}

pub(super) fn verify(what: &str, expected: &str, actual: &str) -> Result<(), ImageError> {
    if expected == actual {
        return Ok(());
    }
    Err(ImageError::Digest { what: what.to_owned(), expected: expected.to_owned(), actual: actual.to_owned() })
}

/// An image whose layers are unpacked, here or in the store.
struct Staged {
    record: Record,
    names: Vec<String>,
    blobs: Vec<(String, Vec<u8>)>,
}

fn stage(
    store: &ImageStore,
    scratch: &Scratch,
    source: &Source,
    image: Found,
    now: Timestamp,
    progress: &mut dyn FnMut(Progress),
) -> Result<Staged, ImageError> {
    let id = digest_of(&image.config);
    let config = read_config(&image.config, image.layers.len())?;
    let mut size_bytes = 0;
    for ((place, digest), diff_id) in image.layers.iter().zip(&config.rootfs.diff_ids) {
        let present = store.read::<LayerRecord>(&store.layer_path(diff_id).join("layer"))?;
        let layer = match present {
            Some(layer) => layer,
            None => stage_layer(scratch, source, place, digest.as_deref(), diff_id, progress)?,
        };
        verify("a layer in the store", diff_id, &layer.diff_id)?;
        size_bytes += layer.size_bytes;
    }
    let mut names = Vec::new();
    for name in &image.names {
        names.extend(full_names(name, image.manifest.as_ref().map(|(digest, _)| digest.as_str()))?);
    }
    let run = config.config;
    let info = ImageInfo {
        id: id.clone(),
        size_bytes,
        user: run.user.unwrap_or_default(),
        entrypoint: run.entrypoint.unwrap_or_default(),
        cmd: run.cmd.unwrap_or_default(),
        env: run.env.unwrap_or_default(),
        working_dir: run.working_dir.unwrap_or_default(),
        stop_signal: run.stop_signal.unwrap_or_default(),
        labels: run.labels.unwrap_or_default(),
        imported_at: Some(now),
        pulled: image.pulled,
        ..ImageInfo::default()
    };
    let mut blobs = vec![(id, image.config)];
    blobs.extend(image.manifest);
    Ok(Staged { record: Record { info, layers: config.rootfs.diff_ids }, names, blobs })
}

/// Reads a configuration and checks that it is for this machine and for so many layers.
pub(super) fn read_config(content: &[u8], layers: usize) -> Result<ImageConfig, ImageError> {
    let id = digest_of(content);
    let config = parse(&id, content)?;
    check_config(&id, &config, layers)?;
    Ok(config)
}

fn check_config(id: &str, config: &ImageConfig, layers: usize) -> Result<(), ImageError> {
    if !config.architecture.is_empty() && config.architecture != architecture() {
        let problem = format!("the image is for {}, this machine is {}", config.architecture, architecture());
        return Err(ImageError::invalid(id, problem));
    }
    if config.rootfs.diff_ids.len() != layers {
        let problem = format!("{} layers, but {} layer digests", layers, config.rootfs.diff_ids.len());
        return Err(ImageError::invalid(id, problem));
    }
    match config.rootfs.diff_ids.iter().find(|digest| !super::is_digest(digest)) {
        Some(digest) => Err(ImageError::invalid(id, format!("layer digest {digest:?}: only sha256 is supported"))),
        None => Ok(()),
    }
}

/// The full name, and the name by digest where the manifest is known.
fn full_names(name: &str, manifest_digest: Option<&str>) -> Result<Vec<String>, ImageError> {
    let reference: Reference = name.parse()?;
    let mut names = vec![reference.to_string()];
    if let Some(digest) = manifest_digest {
        names.push(format!("{}@{digest}", reference.name()));
    }
    Ok(names)
}

fn stage_layer(
    scratch: &Scratch,
    source: &Source,
    place: &str,
    digest: Option<&str>,
    diff_id: &str,
    progress: &mut dyn FnMut(Progress),
) -> Result<LayerRecord, ImageError> {
    let folder = scratch.folder.join(super::short(diff_id));
    let failed = |error: io::Error| ImageError::io(format!("unpack layer {diff_id}"), error);
    let record_path = folder.join("layer");
    if let Ok(bytes) = std::fs::read(&record_path) {
        return parse("a staged layer", &bytes);
    }
    let missing = || ImageError::invalid(place, "is missing in the archive");
    let (raw, total_bytes) = source.file(place)?.ok_or_else(missing)?;
    std::fs::create_dir_all(folder.join("fs")).map_err(failed)?;
    let report = RefCell::new(|done_bytes| progress(Progress { layer: diff_id.to_owned(), done_bytes, total_bytes }));
    let mut raw = Hashing::new(Reporting { inner: raw, done: 0, report: &report });
    let mut tar = Hashing::new(decoder(&mut raw, place)?);
    let size_bytes = unpack(&mut tar, &folder.join("fs")).map_err(failed)?;
    // What follows the end of the archive belongs to the digests.
    io::copy(&mut tar, &mut io::sink()).map_err(failed)?;
    verify(place, diff_id, &tar.digest())?;
    io::copy(&mut raw, &mut io::sink()).map_err(failed)?;
    if let Some(expected) = digest {
        verify(place, expected, &raw.digest())?;
    }
    let record = LayerRecord { diff_id: diff_id.to_owned(), size_bytes };
    // Invariant: the record is a plain struct, which always serialises.
    std::fs::write(&record_path, serde_json::to_vec(&record).expect("records serialise")).map_err(failed)?;
    Ok(record)
}

/// Decompresses by what the content says: media types in the wild are not to be relied on.
fn decoder<'a>(raw: impl Read + 'a, place: &str) -> Result<Box<dyn Read + 'a>, ImageError> {
    let mut raw = BufReader::with_capacity(1 << 16, raw);
    let start = raw.fill_buf().map_err(|error| ImageError::io(format!("read {place}"), error))?;
    if start.starts_with(&[0x1f, 0x8b]) {
        return Ok(Box::new(flate2::bufread::MultiGzDecoder::new(raw)));
    }
    if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let problem = "zstd layers are not supported: save the image with gzip or without compression";
        return Err(ImageError::invalid(place, problem));
    }
    Ok(Box::new(raw))
}

/// Makes all of it visible, names last.
fn publish(store: &ImageStore, scratch: &Scratch, staged: &[Staged]) -> Result<(), ImageError> {
    let _lock = store.lock()?;
    let layers: BTreeSet<&String> = staged.iter().flat_map(|image| &image.record.layers).collect();
    for layer in layers {
        publish_layer(store, scratch, layer)?;
    }
    for image in staged {
        for (digest, content) in &image.blobs {
            let path = store.root.join("blobs").join(digest.replace(':', "/"));
            write_atomically(&path, content, Durability::Machine)?;
        }
        store.write(&store.image_path(&image.record.info.id), &image.record, Durability::Machine)?;
        for name in &image.names {
            let value = Name { reference: name.clone(), image: image.record.info.id.clone() };
            store.write(&store.name_path(name), &value, Durability::Machine)?;
        }
    }
    Ok(())
}

fn publish_layer(store: &ImageStore, scratch: &Scratch, layer: &str) -> Result<(), ImageError> {
    let path = store.layer_path(layer);
    if path.join("layer").exists() {
        return Ok(());
    }
    let staged = scratch.folder.join(super::short(layer));
    if !staged.exists() {
        // It was in the store when we looked, and another process removed the image that kept it.
        let problem = "a layer was removed while the image was imported: import again";
        return Err(ImageError::invalid(layer, problem));
    }
    std::fs::rename(&staged, &path).map_err(|error| ImageError::io(format!("publish layer {layer}"), error))
}

/// A folder for one import, removed with the value; if the process dies, by whoever opens the store next.
struct Scratch {
    folder: PathBuf,
    _lock: File,
}

impl Scratch {
    fn new(store: &ImageStore) -> Result<Self, ImageError> {
        let _store = store.lock()?;
        let folder = (0u32..)
            .map(|n| store.root.join(format!("tmp/{}-{n}", std::process::id())))
            .find(|path| !path.exists())
            .unwrap_or_default();
        let failed = |error| ImageError::io(format!("make {}", folder.display()), error);
        std::fs::create_dir(&folder).map_err(failed)?;
        let lock = File::create(folder.join("lock")).map_err(failed)?;
        try_lock(&lock);
        Ok(Self { folder, _lock: lock })
    }

    /// On disk before anything points to it.
    fn sync(&self) -> Result<(), ImageError> {
        let sync = || Ok(rustix::fs::syncfs(File::open(&self.folder)?)?);
        sync().map_err(|error: io::Error| ImageError::io("write layers to disk", error))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        // Should this fail, the next opening of the store clears it.
        let _ = delete_tree(&self.folder);
    }
}

/// Passes bytes on and tells how many.
struct Reporting<'a, R, F> {
    inner: R,
    done: u64,
    report: &'a RefCell<F>,
}

impl<R: Read, F: FnMut(u64)> Read for Reporting<'_, R, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let length = self.inner.read(buffer)?;
        self.done += length as u64;
        (self.report.borrow_mut())(self.done);
        Ok(length)
    }
}
