//! The API over a network: every question becomes an HTTP request of one shared client.

use std::{error::Error, sync::Arc, time::Duration};

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, header};
use k8s_core::{
    env::{self, Env},
    path::{FENCE_HEADER, encode, write_delete_options},
    request::{ApiRequest, ApiResponse, Caller, Connection, RequestBody, ResponseBody, Verb},
    seam::transport::Transport,
    status::{ApiError, ApiResult},
};
use parking_lot::Mutex;

use super::{
    answer,
    config::{Config, ConfigError, Token},
    dial::Dialer,
    route::{Route, under_name},
    watch,
};
use crate::{
    pki,
    tls::{self, API_PROTOCOLS, ServerTrust},
};

/// How long a request that is no watch may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);
/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a token file is believed before it is read again.
const TOKEN_AGE: Duration = Duration::from_secs(60);
/// How often an idle connection is probed, so that a watch on a dead one ends.
const KEEP_ALIVE: Duration = Duration::from_secs(20);

/// A way to an API server, ours or upstream's, over HTTP/2 or HTTP/1.1 with TLS.
pub struct HttpTransport {
    http: reqwest::Client,
    /// [`Config::server`] under the name in its certificate.
    base: String,
    config: Config,
    env: Env,
    dialer: Dialer,
    token: Mutex<Option<(Duration, Arc<str>)>>,
}

impl HttpTransport {
    /// A transport to the configured cluster. Connects on the first request.
    pub fn new(config: Config, env: Env) -> Result<Self, ConfigError> {
        let failed =
            |why: &dyn std::fmt::Display| ConfigError::Client { server: config.server.clone(), why: why.to_string() };
        let authorities = match &config.authorities_pem {
            Some(pem) => pki::certificates("certificate-authority", pem.as_bytes()).map_err(|why| failed(&why))?,
            None => Vec::new(),
        };
        let trust = if config.insecure { ServerTrust::Anyone } else { ServerTrust::Authorities(&authorities) };
        let tls = tls::client(&env, trust, config.identity.as_ref(), API_PROTOCOLS).map_err(|why| failed(&why))?;
        let mut base = config.server.clone();
        let mut builder = reqwest::Client::builder();
        if let Some(name) = &config.server_name {
            let url: reqwest::Url = config.server.parse().map_err(|why| failed(&why))?;
            let route = Route::to(&url, None).ok_or_else(|| failed(&"it names no host"))?;
            builder = builder.dns_resolver(Arc::new(route));
            let url = under_name(url, name).map_err(|why| failed(&why))?;
            base = url.as_str().trim_end_matches('/').to_owned();
        }
        let http = builder
            .tls_backend_preconfigured(tls)
            .user_agent(config.user_agent.clone())
            .redirect(reqwest::redirect::Policy::none())
            .no_proxy()
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .http2_keep_alive_while_idle(true)
            .http2_initial_connection_window_size(8 * 1024 * 1024)
            .http2_initial_stream_window_size(1024 * 1024)
            .build()
            .map_err(|why| failed(&why))?;
        let dialer = Dialer::new(env.clone(), trust, config.identity.as_ref()).map_err(|why| failed(&why))?;
        Ok(Self { http, base, config, env, dialer, token: Mutex::new(None) })
    }

    /// What it was made of.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The token to present now; files are read again once a minute.
    fn bearer(&self) -> ApiResult<Option<Arc<str>>> {
        let path = match &self.config.token {
            None => return Ok(None),
            Some(Token::Text(token)) => return Ok(Some(token.as_str().into())),
            Some(Token::File(path)) => path,
        };
        let now = self.env.monotonic();
        let mut kept = self.token.lock();
        if let Some((read_at, token)) = kept.as_ref()
            && now < *read_at + TOKEN_AGE
        {
            return Ok(Some(token.clone()));
        }
        let token = std::fs::read_to_string(path)
            .map_err(|why| ApiError::unavailable(format!("read token {}: {why}", path.display())))?;
        let token: Arc<str> = token.trim().into();
        *kept = Some((now, token.clone()));
        Ok(Some(token))
    }

