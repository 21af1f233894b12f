//! What clients see over HTTP: the outer service over a whole server, asked as a client asks.

mod binary;
mod lists;
mod put;
mod relist;
mod writes;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::{HeaderMap, Request};
use http_body_util::BodyExt;
use k8s_core::{doc::Doc, request::Caller, status::ApiResult};
use k8s_wire::body;
use tower::ServiceExt;

use super::fixture::{Fixture, server};
use crate::{
    auth::{Authenticator, Credentials},
    outer::{Outer, Parts},
};

const JSON: &str = "application/json";
const MAPS: &str = "/api/v1/namespaces/default/configmaps";

/// Everybody is who their token says; `admin` is an administrator.
struct ByName;

#[async_trait]
impl Authenticator for ByName {
    async fn authenticate(&self, credentials: &Credentials) -> ApiResult<Option<Caller>> {
        Ok(credentials.bearer.as_deref().map(|name| match name {
            "admin" => Caller::new("admin", &["system:masters"]),
            name => Caller::new(name, &[]),
        }))
    }
}

/// A server and its outer service.
struct Wire {
    outer: Outer,
    api: Fixture,
}

/// An answer, read whole.
struct Got {
    code: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Got {
    #[track_caller]
    fn json(&self) -> Doc {
        Doc::parse(&self.body).unwrap_or_else(|why| panic!("{why}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// The message of a failure with this code.
    #[track_caller]
    fn failed(&self, code: u16) -> String {
        assert_eq!(self.code, code, "{}", self.text());
        let status = self.json();
        assert_eq!((status.str_at(&["kind"]), status.str_at(&["status"])), ("Status", "Failure"));
        status.str_at(&["message"]).to_owned()
    }

    /// The fields that a failure blames.
    fn blamed(&self) -> Vec<String> {
        let status = self.json();
        let causes = status.at(&["details", "causes"]).map_or(&[][..], Doc::items);
        causes.iter().map(|cause| cause.str_at(&["field"]).to_owned()).collect()
    }

    /// The names of a list's items.
    fn names(&self) -> Vec<String> {
        assert_eq!(self.code, 200, "{}", self.text());
        let list = self.json();
        let items = list.at(&["items"]).map_or(&[][..], Doc::items);
        items.iter().map(|item| item.str_at(&["metadata", "name"]).to_owned()).collect()
    }

    /// The events of a watch that ended, as `ADDED name`.
    fn events(&self) -> Vec<String> {
        let lines = self.text();
        let shown = |line: &str| {
            let event = Doc::parse(line.as_bytes()).unwrap();
            let name = event.str_at(&["object", "metadata", "name"]);
            format!("{} {name}", event.str_at(&["type"]))
        };
        lines.lines().map(shown).collect()
    }
}

impl Wire {
    async fn new() -> Self {
        Self::over(server().await)
    }

    fn over(api: Fixture) -> Self {
        let outer = Outer::new(Parts::of(&api.api, api.env.clone(), Arc::new(ByName)));
        Self { outer, api }
    }

    async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], text: impl Into<Bytes>) -> Got {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| *name == "authorization") {
            request = request.header("authorization", "Bearer admin");
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let text = text.into();
        let sent = if text.is_empty() { body::empty() } else { body::full(text) };
        let response = self.outer.clone().oneshot(request.body(sent).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Got { code: head.status.as_u16(), headers: head.headers, body }
    }

    async fn get(&self, path: &str) -> Got {
        self.ask("GET", path, &[], "").await
    }

    async fn send(&self, method: &str, path: &str, media_type: &str, text: impl Into<Bytes>) -> Got {
        self.ask(method, path, &[("content-type", media_type)], text).await
    }

    /// Config maps of these names, each labelled `name=NAME`.
    async fn maps(&self, names: &[&str]) {
        for name in names {
            let text = format!(r#"{{"metadata":{{"name":"{name}","labels":{{"name":"{name}"}}}}}}"#);
            assert_eq!(self.send("POST", MAPS, JSON, text).await.code, 201);
        }
    }
}
