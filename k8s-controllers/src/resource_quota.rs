//! The resource quota controller: keeps what quotas say is used true to what is there.
//!
//! Admission charges what is made; this takes back what went, or was charged and never made. A charge is written before
//! its object is, so less than is charged may only be written once nobody has charged for a while: see `settle`.

mod settle;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use k8s_core::{
    api::{
        api::core::v1::{PersistentVolumeClaim, Pod, ResourceQuota, ResourceQuotaStatus, Service},
        apimachinery::pkg::api::resource::Quantity,
    },
    doc::Doc,
    object::{Object, ObjectKey},
    quota::{self, Amounts},
    registry::Kinds,
    request::{Options, ResourceType, Target},
    resource::{Stored, encode},
    status::{ApiError, ApiResult},
};
use k8s_reconcile::{
    Controller, Cx, InformerScope, Next, Reconciler,
    informer::{Delta, DynamicInformer},
};

use self::settle::{Settled, Verdict};

/// How often a quota is counted again although nothing that is watched changed.
const RESYNC: Duration = Duration::from_secs(300);
/// The same for a quota that counts kinds which are not watched.
const RESYNC_UNWATCHED: Duration = Duration::from_secs(15);
/// The kinds whose changes are told.
const WATCHED: [&str; 3] = ["pods", "services", "persistentvolumeclaims"];

/// The resource quota controller for these kinds, ready to start.
pub fn controller(kinds: Arc<Kinds>) -> Controller<ResourceQuotas> {
    Controller::new("resourcequota-controller", ResourceQuotas { kinds, settled: Settled::default() })
        .watches::<Pod>(InformerScope::all(), quotas_of_less)
        .watches::<Service>(InformerScope::all(), quotas_of_less)
        .watches::<PersistentVolumeClaim>(InformerScope::all(), quotas_of_less)
        .workers(2)
}

/// The quotas of a namespace in which something went, or may use less. What is made is charged already.
fn quotas_of_less(delta: &Delta, quotas: &DynamicInformer) -> Vec<ObjectKey> {
    let over = |object: &Arc<Object>| {
        let phase = object.part::<String>(&["status", "phase"]);
        object.meta.kind == "Pod" && matches!(phase.as_deref(), Some("Succeeded" | "Failed"))
    };
    let may_use_less = match &delta.new {
        None => true,
        Some(new) if new.meta.kind == "Pod" => over(new) || new.meta.deleted.is_some(),
        Some(_) => delta.old.is_some(),
    };
    if !may_use_less {
        return Vec::new();
    }
    quotas.list_in(&delta.object().meta.namespace).iter().map(|quota| quota.meta.key()).collect()
}

/// Its reconciler.
pub struct ResourceQuotas {
    kinds: Arc<Kinds>,
    settled: Settled,
}

impl Reconciler for ResourceQuotas {
    type Object = ResourceQuota;
    type Error = ApiError;

    async fn reconcile(&self, stored: Stored<ResourceQuota>, cx: Cx) -> Result<Next, ApiError> {
        let key = stored.object().meta.key();
        if stored.object().meta.deleted.is_some() {
            return Ok(Next::Done);
        }
        let quota = encode(&*stored)?;
        let spec = quota.get("spec").cloned().unwrap_or_default();
        let hard = quota::amounts(spec.get("hard"));
        let (kinds, resync) = kinds_of(&hard);
        let objects = self.objects(&kinds, stored.namespace(), &cx).await?;
        let listed = objects.iter().map(|(group, plural, doc)| (group.as_str(), plural.as_str(), doc));
        let counted = quota::used(&spec, &hard, listed, cx.now());
        let charged = quota::amounts(quota.at(&["status", "used"]));
        match self.settled.judge(&key, stored.object().revision(), &charged, &counted, cx.now()) {
            Verdict::Wait(wait) => return Ok(Next::After(wait)),
            Verdict::Write(used) => {
                let texts = |amounts: &Amounts| -> BTreeMap<String, Quantity> {
                    amounts.iter().map(|(name, amount)| (name.clone(), Quantity(amount.to_string()))).collect()
                };
                let status = ResourceQuotaStatus { hard: Some(texts(&hard)), used: Some(texts(&used)) };
                cx.set_status(&stored, |quota| quota.status = Some(status)).await?;
            }
        }
        Ok(Next::After(resync))
    }

    async fn gone(&self, key: ObjectKey, _cx: Cx) -> Result<Next, ApiError> {
        self.settled.forget(&key);
        Ok(Next::Done)
    }
}

/// The kinds that a quota counts, and how long they may go uncounted.
fn kinds_of(hard: &Amounts) -> (BTreeSet<(String, String)>, Duration) {
    let found = hard.keys().filter_map(|name| quota::counted_kind(name));
    let kinds: BTreeSet<(String, String)> =
        found.map(|(group, plural)| (group.to_owned(), plural.to_owned())).collect();
    let is_watched = |(group, plural): &(String, String)| group.is_empty() && WATCHED.contains(&plural.as_str());
    let resync = if kinds.iter().all(is_watched) { RESYNC } else { RESYNC_UNWATCHED };
    (kinds, resync)
}

impl ResourceQuotas {
    /// Every object of these kinds in a namespace, as it is now. A kind that is not there has none.
    async fn objects(
        &self,
        kinds: &BTreeSet<(String, String)>,
        namespace: &str,
        cx: &Cx,
    ) -> ApiResult<Vec<(String, String, Doc)>> {
        let (mut found, registry) = (Vec::new(), self.kinds.now());
        for (group, plural) in kinds {
            let is_it = |info: &&Arc<k8s_core::registry::ResourceInfo>| {
                info.group == *group && info.plural == *plural && info.is_namespaced() && info.is_stored()
            };
            let Some(info) = registry.iter().find(is_it) else { continue };
            let resource = ResourceType::new(group.as_str(), info.version.clone(), plural.as_str());
            let list = cx.client().list_objects(Target::all(resource, namespace), Options::default()).await?;
            for object in list.items {
                let doc =
                    Doc::parse(object.stored_json()).map_err(|why| ApiError::internal(format!("{plural}: {why}")))?;
                found.push((group.clone(), plural.clone(), doc));
            }
        }
        Ok(found)
    }
}
