//! Thousands of pods: every combination of policy, role and behaviour, with what must hold for all of them.

use std::collections::BTreeSet;

use serde_json::json;

use super::world::{Act, START, World};
use crate::{
    plan::{Op, Plan},
    runtime::ContainerState,
};

const ACTS: [(&str, &[Act]); 8] = [
    ("stays", &[Act::Stay]),
    ("succeeds", &[Act::Exit(3, 0)]),
    ("succeeds at once", &[Act::Exit(0, 0)]),
    ("fails", &[Act::Exit(3, 1)]),
    ("fails once", &[Act::Exit(3, 1), Act::Exit(3, 0)]),
    ("cannot start", &[Act::StartError]),
    ("has no image", &[Act::NoImage]),
    ("lacks a reference", &[Act::ConfigError, Act::Stay]),
];
const POLICIES: [&str; 3] = ["Always", "OnFailure", "Never"];

fn world(policy: &str, init: Option<&[Act]>, side: Option<&[Act]>, app: &[Act], other: &[Act]) -> World {
    let mut inits = vec![];
    if init.is_some() {
        inits.push(json!({"name": "init", "image": "i"}));
    }
    if side.is_some() {
        inits.push(json!({"name": "side", "image": "i", "restartPolicy": "Always"}));
    }
    let containers = json!([{"name": "app", "image": "i"}, {"name": "other", "image": "i"}]);
    let spec = json!({"restartPolicy": policy, "initContainers": inits, "containers": containers,
        "terminationGracePeriodSeconds": 20});
    let world = World::new(spec).act("app", app).act("other", other).stubborn("app", 5).stubborn("side", 3);
    world.act("init", init.unwrap_or_default()).act("side", side.unwrap_or(&[Act::Stay]))
}

/// What holds for every plan, whatever came before.
fn check(world: &World, plan: &Plan) {
    let log = &world.log;
    let keys: BTreeSet<_> = plan.ops.iter().map(Op::key).collect();
    assert_eq!(keys.len(), plan.ops.len(), "no two operations share a key: {:?}\n{log}", plan.ops);
    let again = crate::plan::plan(&world.pod, &world.observed, world.now);
    assert_eq!(plan.ops, again.ops, "planning is a function\n{log}");
    let status = &plan.status;
    let all = [&status.init_container_statuses, &status.container_statuses].into_iter().flatten().flatten();
    for container in all {
        let state = container.state.as_ref().unwrap();
        let set = [state.waiting.is_some(), state.running.is_some(), state.terminated.is_some()];
        assert_eq!(set.iter().filter(|is_set| **is_set).count(), 1, "{} is in one state\n{log}", container.name);
        if container.ready && state.running.is_none() {
            assert_eq!(container.name, "init", "only what runs is ready\n{log}");
        }
    }
    if matches!(status.phase.as_deref(), Some("Succeeded" | "Failed")) {
        let running = world.observed.containers.iter().any(|c| matches!(c.state, ContainerState::Running { .. }));
        assert!(!running, "a final phase with something running\n{log}");
        assert!(
            !plan.ops.iter().any(|op| matches!(op, Op::RunContainer { .. })),
            "a finished pod starts nothing\n{log}"
        );
    }
}

#[test]
fn every_pod_obeys_the_rules_and_goes_when_deleted() {
    let mut pods = 0;
    for policy in POLICIES {
        for (_, app) in ACTS {
            for other in [ACTS[0].1, ACTS[1].1, ACTS[4].1] {
                for init in [None, Some(ACTS[1].1), Some(ACTS[4].1), Some(ACTS[3].1)] {
                    for side in [None, Some(ACTS[0].1), Some(ACTS[3].1)] {
                        for cut in [2, 95] {
                            life(world(policy, init, side, app, other), cut);
                            pods += 1;
                        }
                    }
                }
            }
        }
    }
    assert_eq!(pods, 3 * 8 * 3 * 4 * 3 * 2);
}

