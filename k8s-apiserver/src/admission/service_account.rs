//! `ServiceAccount`: every pod runs as a service account that exists, with a token of it that the node renews.

use async_trait::async_trait;
use k8s_core::{
    doc,
    doc::Doc,
    object::{Object, ObjectKey},
    request::Verb,
    status::{ApiError, ApiResult},
};

use super::{Admission, AdmissionRequest};

/// On pods that mirror what a node was told by other means.
const MIRROR: [&str; 3] = ["metadata", "annotations", "kubernetes.io/config.mirror"];
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
const VOLUME_PREFIX: &str = "kube-api-access-";
/// An hour and a bit, so that tokens are not all renewed on the hour.
const TOKEN_SECONDS: i64 = 3607;

/// The plugin.
pub struct ServiceAccounts {
    /// Names the volumes.
    pub env: k8s_core::env::Env,
}

#[async_trait]
impl Admission for ServiceAccounts {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Create && request.is_on("", "pods")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(pod) = request.object() else { return Ok(()) };
        if pod.at(&MIRROR).is_some() {
            return check_mirror(request, pod);
        }
        let name = match pod.str_at(&["spec", "serviceAccountName"]) {
            "" => "default".to_owned(),
            name => name.to_owned(),
        };
        let account = find(request, &name).await?;
        let account = Doc::parse(&account.to_json()).map_err(|why| ApiError::internal(format!("{name}: {why}")))?;
        let suffix = self.env.name_suffix(5);
        if let Some(pod) = request.edit() {
            pod.set_at(&["spec", "serviceAccountName"], name.as_str().into());
            pod.set_at(&["spec", "serviceAccount"], name.as_str().into());
            if mounts_token(pod, &account) {
                mount_token(pod, &suffix);
            }
            pull_secrets(pod, &account);
        }
        Ok(())
    }
}

/// A mirror pod has no identity and uses nothing of the cluster's.
fn check_mirror(request: &AdmissionRequest<'_>, pod: &Doc) -> ApiResult<()> {
    if !pod.str_at(&["spec", "serviceAccountName"]).is_empty() {
        return Err(request.forbidden("a mirror pod may not reference service accounts"));
    }
    let volumes = pod.at(&["spec", "volumes"]).map_or(&[][..], Doc::items);
    let projects_token = |volume: &Doc| {
        let sources = volume.at(&["projected", "sources"]).map_or(&[][..], Doc::items);
        sources.iter().any(|source| source.get("serviceAccountToken").is_some())
    };
    if volumes.iter().any(projects_token) {
        return Err(request.forbidden("a mirror pod may not use ServiceAccountToken volume projections"));
    }
    Ok(())
}

async fn find(request: &AdmissionRequest<'_>, name: &str) -> ApiResult<std::sync::Arc<Object>> {
    let key = ObjectKey::new(request.target.namespace.clone(), name);
    let found = match request.cluster.get("", "v1", "serviceaccounts", &key) {
        Some(found) => Some(found),
        None => request.cluster.fresh("", "v1", "serviceaccounts", &key).await?,
    };
    found.ok_or_else(|| {
        let namespace = &request.target.namespace;
        request.forbidden(format!(
            "error looking up service account {namespace}/{name}: serviceaccount {name:?} not found"
        ))
    })
}

fn mounts_token(pod: &Doc, account: &Doc) -> bool {
    let of_pod = pod.at(&["spec", "automountServiceAccountToken"]).and_then(Doc::as_bool);
    let of_account = account.get("automountServiceAccountToken").and_then(Doc::as_bool);
    of_pod.or(of_account).unwrap_or(true)
}

/// Mounts the token's volume in every container that has nothing else at its place.
fn mount_token(pod: &mut Doc, suffix: &str) {
    let volumes = pod.at(&["spec", "volumes"]).map_or(&[][..], Doc::items);
    let there = volumes.iter().map(|volume| volume.str_at(&["name"])).find(|name| name.starts_with(VOLUME_PREFIX));
    let is_new = there.is_none();
    let name = there.map_or_else(|| format!("{VOLUME_PREFIX}{suffix}"), str::to_owned);
    let mut mounted = false;
    for field in ["initContainers", "containers"] {
        let Some(containers) = pod.at_mut(&["spec", field]) else { continue };
        for container in containers.items_mut() {
            let mounts = container.entry_at(&["volumeMounts"]);
            if mounts.as_array().is_none() {
                *mounts = Doc::Array(Vec::new());
            }
            let Some(mounts) = mounts.as_array_mut() else { continue };
            if !mounts.iter().any(|mount| mount.str_at(&["mountPath"]) == MOUNT_PATH) {
                mounts.push(doc!({"name": name.as_str(), "readOnly": true, "mountPath": MOUNT_PATH}));
                mounted = true;
            }
        }
    }
    if mounted && is_new {
        let volumes = pod.entry_at(&["spec", "volumes"]);
        if volumes.as_array().is_none() {
            *volumes = Doc::Array(Vec::new());
        }
        volumes.as_array_mut().into_iter().for_each(|list| list.push(token_volume(&name)));
    }
}

/// Token, root certificate and namespace, projected into one folder.
fn token_volume(name: &str) -> Doc {
    doc!({
        "name": name,
        "projected": {
            "defaultMode": 420,
            "sources": [
                {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
                {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
                {"downwardAPI": {"items": [
                    {"path": "namespace", "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}
                ]}}
            ]
        }
    })
}

fn pull_secrets(pod: &mut Doc, account: &Doc) {
    let has_own = pod.at(&["spec", "imagePullSecrets"]).is_some_and(|own| !own.items().is_empty());
    if let Some(secrets) = account.get("imagePullSecrets").filter(|secrets| !has_own && !secrets.items().is_empty()) {
        pod.set_at(&["spec", "imagePullSecrets"], secrets.clone());
    }
}
