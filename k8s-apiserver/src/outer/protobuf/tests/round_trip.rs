//! Whatever a kind's schema allows goes to protobuf and comes back the same, and every field has a number.

use std::collections::BTreeSet;

use k8s_core::{
    doc::Map,
    registry::Registry,
    schema::{FieldView, Kind, Node, Schema, SchemaOr, Struct},
};
use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};

use super::*;

/// Fields whose numbers are not known yet, all new in Kubernetes 1.36 and 1.37. They are left out of messages, as
/// `docs/not-yet.md` says.
const UNNUMBERED: &str = "
    api.authentication.v1.TokenRequestSpec.attestations
    api.autoscaling.v2.HorizontalPodAutoscalerCondition.observedGeneration
    api.batch.v1.JobSchedulingConfiguration.disruptionMode
    api.batch.v1.JobSchedulingConfiguration.resourceClaims
    api.batch.v1.JobSchedulingConfiguration.schedulingConstraints
    api.batch.v1.JobSchedulingConfiguration.schedulingPolicy
    api.batch.v1.JobSpec.scheduling
    api.certificates.v1.PodCertificateRequestSpec.stubPKCS10Request
    api.core.v1.ClusterTrustBundleProjection.user
    api.core.v1.ConfigMapVolumeSource.defaultUser
    api.core.v1.DownwardAPIVolumeFile.user
    api.core.v1.DownwardAPIVolumeSource.defaultUser
    api.core.v1.EmptyDirVolumeSource.mode
    api.core.v1.EvictionResponder.name
    api.core.v1.EvictionResponder.priority
    api.core.v1.GRPCAction.mode
    api.core.v1.HTTPGetAction.protocol
    api.core.v1.KeyToPath.user
    api.core.v1.NodeAllocatableMappedResources.name
    api.core.v1.NodeAllocatableMappedResources.quantity
    api.core.v1.NodeAllocatableOverheadResources.name
    api.core.v1.NodeAllocatableOverheadResources.perContainer
    api.core.v1.NodeAllocatableOverheadResources.perPod
    api.core.v1.NodeAllocatableResourceClaimStatus.containers
    api.core.v1.NodeAllocatableResourceClaimStatus.mapping
    api.core.v1.NodeAllocatableResourceClaimStatus.overhead
    api.core.v1.NodeAllocatableResourceClaimStatus.resourceClaimName
    api.core.v1.NodePodPreemptionPolicy.disableResizePreemption
    api.core.v1.NodeSpec.podPreemptionPolicy
    api.core.v1.NodeSystemInfo.runningInUserNamespace
    api.core.v1.PersistentVolumeClaimStatus.healthStatus
    api.core.v1.PodCertificateProjection.user
    api.core.v1.PodSpec.evictionResponders
    api.core.v1.PodStatus.nodeAllocatableResourceClaimStatuses
    api.core.v1.PodStatus.volumeHealth
    api.core.v1.PodVolumeHealth.healthConditions
    api.core.v1.PodVolumeHealth.lastTransitionTime
    api.core.v1.PodVolumeHealth.name
    api.core.v1.ProjectedVolumeSource.defaultUser
    api.core.v1.SecretVolumeSource.defaultUser
    api.core.v1.ServiceAccountTokenProjection.user
    api.core.v1.VolumeHealthCondition.message
    api.core.v1.VolumeHealthCondition.reason
    api.core.v1.VolumeHealthCondition.status
    api.core.v1.VolumeHealthStatus.healthConditions
    api.core.v1.VolumeHealthStatus.lastTransitionTime
    api.core.v1.VolumeMount.bindMountOptions
    api.resource.v1.Device.nodeAllocatableResources
    api.resource.v1.DeviceAttribute.bools
    api.resource.v1.DeviceAttribute.ints
    api.resource.v1.DeviceAttribute.strings
    api.resource.v1.DeviceAttribute.versions
    api.resource.v1.DeviceCounterConsumption.compatibilityGroups
    api.resource.v1.DeviceDerivedAttribute.expression
    api.resource.v1.DeviceDerivedAttribute.name
    api.resource.v1.DeviceRequestAllocationResult.skipNodeOperations
    api.resource.v1.DeviceSubRequest.derivedAttributes
    api.resource.v1.ExactDeviceRequest.derivedAttributes
    api.resource.v1.NodeAllocatableMapping.capacityKey
    api.resource.v1.NodeAllocatableMapping.capacityMultiplier
    api.resource.v1.NodeAllocatableMapping.deviceMultiplier
    api.resource.v1.NodeAllocatableOverhead.perContainer
    api.resource.v1.NodeAllocatableOverhead.perPod
    api.resource.v1.NodeAllocatableResource.mapping
    api.resource.v1.NodeAllocatableResource.overhead
    api.resource.v1.ResourceSliceSpec.partitionTypeAttribute
    api.resource.v1.ResourceSliceSpec.skipNodeOperations
    api.scheduling.v1alpha3.TopologyConstraint.key
    api.scheduling.v1alpha3.WorkloadPodGroupDisruptionMode.all
    api.scheduling.v1alpha3.WorkloadPodGroupDisruptionMode.single
    api.scheduling.v1alpha3.WorkloadPodGroupGangSchedulingPolicy.minCount
    api.scheduling.v1alpha3.WorkloadPodGroupResourceClaim.name
    api.scheduling.v1alpha3.WorkloadPodGroupResourceClaim.resourceClaimName
    api.scheduling.v1alpha3.WorkloadPodGroupResourceClaim.resourceClaimTemplateName
    api.scheduling.v1alpha3.WorkloadPodGroupSchedulingConstraints.topology
    api.scheduling.v1alpha3.WorkloadPodGroupSchedulingPolicy.basic
    api.scheduling.v1alpha3.WorkloadPodGroupSchedulingPolicy.gang
    api.storage.v1.CSIDriverSpec.preventPodSchedulingIfMissing
    api.storage.v1.CSINode.status
    api.storage.v1.CSINodeStatus.storageHealth
    api.storage.v1.StorageHealth.healthConditions
    api.storage.v1.StorageHealth.name
    api.storage.v1.StorageHealthCondition.accessMode
    api.storage.v1.StorageHealthCondition.lastTransitionTime
    api.storage.v1.StorageHealthCondition.message
    api.storage.v1.StorageHealthCondition.reason
    api.storage.v1.StorageHealthCondition.status
    api.storage.v1.StorageHealthCondition.volumeMode
    apimachinery.pkg.apis.meta.v1.ListMeta.shardInfo
    apimachinery.pkg.apis.meta.v1.ShardInfo.selector
