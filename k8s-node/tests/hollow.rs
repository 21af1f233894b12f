//! The pretending runtime keeps the promises, and its time is only the environment's.
#![allow(clippy::disallowed_methods, reason = "tests look at the clock that they paused")]

mod support;

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use futures::StreamExt;
use k8s_node::{
    hollow::Hollow,
    runtime::{
        contract::{self, Behaviour, Fixture},
        *,
    },
};
use k8s_wire::env::System;
use support::{exit, within};

struct Subject(Arc<Hollow>);

#[async_trait]
impl Fixture for Subject {
    fn runtime(&self) -> Arc<dyn PodRuntime> {
        Arc::clone(&self.0) as Arc<dyn PodRuntime>
    }

    async fn restart(&mut self) {}

    fn container(&self, behaviour: Behaviour) -> ContainerSpec {
        let instruction = match behaviour {
            Behaviour::Stay => None,
            Behaviour::Exit(code) => Some(("hollow/exit-code".to_owned(), code.to_string())),
            Behaviour::CannotStart => Some(("hollow/start-error".to_owned(), "no such program".to_owned())),
        };
        ContainerSpec {
            image: "app".to_owned(),
            annotations: instruction.into_iter().collect(),
            ..ContainerSpec::default()
        }
    }
}

#[tokio::test(start_paused = true)]
async fn it_keeps_the_contract() {
    within(contract::all(&mut Subject(Arc::new(Hollow::new(System::current()))))).await;
}

async fn container(runtime: &Hollow, annotations: &[(&str, &str)]) {
    let sandbox = SandboxSpec { id: "pod".to_owned(), ..SandboxSpec::default() };
    runtime.start_sandbox(sandbox).await.unwrap();
    runtime.pull_image(ImagePull { reference: "app".to_owned(), ..ImagePull::default() }).await.unwrap();
    let annotations = annotations.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
    let spec = ContainerSpec { id: "c".to_owned(), image: "app".to_owned(), annotations, ..ContainerSpec::default() };
    runtime.create_container("pod", spec).await.unwrap();
    runtime.start_container("c").await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn a_container_ends_when_its_time_has_come() {
    let runtime = Hollow::new(System::current());
    let begin = tokio::time::Instant::now();
    container(&runtime, &[("hollow/exit-after", "1h"), ("hollow/exit-code", "4")]).await;
    let mut hints = runtime.hints();
    assert_eq!(hints.next().await, Some(Hint { sandbox: "pod".to_owned() }));
    assert_eq!(begin.elapsed().as_secs(), 3600);
    assert_eq!(exit(&runtime, "c").await.code, 4);
}

#[tokio::test(start_paused = true)]
async fn stopping_takes_as_long_as_told_and_at_most_the_grace() {
    for (grace, seconds, code) in [(30, 10, 143), (5, 5, 137)] {
        let runtime = Hollow::new(System::current());
        container(&runtime, &[("hollow/stop-after", "10s")]).await;
        let begin = tokio::time::Instant::now();
        runtime.stop_container("c", Duration::from_secs(grace), None).await.unwrap();
        assert_eq!(begin.elapsed().as_secs(), seconds);
        assert_eq!(exit(&runtime, "c").await.code, code);
    }
}

#[tokio::test(start_paused = true)]
async fn logs_and_commands_say_what_they_are_told_to() {
    let runtime = Hollow::new(System::current());
    container(&runtime, &[("hollow/log", "one\ntwo"), ("hollow/exec-exit-code", "2"), ("hollow/exec-output", "out")])
        .await;
    let options = LogOptions { tail_lines: Some(1), ..LogOptions::default() };
    let text: Vec<_> = runtime.logs().unwrap().read("c", options).await.unwrap().collect().await;
    assert_eq!(text, [Ok("two\n".into())]);
    let exec = PodRuntime::exec(&runtime).unwrap();
    let (env, command) = (System::current(), vec!["check".to_owned()]);
    let output = run_to_end(exec, &*env, "c", command, Duration::from_secs(1), 100).await.unwrap();
    assert_eq!(output, ExecOutput { code: Some(2), output: b"out".to_vec() });
}

#[tokio::test(start_paused = true)]
async fn a_restart_of_the_machine_ends_everything() {
    let runtime = Hollow::new(System::current());
    container(&runtime, &[]).await;
    runtime.reboot();
    assert_eq!(runtime.observe().await.unwrap().sandboxes[0].state, SandboxState::NotReady);
    assert_eq!(exit(&runtime, "c").await.reason, "ContainerStatusUnknown");
}
