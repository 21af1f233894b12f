//! Where an image is imported from: a folder, or a tar that is read by seeking, never whole.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::ImageError;

/// A file's content and its length in bytes.
pub type Opened = (Box<dyn Read + Send>, u64);

/// Files by name.
pub enum Source {
    /// A folder in OCI image layout.
    Folder(PathBuf),
    /// A tar, and where its files lie.
    Tar {
        /// The tar itself, not compressed.
        file: Arc<File>,
        /// Offset and length of each file.
        files: BTreeMap<String, (u64, u64)>,
    },
}

impl Source {
    /// Opens a folder or a tar. A gzipped tar is first unpacked into a file without a name in `scratch`.
    pub fn open(path: &Path, scratch: &Path) -> Result<Self, ImageError> {
        let doing = || format!("open {}", path.display());
        let metadata = std::fs::metadata(path).map_err(|error| ImageError::io(doing(), error))?;
        if metadata.is_dir() {
            return Ok(Self::Folder(path.to_owned()));
        }
        let file = File::open(path).map_err(|error| ImageError::io(doing(), error))?;
        let file = plain(file, scratch).map_err(|error| ImageError::io(doing(), error))?;
        let files = list(&file).map_err(|error| ImageError::invalid(path.display(), format!("not a tar: {error}")))?;
        Ok(Self::Tar { file: Arc::new(file), files })
    }

    /// Opens one file by its name, or answers `None` if there is none.
    pub fn file(&self, name: &str) -> Result<Option<Opened>, ImageError> {
        match self {
            Self::Folder(folder) => open_in_folder(folder, name),
            Self::Tar { file, files } => Ok(files.get(name).map(|&(offset, length)| {
                let section = Section { file: Arc::clone(file), offset, left: length };
                (Box::new(BufReader::with_capacity(1 << 18, section)) as Box<dyn Read + Send>, length)
            })),
        }
    }

    /// Reads one small file whole. `limit` bounds it.
    pub fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, ImageError> {
        let Some((reader, length)) = self.file(name)? else { return Ok(None) };
        if length > limit {
            return Err(ImageError::invalid(name, format!("{length} bytes is more than the {limit} allowed here")));
        }
        let mut content = Vec::with_capacity(length as usize);
        reader.take(limit).read_to_end(&mut content).map_err(|error| ImageError::io(format!("read {name}"), error))?;
        Ok(Some(content))
    }
}

fn open_in_folder(folder: &Path, name: &str) -> Result<Option<Opened>, ImageError> {
    if name.split('/').any(|part| part == ".." || part.is_empty()) {
        return Err(ImageError::invalid(name, "a name inside an image must be a relative path without `..`"));
    }
    let failed = |error| ImageError::io(format!("open {}", folder.join(name).display()), error);
    match File::open(folder.join(name)) {
        Ok(file) => {
            let length = file.metadata().map_err(failed)?.len();
            Ok(Some((Box::new(BufReader::with_capacity(1 << 18, file)), length)))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(failed(error)),
    }
}

/// The same content, not compressed.
fn plain(mut file: File, scratch: &Path) -> io::Result<File> {
    let mut magic = [0; 2];
    let length = file.read(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    if magic[..length] != [0x1f, 0x8b] {
        return Ok(file);
    }
    let path = scratch.join("archive.tar");
    let mut unpacked = File::options().read(true).write(true).create_new(true).open(&path)?;
    std::fs::remove_file(&path)?;
    io::copy(&mut flate2::read::MultiGzDecoder::new(BufReader::with_capacity(1 << 18, file)), &mut unpacked)?;
    unpacked.seek(SeekFrom::Start(0))?;
    Ok(unpacked)
}

/// Offsets of all regular files. Links inside the archive (older docker archives share layers so) are followed.
fn list(file: &File) -> io::Result<BTreeMap<String, (u64, u64)>> {
    let mut files = BTreeMap::new();
    let mut links = Vec::new();
    let mut archive = tar::Archive::new(BufReader::new(file));
    for entry in archive.entries_with_seek()? {
        let entry = entry?;
        let name = normal(Path::new("/"), &entry.path()?);
        match entry.header().entry_type() {
            tar::EntryType::Regular | tar::EntryType::Continuous => {
                files.insert(name, (entry.raw_file_position(), entry.size()));
            }
            tar::EntryType::Symlink | tar::EntryType::Link => {
                let target = entry.link_name()?.unwrap_or_default().into_owned();
                let hard = entry.header().entry_type() == tar::EntryType::Link;
                let parent = if hard { Path::new("/").to_owned() } else { Path::new("/").join(&name) };
                let parent = if hard { parent } else { parent.parent().unwrap_or(Path::new("/")).to_owned() };
                links.push((name, normal(&parent, &target)));
            }
            _ => {}
        }
    }
    for (name, target) in links {
        if let Some(&place) = files.get(&target) {
            files.insert(name, place);
        }
    }
    Ok(files)
}

/// `path` seen from `base`, without dots and without a leading slash. It only ever names entries of the archive.
fn normal(base: &Path, path: &Path) -> String {
    let mut parts: Vec<String> = Vec::new();
    for component in base.join(path).components() {
        match component {
            std::path::Component::Normal(part) => parts.push(part.to_string_lossy().into_owned()),
            std::path::Component::ParentDir => drop(parts.pop()),
            _ => {}
        }
    }
    parts.join("/")
}

/// A part of a file, with a position of its own.
struct Section {
    file: Arc<File>,
    offset: u64,
    left: u64,
}

impl Read for Section {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let length = self.file.read_at(&mut buffer[..wanted], self.offset)?;
        if length == 0 && wanted > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.offset += length as u64;
        self.left -= length as u64;
        Ok(length)
    }
}
