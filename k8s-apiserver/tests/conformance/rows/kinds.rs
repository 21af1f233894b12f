//! Kinds of which a server alone must support every operation.

use base64::{Engine, engine::general_purpose::STANDARD};
use k8s_wire::{env::System, pki::Authority};
use serde_json::{Value, json};

use super::{
    needs_service_account,
    operations::{Sample, every_verb_works, is_discovered},
};
use crate::api::{Api, name};

const ABC: [&str; 3] = ["a", "b", "c"];

fn in_cluster(api_version: &'static str, plural: &'static str, object: Value) -> Sample {
    Sample { api_version, plural, namespaced: false, object }
}

fn in_namespace(api_version: &'static str, plural: &'static str, object: Value) -> Sample {
    Sample { api_version, plural, namespaced: true, object }
}

async fn works(api: &Api, sample: Sample, subresources: &[&str]) {
    is_discovered(api, &sample, subresources).await;
    every_verb_works(api, &sample, ABC).await;
}

/// A status is patched, then updated, and nothing but the status (and annotations) comes through.
async fn status_works(api: &Api, sample: &Sample, name: &str, first: Value, second: Value) {
    let one = format!("{}/{name}", sample.path());
    let made = api.create(&sample.path(), &sample.named(name)).await;
    assert_eq!(api.read(&format!("{one}/status")).await["metadata"]["uid"], made["metadata"]["uid"]);
    let patch = json!({"status": first});
    let mut patched = api.patch(&format!("{one}/status"), "merge", &patch).await.expect(200);
    contains(&patched["status"], &first);
    patched["status"] = second.clone();
    let updated = api.put(&format!("{one}/status"), &patched).await.expect(200);
    contains(&updated["status"], &second);
    let got = api.read(&one).await;
    contains(&got["status"], &second);
    assert_eq!(got["spec"], made["spec"]);
    api.delete(&one).await.expect(200);
}

/// All of `part` is in `whole`.
#[track_caller]
fn contains(whole: &Value, part: &Value) {
    match part {
        Value::Object(fields) => fields.iter().for_each(|(name, part)| contains(&whole[name], part)),
        Value::Array(items) => {
            assert_eq!(whole.as_array().map(Vec::len), Some(items.len()), "{whole}");
            items.iter().enumerate().for_each(|(place, part)| contains(&whole[place], part));
        }
        scalar => assert_eq!(whole, scalar),
    }
}

fn condition(kind: &str) -> Value {
    json!({"type": kind, "status": "True", "reason": "E2E", "message": "set", "lastTransitionTime": "2026-01-01T00:00:00Z"})
}

