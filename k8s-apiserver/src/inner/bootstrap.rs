//! What every cluster starts with. Run at each start: what is there stays, what is missing comes back.

use std::net::IpAddr;

use futures::{StreamExt, TryStreamExt, stream};
use k8s_core::{
    doc::Doc,
    request::{ApiRequest, Caller, RequestBody, ResourceType, Target, Verb},
    resource::Resource,
    status::{ApiError, ApiResult},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::ApiServer;
use crate::auth::bootstrap::policy;

/// How many objects are created at a time.
const TOGETHER: usize = 128;
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
/// The system priority classes, with upstream's values.
const PRIORITY_CLASSES: [(&str, i32, &str); 2] = [
    ("system-cluster-critical", 2_000_000_000, "Used for system critical pods that must run in the cluster."),
    ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their node."),
];

pub(super) async fn run(server: &ApiServer, advertise: Option<(IpAddr, u16)>) -> ApiResult<()> {
    for name in NAMESPACES {
        let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        create(server, ResourceType::new("", "v1", "namespaces"), "", doc(&namespace)?).await?;
    }
    let mut objects = policy_objects()?;
    for (name, value, description) in PRIORITY_CLASSES {
        let class = json!({"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": name},
            "value": value, "description": description});
        objects.push((ResourceType::new("scheduling.k8s.io", "v1", "priorityclasses"), String::new(), doc(&class)?));
    }
    // Together, so that the store flushes them together.
    let creations = objects.into_iter().map(|(resource, namespace, doc)| create_in(server, resource, namespace, doc));
    stream::iter(creations).buffer_unordered(TOGETHER).try_collect::<()>().await?;
    if let Some((address, port)) = advertise {
        kubernetes_service(server, address, port).await?;
    }
    Ok(())
}

type Creation = (ResourceType, String, Doc);

fn policy_objects() -> ApiResult<Vec<Creation>> {
    fn each<K: Resource + Serialize>(objects: &[K], into: &mut Vec<Creation>) -> ApiResult<()> {
        for object in objects {
            let namespace = object.metadata().namespace.clone().unwrap_or_default();
            into.push((K::resource(), namespace, doc(object)?));
        }
        Ok(())
    }
    let (policy, mut objects) = (policy(), Vec::new());
    each(&policy.cluster_roles, &mut objects)?;
    each(&policy.cluster_role_bindings, &mut objects)?;
    each(&policy.roles, &mut objects)?;
    each(&policy.role_bindings, &mut objects)?;
    Ok(objects)
}

fn doc(object: &impl Serialize) -> ApiResult<Doc> {
    Doc::from_serialize(object).map_err(ApiError::internal)
}

async fn create_in(server: &ApiServer, resource: ResourceType, namespace: String, doc: Doc) -> ApiResult<()> {
    create(server, resource, &namespace, doc).await
}

/// Creates an object unless there is one of that name.
async fn create(server: &ApiServer, resource: ResourceType, namespace: &str, doc: Doc) -> ApiResult<()> {
    let info = server.0.registry.served(&resource)?;
    let target = Target::one(resource.clone(), namespace, doc.str_at(&["metadata", "name"]));
    if server.0.cached(info, &target).is_some() {
        return Ok(());
    }
    match server.0.create_own(Target::all(resource, namespace), doc).await {
        Err(error) if !error.is_already_exists() => Err(error),
        _ => Ok(()),
    }
}

impl super::Shared {
    /// A creation by the server itself, which no authorizer is asked about.
    async fn create_own(&self, target: Target, doc: Doc) -> ApiResult<()> {
        let caller = Caller::new("system:apiserver", &["system:masters"]).with_agent("kube-apiserver");
        let info = self.registry.served(&target.resource)?.clone();
        let request = ApiRequest { verb: Verb::Create, target, body: RequestBody::Doc(doc), ..Default::default() };
        self.create(&caller, &info, request).await.map(drop)
    }

    async fn replace_own(&self, target: Target, doc: Doc) -> ApiResult<()> {
        let caller = Caller::new("system:apiserver", &["system:masters"]).with_agent("kube-apiserver");
        let info = self.registry.served(&target.resource)?.clone();
        let request = ApiRequest { verb: Verb::Update, target, body: RequestBody::Doc(doc), ..Default::default() };
        self.update(&caller, &info, request).await.map(drop)
    }
}

/// The service by which pods find the API server, and its one endpoint.
async fn kubernetes_service(server: &ApiServer, address: IpAddr, port: u16) -> ApiResult<()> {
    let labels = json!({"component": "apiserver", "provider": "kubernetes"});
    let service = json!({"apiVersion": "v1", "kind": "Service",
        "metadata": {"name": "kubernetes", "labels": labels},
        "spec": {"clusterIP": server.0.service_network.first().to_string(), "type": "ClusterIP",
            "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": port}]}});
    create(server, ResourceType::new("", "v1", "services"), "default", doc(&service)?).await?;
    let family = if address.is_ipv4() { "IPv4" } else { "IPv6" };
    let slice = json!({"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
        "addressType": family,
        "endpoints": [{"addresses": [address.to_string()], "conditions": {"ready": true}}],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}]});
    publish(server, ResourceType::new("discovery.k8s.io", "v1", "endpointslices"), &slice).await?;
    let endpoints = json!({"apiVersion": "v1", "kind": "Endpoints",
        "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
        "subsets": [{"addresses": [{"ip": address.to_string()}],
            "ports": [{"name": "https", "port": port, "protocol": "TCP"}]}]});
    publish(server, ResourceType::new("", "v1", "endpoints"), &endpoints).await
}

/// Creates an object, or replaces what an earlier start at another address left.
async fn publish(server: &ApiServer, resource: ResourceType, object: &Value) -> ApiResult<()> {
    create(server, resource.clone(), "default", doc(object)?).await?;
    let name = object["metadata"]["name"].as_str().unwrap_or_default();
    server.0.replace_own(Target::one(resource, "default", name), doc(object)?).await
}
