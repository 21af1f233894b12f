//! What a user does with an application: apply, look, change, use, delete.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

use k8s::node::image::archive::{ImageBuilder, Layer};

use super::{
    cluster::Cluster,
    kubectl::{Kubectl, eventually},
};

/// The image's name.
pub const IMAGE: &str = "example.com/web:1";

/// The image: busybox, and a script that serves who it is.
pub fn image() -> ImageBuilder {
    let serve = "#!/bin/sh\n\
        mkdir -p /www\n\
        hostname > /www/index.html\n\
        cp /etc/app/greeting /www/greeting\n\
        echo \"$COLOR\" > /www/color\n\
        echo started on port 8080\n\
        exec httpd -f -p 8080 -h /www\n";
    let program = std::fs::read("/bin/busybox").expect("busybox-static is installed");
    ImageBuilder::busybox(IMAGE, &program)
        .layer(Layer::new().file("/serve.sh", serve.as_bytes(), 0o755))
        .cmd(["/serve.sh"])
}

/// The application, in this namespace.
pub fn manifests(namespace: &str) -> String {
    include_str!("web.yaml").replace("NAMESPACE", namespace).replace("IMAGE", IMAGE)
}

/// The kubelet and the service proxy tell what they do, and that they do it.
pub fn tells_figures(kubectl: &Kubectl, node: &str) {
    let figures = kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/metrics")]);
    let name = format!("kubelet_node_name{{node=\"{node}\"}} 1");
    for promised in [&name, "kubelet_running_pods ", "kubelet_running_containers{container_state=\"running\"} "] {
        assert!(figures.contains(promised), "{promised} is missing: {figures}");
    }
    assert!(
        figures.contains("process_cpu_seconds_total ") && figures.contains("rest_client_requests_total{"),
        "{figures}"
    );
    kubectl.run(&["get", "--raw", &format!("/api/v1/nodes/{node}/proxy/stats/summary")]);
    assert!(plain(10248, "/healthz").ends_with("\r\n\r\nok"));
    [10248, 10256].iter().for_each(|port| assert!(plain(*port, "/metrics").contains(" 404 "), "not for everyone"));
    let figures = plain(10249, "/metrics");
    assert!(figures.contains("kubeproxy_sync_proxy_rules_duration_seconds_count "), "{figures}");
    assert!(plain(10256, "/healthz").ends_with("\r\n\r\nok"));
}

