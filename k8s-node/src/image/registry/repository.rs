//! One repository of a registry: its documents and blobs, asked for as the registry wants to be asked.

use std::{net::IpAddr, time::Duration};

use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use k8s_core::env::{self, Env};
use parking_lot::Mutex;
use reqwest::{Response, Url};

use super::{
    RegistrySettings,
    auth::{self, Challenge},
    problem::{Problem, causes, words},
};
use crate::image::{
    ImageError, Reference, digest_of,
    import::{DOCUMENT_LIMIT, parse, verify},
    is_digest,
    manifest::{Descriptor, is_index},
};

/// The documents that are understood.
const ACCEPTED: &str = "application/vnd.oci.image.index.v1+json, \
    application/vnd.docker.distribution.manifest.list.v2+json, application/vnd.oci.image.manifest.v1+json, \
    application/vnd.docker.distribution.manifest.v2+json";
/// Where a registry says what a manifest's digest is.
const CONTENT_DIGEST: &str = "docker-content-digest";
/// How often a request is repeated that a busy registry refused.
const REPEATS: u32 = 3;
/// The longest wait that a registry may ask for before a repetition; who asks for more is left to the back-off.
const MAX_WAIT: Duration = Duration::from_secs(30);
/// Most bytes of a refusal or a token that are read.
const ANSWER_LIMIT: u64 = 256 << 10;

/// One repository, as seen by one identity.
pub(super) struct Repository<'a> {
    pub env: &'a Env,
    pub silence: Duration,
    http: &'a reqwest::Client,
    insecure: &'a [String],
    /// `https://HOST/v2/NAME`.
    base: String,
    name: String,
    identity: Option<(String, String)>,
    /// What the registry asked for last. Lost with the pull: tokens are short-lived.
    authorization: Mutex<Option<HeaderValue>>,
}

/// A manifest or an index.
#[derive(Debug, Clone)]
pub(super) struct Document {
    pub digest: String,
    pub content: Vec<u8>,
    media_type: String,
}

/// What tells documents apart.
#[derive(serde::Deserialize)]
#[serde(rename_all = "camelCase")]
struct Shape {
    #[serde(default)]
    schema_version: u32,
    #[serde(default)]
    media_type: String,
    manifests: Option<serde::de::IgnoredAny>,
    layers: Option<serde::de::IgnoredAny>,
}

impl Document {
    /// Whether it lists images rather than layers. What could be read either way is refused.
    pub fn is_index(&self) -> Result<bool, Problem> {
        let shape: Shape = parse(&self.digest, &self.content)?;
        let invalid = |problem: &str| Err(ImageError::invalid(&self.digest, problem).into());
        if shape.schema_version != 2 {
            return invalid("the manifest is of an outdated schema: push the image again with a tool of today");
        }
        let announced = if shape.media_type.is_empty() { &self.media_type } else { &shape.media_type };
        match (shape.manifests.is_some(), shape.layers.is_some()) {
            (true, false) if is_index(announced) || announced.is_empty() => Ok(true),
            (false, true) if !is_index(announced) => Ok(false),
            _ => invalid(&format!("the content is not what its media type {announced:?} says")),
        }
    }
}

impl<'a> Repository<'a> {
    /// The repository of `reference`, seen by `identity` (user and password) or by anybody.
    pub fn new(
        env: &'a Env,
        http: &'a reqwest::Client,
        settings: &'a RegistrySettings,
        reference: &Reference,
        identity: Option<(String, String)>,
    ) -> Self {
        let host = match reference.registry.as_str() {
            "docker.io" => "registry-1.docker.io",
            other => other,
        };
        let scheme = if is_plain(&reference.registry, &settings.insecure) { "http" } else { "https" };
        Self {
            env,
            silence: settings.silence,
            http,
            insecure: &settings.insecure,
            base: format!("{scheme}://{host}/v2/{}", reference.repository),
            name: reference.repository.clone(),
            identity,
            authorization: Mutex::default(),
        }
    }

