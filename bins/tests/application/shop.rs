//! The shop: what its owners do to it, while its customers keep asking.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use super::{
    cluster::Cluster,
    images,
    kubectl::{Kubectl, eventually},
    load::{Load, request},
};

const NAMESPACE: &str = "shop";
/// How long nothing but containers runs.
const DOWN: Duration = Duration::from_secs(2);
/// The label of the front end's pods.
const WEB: &str = "app.kubernetes.io/name=web";
const LEADER: &str = "app.kubernetes.io/component=leader";

/// The front end's versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    Old,
    New,
}

impl Version {
    fn name(self) -> &'static str {
        match self {
            Self::Old => "1",
            Self::New => "2",
        }
    }
}

/// The application, running.
pub struct Shop {
    kubectl: Kubectl,
    /// The service by its cluster IP and by its port on the node.
    doors: [SocketAddr; 2],
}

impl Shop {
    /// Applies the manifests, and waits until all of them run.
    pub fn open(kubectl: Kubectl) -> Self {
        let nodes = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
        kubectl.until(&["get", "nodes", "-o", nodes], |said| said == "True True");
        let manifests = include_str!("shop.yaml")
            .replace("REDIS_IMAGE", images::REDIS)
            .replace("WEB_IMAGE", &images::web(Version::Old.name()));
        let said = kubectl.run_with(&["apply", "-f", "-"], &manifests);
        assert_eq!(said.lines().filter(|line| line.ends_with(" created")).count(), 11, "{said}");
        for name in ["redis-leader", "redis-follower", "web"] {
            kubectl.run(&["-n", NAMESPACE, "rollout", "status", &format!("deployment/{name}"), "--timeout=60s"]);
        }
        let again = kubectl.run_with(&["apply", "-f", "-"], &manifests);
        // What kubectl always sends again, whatever the server: `stringData`, and the selector of a budget.
        let changed: Vec<&str> = again.lines().filter(|line| !line.ends_with(" unchanged")).collect();
        assert_eq!(changed, ["secret/redis configured", "poddisruptionbudget.policy/web configured"]);
        let doors = doors(&kubectl);
        Self { kubectl, doors }
    }

    /// Writes go through the leader, reads come from the followers, by either door.
    pub fn is_used(&self) {
        for door in self.doors {
            self.keeps("apples", &format!("green, from {door}"));
            assert_eq!(request(door, "GET", "/greeting", "").unwrap(), (200, "welcome".to_owned()));
            assert_eq!(request(door, "GET", "/items/pears", "").unwrap().0, 404);
        }
        let follower = self.k(&["get", "pods", "-l", "app.kubernetes.io/component=follower", "-o", "name"]);
        for pod in follower.lines() {
            let said = self.k(&["exec", pod, "--", "redis-cli", "get", "apples"]);
            assert!(said.contains("green"), "{pod} has what the leader has: {said}");
            let said = self.k(&["exec", pod, "--", "redis-cli", "set", "apples", "red"]);
            assert!(said.contains("READONLY"), "followers do not take orders: {said}");
        }
    }

    /// The front end is scaled up and down.
    pub fn grows_and_shrinks(&self) {
        Load::during("scaling", &self.doors, || {
            for replicas in ["5", "2", "3"] {
                self.k(&["scale", "deployment/web", "--replicas", replicas]);
                self.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
                self.until_there_are(replicas.parse().unwrap());
            }
        });
    }

