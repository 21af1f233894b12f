//! The programs as operators run them: elections, configuration files, health and metrics.
#![allow(clippy::disallowed_methods)] // Programs under test run by the machine's own clock.

mod operation {
    pub mod metrics;
    pub mod program;
}

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use operation::{
    metrics::Scrape,
    program::{ApiServer, Asker, Program, free_port, refusal},
};
use rustix::process::Signal;

/// Short, so that the test is; the ratios are upstream's.
const LEASE: [&str; 3] =
    ["--leader-elect-lease-duration=3s", "--leader-elect-renew-deadline=2s", "--leader-elect-retry-period=400ms"];
const LEASE_DURATION: Duration = Duration::from_secs(3);
/// What looking twice and starting to work may take beside, on a machine that is busy.
const SLACK: Duration = Duration::from_secs(4);

const MANAGER: &str = env!("CARGO_BIN_EXE_kube-controller-manager");
const SCHEDULER: &str = env!("CARGO_BIN_EXE_kube-scheduler");
const KUBELET: &str = env!("CARGO_BIN_EXE_kubelet");
const PROXY: &str = env!("CARGO_BIN_EXE_kube-proxy");
const API_SERVER: &str = env!("CARGO_BIN_EXE_kube-apiserver");

/// A controller manager that stands for election.
struct Manager {
    program: Program,
    port: u16,
}

impl Manager {
    fn start(api: &ApiServer) -> Self {
        let port = free_port();
        let mut arguments = api.component("controller-manager", port);
        arguments.extend(LEASE.map(str::to_owned));
        arguments.push("--controllers=*,-deployment-controller,-replicaset".into());
        Self { program: Program::start(MANAGER, &arguments), port }
    }

    async fn metrics(&self, asker: &Asker) -> Option<Scrape> {
        Some(Scrape::parse(&asker.text(self.port, "/metrics").await.ok()?))
    }

    async fn leads(&self, asker: &Asker) -> bool {
        let labels = [("name", "kube-controller-manager")];
        let metrics = self.metrics(asker).await;
        metrics.is_some_and(|metrics| metrics.value("leader_election_master_status", &labels) == Some(1.0))
    }

    async fn elected(&self, asker: &Asker) {
        asker.until("it is elected", async || self.leads(asker).await.then_some(())).await;
    }
}

#[tokio::test]
async fn of_two_controller_managers_one_leads_and_the_other_takes_over() {
    let api = ApiServer::start().await;
    let asker = api.admin();
    let first = Manager::start(&api);
    first.elected(&asker).await;
    let second = Manager::start(&api);
    asker.until("it answers", async || second.metrics(&asker).await.map(drop)).await;
    assert!(!second.leads(&asker).await, "there is a leader");

    // Killed: nobody gives the lease back, so it runs out.
    let killed = Instant::now();
    first.program.signal(Signal::KILL);
    second.elected(&asker).await;
    let took = killed.elapsed();
    assert!(took < LEASE_DURATION + SLACK, "took {took:?}");

    // Stopped in order: the lease is given back before the program ends.
    let third = Manager::start(&api);
    asker.until("it answers", async || third.metrics(&asker).await.map(drop)).await;
    second.program.signal(Signal::TERM);
    let ended = second.program.ended().await;
    assert!(ended.status.success(), "{ended:?}");
    let released = Instant::now();
    third.elected(&asker).await;
    let took = released.elapsed();
    assert!(took < LEASE_DURATION, "the lease was not given back: taken over after {took:?}");

    // Stopped in its tracks until another leads: what it finds when it wakes up is that it has lost.
    let fourth = Manager::start(&api);
    asker.until("it answers", async || fourth.metrics(&asker).await.map(drop)).await;
    third.program.signal(Signal::STOP);
    fourth.elected(&asker).await;
    third.program.signal(Signal::CONT);
    let lost = third.program.ended().await;
    assert!(!lost.status.success() && lost.text.contains("leadership lost"), "{lost:?}");

    // The leader works: a new namespace gets its service account; and only those controllers run that are named.
    let namespace = r#"{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}"#;
    asker.create(api.port, "/api/v1/namespaces", namespace).await;
    let path = "/api/v1/namespaces/team/serviceaccounts/default";
    asker.until("the account is there", async || asker.text(api.port, path).await.ok()).await;
    let metrics = fourth.metrics(&asker).await.unwrap();
    let done = metrics.value("workqueue_adds_total", &[("name", "service-account-controller")]);
    assert!(done.is_some_and(|adds| adds >= 1.0), "{done:?}");
    metrics.promises(&["workqueue_depth", "workqueue_queue_duration_seconds", "workqueue_work_duration_seconds"]);
    metrics.promises(&["workqueue_retries_total", "rest_client_requests_total", "process_cpu_seconds_total"]);
    let queues = metrics.labels("workqueue_depth", "name");
    let is_on = |name: &str| queues.iter().any(|queue| queue.starts_with(name));
    assert!(is_on("namespace") && !is_on("deployment") && !is_on("replicaset"), "{queues:?}");
}

