//! `v1` Pod: the status that people know pods by.

use super::{AGE, NAME, Table, age, int, items, joined, name, or_none, since, text, wide};
use crate::{doc::Doc, env::Timestamp};

pub(super) static POD: Table = Table {
    columns: &[
        NAME,
        text("Ready", "Ready containers of all containers."),
        text("Status", "What the pod is doing, or why it is not."),
        text("Restarts", "How often containers were restarted, and when last."),
        AGE,
        wide("IP", "The pod's address."),
        wide("Node", "The node that runs the pod."),
        wide("Nominated Node", "The node where room is being made for the pod."),
        wide("Readiness Gates", "Fulfilled readiness gates of all."),
    ],
    cells,
};

fn cells(pod: &Doc, now: Timestamp) -> Vec<Doc> {
    let summary = Summary::of(pod);
    let ip = items(pod, &["status", "podIPs"]).first().map_or("", |ip| ip.str_at(&["ip"]));
    let ip = if ip.is_empty() { pod.str_at(&["status", "podIP"]) } else { ip };
    vec![
        name(pod),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.as_str().into(),
        summary.restarts.text(now).into(),
        age(pod, now),
        or_none(ip),
        or_none(pod.str_at(&["spec", "nodeName"])),
        or_none(pod.str_at(&["status", "nominatedNodeName"])),
        gates(pod),
    ]
}

fn gates(pod: &Doc) -> Doc {
    let gates = items(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".into();
    }
    let met = gates.iter().filter(|gate| is_true(pod, gate.str_at(&["conditionType"]))).count();
    format!("{met}/{}", gates.len()).into()
}

fn is_true(pod: &Doc, condition: &str) -> bool {
    let mut conditions = items(pod, &["status", "conditions"]).iter();
    conditions.any(|found| found.str_at(&["type"]) == condition && found.str_at(&["status"]) == "True")
}

/// What the containers' statuses say together.
struct Summary {
    total: usize,
    ready: usize,
    restarts: Restarts,
    reason: String,
}

/// Restarts of some containers.
#[derive(Default)]
struct Restarts {
    count: i64,
    /// When the last of them had ended; empty if unknown.
    last: String,
}

impl Restarts {
    fn add(&mut self, status: &Doc) {
        self.count += int(status, &["restartCount"]);
        let finished = status.str_at(&["lastState", "terminated", "finishedAt"]);
        // RFC 3339 in UTC to the second sorts as text.
        if finished > self.last.as_str() {
            self.last = finished.to_owned();
        }
    }

    fn text(&self, now: Timestamp) -> String {
        if self.count > 0 && !self.last.is_empty() {
            return format!("{} ({} ago)", self.count, since(&self.last, now));
        }
        self.count.to_string()
    }
}

impl Summary {
    fn of(pod: &Doc) -> Self {
        let phase = pod.str_at(&["status", "phase"]);
        let reason = match pod.str_at(&["status", "reason"]) {
            "" => phase,
            reason => reason,
        };
        let total = items(pod, &["spec", "containers"]).len();
        let reason = if is_gated(pod) { "SchedulingGated" } else { reason };
        let mut summary = Self { total, ready: 0, restarts: Restarts::default(), reason: reason.to_owned() };
        let (is_initializing, of_sidecars) = summary.add_init(pod);
        if !is_initializing || is_true(pod, "Initialized") {
            // What the containers of a start that is over went through no longer matters.
            summary.restarts = of_sidecars;
            summary.add_containers(pod);
        }
        summary.add_deletion(pod, phase);
        summary
    }

    /// Looks at the init containers up to the first that is not done, which the others wait for. Returns whether there
    /// is one, and the restarts of the sidecars before it.
    fn add_init(&mut self, pod: &Doc) -> (bool, Restarts) {
        let (specs, statuses) =
            (items(pod, &["spec", "initContainers"]), items(pod, &["status", "initContainerStatuses"]));
        let is_sidecar = |status: &Doc| {
            let mut same = specs.iter().filter(|spec| spec.str_at(&["name"]) == status.str_at(&["name"]));
            same.any(|spec| spec.str_at(&["restartPolicy"]) == "Always")
        };
        self.total += specs.iter().filter(|spec| spec.str_at(&["restartPolicy"]) == "Always").count();
        let mut of_sidecars = Restarts::default();
        let flag = |status: &Doc, name: &str| status.get(name).and_then(Doc::as_bool) == Some(true);
        let mut blocked = None;
        for (index, status) in statuses.iter().enumerate() {
            let sidecar = is_sidecar(status);
            self.restarts.add(status);
            if sidecar {
                of_sidecars.add(status);
            }
            if is_done(status) {
                continue;
            }
            if !sidecar || !flag(status, "started") {
                blocked = Some((index, status));
                break;
            }
            self.ready += usize::from(flag(status, "ready"));
        }
        let Some((index, status)) = blocked else { return (false, of_sidecars) };
        let waiting = status.str_at(&["state", "waiting", "reason"]);
        self.reason = match status.at(&["state", "terminated"]) {
            Some(terminated) => format!("Init:{}", exit_reason(terminated)),
            None if !matches!(waiting, "" | "PodInitializing") => format!("Init:{waiting}"),
            None => format!("Init:{index}/{}", specs.len()),
        };
        (true, of_sidecars)
    }

    fn add_containers(&mut self, pod: &Doc) {
        let mut has_running = false;
        for status in items(pod, &["status", "containerStatuses"]).iter().rev() {
            self.restarts.add(status);
            let (waiting, terminated) =
                (status.str_at(&["state", "waiting", "reason"]), status.at(&["state", "terminated"]));
            let is_ready = status.get("ready").and_then(Doc::as_bool) == Some(true);
            if !waiting.is_empty() {
                self.reason = waiting.to_owned();
            } else if let Some(terminated) = terminated {
                self.reason = exit_reason(terminated);
            } else if is_ready && status.at(&["state", "running"]).is_some() {
                has_running = true;
                self.ready += 1;
            }
        }
        // One that ended beside one that runs is not what the pod is about.
        if self.reason == "Completed" && has_running {
            self.reason = if is_true(pod, "Ready") { "Running".into() } else { "NotReady".into() };
        }
    }

    fn add_deletion(&mut self, pod: &Doc, phase: &str) {
        if pod.at(&["metadata", "deletionTimestamp"]).is_none() {
            return;
        }
        if pod.str_at(&["status", "reason"]) == "NodeLost" {
            self.reason = "Unknown".into();
        } else if !matches!(phase, "Failed" | "Succeeded") {
            self.reason = "Terminating".into();
        }
    }
}

fn is_gated(pod: &Doc) -> bool {
    let mut conditions = items(pod, &["status", "conditions"]).iter();
    conditions.any(|found| found.str_at(&["type"]) == "PodScheduled" && found.str_at(&["reason"]) == "SchedulingGated")
}

fn is_done(status: &Doc) -> bool {
    status.at(&["state", "terminated"]).is_some_and(|terminated| int(terminated, &["exitCode"]) == 0)
}

fn exit_reason(terminated: &Doc) -> String {
    let (reason, signal) = (terminated.str_at(&["reason"]), int(terminated, &["signal"]));
    match (reason, signal) {
        ("", 0) => format!("ExitCode:{}", int(terminated, &["exitCode"])),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

/// Names and images of a template's containers, for the kinds that keep pods.
pub(super) fn containers(spec: &Doc) -> [Doc; 2] {
    let containers = items(spec, &["containers"]);
    [joined(containers, "name").into(), joined(containers, "image").into()]
}