/// What a port of this machine answers without TLS.
fn plain(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// One run of the scenario in a namespace of its own.
pub struct Scenario {
    kubectl: Kubectl,
}

impl Scenario {
    /// The scenario with this `kubectl`.
    pub fn new(kubectl: Kubectl) -> Self {
        Self { kubectl }
    }

    /// Runs it. `label` names the namespace.
    pub fn run(&self, label: &str) {
        let namespace = format!("shop-{}", label.replace('.', "-"));
        self.apply(&namespace);
        self.look(&namespace);
        self.answers_from_everywhere(&namespace);
        self.change(&namespace);
        self.enter(&namespace);
        self.heals(&namespace);
        self.delete(&namespace);
    }

    fn k(&self, namespace: &str, arguments: &[&str]) -> String {
        let mut all = vec!["-n", namespace];
        all.extend(arguments);
        self.kubectl.run(&all)
    }

    fn until(&self, namespace: &str, arguments: &[&str], is_right: impl Fn(&str) -> bool) -> String {
        let mut all = vec!["-n", namespace];
        all.extend(arguments);
        self.kubectl.until(&all, is_right)
    }

    fn apply(&self, namespace: &str) {
        self.kubectl.run_with(
            &["create", "-f", "-"],
            &format!("{{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {{\"name\": {namespace:?}}}}}"),
        );
        let said = self.kubectl.run_with(&["apply", "-f", "-"], &manifests(namespace));
        for line in ["deployment.apps/web created", "service/web created", "configmap/app created"] {
            assert!(said.contains(line), "{said}");
        }
        self.k(namespace, &["rollout", "status", "deployment/web", "--timeout=60s"]);
        let again = self.kubectl.run_with(&["apply", "-f", "-"], &manifests(namespace));
        assert!(again.lines().all(|line| line.ends_with("unchanged")), "applying twice changes nothing: {again}");
        let server_side = self.kubectl.run_with(&["apply", "--server-side", "-f", "-"], &manifests(namespace));
        assert!(server_side.contains("deployment.apps/web serverside-applied"), "{server_side}");
    }

    fn look(&self, namespace: &str) {
        let table = self.k(namespace, &["get", "pods"]);
        let mut lines = table.lines();
        let head: Vec<&str> = lines.next().unwrap().split_whitespace().collect();
        assert_eq!(head, ["NAME", "READY", "STATUS", "RESTARTS", "AGE"]);
        assert_eq!(lines.filter(|line| line.contains("1/1") && line.contains("Running")).count(), 3, "{table}");
        let deployment = self.k(namespace, &["get", "deployment", "web"]);
        assert!(deployment.contains("3/3"), "{deployment}");
        let none = self.k(namespace, &["get", "pods", "-l", "app=other", "-o", "name"]);
        assert_eq!(none, "");
        let named = self
            .k(namespace, &["get", "pods", "-l", "app=web", "--field-selector", "status.phase=Running", "-o", "name"]);
        assert_eq!(named.lines().count(), 3);
        let yaml = self.k(namespace, &["get", "service", "web", "-o", "yaml"]);
        assert!(yaml.contains("clusterIP: ") && yaml.contains("targetPort: http"), "{yaml}");
        let pod = self.a_pod(namespace);
        let described = self.k(namespace, &["describe", "pod", &pod]);
        for words in ["Successfully assigned", "Started", "Limits:", "memory:  64Mi", "ConfigMapName"] {
            let found = described.contains(words) || (words == "ConfigMapName" && described.contains("Name:      app"));
            assert!(found, "describe lacks {words:?}: {described}");
        }
        let described = self.k(namespace, &["describe", "deployment", "web"]);
        assert!(described.contains("Scaled up replica set"), "{described}");
        let described = self.k(namespace, &["describe", "service", "web"]);
        assert!(described.contains("Endpoints:"), "{described}");
    }

    fn a_pod(&self, namespace: &str) -> String {
        let path = "jsonpath={.items[0].metadata.name}";
        self.k(namespace, &["get", "pods", "-l", "app=web", "-o", path])
    }

    fn pods(&self, namespace: &str) -> BTreeSet<String> {
        let path = "jsonpath={.items[*].metadata.name}";
        self.k(namespace, &["get", "pods", "-l", "app=web", "-o", path]).split_whitespace().map(str::to_owned).collect()
    }

    fn cluster_ip(&self, namespace: &str) -> String {
        self.k(namespace, &["get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"])
    }

    fn answers_from_everywhere(&self, namespace: &str) {
        let (address, pods) = (self.cluster_ip(namespace), self.pods(namespace));
        let mut seen: BTreeMap<String, usize> = BTreeMap::new();
        eventually("all three pods answer on the cluster IP from the host", || {
            for _ in 0..30 {
                *seen.entry(http_get(&address, "/")?.trim().to_owned()).or_default() += 1;
            }
            if seen.keys().cloned().collect::<BTreeSet<_>>() == pods { Ok(()) } else { Err(format!("{seen:?}")) }
        });
        let pod = self.a_pod(namespace);
        let ask = format!("for i in $(seq 60); do wget -q -O - http://{address}/; done");
        let said = self.k(namespace, &["exec", &pod, "--", "sh", "-c", &ask]);
        let from_pod: BTreeSet<String> = said.lines().map(str::to_owned).collect();
        assert_eq!(from_pod, pods, "all three answer from a pod too, the asking one included");
        assert_eq!(http_get(&address, "/greeting").unwrap().trim(), "hello from the config map");
        assert_eq!(http_get(&address, "/color").unwrap().trim(), "blue");
        let through = |what: &str| format!("/api/v1/namespaces/{namespace}/{what}/proxy/");
        let said = self.kubectl.run(&["get", "--raw", &through("services/web:80")]);
        assert!(pods.contains(said.trim()), "the API server leads to the service: {said}");
        assert_eq!(self.kubectl.run(&["get", "--raw", &through(&format!("pods/{pod}:8080"))]).trim(), pod);
    }

    fn change(&self, namespace: &str) {
        self.k(namespace, &["scale", "deployment/web", "--replicas=5"]);
        self.until(namespace, &["get", "deployment", "web", "-o", "jsonpath={.status.readyReplicas}"], |said| {
            said == "5"
        });
        let patch = r#"{"spec":{"replicas":3,"template":{"spec":{"containers":[{"name":"web","env":[{"name":"COLOR","value":"green"}]}]}}}}"#;
        self.k(namespace, &["patch", "deployment", "web", "-p", patch]);
        self.k(namespace, &["rollout", "status", "deployment/web", "--timeout=60s"]);
        let address = self.cluster_ip(namespace);
        eventually("the new color", || match http_get(&address, "/color")?.trim() {
            "green" => Ok(()),
            other => Err(other.to_owned()),
        });
        self.k(namespace, &["rollout", "undo", "deployment/web"]);
        self.k(namespace, &["rollout", "status", "deployment/web", "--timeout=60s"]);
        eventually("the old color", || match http_get(&address, "/color")?.trim() {
            "blue" => Ok(()),
            other => Err(other.to_owned()),
        });
        // Pods of the other templates leave in their own time.
        self.until(namespace, &["get", "pods", "-l", "app=web", "-o", "name"], |said| said.lines().count() == 3);
        self.watch(namespace);
    }

    /// `get -w` shows a change that is made while it runs.
    fn watch(&self, namespace: &str) {
        let mut watch = self.kubectl.start(&[
            "-n",
            namespace,
            "get",
            "configmap",
            "app",
            "-w",
            "-o",
            "jsonpath={.data.extra}{\"\\n\"}",
        ]);
        let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "");
        self.k(namespace, &["patch", "configmap", "app", "--type=merge", "-p", r#"{"data":{"extra":"seen"}}"#]);
        assert_eq!(lines.next().unwrap().unwrap(), "seen");
        watch.kill().unwrap();
        watch.wait().unwrap();
    }

    fn enter(&self, namespace: &str) {
        let pod = self.a_pod(namespace);
        let said = self.k(namespace, &["logs", &pod]);
        assert_eq!(said, "started on port 8080\n");
        let mut follow = self.kubectl.start(&["-n", namespace, "logs", "-f", &pod]);
        let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "started on port 8080");
        self.k(namespace, &["exec", &pod, "--", "sh", "-c", "echo more > /proc/1/fd/1"]);
        assert_eq!(lines.next().unwrap().unwrap(), "more", "what is written later is followed");
        follow.kill().unwrap();
        follow.wait().unwrap();
        let failed = self.kubectl.try_run(&["-n", namespace, "exec", &pod, "--", "sh", "-c", "exit 7"]);
        assert_eq!(failed.status.code(), Some(7), "the exit code comes through");
        self.terminal(namespace, &pod);
        self.forward(namespace, &pod);
        // Namespaces of its own: another host name, its own processes; cgroups of its own: its own memory limit.
        assert_eq!(self.k(namespace, &["exec", &pod, "--", "hostname"]).trim(), pod);
        let processes = self.k(namespace, &["exec", &pod, "--", "ls", "/proc"]);
        assert!(processes.lines().filter(|line| line.parse::<u32>().is_ok()).count() < 10, "{processes}");
        self.k(namespace, &["exec", &pod, "--", "sh", "-c", "echo kept > /scratch/file && cat /scratch/file"]);
    }

    fn terminal(&self, namespace: &str, pod: &str) {
        let mut shell = self.kubectl.start_on_terminal(&["-n", namespace, "exec", "-it", pod, "--", "sh"]);
        let mut input = shell.stdin.take().unwrap();
        input.write_all(b"tty && echo $((6 * 7)) && exit 0\n").unwrap();
        let output = shell.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("/dev/pts/") && said.contains("42"), "a terminal answers: {said}");
        drop(input);
    }

    /// A port of this machine leads into the pod, for several connections at a time.
    fn forward(&self, namespace: &str, pod: &str) {
        let mut forward = self.kubectl.start(&["-n", namespace, "port-forward", pod, ":8080"]);
        let mut lines = BufReader::new(forward.stdout.take().unwrap()).lines();
        let said = lines.next().unwrap().unwrap();
        let address = said.strip_prefix("Forwarding from ").and_then(|said| said.split(" -> ").next());
        let address = address.unwrap_or_else(|| panic!("kubectl port-forward said {said:?}"));
        let idle = TcpStream::connect(address).unwrap();
        for _ in 0..3 {
            assert_eq!(ask(address, "/").unwrap().trim(), pod);
        }
        drop(idle);
        forward.kill().unwrap();
        forward.wait().unwrap();
    }

    fn heals(&self, namespace: &str) {
        let pod = self.a_pod(namespace);
        // Signals from inside do not reach a container's first process unless it handles them: the host's do.
        let host_pid = first_process_of(&pod);
        rustix::process::kill_process(host_pid, rustix::process::Signal::KILL).unwrap();
        let path = "jsonpath={.status.containerStatuses[0].restartCount}/{.status.containerStatuses[0].ready}";
        self.until(namespace, &["get", "pod", &pod, "-o", path], |said| said == "1/true");
        let before = self.pods(namespace);
        self.k(namespace, &["delete", "pod", &pod]);
        self.k(namespace, &["rollout", "status", "deployment/web", "--timeout=60s"]);
        let after = self.pods(namespace);
        assert!(
            !after.contains(&pod) && after.len() == 3 && after.intersection(&before).count() == 2,
            "{before:?} {after:?}"
        );
    }

    fn delete(&self, namespace: &str) {
        let address = self.cluster_ip(namespace);
        self.kubectl.run_with(&["delete", "-f", "-", "--wait=true"], &manifests(namespace));
        self.until(namespace, &["get", "pods,replicasets,endpointslices", "-o", "name"], |said| said.is_empty());
        assert!(http_get(&address, "/").is_err(), "nothing answers any more");
        self.kubectl.run(&["delete", "namespace", namespace, "--timeout=60s"]);
        let gone = self.kubectl.try_run(&["get", "namespace", namespace]);
        assert!(String::from_utf8_lossy(&gone.stderr).contains("NotFound"));
    }
}

