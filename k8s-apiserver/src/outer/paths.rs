//! Paths that are no resource: version, health, metrics, discovery, OpenAPI, the token issuer's documents.

use std::sync::Arc;

use http::{HeaderValue, Response, StatusCode, header, request::Parts as Head};
use k8s_core::{
    doc,
    doc::Doc,
    registry::Registry,
    schema::Schemas,
    status::{ApiError, ApiResult},
};
use k8s_wire::{
    body::{self, Body},
    health::{self, Health},
};
use parking_lot::Mutex;

use super::{
    encode::response,
    metrics::Requests,
    negotiate::{Accepted, Conversion, Encoding},
    protobuf::Message,
};
use crate::{
    aggregator::Aggregator,
    auth::TokenIssuer,
    discovery::{self, Catalog},
    openapi::OpenApi,
    server::Aggregation,
};

/// What `/version` says.
#[derive(Debug, Clone)]
pub struct Version {
    /// Such as `1`.
    pub major: String,
    /// Such as `37`.
    pub minor: String,
    /// Such as `v1.37.0`.
    pub git_version: String,
}

impl Default for Version {
    /// The version of the API that is served.
    fn default() -> Self {
        Self { major: "1".into(), minor: "37".into(), git_version: "v1.37.0".into() }
    }
}

/// What the paths that are no resource answer with.
#[derive(Default)]
pub struct Answers {
    /// `/version`.
    pub version: Version,
    /// `/healthz` and `/livez`.
    pub live: Health,
    /// `/readyz`.
    pub ready: Health,
    /// What `/metrics` shows beside the outer service's own: samples in the Prometheus text format.
    pub metrics: Option<Box<dyn Fn() -> String + Send + Sync>>,
    /// The issuer of service account tokens, for its discovery documents.
    pub issuer: Option<Arc<dyn TokenIssuer>>,
    /// Where the issuer's keys are to be had: `https://host:port/openid/v1/jwks`.
    pub jwks_uri: String,
}

const AGGREGATED: &[Conversion] = &[
    Conversion { kind: "APIGroupDiscoveryList", group: "apidiscovery.k8s.io", version: "v2" },
    Conversion { kind: "APIGroupDiscoveryList", group: "apidiscovery.k8s.io", version: "v2beta1" },
];

pub(super) struct Paths {
    catalog: Arc<dyn Catalog>,
    aggregation: Option<Aggregation>,
    answers: Answers,
    openapi: OpenApi,
    requests: Arc<Requests>,
    schemas: Schemas,
    /// The aggregated documents of `/api` and `/apis`, as last made.
    aggregated: Mutex<Vec<Aggregated>>,
}

/// One aggregated document: for which list, which path and which version, with its entity tag.
#[derive(Clone)]
struct Aggregated {
    registry: Arc<Registry>,
    core: bool,
    version: &'static str,
    etag: String,
    json: bytes::Bytes,
}

impl Paths {
    pub(super) fn new(
        catalog: Arc<dyn Catalog>,
        aggregation: Option<Aggregation>,
        answers: Answers,
        requests: Arc<Requests>,
        schemas: Schemas,
    ) -> Self {
        let openapi = OpenApi::new(catalog.clone(), answers.version.git_version.clone());
        Self { catalog, aggregation, answers, openapi, requests, schemas, aggregated: Mutex::new(Vec::new()) }
    }

    /// What other servers answer for; `None` if they answer for nothing.
    fn others(&self) -> Option<&Aggregator> {
        let others = self.aggregation.as_ref()?.aggregator();
        (!others.remotes().is_empty()).then_some(others)
    }

    /// The list of named groups, those of other servers among them.
    fn groups(&self) -> Doc {
        let mut document = discovery::groups(&self.catalog.registry());
        if let Some(others) = self.others() {
            others.add_groups(&mut document);
        }
        document
    }

