//! What the whole cluster stores and nobody in it acts on yet.

/// The resources, as warnings name them. A stand-alone API server does not warn of them: its cluster may have
/// controllers of its own.
pub const INERT: [&str; 27] = [
    "persistentvolumeclaims",
    "persistentvolumes",
    "daemonsets.apps",
    "statefulsets.apps",
    "cronjobs.batch",
    "jobs.batch",
    "horizontalpodautoscalers.autoscaling",
    "ingresses.networking.k8s.io",
    "ingressclasses.networking.k8s.io",
    "networkpolicies.networking.k8s.io",
    "runtimeclasses.node.k8s.io",
    "certificatesigningrequests.certificates.k8s.io",
    "clustertrustbundles.certificates.k8s.io",
    "podcertificaterequests.certificates.k8s.io",
    "csidrivers.storage.k8s.io",
    "csinodes.storage.k8s.io",
    "csistoragecapacities.storage.k8s.io",
    "storageclasses.storage.k8s.io",
    "volumeattachments.storage.k8s.io",
    "volumeattributesclasses.storage.k8s.io",
    "deviceclasses.resource.k8s.io",
    "devicetaintrules.resource.k8s.io",
    "resourceclaims.resource.k8s.io",
    "resourceclaimtemplates.resource.k8s.io",
    "resourceslices.resource.k8s.io",
    "storageversionmigrations.storagemigration.k8s.io",
    "pods/resize",
];

/// The same as an owned list.
pub(crate) fn resources() -> Vec<String> {
    INERT.iter().map(|resource| (*resource).to_owned()).collect()
}