";

/// A document that comes back as it is: what Go holds by value is there, and nothing is there that says nothing.
fn grow(of: Struct<'_>, depth: usize, choose: &mut impl FnMut(u32) -> u32) -> Doc {
    let mut map = Map::new();
    for field in of.fields().filter(|field| field.proto() > 0) {
        let is_leaf = !matches!(field.node().kind(), Kind::Object(_) | Kind::List(_) | Kind::Map(_));
        let zero = field.node().rules().zero_is_absent;
        if field.is_value() && !zero || (depth > 0 || is_leaf) && choose(3) == 0 {
            let value = value(of, field.node(), depth.saturating_sub(1), choose);
            if zero || !is_leaf && !field.is_value() {
                // What is zero or empty is as good as absent.
                if says_something(&value) || matches!(field.node().kind(), Kind::Object(_)) {
                    map.insert(field.name(), value);
                }
            } else {
                map.insert(field.name(), value);
            }
        }
    }
    Doc::Object(map)
}

fn says_something(value: &Doc) -> bool {
    match value {
        Doc::Object(map) => !map.is_empty(),
        Doc::Array(items) => !items.is_empty(),
        Doc::String(text) => !text.is_empty(),
        Doc::Bool(value) => *value,
        Doc::Number(number) => number.as_f64() != 0.0,
        Doc::Null => false,
    }
}

fn value(of: Struct<'_>, node: Node<'_>, depth: usize, choose: &mut impl FnMut(u32) -> u32) -> Doc {
    match node.rules().schema_or {
        Some(SchemaOr::Bool) if choose(2) == 0 => return (choose(2) == 0).into(),
        Some(SchemaOr::Schemas) if choose(2) == 0 => return Doc::Array(vec![grow(of, depth, choose)]),
        Some(SchemaOr::Names) if choose(2) == 0 => return doc!(["a", "b"]),
        Some(_) => return grow(of, depth, choose),
        None => {}
    }
    match node.kind() {
        Kind::Object(inner) => grow(inner, depth, choose),
        // Not in the order of the keys, as people write them.
        Kind::Map(values) => {
            Doc::Object((0..choose(3)).map(|n| (format!("k{}", 9 - n), value(of, values, depth, choose))).collect())
        }
        Kind::List(item) => Doc::Array((0..choose(3)).map(|_| value(of, item, depth, choose)).collect()),
        Kind::String => ["", "a", "\"é\n\\ 日本\u{1}"][choose(3) as usize].into(),
        Kind::Integer(_) => i64::from(choose(1000)).saturating_sub(300).into(),
        Kind::Number => 0.5.into(),
        Kind::Boolean => (choose(2) == 0).into(),
        Kind::IntOrString => [Doc::from(8080), "25%".into(), "".into(), (-1).into()][choose(4) as usize].clone(),
        Kind::Quantity => ["500m", "1Gi", "0"][choose(3) as usize].into(),
        Kind::Time => ["2026-01-02T03:04:05Z", "1969-12-31T23:59:59Z"][choose(2) as usize].into(),
        Kind::MicroTime => ["2026-01-02T03:04:05.000006Z", "1969-12-31T23:59:59.900000Z"][choose(2) as usize].into(),
        Kind::Bytes => ["", "AP8=", "YWJj"][choose(3) as usize].into(),
        Kind::AnyObject | Kind::Any => doc!({"f:any": {".": {}, "b": [1, "}"]}}),
    }
}