    /// The digest that a tag means, if the registry tells it without sending the document.
    pub async fn digest_of(&self, reference: &str) -> Result<Option<String>, Problem> {
        let url = self.url("manifests", reference)?;
        let answer = self.ask(&Method::HEAD, &url, &accepting()).await?;
        if !answer.status().is_success() {
            // The answer to `HEAD` has no words; the one to `GET` will.
            return Ok(None);
        }
        let digest = answer.headers().get(CONTENT_DIGEST).and_then(|value| value.to_str().ok());
        let digest = digest.filter(|digest| is_digest(digest)).map(str::to_owned);
        match digest {
            Some(digest) if is_digest(reference) && digest != reference => Err(changed(&url, reference, &digest)),
            other => Ok(other),
        }
    }

    /// A manifest or an index by tag or digest, verified if by digest.
    pub async fn document(&self, reference: &str) -> Result<Document, Problem> {
        let url = self.url("manifests", reference)?;
        let answer = self.get(&url, &accepting()).await?;
        let media_type = answer.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok());
        let media_type = media_type.and_then(|text| text.split(';').next()).unwrap_or_default().trim().to_owned();
        let content = self.body(&url, answer, DOCUMENT_LIMIT).await?;
        let digest = digest_of(&content);
        if is_digest(reference) && reference != digest {
            return Err(changed(&url, reference, &digest));
        }
        Ok(Document { digest, content, media_type })
    }

    /// A small blob whole, verified.
    pub async fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Problem> {
        let url = self.url("blobs", &descriptor.digest)?;
        let answer = self.get(&url, &HeaderMap::new()).await?;
        let content = self.body(&url, answer, descriptor.size.min(DOCUMENT_LIMIT)).await?;
        if content.len() as u64 != descriptor.size {
            let (length, size) = (content.len(), descriptor.size);
            return Err(Problem::new(format!("GET {url}: {length} bytes came, not {size} as the manifest says")));
        }
        verify(url.as_str(), &descriptor.digest, &digest_of(&content))?;
        Ok(content)
    }

    /// Begins to read a blob at `offset`.
    pub async fn open_blob(&self, digest: &str, offset: u64) -> Result<Response, Problem> {
        let mut headers = HeaderMap::new();
        if offset > 0 {
            // Invariant: digits are always a header value.
            let range = HeaderValue::from_str(&format!("bytes={offset}-")).expect("digits are a header value");
            headers.insert(header::RANGE, range);
        }
        self.get(&self.url("blobs", digest)?, &headers).await
    }

    fn url(&self, kind: &str, reference: &str) -> Result<Url, Problem> {
        let text = format!("{}/{kind}/{reference}", self.base);
        Url::parse(&text).map_err(|error| Problem::new(format!("{text}: {error}")))
    }

    /// Asks until the registry is not too busy to answer; refusals are told in its own words.
    async fn get(&self, url: &Url, headers: &HeaderMap) -> Result<Response, Problem> {
        let mut repeats = 0;
        loop {
            let answer = self.ask(&Method::GET, url, headers).await?;
            let status = answer.status();
            if status.is_success() {
                return Ok(answer);
            }
            match busy(&answer, repeats).filter(|_| repeats < REPEATS) {
                Some(wait) => {
                    repeats += 1;
                    tracing::debug!(%url, %status, ?wait, "the registry is busy");
                    self.env.sleep(wait).await;
                }
                None => return Err(self.refusal(&format!("GET {url}"), answer).await),
            }
        }
    }

    /// Asks once, and once more as the registry wants to be asked.
    async fn ask(&self, method: &Method, url: &Url, headers: &HeaderMap) -> Result<Response, Problem> {
        let answer = self.send(method, url, headers).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match Challenge::of(answer.headers()) {
            Some(challenge) if self.present(&challenge).await? => self.send(method, url, headers).await,
            _ => Ok(answer),
        }
    }

    async fn send(&self, method: &Method, url: &Url, headers: &HeaderMap) -> Result<Response, Problem> {
        let mut request = self.http.request(method.clone(), url.clone()).headers(headers.clone());
        if let Some(value) = self.authorization.lock().clone() {
            request = request.header(header::AUTHORIZATION, value);
        }
        self.answer(&format!("{method} {url}"), request).await
    }

    async fn answer(&self, what: &str, request: reqwest::RequestBuilder) -> Result<Response, Problem> {
        match env::timeout(&**self.env, self.silence, request.send()).await {
            Some(Ok(answer)) => Ok(answer),
            // Places that a registry redirects to may hold secrets.
            Some(Err(error)) => Err(Problem::new(format!("{what}: {}", causes(&error.without_url())))),
            None => Err(Problem::new(format!("{what}: no answer within {} s", self.silence.as_secs()))),
        }
    }

    /// Does what a challenge asks for. `false` if there is nothing to present.
    async fn present(&self, challenge: &Challenge) -> Result<bool, Problem> {
        let value = match (challenge, &self.identity) {
            (Challenge::Basic, Some((user, password))) => auth::basic(user, password),
            (Challenge::Basic, None) => None,
            (Challenge::Bearer { realm, service, scope }, _) => {
                let token = self.token(realm, service.as_deref(), scope.as_deref()).await?;
                auth::bearer(&token)
            }
        };
        let is_new = value.is_some();
        *self.authorization.lock() = value;
        Ok(is_new)
    }

    /// Asks the registry's token service for a token to pull with.
    async fn token(&self, realm: &str, service: Option<&str>, scope: Option<&str>) -> Result<String, Problem> {
        #[derive(serde::Deserialize)]
        struct Answer {
            #[serde(default)]
            token: String,
            #[serde(default)]
            access_token: String,
        }
        let invalid = |why: &str| Problem::new(format!("the registry's token service {realm:?}: {why}"));
        let mut url = Url::parse(realm).map_err(|error| invalid(&error.to_string()))?;
        let authority = || {
            url.port().map_or(url.host_str().unwrap_or_default().to_owned(), |port| {
                format!("{}:{port}", url.host_str().unwrap_or_default())
            })
        };
        if url.scheme() != "https" && !(url.scheme() == "http" && is_plain(&authority(), self.insecure)) {
            return Err(invalid("it must be reached over HTTPS"));
        }
        let own_scope = format!("repository:{}:pull", self.name);
        url.query_pairs_mut()
            .extend_pairs(service.map(|service| ("service", service)))
            .append_pair("scope", scope.unwrap_or(&own_scope));
        let mut request = self.http.get(url.clone());
        if let Some(value) = self.identity.as_ref().and_then(|(user, password)| auth::basic(user, password)) {
            request = request.header(header::AUTHORIZATION, value);
        }
        let what = format!("failed to authorize: GET {url}");
        let answer = self.answer(&what, request).await?;
        if !answer.status().is_success() {
            return Err(self.refusal(&what, answer).await);
        }
        let content = self.body(&url, answer, ANSWER_LIMIT).await?;
        let answer: Answer = serde_json::from_slice(&content).map_err(|error| invalid(&error.to_string()))?;
        match (answer.token, answer.access_token) {
            (token, _) if !token.is_empty() => Ok(token),
            (_, token) if !token.is_empty() => Ok(token),
            _ => Err(invalid("it answered without a token")),
        }
    }

    async fn refusal(&self, what: &str, answer: Response) -> Problem {
        let (status, url) = (answer.status(), answer.url().clone());
        let body = self.body(&url, answer, ANSWER_LIMIT).await.unwrap_or_default();
        Problem::refused(what, status, &words(&body))
    }

    /// Reads an answer whole, which must not be longer than `limit` bytes.
    async fn body(&self, url: &Url, mut answer: Response, limit: u64) -> Result<Vec<u8>, Problem> {
        let mut content = Vec::new();
        while let Some(bytes) =
            self.chunk(&mut answer).await.map_err(|why| Problem::new(format!("GET {url}: {why}")))?
        {
            if (content.len() + bytes.len()) as u64 > limit {
                return Err(Problem::new(format!("GET {url}: the answer is longer than {limit} bytes")));
            }
            content.extend_from_slice(&bytes);
        }
        Ok(content)
    }

    /// The next piece of an answer; the error is what broke it off.
    pub async fn chunk(&self, answer: &mut Response) -> Result<Option<bytes::Bytes>, String> {
        match env::timeout(&**self.env, self.silence, answer.chunk()).await {
            Some(Ok(bytes)) => Ok(bytes),
            Some(Err(error)) => Err(causes(&error.without_url())),
            None => Err(format!("the registry was silent for {} s", self.silence.as_secs())),
        }
    }
}

