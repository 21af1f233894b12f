//! Webhooks as objects of the API name them: whom a `clientConfig` means, and asking them.
//!
//! A Service is called at one of its ready endpoints, because whoever embeds a server may have no service proxy; at its
//! cluster IP where no EndpointSlice belongs to it. Its certificate must be for `NAME.NAMESPACE.svc` either way.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use k8s_core::{
    doc::Doc,
    env::Env,
    object::{Object, ObjectKey},
    seam::webhook::{WebhookCaller, WebhookEndpoint, WebhookError, WebhookTls},
};

use crate::admission::Cluster;

/// The label by which a slice belongs to a service.
const SERVICE_LABEL: &str = "kubernetes.io/service-name";
/// The port of a service reference that names none.
const DEFAULT_PORT: u16 = 443;

/// Calls webhooks for a server.
pub struct Webhooks {
    env: Env,
    caller: Option<Arc<dyn WebhookCaller>>,
}

/// Whom to call: a `clientConfig` of a webhook configuration or of a custom resource's conversion.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ClientConfig {
    place: Place,
    tls: Arc<WebhookTls>,
}

#[derive(Clone, Debug, PartialEq)]
enum Place {
    Url(String),
    Service(ServiceReference),
}

impl Default for Place {
    fn default() -> Self {
        Self::Url(String::new())
    }
}

/// A service, as a `clientConfig` names it.
#[derive(Clone, Debug, PartialEq)]
struct ServiceReference {
    namespace: String,
    name: String,
    path: String,
    port: u16,
}

impl ClientConfig {
    /// Reads the `clientConfig` of an object, as far as it has the right shape; what has not fails when it is called.
    pub fn of(doc: &Doc) -> Self {
        let place = match doc.get("service").filter(|service| !service.is_null()) {
            None => Place::Url(doc.str_at(&["url"]).to_owned()),
            Some(service) => Place::Service(ServiceReference {
                namespace: service.str_at(&["namespace"]).to_owned(),
                name: service.str_at(&["name"]).to_owned(),
                path: service.str_at(&["path"]).to_owned(),
                port: service.get("port").and_then(port_number).unwrap_or(DEFAULT_PORT),
            }),
        };
        let bundle = STANDARD.decode(doc.str_at(&["caBundle"])).unwrap_or_default();
        let authorities_pem = String::from_utf8(bundle).ok().filter(|pem| !pem.is_empty());
        Self { place, tls: Arc::new(WebhookTls { authorities_pem, ..WebhookTls::default() }) }
    }

    /// Where it is called, without parameters: what people are told.
    pub fn url(&self) -> String {
        match &self.place {
            Place::Url(url) => url.clone(),
            Place::Service(service) => service.url(),
        }
    }
}

impl ServiceReference {
    fn url(&self) -> String {
        let Self { namespace, name, path, port } = self;
        let slash = if path.starts_with('/') { "" } else { "/" };
        format!("https://{name}.{namespace}.svc:{port}{slash}{path}")
    }
}

impl Webhooks {
    /// Calls by way of `caller`; without one every call fails and says so.
    pub fn new(env: Env, caller: Option<Arc<dyn WebhookCaller>>) -> Self {
        Self { env, caller }
    }

    /// Posts `body` and answers the body of the answer. `parameters`, such as `timeout=10s`, are added to the URL.
    ///
    /// `cluster` is where services are looked up. Nothing is asked twice. Dropping the future leaves open whether the
    /// webhook has seen the request.
    pub async fn call(
        &self,
        cluster: &Cluster,
        client: &ClientConfig,
        parameters: &str,
        limit: Duration,
        body: Bytes,
    ) -> Result<Bytes, WebhookError> {
        let Some(caller) = &self.caller else {
            return Err(WebhookError::Config("this server has no way to call webhooks".into()));
        };
        let mut url = client.url();
        if !parameters.is_empty() {
            url.push(if url.contains('?') { '&' } else { '?' });
            url.push_str(parameters);
        }
        let address = match &client.place {
            Place::Url(_) => None,
            Place::Service(service) => Some(self.resolve(cluster, service)?),
        };
        let endpoint = WebhookEndpoint { url, address, tls: client.tls.clone(), token: None };
        caller.post(&endpoint, limit, body).await
    }

