//! The native runtime with real containers. Needs root, as the runtime does.
#![allow(clippy::disallowed_methods, reason = "tests run on the system's clock")]

mod support;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use k8s_node::{
    image::archive::ImageBuilder,
    native::Native,
    runtime::{
        contract::{self, Behaviour, Fixture},
        *,
    },
};
use support::*;

struct Subject {
    node: Node,
    runtime: Option<Arc<Native>>,
}

#[async_trait]
impl Fixture for Subject {
    fn runtime(&self) -> Arc<dyn PodRuntime> {
        Arc::clone(self.runtime.as_ref().unwrap()) as Arc<dyn PodRuntime>
    }

    async fn restart(&mut self) {
        self.runtime = None;
        self.node.open();
        self.runtime = self.node.runtime.take().map(Arc::new);
    }

    fn container(&self, behaviour: Behaviour) -> ContainerSpec {
        let command = match behaviour {
            Behaviour::Stay => vec!["sleep".to_owned(), "1000".to_owned()],
            Behaviour::Exit(code) => ["sh", "-c", &format!("exit {code}")].map(str::to_owned).into(),
            Behaviour::CannotStart => vec!["no-such-program".to_owned()],
        };
        ContainerSpec { name: "main".to_owned(), image: IMAGE.to_owned(), command, ..ContainerSpec::default() }
    }
}

#[tokio::test]
async fn it_keeps_the_contract() {
    let mut node = Node::start().await;
    let runtime = node.runtime.take().map(Arc::new);
    let mut subject = Subject { node, runtime };
    within(contract::all(&mut subject)).await;
    subject.restart().await;
    subject.node.runtime = subject.runtime.and_then(Arc::into_inner);
    subject.node.finish().await;
}

#[tokio::test]
async fn a_container_runs_and_its_end_is_known() {
    let node = Node::start().await;
    node.sandbox().await;
    let exit = node.run(node.script("c1", "echo hi; echo bad >&2; exit 3")).await;
    assert_eq!((exit.code, exit.reason.as_str(), exit.signal), (3, "Error", None));
    assert!(exit.started_at <= exit.finished_at);
    let text = std::fs::read_to_string(node.log_path("c1")).unwrap();
    let words: Vec<_> = text.lines().map(|line| line.split_once(' ').unwrap().1).collect();
    assert!(words.contains(&"stdout F hi") && words.contains(&"stderr F bad"), "{text}");
    node.finish().await;
}

#[tokio::test]
async fn the_program_finds_itself_at_home() {
    let node = Node::start().await;
    node.sandbox().await;
    let script = "hostname; pwd; id -u; id -g; id -G; echo $HOME; echo $A-$B; echo $HOSTNAME; cat /etc/resolv.conf; \
        cat /etc/hostname; echo $$; ls /proc | grep -c '^[0-9]'; cat /sys/class/net/lo/operstate";
    let spec = ContainerSpec {
        env: [("A", "1"), ("B", "old"), ("B", "2")].map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        working_dir: Some("/work/here".to_owned()),
        user: User { uid: Some(1000), supplemental_groups: vec![77], ..User::default() },
        ..node.script("c1", script)
    };
    assert_eq!(node.run(spec).await.code, 0);
    let expected = "web-0\n/work/here\n1000\n1000\n1000 77 2000\n/tmp\n1-2\nweb-0\nnameserver 10.96.0.10\nweb-0\n1\n";
    let log = node.log("c1");
    assert!(log.starts_with(expected), "{log}");
    assert_eq!(status(node.runtime(), "c1").await.user, Some((1000, 1000, vec![1000, 2000, 77])));
    node.finish().await;
}

