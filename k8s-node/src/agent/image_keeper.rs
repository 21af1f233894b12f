//! Removes images that nobody uses when the disk fills up. Upstream's counterpart is the kubelet's image garbage collector.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use k8s_core::env::Timestamp;

use super::Shared;
use crate::runtime::{ImageInfo, RuntimeError};

/// When images are removed to make room. Those that were imported stay: nobody could bring them back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Images are removed when so much of the disk is used, in percent. 100: never.
    pub high_percent: u8,
    /// As many as bring the use down to this, in percent.
    pub low_percent: u8,
    /// An image younger than this stays: its pod may be about to start.
    pub min_age: Duration,
    /// How often the disk is looked at.
    pub every: Duration,
}

/// Upstream's: from 85 % down to 80 %, not before 2 minutes, every 5 minutes.
impl Default for ImageLimits {
    fn default() -> Self {
        let (min_age, every) = (Duration::from_secs(120), Duration::from_secs(300));
        Self { high_percent: 85, low_percent: 80, min_age, every }
    }
}

/// The size of a disk and what is free of it, in blocks of any size.
#[derive(Debug, Clone, Copy)]
struct Disk {
    total: u64,
    available: u64,
}

impl Disk {
    fn used_percent(self) -> u64 {
        100 - (self.available.min(self.total) * 100).checked_div(self.total).unwrap_or(100)
    }
}

/// Since when each image is known to be unused, by id.
type Unused = BTreeMap<String, Timestamp>;

/// Looks at the disk that holds `folder` again and again. Never ends.
pub(super) async fn keep(shared: Arc<Shared>, limits: ImageLimits, folder: PathBuf) {
    let mut unused = Unused::new();
    loop {
        shared.env.sleep(limits.every).await;
        if let Err(error) = look(&shared, limits, &folder, &mut unused).await {
            tracing::warn!(%error, "images were not looked at");
        }
    }
}

async fn look(shared: &Shared, limits: ImageLimits, folder: &Path, unused: &mut Unused) -> Result<(), RuntimeError> {
    // In this order: a container that is made meanwhile is seen.
    let images = shared.runtime.images().await?;
    let used = shared.runtime.observe().await?.containers.into_iter().map(|container| container.image_id).collect();
    let now = shared.env.now();
    follow(unused, &images, &used, now);
    let mut use_percent = measure(folder).await?.used_percent();
    if limits.high_percent >= 100 || use_percent < limits.high_percent.into() {
        return Ok(());
    }
    for image in spare(&images, unused, limits.min_age, now) {
        tracing::info!(image = image.id, names = ?image.names, use_percent, "an unused image is removed to make room");
        shared.runtime.remove_image(&image.id).await?;
        // Layers may be shared: what has become free is measured, not added up.
        use_percent = measure(folder).await?.used_percent();
        if use_percent <= limits.low_percent.into() {
            return Ok(());
        }
    }
    tracing::warn!(use_percent, wanted = limits.low_percent, "the disk fills up and no further image can be removed");
    Ok(())
}

async fn measure(folder: &Path) -> Result<Disk, RuntimeError> {
    let path = folder.to_owned();
    let measured = tokio::task::spawn_blocking(move || rustix::fs::statvfs(&path)).await;
    let failed = |error: &dyn std::fmt::Display| RuntimeError::system("measure the disk of images", error);
    let disk = measured.map_err(|error| failed(&error))?.map_err(|error| failed(&error))?;
    Ok(Disk { total: disk.f_blocks, available: disk.f_bavail })
}

/// Notes which images have come out of use, and forgets those that are used or gone.
fn follow(unused: &mut Unused, images: &[ImageInfo], used: &BTreeSet<String>, now: Timestamp) {
    unused.retain(|id, _| images.iter().any(|image| image.id == *id) && !used.contains(id));
    for image in images.iter().filter(|image| !used.contains(&image.id)) {
        unused.entry(image.id.clone()).or_insert(now);
    }
}

/// The images that may go, those that are unused longest first, and of these the oldest first.
fn spare<'a>(images: &'a [ImageInfo], unused: &Unused, min_age: Duration, now: Timestamp) -> Vec<&'a ImageInfo> {
    let is_old = |image: &ImageInfo| {
        let age = image.imported_at.map(|at| now.duration_since(at));
        age.is_none_or(|age| age.unsigned_abs() >= min_age && age.is_positive())
    };
    let mut spare: Vec<_> = images
        .iter()
        .filter(|image| image.pulled && is_old(image))
        .filter_map(|image| Some((unused.get(&image.id)?, image.imported_at, image)))
        .collect();
    spare.sort_by(|one, other| (one.0, one.1, &one.2.id).cmp(&(other.0, other.1, &other.2.id)));
    spare.into_iter().map(|(_, _, image)| image).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + second).unwrap()
    }

    fn image(id: &str, pulled_at: i64) -> ImageInfo {
        ImageInfo { id: id.into(), pulled: true, imported_at: Some(at(pulled_at)), ..ImageInfo::default() }
    }

    #[test]
    fn what_is_unused_longest_goes_first_and_what_is_used_young_or_imported_stays() {
        let imported = ImageInfo { pulled: false, ..image("imported", 0) };
        let images = [image("a", 0), image("b", 10), image("c", 5), image("young", 950), imported];
        let mut unused = Unused::new();
        let used = |ids: &[&str]| ids.iter().map(|id| (*id).to_owned()).collect::<BTreeSet<_>>();
        let spare = |unused: &Unused, now| {
            let all = spare(&images, unused, Duration::from_secs(120), at(now));
            all.iter().map(|image| image.id.as_str()).collect::<Vec<_>>().join(" ")
        };
        follow(&mut unused, &images, &used(&["a", "b", "c"]), at(100));
        assert_eq!(spare(&unused, 1000), "");
        follow(&mut unused, &images, &used(&["a"]), at(200));
        assert_eq!(spare(&unused, 1000), "c b");
        // Used again, it starts over.
        follow(&mut unused, &images, &used(&["c"]), at(300));
        follow(&mut unused, &images, &used(&[]), at(400));
        assert_eq!(spare(&unused, 1000), "b a c");
        assert_eq!(spare(&unused, 2000), "young b a c");
        follow(&mut unused, &images[..1], &used(&[]), at(500));
        assert_eq!(unused.keys().collect::<Vec<_>>(), ["a"], "what is gone is forgotten");
    }

    #[test]
    fn use_is_told_in_percent() {
        let percent = |total, available| Disk { total, available }.used_percent();
        assert_eq!([percent(200, 200), percent(200, 30), percent(200, 0), percent(0, 0)], [0, 85, 100, 0]);
    }
}
