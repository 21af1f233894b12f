//! The decision: one pod, one snapshot, one answer. Pure; the same input gives the same answer.

use std::{
    any::Any,
    collections::{BTreeMap, BTreeSet},
};

use crate::{
    framework::{AnyFilter, Profile, Reject},
    pod::PodInfo,
    snapshot::Snapshot,
};

/// Where a pod goes, or why nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Decision {
    /// To this node.
    Node {
        /// The node.
        name: String,
        /// How many nodes would have done.
        feasible: usize,
    },
    /// Nowhere.
    Unschedulable {
        /// For the event and the pod's condition: `0/3 nodes are available: ...`.
        message: String,
        /// The filters that turned nodes away.
        filters: Vec<&'static str>,
    },
}

/// Decides where `pod` goes. `seed` breaks ties between nodes of the same score.
pub fn schedule_one(snapshot: &Snapshot, pod: &PodInfo, profile: &Profile, seed: u64) -> Decision {
    let mut rejected = Rejected::default();
    let prepared = match prepare(snapshot, pod, profile) {
        Ok(prepared) => prepared,
        Err((filter, reject)) => {
            rejected.count(filter, reject, snapshot.len().max(1));
            return rejected.decision(snapshot.len());
        }
    };
    let feasible: Vec<usize> =
        (0..snapshot.len()).filter(|slot| fits(snapshot, pod, &prepared, *slot, &mut rejected)).collect();
    match feasible.as_slice() {
        [] => rejected.decision(snapshot.len()),
        [only] => Decision::Node { name: snapshot.node(*only).name().to_owned(), feasible: 1 },
        several => {
            let best = best(snapshot, pod, profile, several, seed);
            Decision::Node { name: snapshot.node(best).name().to_owned(), feasible: several.len() }
        }
    }
}

type Prepared<'a> = Vec<(&'a dyn AnyFilter, Box<dyn Any + Send + Sync>)>;

fn prepare<'a>(
    snapshot: &Snapshot,
    pod: &PodInfo,
    profile: &'a Profile,
) -> Result<Prepared<'a>, (&'static str, Reject)> {
    let mut prepared: Prepared<'a> = Vec::with_capacity(profile.filters.len());
    for filter in &profile.filters {
        match filter.prepare(pod, snapshot) {
            Ok(Some(state)) => prepared.push((&**filter, state)),
            Ok(None) => {}
            Err(reject) => return Err((filter.name(), reject)),
        }
    }
    Ok(prepared)
}

fn fits(snapshot: &Snapshot, pod: &PodInfo, prepared: &Prepared<'_>, slot: usize, rejected: &mut Rejected) -> bool {
    let node = snapshot.node(slot);
    for (filter, state) in prepared {
        if let Err(reject) = filter.filter(&**state, pod, node) {
            rejected.count(filter.name(), reject, 1);
            return false;
        }
    }
    true
}

fn best(snapshot: &Snapshot, pod: &PodInfo, profile: &Profile, feasible: &[usize], seed: u64) -> usize {
    let mut totals = vec![0i64; feasible.len()];
    for (scorer, weight) in &profile.scores {
        let Some(scores) = scorer.score_all(pod, snapshot, feasible) else { continue };
        totals.iter_mut().zip(scores).for_each(|(total, score)| *total += weight * score);
    }
    let top = totals.iter().copied().max().unwrap_or(0);
    let winners: Vec<usize> =
        feasible.iter().zip(&totals).filter(|(_, total)| **total == top).map(|(slot, _)| *slot).collect();
    winners[(seed % winners.len() as u64) as usize]
}

#[derive(Default)]
struct Rejected {
    reasons: BTreeMap<String, usize>,
    filters: BTreeSet<&'static str>,
}

impl Rejected {
    fn count(&mut self, filter: &'static str, reject: Reject, nodes: usize) {
        *self.reasons.entry(reject.reason).or_insert(0) += nodes;
        self.filters.insert(filter);
    }

    fn decision(self, nodes: usize) -> Decision {
        let mut message = format!("0/{nodes} nodes are available");
        if nodes == 0 {
            message = "no nodes available to schedule pods".into();
        }
        let mut counted: Vec<String> = self.reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
        counted.sort();
        if nodes > 0 && !counted.is_empty() {
            message = format!("{message}: {}.", counted.join(", "));
        }
        Decision::Unschedulable { message, filters: self.filters.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests;
