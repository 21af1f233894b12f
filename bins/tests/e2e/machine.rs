//! This machine as the tests use it: one cluster at a time, since they share its network.

use std::{
    fs::{self, File},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use tempfile::TempDir;

/// The machine, held by one test.
pub struct Machine {
    _lock: File,
    folder: TempDir,
    count: AtomicU32,
}

impl Machine {
    /// Waits until no other test of any process holds the machine.
    pub fn claim() -> Self {
        assert!(rustix::process::geteuid().is_root(), "these tests make namespaces and cgroups: run them as root");
        let lock = File::create("/run/k8s-e2e.lock").unwrap();
        rustix::fs::flock(&lock, rustix::fs::FlockOperation::LockExclusive).unwrap();
        let folder = tempfile::Builder::new().prefix("k8s-e2e-").tempdir().unwrap();
        Self { _lock: lock, folder, count: AtomicU32::new(0) }
    }

    /// A new folder of this test.
    pub fn folder(&self, name: &str) -> PathBuf {
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        self.folder.path().join(format!("{number}-{name}"))
    }

    /// Runs the `k8s` program to its end.
    pub fn k8s(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_k8s")).args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// The same as root that lacks a capability.
    pub fn k8s_without(&self, capability: &str, arguments: &[&str]) -> Output {
        let mut command = Command::new("setpriv");
        command.arg(format!("--bounding-set=-{capability}")).arg("--inh-caps=-all").arg(env!("CARGO_BIN_EXE_k8s"));
        command.args(arguments).stdin(Stdio::null()).output().unwrap()
    }

    /// The same as a user without any privilege.
    pub fn k8s_as_nobody(&self, arguments: &[&str]) -> Output {
        // The build folder may be closed to others: the program is copied to where anyone may run it.
        let program = Path::new("/tmp").join(format!("k8s-e2e-nobody-{}", std::process::id()));
        fs::copy(env!("CARGO_BIN_EXE_k8s"), &program).unwrap();
        let output = Command::new(&program).args(arguments).uid(65534).gid(65534).stdin(Stdio::null()).output();
        fs::remove_file(&program).unwrap();
        output.unwrap()
    }
}
