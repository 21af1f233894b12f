//! Watches that wait: what they hold, and that writes which they do not ask for cost the same however many there are.

use std::{
    ops::Range,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures::{StreamExt, stream};
use k8s::{
    core::{
        doc::Doc,
        request::{ApiRequest, PatchKind, RequestBody, Verb},
    },
    reconcile::Client,
};
use serde_json::json;

use super::{
    pods::{self, CONCURRENCY, many, per, pod, request},
    process::{Http, Server},
    report::{
        Aim::{AtMost, Nothing},
        Report,
    },
};

const FEW: usize = 50;
/// The many watches are opened in steps, each of which is weighed.
const STEP: usize = 1000;
const STEPS: usize = 5;
const PER_CONNECTION: usize = 100;
const WRITES: usize = 1000;
const ROUNDS: usize = 5;

/// Measures watches of pods by `spec.nodeName`, each of another node, on two servers that take the same writes.
pub async fn measure(program: &Path, report: &mut Report) {
    let (few, many) = (Watched::start(program).await, Watched::start(program).await);
    few.open(0..FEW).await;
    let mut sizes = Vec::new();
    for step in 0..STEPS {
        let before = many.server.process().memory();
        many.open(step * STEP..(step + 1) * STEP).await;
        many.server.quiet().await;
        sizes.push((many.server.process().memory() - before) * 1024.0 / STEP as f64);
    }
    report.add("memory per idle watch, 100 on a connection", "KiB", AtMost(10.0), sizes);
    for watched in [&few, &many] {
        watched.expect_one(FEW / 2).await;
        watched.server.quiet().await;
    }
    let (mut beside_few, mut beside_many) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        beside_few.push(few.write(round).await);
        beside_many.push(many.write(round).await);
    }
    assert_eq!([few.seen(), many.seen()], [1, 1], "the writes were nobody's");
    let ratios = beside_many.iter().zip(&beside_few).map(|(many, few)| many / few).collect();
    report.add("CPU per write beside 50 watches of other nodes", "us", Nothing, beside_few);
    report.add("CPU per write beside 5,000 watches of other nodes", "us", Nothing, beside_many);
    report.add("the second over the first", "x", AtMost(1.1), ratios);
}

/// A server with watches, and a pod on no node that is written again and again.
struct Watched {
    server: Server,
    client: Client,
    seen: Arc<AtomicUsize>,
}

impl Watched {
    async fn start(program: &Path) -> Self {
        let (server, client) = pods::server(program).await;
        let targets = |number| pods::create(pod(&format!("target-{number}")));
        many(&client, CONCURRENCY, targets).await;
        Self { server, client, seen: Arc::default() }
    }

    /// Opens watches of the nodes of these numbers.
    async fn open(&self, nodes: Range<usize>) {
        let from = self.client.list_objects(request(Verb::List, None, RequestBody::None).target, Default::default());
        let revision = from.await.expect("a list").revision;
        for begin in nodes.clone().step_by(PER_CONNECTION) {
            let http = self.server.http();
            // Opens the connection that the watches will share.
            http.read("/readyz").await;
            let group = begin..nodes.end.min(begin + PER_CONNECTION);
            stream::iter(group.map(|node| self.watch(&http, node, revision)))
                .buffer_unordered(CONCURRENCY)
                .for_each(|()| async {})
                .await;
        }
    }

    async fn watch(&self, http: &Http, node: usize, revision: u64) {
        let selector = format!("fieldSelector=spec.nodeName%3Dnode-{node}");
        let path = format!("/api/v1/pods?watch=true&resourceVersion={revision}&{selector}");
        let mut answer = http.get(&path).await;
        let seen = self.seen.clone();
        tokio::spawn(async move {
            while let Ok(Some(piece)) = answer.chunk().await {
                seen.fetch_add(piece.iter().filter(|byte| **byte == b'\n').count(), Ordering::Relaxed);
            }
        });
    }

    /// How many events all watches were told of.
    fn seen(&self) -> usize {
        self.seen.load(Ordering::Relaxed)
    }

    /// Puts a pod on one of the watched nodes, and waits until its watch has told so.
    async fn expect_one(&self, node: usize) {
        let mut pod = pod("seen");
        pod.set_at(&["spec", "nodeName"], format!("node-{node}").into());
        many(&self.client, 1, |_| pods::create(pod.clone())).await;
        let start = Instant::now();
        while self.seen() == 0 {
            assert!(start.elapsed() < Duration::from_secs(10), "the watch of node-{node} is told of its pod");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    /// Microseconds of CPU per write of a pod that is on no node.
    async fn write(&self, round: usize) -> f64 {
        let change = |number: usize| -> ApiRequest {
            let patch = json!({"metadata": {"labels": {"n": format!("{round}-{number}")}}});
            let body = RequestBody::Patch(PatchKind::Merge, Doc::from_serialize(&patch).expect("a document"));
            request(Verb::Patch, Some(format!("target-{}", number % CONCURRENCY)), body)
        };
        per(&self.server, WRITES, many(&self.client, WRITES, change)).await
    }
}
