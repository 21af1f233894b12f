//! `GET /containerLogs/NAMESPACE/POD/CONTAINER`.

use std::sync::Arc;

use futures::StreamExt;
use http::{HeaderValue, Request, Response, header};
use k8s_core::status::{ApiError, ApiResult};
use k8s_wire::{
    body::{self, Body},
    websocket::{self, Subprotocol},
};

use super::{
    place::{Named, Place},
    query::Query,
};
use crate::agent::Shared;

/// Streams a log, chunked, or over a WebSocket if the client asks for one.
pub(super) async fn answer(
    shared: Arc<Shared>,
    mut request: Request<Body>,
    named: Named<'_>,
    query: &Query,
) -> ApiResult<Response<Body>> {
    let options = query.log_options(shared.env.now())?;
    let place = Place::find(&shared, named).await?;
    let id = place.logged(query.flag("previous"))?.id.clone();
    let logs = shared.runtime.logs().ok_or_else(|| ApiError::not_implemented("logs of this container runtime"))?;
    let mut reader = logs.read(&id, options).await.map_err(ApiError::internal)?;
    if websocket::is_upgrade(request.headers()) {
        let (response, opening) = match websocket::accept(&mut request, &[Subprotocol::Binary]) {
            Ok(accepted) => accepted,
            Err(refused) => return Ok(refused.response()),
        };
        let send = async move {
            let Ok(channels) = opening.channels().await else { return };
            while let Some(Ok(chunk)) = reader.next().await {
                if channels.sender.send(0, &chunk).await.is_err() {
                    return;
                }
            }
            // The other side may be gone by now; there is nobody left to tell.
            let _ = channels.sender.close().await;
        };
        shared.env.spawn("log stream", Box::pin(send)).detach();
        return Ok(response);
    }
    let mut response = Response::new(body::stream(reader));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
    Ok(response)
}
