//! The parameters of a binding.

use std::sync::Arc;

use k8s_core::{
    doc::Doc,
    object::{Object, ObjectKey},
    request::ResourceType,
};

use super::active::{Binding, Policy};
use crate::{admission::AdmissionRequest, conversion::Asking};

/// What the policy is evaluated with, once for each: `null` where it has no parameters. None if the binding lets
/// the request pass without; an error is a failure of the policy.
pub async fn find(
    request: &AdmissionRequest<'_>,
    policy: &Policy,
    binding: &Binding,
    converting: &Asking<'_>,
) -> Result<Vec<Doc>, String> {
    let (Some((group, version, kind)), Some(wanted)) = (&policy.param_kind, &binding.params) else {
        return Ok(vec![Doc::Null]);
    };
    let Some(info) = request.cluster.served_kind(group, version, kind) else {
        let version = ResourceType::new(group.clone(), version.clone(), "").api_version();
        return Err(format!("failed to find resource referenced by paramKind: '{version}, Kind={kind}'"));
    };
    let namespace = match (info.is_namespaced(), wanted.namespace.as_str()) {
        (false, "") => "",
        (false, _) => return Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".into()),
        (true, "") if request.target.namespace.is_empty() => {
            return Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".into());
        }
        (true, "") => &request.target.namespace,
        (true, named) => named,
    };
    let mut found: Vec<Arc<Object>> = if wanted.name.is_empty() {
        let all = request.cluster.all(&info.group, &info.version, &info.plural);
        let selected =
            |object: &Arc<Object>| object.meta.namespace == namespace && wanted.selector.matches(&*object.meta);
        all.into_iter().filter(selected).collect()
    } else {
        let key = ObjectKey::new(namespace, wanted.name.clone());
        request.cluster.get(&info.group, &info.version, &info.plural, &key).into_iter().collect()
    };
    if found.is_empty() && !wanted.may_be_missing {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".into());
    }
    if let Some(kind) = request.cluster.converted_kind(&info)
        && let Some(converter) = &kind.converter
    {
        found = converter.shown(converting, found).await.map_err(|why| why.to_string())?;
    }
    found.iter().map(|object| Doc::parse(&object.to_json()).map_err(|why| why.to_string())).collect()
}
