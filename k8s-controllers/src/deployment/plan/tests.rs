//! Plans as data, and whole rollouts played to their end on paper.

use k8s_core::api::api::apps::v1::ReplicaSetStatus;
use serde_json::{Value, from_value, json};

use super::*;

fn deployment(replicas: i32, image: &str, extra: Value) -> Deployment {
    let mut spec = json!({"replicas": replicas, "selector": {"matchLabels": {"app": "web"}},
        "progressDeadlineSeconds": 600, "revisionHistoryLimit": 2,
        "template": {"metadata": {"labels": {"app": "web"}}, "spec": {"containers": [{"name": "c", "image": image}]}}});
    for (key, value) in extra.as_object().unwrap() {
        spec[key] = value.clone();
    }
    from_value(json!({"metadata": {"name": "web", "namespace": "n", "uid": "d", "generation": 1}, "spec": spec}))
        .unwrap()
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// A world in which replica sets do at once what they are told, `ready` pods at a time.
struct World {
    deployment: Deployment,
    sets: Vec<ReplicaSet>,
    log: Vec<String>,
    /// The size asked for before the last step: a scale-down may take one step to be told.
    most: i32,
}

impl World {
    fn new(deployment: Deployment) -> Self {
        Self { deployment, sets: Vec::new(), log: Vec::new(), most: 0 }
    }

    fn name_of(&self, set: &ReplicaSet) -> String {
        let template = set.spec.template.clone().unwrap();
        template.spec.unwrap().containers[0].image.clone().unwrap()
    }

    /// One round of the controller, then one of the sets: at most one more pod becomes available in each.
    fn step(&mut self) -> bool {
        let sets: Vec<&ReplicaSet> = self.sets.iter().collect();
        let plan = plan(&self.deployment, &sets, &[], now());
        let before = (self.sets.clone(), self.deployment.clone());
        let mut gone = Vec::new();
        for action in plan.actions {
            match action {
                Action::Create(set) => {
                    self.log.push(format!("create {} {}", self.name_of(&set), set.spec.replicas.unwrap()));
                    self.sets.push(*set);
                }
                Action::Scale { index, replicas } => {
                    self.log.push(format!("scale {} {replicas}", self.name_of(&self.sets[index])));
                    self.sets[index].spec.replicas = Some(replicas);
                    let wanted = self.deployment.spec.replicas.unwrap().to_string();
                    self.sets[index]
                        .metadata
                        .annotations
                        .get_or_insert_default()
                        .insert(super::history::DESIRED.into(), wanted);
                }
                Action::Annotate { index, annotations } => {
                    self.sets[index].metadata.annotations.get_or_insert_default().extend(annotations);
                }
                Action::AnnotateSelf(annotations) => {
                    self.deployment.metadata.annotations.get_or_insert_default().extend(annotations);
                }
                Action::Delete(index) => {
                    self.log.push(format!("delete {}", self.name_of(&self.sets[index])));
                    gone.push(index);
                }
                Action::CountCollision => panic!("no collisions here"),
            }
        }
        gone.into_iter().rev().for_each(|index| drop(self.sets.remove(index)));
        self.deployment.status = Some(plan.status);
        for set in &mut self.sets {
            let wanted = set.spec.replicas.unwrap();
            let have = set.status.as_ref().map_or(0, |status| status.replicas);
            let next = if have < wanted { have + 1 } else { wanted };
            set.status = Some(ReplicaSetStatus {
                replicas: next,
                ready_replicas: Some(next),
                available_replicas: Some(next),
                ..Default::default()
            });
        }
        (self.sets.clone(), self.deployment.clone()) != before
    }

    /// Plays to the end, checking at every step that no bound is broken.
    fn settle(&mut self) {
        for _ in 0..200 {
            let (surge, unavailable) = rolling::bounds(&self.deployment, 1.max(self.wanted()));
            if !self.step() {
                return;
            }
            let total: i32 = self.sets.iter().map(|set| set.spec.replicas.unwrap()).sum();
            assert!(total <= self.wanted().max(self.most) + surge + unavailable, "{total} pods: {:?}", self.log);
            self.most = self.wanted();
        }
        panic!("does not settle: {:?}", self.log);
    }

    fn wanted(&self) -> i32 {
        self.deployment.spec.replicas.unwrap()
    }

    fn set_image(&mut self, image: &str) {
        let template = &mut self.deployment.spec.template;
        template.spec.as_mut().unwrap().containers[0].image = Some(image.into());
    }

    fn sizes(&self) -> Vec<(String, i32)> {
        self.sets.iter().map(|set| (self.name_of(set), set.spec.replicas.unwrap())).collect()
    }
}

fn one(strategy: Value) -> World {
    let mut world = World::new(deployment(3, "v1", json!({"strategy": strategy})));
    world.settle();
    world.log.clear();
    world
}

#[test]
fn a_new_deployment_gets_one_set_with_all_pods() {
    let mut world = World::new(deployment(3, "v1", json!({})));
    world.settle();
    assert_eq!(world.log, ["create v1 3"]);
    let status = world.deployment.status.clone().unwrap();
    assert_eq!((status.available_replicas, status.updated_replicas), (Some(3), Some(3)));
    let reasons: Vec<_> = status.conditions.unwrap().into_iter().filter_map(|c| c.reason).collect();
    assert_eq!(reasons, ["MinimumReplicasAvailable", "NewReplicaSetAvailable"]);
    assert_eq!(history::revision(&world.deployment.metadata), 1);
}

#[test]
fn a_rolling_update_never_has_too_few_or_too_many_pods() {
    for (surge, unavailable) in [(1, 0), (0, 1), (2, 1), (3, 3)] {
        let mut world =
            one(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}}));
        world.set_image("v2");
        for _ in 0..60 {
            world.step();
            let total: i32 = world.sizes().iter().map(|(_, size)| size).sum();
            let available: i32 =
                world.sets.iter().map(|set| set.status.as_ref().unwrap().available_replicas.unwrap()).sum();
            assert!(total <= 3 + surge, "{total} pods with surge {surge}: {:?}", world.log);
            assert!(available >= 3 - unavailable, "{available} available: {:?}", world.log);
        }
        assert_eq!(world.sizes(), [("v1".into(), 0), ("v2".into(), 3)], "{:?}", world.log);
        assert_eq!(history::revision(&world.deployment.metadata), 2);
    }
}

