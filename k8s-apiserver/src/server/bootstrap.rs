//! What every cluster has: made sure of at every start, before the server is ready.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use futures::future::{BoxFuture, try_join_all};
use k8s_core::{
    api::apimachinery::pkg::apis::meta::v1::ObjectMeta,
    doc,
    doc::Doc,
    env::Timestamp,
    request::{ApiRequest, Caller, PatchKind, RequestBody, ResourceType, Target, Verb},
    status::{ApiError, ApiResult},
    token_secret::TRACKING,
};
use serde::Serialize;

mod flow_control;
mod keep;

pub(super) use self::keep::{Mandatory, keep};

use super::{Inner, OWN_NAME};
use crate::auth::{PublishedAuthentication, bootstrap::policy, published::add, rbac, token::legacy::day};

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];
const AUTO_UPDATE: [&str; 3] = ["metadata", "annotations", "rbac.authorization.kubernetes.io/autoupdate"];
/// How often it is looked whether what extension API servers believe is still published, as upstream has it.
const PUBLISH_EVERY: Duration = Duration::from_secs(60);
/// How often something that others change at the same time is tried again.
const ATTEMPTS: usize = 8;

/// Namespaces, priority classes, the RBAC policy, what extension servers believe, since when tokens are tracked, flow control, the range of Services, and
/// the Service by which pods reach the API server.
pub async fn run(
    inner: &Inner,
    advertised: Option<SocketAddr>,
    published: Option<&PublishedAuthentication>,
) -> ApiResult<()> {
    let own = Own { inner, caller: Caller::new(OWN_NAME, &["system:masters"]).with_agent("kube-apiserver") };
    for name in NAMESPACES {
        own.ensure("", "namespaces", "", doc!({"metadata": {"name": name}}), |_, _| false).await?;
    }
    own.priority_classes().await?;
    own.policy().await?;
    if let Some(published) = published {
        own.publish(published).await?;
    }
    if inner.tokens.is_some() {
        own.token_tracking().await?;
    }
    own.flow_control().await?;
    own.service_range().await?;
    inner.repair_addresses().await?;
    own.kubernetes(advertised).await
}

/// Publishes again what somebody took away. Never ends.
pub async fn keep_published(inner: Arc<Inner>, published: PublishedAuthentication) {
    loop {
        inner.env.sleep(PUBLISH_EVERY).await;
        let caller = Caller::new(OWN_NAME, &["system:masters"]).with_agent("kube-apiserver");
        if let Err(error) = (Own { inner: &inner, caller }).publish(&published).await {
            tracing::warn!(%error, "what extension API servers are to believe cannot be published");
        }
    }
}

/// The server's own identity.
struct Own<'a> {
    inner: &'a Inner,
    caller: Caller,
}