#[tokio::test]
async fn the_image_says_what_the_pod_does_not() {
    let node = Node::start().await;
    node.sandbox().await;
    let program = std::fs::read("/bin/busybox").unwrap();
    let image = ImageBuilder::busybox("full", &program).user("app").working_dir("/tmp").env("FROM", "image");
    node.import(&image.entrypoint(["sh", "-c"]).cmd(["id -un; pwd; echo $FROM"]).stop_signal("SIGUSR1")).await;
    let spec = ContainerSpec { image: "full".to_owned(), command: Vec::new(), ..node.script("c1", "") };
    assert_eq!(node.run(spec).await.code, 0);
    assert_eq!(node.log("c1"), "app\n/tmp\nimage\n");
    let args = vec!["trap 'echo usr1; exit 5' USR1; echo ready; while :; do sleep 0.01; done".to_owned()];
    let spec = ContainerSpec { image: "full".to_owned(), command: Vec::new(), args, ..node.script("c2", "") };
    node.begin(spec).await;
    wait_for_log(&node, "c2", "ready").await;
    node.runtime().stop_container("c2", Duration::from_secs(20), None).await.unwrap();
    assert_eq!(node.exit("c2").await.code, 5);
    node.finish().await;
}

/// Follows the log until the text is there.
async fn wait_for_log(node: &Node, id: &str, text: &str) {
    use futures::StreamExt;
    let options = LogOptions { follow: true, ..LogOptions::default() };
    let mut log = node.runtime().logs().unwrap().read(id, options).await.unwrap();
    let mut seen = String::new();
    while !seen.contains(text) {
        let chunk = within(log.next()).await.expect("the log goes on").unwrap();
        seen.push_str(std::str::from_utf8(&chunk).unwrap());
    }
}

#[tokio::test]
async fn what_cannot_start_says_why() {
    let node = Node::start().await;
    node.sandbox().await;
    let base = |id: &str| node.script(id, "true");
    let command = |id: &str, word: &str| ContainerSpec { command: vec![word.to_owned()], ..base(id) };
    let cases = [
        (command("a", "foo"), "exec: \"foo\": executable file not found in $PATH", "RunContainerError"),
        (command("b", "/foo"), "exec: \"/foo\": stat /foo: no such file or directory", "RunContainerError"),
        (command("c", "/etc"), "exec: \"/etc\": is a directory", "RunContainerError"),
        (command("d", "/etc/passwd"), "exec: \"/etc/passwd\": permission denied", "RunContainerError"),
        (
            ContainerSpec { mounts: vec![mount("/no/such", "/x")], ..base("e") },
            "mount /no/such at /x: No such file or directory (os error 2)",
            "CreateContainerError",
        ),
    ];
    for (spec, message, reason) in cases {
        let id = spec.id.clone();
        node.runtime().create_container("pod", spec).await.unwrap();
        let error = node.runtime().start_container(&id).await.unwrap_err();
        assert_eq!((error.to_string().as_str(), error.reason()), (message, reason));
        let exit = node.exit(&id).await;
        assert_eq!((exit.code, exit.message.as_str()), (128, message));
    }
    let mut spec = base("f");
    spec.security.add_capabilities = vec!["FLY".to_owned()];
    let error = node.runtime().create_container("pod", spec).await.unwrap_err();
    assert_eq!(
        (error.to_string().as_str(), error.reason()),
        ("unknown capability \"FLY\" to add", "CreateContainerConfigError")
    );
    let image = ImageBuilder::busybox("ghostly", &std::fs::read("/bin/busybox").unwrap()).user("ghost");
    node.import(&image).await;
    let spec = ContainerSpec { image: "ghostly".to_owned(), ..base("g") };
    node.runtime().create_container("pod", spec).await.unwrap();
    let error = node.runtime().start_container("g").await.unwrap_err().to_string();
    assert_eq!(error, "unable to find user ghost: no matching entries in passwd file");
    let empty = ImageBuilder::new("empty").layer(k8s_node::image::archive::Layer::new().folder("/x", 0o755));
    node.import(&empty).await;
    let spec = ContainerSpec { image: "empty".to_owned(), command: Vec::new(), ..base("h") };
    let error = node.runtime().create_container("pod", spec).await.unwrap_err();
    assert_eq!(error.to_string(), "no command specified");
    node.finish().await;
}

fn mount(host: &str, inside: &str) -> Mount {
    let propagation = Propagation::Private;
    Mount { host_path: host.into(), container_path: inside.into(), read_only: false, propagation }
}

