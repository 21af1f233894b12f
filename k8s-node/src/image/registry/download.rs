//! Loads one layer into a file, goes on where a broken connection left off, and verifies what came.

use std::{
    fs::File,
    io::{self, Read, Seek, SeekFrom},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::Duration,
};

use http::{StatusCode, header};
use reqwest::Response;
use sha2::{Digest, Sha256};
use tokio::io::{AsyncSeekExt, AsyncWriteExt};

use super::{blocking, problem::Problem, repository::Repository};
use crate::image::{ImageError, Progress, hex, import::verify, manifest::Descriptor};

/// How often the load of one layer is begun or gone on with. What came so far is kept for the next pull.
const TRIES: u32 = 6;
/// The wait before the second try; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(100);
/// How much is loaded between two reports.
const REPORT_BYTES: u64 = 1 << 20;

/// The file of a layer on its way, which nobody else uses until this is dropped.
pub(super) struct Held {
    path: PathBuf,
    file: File,
}

/// The name of a layer's file.
pub(super) fn file_name(digest: &str) -> &str {
    digest.trim_start_matches("sha256:")
}

impl Held {
    /// Takes the file of a layer, made if absent. Blocks as long as somebody else has it, in whatever process.
    pub fn take(folder: &Path, digest: &str) -> Result<Self, ImageError> {
        let path = folder.join(file_name(digest));
        let take = || loop {
            let file = File::options().read(true).write(true).create(true).truncate(false).open(&path)?;
            rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
            // Who had it before us may have removed it.
            match std::fs::metadata(&path) {
                Ok(there) if there.ino() == file.metadata()?.ino() => return Ok(file),
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        };
        let file = take().map_err(|error: io::Error| ImageError::io(format!("take {}", path.display()), error))?;
        Ok(Self { path, file })
    }

    /// Removes the file.
    pub fn remove(self) {
        if let Err(error) = std::fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "a loaded layer was not removed");
        }
    }
}

/// How far a layer is.
struct Loaded<'a> {
    file: tokio::fs::File,
    hash: Sha256,
    length: u64,
    reported: u64,
    layer: &'a Descriptor,
    progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
}

/// Loads a layer into its file, as far as it is not there yet.
pub(super) async fn load(
    repository: &Repository<'_>,
    held: &Held,
    layer: &Descriptor,
    progress: Option<&(dyn Fn(Progress) + Send + Sync)>,
) -> Result<(), Problem> {
    let mut loaded = Loaded::open(held, layer, progress).await?;
    let (mut tries, mut wait) = (0, FIRST_WAIT);
    while loaded.length < layer.size {
        tries += 1;
        let Err(why) = loaded.go_on(repository).await? else { continue };
        let problem = format!("layer {}: after {} of {} bytes: {why}", layer.digest, loaded.length, layer.size);
        tracing::debug!(problem, tries, "the load of a layer was broken off");
        if tries >= TRIES {
            loaded.flush().await?;
            return Err(Problem::new(problem));
        }
        repository.env.sleep(wait).await;
        wait *= 2;
    }
    loaded.finish(held).await
}

impl<'a> Loaded<'a> {
    /// Reads what an earlier try left.
    async fn open(
        held: &Held,
        layer: &'a Descriptor,
        progress: Option<&'a (dyn Fn(Progress) + Send + Sync)>,
    ) -> Result<Self, Problem> {
        let failed = |error| ImageError::io(format!("read {}", held.path.display()), error);
        let mut file = held.file.try_clone().map_err(failed)?;
        let size = layer.size;
        let read = blocking(move || {
            let rehash = |file: &mut File| {
                if file.metadata()?.len() > size {
                    file.set_len(0)?;
                }
                file.seek(SeekFrom::Start(0))?;
                let (mut hash, mut length, mut buffer) = (Sha256::new(), 0, vec![0; 1 << 16]);
                loop {
                    match file.read(&mut buffer)? {
                        0 => return Ok((hash, length)),
                        count => {
                            hash.update(&buffer[..count]);
                            length += count as u64;
                        }
                    }
                }
            };
            let (hash, length) = rehash(&mut file).map_err(|error| ImageError::io("read a loaded layer", error))?;
            Ok((file, hash, length))
        });
        let (file, hash, length) = read.await?;
        let file = tokio::fs::File::from_std(file);
        let loaded = Self { file, hash, length, reported: length, layer, progress };
        loaded.report();
        Ok(loaded)
    }