/// The kinds of the registry, and what their subresources take and give.
fn kinds() -> BTreeSet<(String, String)> {
    let registry = Registry::builtin();
    let own = registry.all().iter().map(|info| (info.api_version(), info.kind.to_string()));
    let bodies = registry.all().iter().flat_map(|info| info.subresources.iter().filter_map(|sub| sub.body.clone()));
    let bodies = bodies.map(|(group, version, kind)| {
        let api_version = if group.is_empty() { version.to_string() } else { format!("{group}/{version}") };
        (api_version, kind.to_string())
    });
    let mut all: BTreeSet<_> = own.chain(bodies).collect();
    all.extend(
        ["Status", "APIVersions", "APIGroupList", "APIGroup", "APIResourceList"]
            .map(|kind| ("v1".to_owned(), kind.to_owned())),
    );
    all
}

fn schema_of(schemas: &Schemas, api_version: &str, kind: &str) -> Schema {
    let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
    schemas.schema(group, version, kind).unwrap_or_else(|| panic!("{kind} of {api_version}"))
}

/// The same document with every object's fields in the opposite order.
fn backwards(doc: &Doc) -> Doc {
    match doc {
        Doc::Object(map) => {
            let mut fields: Vec<_> = map.iter().map(|(name, value)| (name.to_owned(), backwards(value))).collect();
            fields.reverse();
            Doc::Object(fields.into_iter().collect())
        }
        Doc::Array(items) => Doc::Array(items.iter().map(backwards).collect()),
        other => other.clone(),
    }
}

#[test]
fn every_kind_comes_back_as_it_went() {
    let schemas = Schemas::builtin();
    let mut runner = TestRunner::deterministic();
    let (mut documents, mut bytes) = (0, 0);
    for (api_version, kind) in kinds() {
        let schema = schema_of(&schemas, &api_version, &kind);
        let message = Message::builtin(&schemas, &api_version, &kind).unwrap();
        for depth in 1..24 {
            let mut seed = any::<u64>().new_tree(&mut runner).unwrap().current();
            let mut choose = move |below: u32| {
                seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
                ((seed >> 33) % u64::from(below)) as u32
            };
            let mut document = grow(schema.root().as_struct().unwrap(), depth % 12, &mut choose);
            document.set_at(&["apiVersion"], api_version.as_str().into());
            document.set_at(&["kind"], kind.as_str().into());
            let written = message.object(&document.to_json()).unwrap();
            let read = decode(&written, &schemas).unwrap();
            assert_eq!(read, document, "{kind}: {read}\n{document}");
            // Maps of any object keep their order, as they are text.
            let again = message.object(&read.to_json()).unwrap();
            assert_eq!(again, written, "{kind}: {document}");
            documents += 1;
            bytes += written.len();
        }
    }
    assert!(documents > 1500 && bytes > 500_000, "{documents} documents, {bytes} bytes");
}

#[test]
fn the_order_of_fields_in_json_does_not_show() {
    let schemas = Schemas::builtin();
    let message = Message::builtin(&schemas, "v1", "Pod").unwrap();
    let pod = doc!({
        "metadata": {"name": "a", "labels": {"b": "2", "a": "1"}},
        "spec": {"containers": [{"name": "c", "resources": {"limits": {"memory": "1Gi", "cpu": "1"}}}], "nodeName": "n"},
        "status": {"phase": "Running"}
    });
    let written = message.object(&pod.to_json()).unwrap();
    assert_eq!(message.object(&backwards(&pod).to_json()).unwrap(), written);
    assert!(written.len() > 100);
}

/// Sees every struct that a kind reaches, once.
fn every_struct(node: Node<'_>, seen: &mut BTreeSet<String>, see: &mut impl FnMut(Struct<'_>, FieldView<'_>)) {
    match node.kind() {
        Kind::Object(of) if seen.insert(of.name().to_owned()) => {
            for field in of.fields() {
                see(of, field);
                every_struct(field.node(), seen, see);
            }
        }
        Kind::List(inner) | Kind::Map(inner) => every_struct(inner, seen, see),
        _ => {}
    }
}

#[test]
fn every_field_has_a_number() {
    let schemas = Schemas::builtin();
    let (mut seen, mut missing, mut numbered) = (BTreeSet::new(), BTreeSet::new(), 0);
    for (api_version, kind) in kinds() {
        let schema = schema_of(&schemas, &api_version, &kind);
        every_struct(schema.root(), &mut seen, &mut |of, field| {
            // The envelope has them.
            let is_type = matches!(field.name(), "apiVersion" | "kind");
            if field.proto() > 0 {
                numbered += 1;
            } else if !is_type {
                missing.insert(format!("{}.{}", of.name().trim_start_matches("io.k8s."), field.name()));
            }
        });
    }
    assert!(numbered > 1500, "{numbered}");
    let known: BTreeSet<String> = UNNUMBERED.split_whitespace().map(str::to_owned).collect();
    assert_eq!(missing, known);
}
