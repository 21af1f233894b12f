//! Finds and executes a program, with the error messages that Kubernetes users know.

use std::{
    convert::Infallible,
    ffi::CString,
    path::{Path, PathBuf},
};

use nix::errno::Errno;

use crate::{
    native::launch::{Failure, Stage},
    sys::c_string,
};

/// Replaces this process by the program. Returns only when that failed.
pub fn execute(argv: &[String], env: &[(String, String)]) -> Failure {
    match try_execute(argv, env) {
        Ok(never) => match never {},
        Err(message) => Failure { stage: Stage::Start, message },
    }
}

fn try_execute(argv: &[String], env: &[(String, String)]) -> Result<Infallible, String> {
    let name = argv.first().map(String::as_str).unwrap_or_default();
    let path = env.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    let file = find(name, path)?;
    let text = |error: std::io::Error| format!("exec: {name:?}: {error}");
    let file = c_string(&file.to_string_lossy()).map_err(text)?;
    let argv: Vec<CString> = argv.iter().map(|word| c_string(word)).collect::<Result<_, _>>().map_err(text)?;
    let env = env.iter().map(|(name, value)| c_string(&format!("{name}={value}")));
    let env: Vec<CString> = env.collect::<Result<_, _>>().map_err(text)?;
    nix::unistd::execve(&file, &argv, &env).map_err(|error| match error {
        Errno::ENOEXEC => format!("exec {}: exec format error", file.to_string_lossy()),
        Errno::ENOENT => format!("exec {}: no such file or directory", file.to_string_lossy()),
        other => format!("exec {}: {}", file.to_string_lossy(), other.desc().to_lowercase()),
    })
}

/// The file that a command's first word means.
fn find(name: &str, path: &str) -> Result<PathBuf, String> {
    if name.is_empty() {
        return Err("no command specified".to_owned());
    }
    if name.contains('/') {
        return check(Path::new(name)).map(|()| PathBuf::from(name)).map_err(|error| match error {
            Errno::ENOENT => format!("exec: {name:?}: stat {name}: no such file or directory"),
            Errno::ENOTDIR => format!("exec: {name:?}: stat {name}: not a directory"),
            Errno::EISDIR => format!("exec: {name:?}: is a directory"),
            other => format!("exec: {name:?}: {}", other.desc().to_lowercase()),
        });
    }
    let mut refused = false;
    for folder in path.split(':') {
        let candidate = Path::new(if folder.is_empty() { "." } else { folder }).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) => refused |= error == Errno::EACCES,
        }
    }
    if refused {
        return Err(format!("exec: {name:?}: permission denied"));
    }
    Err(format!("exec: {name:?}: executable file not found in $PATH"))
}

fn check(file: &Path) -> Result<(), Errno> {
    let found = std::fs::metadata(file).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    if found.is_dir() {
        return Err(Errno::EISDIR);
    }
    nix::unistd::access(file, nix::unistd::AccessFlags::X_OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_or_missed_in_known_words() {
        assert_eq!(find("sh", "/nowhere:/bin"), Ok("/bin/sh".into()));
        assert_eq!(find("foo", "/bin").unwrap_err(), "exec: \"foo\": executable file not found in $PATH");
        assert_eq!(find("/foo", "").unwrap_err(), "exec: \"/foo\": stat /foo: no such file or directory");
        assert_eq!(find("/etc", "").unwrap_err(), "exec: \"/etc\": is a directory");
        assert_eq!(find("/etc/passwd", "").unwrap_err(), "exec: \"/etc/passwd\": permission denied");
        assert_eq!(find("", "/bin").unwrap_err(), "no command specified");
    }
}
