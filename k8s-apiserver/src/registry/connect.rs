//! Connections to nodes: logs, exec, attach, port-forward, and the node's own server.
//!
//! The request has been authorized. Here it is found out which node it is for and what to ask there; the kubelet's own
//! names of paths and parameters are used. The connection is opened, and nothing is sent on it.

use k8s_core::{
    doc::Doc,
    object::ObjectKey,
    request::{ApiResponse, Connection, ResponseBody, Verb},
    seam::node::NodeAddress,
    status::{ApiError, ApiResult},
};

use super::{operation::Operation, update::Base};

/// The port of a node that does not say.
const DEFAULT_PORT: u16 = 10250;
/// Which of a node's addresses is tried, in order.
const ADDRESS_TYPES: [&str; 3] = ["InternalIP", "ExternalIP", "Hostname"];
/// What a node's server does to pods: it is reached through the pods, which are authorized one by one.
const POD_PATHS: [&str; 6] = ["/exec", "/run", "/attach", "/portforward", "/cri", "/containerlogs"];

impl Operation<'_> {
    /// Opens the connection that the request asks for.
    pub async fn connect(&mut self) -> ApiResult<ApiResponse> {
        if self.target().subresource == "proxy" && self.info.plural != "nodes" {
            return self.proxy().await;
        }
        let base = Base::new(self.existing().await?)?;
        let target = self.target().clone();
        self.admit_connection(&base.doc).await?;
        let (node, path_and_query) = match (self.info.plural.as_str(), target.subresource.as_str()) {
            ("nodes", "proxy") => (target.name.to_string(), self.node_path()?),
            ("pods", subresource) => {
                let node = base.object.meta.node_name.to_string();
                if node.is_empty() {
                    return Err(ApiError::bad_request(format!("pod {} does not have a host assigned", target.name)));
                }
                (node, self.pod_path(subresource, &base.doc)?)
            }
            _ => return Err(ApiError::no_such_path()),
        };
        let address = self.address(&node)?;
        let Some(dialer) = &self.server.dialer else {
            return Err(ApiError::unavailable("this server has no way to reach nodes"));
        };
        let stream = dialer.dial(&address).await?;
        let host = match address.host.contains(':') {
            true => format!("[{}]:{}", address.host, address.port),
            false => format!("{}:{}", address.host, address.port),
        };
        Ok(ApiResponse::ok(ResponseBody::Connection(Connection { stream, host, path_and_query })))
    }

    /// Lets plugins judge a connection to what `object` is.
    pub(super) async fn admit_connection(&mut self, object: &Doc) -> ApiResult<()> {
        let target = self.target().clone();
        let mut request = self.admission_request(Verb::Connect, &target).with(Some(object), None);
        self.server.admission.admit(&mut request).await?;
        self.server.admission.validate(&request).await?;
        self.warnings.append(&mut request.take_warnings());
        Ok(())
    }

    fn node_path(&self) -> ApiResult<String> {
        let path = &self.options().connect_path;
        // However it is written: the node decodes and cleans paths, too.
        let plain = k8s_core::path::percent_decode(path).unwrap_or_else(|| path.clone()).to_lowercase();
        let suspicious = plain.contains("/../") || plain.contains("//") || plain.contains("/./");
        if suspicious || POD_PATHS.iter().any(|pods| plain.starts_with(pods)) {
            return Err(self.forbidden("what a node does to pods is reached through the pods"));
        }
        Ok(self.path_behind_the_proxy())
    }

    fn pod_path(&self, subresource: &str, pod: &Doc) -> ApiResult<String> {
        let (namespace, name) = (&self.target().namespace, &self.target().name);
        let query = Query(&self.options().connect_query);
        let container = || container(pod, &query.decoded("container")).map_err(ApiError::bad_request);
        let (verb, container, parameters) = match subresource {
            "log" => ("containerLogs", Some(container()?), query.without("container")),
            "exec" => ("exec", Some(container()?), query.streams(true)?),
            "attach" => ("attach", Some(container()?), query.streams(false)?),
            "portforward" => ("portForward", None, query.raw("ports").map(|ports| format!("port={ports}")).collect()),
            _ => return Err(ApiError::no_such_path()),
        };
        let mut path = format!("/{verb}/{namespace}/{name}");
        if let Some(container) = container {
            path = format!("{path}/{container}");
        }
        Ok(if parameters.is_empty() { path } else { format!("{path}?{}", parameters.join("&")) })
    }

    fn address(&self, name: &str) -> ApiResult<NodeAddress> {
        let node = self.server.cluster.get("", "v1", "nodes", &ObjectKey::new("", name));
        let node = Base::new(node.ok_or_else(|| ApiError::not_found("nodes", "", name))?)?.doc;
        let addresses = node.at(&["status", "addresses"]).map_or(&[][..], Doc::items);
        let of_type = |wanted: &&str| addresses.iter().find(|address| address.str_at(&["type"]) == *wanted);
        let found = ADDRESS_TYPES.iter().find_map(of_type).map(|address| address.str_at(&["address"]));
        let host = found.ok_or_else(|| ApiError::unavailable(format!("node {name} has no address to reach it at")))?;
        let port = node.at(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"]).and_then(Doc::as_u64);
        let port = port.and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0).unwrap_or(DEFAULT_PORT);
        Ok(NodeAddress { name: name.to_owned(), host: host.to_owned(), port })
    }
}

