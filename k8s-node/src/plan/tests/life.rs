//! Whole lives, as a reader would tell them. Each line: second, what is done, `=` what status shows (letters: the
//! conditions that are true), `>` what happens, `!` what people are told, `-` what is done to the pod.

use serde_json::json;

use super::world::{Act, World};

fn one(policy: &str) -> World {
    World::new(json!({"restartPolicy": policy, "containers": [{"name": "c", "image": "i"}]}))
}

#[test]
fn a_container_comes_up() {
    let mut world = one("Always");
    world.play(3600);
    insta::assert_snapshot!(world.log, @r#"
    0 = Pending IP | c: ContainerCreating
    0 mount
    0 sandbox u-0
    0 connect u-0
    0 = Pending PIP | c: ContainerCreating
    0 run u-c-0
    0 = Running PIRCP | c: runs ready
    "#);
}

#[test]
fn a_crash_loop_waits_longer_each_time() {
    let mut world = one("Always").act("c", &[Act::Exit(1, 1)]);
    world.play(60);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending IP | c: ContainerCreating
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PIP | c: ContainerCreating
     0 run u-c-0
     0 = Running PIRCP | c: runs ready
     1 > u-c-0 ends with 1
     1 = Running PIP | c: Error 1
     1 run u-c-1
     1 = Running PIRCP | c: runs x1 ready (was Error 1)
     2 > u-c-1 ends with 1
     2 = Running PIP | c: CrashLoopBackOff x1 (was Error 1)
     2 ! BackOff Back-off restarting failed container c in pod p_n(u)
    12 run u-c-2
    12 = Running PIRCP | c: runs x2 ready (was Error 1)
    12 forget u-c-0
    13 > u-c-2 ends with 1
    13 = Running PIP | c: CrashLoopBackOff x2 (was Error 1)
    13 ! BackOff Back-off restarting failed container c in pod p_n(u)
    33 run u-c-3
    33 = Running PIRCP | c: runs x3 ready (was Error 1)
    33 forget u-c-1
    34 > u-c-3 ends with 1
    34 = Running PIP | c: CrashLoopBackOff x3 (was Error 1)
    34 ! BackOff Back-off restarting failed container c in pod p_n(u)
    "#);
}

#[test]
fn a_job_succeeds_and_gives_its_address_back() {
    let mut world = one("Never").act("c", &[Act::Exit(5, 0)]);
    world.play(3600);
    world.delete(30);
    world.play(3600);
    insta::assert_snapshot!(world.log, @r#"
       0 = Pending IP | c: ContainerCreating
       0 mount
       0 sandbox u-0
       0 connect u-0
       0 = Pending PIP | c: ContainerCreating
       0 run u-c-0
       0 = Running PIRCP | c: runs ready
       5 > u-c-0 ends with 0
       5 = Succeeded IP | c: Completed 0
       5 disconnect u-0
    3600 - delete with 30 s
    3600 remove u-0
    3600 clean up
    3600 finish
    "#);
}

#[test]
fn on_failure_tries_again_until_it_succeeds() {
    let mut world = one("OnFailure").act("c", &[Act::Exit(1, 3), Act::Exit(1, 0)]);
    world.play(3600);
    insta::assert_snapshot!(world.log, @r#"
    0 = Pending IP | c: ContainerCreating
    0 mount
    0 sandbox u-0
    0 connect u-0
    0 = Pending PIP | c: ContainerCreating
    0 run u-c-0
    0 = Running PIRCP | c: runs ready
    1 > u-c-0 ends with 3
    1 = Running PIP | c: Error 3
    1 run u-c-1
    1 = Running PIRCP | c: runs x1 ready (was Error 3)
    2 > u-c-1 ends with 0
    2 = Succeeded IP | c: Completed 0 x1 (was Error 3)
    2 disconnect u-0
    "#);
}

#[test]
fn deletion_asks_waits_and_kills() {
    let mut world = one("Always").stubborn("c", 100);
    world.play(10);
    world.delete(30);
    world.play(5);
    world.delete(2);
    world.play(3600);
    assert!(world.finished);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending IP | c: ContainerCreating
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PIP | c: ContainerCreating
     0 run u-c-0
     0 = Running PIRCP | c: runs ready
    10 - delete with 30 s
    10 stop u-c-0: Stopping container c
    15 - delete with 2 s
    15 stop u-c-0: Stopping container c
    15 > u-c-0 ends with 137
    15 = Failed IP | c: Error 137
    15 remove u-0
    15 clean up
    15 finish
    "#);
}

#[test]
fn init_containers_run_in_order_and_sidecars_stay() {
    let mut world = World::new(json!({"restartPolicy": "Never", "initContainers": [
        {"name": "first", "image": "i"},
        {"name": "side", "image": "i", "restartPolicy": "Always", "startupProbe": {}},
        {"name": "last", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}]}))
    .act("first", &[Act::Exit(1, 0)])
    .act("last", &[Act::Exit(1, 0)])
    .act("c", &[Act::Exit(5, 0)]);
    world.play(10);
    world.probe("side", |probes| probes.startup = Some(true));
    world.play(3600);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending P | first: PodInitializing, side: PodInitializing, last: PodInitializing, c: PodInitializing
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PP | first: PodInitializing, side: PodInitializing, last: PodInitializing, c: PodInitializing
     0 run u-first-0
     0 = Pending PP | first: runs, side: PodInitializing, last: PodInitializing, c: PodInitializing
     1 > u-first-0 ends with 0
     1 = Pending PP | first: Completed 0 ready, side: PodInitializing, last: PodInitializing, c: PodInitializing
     1 run u-side-0
     1 = Pending PP | first: Completed 0 ready, side: runs, last: PodInitializing, c: PodInitializing
    10 = Pending PP | first: Completed 0 ready, side: runs ready, last: PodInitializing, c: PodInitializing
    10 run u-last-0
    10 = Pending PP | first: Completed 0 ready, side: runs ready, last: runs, c: PodInitializing
    11 > u-last-0 ends with 0
    11 = Pending PIP | first: Completed 0 ready, side: runs ready, last: Completed 0 ready, c: ContainerCreating
    11 run u-c-0
    11 = Running PIRCP | first: Completed 0 ready, side: runs ready, last: Completed 0 ready, c: runs ready
    16 > u-c-0 ends with 0
    16 = Running PIP | first: Completed 0 ready, side: runs ready, last: Completed 0 ready, c: Completed 0
    16 stop u-side-0: Stopping container side
    16 > u-side-0 ends with 143
    16 = Succeeded IP | first: Completed 0 ready, side: Error 143, last: Completed 0 ready, c: Completed 0
    16 disconnect u-0
    "#);
}

#[test]
fn a_failed_init_container_fails_a_pod_that_never_restarts() {
    let spec = json!({"restartPolicy": "Never", "initContainers": [{"name": "i", "image": "i"}],
        "containers": [{"name": "c", "image": "i"}]});
    let mut world = World::new(spec).act("i", &[Act::Exit(1, 7)]);
    world.play(3600);
    insta::assert_snapshot!(world.log, @r#"
    0 = Pending P | i: PodInitializing, c: PodInitializing
    0 mount
    0 sandbox u-0
    0 connect u-0
    0 = Pending PP | i: PodInitializing, c: PodInitializing
    0 run u-i-0
    0 = Pending PP | i: runs, c: PodInitializing
    1 > u-i-0 ends with 7
    1 = Failed P | i: Error 7, c: PodInitializing
    1 disconnect u-0
    "#);
}

#[test]
fn a_missing_image_backs_off() {
    let mut world = one("Always").act("c", &[Act::NoImage, Act::NoImage, Act::Stay]);
    world.play(3600);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending IP | c: ContainerCreating
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PIP | c: ContainerCreating
     0 fail u-c-0: ErrImagePull
     0 = Pending PIP | c: ErrImagePull
     5 = Pending PIP | c: ImagePullBackOff
     5 ! BackOff Back-off pulling image "i"
    10 fail u-c-0: ErrImagePull
    10 = Pending PIP | c: ErrImagePull
    20 = Pending PIP | c: ImagePullBackOff
    20 ! BackOff Back-off pulling image "i"
    30 run u-c-0
    30 = Running PIRCP | c: runs ready
    "#);
}

#[test]
fn a_program_that_cannot_start_says_why() {
    let mut world = one("Always").act("c", &[Act::StartError]);
    world.play(40);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending IP | c: ContainerCreating
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PIP | c: ContainerCreating
     0 run u-c-0
     0 > u-c-0 ends with 128
     0 = Running PIP | c: ContainerCreating (was StartError 128)
     0 run u-c-1
     0 > u-c-1 ends with 128
     0 = Running PIP | c: RunContainerError x1 (was StartError 128)
     0 ! BackOff Back-off restarting failed container c in pod p_n(u)
    10 run u-c-2
    10 > u-c-2 ends with 128
    10 = Running PIP | c: CrashLoopBackOff x2 (was StartError 128)
    10 ! BackOff Back-off restarting failed container c in pod p_n(u)
    10 forget u-c-0
    30 run u-c-3
    30 > u-c-3 ends with 128
    30 = Running PIP | c: CrashLoopBackOff x3 (was StartError 128)
    30 ! BackOff Back-off restarting failed container c in pod p_n(u)
    30 forget u-c-1
    "#);
}

#[test]
fn a_missing_reference_waits_until_it_is_there() {
    let mut world = one("Always").act("c", &[Act::ConfigError, Act::Stay]);
    world.play(60);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending IP | c: ContainerCreating
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PIP | c: ContainerCreating
     0 fail u-c-0: CreateContainerConfigError
     0 = Pending PIP | c: CreateContainerConfigError
    10 run u-c-0
    10 = Running PIRCP | c: runs ready
    "#);
}

#[test]
fn a_failed_liveness_probe_restarts() {
    let mut world = one("Always");
    world.play(10);
    world.probe("c", |probes| probes.liveness = Some(false));
    world.play(20);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending IP | c: ContainerCreating
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PIP | c: ContainerCreating
     0 run u-c-0
     0 = Running PIRCP | c: runs ready
    10 stop u-c-0: Container c failed liveness probe, will be restarted
    10 > u-c-0 ends with 143
    10 = Running PIP | c: Error 143
    10 run u-c-1
    10 = Running PIRCP | c: runs x1 ready (was Error 143)
    "#);
}

#[test]
fn a_deadline_ends_the_pod() {
    let spec = json!({"activeDeadlineSeconds": 10, "containers": [{"name": "c", "image": "i"}]});
    let mut world = World::new(spec).stubborn("c", 3);
    world.play(3600);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending IP | c: ContainerCreating
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PIP | c: ContainerCreating
     0 run u-c-0
     0 = Running PIRCP | c: runs ready
    10 stop u-c-0: Pod was active on the node longer than the specified deadline
    13 > u-c-0 ends with 143
    13 = Failed DeadlineExceeded IP | c: Error 143
    13 disconnect u-0
    "#);
}

#[test]
fn a_machine_restart_runs_everything_again() {
    let spec = json!({"initContainers": [{"name": "i", "image": "i"}], "containers": [{"name": "c", "image": "i"}]});
    let mut world = World::new(spec).act("i", &[Act::Exit(1, 0)]);
    world.play(60);
    world.reboot();
    world.play(60);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending P | i: PodInitializing, c: PodInitializing
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PP | i: PodInitializing, c: PodInitializing
     0 run u-i-0
     0 = Pending PP | i: runs, c: PodInitializing
     1 > u-i-0 ends with 0
     1 = Pending PIP | i: Completed 0 ready, c: ContainerCreating
     1 run u-c-0
     1 = Running PIRCP | i: Completed 0 ready, c: runs ready
    60 - reboot
    60 > u-c-0 ends with 255
    60 = Pending P | i: Completed 0 ready, c: ContainerStatusUnknown 255
    60 mount
    60 sandbox u-1
    60 connect u-1
    60 remove u-0
    60 = Pending PP | i: Completed 0, c: ContainerStatusUnknown 255
    60 run u-i-1
    60 = Pending PP | i: runs x1 (was Completed 0), c: ContainerStatusUnknown 255
    61 > u-i-1 ends with 0
    61 = Running PIP | i: Completed 0 x1 ready (was Completed 0), c: ContainerStatusUnknown 255
    61 run u-c-1
    61 = Running PIRCP | i: Completed 0 x1 ready (was Completed 0), c: runs x1 ready (was ContainerStatusUnknown 255)
    "#);
}

#[test]
fn an_agent_restart_changes_nothing() {
    let spec = json!({"containers": [{"name": "c", "image": "i", "readinessProbe": {}, "startupProbe": {}}]});
    let mut world = World::new(spec);
    world.play(60);
    world.probe("c", |probes| (probes.startup, probes.readiness) = (Some(true), Some(true)));
    world.play(10);
    let before = super::world::summary(world.status());
    world.forget();
    world.play(10);
    assert_eq!(super::world::summary(world.status()), before);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending IP | c: ContainerCreating
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PIP | c: ContainerCreating
     0 run u-c-0
     0 = Running PIP | c: runs
    60 = Running PIRCP | c: runs ready
    70 - agent restarts
    70 = Running IRCP | c: runs ready
    70 mount
    70 connect u-0
    70 = Running PIRCP | c: runs ready
    "#);
}

#[test]
fn another_image_restarts_the_container() {
    let mut world = one("Always");
    world.play(10);
    world.pod.spec.as_mut().unwrap().containers[0].image = Some("j".into());
    world.play(10);
    insta::assert_snapshot!(world.log, @r#"
     0 = Pending IP | c: ContainerCreating
     0 mount
     0 sandbox u-0
     0 connect u-0
     0 = Pending PIP | c: ContainerCreating
     0 run u-c-0
     0 = Running PIRCP | c: runs ready
    10 stop u-c-0: Container c definition changed, will be restarted
    10 > u-c-0 ends with 143
    10 = Running PIP | c: Error 143
    10 run u-c-1
    10 = Running PIRCP | c: runs x1 ready (was Error 143)
    "#);
}

#[test]
fn limits_change_in_place() {
    let mut world = one("Always");
    world.play(10);
    let resources = json!({"limits": {"cpu": "500m", "memory": "64Mi"}});
    world.pod.spec.as_mut().unwrap().containers[0].resources = serde_json::from_value(resources).unwrap();
    world.play(10);
    assert_eq!(world.observed.containers[0].resources.cpu_quota_us, Some(50_000));
    assert_eq!(world.log.matches("resize").count(), 1, "{}", world.log);
    assert_eq!(world.log.matches("run").count(), 2, "it runs on: {}", world.log);
}

#[test]
fn the_whole_status_of_a_running_pod() {
    let mut world = one("Always");
    world.play(10);
    insta::assert_snapshot!(serde_json::to_string_pretty(world.status()).unwrap(), @r#"
    {
      "conditions": [
        {
          "lastTransitionTime": "2026-01-01T00:00:00Z",
          "observedGeneration": 1,
          "status": "True",
          "type": "PodReadyToStartContainers"
        },
        {
          "lastTransitionTime": "2026-01-01T00:00:00Z",
          "observedGeneration": 1,
          "status": "True",
          "type": "Initialized"
        },
        {
          "lastTransitionTime": "2026-01-01T00:00:00Z",
          "observedGeneration": 1,
          "status": "True",
          "type": "Ready"
        },
        {
          "lastTransitionTime": "2026-01-01T00:00:00Z",
          "observedGeneration": 1,
          "status": "True",
          "type": "ContainersReady"
        },
        {
          "lastTransitionTime": "2026-01-01T00:00:00Z",
          "observedGeneration": 1,
          "status": "True",
          "type": "PodScheduled"
        }
      ],
      "containerStatuses": [
        {
          "containerID": "paper://u-c-0",
          "image": "i",
          "imageID": "i@sha256:1",
          "lastState": {},
          "name": "c",
          "ready": true,
          "restartCount": 0,
          "started": true,
          "state": {
            "running": {
              "startedAt": "2026-01-01T00:00:00Z"
            }
          }
        }
      ],
      "hostIP": "10.0.0.1",
      "hostIPs": [
        {
          "ip": "10.0.0.1"
        }
      ],
      "observedGeneration": 1,
      "phase": "Running",
      "podIP": "10.1.0.1",
      "podIPs": [
        {
          "ip": "10.1.0.1"
        }
      ],
      "qosClass": "BestEffort",
      "startTime": "2026-01-01T00:00:00Z"
    }
    "#);
}
