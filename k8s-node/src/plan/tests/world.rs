//! A machine that does at once what plans ask, and a clock that jumps to the next thing that happens.

use std::{collections::BTreeMap, fmt::Write, time::Duration};

use k8s_core::{
    api::api::core::v1::{ContainerState as ApiState, Pod, PodStatus},
    env::Timestamp,
};
use serde_json::{Value, json};

use crate::{
    plan::{
        BACK_OFF, CRASH_LOOP, Failure, Host, Notice, Observed, Op, Plan, ProbeResults, SANDBOX_ATTEMPT, Subject,
        Volumes, plan,
    },
    runtime::{ContainerState, ContainerStatus, Exit, NetworkMode, Resources, SandboxState, SandboxStatus},
};

/// What a container does once started.
#[derive(Debug, Clone, Copy)]
pub enum Act {
    /// Ends by itself after so many seconds with a code.
    Exit(u64, i32),
    /// Runs until stopped.
    Stay,
    /// Cannot be started.
    StartError,
    /// Its image is not there.
    NoImage,
    /// Something that it refers to is not there.
    ConfigError,
}

pub struct World {
    pub pod: Pod,
    pub observed: Observed,
    pub now: Timestamp,
    /// By container: one act per instance; the last one repeats.
    pub acts: BTreeMap<String, Vec<Act>>,
    /// By container: how many seconds it takes to end when asked to. Longer than the deadline: killed.
    pub stubborn: BTreeMap<String, u64>,
    pub finished: bool,
    pub log: String,
    exits: Vec<(Timestamp, String, i32)>,
    told: Vec<Notice>,
    shown: String,
}

pub const START: i64 = 1_767_225_600;

impl World {
    pub fn new(spec: Value) -> Self {
        let pod = json!({
            "metadata": {"name": "p", "namespace": "n", "uid": "u", "generation": 1},
            "spec": spec,
            "status": {"phase": "Pending"}});
        let host = Host { addresses: vec!["10.0.0.1".parse().unwrap()], runtime: "paper".into() };
        Self {
            pod: serde_json::from_value(pod).unwrap(),
            observed: Observed { host, ..Observed::default() },
            now: Timestamp::from_second(START).unwrap(),
            acts: BTreeMap::new(),
            stubborn: BTreeMap::new(),
            finished: false,
            log: String::new(),
            exits: vec![],
            told: vec![],
            shown: String::new(),
        }
    }

    pub fn act(mut self, container: &str, acts: &[Act]) -> Self {
        self.acts.insert(container.into(), acts.to_vec());
        self
    }

    pub fn stubborn(mut self, container: &str, seconds: u64) -> Self {
        self.stubborn.insert(container.into(), seconds);
        self
    }

    pub fn status(&self) -> &PodStatus {
        self.pod.status.as_ref().unwrap()
    }

    pub fn phase(&self) -> &str {
        self.status().phase.as_deref().unwrap_or_default()
    }

    fn say(&mut self, text: &str) {
        let at = self.now.as_second() - START;
        let _ = writeln!(self.log, "{at:>4} {text}");
    }

    pub fn probe(&mut self, container: &str, change: impl FnOnce(&mut ProbeResults)) {
        let newest = self.observed.containers.iter().filter(|c| c.name == container).max_by_key(|c| c.attempt).unwrap();
        change(self.observed.probes.entry(newest.id.clone()).or_default());
    }

    pub fn delete(&mut self, grace: i64) {
        self.say(&format!("- delete with {grace} s"));
        let meta = &mut self.pod.metadata;
        meta.deletion_grace_period_seconds = Some(grace);
        meta.deletion_timestamp = Some(k8s_core::api::apimachinery::pkg::apis::meta::v1::Time(self.now));
    }

    /// As after a restart of the machine.
    pub fn reboot(&mut self) {
        self.say("- reboot");
        self.observed.sandboxes.iter_mut().for_each(|sandbox| sandbox.state = SandboxState::NotReady);
        self.observed.addresses.clear();
        self.observed.volumes = Volumes::Absent;
        let running: Vec<String> = self.running();
        running.iter().for_each(|id| self.end(id, 255, None, "ContainerStatusUnknown"));
        self.exits.clear();
    }

    /// As after a restart of the agent alone.
    pub fn forget(&mut self) {
        self.say("- agent restarts");
        self.observed.history = Default::default();
        self.observed.addresses.clear();
        self.observed.volumes = Volumes::Absent;
        self.observed.probes.clear();
    }

    fn running(&self) -> Vec<String> {
        let running = self.observed.containers.iter();
        running.filter(|c| matches!(c.state, ContainerState::Running { .. })).map(|c| c.id.clone()).collect()
    }

