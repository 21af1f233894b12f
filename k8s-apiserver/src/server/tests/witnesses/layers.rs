//! Watchers at each layer, which write down what they are told: the cache, HTTP, an informer.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{StreamExt, stream::BoxStream};
use http_body_util::BodyExt;
use k8s_core::{
    doc::Doc,
    object::Object,
    request::{Caller, Options, Target, VersionMatch, WatchEvent},
    status::ApiResult,
};
use k8s_reconcile::{Client, InformerScope};
use k8s_wire::body;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tower::Service;

use super::history::{Record, Said, Wanted, What, key, said};
use crate::{
    auth::{Authenticator, Credentials},
    cache::Filter,
    outer::{Outer, Parts},
    server::tests::fixture::{Fixture, resource},
};

/// How a watch is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layer {
    Cache,
    Http,
}

/// Where a watch begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    /// After a revision.
    After(u64),
    /// With what is there, which a bookmark ends.
    Now,
}

type Records = BoxStream<'static, Record>;

fn options(wanted: &Wanted, from: From) -> Options {
    let text = |label: Option<&str>| label.map_or(String::new(), |label| format!("l={label}"));
    let fields = wanted.name.map_or(String::new(), |name| format!("metadata.name={name}"));
    let now = from == From::Now;
    Options {
        label_selector: text(wanted.label).parse().unwrap(),
        field_selector: fields.parse().unwrap(),
        allow_watch_bookmarks: true,
        send_initial_events: now.then_some(true),
        resource_version_match: now.then_some(VersionMatch::NotOlderThan),
        resource_version: match from {
            From::After(revision) => Some(revision),
            From::Now => None,
        },
        ..Options::default()
    }
}

/// Opens a watch. It ends where the server ends it; an error is a failure of the test.
pub async fn open(api: &Fixture, layer: Layer, wanted: &Wanted, from: From) -> Records {
    match layer {
        Layer::Cache => in_process(api, wanted, from).await,
        Layer::Http => over_http(api, wanted, from).await,
    }
}

async fn in_process(api: &Fixture, wanted: &Wanted, from: From) -> Records {
    let cache = api.api.cache();
    let (resource, options) = (resource("configmaps"), options(wanted, from));
    let target = Target::all(resource.clone(), wanted.namespace.unwrap_or_default());
    let filter = Filter::new(&target, &options);
    let watch = cache.watch(&cache.kind(&resource).unwrap(), filter, &options).await.unwrap();
    watch.map(|event| record(&event.unwrap())).boxed()
}

fn record(event: &WatchEvent) -> Record {
    let what = match event {
        WatchEvent::Added(_) => What::Added,
        WatchEvent::Modified(_) => What::Modified,
        WatchEvent::Deleted(_) => What::Deleted,
        WatchEvent::Bookmark { revision, .. } => return bookmark(*revision),
    };
    of_object(what, event.object().unwrap())
}

fn of_object(what: What, object: &Object) -> Record {
    of_doc(what, &Doc::parse(&object.to_json()).unwrap())
}

fn of_doc(what: What, doc: &Doc) -> Record {
    let revision = doc.str_at(&["metadata", "resourceVersion"]).parse().unwrap();
    Record { revision, what, key: key(doc), said: said(doc) }
}

fn bookmark(revision: u64) -> Record {
    Record { revision, what: What::Bookmark, key: String::new(), said: Said::default() }
}

/// Everybody is an administrator.
struct Anybody;

#[async_trait]
impl Authenticator for Anybody {
    async fn authenticate(&self, _: &Credentials) -> ApiResult<Option<Caller>> {
        Ok(Some(Caller::new("admin", &["system:masters"])))
    }
}

