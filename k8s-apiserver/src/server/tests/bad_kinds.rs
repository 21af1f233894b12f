//! Samples with one thing wrong: each is refused with the path of the field and the reason, and nothing is stored.

use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiRequest, RequestBody, Verb},
};

use super::{
    fixture::{Fixture, server, target},
    samples::{name_of, sample},
};

/// A kind, the place that is changed, its value (`null` removes), and what is said: `FIELD:REASON`, without
/// `FieldValue`.
type Case = (&'static str, &'static [&'static str], Doc, &'static str);

fn workloads() -> Vec<Case> {
    vec![
        (
            "daemonsets",
            &["spec", "template", "spec", "restartPolicy"],
            "Never".into(),
            "spec.template.spec.restartPolicy:NotSupported",
        ),
        ("daemonsets", &["spec", "selector", "matchLabels", "a"], "c".into(), "spec.template.metadata.labels:Invalid"),
        (
            "daemonsets",
            &["spec", "updateStrategy"],
            doc!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 1}}),
            "spec.updateStrategy.rollingUpdate.maxSurge:Invalid",
        ),
        ("statefulsets", &["spec", "selector"], Doc::Null, "spec.selector:Required"),
        ("statefulsets", &["spec", "podManagementPolicy"], "Random".into(), "spec.podManagementPolicy:NotSupported"),
        (
            "jobs",
            &["spec", "template", "spec", "restartPolicy"],
            "Always".into(),
            "spec.template.spec.restartPolicy:Required",
        ),
        ("jobs", &["spec", "backoffLimitPerIndex"], 1.into(), "spec.backoffLimitPerIndex:Invalid"),
        ("jobs", &["spec", "parallelism"], (-1).into(), "spec.parallelism:Invalid"),
        ("jobs", &["spec", "maxFailedIndexes"], 1.into(), "spec.backoffLimitPerIndex:Required"),
        ("jobs", &["spec", "managedBy"], "me".into(), "spec.managedBy:Invalid"),
        (
            "jobs",
            &["spec", "podFailurePolicy"],
            doc!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [2, 1]}}]}),
            "spec.podFailurePolicy.rules[0].onExitCodes.values[1]:Invalid",
        ),
        ("cronjobs", &["spec", "schedule"], "61 * * * *".into(), "spec.schedule:Invalid"),
        ("cronjobs", &["spec", "schedule"], "TZ=UTC 1 * * * *".into(), "spec.schedule:Invalid"),
        ("cronjobs", &["spec", "timeZone"], "Mars/Olympus".into(), "spec.timeZone:Invalid"),
        ("cronjobs", &["spec", "timeZone"], "local".into(), "spec.timeZone:Invalid"),
        ("cronjobs", &["spec", "concurrencyPolicy"], "Sometimes".into(), "spec.concurrencyPolicy:NotSupported"),
        ("horizontalpodautoscalers", &["spec", "maxReplicas"], 0.into(), "spec.maxReplicas:Invalid"),
        ("horizontalpodautoscalers", &["spec", "minReplicas"], 5.into(), "spec.maxReplicas:Invalid"),
        ("horizontalpodautoscalers", &["spec", "metrics"], doc!([{"type": "Pods"}]), "spec.metrics[0].pods:Required"),
    ]
}

fn networks() -> Vec<Case> {
    const PATH: &[&str] = &["spec", "rules", "0", "http", "paths", "0", "path"];
    const BACKEND: &[&str] = &["spec", "defaultBackend"];
    const FROM: &[&str] = &["spec", "ingress", "0", "from"];
    vec![
        ("ingresses", PATH, "a".into(), "spec.rules[0].http.paths[0].path:Invalid"),
        ("ingresses", PATH, "/a//b".into(), "spec.rules[0].http.paths[0].path:Invalid"),
        ("ingresses", &["spec", "rules", "0", "host"], "10.0.0.1".into(), "spec.rules[0].host:Invalid"),
        ("ingresses", BACKEND, doc!({}), "spec.defaultBackend:Required"),
        ("ingresses", BACKEND, doc!({"service": {"name": "s"}}), "spec.defaultBackend.service:Required"),
        ("ingresses", &["spec"], doc!({}), "spec:Invalid"),
        ("ingressclasses", &["spec", "controller"], "plain".into(), "spec.controller:Invalid"),
        (
            "ingressclasses",
            &["spec", "parameters"],
            doc!({"kind": "K", "name": "n", "scope": "Namespace"}),
            "spec.parameters.namespace:Required",
        ),
        ("networkpolicies", FROM, doc!([{}]), "spec.ingress[0].from[0]:Required"),
        (
            "networkpolicies",
            FROM,
            doc!([{"ipBlock": {"cidr": "10.0.0.0/8", "except": ["11.0.0.0/8"]}}]),
            "spec.ingress[0].from[0].ipBlock.except[0]:Invalid",
        ),
        (
            "networkpolicies",
            &["spec", "ingress", "0", "ports", "0", "endPort"],
            70.into(),
            "spec.ingress[0].ports[0].endPort:Invalid",
        ),
        ("networkpolicies", &["spec", "policyTypes"], doc!(["Both"]), "spec.policyTypes[0]:NotSupported"),
        ("ipaddresses", &["metadata", "name"], "10.0.0.01".into(), "metadata.name:Invalid"),
        ("ipaddresses", &["spec", "parentRef"], Doc::Null, "spec.parentRef:Required"),
        ("servicecidrs", &["spec", "cidrs"], doc!(["10.0.0.1/24"]), "spec.cidrs[0]:Invalid"),
        ("servicecidrs", &["spec", "cidrs"], doc!(["10.0.0.0/24", "10.1.0.0/24"]), "spec.cidrs:Invalid"),
        ("runtimeclasses", &["handler"], "A B".into(), "handler:Invalid"),
    ]
}

