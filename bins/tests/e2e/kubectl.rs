//! A real `kubectl`, pointed at a cluster.

use std::{
    io::Write,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

/// The longest that anything may take to come true.
const PATIENCE: Duration = Duration::from_secs(60);

/// One version of `kubectl` with one kubeconfig.
#[derive(Clone)]
pub struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    /// `version` is such as `1.37`.
    pub fn new(version: &str, kubeconfig: &Path) -> Self {
        let parts = std::env::var("K8S_TEST_PARTS").unwrap_or_else(|_| "/var/cache/k8s-test-parts".into());
        let program = Path::new(&parts).join(format!("bin/kubectl-{version}"));
        assert!(program.exists(), "{} is missing: run `./test.sh setup`", program.display());
        Self { program, kubeconfig: kubeconfig.into() }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        let cache = self.kubeconfig.with_extension("cache");
        command.arg("--kubeconfig").arg(&self.kubeconfig).arg("--cache-dir").arg(cache).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs it to its end, whatever that is.
    pub fn try_run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Runs it; it must succeed. Answers what it printed.
    pub fn run(&self, arguments: &[&str]) -> String {
        self.run_with(arguments, "")
    }

    /// The same with something on standard input.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> String {
        succeeded(arguments, self.try_run_with(arguments, input))
    }

    /// Runs it to its end, whatever that is, with something on standard input.
    pub fn try_run_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self.start(arguments);
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// Runs it with a program as the user's editor; it must succeed. Answers what it printed.
    pub fn edit(&self, editor: &Path, arguments: &[&str]) -> String {
        succeeded(arguments, self.command(arguments).env("KUBE_EDITOR", editor).output().unwrap())
    }

    /// Starts it and lets it run.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdin(Stdio::piped()).spawn().unwrap()
    }

    /// Starts it on a terminal of its own.
    pub fn start_on_terminal(&self, arguments: &[&str]) -> Child {
        let mut words = vec![self.program.display().to_string(), "--kubeconfig".into()];
        words.push(self.kubeconfig.display().to_string());
        words.extend(arguments.iter().map(|word| format!("'{word}'")));
        let mut command = Command::new("script");
        command.args(["-q", "-e", "-c", &words.join(" "), "/dev/null"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Asks again until the answer is right, and answers it.
    pub fn until(&self, arguments: &[&str], is_right: impl Fn(&str) -> bool) -> String {
        let what = format!("kubectl {arguments:?}");
        eventually(&what, || {
            let output = self.try_run(arguments);
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            if output.status.success() && is_right(&said) {
                Ok(said)
            } else {
                Err(format!("{said}{}", String::from_utf8_lossy(&output.stderr)))
            }
        })
    }
}

fn succeeded(arguments: &[&str], output: Output) -> String {
    let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "kubectl {arguments:?} failed: {said}{complained}");
    said.into_owned()
}

/// Tries until it works; fails with the last complaint.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Result<T, String>) -> T {
    let start = Instant::now();
    loop {
        match attempt() {
            Ok(value) => return value,
            Err(complaint) if start.elapsed() > PATIENCE => panic!("{what}: not after {PATIENCE:?}: {complaint}"),
            Err(_) => thread::sleep(Duration::from_millis(50)),
        }
    }
}