impl Own<'_> {
    async fn publish(&self, published: &PublishedAuthentication) -> ApiResult<()> {
        self.ensure("", "configmaps", "kube-system", published.config_map(), add).await
    }

    /// Says since which day the last uses of tokens in Secrets are noted. Without a day, or with one that has not come
    /// yet, it is today.
    async fn token_tracking(&self) -> ApiResult<()> {
        let today = day(self.inner.env.now());
        let wanted = doc!({
            "metadata": {"name": TRACKING},
            "data": {"since": today.as_str()}
        });
        let amend = |found: &mut Doc, _: &Doc| {
            let since = found.str_at(&["data", "since"]);
            let is_good = format!("{since}T00:00:00Z").parse::<Timestamp>().is_ok() && since <= today.as_str();
            if !is_good {
                found.set_at(&["data", "since"], today.as_str().into());
            }
            !is_good
        };
        self.ensure("", "configmaps", "kube-system", wanted, amend).await
    }

    async fn ask(&self, verb: Verb, target: Target, body: RequestBody) -> ApiResult<Doc> {
        // Authorization is passed by: until the policy is there, it could only say no.
        let request = ApiRequest { verb, target, body, ..ApiRequest::default() };
        self.inner.ask_as(&self.caller, request).await?.into_doc()
    }

    /// Creates what is not there; lets `amend` change what is. `amend` gets what is there and what was wanted, and says
    /// whether it changed anything.
    async fn ensure(
        &self,
        group: &str,
        plural: &str,
        namespace: &str,
        wanted: Doc,
        amend: impl Fn(&mut Doc, &Doc) -> bool,
    ) -> ApiResult<()> {
        let all = Target::all(ResourceType::new(group, "v1", plural), namespace);
        let one = Target { name: wanted.str_at(&["metadata", "name"]).into(), ..all.clone() };
        for _ in 0..ATTEMPTS {
            let done = match self.ask(Verb::Get, one.clone(), RequestBody::None).await {
                Ok(mut found) => match amend(&mut found, &wanted) {
                    false => return Ok(()),
                    true => self.ask(Verb::Update, one.clone(), RequestBody::Doc(found)).await,
                },
                Err(error) if error.is_not_found() => {
                    self.ask(Verb::Create, all.clone(), RequestBody::Doc(wanted.clone())).await
                }
                Err(error) => Err(error),
            };
            match done {
                Ok(_) => return Ok(()),
                Err(error) if error.is_conflict() || error.is_already_exists() => {}
                Err(error) => return Err(error),
            }
        }
        Err(ApiError::unavailable(format!("{plural} {:?}: others changed it again and again", one.name)))
    }

    async fn priority_classes(&self) -> ApiResult<()> {
        let classes = [
            (
                "system-cluster-critical",
                2_000_000_000,
                "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary.",
            ),
            (
                "system-node-critical",
                2_000_001_000,
                "Used for system critical pods that must not be moved from their current node.",
            ),
        ];
        for (name, value, description) in classes {
            let class = doc!({"metadata": {"name": name}, "value": value, "description": description});
            self.ensure("scheduling.k8s.io", "priorityclasses", "", class, |_, _| false).await?;
        }
        Ok(())
    }

    /// The levels and schemas of flow control. What must be there is put right; what is suggested, where nobody has taken
    /// it over.
    async fn flow_control(&self) -> ApiResult<()> {
        self.keep_flow_control(flow_control::objects()).await
    }

    /// Those that must be there alone.
    async fn mandatory_flow_control(&self) -> ApiResult<()> {
        let mut objects = flow_control::objects();
        objects.retain(|(_, object)| flow_control::is_mandatory(object.str_at(&["metadata", "name"])));
        self.keep_flow_control(objects).await
    }

    async fn keep_flow_control(&self, objects: Vec<(&'static str, Doc)>) -> ApiResult<()> {
        const AUTO_UPDATE: [&str; 3] = ["metadata", "annotations", flow_control::AUTO_UPDATE];
        let mut writes = Vec::new();
        for (plural, object) in objects {
            let is_mandatory = flow_control::is_mandatory(object.str_at(&["metadata", "name"]));
            writes.push(self.ensure(flow_control::GROUP, plural, "", object, move |found, wanted| {
                let is_ours = is_mandatory || found.str_at(&AUTO_UPDATE) == "true";
                // How many seats the exempt level lends is its keeper's to say.
                let is_lender = found.at(&["spec", "exempt"]).is_some_and(|exempt| !exempt.is_null());
                let path: &[&str] = if is_lender { &["spec", "type"] } else { &["spec"] };
                is_ours && replace(path)(found, wanted)
            }));
        }
        try_join_all(writes).await.map(drop)
    }

    /// The range that Services get their addresses from, as an object.
    async fn service_range(&self) -> ApiResult<()> {
        const GROUP: &str = "networking.k8s.io";
        let cidr = self.inner.ranges.cidr.to_string();
        let wanted = doc!({"metadata": {"name": "kubernetes"}, "spec": {"cidrs": [cidr.as_str()]}});
        self.ensure(GROUP, "servicecidrs", "", wanted, |_, _| false).await?;
        let target = Target::one(ResourceType::new(GROUP, "v1", "servicecidrs"), "", "kubernetes");
        let found = self.ask(Verb::Get, target.clone(), RequestBody::None).await?;
        let conditions = found.at(&["status", "conditions"]).map_or(&[][..], Doc::items);
        let is_ready = conditions.iter().any(|condition| condition.str_at(&["type"]) == "Ready");
        if is_ready || !found.str_at(&["metadata", "deletionTimestamp"]).is_empty() {
            return Ok(());
        }
        let ready = doc!({"type": "Ready", "status": "True", "reason": "", "message": "Kubernetes default Service CIDR is ready",
            "lastTransitionTime": found.str_at(&["metadata", "creationTimestamp"])});
        let patch = doc!({"status": {"conditions": [ready]}});
        let body = RequestBody::Patch(PatchKind::Merge, patch);
        self.ask(Verb::Patch, target.subresource("status"), body).await.map(drop)
    }

    /// All at once, so that they share the flushes of the store.
    async fn policy(&self) -> ApiResult<()> {
        let policy = policy();
        let namespace = |metadata: &ObjectMeta| metadata.namespace.clone().unwrap_or_default();
        let mut writes = Vec::new();
        for role in &policy.cluster_roles {
            writes.push(self.rbac("clusterroles", String::new(), role)?);
        }
        for binding in &policy.cluster_role_bindings {
            writes.push(self.rbac("clusterrolebindings", String::new(), binding)?);
        }
        for role in &policy.roles {
            writes.push(self.rbac("roles", namespace(&role.metadata), role)?);
        }
        for binding in &policy.role_bindings {
            writes.push(self.rbac("rolebindings", namespace(&binding.metadata), binding)?);
        }
        try_join_all(writes).await.map(drop)
    }

    fn rbac<'a>(
        &'a self,
        plural: &'a str,
        namespace: String,
        object: &impl Serialize,
    ) -> ApiResult<BoxFuture<'a, ApiResult<()>>> {
        let wanted =
            Doc::from_serialize(object).map_err(|why| ApiError::internal(format!("bootstrap policy: {why}")))?;
        Ok(Box::pin(async move { self.ensure(rbac::GROUP, plural, &namespace, wanted, add_back).await }))
    }

    /// The Service `kubernetes` in the namespace `default`, and its endpoint.
    async fn kubernetes(&self, advertised: Option<SocketAddr>) -> ApiResult<()> {
        let Some(address) = advertised else { return Ok(()) };
        let labels = doc!({"component": "apiserver", "provider": "kubernetes"});
        let service = doc!({
            "metadata": {"name": "kubernetes", "labels": labels},
            "spec": {
                "clusterIP": self.inner.ranges.first_address().to_string(),
                "ports": [{"name": "https", "port": 443, "protocol": "TCP", "targetPort": address.port()}]
            }
        });
        self.ensure("", "services", "default", service, replace(&["spec", "ports"])).await?;
        let port = doc!({"name": "https", "port": address.port(), "protocol": "TCP"});
        let endpoints = doc!({
            "metadata": {"name": "kubernetes", "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"}},
            "subsets": [{"addresses": [{"ip": address.ip().to_string()}], "ports": [port.clone()]}]
        });
        self.ensure("", "endpoints", "default", endpoints, replace(&["subsets"])).await?;
        let slice = doc!({
            "metadata": {"name": "kubernetes", "labels": {"kubernetes.io/service-name": "kubernetes"}},
            "addressType": if address.is_ipv4() { "IPv4" } else { "IPv6" },
            "endpoints": [{"addresses": [address.ip().to_string()], "conditions": {"ready": true}}],
            "ports": [port]
        });
        let amend = |found: &mut Doc, wanted: &Doc| {
            let endpoints = replace(&["endpoints"])(found, wanted);
            replace(&["ports"])(found, wanted) || endpoints
        };
        self.ensure("discovery.k8s.io", "endpointslices", "default", slice, amend).await
    }
}

