//! `RuntimeClass`: a pod's class must exist, and says what it costs and where it can run.

use async_trait::async_trait;
use k8s_core::{
    doc::{Doc, Map},
    object::ObjectKey,
    request::Verb,
    status::{ApiError, ApiResult},
};

use super::{Admission, AdmissionRequest};

/// The plugin.
pub struct RuntimeClass;

#[async_trait]
impl Admission for RuntimeClass {
    fn name(&self) -> &'static str {
        "RuntimeClass"
    }

    fn handles(&self, request: &AdmissionRequest<'_>) -> bool {
        request.verb == Verb::Create && request.is_on("", "pods")
    }

    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let Some(class) = class_of(request).await? else { return Ok(()) };
        let refused = match request.edit() {
            Some(pod) => set_overhead(pod, &class).and_then(|()| set_scheduling(pod, &class)).err(),
            None => None,
        };
        refused.map_or(Ok(()), |why| Err(request.forbidden(format!("pod rejected: {why}"))))
    }

    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let class = class_of(request).await?;
        let has = |doc: Option<&Doc>, path: &[&str]| {
            doc.and_then(|doc| doc.at(path)).and_then(Doc::as_object).is_some_and(|amounts| !amounts.is_empty())
        };
        if has(request.object(), &["spec", "overhead"]) && !has(class.as_ref(), &["overhead", "podFixed"]) {
            let why = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead";
            return Err(request.forbidden(why));
        }
        Ok(())
    }
}

/// The class that a pod names; 403 if there is none of that name.
async fn class_of(request: &AdmissionRequest<'_>) -> ApiResult<Option<Doc>> {
    let name = request.object().map_or("", |pod| pod.str_at(&["spec", "runtimeClassName"])).to_owned();
    if name.is_empty() {
        return Ok(None);
    }
    let key = ObjectKey::new("", name.as_str());
    let found = match request.cluster.get("node.k8s.io", "v1", "runtimeclasses", &key) {
        Some(found) => Some(found),
        None => request.cluster.fresh("node.k8s.io", "v1", "runtimeclasses", &key).await?,
    };
    let Some(class) = found else {
        return Err(request.forbidden(format!("pod rejected: RuntimeClass {name:?} not found")));
    };
    Doc::parse(class.stored_json()).map(Some).map_err(|why| ApiError::internal(format!("RuntimeClass {name}: {why}")))
}

/// What the runtime itself needs is the class's to say.
fn set_overhead(pod: &mut Doc, class: &Doc) -> Result<(), String> {
    let Some(fixed) = class.at(&["overhead", "podFixed"]).filter(|fixed| !fixed.is_null()) else { return Ok(()) };
    match pod.at(&["spec", "overhead"]).filter(|overhead| !overhead.is_null()) {
        Some(overhead) if overhead != fixed => {
            Err("Pod's Overhead doesn't match RuntimeClass's defined Overhead".into())
        }
        _ => {
            pod.set_at(&["spec", "overhead"], fixed.clone());
            Ok(())
        }
    }
}

/// The pod runs where nodes have the runtime: the class's selector and tolerations are added to its own.
fn set_scheduling(pod: &mut Doc, class: &Doc) -> Result<(), String> {
    for (key, value) in
        class.at(&["scheduling", "nodeSelector"]).and_then(Doc::as_object).into_iter().flat_map(Map::iter)
    {
        let path = ["spec", "nodeSelector", key];
        match pod.at(&path) {
            Some(own) if own != value => {
                let (theirs, own) = (value.as_str().unwrap_or(""), own.as_str().unwrap_or(""));
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {theirs}; pod.spec.nodeSelector[{key}] = {own}"
                ));
            }
            _ => pod.set_at(&path, value.clone()),
        }
    }
    let tolerations = class.at(&["scheduling", "tolerations"]).map_or(&[][..], Doc::items);
    if tolerations.is_empty() {
        return Ok(());
    }
    let list = pod.entry_at(&["spec", "tolerations"]);
    if list.as_array().is_none() {
        *list = Doc::Array(Vec::new());
    }
    if let Some(list) = list.as_array_mut() {
        let missing: Vec<Doc> = tolerations.iter().filter(|toleration| !list.contains(toleration)).cloned().collect();
        list.extend(missing);
    }
    Ok(())
}
