//! Logs, exec and attach: which container on which node, and a connection to that node's own server.

use std::sync::Arc;

use k8s_core::{
    api::api::core::v1::{Node, Pod},
    registry::ResourceInfo,
    request::{ApiRequest, ApiResponse, Connection, ResponseBody},
    seam::node::NodeAddress,
    status::{ApiError, ApiResult},
};

use super::Shared;

/// Which container `kubectl` means when it names none.
const DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
/// The port that nodes listen on unless they say another.
const NODE_PORT: u16 = 10250;

impl Shared {
    pub(super) async fn connect(&self, info: &Arc<ResourceInfo>, request: ApiRequest) -> ApiResult<ApiResponse> {
        let target = &request.target;
        self.cache.wait_for_head().await?;
        let object = self.cached(info, target).ok_or_else(|| ApiError::not_found("pods", "", &target.name))?;
        let pod = object.typed::<Pod>()?;
        let query: Vec<(String, String)> = parse_query(&request.options.connect_query);
        let asked = query.iter().find(|(key, _)| key == "container").map(|(_, value)| value.as_str()).unwrap_or("");
        let container = choose_container(&pod, &target.name, asked)?;
        let path = match target.subresource.as_str() {
            "log" => format!("/containerLogs/{}/{}/{container}", target.namespace, target.name),
            "exec" | "attach" => format!("/{}/{}/{}/{container}", target.subresource, target.namespace, target.name),
            other => return Err(ApiError::not_implemented(format!("pods/{other}"))),
        };
        if object.meta.node_name.is_empty() {
            return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", target.name)));
        }
        let address = self.node_address(&object.meta.node_name)?;
        let dialer = self.dialer.as_ref().ok_or_else(|| ApiError::unavailable("this API server cannot reach nodes"))?;
        let stream = dialer.dial(&address).await?;
        let query = node_query(&target.subresource, &query);
        let path_and_query = if query.is_empty() { path } else { format!("{path}?{query}") };
        let connection = Connection { stream, host: address.host, path_and_query };
        Ok(ApiResponse::ok(ResponseBody::Connection(connection)))
    }

    fn node_address(&self, name: &str) -> ApiResult<NodeAddress> {
        let node = self.reads.object("", "nodes", "", name).ok_or_else(|| ApiError::not_found("nodes", "", name))?;
        let node = node.typed::<Node>()?;
        let status = node.status.clone().unwrap_or_default();
        let addresses = status.addresses.unwrap_or_default();
        let of_kind = |kind: &str| addresses.iter().find(|a| a.type_ == kind).map(|a| a.address.clone());
        // Upstream's default order of preference.
        let order = ["Hostname", "InternalDNS", "InternalIP", "ExternalDNS", "ExternalIP"];
        let host = of_kind("InternalIP").or_else(|| order.iter().find_map(|kind| of_kind(kind)));
        let host = host.ok_or_else(|| ApiError::unavailable(format!("node {name:?} has no address")))?;
        let endpoint = status.daemon_endpoints.and_then(|endpoints| endpoints.kubelet_endpoint);
        let port = endpoint.and_then(|endpoint| u16::try_from(endpoint.port).ok()).filter(|port| *port > 0);
        Ok(NodeAddress { name: name.to_owned(), host, port: port.unwrap_or(NODE_PORT) })
    }
}

fn choose_container(pod: &Pod, name: &str, asked: &str) -> ApiResult<String> {
    let Some(spec) = &pod.spec else { return Err(ApiError::internal("pod without spec")) };
    let regular: Vec<&str> = spec.containers.iter().map(|container| container.name.as_str()).collect();
    let init = spec.init_containers.iter().flatten().map(|container| container.name.as_str());
    let ephemeral = spec.ephemeral_containers.iter().flatten().map(|container| container.name.as_str());
    if !asked.is_empty() {
        let known = regular.iter().copied().chain(init).chain(ephemeral).any(|container| container == asked);
        let refused = || ApiError::bad_request(format!("container {asked} is not valid for pod {name}"));
        return if known { Ok(asked.to_owned()) } else { Err(refused()) };
    }
    let annotated = pod.metadata.annotations.as_ref().and_then(|all| all.get(DEFAULT_CONTAINER));
    if let Some(annotated) = annotated.filter(|annotated| regular.contains(&annotated.as_str())) {
        return Ok(annotated.clone());
    }
    match regular.as_slice() {
        [only] => Ok((*only).to_owned()),
        several => {
            let choices = several.join(" ");
            let message = format!("a container name must be specified for pod {name}, choose one of: [{choices}]");
            Err(ApiError::bad_request(message))
        }
    }
}

/// The node's own names for the parameters.
fn node_query(subresource: &str, query: &[(String, String)]) -> String {
    let renamed = |(key, value): &(String, String)| -> Option<String> {
        let key = match (subresource, key.as_str()) {
            (_, "container" | "pretty") => return None,
            ("log", key) => key,
            (_, "stdin") => "input",
            (_, "stdout") => "output",
            (_, "stderr") => "error",
            (_, key) => key,
        };
        let flag = |value: &str| if value == "true" { "1".to_owned() } else { "0".to_owned() };
        let value = match key {
            "input" | "output" | "error" | "tty" => flag(value),
            _ => encode(value),
        };
        Some(format!("{key}={value}"))
    };
    query.iter().filter_map(renamed).collect::<Vec<_>>().join("&")
}

fn parse_query(query: &str) -> Vec<(String, String)> {
    let pair = |part: &str| {
        let (key, value) = part.split_once('=').unwrap_or((part, ""));
        (decode(key), decode(value))
    };
    query.split('&').filter(|part| !part.is_empty()).map(pair).collect()
}

fn decode(text: &str) -> String {
    let (bytes, mut out, mut at) = (text.as_bytes(), Vec::with_capacity(text.len()), 0);
    while at < bytes.len() {
        let hex = bytes.get(at + 1..at + 3).and_then(|hex| std::str::from_utf8(hex).ok());
        match (bytes[at], hex.and_then(|hex| u8::from_str_radix(hex, 16).ok())) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
                continue;
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(byte),
        }
        at += 1;
    }
    String::from_utf8_lossy(&out).into_owned()
}

fn encode(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
    text.bytes().map(|byte| if plain(byte) { (byte as char).to_string() } else { format!("%{byte:02X}") }).collect()
}
