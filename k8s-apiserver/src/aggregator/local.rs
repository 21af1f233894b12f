//! The APIServices of what this server serves itself, so that one list has them all.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use futures::future::try_join_all;
use k8s_core::{
    doc,
    doc::Text,
    object::{Object, ObjectKey},
    registry::Registry,
    request::{ApiRequest, Caller, RequestBody, ResourceType, Target, Verb},
    status::ApiResult,
};

use super::{GROUP, availability, conditions::Verdict};
use crate::server::{Inner, OWN_NAME};

/// How long after a failure the APIServices of custom kinds are looked at again.
const RETRY: Duration = Duration::from_secs(1);

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

/// The label of APIServices that servers keep themselves: `onstart` of kinds that are always there, `true` of custom ones.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

/// Groups and versions, and whether a CustomResourceDefinition brought them.
type Served = BTreeMap<(Text, Text), bool>;

/// Upstream lists the group of APIServices without one.
fn served(registry: &Registry) -> Served {
    let kinds = registry.iter().filter(|info| info.group != GROUP);
    kinds.map(|info| ((info.group.clone(), info.version.clone()), info.custom.is_some())).collect()
}

/// Makes sure that there is one for every group and version that is served here.
pub(crate) async fn register(inner: &Inner, registry: &Registry) -> ApiResult<()> {
    let served = served(registry);
    try_join_all(served.iter().map(|((group, version), custom)| one(inner, group, version, *custom))).await.map(drop)
}

/// Keeps those of custom kinds as they come and go.
pub(crate) async fn follow(inner: Arc<Inner>) {
    let mut known = inner.kinds.now();
    if let Err(why) = remove(&inner, &served(&known)).await {
        tracing::warn!(%why, "an APIService that nothing answers could not be removed");
    }
    loop {
        inner.kinds.changed_from(&known).await;
        let now = inner.kinds.now();
        let changed = async {
            register(&inner, &now).await?;
            remove(&inner, &served(&now)).await
        };
        match changed.await {
            Ok(()) => known = now,
            Err(why) => {
                tracing::warn!(%why, "the APIServices of custom kinds could not be brought to what is served");
                inner.env.sleep(RETRY).await;
            }
        }
    }
}

/// Removes those that were kept for custom kinds and that nothing answers any more.
async fn remove(inner: &Inner, served: &Served) -> ApiResult<()> {
    let kept = served.keys().map(|(group, version)| format!("{version}.{group}")).collect::<BTreeSet<_>>();
    let is_stale = |object: &Arc<Object>| {
        let is_ours = object.meta.labels.iter().any(|(key, value)| key == AUTOMANAGED && value == "true");
        is_ours && !kept.contains(object.meta.name.as_str()) && is_local(inner, &object.meta.name)
    };
    for object in inner.cluster.all(GROUP, "v1", "apiservices").iter().filter(|object| is_stale(object)) {
        let target = Target::one(ResourceType::new(GROUP, "v1", "apiservices"), "", object.meta.name.clone());
        let request = ApiRequest { verb: Verb::Delete, target, ..ApiRequest::default() };
        match inner.ask_as(&own(), request).await {
            Err(error) if error.is_not_found() => {}
            other => drop(other?),
        }
    }
    Ok(())
}

async fn one(inner: &Inner, group: &str, version: &str, custom: bool) -> ApiResult<()> {
    let (of_group, of_version) = priorities(group, version);
    let name = format!("{version}.{group}");
    if inner.cluster.get(GROUP, "v1", "apiservices", &ObjectKey::new("", name.as_str())).is_some() {
        return available(inner, &name).await;
    }
    let mut spec = doc!({"version": version, "groupPriorityMinimum": of_group, "versionPriority": of_version});
    if !group.is_empty() {
        spec.set_at(&["group"], group.into());
    }
    let mut service = doc!({"metadata": {"name": name.as_str()}, "spec": spec});
    service.set_at(&["metadata", "labels", AUTOMANAGED], if custom { "true" } else { "onstart" }.into());
    let target = Target::all(ResourceType::new(GROUP, "v1", "apiservices"), "");
    let request = ApiRequest { verb: Verb::Create, target, body: RequestBody::Doc(service), ..ApiRequest::default() };
    match inner.ask_as(&own(), request).await {
        Err(error) if error.is_already_exists() => {}
        other => drop(other?),
    }
    available(inner, &name).await
}

async fn available(inner: &Inner, name: &str) -> ApiResult<()> {
    if is_local(inner, name) { availability::write(inner, name, &Verdict::local()).await } else { Ok(()) }
}

fn own() -> Caller {
    Caller::new(OWN_NAME, &["system:masters"]).with_agent("kube-apiserver")
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
