//! `apps/v1` DaemonSet and StatefulSet, `batch/v1` Job and CronJob, `autoscaling` HorizontalPodAutoscaler.

use super::{
    AGE, Column, NAME, Table, age, human_duration, int, items, name, number, or_none, pairs, pod, since, text, wide,
    workload::selector,
};
use crate::{doc::Doc, env::Timestamp};

const CONTAINERS: Column = wide("Containers", "Names of the containers in the template.");
const IMAGES: Column = wide("Images", "Images of the containers in the template.");
const SELECTOR: Column = wide("Selector", "Which pods belong to it.");

fn template(spec: Option<&Doc>) -> [Doc; 2] {
    pod::containers(spec.and_then(|spec| spec.at(&["template", "spec"])).unwrap_or(&Doc::Null))
}

pub(super) static DAEMON_SET: Table = Table {
    columns: &[
        NAME,
        number("Desired", "Nodes that should run a pod of it."),
        number("Current", "Nodes that run one."),
        number("Ready", "Nodes whose pod is ready."),
        number("Up-to-date", "Nodes whose pod follows the current template."),
        number("Available", "Nodes whose pod has been ready long enough."),
        text("Node Selector", "Which nodes run a pod of it."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |doc, now| {
        let status = |field: &str| Doc::from(int(doc, &["status", field]));
        let [containers, images] = template(doc.get("spec"));
        vec![
            name(doc),
            status("desiredNumberScheduled"),
            status("currentNumberScheduled"),
            status("numberReady"),
            status("updatedNumberScheduled"),
            status("numberAvailable"),
            or_none(&pairs(doc.at(&["spec", "template", "spec", "nodeSelector"]))),
            age(doc, now),
            containers,
            images,
            selector(doc),
        ]
    },
};

pub(super) static STATEFUL_SET: Table = Table {
    columns: &[NAME, text("Ready", "Ready pods of those desired."), AGE, CONTAINERS, IMAGES],
    cells: |doc, now| {
        let ready = format!("{}/{}", int(doc, &["status", "readyReplicas"]), int(doc, &["spec", "replicas"]));
        let [containers, images] = template(doc.get("spec"));
        vec![name(doc), ready.into(), age(doc, now), containers, images]
    },
};

pub(super) static JOB: Table = Table {
    columns: &[
        NAME,
        text("Status", "How it goes."),
        text("Completions", "Completed pods of those desired."),
        text("Duration", "How long it took, or takes."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |doc, now| {
        let [containers, images] = template(doc.get("spec"));
        vec![
            name(doc),
            job_status(doc).into(),
            completions(doc).into(),
            duration(doc, now).into(),
            age(doc, now),
            containers,
            images,
            selector(doc),
        ]
    },
};

fn job_status(job: &Doc) -> &'static str {
    let holds = |kind: &str| {
        items(job, &["status", "conditions"])
            .iter()
            .any(|condition| condition.str_at(&["type"]) == kind && condition.str_at(&["status"]) == "True")
    };
    let ends = !job.str_at(&["metadata", "deletionTimestamp"]).is_empty();
    match () {
        () if holds("Complete") => "Complete",
        () if holds("Failed") => "Failed",
        () if ends => "Terminating",
        () if holds("Suspended") => "Suspended",
        () if holds("FailureTarget") => "FailureTarget",
        () if holds("SuccessCriteriaMet") => "SuccessCriteriaMet",
        () => "Running",
    }
}

fn completions(job: &Doc) -> String {
    let done = int(job, &["status", "succeeded"]);
    match job.at(&["spec", "completions"]).and_then(Doc::as_i64) {
        Some(wanted) => format!("{done}/{wanted}"),
        None => match int(job, &["spec", "parallelism"]) {
            parallel @ 2.. => format!("{done}/1 of {parallel}"),
            _ => format!("{done}/1"),
        },
    }
}

fn duration(job: &Doc, now: Timestamp) -> String {
    let time = |field: &str| job.str_at(&["status", field]).parse::<Timestamp>().ok();
    match (time("startTime"), time("completionTime")) {
        (None, _) => String::new(),
        (Some(start), end) => human_duration(end.unwrap_or(now).as_second() - start.as_second()),
    }
}

pub(super) static CRON_JOB: Table = Table {
    columns: &[
        NAME,
        text("Schedule", "When its jobs start."),
        text("Timezone", "The zone of the schedule."),
        Column { kind: "boolean", ..text("Suspend", "Whether no more jobs start.") },
        number("Active", "Jobs that run."),
        text("Last Schedule", "When the last job started."),
        AGE,
        CONTAINERS,
        IMAGES,
        SELECTOR,
    ],
    cells: |doc, now| {
        let last = doc.str_at(&["status", "lastScheduleTime"]);
        let suspended = doc.at(&["spec", "suspend"]).and_then(Doc::as_bool) == Some(true);
        let job = doc.at(&["spec", "jobTemplate", "spec"]);
        let [containers, images] = template(job);
        vec![
            name(doc),
            doc.str_at(&["spec", "schedule"]).into(),
            or_none(doc.str_at(&["spec", "timeZone"])),
            // In title case, as printed.
            if suspended { "True".into() } else { "False".into() },
            (items(doc, &["status", "active"]).len() as i64).into(),
            if last.is_empty() { "<none>".into() } else { since(last, now).into() },
            age(doc, now),
            containers,
            images,
            or_none(&pairs(job.and_then(|job| job.at(&["selector", "matchLabels"])))),
        ]
    },
};

/// How many metrics are shown before the rest are only counted.
const SHOWN: usize = 2;

pub(super) static AUTOSCALER: Table = Table {
    columns: &[
        NAME,
        text("Reference", "What is scaled."),
        text("Targets", "What the metrics are, and what they should be."),
        text("MinPods", "The fewest pods."),
        text("MaxPods", "The most pods."),
        text("Replicas", "Pods that are there."),
        AGE,
    ],
    cells: |doc, now| {
        let reference = |field: &str| doc.str_at(&["spec", "scaleTargetRef", field]);
        let least = doc.at(&["spec", "minReplicas"]).and_then(Doc::as_i64);
        vec![
            name(doc),
            format!("{}/{}", reference("kind"), reference("name")).into(),
            targets(doc).into(),
            least.map_or_else(|| "<unset>".into(), |least| least.to_string().into()),
            Doc::from(int(doc, &["spec", "maxReplicas"])),
            Doc::from(int(doc, &["status", "currentReplicas"])),
            age(doc, now),
        ]
    },
};

fn targets(doc: &Doc) -> String {
    // Of version 1 there is one metric, without a list.
    let metrics = items(doc, &["spec", "metrics"]);
    if metrics.is_empty() {
        return match doc.at(&["spec", "targetCPUUtilizationPercentage"]).and_then(Doc::as_i64) {
            Some(target) => {
                let now = doc.at(&["status", "currentCPUUtilizationPercentage"]).and_then(Doc::as_i64);
                format!("cpu: {}/{target}%", now.map_or_else(|| "<unknown>".into(), |now| format!("{now}%")))
            }
            None => "<none>".into(),
        };
    }
    let current = items(doc, &["status", "currentMetrics"]);
    let shown: Vec<String> =
        metrics.iter().enumerate().map(|(place, metric)| target(metric, current.get(place))).collect();
    match shown.len() {
        0..=SHOWN => shown.join(", "),
        all => format!("{} + {} more...", shown[..SHOWN].join(", "), all - SHOWN),
    }
}

fn target(metric: &Doc, current: Option<&Doc>) -> String {
    let field = match metric.str_at(&["type"]) {
        "External" => "external",
        "Pods" => "pods",
        "Object" => "object",
        "Resource" => "resource",
        "ContainerResource" => "containerResource",
        _ => return "<unknown type>".into(),
    };
    let wanted = metric.at(&[field, "target"]).unwrap_or(&Doc::Null);
    let now = |what: &str| {
        let found = current.and_then(|current| current.at(&[field, "current", what]));
        found
            .filter(|found| !found.is_null())
            .map(|found| found.as_str().map_or_else(|| found.to_string(), str::to_owned))
    };
    let or_unknown = |found: Option<String>, unit: &str| found.map_or_else(|| "<unknown>".into(), |it| it + unit);
    let value = |what: &str| wanted.str_at(&[what]).to_owned();
    let has = |what: &str| wanted.get(what).is_some_and(|found| !found.is_null());
    let shown = match field {
        "resource" | "containerResource" if !has("averageValue") => {
            let percent = wanted.get("averageUtilization").and_then(Doc::as_i64);
            let percent = percent.map_or_else(|| "<auto>".into(), |percent| format!("{percent}%"));
            format!("{}/{percent}", or_unknown(now("averageUtilization"), "%"))
        }
        "pods" => return format!("{}/{}", or_unknown(now("averageValue"), ""), value("averageValue")),
        _ if has("averageValue") => {
            let unit = if matches!(field, "external" | "object") { " (avg)" } else { "" };
            format!("{}/{}{unit}", or_unknown(now("averageValue"), ""), value("averageValue"))
        }
        _ => format!("{}/{}", or_unknown(now("value"), ""), value("value")),
    };
    if field == "resource" { format!("{}: {shown}", metric.str_at(&[field, "name"])) } else { shown }
}
