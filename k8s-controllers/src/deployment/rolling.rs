//! Rolling updates and proportional scaling: how many pods each replica set may have right now.

use k8s_core::api::{
    api::apps::v1::{Deployment, ReplicaSet},
    apimachinery::pkg::util::intstr::IntOrString,
};

use super::{
    history::DESIRED,
    plan::{Action, View, create_new},
};

/// `maxSurge` and `maxUnavailable` as numbers, never both zero.
pub fn bounds(deployment: &Deployment, wanted: i32) -> (i32, i32) {
    let strategy = deployment.spec.strategy.clone().unwrap_or_default();
    if strategy.type_.as_deref() == Some("Recreate") {
        return (0, 0);
    }
    let rolling = strategy.rolling_update.unwrap_or_default();
    let quarter = IntOrString::String("25%".into());
    let surge = resolve(rolling.max_surge.as_ref().unwrap_or(&quarter), wanted, f64::ceil);
    let unavailable = resolve(rolling.max_unavailable.as_ref().unwrap_or(&quarter), wanted, f64::floor);
    if surge == 0 && unavailable == 0 { (0, 1) } else { (surge, unavailable.min(wanted)) }
}

/// A number, or a share of `wanted`.
pub(crate) fn resolve(value: &IntOrString, wanted: i32, round: fn(f64) -> f64) -> i32 {
    match value {
        IntOrString::Int(number) => (*number).max(0),
        IntOrString::String(text) => {
            let percent: f64 = text.trim_end_matches('%').parse().unwrap_or(0.0);
            round(percent.max(0.0) * f64::from(wanted) / 100.0) as i32
        }
    }
}

/// One step of a rolling update: the new set grows as far as the surge allows, or old ones shrink as far as enough
/// pods stay available.
pub(super) fn roll(view: &View<'_>, actions: &mut Vec<Action>) {
    let (surge, unavailable) = bounds(view.deployment, view.wanted());
    let Some(new) = view.new else {
        let room = (view.wanted() + surge - view.total_size()).max(0);
        actions.push(create_new(view, room.min(view.wanted())));
        return;
    };
    let grown = new_size(view, new, surge);
    if grown != view.size(new) {
        actions.push(Action::Scale { index: new, replicas: grown });
        return;
    }
    shrink_old(view, new, unavailable, actions);
}

fn new_size(view: &View<'_>, new: usize, surge: i32) -> i32 {
    let (size, wanted) = (view.size(new), view.wanted());
    if size >= wanted {
        return wanted;
    }
    let room = wanted + surge - view.total_size();
    if room <= 0 { size } else { size + room.min(wanted - size) }
}

/// Old pods that are not available go first: they are not missed. Then available ones, as many as may be missing.
fn shrink_old(view: &View<'_>, new: usize, unavailable: i32, actions: &mut Vec<Action>) {
    let least = view.wanted() - unavailable;
    let new_missing = view.size(new) - view.available(new);
    let mut may_go = view.total_size() - least - new_missing;
    if may_go <= 0 {
        return;
    }
    let mut sizes: Vec<(usize, i32)> = view.old.iter().map(|index| (*index, view.size(*index))).collect();
    for (index, size) in &mut sizes {
        let broken = (*size - view.available(*index)).clamp(0, may_go);
        *size -= broken;
        may_go -= broken;
    }
    let available: i32 = (0..view.sets.len()).map(|index| view.available(index)).sum();
    let mut spare = available - least;
    for (_, size) in &mut sizes {
        let gone = spare.clamp(0, *size);
        *size -= gone;
        spare -= gone;
    }
    let changed = sizes.into_iter().filter(|(index, size)| *size != view.size(*index));
    actions.extend(changed.map(|(index, replicas)| Action::Scale { index, replicas }));
}

/// Whether the deployment was scaled since its sets were last told how many pods it wants.
pub(super) fn is_scaling_event(view: &View<'_>) -> bool {
    let told = |set: &ReplicaSet| -> Option<i32> { set.metadata.annotations.as_ref()?.get(DESIRED)?.parse().ok() };
    let active = (0..view.sets.len()).filter(|index| view.size(*index) > 0);
    active.filter_map(|index| told(view.sets[index])).any(|desired| desired != view.wanted())
}

/// Scales without rolling: one active set gets it all; several share the difference in proportion.
pub(super) fn scale(view: &View<'_>, actions: &mut Vec<Action>) {
    let mut active: Vec<usize> = view.old.iter().copied().chain(view.new).filter(|i| view.size(*i) > 0).collect();
    let (surge, _) = bounds(view.deployment, view.wanted());
    match active.as_slice() {
        [] => {
            if let Some(latest) =
                view.new.or(view.old.last().copied()).filter(|_| view.wanted() > 0 && view.new.is_some())
            {
                actions.push(Action::Scale { index: latest, replicas: view.wanted() });
            }
        }
        [only] => push_scale(view, *only, view.wanted(), actions),
        _ => {
            let allowed = if view.wanted() > 0 { view.wanted() + surge } else { 0 };
            active.sort_by_key(|index| std::cmp::Reverse(view.size(*index)));
            share(view, &active, allowed, actions);
        }
    }
}

fn share(view: &View<'_>, active: &[usize], allowed: i32, actions: &mut Vec<Action>) {
    let total: i32 = active.iter().map(|index| view.size(*index)).sum();
    let mut left = allowed - total;
    let mut sizes = Vec::new();
    for index in active {
        let size = view.size(*index);
        let part = (f64::from(size) * f64::from(allowed) / f64::from(total.max(1))).round() as i32 - size;
        let part = if left >= 0 { part.clamp(0, left) } else { part.clamp(left, 0) };
        left -= part;
        sizes.push((*index, size + part));
    }
    if let Some((_, largest)) = sizes.first_mut() {
        *largest = (*largest + left).max(0);
    }
    sizes.into_iter().for_each(|(index, size)| push_scale(view, index, size, actions));
}

/// Scaling tells the set how many pods the deployment wants, even where its own size stays.
fn push_scale(view: &View<'_>, index: usize, replicas: i32, actions: &mut Vec<Action>) {
    if replicas != view.size(index) {
        actions.push(Action::Scale { index, replicas });
    } else {
        let annotations = super::history::size_annotations(view);
        actions.push(Action::Annotate { index, annotations });
    }
}