    /// Plays until nothing happens any more, or `limit` seconds have passed.
    pub fn play(&mut self, limit: u64) -> Plan {
        let end = self.now.checked_add(Duration::from_secs(limit)).unwrap();
        for _ in 0..10_000 {
            let plan = self.settle();
            if self.finished {
                return plan;
            }
            let exit = self.exits.iter().map(|(at, ..)| *at).min();
            let next = [plan.next_wake, exit].into_iter().flatten().min().filter(|next| *next <= end);
            let Some(next) = next else {
                self.now = end;
                return plan;
            };
            assert!(next > self.now, "a wake must lie ahead");
            self.now = next;
            let (due, later) = std::mem::take(&mut self.exits).into_iter().partition(|(at, ..)| *at <= self.now);
            self.exits = later;
            for (_, id, code) in due as Vec<(Timestamp, String, i32)> {
                self.end(&id, code, None, if code == 0 { "Completed" } else { "Error" });
            }
        }
        panic!("the pod never comes to rest:\n{}", self.log);
    }

    /// Plans and does what is planned until there is nothing more to do now.
    fn settle(&mut self) -> Plan {
        for _ in 0..200 {
            let plan = plan(&self.pod, &self.observed, self.now);
            if plan.stopping {
                self.observed.history.stopping_since.get_or_insert(self.now);
            }
            let changed = self.pod.status.as_ref() != Some(&plan.status);
            self.pod.status = Some(plan.status.clone());
            self.show();
            for notice in &plan.notices {
                if !self.told.contains(notice) {
                    self.say(&format!("! {} {}", notice.reason, notice.message));
                }
            }
            self.told.clone_from(&plan.notices);
            let ops: Vec<Op> = plan.ops.iter().filter(|op| !self.is_stopping(op)).cloned().collect();
            if (ops.is_empty() && !changed) || self.finished {
                return plan;
            }
            ops.into_iter().for_each(|op| self.perform(op));
        }
        panic!("planning never comes to an end:\n{}", self.log);
    }

    /// A stop that is under way and need not be shortened.
    fn is_stopping(&self, op: &Op) -> bool {
        let Op::StopContainer { id, deadline, .. } = op else { return false };
        self.exits.iter().any(|(at, exiting, code)| exiting == id && *code >= 128 && at <= deadline)
    }

    fn show(&mut self) {
        let text = summary(self.status());
        if text != self.shown {
            self.say(&format!("= {text}"));
            self.shown = text;
        }
    }

    fn perform(&mut self, op: Op) {
        match op {
            Op::MountVolumes => {
                self.say("mount");
                self.observed.volumes = Volumes::Ready { refresh_at: None };
            }
            Op::StartSandbox { id, attempt } => {
                self.say(&format!("sandbox {id}"));
                self.observed.sandboxes.push(SandboxStatus {
                    id,
                    namespace: "n".into(),
                    name: "p".into(),
                    uid: "u".into(),
                    labels: BTreeMap::new(),
                    annotations: [(SANDBOX_ATTEMPT.to_owned(), attempt.to_string())].into(),
                    state: SandboxState::Ready,
                    network: NetworkMode::Pod,
                    netns: None,
                    created_at: self.now,
                });
            }
            Op::Connect { sandbox } => {
                self.say(&format!("connect {sandbox}"));
                self.observed.addresses.insert(sandbox, vec!["10.1.0.1".parse().unwrap()]);
            }
            Op::Disconnect { sandbox } => {
                self.say(&format!("disconnect {sandbox}"));
                self.observed.addresses.remove(&sandbox);
            }
            Op::RunContainer { .. } => self.run(op),
            Op::StopContainer { id, name, deadline, message } => {
                self.say(&format!("stop {id}: {message}"));
                let wish = self.stubborn.get(&name).copied().unwrap_or(0);
                let at = self.now.checked_add(Duration::from_secs(wish)).unwrap();
                let (at, code) = if at > deadline { (deadline.max(self.now), 137) } else { (at, 143) };
                self.exits.retain(|(_, exiting, _)| *exiting != id);
                if at <= self.now {
                    self.end(&id, code, Some(code - 128), "Error");
                } else {
                    self.exits.push((at, id, code));
                }
            }
            Op::UpdateResources { id, resources } => {
                self.say(&format!("resize {id}"));
                let container = self.observed.containers.iter_mut().find(|c| c.id == id).unwrap();
                container.resources.update(resources);
            }
            Op::RemoveContainer { id } => {
                self.say(&format!("forget {id}"));
                self.observed.containers.retain(|container| container.id != id);
            }
            Op::RemoveSandbox { id } => {
                self.say(&format!("remove {id}"));
                self.observed.containers.retain(|container| container.sandbox != id);
                self.observed.sandboxes.retain(|sandbox| sandbox.id != id);
                self.observed.addresses.remove(&id);
            }
            Op::CleanUp => {
                self.say("clean up");
                self.observed.history.cleaned_up = true;
            }
            Op::Finish => {
                self.say("finish");
                self.finished = true;
            }
        }
    }

