//! What claims and volumes are told when they are written: `DefaultStorageClass`, `StorageObjectInUseProtection` and
//! `PersistentVolumeClaimResize`.

use std::sync::Arc;

use async_trait::async_trait;
use k8s_core::{
    doc::Doc,
    object::{Object, ObjectKey},
    quota::read,
    request::Verb,
    status::ApiResult,
};

use super::{Admission, AdmissionRequest, Cluster};

const CLAIMS: &str = "persistentvolumeclaims";
const OLD_CLASS: [&str; 3] = ["metadata", "annotations", "volume.beta.kubernetes.io/storage-class"];

/// A claim that names no class gets the default one.
pub struct DefaultStorageClass;

#[async_trait]
impl Admission for DefaultStorageClass {
    fn name(&self) -> &'static str {
        "DefaultStorageClass"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Create && request.is_on("", CLAIMS)
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let has_class = request.object().is_none_or(|claim| {
            claim.at(&OLD_CLASS).is_some()
                || claim.at(&["spec", "storageClassName"]).is_some_and(|class| !class.is_null())
        });
        if has_class {
            return Ok(());
        }
        const MARKS: [&str; 2] =
            ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        if let Some(class) = default_of(request.cluster, "storage.k8s.io", "storageclasses", &MARKS)
            && let Some(claim) = request.edit()
        {
            claim.set_at(&["spec", "storageClassName"], class.into());
        }
        Ok(())
    }
}

/// The name of the class that is marked as the default; of several, the newest, and of those the first by name.
pub(super) fn default_of(cluster: &Cluster, group: &str, plural: &str, marks: &[&str]) -> Option<String> {
    let is_marked = |class: &Arc<Object>| {
        let Ok(class) = Doc::parse(class.stored_json()) else { return false };
        marks.iter().any(|mark| class.str_at(&["metadata", "annotations", mark]) == "true")
    };
    let mut marked: Vec<Arc<Object>> = cluster.all(group, "v1", plural).into_iter().filter(is_marked).collect();
    marked.sort_by(|a, b| b.meta.created.cmp(&a.meta.created).then_with(|| a.meta.name.cmp(&b.meta.name)));
    marked.first().map(|class| class.meta.name.to_string())
}

/// Claims and volumes stay until nobody uses them: a finalizer holds them.
pub struct InUseProtection;

fn protection(plural: &str) -> Option<&'static str> {
    Some(match plural {
        "persistentvolumeclaims" => "kubernetes.io/pvc-protection",
        "persistentvolumes" => "kubernetes.io/pv-protection",
        "volumeattributesclasses" => "kubernetes.io/vac-protection",
        _ => return None,
    })
}

#[async_trait]
impl Admission for InUseProtection {
    fn name(&self) -> &'static str {
        "StorageObjectInUseProtection"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        let is_known = matches!(request.info.group.as_str(), "" | "storage.k8s.io");
        request.verb == Verb::Create
            && request.target.subresource.is_empty()
            && is_known
            && protection(&request.info.plural).is_some()
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let (Some(finalizer), Some(object)) = (protection(&request.info.plural), request.edit()) else { return Ok(()) };
        let list = object.entry_at(&["metadata", "finalizers"]);
        if list.as_array().is_none() {
            *list = Doc::Array(Vec::new());
        }
        if let Some(list) = list.as_array_mut()
            && !list.iter().any(|held| held.as_str() == Some(finalizer))
        {
            list.push(finalizer.into());
        }
        Ok(())
    }
}

/// A claim grows only where its class says that its volumes can.
pub struct ClaimResize;

#[async_trait]
impl Admission for ClaimResize {
    fn name(&self) -> &'static str {
        "PersistentVolumeClaimResize"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Update && request.is_on("", CLAIMS)
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let size = |claim: &Doc| claim.at(&["spec", "resources", "requests", "storage"]).and_then(read);
        let (Some(claim), Some(old)) = (request.object(), request.old) else { return Ok(()) };
        if size(claim) <= size(old) {
            return Ok(());
        }
        let name = match claim.str_at(&OLD_CLASS) {
            "" => claim.str_at(&["spec", "storageClassName"]),
            annotated => annotated,
        };
        let class = request.cluster.get("storage.k8s.io", "v1", "storageclasses", &ObjectKey::new("", name));
        let grows = class.and_then(|class| Doc::parse(class.stored_json()).ok());
        let grows = grows.is_some_and(|class| class.get("allowVolumeExpansion").and_then(Doc::as_bool) == Some(true));
        if grows {
            return Ok(());
        }
        Err(request.forbidden(
            "only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support \
             resize",
        ))
    }
}
