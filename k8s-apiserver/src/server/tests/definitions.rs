//! Custom kinds at run time: definitions come, change and go, and so do their objects.

mod controllers;
mod conversion;
mod forms;
mod kinds;
mod lives;

use std::time::Duration;

use futures::StreamExt;
use k8s_core::{
    doc,
    doc::Doc,
    request::{ApiRequest, Options, PatchKind, RequestBody, ResourceType, Target, Verb, WatchStream},
    status::{ApiError, ApiResult},
};

use super::fixture::Fixture;

/// A definition of wheels, served at `v1` with this schema.
pub fn wheels(schema: Doc) -> Doc {
    doc!({
        "metadata": {"name": "wheels.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "wheels", "kind": "Wheel", "shortNames": ["wl"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": schema}}]
        }
    })
}

/// A schema without rules.
pub fn anything() -> Doc {
    doc!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

/// A schema with these fields in `spec`.
pub fn spec(fields: Doc) -> Doc {
    doc!({"type": "object", "properties": {"spec": {"type": "object", "properties": fields}}})
}

/// Short ways to ask about wheels.
impl Fixture {
    /// Creates a definition and waits until its kind is served.
    pub async fn define(&self, definition: Doc) -> Doc {
        let created = self.create("customresourcedefinitions", "", definition).await.unwrap();
        self.until(created.str_at(&["metadata", "name"]), |doc| condition(doc, "Established") == "True").await
    }

    /// Waits until a definition is as wanted.
    pub async fn until(&self, name: &str, is_right: impl Fn(&Doc) -> bool) -> Doc {
        for _ in 0..200 {
            let found = self.get(&format!("customresourcedefinitions/{name}"), "").await.unwrap();
            if is_right(&found) {
                return found;
            }
            self.env.sleep(Duration::from_millis(50)).await;
        }
        panic!(
            "{name} did not become what was waited for: {:?}",
            self.get(&format!("customresourcedefinitions/{name}"), "").await
        );
    }

    /// Waits until a definition is gone.
    pub async fn until_gone(&self, name: &str) {
        for _ in 0..200 {
            if self.get(&format!("customresourcedefinitions/{name}"), "").await.is_err_and(|error| error.is_not_found())
            {
                return;
            }
            self.env.sleep(Duration::from_millis(50)).await;
        }
        panic!("{name} did not go");
    }

    /// Waits until a change of a definition shows in what is served.
    pub async fn redefine(&self, name: &str, patch: Doc) -> Doc {
        let before = self.api.registry();
        let patched =
            self.patch(&format!("customresourcedefinitions/{name}"), "", PatchKind::Merge, patch).await.unwrap();
        self.api.kinds().changed_from(&before).await;
        patched
    }

    pub async fn wheel(&self, verb: Verb, path: &str, body: RequestBody) -> ApiResult<Doc> {
        self.wheel_with(verb, path, body, Options::default()).await
    }

    /// `path` is `VERSION/NAME/SUBRESOURCE`.
    pub async fn wheel_with(&self, verb: Verb, path: &str, body: RequestBody, options: Options) -> ApiResult<Doc> {
        let mut steps = path.splitn(3, '/');
        let resource = ResourceType::new("example.com", steps.next().unwrap_or("v1"), "wheels");
        let target = Target::one(resource, "default", steps.next().unwrap_or(""));
        let target = target.subresource(steps.next().unwrap_or(""));
        self.ask(ApiRequest { verb, target, options, body, ..ApiRequest::default() }).await?.into_doc()
    }

    pub async fn make_wheel(&self, doc: Doc) -> ApiResult<Doc> {
        self.wheel(Verb::Create, "v1", RequestBody::Doc(doc)).await
    }

    pub async fn read_wheel(&self, path: &str) -> ApiResult<Doc> {
        self.wheel(Verb::Get, path, RequestBody::None).await
    }

    pub async fn wheel_names(&self, options: Options) -> ApiResult<Vec<String>> {
        let target = Target::all(ResourceType::new("example.com", "v1", "wheels"), "default");
        let list =
            self.ask(ApiRequest { verb: Verb::List, target, options, ..ApiRequest::default() }).await?.into_list()?;
        Ok(list.items.iter().map(|object| object.meta.name.to_string()).collect())
    }

    pub async fn watch_wheels(&self, version: &str) -> WatchStream {
        let target = Target::all(ResourceType::new("example.com", version, "wheels"), "default");
        let watch = ApiRequest { verb: Verb::Watch, target, ..ApiRequest::default() };
        self.ask(watch).await.unwrap().into_watch().unwrap()
    }
}

/// The status of a condition.
pub fn condition<'d>(doc: &'d Doc, kind: &str) -> &'d str {
    let conditions = doc.at(&["status", "conditions"]).map_or(&[][..], Doc::items);
    let found = conditions.iter().find(|condition| condition.str_at(&["type"]) == kind);
    found.map_or("", |condition| condition.str_at(&["status"]))
}

/// Everything that a watch tells until it ends.
pub async fn rest(watch: WatchStream) -> Vec<String> {
    watch
        .map(|event| match event {
            Ok(event) => {
                let text = format!("{event:?}");
                let word = text.split(['(', ' ']).next().unwrap_or("").to_owned();
                format!("{word} {}", event.object().map_or("", |object| object.meta.name.as_str()))
            }
            Err(error) => format!("error {}", error.code()),
        })
        .collect()
        .await
}

/// The text of a refusal with this code.
#[track_caller]
pub fn refusal<T: std::fmt::Debug>(result: ApiResult<T>, code: u16) -> String {
    let error: ApiError = result.unwrap_err();
    assert_eq!(error.code(), code, "{error}");
    error.to_string()
}
