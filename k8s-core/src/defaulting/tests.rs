//! What is written, and what stands there after defaulting.

use super::*;
use crate::{doc, schema::Schemas};

fn defaulted(group: &str, version: &str, kind: &str, doc: &Doc) -> Doc {
    let schema = Schemas::builtin().schema(group, version, kind).unwrap_or_else(|| panic!("no kind {kind}"));
    let mut doc = doc.clone();
    let report = crate::structure::check(&schema, &mut doc, crate::structure::Mode::Whole);
    assert_eq!((report.unknown, report.wrong), (vec![], vec![]), "{kind}");
    default(&schema, &mut doc);
    let mut again = doc.clone();
    default(&schema, &mut again);
    assert_eq!(again, doc, "defaulting {kind} twice changes it");
    doc
}

/// Asserts that the fields of `expected` stand in `found`; what else is there does not matter.
fn contains(found: &Doc, expected: &Doc, path: &str) {
    match (found, expected) {
        (Doc::Object(found), Doc::Object(expected)) => {
            for (key, value) in expected.iter() {
                let inner = found.get(key).unwrap_or_else(|| panic!("{path}.{key} is missing in {found:?}"));
                contains(inner, value, &format!("{path}.{key}"));
            }
        }
        (Doc::Array(found), Doc::Array(expected)) => {
            assert_eq!(found.len(), expected.len(), "{path}");
            for (place, (inner, value)) in found.iter().zip(expected).enumerate() {
                contains(inner, value, &format!("{path}[{place}]"));
            }
        }
        _ => assert_eq!(found, expected, "{path}"),
    }
}

fn container(extra: Doc) -> Doc {
    let mut container = doc!({"name": "c", "image": "nginx", "imagePullPolicy": "Always", "resources": {},
        "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File"});
    if let (Doc::Object(map), Doc::Object(extra)) = (&mut container, extra) {
        map.extend(extra);
    }
    container
}

fn pod_spec(extra: Doc) -> Doc {
    let mut spec = doc!({"containers": [container(doc!({}))], "dnsPolicy": "ClusterFirst", "restartPolicy": "Always",
        "schedulerName": "default-scheduler", "securityContext": {}, "terminationGracePeriodSeconds": 30});
    if let (Doc::Object(map), Doc::Object(extra)) = (&mut spec, extra) {
        map.extend(extra);
    }
    spec
}

#[test]
fn a_pod_and_nothing_more() {
    let pod = doc!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}});
    let expected =
        doc!({"metadata": {"name": "p"}, "spec": pod_spec(doc!({"enableServiceLinks": true})), "status": {}});
    assert_eq!(defaulted("", "v1", "Pod", &pod), expected);
}

