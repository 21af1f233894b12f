//! The cluster as people use it: the real programs, real `kubectl`, real containers.
//!
//! Needs root, nftables, and the `kubectl` programs that `./test.sh setup` unpacks. One scenario runs twice: against
//! everything in one process, and against the six programs as processes of their own over HTTPS.
#![allow(clippy::disallowed_methods)] // Programs under test run by the machine's own clock.

mod e2e {
    #[allow(dead_code, reason = "shared with the application's test")]
    pub mod cluster;
    pub mod commands;
    pub mod kubectl;
    pub mod lan;
    pub mod machine;
    pub mod machines;
    pub mod names;
    pub mod scenario;
}

use e2e::{
    cluster::Cluster,
    commands::Hand,
    kubectl::Kubectl,
    lan::Lan,
    machine::Machine,
    machines::Machines,
    names::{self, Outside},
    scenario::{self, Scenario},
};

#[test]
fn all_in_one() {
    let machine = Machine::claim();
    let outside = Outside::start(&machine);
    let mut cluster = Cluster::all_in_one(&machine, &outside.resolv_conf);
    cluster.import(&machine, &scenario::image());
    for version in ["1.37", "1.32", "1.20"] {
        let kubectl = Kubectl::new(version, &cluster.admin_kubeconfig());
        Scenario::new(kubectl.clone()).run(version);
        Hand::new(kubectl, &machine, version).types_everything();
    }
    let kubectl = Kubectl::new("1.37", &cluster.admin_kubeconfig());
    names::resolve(&kubectl);
    scenario::survives_kill_9(&mut cluster, &kubectl);
    cluster.interrupt();
}

#[test]
fn separate_programs() {
    let machine = Machine::claim();
    let outside = Outside::start(&machine);
    let mut cluster = Cluster::separate(&machine, &outside.resolv_conf);
    cluster.import(&machine, &scenario::image());
    let kubectl = Kubectl::new("1.37", &cluster.admin_kubeconfig());
    Scenario::new(kubectl.clone()).run("separate");
    scenario::tells_figures(&kubectl, "node-1");
    names::resolve(&kubectl);
    cluster.interrupt();
}

#[test]
fn two_machines() {
    let machine = Machine::claim();
    let lan = Lan::start();
    let [first, second] = &lan.hosts;
    let mut cluster = Cluster::on(first, &machine);
    let kubectl = Kubectl::new("1.37", &cluster.admin_kubeconfig());
    let machines = Machines::new(&kubectl, &lan);
    assert_eq!(machines.ready(first), "10.244.0.0/24");
    cluster.join(second, &machine);
    assert_eq!(machines.ready(second), "10.244.1.0/24");
    cluster.import(&machine, &scenario::image());
    machines.spread();
    machines.pods_reach_each_other();
    machines.outsiders_reach_pods();
    machines.containers_are_entered(second);
    machines.cut_off(second, first);
    machines.reconnect(second, first);
    cluster.interrupt();
}

#[test]
fn what_cannot_start_says_why_in_one_line() {
    let machine = Machine::claim();
    let cluster = Cluster::hollow(&machine);
    let port = cluster.port.to_string();
    let taken = cluster.folder.display().to_string();
    let fresh = machine.folder("fresh").display().to_string();
    let foreign = machine.folder("foreign");
    std::fs::create_dir(&foreign).unwrap();
    std::fs::write(foreign.join("thesis"), "years of work").unwrap();
    let precious = foreign.display().to_string();
    let cases: [(&[&str], &str); 7] = [
        (&["reset", "--data-dir", &precious, "--yes"], "holds no cluster"),
        (&["reset", "--data-dir", &taken, "--yes"], "stop it first"),
        (&["up", "--data-dir", &taken, "--nodes", "hollow:1", "--secure-port", "0"], "in use"),
        (&["up", "--data-dir", &fresh, "--nodes", "hollow:1", "--secure-port", &port], "address already in use"),
        (&["up", "--data-dir", &fresh, "--nodes", "many"], "--nodes"),
        (&["up", "--proxy-mode", "iptables"], "expected `nftables` or `userspace`"),
        (&["up", "--no-such-flag"], "--no-such-flag"),
    ];
    for (arguments, expected) in cases {
        let output = machine.k8s(arguments);
        assert!(!output.status.success(), "{arguments:?} must fail");
        let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
        assert!(said.contains(expected), "{arguments:?} said: {said}");
        let first = said.lines().find(|line| line.starts_with("error")).unwrap_or_default();
        assert!(first.contains(expected), "the error line says it: {said}");
    }
    // Root of a container is root without some of its capabilities.
    let hindered = machine.k8s_without("sys_admin", &["up", "--data-dir", &fresh, "--secure-port", "0"]);
    let said = String::from_utf8_lossy(&hindered.stderr);
    assert!(!hindered.status.success() && said.contains("CAP_SYS_ADMIN"), "{said}");
    assert_eq!(std::fs::read_to_string(foreign.join("thesis")).unwrap(), "years of work");
}

#[test]
fn without_root_the_missing_privilege_is_named_and_simulated_nodes_are_offered() {
    let machine = Machine::claim();
    let folder = machine.folder("unprivileged");
    let output = machine.k8s_as_nobody(&["up", "--data-dir", &folder.display().to_string(), "--secure-port", "0"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("root") && said.contains("--nodes hollow:"), "{said}");
}