fn storage() -> Vec<Case> {
    vec![
        ("persistentvolumes", &["spec", "accessModes"], Doc::Null, "spec.accessModes:Required"),
        ("persistentvolumes", &["spec", "hostPath"], Doc::Null, "spec:Required"),
        ("persistentvolumes", &["spec", "nfs"], doc!({"server": "s", "path": "/"}), "spec.nfs:Forbidden"),
        ("persistentvolumes", &["spec", "capacity"], doc!({"storage": "0"}), "spec.capacity[storage]:Invalid"),
        ("persistentvolumeclaims", &["spec", "resources"], Doc::Null, "spec.resources[storage]:Required"),
        (
            "persistentvolumeclaims",
            &["spec", "accessModes"],
            doc!(["ReadWriteOncePod", "ReadOnlyMany"]),
            "spec.accessModes:Forbidden",
        ),
        (
            "csidrivers",
            &["spec", "volumeLifecycleModes"],
            doc!(["Forever"]),
            "spec.volumeLifecycleModes[0]:NotSupported",
        ),
        ("csinodes", &["spec", "drivers", "0", "nodeID"], Doc::Null, "spec.drivers[0].nodeID:Required"),
        ("csistoragecapacities", &["capacity"], "-1".into(), "capacity:Invalid"),
        ("storageclasses", &["provisioner"], "a b".into(), "provisioner:Invalid"),
        ("storageclasses", &["reclaimPolicy"], "Recycle".into(), "reclaimPolicy:NotSupported"),
        ("volumeattachments", &["spec", "source"], doc!({}), "spec.source:Required"),
        ("volumeattributesclasses", &["parameters"], Doc::Null, "parameters:Required"),
    ]
}

fn control() -> Vec<Case> {
    const RULE: &[&str] = &["spec", "rules", "0", "resourceRules", "0", "namespaces"];
    vec![
        ("resourcequotas", &["spec", "hard"], doc!({"pods": "1500m"}), "spec.hard[pods]:Invalid"),
        ("resourcequotas", &["spec", "hard"], doc!({"wheels": "1"}), "spec.hard[wheels]:Invalid"),
        ("resourcequotas", &["spec", "scopes"], doc!(["BestEffort", "NotBestEffort"]), "spec.scopes:Invalid"),
        ("certificatesigningrequests", &["spec", "request"], "bm9uZQ==".into(), "spec.request:Invalid"),
        ("certificatesigningrequests", &["spec", "usages"], doc!(["flying"]), "spec.usages[0]:NotSupported"),
        ("certificatesigningrequests", &["spec", "expirationSeconds"], 5.into(), "spec.expirationSeconds:Invalid"),
        ("certificatesigningrequests", &["spec", "signerName"], "plain".into(), "spec.signerName:Invalid"),
        ("clustertrustbundles", &["spec", "trustBundle"], "none".into(), "spec.trustBundle:Invalid"),
        ("clustertrustbundles", &["spec", "signerName"], "a.b/c".into(), "metadata.name:Invalid"),
        ("podcertificaterequests", &["spec", "maxExpirationSeconds"], 60.into(), "spec.maxExpirationSeconds:Invalid"),
        ("flowschemas", RULE, Doc::Null, "spec.rules[0].resourceRules[0].namespaces:Required"),
        ("flowschemas", &["spec", "matchingPrecedence"], 10_001.into(), "spec.matchingPrecedence:Invalid"),
        (
            "prioritylevelconfigurations",
            &["spec", "limited", "limitResponse", "type"],
            "Queue".into(),
            "spec.limited.limitResponse.queuing:Required",
        ),
        ("prioritylevelconfigurations", &["spec", "type"], "Exempt".into(), "spec.limited:Forbidden"),
        ("storageversionmigrations", &["spec", "resource"], doc!({}), "spec.resource.resource:Required"),
        ("deviceclasses", &["spec", "selectors"], doc!([{}]), "spec.selectors[0].cel:Required"),
        (
            "deviceclasses",
            &["spec", "selectors"],
            doc!([{"cel": {"expression": "device.nothing"}}]),
            "spec.selectors[0].cel.expression:Invalid",
        ),
        ("devicetaintrules", &["spec", "taint", "effect"], "Harm".into(), "spec.taint.effect:NotSupported"),
        (
            "resourceclaims",
            &["spec", "devices", "requests", "0", "exactly"],
            Doc::Null,
            "spec.devices.requests[0]:Required",
        ),
        ("resourceslices", &["spec", "nodeName"], Doc::Null, "spec:Required"),
        (
            "resourceslices",
            &["spec", "devices"],
            doc!([{"name": "d"}, {"name": "d"}]),
            "spec.devices[1].name:Duplicate",
        ),
    ]
}

