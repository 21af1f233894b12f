//! Whatever has the structure of a schema decodes into the typed layer and comes back with the same fields.

use proptest::{prelude::*, strategy::ValueTree, test_runner::TestRunner};
use serde::{Serialize, de::DeserializeOwned};

use super::{Mode, check};
use crate::{
    api::{self, Resource},
    defaulting,
    doc::{Doc, Map},
    schema::{Kind, Node, Schemas},
};

/// A document that a schema allows, grown from random choices; empty below `depth`.
fn grow(node: Node<'_>, depth: usize, choose: &mut impl FnMut(u32) -> u32) -> Doc {
    let allowed = &node.rules().allowed;
    if !allowed.is_empty() {
        return allowed[choose(allowed.len() as u32) as usize].clone();
    }
    match node.kind() {
        Kind::Object(fields) => {
            let mut map = Map::new();
            for field in fields.fields().filter(|field| !matches!(field.name(), "apiVersion" | "kind")) {
                if depth > 0 && choose(3) == 0 {
                    map.insert(field.name(), grow(field.node(), depth - 1, choose));
                }
            }
            Doc::Object(map)
        }
        Kind::Map(values) => {
            Doc::Object((0..choose(3)).map(|n| (format!("k{n}"), grow(values, depth, choose))).collect())
        }
        Kind::List(item) => Doc::Array((0..choose(3)).map(|_| grow(item, depth, choose)).collect()),
        Kind::String => ["", "a", "some text"][choose(3) as usize].into(),
        Kind::Integer(_) => i64::from(choose(1000)).into(),
        Kind::Number => 0.5.into(),
        Kind::Boolean => (choose(2) == 0).into(),
        Kind::IntOrString => [Doc::from(8080), "25%".into()][choose(2) as usize].clone(),
        Kind::Quantity => ["0.5", "1Gi", "100m", "3"][choose(4) as usize].into(),
        Kind::Time => ["2026-01-02T03:04:05Z", "2026-01-02T03:04:05.7+02:00"][choose(2) as usize].into(),
        Kind::MicroTime => ["2026-01-02T03:04:05.000006Z", "2026-01-02T03:04:05Z"][choose(2) as usize].into(),
        Kind::Bytes => ["", "YWJj"][choose(2) as usize].into(),
        Kind::AnyObject => Doc::Object(Map::from_iter([("any", Doc::from("thing"))])),
        Kind::Any => Doc::object(),
    }
}

/// Asserts that everything in `ours` stands in `theirs`, which may have more (fields that are always written).
fn within(ours: &Doc, theirs: &Doc, path: &str) {
    match (ours, theirs) {
        (Doc::Object(ours), Doc::Object(theirs)) => {
            for (key, value) in ours.iter() {
                // What is empty may be left out by either.
                match theirs.get(key) {
                    Some(other) => within(value, other, &format!("{path}.{key}")),
                    None => panic!("{path}.{key} was lost"),
                }
            }
        }
        (Doc::Array(ours), Doc::Array(theirs)) => {
            assert_eq!(ours.len(), theirs.len(), "{path}");
            for (place, (ours, theirs)) in ours.iter().zip(theirs).enumerate() {
                within(ours, theirs, &format!("{path}[{place}]"));
            }
        }
        _ => assert_eq!(ours, theirs, "{path}"),
    }
}

fn agrees<K: Resource + Serialize + DeserializeOwned>() {
    let schema = Schemas::builtin().schema(K::GROUP, K::VERSION, K::KIND).unwrap();
    let mut runner = TestRunner::deterministic();
    let choices = proptest::collection::vec(any::<u32>(), 4000);
    let mut largest = 0;
    for _ in 0..40 {
        let choices = choices.new_tree(&mut runner).unwrap().current();
        let mut next = choices.iter().cycle();
        let mut choose = |below: u32| next.next().map_or(0, |choice| choice % below);
        let mut doc = grow(schema.root(), 9, &mut choose);
        let report = check(&schema, &mut doc, Mode::Whole);
        assert_eq!((&report.unknown[..], &report.wrong[..]), (&[][..], &[][..]), "{doc}");
        let mut again = doc.clone();
        check(&schema, &mut again, Mode::Whole);
        assert_eq!(again, doc, "checking twice changes it");
        defaulting::default(&schema, &mut doc);
        let typed: K = doc.deserialize().unwrap_or_else(|why| panic!("{}: {why}: {doc}", K::KIND));
        within(&doc, &Doc::from_serialize(&typed).unwrap(), K::KIND);
        largest = largest.max(doc.to_json().len());
    }
    assert!(largest > 60, "{}: nothing grew", K::KIND);
}

#[test]
fn with_the_typed_layer() {
    use api::api::{
        admissionregistration::v1::{MutatingWebhookConfiguration, ValidatingAdmissionPolicy},
        apps::v1::{DaemonSet, Deployment, StatefulSet},
        autoscaling::v2::HorizontalPodAutoscaler,
        batch::v1::{CronJob, Job},
        certificates::v1::CertificateSigningRequest,
        coordination::v1::Lease,
        core::v1::{Event, LimitRange, Node, PersistentVolume, PersistentVolumeClaim, Pod, Secret, Service},
        discovery::v1::EndpointSlice,
        flowcontrol::v1::FlowSchema,
        networking::v1::{Ingress, NetworkPolicy},
        policy::v1::PodDisruptionBudget,
        rbac::v1::ClusterRole,
        resource::v1::{ResourceClaim, ResourceSlice},
        storage::v1::{CSIDriver, StorageClass},
    };
    macro_rules! all {
        ($($kind:ty)*) => { $(agrees::<$kind>();)* };
    }
    all! {
        Pod Service Node Secret Event LimitRange PersistentVolume PersistentVolumeClaim Deployment DaemonSet StatefulSet
        Job CronJob HorizontalPodAutoscaler Lease EndpointSlice Ingress NetworkPolicy PodDisruptionBudget ClusterRole
        ResourceClaim ResourceSlice StorageClass CSIDriver MutatingWebhookConfiguration ValidatingAdmissionPolicy
        CertificateSigningRequest FlowSchema
    }
}
