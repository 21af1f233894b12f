//! Configuration files: the kubeconfig, which keeps its secrets to itself.

use std::{fs, path::PathBuf};

use k8s_wire::client::Config;

/// A kubeconfig.
pub fn run(input: &[u8]) {
    thread_local!(static FILE: File = File::new());
    FILE.with(|file| file.check(input));
}

struct File {
    path: PathBuf,
}

impl File {
    fn new() -> Self {
        let thread = format!("{:?}", std::thread::current().id());
        let digits: String = thread.chars().filter(char::is_ascii_digit).collect();
        let name = format!("fuzz-kubeconfig-{}-{digits}", std::process::id());
        Self { path: std::env::temp_dir().join(name) }
    }

    fn check(&self, input: &[u8]) {
        fs::write(&self.path, input).unwrap_or_else(|why| panic!("{}: {why}", self.path.display()));
        match Config::from_kubeconfig(&self.path, None) {
            Ok(config) => {
                assert!(!config.server.is_empty() && !config.server.ends_with('/'), "{:?}", config.server);
                assert!(!config.namespace.is_empty());
            }
            Err(why) => assert!(why.to_string().contains("fuzz-kubeconfig"), "the file is not named: {why}"),
        }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // It is as good as gone when it cannot be removed.
        let _ = fs::remove_file(&self.path);
    }
}