#[tokio::test]
async fn too_much_memory_is_an_oom_kill() {
    let node = Node::start().await;
    node.sandbox().await;
    let mut spec = node.script("c1", "head -c 200000000 /dev/zero | tail");
    spec.resources.memory_limit_bytes = Some(20 << 20);
    let exit = node.run(spec).await;
    assert_eq!((exit.code, exit.reason.as_str()), (137, "OOMKilled"));
    node.finish().await;
}

#[tokio::test]
async fn limits_are_set_and_can_change() {
    let node = Node::start().await;
    node.sandbox().await;
    let read = "cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/cpu/cpu.shares \
        /sys/fs/cgroup/cpu/cpu.cfs_quota_us /sys/fs/cgroup/pids/pids.max 2>/dev/null || \
        cat /sys/fs/cgroup/memory.max /sys/fs/cgroup/pids.max";
    let mut spec = node.script("c1", &format!("{read}; read x; {read}"));
    spec.stdin = true;
    spec.stdin_once = true;
    spec.resources = Resources {
        memory_limit_bytes: Some(64 << 20),
        cpu_shares: Some(512),
        cpu_quota_us: Some(50_000),
        pids_limit: Some(20),
        ..Resources::default()
    };
    node.begin(spec).await;
    wait_for_log(&node, "c1", "20\n").await;
    let change = Resources { memory_limit_bytes: Some(128 << 20), ..Resources::default() };
    node.runtime().update_resources("c1", change).await.unwrap();
    let stats = node.runtime().stats().unwrap().container("c1").await.unwrap();
    assert!(stats.memory_usage_bytes > 0 && stats.cpu_usage_ns > 0 && stats.pids >= 1, "{stats:?}");
    let pod = node.runtime().stats().unwrap().sandbox("pod").await.unwrap();
    assert!(pod.usage.memory_usage_bytes >= stats.memory_working_set_bytes, "{pod:?}");
    let spec = AttachSpec { container: "c1".to_owned(), stdin: true, ..AttachSpec::default() };
    let session = node.runtime().attach().unwrap().attach(spec).await.unwrap();
    drop(session);
    assert_eq!(node.exit("c1").await.code, 0);
    let log = node.log("c1");
    assert!(
        log.starts_with("67108864\n512\n50000\n20\n134217728\n") || log.starts_with("67108864\n20\n134217728\n"),
        "{log}"
    );
    assert_eq!(status(node.runtime(), "c1").await.resources.memory_limit_bytes, Some(128 << 20));
    node.finish().await;
}

#[tokio::test]
async fn containers_outlive_the_agent() {
    let mut node = Node::start().await;
    node.sandbox().await;
    node.begin(node.script("runs", "trap 'exit 6' TERM; echo ready; while :; do sleep 0.01; done")).await;
    wait_for_log(&node, "runs", "ready").await;
    let flag = node.folder.path().join("shared");
    std::fs::create_dir(&flag).unwrap();
    let spec = ContainerSpec {
        mounts: vec![mount(flag.to_str().unwrap(), "/shared")],
        ..node.script("ends", "while [ ! -e /shared/go ]; do sleep 0.01; done; exit 42")
    };
    node.begin(spec).await;
    node.begin(node.script("lost", "sleep 1000")).await;
    let before = node.runtime().observe().await.unwrap();
    node.runtime = None;
    std::fs::write(flag.join("go"), "").unwrap();
    let folder = node.root().join("containers");
    // The shim of one ends by itself, that of another is killed.
    let shim = |id: &str| -> i32 {
        let record: serde_json::Value =
            serde_json::from_slice(&std::fs::read(folder.join(id).join("shim.json")).unwrap()).unwrap();
        record["pid"].as_i64().unwrap() as i32
    };
    let exits = rustix::process::pidfd_open(
        rustix::process::Pid::from_raw(shim("ends")).unwrap(),
        rustix::process::PidfdFlags::empty(),
    )
    .unwrap();
    rustix::event::poll(&mut [rustix::event::PollFd::new(&exits, rustix::event::PollFlags::IN)], None).unwrap();
    rustix::process::kill_process(rustix::process::Pid::from_raw(shim("lost")).unwrap(), rustix::process::Signal::KILL)
        .unwrap();
    node.open();
    assert_eq!(node.exit("ends").await.code, 42);
    let lost = node.exit("lost").await;
    assert_eq!((lost.code, lost.reason.as_str()), (255, "ContainerStatusUnknown"));
    assert_eq!(status(node.runtime(), "runs").await, *before.container("runs").unwrap());
    node.runtime().stop_container("runs", Duration::from_secs(20), None).await.unwrap();
    assert_eq!(node.exit("runs").await.code, 6);
    node.finish().await;
}

