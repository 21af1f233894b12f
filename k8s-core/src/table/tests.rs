//! Tables as data: an object and its row.

use super::*;

/// 2024-01-01T00:10:00Z; what was created at midnight is ten minutes old.
const NOW: i64 = 1_704_067_800;

fn row(group: &str, kind: &str, json: &str) -> String {
    let doc = Doc::parse(json.as_bytes()).unwrap_or_else(|why| panic!("{json}: {why:?}"));
    let table = table_for(group, kind);
    let cells = table.cells(&doc, Timestamp::from_second(NOW).unwrap());
    assert_eq!(cells.len(), table.columns().len(), "{kind}");
    cells.iter().map(|cell| cell.as_str().map_or_else(|| cell.to_string(), str::to_owned)).collect::<Vec<_>>().join("|")
}

#[test]
fn durations() {
    let cases = [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (330, "5m30s"),
        (600, "10m"),
        (3 * 3600 - 1, "179m"),
        (3 * 3600, "3h"),
        (3 * 3600 + 300, "3h5m"),
        (8 * 3600, "8h"),
        (47 * 3600, "47h"),
        (74 * 3600, "3d2h"),
        (8 * 86_400, "8d"),
        (729 * 86_400, "729d"),
        (765 * 86_400, "2y35d"),
        (9 * 365 * 86_400, "9y"),
    ];
    for (seconds, expected) in cases {
        assert_eq!(human_duration(seconds), expected, "{seconds}");
    }
}

