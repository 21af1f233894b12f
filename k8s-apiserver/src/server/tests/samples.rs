//! A valid manifest of every kind that is stored, but for its name.

use k8s_core::{doc, doc::Doc};

/// A self-signed certificate, and a signing request, in PEM.
pub const CERTIFICATE: &str = include_str!("samples/certificate.pem");
pub const SIGNING_REQUEST: &str = include_str!("samples/request.pem");

/// The name of a sample: most kinds take any.
pub fn name_of(plural: &str) -> &'static str {
    match plural {
        "ipaddresses" => "192.0.2.7",
        // The name of an APIService follows from its version and group.
        "apiservices" => "v1.matrix",
        _ => "matrix",
    }
}

/// A valid body of a kind, but for its name.
pub fn sample(version: &str, plural: &str) -> Doc {
    let pod = || doc!({"containers": [{"name": "c", "image": "i"}]});
    let template = || doc!({"metadata": {"labels": {"a": "b"}}, "spec": pod()});
    let workload = || doc!({"spec": {"selector": {"matchLabels": {"a": "b"}}, "template": template()}});
    let job = || {
        doc!({"spec": {"template": {"spec": {
        "restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}}}})
    };
    match plural {
        "pods" => doc!({"spec": pod()}),
        "podtemplates" => doc!({"template": template()}),
        "deployments" | "replicasets" | "daemonsets" | "statefulsets" => workload(),
        "replicationcontrollers" => doc!({"spec": {"template": template()}}),
        "services" => doc!({"spec": {"ports": [{"port": 80}], "selector": {"a": "b"}}}),
        "controllerrevisions" => doc!({"revision": 1}),
        "events" if version == "v1" => {
            doc!({"involvedObject": {"namespace": "default", "name": "x", "kind": "Pod"}, "reason": "r"})
        }
        "events" => doc!({
            "regarding": {"namespace": "default", "name": "x", "kind": "Pod"}, "reason": "r", "action": "a",
            "type": "Normal", "eventTime": "2026-01-01T00:00:00.000000Z",
            "reportingController": "example.com/c", "reportingInstance": "i"
        }),
        "endpointslices" => doc!({"addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}]}),
        "priorityclasses" => doc!({"value": 5}),
        "rolebindings" | "clusterrolebindings" => doc!({
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}]
        }),
        "apiservices" => {
            doc!({"spec": {"group": "matrix", "version": "v1", "groupPriorityMinimum": 1, "versionPriority": 1}})
        }
        "jobs" => job(),
        "cronjobs" => doc!({"spec": {"schedule": "*/5 * * * *", "timeZone": "Europe/Berlin", "jobTemplate": job()}}),
        "horizontalpodautoscalers" => doc!({"spec": {
            "maxReplicas": 3, "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "d"}}}),
        _ => of_network(plural)
            .or_else(|| of_storage(plural))
            .or_else(|| of_devices(plural))
            .or_else(|| of_control(plural))
            .unwrap_or_else(Doc::object),
    }
}

fn of_network(plural: &str) -> Option<Doc> {
    let backend = || doc!({"service": {"name": "s", "port": {"number": 80}}});
    Some(match plural {
        "ingresses" => doc!({"spec": {"defaultBackend": backend(), "rules": [{"host": "a.example", "http": {
            "paths": [{"path": "/", "pathType": "Prefix", "backend": backend()}]}}]}}),
        "ingressclasses" => doc!({"spec": {"controller": "example.com/ingress"}}),
        "networkpolicies" => doc!({"spec": {"podSelector": {"matchLabels": {"a": "b"}}, "policyTypes": ["Ingress"],
            "ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["10.1.0.0/16"]}}],
                "ports": [{"port": 80, "endPort": 90}]}]}}),
        "ipaddresses" => doc!({"spec": {"parentRef": {"resource": "services", "namespace": "default", "name": "s"}}}),
        "servicecidrs" => doc!({"spec": {"cidrs": ["10.200.0.0/24"]}}),
        _ => return None,
    })
}

fn of_storage(plural: &str) -> Option<Doc> {
    Some(match plural {
        "persistentvolumes" => doc!({"spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"],
            "hostPath": {"path": "/tmp/x"}}}),
        "persistentvolumeclaims" => {
            doc!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}})
        }
        "csidrivers" => doc!({"spec": {"attachRequired": true}}),
        "csinodes" => doc!({"spec": {"drivers": [{"name": "d.example", "nodeID": "n"}]}}),
        "csistoragecapacities" => doc!({"storageClassName": "fast", "capacity": "1Ti"}),
        "storageclasses" => doc!({"provisioner": "example.com/disk"}),
        "volumeattachments" => {
            doc!({"spec": {"attacher": "d.example", "nodeName": "n", "source": {"persistentVolumeName": "v"}}})
        }
        "volumeattributesclasses" => doc!({"driverName": "d.example", "parameters": {"iops": "5"}}),
        _ => return None,
    })
}

fn of_devices(plural: &str) -> Option<Doc> {
    let devices = || doc!({"requests": [{"name": "r", "exactly": {"deviceClassName": "gpu"}}]});
    Some(match plural {
        "deviceclasses" => doc!({"spec": {"selectors": [{"cel": {"expression": "device.driver == 'd.example'"}}]}}),
        "devicetaintrules" => doc!({"spec": {"deviceSelector": {"driver": "d.example"},
            "taint": {"key": "example.com/broken", "effect": "NoSchedule"}}}),
        "resourceclaims" => doc!({"spec": {"devices": devices()}}),
        "resourceclaimtemplates" => doc!({"spec": {"spec": {"devices": devices()}}}),
        "resourceslices" => doc!({"spec": {"driver": "d.example", "nodeName": "n",
            "pool": {"name": "p", "generation": 1, "resourceSliceCount": 1}, "devices": [{"name": "d0"}]}}),
        _ => return None,
    })
}

fn of_control(plural: &str) -> Option<Doc> {
    use base64::{Engine, engine::general_purpose::STANDARD};
    Some(match plural {
        "resourcequotas" => doc!({"spec": {"hard": {"count/widgets.example.com": "10"}}}),
        "runtimeclasses" => doc!({"handler": "runc"}),
        "certificatesigningrequests" => doc!({"spec": {"request": STANDARD.encode(SIGNING_REQUEST),
            "signerName": "example.com/signer", "usages": ["client auth"]}}),
        "clustertrustbundles" => doc!({"spec": {"trustBundle": CERTIFICATE}}),
        "podcertificaterequests" => doc!({"spec": {"signerName": "example.com/signer", "podName": "p", "podUID": "1",
            "serviceAccountName": "s", "serviceAccountUID": "2", "nodeName": "n", "nodeUID": "3",
            "stubPKCS10Request": SIGNING_REQUEST.lines().filter(|line| !line.starts_with('-')).collect::<String>()}}),
        "flowschemas" => doc!({"spec": {"priorityLevelConfiguration": {"name": "global-default"},
            "matchingPrecedence": 5000, "rules": [{
                "subjects": [{"kind": "User", "user": {"name": "u"}}],
                "resourceRules": [{"verbs": ["get"], "apiGroups": [""], "resources": ["pods"], "namespaces": ["*"]}]}]}}),
        "prioritylevelconfigurations" => {
            doc!({"spec": {"type": "Limited", "limited": {"limitResponse": {"type": "Reject"}}}})
        }
        "storageversionmigrations" => doc!({"spec": {"resource": {"group": "apps", "resource": "deployments"}}}),
        _ => return None,
    })
}