#[tokio::test]
async fn metrics_are_for_those_who_may_and_health_for_everyone() {
    let api = ApiServer::start().await;
    let (asker, stranger) = (api.admin(), api.stranger());
    let port = free_port();
    let _scheduler = Program::start(SCHEDULER, &api.component("scheduler", port));
    let nobody = r#"{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web"},
        "spec": {"serviceAccountName": "one", "containers": [{"name": "web", "image": "web:1"}]}}"#;
    let account = r#"{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "one"}}"#;
    asker.create(api.port, "/api/v1/namespaces/default/serviceaccounts", account).await;
    asker.create(api.port, "/api/v1/namespaces/default/pods", nobody).await;
    let pending = [("queue", "unschedulable")];
    let metrics = asker
        .until("a pod is pending", async || {
            let scrape = Scrape::parse(&asker.text(port, "/metrics").await.ok()?);
            (scrape.value("scheduler_pending_pods", &pending) == Some(1.0)).then_some(scrape)
        })
        .await;
    let unschedulable = [("profile", "default-scheduler"), ("result", "unschedulable")];
    assert!(metrics.value("scheduler_schedule_attempts_total", &unschedulable) >= Some(1.0));
    metrics.promises(&["scheduler_scheduling_attempt_duration_seconds", "rest_client_requests_total"]);
    metrics.promises(&["leader_election_master_status", "process_resident_memory_bytes", "kubernetes_build_info"]);

    assert_eq!(stranger.text(port, "/healthz").await.as_deref(), Ok("ok"));
    assert_eq!(
        stranger.text(port, "/readyz?verbose").await.unwrap(),
        "[+]ping ok\n[+]informer-sync ok\nreadyz check passed\n"
    );
    assert_eq!(stranger.text(port, "/metrics").await.unwrap_err().0, 403);
    let path = "/api/v1/namespaces/default/serviceaccounts/one/token";
    let request = r#"{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {}}"#;
    let answer: serde_json::Value = serde_json::from_str(&asker.create(api.port, path, request).await).unwrap();
    let account = stranger.with_token(answer["status"]["token"].as_str().unwrap());
    let refused = account.text(port, "/metrics").await.unwrap_err();
    assert!(refused.0 == 403 && refused.1.contains("system:serviceaccount:default:one"), "{refused:?}");
    assert_eq!(stranger.with_token("no-token").text(port, "/metrics").await.unwrap_err().0, 401);
    let binding = r#"{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
        "metadata": {"name": "watches"}, "subjects": [{"kind": "ServiceAccount", "name": "one", "namespace": "default"}],
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "system:monitoring"}}"#;
    asker.create(api.port, "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings", binding).await;
    asker.until("the role counts", async || account.text(port, "/metrics").await.ok()).await;
    account.text(port, "/readyz/informer-sync").await.unwrap();

    let metrics = Scrape::parse(&asker.text(api.port, "/metrics").await.unwrap());
    metrics.promises(&[
        "apiserver_request_total",
        "apiserver_request_duration_seconds",
        "apiserver_longrunning_requests",
    ]);
    metrics.promises(&[
        "apiserver_current_inflight_requests",
        "apiserver_resource_objects",
        "process_start_time_seconds",
    ]);
    let pods = [("group", ""), ("resource", "pods")];
    assert_eq!(metrics.value("apiserver_resource_objects", &pods), Some(1.0));
    let verbose = stranger.text(api.port, "/readyz?verbose").await.unwrap();
    assert!(
        verbose.contains("[+]etcd ok\n[+]informer-sync ok\n") && verbose.ends_with("readyz check passed\n"),
        "{verbose}"
    );
    assert_eq!(asker.text(api.port, "/livez/etcd").await.as_deref(), Ok("ok"));
    asker.text(api.port, "/readyz/poststarthook/rbac/bootstrap-roles").await.unwrap();
    assert_eq!(asker.text(api.port, "/readyz/nothing").await.unwrap_err().0, 404);
}

