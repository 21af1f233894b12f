//! The scripts, run by a small model of the packet filter that refuses what the kernel would refuse.

use std::{sync::Arc, time::Duration};

use proptest::prelude::*;

use super::*;
use crate::proxy::{Backends, Destination, Frontend, Masquerade, Rules, Target};

/// What a packet filter would hold after the scripts it was given.
#[derive(Debug, Default, PartialEq)]
struct Model {
    sets: BTreeMap<String, BTreeMap<String, String>>,
    chains: BTreeMap<String, Vec<String>>,
}

impl Model {
    fn run(&mut self, script: &str) {
        let mut lines = script.lines();
        while let Some(line) = lines.next() {
            let words: Vec<_> = line.split(' ').collect();
            match words[..] {
                ["add", "table", ..] => {}
                ["delete", "table", ..] => *self = Self::default(),
                ["table", ..] => self.define(&mut lines),
                ["add", "element", "inet", "t", set, ..] => self.add(set, line),
                ["delete", "element", "inet", "t", set, ..] => self.delete(set, line),
                ["add", "chain", "inet", "t", chain] => drop(self.chains.entry(chain.into()).or_default()),
                ["flush", "chain", "inet", "t", chain] => self.chains.get_mut(chain).expect("exists").clear(),
                ["add", "rule", "inet", "t", chain, ..] => self.add_rule(chain, words[5..].join(" ")),
                ["delete", "chain", "inet", "t", chain] => self.delete_chain(chain),
                ["add", "set", "inet", "t", set, ..] => drop(self.sets.entry(set.into()).or_default()),
                ["delete", "set", "inet", "t", set] => {
                    let used = self.chains.values().flatten().any(|rule| mentions(rule, &format!("@{set}")));
                    assert!(!used, "{set} is in use");
                    self.sets.remove(set).expect("exists");
                }
                _ => panic!("not understood: {line}"),
            }
        }
    }

    /// The body of the table block: what it defines, but not the rules.
    fn define<'a>(&mut self, lines: &mut impl Iterator<Item = &'a str>) {
        for line in lines.take_while(|line| *line != "}") {
            match line.split(' ').collect::<Vec<_>>()[..] {
                ["", "", "set" | "map", set, ..] => drop(self.sets.insert(set.into(), BTreeMap::new())),
                ["", "", "chain", chain, ..] => drop(self.chains.insert(chain.into(), Vec::new())),
                _ => {}
            }
        }
    }

    fn add(&mut self, set: &str, line: &str) {
        for element in elements_in(line) {
            let (key, value) = element.split_once(" : ").unwrap_or((element, ""));
            if let Some(chain) = value.strip_prefix("goto ").or(value.strip_prefix("jump ")) {
                assert!(self.chains.contains_key(chain), "{chain} does not exist yet");
            }
            let old = self.sets.get_mut(set).expect("the set exists").insert(key.into(), value.into());
            assert!(old.is_none(), "{set} has {key} already");
        }
    }

    fn delete(&mut self, set: &str, line: &str) {
        for key in elements_in(line) {
            self.sets.get_mut(set).expect("the set exists").remove(key).expect("the element exists");
        }
    }

    fn add_rule(&mut self, chain: &str, rule: String) {
        for name in rule.split(' ').filter_map(|word| word.strip_prefix('@')) {
            assert!(self.sets.contains_key(name), "{name} does not exist yet");
        }
        self.chains.get_mut(chain).expect("the chain exists").push(rule);
    }

    fn delete_chain(&mut self, chain: &str) {
        let rules = self.chains.remove(chain).expect("the chain exists");
        assert!(rules.is_empty(), "flushed before");
        let elements = self.sets.values().flat_map(BTreeMap::values);
        let mut users = elements.chain(self.chains.values().flatten());
        assert!(!users.any(|user| mentions(user, chain)), "{chain} is in use");
    }
}

fn mentions(text: &str, name: &str) -> bool {
    text.split([' ', ',']).any(|word| word == name)
}

fn elements_in(line: &str) -> impl Iterator<Item = &str> {
    let (_, elements) = line.split_once("{ ").expect("has elements");
    elements.strip_suffix(" }").expect("is closed").split(", ")
}

fn rules() -> impl Strategy<Value = Rules> {
    let address = prop::sample::select(vec!["10.96.0.1", "10.96.0.2", "fd00:96::1", "fd00:96::2"]);
    let protocol = prop::sample::select(PROTOCOLS.to_vec());
    let frontend = (address, protocol, 80u16..82).prop_map(|(address, protocol, port)| {
        let address = address.parse().expect("an address");
        Frontend { address, protocol, port }
    });
    let destination = (
        backends(),
        prop::option::of(backends()),
        prop::sample::select(vec![Masquerade::OffCluster, Masquerade::Always, Masquerade::Node]),
        prop::option::of(1u64..3),
        prop::option::of(prop::collection::btree_set(0u8..4, 0..3)),
    );
    prop::collection::btree_map(frontend, destination, 0..6).prop_map(|frontends| Rules {
        cluster_ips: frontends.keys().map(|frontend| frontend.address).collect(),
        frontends: frontends.into_iter().map(|(f, d)| (f, destination_for(f, d))).collect(),
        pod_cidrs: vec!["10.1.0.0/16".parse().expect("a network")],
        ..Rules::default()
    })
}