fn life(mut world: World, cut: u64) {
    let plan = world.play(cut);
    check(&world, &plan);
    let phase = world.phase().to_owned();
    world.forget();
    let plan = world.play(1);
    check(&world, &plan);
    if matches!(phase.as_str(), "Succeeded" | "Failed") {
        assert_eq!(world.phase(), phase, "a final phase stays\n{}", world.log);
    }
    let before = world.now;
    world.delete(10);
    world.play(3600);
    assert!(world.finished, "the pod is gone in the end\n{}", world.log);
    let took = world.now.as_second() - before.as_second();
    assert!(took <= 10, "within its grace period, not {took} s\n{}", world.log);
    assert!(world.observed.sandboxes.is_empty() && world.observed.containers.is_empty());
    assert!(matches!(world.phase(), "Succeeded" | "Failed"), "{}\n{}", world.phase(), world.log);
}

#[test]
fn phases_follow_policy_and_exit_codes() {
    let table = [
        ("Always", "succeeds", "Running"),
        ("Always", "fails", "Running"),
        ("Always", "stays", "Running"),
        ("OnFailure", "succeeds", "Succeeded"),
        ("OnFailure", "fails", "Running"),
        ("OnFailure", "fails once", "Succeeded"),
        ("Never", "succeeds", "Succeeded"),
        ("Never", "fails", "Failed"),
        ("Never", "cannot start", "Failed"),
        ("Never", "has no image", "Pending"),
    ];
    for (policy, name, phase) in table {
        let act = ACTS.iter().find(|(known, _)| *known == name).unwrap().1;
        let mut world = world(policy, None, None, act, ACTS[1].1);
        world.play(100);
        assert_eq!(world.phase(), phase, "{policy}, {name}:\n{}", world.log);
    }
}

#[test]
fn machine_restarts_at_any_second_lose_no_restart_and_run_nothing_twice() {
    for policy in POLICIES {
        for (_, app) in ACTS {
            for second in (0..40).step_by(3) {
                let mut world = world(policy, Some(ACTS[1].1), Some(ACTS[0].1), app, ACTS[0].1);
                world.play(second);
                let count = |world: &World| -> i32 {
                    world.status().container_statuses.iter().flatten().map(|status| status.restart_count).sum()
                };
                let before = count(&world);
                world.reboot();
                world.forget();
                let plan = world.play(600);
                check(&world, &plan);
                assert!(count(&world) >= before, "restarts are never forgotten\n{}", world.log);
                assert!(world.observed.sandboxes.len() <= 1, "old sandboxes go\n{}", world.log);
            }
        }
    }
}

#[test]
fn a_pod_deleted_before_anything_was_made_just_goes() {
    let mut world = world("Always", None, None, ACTS[0].1, ACTS[0].1);
    world.delete(30);
    world.play(0);
    assert!(world.finished, "{}", world.log);
    assert_eq!(world.now.as_second(), START);
    assert!(!world.log.contains("run") && !world.log.contains("sandbox"), "{}", world.log);
}

#[test]
fn orphans_are_stopped_and_removed() {
    let mut world = world("Always", None, Some(ACTS[0].1), ACTS[0].1, ACTS[0].1);
    world.play(10);
    let kinds = |ops: &[Op]| {
        ops.iter()
            .map(|op| format!("{op:?}").split([' ', '{']).next().unwrap_or_default().to_owned())
            .collect::<Vec<_>>()
    };
    let stops = crate::plan::plan_orphan(&world.observed, world.now);
    assert_eq!(kinds(&stops), ["StopContainer"; 3]);
    world.observed.containers.clear();
    assert_eq!(kinds(&crate::plan::plan_orphan(&world.observed, world.now)), ["RemoveSandbox"]);
    world.observed.sandboxes.clear();
    assert_eq!(kinds(&crate::plan::plan_orphan(&world.observed, world.now)), ["CleanUp"]);
    world.observed.history.cleaned_up = true;
    assert!(crate::plan::plan_orphan(&world.observed, world.now).is_empty());
}
