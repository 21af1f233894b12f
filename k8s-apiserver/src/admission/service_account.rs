//! Every pod runs as a service account and finds its token where clients look for it.

use async_trait::async_trait;
use k8s_core::{
    api::api::core::v1::ServiceAccount as Account,
    doc::Doc,
    request::Verb,
    status::{ApiError, ApiResult},
};
use serde_json::json;

use super::{Admission, AdmissionRequest};

/// Where clients look for their token.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How long a token lasts; upstream's odd number tells it from one that was asked for by hand.
const TOKEN_SECONDS: i64 = 3607;

/// The plugin.
pub struct ServiceAccount;

#[async_trait]
impl Admission for ServiceAccount {
    fn name(&self) -> &'static str {
        "ServiceAccount"
    }

    async fn mutate(&self, request: &AdmissionRequest<'_>, doc: &mut Doc) -> ApiResult<()> {
        if request.info.kind != "Pod" || !request.target.subresource.is_empty() || request.verb != Verb::Create {
            return Ok(());
        }
        // A mirror of a pod that a node runs from a file: it has no identity.
        if doc.at(&["metadata", "annotations", "kubernetes.io/config.mirror"]).is_some() {
            return Ok(());
        }
        let mut name = doc.str_at(&["spec", "serviceAccountName"]).to_owned();
        if name.is_empty() {
            name = "default".into();
        }
        let namespace = &request.target.namespace;
        let Some(account) = request.reads.find("", "serviceaccounts", namespace, &name).await? else {
            let why = format!("error looking up service account {namespace}/{name}: serviceaccount {name:?} not found");
            return Err(ApiError::forbidden("pods", "", &request.target.name, why));
        };
        let account = account.typed::<Account>()?;
        doc.set_at(&["spec", "serviceAccountName"], Doc::String(name.as_str().into()));
        doc.set_at(&["spec", "serviceAccount"], Doc::String(name.as_str().into()));
        let asked = doc.at(&["spec", "automountServiceAccountToken"]).and_then(Doc::as_bool);
        if asked.or(account.automount_service_account_token).unwrap_or(true) {
            let volume = format!("kube-api-access-{}", request.reads.env().name_suffix(5));
            mount(doc, &volume)?;
        }
        if doc.at(&["spec", "imagePullSecrets"]).is_none()
            && let Some(secrets) = account.image_pull_secrets.as_ref().filter(|secrets| !secrets.is_empty())
        {
            doc.set_at(&["spec", "imagePullSecrets"], Doc::from_serialize(secrets).map_err(ApiError::internal)?);
        }
        Ok(())
    }
}

/// Mounts the token into every container that does not mount something there itself.
fn mount(doc: &mut Doc, volume: &str) -> ApiResult<()> {
    let mount = json!({"name": volume, "readOnly": true, "mountPath": MOUNT_PATH});
    let mount = Doc::from_serialize(&mount).map_err(ApiError::internal)?;
    let mut is_used = false;
    for kind in ["initContainers", "containers"] {
        for container in doc.at_mut(&["spec", kind]).map(Doc::items_mut).unwrap_or_default() {
            let mounts = container.get("volumeMounts").map(Doc::items).unwrap_or_default();
            if mounts.iter().any(|mount| mount.str_at(&["mountPath"]) == MOUNT_PATH) {
                continue;
            }
            is_used = true;
            match container.get_mut("volumeMounts").and_then(Doc::as_array_mut) {
                Some(mounts) => mounts.push(mount.clone()),
                None => container.set_at(&["volumeMounts"], Doc::Array(vec![mount.clone()])),
            }
        }
    }
    if is_used {
        let source = json!({"name": volume, "projected": {"defaultMode": 420, "sources": [
            {"serviceAccountToken": {"expirationSeconds": TOKEN_SECONDS, "path": "token"}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {"downwardAPI": {"items": [{"path": "namespace",
                "fieldRef": {"apiVersion": "v1", "fieldPath": "metadata.namespace"}}]}},
        ]}});
        let source = Doc::from_serialize(&source).map_err(ApiError::internal)?;
        match doc.at_mut(&["spec", "volumes"]).and_then(Doc::as_array_mut) {
            Some(volumes) => volumes.push(source),
            None => doc.set_at(&["spec", "volumes"], Doc::Array(vec![source])),
        }
    }
    Ok(())
}