fn accepting() -> HeaderMap {
    HeaderMap::from_iter([(header::ACCEPT, HeaderValue::from_static(ACCEPTED))])
}

fn changed(url: &Url, expected: &str, actual: &str) -> Problem {
    let (expected, actual) = (expected.to_owned(), actual.to_owned());
    ImageError::Digest { what: url.to_string(), expected, actual }.into()
}

/// How long to wait before a busy registry is asked again; `None` if it is not busy, or for too long.
fn busy(answer: &Response, repeats: u32) -> Option<Duration> {
    let is_busy = matches!(
        answer.status(),
        StatusCode::TOO_MANY_REQUESTS
            | StatusCode::BAD_GATEWAY
            | StatusCode::SERVICE_UNAVAILABLE
            | StatusCode::GATEWAY_TIMEOUT
    );
    let asked = answer.headers().get(header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
    let wait = asked.map_or(Duration::from_secs(1 << repeats.min(5)), Duration::from_secs);
    (is_busy && wait <= MAX_WAIT).then_some(wait)
}

/// Whether a registry is asked over plain HTTP: one on this machine, or one that was configured so.
fn is_plain(registry: &str, insecure: &[String]) -> bool {
    let host = match registry.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => registry.split(':').next().unwrap_or_default(),
    };
    let is_loopback = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    is_loopback || insecure.iter().any(|known| known == registry || known == host)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_loopback_and_configured_registries_are_plain() {
        let insecure = ["lan:5000".to_owned(), "old.example.com".to_owned()];
        for registry in
            ["localhost", "localhost:5000", "127.0.0.1:5000", "127.9.9.9", "[::1]:80", "lan:5000", "old.example.com:1"]
        {
            assert!(is_plain(registry, &insecure), "{registry}");
        }
        for registry in ["docker.io", "lan", "lan:5001", "128.0.0.1:5000", "localhost.example.com", "[::2]:80"] {
            assert!(!is_plain(registry, &insecure), "{registry}");
        }
    }

    #[test]
    fn documents_are_what_they_say() {
        let is_index = |media_type: &str, content: &str| {
            let document = Document { digest: "d".into(), content: content.into(), media_type: media_type.into() };
            document.is_index().map_err(|problem| problem.to_string())
        };
        let (oci, list) = ("application/vnd.oci.image.manifest.v1+json", "application/vnd.oci.image.index.v1+json");
        assert_eq!(is_index(oci, r#"{"schemaVersion": 2, "layers": []}"#), Ok(false));
        assert_eq!(is_index(list, r#"{"schemaVersion": 2, "manifests": []}"#), Ok(true));
        assert_eq!(is_index("", r#"{"schemaVersion": 2, "manifests": []}"#), Ok(true));
        assert!(is_index(oci, r#"{"schemaVersion": 2, "manifests": []}"#).unwrap_err().contains("media type"));
        assert!(is_index(list, r#"{"schemaVersion": 2, "manifests": [], "layers": []}"#).is_err());
        assert!(is_index(oci, r#"{"schemaVersion": 1, "fsLayers": []}"#).unwrap_err().contains("outdated"));
        assert!(is_index(oci, "[]").is_err());
    }
}
