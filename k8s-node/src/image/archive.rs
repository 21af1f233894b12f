//! Makes images from files: for tests and for images that are one program.
//!
//! ```
//! use k8s_node::image::archive::{ImageBuilder, Layer};
//!
//! let image = ImageBuilder::new("example.com/hello:1")
//!     .layer(Layer::new().file("/hello", b"#!/bin/sh\n", 0o755))
//!     .entrypoint(["/hello"]);
//! let archive = image.docker_archive();
//! assert!(!archive.is_empty());
//! ```

use std::{
    io::{self, Write},
    path::Path,
};

use super::{
    digest_of,
    manifest::{
        ArchiveImage, Descriptor, ImageConfig, Index, Manifest, NAME_ANNOTATIONS, Platform, RootFs, RunConfig,
        architecture,
    },
};

/// An image in the making. It lives in memory: meant for images of megabytes.
#[derive(Debug, Clone, Default)]
pub struct ImageBuilder {
    name: String,
    run: RunConfig,
    layers: Vec<Layer>,
    gzip: bool,
}

/// Programs that [`ImageBuilder::busybox`] offers under their own names.
const APPLETS: &str = "sh ls cat echo env id hostname pwd sleep true false printf touch mkdir rm ln cp mv chmod chown test \
    head tail wc grep sed awk seq date ps kill mount umount df du dd sort uniq tr cut tee tty stty yes nc wget nslookup \
    ping ip tar gzip ifconfig netstat httpd vi od hexdump sync stat find xargs which whoami uname time timeout trap nohup";

impl ImageBuilder {
    /// An empty image with this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// An image with a statically linked busybox (`program`: its bytes), a root user and a user `app` (1000:1000).
    pub fn busybox(name: impl Into<String>, program: &[u8]) -> Self {
        let mut layer = Layer::new()
            .folder("/bin", 0o755)
            .folder("/tmp", 0o1777)
            .folder("/root", 0o700)
            .file("/etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/tmp:/bin/sh\n", 0o644)
            .file("/etc/group", b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n", 0o644)
            .file("/bin/busybox", program, 0o755);
        for applet in APPLETS.split_whitespace() {
            layer = layer.symlink(&format!("/bin/{applet}"), "busybox");
        }
        Self::new(name)
            .layer(layer)
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .cmd(["sh"])
    }

    /// Adds a layer on top.
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// Sets the entrypoint.
    pub fn entrypoint<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.run.entrypoint = Some(words.into_iter().map(Into::into).collect());
        self
    }

    /// Sets the default arguments.
    pub fn cmd<S: Into<String>>(mut self, words: impl IntoIterator<Item = S>) -> Self {
        self.run.cmd = Some(words.into_iter().map(Into::into).collect());
        self
    }

