//! `LimitRanger`: what a namespace's limit ranges give to pods that say nothing, and the bounds of what pods may say.

use std::collections::BTreeSet;

use async_trait::async_trait;
use k8s_core::{
    doc::{Doc, Map},
    quantity::Quantity,
    request::Verb,
    status::ApiResult,
};

use super::{Admission, AdmissionRequest};

const LISTS: [&str; 2] = ["initContainers", "containers"];
/// Says on the pod what it was given.
const ANNOTATION: &str = "kubernetes.io/limit-ranger";

/// The plugin.
pub struct LimitRanger;

#[async_trait]
impl Admission for LimitRanger {
    fn name(&self) -> &'static str {
        "LimitRanger"
    }

    /// What a pod may use is settled when it is made.
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Create && request.is_on("", "pods")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let limits = limits(request);
        if limits.iter().all(|limit| limit.str_at(&["type"]) != "Container") {
            return Ok(());
        }
        let Some(pod) = request.edit() else { return Ok(()) };
        let mut given = Vec::new();
        for limit in limits.iter().filter(|limit| limit.str_at(&["type"]) == "Container") {
            for (list, what) in [("containers", "container"), ("initContainers", "init container")] {
                let containers = pod.at_mut(&["spec", list]).map_or(&mut [][..], Doc::items_mut);
                containers.iter_mut().for_each(|container| given.extend(give(container, limit, what)));
            }
        }
        if !given.is_empty() {
            let told = format!("LimitRanger plugin set: {}", given.join("; "));
            pod.set_at(&["metadata", "annotations", ANNOTATION], told.into());
        }
        Ok(())
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(spec) = request.object().and_then(|pod| pod.get("spec")) else { return Ok(()) };
        let mut broken = Vec::new();
        for limit in limits(request) {
            match limit.str_at(&["type"]) {
                "Container" => {
                    let containers = LISTS.iter().flat_map(|list| spec.at(&[list]).map_or(&[][..], Doc::items));
                    for container in containers {
                        let usage = |what: &str, name: &str| amount(container.at(&["resources", what]), name);
                        check(&mut broken, &limit, usage);
                    }
                }
                "Pod" => check(&mut broken, &limit, |what, name| of_pod(spec, what, name)),
                _ => {}
            }
        }
        match broken.as_slice() {
            [] => Ok(()),
            [one] => Err(request.forbidden(one)),
            several => Err(request.forbidden(format!("[{}]", several.join(", ")))),
        }
    }
}

/// All limits of the namespace, as the cache shows them: asking the store for each pod would cost too much.
fn limits(request: &AdmissionRequest<'_>) -> Vec<Doc> {
    let ranges = request.cluster.all("", "v1", "limitranges");
    let here = ranges.into_iter().filter(|range| range.meta.namespace == request.target.namespace);
    let read = here.filter_map(|range| Doc::parse(range.stored_json()).ok());
    read.flat_map(|range| range.at(&["spec", "limits"]).map_or(Vec::new(), |limits| limits.items().to_vec())).collect()
}

/// Gives a container what it leaves open, and says what that was.
fn give(container: &mut Doc, limit: &Doc, what: &str) -> Vec<String> {
    let name = container.str_at(&["name"]).to_owned();
    let mut given = Vec::new();
    for (field, defaults, shown) in [("requests", "defaultRequest", "request"), ("limits", "default", "limit")] {
        let mut resources = Vec::new();
        for (resource, value) in limit.get(defaults).and_then(Doc::as_object).into_iter().flat_map(Map::iter) {
            if container.at(&["resources", field, resource]).is_none() {
                container.set_at(&["resources", field, resource], value.clone());
                resources.push(resource.to_owned());
            }
        }
        resources.sort_unstable();
        if !resources.is_empty() {
            given.push(format!("{} {shown} for {what} {name}", resources.join(", ")));
        }
    }
    given
}

fn amount(list: Option<&Doc>, name: &str) -> Option<Quantity> {
    match list?.get(name)? {
        Doc::String(text) => Quantity::parse(text).ok(),
        Doc::Number(number) => Quantity::parse(number.as_str()).ok(),
        _ => None,
    }
}

/// What a pod needs of a resource at its peak: init containers run one after the other, each beside the sidecars
/// before it. `None` where no container says anything; of limits, where one says nothing.
fn of_pod(spec: &Doc, what: &str, name: &str) -> Option<Quantity> {
    let of = |container: &Doc| amount(container.at(&["resources", what]), name);
    let list = |list: &str| spec.at(&[list]).map_or(&[][..], Doc::items);
    let (mut running, mut peak, mut said) = (Quantity::default(), Quantity::default(), false);
    for container in list("initContainers") {
        let own = of(container);
        said |= own.is_some();
        let moment = running + own.unwrap_or_default();
        peak = peak.max(moment);
        if container.str_at(&["restartPolicy"]) == "Always" {
            running = moment;
        }
    }
    for container in list("containers") {
        let own = of(container);
        if own.is_none() && what == "limits" {
            return None;
        }
        said |= own.is_some();
        running = running + own.unwrap_or_default();
    }
    said.then(|| running.max(peak))
}

/// What breaks a limit, given what is asked for by `requests` or `limits` and the resource.
fn check(broken: &mut Vec<String>, limit: &Doc, usage: impl Fn(&str, &str) -> Option<Quantity>) {
    let kind = limit.str_at(&["type"]);
    let bounds = |field: &str| -> BTreeSet<String> {
        limit
            .get(field)
            .and_then(Doc::as_object)
            .into_iter()
            .flat_map(Map::iter)
            .map(|(name, _)| name.to_owned())
            .collect()
    };
    for name in bounds("min") {
        let Some(least) = amount(limit.get("min"), &name) else { continue };
        let start = format!("minimum {name} usage per {kind} is {least}");
        match (usage("requests", &name), usage("limits", &name)) {
            (None, _) => broken.push(format!("{start}.  No request is specified")),
            (Some(request), _) if request < least => broken.push(format!("{start}, but request is {request}")),
            (_, Some(limit)) if limit < least => broken.push(format!("{start}, but limit is {limit}")),
            _ => {}
        }
    }
    for name in bounds("max") {
        let Some(most) = amount(limit.get("max"), &name) else { continue };
        let start = format!("maximum {name} usage per {kind} is {most}");
        match (usage("requests", &name), usage("limits", &name)) {
            (_, None) => broken.push(format!("{start}.  No limit is specified")),
            (_, Some(limit)) if limit > most => broken.push(format!("{start}, but limit is {limit}")),
            (Some(request), _) if request > most => broken.push(format!("{start}, but request is {request}")),
            _ => {}
        }
    }
    for name in bounds("maxLimitRequestRatio") {
        let Some(most) = amount(limit.get("maxLimitRequestRatio"), &name) else { continue };
        let start = format!("{name} max limit to request ratio per {kind} is {most}");
        let known = |what| usage(what, &name).filter(|quantity| !quantity.is_zero());
        match (known("requests"), known("limits")) {
            (None, _) => broken.push(format!("{start}, but no request is specified or request is 0")),
            (_, None) => broken.push(format!("{start}, but no limit is specified or limit is 0")),
            (Some(request), Some(limit)) => {
                let ratio = limit.as_f64() / request.as_f64();
                if ratio > most.as_f64() {
                    broken.push(format!("{start}, but provided ratio is {ratio:.6}"));
                }
            }
        }
    }
}