pub async fn flow_schemas(api: &Api) {
    let rule = json!({"subjects": [{"kind": "User", "user": {"name": "example-e2e-user"}}],
        "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}]});
    let spec = json!({"matchingPrecedence": 10000, "priorityLevelConfiguration": {"name": "global-default"},
        "distinguisherMethod": {"type": "ByUser"}, "rules": [rule]});
    let sample =
        in_cluster("flowcontrol.apiserver.k8s.io/v1", "flowschemas", json!({"kind": "FlowSchema", "spec": spec}));
    let conditions = |kind: &str| json!({"conditions": [condition(kind)]});
    status_works(api, &sample, "s", conditions("PatchStatusFailed"), conditions("StatusUpdateFailed")).await;
    works(api, sample, &["status"]).await;
}

pub async fn priority_levels(api: &Api) {
    let spec =
        json!({"type": "Limited", "limited": {"nominalConcurrencyShares": 2, "limitResponse": {"type": "Reject"}}});
    let object = json!({"kind": "PriorityLevelConfiguration", "spec": spec});
    let sample = in_cluster("flowcontrol.apiserver.k8s.io/v1", "prioritylevelconfigurations", object);
    let conditions = |kind: &str| json!({"conditions": [condition(kind)]});
    status_works(api, &sample, "s", conditions("PatchStatusFailed"), conditions("StatusUpdateFailed")).await;
    works(api, sample, &["status"]).await;
}

pub async fn storage_version_migrations(api: &Api) {
    let spec = json!({"resource": {"group": "apps", "resource": "deployments"}});
    let object = json!({"kind": "StorageVersionMigration", "spec": spec});
    let sample = in_cluster("storagemigration.k8s.io/v1", "storageversionmigrations", object);
    let first = json!({"resourceVersion": "1"});
    status_works(api, &sample, "s", first, json!({"resourceVersion": "1", "conditions": [condition("Running")]})).await;
    works(api, sample, &["status"]).await;
}

pub async fn cron_jobs(api: &Api) {
    let template = json!({"spec": {"containers": [{"name": "c", "image": "x"}], "restartPolicy": "OnFailure"}});
    let spec = json!({"schedule": "*/1 * * * *", "concurrencyPolicy": "Allow", "jobTemplate": {"spec": {"template": template}}});
    let sample = in_namespace("batch/v1", "cronjobs", json!({"kind": "CronJob", "spec": spec}));
    let at = |minute: u8| json!({"lastScheduleTime": format!("2026-01-01T00:{minute:02}:00Z")});
    status_works(api, &sample, "s", at(1), at(2)).await;
    works(api, sample, &["status"]).await;
}

fn signing_request() -> String {
    let key = rcgen::KeyPair::generate().expect("a key");
    let mut params = rcgen::CertificateParams::default();
    params.distinguished_name.push(rcgen::DnType::CommonName, "e2e.example.com");
    params.serialize_request(&key).expect("a request").pem().expect("PEM")
}

pub async fn signing_requests(api: &Api) {
    let spec = json!({"request": STANDARD.encode(signing_request()), "signerName": "example.com/e2e",
        "usages": ["digital signature", "key encipherment", "server auth"], "expirationSeconds": 3600});
    let object = json!({"kind": "CertificateSigningRequest", "spec": spec});
    let sample = in_cluster("certificates.k8s.io/v1", "certificatesigningrequests", object);
    is_discovered(api, &sample, &["approval", "status"]).await;
    let one = format!("{}/s", sample.path());
    let made = api.create(&sample.path(), &sample.named("s")).await;
    assert_eq!(made["spec"]["username"], "admin");
    let approved =
        |kind: &str| json!({"conditions": [{"type": kind, "status": "True", "reason": "E2E", "message": "set"}]});
    let patch = json!({"metadata": {"annotations": {"patchedapproval": "true"}}, "status": approved("ApprovalPatch")});
    let patched = api.patch(&format!("{one}/approval"), "merge", &patch).await.expect(200);
    assert_eq!(patched["status"]["conditions"][0]["type"], "ApprovalPatch");
    let mut update = patched;
    update["status"]["conditions"]
        .as_array_mut()
        .expect("conditions")
        .push(approved("ApprovalUpdate")["conditions"][0].clone());
    let updated = api.put(&format!("{one}/approval"), &update).await.expect(200);
    assert_eq!(updated["status"]["conditions"][1]["type"], "ApprovalUpdate");
    let authority = Authority::generate("e2e", System::current().now()).expect("an authority");
    let patch = json!({"status": {"certificate": STANDARD.encode(authority.certificate_pem())}});
    let patched = api.patch(&format!("{one}/status"), "merge", &patch).await.expect(200);
    assert_eq!(patched["status"]["certificate"], patch["status"]["certificate"]);
    let mut update = patched;
    update["status"]["conditions"]
        .as_array_mut()
        .expect("conditions")
        .push(approved("StatusUpdate")["conditions"][0].clone());
    let updated = api.put(&format!("{one}/status"), &update).await.expect(200);
    assert_eq!(updated["status"]["conditions"][2]["type"], "StatusUpdate");
    api.delete(&one).await.expect(200);
    every_verb_works(api, &sample, ABC).await;
}

pub async fn pod_certificate_requests(api: &Api) {
    let key = rcgen::KeyPair::generate().expect("a key");
    let request = rcgen::CertificateParams::default().serialize_request(&key).expect("a request");
    let spec = json!({"signerName": "example.com/e2e", "podName": "p", "podUID": "11111111-1111-1111-1111-111111111111",
        "serviceAccountName": "default", "serviceAccountUID": "22222222-2222-2222-2222-222222222222",
        "nodeName": "n", "nodeUID": "33333333-3333-3333-3333-333333333333",
        "maxExpirationSeconds": 86400, "stubPKCS10Request": STANDARD.encode(request.der())});
    let object = json!({"kind": "PodCertificateRequest", "spec": spec});
    let sample = in_namespace("certificates.k8s.io/v1", "podcertificaterequests", object);
    works(api, sample, &["status"]).await;
}

pub async fn trust_bundles(api: &Api) {
    let authority = Authority::generate("e2e", System::current().now()).expect("an authority");
    let object = json!({"kind": "ClusterTrustBundle", "spec": {"trustBundle": authority.certificate_pem()}});
    let sample = in_cluster("certificates.k8s.io/v1", "clustertrustbundles", object);
    works(api, sample, &[]).await;
    let signed = json!({"apiVersion": "certificates.k8s.io/v1", "kind": "ClusterTrustBundle",
        "metadata": {"name": "example.com:signer:a"},
        "spec": {"signerName": "example.com/signer", "trustBundle": authority.certificate_pem()}});
    let path = "/apis/certificates.k8s.io/v1/clustertrustbundles";
    api.create(path, &signed).await;
    assert_eq!(
        api.names(&format!("{path}?fieldSelector=spec.signerName%3Dexample.com%2Fsigner")).await,
        ["example.com:signer:a"]
    );
}

pub async fn ingresses(api: &Api) {
    let backend = json!({"service": {"name": "default-backend", "port": {"number": 80}}});
    let rule =
        json!({"host": "foo.bar.com", "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}});
    let object = json!({"kind": "Ingress", "spec": {"defaultBackend": backend, "rules": [rule]}});
    let sample = in_namespace("networking.k8s.io/v1", "ingresses", object);
    let at = |ip: &str| json!({"loadBalancer": {"ingress": [{"ip": ip}]}});
    status_works(api, &sample, "s", at("169.1.1.1"), at("169.1.1.2")).await;
    works(api, sample, &["status"]).await;
}

pub async fn ingress_classes(api: &Api) {
    let object = json!({"kind": "IngressClass", "spec": {"controller": "example.com/controller"}});
    works(api, in_cluster("networking.k8s.io/v1", "ingressclasses", object), &[]).await;
}

pub async fn ip_addresses(api: &Api) {
    let parent = json!({"group": "", "resource": "services", "name": "foo", "namespace": "bar"});
    let object = json!({"kind": "IPAddress", "spec": {"parentRef": parent}});
    let sample = in_cluster("networking.k8s.io/v1", "ipaddresses", object);
    is_discovered(api, &sample, &[]).await;
    every_verb_works(api, &sample, ["192.168.1.5", "192.168.1.6", "2001:db8::2"]).await;
}

pub async fn service_cidrs(api: &Api) {
    let object = json!({"kind": "ServiceCIDR", "spec": {"cidrs": ["10.1.0.0/24"]}});
    let sample = in_cluster("networking.k8s.io/v1", "servicecidrs", object);
    let conditions = |kind: &str| json!({"conditions": [condition(kind)]});
    let one = format!("{}/s", sample.path());
    api.create(&sample.path(), &sample.named("s")).await;
    let mut patched =
        api.patch(&format!("{one}/status"), "merge", &json!({"status": conditions("Patched")})).await.expect(200);
    contains(&patched["status"], &conditions("Patched"));
    patched["status"] = conditions("Updated");
    contains(&api.put(&format!("{one}/status"), &patched).await.expect(200)["status"], &conditions("Updated"));
    api.delete(&one).await.expect(200);
    api.get(&one).await.failed(404, "NotFound");
    works(api, sample, &["status"]).await;
}

pub async fn device_classes(api: &Api) {
    let object = json!({"kind": "DeviceClass", "spec": {}});
    works(api, in_cluster("resource.k8s.io/v1", "deviceclasses", object), &[]).await;
}

pub async fn device_taint_rules(api: &Api) {
    let spec = json!({"deviceSelector": {"driver": "d.example.com"}, "taint": {"key": "example.com/t", "effect": "NoExecute"}});
    let object = json!({"kind": "DeviceTaintRule", "spec": spec});
    let sample = in_cluster("resource.k8s.io/v1", "devicetaintrules", object);
    let conditions = |kind: &str| json!({"conditions": [condition(kind)]});
    status_works(api, &sample, "s", conditions("Patched"), conditions("Updated")).await;
    works(api, sample, &["status"]).await;
}

fn claim() -> Value {
    json!({"devices": {"requests": [{"name": "req-0", "exactly": {"deviceClassName": "class"}}]}})
}

pub async fn resource_claims(api: &Api) {
    let sample =
        in_namespace("resource.k8s.io/v1", "resourceclaims", json!({"kind": "ResourceClaim", "spec": claim()}));
    works(api, sample, &["status"]).await;
}

pub async fn resource_claim_templates(api: &Api) {
    let object = json!({"kind": "ResourceClaimTemplate", "spec": {"spec": claim()}});
    works(api, in_namespace("resource.k8s.io/v1", "resourceclaimtemplates", object), &[]).await;
}

pub async fn resource_slices(api: &Api) {
    let pool = json!({"name": "pool", "generation": 1, "resourceSliceCount": 1});
    let spec = json!({"driver": "d.example.com", "nodeName": "n", "pool": pool, "devices": [{"name": "d0"}]});
    works(api, in_cluster("resource.k8s.io/v1", "resourceslices", json!({"kind": "ResourceSlice", "spec": spec})), &[])
        .await;
}

pub async fn csi_drivers(api: &Api) {
    let spec = json!({"attachRequired": false, "volumeLifecycleModes": ["Ephemeral"]});
    works(api, in_cluster("storage.k8s.io/v1", "csidrivers", json!({"kind": "CSIDriver", "spec": spec})), &[]).await;
}

pub async fn csi_nodes(api: &Api) {
    let object = json!({"kind": "CSINode", "spec": {"drivers": [{"name": "d.example.com", "nodeID": "n", "topologyKeys": ["k"]}]}});
    works(api, in_cluster("storage.k8s.io/v1", "csinodes", object), &[]).await;
}

pub async fn csi_storage_capacities(api: &Api) {
    let object = json!({"kind": "CSIStorageCapacity", "storageClassName": "class", "capacity": "1Gi",
        "nodeTopology": {"matchLabels": {"zone": "a"}}});
    works(api, in_namespace("storage.k8s.io/v1", "csistoragecapacities", object), &[]).await;
}

pub async fn storage_classes(api: &Api) {
    let object = json!({"kind": "StorageClass", "provisioner": "example.com/p"});
    let sample = in_cluster("storage.k8s.io/v1", "storageclasses", object);
    let made = api.create(&sample.path(), &sample.named("s")).await;
    assert_eq!((&made["reclaimPolicy"], &made["volumeBindingMode"]), (&json!("Delete"), &json!("Immediate")));
    api.delete(&format!("{}/s", sample.path())).await.expect(200);
    works(api, sample, &[]).await;
}

fn attachment() -> Sample {
    let spec = json!({"attacher": "d.example.com", "nodeName": "n", "source": {"persistentVolumeName": "v"}});
    in_cluster("storage.k8s.io/v1", "volumeattachments", json!({"kind": "VolumeAttachment", "spec": spec}))
}

pub async fn volume_attachments(api: &Api) {
    works(api, attachment(), &["status"]).await;
}

pub async fn volume_attachment_status(api: &Api) {
    status_works(api, &attachment(), "s", json!({"attached": true}), json!({"attached": false})).await;
}

pub async fn volume_attributes_classes(api: &Api) {
    let object = json!({"kind": "VolumeAttributesClass", "driverName": "d.example.com", "parameters": {"k": "v"}});
    works(api, in_cluster("storage.k8s.io/v1", "volumeattributesclasses", object), &[]).await;
}

pub async fn runtime_classes(api: &Api) {
    works(api, in_cluster("node.k8s.io/v1", "runtimeclasses", json!({"kind": "RuntimeClass", "handler": "h"})), &[])
        .await;
}

const QUOTAS: &str = "/api/v1/namespaces/default/resourcequotas";

fn quota(name: &str, hard: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}, "spec": {"hard": hard}})
}

pub async fn quota_update_and_delete(api: &Api) {
    let mut made = api.create(QUOTAS, &quota("q", json!({"cpu": "1", "memory": "500Mi"}))).await;
    assert_eq!(api.read(&format!("{QUOTAS}/q")).await["spec"]["hard"], json!({"cpu": "1", "memory": "500Mi"}));
    made["spec"]["hard"] = json!({"cpu": "2", "memory": "1Gi"});
    let updated = api.put(&format!("{QUOTAS}/q"), &made).await.expect(200);
    assert_eq!(updated["spec"]["hard"], json!({"cpu": "2", "memory": "1Gi"}));
    assert_eq!(api.read(&format!("{QUOTAS}/q")).await["spec"]["hard"], json!({"cpu": "2", "memory": "1Gi"}));
    api.delete(&format!("{QUOTAS}/q")).await.expect(200);
    api.get(&format!("{QUOTAS}/q")).await.failed(404, "NotFound");
}

pub async fn quota_lifecycle(api: &Api) {
    let mut made = quota("q", json!({"cpu": "500m"}));
    made["metadata"]["labels"] = json!({"e2e": "quota"});
    api.create(QUOTAS, &made).await;
    assert_eq!(name(&api.read(&format!("{QUOTAS}/q")).await), "q");
    assert_eq!(api.names("/api/v1/resourcequotas?labelSelector=e2e%3Dquota").await, ["q"]);
    let patch = json!({"metadata": {"labels": {"q": "patched"}}, "spec": {"hard": {"memory": "750Mi"}}});
    let patched = api.patch(&format!("{QUOTAS}/q"), "strategic", &patch).await.expect(200);
    assert_eq!(patched["metadata"]["labels"]["q"], "patched");
    assert_eq!(patched["spec"]["hard"], json!({"cpu": "500m", "memory": "750Mi"}));
    api.delete(&format!("{QUOTAS}?labelSelector=q%3Dpatched")).await.expect(200);
    assert!(api.names(QUOTAS).await.is_empty());
}

/// A pod with a certificate that may live so long.
fn certified(seconds: u64) -> Value {
    let source = json!({"podCertificate": {"signerName": "example.com/s", "keyType": "ED25519",
        "maxExpirationSeconds": seconds, "credentialBundlePath": "bundle.pem"}});
    let volume = json!({"name": "v", "projected": {"sources": [source]}});
    let spec = json!({"containers": [{"name": "c", "image": "x"}], "volumes": [volume]});
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": spec})
}

const EXPIRATION: &str = "spec.volumes[0].projected.sources[0].podCertificate.maxExpirationSeconds";

pub async fn certificate_maximum(api: &Api) {
    const DAYS: u64 = 91 * 24 * 3600;
    needs_service_account(api, "default").await;
    let refused = api.post("/api/v1/namespaces/default/pods", &certified(DAYS + 1)).await.failed(422, "Invalid");
    assert_eq!(refused["details"]["causes"][0]["field"], EXPIRATION, "{refused}");
    api.create("/api/v1/namespaces/default/pods", &certified(DAYS)).await;
}

pub async fn certificate_minimum(api: &Api) {
    needs_service_account(api, "default").await;
    let refused = api.post("/api/v1/namespaces/default/pods", &certified(3599)).await.failed(422, "Invalid");
    assert_eq!(refused["details"]["causes"][0]["field"], EXPIRATION, "{refused}");
    api.create("/api/v1/namespaces/default/pods", &certified(3600)).await;
}