    /// Adds an environment variable.
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.run.env.get_or_insert_default().push(format!("{name}={value}"));
        self
    }

    /// Sets the user.
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.run.user = Some(user.into());
        self
    }

    /// Sets the working directory.
    pub fn working_dir(mut self, path: impl Into<String>) -> Self {
        self.run.working_dir = Some(path.into());
        self
    }

    /// Sets the stop signal, e.g. `SIGQUIT`.
    pub fn stop_signal(mut self, signal: impl Into<String>) -> Self {
        self.run.stop_signal = Some(signal.into());
        self
    }

    /// Compresses the layers.
    pub fn gzip(mut self) -> Self {
        self.gzip = true;
        self
    }

    /// The image id: digest of the configuration.
    pub fn id(&self) -> String {
        digest_of(&self.config())
    }

    /// The image as `docker save` writes it.
    pub fn docker_archive(&self) -> Vec<u8> {
        let config = self.config();
        let config_name = format!("{}.json", digest_of(&config).trim_start_matches("sha256:"));
        let mut archive = TarWriter::default();
        let mut layers = Vec::new();
        for (number, layer) in self.layers.iter().enumerate() {
            let name = format!("{number}/layer.tar");
            archive.file(&name, &self.stored(layer), 0o644);
            layers.push(name);
        }
        archive.file(&config_name, &config, 0o644);
        let list = [ArchiveImage { config: config_name, repo_tags: Some(vec![self.name.clone()]), layers }];
        archive.file("manifest.json", &json(&list), 0o644);
        archive.finish()
    }

    /// The image as a tar of an OCI layout.
    pub fn oci_archive(&self) -> Vec<u8> {
        let mut archive = TarWriter::default();
        for (name, content) in self.oci_files() {
            archive.file(&name, &content, 0o644);
        }
        archive.finish()
    }

    /// Writes the image as an OCI layout into `folder`, which must exist.
    pub fn write_oci_layout(&self, folder: &Path) -> io::Result<()> {
        std::fs::create_dir_all(folder.join("blobs/sha256"))?;
        self.oci_files().into_iter().try_for_each(|(name, content)| std::fs::write(folder.join(name), content))
    }

    fn oci_files(&self) -> Vec<(String, Vec<u8>)> {
        let mut files = vec![("oci-layout".to_owned(), br#"{"imageLayoutVersion":"1.0.0"}"#.to_vec())];
        let mut add = |media_type: &str, content: Vec<u8>| {
            let digest = digest_of(&content);
            let size = content.len() as u64;
            files.push((format!("blobs/{}", digest.replace(':', "/")), content));
            Descriptor { media_type: media_type.to_owned(), digest, size, ..Descriptor::default() }
        };
        let config = add("application/vnd.oci.image.config.v1+json", self.config());
        let layer_type = match self.gzip {
            true => "application/vnd.oci.image.layer.v1.tar+gzip",
            false => "application/vnd.oci.image.layer.v1.tar",
        };
        let layers = self.layers.iter().map(|layer| add(layer_type, self.stored(layer))).collect();
        let media_type = "application/vnd.oci.image.manifest.v1+json";
        let manifest = Manifest { schema_version: 2, media_type: media_type.to_owned(), config, layers };
        let mut descriptor = add(media_type, json(&manifest));
        descriptor.platform = Some(Platform { architecture: architecture().to_owned(), os: "linux".to_owned() });
        descriptor.annotations.insert(NAME_ANNOTATIONS[0].to_owned(), self.name.clone());
        let media_type = "application/vnd.oci.image.index.v1+json".to_owned();
        let index = Index { schema_version: 2, media_type, manifests: vec![descriptor] };
        files.push(("index.json".to_owned(), json(&index)));
        files
    }

    fn config(&self) -> Vec<u8> {
        let diff_ids = self.layers.iter().map(|layer| digest_of(&layer.clone().tar.finish())).collect();
        json(&ImageConfig {
            architecture: architecture().to_owned(),
            os: "linux".to_owned(),
            config: self.run.clone(),
            rootfs: RootFs { kind: "layers".to_owned(), diff_ids },
        })
    }

    fn stored(&self, layer: &Layer) -> Vec<u8> {
        let tar = layer.clone().tar.finish();
        if !self.gzip {
            return tar;
        }
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        // Invariant: writing to memory does not fail.
        encoder.write_all(&tar).and_then(|()| encoder.finish()).expect("memory takes all")
    }
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    // Invariant: the documents are plain structs with string keys, which always serialise.
    serde_json::to_vec(value).expect("documents serialise")
}

/// One layer in the making. Everything belongs to root.
#[derive(Debug, Clone, Default)]
pub struct Layer {
    tar: TarWriter,
}

impl Layer {
    /// An empty layer.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file.
    pub fn file(mut self, path: &str, content: &[u8], mode: u32) -> Self {
        self.tar.file(path, content, mode);
        self
    }

    /// Adds a folder.
    pub fn folder(mut self, path: &str, mode: u32) -> Self {
        self.tar.entry(path, tar::EntryType::Directory, "", &[], mode);
        self
    }

    /// Adds a symbolic link.
    pub fn symlink(mut self, path: &str, target: &str) -> Self {
        self.tar.entry(path, tar::EntryType::Symlink, target, &[], 0o777);
        self
    }

    /// Adds a hard link to a file of this layer.
    pub fn hard_link(mut self, path: &str, target: &str) -> Self {
        self.tar.entry(path, tar::EntryType::Link, target.trim_start_matches('/'), &[], 0o644);
        self
    }

    /// Removes what the layers below have at this path.
    pub fn removed(self, path: &str) -> Self {
        let path = Path::new(path);
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        self.file(&path.with_file_name(format!(".wh.{name}")).to_string_lossy(), b"", 0o600)
    }

    /// Hides all that the layers below have in this folder.
    pub fn opaque(self, folder: &str) -> Self {
        self.file(&format!("{folder}/.wh..wh..opq"), b"", 0o600)
    }
}

/// A tar in memory.
#[derive(Debug, Clone, Default)]
struct TarWriter {
    bytes: Vec<u8>,
}

impl TarWriter {
    fn file(&mut self, path: &str, content: &[u8], mode: u32) {
        self.entry(path, tar::EntryType::Regular, "", content, mode);
    }

    /// Paths and targets of up to 100 bytes: what is built here is small.
    fn entry(&mut self, path: &str, kind: tar::EntryType, target: &str, content: &[u8], mode: u32) {
        let mut header = tar::Header::new_ustar();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        header.set_size(content.len() as u64);
        let named = header.set_path(path.trim_start_matches('/'));
        let linked = if target.is_empty() { Ok(()) } else { header.set_link_name_literal(target) };
        named.and(linked).expect("paths in built images have at most 100 bytes and no `..`");
        header.set_cksum();
        self.bytes.extend_from_slice(header.as_bytes());
        self.bytes.extend_from_slice(content);
        self.bytes.resize(self.bytes.len().next_multiple_of(512), 0);
    }

    fn finish(mut self) -> Vec<u8> {
        self.bytes.resize(self.bytes.len() + 1024, 0);
        self.bytes
    }
}
