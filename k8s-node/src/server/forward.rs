//! `port-forward`: connections of a client into the network of a pod.

use std::sync::Arc;

use http::{Request, Response};
use k8s_core::{
    env::BoxFuture,
    object::ObjectKey,
    seam::node::ByteStream,
    status::{ApiError, ApiResult, Reason},
};
use k8s_wire::{body::Body, port_forward};
use tokio_util::compat::TokioAsyncReadCompatExt;

use super::query::Query;
use crate::{
    agent::Shared,
    runtime::{PodRuntime, SandboxState},
};

/// Accepts the upgrade and forwards over it, in a task of its own, until the client leaves.
pub(super) async fn answer(
    shared: Arc<Shared>,
    mut request: Request<Body>,
    (namespace, pod): (&str, &str),
    query: &Query,
) -> ApiResult<Response<Body>> {
    let sandbox = sandbox(&shared, namespace, pod).await?;
    let ports = ports(query)?;
    if shared.runtime.port_forward().is_none() {
        return Err(ApiError::not_implemented("port forwarding in this container runtime"));
    }
    let (response, opening) = match port_forward::accept(&mut request) {
        Ok(accepted) => accepted,
        Err(refused) => return Ok(refused.response()),
    };
    let (env, runtime) = (shared.env.clone(), shared.runtime.clone());
    let work = async move {
        let dial: port_forward::Dial = Arc::new(move |port| dial(runtime.clone(), sandbox.clone(), port));
        opening.serve(&env, &ports, dial).await;
    };
    shared.env.spawn("port-forward session", Box::pin(work)).detach();
    Ok(response)
}

fn dial(
    runtime: Arc<dyn PodRuntime>,
    sandbox: String,
    port: u16,
) -> BoxFuture<'static, Result<Box<dyn ByteStream>, String>> {
    Box::pin(async move {
        let forward = runtime.port_forward().ok_or("this container runtime cannot forward ports")?;
        let connection = forward.connect(&sandbox, port).await.map_err(|error| error.to_string())?;
        Ok(Box::new(connection.compat()) as Box<dyn ByteStream>)
    })
}

/// The newest usable sandbox of a pod on this node. 404 says what there is not.
async fn sandbox(shared: &Arc<Shared>, namespace: &str, pod: &str) -> ApiResult<String> {
    let found = shared.pods.get(&ObjectKey::new(namespace, pod));
    let found = found.filter(|found| found.object().meta.node_name == shared.node_name);
    let found = found.ok_or_else(|| ApiError::not_found("pods", "", pod))?;
    let sight = shared.observatory.look().await.map_err(ApiError::internal)?;
    let sandboxes = sight.get(found.uid()).map(|sight| sight.sandboxes.clone()).unwrap_or_default();
    let usable = sandboxes.into_iter().filter(|sandbox| sandbox.state == SandboxState::Ready);
    let newest = usable.max_by(|one, other| one.created_at.cmp(&other.created_at));
    newest.map(|sandbox| sandbox.id).ok_or_else(|| {
        let message = format!("pod {pod:?} is not running: there is nothing to forward ports to");
        ApiError::new(404, Reason::NotFound, message)
    })
}

/// The ports of the query: each parameter holds one or more.
fn ports(query: &Query) -> ApiResult<Vec<u16>> {
    let all = query.all("port");
    let all = all.iter().flat_map(|text| text.split(',')).map(|text| match text.parse::<u16>() {
        Ok(port @ 1..) => Ok(port),
        _ => Err(ApiError::bad_request(format!("port {text:?}: must be a number from 1 to 65535"))),
    });
    all.collect()
}
