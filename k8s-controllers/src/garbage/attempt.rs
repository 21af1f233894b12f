//! One look at one object: what its finalizers and its owners ask for.

use std::sync::Arc;

use k8s_core::{
    doc::Doc,
    object::{Object, Owner},
    request::{ApiRequest, Options, PatchKind, Propagation, Target, Verb},
    status::{ApiError, ApiResult},
};
use serde_json::{Value, json};

use super::{Item, KindId, Shared, is_moot};

const FOREGROUND: &str = "foregroundDeletion";
const ORPHAN: &str = "orphan";

/// What became of an owner.
enum Fate {
    /// It is there, and stays.
    Solid,
    /// It is there, and waits for its dependents to go.
    Waiting,
    /// It is gone, or somebody else bears its name.
    Absent,
    /// Its kind is not watched here: nothing is known.
    Unknown,
}

impl Shared {
    pub(super) async fn attempt(&self, item: &Item) -> ApiResult<()> {
        let found = self.watched(item.kind).and_then(|kind| kind.informer.get(&item.key));
        let Some(object) = found else { return Ok(()) };
        if object.meta.deleted.is_some() {
            return self.attempt_deletion(item.kind, &object).await;
        }
        if object.meta.owners.is_empty() { Ok(()) } else { self.attempt_owned(item.kind, &object).await }
    }

    /// An object on its way out that waits for us.
    async fn attempt_deletion(&self, kind: KindId, object: &Arc<Object>) -> ApiResult<()> {
        let has = |name: &str| object.meta.finalizers.iter().any(|finalizer| finalizer == name);
        if has(ORPHAN) {
            for (kind, dependent) in self.dependents(&object.meta.uid) {
                self.remove_owners(kind, &dependent, &[object.meta.uid.as_str()]).await?;
            }
            return self.remove_finalizer(kind, object, ORPHAN).await;
        }
        if !has(FOREGROUND) {
            return Ok(());
        }
        let dependents = self.dependents(&object.meta.uid);
        let blocks = |dependent: &Object| {
            let mut owners = dependent.meta.owners.iter();
            owners.any(|owner| owner.uid == object.meta.uid && owner.block_owner_deletion)
        };
        if !dependents.iter().any(|(_, dependent)| blocks(dependent)) {
            return self.remove_finalizer(kind, object, FOREGROUND).await;
        }
        for (kind, dependent) in dependents.into_iter().filter(|(_, dependent)| dependent.meta.deleted.is_none()) {
            self.attempt_owned(kind, &dependent).await?;
        }
        Ok(())
    }

    /// An object that names owners.
    async fn attempt_owned(&self, kind: KindId, object: &Arc<Object>) -> ApiResult<()> {
        let (mut solid, mut waiting, mut gone) = (0, 0, Vec::new());
        for owner in &object.meta.owners {
            match self.fate(object, owner).await? {
                Fate::Solid | Fate::Unknown => solid += 1,
                Fate::Waiting => {
                    waiting += 1;
                    gone.push(owner.uid.as_str());
                }
                Fate::Absent => gone.push(owner.uid.as_str()),
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        if solid > 0 {
            return self.remove_owners(kind, object, &gone).await;
        }
        // Where an owner waits for its dependents and this one has dependents of its own, they go first too.
        let propagation = match waiting > 0 && !self.dependents(&object.meta.uid).is_empty() {
            true => Propagation::Foreground,
            false => Propagation::Background,
        };
        self.delete(kind, object, propagation).await
    }

    /// A cache may be late: only the server's word makes an owner absent.
    async fn fate(&self, dependent: &Object, owner: &Owner) -> ApiResult<Fate> {
        let Some((kind, key)) = self.locate(dependent, owner) else {
            let is_gone = self.table().gone.contains(&super::reference(owner));
            return Ok(if is_gone { Fate::Absent } else { Fate::Unknown });
        };
        let is_it = |found: &Arc<Object>| found.meta.uid == owner.uid;
        let found = match self.watched(kind).and_then(|kind| kind.informer.get(&key)).filter(is_it) {
            Some(found) => Some(found),
            None => self.ask(kind, &key.namespace, &key.name).await?.filter(is_it),
        };
        let waits = |found: &Arc<Object>| {
            found.meta.deleted.is_some() && found.meta.finalizers.iter().any(|name| name == FOREGROUND)
        };
        Ok(match found {
            Some(found) if waits(&found) => Fate::Waiting,
            Some(_) => Fate::Solid,
            None => Fate::Absent,
        })
    }

    async fn ask(&self, kind: KindId, namespace: &str, name: &str) -> ApiResult<Option<Arc<Object>>> {
        let Some(watched) = self.watched(kind) else { return Ok(None) };
        let target = Target::one(watched.resource.clone(), namespace, name);
        match self.client.call(ApiRequest { verb: Verb::Get, target, ..Default::default() }).await {
            Ok(found) => found.into_object().map(Some),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    async fn delete(&self, kind: KindId, object: &Object, propagation: Propagation) -> ApiResult<()> {
        // The revision guards against an owner that was added since we looked.
        let options = Options {
            propagation: Some(propagation),
            precondition_uid: Some(object.meta.uid.clone()),
            precondition_version: Some(object.revision()),
            ..Default::default()
        };
        let Some(target) = self.target(kind, object) else { return Ok(()) };
        match self.client.delete_object(target, options).await {
            Err(error) if error.is_not_found() => Ok(()),
            outcome => outcome,
        }
    }

    async fn remove_owners(&self, kind: KindId, object: &Object, uids: &[&str]) -> ApiResult<()> {
        let kept: Vec<Value> =
            object.meta.owners.iter().filter(|o| !uids.contains(&o.uid.as_str())).map(written).collect();
        self.patch(kind, object, json!({"ownerReferences": kept})).await
    }

    async fn remove_finalizer(&self, kind: KindId, object: &Object, name: &str) -> ApiResult<()> {
        let kept: Vec<&str> = object.meta.finalizers.iter().map(|f| f.as_str()).filter(|f| *f != name).collect();
        self.patch(kind, object, json!({"finalizers": kept})).await
    }

    /// Changes metadata of exactly the object that was looked at.
    async fn patch(&self, kind: KindId, object: &Object, mut metadata: Value) -> ApiResult<()> {
        metadata["uid"] = json!(object.meta.uid.as_str());
        metadata["resourceVersion"] = json!(object.revision().to_string());
        let patch = Doc::from_serialize(&json!({"metadata": metadata})).map_err(ApiError::internal)?;
        let Some(target) = self.target(kind, object) else { return Ok(()) };
        let patched = self.client.patch_object(target, PatchKind::Merge, patch, Options::default()).await;
        match patched {
            // A conflict means that it changed: the change itself brings the object back here.
            Err(error) if is_moot(&error) => Ok(()),
            outcome => outcome.map(drop),
        }
    }

    /// Where an object is; `None` if its kind is gone.
    fn target(&self, kind: KindId, object: &Object) -> Option<Target> {
        let watched = self.watched(kind)?;
        Some(Target::one(watched.resource.clone(), object.meta.namespace.clone(), object.meta.name.clone()))
    }
}

fn written(owner: &Owner) -> Value {
    json!({
        "apiVersion": owner.api_version.as_str(),
        "kind": owner.kind.as_str(),
        "name": owner.name.as_str(),
        "uid": owner.uid.as_str(),
        "controller": owner.controller,
        "blockOwnerDeletion": owner.block_owner_deletion,
    })
}
