//! OpenAPI: what `kubectl explain` shows, clients validate by, and generators read.
//!
//! One version 3 document for each group and version, with an index that names each by a digest of its text, and one
//! version 2 document of everything. Definitions and descriptions come from the object model's schemas; custom kinds
//! bring their own. Documents are made when first asked for, kept compressed, and made anew only when what they show
//! has changed.

mod custom;
mod definitions;
mod operations;
mod protobuf;

#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header, request::Parts as Head};
use k8s_core::{
    doc,
    doc::{Doc, Map},
    registry::{Registry, ResourceInfo},
    schema::Schemas,
    status::{ApiError, ApiResult},
};
use k8s_wire::body::{self, Body};
use parking_lot::Mutex;

use self::{
    definitions::Definitions,
    operations::{Dialect, paths},
};
use crate::{
    aggregator::{Aggregator, Part},
    discovery::Catalog,
    outer::{Accepted, tagged, takes_gzip},
};

/// The OpenAPI documents of a catalog.
pub(crate) struct OpenApi {
    catalog: Arc<dyn Catalog>,
    /// Such as `v1.37.0`.
    version: String,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// The kinds that the documents show; `None` before the first.
    registry: Option<Arc<Registry>>,
    /// By the name that the index gives: `api/v1`, `apis/apps/v1`.
    documents: BTreeMap<String, Document>,
    whole: Option<Whole>,
}

/// The version 2 document.
struct Whole {
    json: Document,
    protobuf: Document,
    /// What other servers have added to it.
    parts: Vec<Arc<Part>>,
}

/// One document, compressed.
#[derive(Clone)]
struct Document {
    media_type: &'static str,
    digest: String,
    gzip: Bytes,
    /// The resources that it shows, to see whether it must be made anew.
    shows: Vec<Arc<ResourceInfo>>,
}

impl OpenApi {
    pub(crate) fn new(catalog: Arc<dyn Catalog>, version: String) -> Self {
        Self { catalog, version, kept: Mutex::default() }
    }

    /// `/openapi/v3`: where each document is, also those that other servers have.
    pub(crate) fn index(&self, head: &Head, others: Option<&Aggregator>) -> ApiResult<Response<Body>> {
        Accepted::read(&head.headers).json()?;
        let mut kept = self.kept.lock();
        self.refresh(&mut kept);
        let mut paths = Map::new();
        for (name, document) in &kept.documents {
            let url = format!("/openapi/v3/{name}?hash={}", document.digest);
            paths.insert(name.as_str(), doc!({"serverRelativeURL": url}));
        }
        drop(kept);
        let mut index = doc!({"paths": Doc::Object(paths)});
        if let Some(others) = others {
            others.add_openapi(&mut index);
        }
        let index = index.to_json();
        Ok(tagged(head, &digest(&index), "application/json", index.into()))
    }

    /// `/openapi/v3/NAME`: one document. With another digest than its own it redirects to the right one.
    pub(crate) fn v3(&self, name: &str, head: &Head) -> ApiResult<Response<Body>> {
        Accepted::read(&head.headers).json()?;
        let document = {
            let mut kept = self.kept.lock();
            self.refresh(&mut kept);
            kept.documents.get(name).cloned().ok_or_else(ApiError::no_such_path)?
        };
        let query = head.uri.query().unwrap_or("");
        let asked = query.split('&').find_map(|pair| pair.strip_prefix("hash="));
        if asked.is_some_and(|asked| asked != document.digest) {
            return moved(&format!("/openapi/v3/{name}?hash={}", document.digest));
        }
        let mut answer = document.answer(head)?;
        if asked.is_some() {
            // The digest is part of the address: what stands there never changes.
            let forever = HeaderValue::from_static("public, immutable, max-age=31536000");
            answer.headers_mut().insert(header::CACHE_CONTROL, forever);
        }
        Ok(answer)
    }

    /// `/openapi/v2`: everything in one document, also what other servers have, in JSON or protobuf.
    pub(crate) fn v2(&self, head: &Head, others: Option<&Aggregator>) -> ApiResult<Response<Body>> {
        let accepts = head.headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
        let wants_protobuf = accepts.flat_map(|value| value.split(',')).any(|clause| {
            let media_type = clause.split(';').next().unwrap_or("").trim();
            protobuf::MEDIA_TYPES.contains(&media_type)
        });
        if !wants_protobuf {
            Accepted::read(&head.headers).json()?;
        }
        let document = {
            let mut kept = self.kept.lock();
            self.refresh(&mut kept);
            let parts = others.map_or_else(Vec::new, Aggregator::openapi_parts);
            let is_stale = kept.whole.as_ref().is_some_and(|whole| !same(&whole.parts, &parts));
            kept.whole.take_if(|_| is_stale);
            let Whole { json, protobuf, .. } = kept.whole.get_or_insert_with(|| self.whole(parts));
            if wants_protobuf { protobuf.clone() } else { json.clone() }
        };
        document.answer(head)
    }

