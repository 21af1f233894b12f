//! Admission: what is decided about a write after the caller may make it and before it is stored.
//!
//! Plugins run in upstream's order: first all that change the object, then all that only judge it. The order and the
//! set of built-in plugins are fixed; embedders add theirs after them, before nothing.

mod certificates;
mod durations;
mod escalation;
mod external_ips;
mod ingress_class;
mod limit_ranger;
mod namespace;
mod node;
mod placement;
pub mod pod_security;
mod policy;
mod priority;
mod quota;
mod reinvocation;
mod runtime_class;
mod service_account;
mod taints;
mod tolerations;
mod trail;
mod volumes;
mod webhook;

use std::{
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use async_trait::async_trait;
use k8s_core::{
    doc::Doc,
    env::Env,
    object::{Object, ObjectKey},
    registry::{Kinds, ResourceInfo},
    request::{Caller, Options, RequestBody, ResourceType, Target, Verb},
    schema::Schema,
    status::{ApiError, ApiResult},
};
use parking_lot::Mutex;

use crate::{
    auth::{Authorizer, rbac::Rbac},
    cache::{Cache, KindCache},
    server::Inner,
    webhook::Webhooks,
};

pub use self::{
    certificates::{CertificateApproval, CertificateSigning, SubjectRestriction, TrustBundleAttest},
    escalation::Escalation,
    external_ips::DenyServiceExternalIps,
    ingress_class::DefaultIngressClass,
    limit_ranger::LimitRanger,
    namespace::NamespaceLifecycle,
    node::NodeRestriction,
    placement::{PodResizeValidator, PodTopologyLabels},
    pod_security::PodSecurity,
    priority::Priority,
    quota::ResourceQuota,
    runtime_class::RuntimeClass,
    service_account::ServiceAccounts,
    taints::TaintNodes,
    tolerations::DefaultTolerations,
    trail::Trail,
    volumes::{ClaimResize, DefaultStorageClass, InUseProtection},
};
use self::{
    durations::{Durations, Phase},
    reinvocation::Reinvocation,
};
pub(crate) use self::{
    namespace::check_namespace,
    policy::{Judging, MutatingPolicies, Policies, ValidatingPolicies},
    webhook::{Asking, Configurations, MutatingWebhooks, ValidatingWebhooks},
};

/// One plugin.
#[async_trait]
pub trait Admission: Send + Sync + 'static {
    /// For messages and metrics, such as `NodeRestriction`.
    fn name(&self) -> &'static str;

    /// Whether the plugin has anything to say. Asked for every write; must be cheap.
    fn handles(&self, request: &AdmissionRequest<'_>) -> bool;

    /// May change the object. An error refuses the write.
    async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let _ = request;
        Ok(())
    }

    /// Judges the object as it will be stored. An error refuses the write.
    async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let _ = request;
        Ok(())
    }
}

/// A write, as plugins see it.
pub struct AdmissionRequest<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// `Create`, `Update` (patches are updates), `Delete` or `Connect`.
    pub verb: Verb,
    /// The kind.
    pub info: &'a Arc<ResourceInfo>,
    /// What it is about. The name is there also where the server made it up.
    pub target: &'a Target,
    /// The caller's options.
    pub options: &'a Options,
    /// The object as it was; of a deletion, the object that goes.
    pub old: Option<&'a Doc>,
    /// The cluster as the cache shows it.
    pub cluster: &'a Cluster,
    object: Option<Doc>,
    edited: bool,
    /// What the caller will be told.
    warnings: Mutex<Vec<String>>,
    trail: Option<&'a Trail>,
    reinvocation: Reinvocation,
}

impl<'a> AdmissionRequest<'a> {
    /// A write of `object`.
    pub fn new(
        caller: &'a Caller,
        verb: Verb,
        info: &'a Arc<ResourceInfo>,
        target: &'a Target,
        options: &'a Options,
        cluster: &'a Cluster,
    ) -> Self {
        Self {
            caller,
            verb,
            info,
            target,
            options,
            old: None,
            cluster,
            object: None,
            edited: false,
            warnings: Mutex::default(),
            trail: None,
            reinvocation: Reinvocation::default(),
        }
    }

    /// The same, noting for the audit log in `trail`.
    pub fn noting(self, trail: &'a Trail) -> Self {
        Self { trail: Some(trail), ..self }
    }

    /// The same with the object as it was and as it shall be.
    pub fn with(self, old: Option<&'a Doc>, object: Option<Doc>) -> Self {
        Self { old, object, ..self }
    }

