//! The outer service asked in the same process, its answers read as a client reads them: bytes, cut anywhere.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream};
use http_body_util::BodyExt;
use k8s_apiserver::{
    ApiServer,
    auth::{Authenticator, Credentials},
    outer::{Outer, Parts},
};
use k8s_core::{
    env::Env,
    path::encode,
    request::{ApiRequest, ApiResponse, Caller, ResponseBody, Verb},
    seam::transport::Transport,
    status::{ApiError, ApiResult},
};
use k8s_store::check::Random;
use k8s_wire::{
    body,
    client::{answer, events},
};
use parking_lot::Mutex;
use tower::Service;

/// Everybody is an administrator.
struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    async fn authenticate(&self, _: &Credentials) -> ApiResult<Option<Caller>> {
        Ok(Some(Caller::new("admin", &["system:masters"])))
    }
}

/// A server's outer service, at which everybody is an administrator.
pub fn outer(server: &ApiServer, env: Env) -> Outer {
    Outer::new(Parts::of(server, env, Arc::new(Anybody)))
}

/// Lists and watches over HTTP without a socket.
pub struct InProcess {
    outer: Outer,
    random: Mutex<Random>,
}

impl InProcess {
    pub fn new(server: &ApiServer, env: Env, random: Random) -> Self {
        Self { outer: outer(server, env), random: Mutex::new(random) }
    }
}

#[async_trait]
impl Transport for InProcess {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        let uri = encode(&request).path_and_query();
        let asked = http::Request::get(uri).body(body::empty()).expect("a request");
        let answer = self.outer.clone().call(asked);
        let Ok(response) = answer.await;
        let code = response.status().as_u16();
        let body = response.into_body();
        if code != 200 || request.verb != Verb::Watch {
            let whole = body.collect().await.map_err(|error| ApiError::unavailable(error.to_string()))?.to_bytes();
            return match code {
                200 => Ok(ApiResponse::ok(ResponseBody::List(answer::list(&whole)?))),
                _ => Err(answer::failure(code, &whole)),
            };
        }
        let mut random = Random::new(self.random.lock().bits());
        let chunks = body.into_data_stream().flat_map(move |chunk| stream::iter(cut(chunk, &mut random)));
        Ok(ApiResponse::ok(ResponseBody::Watch(events(chunks))))
    }
}

/// Now and then a chunk comes in two pieces.
fn cut<E>(chunk: Result<Bytes, E>, random: &mut Random) -> Vec<Result<Bytes, E>> {
    match chunk {
        Ok(mut bytes) if bytes.len() > 1 && random.one_in(3) => {
            let first = bytes.split_to(1 + random.below(bytes.len() as u64 - 1) as usize);
            vec![Ok(first), Ok(bytes)]
        }
        other => vec![other],
    }
}
