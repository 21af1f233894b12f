//! A network of two machines: namespaces of the kernel on one switch, and this process outside of the cluster on it.

use std::{
    path::PathBuf,
    process::{Command, Stdio},
};

/// The namespace of the switch: on this machine's own bridges, its own packet filter would look into the frames.
const SWITCH: &str = "k8s-e2e-switch";
/// This machine's end of its cable to the switch: it is on the network as somebody from outside.
const UPLINK: &str = "k8s-e2e-lan";
const OUTSIDE: &str = "172.30.77.254";

/// The network. Gone with this value.
pub struct Lan {
    /// The machines.
    pub hosts: [Host; 2],
}

/// One machine, as far as the network goes.
#[derive(Clone)]
pub struct Host {
    /// The node's name.
    pub node: &'static str,
    /// Its address on the network.
    pub address: &'static str,
}

impl Lan {
    /// Makes it; what an ended test left behind goes first.
    pub fn start() -> Self {
        let lan = Self {
            hosts: [Host { node: "node-1", address: "172.30.77.1" }, Host { node: "node-2", address: "172.30.77.2" }],
        };
        lan.remove();
        ip(&["netns", "add", SWITCH]);
        ip(&["-n", SWITCH, "link", "add", "switch", "type", "bridge"]);
        ip(&["-n", SWITCH, "link", "set", "switch", "up"]);
        ip(&["link", "add", UPLINK, "type", "veth", "peer", "name", "outside", "netns", SWITCH]);
        ip(&["-n", SWITCH, "link", "set", "outside", "master", "switch", "up"]);
        ip(&["addr", "add", &format!("{OUTSIDE}/24"), "dev", UPLINK]);
        ip(&["link", "set", UPLINK, "up"]);
        lan.hosts.iter().for_each(Host::plug_in);
        lan
    }

    fn remove(&self) {
        let quietly = |arguments: &[&str]| {
            Command::new("ip").args(arguments).stderr(Stdio::null()).status().expect("iproute2 is installed")
        };
        for host in &self.hosts {
            quietly(&["netns", "del", &host.namespace()]);
        }
        // Cables go with their ends.
        quietly(&["netns", "del", SWITCH]);
        quietly(&["link", "del", UPLINK]);
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        self.remove();
    }
}

impl Host {
    /// A command that runs on this machine. Only the network is its own: mounts and control groups are shared.
    pub fn command(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command.arg(format!("--net={}", self.path().display())).arg("--").arg(program);
        command
    }

    /// Takes the machine off the network.
    pub fn cut_off(&self) {
        self.run(&["ip", "link", "set", "eth0", "down"]);
    }

    /// Puts it back.
    pub fn reconnect(&self) {
        self.run(&["ip", "link", "set", "eth0", "up"]);
        self.run(&["ip", "route", "add", "default", "via", OUTSIDE]);
    }

    /// Runs a command there, which must succeed, and answers what it printed.
    pub fn run(&self, words: &[&str]) -> String {
        let output = self.command(words[0]).args(&words[1..]).output().unwrap();
        assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    fn plug_in(&self) {
        let namespace = self.namespace();
        ip(&["netns", "add", &namespace]);
        ip(&["-n", SWITCH, "link", "add", self.node, "type", "veth", "peer", "name", "eth0", "netns", &namespace]);
        ip(&["-n", SWITCH, "link", "set", self.node, "master", "switch", "up"]);
        self.run(&["ip", "link", "set", "lo", "up"]);
        self.run(&["ip", "addr", "add", &format!("{}/24", self.address), "dev", "eth0"]);
        self.reconnect();
    }

    fn namespace(&self) -> String {
        format!("k8s-e2e-{}", self.node)
    }

    fn path(&self) -> PathBuf {
        PathBuf::from("/run/netns").join(self.namespace())
    }
}

fn ip(arguments: &[&str]) {
    let output = Command::new("ip").args(arguments).output().expect("iproute2 is installed");
    assert!(output.status.success(), "ip {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