    /// Loads on from where it is. The inner error says what broke it off; the outer one that going on is no use.
    async fn go_on(&mut self, repository: &Repository<'_>) -> Result<Result<(), String>, Problem> {
        let mut answer = match repository.open_blob(&self.layer.digest, self.length).await {
            Err(problem) if self.length > 0 && problem.status() == Some(StatusCode::RANGE_NOT_SATISFIABLE) => {
                self.restart().await?;
                return Ok(Err(problem.to_string()));
            }
            other => other?,
        };
        match begins_at(&answer) {
            Some(offset) if offset == self.length => {}
            Some(0) => self.restart().await?,
            _ => {
                self.restart().await?;
                return Ok(Err("the registry sent another part than it was asked for".into()));
            }
        }
        loop {
            let bytes = match repository.chunk(&mut answer).await {
                Ok(Some(bytes)) => bytes,
                Ok(None) if self.length < self.layer.size => return Ok(Err("the registry ended its answer".into())),
                Ok(None) => return Ok(Ok(())),
                Err(why) => return Ok(Err(why)),
            };
            if self.length + bytes.len() as u64 > self.layer.size {
                self.restart().await?;
                let (digest, size) = (&self.layer.digest, self.layer.size);
                return Err(Problem::new(format!("layer {digest}: is longer than the {size} bytes of its manifest")));
            }
            self.hash.update(&bytes);
            self.length += bytes.len() as u64;
            self.file.write_all(&bytes).await.map_err(|error| self.disk(error))?;
            if self.length - self.reported >= REPORT_BYTES {
                self.reported = self.length;
                self.report();
            }
        }
    }

    async fn restart(&mut self) -> Result<(), Problem> {
        self.flush().await?;
        let emptied = match self.file.set_len(0).await {
            Ok(()) => self.file.seek(SeekFrom::Start(0)).await,
            Err(error) => Err(error),
        };
        emptied.map_err(|error| self.disk(error))?;
        (self.hash, self.length, self.reported) = (Sha256::new(), 0, 0);
        Ok(())
    }

    async fn flush(&mut self) -> Result<(), Problem> {
        self.file.flush().await.map_err(|error| self.disk(error))
    }

    async fn finish(mut self, held: &Held) -> Result<(), Problem> {
        self.flush().await?;
        self.report();
        let actual = format!("sha256:{}", hex(&self.hash.finalize()));
        let verified = verify(&format!("layer {}", self.layer.digest), &self.layer.digest, &actual);
        if verified.is_err() {
            held.file.set_len(0).map_err(|error| ImageError::io("empty a damaged layer", error))?;
        }
        Ok(verified?)
    }

    fn report(&self) {
        let (layer, done_bytes, total_bytes) = (&self.layer.digest, self.length, self.layer.size);
        tracing::debug!(layer, done_bytes, total_bytes, "loading a layer");
        if let Some(progress) = self.progress {
            progress(Progress { layer: layer.clone(), done_bytes, total_bytes });
        }
    }

    fn disk(&self, error: io::Error) -> Problem {
        ImageError::io(format!("write layer {}", self.layer.digest), error).into()
    }
}

/// The place in the blob where an answer begins, if it says so understandably.
fn begins_at(answer: &Response) -> Option<u64> {
    if answer.status() != StatusCode::PARTIAL_CONTENT {
        return Some(0);
    }
    let range = answer.headers().get(header::CONTENT_RANGE)?.to_str().ok()?;
    range.strip_prefix("bytes ")?.split('-').next()?.parse().ok()
}