#[tokio::test]
async fn a_scheduler_that_knows_nothing_yet_is_alive_and_not_ready() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("config");
    let nowhere = free_port();
    let text = format!(
        "{{current-context: c, contexts: [{{name: c, context: {{cluster: k}}}}], \
         clusters: [{{name: k, cluster: {{server: \"https://127.0.0.1:{nowhere}\"}}}}]}}"
    );
    fs::write(&config, text).unwrap();
    let port = free_port();
    let arguments = ["--leader-elect=false", "--kubeconfig", config.to_str().unwrap(), "--secure-port"];
    let mut arguments: Vec<String> = arguments.map(str::to_owned).into();
    arguments.push(port.to_string());
    let _scheduler = Program::start(SCHEDULER, &arguments);
    let asker = Asker::stranger();
    let refused =
        asker.until("it answers", async || asker.text(port, "/readyz").await.err().filter(|it| it.0 == 500)).await;
    assert!(refused.1.contains("[-]informer-sync failed: "), "{refused:?}");
    assert_eq!(asker.text(port, "/livez").await.as_deref(), Ok("ok"));
}

#[test]
fn configuration_files_are_refused_in_one_line_that_names_the_field() {
    let scheduler = "apiVersion: kubescheduler.config.k8s.io/v1\nkind: KubeSchedulerConfiguration\n";
    let proxy = "apiVersion: kubeproxy.config.k8s.io/v1alpha1\nkind: KubeProxyConfiguration\n";
    let kubelet = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";
    let cases = [
        (SCHEDULER, scheduler, "profils: []", "profils: unknown field `profils`"),
        (SCHEDULER, scheduler, "parallelism: 4", "parallelism: 4 is not supported: "),
        (SCHEDULER, scheduler, "leaderElection: {leaseDuration: soon}", "leaderElection.leaseDuration: "),
        (SCHEDULER, scheduler, "leaderElection: {leaderElect: true}\nleaderElection: {}", "duplicate"),
        (
            SCHEDULER,
            scheduler,
            "profiles: [{plugins: {score: {enabled: [{name: Luck}]}}}]",
            "profiles[0].plugins.score.enabled[0].name: there is no plugin \"Luck\"",
        ),
        (
            SCHEDULER,
            scheduler,
            "profiles: [{plugins: {multiPoint: {disabled: [{name: '*'}]}}}]",
            "profiles[0].plugins.multiPoint.disabled: SchedulingGates works always",
        ),
        (
            SCHEDULER,
            scheduler,
            "profiles: [{pluginConfig: [{name: NodeAffinity, args: {addedAffinity: {}}}]}]",
            "profiles[0].pluginConfig[0].args.addedAffinity: ",
        ),
        (SCHEDULER, scheduler, "profiles: [{}, {schedulerName: default-scheduler}]", "profiles[1].schedulerName: "),
        (SCHEDULER, proxy, "", "apiVersion: it is \"kubeproxy.config.k8s.io/v1alpha1\", and must be "),
        (PROXY, proxy, "clusterCIDR: [10.0.0.0/8]", "clusterCIDR: invalid type"),
        (PROXY, proxy, "nftables: {masqueradeAll: true}", "nftables.masqueradeAll: true is not supported: "),
        (PROXY, proxy, "ipvs: {scheduler: rr}", "ipvs: {\"scheduler\":\"rr\"} is not supported: there is no such mode"),
        (KUBELET, kubelet, "maxPods: many", "maxPods: invalid type"),
        (
            KUBELET,
            kubelet,
            "authentication: {anonymous: {enabled: true}}",
            "authentication.anonymous.enabled: true is not",
        ),
        (KUBELET, kubelet, "systemReserved: {gpu: '1'}", "systemReserved.gpu: only cpu, memory and ephemeral-storage"),
        (KUBELET, kubelet, "registerWithTaints: {}", "registerWithTaints: invalid type"),
        (KUBELET, kubelet, "evictionHard: {memory.available: 1Gi}", "evictionHard: "),
        (KUBELET, "apiVersion: kubelet.config.k8s.io/v1beta1\n", "", "kind: it is missing"),
    ];
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config.yaml");
    for (program, head, fields, expected) in cases {
        fs::write(&path, format!("{head}{fields}\n")).unwrap();
        let said = refusal(program, &["--config", path.to_str().unwrap()], 1);
        let start = format!("error: {}: ", path.display());
        assert!(said.starts_with(&start) && said[start.len()..].contains(expected), "{fields}: {said}");
    }
    let missing = folder.path().join("none");
    assert!(refusal(PROXY, &["--config", missing.to_str().unwrap()], 1).contains("none: No such file"));
}