    fn headers(&self, request: &ApiRequest) -> ApiResult<HeaderMap> {
        let mut headers = HeaderMap::new();
        headers.insert(header::ACCEPT, HeaderValue::from_static("application/json"));
        if let Some(token) = self.bearer()? {
            let mut value = header_value("token", &format!("Bearer {token}"))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        if let Some(fence) = &request.fence {
            headers.insert(FENCE_HEADER, header_value("fence", &fence.to_string())?);
        }
        if let Some(caller) = request.caller.as_ref().or(self.config.impersonate.as_ref()) {
            impersonate(&mut headers, caller)?;
        }
        Ok(headers)
    }

    async fn send(&self, request: &ApiRequest) -> ApiResult<reqwest::Response> {
        let head = encode(request);
        let url = format!("{}{}", self.base, head.path_and_query());
        let method = http::Method::from_bytes(head.method.as_str().as_bytes())
            .map_err(|why| ApiError::internal(format!("method: {why}")))?;
        let mut outgoing = self.http.request(method, url).headers(self.headers(request)?);
        if let Some((content_type, body)) = body(request) {
            outgoing = outgoing.header(header::CONTENT_TYPE, content_type).body(body);
        }
        outgoing.send().await.map_err(|error| unreachable(&self.config.server, &error))
    }

    async fn whole(&self, request: &ApiRequest) -> ApiResult<ApiResponse> {
        let response = self.send(request).await?;
        let (code, warnings) = (response.status().as_u16(), answer::warnings(response.headers()));
        let body = response.bytes().await.map_err(|error| unreachable(&self.config.server, &error))?;
        if !(200..300).contains(&code) {
            return Err(answer::failure(code, &body));
        }
        let body = match request.verb {
            Verb::List => ResponseBody::List(answer::list(&body)?),
            Verb::DeleteCollection => match answer::list(&body) {
                Ok(list) if !list.items.is_empty() || list.revision > 0 => ResponseBody::List(list),
                _ => answer::single(body)?,
            },
            _ => answer::single(body)?,
        };
        Ok(ApiResponse { code, warnings, body })
    }

    async fn watch(&self, request: &ApiRequest) -> ApiResult<ApiResponse> {
        let opening = env::timeout(&*self.env, REQUEST_TIMEOUT, self.send(request));
        let response = opening.await.ok_or_else(|| too_slow(&self.config.server))??;
        let (code, warnings) = (response.status().as_u16(), answer::warnings(response.headers()));
        if code != 200 {
            let body = response.bytes().await.map_err(|error| unreachable(&self.config.server, &error))?;
            return Err(answer::failure(code, &body));
        }
        let body = ResponseBody::Watch(watch::events(response.bytes_stream()));
        Ok(ApiResponse { code, warnings, body })
    }

    /// A connection of its own, on which the asker speaks HTTP/1.1. Only a certificate can stand for us there: a
    /// token would have to be told to the asker.
    async fn connect(&self, request: &ApiRequest) -> ApiResult<ApiResponse> {
        if self.config.token.is_some() || self.config.impersonate.is_some() || request.caller.is_some() {
            let what = "exec, attach, log and proxy through the network transport with a token or impersonation";
            return Err(ApiError::not_implemented(what));
        }
        let url: http::Uri =
            self.config.server.parse().map_err(|why| ApiError::internal(format!("server address: {why}")))?;
        let host = url.host().unwrap_or_default().trim_matches(['[', ']']);
        let name = self.config.server_name.as_deref().unwrap_or(host);
        let stream = self.dialer.dial(host, url.port_u16().unwrap_or(443), name).await?;
        let path_and_query = format!("{}{}", url.path().trim_end_matches('/'), encode(request).path_and_query());
        let host = url.authority().map(ToString::to_string).unwrap_or_default();
        Ok(ApiResponse::ok(ResponseBody::Connection(Connection { stream, host, path_and_query })))
    }
}

#[async_trait]
impl Transport for HttpTransport {
    async fn call(&self, request: ApiRequest) -> ApiResult<ApiResponse> {
        match request.verb {
            Verb::Watch => self.watch(&request).await,
            Verb::Connect => self.connect(&request).await,
            _ => env::timeout(&*self.env, REQUEST_TIMEOUT, self.whole(&request))
                .await
                .ok_or_else(|| too_slow(&self.config.server))?,
        }
    }
}

fn body(request: &ApiRequest) -> Option<(&'static str, Bytes)> {
    match &request.body {
        RequestBody::None if matches!(request.verb, Verb::Delete | Verb::DeleteCollection) => {
            write_delete_options(&request.options).map(|body| ("application/json", body.into()))
        }
        RequestBody::None => None,
        RequestBody::Doc(doc) => Some(("application/json", doc.to_json().into())),
        RequestBody::Patch(kind, doc) => Some((kind.content_type(), doc.to_json().into())),
    }
}

fn impersonate(headers: &mut HeaderMap, caller: &Caller) -> ApiResult<()> {
    headers.insert("impersonate-user", header_value("user", &caller.name)?);
    if !caller.uid.is_empty() {
        headers.insert("impersonate-uid", header_value("uid", &caller.uid)?);
    }
    // Servers add this group themselves, and would ask for the right to impersonate it.
    for group in caller.groups.iter().filter(|group| *group != "system:authenticated") {
        headers.append("impersonate-group", header_value("group", group)?);
    }
    for (key, values) in &caller.extra {
        let name = format!("impersonate-extra-{}", key.to_lowercase());
        let name: HeaderName =
            name.parse().map_err(|_| ApiError::bad_request(format!("impersonation: extra key {key:?}")))?;
        for value in values {
            headers.append(name.clone(), header_value("extra", value)?);
        }
    }
    if !caller.agent.is_empty() {
        headers.insert(header::USER_AGENT, header_value("agent", &caller.agent)?);
    }
    Ok(())
}

fn header_value(what: &str, text: &str) -> ApiResult<HeaderValue> {
    HeaderValue::from_str(text).map_err(|_| ApiError::bad_request(format!("{what} cannot be sent as a header")))
}

fn unreachable(server: &str, error: &reqwest::Error) -> ApiError {
    // The outer error only names the address; the cause is what helps.
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    ApiError::unavailable(format!("{server} cannot be reached: {text}"))
}

fn too_slow(server: &str) -> ApiError {
    ApiError::timeout(format!("{server} did not answer within {} s", REQUEST_TIMEOUT.as_secs()))
}