/// Takes one value over, if it does not say the same. Fields that only defaulting set are no difference.
fn replace<'a>(path: &'a [&'a str]) -> impl Fn(&mut Doc, &Doc) -> bool + 'a {
    move |found, wanted| {
        let Some(wanted) = wanted.at(path) else { return false };
        let same = found.at(path).is_some_and(|found| covers(found, wanted));
        if !same {
            found.set_at(path, wanted.clone());
        }
        !same
    }
}

/// Whether `found` says all that `wanted` says.
fn covers(found: &Doc, wanted: &Doc) -> bool {
    match (found, wanted) {
        (Doc::Object(found), Doc::Object(wanted)) => {
            wanted.iter().all(|(key, wanted)| found.get(key).is_some_and(|found| covers(found, wanted)))
        }
        (Doc::Array(found), Doc::Array(wanted)) => {
            found.len() == wanted.len() && found.iter().zip(wanted).all(|(found, wanted)| covers(found, wanted))
        }
        _ => found == wanted,
    }
}

/// Rules and subjects that were taken out of the policy come back, unless the object says that it is kept by hand.
fn add_back(found: &mut Doc, wanted: &Doc) -> bool {
    if found.str_at(&AUTO_UPDATE) != "true" {
        return false;
    }
    let mut changed = false;
    // The rules of an aggregated role are its controller's business.
    let is_aggregated = wanted.get("aggregationRule").is_some_and(|rule| !rule.is_null());
    for field in ["rules", "subjects"] {
        if field == "rules" && is_aggregated {
            continue;
        }
        for item in wanted.get(field).map_or(&[][..], Doc::items) {
            let list = found.entry_at(&[field]);
            if list.as_array().is_none() {
                *list = Doc::Array(Vec::new());
            }
            let Some(list) = list.as_array_mut() else { continue };
            if !list.iter().any(|there| covers(there, item)) {
                list.push(item.clone());
                changed = true;
            }
        }
    }
    changed
}
