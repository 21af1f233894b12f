//! The queue as a value: what is done to it, what comes out.

use super::*;
use crate::plugins::priority_sort::PrioritySort;

fn pod(name: &str, priority: i32) -> PodInfo {
    PodInfo { key: ObjectKey::new("n", name), uid: name.into(), priority, ..Default::default() }
}

fn queue() -> PodQueue {
    PodQueue::new(Arc::new(PrioritySort))
}

fn names(queue: &mut PodQueue, now: u64) -> Vec<String> {
    let now = Duration::from_secs(now);
    std::iter::from_fn(|| queue.pop(now)).map(|attempt| attempt.pod.key.name.to_string()).collect()
}

#[test]
fn higher_priority_first_then_first_come() {
    let mut queue = queue();
    for (name, priority) in [("a", 0), ("b", 10), ("c", 0), ("d", 10)] {
        queue.set(pod(name, priority));
    }
    assert_eq!(names(&mut queue, 0), ["b", "d", "a", "c"]);
}

#[test]
fn what_does_not_fit_waits_for_a_change_that_may_help() {
    let mut queue = queue();
    queue.set(pod("a", 0));
    let attempt = queue.pop(Duration::ZERO).unwrap();
    queue.unschedulable(attempt, vec![ClusterChange::NodeAdded], Duration::ZERO);
    queue.wake(ClusterChange::PodPlaced, Duration::from_secs(2));
    assert!(names(&mut queue, 2).is_empty());
    queue.wake(ClusterChange::NodeAdded, Duration::from_secs(3));
    assert_eq!(names(&mut queue, 3), ["a"]);
}

#[test]
fn a_change_during_the_attempt_is_not_missed() {
    let mut queue = queue();
    queue.set(pod("a", 0));
    let attempt = queue.pop(Duration::ZERO).unwrap();
    queue.wake(ClusterChange::NodeAdded, Duration::ZERO);
    queue.unschedulable(attempt, vec![ClusterChange::NodeAdded], Duration::ZERO);
    assert_eq!(queue.lengths(), [0, 1, 0, 0]);
    assert_eq!(names(&mut queue, 1), ["a"]);
}

#[test]
fn a_back_off_lets_others_go_first_and_keeps_nobody_waiting_for_none() {
    let mut queue = queue();
    queue.set(pod("woken", 10));
    let attempt = queue.pop(Duration::ZERO).unwrap();
    queue.unschedulable(attempt, vec![ClusterChange::NodeAdded], Duration::ZERO);
    queue.set(pod("other", 0));
    queue.wake(ClusterChange::NodeAdded, Duration::ZERO);
    assert_eq!(names(&mut queue, 0), ["other", "woken"], "the more important one backs off");
    queue.set(pod("failed", 0));
    let attempt = queue.pop(Duration::ZERO).unwrap();
    queue.retry(attempt, Duration::ZERO);
    assert!(names(&mut queue, 0).is_empty(), "what failed is given time");
    assert_eq!(queue.next_ready(), Some(INITIAL_BACK_OFF));
    assert_eq!(names(&mut queue, 1), ["failed"]);
}

#[test]
fn the_first_node_is_not_waited_for_with_a_back_off() {
    let mut queue = queue();
    queue.set(pod("a", 0));
    let attempt = queue.pop(Duration::ZERO).unwrap();
    queue.no_nodes(attempt, Duration::ZERO);
    assert!(names(&mut queue, 0).is_empty());
    queue.wake(ClusterChange::NodeAdded, Duration::ZERO);
    let attempt = queue.pop(Duration::ZERO).unwrap();
    assert_eq!(attempt.attempts, 0);
    queue.wake(ClusterChange::NodeAdded, Duration::ZERO);
    queue.no_nodes(attempt, Duration::ZERO);
    assert_eq!(names(&mut queue, 0), ["a"], "also when it came during the attempt");
}

#[test]
fn back_off_doubles_up_to_its_bound() {
    let waits: Vec<u64> = (1..=6).map(|attempts| back_off(attempts).as_secs()).collect();
    assert_eq!(waits, [1, 2, 4, 8, 10, 10]);
}

#[test]
fn nothing_waits_for_ever() {
    let mut queue = queue();
    queue.set(pod("a", 0));
    let attempt = queue.pop(Duration::ZERO).unwrap();
    queue.unschedulable(attempt, vec![], Duration::ZERO);
    assert_eq!(queue.next_ready(), Some(MAX_WAIT));
    assert_eq!(names(&mut queue, 300), ["a"]);
}

#[test]
fn gates_hold_a_pod_until_they_are_gone() {
    let mut queue = queue();
    queue.set(PodInfo { gates: vec!["wait".into()], ..pod("a", 0) });
    assert_eq!(queue.lengths(), [0, 0, 0, 1]);
    assert!(names(&mut queue, 999).is_empty());
    queue.set(pod("a", 0));
    assert_eq!(names(&mut queue, 999), ["a"]);
}

#[test]
fn an_unchanged_pod_keeps_its_place_and_a_removed_one_is_gone() {
    let mut queue = queue();
    queue.set(pod("a", 0));
    let attempt = queue.pop(Duration::ZERO).unwrap();
    queue.unschedulable(attempt, vec![], Duration::ZERO);
    queue.set(pod("a", 0));
    assert_eq!(queue.lengths(), [0, 0, 1, 0]);
    queue.set(pod("a", 5));
    assert_eq!(queue.lengths(), [1, 0, 0, 0]);
    queue.remove(&ObjectKey::new("n", "a"));
    assert_eq!(queue.lengths(), [0, 0, 0, 0]);
}