#[tokio::test(start_paused = true)]
async fn what_is_wrong_is_named() {
    let api = server().await;
    let cases = [workloads(), networks(), storage(), control()].concat();
    let mut wrong = Vec::new();
    for (plural, path, value, expected) in cases {
        let namespace = if api.api.registry().iter().any(|info| info.plural == plural && info.is_namespaced()) {
            "default"
        } else {
            ""
        };
        let mut body = sample("v1", plural);
        body.set_at(&["metadata", "name"], name_of(plural).into());
        match &value {
            Doc::Null => drop(body.remove_at(path)),
            value => body.set_at(path, value.clone()),
        }
        let body = RequestBody::Doc(body);
        let request =
            ApiRequest { verb: Verb::Create, target: target(plural, namespace), body, ..ApiRequest::default() };
        let told = said_instead(&api, request, expected).await;
        wrong.extend(told.map(|told| format!("{plural} {path:?} = {value}: {told}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the refusal of a request says, if it is not 422 with the cause `expected`: a field and a reason.
async fn said_instead(api: &Fixture, request: ApiRequest, expected: &str) -> Option<String> {
    let error = api.refused(request).await;
    let causes = error.status().details.as_ref().map_or(&[][..], |details| &details.causes);
    let found: Vec<String> = causes
        .iter()
        .map(|cause| format!("{}:{}", cause.field, cause.reason.trim_start_matches("FieldValue")))
        .collect();
    let is_said = error.code() == 422 && found.iter().any(|found| found == expected);
    (!is_said).then(|| format!("{} {found:?} instead of {expected}", error.code()))
}

/// A kind, what an update changes, and what is said of it.
#[tokio::test(start_paused = true)]
async fn what_may_not_change_stays() {
    let api = server().await;
    let cases: [Case; 14] = [
        ("statefulsets", &["spec", "serviceName"], "other".into(), "spec:Forbidden"),
        ("jobs", &["spec", "completions"], 5.into(), "spec.completions:Invalid"),
        ("jobs", &["spec", "template", "spec", "hostNetwork"], true.into(), "spec.template:Invalid"),
        ("persistentvolumes", &["spec", "hostPath", "path"], "/y".into(), "spec.persistentvolumesource:Forbidden"),
        ("persistentvolumeclaims", &["spec", "accessModes"], doc!(["ReadWriteMany"]), "spec:Forbidden"),
        ("storageclasses", &["provisioner"], "x.y/z".into(), "provisioner:Invalid"),
        ("volumeattachments", &["spec", "nodeName"], "m".into(), "spec:Invalid"),
        ("csinodes", &["spec", "drivers", "0", "nodeID"], "m".into(), "spec.drivers[0]:Invalid"),
        ("certificatesigningrequests", &["spec", "signerName"], "x.y/z".into(), "spec:Invalid"),
        ("resourceclaims", &["spec", "devices", "requests"], doc!([]), "spec:Invalid"),
        ("resourcequotas", &["spec", "scopes"], doc!(["Terminating"]), "spec.scopes:Invalid"),
        ("servicecidrs", &["spec", "cidrs"], doc!(["10.3.0.0/24"]), "spec.cidrs[0]:Invalid"),
        ("ingressclasses", &["spec", "controller"], "x.y/z".into(), "spec.controller:Invalid"),
        ("runtimeclasses", &["handler"], "kata".into(), "handler:Invalid"),
    ];
    let mut wrong = Vec::new();
    for (plural, path, value, expected) in cases {
        let namespaced = api.api.registry().iter().any(|info| info.plural == plural && info.is_namespaced());
        let namespace = if namespaced { "default" } else { "" };
        let mut body = sample("v1", plural);
        body.set_at(&["metadata", "name"], name_of(plural).into());
        // Objects of earlier cases are still there.
        let one = format!("{plural}/{}", name_of(plural));
        let mut made = match api.create(plural, namespace, body).await {
            Ok(made) => made,
            Err(error) if error.is_already_exists() => api.get(&one, namespace).await.unwrap(),
            Err(error) => panic!("{plural}: {error}"),
        };
        made.set_at(path, value);
        let body = RequestBody::Doc(made);
        let request = ApiRequest { verb: Verb::Update, target: target(&one, namespace), body, ..ApiRequest::default() };
        let told = said_instead(&api, request, expected).await;
        wrong.extend(told.map(|told| format!("{plural} {path:?}: {told}")));
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
