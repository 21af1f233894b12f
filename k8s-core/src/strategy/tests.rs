//! Strategies as data: an object (or a change) and what is wrong with it.

mod webhooks;

use super::*;

fn parse(text: &str) -> Doc {
    Doc::parse(text.as_bytes()).unwrap_or_else(|why| panic!("{text}: {why:?}"))
}

fn paths(errors: &[FieldError]) -> String {
    errors
        .iter()
        .map(|error| format!("{}:{}", error.path, error.kind.cause().trim_start_matches("FieldValue")))
        .collect::<Vec<_>>()
        .join(" ")
}

/// `base` with `value` at the dotted `path`; `null` removes.
fn with(base: &Doc, path: &str, value: &str) -> Doc {
    let mut doc = base.clone();
    let steps: Vec<&str> = path.split('.').collect();
    match parse(value) {
        Doc::Null => drop(doc.remove_at(&steps)),
        value => doc.set_at(&steps, value),
    }
    doc
}

/// Group, kind, a valid object, and changes that make it invalid.
fn check_creation(group: &str, kind: &str, base: &str, cases: &[(&str, &str, &str)]) {
    let (strategy, base) = (strategy_for(group, kind), parse(base));
    assert_eq!(paths(&strategy.validate_create(&base)), "", "the base of {kind}");
    for (path, value, expected) in cases {
        assert_eq!(paths(&strategy.validate_create(&with(&base, path, value))), *expected, "{kind}: {path} = {value}");
    }
}

fn check_change(group: &str, kind: &str, base: &str, cases: &[(&str, &str, &str)]) {
    let (strategy, base) = (strategy_for(group, kind), parse(base));
    for (path, value, expected) in cases {
        let mut new = with(&base, path, value);
        strategy.prepare_update(&mut new, &base);
        assert_eq!(paths(&strategy.validate_update(&new, &base)), *expected, "{kind}: {path} = {value}");
    }
}

const POD: &str = r#"{"metadata":{"name":"p"},"spec":{"volumes":[{"name":"v","emptyDir":{}}],"tolerations":[{"key":"k","effect":"NoExecute"}],
    "containers":[{"name":"c","image":"i","ports":[{"name":"http","containerPort":80}],"env":[{"name":"E"}],
    "volumeMounts":[{"name":"v","mountPath":"/v"}],"livenessProbe":{"httpGet":{"port":"http"}},
    "resources":{"requests":{"cpu":"1"},"limits":{"cpu":"2"}}}]}}"#;

