//! Leases are unique, survive a restart, and come back.

use super::*;

fn open(directory: &Path, cidrs: &[&str]) -> Leases {
    let cidrs: Vec<IpNet> = cidrs.iter().map(|cidr| cidr.parse().unwrap()).collect();
    Leases::open(directory, &cidrs).unwrap()
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn a_holder_keeps_its_addresses_over_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let mut leases = open(directory.path(), &["10.1.0.0/24", "fd00:1::/64"]);
    let a = leases.take("a", vec![]).unwrap();
    assert_eq!(a.addresses, [ip("10.1.0.2"), ip("fd00:1::2")]);
    assert_eq!(leases.take("a", vec![]).unwrap(), a);
    let b = leases.take("b", vec![]).unwrap();
    leases.give_back("a").unwrap();
    leases.give_back("a").unwrap();
    drop(leases);

    let mut leases = open(directory.path(), &["10.1.0.0/24", "fd00:1::/64"]);
    assert_eq!(leases.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["b"]);
    assert_eq!(leases.take("b", vec![]).unwrap(), b);
    assert_eq!(leases.take("c", vec![]).unwrap().addresses[0], ip("10.1.0.4"), "freed addresses come last");
}

#[test]
fn a_full_cidr_is_said_and_frees_up_again() {
    let directory = tempfile::tempdir().unwrap();
    let mut leases = open(directory.path(), &["10.1.0.0/29"]);
    let given: Vec<_> = (0..5).map(|i| leases.take(&format!("p{i}"), vec![]).unwrap().addresses[0]).collect();
    assert_eq!(given, ["10.1.0.2", "10.1.0.3", "10.1.0.4", "10.1.0.5", "10.1.0.6"].map(ip));
    let error = leases.take("p5", vec![]).unwrap_err();
    assert_eq!(error.to_string(), "no address of 10.1.0.0/29 is free");
    leases.give_back("p3").unwrap();
    assert_eq!(leases.take("p5", vec![]).unwrap().addresses, [ip("10.1.0.5")]);
}

#[test]
fn only_one_process_manages_a_directory() {
    let directory = tempfile::tempdir().unwrap();
    let _leases = open(directory.path(), &["10.1.0.0/24"]);
    let error = Leases::open(directory.path(), &[]).err().expect("the lock is held");
    assert!(error.to_string().contains("another process"), "{error}");
}

#[test]
fn a_torn_file_is_dropped() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("torn"), b"{\"addr").unwrap();
    let leases = open(directory.path(), &["10.1.0.0/24"]);
    assert!(leases.get("torn").is_none());
    assert!(!directory.path().join("torn").exists());
}

#[test]
fn a_host_port_has_one_holder() {
    let directory = tempfile::tempdir().unwrap();
    let mut leases = open(directory.path(), &["10.1.0.0/24"]);
    let port =
        |address: Option<&str>, host| Port { protocol: "tcp".into(), host_address: address.map(ip), host, pod: 80 };
    leases.take("a", vec![port(Some("192.0.2.1"), 8080)]).unwrap();
    leases.take("a", vec![port(Some("192.0.2.1"), 8080)]).unwrap();
    leases.take("b", vec![port(Some("192.0.2.2"), 8080)]).unwrap();
    let error = leases.take("c", vec![port(None, 8080)]).unwrap_err();
    assert_eq!(error.to_string(), "host port 8080/tcp already leads to a");
    assert!(leases.get("c").is_none(), "a refused holder holds nothing");
}
