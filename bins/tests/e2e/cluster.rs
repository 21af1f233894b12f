//! A cluster of real processes.

use std::{
    fs::{self, File},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use k8s::node::image::archive::ImageBuilder;

use super::{
    kubectl::{Kubectl, eventually},
    lan::Host,
    machine::Machine,
};

/// Running programs and where they keep their things.
pub struct Cluster {
    /// The data folder.
    pub folder: PathBuf,
    /// Where the API server listens.
    pub port: u16,
    /// Where machines of its network reach it.
    url: String,
    programs: Vec<Program>,
    logs: PathBuf,
    /// Where nodes keep their images, each the folder that `k8s image` is told.
    nodes: Vec<PathBuf>,
}

struct Program {
    name: &'static str,
    path: &'static str,
    arguments: Vec<String>,
    child: Child,
}

/// The program's path, by its name.
macro_rules! program {
    ($name:literal) => {
        ($name, env!(concat!("CARGO_BIN_EXE_", $name)))
    };
}

impl Program {
    fn start(name: &'static str, path: &'static str, arguments: Vec<String>, logs: &Path) -> Self {
        let child = spawn(Command::new(path), &arguments, logs, name);
        Self { name, path, arguments, child }
    }

    /// Starts it on another machine.
    fn start_on(host: &Host, (name, path): (&'static str, &'static str), arguments: &[String], logs: &Path) -> Self {
        let arguments = arguments.to_vec();
        let child = spawn(host.command(path), &arguments, logs, &format!("{}-{name}", host.node));
        Self { name, path, arguments, child }
    }

    fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id() as i32).unwrap()
    }

    fn interrupt(mut self) -> ExitStatus {
        kill_process(self.pid(), Signal::INT).unwrap();
        self.child.wait().unwrap()
    }
}

