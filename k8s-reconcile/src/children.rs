//! Children: say which objects a parent should have, and they are applied, owned and pruned.

use std::collections::BTreeSet;

use k8s_core::{
    api::apimachinery::pkg::apis::meta::v1::OwnerReference,
    object::ObjectKey,
    resource::{Resource, Stored},
    status::ApiResult,
};

use crate::cx::Cx;

/// An owner reference that makes `parent` the managing controller.
pub fn controller_reference<P: Resource>(parent: &Stored<P>) -> OwnerReference {
    OwnerReference {
        api_version: P::api_version().to_owned(),
        kind: P::kind().to_owned(),
        name: parent.name().to_owned(),
        uid: parent.uid().to_owned(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

impl Cx {
    /// Makes the children of kind `C` that `parent` controls exactly these: applies each under the controller's
    /// name with an owner reference, and deletes those that the parent controls but that are not listed.
    ///
    /// The controller must watch `C` (`owns`). Children without a namespace get the parent's. Answers the children
    /// as stored, in the order given. Stops at the first failure; calling it again goes on.
    pub async fn children<P: Resource, C: Resource>(
        &self,
        parent: &Stored<P>,
        desired: impl IntoIterator<Item = C>,
    ) -> ApiResult<Vec<Stored<C>>> {
        let (mut kept, mut stored) = (BTreeSet::new(), Vec::new());
        for mut child in desired {
            let meta = child.metadata_mut();
            if C::is_namespaced() && meta.namespace.is_none() {
                meta.namespace = Some(parent.namespace().to_owned());
            }
            meta.owner_references = Some(vec![controller_reference(parent)]);
            kept.insert(child.key());
            stored.push(self.apply(child).await?);
        }
        self.prune::<P, C>(parent, &kept).await?;
        Ok(stored)
    }

    async fn prune<P: Resource, C: Resource>(&self, parent: &Stored<P>, kept: &BTreeSet<ObjectKey>) -> ApiResult<()> {
        for object in self.cached::<C>()?.dynamic().owned_by(parent.uid()) {
            let is_ours = object.meta.controller().is_some_and(|owner| owner.uid == parent.uid());
            if is_ours && object.meta.deleted.is_none() && !kept.contains(&object.meta.key()) {
                self.delete::<C>(&object).await?;
            }
        }
        Ok(())
    }
}