#[test]
fn pods_are_checked() {
    check_creation(
        "",
        "Pod",
        POD,
        &[
            ("metadata.name", r#""A""#, "metadata.name:Invalid"),
            ("metadata.name", "null", "metadata.name:Required"),
            ("spec.containers", "[]", "spec.containers:Required"),
            ("spec.containers.0.name", r#""a.b""#, "spec.containers[0].name:Invalid"),
            ("spec.containers.0.image", "null", "spec.containers[0].image:Required"),
            ("spec.initContainers", r#"[{"name":"c","image":"i"}]"#, "spec.initContainers[0].name:Duplicate"),
            ("spec.containers.0.ports.0.containerPort", "70000", "spec.containers[0].ports[0].containerPort:Invalid"),
            (
                "spec.containers.0.ports",
                r#"[{"name":"a","containerPort":1},{"name":"a","containerPort":2}]"#,
                "spec.containers[0].ports[1].name:Duplicate",
            ),
            ("spec.containers.0.env", r#"[{"name":"a=b"}]"#, "spec.containers[0].env[0].name:Invalid"),
            ("spec.volumes", "[]", "spec.containers[0].volumeMounts[0].name:NotFound"),
            ("spec.volumes", r#"[{"name":"v"}]"#, "spec.volumes[0]:Required"),
            (
                "spec.volumes",
                r#"[{"name":"v","emptyDir":{}},{"name":"v","emptyDir":{}}]"#,
                "spec.volumes[1].name:Duplicate",
            ),
            ("spec.containers.0.livenessProbe", "{}", "spec.containers[0].livenessProbe:Required"),
            (
                "spec.containers.0.livenessProbe.successThreshold",
                "2",
                "spec.containers[0].livenessProbe.successThreshold:Invalid",
            ),
            ("spec.containers.0.resources.limits.cpu", r#""500m""#, "spec.containers[0].resources.requests:Invalid"),
            ("spec.restartPolicy", r#""Sometimes""#, "spec.restartPolicy:NotSupported"),
            ("spec.terminationGracePeriodSeconds", "-1", "spec.terminationGracePeriodSeconds:Invalid"),
        ],
    );
}

#[test]
fn what_pods_say_about_each_concern_is_checked() {
    let container = |fields: &str| format!(r#"[{{"name":"c","image":"i",{fields}}}]"#);
    let with_container = |fields: &str, expected: &str| {
        check_creation(
            "",
            "Pod",
            r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#,
            &[("spec.containers", &container(fields), expected)],
        );
    };
    with_container(r#""env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"metadata.labels['x']"}}}]"#, "");
    with_container(
        r#""env":[{"name":"A","valueFrom":{"fieldRef":{"fieldPath":"spec.x"}}}]"#,
        "spec.containers[0].env[0].valueFrom.fieldRef.fieldPath:NotSupported",
    );
    with_container(r#""resources":{"limits":{"gpu":"1"}}"#, "spec.containers[0].resources.limits[gpu]:Invalid");
    with_container(r#""resources":{"requests":{"x.y/gpu":"1"}}"#, "spec.containers[0].resources.limits:Required");
    with_container(
        r#""resources":{"requests":{"x.y/gpu":"1"},"limits":{"x.y/gpu":"2"}}"#,
        "spec.containers[0].resources.requests:Invalid",
    );
    with_container(r#""lifecycle":{"preStop":{"sleep":{"seconds":1}}}"#, "");
    with_container(r#""lifecycle":{"preStop":{}}"#, "spec.containers[0].lifecycle.preStop:Required");
    with_container(
        r#""securityContext":{"privileged":true,"allowPrivilegeEscalation":false}"#,
        "spec.containers[0].securityContext:Invalid",
    );
    let probe = r#""readinessProbe":{"tcpSocket":{"port":1}}"#;
    let cases = [
        ("spec.tolerations", r#"[{"operator":"Exists"}]"#.to_owned(), ""),
        ("spec.tolerations", r#"[{"operator":"Equal"}]"#.to_owned(), "spec.tolerations[0].operator:Invalid"),
        (
            "spec.tolerations",
            r#"[{"key":"k","operator":"Exists","value":"v"}]"#.to_owned(),
            "spec.tolerations[0].operator:Invalid",
        ),
        ("spec.tolerations", r#"[{"key":"k","tolerationSeconds":1}]"#.to_owned(), "spec.tolerations[0].effect:Invalid"),
        (
            "spec.readinessGates",
            r#"[{"conditionType":"a b"}]"#.to_owned(),
            "spec.readinessGates[0].conditionType:Invalid",
        ),
        ("spec.priorityClassName", r#""a b""#.to_owned(), "spec.priorityClassName:Invalid"),
        ("spec.overhead", r#"{"cpu":"-1"}"#.to_owned(), "spec.overhead[cpu]:Invalid"),
        ("spec.dnsPolicy", r#""None""#.to_owned(), "spec.dnsConfig.nameservers:Required"),
        ("spec.hostAliases", r#"[{"ip":"x"}]"#.to_owned(), "spec.hostAliases[0].ip:Invalid"),
        ("spec.securityContext.sysctls", r#"[{"name":"net.ipv4.ip_forward"}]"#.to_owned(), ""),
        (
            "spec.securityContext.sysctls",
            r#"[{"name":"a b"}]"#.to_owned(),
            "spec.securityContext.sysctls[0].name:Invalid",
        ),
        (
            "spec.volumes",
            r#"[{"name":"v","hostPath":{"path":"../x"}}]"#.to_owned(),
            "spec.volumes[0].hostPath.path:Invalid",
        ),
        (
            "spec.volumes",
            r#"[{"name":"v","emptyDir":{"sizeLimit":"-1"}}]"#.to_owned(),
            "spec.volumes[0].emptyDir.sizeLimit:Forbidden",
        ),
        (
            "spec.initContainers",
            format!(r#"[{{"name":"i","image":"i",{probe}}}]"#),
            "spec.initContainers[0].readinessProbe:Forbidden",
        ),
        ("spec.initContainers", format!(r#"[{{"name":"i","image":"i","restartPolicy":"Always",{probe}}}]"#), ""),
    ];
    let cases: Vec<(&str, &str, &str)> =
        cases.iter().map(|(path, value, what)| (*path, value.as_str(), *what)).collect();
    check_creation("", "Pod", POD, &cases);
    let on_host = r#"{"metadata":{"name":"p"},"spec":{"hostNetwork":true,"containers":[{"name":"c","image":"i","ports":[{"containerPort":80}]}]}}"#;
    check_creation(
        "",
        "Pod",
        on_host,
        &[
            ("spec.containers.0.ports.0.hostPort", "80", ""),
            ("spec.containers.0.ports.0.hostPort", "81", "spec.containers[0].ports[0].hostPort:Invalid"),
        ],
    );
    let gated = r#"{"metadata":{"name":"p"},"spec":{"schedulingGates":[{"name":"g"}],"containers":[{"name":"c","image":"i"}]}}"#;
    check_creation("", "Pod", gated, &[("spec.nodeName", r#""n""#, "spec.nodeName:Forbidden")]);
}

#[test]
fn where_a_pod_wants_to_be_and_what_it_may_do_is_checked() {
    let nodes = |term: &str| {
        format!(r#"{{"requiredDuringSchedulingIgnoredDuringExecution":{{"nodeSelectorTerms":[{term}]}}}}"#)
    };
    let node_terms = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution.nodeSelectorTerms";
    let pod_terms = "spec.affinity.podAffinity.requiredDuringSchedulingIgnoredDuringExecution";
    let wants = |expression: &str| nodes(&format!(r#"{{"matchExpressions":[{expression}]}}"#));
    let spread = |fields: &str| {
        format!(r#"[{{"maxSkew":1,"topologyKey":"zone","whenUnsatisfiable":"ScheduleAnyway"{fields}}}]"#)
    };
    let cases: Vec<(&str, String, String)> = [
        ("spec.affinity.nodeAffinity", nodes(""), format!("{node_terms}:Required")),
        ("spec.affinity.nodeAffinity", wants(r#"{"key":"a","operator":"In","values":["b"]}"#), String::new()),
        (
            "spec.affinity.nodeAffinity",
            wants(r#"{"key":"a","operator":"In"}"#),
            format!("{node_terms}[0].matchExpressions[0].values:Required"),
        ),
        (
            "spec.affinity.nodeAffinity",
            wants(r#"{"key":"a","operator":"Exists","values":["b"]}"#),
            format!("{node_terms}[0].matchExpressions[0].values:Forbidden"),
        ),
        (
            "spec.affinity.nodeAffinity",
            wants(r#"{"key":"a","operator":"Gt","values":["1","2"]}"#),
            format!("{node_terms}[0].matchExpressions[0].values:Required"),
        ),
        (
            "spec.affinity.nodeAffinity",
            nodes(r#"{"matchFields":[{"key":"spec.x","operator":"In","values":["a"]}]}"#),
            format!("{node_terms}[0].matchFields[0].key:Invalid"),
        ),
        (pod_terms, r#"[{"topologyKey":"a b"}]"#.to_owned(), format!("{pod_terms}[0].topologyKey:Invalid")),
        (
            pod_terms,
            r#"[{"topologyKey":"zone","labelSelector":{"matchExpressions":[{"key":"a","operator":"NotIn"}]}}]"#
                .to_owned(),
            format!("{pod_terms}[0].labelSelector.matchExpressions[0].values:Required"),
        ),
        (
            pod_terms,
            r#"[{"topologyKey":"zone","matchLabelKeys":["a"]}]"#.to_owned(),
            format!("{pod_terms}[0].matchLabelKeys:Forbidden"),
        ),
        ("spec.topologySpreadConstraints", spread(""), String::new()),
        (
            "spec.topologySpreadConstraints",
            spread(r#","minDomains":2"#),
            "spec.topologySpreadConstraints[0].minDomains:Invalid".to_owned(),
        ),
        (
            "spec.securityContext.seccompProfile",
            r#"{"type":"Localhost"}"#.to_owned(),
            "spec.securityContext.seccompProfile.localhostProfile:Required".to_owned(),
        ),
        (
            "spec.securityContext.seccompProfile",
            r#"{"type":"RuntimeDefault","localhostProfile":"x"}"#.to_owned(),
            "spec.securityContext.seccompProfile.localhostProfile:Invalid".to_owned(),
        ),
        (
            "spec.securityContext.supplementalGroups",
            "[1,-1]".to_owned(),
            "spec.securityContext.supplementalGroups[1]:Invalid".to_owned(),
        ),
        (
            "spec",
            r#"{"containers":[{"name":"c","image":"i"}],"hostPID":true,"shareProcessNamespace":true}"#.to_owned(),
            "spec.shareProcessNamespace:Invalid".to_owned(),
        ),
        (
            "spec",
            r#"{"containers":[{"name":"c","image":"i"}],"hostNetwork":true,"hostUsers":false}"#.to_owned(),
            "spec.hostNetwork:Forbidden".to_owned(),
        ),
        (
            "spec.schedulingGates",
            r#"[{"name":"a"},{"name":"a"}]"#.to_owned(),
            "spec.schedulingGates[1].name:Duplicate".to_owned(),
        ),
        (
            "spec.dnsConfig",
            r#"{"nameservers":["1.1.1.1","1.1.1.2","1.1.1.3","1.1.1.4"]}"#.to_owned(),
            "spec.dnsConfig.nameservers:Invalid".to_owned(),
        ),
        ("spec.dnsConfig", r#"{"searches":["a b"]}"#.to_owned(), "spec.dnsConfig.searches[0]:Invalid".to_owned()),
        ("spec.dnsConfig", r#"{"searches":["_tcp.a.b.","."]}"#.to_owned(), String::new()),
    ]
    .into();
    let cases: Vec<(&str, &str, &str)> = cases.iter().map(|(path, value, what)| (*path, &**value, &**what)).collect();
    check_creation("", "Pod", POD, &cases);
}

#[test]
fn the_sources_of_a_volume_are_checked() {
    let volume = |source: &str| format!(r#"[{{"name":"v",{source}}}]"#);
    let projected = |sources: &str| volume(&format!(r#""projected":{{"sources":[{sources}]}}"#));
    let place = "spec.volumes[0]";
    let cases = [
        (volume(r#""configMap":{"items":[]}"#), format!("{place}.configMap.name:Required")),
        (
            volume(r#""configMap":{"name":"a","items":[{"key":"k","path":"/etc"}]}"#),
            format!("{place}.configMap.items[0].path:Invalid"),
        ),
        (
            volume(r#""secret":{"secretName":"a","items":[{"key":"k","path":"a/../b"}]}"#),
            format!("{place}.secret.items[0].path:Invalid"),
        ),
        (volume(r#""hostPath":{}"#), format!("{place}.hostPath.path:Required")),
        (volume(r#""downwardAPI":{"items":[{"path":"a"}]}"#), format!("{place}.downwardAPI.items[0]:Required")),
        (
            volume(r#""downwardAPI":{"items":[{"path":"a","fieldRef":{"fieldPath":"status.podIP"}}]}"#),
            format!("{place}.downwardAPI.items[0].fieldRef.fieldPath:NotSupported"),
        ),
        (
            volume(r#""downwardAPI":{"items":[{"path":"a","resourceFieldRef":{"resource":"limits.cpu"}}]}"#),
            format!("{place}.downwardAPI.items[0].resourceFieldRef.containerName:Required"),
        ),
        (projected("{}"), format!("{place}.projected.sources[0]:Required")),
        (
            projected(
                r#"{"configMap":{"name":"a","items":[{"key":"k","path":"t"}]}},{"serviceAccountToken":{"path":"t"}}"#,
            ),
            format!("{place}.projected.sources[1].serviceAccountToken.path:Invalid"),
        ),
        (projected(r#"{"configMap":{"name":"a"}},{"serviceAccountToken":{"path":"t"}}"#), String::new()),
    ];
    for (volumes, expected) in &cases {
        check_creation("", "Pod", POD, &[("spec.volumes", volumes, expected)]);
    }
    let container = |fields: &str| format!(r#"[{{"name":"c","image":"i",{fields}}}]"#);
    let plain = r#"{"metadata":{"name":"p"},"spec":{"containers":[{"name":"c","image":"i"}]}}"#;
    for (fields, expected) in [
        (r#""envFrom":[{"configMapRef":{"name":"a"}}]"#, ""),
        (r#""envFrom":[{}]"#, "spec.containers[0].envFrom[0]:Invalid"),
        (r#""envFrom":[{"secretRef":{}}]"#, "spec.containers[0].envFrom[0].secretRef.name:Required"),
        (
            r#""restartPolicyRules":[{"action":"Restart","exitCodes":{"operator":"In","values":[42]}}]"#,
            "spec.containers[0].restartPolicy:Required",
        ),
    ] {
        check_creation("", "Pod", plain, &[("spec.containers", &container(fields), expected)]);
    }
}

#[test]
fn a_service_that_changes_its_type_leaves_behind_what_it_no_longer_needs() {
    const BALANCED: &str = r#"{"metadata":{"name":"s"},"spec":{"type":"LoadBalancer","clusterIP":"10.0.0.1",
        "clusterIPs":["10.0.0.1"],"externalTrafficPolicy":"Local","healthCheckNodePort":30001,"internalTrafficPolicy":"Cluster",
        "allocateLoadBalancerNodePorts":true,"ports":[{"port":80,"protocol":"TCP","nodePort":30000}]},"status":{"loadBalancer":{}}}"#;
    for (kind, expected) in [
        (
            "ClusterIP",
            r#"{"type":"ClusterIP","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"internalTrafficPolicy":"Cluster","ports":[{"port":80,"protocol":"TCP"}]}"#,
        ),
        (
            "NodePort",
            r#"{"type":"NodePort","clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"externalTrafficPolicy":"Local","internalTrafficPolicy":"Cluster","ports":[{"port":80,"protocol":"TCP","nodePort":30000}]}"#,
        ),
        ("ExternalName", r#"{"type":"ExternalName","ports":[{"port":80,"protocol":"TCP"}],"externalName":"a.b"}"#),
    ] {
        let (strategy, old) = (strategy_for("", "Service"), parse(BALANCED));
        let mut new = with(&old, "spec.type", &format!("{kind:?}"));
        if kind == "ExternalName" {
            new.set_at(&["spec", "externalName"], "a.b".into());
        }
        strategy.prepare_update(&mut new, &old);
        assert_eq!(new.get("spec").unwrap().to_string(), expected);
        assert_eq!(paths(&strategy.validate_update(&new, &old)), "", "{kind}");
    }
    // What the client gave anew is an error, not dropped.
    check_change(
        "",
        "Service",
        BALANCED,
        &[(
            "spec",
            r#"{"type":"ClusterIP","clusterIP":"10.0.0.1","ports":[{"port":80,"nodePort":30005}]}"#,
            "spec.ports[0].nodePort:Forbidden",
        )],
    );
}

#[test]
fn rules_of_other_kinds() {
    let service = r#"{"metadata":{"name":"s"},"spec":{"ports":[{"port":80}]}}"#;
    check_creation(
        "",
        "Service",
        service,
        &[
            ("spec.externalIPs", r#"["1.2.3.4"]"#, ""),
            ("spec.externalIPs", r#"["x"]"#, "spec.externalIPs[0]:Invalid"),
            ("spec.externalIPs", r#"["127.0.0.1"]"#, "spec.externalIPs[0]:Invalid"),
            ("spec.externalIPs", r#"["fe80::1"]"#, "spec.externalIPs[0]:Invalid"),
            ("spec.externalTrafficPolicy", r#""Local""#, "spec.externalTrafficPolicy:Invalid"),
            ("spec.loadBalancerSourceRanges", r#"["10.0.0.0/8"]"#, "spec.LoadBalancerSourceRanges:Forbidden"),
        ],
    );
    check_creation(
        "apps",
        "Deployment",
        DEPLOYMENT,
        &[
            ("spec.progressDeadlineSeconds", "0", "spec.progressDeadlineSeconds:Invalid"),
            ("spec.progressDeadlineSeconds", "1", ""),
        ],
    );
    let secret =
        r#"{"metadata":{"name":"s"},"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"e30="}}"#;
    check_creation(
        "",
        "Secret",
        secret,
        &[
            ("data", r#"{".dockerconfigjson":"AA=="}"#, "data[.dockerconfigjson]:Invalid"),
            ("type", r#""kubernetes.io/basic-auth""#, "data[username]:Required data[password]:Required"),
        ],
    );
    check_creation(
        "",
        "Node",
        r#"{"metadata":{"name":"n"}}"#,
        &[
            ("spec.podCIDR", r#""10.0.0.0/33""#, "spec.podCIDR:Invalid"),
            ("spec.podCIDRs", r#"["fd00::/64"]"#, ""),
            (
                "spec.taints",
                r#"[{"key":"a","effect":"NoSchedule"},{"key":"a","effect":"NoSchedule"}]"#,
                "spec.taints[1]:Duplicate",
            ),
        ],
    );
    let endpoints = r#"{"metadata":{"name":"e"},"subsets":[{"addresses":[{"ip":"10.0.0.1"}],"ports":[{"port":80}]}]}"#;
    check_creation(
        "",
        "Endpoints",
        endpoints,
        &[
            ("subsets.0.addresses.0.ip", r#""x""#, "subsets[0].addresses[0].ip:Invalid"),
            ("subsets.0.addresses.0.ip", r#""127.0.0.1""#, "subsets[0].addresses[0].ip:Invalid"),
            ("subsets.0.addresses", "[]", "subsets[0]:Required"),
            ("subsets.0.ports", r#"[{"port":80,"name":"a"},{"port":81}]"#, "subsets[0].ports[1].name:Required"),
        ],
    );
    check_creation(
        "scheduling.k8s.io",
        "PriorityClass",
        r#"{"metadata":{"name":"c"},"value":1000000000}"#,
        &[("value", "1000000001", "value:Forbidden"), ("metadata.name", r#""system-x""#, "metadata.name:Forbidden")],
    );
    let system = r#"{"metadata":{"name":"system-node-critical"},"value":2000001000}"#;
    check_creation("scheduling.k8s.io", "PriorityClass", system, &[("value", "5", "metadata.name:Forbidden")]);
}

#[test]
fn little_of_a_pod_may_change() {
    check_change(
        "",
        "Pod",
        POD,
        &[
            ("spec.containers.0.image", r#""j""#, ""),
            ("spec.activeDeadlineSeconds", "5", ""),
            ("spec.tolerations", r#"[{"key":"k","effect":"NoExecute","tolerationSeconds":3},{"key":"l"}]"#, ""),
            ("spec.tolerations", "[]", "spec.tolerations:Forbidden"),
            ("spec.schedulingGates", r#"[{"name":"g"}]"#, "spec.schedulingGates:Forbidden"),
            ("spec.nodeName", r#""n""#, "spec:Forbidden"),
            ("spec.containers.0.args", r#"["x"]"#, "spec:Forbidden"),
            ("metadata.uid", r#""u""#, "metadata.uid:Invalid"),
            ("metadata.labels.a", r#""b""#, ""),
        ],
    );
}

#[test]
fn pods_begin_pending_with_their_class() {
    let cases = [
        ("{}", "BestEffort"),
        (r#"{"requests":{"cpu":"1"}}"#, "Burstable"),
        (r#"{"limits":{"cpu":"1","memory":"1Gi"}}"#, "Guaranteed"),
        (r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1000m","memory":"1Gi"}}"#, "Guaranteed"),
        (r#"{"limits":{"cpu":"1","memory":"1Gi"},"requests":{"cpu":"1"  ,"memory":"1Mi"}}"#, "Burstable"),
    ];
    for (resources, class) in cases {
        let mut pod = with(&parse(POD), "spec.containers.0.resources", resources);
        pod.set_at(&["status", "phase"], "Running".into());
        strategy_for("", "Pod").prepare_create(&mut pod);
        assert_eq!(pod.get("status").unwrap().to_string(), format!(r#"{{"phase":"Pending","qosClass":"{class}"}}"#));
        assert_eq!(pod.at(&["metadata", "generation"]), Some(&Doc::from(1)));
    }
}

#[test]
fn a_pod_that_does_not_run_is_deleted_at_once() {
    let cases = [
        (r#"{"spec":{}}"#, None, 0),
        (r#"{"spec":{"nodeName":"n"}}"#, None, 30),
        (r#"{"spec":{"nodeName":"n","terminationGracePeriodSeconds":5}}"#, None, 5),
        (r#"{"spec":{"nodeName":"n"}}"#, Some(7), 7),
        (r#"{"spec":{"nodeName":"n"},"status":{"phase":"Failed"}}"#, Some(7), 0),
        (r#"{"spec":{"nodeName":"n","terminationGracePeriodSeconds":-5}}"#, None, 1),
    ];
    for (pod, asked, expected) in cases {
        assert_eq!(strategy_for("", "Pod").grace_period(&parse(pod), asked), expected, "{pod} {asked:?}");
    }
}

const DEPLOYMENT: &str = r#"{"metadata":{"name":"d","generation":1},"spec":{"replicas":1,"selector":{"matchLabels":{"a":"b"}},
    "template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}},"status":{"replicas":1}}"#;

#[test]
fn workloads_are_checked() {
    check_creation(
        "apps",
        "Deployment",
        DEPLOYMENT,
        &[
            ("spec.replicas", "-1", "spec.replicas:Invalid"),
            ("spec.selector", "null", "spec.selector:Required"),
            ("spec.selector", "{}", "spec.selector:Invalid"),
            ("spec.template.metadata.labels", r#"{"a":"c"}"#, "spec.template.metadata.labels:Invalid"),
            ("spec.template.spec.restartPolicy", r#""Never""#, "spec.template.spec.restartPolicy:NotSupported"),
            ("spec.template.spec.containers", "[]", "spec.template.spec.containers:Required"),
            (
                "spec.strategy",
                r#"{"rollingUpdate":{"maxSurge":0,"maxUnavailable":"0%"}}"#,
                "spec.strategy.rollingUpdate.maxUnavailable:Invalid",
            ),
            ("spec.strategy", r#"{"rollingUpdate":{"maxSurge":"x"}}"#, "spec.strategy.rollingUpdate.maxSurge:Invalid"),
            ("spec.strategy", r#"{"type":"Recreate","rollingUpdate":{}}"#, "spec.strategy.rollingUpdate:Forbidden"),
        ],
    );
    check_change(
        "apps",
        "ReplicaSet",
        DEPLOYMENT,
        &[
            ("spec.replicas", "2", ""),
            ("spec.selector.matchLabels.a", r#""c""#, "spec.template.metadata.labels:Invalid spec.selector:Invalid"),
        ],
    );
    let controller = r#"{"metadata":{"name":"x","namespace":"n"},"spec":{"replicas":1,"selector":{"a":"b"},
        "template":{"metadata":{"labels":{"a":"b"}},"spec":{"restartPolicy":"Always","containers":[
            {"name":"c","image":"i","imagePullPolicy":"Always","terminationMessagePolicy":"File"}]}}}}"#;
    check_creation(
        "",
        "ReplicationController",
        controller,
        &[
            ("spec.replicas", "-1", "spec.replicas:Invalid"),
            ("spec.selector", "{}", "spec.selector:Required"),
            ("spec.selector", r#"{"a":"c"}"#, "spec.template.metadata.labels:Invalid"),
            ("spec.template.spec.restartPolicy", r#""Never""#, "spec.template.spec.restartPolicy:NotSupported"),
        ],
    );
    check_change(
        "",
        "ReplicationController",
        controller,
        &[("spec.replicas", "2", ""), ("spec.selector", r#"{"a":"c"}"#, "spec.template.metadata.labels:Invalid")],
    );
}

#[test]
fn a_budget_has_one_limit() {
    check_creation(
        "policy",
        "PodDisruptionBudget",
        r#"{"metadata":{"name":"x","namespace":"n"},"spec":{"minAvailable":1,"selector":{"matchLabels":{"a":"b"}}}}"#,
        &[
            ("spec.minAvailable", r#""50%""#, ""),
            ("spec.minAvailable", "-1", "spec.minAvailable:Invalid"),
            ("spec.minAvailable", r#""101%""#, "spec.minAvailable:Invalid"),
            ("spec.minAvailable", r#""some""#, "spec.minAvailable:Invalid"),
            ("spec.maxUnavailable", "1", "spec:Invalid"),
            ("spec.selector", r#"{"matchExpressions":[{"key":"a","operator":"In"}]}"#, "spec.selector:Invalid"),
        ],
    );
}

#[test]
fn the_generation_counts_changes_of_the_spec() {
    let (strategy, base) = (strategy_for("apps", "Deployment"), parse(DEPLOYMENT));
    for (path, value, generation, replicas) in
        [("spec.replicas", "2", 2, 1), ("metadata.labels", r#"{"x":"y"}"#, 1, 1), ("status.replicas", "5", 1, 1)]
    {
        let mut new = with(&base, path, value);
        strategy.prepare_update(&mut new, &base);
        let number = |path: &[&str]| new.at(path).and_then(Doc::as_i64);
        assert_eq!(number(&["metadata", "generation"]), Some(generation), "{path}");
        assert_eq!(number(&["status", "replicas"]), Some(replicas), "{path}");
    }
    let mut new = with(&with(&base, "spec.replicas", "9"), "status.replicas", "5");
    strategy.prepare_status(&mut new, &base);
    assert_eq!(new, with(&base, "status.replicas", "5"));
    let mut created = with(&base, "metadata.generation", "7");
    strategy.prepare_create(&mut created);
    assert_eq!((created.get("status"), created.at(&["metadata", "generation"])), (None, Some(&Doc::from(1))));
}

#[test]
fn metadata_is_checked() {
    let huge = format!("\"{}\"", "x".repeat(300_000));
    check_creation(
        "example.com",
        "Whatever",
        r#"{"metadata":{"name":"a.b"}}"#,
        &[
            ("metadata.labels", r#"{"-a":"b"}"#, "metadata.labels:Invalid"),
            ("metadata.labels", r#"{"a":"b c"}"#, "metadata.labels:Invalid"),
            ("metadata.annotations.a", &huge, "metadata.annotations:TooLong"),
            ("metadata.finalizers", r#"["a b"]"#, "metadata.finalizers[0]:Invalid"),
            (
                "metadata.ownerReferences",
                r#"[{"apiVersion":"v1","kind":"Pod","name":"x"}]"#,
                "metadata.ownerReferences[0].uid:Invalid",
            ),
            (
                "metadata.ownerReferences",
                r#"[{"apiVersion":"v1","kind":"Pod","name":"x","uid":"1","controller":true},{"apiVersion":"v1","kind":"Pod","name":"y","uid":"2","controller":true}]"#,
                "metadata.ownerReferences:Invalid",
            ),
        ],
    );
    let deleted = r#"{"metadata":{"name":"a","deletionTimestamp":"2024-01-01T00:00:00Z","finalizers":["x/a"]}}"#;
    check_change(
        "example.com",
        "Whatever",
        deleted,
        &[
            ("metadata.finalizers", "[]", ""),
            ("metadata.finalizers", r#"["x/a","x/b"]"#, "metadata.finalizers:Forbidden"),
            ("metadata.deletionTimestamp", "null", "metadata.deletionTimestamp:Invalid"),
        ],
    );
}

#[test]
fn services_are_checked() {
    let base = r#"{"metadata":{"name":"s"},"spec":{"clusterIP":"10.0.0.1","ports":[{"name":"a","port":80},{"name":"b","port":81,"targetPort":"web"}]}}"#;
    check_creation(
        "",
        "Service",
        base,
        &[
            ("metadata.name", r#""1s""#, "metadata.name:Invalid"),
            ("spec.ports", "[]", "spec.ports:Required"),
            ("spec.ports.0.name", r#""b""#, "spec.ports[1].name:Duplicate"),
            ("spec.ports.0.port", "0", "spec.ports[0].port:Invalid"),
            ("spec.ports.0.port", "81", "spec.ports[1]:Duplicate"),
            ("spec.ports.0.protocol", r#""ICMP""#, "spec.ports[0].protocol:NotSupported"),
            ("spec.ports.0.nodePort", "30000", "spec.ports[0].nodePort:Forbidden"),
            ("spec.type", r#""Cloud""#, "spec.type:NotSupported"),
            ("spec.type", r#""ExternalName""#, "spec.externalName:Required spec.clusterIPs:Forbidden"),
            ("spec.clusterIP", r#""10.0.0""#, "spec.clusterIPs[0]:Invalid"),
        ],
    );
    check_change(
        "",
        "Service",
        base,
        &[
            ("spec.clusterIP", "null", ""),
            ("spec.clusterIP", r#""10.0.0.2""#, "spec.clusterIPs[0]:Invalid"),
            ("spec.type", r#""NodePort""#, ""),
        ],
    );
    check_creation("", "Service", r#"{"metadata":{"name":"s"},"spec":{"clusterIP":"None"}}"#, &[]);
}

#[test]
fn configuration_is_checked() {
    let huge = format!("\"{}\"", "x".repeat((1 << 20) + 1));
    check_creation(
        "",
        "ConfigMap",
        r#"{"metadata":{"name":"c"},"data":{"a":"b"}}"#,
        &[
            ("data", r#"{"a/b":"c"}"#, "data[a/b]:Invalid"),
            ("data.b", &huge, ":TooLong"),
            ("binaryData", r#"{"a":"Yg=="}"#, "data[a]:Invalid"),
        ],
    );
    check_change(
        "",
        "ConfigMap",
        r#"{"metadata":{"name":"c"},"immutable":true,"data":{"a":"b"}}"#,
        &[
            ("data.a", r#""c""#, "data:Forbidden"),
            ("immutable", "null", "immutable:Forbidden"),
            ("metadata.labels", r#"{"a":"b"}"#, ""),
        ],
    );
    check_creation(
        "",
        "Secret",
        r#"{"metadata":{"name":"s"},"type":"Opaque"}"#,
        &[("type", r#""kubernetes.io/tls""#, "data[tls.crt]:Required data[tls.key]:Required")],
    );
    check_change(
        "",
        "Secret",
        r#"{"metadata":{"name":"s"},"type":"Opaque"}"#,
        &[("type", "null", ""), ("type", r#""other""#, "type:Invalid")],
    );
    let mut secret = parse(r#"{"metadata":{"name":"s"},"data":{"a":"eA=="},"stringData":{"a":"b","c":"d"}}"#);
    strategy_for("", "Secret").prepare_create(&mut secret);
    assert_eq!(secret.to_string(), r#"{"metadata":{"name":"s"},"data":{"a":"Yg==","c":"ZA=="}}"#);
}

#[test]
fn roles_slices_leases_and_events_are_checked() {
    check_creation(
        "rbac.authorization.k8s.io",
        "Role",
        r#"{"metadata":{"name":"a:b"},"rules":[{"verbs":["get"],"apiGroups":[""],"resources":["pods"]}]}"#,
        &[
            ("rules.0.verbs", "[]", "rules[0].verbs:Required"),
            ("rules.0.resources", "[]", "rules[0].resources:Required"),
            ("rules.0", r#"{"verbs":["get"],"nonResourceURLs":["/x"]}"#, "rules[0].nonResourceURLs:Invalid"),
        ],
    );
    let binding = r#"{"kind":"RoleBinding","metadata":{"name":"b"},"roleRef":{"kind":"Role","name":"r"},"subjects":[{"kind":"User","name":"u"}]}"#;
    check_creation(
        "rbac.authorization.k8s.io",
        "RoleBinding",
        binding,
        &[
            ("roleRef.kind", r#""Thing""#, "roleRef.kind:NotSupported"),
            ("subjects.0.kind", r#""Robot""#, "subjects[0].kind:NotSupported"),
        ],
    );
    check_change("rbac.authorization.k8s.io", "RoleBinding", binding, &[("roleRef.name", r#""q""#, "roleRef:Invalid")]);
    let slice = r#"{"metadata":{"name":"s"},"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"]}]}"#;
    check_creation(
        "discovery.k8s.io",
        "EndpointSlice",
        slice,
        &[
            ("addressType", r#""IPv5""#, "addressType:NotSupported"),
            (
                "endpoints.0.addresses",
                r#"["::1"]"#,
                "endpoints[0].addresses[0]:Invalid endpoints[0].addresses[0]:Invalid",
            ),
            ("endpoints.0.addresses", "[]", "endpoints[0].addresses:Required"),
            ("ports", r#"[{"port":1},{"port":2}]"#, "ports[1].name:Duplicate"),
        ],
    );
    check_creation(
        "coordination.k8s.io",
        "Lease",
        r#"{"metadata":{"name":"l"},"spec":{}}"#,
        &[("spec.leaseDurationSeconds", "0", "spec.leaseDurationSeconds:Invalid")],
    );
    check_creation(
        "",
        "Event",
        r#"{"metadata":{"name":"e","namespace":"x"},"involvedObject":{"namespace":"x"}}"#,
        &[("involvedObject.namespace", r#""y""#, "involvedObject.namespace:Invalid")],
    );
}

#[test]
fn namespaces_are_held_by_their_finalizer() {
    let mut namespace = parse(r#"{"metadata":{"name":"n"}}"#);
    let strategy = strategy_for("", "Namespace");
    strategy.prepare_create(&mut namespace);
    let expected = r#"{"metadata":{"name":"n"},"status":{"phase":"Active"},"spec":{"finalizers":["kubernetes"]}}"#;
    assert_eq!(namespace.to_string(), expected);
    let mut new = with(&namespace, "spec", "null");
    strategy.prepare_update(&mut new, &namespace);
    assert_eq!(new, namespace);
}

#[test]
fn selectable_fields() {
    let pod = parse(r#"{"metadata":{"name":"p"},"spec":{"nodeName":"n"}}"#);
    let field = |path: &str| strategy_for("", "Pod").fields(&pod, path);
    assert_eq!(field("spec.nodeName").as_deref(), Some("n"));
    assert_eq!(field("status.phase").as_deref(), Some(""));
    assert_eq!(field("spec.hostNetwork").as_deref(), Some("false"));
    assert_eq!(field("spec.volumes"), None);
    let event = parse(r#"{"metadata":{"name":"e"},"involvedObject":{"name":"p"}}"#);
    assert_eq!(strategy_for("", "Event").fields(&event, "involvedObject.name").as_deref(), Some("p"));
}
