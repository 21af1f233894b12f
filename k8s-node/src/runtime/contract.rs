//! The promises of [`PodRuntime`] as a suite that every runtime passes. Run [`all`] over your own.
//!
//! The suite waits for hints and never for time; the caller bounds how long a runtime may take.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;

use super::{
    ContainerSpec, ContainerState, ContainerStatus, Exit, ImagePull, PodRuntime, RuntimeError, SandboxSpec,
    SandboxState,
};

/// A runtime to test, and how to get what is special to it.
#[async_trait]
pub trait Fixture: Send {
    /// The runtime.
    fn runtime(&self) -> Arc<dyn PodRuntime>;

    /// Makes a new runtime over what the present one left, as after a crash of the agent.
    async fn restart(&mut self);

    /// A container that behaves so; its id, labels and the like are set by the suite.
    fn container(&self, behaviour: Behaviour) -> ContainerSpec;
}

/// What a container of the suite does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Behaviour {
    /// Runs until it is stopped.
    Stay,
    /// Ends by itself at once, with this code.
    Exit(i32),
    /// Has a program that does not exist.
    CannotStart,
}

/// Runs every promise, each in a sandbox of its own. Panics, naming the promise, at the first that is broken.
pub async fn all(fixture: &mut dyn Fixture) {
    verbs_can_be_repeated(fixture).await;
    a_container_lives_once(fixture).await;
    what_was_given_is_told(fixture).await;
    stopping_stops(fixture).await;
    a_failed_start_is_told(fixture).await;
    what_is_missing_is_named(fixture).await;
    a_restart_loses_nothing(fixture).await;
    commands_answer_their_code(fixture).await;
    removing_a_sandbox_removes_its_containers(fixture).await;
}

async fn start_sandbox(runtime: &dyn PodRuntime, id: &str) {
    let labels = [("app".to_owned(), id.to_owned())].into();
    let annotations = [("note".to_owned(), "kept".to_owned())].into();
    let spec = SandboxSpec {
        id: id.to_owned(),
        namespace: "default".to_owned(),
        name: format!("{id}-name"),
        uid: format!("{id}-uid"),
        hostname: id.to_owned(),
        labels,
        annotations,
        ..SandboxSpec::default()
    };
    runtime.start_sandbox(spec).await.expect("a sandbox starts");
}

async fn create(fixture: &dyn Fixture, sandbox: &str, id: &str, behaviour: Behaviour) -> Result<(), RuntimeError> {
    let runtime = fixture.runtime();
    let spec = ContainerSpec { id: id.to_owned(), ..fixture.container(behaviour) };
    let pull = ImagePull { reference: spec.image.clone(), ..ImagePull::default() };
    runtime.pull_image(pull).await.expect("the suite's image can be had");
    runtime.create_container(sandbox, spec).await
}

async fn run(fixture: &dyn Fixture, sandbox: &str, id: &str, behaviour: Behaviour) {
    create(fixture, sandbox, id, behaviour).await.expect("a container is created");
    fixture.runtime().start_container(id).await.expect("a container starts");
}

async fn find(runtime: &dyn PodRuntime, id: &str) -> Option<ContainerStatus> {
    runtime.observe().await.expect("observing works").container(id).cloned()
}

async fn exit(runtime: &dyn PodRuntime, id: &str) -> Exit {
    let mut hints = runtime.hints();
    loop {
        let found = find(runtime, id).await.expect("the container is there");
        if let ContainerState::Exited(exit) = found.state {
            return exit;
        }
        hints.next().await.expect("hints do not end");
    }
}

/// Starting what is started and removing what is gone succeed, and change nothing.
pub async fn verbs_can_be_repeated(fixture: &mut dyn Fixture) {
    let runtime = fixture.runtime();
    start_sandbox(&*runtime, "repeat").await;
    start_sandbox(&*runtime, "repeat").await;
    run(fixture, "repeat", "repeat-c", Behaviour::Stay).await;
    let before = runtime.observe().await.expect("observing works");
    run(fixture, "repeat", "repeat-c", Behaviour::Stay).await;
    start_sandbox(&*runtime, "repeat").await;
    assert_eq!(runtime.observe().await.expect("observing works"), before, "repeated verbs change nothing");
    for _ in 0..2 {
        runtime.stop_container("repeat-c", Duration::ZERO, None).await.expect("stopping succeeds");
        runtime.kill_container("repeat-c", 15).await.expect("a signal to what ended is no error");
    }
    for _ in 0..2 {
        runtime.remove_container("repeat-c").await.expect("removing succeeds");
        runtime.stop_container("repeat-c", Duration::ZERO, None).await.expect("stopping what is gone succeeds");
    }
    for _ in 0..2 {
        runtime.remove_sandbox("repeat").await.expect("removing succeeds");
    }
    assert_eq!(runtime.observe().await.expect("observing works").sandbox("repeat"), None);
}

