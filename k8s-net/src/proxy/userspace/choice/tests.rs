//! What the choice promises: who gets which endpoint.

use proptest::prelude::*;

use super::*;
use crate::proxy::{Backends, Frontend, Masquerade, Protocol};

const SECOND: Duration = Duration::from_secs(1);

fn target(last: u8) -> Target {
    Target { address: [10, 1, 0, last].into(), port: 80 }
}

fn balance(targets: &[u8]) -> Backends {
    match targets {
        [] => Backends::Reject,
        targets => Backends::Balance(targets.iter().map(|last| target(*last)).collect()),
    }
}

fn destination(targets: &[u8]) -> Destination {
    Destination {
        service: "ns/web:".into(),
        backends: balance(targets),
        outside: None,
        known: targets.iter().map(|last| target(*last)).collect(),
        masquerade: Masquerade::Always,
        affinity: None,
        sources: None,
    }
}

fn sticky(targets: &[u8]) -> Destination {
    Destination { affinity: Some(10 * SECOND), ..destination(targets) }
}

fn inside() -> Inside {
    let frontend = Frontend { address: [10, 96, 0, 1].into(), protocol: Protocol::Tcp, port: 80 };
    Inside::of(&Rules {
        frontends: [(frontend, destination(&[1]))].into(),
        node_ips: [[192, 0, 2, 1].into()].into(),
        pod_cidrs: vec!["10.1.0.0/16".parse().unwrap()],
        ..Rules::default()
    })
}

fn client(address: &str) -> Client {
    inside().client(address.parse().unwrap())
}

fn pod() -> Client {
    client("10.1.0.9")
}

fn stranger() -> Client {
    client("198.51.100.7")
}

fn lasts(targets: &[Target]) -> Vec<u8> {
    let last = |target: &Target| match target.address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => unreachable!("these tests have IPv4 endpoints"),
    };
    targets.iter().map(last).collect()
}

#[test]
fn pods_and_the_node_are_inside() {
    for address in ["10.1.2.3", "192.0.2.1", "127.0.0.1", "::1", "10.96.0.1", "::ffff:10.1.2.3"] {
        assert!(client(address).is_inside, "{address}");
    }
    for address in ["192.0.2.2", "10.2.0.1", "2001:db8::1"] {
        assert!(!client(address).is_inside, "{address}");
    }
}

#[test]
fn a_random_number_says_who_comes_first_and_neighbours_follow() {
    let choice = Choice::new(destination(&[1, 2, 3]));
    let candidates = |random| lasts(&choice.candidates(pod(), SECOND, random));
    assert_eq!([candidates(0), candidates(1), candidates(5)], [[1, 2, 3], [2, 3, 1], [3, 1, 2]]);
}

#[test]
fn no_more_than_a_few_are_tried() {
    let all: Vec<u8> = (1..20).collect();
    assert_eq!(Choice::new(destination(&all)).candidates(pod(), SECOND, 18).len(), TRIES);
}

#[test]
fn who_has_no_endpoint_is_refused() {
    let choice = Choice::new(destination(&[]));
    assert!(choice.candidates(pod(), SECOND, 1).is_empty());
    assert!(!choice.is_open());
    let local = Choice::new(Destination { outside: Some(Backends::Drop), ..destination(&[1]) });
    assert!(local.is_open());
    assert_eq!(lasts(&local.candidates(pod(), SECOND, 1)), [1]);
    assert!(local.candidates(stranger(), SECOND, 1).is_empty());
}

#[test]
fn strangers_have_a_choice_of_their_own() {
    let choice = Choice::new(Destination { outside: Some(balance(&[2])), ..destination(&[1, 2, 3]) });
    for random in 0..9 {
        assert_eq!(lasts(&choice.candidates(stranger(), SECOND, random)), [2]);
    }
    assert_eq!(choice.candidates(pod(), SECOND, 0).len(), 3);
}

#[test]
fn source_ranges_keep_others_out() {
    let sources = Some(vec!["198.51.100.0/24".parse().unwrap()]);
    let choice = Choice::new(Destination { sources, ..destination(&[1]) });
    assert_eq!(choice.candidates(stranger(), SECOND, 0).len(), 1);
    assert!(choice.candidates(pod(), SECOND, 0).is_empty());
}

#[test]
fn a_client_keeps_its_endpoint_while_it_comes_back_in_time() {
    let mut choice = Choice::new(sticky(&[1, 2, 3]));
    choice.settled(pod(), target(2), SECOND);
    for random in 0..9 {
        assert_eq!(lasts(&choice.candidates(pod(), 5 * SECOND, random)), [2, 3, 1]);
    }
    assert_eq!(lasts(&choice.candidates(stranger(), 5 * SECOND, 0)), [1, 2, 3], "others do not");
    choice.settled(pod(), target(2), 10 * SECOND);
    assert_eq!(lasts(&choice.candidates(pod(), 19 * SECOND, 0)), [2, 3, 1]);
    assert_eq!(lasts(&choice.candidates(pod(), 20 * SECOND, 0)), [1, 2, 3]);
}

#[test]
fn affinity_yields_to_local_policy() {
    let mut choice = Choice::new(Destination { outside: Some(balance(&[3])), ..sticky(&[1, 2, 3]) });
    choice.settled(stranger(), target(2), SECOND);
    assert_eq!(lasts(&choice.candidates(stranger(), 2 * SECOND, 0)), [3]);
}

#[test]
fn an_endpoint_that_went_and_came_back_is_not_remembered() {
    let mut choice = Choice::new(sticky(&[1, 2]));
    choice.settled(pod(), target(2), SECOND);
    choice.change(sticky(&[1]));
    choice.change(sticky(&[1, 2]));
    assert_eq!(lasts(&choice.candidates(pod(), 2 * SECOND, 0)), [1, 2]);
    choice.settled(pod(), target(2), SECOND);
    choice.change(destination(&[1, 2]));
    choice.change(sticky(&[1, 2]));
    assert_eq!(lasts(&choice.candidates(pod(), 2 * SECOND, 0)), [1, 2], "nor is it over a time without affinity");
}

#[test]
fn an_endpoint_that_terminates_is_known_but_not_offered() {
    let known = [target(1), target(2)].into();
    let choice = Choice::new(Destination { known, ..destination(&[1]) });
    assert!(choice.knows(target(2)) && !choice.offers(target(2)));
    assert!(!choice.knows(target(3)));
}

proptest! {
    #[test]
    fn candidates_are_offered_and_different(all in prop::collection::btree_set(1u8..40, 1..20), random: u64) {
        let all: Vec<u8> = all.into_iter().collect();
        let choice = Choice::new(destination(&all));
        let candidates = lasts(&choice.candidates(pod(), SECOND, random));
        let different: BTreeSet<_> = candidates.iter().collect();
        prop_assert_eq!(different.len(), candidates.len());
        prop_assert_eq!(candidates.len(), all.len().min(TRIES));
        prop_assert!(candidates.iter().all(|last| all.contains(last)));
    }

    #[test]
    fn a_dead_endpoint_is_replaced_by_another(all in prop::collection::btree_set(1u8..40, 0..20), dead in 1u8..40) {
        let all: Vec<u8> = all.into_iter().collect();
        let choice = Choice::new(destination(&all));
        match choice.instead_of(target(dead), pod()) {
            Some(next) => prop_assert!(next != target(dead) && choice.offers(next)),
            None => prop_assert!(all.is_empty() || all == [dead]),
        }
    }
}