#[test]
fn flags_that_are_not_there_say_what_holds_instead() {
    let cases: [(&str, &[&str], i32, &str); 16] = [
        (API_SERVER, &["--feature-gates=A=true"], 2, "--feature-gates is not supported: there are no gates"),
        (API_SERVER, &["--audit-log-compress"], 2, "--audit-log-compress is not supported: files that were put aside"),
        (API_SERVER, &["--audit-log-path", "/tmp/x"], 1, "--audit-policy-file: it must say what is noted"),
        (API_SERVER, &["--authorization-mode=AlwaysAllow"], 1, "--authorization-mode"),
        (API_SERVER, &["--enable-admission-plugins=NodeRestriction,Luck"], 1, "there is no admission plugin \"Luck\""),
        (API_SERVER, &["--goaway-chance=0.5"], 2, "it must be from 0 to 0.02"),
        (API_SERVER, &["--service-node-port-range=5-1"], 2, "--service-node-port-range"),
        (API_SERVER, &["--service-cluster-ip-range=10.0.0.0"], 1, "--service-cluster-ip-range 10.0.0.0: "),
        (
            API_SERVER,
            &["--tls-cert-file=/none", "--tls-private-key-file=/none"],
            1,
            "--tls-cert-file /none: No such file",
        ),
        (MANAGER, &["--use-service-account-credentials=false"], 2, "--use-service-account-credentials"),
        (MANAGER, &["--controllers=*,-luck"], 1, "--controllers: there is no controller \"luck\""),
        (MANAGER, &["--leader-elect-renew-deadline=20s"], 1, "greater than the renew deadline"),
        (SCHEDULER, &["--kube-api-qps=1"], 2, "--kube-api-qps is not supported: "),
        (KUBELET, &["--node-labels=node-role.kubernetes.io/control-plane="], 2, "a node may not set the label"),
        (KUBELET, &["--read-only-port=10255"], 2, "--read-only-port"),
        (PROXY, &["--healthz-bind-address=here"], 1, "--healthz-bind-address here: "),
    ];
    for (program, arguments, code, expected) in cases {
        let said = refusal(program, arguments, code);
        assert!(said.starts_with("error: ") && said.contains(expected), "{arguments:?}: {said}");
    }
    assert!(refusal(PROXY, &["--no-such-flag"], 2).contains("--no-such-flag"));
    let absent = Path::new("/nowhere/kubeconfig");
    let said = refusal(SCHEDULER, &["--kubeconfig", absent.to_str().unwrap()], 1);
    assert!(said.contains("/nowhere/kubeconfig: No such file"), "{said}");
}
