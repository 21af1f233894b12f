//! Two machines: pods of both reach each other and are reached, and one that is cut off is replaced and comes back.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    kubectl::{Kubectl, eventually},
    lan::{Host, Lan},
    scenario::{self, ask, container_processes},
};

const NAMESPACE: &str = "spread";
const PODS: usize = 4;
/// Ports of nodes: to any pod, and to pods of that node only.
const ANY: u16 = 30080;
const LOCAL: u16 = 30081;

/// A pod, as the API shows it.
#[derive(Debug, Clone)]
struct Pod {
    name: String,
    node: String,
    address: String,
}

/// The scenario.
pub struct Machines<'a> {
    kubectl: &'a Kubectl,
    lan: &'a Lan,
}

impl<'a> Machines<'a> {
    /// With the administrator's `kubectl`.
    pub fn new(kubectl: &'a Kubectl, lan: &'a Lan) -> Self {
        Self { kubectl, lan }
    }

    /// Waits until a node is ready, and answers its pod CIDR.
    pub fn ready(&self, host: &Host) -> String {
        let path = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status} {.spec.podCIDR}";
        let said = self.kubectl.until(&["get", "node", host.node, "-o", path], |said| said.starts_with("True "));
        let address = "jsonpath={.status.addresses[?(@.type==\"InternalIP\")].address}";
        assert_eq!(self.kubectl.run(&["get", "node", host.node, "-o", address]), host.address);
        said.trim_start_matches("True ").to_owned()
    }

    /// An application on both machines.
    pub fn spread(&self) {
        let namespace =
            format!("{{\"apiVersion\": \"v1\", \"kind\": \"Namespace\", \"metadata\": {{\"name\": {NAMESPACE:?}}}}}");
        self.kubectl.run_with(&["create", "-f", "-"], &namespace);
        let patient = "      terminationGracePeriodSeconds: 2\n";
        let hasty = "      tolerations:\n        - {key: node.kubernetes.io/unreachable, operator: Exists, effect: \
                     NoExecute, tolerationSeconds: 2}\n";
        let manifests = scenario::manifests(NAMESPACE)
            .replace("  replicas: 3\n", &format!("  replicas: {PODS}\n"))
            .replace(patient, &format!("{patient}{hasty}"));
        self.kubectl.run_with(&["apply", "-f", "-"], &manifests);
        self.kubectl.run_with(&["apply", "-f", "-"], &service("any", ANY, "Cluster"));
        self.kubectl.run_with(&["apply", "-f", "-"], &service("local", LOCAL, "Local"));
        self.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        let pods = self.pods();
        for host in &self.lan.hosts {
            assert!(!on(&pods, host).is_empty(), "{} has pods of {pods:?}", host.node);
        }
    }

    /// Every pod reaches every other by its address, the service by its name, and the API by its cluster IP.
    pub fn pods_reach_each_other(&self) {
        let pods = self.pods();
        for host in &self.lan.hosts {
            let from = &on(&pods, host)[0];
            for to in &pods {
                self.inside_eventually(
                    from,
                    &format!("busybox timeout 3 wget -q -O - http://{}:8080/", to.address),
                    &to.name,
                );
            }
            eventually("the service by its name leads to all pods", || {
                let said =
                    self.inside(from, "for i in $(seq 40); do busybox timeout 3 wget -q -O - http://web/; done")?;
                let seen: BTreeSet<&str> = said.split_whitespace().collect();
                if seen == names(&pods) { Ok(()) } else { Err(format!("from {}: {seen:?}", from.node)) }
            });
            self.inside_eventually(
                from,
                "busybox nc -w 3 kubernetes.default.svc.cluster.local 443 </dev/null && echo open",
                "open",
            );
        }
    }

    /// Somebody outside of the cluster reaches pods through either machine.
    pub fn outsiders_reach_pods(&self) {
        let pods = self.pods();
        for host in &self.lan.hosts {
            let (all, own) = (names(&pods), on(&pods, host));
            self.answers(host, ANY, &all);
            self.answers(host, LOCAL, &names(&own));
        }
    }

    /// The API server leads to containers on the other machine.
    pub fn containers_are_entered(&self, host: &Host) {
        let pod = &on(&self.pods(), host)[0];
        assert_eq!(self.k(&["logs", &pod.name]), "started on port 8080\n");
        assert_eq!(self.k(&["exec", &pod.name, "--", "hostname"]).trim(), pod.name);
    }

    /// A machine is cut off: what was on it is replaced on the other one, and traffic goes there only.
    pub fn cut_off(&self, gone: &Host, left: &Host) {
        gone.cut_off();
        let ready = "jsonpath={.status.conditions[?(@.type==\"Ready\")].status}";
        self.kubectl.until(&["get", "node", gone.node, "-o", ready], |said| said == "Unknown");
        let taints = "jsonpath={.spec.taints[?(@.effect==\"NoExecute\")].key}";
        self.kubectl.until(&["get", "node", gone.node, "-o", taints], |said| said == "node.kubernetes.io/unreachable");
        let replaced = eventually("the pods are replaced on the machine that is left", || {
            let staying: Vec<Pod> = self.ready_pods();
            let right = staying.len() == PODS && staying.iter().all(|pod| pod.node == left.node);
            if right { Ok(staying) } else { Err(format!("{staying:?}")) }
        });
        let from = &replaced[0];
        eventually("the service leads to the living only", || {
            let said = self
                .inside(from, "for i in $(seq 40); do busybox timeout 1 wget -q -O - http://web/ || echo lost; done")?;
            let seen: BTreeSet<&str> = said.split_whitespace().collect();
            if seen == names(&replaced) { Ok(()) } else { Err(format!("{seen:?}")) }
        });
        self.answers(left, ANY, &names(&replaced));
    }

    /// The machine is back: what was replaced ends, and new pods run there and are reached.
    pub fn reconnect(&self, back: &Host, other: &Host) {
        back.reconnect();
        self.ready(back);
        let path = "jsonpath={.items[*].metadata.name}";
        let of_node = format!("spec.nodeName={}", back.node);
        self.kubectl.until(&["get", "pods", "-n", NAMESPACE, "--field-selector", &of_node, "-o", path], str::is_empty);
        eventually("the containers that were replaced are gone", || match container_processes().len() {
            PODS => Ok(()),
            count => Err(format!("{count} run")),
        });
        self.kubectl.until(&["get", "node", back.node, "-o", "jsonpath={.spec.taints}"], str::is_empty);
        self.k(&["scale", "deployment/web", &format!("--replicas={}", PODS + 2)]);
        self.k(&["rollout", "status", "deployment/web", "--timeout=60s"]);
        let pods = self.pods();
        let (new, from) = (&on(&pods, back), &on(&pods, other)[0]);
        assert!(!new.is_empty(), "new pods run on {}: {pods:?}", back.node);
        self.inside_eventually(
            from,
            &format!("busybox timeout 3 wget -q -O - http://{}:8080/", new[0].address),
            &new[0].name,
        );
        self.answers(back, ANY, &names(&pods));
    }

    fn k(&self, arguments: &[&str]) -> String {
        self.kubectl.run(&[&["-n", NAMESPACE], arguments].concat())
    }

    /// Those that are not on their way out.
    fn pods(&self) -> Vec<Pod> {
        let path = "jsonpath={range .items[*]}{.metadata.name} {.spec.nodeName} {.status.podIP} \
                    {.metadata.deletionTimestamp}{\"\\n\"}{end}";
        let table = self.k(&["get", "pods", "-l", "app=web", "-o", path]);
        let pod = |line: &str| match line.split_whitespace().collect::<Vec<_>>()[..] {
            [name, node, address] => Some(Pod { name: name.into(), node: node.into(), address: address.into() }),
            _ => None,
        };
        table.lines().filter_map(pod).collect()
    }

    fn ready_pods(&self) -> Vec<Pod> {
        let path = "jsonpath={range .items[*]}{.metadata.name} \
                    {.status.conditions[?(@.type==\"Ready\")].status}{\"\\n\"}{end}";
        let table = self.k(&["get", "pods", "-l", "app=web", "-o", path]);
        let ready: BTreeMap<&str, &str> = table.lines().filter_map(|line| line.split_once(' ')).collect();
        self.pods().into_iter().filter(|pod| ready.get(pod.name.as_str()) == Some(&"True")).collect()
    }

    fn inside(&self, pod: &Pod, script: &str) -> Result<String, String> {
        let output = self.kubectl.try_run(&["-n", NAMESPACE, "exec", &pod.name, "--", "sh", "-c", script]);
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            Ok(said)
        } else {
            Err(format!("{script} in {pod:?}: {said}{}", String::from_utf8_lossy(&output.stderr)))
        }
    }

    fn inside_eventually(&self, pod: &Pod, script: &str, expected: &str) {
        eventually(script, || match self.inside(pod, script)?.trim() {
            said if said == expected => Ok(()),
            other => Err(format!("{other:?} is not {expected:?}")),
        });
    }

    /// A port of a machine leads to all these, and to nobody else.
    fn answers(&self, host: &Host, port: u16, pods: &BTreeSet<&str>) {
        let address = format!("{}:{port}", host.address);
        eventually(&format!("{address} leads to {pods:?}"), || {
            let answers = (0..40).map(|_| ask(&address, "/").map(|name| name.trim().to_owned()));
            let seen = answers.collect::<Result<BTreeSet<String>, String>>()?;
            if seen.iter().map(String::as_str).eq(pods.iter().copied()) { Ok(()) } else { Err(format!("{seen:?}")) }
        });
    }
}

fn on(pods: &[Pod], host: &Host) -> Vec<Pod> {
    pods.iter().filter(|pod| pod.node == host.node).cloned().collect()
}

fn names(pods: &[Pod]) -> BTreeSet<&str> {
    pods.iter().map(|pod| pod.name.as_str()).collect()
}

/// A service with a port of every node.
fn service(name: &str, node_port: u16, policy: &str) -> String {
    let port = format!("{{\"port\": 80, \"targetPort\": \"http\", \"nodePort\": {node_port}}}");
    format!(
        "{{\"apiVersion\": \"v1\", \"kind\": \"Service\", \
         \"metadata\": {{\"name\": {name:?}, \"namespace\": {NAMESPACE:?}}}, \
         \"spec\": {{\"type\": \"NodePort\", \"externalTrafficPolicy\": {policy:?}, \
         \"selector\": {{\"app\": \"web\"}}, \"ports\": [{port}]}}}}"
    )
}