/// `kill -9` of the program and a new start lose no object and touch no container.
pub fn survives_kill_9(cluster: &mut Cluster, kubectl: &Kubectl) {
    let namespace = "lasting";
    kubectl.run_with(
        &["create", "-f", "-"],
        "{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {\"name\": \"lasting\"}}",
    );
    kubectl.run_with(&["apply", "-f", "-"], &manifests(namespace));
    kubectl.run(&["-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s"]);
    let state = |kubectl: &Kubectl| {
        let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.podIP}{\"\\n\"}{end}";
        kubectl.run(&["-n", namespace, "get", "pods", "-o", path])
    };
    let (before, processes) = (state(kubectl), container_processes());
    assert_eq!(before.lines().count(), 3);
    cluster.kill_9("k8s");
    cluster.start_again("k8s");
    kubectl.until(
        &["get", "nodes", "-o", "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}"],
        |said| said == "True",
    );
    kubectl.run(&["-n", namespace, "rollout", "status", "deployment/web", "--timeout=60s"]);
    assert_eq!(state(kubectl), before, "no object is lost and no container is restarted");
    assert!(processes.is_subset(&container_processes()), "the same processes run on");
    let address = kubectl.run(&["-n", namespace, "get", "service", "web", "-o", "jsonpath={.spec.clusterIP}"]);
    eventually("the service still answers", || http_get(&address, "/"));
    // The program still manages what it found: a deletion reaches the old containers.
    kubectl.run(&["delete", "namespace", namespace, "--timeout=60s"]);
    eventually("the containers are gone", || {
        let left: Vec<i32> = processes.intersection(&container_processes()).copied().collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?} still run")) }
    });
}

