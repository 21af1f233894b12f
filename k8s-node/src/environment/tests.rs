//! What containers are told, case by case.

use std::collections::BTreeMap;

use k8s_core::{
    api::api::core::v1::{Pod, Service},
    quantity::Quantity,
};
use serde_json::{Value, json};

use super::*;
use crate::plan::parts;

fn pod(spec: Value) -> Pod {
    let meta = json!({"name": "p", "namespace": "n", "uid": "u", "labels": {"app": "web", "tier": "a\"b"},
        "annotations": {"note": "x\ny"}});
    serde_json::from_value(json!({"metadata": meta, "spec": spec})).unwrap()
}

fn sources() -> Sources {
    let map = json!({"metadata": {}, "data": {"key": "value", "bad=key": "x"}});
    let secret = json!({"metadata": {}, "data": {"password": "aHVudGVyMg=="}});
    let service = |namespace: &str, name: &str, ip: &str| -> Service {
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace},
            "spec": {"clusterIP": ip, "ports": [{"name": "http", "port": 80}, {"port": 53, "protocol": "UDP"}]}}))
        .unwrap()
    };
    let services = [
        service("n", "my-web", "10.96.0.7"),
        service("n", "headless", "None"),
        service("other", "hidden", "10.96.0.8"),
        service("default", "kubernetes", "10.96.0.1"),
    ];
    Sources {
        config_maps: [("map".to_owned(), serde_json::from_value(map).unwrap())].into(),
        secrets: [("secret".to_owned(), serde_json::from_value(secret).unwrap())].into(),
        services: services.iter().filter_map(ServiceLink::of).collect(),
    }
}

fn told(container: Value, extra: Value) -> Result<String, String> {
    let mut spec = json!({"containers": [container]});
    spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    let pod = pod(spec);
    let allocatable: BTreeMap<String, Quantity> = [("memory".to_owned(), Quantity::parse("8Gi").unwrap())].into();
    let (host, ips) = (["10.0.0.1".to_owned()], ["10.1.0.5".to_owned(), "fd00::5".to_owned()]);
    let context = FieldContext { node_name: "node", host_ips: &host, pod_ips: &ips, allocatable: &allocatable };
    let all = parts(&pod);
    let found = variables(&pod, &all[0].container, &sources(), &context).map_err(|error| error.message)?;
    Ok(found.into_iter().map(|(name, value)| format!("{name}={value}\n")).collect())
}

