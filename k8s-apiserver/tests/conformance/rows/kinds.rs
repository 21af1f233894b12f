//! The kinds whose rows ask for the API alone: each is discovered, and does everything that a kind does.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::operations::{Sample, every_verb_works, is_discovered};
use crate::api::Api;

const REQUEST: &str = include_str!("../../../src/server/tests/samples/request.pem");
const CERTIFICATE: &str = include_str!("../../../src/server/tests/samples/certificate.pem");

fn kind(api_version: &'static str, plural: &'static str, namespaced: bool, kind: &str, body: Value) -> Sample {
    let mut object = body;
    object["kind"] = kind.into();
    Sample { api_version, plural, namespaced, object }
}

async fn all(api: &Api, kinds: Vec<(Sample, &[&str])>) {
    for (sample, subresources) in kinds {
        let names = match sample.plural {
            "ipaddresses" => ["192.0.2.1", "192.0.2.2", "192.0.2.3"],
            _ => ["one", "two", "three"],
        };
        is_discovered(api, &sample, subresources).await;
        every_verb_works(api, &sample, names).await;
    }
}

pub async fn workloads(api: &Api) {
    let pods = || json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}});
    let set = || json!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": pods()}});
    let job = || json!({"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}});
    let cron = json!({"spec": {"schedule": "@hourly", "jobTemplate": job()}});
    let scaler = || json!({"spec": {"maxReplicas": 2, "scaleTargetRef": {"kind": "Deployment", "name": "d"}}});
    let kinds: Vec<(Sample, &[&str])> = vec![
        (kind("apps/v1", "daemonsets", true, "DaemonSet", set()), &["status"]),
        (kind("apps/v1", "statefulsets", true, "StatefulSet", set()), &["status", "scale"]),
        (kind("batch/v1", "jobs", true, "Job", job()), &["status"]),
        (kind("batch/v1", "cronjobs", true, "CronJob", cron), &["status"]),
        (kind("autoscaling/v1", "horizontalpodautoscalers", true, "HorizontalPodAutoscaler", scaler()), &["status"]),
        (kind("autoscaling/v2", "horizontalpodautoscalers", true, "HorizontalPodAutoscaler", scaler()), &["status"]),
    ];
    all(api, kinds).await;
}

pub async fn networks(api: &Api) {
    let backend = json!({"service": {"name": "s", "port": {"number": 80}}});
    let parent = json!({"resource": "services", "name": "s", "namespace": "default"});
    let kinds: Vec<(Sample, &[&str])> = vec![
        (
            kind("networking.k8s.io/v1", "ingresses", true, "Ingress", json!({"spec": {"defaultBackend": backend}})),
            &["status"],
        ),
        (
            kind("networking.k8s.io/v1", "ingressclasses", false, "IngressClass", json!({"spec": {"controller": "a.b/c"}})),
            &[],
        ),
        (kind("networking.k8s.io/v1", "networkpolicies", true, "NetworkPolicy", json!({"spec": {"podSelector": {}}})), &[]),
        (kind("networking.k8s.io/v1", "ipaddresses", false, "IPAddress", json!({"spec": {"parentRef": parent}})), &[]),
        (
            kind("networking.k8s.io/v1", "servicecidrs", false, "ServiceCIDR", json!({"spec": {"cidrs": ["10.1.0.0/24"]}})),
            &["status"],
        ),
        (kind("node.k8s.io/v1", "runtimeclasses", false, "RuntimeClass", json!({"handler": "h"})), &[]),
    ];
    all(api, kinds).await;
}

pub async fn storage(api: &Api) {
    let volume = json!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "hostPath": {"path": "/x"}}});
    let claim = json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let attachment = json!({"spec": {"attacher": "d.example", "nodeName": "n", "source": {"persistentVolumeName": "v"}}});
    let node = json!({"spec": {"drivers": [{"name": "d.example", "nodeID": "n", "topologyKeys": null}]}});
    let kinds: Vec<(Sample, &[&str])> = vec![
        (kind("v1", "persistentvolumes", false, "PersistentVolume", volume), &["status"]),
        (kind("v1", "persistentvolumeclaims", true, "PersistentVolumeClaim", claim), &["status"]),
        (kind("storage.k8s.io/v1", "csidrivers", false, "CSIDriver", json!({"spec": {}})), &[]),
        (kind("storage.k8s.io/v1", "csinodes", false, "CSINode", node), &[]),
        (
            kind("storage.k8s.io/v1", "csistoragecapacities", true, "CSIStorageCapacity", json!({"storageClassName": "c"})),
            &[],
        ),
        (kind("storage.k8s.io/v1", "storageclasses", false, "StorageClass", json!({"provisioner": "a.b/c"})), &[]),
        (kind("storage.k8s.io/v1", "volumeattachments", false, "VolumeAttachment", attachment), &["status"]),
        (
            kind(
                "storage.k8s.io/v1",
                "volumeattributesclasses",
                false,
                "VolumeAttributesClass",
                json!({"driverName": "d.example", "parameters": {"a": "b"}}),
            ),
            &[],
        ),
    ];
    all(api, kinds).await;
}

