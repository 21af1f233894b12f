//! The shell of the routes: Nodes in, [`Routes::sync`] out. Decides nothing.

use std::{
    collections::BTreeMap,
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use k8s_core::{api::api::core::v1::Node, env::timeout};
use k8s_reconcile::{
    Client, Informer, InformerScope,
    event::{EventType, Recorder},
    informer::Delta,
    queue::BackOff,
};
use tokio::sync::Notify;

use super::{Plan, Routes, View, plan};

/// How failed attempts are spaced.
const BACK_OFF: BackOff = BackOff { base: Duration::from_millis(500), max: Duration::from_secs(30) };
/// How often to look whether the kernel still has the routes: they go with a link that goes down.
const CHECK: Duration = Duration::from_secs(5);
/// How long telling may keep routes waiting.
const TELLING: Duration = Duration::from_secs(2);

/// Keeps this machine's routes true to the cluster that `client` sees, for as long as the future is polled.
///
/// Nothing is changed before all Nodes are known, so that a restart cuts no traffic. A Node whose pods are not reached is
/// told so by an event (`PodNetworkUnreachable`). Works on tokio's blocking threads. Cancel-safe: dropping the future
/// leaves the routes in force.
pub async fn follow(client: &Client, view: &View) {
    let nodes = client.informer::<Node>(InformerScope::all());
    let news = Arc::new(News::default());
    let _subscription = nodes.subscribe(Arc::new({
        let (news, here) = (news.clone(), view.node.clone());
        move |delta: &Delta| news.arrived(delta.object().meta.name == *here)
    }));
    nodes.synced().await;
    let mut teller = Teller::new(client, view);
    let (mut routes, mut applied, mut failures) = (None, None, 0);
    loop {
        if news.here.swap(false, Ordering::Relaxed) {
            applied = None;
        }
        let known = nodes.list();
        let wanted = plan(known.iter().map(|node| &**node), view);
        if applied.as_ref() != Some(&wanted) {
            match sync(routes.take(), wanted.clone()).await {
                Ok((open, unreached)) => {
                    let refused = wanted.refused.iter().map(|refused| (refused.node.clone(), refused.why.clone()));
                    let unreached = unreached.into_iter().map(|u| (u.node, format!("{}: {}", u.net, u.why)));
                    let telling = teller.tell(&nodes, refused.chain(unreached));
                    // Whoever is cut off has complaints, and nobody to tell them to.
                    timeout(&**client.env(), TELLING, telling).await;
                    (routes, applied, failures) = (Some(open), Some(wanted), 0);
                }
                Err(error) => {
                    tracing::warn!(%error, "the routes to other nodes are not in force");
                    client.env().sleep(client.env().jitter(BACK_OFF.wait(failures), 0.5)).await;
                    failures += 1;
                    continue;
                }
            }
        }
        tokio::select! {
            biased;
            () = news.some.notified() => {}
            () = client.env().sleep(CHECK) => applied = None,
        }
    }
}

/// Tells the loop that a Node changed.
#[derive(Default)]
struct News {
    some: Notify,
    /// Whether it was this machine's. Its link may have been down: then the kernel is looked at whatever the plan is.
    here: AtomicBool,
}

impl News {
    fn arrived(&self, is_here: bool) {
        self.here.fetch_or(is_here, Ordering::Relaxed);
        self.some.notify_one();
    }
}

/// Runs on a blocking thread, to its end even when the caller is dropped.
async fn sync(routes: Option<Routes>, plan: Plan) -> io::Result<(Routes, Vec<super::Unreached>)> {
    let work = move || {
        let mut routes = routes.map_or_else(Routes::open, Ok)?;
        let unreached = routes.sync(&plan)?;
        Ok((routes, unreached))
    };
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)?
}

/// Tells each complaint once, until it is another.
struct Teller {
    here: String,
    recorder: Recorder,
    told: BTreeMap<String, String>,
}

impl Teller {
    fn new(client: &Client, view: &View) -> Self {
        let recorder = Recorder::new(client.clone(), "kube-proxy", view.node.as_str());
        Self { here: view.node.clone(), recorder, told: BTreeMap::new() }
    }

    async fn tell(&mut self, nodes: &Informer<Node>, complaints: impl Iterator<Item = (String, String)>) {
        let mut now: BTreeMap<String, String> = BTreeMap::new();
        for (node, why) in complaints {
            now.entry(node).and_modify(|all| *all = format!("{all}; {why}")).or_insert(why);
        }
        let before = std::mem::replace(&mut self.told, now.clone());
        for (name, why) in &now {
            if before.get(name) == Some(why) {
                continue;
            }
            tracing::warn!(node = name, why, "its pods are not reached");
            if let Some(node) = nodes.list().into_iter().find(|node| node.name() == name) {
                let message = format!("pods are not reached from node {}: {why}", self.here);
                self.recorder.record(node.object(), EventType::Warning, "PodNetworkUnreachable", message).await;
            }
        }
    }
}