    /// One named group.
    fn group(&self, name: &str) -> Option<Doc> {
        let groups = self.groups();
        let entry = groups.get("groups")?.items().iter().find(|group| group.str_at(&["name"]) == name)?;
        let mut document = doc!({"kind": "APIGroup", "apiVersion": "v1"});
        entry.as_object()?.iter().for_each(|(field, value)| document.set_at(&[field], value.clone()));
        Some(document)
    }

    /// Answers a path; the caller may read it. 404 where nothing is, 405 for anything but reading.
    pub(super) fn answer(&self, path: &str, head: &Head) -> ApiResult<Response<Body>> {
        let segments: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        let query = head.uri.query().unwrap_or("");
        let answered = match segments.as_slice() {
            [""] => self.index(head),
            ["version"] => json(head, &self.version()),
            ["healthz" | "livez" | "readyz", name @ ..] => {
                let (health, name) = (self.health(segments[0]), (!name.is_empty()).then(|| name.join("/")));
                health
                    .verdict(segments[0], name.as_deref(), query)
                    .map(health::Verdict::response)
                    .ok_or_else(no_such_path)
            }
            ["metrics"] => {
                let others = self.answers.metrics.as_ref().map_or_else(String::new, |make| make());
                Ok(health::metrics(self.requests.samples() + &others))
            }
            ["api"] => self.discovery(head, true),
            ["apis"] => self.discovery(head, false),
            ["api", version] => self.resources(head, "", version),
            ["apis", group] => {
                let document = self.group(group).ok_or_else(no_such_path)?;
                self.discovered(head, &document)
            }
            ["apis", group, version] => self.resources(head, group, version),
            ["openapi", "v2"] => self.openapi.v2(head, self.others()),
            ["openapi", "v3"] => self.openapi.index(head, self.others()),
            ["openapi", "v3", rest @ ..] => self.openapi.v3(&rest.join("/"), head),
            [".well-known", "openid-configuration"] => self.issuer_document(),
            ["openid", "v1", "jwks"] => self.issuer_keys(),
            _ => Err(no_such_path()),
        };
        if !matches!(head.method, http::Method::GET | http::Method::HEAD) && answered.is_ok() {
            return Err(ApiError::method_not_allowed(head.method.as_str()));
        }
        answered
    }

    fn health(&self, path: &str) -> &Health {
        if path == "readyz" { &self.answers.ready } else { &self.answers.live }
    }

    fn index(&self, head: &Head) -> ApiResult<Response<Body>> {
        const PATHS: [&str; 11] = [
            "/.well-known/openid-configuration",
            "/api",
            "/apis",
            "/healthz",
            "/livez",
            "/metrics",
            "/openapi/v2",
            "/openapi/v3",
            "/openid/v1/jwks",
            "/readyz",
            "/version",
        ];
        let paths: Vec<Doc> = PATHS.into_iter().map(Doc::from).collect();
        json(head, &doc!({"paths": Doc::Array(paths)}))
    }

    fn version(&self) -> Doc {
        let Version { major, minor, git_version } = &self.answers.version;
        doc!({
            "major": major.as_str(),
            "minor": minor.as_str(),
            "emulationMajor": major.as_str(),
            "emulationMinor": minor.as_str(),
            "gitVersion": git_version.as_str(),
            "gitCommit": "",
            "gitTreeState": "clean",
            "buildDate": "1970-01-01T00:00:00Z",
            "goVersion": "none",
            "compiler": "rustc",
            "platform": "linux/amd64"
        })
    }

    fn resources(&self, head: &Head, group: &str, version: &str) -> ApiResult<Response<Body>> {
        let document = discovery::resources(&self.catalog.registry(), group, version).ok_or_else(no_such_path)?;
        self.discovered(head, &document)
    }

    /// A discovery document of old, in JSON or protobuf.
    fn discovered(&self, head: &Head, document: &Doc) -> ApiResult<Response<Body>> {
        if Accepted::read(&head.headers).document_encoding()? == Encoding::Json {
            return json(head, document);
        }
        let message = Message::builtin(&self.schemas, "v1", document.str_at(&["kind"])).ok_or_else(no_such_path)?;
        Ok(response(200, Encoding::Protobuf, body::full(message.object(&document.to_json())?)))
    }

