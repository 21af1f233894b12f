//! Documents of a catalog that changes.

use std::{collections::BTreeSet, io::Read, sync::Arc};

use http::Request;
use http_body_util::BodyExt;
use k8s_core::{doc, doc::Doc, schema::Schemas};

use super::*;

/// The built-in kinds and a custom one, whose schema describes its spokes as told.
struct Changing(Mutex<(Arc<Registry>, &'static str)>);

impl Catalog for Changing {
    fn registry(&self) -> Arc<Registry> {
        self.0.lock().0.clone()
    }

    fn written_schema(&self, _: &ResourceInfo) -> Option<Arc<Doc>> {
        let spokes = doc!({"type": "integer", "description": self.0.lock().1});
        let spec = doc!({"type": "object", "properties": {"spokes": spokes}});
        Some(Arc::new(doc!({"type": "object", "properties": {"spec": spec}})))
    }
}

fn wheel() -> ResourceInfo {
    let schema = Schemas::builtin().schema("", "v1", "ConfigMap").unwrap();
    ResourceInfo::custom("example.com", "v1", "wheels", "Wheel", schema)
}

fn openapi() -> (OpenApi, Arc<Changing>) {
    let registry = Arc::new(Registry::builtin().with(wheel()));
    let catalog = Arc::new(Changing(Mutex::new((registry, "before"))));
    (OpenApi::new(catalog.clone(), "v1.37.0".into()), catalog)
}

fn head(uri: &str, headers: &[(&str, &str)]) -> Head {
    let request = headers.iter().fold(Request::get(uri), |request, (name, value)| request.header(*name, *value));
    request.body(()).unwrap().into_parts().0
}

async fn json(answer: ApiResult<Response<Body>>) -> Doc {
    let bytes = answer.unwrap().into_body().collect().await.unwrap().to_bytes();
    Doc::parse(&bytes).unwrap()
}

async fn url(openapi: &OpenApi, name: &str) -> String {
    let index = json(openapi.index(&head("/openapi/v3", &[]), None)).await;
    index.str_at(&["paths", name, "serverRelativeURL"]).to_owned()
}

/// Every reference of a document.
fn references(doc: &Doc, found: &mut BTreeSet<String>) {
    match doc {
        Doc::Array(items) => items.iter().for_each(|item| references(item, found)),
        Doc::Object(fields) => {
            for (key, value) in fields.iter() {
                match value.as_str() {
                    Some(text) if key == "$ref" => drop(found.insert(text.to_owned())),
                    _ => references(value, found),
                }
            }
        }
        _ => {}
    }
}

#[tokio::test]
async fn every_reference_leads_somewhere() {
    let (openapi, _) = openapi();
    for name in ["api/v1", "apis/example.com/v1"] {
        let document = json(openapi.v3(name, &head("/openapi/v3/x", &[]))).await;
        let (mut found, schemas) = (BTreeSet::new(), document.at(&["components", "schemas"]).unwrap());
        references(&document, &mut found);
        assert!(found.len() > 3, "{name}: {found:?}");
        for reference in found {
            let name = reference.strip_prefix("#/components/schemas/").unwrap_or_else(|| panic!("{reference}"));
            assert!(schemas.get(name).is_some(), "{reference}");
        }
    }
    let whole = json(openapi.v2(&head("/openapi/v2", &[]), None)).await;
    let mut found = BTreeSet::new();
    references(&whole, &mut found);
    for reference in found {
        let name = reference.strip_prefix("#/definitions/").unwrap_or_else(|| panic!("{reference}"));
        assert!(whole.at(&["definitions", name]).is_some(), "{reference}");
    }
    assert!(whole.at(&["definitions", "com.example.v1.Wheel"]).is_some());
}

#[tokio::test]
async fn operations_say_kind_validation_and_patches() {
    let (openapi, _) = openapi();
    let core = json(openapi.v3("api/v1", &head("/", &[]))).await;
    let patch = core.at(&["paths", "/api/v1/namespaces/{namespace}/pods/{name}", "patch"]).unwrap();
    assert_eq!(patch.str_at(&["x-kubernetes-group-version-kind", "kind"]), "Pod");
    let parameters: Vec<&str> = patch.get("parameters").unwrap().items().iter().map(|p| p.str_at(&["name"])).collect();
    assert!(parameters.contains(&"fieldValidation") && parameters.contains(&"dryRun"), "{parameters:?}");
    let strategic = "application/strategic-merge-patch+json";
    assert!(patch.at(&["requestBody", "content", strategic]).is_some());
    let custom = json(openapi.v3("apis/example.com/v1", &head("/", &[]))).await;
    let path = "/apis/example.com/v1/namespaces/{namespace}/wheels/{name}";
    let patch = custom.at(&["paths", path, "patch"]).unwrap();
    assert!(patch.at(&["requestBody", "content", strategic]).is_none(), "custom kinds have no strategic merge");
    let evict = core.at(&["paths", "/api/v1/namespaces/{namespace}/pods/{name}/eviction", "post"]).unwrap();
    assert_eq!(evict.str_at(&["x-kubernetes-group-version-kind", "group"]), "policy");
    let named = |below: &str, method: &str| {
        let path = format!("/api/v1/namespaces/{{namespace}}/pods/{{name}}/{below}");
        core.at(&["paths", &path, method, "x-kubernetes-action"]).unwrap().as_str().unwrap().to_owned()
    };
    assert_eq!([named("exec", "get"), named("proxy", "delete"), named("log", "get")], ["connect", "connect", "get"]);
    let schema = core.at(&["components", "schemas", "io.k8s.api.core.v1.Pod"]).unwrap();
    let gvk = &schema.get("x-kubernetes-group-version-kind").unwrap().items()[0];
    assert_eq!(gvk.to_string(), r#"{"group":"","kind":"Pod","version":"v1"}"#);
    let containers = core.at(&["components", "schemas", "io.k8s.api.core.v1.PodSpec", "properties", "containers"]);
    assert_eq!(containers.unwrap().str_at(&["x-kubernetes-patch-merge-key"]), "name");
}

#[tokio::test]
async fn a_change_of_one_kind_leaves_the_other_documents_alone() {
    let (openapi, catalog) = openapi();
    let (core, custom) = (url(&openapi, "api/v1").await, url(&openapi, "apis/example.com/v1").await);
    let changed = catalog.registry().as_ref().clone().with(wheel());
    *catalog.0.lock() = (Arc::new(changed), "after");
    assert_eq!(url(&openapi, "api/v1").await, core);
    assert_ne!(url(&openapi, "apis/example.com/v1").await, custom);
    let moved = openapi.v3("apis/example.com/v1", &head(&custom, &[])).unwrap();
    assert_eq!(moved.status(), 301, "an old digest leads to the new one");
    catalog.0.lock().0 = Arc::new(Registry::builtin());
    assert_eq!(url(&openapi, "apis/example.com/v1").await, "", "what is gone is not listed");
    assert_eq!(openapi.v3("apis/example.com/v1", &head("/", &[])).unwrap_err().code(), 404);
}

#[tokio::test]
async fn documents_are_kept_by_clients_and_sent_compressed() {
    let (openapi, _) = openapi();
    let address = url(&openapi, "api/v1").await;
    let plain = openapi.v3("api/v1", &head(&address, &[])).unwrap();
    assert!(plain.headers()["cache-control"].to_str().unwrap().contains("immutable"));
    let etag = plain.headers()["etag"].to_str().unwrap().to_owned();
    let text = plain.into_body().collect().await.unwrap().to_bytes();
    let again = openapi.v3("api/v1", &head(&address, &[("if-none-match", &etag)])).unwrap();
    assert_eq!(again.status(), 304);
    let zipped = openapi.v3("api/v1", &head(&address, &[("accept-encoding", "br, gzip;q=0.8")])).unwrap();
    assert_eq!(zipped.headers()["content-encoding"], "gzip");
    let bytes = zipped.into_body().collect().await.unwrap().to_bytes();
    assert!(bytes.len() * 4 < text.len(), "{} of {}", bytes.len(), text.len());
    let mut unzipped = Vec::new();
    flate2::read::GzDecoder::new(bytes.as_ref()).read_to_end(&mut unzipped).unwrap();
    assert_eq!(unzipped, text);
    assert_eq!(openapi.v2(&head("/", &[("accept", "application/xml")]), None).unwrap_err().code(), 406);
}
