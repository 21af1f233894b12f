//! The APIServices of what this server serves itself, so that one list has them all.

use std::collections::BTreeSet;

use futures::future::try_join_all;
use k8s_core::{
    doc,
    doc::Text,
    registry::Registry,
    request::{ApiRequest, Caller, RequestBody, ResourceType, Target, Verb},
    status::ApiResult,
};

use super::{GROUP, availability, conditions::Verdict};
use crate::server::Inner;

/// Upstream's priorities: group, then its place among groups. Versions of one group follow by their own names.
const GROUPS: [(&str, i64); 22] = [
    ("", 18_000),
    ("apps", 17_800),
    ("events.k8s.io", 17_750),
    ("authentication.k8s.io", 17_700),
    ("authorization.k8s.io", 17_600),
    ("autoscaling", 17_500),
    ("batch", 17_400),
    ("certificates.k8s.io", 17_300),
    ("networking.k8s.io", 17_200),
    ("policy", 17_100),
    ("rbac.authorization.k8s.io", 17_000),
    ("storage.k8s.io", 16_800),
    ("apiextensions.k8s.io", 16_700),
    ("admissionregistration.k8s.io", 16_700),
    ("scheduling.k8s.io", 16_600),
    ("coordination.k8s.io", 16_500),
    ("node.k8s.io", 16_300),
    ("discovery.k8s.io", 16_200),
    ("flowcontrol.apiserver.k8s.io", 16_100),
    ("internal.apiserver.k8s.io", 16_000),
    ("resource.k8s.io", 15_900),
    ("storagemigration.k8s.io", 15_800),
];
/// The priorities of custom groups and their versions.
const CUSTOM: (i64, i64) = (1000, 100);

/// The priorities of a group and of one of its versions.
pub(crate) fn priorities(group: &str, version: &str) -> (i64, i64) {
    let Some((_, of_group)) = GROUPS.iter().find(|(name, _)| *name == group) else { return CUSTOM };
    let of_version = match (group, version) {
        ("", _) => 1,
        ("autoscaling", "v2") => 30,
        (_, "v1") => 15,
        _ => 9,
    };
    (*of_group, of_version)
}

/// Makes sure that there is one for every group and version that is served here. Upstream lists its own kind without one.
pub(crate) async fn register(inner: &Inner, registry: &Registry) -> ApiResult<()> {
    let served: BTreeSet<(&Text, &Text)> =
        registry.iter().filter(|info| info.group != GROUP).map(|info| (&info.group, &info.version)).collect();
    try_join_all(served.into_iter().map(|(group, version)| one(inner, group, version))).await.map(drop)
}

async fn one(inner: &Inner, group: &str, version: &str) -> ApiResult<()> {
    let (of_group, of_version) = priorities(group, version);
    let name = format!("{version}.{group}");
    let mut spec = doc!({"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version});
    if !group.is_empty() {
        spec.set_at(&["group"], group.into());
    }
    let label = doc!({"kube-aggregator.kubernetes.io/automanaged": "onstart"});
    let service = doc!({"metadata": {"name": name.as_str(), "labels": label}, "spec": spec});
    let caller = Caller::new("system:apiserver", &["system:masters"]).with_agent("kube-apiserver");
    let target = Target::all(ResourceType::new(GROUP, "v1", "apiservices"), "");
    let request = ApiRequest { verb: Verb::Create, target, body: RequestBody::Doc(service), ..ApiRequest::default() };
    match inner.ask_as(&caller, request).await {
        Err(error) if error.is_already_exists() => {}
        other => drop(other?),
    }
    if is_local(inner, &name) { availability::write(inner, &name, &Verdict::local()).await } else { Ok(()) }
}

/// Whether nobody has given the name to another server.
fn is_local(inner: &Inner, name: &str) -> bool {
    !inner.aggregator.remotes().iter().any(|entry| entry.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn priorities_are_upstreams() {
        for (group, version, expected) in [
            ("", "v1", (18_000, 1)),
            ("apps", "v1", (17_800, 15)),
            ("autoscaling", "v2", (17_500, 30)),
            ("autoscaling", "v1", (17_500, 15)),
            ("acme.com", "v1", (1000, 100)),
        ] {
            assert_eq!(priorities(group, version), expected, "{group}/{version}");
        }
    }
}
