//! Whether other servers answer: looked at again and again, and kept in the condition `Available`.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use futures::future::join_all;
use http::{Request, header};
use k8s_core::{
    doc::Doc,
    env,
    object::ObjectKey,
    request::{ApiRequest, Caller, RequestBody, ResourceType, Target, Verb},
    status::ApiResult,
};
use k8s_wire::{
    body,
    http1::{self, Answer},
};

use super::{Discovered, Entry, GROUP, Part, conditions::Verdict, entry::Remote, proxy};
use crate::server::Inner;

/// How often a server is looked at when nothing changes.
const INTERVAL: Duration = Duration::from_secs(30);
/// How often one that does not answer is looked at.
const RETRY: Duration = Duration::from_secs(5);
/// How long a server may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// The most that is read of an answer.
const MAX_ANSWER: usize = 4 * 1024 * 1024;
/// How often a status that others write at the same time is written again.
const ATTEMPTS: usize = 4;

/// Looks at every server, whenever something changes and every so often. Never ends.
pub(crate) async fn run(inner: Arc<Inner>) {
    let aggregator = inner.aggregator.clone();
    loop {
        let seen = aggregator.changes.get();
        let remotes = aggregator.remotes();
        let looked = join_all(remotes.iter().map(|entry| look(&inner, entry))).await;
        let news = aggregator.changes.wait_for(move |count| *count != seen);
        match (remotes.is_empty(), looked.iter().all(|available| *available)) {
            (true, _) => news.await,
            (false, true) => drop(env::timeout(&*inner.env, INTERVAL, news).await),
            (false, false) => drop(env::timeout(&*inner.env, RETRY, news).await),
        }
    }
}

/// Looks at one server, and writes what was found if it is something new. Answers whether it is available.
async fn look(inner: &Inner, entry: &Entry) -> bool {
    let Some(remote) = &entry.remote else { return true };
    let verdict = match check(inner, entry, remote).await {
        Ok(discovered) => {
            inner.aggregator.discovered.write().insert(entry.name.clone(), Arc::new(discovered));
            Verdict::passed()
        }
        Err(verdict) => verdict,
    };
    let available = verdict.available;
    if let Err(why) = write(inner, &entry.name, &verdict).await {
        tracing::warn!(%why, name = entry.name, "the status of an APIService could not be written");
    }
    available
}

async fn check(inner: &Inner, entry: &Entry, remote: &Remote) -> Result<Discovered, Verdict> {
    let Remote { namespace, service, port, .. } = remote;
    let key = ObjectKey::new(namespace.as_str(), service.as_str());
    let Some(object) = inner.cluster.get("", "v1", "services", &key) else {
        let message = format!("service/{service} in {namespace:?} is not present");
        return Err(Verdict::failed("ServiceNotFound", message));
    };
    let doc = Doc::parse(object.stored_json()).unwrap_or_default();
    let ports = doc.at(&["spec", "ports"]).map_or(&[][..], Doc::items);
    if !ports.iter().any(|listed| listed.get("port").and_then(Doc::as_u64) == Some(u64::from(*port))) {
        let message = format!("service/{service} in {namespace:?} is not listening on port {port}");
        return Err(Verdict::failed("ServicePortError", message));
    }
    let address = inner.webhooks.address(&inner.cluster, namespace, service, *port);
    let address = address.map_err(|_| {
        let message =
            format!("endpoints for service/{service} in {namespace:?} have no addresses with a ready endpoint");
        Verdict::failed("MissingEndpoints", message)
    })?;
    let failed = |path: &str, why: &dyn std::fmt::Display| {
        let message = format!("failing or missing response from https://{address}{path}: {why}");
        Verdict::failed("FailedDiscoveryCheck", message)
    };
    let path = format!("/apis/{}", entry.group_version());
    let resources = get(inner, remote, &path).await.map_err(|why| failed(&path, &why))?;
    // What else it has to say is welcome and not needed.
    let openapi = get(inner, remote, "/openapi/v3").await.ok();
    let mut discovered = Discovered::new(entry, &resources, openapi.as_ref());
    // The address of a document of version 3 has its digest: while that is the same, version 2 is, too.
    let known = inner.aggregator.discovered(&entry.name);
    let known = known.filter(|known| known.openapi.is_some() && known.openapi == discovered.openapi);
    discovered.part = match known {
        Some(known) => known.part.clone(),
        None => {
            let whole = get(inner, remote, "/openapi/v2").await.ok();
            whole.and_then(|whole| Part::of(entry, &whole)).map(Arc::new)
        }
    };
    Ok(discovered)
}

