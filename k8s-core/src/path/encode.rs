//! The inverse of reading a head: the method, path and query that say what an [`ApiRequest`] says.

use super::{Method, encode_options, percent_encode};
use crate::request::{ApiRequest, Options, Target, Verb};

/// The head of a request as it goes over a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestHead {
    /// The method.
    pub method: Method,
    /// The path, percent-encoded, with its leading slash.
    pub path: String,
    /// The query without its `?`; empty if there is none.
    pub query: String,
}

impl RequestHead {
    /// Path and query as they stand in a request line.
    pub fn path_and_query(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }
}

/// The head of a request.
///
/// What a deletion says beside selectors goes into its body ([`super::write_delete_options`]): only there can it
/// carry preconditions.
pub fn encode(request: &ApiRequest) -> RequestHead {
    let options = &request.options;
    let mut path = target_path(&request.target);
    path.push_str(&options.connect_path);
    let query = match request.verb {
        Verb::Connect => options.connect_query.clone(),
        Verb::Watch if options.connect_query.is_empty() => {
            let rest = encode_options(options);
            if rest.is_empty() { "watch=true".to_owned() } else { format!("watch=true&{rest}") }
        }
        Verb::Delete | Verb::DeleteCollection => encode_options(&selection(options)),
        _ => encode_options(options),
    };
    RequestHead { method: method(request), path, query }
}

fn method(request: &ApiRequest) -> Method {
    let options = &request.options;
    match request.verb {
        Verb::Get | Verb::List | Verb::Watch => Method::Get,
        Verb::Create => Method::Post,
        Verb::Update => Method::Put,
        Verb::Patch => Method::Patch,
        Verb::Delete | Verb::DeleteCollection => Method::Delete,
        // Streams are opened by GET: a WebSocket cannot be opened otherwise.
        Verb::Connect if request.target.subresource != "proxy" => Method::Get,
        Verb::Connect => match options.connect_as {
            Verb::Create => Method::Post,
            Verb::Update => Method::Put,
            Verb::Patch => Method::Patch,
            Verb::Delete => Method::Delete,
            _ => Method::Get,
        },
    }
}

/// Only what chooses the objects of a deletion.
fn selection(options: &Options) -> Options {
    Options {
        label_selector: options.label_selector.clone(),
        field_selector: options.field_selector.clone(),
        limit: options.limit,
        continue_token: options.continue_token.clone(),
        resource_version: options.resource_version,
        resource_version_match: options.resource_version_match,
        ..Options::default()
    }
}

fn target_path(target: &Target) -> String {
    let resource = &target.resource;
    let mut path = String::with_capacity(64);
    let mut push = |segment: &str| {
        if !segment.is_empty() {
            path.push('/');
            percent_encode(&mut path, segment, b":@$!,");
        }
    };
    push(if resource.group.is_empty() { "api" } else { "apis" });
    push(&resource.group);
    push(&resource.version);
    if !target.namespace.is_empty() {
        push("namespaces");
        push(&target.namespace);
    }
    push(&resource.plural);
    push(&target.name);
    push(&target.subresource);
    path
}