#[test]
fn a_pod_with_everything() {
    let probe = doc!({"httpGet": {"port": 80}});
    let pod = doc!({"spec": {"hostNetwork": true, "restartPolicy": "", "volumes": [
            {"name": "a"}, {"name": "b", "secret": {"secretName": "s"}}, {"name": "c", "configMap": {"name": "m", "defaultMode": 0}},
            {"name": "d", "hostPath": {"path": "/"}}, {"name": "e", "image": {"reference": "r:1"}},
            {"name": "f", "projected": {"sources": [{"serviceAccountToken": {"path": "t"}},
                {"downwardAPI": {"items": [{"path": "p", "fieldRef": {"fieldPath": "metadata.name"}}]}}]}},
            {"name": "g", "ephemeral": {"volumeClaimTemplate": {"spec": {"accessModes": ["ReadWriteOnce"]}}}}],
        "containers": [{"name": "c", "image": "a/b:1", "ports": [{"containerPort": 80}, {"containerPort": 81, "hostPort": 82}],
            "env": [{"name": "E", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}],
            "livenessProbe": probe, "startupProbe": {"grpc": {"port": 1}, "periodSeconds": 3},
            "lifecycle": {"preStop": {"httpGet": {"port": "web", "path": "/x", "scheme": "HTTPS"}}},
            "resources": {"limits": {"cpu": "0.1", "memory": "1Gi"}, "requests": {"cpu": "50u"}}}]}});
    let found = defaulted("", "v1", "Pod", &pod);
    contains(
        &found,
        &doc!({"spec": {"restartPolicy": "Always", "volumes": [
            {"name": "a", "emptyDir": {}}, {"name": "b", "secret": {"defaultMode": 420}},
            {"name": "c", "configMap": {"defaultMode": 0}}, {"name": "d", "hostPath": {"type": ""}},
            {"name": "e", "image": {"pullPolicy": "IfNotPresent"}},
            {"name": "f", "projected": {"defaultMode": 420, "sources": [{"serviceAccountToken": {"expirationSeconds": 3600}},
                {"downwardAPI": {"items": [{"fieldRef": {"apiVersion": "v1"}}]}}]}},
            {"name": "g", "ephemeral": {"volumeClaimTemplate": {"spec": {"volumeMode": "Filesystem", "resources": {}}}}}],
        "containers": [{"imagePullPolicy": "IfNotPresent",
            "ports": [{"protocol": "TCP", "hostPort": 80}, {"protocol": "TCP", "hostPort": 82}],
            "env": [{"valueFrom": {"fieldRef": {"apiVersion": "v1"}}}],
            "livenessProbe": {"httpGet": {"path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10,
                "successThreshold": 1, "failureThreshold": 3},
            "startupProbe": {"grpc": {"service": ""}, "periodSeconds": 3, "timeoutSeconds": 1},
            "lifecycle": {"preStop": {"httpGet": {"path": "/x", "scheme": "HTTPS"}}},
            "resources": {"limits": {"cpu": "100m"}, "requests": {"cpu": "1m", "memory": "1Gi"}}}]}}),
        "",
    );
}

#[test]
fn images_that_are_pulled_always() {
    let cases = [
        ("nginx", true),
        ("nginx:latest", true),
        ("host:5000/a/b", true),
        ("host:5000/a/b:latest", true),
        ("nginx:1", false),
        ("nginx@sha256:0", false),
        ("nginx:latest@sha256:0", true),
        ("", false),
        ("Nginx", false),
        ("HOST.example/a", true),
        ("a//b", false),
        ("nginx:", false),
        ("localhost/x", true),
    ];
    for (image, always) in cases {
        let pod = doc!({"spec": {"containers": [{"name": "c", "image": image}], "initContainers": [{"name": "i", "image": image}]}});
        let found = defaulted("", "v1", "Pod", &pod);
        let expected = if always { "Always" } else { "IfNotPresent" };
        assert_eq!(found.str_at(&["spec", "containers", "0", "imagePullPolicy"]), expected, "{image}");
        assert_eq!(found.str_at(&["spec", "initContainers", "0", "imagePullPolicy"]), expected, "{image}");
    }
}

#[test]
fn resources_of_the_whole_pod() {
    let container = |name: &str, cpu: &str| doc!({"name": name, "image": "i:1", "resources": {"requests": {"cpu": cpu}, "limits": {"hugepages-2Mi": "2Mi"}}});
    let pod = doc!({"spec": {"resources": {"limits": {"cpu": "4", "memory": "1Gi"}},
        "containers": [container("a", "500m"), container("b", "1")],
        "initContainers": [{"name": "s", "image": "i:1", "restartPolicy": "Always", "resources": {"requests": {"cpu": "1"}}}]}});
    let found = defaulted("", "v1", "Pod", &pod);
    assert_eq!(
        found.at(&["spec", "resources"]),
        Some(&doc!({
        "limits": {"cpu": "4", "memory": "1Gi", "hugepages-2Mi": "4Mi"},
        "requests": {"cpu": "2500m", "memory": "1Gi", "hugepages-2Mi": "4Mi"}}))
    );
    let limited = |name: &str, limits: Doc| doc!({"name": name, "image": "i:1", "resources": {"limits": limits}});
    let pod = doc!({"spec": {"resources": {"requests": {"cpu": "1"}}, "containers": [
        limited("a", doc!({"cpu": "1", "memory": "1Gi"})), limited("b", doc!({"cpu": "2"}))]}});
    let found = defaulted("", "v1", "Pod", &pod);
    assert_eq!(
        found.at(&["spec", "resources"]),
        Some(&doc!({"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "3"}}))
    );
}

#[test]
fn workloads() {
    let template =
        doc!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": "nginx"}]}});
    let full = doc!({"metadata": {"labels": {"a": "b"}}, "spec": pod_spec(doc!({}))});
    let selector = doc!({"matchLabels": {"a": "b"}});
    let bare = doc!({"spec": {"selector": selector.clone(), "template": template.clone()}});
    let expect = |spec: Doc| {
        let mut expected = doc!({"spec": {"selector": selector.clone(), "template": full.clone()}, "status": {}});
        if let (Some(Doc::Object(map)), Doc::Object(extra)) = (expected.get_mut("spec"), spec) {
            map.extend(extra);
        }
        expected
    };
    assert_eq!(
        defaulted("apps", "v1", "Deployment", &bare),
        expect(doc!({"replicas": 1, "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600, "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}}}))
    );
    let mut recreate = bare.clone();
    recreate.set_at(&["spec", "strategy", "type"], "Recreate".into());
    recreate.set_at(&["spec", "replicas"], 0.into());
    let found = defaulted("apps", "v1", "Deployment", &recreate);
    assert_eq!(found.at(&["spec", "strategy"]), Some(&doc!({"type": "Recreate"})));
    assert_eq!(found.at(&["spec", "replicas"]), Some(&0.into()));
    let mut replicas = bare.clone();
    replicas.set_at(&["spec", "replicas"], Doc::Null);
    contains(&defaulted("apps", "v1", "ReplicaSet", &replicas), &expect(doc!({"replicas": 1})), "");
    assert_eq!(
        defaulted("apps", "v1", "DaemonSet", &bare).at(&["spec", "updateStrategy"]),
        Some(&doc!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 0, "maxUnavailable": 1}}))
    );
    contains(
        &defaulted("apps", "v1", "StatefulSet", &bare),
        &doc!({"spec": {"podManagementPolicy": "OrderedReady", "replicas": 1,
        "revisionHistoryLimit": 10, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0, "maxUnavailable": 1}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"}}}),
        "",
    );
    let mut on_delete = bare.clone();
    on_delete.set_at(&["spec", "updateStrategy", "type"], "OnDelete".into());
    let found = defaulted("apps", "v1", "StatefulSet", &on_delete);
    assert_eq!(found.at(&["spec", "updateStrategy"]), Some(&doc!({"type": "OnDelete"})));
    let controller = doc!({"spec": {"template": template.clone()}});
    contains(
        &defaulted("", "v1", "ReplicationController", &controller),
        &doc!({"metadata": {"labels": {"a": "b"}}, "spec": {"replicas": 1, "selector": {"a": "b"}, "template": full.clone()}}),
        "",
    );
}

#[test]
fn jobs() {
    let template = doc!({"metadata": {"labels": {"a": "b"}}, "spec": {"restartPolicy": "Never", "containers": []}});
    let found = defaulted("batch", "v1", "Job", &doc!({"spec": {"template": template.clone()}}));
    contains(
        &found,
        &doc!({"metadata": {"labels": {"a": "b"}}, "spec": {"completions": 1, "parallelism": 1, "backoffLimit": 6,
        "completionMode": "NonIndexed", "suspend": false, "podReplacementPolicy": "TerminatingOrFailed", "manualSelector": false}}),
        "",
    );
    let indexed = doc!({"spec": {"parallelism": 2, "backoffLimitPerIndex": 1, "template": template.clone(),
        "podFailurePolicy": {"rules": [{"action": "Ignore", "onPodConditions": [{"type": "X"}]}]}}});
    let found = defaulted("batch", "v1", "Job", &indexed);
    contains(
        &found,
        &doc!({"spec": {"parallelism": 2, "backoffLimit": 2147483647, "podReplacementPolicy": "Failed",
        "podFailurePolicy": {"rules": [{"onPodConditions": [{"status": "True"}]}]}}}),
        "",
    );
    assert_eq!(found.at(&["spec", "completions"]), None);
    let cron = doc!({"spec": {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": template}}}});
    let found = defaulted("batch", "v1", "CronJob", &cron);
    contains(
        &found,
        &doc!({"spec": {"concurrencyPolicy": "Allow", "suspend": false, "successfulJobsHistoryLimit": 3,
        "failedJobsHistoryLimit": 1, "jobTemplate": {"spec": {"template": {"spec": {"dnsPolicy": "ClusterFirst"}}}}}}),
        "",
    );
    assert_eq!(found.at(&["spec", "jobTemplate", "spec", "backoffLimit"]), None);
}

#[test]
fn services_and_policies() {
    let service = |spec: Doc| defaulted("", "v1", "Service", &doc!({"spec": spec}));
    assert_eq!(
        service(doc!({"ports": [{"port": 80}, {"port": 81, "targetPort": "web", "protocol": "UDP"}]})),
        doc!({
        "spec": {"type": "ClusterIP", "sessionAffinity": "None", "internalTrafficPolicy": "Cluster", "ports": [
            {"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 81, "protocol": "UDP", "targetPort": "web"}]},
        "status": {"loadBalancer": {}}})
    );
    assert_eq!(
        service(doc!({"type": "LoadBalancer", "sessionAffinity": "ClientIP"})).get("spec"),
        Some(&doc!({
        "type": "LoadBalancer", "sessionAffinity": "ClientIP", "sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 10800}},
        "externalTrafficPolicy": "Cluster", "internalTrafficPolicy": "Cluster", "allocateLoadBalancerNodePorts": true}))
    );
    assert_eq!(
        service(doc!({"type": "ExternalName", "externalName": "a.b"})).get("spec"),
        Some(&doc!({"type": "ExternalName", "externalName": "a.b", "sessionAffinity": "None"}))
    );
    contains(&service(doc!({"externalIPs": ["1.2.3.4"]})), &doc!({"spec": {"externalTrafficPolicy": "Cluster"}}), "");
    let balanced = doc!({"spec": {"type": "LoadBalancer"}, "status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}, {"hostname": "h"}]}}});
    assert_eq!(
        defaulted("", "v1", "Service", &balanced).at(&["status", "loadBalancer", "ingress"]),
        Some(&doc!([{"ip": "1.2.3.4", "ipMode": "VIP"}, {"hostname": "h"}]))
    );
    let policy = doc!({"spec": {"egress": [{"ports": [{"port": 53}]}]}});
    assert_eq!(
        defaulted("networking.k8s.io", "v1", "NetworkPolicy", &policy).get("spec"),
        Some(&doc!({"podSelector": {},
        "policyTypes": ["Ingress", "Egress"], "egress": [{"ports": [{"port": 53, "protocol": "TCP"}]}]}))
    );
    let slice = doc!({"addressType": "IPv4", "ports": [{"port": 1}], "endpoints": [{"addresses": ["1.2.3.4"]}]});
    contains(
        &defaulted("discovery.k8s.io", "v1", "EndpointSlice", &slice),
        &doc!({"ports": [{"name": "", "protocol": "TCP"}]}),
        "",
    );
    let endpoints = doc!({"subsets": [{"ports": [{"port": 1}]}]});
    contains(&defaulted("", "v1", "Endpoints", &endpoints), &doc!({"subsets": [{"ports": [{"protocol": "TCP"}]}]}), "");
}

#[test]
fn single_kinds() {
    let cases = [
        (
            "",
            "v1",
            "Namespace",
            doc!({"metadata": {"name": "n", "labels": {"kubernetes.io/metadata.name": "other"}}}),
            doc!({"metadata": {"labels": {"kubernetes.io/metadata.name": "n"}}, "status": {"phase": "Active"}}),
        ),
        ("", "v1", "Secret", doc!({"type": ""}), doc!({"type": "Opaque"})),
        (
            "",
            "v1",
            "Node",
            doc!({"status": {"capacity": {"cpu": "4"}}}),
            doc!({"status": {"allocatable": {"cpu": "4"}}}),
        ),
        (
            "",
            "v1",
            "PersistentVolume",
            doc!({"spec": {"hostPath": {"path": "/"}}}),
            doc!({"spec": {"volumeMode": "Filesystem",
            "persistentVolumeReclaimPolicy": "Retain", "hostPath": {"type": ""}}, "status": {"phase": "Pending"}}),
        ),
        (
            "",
            "v1",
            "PersistentVolumeClaim",
            doc!({}),
            doc!({"spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}}),
        ),
        (
            "",
            "v1",
            "LimitRange",
            doc!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"memory": "1Mi"}}]}}),
            doc!({"spec": {"limits": [{"default": {"cpu": "2"}, "defaultRequest": {"cpu": "2", "memory": "1Mi"}}]}}),
        ),
        (
            "rbac.authorization.k8s.io",
            "v1",
            "RoleBinding",
            doc!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [
            {"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
            doc!({"roleRef": {"apiGroup": "rbac.authorization.k8s.io"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount"}]}),
        ),
        (
            "autoscaling",
            "v2",
            "HorizontalPodAutoscaler",
            doc!({"spec": {"maxReplicas": 3, "behavior": {"scaleDown": {"selectPolicy": "Disabled"}}}}),
            doc!({"spec": {"minReplicas": 1, "metrics": [{"type": "Resource"}], "behavior": {"scaleUp": {"policies": [{"type": "Pods"}, {"type": "Percent"}]},
            "scaleDown": {"selectPolicy": "Disabled"}}}}),
        ),
        (
            "storage.k8s.io",
            "v1",
            "StorageClass",
            doc!({"provisioner": "p"}),
            doc!({"reclaimPolicy": "Delete", "volumeBindingMode": "Immediate"}),
        ),
        (
            "storage.k8s.io",
            "v1",
            "CSIDriver",
            doc!({}),
            doc!({"spec": {"attachRequired": true, "podInfoOnMount": false,
            "volumeLifecycleModes": ["Persistent"], "fsGroupPolicy": "ReadWriteOnceWithFSType"}}),
        ),
        (
            "scheduling.k8s.io",
            "v1",
            "PriorityClass",
            doc!({"value": 1}),
            doc!({"preemptionPolicy": "PreemptLowerPriority"}),
        ),
        (
            "admissionregistration.k8s.io",
            "v1",
            "ValidatingWebhookConfiguration",
            doc!({"webhooks": [{"name": "w",
            "clientConfig": {"service": {"name": "s", "namespace": "n"}}, "rules": [{"operations": ["*"]}]}]}),
            doc!({"webhooks": [{"failurePolicy": "Fail", "matchPolicy": "Equivalent", "timeoutSeconds": 10, "namespaceSelector": {},
            "clientConfig": {"service": {"port": 443}}, "rules": [{"scope": "*"}]}]}),
        ),
        (
            "apiextensions.k8s.io",
            "v1",
            "CustomResourceDefinition",
            doc!({"spec": {"names": {"kind": "Foo"}, "versions": [
            {"name": "v1"}, {"name": "v2", "storage": true}]}}),
            doc!({"spec": {"conversion": {"strategy": "None"},
            "names": {"singular": "foo", "listKind": "FooList"}}, "status": {"storedVersions": ["v2"]}}),
        ),
        (
            "resource.k8s.io",
            "v1",
            "ResourceClaim",
            doc!({"spec": {"devices": {"requests": [{"name": "r", "exactly": {"deviceClassName": "d"}}]}}}),
            doc!({"spec": {"devices": {"requests": [{"exactly": {"allocationMode": "ExactCount", "count": 1}}]}}}),
        ),
        (
            "flowcontrol.apiserver.k8s.io",
            "v1",
            "PriorityLevelConfiguration",
            doc!({"spec": {"type": "Limited", "limited": {"limitResponse":
            {"type": "Queue", "queuing": {}}}}}),
            doc!({"spec": {"limited": {"nominalConcurrencyShares": 30, "lendablePercent": 0,
            "limitResponse": {"queuing": {"queues": 64, "handSize": 8, "queueLengthLimit": 50}}}}}),
        ),
        ("policy", "v1", "PodDisruptionBudget", doc!({}), doc!({"spec": {}, "status": {}})),
        ("", "v1", "ConfigMap", doc!({"data": {"a": "b"}}), doc!({"data": {"a": "b"}})),
        ("", "v1", "ServiceAccount", doc!({}), doc!({})),
        ("coordination.k8s.io", "v1", "Lease", doc!({}), doc!({"spec": {}})),
        ("", "v1", "Event", doc!({"reason": "x"}), doc!({"involvedObject": {}, "source": {}})),
    ];
    for (group, version, kind, given, expected) in cases {
        contains(&defaulted(group, version, kind, &given), &expected, kind);
    }
}

#[test]
fn custom_kinds_default_what_is_missing_or_null() {
    use crate::schema::{ArenaBuilder, Field, NodeDef, Shape, StructDef};
    let mut arena = ArenaBuilder::new(None);
    let mut size = NodeDef::from(Shape::Integer(crate::schema::IntFormat::Int64));
    size.rules_mut().default = Some(7.into());
    let field = |name: &str, node: NodeDef| Field {
        name: name.into(),
        node,
        required: false,
        proto: 0,
        proto_inside: Box::default(),
    };
    let spec = arena.add(StructDef { fields: vec![field("size", size)], ..StructDef::default() });
    let root = arena.add(StructDef { fields: vec![field("spec", Shape::Struct(spec).into())], ..StructDef::default() });
    let schema = Schema::new(arena.finish(), root);
    for (given, expected) in [
        (doc!({}), doc!({})),
        (doc!({"spec": {}}), doc!({"spec": {"size": 7}})),
        (doc!({"spec": {"size": null}}), doc!({"spec": {"size": 7}})),
        (doc!({"spec": {"size": 0}}), doc!({"spec": {"size": 0}})),
    ] {
        let mut doc = given;
        default(&schema, &mut doc);
        assert_eq!(doc, expected);
    }
}