async fn over_http(api: &Fixture, wanted: &Wanted, from: From) -> Records {
    let mut outer = Outer::new(Parts::of(&api.api, api.env.clone(), Arc::new(Anybody)));
    let place = wanted.namespace.map_or(String::new(), |namespace| format!("namespaces/{namespace}/"));
    let mut uri = format!("/api/v1/{place}configmaps?watch=1&allowWatchBookmarks=true");
    match from {
        From::After(revision) => uri.push_str(&format!("&resourceVersion={revision}")),
        From::Now => uri.push_str("&sendInitialEvents=true&resourceVersionMatch=NotOlderThan"),
    }
    wanted.label.iter().for_each(|label| uri.push_str(&format!("&labelSelector=l%3D{label}")));
    wanted.name.iter().for_each(|name| uri.push_str(&format!("&fieldSelector=metadata.name%3D{name}")));
    let answer = outer.call(http::Request::get(uri).body(body::empty()).unwrap());
    let response = answer.await.unwrap();
    assert_eq!(response.status(), 200);
    let frames = response.into_body().into_data_stream().map(|frame| frame.unwrap());
    // An answer is lines, however it is cut into frames.
    let lines = frames.scan(Vec::new(), |rest: &mut Vec<u8>, frame: Bytes| {
        rest.extend_from_slice(&frame);
        let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        let whole: Vec<u8> = rest.drain(..end).collect();
        let lines: Vec<Record> = whole.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(line).collect();
        futures::future::ready(Some(futures::stream::iter(lines)))
    });
    lines.flatten().boxed()
}

fn line(line: &[u8]) -> Record {
    let doc = Doc::parse(line).unwrap();
    let object = doc.get("object").unwrap();
    let what = match doc.str_at(&["type"]) {
        "ADDED" => What::Added,
        "MODIFIED" => What::Modified,
        "DELETED" => What::Deleted,
        "BOOKMARK" => return bookmark(object.str_at(&["metadata", "resourceVersion"]).parse().unwrap()),
        other => panic!("{other}: {object:?}"),
    };
    of_doc(what, object)
}

/// What one watcher writes down, as it comes.
pub struct Witness {
    pub name: String,
    pub wanted: Wanted,
    /// After which revision it began to watch.
    pub from: u64,
    pub told: UnboundedReceiver<Record>,
    /// Ends it when dropped.
    _running: Box<dyn std::any::Any + Send>,
}

/// Starts a watcher that goes away after some records, each time after `stay()` of them, and resumes where it was.
pub fn restless(
    api: &Fixture,
    layer: Layer,
    wanted: &Wanted,
    from: u64,
    mut stay: impl FnMut() -> usize + Send + 'static,
) -> Witness {
    let (sender, told) = unbounded_channel();
    let name = format!("{layer:?} {wanted:?} from {from}");
    let (api, of, env) = (api.clone(), wanted.clone(), api.env.clone());
    let watching = async move {
        let mut reached = from;
        loop {
            let mut watch = open(&api, layer, &of, From::After(reached)).await.take(stay());
            while let Some(record) = watch.next().await {
                reached = record.revision;
                if sender.send(record).is_err() {
                    return;
                }
            }
        }
    };
    let running = Box::new(env.spawn("witness", Box::pin(watching)));
    Witness { name, wanted: wanted.clone(), from, told, _running: running }
}

/// Starts an informer. Its records of deletions are at the revision of the object's last state.
pub async fn informer(api: &Fixture, wanted: &Wanted) -> Witness {
    let client = Client::new(api.api.transport(api.caller.clone()), api.env.clone());
    let fields = wanted.name.map(|name| format!("metadata.name={name}")).unwrap_or_default();
    let labels = wanted.label.map(|label| format!("l={label}")).unwrap_or_default();
    let scope = InformerScope {
        namespace: wanted.namespace.unwrap_or_default().into(),
        labels: labels.parse().unwrap(),
        fields: fields.parse().unwrap(),
    };
    let informer = client.dynamic_informer(resource("configmaps"), scope);
    informer.synced().await;
    let (sender, told): (UnboundedSender<Record>, _) = unbounded_channel();
    let subscription = informer.subscribe(Arc::new(move |delta| {
        let what = match (&delta.old, &delta.new) {
            (None, Some(_)) => What::Added,
            (Some(_), Some(_)) => What::Modified,
            _ => What::Deleted,
        };
        // A handler cannot tell that nobody listens any more; it is unsubscribed with the witness.
        let _ = sender.send(of_object(what, delta.object()));
    }));
    let from = informer.revision();
    let name = format!("informer {wanted:?}");
    Witness { name, wanted: wanted.clone(), from, told, _running: Box::new((client, informer, subscription)) }
}
