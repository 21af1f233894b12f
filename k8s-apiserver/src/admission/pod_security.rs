//! `PodSecurity`: the Pod Security Standards, as namespaces ask for them by labels.
//!
//! `enforce` refuses pods, `warn` tells who writes a pod or what makes pods, `audit` notes it in the audit log.

pub mod controls;
pub mod policy;

use std::collections::BTreeMap;

use async_trait::async_trait;
use k8s_core::{
    doc::Doc,
    object::ObjectKey,
    request::Verb,
    status::{ApiError, ApiResult},
};

use self::{
    controls::violations,
    policy::{Level, Standard, asked, check_labels},
};
use super::{Admission, AdmissionRequest};

/// How many pods of a namespace are looked at when its labels change.
const MAX_PODS: usize = 3000;
/// How many of them are named.
const MAX_NAMED: usize = 10;

/// The plugin. The default holds no namespace to anything that its labels do not ask for, and exempts nobody.
#[derive(Default)]
pub struct PodSecurity {
    /// What holds where a namespace says nothing, by mode (`enforce`, `warn`, `audit`).
    pub defaults: BTreeMap<String, Standard>,
    /// Who may do anything.
    pub exempt_users: Vec<String>,
    /// Where anything may be done.
    pub exempt_namespaces: Vec<String>,
    /// Runtime classes whose pods may do anything.
    pub exempt_runtime_classes: Vec<String>,
}