#[test]
fn going_back_reuses_the_old_set_under_a_new_number() {
    let mut world = one(json!({}));
    world.set_image("v2");
    world.settle();
    world.set_image("v1");
    world.settle();
    assert_eq!(world.sizes(), [("v1".into(), 3), ("v2".into(), 0)]);
    assert_eq!(history::revision(&world.sets[0].metadata), 3);
}

#[test]
fn recreate_waits_until_the_old_pods_are_gone() {
    let mut world = one(json!({"type": "Recreate"}));
    world.set_image("v2");
    let sets: Vec<&ReplicaSet> = world.sets.iter().collect();
    let first = plan(&world.deployment, &sets, &[], now());
    assert!(first.actions.contains(&Action::Scale { index: 0, replicas: 0 }));
    assert!(!first.actions.iter().any(|action| matches!(action, Action::Create(_))));
    world.sets[0].spec.replicas = Some(0);
    let pod: Pod = from_value(json!({"metadata": {"name": "old", "deletionTimestamp": "2026-01-01T00:00:00Z",
        "ownerReferences": [{"apiVersion": "apps/v1", "kind": "ReplicaSet", "name": "x", "uid": "old", "controller": true}]},
        "spec": {"containers": []}, "status": {"phase": "Running"}})).unwrap();
    let sets: Vec<&ReplicaSet> = world.sets.iter().collect();
    let creates = |pods: &[&Pod]| {
        plan(&world.deployment, &sets, pods, now()).actions.iter().any(|action| matches!(action, Action::Create(_)))
    };
    assert!(!creates(&[&pod]));
    assert!(creates(&[]));
}

#[test]
fn scaling_in_the_middle_of_a_rollout_is_shared_in_proportion() {
    let mut world = one(json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}));
    world.set_image("v2");
    world.step();
    assert_eq!(world.sizes(), [("v1".into(), 3), ("v2".into(), 1)]);
    world.deployment.spec.replicas = Some(9);
    world.step();
    assert_eq!(world.sizes(), [("v1".into(), 8), ("v2".into(), 2)], "{:?}", world.log);
    world.settle();
    assert_eq!(world.sizes(), [("v1".into(), 0), ("v2".into(), 9)]);
}

#[test]
fn a_paused_deployment_scales_but_does_not_roll() {
    let mut world = one(json!({}));
    world.deployment.spec.paused = Some(true);
    world.set_image("v2");
    world.deployment.spec.replicas = Some(5);
    world.settle();
    assert_eq!(world.sizes(), [("v1".into(), 5)]);
    world.deployment.spec.paused = None;
    world.settle();
    assert_eq!(world.sizes(), [("v1".into(), 0), ("v2".into(), 5)]);
}

#[test]
fn history_keeps_the_newest_old_sets() {
    let mut world = one(json!({}));
    for image in ["v2", "v3", "v4", "v5"] {
        world.set_image(image);
        world.settle();
    }
    let names: Vec<String> = world.sizes().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["v3", "v4", "v5"]);
}

#[test]
fn a_rollout_that_stands_still_says_so_after_its_deadline() {
    let stuck = World::new(deployment(1, "v1", json!({"progressDeadlineSeconds": 60})));
    let first = plan(&stuck.deployment, &[], &[], now());
    assert_eq!(first.wake_after, Some(Duration::from_secs(60)));
    let mut later = stuck.deployment.clone();
    later.status = Some(first.status);
    let late = plan(&later, &[], &[], "2026-01-01T00:01:00Z".parse().unwrap());
    let progress =
        late.status.conditions.unwrap().into_iter().find(|c| c.type_.as_deref() == Some("Progressing")).unwrap();
    assert_eq!(
        (progress.status.as_deref(), progress.reason.as_deref()),
        (Some("False"), Some("ProgressDeadlineExceeded"))
    );
}

#[test]
fn a_taken_name_is_a_collision() {
    let wanted = deployment(1, "v1", json!({}));
    let Action::Create(set) = plan(&wanted, &[], &[], now()).actions.pop().unwrap() else { panic!("a set is made") };
    let mut other = *set;
    other.spec.template = None;
    let actions = plan(&wanted, &[&other], &[], now()).actions;
    assert!(actions.contains(&Action::CountCollision), "{actions:?}");
}
