//! Blocks are given once, whatever happens to writes, caches and processes.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;

fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

fn ledger(net: &str, prefix: u8) -> Ledger {
    Ledger::new([Range::new(net.parse().unwrap(), prefix).unwrap()])
}

fn assigned(decision: Decision) -> String {
    match decision {
        Decision::Assign(nets) => nets.iter().map(ToString::to_string).collect::<Vec<_>>().join(","),
        other => format!("{other:?}"),
    }
}

#[test]
fn each_node_gets_a_block_and_keeps_it() {
    let mut ledger = ledger("10.244.0.0/16", 24);
    assert_eq!(assigned(ledger.decide("a", &[])), "10.244.0.0/24");
    assert_eq!(assigned(ledger.decide("b", &[])), "10.244.1.0/24");
    assert_eq!(assigned(ledger.decide("a", &[])), "10.244.0.0/24", "a write that failed is tried again with the same");
    assert_eq!(ledger.decide("a", &[net("10.244.0.0/24")]), Decision::Keep);
}

#[test]
fn what_was_given_back_is_used_last() {
    let mut ledger = ledger("10.244.0.0/22", 24);
    for node in ["a", "b", "c"] {
        ledger.decide(node, &[]);
    }
    ledger.gone("a");
    assert_eq!(assigned(ledger.decide("d", &[])), "10.244.3.0/24");
    assert_eq!(assigned(ledger.decide("e", &[])), "10.244.0.0/24");
    assert_eq!(ledger.decide("f", &[]), Decision::Full(net("10.244.0.0/22")));
    ledger.gone("b");
    assert_eq!(assigned(ledger.decide("f", &[])), "10.244.1.0/24");
}

#[test]
fn nodes_that_come_with_networks_of_their_own_are_respected() {
    let mut ledger = ledger("10.244.0.0/22", 24);
    assert_eq!(ledger.decide("own", &[net("10.244.0.0/23")]), Decision::Keep);
    assert_eq!(ledger.decide("elsewhere", &[net("192.168.0.0/24")]), Decision::Keep);
    assert_eq!(assigned(ledger.decide("a", &[])), "10.244.2.0/24");
    let clash = Decision::Clash { net: net("10.244.2.128/25"), with: "a".into() };
    assert_eq!(ledger.decide("greedy", &[net("10.244.2.128/25")]), clash);
    assert_eq!(assigned(ledger.decide("b", &[])), "10.244.3.0/24");
}

#[test]
fn a_reserved_block_waits_for_its_node() {
    let mut ledger = ledger("10.244.0.0/23", 24);
    ledger.reserve("first", vec![net("10.244.0.0/24")]);
    assert_eq!(assigned(ledger.decide("a", &[])), "10.244.1.0/24");
    assert_eq!(ledger.decide("b", &[]), Decision::Full(net("10.244.0.0/23")));
    assert_eq!(ledger.decide("first", &[net("10.244.0.0/24")]), Decision::Keep);
    ledger.gone("first");
    assert_eq!(ledger.decide("b", &[]), Decision::Full(net("10.244.0.0/23")), "it may come back");
    assert_eq!(assigned(ledger.decide("first", &[])), "10.244.0.0/24");
}

#[test]
fn both_families_at_once() {
    let ranges = [("10.244.0.0/16", 24), ("fd00:1::/56", 64)];
    let mut ledger = Ledger::new(ranges.map(|(net, prefix)| Range::new(net.parse().unwrap(), prefix).unwrap()));
    assert_eq!(assigned(ledger.decide("a", &[])), "10.244.0.0/24,fd00:1::/64");
    assert_eq!(assigned(ledger.decide("b", &[])), "10.244.1.0/24,fd00:1:0:1::/64");
}

/// What happens in a cluster of a few names.
#[derive(Debug, Clone)]
enum Step {
    Create(u8),
    Delete(u8),
    /// The controller looks at what its cache shows of the node and writes.
    Reconcile(u8, Write),
    /// The cache shows the next so many changes.
    CatchUp(u8),
    /// The process starts anew: a new ledger, told what there is.
    Restart,
}