#[tokio::test]
async fn grace_is_given_and_then_no_more() {
    let node = Node::start().await;
    node.sandbox().await;
    node.begin(node.script("deaf", "trap '' TERM; echo ready; while :; do sleep 1; done")).await;
    wait_for_log(&node, "deaf", "ready").await;
    let begin = std::time::Instant::now();
    node.runtime().stop_container("deaf", Duration::from_millis(300), None).await.unwrap();
    assert!((300..5000).contains(&begin.elapsed().as_millis()), "{:?}", begin.elapsed());
    let exit = node.exit("deaf").await;
    assert_eq!((exit.code, exit.signal), (137, Some(9)));
    node.finish().await;
}

#[tokio::test]
async fn pods_share_their_network_and_memory_and_nothing_else() {
    let node = Node::start().await;
    let started = node.runtime().start_sandbox(pod()).await.unwrap();
    let netns = std::fs::metadata(started.netns.unwrap()).unwrap();
    let look = "readlink /proc/self/ns/net; readlink /proc/self/ns/ipc";
    for (id, more) in [("a", "echo x > /dev/shm/file; echo y > /own"), ("b", "cat /dev/shm/file; ls /own || true")] {
        assert_eq!(node.run(node.script(id, &format!("{look}; {more}"))).await.code, 0);
    }
    let (a, b) = (node.log("a"), node.log("b"));
    let (a, b): (Vec<_>, Vec<_>) = (a.lines().collect(), b.lines().collect());
    use std::os::unix::fs::MetadataExt;
    assert_eq!(a[0], format!("net:[{}]", netns.ino()));
    assert_eq!(a[..2], b[..2]);
    assert_eq!(b[2], "x");
    assert!(b[3].contains("No such file"), "{b:?}");
    node.finish().await;
}

#[tokio::test]
async fn processes_can_be_shared_in_the_pod_or_with_the_machine() {
    let node = Node::start().await;
    for (id, pid) in [("own", PidMode::Container), ("pod", PidMode::Pod), ("host", PidMode::Host)] {
        node.runtime().start_sandbox(SandboxSpec { id: id.to_owned(), pid, ..pod() }).await.unwrap();
        for (name, script) in [("first", "sleep 1000"), ("second", "ps -o comm | grep -c sleep; echo $$")] {
            let spec = node.script(&format!("{id}-{name}"), script);
            let id = spec.id.clone();
            node.runtime().create_container(pid_sandbox(&id), spec).await.unwrap();
            node.runtime().start_container(&id).await.unwrap();
        }
        node.exit(&format!("{id}-second")).await;
    }
    assert_eq!(node.log("own-second"), "0\n1\n");
    assert!(node.log("pod-second").starts_with("1\n") && !node.log("pod-second").ends_with("\n1\n"));
    assert!(!node.log("host-second").starts_with("0\n"));
    let sandbox = node.runtime().observe().await.unwrap();
    assert!(sandbox.sandboxes.iter().all(|sandbox| sandbox.state == SandboxState::Ready));
    node.finish().await;
}

fn pid_sandbox(container: &str) -> &str {
    container.split('-').next().unwrap()
}