/// Created, running, exited, in this order, once; the end is hinted.
pub async fn a_container_lives_once(fixture: &mut dyn Fixture) {
    let runtime = fixture.runtime();
    start_sandbox(&*runtime, "once").await;
    create(fixture, "once", "once-c", Behaviour::Exit(7)).await.expect("a container is created");
    let created = find(&*runtime, "once-c").await.expect("it is there");
    assert_eq!(created.state, ContainerState::Created);
    runtime.start_container("once-c").await.expect("a container starts");
    let end = exit(&*runtime, "once-c").await;
    assert_eq!((end.code, end.reason.as_str()), (7, "Error"));
    assert!(end.started_at <= end.finished_at);
    runtime.start_container("once-c").await.expect("starting what has ended is no error");
    assert_eq!(exit(&*runtime, "once-c").await, end, "a container runs at most once");
    run(fixture, "once", "once-d", Behaviour::Exit(0)).await;
    assert_eq!(exit(&*runtime, "once-d").await.reason, "Completed");
    runtime.remove_sandbox("once").await.expect("removing succeeds");
}

/// Identity, labels and annotations come back as they were given.
pub async fn what_was_given_is_told(fixture: &mut dyn Fixture) {
    let runtime = fixture.runtime();
    start_sandbox(&*runtime, "told").await;
    let mut spec = ContainerSpec { id: "told-c".to_owned(), attempt: 3, ..fixture.container(Behaviour::Stay) };
    spec.labels.insert("key".to_owned(), "value".to_owned());
    spec.annotations.insert("key".to_owned(), "note".to_owned());
    runtime.create_container("told", spec.clone()).await.expect("a container is created");
    let seen = runtime.observe().await.expect("observing works");
    let sandbox = seen.sandbox("told").expect("it is there");
    assert_eq!(
        (sandbox.name.as_str(), sandbox.uid.as_str(), sandbox.state),
        ("told-name", "told-uid", SandboxState::Ready)
    );
    assert_eq!((sandbox.labels["app"].as_str(), sandbox.annotations["note"].as_str()), ("told", "kept"));
    let container = seen.container("told-c").expect("it is there");
    assert_eq!((&container.sandbox, &container.name, container.attempt), (&"told".to_owned(), &spec.name, 3));
    assert_eq!(
        (&container.labels, &container.annotations, &container.image),
        (&spec.labels, &spec.annotations, &spec.image)
    );
    assert!(container.image_id.starts_with("sha256:"), "{}", container.image_id);
    runtime.remove_sandbox("told").await.expect("removing succeeds");
}

/// A container that stays ends when it is told to, and its exit code names the signal.
pub async fn stopping_stops(fixture: &mut dyn Fixture) {
    let runtime = fixture.runtime();
    start_sandbox(&*runtime, "stop").await;
    run(fixture, "stop", "stop-c", Behaviour::Stay).await;
    assert!(matches!(find(&*runtime, "stop-c").await.expect("it is there").state, ContainerState::Running { .. }));
    runtime.stop_container("stop-c", Duration::ZERO, None).await.expect("stopping succeeds");
    let ContainerState::Exited(end) = find(&*runtime, "stop-c").await.expect("it is there").state else {
        panic!("a container is exited when stopping it has succeeded");
    };
    assert!(end.code == 137 || end.code == 143, "exit code {}", end.code);
    runtime.remove_sandbox("stop").await.expect("removing succeeds");
}

/// The error is a start error with words for users; the container is exited with code 128.
pub async fn a_failed_start_is_told(fixture: &mut dyn Fixture) {
    let runtime = fixture.runtime();
    start_sandbox(&*runtime, "fail").await;
    create(fixture, "fail", "fail-c", Behaviour::CannotStart).await.expect("a container is created");
    let error = runtime.start_container("fail-c").await.expect_err("its program does not exist");
    assert!(matches!(error, RuntimeError::Start { .. }), "{error:?}");
    assert_eq!(error.reason(), "RunContainerError");
    let end = exit(&*runtime, "fail-c").await;
    assert_eq!((end.code, end.reason.as_str()), (128, "StartError"));
    runtime.remove_sandbox("fail").await.expect("removing succeeds");
}