#[test]
fn pods() {
    let spec = r#""spec":{"nodeName":"n","initContainers":[{"name":"i"}],"containers":[{"name":"c"}]}"#;
    let meta = r#""metadata":{"name":"p","creationTimestamp":"2024-01-01T00:00:00Z"}"#;
    let cases = [
        (r#"{"phase":"Pending"}"#, "0/1|Pending|0"),
        (
            r#"{"phase":"Pending","conditions":[{"type":"PodScheduled","status":"False","reason":"SchedulingGated"}]}"#,
            "0/1|SchedulingGated|0",
        ),
        (r#"{"phase":"Running","containerStatuses":[{"ready":true,"state":{"running":{}}}]}"#, "1/1|Running|0"),
        (
            r#"{"phase":"Running","containerStatuses":[{"restartCount":1,"state":{"waiting":{"reason":"CrashLoopBackOff"}},"lastState":{"terminated":{"finishedAt":"2024-01-01T00:05:00Z"}}}]}"#,
            "0/1|CrashLoopBackOff|1 (5m ago)",
        ),
        (
            r#"{"phase":"Succeeded","containerStatuses":[{"state":{"terminated":{"reason":"Completed"}}}]}"#,
            "0/1|Completed|0",
        ),
        (r#"{"phase":"Failed","containerStatuses":[{"state":{"terminated":{"exitCode":3}}}]}"#, "0/1|ExitCode:3|0"),
        (r#"{"phase":"Failed","reason":"Evicted"}"#, "0/1|Evicted|0"),
        (r#"{"phase":"Pending","initContainerStatuses":[{"name":"i","state":{"running":{}}}]}"#, "0/1|Init:0/1|0"),
        (
            r#"{"phase":"Pending","initContainerStatuses":[{"name":"i","state":{"terminated":{"exitCode":1,"reason":"Error"}}}]}"#,
            "0/1|Init:Error|0",
        ),
        (
            r#"{"phase":"Pending","initContainerStatuses":[{"name":"i","state":{"terminated":{"exitCode":0}}}],"containerStatuses":[{"state":{"waiting":{"reason":"PodInitializing"}}}]}"#,
            "0/1|PodInitializing|0",
        ),
    ];
    for (status, expected) in cases {
        let pod = format!(r#"{{{meta},{spec},"status":{status}}}"#);
        assert_eq!(row("", "Pod", &pod), format!("p|{expected}|10m|<none>|n|<none>|<none>"), "{status}");
    }
    let going = r#"{"metadata":{"name":"p","deletionTimestamp":"2024-01-01T00:00:00Z"},"spec":{"readinessGates":[{"conditionType":"g"}]},"status":{"phase":"Running","podIP":"10.0.0.1"}}"#;
    assert_eq!(row("", "Pod", going), "p|0/0|Terminating|0|<unknown>|10.0.0.1|<none>|<none>|0/1");
}

#[test]
fn restarts_of_init_containers_count_until_they_are_done() {
    let pod = |statuses: &str, more: &str| {
        let spec = r#"{"initContainers":[{"name":"i"},{"name":"s","restartPolicy":"Always"},{"name":"j"}],"containers":[{"name":"c"}]}"#;
        let status = format!(r#"{{"phase":"Pending","initContainerStatuses":[{statuses}]{more}}}"#);
        let row = row("", "Pod", &format!(r#"{{"metadata":{{"name":"p"}},"spec":{spec},"status":{status}}}"#));
        row.split('|').skip(1).take(3).collect::<Vec<_>>().join("|")
    };
    let (done, sidecar) = (
        r#"{"name":"i","restartCount":5,"state":{"terminated":{"exitCode":0}},"lastState":{"terminated":{"finishedAt":"2024-01-01T00:05:00Z"}}}"#,
        r#"{"name":"s","restartCount":1,"started":true,"ready":true,"state":{"running":{}}}"#,
    );
    let waits = r#"{"name":"s","restartCount":1,"started":false,"ready":true,"state":{"running":{}}}"#;
    let later = r#"{"name":"j","restartCount":7,"state":{"waiting":{"reason":"PodInitializing"}}}"#;
    assert_eq!(pod(&format!("{done},{waits},{later}"), ""), "0/2|Init:1/3|6 (5m ago)");
    assert_eq!(pod(&format!("{done},{sidecar},{later}"), ""), "1/2|Init:2/3|13 (5m ago)");
    let over = later.replace(r#"{"waiting":{"reason":"PodInitializing"}}"#, r#"{"terminated":{"exitCode":0}}"#);
    let running = r#","containerStatuses":[{"name":"c","restartCount":2,"ready":true,"state":{"running":{}}}]"#;
    assert_eq!(pod(&format!("{done},{sidecar},{over}"), running), "2/2|Pending|3");
}

#[test]
fn others() {
    let meta = r#""metadata":{"name":"x","creationTimestamp":"2024-01-01T00:00:00Z"}"#;
    let template = r#""template":{"spec":{"containers":[{"name":"a","image":"i"},{"name":"b","image":"j"}]}}"#;
    let cases = [
        ("apps", "Deployment", format!(r#""spec":{{"replicas":3,"selector":{{"matchLabels":{{"k":"v"}}}},{template}}},"status":{{"readyReplicas":1,"updatedReplicas":2}}"#), "x|1/3|2|0|10m|a,b|i,j|k=v"),
        ("apps", "ReplicaSet", format!(r#""spec":{{"replicas":3,{template}}},"status":{{"replicas":2,"readyReplicas":1}}"#), "x|3|2|1|10m|a,b|i,j|<none>"),
        ("", "ReplicationController", format!(r#""kind":"ReplicationController","spec":{{"replicas":3,"selector":{{"k":"v"}},{template}}}"#), "x|3|0|0|10m|a,b|i,j|k=v"),
        ("", "Service", r#""spec":{"type":"NodePort","clusterIP":"10.0.0.1","selector":{"b":"2","a":"1"},"ports":[{"port":80,"nodePort":30000,"protocol":"TCP"},{"port":53,"protocol":"UDP"}]}"#.into(), "x|NodePort|10.0.0.1|<none>|80:30000/TCP,53/UDP|10m|a=1,b=2"),
        ("", "Service", r#""spec":{"type":"LoadBalancer"}"#.into(), "x|LoadBalancer|<none>|<pending>|<none>|10m|<none>"),
        ("", "Endpoints", r#""subsets":[{"addresses":[{"ip":"1.1.1.1"},{"ip":"1.1.1.2"}],"ports":[{"port":1},{"port":2}]}]"#.into(), "x|1.1.1.1:1,1.1.1.2:1,1.1.1.1:2 + 1 more...|10m"),
        ("", "Endpoints", r#""subsets":[{"addresses":[{"ip":"::1"}],"ports":[{"port":1}]},{"addresses":[{"ip":"::2"}]}]"#.into(), "x|[::1]:1,::2|10m"),
        ("discovery.k8s.io", "EndpointSlice", r#""addressType":"IPv4","ports":[{"port":80}]"#.into(), "x|IPv4|80|<unset>|10m"),
        ("", "Node", r#""spec":{"unschedulable":true},"status":{"conditions":[{"type":"Ready","status":"True"}],"nodeInfo":{"kubeletVersion":"v1"},"addresses":[{"type":"InternalIP","address":"10.0.0.1"}]}"#.into(), "x|Ready,SchedulingDisabled|<none>|10m|v1|10.0.0.1|<none>|<unknown>|<unknown>|<unknown>"),
        ("", "Namespace", r#""status":{"phase":"Active"}"#.into(), "x|Active|10m"),
        ("", "ConfigMap", r#""data":{"a":"b"},"binaryData":{"c":""}"#.into(), "x|2|10m"),
        ("", "Secret", r#""type":"Opaque","data":{"a":"b"}"#.into(), "x|Opaque|1|10m"),
        ("", "ServiceAccount", r#""secrets":[]"#.into(), "x|0|10m"),
        ("", "Event", r#""type":"Normal","reason":"Started","message":"Go","involvedObject":{"kind":"Pod","name":"p"},"source":{"component":"kubelet","host":"n"},"lastTimestamp":"2024-01-01T00:09:00Z","firstTimestamp":"2024-01-01T00:00:00Z","count":2"#.into(), "60s|Normal|Started|pod/p||kubelet, n|Go|10m|2|x"),
        ("events.k8s.io", "Event", r#""reason":"Started","note":"Go","regarding":{"kind":"Node"},"reportingController":"c","eventTime":"2024-01-01T00:09:00.000000Z""#.into(), "60s||Started|node||c|Go|60s|1|x"),
        ("apps", "ControllerRevision", r#""revision":4"#.into(), "x|<none>|4|10m"),
        ("", "PodTemplate", r#""template":{"metadata":{"labels":{"a":"1"}},"spec":{"containers":[{"name":"a","image":"i"}]}}"#.into(), "x|a|i|a=1"),
        ("policy", "PodDisruptionBudget", r#""spec":{"maxUnavailable":"25%"},"status":{"disruptionsAllowed":2}"#.into(), "x|N/A|25%|2|10m"),
        ("policy", "PodDisruptionBudget", r#""spec":{"minAvailable":3}"#.into(), "x|3|N/A|0|10m"),
        ("coordination.k8s.io", "Lease", r#""spec":{"holderIdentity":"me"}"#.into(), "x|me|10m"),
        ("rbac.authorization.k8s.io", "Role", r#""rules":[]"#.into(), "x|2024-01-01T00:00:00Z"),
        ("rbac.authorization.k8s.io", "RoleBinding", r#""roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"ServiceAccount","namespace":"n","name":"s"}]"#.into(), "x|Role/r|10m|||n/s"),
        ("scheduling.k8s.io", "PriorityClass", r#""value":7,"preemptionPolicy":"Never""#.into(), "x|7|false|10m|Never"),
        ("example.com", "Thing", r#""spec":{}"#.into(), "x|10m"),
    ];
    for (group, kind, body, expected) in cases {
        assert_eq!(row(group, kind, &format!("{{{meta},{body}}}")), expected, "{kind}");
    }
}