#[tokio::test]
async fn mounts_appear_as_asked() {
    let node = Node::start().await;
    node.sandbox().await;
    let data = node.folder.path().join("data");
    std::fs::create_dir(&data).unwrap();
    std::fs::write(data.join("file"), "content\n").unwrap();
    let (folder, file) = (data.to_str().unwrap(), data.join("file"));
    let script = "cat /in/file; echo new > /in/new; echo no > /ro/no || echo refused; cat /deep/er/file; \
        echo message > /dev/termination-log; touch /x || echo root refused";
    let message = node.folder.path().join("message");
    std::fs::write(&message, "").unwrap();
    let mut spec = node.script("c1", script);
    spec.mounts = vec![
        mount(folder, "/in"),
        Mount { read_only: true, ..mount(folder, "/ro") },
        mount(file.to_str().unwrap(), "/deep/er/file"),
        mount(message.to_str().unwrap(), "/dev/termination-log"),
    ];
    spec.security.read_only_rootfs = true;
    assert_eq!(node.run(spec).await.code, 0);
    let log = node.log("c1");
    let words: Vec<&str> = log.lines().filter(|line| !line.contains("Read-only file system")).collect();
    assert_eq!(words, ["content", "refused", "content", "root refused"]);
    assert_eq!(std::fs::read_to_string(data.join("new")).unwrap(), "new\n");
    assert_eq!(std::fs::read_to_string(message).unwrap(), "message\n");
    node.finish().await;
}

#[tokio::test]
async fn confinement_is_as_asked() {
    let node = Node::start().await;
    node.sandbox().await;
    let look = "grep -E 'CapBnd|CapEff|NoNewPrivs|Seccomp:' /proc/self/status | tr -d '\\t '; \
        cat /proc/kcore | wc -c; echo 1 > /proc/sys/kernel/panic || echo protected; \
        unshare -m true && echo may unshare; mknod /tmp/sda b 7 0; cat /tmp/sda | wc -c";
    assert_eq!(node.run(node.script("plain", look)).await.code, 0);
    let plain = node.log("plain");
    assert!(plain.contains("CapEff:00000000a80425fb\nCapBnd:00000000a80425fb\nNoNewPrivs:0\nSeccomp:0\n"), "{plain}");
    assert!(plain.contains("protected"), "{plain}");
    assert!(!plain.contains("may unshare"), "{plain}");
    assert!(plain.contains("can't open '/tmp/sda': Operation not permitted"), "{plain}");

    let mut spec = node.script("strict", look);
    spec.user.uid = Some(1000);
    spec.security.no_new_privileges = true;
    spec.security.seccomp = Seccomp::RuntimeDefault;
    spec.security.drop_capabilities = vec!["ALL".to_owned()];
    spec.security.add_capabilities = vec!["NET_BIND_SERVICE".to_owned()];
    node.run(spec).await;
    let strict = node.log("strict");
    assert!(strict.contains("CapEff:0000000000000000\nCapBnd:0000000000000400\nNoNewPrivs:1\nSeccomp:2\n"), "{strict}");

    let mut spec = node.script("free", &format!("{look}; ls /dev | wc -l"));
    spec.security.privileged = true;
    node.run(spec).await;
    let free = node.log("free");
    assert!(free.contains("may unshare") && !free.contains("protected"), "{free}");
    node.finish().await;
}

#[tokio::test]
async fn hosts_network_is_the_machines() {
    let node = Node::start().await;
    let spec = SandboxSpec { network: NetworkMode::Host, ..pod() };
    assert_eq!(node.runtime().start_sandbox(spec).await.unwrap().netns, None);
    node.run(node.script("c1", "readlink /proc/self/ns/net; hostname")).await;
    let own = std::fs::read_link("/proc/self/ns/net").unwrap().display().to_string();
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
    assert_eq!(node.log("c1"), format!("{own}\n{hostname}"));
    node.finish().await;
}

#[tokio::test]
async fn removed_images_keep_running() {
    let node = Node::start().await;
    node.sandbox().await;
    node.begin(node.script("c1", "sleep 1000")).await;
    node.runtime().remove_image(IMAGE).await.unwrap();
    assert_eq!(node.runtime().images().await.unwrap(), []);
    let exec = ExecSpec { container: "c1".to_owned(), command: vec!["true".to_owned()], ..ExecSpec::default() };
    let session = node.runtime().exec().unwrap().exec(exec).await.unwrap();
    assert_eq!(within(session.exit).await, Ok(0));
    node.finish().await;
}