fn spawn(mut command: Command, arguments: &[String], logs: &Path, log: &str) -> Child {
    fs::create_dir_all(logs).unwrap();
    let log = File::options().create(true).append(true).open(logs.join(format!("{log}.log"))).unwrap();
    command.args(arguments).stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

fn words(text: &[&str]) -> Vec<String> {
    text.iter().map(|word| (*word).to_owned()).collect()
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl Cluster {
    /// Everything in one process, with real containers. `resolv_conf` names the resolvers for what is outside.
    pub fn all_in_one(machine: &Machine, resolv_conf: &Path) -> Self {
        Self::up(machine, &["--resolv-conf", &resolv_conf.display().to_string()])
    }

    /// Everything in one process, with one simulated node.
    pub fn hollow(machine: &Machine) -> Self {
        Self::up(machine, &["--nodes", "hollow:1"])
    }

    fn up(machine: &Machine, more: &[&str]) -> Self {
        let folder = machine.folder("data");
        let (logs, port) = (machine.folder("logs"), free_port());
        let mut arguments =
            words(&["up", "--data-dir", &folder.display().to_string(), "--secure-port", &port.to_string()]);
        arguments.extend(words(more));
        let program = Program::start("k8s", env!("CARGO_BIN_EXE_k8s"), arguments, &logs);
        let (nodes, url) = (vec![folder.clone()], format!("https://127.0.0.1:{port}"));
        let cluster = Self { folder, port, url, programs: vec![program], logs, nodes };
        cluster.wait_until_ready();
        cluster
    }

    /// The six programs over HTTPS, each under its own identity.
    pub fn separate(machine: &Machine, resolv_conf: &Path) -> Self {
        let folder = machine.folder("data");
        let (logs, port) = (machine.folder("logs"), free_port());
        let data = folder.display().to_string();
        let arguments = words(&["--data-dir", &data, "--secure-port", &port.to_string()]);
        let server = Program::start("kube-apiserver", env!("CARGO_BIN_EXE_kube-apiserver"), arguments, &logs);
        let (nodes, url) = (vec![folder.join("node")], format!("https://127.0.0.1:{port}"));
        let mut cluster = Self { folder, port, url, programs: vec![server], logs, nodes };
        cluster.wait_until_ready();
        let config = |name: &str| format!("--kubeconfig={data}/{name}.kubeconfig");
        let node = cluster.node_kubeconfig(machine, "node-1");
        let ca = format!("--root-ca-file={data}/pki/ca.crt");
        let resolv_conf = format!("--resolv-conf={}", resolv_conf.display());
        let programs: [(&'static str, &'static str, Vec<String>); 5] = [
            (
                "kube-controller-manager",
                env!("CARGO_BIN_EXE_kube-controller-manager"),
                words(&[&config("controller-manager"), &ca, "--secure-port", &free_port().to_string()]),
            ),
            (
                "kube-scheduler",
                env!("CARGO_BIN_EXE_kube-scheduler"),
                words(&[&config("scheduler"), "--secure-port", &free_port().to_string()]),
            ),
            (
                "kubelet",
                env!("CARGO_BIN_EXE_kubelet"),
                words(&[
                    &format!("--kubeconfig={}", node.display()),
                    "--hostname-override=node-1",
                    &format!("--root-dir={data}/node"),
                    &format!("--client-ca-file={data}/pki/ca.crt"),
                    "--cluster-dns=10.96.0.10",
                    &resolv_conf,
                ]),
            ),
            ("kube-proxy", env!("CARGO_BIN_EXE_kube-proxy"), words(&[&config("proxy"), "--hostname-override=node-1"])),
            (
                "cluster-dns",
                env!("CARGO_BIN_EXE_cluster-dns"),
                words(&[&config("dns"), "--hostname-override=node-1", &resolv_conf]),
            ),
        ];
        for (name, path, arguments) in programs {
            let program = Program::start(name, path, arguments, &cluster.logs);
            cluster.programs.push(program);
        }
        cluster
    }

    /// Adds a node on this machine, with a pod network of its own: a `kubelet` as an operator would start it.
    pub fn join_here(&mut self, machine: &Machine, node: &str, pod_cidr: &str) {
        let (kubeconfig, root) = (self.node_kubeconfig(machine, node), machine.folder(node));
        let arguments = [
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hostname-override={node}"),
            format!("--root-dir={}", root.display()),
            format!("--client-ca-file={}/pki/ca.crt", self.folder.display()),
            format!("--port={}", free_port()),
            format!("--pod-cidr={pod_cidr}"),
            "--cluster-dns=10.96.0.10".to_owned(),
        ];
        let program = Program::start("kubelet", env!("CARGO_BIN_EXE_kubelet"), arguments.into(), &self.logs);
        self.programs.push(program);
        self.nodes.push(root);
    }

    /// The control plane and a node on the first machine of a network.
    pub fn on(host: &Host, machine: &Machine) -> Self {
        let (folder, logs, port) = (machine.folder("data"), machine.folder("logs"), 6443);
        let data = folder.display().to_string();
        let address = format!("--advertise-address={}", host.address);
        let arguments = words(&["--data-dir", &data, "--bind-address=0.0.0.0", &address]);
        let server = Program::start_on(host, program!("kube-apiserver"), &arguments, &logs);
        let url = format!("https://{}:{port}", host.address);
        let mut cluster = Self { folder, port, url, programs: vec![server], logs, nodes: Vec::new() };
        cluster.wait_until_ready();
        let config = |name: &str| format!("--kubeconfig={data}/{name}.kubeconfig");
        // A node that is cut off is noticed sooner than usual: the test has no minute to wait.
        let graces = "--node-monitor-grace-period=16s";
        let manager = words(&[&config("controller-manager"), &format!("--root-ca-file={data}/pki/ca.crt"), graces]);
        cluster.add(host, program!("kube-controller-manager"), &manager);
        cluster.add(host, program!("kube-scheduler"), &words(&[&config("scheduler")]));
        let name = format!("--hostname-override={}", host.node);
        let resolv_conf = machine.folder("resolv.conf");
        fs::write(&resolv_conf, "nameserver 192.0.2.53\n").unwrap();
        let resolv_conf = format!("--resolv-conf={}", resolv_conf.display());
        cluster.add(host, program!("cluster-dns"), &words(&[&config("dns"), &name, &resolv_conf]));
        cluster.join(host, machine);
        cluster
    }

    /// Makes a machine a node, by the commands that an operator would use.
    pub fn join(&mut self, host: &Host, machine: &Machine) {
        let data = self.folder.display().to_string();
        let config = self.node_kubeconfig(machine, host.node);
        let root = machine.folder(host.node).display().to_string();
        let name = format!("--hostname-override={}", host.node);
        let kubelet = words(&[
            &format!("--kubeconfig={}", config.display()),
            &name,
            &format!("--node-ip={}", host.address),
            &format!("--root-dir={root}"),
            &format!("--client-ca-file={data}/pki/ca.crt"),
            "--cluster-dns=10.96.0.10",
        ]);
        self.add(host, program!("kubelet"), &kubelet);
        let proxy = words(&[&format!("--kubeconfig={data}/proxy.kubeconfig"), &name]);
        self.add(host, program!("kube-proxy"), &proxy);
        self.nodes.push(root.into());
    }

    fn add(&mut self, host: &Host, program: (&'static str, &'static str), arguments: &[String]) {
        self.programs.push(Program::start_on(host, program, arguments, &self.logs));
    }

    /// A kubeconfig for a node, made by the command that an operator would use.
    fn node_kubeconfig(&self, machine: &Machine, node: &str) -> PathBuf {
        let user = format!("system:node:{node}");
        let data = self.folder.display().to_string();
        let arguments =
            ["kubeconfig", "--data-dir", &data, "--server", &self.url, "--user", &user, "--group", "system:nodes"];
        let output = machine.k8s(&arguments);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let path = machine.folder("node.kubeconfig");
        fs::write(&path, output.stdout).unwrap();
        path
    }

    /// Imports an image on every node by the command that a user would use, as a docker archive.
    pub fn import(&self, machine: &Machine, image: &ImageBuilder) {
        let path = machine.folder("image.tar");
        fs::write(&path, image.docker_archive()).unwrap();
        for node in &self.nodes {
            let (path, node) = (path.display().to_string(), node.display().to_string());
            let output = machine.k8s(&["image", "import", &path, "--data-dir", &node]);
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        fs::remove_file(&path).unwrap();
    }

    /// The administrator's kubeconfig.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.folder.join("admin.kubeconfig")
    }

    fn wait_until_ready(&self) {
        let path = self.admin_kubeconfig();
        eventually("the API server", || if path.exists() { Ok(()) } else { Err(self.log("")) });
        let kubectl = Kubectl::new("1.37", &path);
        kubectl.until(&["get", "--raw", "/readyz"], |said| said == "ok");
    }

    /// What the programs said, for failures.
    pub fn log(&self, name: &str) -> String {
        let files = fs::read_dir(&self.logs).into_iter().flatten().flatten();
        let wanted = files.filter(|file| file.file_name().to_string_lossy().contains(name));
        wanted.map(|file| fs::read_to_string(file.path()).unwrap_or_default()).collect()
    }

    /// Kills a program with SIGKILL.
    pub fn kill_9(&mut self, name: &str) {
        let program = self.programs.iter_mut().find(|program| program.name == name).unwrap();
        kill_process(program.pid(), Signal::KILL).unwrap();
        program.child.wait().unwrap();
    }

    /// Starts a program that was killed again, on the same folder.
    pub fn start_again(&mut self, name: &str) {
        let program = self.programs.iter_mut().find(|program| program.name == name).unwrap();
        program.child = spawn(Command::new(program.path), &program.arguments, &self.logs, program.name);
        self.wait_until_ready();
    }

    /// Interrupts everything, as Ctrl-C does; every program must end well.
    pub fn interrupt(&mut self) {
        while let Some(program) = self.programs.pop() {
            let name = program.name;
            let status = program.interrupt();
            assert!(status.success(), "{name} ended with {status}: {}", self.log(name));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- logs ---\n{}", self.log(""));
        }
        for program in &mut self.programs {
            let _ = program.child.kill();
            let _ = program.child.wait();
        }
        // The node of separate programs keeps a folder of its own inside the server's: inner ones go first.
        self.nodes.iter().rev().chain([&self.folder]).for_each(|root| remove_containers(root));
    }
}

/// Ends whatever containers a test left running, and what they mounted.
fn remove_containers(root: &Path) {
    if !root.exists() {
        return;
    }
    let reset = Command::new(env!("CARGO_BIN_EXE_k8s")).arg("reset").arg("--data-dir").arg(root).arg("--yes").output();
    let said = reset.map_or_else(|why| why.to_string(), |output| String::from_utf8_lossy(&output.stderr).into_owned());
    if !said.is_empty() && !said.contains("holds no cluster") {
        eprintln!("k8s reset of {}: {said}", root.display());
    }
}