    /// The object as it shall be; of a binding, eviction or token request, that body. None for deletions.
    pub fn object(&self) -> Option<&Doc> {
        self.object.as_ref()
    }

    /// The object, to change. Defaults are set again afterwards.
    pub fn edit(&mut self) -> Option<&mut Doc> {
        self.edited = true;
        self.object.as_mut()
    }

    /// Whether a plugin changed the object.
    pub fn is_edited(&self) -> bool {
        self.edited
    }

    /// The object after admission.
    pub fn into_object(self) -> Option<Doc> {
        self.object
    }

    /// Tells the caller something beside the answer.
    pub fn warn(&self, text: impl Into<String>) {
        self.warnings.lock().push(text.into());
    }

    /// What the caller is to be told; it is taken out.
    pub fn take_warnings(&self) -> Vec<String> {
        std::mem::take(&mut *self.warnings.lock())
    }

    /// Notes something for the audit log. A key keeps its first value.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        if let Some(trail) = self.trail {
            trail.annotate(key, value);
        }
    }

    /// Reads or changes what is kept between rounds; the object is as it is now.
    pub fn reinvocation<R>(&mut self, with: impl FnOnce(&mut Reinvocation, Option<&Doc>) -> R) -> R {
        with(&mut self.reinvocation, self.object.as_ref())
    }

    /// Whether it is about this resource (and not one of its subresources).
    pub fn is_on(&self, group: &str, plural: &str) -> bool {
        self.target.subresource.is_empty() && self.is_below(group, plural)
    }

    /// Whether it is about this resource or one of its subresources.
    pub fn is_below(&self, group: &str, plural: &str) -> bool {
        self.info.group == group && self.info.plural == plural
    }

    /// 403 for the target.
    pub fn forbidden(&self, why: impl std::fmt::Display) -> ApiError {
        ApiError::forbidden(&self.info.plural, &self.info.group, &self.target.name, why)
    }
}

/// The cluster as plugins read it: from the cache, or, where an old answer would do harm, after the cache has caught
/// up.
pub struct Cluster {
    cache: Arc<Cache>,
    kinds: Arc<Kinds>,
    server: OnceLock<Weak<Inner>>,
}

impl Cluster {
    /// The cluster behind a cache of these kinds.
    pub fn new(cache: Arc<Cache>, kinds: Arc<Kinds>) -> Self {
        Self { cache, kinds, server: OnceLock::new() }
    }

    /// What objects of a kind look like as they are stored; `None` for a kind that is not.
    pub fn schema(&self, info: &ResourceInfo) -> Option<Schema> {
        self.cache.kind(&info.resource()).map(|kind| kind.schema.clone())
    }

    /// The cache of a kind whose versions a webhook converts; `None` for every other kind.
    pub(crate) fn converted_kind(&self, info: &ResourceInfo) -> Option<Arc<KindCache>> {
        info.custom.as_ref().filter(|custom| custom.conversion.is_some())?;
        self.cache.kind(&info.resource())
    }

    /// The served kind of a group, version and kind.
    pub fn served_kind(&self, group: &str, version: &str, kind: &str) -> Option<Arc<ResourceInfo>> {
        self.kinds.now().find_kind(group, version, kind).filter(|info| info.is_served()).cloned()
    }

    /// The other names and versions under which the same objects are served.
    pub fn equivalents(&self, info: &ResourceInfo) -> Vec<Arc<ResourceInfo>> {
        let Some(kind) = self.cache.kind(&info.resource()) else { return Vec::new() };
        let same = |other: &&Arc<ResourceInfo>| {
            other.resource() != info.resource()
                && self.cache.kind(&other.resource()).is_some_and(|of| of.prefix == kind.prefix)
        };
        self.kinds.now().iter().filter(same).cloned().collect()
    }

    /// An object as the cache shows it.
    pub fn get(&self, group: &str, version: &str, plural: &str, key: &ObjectKey) -> Option<Arc<Object>> {
        let kind = self.cache.kind(&ResourceType::new(group, version, plural))?;
        kind.state().get(key).cloned()
    }

    /// An object as it is; waits for the cache.
    pub async fn fresh(
        &self,
        group: &str,
        version: &str,
        plural: &str,
        key: &ObjectKey,
    ) -> ApiResult<Option<Arc<Object>>> {
        self.caught_up().await?;
        Ok(self.get(group, version, plural, key))
    }

    /// Resolves when the cache shows everything that was written before.
    pub async fn caught_up(&self) -> ApiResult<()> {
        self.cache.wait_for_head().await
    }