#[tokio::test]
async fn mounts_pass_the_border_only_where_allowed() {
    use nix::mount::{MntFlags, MsFlags, mount as mount_here, umount2};
    let node = Node::start().await;
    node.sandbox().await;
    let none = None::<&str>;
    let border = node.folder.path().join("border");
    std::fs::create_dir(&border).unwrap();
    mount_here(Some("tmpfs"), &border, Some("tmpfs"), MsFlags::empty(), none).unwrap();
    mount_here(none, &border, none, MsFlags::MS_SHARED, none).unwrap();
    for inner in ["in", "out", "private"] {
        std::fs::create_dir(border.join(inner)).unwrap();
    }
    let at = |path: &str, propagation| Mount { propagation, ..mount(border.to_str().unwrap(), path) };
    let script = "mount -t tmpfs x /both/out; mount -t tmpfs x /slave/private; touch /both/out/mounted; echo ready; \
        while [ ! -e /slave/in/file ]; do sleep 0.01; done; ls /none/in | wc -l";
    let mut spec = node.script("c1", script);
    spec.mounts = vec![
        at("/both", Propagation::Bidirectional),
        at("/slave", Propagation::HostToContainer),
        at("/none", Propagation::Private),
    ];
    let error = node.runtime().create_container("pod", spec.clone()).await.unwrap_err();
    assert_eq!(error.reason(), "CreateContainerConfigError");
    spec.security.privileged = true;
    node.begin(spec).await;
    wait_for_log(&node, "c1", "ready").await;
    assert!(border.join("out/mounted").exists(), "a bidirectional mount is seen on the machine");
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    assert!(!mounts.contains("border/private"), "a one-way mount is not");
    mount_here(Some("tmpfs"), &border.join("in"), Some("tmpfs"), MsFlags::empty(), none).unwrap();
    std::fs::write(border.join("in/file"), "").unwrap();
    assert_eq!(node.exit("c1").await.code, 0);
    assert_eq!(node.log("c1"), "ready\n0\n");
    umount2(&border.join("in"), MntFlags::MNT_DETACH).unwrap();
    umount2(&border.join("out"), MntFlags::MNT_DETACH).unwrap();
    umount2(&border, MntFlags::MNT_DETACH).unwrap();
    node.finish().await;
}

#[tokio::test]
async fn many_pods_come_and_go_at_once() {
    let node = Node::start().await;
    let pods = (0..12).map(|number| {
        let node = &node;
        async move {
            let (sandbox, id) = (format!("pod{number}"), format!("c{number}"));
            let spec = SandboxSpec { id: sandbox.clone(), cgroup_parent: format!("burstable/{sandbox}"), ..pod() };
            node.runtime().start_sandbox(spec).await.unwrap();
            let spec = node.script(&id, &format!("exit {number}"));
            node.runtime().create_container(&sandbox, spec).await.unwrap();
            node.runtime().start_container(&id).await.unwrap();
            assert_eq!(node.exit(&id).await.code, number);
            node.runtime().remove_sandbox(&sandbox).await.unwrap();
        }
    });
    within(futures::future::join_all(pods)).await;
    assert_eq!(node.runtime().observe().await.unwrap(), Observation::default());
    node.finish().await;
}

#[tokio::test]
async fn two_agents_cannot_share_a_folder() {
    let mut node = Node::start().await;
    let first = node.runtime.take();
    let error = node.try_open().map(|_| ()).unwrap_err().to_string();
    assert!(error.ends_with("another node agent uses this folder"), "{error}");
    node.runtime = first;
    node.finish().await;
}