    /// A new version takes the place of the old one, and is taken back.
    pub fn gets_a_new_version_and_the_old_one_back(&self) {
        let image = format!("web={}", images::web(Version::New.name()));
        let tally = Load::during("a new version", &self.doors, || {
            self.k(&["set", "image", "deployment/web", &image]);
            self.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
            // A rollout counts as done when the last old pod begins to leave; while it leaves it may still answer.
            self.until_there_are(3);
            self.runs(Version::New);
        });
        assert!(tally.answered.keys().eq(["1", "2"]), "customers saw both: {tally:?}");
        let tally = Load::during("the old version again", &self.doors, || {
            self.k(&["rollout", "undo", "deployment/web"]);
            self.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
            // A rollout counts as done when the last old pod begins to leave; while it leaves it may still answer.
            self.until_there_are(3);
            self.runs(Version::Old);
        });
        assert!(tally.answered.keys().eq(["1", "2"]), "customers saw both: {tally:?}");
    }

    /// What leaves is replaced; what is killed starts again with its data.
    pub fn loses_a_pod_and_containers(&self) {
        Load::during("a deleted pod", &self.doors, || {
            let pods = self.pods(WEB);
            self.k(&["delete", "pod", &pods[0]]);
            self.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
            self.until_there_are(3);
            assert!(!self.pods(WEB).contains(&pods[0]));
        });
        self.keeps("plums", "blue");
        for (label, program) in [(WEB, "/shop.py"), (LEADER, "redis-server")] {
            let pod = self.pods(label).remove(0);
            let uid = self.k(&["get", "pod", &pod, "-o", "jsonpath={.metadata.uid}"]);
            rustix::process::kill_process(process_of(&uid, program), rustix::process::Signal::KILL).unwrap();
            let path = "jsonpath={.status.containerStatuses[0].restartCount}/{.status.containerStatuses[0].ready}";
            self.until(&["get", "pod", &pod, "-o", path], |said| said == "1/true");
        }
        eventually("the leader has its data again", || {
            let pod = self.pods(LEADER).remove(0);
            let said = self.k(&["exec", &pod, "--", "redis-cli", "get", "plums"]);
            if said.trim() == "blue" { Ok(()) } else { Err(said) }
        });
        self.keeps("plums", "yellow");
    }

    /// Everything but the containers is killed: customers do not notice.
    pub fn outlives_the_cluster(&self, cluster: &mut Cluster) {
        let before = self.state();
        Load::during("the cluster killed and started again", &self.doors, || {
            cluster.kill_9("k8s");
            let down = Load::during("nothing runs but containers", &self.doors, || {
                let start = Instant::now();
                for door in self.doors.iter().cycle().take_while(|_| start.elapsed() < DOWN) {
                    let answer = request(*door, "GET", "/version", "").expect("the shop is open");
                    assert_eq!(answer.0, 200);
                }
                self.keeps("cherries", "red");
            });
            assert_eq!(down.reopened, 0, "connections stay");
            cluster.start_again("k8s");
            self.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
            let nodes = "jsonpath={.items[*].status.conditions[?(@.type==\"Ready\")].status}";
            self.kubectl.until(&["get", "nodes", "-o", nodes], |said| said == "True True");
        });
        assert_eq!(self.state(), before, "no object is lost and no container is restarted");
        self.keeps("cherries", "black");
    }

