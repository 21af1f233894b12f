//! The load: rounds of every operation, each by some callers at once.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use futures::{StreamExt, stream};
use k8s::{
    core::{
        api::api::core::v1::Pod,
        doc::Doc,
        request::{ApiRequest, ApiResponse, Options, PatchKind, RequestBody, ResourceType, Target, Verb},
        resource::Resource,
    },
    reconcile::Client,
};
use serde_json::json;

use super::super::{
    pods::{self, CONCURRENCY, many, per, pod, request},
    process::{Http, Server},
};

/// Objects per round.
pub const OBJECTS: usize = 1000;
/// Lists of all of them per round.
pub const LISTS: usize = 20;
/// Objects that are renewed again and again.
const LEASES: usize = 50;
/// Watchers for the cost of an event, and changes that each of them sees.
pub const WATCHERS: usize = 200;
pub const CHANGES: usize = 100;

/// What a round measures, in order. The last one is TLS, HTTP and the task switches alone: what no request can cost
/// less than.
pub const OPERATIONS: [&str; 8] =
    ["create", "get", "list, per pod", "patch", "status patch", "delete", "renewal of a lease", "GET /readyz"];

/// A kind whose objects are renewed; those of [`LEASE`] or of the same shape.
pub struct Renewed {
    /// Its group; its version is `v1`.
    pub group: &'static str,
    /// In the singular, as objects name it.
    pub kind: &'static str,
    /// As paths name it.
    pub plural: &'static str,
}

/// What nodes renew.
pub const LEASE: Renewed = Renewed { group: "coordination.k8s.io", kind: "Lease", plural: "leases" };

/// Callers of a server.
pub struct Load {
    http: Http,
    client: Client,
}

impl Load {
    /// Callers that ask by these.
    pub fn new(http: Http, client: Client) -> Self {
        Self { http, client }
    }

    /// Every operation, on objects that no other round has; microseconds of the server's CPU for each.
    pub async fn round(&self, server: &Server, round: usize, samples: &mut [Vec<f64>; OPERATIONS.len()]) {
        let name = |number: usize| format!("pod-{round}-{number}");
        let create = |number: usize| pods::create(pod(&name(number)));
        let get = |number: usize| request(Verb::Get, Some(name(number)), RequestBody::None);
        let change = |number: usize| {
            let patch = json!({"metadata": {"labels": {"round": format!("{number}")}}});
            let patch = Doc::from_serialize(&patch).expect("a document");
            request(Verb::Patch, Some(name(number)), RequestBody::Patch(PatchKind::Merge, patch))
        };
        let report_status = |number: usize| {
            let mut request = request(Verb::Patch, Some(name(number)), status_patch(number));
            request.target.subresource = "status".into();
            request
        };
        let delete = |number: usize| {
            let mut request = request(Verb::Delete, Some(name(number)), RequestBody::None);
            request.options.grace_period_seconds = Some(0);
            request
        };
        samples[0].push(per(server, OBJECTS, many(&self.client, OBJECTS, create)).await);
        samples[1].push(per(server, OBJECTS, many(&self.client, OBJECTS, get)).await);
        samples[2].push(
            per(server, LISTS * OBJECTS, many(&self.client, LISTS, |_| request(Verb::List, None, RequestBody::None)))
                .await,
        );
        samples[3].push(per(server, OBJECTS, many(&self.client, OBJECTS, change)).await);
        samples[4].push(per(server, OBJECTS, many(&self.client, OBJECTS, report_status)).await);
        samples[5].push(per(server, OBJECTS, many(&self.client, OBJECTS, delete)).await);
        samples[6].push(self.renewals(server, &LEASE, round).await);
        samples[7].push(per(server, OBJECTS, self.http.many("/readyz", OBJECTS, CONCURRENCY)).await);
    }

