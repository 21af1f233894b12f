//! `rest_client_requests_total`: what a program asks of the API server, counted where it leaves.

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;
use k8s::core::{
    metrics::Samples,
    request::{ApiRequest, ApiResponse, Verb},
    seam::transport::Transport,
    status::ApiResult,
};
use parking_lot::Mutex;

/// Requests by method and answer. Cloning shares. Bounded by the number of methods and HTTP codes.
#[derive(Clone, Default)]
pub struct Requests(Arc<Mutex<BTreeMap<(&'static str, u16), u64>>>);

impl Requests {
    /// A transport whose requests are counted here.
    pub fn of(&self, transport: impl Transport) -> Arc<dyn Transport> {
        Arc::new(Counted { inner: transport, requests: self.clone() })
    }

    /// The Prometheus text; `host` is where the requests go.
    pub fn render(&self, host: &str) -> String {
        let mut out = Samples::default();
        let name = "rest_client_requests_total";
        out.family(name, "counter", "Requests to the API server, by method and answer.");
        for ((method, code), count) in self.0.lock().iter() {
            let code = code.to_string();
            out.sample(name, &[("code", &code), ("host", host), ("method", method)], count);
        }
        out.into_text()
    }
}

struct Counted<T> {
    inner: T,
    requests: Requests,
}

#[async_trait]
impl<T: Transport> Transport for Counted<T> {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        let method = method(request.verb);
        let answer = self.inner.call(request).await;
        let code = answer.as_ref().map_or_else(|error| error.code(), |response| response.code);
        *self.requests.0.lock().entry((method, code)).or_default() += 1;
        answer
    }
}

fn method(verb: Verb) -> &'static str {
    match verb {
        Verb::Get | Verb::List | Verb::Watch | Verb::Connect => "GET",
        Verb::Create => "POST",
        Verb::Update => "PUT",
        Verb::Patch => "PATCH",
        Verb::Delete | Verb::DeleteCollection => "DELETE",
    }
}
