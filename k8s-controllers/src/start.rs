//! All built-in controllers, each under an identity of its own.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use ipnet::IpNet;
use k8s_core::{env::Task, registry::Kinds};
use k8s_reconcile::{Client, Controller, Reconciler, controller::Running, metrics};

use crate::{
    cluster_role_aggregation, custom_kinds, deployment, disruption, endpoint_slice, endpoints, garbage,
    legacy_token_cleaner, namespace,
    node_ipam::{self, Ledger, Range},
    node_lifecycle::{self, plan::Graces},
    pod_gc, policy_status, protection, replica_set, replication_controller, resource_quota, root_ca, service_account,
    service_account_tokens, service_cidr, taint_eviction,
};

/// The names of the controllers, as `--controllers` has them, with the service account that each runs as.
pub const CONTROLLERS: [(&str, &str); 23] = [
    ("deployment-controller", "deployment-controller"),
    ("replicaset-controller", "replicaset-controller"),
    ("replicationcontroller-controller", "replication-controller"),
    ("endpoints-controller", "endpoint-controller"),
    ("endpointslice-controller", "endpointslice-controller"),
    ("node-ipam-controller", "node-controller"),
    ("node-lifecycle-controller", "node-controller"),
    ("taint-eviction-controller", "node-controller"),
    ("pod-garbage-collector-controller", "pod-garbage-collector"),
    ("disruption-controller", "disruption-controller"),
    ("garbage-collector-controller", "generic-garbage-collector"),
    ("namespace-controller", "namespace-controller"),
    ("serviceaccount-controller", "service-account-controller"),
    ("serviceaccount-token-controller", "service-account-token-controller"),
    ("legacy-serviceaccount-token-cleaner-controller", "legacy-service-account-token-cleaner"),
    ("root-ca-certificate-publisher-controller", "root-ca-cert-publisher"),
    ("clusterrole-aggregation-controller", "clusterrole-aggregation-controller"),
    ("validatingadmissionpolicy-status-controller", "validatingadmissionpolicy-status-controller"),
    ("resourcequota-controller", "resourcequota-controller"),
    ("persistentvolumeclaim-protection-controller", "pvc-protection-controller"),
    ("persistentvolume-protection-controller", "pv-protection-controller"),
    ("volumeattributesclass-protection-controller", "volumeattributesclass-protection-controller"),
    ("service-cidr-controller", "service-cidrs-controller"),
];

/// What the controllers need beside their clients.
#[derive(Clone)]
pub struct Options {
    /// Which controllers run, by name.
    pub enabled: Vec<&'static str>,
    /// The kinds of the cluster.
    pub kinds: Arc<Kinds>,
    /// Whether custom kinds are looked for in the cluster. Not where `kinds` are the API server's own.
    pub follows_definitions: bool,
    /// How many keys a controller may have in work at a time, by its name; its own default without.
    pub workers: BTreeMap<&'static str, usize>,
    /// The CA certificate that pods verify the API server by; without one it is not published.
    pub root_ca_pem: Option<String>,
    /// What makes the tokens that are kept in Secrets; without it there are none.
    pub token_issuer: Option<service_account_tokens::Issuer>,
    /// How long a token in a Secret may go unused before it is marked, and how long it is marked before it is deleted.
    pub token_clean_up_period: Duration,
    /// Where nodes' pod CIDRs come from; without it nobody is given any.
    pub node_cidrs: Option<NodeCidrs>,
    /// How long a node may be silent.
    pub graces: Graces,
}

/// Where nodes' pod CIDRs come from.
#[derive(Clone, Debug)]
pub struct NodeCidrs {
    /// One range for each address family, the primary first.
    pub ranges: Vec<Range>,
    /// Blocks that only the Node of this name gets: the one whose agent shares this process comes with its own.
    pub reserved: Vec<(String, Vec<IpNet>)>,
}

impl NodeCidrs {
    fn ledger(&self) -> Ledger {
        let mut ledger = Ledger::new(self.ranges.iter().copied());
        self.reserved.iter().for_each(|(node, nets)| ledger.reserve(node, nets.clone()));
        ledger
    }
}

impl Options {
    /// All controllers for these kinds.
    pub fn all(kinds: Arc<Kinds>) -> Self {
        Self {
            enabled: CONTROLLERS.iter().map(|(name, _)| *name).collect(),
            kinds,
            follows_definitions: false,
            workers: BTreeMap::new(),
            root_ca_pem: None,
            token_issuer: None,
            token_clean_up_period: legacy_token_cleaner::plan::CLEAN_UP_PERIOD,
            node_cidrs: None,
            graces: Graces::default(),
        }
    }