#[test]
fn services_and_hostname_are_always_told() {
    insta::assert_snapshot!(told(json!({"name": "c"}), json!({})).unwrap(), @r#"
    HOSTNAME=p
    KUBERNETES_SERVICE_HOST=10.96.0.1
    KUBERNETES_SERVICE_PORT=80
    KUBERNETES_PORT=tcp://10.96.0.1:80
    KUBERNETES_SERVICE_PORT_HTTP=80
    KUBERNETES_PORT_80_TCP=tcp://10.96.0.1:80
    KUBERNETES_PORT_80_TCP_PROTO=tcp
    KUBERNETES_PORT_80_TCP_PORT=80
    KUBERNETES_PORT_80_TCP_ADDR=10.96.0.1
    KUBERNETES_PORT_53_UDP=udp://10.96.0.1:53
    KUBERNETES_PORT_53_UDP_PROTO=udp
    KUBERNETES_PORT_53_UDP_PORT=53
    KUBERNETES_PORT_53_UDP_ADDR=10.96.0.1
    MY_WEB_SERVICE_HOST=10.96.0.7
    MY_WEB_SERVICE_PORT=80
    MY_WEB_PORT=tcp://10.96.0.7:80
    MY_WEB_SERVICE_PORT_HTTP=80
    MY_WEB_PORT_80_TCP=tcp://10.96.0.7:80
    MY_WEB_PORT_80_TCP_PROTO=tcp
    MY_WEB_PORT_80_TCP_PORT=80
    MY_WEB_PORT_80_TCP_ADDR=10.96.0.7
    MY_WEB_PORT_53_UDP=udp://10.96.0.7:53
    MY_WEB_PORT_53_UDP_PROTO=udp
    MY_WEB_PORT_53_UDP_PORT=53
    MY_WEB_PORT_53_UDP_ADDR=10.96.0.7
    "#);
    let declined = told(json!({"name": "c"}), json!({"enableServiceLinks": false})).unwrap();
    assert!(declined.contains("KUBERNETES_SERVICE_HOST") && !declined.contains("MY_WEB"), "{declined}");
}

#[test]
fn every_kind_of_reference_is_resolved() {
    let container = json!({"name": "c", "resources": {"limits": {"cpu": "1500m"}, "requests": {"memory": "100Mi"}},
        "envFrom": [{"prefix": "M_", "configMapRef": {"name": "map"}}, {"secretRef": {"name": "secret"}},
            {"configMapRef": {"name": "none", "optional": true}}],
        "env": [
            {"name": "PLAIN", "value": "$(M_key)/$(password)/$(NONE)/$$(PLAIN)"},
            {"name": "MY_WEB_SERVICE_HOST", "value": "own"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            {"name": "HOST_IP", "valueFrom": {"fieldRef": {"fieldPath": "status.hostIP"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "MILLI", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
            {"name": "MEMORY", "valueFrom": {"resourceFieldRef": {"resource": "requests.memory", "divisor": "1Mi"}}},
            {"name": "ALL", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Gi"}}},
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "map", "key": "key"}}},
            {"name": "SECRET", "valueFrom": {"secretKeyRef": {"name": "secret", "key": "password"}}},
            {"name": "ABSENT", "valueFrom": {"secretKeyRef": {"name": "none", "key": "x", "optional": true}}}]});
    insta::assert_snapshot!(told(container, json!({"enableServiceLinks": false})).unwrap(), @r#"
    HOSTNAME=p
    KUBERNETES_SERVICE_HOST=10.96.0.1
    KUBERNETES_SERVICE_PORT=80
    KUBERNETES_PORT=tcp://10.96.0.1:80
    KUBERNETES_SERVICE_PORT_HTTP=80
    KUBERNETES_PORT_80_TCP=tcp://10.96.0.1:80
    KUBERNETES_PORT_80_TCP_PROTO=tcp
    KUBERNETES_PORT_80_TCP_PORT=80
    KUBERNETES_PORT_80_TCP_ADDR=10.96.0.1
    KUBERNETES_PORT_53_UDP=udp://10.96.0.1:53
    KUBERNETES_PORT_53_UDP_PROTO=udp
    KUBERNETES_PORT_53_UDP_PORT=53
    KUBERNETES_PORT_53_UDP_ADDR=10.96.0.1
    M_key=value
    password=hunter2
    PLAIN=value/hunter2/$(NONE)/$(PLAIN)
    MY_WEB_SERVICE_HOST=own
    NAME=p
    LABEL=web
    IPS=10.1.0.5,fd00::5
    HOST_IP=10.0.0.1
    CPU=2
    MILLI=1500
    MEMORY=100
    ALL=8
    KEY=value
    SECRET=hunter2
    "#);
}

#[test]
fn what_is_missing_is_named() {
    let table = [
        (json!({"configMapKeyRef": {"name": "none", "key": "x"}}), "configmap \"none\" not found"),
        (json!({"configMapKeyRef": {"name": "map", "key": "x"}}), "couldn't find key x in ConfigMap n/map"),
        (json!({"secretKeyRef": {"name": "none", "key": "x"}}), "secret \"none\" not found"),
        (json!({"secretKeyRef": {"name": "secret", "key": "x"}}), "couldn't find key x in Secret n/secret"),
        (json!({"fieldRef": {"fieldPath": "spec.x"}}), "unsupported fieldPath: spec.x"),
        (json!({"resourceFieldRef": {"resource": "limits.cpu", "containerName": "z"}}), "container z not found"),
        (
            json!({"fileKeyRef": {"volumeName": "v", "path": "p", "key": "k"}}),
            "env E: this kind of valueFrom is not supported by this node",
        ),
    ];
    for (from, message) in table {
        let container = json!({"name": "c", "env": [{"name": "E", "valueFrom": from}]});
        assert_eq!(told(container, json!({})), Err(message.to_owned()));
    }
    let from = json!({"name": "c", "envFrom": [{"secretRef": {"name": "none"}}]});
    assert_eq!(told(from, json!({})), Err("secret \"none\" not found".to_owned()));
}

#[test]
fn hosts_files_name_the_pod_and_its_aliases() {
    let aliases = json!([{"ip": "1.2.3.4", "hostnames": ["a", "b"]}]);
    let one = pod(json!({"containers": [], "hostAliases": aliases, "hostname": "web", "subdomain": "sub"}));
    insta::assert_snapshot!(hosts_file(&one, &["10.1.0.5".into()], "node", "cluster.local", "x"), @r#"
    # Kubernetes-managed hosts file.
    127.0.0.1	localhost
    ::1	localhost ip6-localhost ip6-loopback
    fe00::	ip6-localnet
    fe00::	ip6-mcastprefix
    fe00::1	ip6-allnodes
    fe00::2	ip6-allrouters
    10.1.0.5	web.sub.n.svc.cluster.local	web

    # Entries added by HostAliases.
    1.2.3.4	a	b
    "#);
    let host = pod(json!({"containers": [], "hostNetwork": true}));
    let text = hosts_file(&host, &[], "node", "cluster.local", "127.0.0.1 localhost\n");
    assert_eq!(text, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 localhost\n");
}

#[test]
fn names_are_resolved_by_policy() {
    let settings = |servers: &[&str]| DnsSettings {
        cluster_servers: servers.iter().map(|server| server.parse().unwrap()).collect(),
        cluster_domain: "cluster.local".into(),
        host_resolv_conf: "# made by hand\nnameserver 9.9.9.9\nsearch corp.example\noptions timeout:1\n".into(),
    };
    let host = "search corp.example\nnameserver 9.9.9.9\noptions timeout:1\n";
    let cluster = "search n.svc.cluster.local svc.cluster.local cluster.local corp.example\n\
        nameserver 10.96.0.10\noptions ndots:5\n";
    let table = [
        (json!({}), &["10.96.0.10"][..], cluster),
        (json!({}), &[], host),
        (json!({"dnsPolicy": "Default"}), &["10.96.0.10"], host),
        (json!({"hostNetwork": true}), &["10.96.0.10"], host),
        (json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"}), &["10.96.0.10"], cluster),
        (
            json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1"], "searches": ["a", "a"],
                "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}}),
            &[],
            "search a\nnameserver 1.1.1.1\noptions ndots:2 edns0\n",
        ),
    ];
    for (extra, servers, expected) in table {
        let mut spec = json!({"containers": []});
        spec.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        assert_eq!(resolv_conf(&pod(spec.clone()), &settings(servers)).as_deref(), Ok(expected), "{spec}");
    }
}

#[test]
fn host_names_are_short_and_end_well() {
    let mut long = pod(json!({"containers": []}));
    long.metadata.name = Some(format!("{}-tail", "a".repeat(62)));
    assert_eq!(hostname(&long, "node"), "a".repeat(62));
    assert_eq!(hostname(&pod(json!({"containers": [], "hostNetwork": true})), "node"), "node");
}

#[test]
fn security_follows_pod_and_container() {
    let spec = json!({
        "securityContext": {"runAsUser": 1000, "fsGroup": 7, "supplementalGroups": [8],
            "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "image": "i", "command": ["sh", "$(A)"], "args": ["$(NONE)"], "securityContext": {
            "runAsGroup": 5, "allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true,
            "capabilities": {"add": ["CAP_NET_ADMIN"], "drop": ["ALL"]}}}]});
    let pod = pod(spec);
    let all = parts(&pod);
    let facts = ContainerFacts { id: "x".into(), env: vec![("A".into(), "b".into())], ..ContainerFacts::default() };
    let spec = container_spec(&pod, &all[0], facts).unwrap();
    assert_eq!(spec.command, ["sh", "b"]);
    assert_eq!(spec.args, ["$(NONE)"]);
    assert_eq!((spec.user.uid, spec.user.gid, spec.user.supplemental_groups), (Some(1000), Some(5), vec![8, 7]));
    assert_eq!(spec.security.add_capabilities, ["NET_ADMIN"]);
    assert!(spec.security.no_new_privileges && spec.security.read_only_rootfs);
    assert_eq!(spec.security.seccomp, crate::runtime::Seccomp::RuntimeDefault);
}

#[test]
fn run_as_non_root_is_verified_against_the_image() {
    let pod = pod(json!({"securityContext": {"runAsNonRoot": true}, "containers": [{"name": "c"}]}));
    let all = parts(&pod);
    let check = |user: &str| {
        let image = crate::runtime::ImageInfo { user: user.into(), ..Default::default() };
        let facts = ContainerFacts { image, ..ContainerFacts::default() };
        container_spec(&pod, &all[0], facts).map(drop).map_err(|error| error.message)
    };
    assert_eq!(check("1000:1"), Ok(()));
    let about = "(pod: \"p\", container: \"c\")";
    assert_eq!(check(""), Err(format!("container has runAsNonRoot and image will run as root {about}")));
    let named = format!(
        "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root {about}"
    );
    assert_eq!(check("web"), Err(named));
}