    fn run(&mut self, op: Op) {
        let Op::RunContainer { id, name, sandbox, attempt, back_off } = op else { unreachable!() };
        let acts = self.acts.get(&name).cloned().unwrap_or(vec![Act::Stay]);
        let tries = self.observed.history.failures.values().map(|failure| failure.count).max().unwrap_or(0);
        let act = acts[(attempt.max(tries) as usize).min(acts.len() - 1)];
        let failure = match act {
            Act::NoImage => Some((Subject::Image(name.clone()), "ErrImagePull", "not here")),
            Act::ConfigError => {
                Some((Subject::Container(name.clone()), "CreateContainerConfigError", "configmap \"c\" not found"))
            }
            _ => None,
        };
        if let Some((subject, reason, message)) = failure {
            self.say(&format!("fail {id}: {reason}"));
            let count = self.observed.history.failures.get(&subject).map_or(0, |failure| failure.count) + 1;
            let until = self.now.checked_add(CRASH_LOOP.delay(count)).unwrap();
            let failure = Failure { reason: reason.into(), message: message.into(), count, at: self.now, until };
            self.observed.history.failures.insert(subject, failure);
            return;
        }
        self.observed.history.failures.clear();
        self.say(&format!("run {id}"));
        assert!(self.observed.containers.iter().all(|container| container.id != id), "{id} runs twice");
        let spec = self.pod.spec.as_ref().unwrap();
        let all = spec.init_containers.iter().flatten().chain(&spec.containers);
        let resources = all.filter(|c| c.name == name).map(|c| super::super::container_resources(&self.pod, c)).next();
        let image = self.image(&name);
        self.observed.containers.push(ContainerStatus {
            id: id.clone(),
            sandbox,
            name,
            attempt,
            image_ref: format!("{image}@sha256:1"),
            image,
            image_id: "sha256:1".into(),
            labels: BTreeMap::new(),
            annotations: back_off.map(|back_off| (BACK_OFF.to_owned(), back_off.to_string())).into_iter().collect(),
            log_path: None,
            resources: resources.unwrap_or(Resources::default()),
            user: None,
            created_at: self.now,
            state: ContainerState::Running { pid: None, started_at: self.now },
        });
        match act {
            Act::Exit(0, code) => self.end(&id, code, None, if code == 0 { "Completed" } else { "Error" }),
            Act::Exit(after, code) => {
                self.exits.push((self.now.checked_add(Duration::from_secs(after)).unwrap(), id, code));
            }
            Act::StartError => self.end(&id, 128, None, "StartError"),
            _ => {}
        }
    }

    fn image(&self, name: &str) -> String {
        let parts = crate::plan::parts(&self.pod);
        let part = parts.iter().find(|part| part.container.name == name).unwrap();
        part.container.image.clone().unwrap_or_default()
    }

    fn end(&mut self, id: &str, code: i32, signal: Option<i32>, reason: &str) {
        self.say(&format!("> {id} ends with {code}"));
        let now = self.now;
        let Some(container) = self.observed.containers.iter_mut().find(|container| container.id == id) else { return };
        let ContainerState::Running { started_at, .. } = container.state else { return };
        let message = if reason == "StartError" { "exec: \"x\": not found" } else { "" };
        container.state = ContainerState::Exited(Exit {
            code,
            signal,
            reason: reason.into(),
            message: message.into(),
            started_at,
            finished_at: now,
        });
    }
}

/// One line that says what a user would see.
pub fn summary(status: &PodStatus) -> String {
    let lists = [&status.init_container_statuses, &status.container_statuses, &status.ephemeral_container_statuses];
    let containers: Vec<String> = lists
        .into_iter()
        .flatten()
        .flatten()
        .map(|container| {
            let state = state(container.state.as_ref());
            let last = state_or(container.last_state.as_ref(), |last| format!(" (was {last})"));
            let restarts =
                if container.restart_count > 0 { format!(" x{}", container.restart_count) } else { String::new() };
            let ready = if container.ready { " ready" } else { "" };
            format!("{}: {state}{restarts}{ready}{last}", container.name)
        })
        .collect();
    let conditions = status.conditions.iter().flatten().filter(|condition| condition.status == "True");
    let letters: String = conditions.map(|condition| condition.type_.chars().next().unwrap()).collect();
    let reason = status.reason.as_deref().map(|reason| format!(" {reason}")).unwrap_or_default();
    format!("{}{reason} {letters} | {}", status.phase.as_deref().unwrap_or("?"), containers.join(", "))
}

fn state_or(state: Option<&ApiState>, text: impl Fn(String) -> String) -> String {
    match state {
        Some(found) if *found != ApiState::default() => text(self::state(state)),
        _ => String::new(),
    }
}

fn state(state: Option<&ApiState>) -> String {
    let Some(state) = state else { return "nothing".into() };
    match (&state.waiting, &state.running, &state.terminated) {
        (Some(waiting), None, None) => waiting.reason.clone().unwrap_or_default(),
        (None, Some(_), None) => "runs".into(),
        (None, None, Some(ended)) => format!("{} {}", ended.reason.clone().unwrap_or_default(), ended.exit_code),
        _ => "undefined".into(),
    }
}