    /// A node is emptied for its maintenance, within the budget, and comes back.
    pub fn moves_off_a_node(&self) {
        let path = "jsonpath={.spec.nodeName}";
        let node = self.k(&["get", "pod", &self.pods(LEADER)[0], "-o", path]);
        let refused = self.kubectl.try_run(&["drain", &node, "--ignore-daemonsets"]);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert!(!refused.status.success() && said.contains("delete-emptydir-data"), "{said}");
        Load::during("draining", &self.doors, || {
            let drain = ["drain", &node, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=120s"];
            let said = self.kubectl.run(&drain);
            assert!(said.contains(&format!("node/{node} drained")), "{said}");
            for name in ["redis-leader", "redis-follower", "web"] {
                self.k(&["rollout", "status", &format!("deployment/{name}"), "--timeout=60s"]);
            }
            self.until_there_are(3);
        });
        let filter = format!("--field-selector=spec.nodeName={node}");
        assert_eq!(self.k(&["get", "pods", &filter, "-o", "name"]), "", "nothing is left on {node}");
        let nodes = self.kubectl.run(&["get", "node", &node]);
        assert!(nodes.contains("SchedulingDisabled"), "{nodes}");
        self.keeps("after the move", "everything works");
        self.kubectl.run(&["uncordon", &node]);
        self.k(&["scale", "deployment/web", "--replicas=6"]);
        self.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        let back = self.k(&["get", "pods", &filter, "-o", "name"]);
        assert!(back.lines().count() >= 2, "the node takes pods again: {back}");
    }

    /// Every answer comes from this version.
    pub fn runs(&self, version: Version) {
        for door in self.doors.iter().cycle().take(20) {
            let (_, answer) = request(*door, "GET", "/version", "").unwrap();
            assert!(answer.starts_with(version.name()), "{version:?}: {answer}");
        }
    }

    /// What a customer writes, all can read, from whichever follower.
    fn keeps(&self, item: &str, value: &str) {
        let path = format!("/items/{}", item.replace(' ', "-"));
        eventually("the leader takes it", || match request(self.doors[0], "PUT", &path, value) {
            Ok((200, _)) => Ok(()),
            other => Err(format!("{other:?}")),
        });
        for door in [0, 1, 0, 1] {
            eventually("the followers have it", || match request(self.doors[door], "GET", &path, "") {
                Ok((200, read)) if read == value => Ok(()),
                other => Err(format!("{other:?}")),
            });
        }
    }

    fn k(&self, arguments: &[&str]) -> String {
        self.kubectl.run(&[&["-n", NAMESPACE], arguments].concat())
    }

    fn until(&self, arguments: &[&str], is_right: impl Fn(&str) -> bool) -> String {
        self.kubectl.until(&[&["-n", NAMESPACE], arguments].concat(), is_right)
    }

    fn pods(&self, label: &str) -> Vec<String> {
        let said = self.k(&["get", "pods", "-l", label, "-o", "jsonpath={.items[*].metadata.name}"]);
        said.split_whitespace().map(str::to_owned).collect()
    }

    /// Waits until there are so many pods of the front end: those that leave are gone.
    fn until_there_are(&self, count: usize) {
        self.until(&["get", "pods", "-l", WEB, "-o", "name"], |said| said.lines().count() == count);
    }

    /// What must not change by itself.
    fn state(&self) -> String {
        let path = "jsonpath={range .items[*]}{.metadata.uid} {.status.containerStatuses[0].containerID} {.status.containerStatuses[0].restartCount} {.status.podIP}{\"\\n\"}{end}";
        self.k(&["get", "pods", "-o", path])
    }
}

fn doors(kubectl: &Kubectl) -> [SocketAddr; 2] {
    let get = |path: &str| kubectl.run(&["-n", NAMESPACE, "get", "service", "web", "-o", &format!("jsonpath={path}")]);
    let cluster_ip: IpAddr = get("{.spec.clusterIP}").parse().unwrap();
    let node_port: u16 = get("{.spec.ports[0].nodePort}").parse().unwrap();
    let path = "jsonpath={.items[0].status.addresses[?(@.type==\"InternalIP\")].address}";
    let node: IpAddr = kubectl.run(&["get", "nodes", "-o", path]).parse().unwrap();
    [SocketAddr::new(cluster_ip, 80), SocketAddr::new(node, node_port)]
}

/// The host's pid of a pod's program.
fn process_of(uid: &str, program: &str) -> rustix::process::Pid {
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let has = |pid: i32, file: &str, text: &str| {
        let content = std::fs::read(format!("/proc/{pid}/{file}")).unwrap_or_default();
        String::from_utf8_lossy(&content).contains(text)
    };
    let mut found = pids.filter(|pid| has(*pid, "cgroup", uid) && has(*pid, "cmdline", program));
    let pid = found.next().expect("the pod's program runs");
    rustix::process::Pid::from_raw(pid).unwrap()
}