    /// By whom plugins write.
    pub(crate) fn serve_by(&self, server: &Arc<Inner>) {
        // Only the first one counts: a cluster has one server.
        let _ = self.server.set(Arc::downgrade(server));
    }

    /// Writes the status of an object as the server itself, if it is still at the revision that `doc` names.
    pub(crate) async fn write_status(&self, group: &str, version: &str, plural: &str, doc: Doc) -> ApiResult<()> {
        let server = self.server.get().and_then(Weak::upgrade);
        let server = server.ok_or_else(|| ApiError::unavailable("the server has stopped"))?;
        let resource = ResourceType::new(group, version, plural);
        let target = Target::one(resource, doc.str_at(&["metadata", "namespace"]), doc.str_at(&["metadata", "name"]));
        server.ask_own(Verb::Update, target.subresource("status"), RequestBody::Doc(doc)).await
    }

    /// Every object of a kind.
    pub fn all(&self, group: &str, version: &str, plural: &str) -> Vec<Arc<Object>> {
        let kind = self.cache.kind(&ResourceType::new(group, version, plural));
        kind.map_or_else(Vec::new, |kind| kind.state().iter().map(|(_, object)| object.clone()).collect())
    }
}

/// The names of the built-in plugins that a server can be without, in order. What guards roles against escalation is
/// no plugin upstream, and always there.
pub const BUILTIN: [&str; 25] = [
    "NamespaceLifecycle",
    "LimitRanger",
    "ServiceAccount",
    "NodeRestriction",
    "TaintNodesByCondition",
    "PodSecurity",
    "Priority",
    "DefaultTolerationSeconds",
    "DefaultStorageClass",
    "StorageObjectInUseProtection",
    "PersistentVolumeClaimResize",
    "RuntimeClass",
    "CertificateApproval",
    "CertificateSigning",
    "ClusterTrustBundleAttest",
    "CertificateSubjectRestriction",
    "DefaultIngressClass",
    "DenyServiceExternalIPs",
    "PodTopologyLabels",
    "PodResizeValidator",
    "MutatingAdmissionPolicy",
    "MutatingAdmissionWebhook",
    "ValidatingAdmissionPolicy",
    "ValidatingAdmissionWebhook",
    "ResourceQuota",
];

/// The built-in plugins, in upstream's order. What is missing of upstream's list belongs to kinds that are not served
/// yet, or acts behind a gate only.
pub(crate) fn builtin(
    env: &Env,
    rbac: Arc<Rbac>,
    authorizer: &Arc<dyn Authorizer>,
    pod_security: PodSecurity,
    hooks: &Hooks,
) -> Vec<Arc<dyn Admission>> {
    let authorizer = || authorizer.clone();
    let asking = |configurations: &Arc<Configurations>| Asking {
        env: env.clone(),
        webhooks: hooks.webhooks.clone(),
        configurations: configurations.clone(),
        authorizer: hooks.authorizer.clone(),
    };
    let judging = |policies: &Arc<Policies>| Judging {
        policies: policies.clone(),
        authorizer: hooks.authorizer.clone(),
        env: env.clone(),
        webhooks: hooks.webhooks.clone(),
    };
    vec![
        Arc::new(NamespaceLifecycle),
        Arc::new(LimitRanger),
        Arc::new(ServiceAccounts { env: env.clone() }),
        Arc::new(NodeRestriction),
        Arc::new(TaintNodes),
        Arc::new(pod_security),
        Arc::new(Priority),
        Arc::new(DefaultTolerations),
        Arc::new(DefaultStorageClass),
        Arc::new(InUseProtection),
        Arc::new(ClaimResize),
        Arc::new(RuntimeClass),
        Arc::new(CertificateApproval { authorizer: authorizer() }),
        Arc::new(CertificateSigning { authorizer: authorizer() }),
        Arc::new(TrustBundleAttest { authorizer: authorizer() }),
        Arc::new(SubjectRestriction),
        Arc::new(DefaultIngressClass),
        Arc::new(DenyServiceExternalIps),
        Arc::new(PodTopologyLabels),
        Arc::new(PodResizeValidator),
        Arc::new(MutatingPolicies(judging(&hooks.mutating_policies))),
        Arc::new(MutatingWebhooks(asking(&hooks.mutating))),
        Arc::new(ValidatingPolicies(judging(&hooks.validating_policies))),
        Arc::new(ValidatingWebhooks(asking(&hooks.validating))),
        Arc::new(Escalation { rbac }),
        // Last of all: what is refused is not charged.
        Arc::new(ResourceQuota { env: env.clone() }),
    ]
}

