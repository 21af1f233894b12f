//! Writing the files of a volume so that a reader sees all of the old state or all of the new one.
//!
//! The layout is upstream's: files live in a folder of their own, `..data` is a symbolic link to it that is replaced in
//! one step, and what users see are links through `..data`.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink},
    path::{Path, PathBuf},
};

use super::VolumeFile;

const DATA: &str = "..data";
const DATA_NEW: &str = "..data_new";

/// Makes `volume` show `files`; `stamp` names the new folder and must differ from call to call. Answers whether anything
/// changed. Blocks on the disk.
///
/// After a crash at any point the old or the new state is shown, and the next call removes what is left over.
pub fn write(volume: &Path, files: &[VolumeFile], stamp: &str, group: Option<u32>) -> io::Result<bool> {
    fs::create_dir_all(volume)?;
    let current = fs::read_link(volume.join(DATA)).ok();
    let is_current = match &current {
        Some(current) => shows(&volume.join(current), files, group)?,
        None => false,
    };
    if !is_current {
        let folder = format!("..{stamp}");
        fill(&volume.join(&folder), files, group)?;
        let new = volume.join(DATA_NEW);
        remove_if_there(&new)?;
        symlink(&folder, &new)?;
        fs::rename(&new, volume.join(DATA))?;
    }
    let visible: BTreeSet<&str> = files.iter().filter_map(|file| file.path.split('/').next()).collect();
    for name in &visible {
        let link = volume.join(name);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new(DATA).join(name), &link)?;
        }
    }
    sweep(volume, &visible)?;
    Ok(!is_current)
}

/// Removes links to what is no longer shown, and folders that `..data` does not lead to.
fn sweep(volume: &Path, visible: &BTreeSet<&str>) -> io::Result<()> {
    let kept = fs::read_link(volume.join(DATA))?;
    for entry in fs::read_dir(volume)? {
        let entry = entry?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let stays = name == DATA || Path::new(&*name) == kept || visible.contains(&*name);
        if stays {
            continue;
        }
        if entry.file_type()?.is_dir() && name.starts_with("..") {
            fs::remove_dir_all(entry.path())?;
        } else if entry.file_type()?.is_symlink() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn fill(folder: &Path, files: &[VolumeFile], group: Option<u32>) -> io::Result<()> {
    fs::create_dir(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
    for file in files {
        let path = folder.join(&file.path);
        if let Some(parent) = path.parent() {
            fs::create_dir_all(parent)?;
        }
        fs::write(&path, &file.content)?;
        if file.owner.is_some() || group.is_some() {
            chown(&path, file.owner, group)?;
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(mode(file, group)))?;
    }
    Ok(())
}

/// A volume's group may read what its owner may.
fn mode(file: &VolumeFile, group: Option<u32>) -> u32 {
    if group.is_some() { file.mode | 0o440 } else { file.mode }
}

fn shows(folder: &Path, files: &[VolumeFile], group: Option<u32>) -> io::Result<bool> {
    let mut there = vec![];
    list(folder, Path::new(""), &mut there)?;
    there.sort();
    let wanted: Vec<PathBuf> = files.iter().map(|file| PathBuf::from(&file.path)).collect();
    if there != wanted {
        return Ok(false);
    }
    for file in files {
        let path = folder.join(&file.path);
        let meta = fs::metadata(&path)?;
        let owned = file.owner.is_none_or(|owner| owner == meta.uid()) && group.is_none_or(|group| group == meta.gid());
        if meta.permissions().mode() & 0o7777 != mode(file, group) || !owned || fs::read(&path)? != file.content {
            return Ok(false);
        }
    }
    Ok(true)
}

fn list(root: &Path, below: &Path, found: &mut Vec<PathBuf>) -> io::Result<()> {
    let entries = match fs::read_dir(root.join(below)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() { list(root, &path, found)? } else { found.push(path) }
    }
    Ok(())
}
