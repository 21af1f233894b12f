//! A network of the test's own: each member of a cluster in a namespace with one cable, and the cables in one bridge,
//! on which the test itself is a client.
//!
//! The test runs once more, as a process in fresh network and mount namespaces. They end with that process, however it
//! ends, so nothing of this is seen outside and nothing is left. Needs root, `unshare` (util-linux), `ip` and `nft`.

use std::{
    io::Write,
    net::Ipv4Addr,
    process::{Command, Stdio},
};

const MARKER: &str = "K8S_STORE_TEST_NETWORK";
/// The namespaces, and the members in them.
pub const NAMES: [&str; 3] = ["one", "two", "three"];

/// Runs `body` in a process whose network is its own. `test` is the name of the calling test.
pub fn on_a_network_of_its_own(test: &str, body: impl FnOnce(&Network)) {
    if std::env::var_os(MARKER).is_some() {
        return body(&Network::new());
    }
    let program = std::env::current_exe().expect("a running test has a program");
    let output = Command::new("unshare")
        .args(["--net", "--mount", "--"])
        .arg(program)
        .args([test, "--exact", "--nocapture"])
        .env(MARKER, "1")
        .output()
        .expect("no program unshare");
    let text = [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    assert!(output.status.success(), "on a network of its own (needs root):\n{text}");
    assert!(text.contains("1 passed"), "the test ran inside:\n{text}");
    println!("{text}");
}

/// The network, whole at first.
pub struct Network;

/// Where a member is.
pub fn address(member: usize) -> Ipv4Addr {
    Ipv4Addr::new(192, 0, 2, 1 + u8::try_from(member).expect("there are three"))
}

impl Network {
    fn new() -> Self {
        std::fs::create_dir_all("/run/netns").expect("a writable /run");
        // Names of namespaces are files; here they are this process's own.
        run("mount", &["-t", "tmpfs", "tmpfs", "/run/netns"]);
        run("ip", &["link", "set", "lo", "up"]);
        run("ip", &["link", "add", "bridge", "type", "bridge"]);
        run("ip", &["addr", "add", "192.0.2.254/24", "dev", "bridge"]);
        run("ip", &["link", "set", "bridge", "up"]);
        for (member, name) in NAMES.into_iter().enumerate() {
            run("ip", &["netns", "add", name]);
            run("ip", &["link", "add", name, "type", "veth", "peer", "name", "eth0", "netns", name]);
            run("ip", &["link", "set", name, "master", "bridge", "up"]);
            run("ip", &["-n", name, "addr", "add", &format!("{}/24", address(member)), "dev", "eth0"]);
            run("ip", &["-n", name, "link", "set", "eth0", "up"]);
            run("ip", &["-n", name, "link", "set", "lo", "up"]);
        }
        Self
    }

    /// The member and the others hear nothing of each other any more. Clients reach all of them.
    pub fn separate(&self, member: usize) {
        for other in (0..NAMES.len()).filter(|other| *other != member) {
            deafen(member, other);
            deafen(other, member);
        }
    }

    /// Members hear each other again.
    pub fn join(&self) {
        for name in NAMES {
            run("ip", &["netns", "exec", name, "nft", "flush", "ruleset"]);
        }
    }

    /// Nobody reaches the member, and nobody is told.
    pub fn unplug(&self, member: usize) {
        run("ip", &["link", "set", NAMES[member], "down"]);
    }

    /// The member is reached again.
    pub fn plug(&self, member: usize) {
        run("ip", &["link", "set", NAMES[member], "up"]);
    }
}

/// What comes from `other` does not reach `member`.
fn deafen(member: usize, other: usize) {
    let rules = format!(
        "table inet cut {{ chain input {{ type filter hook input priority 0; ip saddr {} drop; }}; }}",
        address(other)
    );
    let mut nft = Command::new("ip")
        .args(["netns", "exec", NAMES[member], "nft", "-f", "-"])
        .stdin(Stdio::piped())
        .spawn()
        .expect("no program ip");
    nft.stdin.take().expect("piped").write_all(rules.as_bytes()).expect("nft reads");
    assert!(nft.wait().expect("nft ends").success(), "nft refuses {rules}");
}

fn run(program: &str, arguments: &[&str]) {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|_| panic!("no program {program}"));
    assert!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