    fn whole(&self, parts: Vec<Arc<Part>>) -> Whole {
        let shows: Vec<Arc<ResourceInfo>> = self.catalog.registry().iter().cloned().collect();
        let mut document = self.document(Dialect::V2, &shows, &Definitions::new());
        parts.iter().for_each(|part| part.add_to(&mut document));
        Whole {
            json: Document::new("application/json", &document.to_json(), shows.clone()),
            protobuf: Document::new(protobuf::MEDIA_TYPES[1], &protobuf::encode(&document), shows),
            parts,
        }
    }

    /// Makes anew the documents whose resources have changed.
    fn refresh(&self, kept: &mut Kept) {
        let registry = self.catalog.registry();
        if kept.registry.as_ref().is_some_and(|shown| Arc::ptr_eq(shown, &registry)) {
            return;
        }
        let mut groups: BTreeMap<String, Vec<Arc<ResourceInfo>>> = BTreeMap::new();
        for info in registry.iter() {
            groups.entry(document_name(info)).or_default().push(info.clone());
        }
        let mut definitions = None;
        let mut before = std::mem::take(&mut kept.documents);
        for (name, shows) in groups {
            let document = match before.remove(&name) {
                Some(document) if same(&document.shows, &shows) => document,
                _ => {
                    let document = self.document(Dialect::V3, &shows, definitions.get_or_insert_with(Definitions::new));
                    Document::new("application/json", &document.to_json(), shows)
                }
            };
            kept.documents.insert(name, document);
        }
        kept.registry = Some(registry);
        kept.whole = None;
    }

    fn document(&self, dialect: Dialect, shows: &[Arc<ResourceInfo>], definitions: &Definitions) -> Doc {
        let info = doc!({"title": "Kubernetes", "version": self.version.as_str()});
        let (paths, schemas) =
            (paths(shows, definitions, dialect), definitions.reached(shows, &*self.catalog, dialect));
        match dialect {
            Dialect::V3 => doc!({
                "openapi": "3.0.0",
                "info": info,
                "paths": Doc::Object(paths),
                "components": {"schemas": Doc::Object(schemas)}
            }),
            Dialect::V2 => doc!({
                "swagger": "2.0",
                "info": info,
                "paths": Doc::Object(paths),
                "definitions": Doc::Object(schemas)
            }),
        }
    }
}

impl Document {
    fn new(media_type: &'static str, text: &[u8], shows: Vec<Arc<ResourceInfo>>) -> Self {
        Self { media_type, digest: digest(text), gzip: compress(text), shows }
    }

    fn answer(&self, head: &Head) -> ApiResult<Response<Body>> {
        if takes_gzip(&head.headers) {
            let mut answer = tagged(head, &self.digest, self.media_type, self.gzip.clone());
            answer.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            return Ok(answer);
        }
        let mut text = Vec::new();
        flate2::read::GzDecoder::new(self.gzip.as_ref())
            .read_to_end(&mut text)
            .map_err(|why| ApiError::internal(format!("unpack OpenAPI document: {why}")))?;
        Ok(tagged(head, &self.digest, self.media_type, text.into()))
    }
}

/// Whether two lists are of the same entries. An entry that changed is another allocation.
fn same<T>(a: &[Arc<T>], b: &[Arc<T>]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| Arc::ptr_eq(a, b))
}

/// How the index names the document of a resource: as its path begins.
fn document_name(of: &ResourceInfo) -> String {
    if of.group.is_empty() { format!("api/{}", of.version) } else { format!("apis/{}/{}", of.group, of.version) }
}

fn moved(to: &str) -> ApiResult<Response<Body>> {
    let mut answer = Response::new(body::empty());
    *answer.status_mut() = StatusCode::MOVED_PERMANENTLY;
    let location = HeaderValue::from_str(to).map_err(|_| ApiError::no_such_path())?;
    answer.headers_mut().insert(header::LOCATION, location);
    Ok(answer)
}

fn compress(json: &[u8]) -> Bytes {
    let mut zip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    // Invariant: writing to memory does not fail.
    zip.write_all(json).and_then(|()| zip.finish()).unwrap_or_default().into()
}

/// A digest in hexadecimal, the same for the same text everywhere.
pub(crate) fn digest(text: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text);
    digest.as_ref().iter().map(|byte| format!("{byte:02X}")).collect()
}

/// The built-in schemas, to read definitions from.
fn schemas() -> Schemas {
    Schemas::builtin()
}