#[tokio::test]
async fn a_container_cannot_write_to_the_shim() {
    let node = Node::start().await;
    node.sandbox().await;
    // Among the machine's processes the shim can be seen.
    let spec = SandboxSpec { id: "host".to_owned(), pid: PidMode::Host, ..pod() };
    node.runtime().start_sandbox(spec).await.unwrap();
    let script = "tr '\\0' ' ' < /proc/$PPID/cmdline; touch /proc/$PPID/exe || echo refused";
    let mut spec = node.script("c1", script);
    spec.security.privileged = true;
    node.runtime().create_container("host", spec).await.unwrap();
    node.runtime().start_container("c1").await.unwrap();
    node.exit("c1").await;
    let log = node.log("c1");
    assert!(log.contains("k8s-shim") && log.contains("refused\n"), "{log}");
    assert!(log.contains("Read-only file system"), "{log}");
    node.finish().await;
}

#[tokio::test]
async fn a_pod_sets_only_what_is_its_own() {
    let node = Node::start().await;
    let with = |name: &str, value: &str| SandboxSpec { sysctls: [(name.to_owned(), value.to_owned())].into(), ..pod() };
    for name in ["kernel.core_pattern", "vm.swappiness", "net.ipv4.../../kernel/panic"] {
        let error = node.runtime().start_sandbox(with(name, "1")).await.unwrap_err();
        assert_eq!(error.to_string(), format!("sysctl {name:?} is not in a separate kernel namespace"));
    }
    node.runtime().start_sandbox(with("net.ipv4.ip_unprivileged_port_start", "99")).await.unwrap();
    node.run(node.script("c1", "cat /proc/sys/net/ipv4/ip_unprivileged_port_start")).await;
    assert_eq!(node.log("c1"), "99\n");
    node.finish().await;
}

#[tokio::test]
async fn a_replaced_sandbox_does_not_take_the_new_one_along() {
    let node = Node::start().await;
    let spec = |id: &str| SandboxSpec { id: id.to_owned(), cgroup_parent: "pod-u1".to_owned(), ..pod() };
    node.runtime().start_sandbox(spec("old")).await.unwrap();
    node.runtime().start_sandbox(spec("pod")).await.unwrap();
    node.begin(node.script("tasks", "sleep 1000")).await;
    node.runtime().remove_sandbox("old").await.unwrap();
    assert!(matches!(status(node.runtime(), "tasks").await.state, ContainerState::Running { .. }));
    let exec = ExecSpec { container: "tasks".to_owned(), command: vec!["true".to_owned()], ..ExecSpec::default() };
    let session = node.runtime().exec().unwrap().exec(exec).await.unwrap();
    assert_eq!(within(session.exit).await, Ok(0));
    node.finish().await;
}

#[tokio::test]
async fn devices_and_processors_are_those_given() {
    use nix::sys::stat::{Mode, SFlag, makedev, mknod};
    let node = Node::start().await;
    node.sandbox().await;
    let loop_device = node.folder.path().join("loop");
    mknod(&loop_device, SFlag::S_IFBLK, Mode::from_bits_truncate(0o600), makedev(7, 0)).unwrap();
    let look = "grep Cpus_allowed_list /proc/self/status; cat /dev/given; ls -l /dev/given; readlink -f /dev/stdin";
    let mut spec = node.script("c1", look);
    spec.resources.cpuset_cpus = Some("0".to_owned());
    spec.resources.oom_score_adj = Some(500);
    let (container_path, permissions) = ("/dev/given".into(), "r".to_owned());
    spec.devices = vec![Device { host_path: loop_device, container_path, permissions }];
    assert_eq!(node.run(spec).await.code, 0);
    let log = node.log("c1");
    assert!(log.contains("Cpus_allowed_list:\t0\n") && log.contains("brw-------"), "{log}");
    assert!(!log.contains("not permitted"), "{log}");
    let mut spec = node.script("c2", "cat /proc/self/oom_score_adj");
    spec.resources.oom_score_adj = Some(500);
    node.run(spec).await;
    assert_eq!(node.log("c2"), "500\n");
    let mut spec = node.script("c3", "true");
    spec.devices =
        vec![Device { host_path: "/etc/passwd".into(), container_path: "/dev/x".into(), permissions: "r".into() }];
    node.runtime().create_container("pod", spec).await.unwrap();
    let error = node.runtime().start_container("c3").await.unwrap_err();
    assert_eq!(error.to_string(), "offer devices: /etc/passwd is not a device");
    node.finish().await;
}