/// Asks an address on port 80.
fn http_get(address: &str, path: &str) -> Result<String, String> {
    ask(&format!("{address}:80"), path)
}

/// Plain HTTP, one request per connection, so that each is balanced anew.
pub fn ask(address: &str, path: &str) -> Result<String, String> {
    let text = |error: std::io::Error| format!("GET {address}{path}: {error}");
    let socket = address.parse().map_err(|_| format!("{address:?} is no address"))?;
    let mut stream = TcpStream::connect_timeout(&socket, Duration::from_secs(2)).map_err(text)?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).map_err(text)?;
    stream.write_all(format!("GET {path} HTTP/1.0\r\nHost: web\r\n\r\n").as_bytes()).map_err(text)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(text)?;
    match answer.split_once("\r\n\r\n") {
        Some((head, body)) if head.contains(" 200 ") => Ok(body.to_owned()),
        _ => Err(format!("GET {address}{path}: {answer:?}")),
    }
}

/// The host's pids of the web servers that run in containers.
pub fn container_processes() -> BTreeSet<i32> {
    let pids =
        std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_web = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).replace('\0', " ").starts_with("httpd -f -p 8080")
    };
    pids.filter(is_web).collect()
}

/// The host's pid of the first process of a pod's container, found by the pod's host name.
fn first_process_of(pod: &str) -> rustix::process::Pid {
    let name = |pid: i32| {
        // The environment names the pod whatever namespaces there are.
        let text = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        String::from_utf8_lossy(&text).split('\0').any(|variable| variable == format!("HOSTNAME={pod}"))
    };
    let pid = container_processes().into_iter().find(|pid| name(*pid)).expect("the pod's process runs");
    rustix::process::Pid::from_raw(pid).unwrap()
}