/// Endpoints by their last byte, for either family; none is refused.
fn backends() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::btree_set(1u8..6, 0..4).prop_map(|set| set.into_iter().collect())
}

type Sketch = (Vec<u8>, Option<Vec<u8>>, Masquerade, Option<u64>, Option<std::collections::BTreeSet<u8>>);

fn destination_for(frontend: Frontend, (inside, outside, masquerade, affinity, sources): Sketch) -> Destination {
    let six = frontend.address.is_ipv6();
    let backends = |targets: Vec<u8>, refused: Backends| {
        let text = |byte: &u8| if six { format!("fd00:1::{byte}") } else { format!("10.1.0.{byte}") };
        let target = |byte: &u8| Target { address: text(byte).parse().expect("an address"), port: 8080 };
        let targets: Arc<[_]> = targets.iter().map(target).collect();
        if targets.is_empty() { refused } else { Backends::Balance(targets) }
    };
    let net = |byte: u8| if six { format!("2001:db8:{byte}::/48") } else { format!("192.0.{byte}.0/24") };
    Destination {
        service: "ns/name:".into(),
        backends: backends(inside, Backends::Reject),
        outside: outside.map(|outside| backends(outside, Backends::Drop)),
        known: [].into(),
        masquerade,
        affinity: affinity.map(Duration::from_secs),
        sources: sources.map(|bytes| bytes.into_iter().map(|b| net(b).parse().expect("a network")).collect()),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]

    #[test]
    fn a_change_leads_where_the_whole_leads(one in rules(), two in rules()) {
        let (one, two) = (Table::of(&one), Table::of(&two));
        let (mut changed, mut whole) = (Model::default(), Model::default());
        changed.run(&full("t", "mark", &one));
        whole.run(&full("t", "mark", &two));
        let change = change("t", &one, &two).expect("the pod CIDRs are the same");
        changed.run(&change.text);
        prop_assert_eq!(&changed, &whole);
        prop_assert_eq!(change.elements == 0, one == two);
        prop_assert_eq!(change.text.is_empty(), one == two);
    }
}

fn one_service(targets: &[&str]) -> Rules {
    let targets = targets.iter().map(|ip| Target { address: ip.parse().expect("an address"), port: 8080 });
    let frontend = Frontend { address: "10.96.0.1".parse().expect("an address"), protocol: Protocol::Tcp, port: 80 };
    let destination = Destination {
        service: "ns/web:".into(),
        backends: Backends::Balance(targets.collect()),
        outside: None,
        known: [].into(),
        masquerade: Masquerade::OffCluster,
        affinity: None,
        sources: None,
    };
    Rules {
        frontends: [(frontend, destination)].into(),
        cluster_ips: [frontend.address].into(),
        pod_cidrs: vec!["10.1.0.0/16".parse().expect("a network")],
        ..Rules::default()
    }
}

#[test]
fn a_changed_endpoint_is_a_few_elements_and_no_chain() {
    let before = Table::of(&one_service(&["10.1.0.2", "10.1.0.3"]));
    let after = Table::of(&one_service(&["10.1.0.2", "10.1.0.4"]));
    insta::assert_snapshot!(change("t", &before, &after).expect("a difference").text, @"
    delete element inet t endpoints-tcp4 { 10.96.0.1 . 80 . 1 }
    delete element inet t hairpin4 { 10.1.0.3 . 10.1.0.3 }
    add element inet t endpoints-tcp4 { 10.96.0.1 . 80 . 1 : 10.1.0.4 . 8080 }
    add element inet t hairpin4 { 10.1.0.4 . 10.1.0.4 }
    ");
}

#[test]
fn another_endpoint_count_is_another_chain() {
    let before = Table::of(&one_service(&["10.1.0.2"]));
    let after = Table::of(&one_service(&["10.1.0.2", "10.1.0.3"]));
    insta::assert_snapshot!(change("t", &before, &after).expect("a difference").text, @"
    add chain inet t pick-tcp4-2
    flush chain inet t pick-tcp4-2
    add rule inet t pick-tcp4-2 dnat ip to ip daddr . tcp dport . numgen random mod 2 map @endpoints-tcp4
    delete element inet t services4 { 10.96.0.1 . tcp . 80 }
    add element inet t services4 { 10.96.0.1 . tcp . 80 : goto pick-tcp4-2 }
    add element inet t endpoints-tcp4 { 10.96.0.1 . 80 . 1 : 10.1.0.3 . 8080 }
    add element inet t hairpin4 { 10.1.0.3 . 10.1.0.3 }
    flush chain inet t pick-tcp4-1
    delete chain inet t pick-tcp4-1
    ");
}

#[test]
fn other_pod_cidrs_replace_the_table() {
    let before = Table::of(&one_service(&["10.1.0.2"]));
    let rules = Rules { pod_cidrs: vec![], ..one_service(&["10.1.0.2"]) };
    assert!(change("t", &before, &Table::of(&rules)).is_none());
}
