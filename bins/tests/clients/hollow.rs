//! A cluster of simulated nodes: `k8s up` in a folder and on a port of its own, without any privilege.

use std::{
    fs::{self, File},
    path::PathBuf,
    process::{Child, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use super::kubectl::{Kubectl, eventually};

/// The running program. It ends, and its folder is gone, when this is dropped.
pub struct Hollow {
    folder: TempDir,
    program: Child,
}

impl Hollow {
    /// Starts it with so many nodes, and waits until it is ready.
    pub fn start(nodes: usize) -> Self {
        let folder = tempfile::Builder::new().prefix("k8s-hollow-").tempdir().unwrap();
        let log = File::create(folder.path().join("log")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_k8s"));
        command.args(["up", "--secure-port", "0", "--nodes", &format!("hollow:{nodes}")]);
        command.arg("--data-dir").arg(folder.path().join("data"));
        command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log);
        let hollow = Self { program: command.spawn().unwrap(), folder };
        eventually("the cluster is ready", || {
            let log = hollow.log();
            if log.contains("ready: ") { Ok(()) } else { Err(log) }
        });
        // Pods are refused until their namespace has its account.
        hollow.kubectl("1.37").until(&["get", "serviceaccount", "default", "-o", "name"], |said| !said.is_empty());
        hollow
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("data/admin.kubeconfig")
    }

    /// A file of the test, gone with the cluster.
    pub fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The administrator's `kubectl`; `version` is such as `1.37`.
    pub fn kubectl(&self, version: &str) -> Kubectl {
        Kubectl::new(version, &self.kubeconfig())
    }

    /// What the program said.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Interrupts it; it must end well.
    pub fn interrupt(mut self) {
        kill_process(Pid::from_raw(self.program.id() as i32).unwrap(), Signal::INT).unwrap();
        let status = self.program.wait().unwrap();
        assert!(status.success(), "it ended with {status}: {}", self.log());
    }
}

impl Drop for Hollow {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- log ---\n{}", self.log());
        }
        // It may have ended already.
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}