/// Unknown sandboxes, containers and images are told apart.
pub async fn what_is_missing_is_named(fixture: &mut dyn Fixture) {
    let runtime = fixture.runtime();
    let spec = ContainerSpec { id: "lost-c".to_owned(), ..fixture.container(Behaviour::Stay) };
    let error = runtime.create_container("nowhere", spec).await.expect_err("there is no such sandbox");
    assert_eq!(error, RuntimeError::NotFound { what: "sandbox", id: "nowhere".to_owned() });
    let error = runtime.start_container("nobody").await.expect_err("there is no such container");
    assert_eq!(error, RuntimeError::NotFound { what: "container", id: "nobody".to_owned() });
    start_sandbox(&*runtime, "miss").await;
    let image = "registry.invalid/no/such:image".to_owned();
    let spec = ContainerSpec { id: "miss-c".to_owned(), image: image.clone(), ..fixture.container(Behaviour::Stay) };
    let error = runtime.create_container("miss", spec).await.expect_err("there is no such image");
    assert_eq!(error, RuntimeError::ImageNotPresent { reference: image.clone() });
    assert_eq!(runtime.image_status(&image).await, Ok(None));
    let pull = ImagePull { reference: image, ..ImagePull::default() };
    let error = runtime.pull_image(pull).await.expect_err("there is no such image");
    assert_eq!(error.reason(), "ErrImagePull");
    runtime.remove_sandbox("miss").await.expect("removing succeeds");
}

/// A new runtime over the same state observes the same, and sees the end of what ran on.
pub async fn a_restart_loses_nothing(fixture: &mut dyn Fixture) {
    let runtime = fixture.runtime();
    start_sandbox(&*runtime, "again").await;
    run(fixture, "again", "again-stays", Behaviour::Stay).await;
    run(fixture, "again", "again-ends", Behaviour::Exit(9)).await;
    exit(&*runtime, "again-ends").await;
    let before = runtime.observe().await.expect("observing works");
    drop(runtime);
    fixture.restart().await;
    let runtime = fixture.runtime();
    assert_eq!(runtime.observe().await.expect("observing works"), before, "a restart changes nothing");
    runtime.stop_container("again-stays", Duration::ZERO, None).await.expect("an adopted container can be stopped");
    assert!(exit(&*runtime, "again-stays").await.code > 128);
    runtime.remove_sandbox("again").await.expect("removing succeeds");
}

/// A command in a running container has an exit code; in one that does not run, it is refused.
pub async fn commands_answer_their_code(fixture: &mut dyn Fixture) {
    let runtime = fixture.runtime();
    let Some(exec) = runtime.exec() else { return };
    start_sandbox(&*runtime, "exec").await;
    run(fixture, "exec", "exec-c", Behaviour::Stay).await;
    let spec = |id: &str| super::ExecSpec {
        container: id.to_owned(),
        command: vec!["true".to_owned()],
        ..super::ExecSpec::default()
    };
    let session = exec.exec(spec("exec-c")).await.expect("a command starts");
    assert_eq!(session.exit.await, Ok(0));
    runtime.stop_container("exec-c", Duration::ZERO, None).await.expect("stopping succeeds");
    let refused = exec.exec(spec("exec-c")).await.map(|_| ()).expect_err("it does not run any more");
    assert_eq!(refused, RuntimeError::NotRunning { id: "exec-c".to_owned() });
    runtime.remove_sandbox("exec").await.expect("removing succeeds");
}

/// Nothing of a pod is left when its sandbox is removed, whatever state its containers were in.
pub async fn removing_a_sandbox_removes_its_containers(fixture: &mut dyn Fixture) {
    let runtime = fixture.runtime();
    start_sandbox(&*runtime, "gone").await;
    run(fixture, "gone", "gone-runs", Behaviour::Stay).await;
    create(fixture, "gone", "gone-waits", Behaviour::Stay).await.expect("a container is created");
    runtime.remove_sandbox("gone").await.expect("removing succeeds");
    let seen = runtime.observe().await.expect("observing works");
    assert!(seen.containers.iter().all(|container| container.sandbox != "gone"), "{:?}", seen.containers);
}