/// What becomes of a write.
#[derive(Debug, Clone, Copy)]
enum Write {
    Done,
    Refused,
}

fn step() -> impl Strategy<Value = Step> {
    let write = prop_oneof![Just(Write::Done), Just(Write::Refused)];
    prop_oneof![
        3 => (0..8u8).prop_map(Step::Create),
        2 => (0..8u8).prop_map(Step::Delete),
        6 => (0..8u8, write).prop_map(|(node, write)| Step::Reconcile(node, write)),
        4 => (1..6u8).prop_map(Step::CatchUp),
        1 => Just(Step::Restart),
    ]
}

/// A node: which of its name it is, and what it has.
type Known = (u32, Vec<IpNet>);

#[derive(Default)]
struct World {
    nodes: BTreeMap<String, Known>,
    cache: BTreeMap<String, Known>,
    /// Changes that the cache does not show yet.
    behind: VecDeque<(String, Option<Known>)>,
    last: u32,
}

impl World {
    fn set(&mut self, name: &str, node: Option<Known>) {
        match node.clone() {
            Some(node) => drop(self.nodes.insert(name.into(), node)),
            None => drop(self.nodes.remove(name)),
        }
        self.behind.push_back((name.into(), node));
    }

    fn catch_up(&mut self, changes: usize, ledger: &mut Ledger) {
        for (name, node) in self.behind.drain(..changes.min(self.behind.len())) {
            match node {
                Some(node) => {
                    ledger.saw(&name, &node.1);
                    self.cache.insert(name, node);
                }
                None => {
                    ledger.gone(&name);
                    self.cache.remove(&name);
                }
            }
        }
    }

    fn reconcile(&mut self, name: &str, write: Write, ledger: &mut Ledger) {
        let Some((uid, nets)) = self.cache.get(name).cloned() else { return };
        let Decision::Assign(given) = ledger.decide(name, &nets) else { return };
        // The server refuses what was meant for another node of the name, and what would change a network.
        let takes = self.nodes.get(name).is_some_and(|(now, has)| *now == uid && has.is_empty());
        if takes && matches!(write, Write::Done) {
            self.set(name, Some((uid, given)));
        }
    }
}

proptest! {
    #[test]
    fn no_address_belongs_to_two_nodes(steps in prop::collection::vec(step(), 1..120)) {
        let new = || ledger("10.244.0.0/22", 24);
        let (mut world, mut ledger) = (World::default(), new());
        for step in steps {
            match step {
                Step::Create(n) if !world.nodes.contains_key(&n.to_string()) => {
                    world.last += 1;
                    let uid = world.last;
                    world.set(&n.to_string(), Some((uid, Vec::new())));
                }
                Step::Delete(n) if world.nodes.contains_key(&n.to_string()) => world.set(&n.to_string(), None),
                Step::Create(_) | Step::Delete(_) => {}
                Step::Reconcile(n, write) => world.reconcile(&n.to_string(), write, &mut ledger),
                Step::CatchUp(changes) => world.catch_up(changes.into(), &mut ledger),
                Step::Restart => {
                    ledger = new();
                    world.behind.clear();
                    world.cache = world.nodes.clone();
                    world.cache.iter().for_each(|(name, (_, nets))| ledger.saw(name, nets));
                }
            }
            let all: Vec<&IpNet> = world.nodes.values().flat_map(|(_, nets)| nets).collect();
            for (at, one) in all.iter().enumerate() {
                prop_assert!(all[at + 1..].iter().all(|other| one != other), "{one} was given twice: {:?}", world.nodes);
            }
        }
        // Whatever happened, in the end everybody for whom there is a block has one.
        world.catch_up(usize::MAX, &mut ledger);
        for name in world.cache.keys().cloned().collect::<Vec<_>>() {
            world.reconcile(&name, Write::Done, &mut ledger);
        }
        let served = world.nodes.values().filter(|(_, nets)| !nets.is_empty()).count();
        prop_assert_eq!(served, world.nodes.len().min(4), "{:?}", world.nodes);
    }
}
