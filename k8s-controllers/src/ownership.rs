//! Which objects a controller's object owns, should adopt, and should let go.
//!
//! Follows upstream's controller reference manager.

use k8s_core::{
    api::apimachinery::pkg::apis::meta::v1::OwnerReference,
    object::Object,
    resource::{Resource, Stored},
    selector::LabelSelector,
};

/// What to make of one candidate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Claim {
    /// Ours already.
    Owned,
    /// Nobody's, and it matches: ours from now on.
    Adopt,
    /// Ours, but it no longer matches.
    Release,
    /// None of our business.
    Ignore,
}

/// Decides about one candidate.
pub fn claim(owner: &Object, selector: &LabelSelector, candidate: &Object) -> Claim {
    let matches = selector.matches(&candidate.meta);
    match candidate.meta.controller() {
        Some(controller) if controller.uid == owner.meta.uid => {
            if matches || owner.meta.deleted.is_some() {
                Claim::Owned
            } else {
                Claim::Release
            }
        }
        Some(_) => Claim::Ignore,
        None if matches && owner.meta.deleted.is_none() && candidate.meta.deleted.is_none() => Claim::Adopt,
        None => Claim::Ignore,
    }
}

/// An owner reference that makes `owner` the managing controller.
pub fn controller_reference<K: Resource>(owner: &Stored<K>) -> OwnerReference {
    OwnerReference {
        api_version: K::api_version().to_owned(),
        kind: K::kind().to_owned(),
        name: owner.name().to_owned(),
        uid: owner.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

#[cfg(feature = "service")]
pub use shell::claim_all;

#[cfg(feature = "service")]
mod shell {
    use k8s_core::{doc::Doc, request::PatchKind, status::ApiError};
    use k8s_reconcile::Cx;
    use serde_json::json;

    use super::*;

    /// Adopts and releases what [`claim`] says, and answers what is owned then.
    ///
    /// Adoption and release are patches that name the candidate's uid, so that a successor is never touched.
    pub async fn claim_all<O: Resource, C: Resource>(
        cx: &Cx,
        owner: &Stored<O>,
        selector: &LabelSelector,
    ) -> Result<Vec<Stored<C>>, ApiError> {
        let mut owned = Vec::new();
        for candidate in cx.cached::<C>()?.dynamic().list_in(owner.namespace()) {
            match claim(owner.object(), selector, &candidate) {
                Claim::Owned => owned.push(Stored::new(candidate)?),
                Claim::Adopt => {
                    let references = json!([controller_reference(owner)]);
                    owned.push(cx.patch::<C>(&candidate, PatchKind::Strategic, patch(&candidate, references)?).await?);
                }
                Claim::Release => {
                    let references = json!([{"$patch": "delete", "uid": owner.uid()}]);
                    let released =
                        cx.patch::<C>(&candidate, PatchKind::Strategic, patch(&candidate, references)?).await;
                    if let Err(error) = released
                        && !error.is_not_found()
                    {
                        return Err(error);
                    }
                }
                Claim::Ignore => {}
            }
        }
        Ok(owned)
    }

    fn patch(candidate: &Object, references: serde_json::Value) -> Result<Doc, ApiError> {
        let patch = json!({"metadata": {"uid": candidate.meta.uid.as_str(), "ownerReferences": references}});
        Doc::from_serialize(&patch).map_err(ApiError::internal)
    }
}
