//! How many pods the controllers of some pods want together.

use std::collections::BTreeMap;

use k8s_core::{
    api::api::{
        apps::v1::{Deployment, ReplicaSet},
        core::v1::{Pod, ReplicationController},
    },
    doc::{Doc, Text},
    object::{ObjectKey, Owner},
    registry::Registry,
    request::{ApiRequest, Target, Verb},
    resource::{Resource, Stored},
    status::ApiResult,
};
use k8s_reconcile::Cx;

/// What was found.
#[derive(Debug, Default, PartialEq)]
pub struct Scale {
    /// The sum of what the controllers want.
    pub wanted: i32,
    /// How many pods have no controller that can be asked.
    pub unmanaged: usize,
}

/// Asks the controllers of `pods`, each once.
pub async fn scale(cx: &Cx, registry: &Registry, pods: &[Stored<Pod>]) -> ApiResult<Scale> {
    let mut wanted: BTreeMap<Text, i32> = BTreeMap::new();
    let mut asked: BTreeMap<Text, bool> = BTreeMap::new();
    let mut unmanaged = 0;
    for pod in pods {
        let Some(owner) = pod.object().meta.controller() else {
            unmanaged += 1;
            continue;
        };
        if !asked.contains_key(&owner.uid) {
            let found = ask(cx, registry, pod.namespace(), owner).await?;
            asked.insert(owner.uid.clone(), found.is_some());
            wanted.extend(found);
        }
        unmanaged += usize::from(asked.get(&owner.uid) == Some(&false));
    }
    Ok(Scale { wanted: wanted.into_values().sum(), unmanaged })
}

/// Uid and wanted size of whoever decides: of a replica set that belongs to a deployment, that is the deployment.
async fn ask(cx: &Cx, registry: &Registry, namespace: &str, owner: &Owner) -> ApiResult<Option<(Text, i32)>> {
    let key = ObjectKey::new(namespace, owner.name.clone());
    match (owner.api_version.as_str(), owner.kind.as_str()) {
        ("apps/v1", "ReplicaSet") => {
            let set = cx.cached::<ReplicaSet>()?.get(&key).filter(|set| set.uid() == owner.uid);
            let Some(set) = set else { return Ok(None) };
            let above = set.object().meta.controller().filter(|above| above.kind == Deployment::kind());
            if let Some(above) = above {
                let deployment = cx.cached::<Deployment>()?.get(&ObjectKey::new(namespace, above.name.clone()));
                let deployment = deployment.filter(|deployment| deployment.uid() == above.uid);
                return Ok(deployment.map(|found| (found.uid().into(), found.spec.replicas.unwrap_or(1))));
            }
            Ok(Some((set.uid().into(), set.spec.replicas.unwrap_or(1))))
        }
        ("v1", "ReplicationController") => {
            let found = cx.cached::<ReplicationController>()?.get(&key).filter(|found| found.uid() == owner.uid);
            let replicas = |found: &Stored<ReplicationController>| found.spec.as_ref().and_then(|spec| spec.replicas);
            Ok(found.map(|found| (found.uid().into(), replicas(&found).unwrap_or(1))))
        }
        _ => ask_server(cx, registry, namespace, owner).await,
    }
}

/// Reads the scale of a kind that is known by name only.
async fn ask_server(cx: &Cx, registry: &Registry, namespace: &str, owner: &Owner) -> ApiResult<Option<(Text, i32)>> {
    let scales = |kind: &k8s_core::registry::ResourceInfo| {
        kind.kind == owner.kind && kind.api_version() == owner.api_version && kind.subresource("scale").is_some()
    };
    let Some(kind) = registry.iter().find(|kind| scales(kind)) else { return Ok(None) };
    let target = Target::one(kind.resource(), namespace, owner.name.clone()).subresource("scale");
    match cx.client().call(ApiRequest { verb: Verb::Get, target, ..ApiRequest::default() }).await {
        Err(error) if error.is_not_found() => Ok(None),
        answer => {
            let scale = answer?.into_doc()?;
            let replicas = scale.at(&["spec", "replicas"]).and_then(Doc::as_i64).unwrap_or(0);
            Ok(Some((owner.uid.clone(), i32::try_from(replicas).unwrap_or(i32::MAX))))
        }
    }
}
