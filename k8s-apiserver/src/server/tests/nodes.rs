//! What a node's identity may write, and connections to nodes.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use futures::io::Cursor;
use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiRequest, Caller, Options, PatchKind, RequestBody, ResponseBody, Verb},
    seam::node::{ByteStream, NodeAddress, NodeDialer, PodDialer},
    status::ApiResult,
};
use parking_lot::Mutex;

use super::{
    crud::example,
    fixture::{Fixture, built, server, short, target},
};

fn node(name: &str) -> Caller {
    Caller::new(format!("system:node:{name}"), &["system:nodes"])
}

fn request(verb: Verb, path: &str, namespace: &str, body: Doc) -> ApiRequest {
    let body = if verb == Verb::Patch { RequestBody::Patch(PatchKind::Merge, body) } else { RequestBody::Doc(body) };
    ApiRequest { verb, target: target(path, namespace), body, ..ApiRequest::default() }
}

async fn pod_on(api: &Fixture, name: &str, node: &str) -> Doc {
    let mut pod = example("pods");
    pod.set_at(&["metadata", "name"], name.into());
    api.create("pods", "default", pod).await.unwrap();
    let binding = doc!({"target": {"kind": "Node", "name": node}});
    api.ask(request(Verb::Create, &format!("pods/{name}/binding"), "default", binding)).await.unwrap();
    api.get(&format!("pods/{name}"), "default").await.unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_node_registers_itself_and_reports_on_its_own_pods() {
    let api = built(|builder| builder).await;
    let one = api.acting(node("n1"));
    let itself = doc!({"metadata": {"name": "n1", "labels": {"kubernetes.io/hostname": "n1", "zone": "a"}}});
    let created = one.create("nodes", "", itself).await.unwrap();
    assert_eq!(created.str_at(&["spec", "taints", "0", "key"]), "node.kubernetes.io/not-ready");
    let ready = doc!({"status": {"conditions": [{"type": "Ready", "status": "True"}]}});
    one.patch("nodes/n1/status", "", PatchKind::Merge, ready).await.unwrap();
    one.create("leases", "kube-node-lease", doc!({"metadata": {"name": "n1"}, "spec": {"holderIdentity": "n1"}}))
        .await
        .unwrap();
    pod_on(&api, "p", "n1").await;
    let mut pod = one.get("pods/p", "default").await.unwrap();
    pod.set_at(&["status", "phase"], "Running".into());
    one.update("pods/p/status", "default", pod).await.unwrap();
    one.delete("pods/p", "default", Options { grace_period_seconds: Some(0), ..Options::default() }).await.unwrap();
    assert!(api.get("pods/p", "default").await.unwrap_err().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn a_node_writes_about_nobody_else() {
    let api = server().await;
    let one = api.acting(node("n1"));
    for name in ["n1", "n2"] {
        api.create("nodes", "", doc!({"metadata": {"name": name}})).await.unwrap();
    }
    let pod = pod_on(&api, "theirs", "n2").await;
    pod_on(&api, "own", "n1").await;
    let uid = pod.str_at(&["metadata", "uid"]);
    let mirror = |extra: Doc| {
        let mut pod = example("pods");
        pod.set_at(&["metadata"], doc!({"name": "m", "annotations": {"kubernetes.io/config.mirror": "x"}}));
        pod.set_at(&["spec", "nodeName"], "n1".into());
        for (field, value) in extra.as_object().unwrap().iter() {
            pod.set_at(&["spec", field], value.clone());
        }
        pod
    };
    let volume = |source: Doc| doc!({"volumes": [source]});
    let cases = [
        request(Verb::Create, "nodes", "", doc!({"metadata": {"name": "n3"}})),
        request(Verb::Patch, "nodes/n2/status", "", doc!({"status": {}})),
        request(Verb::Patch, "nodes/n1", "", doc!({"metadata": {"labels": {"node-restriction.kubernetes.io/x": "y"}}})),
        request(Verb::Patch, "nodes/n1", "", doc!({"metadata": {"labels": {"node-role.kubernetes.io/x": "y"}}})),
        request(Verb::Patch, "nodes/n1", "", doc!({"spec": {"taints": [{"key": "x", "effect": "NoSchedule"}]}})),
        request(Verb::Create, "pods", "default", {
            let mut pod = example("pods");
            pod.set_at(&["metadata", "name"], "x".into());
            pod
        }),
        request(Verb::Create, "pods", "default", mirror(doc!({"nodeName": "n2"}))),
        request(Verb::Create, "pods", "default", mirror(doc!({"serviceAccountName": "default"}))),
        request(Verb::Create, "pods", "default", mirror(volume(doc!({"name": "v", "secret": {"secretName": "s"}})))),
        request(Verb::Create, "pods", "default", mirror(volume(doc!({"name": "v", "configMap": {"name": "s"}})))),
        request(
            Verb::Create,
            "pods",
            "default",
            mirror(volume(doc!({"name": "v", "persistentVolumeClaim": {"claimName": "s"}}))),
        ),
        request(
            Verb::Create,
            "pods",
            "default",
            mirror(doc!({"resourceClaims": [{"name": "c", "resourceClaimName": "r"}]})),
        ),
        request(Verb::Patch, "pods/theirs/status", "default", doc!({"status": {"phase": "Failed"}})),
        request(Verb::Patch, "pods/own", "default", doc!({"metadata": {"labels": {"a": "b"}}})),
        request(Verb::Delete, "pods/theirs", "default", doc!({})),
        request(Verb::Create, "pods/theirs/eviction", "default", doc!({"metadata": {"name": "theirs"}})),
        request(Verb::Create, "serviceaccounts/default/token", "default", doc!({"spec": {}})),
        request(
            Verb::Create,
            "serviceaccounts/default/token",
            "default",
            doc!({"spec": {"boundObjectRef": {
                "kind": "Pod", "apiVersion": "v1", "name": "theirs", "uid": uid
            }}}),
        ),
        request(Verb::Create, "leases", "kube-node-lease", doc!({"metadata": {"name": "n2"}})),
        request(Verb::Create, "leases", "default", doc!({"metadata": {"name": "n1"}})),
    ];
    for case in cases {
        let error = one.refused(case.clone()).await;
        assert_eq!(error.code(), 403, "{}: {error}", short(&case));
    }
    let mut allowed = mirror(doc!({}));
    allowed.set_at(&["metadata", "name"], "static".into());
    one.create("pods", "default", allowed).await.unwrap();
}

/// Remembers where it was asked to connect.
#[derive(Default)]
struct Dialer(Mutex<Vec<NodeAddress>>);

#[async_trait]
impl NodeDialer for Dialer {
    async fn dial(&self, node: &NodeAddress) -> ApiResult<Box<dyn ByteStream>> {
        self.0.lock().push(node.clone());
        Ok(Box::new(Cursor::new(Vec::new())))
    }
}

async fn connect(api: &Fixture, path: &str, query: &str, rest: &str) -> Result<String, (u16, String)> {
    let namespace = if path.starts_with("nodes") { "" } else { "default" };
    let options = Options { connect_query: query.into(), connect_path: rest.into(), ..Options::default() };
    match api.call(Verb::Connect, path, namespace, options, RequestBody::None).await {
        Ok(answer) => match answer.body {
            ResponseBody::Connection(connection) => Ok(format!("{} {}", connection.host, connection.path_and_query)),
            other => panic!("{other:?}"),
        },
        Err(error) => Err((error.code(), error.to_string())),
    }
}

#[tokio::test(start_paused = true)]
async fn connections_lead_to_the_node_in_its_own_words() {
    let dialer = Arc::new(Dialer::default());
    let api = built(|builder| builder.node_dialer(dialer.clone())).await;
    let status = doc!({
        "addresses": [{"type": "Hostname", "address": "h"}, {"type": "InternalIP", "address": "192.0.2.1"}],
        "daemonEndpoints": {"kubeletEndpoint": {"Port": 10251}}
    });
    api.create("nodes", "", doc!({"metadata": {"name": "n1"}, "status": status})).await.unwrap();
    pod_on(&api, "p", "n1").await;
    let host = "192.0.2.1:10251";
    let cases = [
        ("pods/p/log", "follow=true&container=c", "", "/containerLogs/default/p/c?follow=true"),
        ("pods/p/log", "", "", "/containerLogs/default/p/c"),
        ("pods/p/exec", "command=ls&stdout=true&stdin=true", "", "/exec/default/p/c?command=ls&input=1&output=1"),
        ("pods/p/attach", "stdout=1&tty=true", "", "/attach/default/p/c?output=1&tty=1"),
        ("pods/p/portforward", "ports=80", "", "/portForward/default/p?port=80"),
        ("nodes/n1/proxy", "x=y", "/stats/summary", "/stats/summary?x=y"),
    ];
    for (path, query, rest, expected) in cases {
        assert_eq!(connect(&api, path, query, rest).await, Ok(format!("{host} {expected}")), "{path}");
    }
    assert_eq!(dialer.0.lock().len(), cases.len());
    let refused = [
        ("pods/p/exec", "command=ls&stdout=1&container=x", "", 400, "container x is not valid for pod p"),
        ("pods/p/exec", "command=ls", "", 400, "you must specify at least 1 of stdin, stdout, stderr"),
        ("pods/q/log", "", "", 404, "pods \"q\" not found"),
        ("nodes/n1/proxy", "", "/exec/default/p/c", 403, "through the pods"),
        ("nodes/n1/proxy", "", "/%65xec/default/p/c", 403, "through the pods"),
        ("nodes/n1/proxy", "", "/x/../run/default/p/c", 403, "through the pods"),
    ];
    for (path, query, rest, code, why) in refused {
        let (found, message) = connect(&api, path, query, rest).await.unwrap_err();
        assert_eq!(found, code, "{path} {rest}: {message}");
        assert!(message.contains(why), "{message}");
    }
    assert_eq!(dialer.0.lock().len(), cases.len(), "what is refused connects nowhere");
}

/// Remembers where it was asked to connect, and whether by TLS.
#[derive(Default)]
struct Pods(Mutex<Vec<(SocketAddr, bool)>>);

#[async_trait]
impl PodDialer for Pods {
    async fn dial(&self, address: SocketAddr, tls: bool) -> ApiResult<Box<dyn ByteStream>> {
        self.0.lock().push((address, tls));
        Ok(Box::new(Cursor::new(Vec::new())))
    }
}

async fn pod_with_address(api: &Fixture, name: &str, ip: &str) {
    pod_on(api, name, "n1").await;
    let status = doc!({"status": {"podIP": ip, "podIPs": [{"ip": ip}]}});
    api.patch(&format!("pods/{name}/status"), "default", PatchKind::Merge, status).await.unwrap();
}

#[tokio::test(start_paused = true)]
async fn the_proxy_leads_to_pods_and_to_nothing_else() {
    let dialer = Arc::new(Pods::default());
    let api = built(|builder| builder.pod_dialer(dialer.clone())).await;
    pod_with_address(&api, "web", "10.0.0.1").await;
    pod_with_address(&api, "loopback", "127.0.0.1").await;
    pod_with_address(&api, "metadata", "169.254.169.254").await;
    pod_on(&api, "young", "n1").await;
    let service = |name: &str| {
        doc!({"metadata": {"name": name}, "spec": {"ports": [
            {"name": "http", "port": 80, "targetPort": 8080}, {"name": "admin", "port": 81, "targetPort": 8081}]}})
    };
    let endpoint = |pod: &str, ip: &str, ready: bool| doc!({"addresses": [ip], "conditions": {"ready": ready}, "targetRef": {"kind": "Pod", "name": pod}});
    let slice = |service: &str, endpoints: Doc| {
        doc!({
            "metadata": {"name": format!("{service}-1"), "labels": {"kubernetes.io/service-name": service}},
            "addressType": "IPv4", "endpoints": endpoints,
            "ports": [{"name": "http", "port": 8080}, {"name": "admin", "port": 8081}]
        })
    };
    for (name, endpoints) in [
        ("web", doc!([endpoint("web", "10.0.0.1", true), endpoint("young", "10.0.0.9", false)])),
        // Nobody who may write a slice leads the server anywhere but to pods.
        ("forged", doc!([endpoint("web", "10.0.0.2", true), endpoint("none", "10.0.0.3", true)])),
    ] {
        api.create("services", "default", service(name)).await.unwrap();
        api.create("endpointslices", "default", slice(name, endpoints)).await.unwrap();
    }
    let reached = [
        ("pods/web/proxy", "10.0.0.1:80", false),
        ("pods/web:8080/proxy", "10.0.0.1:8080", false),
        ("pods/https:web:/proxy", "10.0.0.1:443", true),
        ("services/web:http/proxy", "10.0.0.1:8080", false),
        ("services/web:81/proxy", "10.0.0.1:8081", false),
        ("services/https:web:admin/proxy", "10.0.0.1:8081", true),
    ];
    for (path, address, tls) in reached {
        assert_eq!(connect(&api, path, "a=b", "/x%20y").await, Ok(format!("{address} /x%20y?a=b")), "{path}");
        assert_eq!(dialer.0.lock().pop(), Some((address.parse().unwrap(), tls)), "{path}");
    }
    let refused = [
        ("pods/loopback/proxy", 403, "not the address of a pod"),
        ("pods/metadata:80/proxy", 403, "not the address of a pod"),
        ("pods/young/proxy", 503, "no address"),
        ("pods/web:http/proxy", 400, "no port"),
        ("pods/none:80/proxy", 404, "\"none\" not found"),
        ("pods/ftp:web:80/proxy", 400, "[scheme:]name[:port]"),
        ("services/web:82/proxy", 503, "no service port"),
        ("services/web/proxy", 503, "no endpoints"),
        ("services/forged:http/proxy", 503, "no endpoints"),
    ];
    for (path, code, why) in refused {
        let (found, message) = connect(&api, path, "", "/").await.unwrap_err();
        assert_eq!(found, code, "{path}: {message}");
        assert!(message.contains(why), "{path}: {message}");
    }
    assert_eq!(*dialer.0.lock(), [], "what is refused connects nowhere");
}
