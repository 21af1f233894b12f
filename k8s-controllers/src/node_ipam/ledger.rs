//! Who has which block. Pure: told what is seen, it says what to give.

use std::collections::BTreeMap;

use ipnet::IpNet;
use k8s_core::doc::Text;

use super::range::Range;

/// What to do about one Node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// Nothing: it has its networks.
    Keep,
    /// It should get these, one of each range, in the ranges' order. They are held for it from now on, whatever becomes
    /// of the write, until the Node is gone.
    Assign(Vec<IpNet>),
    /// No block of this range is free.
    Full(IpNet),
    /// It has a network that overlaps one that another Node had before.
    Clash {
        /// The Node's.
        net: IpNet,
        /// The other Node.
        with: Text,
    },
}

/// The blocks of all ranges and who holds them.
///
/// Invariant: no block is given to a Node while another Node, as far as was seen, holds or was given any address of it.
#[derive(Debug)]
pub struct Ledger {
    pools: Vec<Pool>,
    /// What each Node has or was given.
    held: BTreeMap<Text, Vec<IpNet>>,
    /// What nobody but this Node gets, even while it is not there.
    reserved: BTreeMap<Text, Vec<IpNet>>,
}

/// The blocks of one range.
#[derive(Debug)]
struct Pool {
    range: Range,
    /// By block: how many holders touch it. More than one only where Nodes came with networks of their own.
    holders: Vec<u32>,
    /// Where the next search begins: after what was given last.
    next: usize,
}

impl Ledger {
    /// Nobody has anything.
    pub fn new(ranges: impl IntoIterator<Item = Range>) -> Self {
        let pool = |range: Range| Pool { range, holders: vec![0; range.count()], next: 0 };
        Self { pools: ranges.into_iter().map(pool).collect(), held: BTreeMap::new(), reserved: BTreeMap::new() }
    }

    /// Keeps these networks for the Node of this name, which will come with them by itself.
    pub fn reserve(&mut self, node: &str, nets: Vec<IpNet>) {
        nets.iter().for_each(|net| self.count(net, 1));
        if let Some(before) = self.reserved.insert(node.into(), nets) {
            before.iter().for_each(|net| self.count(net, -1));
        }
    }

    /// A Node was seen with these networks. One that has none keeps what it was given.
    pub fn saw(&mut self, node: &str, nets: &[IpNet]) {
        if !nets.is_empty() && self.held.get(node).is_none_or(|held| held != nets) {
            self.replace(node, nets.to_vec());
        }
    }

    /// A Node is gone, and what it had is free.
    pub fn gone(&mut self, node: &str) {
        self.replace(node, Vec::new());
    }

    /// What a Node with these networks should get.
    pub fn decide(&mut self, node: &str, nets: &[IpNet]) -> Decision {
        if !nets.is_empty() {
            self.saw(node, nets);
            return self.clash(node, nets).unwrap_or(Decision::Keep);
        }
        if let Some(held) = self.held.get(node).or_else(|| self.reserved.get(node)) {
            return Decision::Assign(held.clone());
        }
        let mut given = Vec::new();
        for pool in &mut self.pools {
            match pool.choose() {
                Some(net) => given.push(net),
                None => return Decision::Full(pool.range.net()),
            }
        }
        self.replace(node, given.clone());
        Decision::Assign(given)
    }

    fn clash(&self, node: &str, nets: &[IpNet]) -> Option<Decision> {
        let overlap = |one: &IpNet, other: &IpNet| one.contains(other) || other.contains(one);
        let touched = |net: &IpNet| {
            // Looks at all Nodes only where the counts say that there is something to find.
            let doubtful = |pool: &Pool| pool.range.touched(net).is_none_or(|mut all| all.any(|n| pool.holders[n] > 1));
            self.pools.iter().any(doubtful)
        };
        for net in nets.iter().filter(|net| touched(net)) {
            let others = self.held.iter().filter(|(name, _)| name.as_str() != node);
            let other = others.into_iter().find(|(_, held)| held.iter().any(|held| overlap(held, net)));
            if let Some((with, _)) = other {
                return Some(Decision::Clash { net: *net, with: with.clone() });
            }
        }
        None
    }

    fn replace(&mut self, node: &str, nets: Vec<IpNet>) {
        nets.iter().for_each(|net| self.count(net, 1));
        let before = match nets.is_empty() {
            true => self.held.remove(node),
            false => self.held.insert(node.into(), nets),
        };
        before.iter().flatten().for_each(|net| self.count(net, -1));
    }

    fn count(&mut self, net: &IpNet, change: i32) {
        for pool in &mut self.pools {
            for number in pool.range.touched(net).into_iter().flatten() {
                pool.holders[number] = pool.holders[number].saturating_add_signed(change);
                if change > 0 {
                    pool.next = pool.next.max(number + 1);
                }
            }
        }
    }
}

impl Pool {
    /// The next free block after the last one given, around the end.
    fn choose(&mut self) -> Option<IpNet> {
        let count = self.holders.len();
        let number = (0..count).map(|step| (self.next + step) % count).find(|number| self.holders[*number] == 0)?;
        self.next = number + 1;
        Some(self.range.block(number))
    }
}

#[cfg(test)]
mod tests;