    fn discovery(&self, head: &Head, core: bool) -> ApiResult<Response<Body>> {
        let accepted = Accepted::read(&head.headers);
        let Some(conversion) = accepted.conversion(AGGREGATED) else {
            let document = if core { discovery::core_versions(&self.catalog.registry()) } else { self.groups() };
            return self.discovered(head, &document);
        };
        let mut document = self.aggregated(core, conversion.version);
        if let Some(others) = self.others().filter(|_| !core) {
            let mut whole = discovery::aggregated(&self.catalog.registry(), core, conversion.version);
            others.add_discovered(&mut whole);
            document.json = whole.to_json().into();
            document.etag = crate::openapi::digest(&document.json);
        }
        let media_type =
            format!("application/json;g=apidiscovery.k8s.io;v={};as=APIGroupDiscoveryList", conversion.version);
        Ok(tagged(head, &document.etag, &media_type, document.json))
    }

    fn aggregated(&self, core: bool, version: &'static str) -> Aggregated {
        let registry = self.catalog.registry();
        let mut kept = self.aggregated.lock();
        kept.retain(|document| Arc::ptr_eq(&document.registry, &registry));
        if let Some(found) = kept.iter().find(|document| document.core == core && document.version == version) {
            return found.clone();
        }
        let json = discovery::aggregated(&registry, core, version).to_json();
        let made = Aggregated { registry, core, version, etag: crate::openapi::digest(&json), json: json.into() };
        kept.push(made.clone());
        made
    }

    fn issuer_document(&self) -> ApiResult<Response<Body>> {
        let issuer = self.answers.issuer.as_ref().ok_or_else(no_such_path)?;
        let document = doc!({
            "issuer": issuer.issuer(),
            "jwks_uri": self.answers.jwks_uri.as_str(),
            "response_types_supported": ["id_token"],
            "subject_types_supported": ["public"],
            "id_token_signing_alg_values_supported": issuer.algorithms().into_iter().map(str::to_owned).collect::<Vec<_>>()
        });
        Ok(kept_by_clients(response(200, Encoding::Json, body::full(document.to_json()))))
    }

    fn issuer_keys(&self) -> ApiResult<Response<Body>> {
        let issuer = self.answers.issuer.as_ref().ok_or_else(no_such_path)?;
        let mut answer = response(200, Encoding::Json, body::full(issuer.jwks()));
        answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/jwk-set+json"));
        Ok(kept_by_clients(answer))
    }
}

/// The issuer's documents may be kept for an hour: keys change seldom, and old ones stay for a while.
fn kept_by_clients(mut answer: Response<Body>) -> Response<Body> {
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    answer
}

fn json(head: &Head, document: &Doc) -> ApiResult<Response<Body>> {
    Accepted::read(&head.headers).json()?;
    Ok(response(200, Encoding::Json, body::full(document.to_json())))
}

/// An answer that clients keep: 304 when they have it already.
pub(crate) fn tagged(head: &Head, etag: &str, media_type: &str, json: bytes::Bytes) -> Response<Body> {
    let quoted = format!("\"{etag}\"");
    let known = head.headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let has_it = known.flat_map(|value| value.split(',')).any(|tag| tag.trim() == quoted);
    let mut answer = response(200, Encoding::Json, body::full(json));
    if has_it {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
        *answer.body_mut() = body::empty();
    }
    let headers = answer.headers_mut();
    for (name, value) in [(header::ETAG, quoted.as_str()), (header::CONTENT_TYPE, media_type), (header::VARY, "Accept")]
    {
        // Invariant: tags are hexadecimal and media types are our own.
        if let Ok(value) = HeaderValue::from_str(value) {
            headers.insert(name, value);
        }
    }
    answer.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public"));
    answer
}

fn no_such_path() -> ApiError {
    ApiError::no_such_path()
}