/// What the plugins of webhooks and policies are made of. Their configurations follow the cache.
pub(crate) struct Hooks {
    /// Calls them.
    pub webhooks: Arc<Webhooks>,
    /// Answers what match conditions ask.
    pub authorizer: Arc<dyn Authorizer>,
    /// Those that change.
    pub mutating: Arc<Configurations>,
    /// Those that judge.
    pub validating: Arc<Configurations>,
    /// Policies that change.
    pub mutating_policies: Arc<Policies>,
    /// Policies that judge.
    pub validating_policies: Arc<Policies>,
}

impl Hooks {
    /// None yet.
    pub fn new(webhooks: Arc<Webhooks>, authorizer: Arc<dyn Authorizer>) -> Self {
        let of = |plural| Arc::new(Configurations::of(plural));
        Self {
            webhooks,
            authorizer,
            mutating: of("mutatingwebhookconfigurations"),
            validating: of("validatingwebhookconfigurations"),
            mutating_policies: Arc::new(Policies::of("mutatingadmissionpolicies", "mutatingadmissionpolicybindings")),
            validating_policies: Arc::new(Policies::of(
                "validatingadmissionpolicies",
                "validatingadmissionpolicybindings",
            )),
        }
    }
}

/// The plugins of a server, in order.
#[derive(Clone, Default)]
pub struct Chain {
    plugins: Arc<[Arc<dyn Admission>]>,
    durations: Option<Arc<Durations>>,
}

impl Chain {
    /// The built-in plugins, then `more`.
    pub fn new(env: Env, builtin: Vec<Arc<dyn Admission>>, more: Vec<Arc<dyn Admission>>) -> Self {
        let plugins: Arc<[Arc<dyn Admission>]> = builtin.into_iter().chain(more).collect();
        let names = plugins.iter().map(|plugin| plugin.name()).collect();
        Self { plugins, durations: Some(Arc::new(Durations::new(env, names))) }
    }

    /// Lets every plugin change the object; twice, where one of the later ones asks for it.
    pub async fn admit(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        let began = self.begins();
        let done = self.admit_all(request).await;
        self.ended(None, Phase::Admit, request.verb, began, done)
    }

    async fn admit_all(&self, request: &mut AdmissionRequest<'_>) -> ApiResult<()> {
        loop {
            for (place, plugin) in self.plugins.iter().enumerate() {
                if plugin.handles(request) {
                    let began = self.begins();
                    let done = plugin.admit(request).await;
                    self.ended(Some(place), Phase::Admit, request.verb, began, done)?;
                }
            }
            if !request.reinvocation.again() {
                return Ok(());
            }
        }
    }

    /// Lets every plugin judge the object.
    pub async fn validate(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        let began = self.begins();
        let done = self.validate_all(request).await;
        self.ended(None, Phase::Validate, request.verb, began, done)
    }

    async fn validate_all(&self, request: &AdmissionRequest<'_>) -> ApiResult<()> {
        for (place, plugin) in self.plugins.iter().enumerate() {
            if plugin.handles(request) {
                let began = self.begins();
                let done = plugin.validate(request).await;
                self.ended(Some(place), Phase::Validate, request.verb, began, done)?;
            }
        }
        Ok(())
    }

    /// The samples of admission in the Prometheus text format.
    pub fn samples(&self) -> String {
        self.durations.as_ref().map_or_else(String::new, |durations| durations.samples())
    }

    fn begins(&self) -> Duration {
        self.durations.as_ref().map_or(Duration::ZERO, |durations| durations.begins())
    }

    fn ended(
        &self,
        plugin: Option<usize>,
        phase: Phase,
        verb: Verb,
        began: Duration,
        done: ApiResult<()>,
    ) -> ApiResult<()> {
        if let Some(durations) = &self.durations {
            durations.ended(plugin, phase, verb, done.is_err(), began);
        }
        done
    }
}

#[cfg(test)]
mod tests {
    use k8s_wire::env::System;

    use super::*;

    #[tokio::test]
    async fn every_plugin_is_named_but_what_guards_roles() {
        let env = System::current();
        let authorizer: Arc<dyn Authorizer> = Arc::new(Rbac::default());
        let hooks = Hooks::new(Arc::new(Webhooks::new(env.clone(), None)), authorizer.clone());
        let mut plugins = builtin(&env, Arc::default(), &authorizer, PodSecurity::default(), &hooks);
        plugins.retain(|plugin| plugin.name() != "RBACEscalation");
        assert_eq!(plugins.iter().map(|plugin| plugin.name()).collect::<Vec<_>>(), BUILTIN);
    }
}