    fn sized<R: Reconciler>(&self, name: &str, controller: Controller<R>) -> Controller<R> {
        match self.workers.get(name) {
            Some(workers) => controller.workers(*workers),
            None => controller,
        }
    }
}

/// The running controllers. Dropping them stops them.
#[derive(Default)]
pub struct Controllers {
    running: Vec<Running>,
    garbage: Option<garbage::Running>,
    definitions: Option<Task>,
}

/// Starts what `options` enables. `client_for` gives the client of a service account in `kube-system`.
pub fn start(options: &Options, client_for: impl Fn(&str) -> Client) -> Controllers {
    let mut controllers = Controllers::default();
    if options.follows_definitions {
        let client = client_for("generic-garbage-collector");
        controllers.definitions = Some(custom_kinds::follow(&client, options.kinds.clone()));
    }
    // Controllers under one account share its client, and so its caches.
    let mut clients: BTreeMap<&str, Client> = BTreeMap::new();
    for (name, account) in CONTROLLERS.iter().filter(|(name, _)| options.enabled.contains(name)) {
        let client = clients.entry(account).or_insert_with(|| client_for(account)).clone();
        let running = match *name {
            "deployment-controller" => options.sized(name, deployment::controller()).start(client),
            "replicaset-controller" => options.sized(name, replica_set::controller()).start(client),
            "replicationcontroller-controller" => {
                options.sized(name, replication_controller::controller()).start(client)
            }
            "endpoints-controller" => options.sized(name, endpoints::controller()).start(client),
            "endpointslice-controller" => options.sized(name, endpoint_slice::controller()).start(client),
            "node-ipam-controller" => match &options.node_cidrs {
                Some(cidrs) => node_ipam::controller(cidrs.ledger()).start(client),
                None => continue,
            },
            "node-lifecycle-controller" => {
                node_lifecycle::controller(client.env().clone(), options.graces).start(client)
            }
            "taint-eviction-controller" => taint_eviction::controller().start(client),
            "pod-garbage-collector-controller" => {
                controllers.running.extend(pod_gc::start(&client));
                continue;
            }
            "disruption-controller" => disruption::controller(options.kinds.clone()).start(client),
            "namespace-controller" => options.sized(name, namespace::controller(options.kinds.clone())).start(client),
            "resourcequota-controller" => {
                options.sized(name, resource_quota::controller(options.kinds.clone())).start(client)
            }
            "persistentvolumeclaim-protection-controller" => protection::claims().start(client),
            "persistentvolume-protection-controller" => protection::volumes().start(client),
            "volumeattributesclass-protection-controller" => protection::classes().start(client),
            "service-cidr-controller" => service_cidr::controller().start(client),
            "serviceaccount-controller" => options.sized(name, service_account::controller()).start(client),
            "clusterrole-aggregation-controller" => cluster_role_aggregation::controller().start(client),
            "validatingadmissionpolicy-status-controller" => {
                policy_status::controller(options.kinds.clone()).start(client)
            }
            "serviceaccount-token-controller" => match &options.token_issuer {
                Some(issuer) => {
                    let controller = service_account_tokens::controller(issuer.clone(), options.root_ca_pem.clone());
                    options.sized(name, controller).start(client)
                }
                None => continue,
            },
            "legacy-serviceaccount-token-cleaner-controller" => {
                legacy_token_cleaner::controller(options.token_clean_up_period).start(client)
            }
            "root-ca-certificate-publisher-controller" => match &options.root_ca_pem {
                Some(pem) => root_ca::controller(pem.clone()).start(client),
                None => continue,
            },
            _ => {
                controllers.garbage = Some(garbage::start(client, options.kinds.clone()));
                continue;
            }
        };
        controllers.running.push(running);
    }
    controllers
}

impl Controllers {
    /// Whether all have seen `revision` and have nothing to do, now or within `horizon`.
    pub fn is_settled(&self, revision: u64, horizon: Duration) -> bool {
        let garbage = self.garbage.as_ref().is_none_or(|garbage| garbage.is_settled(revision, horizon));
        garbage && self.running.iter().all(|running| running.is_settled(revision, horizon))
    }

    /// The metrics of all, as Prometheus text.
    pub fn metrics(&self) -> String {
        let all: Vec<_> = self.running.iter().map(|running| (running.name(), &**running.metrics())).collect();
        metrics::render(&all)
    }

    /// Whether the caches of all have seen the cluster once.
    pub fn is_synced(&self) -> bool {
        self.running.iter().all(Running::is_synced)
    }

    /// Stops all and waits for them.
    pub async fn stop(self) {
        for running in self.running {
            running.stop().await;
        }
        if let Some(garbage) = self.garbage {
            garbage.stop().await;
        }
        if let Some(definitions) = self.definitions {
            definitions.stop().await;
        }
    }
}