/// Where a kind that makes pods has its template.
fn template_path(group: &str, plural: &str) -> Option<&'static [&'static str]> {
    Some(match (group, plural) {
        ("", "podtemplates") => &["template"],
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "daemonsets" | "statefulsets")
        | ("batch", "jobs") => &["spec", "template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    })
}

#[async_trait]
impl Admission for PodSecurity {
    fn name(&self) -> &'static str {
        "PodSecurity"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let info = request.info;
        let is_written = matches!(request.verb, Verb::Create | Verb::Update);
        let is_pod = info.group.is_empty() && info.plural == "pods";
        let part = request.target.subresource.as_str();
        let is_subject = match part {
            "" => is_pod || template_path(&info.group, &info.plural).is_some() || request.is_on("", "namespaces"),
            "ephemeralcontainers" => is_pod,
            _ => false,
        };
        is_written && is_subject
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(object) = request.object() else { return Ok(()) };
        if request.is_on("", "namespaces") {
            let labels = |doc: &Doc| doc.at(&["metadata", "labels"]).cloned();
            self.namespace_warnings(request, object).into_iter().for_each(|text| request.warn(text));
            let errors = match request.old {
                Some(old) if labels(old) == labels(object) => Vec::new(),
                _ => check_labels(object),
            };
            let name = &request.target.name;
            return if errors.is_empty() { Ok(()) } else { Err(ApiError::invalid("Namespace", "", name, &errors)) };
        }
        self.warnings(request).into_iter().for_each(|text| request.warn(text));
        if !request.is_below("", "pods") || !self.is_judged(request, object) {
            return Ok(());
        }
        let standard = self.standard(request, "enforce").await?;
        match violations_of(object, standard) {
            Some(found) => Err(request.forbidden(format!("violates PodSecurity \"{standard}\": {found}"))),
            None => Ok(()),
        }
    }
}

fn violations_of(pod: &Doc, standard: Standard) -> Option<String> {
    let (metadata, spec) = (pod.get("metadata").unwrap_or(&Doc::Null), pod.get("spec").unwrap_or(&Doc::Null));
    violations(metadata, spec, standard.level, standard.version)
}

impl PodSecurity {
    /// Whether a pod is looked at: nobody is exempt, and it is new or changes in something that counts.
    fn is_judged(&self, request: &AdmissionRequest<'_>, pod: &Doc) -> bool {
        !self.is_exempt(request, pod) && request.old.is_none_or(|old| differs(pod, old))
    }

    fn is_exempt(&self, request: &AdmissionRequest<'_>, pod: &Doc) -> bool {
        let is_in = |list: &[String], name: &str| !name.is_empty() && list.iter().any(|exempt| exempt == name);
        is_in(&self.exempt_users, &request.caller.name)
            || is_in(&self.exempt_namespaces, &request.target.namespace)
            || is_in(&self.exempt_runtime_classes, pod.str_at(&["spec", "runtimeClassName"]))
    }

    async fn standard(&self, request: &AdmissionRequest<'_>, mode: &str) -> ApiResult<Standard> {
        let key = ObjectKey::new("", request.target.namespace.clone());
        let found = match request.cluster.get("", "v1", "namespaces", &key) {
            Some(found) => Some(found),
            None => request.cluster.fresh("", "v1", "namespaces", &key).await?,
        };
        let labels = |key: &str| {
            let labels = found.as_ref()?.meta.labels.iter();
            labels.clone().find(|(name, _)| name == key).map(|(_, value)| value.to_string())
        };
        Ok(asked(&labels, mode, self.defaults.get(mode).copied().unwrap_or_default()))
    }

    fn warnings(&self, request: &AdmissionRequest<'_>) -> Vec<String> {
        let Some(object) = request.object() else { return Vec::new() };
        let path = template_path(&request.info.group, &request.info.plural);
        let judged = match path {
            Some(path) => object.at(path),
            None => Some(object),
        };
        let Some(judged) = judged.filter(|judged| self.is_judged_as(request, judged, path)) else { return Vec::new() };
        let key = ObjectKey::new("", request.target.namespace.clone());
        let Some(found) = request.cluster.get("", "v1", "namespaces", &key) else { return Vec::new() };
        let labels =
            |key: &str| found.meta.labels.iter().find(|(name, _)| name == key).map(|(_, value)| value.to_string());
        let of = |mode: &str| asked(&labels, mode, self.defaults.get(mode).copied().unwrap_or_default());
        let (warn, enforce) = (of("warn"), of("enforce"));
        if let Some(found) = violations_of(judged, of("audit")) {
            let text = format!("would violate PodSecurity \"{}\": {found}", of("audit"));
            request.annotate("pod-security.kubernetes.io/audit-violations", text);
        }
        // What is refused anyway needs no warning of the same.
        if path.is_none() && warn == enforce {
            return Vec::new();
        }
        let found = violations_of(judged, warn);
        found.map(|found| format!("would violate PodSecurity \"{warn}\": {found}")).into_iter().collect()
    }

    fn is_judged_as(&self, request: &AdmissionRequest<'_>, judged: &Doc, path: Option<&[&str]>) -> bool {
        match path {
            None => self.is_judged(request, judged),
            Some(path) => {
                let changed = request.old.is_none_or(|old| old.at(path) != Some(judged));
                changed && !self.is_exempt(request, judged)
            }
        }
    }

    /// Which pods that are there a stricter level would not let in.
    fn namespace_warnings(&self, request: &AdmissionRequest<'_>, namespace: &Doc) -> Vec<String> {
        let Some(old) = request.old else { return Vec::new() };
        let of = |doc: &Doc| {
            let labels = |key: &str| doc.at(&["metadata", "labels", key]).and_then(Doc::as_str).map(str::to_owned);
            asked(&labels, "enforce", self.defaults.get("enforce").copied().unwrap_or_default())
        };
        let (before, after) = (of(old), of(namespace));
        if before == after || after.level == Level::Privileged || !check_labels(namespace).is_empty() {
            return Vec::new();
        }
        let name = &request.target.name;
        let pods = request.cluster.all("", "v1", "pods").into_iter().filter(|pod| pod.meta.namespace == *name);
        let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pod in pods.take(MAX_PODS) {
            let judged = Doc::parse(pod.stored_json()).ok().and_then(|pod| violations_of(&pod, after));
            if let Some(what) = judged {
                // Reasons alone: where they are differs from pod to pod.
                let reasons: Vec<&str> = what.split("), ").map(|part| part.split(" (").next().unwrap_or("")).collect();
                found.entry(reasons.join(", ")).or_default().push(pod.meta.name.to_string());
            }
        }
        if found.is_empty() {
            return Vec::new();
        }
        let mut told =
            vec![format!("existing pods in namespace {name:?} violate the new PodSecurity enforce level \"{after}\"")];
        for (reasons, mut pods) in found.into_iter().take(MAX_NAMED) {
            pods.sort_unstable();
            let others = match pods.len() - 1 {
                0 => String::new(),
                1 => " (and 1 other pod)".to_owned(),
                more => format!(" (and {more} other pods)"),
            };
            told.push(format!("{}{others}: {reasons}", pods[0]));
        }
        told
    }
}

/// Whether a pod changes in something that controls look at: what is settled when it is made does not.
fn differs(pod: &Doc, old: &Doc) -> bool {
    let annotations = |doc: &Doc| {
        let all = doc.at(&["metadata", "annotations"]).and_then(Doc::as_object).cloned().unwrap_or_default();
        let counts = |key: &str| key.contains("seccomp.security.alpha") || key.contains("apparmor.security.beta");
        all.iter()
            .filter(|(key, _)| counts(key))
            .map(|(key, value)| (key.to_owned(), value.clone()))
            .collect::<Vec<_>>()
    };
    let spec = |doc: &Doc| {
        let mut spec = doc.get("spec").cloned().unwrap_or_default();
        ["tolerations", "activeDeadlineSeconds"].iter().for_each(|field| drop(spec.remove_at(&[field])));
        spec
    };
    spec(pod) != spec(old) || annotations(pod) != annotations(old)
}

#[cfg(test)]
mod tests;