/// The container that is meant: the one named, or the only one.
fn container(pod: &Doc, named: &str) -> Result<String, String> {
    let names = |field: &str| -> Vec<&str> {
        let list = pod.at(&["spec", field]).map_or(&[][..], Doc::items);
        list.iter().map(|container| container.str_at(&["name"])).collect()
    };
    let (regular, init, ephemeral) = (names("containers"), names("initContainers"), names("ephemeralContainers"));
    let pod = pod.str_at(&["metadata", "name"]);
    if !named.is_empty() {
        let known = [&regular, &init, &ephemeral].into_iter().any(|names| names.contains(&named));
        return if known { Ok(named.to_owned()) } else { Err(format!("container {named} is not valid for pod {pod}")) };
    }
    match regular.as_slice() {
        [only] => Ok((*only).to_owned()),
        [] => Err(format!("a container name must be specified for pod {pod}")),
        several => {
            let mut why =
                format!("a container name must be specified for pod {pod}, choose one of: [{}]", several.join(" "));
            if !init.is_empty() {
                why.push_str(&format!(" or one of the init containers: [{}]", init.join(" ")));
            }
            Err(why)
        }
    }
}

/// The raw parameters of the request.
struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    fn pairs(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let pairs = self.0.split('&').filter(|pair| !pair.is_empty());
        pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")))
    }

    fn raw(&self, name: &'a str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.pairs().filter(move |(found, _)| *found == name).map(|(_, value)| value)
    }

    fn decoded(&self, name: &'a str) -> String {
        self.raw(name).next().and_then(k8s_core::path::percent_decode).unwrap_or_default()
    }

    fn is_true(&self, name: &'a str) -> bool {
        self.raw(name).next().is_some_and(|value| !matches!(value, "false" | "False" | "0"))
    }

    fn without(&self, name: &str) -> Vec<String> {
        self.pairs().filter(|(found, _)| *found != name).map(|(key, value)| format!("{key}={value}")).collect()
    }

    /// The streams and the command, in the kubelet's words.
    fn streams(&self, with_command: bool) -> ApiResult<Vec<String>> {
        let words = [("stdin", "input"), ("stdout", "output"), ("stderr", "error"), ("tty", "tty")];
        let asked: Vec<&str> = words.iter().filter(|(ours, _)| self.is_true(ours)).map(|(_, theirs)| *theirs).collect();
        if !asked.iter().any(|stream| *stream != "tty") {
            return Err(ApiError::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        let mut parameters: Vec<String> = Vec::new();
        if with_command {
            parameters.extend(self.raw("command").map(|word| format!("command={word}")));
            if parameters.is_empty() {
                return Err(ApiError::bad_request("you must specify at least one command for the container"));
            }
        }
        parameters.extend(asked.iter().map(|stream| format!("{stream}=1")));
        Ok(parameters)
    }
}

#[cfg(test)]
mod tests {
    use k8s_core::doc;

    use super::*;

    #[test]
    fn the_container_is_named_or_the_only_one() {
        let one = doc!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
        let two = doc!({"metadata": {"name": "p"}, "spec": {
            "containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "i"}]
        }});
        assert_eq!(container(&one, ""), Ok("a".into()));
        assert_eq!(container(&two, "i"), Ok("i".into()));
        assert_eq!(container(&one, "x"), Err("container x is not valid for pod p".into()));
        let expected =
            "a container name must be specified for pod p, choose one of: [a b] or one of the init containers: [i]";
        assert_eq!(container(&two, ""), Err(expected.into()));
    }

    #[test]
    fn streams_and_commands_are_said_in_the_kubelets_words() {
        let query = Query("command=sh&command=-c&command=echo%20hi&stdin=true&stdout=1&stderr=false&tty&container=a");
        let expected = ["command=sh", "command=-c", "command=echo%20hi", "input=1", "output=1", "tty=1"];
        assert_eq!(query.streams(true).unwrap(), expected);
        assert_eq!(Query("command=sh").streams(true).unwrap_err().code(), 400);
        assert_eq!(Query("stdin=1").streams(true).unwrap_err().code(), 400);
        assert_eq!(query.without("container").len(), 7);
    }
}
