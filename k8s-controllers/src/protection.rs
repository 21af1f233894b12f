//! The protection controllers: claims, volumes and attribute classes that are being deleted go when nobody uses them any
//! more.
//!
//! Admission gives each a finalizer; here it is taken away.

use k8s_core::{
    api::api::{
        core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
        storage::v1::VolumeAttributesClass,
    },
    doc,
    object::{Object, ObjectKey},
    request::PatchKind,
    resource::{Resource, Stored},
    status::{ApiError, ApiResult},
};
use k8s_reconcile::{
    Controller, Cx, InformerScope, Next, Reconciler,
    informer::{Delta, DynamicInformer},
};

const CLAIM: &str = "kubernetes.io/pvc-protection";
const VOLUME: &str = "kubernetes.io/pv-protection";
const CLASS: &str = "kubernetes.io/vac-protection";

/// The controller that lets claims go, ready to start.
pub fn claims() -> Controller<Claims> {
    Controller::new("pvc-protection-controller", Claims).watches::<Pod>(InformerScope::all(), claims_of_pod).workers(1)
}

/// The controller that lets volumes go, ready to start.
pub fn volumes() -> Controller<Volumes> {
    Controller::new("pv-protection-controller", Volumes).workers(1)
}

/// The controller that lets attribute classes go, ready to start.
pub fn classes() -> Controller<Classes> {
    Controller::new("vac-protection-controller", Classes)
        .watches::<PersistentVolumeClaim>(InformerScope::all(), all_held)
        .watches::<PersistentVolume>(InformerScope::all(), all_held)
        .workers(1)
}

/// Whether an object waits for this finalizer.
fn waits(object: &Object, finalizer: &str) -> bool {
    object.meta.deleted.is_some() && object.meta.finalizers.iter().any(|held| held == finalizer)
}

async fn let_go<K: Resource>(object: &Stored<K>, finalizer: &str, cx: &Cx) -> ApiResult<()> {
    let meta = &object.object().meta;
    let left: Vec<_> = meta.finalizers.iter().filter(|held| *held != finalizer).cloned().collect();
    // Nobody else's finalizer may be taken back: the patch holds for this revision only.
    let revision = object.object().revision().to_string();
    let patch = doc!({"metadata": {"resourceVersion": revision, "finalizers": left}});
    match cx.patch::<K>(object.object(), PatchKind::Merge, patch).await {
        Err(error) if !error.is_not_found() => Err(error),
        _ => Ok(()),
    }
}

/// The claims of a pod, by name or by the names that ephemeral volumes give them.
fn claim_names(pod: &Pod) -> Vec<String> {
    let pod_name = pod.metadata.name.as_deref().unwrap_or_default();
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    let claim =
        |volume: &k8s_core::api::api::core::v1::Volume| match (&volume.persistent_volume_claim, &volume.ephemeral) {
            (Some(claim), _) => Some(claim.claim_name.clone()),
            (None, Some(_)) => Some(format!("{pod_name}-{}", volume.name)),
            (None, None) => None,
        };
    volumes.filter_map(claim).collect()
}

fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

fn claims_of_pod(delta: &Delta, _claims: &DynamicInformer) -> Vec<ObjectKey> {
    let pod = delta.object();
    let names = pod.typed::<Pod>().map(|pod| claim_names(&pod)).unwrap_or_default();
    names.into_iter().map(|name| ObjectKey::new(pod.meta.namespace.clone(), name)).collect()
}

/// Lets claims go.
pub struct Claims;

impl Reconciler for Claims {
    type Object = PersistentVolumeClaim;
    type Error = ApiError;

    async fn reconcile(&self, claim: Stored<PersistentVolumeClaim>, cx: Cx) -> Result<Next, ApiError> {
        if !waits(claim.object(), CLAIM) {
            return Ok(Next::Done);
        }
        let uses = |pod: &Stored<Pod>| !is_over(pod) && claim_names(pod).iter().any(|name| name == claim.name());
        let is_used = cx.cached::<Pod>()?.list_in(claim.namespace()).iter().any(uses);
        if !is_used {
            let_go(&claim, CLAIM, &cx).await?;
        }
        // The last pod that uses it wakes this.
        Ok(Next::Done)
    }
}

/// Lets volumes go.
pub struct Volumes;

impl Reconciler for Volumes {
    type Object = PersistentVolume;
    type Error = ApiError;

    async fn reconcile(&self, volume: Stored<PersistentVolume>, cx: Cx) -> Result<Next, ApiError> {
        let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref());
        if waits(volume.object(), VOLUME) && phase != Some("Bound") {
            let_go(&volume, VOLUME, &cx).await?;
        }
        Ok(Next::Done)
    }
}

fn all_held(_delta: &Delta, classes: &DynamicInformer) -> Vec<ObjectKey> {
    classes.list().iter().filter(|class| waits(class, CLASS)).map(|class| class.meta.key()).collect()
}

/// Lets attribute classes go.
pub struct Classes;

impl Reconciler for Classes {
    type Object = VolumeAttributesClass;
    type Error = ApiError;

    async fn reconcile(&self, class: Stored<VolumeAttributesClass>, cx: Cx) -> Result<Next, ApiError> {
        if !waits(class.object(), CLASS) {
            return Ok(Next::Done);
        }
        let name = Some(class.name());
        let by_claim = |claim: &Stored<PersistentVolumeClaim>| {
            let asked = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
            let has = claim.status.as_ref().and_then(|status| status.current_volume_attributes_class_name.as_deref());
            asked == name || has == name
        };
        let by_volume = |volume: &Stored<PersistentVolume>| {
            volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref()) == name
        };
        let is_used = cx.cached::<PersistentVolumeClaim>()?.list().iter().any(by_claim)
            || cx.cached::<PersistentVolume>()?.list().iter().any(by_volume);
        if !is_used {
            let_go(&class, CLASS, &cx).await?;
        }
        Ok(Next::Done)
    }
}