    /// Where a service listens at a port: one of its ready endpoints. The error says what is missing.
    pub(crate) fn address(
        &self,
        cluster: &Cluster,
        namespace: &str,
        name: &str,
        port: u16,
    ) -> Result<SocketAddr, WebhookError> {
        let (namespace, name) = (namespace.to_owned(), name.to_owned());
        self.resolve(cluster, &ServiceReference { namespace, name, path: String::new(), port })
    }

    /// Where a service listens.
    fn resolve(&self, cluster: &Cluster, reference: &ServiceReference) -> Result<SocketAddr, WebhookError> {
        let ServiceReference { namespace, name, port, .. } = reference;
        let failed = WebhookError::Config;
        let key = ObjectKey::new(namespace.as_str(), name.as_str());
        let service = cluster.get("", "v1", "services", &key);
        let service = service.ok_or_else(|| failed(format!("service {name:?} not found")))?;
        let service = parsed(&service).ok_or_else(|| failed(format!("service {name:?} cannot be read")))?;
        if service.str_at(&["spec", "type"]) == "ExternalName" {
            return Err(failed(format!("service {name:?} is of the type ExternalName; name its host in a url")));
        }
        let ports = service.at(&["spec", "ports"]).map_or(&[][..], Doc::items);
        let named = ports.iter().find(|listed| listed.get("port").and_then(port_number) == Some(*port));
        let named = named.ok_or_else(|| failed(format!("no service port {port} found for service {name:?}")))?;
        let of_service = |slice: &Arc<Object>| {
            let label = slice.meta.labels.iter().find(|(label, _)| label == SERVICE_LABEL);
            slice.meta.namespace == *namespace && label.is_some_and(|(_, of)| of == name)
        };
        let mut slices = cluster.all("discovery.k8s.io", "v1", "endpointslices");
        slices.retain(of_service);
        if slices.is_empty()
            && let Ok(ip) = service.str_at(&["spec", "clusterIP"]).parse()
        {
            return Ok(SocketAddr::new(ip, *port));
        }
        let mut found = Vec::new();
        for slice in slices.iter().filter_map(parsed) {
            found.extend(ready(&slice, named.str_at(&["name"])));
        }
        if found.is_empty() {
            return Err(failed(format!("no endpoints available for service {name:?}")));
        }
        let chosen = self.env.random() % found.len() as u64;
        Ok(found[chosen as usize])
    }
}

/// The ready endpoints of a slice, at the port of this name.
fn ready(slice: &Doc, port: &str) -> Vec<SocketAddr> {
    let ports = slice.at(&["ports"]).map_or(&[][..], Doc::items);
    let port = ports.iter().find(|listed| listed.str_at(&["name"]) == port);
    let Some(port) = port.and_then(|port| port.get("port")).and_then(port_number) else { return Vec::new() };
    let endpoints = slice.at(&["endpoints"]).map_or(&[][..], Doc::items).iter();
    let ready = endpoints.filter(|one| one.at(&["conditions", "ready"]).and_then(Doc::as_bool) != Some(false));
    let address = |one: &Doc| one.at(&["addresses"])?.items().first()?.as_str()?.parse().ok();
    ready.filter_map(address).map(|ip| SocketAddr::new(ip, port)).collect()
}

fn parsed(object: &Arc<Object>) -> Option<Doc> {
    Doc::parse(object.stored_json()).ok()
}

fn port_number(doc: &Doc) -> Option<u16> {
    doc.as_u64()?.try_into().ok()
}

#[cfg(test)]
mod tests;
