//! The folder that holds everything of a cluster, and its default.

use std::path::PathBuf;

/// `/var/lib/k8s` as root, else `$XDG_STATE_HOME/k8s`, else `~/.local/state/k8s`.
pub fn default_data_dir() -> Result<PathBuf, String> {
    if rustix::process::geteuid().is_root() {
        return Ok("/var/lib/k8s".into());
    }
    let state = std::env::var_os("XDG_STATE_HOME").filter(|value| !value.is_empty()).map(PathBuf::from);
    let home = std::env::var_os("HOME").filter(|value| !value.is_empty());
    let home = home.map(|home| PathBuf::from(home).join(".local/state"));
    let folder = state.or(home).ok_or("no default folder: set --data-dir, or XDG_STATE_HOME, or HOME")?;
    Ok(folder.join("k8s"))
}

/// The folder that was given, or the default; absolute, and made if it is not there.
pub fn prepare(given: Option<PathBuf>) -> Result<PathBuf, String> {
    let folder = given.map_or_else(default_data_dir, Ok)?;
    std::fs::create_dir_all(&folder).map_err(|why| format!("--data-dir {}: {why}", folder.display()))?;
    folder.canonicalize().map_err(|why| format!("--data-dir {}: {why}", folder.display()))
}