/// Asks a server for a document, as the aggregator itself.
async fn get(inner: &Inner, remote: &Remote, path: &str) -> Result<Doc, String> {
    let asking = async {
        let stream = proxy::dial(inner, remote).await.map_err(|why| why.to_string())?;
        let mut request = Request::get(path)
            .header(header::HOST, remote.server_name())
            .header(header::ACCEPT, "application/json")
            .body(body::empty())
            .map_err(|why| why.to_string())?;
        proxy::name_caller(request.headers_mut(), &Caller::new("system:kube-aggregator", &["system:masters"]))
            .map_err(|why| why.to_string())?;
        match http1::exchange(&inner.env, stream, request).await.map_err(|why| why.to_string())? {
            Answer::Response(response) if response.status().is_success() => {
                let bytes = body::read(response.into_body(), MAX_ANSWER).await.map_err(|why| why.to_string())?;
                Doc::parse(&bytes).map_err(|why| why.to_string())
            }
            Answer::Response(response) => Err(format!("bad status: {}", response.status().as_u16())),
            Answer::Upgraded { .. } => Err("it changed the protocol".to_owned()),
        }
    };
    env::timeout(&*inner.env, PATIENCE, asking)
        .await
        .unwrap_or_else(|| Err(format!("no answer within {} s", PATIENCE.as_secs())))
}

/// Writes a verdict into the status of an APIService, unless it stands there.
pub(super) async fn write(inner: &Inner, name: &str, verdict: &Verdict) -> ApiResult<()> {
    let caller = Caller::new("system:apiserver", &["system:masters"]).with_agent("kube-apiserver");
    let target = Target::one(ResourceType::new(GROUP, "v1", "apiservices"), "", name);
    let ask = async |verb, target: Target, body| {
        let request = ApiRequest { verb, target, body, ..ApiRequest::default() };
        inner.ask_as(&caller, request).await?.into_doc()
    };
    let mut attempts = 0..ATTEMPTS;
    loop {
        attempts.next();
        let mut object = match ask(Verb::Get, target.clone(), RequestBody::None).await {
            Err(error) if error.is_not_found() => return Ok(()),
            other => other?,
        };
        if !verdict.write(&mut object, inner.env.now()) {
            return Ok(());
        }
        match ask(Verb::Update, target.clone().subresource("status"), RequestBody::Doc(object)).await {
            Err(error) if error.is_conflict() && !attempts.is_empty() => {}
            Err(error) if error.is_not_found() => return Ok(()),
            other => return other.map(drop),
        }
    }
}

/// The entries by group, the group with the highest priority first, versions with the highest priority first.
pub(crate) fn by_group(entries: &[Arc<Entry>]) -> Vec<(String, Vec<Arc<Entry>>)> {
    let mut groups: BTreeMap<String, Vec<Arc<Entry>>> = BTreeMap::new();
    for entry in entries {
        groups.entry(entry.group.clone()).or_default().push(entry.clone());
    }
    for versions in groups.values_mut() {
        versions.sort_by(|a, b| b.version_priority.cmp(&a.version_priority).then_with(|| a.version.cmp(&b.version)));
    }
    let mut groups: Vec<_> = groups.into_iter().collect();
    let priority = |versions: &[Arc<Entry>]| versions.iter().map(|entry| entry.group_priority).max().unwrap_or(0);
    groups.sort_by(|(a, of_a), (b, of_b)| priority(of_b).cmp(&priority(of_a)).then_with(|| a.cmp(b)));
    groups
}