    /// Objects that are renewed by a PUT of the whole, each by its holder, as nodes renew their leases; microseconds of
    /// the server's CPU for each.
    pub async fn renewals(&self, server: &Server, of: &Renewed, round: usize) -> f64 {
        let (client, resource) = (&self.client, || ResourceType::new(of.group, "v1", of.plural));
        let create = |number: usize| {
            let doc = json!({
                "apiVersion": format!("{}/v1", of.group), "kind": of.kind,
                "metadata": {"name": format!("renewed-{round}-{number}"), "namespace": "default"},
                "spec": {"holderIdentity": "figures", "leaseDurationSeconds": 40, "renewTime": renewal(0)},
            });
            let body = RequestBody::Doc(Doc::from_serialize(&doc).expect("a document"));
            ApiRequest { verb: Verb::Create, target: Target::all(resource(), "default"), body, ..Default::default() }
        };
        let created: Vec<Doc> = stream::iter(0..LEASES)
            .then(async |number| object(client.call(create(number)).await.expect("an object")))
            .collect()
            .await;
        let holders = created.into_iter().map(|mut held| async move {
            for second in 1..=OBJECTS / LEASES {
                held.set_at(&["spec", "renewTime"], renewal(second).into());
                let target = Target::one(resource(), "default", held.str_at(&["metadata", "name"]));
                let body = RequestBody::Doc(held);
                let request = ApiRequest { verb: Verb::Update, target, body, ..Default::default() };
                held = object(client.call(request).await.expect("a renewed object"));
            }
        });
        per(server, OBJECTS, stream::iter(holders).buffer_unordered(CONCURRENCY).collect::<()>()).await
    }

    /// The same changes with and without watchers: the difference is what the deliveries cost, in microseconds per
    /// event.
    pub async fn watch_events(&self, server: &Server, rounds: usize) -> Vec<f64> {
        let client = &self.client;
        many(client, 1, |_| pods::create(pod("watched"))).await;
        let change = |number: usize| {
            let patch =
                Doc::from_serialize(&json!({"metadata": {"labels": {"n": format!("{number}")}}})).expect("a document");
            request(Verb::Patch, Some("watched".into()), RequestBody::Patch(PatchKind::Merge, patch))
        };
        let mut samples = Vec::new();
        for round in 0..rounds {
            let from = round * 10 * CHANGES;
            let alone = per(server, 1, serially(client, from, change)).await;
            let seen = Arc::new(AtomicUsize::new(0));
            let mut watchers = Vec::new();
            for _ in 0..WATCHERS {
                let now = client
                    .list_objects(Target::all(Pod::resource(), "default"), Options::default())
                    .await
                    .expect("a list");
                let options = Options { resource_version: Some(now.revision), ..Default::default() };
                let mut events =
                    client.watch_objects(Target::all(Pod::resource(), "default"), options).await.expect("a watch");
                let seen = seen.clone();
                watchers.push(tokio::spawn(async move {
                    while let Some(Ok(_)) = events.next().await {
                        seen.fetch_add(1, Ordering::Relaxed);
                    }
                }));
            }
            let expected = WATCHERS * CHANGES;
            let watched = per(server, 1, async {
                serially(client, from + 5 * CHANGES, change).await;
                while seen.load(Ordering::Relaxed) < expected {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
            .await;
            watchers.iter().for_each(|watcher| watcher.abort());
            assert!(seen.load(Ordering::Relaxed) >= expected, "every watcher saw every change");
            samples.push((watched - alone) / expected as f64);
        }
        samples
    }
}

fn status_patch(number: usize) -> RequestBody {
    let patch = json!({"status": {"phase": "Running", "podIP": format!("10.0.{}.{}", number / 250, number % 250),
        "conditions": [
        {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"},
    ]}});
    RequestBody::Patch(PatchKind::Strategic, Doc::from_serialize(&patch).expect("a document"))
}

fn renewal(second: usize) -> String {
    format!("2026-01-01T00:00:{second:02}.000000Z")
}

fn object(response: ApiResponse) -> Doc {
    let object = response.into_object().expect("an object");
    Doc::parse(&object.to_json()).expect("JSON")
}

async fn serially(client: &Client, from: usize, change: impl Fn(usize) -> ApiRequest) {
    for number in from..from + CHANGES {
        if let Err(error) = client.call(change(number)).await {
            panic!("a change failed: {error}");
        }
    }
}