pub async fn devices(api: &Api) {
    let requests = || json!({"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "c"}}]}});
    let slice = json!({"spec": {"driver": "d.example", "allNodes": true,
        "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "d0"}]}});
    let rule = json!({"spec": {"deviceSelector": {"driver": "d.example"}, "taint": {"key": "a.b/c", "effect": "NoSchedule"}}});
    let template = json!({"spec": {"spec": requests()}});
    let kinds: Vec<(Sample, &[&str])> = vec![
        (kind("resource.k8s.io/v1", "deviceclasses", false, "DeviceClass", json!({"spec": {}})), &[]),
        (kind("resource.k8s.io/v1", "devicetaintrules", false, "DeviceTaintRule", rule), &["status"]),
        (kind("resource.k8s.io/v1", "resourceclaims", true, "ResourceClaim", json!({"spec": requests()})), &["status"]),
        (kind("resource.k8s.io/v1", "resourceclaimtemplates", true, "ResourceClaimTemplate", template), &[]),
        (kind("resource.k8s.io/v1", "resourceslices", false, "ResourceSlice", slice), &[]),
    ];
    all(api, kinds).await;
}

pub async fn control(api: &Api) {
    let request = json!({"spec": {"request": STANDARD.encode(REQUEST), "signerName": "a.b/c", "usages": ["client auth"]}});
    let stub: String = REQUEST.lines().filter(|line| !line.starts_with('-')).collect();
    let pod = json!({"spec": {"signerName": "a.b/c", "podName": "p", "podUID": "1", "serviceAccountName": "s",
        "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3", "stubPKCS10Request": stub}});
    let schema = json!({"spec": {"priorityLevelConfiguration": {"name": "l"}, "matchingPrecedence": 5000, "rules": [{
        "subjects": [{"kind": "User", "user": {"name": "u"}}],
        "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]}]}});
    let level = json!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}});
    let migration = json!({"spec": {"resource": {"group": "apps", "resource": "deployments"}}});
    let kinds: Vec<(Sample, &[&str])> = vec![
        (kind("v1", "resourcequotas", true, "ResourceQuota", json!({"spec": {"hard": {"count/a.b": "5"}}})), &["status"]),
        (
            kind("certificates.k8s.io/v1", "certificatesigningrequests", false, "CertificateSigningRequest", request),
            &["approval", "status"],
        ),
        (
            kind(
                "certificates.k8s.io/v1",
                "clustertrustbundles",
                false,
                "ClusterTrustBundle",
                json!({"spec": {"trustBundle": CERTIFICATE}}),
            ),
            &[],
        ),
        (kind("certificates.k8s.io/v1", "podcertificaterequests", true, "PodCertificateRequest", pod), &["status"]),
        (kind("flowcontrol.apiserver.k8s.io/v1", "flowschemas", false, "FlowSchema", schema), &["status"]),
        (
            kind(
                "flowcontrol.apiserver.k8s.io/v1",
                "prioritylevelconfigurations",
                false,
                "PriorityLevelConfiguration",
                level,
            ),
            &["status"],
        ),
        (
            kind("storagemigration.k8s.io/v1", "storageversionmigrations", false, "StorageVersionMigration", migration),
            &["status"],
        ),
    ];
    all(api, kinds).await;
}

/// A request is approved by its own subresource only, and says who asks.
pub async fn signing_request_is_approved(api: &Api) {
    const PATH: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
    let request = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "CertificateSigningRequest",
        "metadata": {"name": "r"}, "spec": {"username": "somebody else", "request": STANDARD.encode(REQUEST),
        "signerName": "a.b/c", "usages": ["client auth"]}});
    let made = api.create(PATH, &request).await;
    assert_ne!(made["spec"]["username"], "somebody else", "the server says who asks");
    let verdict = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "r", "message": "m"}]}});
    let one = format!("{PATH}/r");
    let unchanged = api.patch(&format!("{one}/status"), "merge", &verdict).await.expect(200);
    assert!(unchanged["status"]["conditions"].as_array().is_none_or(Vec::is_empty), "{unchanged}");
    let approved = api.patch(&format!("{one}/approval"), "merge", &verdict).await.expect(200);
    let condition = &approved["status"]["conditions"][0];
    assert_eq!(condition["type"], "Approved");
    assert!(condition["lastUpdateTime"].is_string() && condition["lastTransitionTime"].is_string(), "{condition}");
    let both = json!({"status": {"conditions": [{"type": "Approved", "status": "True"}, {"type": "Denied", "status": "True"}]}});
    api.patch(&format!("{one}/approval"), "merge", &both).await.failed(422, "Invalid");
    let issued = json!({"status": {"certificate": STANDARD.encode(CERTIFICATE)}});
    let issued = api.patch(&format!("{one}/status"), "merge", &issued).await.expect(200);
    assert_eq!(issued["status"]["conditions"][0]["type"], "Approved");
}
