//! The server's well-known address: the Service `kube-dns` in `kube-system`, with this server behind it.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use k8s_core::{
    api::{
        api::{
            core::v1::{Service, ServicePort, ServiceSpec},
            discovery::v1::{Endpoint, EndpointConditions, EndpointPort, EndpointSlice},
        },
        apimachinery::pkg::{apis::meta::v1::ObjectMeta, util::intstr::IntOrString},
    },
    object::ObjectKey,
    status::ApiResult,
};
use k8s_reconcile::{Client, Informer, InformerScope, queue::BackOff};
use tokio::sync::Notify;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-dns";
/// Who manages the objects, as their managed fields and labels say.
const MANAGER: &str = "cluster-dns";
/// The port that every resolver asks.
const PORT: i32 = 53;
/// The ports' names and protocols, as upstream has them.
const PORTS: [(&str, &str); 2] = [("dns", "UDP"), ("dns-tcp", "TCP")];
/// How failed attempts are spaced.
const BACK_OFF: BackOff = BackOff { base: Duration::from_millis(200), max: Duration::from_secs(30) };

/// What is published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Published {
    /// The Service's cluster IP, which pods know as their name server.
    pub cluster_ip: IpAddr,
    /// Where the server answers, UDP and TCP: what the cluster IP leads to. Not on the loopback.
    pub server: SocketAddr,
    /// The node that the server runs on; each server has a slice of its own.
    pub node: String,
}

/// Makes the Service and the server's EndpointSlice, and again should somebody remove or change them, for as long as the
/// future is polled.
///
/// A Service of that name that selects pods is somebody else's: then nothing is written. Needs `get`, `create` and `patch`
/// of both kinds in `kube-system`, and `list` and `watch` of both. Cancel-safe: what is published stays.
pub async fn publish(client: &Client, published: &Published) {
    let services = client.informer::<Service>(InformerScope::all());
    let slices = client.informer::<EndpointSlice>(InformerScope::all());
    let changed = Arc::new(Notify::new());
    let names = [NAME.to_owned(), published.slice_name()];
    let told = changed.clone();
    let handler: k8s_reconcile::informer::Handler = Arc::new(move |delta| {
        let meta = &delta.object().meta;
        if meta.namespace == NAMESPACE && names.iter().any(|name| *name == meta.name) {
            told.notify_one();
        }
    });
    let _services = services.subscribe(handler.clone());
    let _slices = slices.subscribe(handler);
    services.synced().await;
    slices.synced().await;
    let mut failures = 0;
    loop {
        match published.ensure(client, &services, &slices).await {
            Ok(()) => {
                failures = 0;
                changed.notified().await;
            }
            Err(error) => {
                tracing::warn!(%error, "the service kube-system/kube-dns is not as it should be");
                client.env().sleep(client.env().jitter(BACK_OFF.wait(failures), 0.5)).await;
                failures += 1;
            }
        }
    }
}

impl Published {
    async fn ensure(
        &self,
        client: &Client,
        services: &Informer<Service>,
        slices: &Informer<EndpointSlice>,
    ) -> ApiResult<()> {
        let service = services.get(&ObjectKey::new(NAMESPACE, NAME));
        let slice = slices.get(&ObjectKey::new(NAMESPACE, self.slice_name()));
        let (service, slice) = self.missing(service.as_deref(), slice.as_deref());
        if let Some(service) = service {
            client.namespaced::<Service>(NAMESPACE).apply(MANAGER, service).await?;
        }
        if let Some(slice) = slice {
            client.namespaced::<EndpointSlice>(NAMESPACE).apply(MANAGER, slice).await?;
        }
        Ok(())
    }

    /// What has to be written, given what is there.
    fn missing(
        &self,
        service: Option<&Service>,
        slice: Option<&EndpointSlice>,
    ) -> (Option<Service>, Option<EndpointSlice>) {
        if service.is_some_and(selects) {
            tracing::info!("the service kube-system/kube-dns selects pods of somebody else; leaving it alone");
            return (None, None);
        }
        let service = (!service.is_some_and(|found| self.is_service(found))).then(|| self.service());
        let slice = (!slice.is_some_and(|found| self.is_slice(found))).then(|| self.slice());
        (service, slice)
    }

    fn slice_name(&self) -> String {
        format!("{NAME}-{}", self.node)
    }

