//! Services and EndpointSlices for tests, as the API server would show them.
#![allow(dead_code, reason = "each test program uses a part")]

use std::net::SocketAddr;

use k8s_core::api::api::{core::v1::Service, discovery::v1::EndpointSlice};
use serde_json::{Value, json};

use crate::node::Pod;

/// What the proxy is told.
#[derive(Default)]
pub struct Cluster {
    pub services: Vec<Service>,
    pub slices: Vec<EndpointSlice>,
}

impl Cluster {
    /// A Service with one port at `address`; `port` has further fields of the port, as JSON.
    pub fn service(&mut self, name: &str, address: &str, port: &str) {
        let address: SocketAddr = address.parse().expect("an address with a port");
        let mut object = json!({
            "metadata": {"namespace": "default", "name": name},
            "spec": {
                "clusterIP": address.ip().to_string(),
                "clusterIPs": [address.ip().to_string()],
                "ports": [{"port": address.port(), "protocol": "TCP"}],
            },
        });
        merge(&mut object["spec"]["ports"][0], port);
        self.services.push(typed(object));
    }

    /// Merges `change`, as JSON, into the Service.
    pub fn edit(&mut self, name: &str, change: &str) {
        let service = self.services.iter_mut().find(|service| service.metadata.name.as_deref() == Some(name));
        let service = service.expect("the Service was made before");
        let mut object = serde_json::to_value(&*service).expect("a Service is JSON");
        merge(&mut object, change);
        *service = typed(object);
    }

    /// Port 80 of `pods`, all on this node, in place of the Service's former endpoints.
    pub fn endpoints(&mut self, service: &str, pods: &[&Pod]) {
        self.endpoints_on(service, &pods.iter().map(|pod| (*pod, "here")).collect::<Vec<_>>());
    }

    /// The same, with the name of each pod's node.
    pub fn endpoints_on(&mut self, service: &str, pods: &[(&Pod, &str)]) {
        let endpoints = pods.iter().map(|(pod, node)| json!({"addresses": [pod.addresses[0]], "nodeName": node}));
        self.slice(service, "IPv4", endpoints.collect());
    }

    /// One endpoint at any address and port, in place of the Service's former endpoints.
    pub fn endpoint_at(&mut self, service: &str, address: &str, port: u16) {
        self.slice(service, "IPv4", vec![json!({"addresses": [address], "nodeName": "here"})]);
        for port_of in self.slices.last_mut().into_iter().flat_map(|slice| slice.ports.iter_mut().flatten()) {
            port_of.port = Some(port.into());
        }
    }

    /// Port 80 of the pods' second addresses, in place of the Service's former endpoints.
    pub fn endpoints_v6(&mut self, service: &str, pods: &[&Pod]) {
        let endpoints = pods.iter().map(|pod| json!({"addresses": [pod.addresses[1]], "nodeName": "here"}));
        self.slice(service, "IPv6", endpoints.collect());
    }

    /// `count` Services, each with all of `pods` behind it.
    pub fn many(&mut self, count: usize, pods: &[&Pod]) {
        for i in 0..count {
            let name = format!("many-{i}");
            self.service(&name, &format!("10.98.{}.{}:80", i / 250, i % 250), "{}");
            let endpoints = pods.iter().map(|pod| json!({"addresses": [pod.addresses[0]], "nodeName": "here"}));
            self.slices.push(slice(&name, "IPv4", "TCP", endpoints.collect()));
        }
    }

    fn slice(&mut self, service: &str, family: &str, endpoints: Vec<Value>) {
        let owner = self.services.iter().find(|known| known.metadata.name.as_deref() == Some(service));
        let port = owner.and_then(|owner| owner.spec.as_ref()?.ports.as_ref()?.first());
        let protocol = port.and_then(|port| port.protocol.clone()).expect("the Service was made before");
        let new = slice(service, family, &protocol, endpoints);
        self.slices.retain(|old| old.metadata.name != new.metadata.name);
        self.slices.push(new);
    }
}

fn slice(service: &str, family: &str, protocol: &str, endpoints: Vec<Value>) -> EndpointSlice {
    typed(json!({
        "metadata": {
            "namespace": "default",
            "name": format!("{service}-{}", family.to_lowercase()),
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": family,
        "ports": [{"port": 80, "protocol": protocol}],
        "endpoints": endpoints,
    }))
}

fn typed<T: serde::de::DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("a test's object is well formed")
}

fn merge(into: &mut Value, change: &str) {
    fn step(into: &mut Value, change: Value) {
        match change {
            Value::Object(fields) if into.is_object() => {
                for (name, value) in fields {
                    step(&mut into[&name], value);
                }
            }
            value => *into = value,
        }
    }
    step(into, serde_json::from_str(change).expect("a test's change is JSON"));
}