    fn family(&self) -> &'static str {
        if self.server.is_ipv4() { "IPv4" } else { "IPv6" }
    }

    fn service(&self) -> Service {
        let ports = PORTS.map(|(name, protocol)| ServicePort {
            name: Some(name.into()),
            protocol: Some(protocol.into()),
            port: PORT,
            target_port: Some(IntOrString::Int(self.server.port().into())),
            ..ServicePort::default()
        });
        let labels =
            [("k8s-app", "kube-dns"), ("kubernetes.io/cluster-service", "true"), ("kubernetes.io/name", "KubeDNS")];
        Service {
            metadata: metadata(NAME, &labels),
            spec: Some(ServiceSpec {
                cluster_ip: Some(self.cluster_ip.to_string()),
                ports: Some(ports.into()),
                ..ServiceSpec::default()
            }),
            ..Service::default()
        }
    }

    /// Whether a Service already is as it should be, in what matters. Its cluster IP cannot be changed.
    fn is_service(&self, found: &Service) -> bool {
        let spec = found.spec.as_ref();
        let ports = spec.and_then(|spec| spec.ports.as_deref()).unwrap_or_default();
        let has = |(name, protocol): (&str, &str)| {
            ports.iter().any(|port| {
                let is_named = port.name.as_deref() == Some(name) && port.protocol.as_deref() == Some(protocol);
                is_named && port.port == PORT
            })
        };
        PORTS.into_iter().all(has)
            && spec.and_then(|spec| spec.cluster_ip.as_deref()) == Some(&self.cluster_ip.to_string())
    }

    fn slice(&self) -> EndpointSlice {
        let labels = [("kubernetes.io/service-name", NAME), ("endpointslice.kubernetes.io/managed-by", MANAGER)];
        EndpointSlice {
            metadata: metadata(&self.slice_name(), &labels),
            address_type: self.family().into(),
            endpoints: Some(vec![self.endpoint()]),
            ports: Some(self.ports().into()),
        }
    }

    fn endpoint(&self) -> Endpoint {
        let conditions = EndpointConditions { ready: Some(true), serving: Some(true), terminating: Some(false) };
        Endpoint {
            addresses: vec![self.server.ip().to_string()],
            conditions: Some(conditions),
            node_name: Some(self.node.clone()),
            ..Endpoint::default()
        }
    }

    fn ports(&self) -> [EndpointPort; 2] {
        PORTS.map(|(name, protocol)| EndpointPort {
            name: Some(name.into()),
            protocol: Some(protocol.into()),
            port: Some(self.server.port().into()),
            ..EndpointPort::default()
        })
    }

    fn is_slice(&self, found: &EndpointSlice) -> bool {
        let labels = found.metadata.labels.as_ref();
        let is_linked = labels.and_then(|labels| labels.get("kubernetes.io/service-name")).is_some_and(|to| to == NAME);
        is_linked
            && found.address_type == self.family()
            && found.endpoints.as_deref() == Some(&[self.endpoint()])
            && found.ports.as_deref() == Some(&self.ports())
    }
}

fn selects(service: &Service) -> bool {
    let selector = service.spec.as_ref().and_then(|spec| spec.selector.as_ref());
    selector.is_some_and(|selector| !selector.is_empty())
}

fn metadata(name: &str, labels: &[(&str, &str)]) -> ObjectMeta {
    ObjectMeta {
        namespace: Some(NAMESPACE.into()),
        name: Some(name.into()),
        labels: Some(labels.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()),
        ..ObjectMeta::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn published(server: &str) -> Published {
        Published { cluster_ip: [10, 96, 0, 10].into(), server: server.parse().unwrap(), node: "n1".into() }
    }

    #[test]
    fn what_is_missing_or_wrong_is_written() {
        let us = published("10.1.0.1:10053");
        let (service, slice) = us.missing(None, None);
        let (service, slice) = (service.unwrap(), slice.unwrap());
        assert_eq!(us.missing(Some(&service), Some(&slice)), (None, None));
        // After a restart on another port, the Service stays as it is.
        let moved = published("10.1.0.1:10054");
        let (same, other) = moved.missing(Some(&service), Some(&slice));
        assert_eq!((same, other.as_ref()), (None, Some(&moved.slice())));
        let six = published("[fd00::1]:10053").slice();
        assert_eq!(six.address_type, "IPv6");
        let mut without_tcp = service.clone();
        without_tcp.spec.as_mut().unwrap().ports.as_mut().unwrap().pop();
        assert_eq!(us.missing(Some(&without_tcp), Some(&slice)), (Some(service.clone()), None));
        let mut unlinked = slice.clone();
        unlinked.metadata.labels = None;
        assert_eq!(us.missing(Some(&service), Some(&unlinked)), (None, Some(slice)));
    }

    #[test]
    fn an_add_on_is_left_alone() {
        let us = published("10.1.0.1:10053");
        let mut add_on = us.service();
        let spec = add_on.spec.as_mut().unwrap();
        spec.ports = None;
        spec.selector = Some([("k8s-app".to_owned(), "kube-dns".to_owned())].into());
        assert_eq!(us.missing(Some(&add_on), None), (None, None));
    }
}
