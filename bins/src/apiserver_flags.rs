//! The flags of `kube-apiserver` that say what is served and how, as upstream names them, and those that are not there.

use std::{ops::RangeInclusive, time::Duration};

use clap::Args;
use k8s::{
    apiserver::{admission::BUILTIN, fairness::FairnessLimits},
    control_plane::ControlPlaneSettings,
    core::env::Env,
};

use crate::{
    audit_flags::AuditArguments,
    authentication_flags::AuthenticationArguments,
    authorization_flags::AuthorizationArguments,
    go_duration::GoDuration,
    program::{Failure, Refused},
    serving::{Metrics, TlsArguments},
};

/// The flags.
#[derive(Args)]
pub struct ServerArguments {
    /// The cluster IPs of Services; one range
    #[arg(long, default_value = "10.96.0.0/12", value_name = "CIDR")]
    service_cluster_ip_range: String,
    /// The node ports of Services
    #[arg(long, default_value = "30000-32767", value_name = "FIRST-LAST", value_parser = ports)]
    service_node_port_range: RangeInclusive<u16>,
    /// Admission plugins to have on; all that there are are on unless they are turned off
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    enable_admission_plugins: Vec<String>,
    /// Admission plugins to turn off
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    disable_admission_plugins: Vec<String>,
    /// Whether pods may be privileged; it is left to who may create them
    #[arg(long, default_value = "true", num_args = 0..=1, default_missing_value = "true", value_parser = ["true"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    allow_privileged: String,
    #[command(flatten)]
    tls: TlsArguments,
    #[command(flatten)]
    authentication: AuthenticationArguments,
    #[command(flatten)]
    audit: AuditArguments,
    /// Whether requests take turns by FlowSchemas and PriorityLevelConfigurations
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    enable_priority_and_fairness: bool,
    /// How many requests are answered at once, together with those of --max-mutating-requests-inflight
    #[arg(long, default_value_t = 400, value_name = "COUNT")]
    max_requests_inflight: u32,
    /// How many requests are answered at once, together with those of --max-requests-inflight
    #[arg(long, default_value_t = 200, value_name = "COUNT")]
    max_mutating_requests_inflight: u32,
    #[command(flatten)]
    authorization: AuthorizationArguments,
    /// How long a request that is no watch and no connection may take
    #[arg(long, default_value = "1m", value_name = "DURATION")]
    request_timeout: GoDuration,
    /// After what share of requests a client of HTTP/2 is told to connect anew, so that clients spread over several
    /// servers behind a balancer; at most 0.02
    #[arg(long, default_value_t = 0.0, value_name = "SHARE", value_parser = goaway_chance)]
    goaway_chance: f64,
}

/// Refuses names of admission plugins that are not there.
pub fn check_plugins(flag: &str, names: &[String]) -> Result<(), Failure> {
    let Some(name) = names.iter().find(|name| !BUILTIN.contains(&name.as_str())) else { return Ok(()) };
    let all = BUILTIN.join(", ");
    Err(format!("--{flag}: there is no admission plugin {name:?}; there are {all}").into())
}

fn goaway_chance(text: &str) -> Result<f64, String> {
    let share: f64 = text.parse().map_err(|_| "it is no number")?;
    if (0.0..=0.02).contains(&share) { Ok(share) } else { Err("it must be from 0 to 0.02".into()) }
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    let wrong = || format!("{text:?} is not FIRST-LAST, with 1 <= FIRST <= LAST <= 65535");
    let (first, last) = text.split_once('-').ok_or_else(wrong)?;
    match (first.parse::<u16>(), last.parse::<u16>()) {
        (Ok(first), Ok(last)) if (1..=last).contains(&first) => Ok(first..=last),
        _ => Err(wrong()),
    }
}

impl ServerArguments {
    /// What they come to.
    pub fn settings(self, env: &Env) -> Result<ControlPlaneSettings, Failure> {
        let range = &self.service_cluster_ip_range;
        let service_cidr = range.parse().map_err(|why| format!("--service-cluster-ip-range {range}: {why}"))?;
        let GoDuration(request_timeout) = self.request_timeout;
        if request_timeout < Duration::from_secs(1) {
            return Err("--request-timeout: it must be at least 1s".into());
        }
        for (flag, names) in [
            ("enable-admission-plugins", &self.enable_admission_plugins),
            ("disable-admission-plugins", &self.disable_admission_plugins),
        ] {
            check_plugins(flag, names)?;
        }
        if let Some(name) =
            self.enable_admission_plugins.iter().find(|name| self.disable_admission_plugins.contains(name))
        {
            return Err(format!("admission plugin {name}: it is both enabled and disabled").into());
        }
        let seats = self.max_requests_inflight.saturating_add(self.max_mutating_requests_inflight);
        let metrics = Metrics::default();
        let mut authentication = self.authentication.settings(env)?;
        authentication.token_sorts.extend(self.authorization.token_webhook(env)?);
        Ok(ControlPlaneSettings {
            service_cidr,
            node_ports: self.service_node_port_range,
            authentication,
            authorization: self.authorization.modes(env)?,
            audit: self.audit.settings()?,
            fairness: self.enable_priority_and_fairness.then_some(FairnessLimits {
                seats: seats.max(1),
                // As upstream: who waits for a quarter of the time that a request has, waits no longer.
                wait: request_timeout / 4,
            }),
            without_admission: self.disable_admission_plugins,
            inert: Vec::new(),
            request_timeout,
            goaway_chance: self.goaway_chance,
            serving: self.tls.identity()?,
            min_tls: self.tls.tls_min_version,
            metrics: Some(Box::new(move || metrics.text())),
        })
    }
}

const NO_TOKEN_FILE: &str = "tokens in a file are good for ever; --enable-bootstrap-token-auth has tokens that end";
const OWN_AUTHORITY: &str =
    "nodes' certificates are not verified; the server shows its own, of the cluster's authority";

/// Flags of upstream's that are not there.
pub const REFUSED: &[Refused] = &[
    ("feature-gates", "there are no gates; everything that is there is on"),
    ("runtime-config", "what is served is fixed: all stable versions that there are"),
    ("min-request-timeout", "a watch ends when its caller says, or the server stops"),
    ("shutdown-delay-duration", "the server stops at once; requests in flight end within 10 s"),
    ("shutdown-send-retry-after", "the server stops at once; requests in flight end within 10 s"),
    ("livez-grace-period", "a server that listens has started"),
    ("audit-log-compress", "files that were put aside stay as they are"),
    ("audit-log-truncate-enabled", "events are written whole"),
    ("audit-webhook-truncate-enabled", "events are posted whole"),
    ("admission-control", "--enable-admission-plugins and --disable-admission-plugins say it"),
    ("admission-control-config-file", "admission plugins have nothing to set"),
    ("token-auth-file", NO_TOKEN_FILE),
    ("authorization-policy-file", "policies are Roles and ClusterRoles"),
    ("service-account-lookup", "a token is good only while its account exists"),
    ("storage-backend", "--etcd-servers says it; without, the store is in the data folder"),
    ("storage-media-type", "objects are stored as JSON"),
    ("etcd-servers-overrides", "everything is in one store"),
    ("etcd-compaction-interval", "the store is compacted every few minutes"),
    ("etcd-count-metric-poll-period", "objects are counted in the cache"),
    ("etcd-healthcheck-timeout", "the store must answer within 2 s"),
    ("watch-cache", "the watch cache is always on"),
    ("watch-cache-sizes", "the watch cache holds everything"),
    ("default-watch-cache-size", "the watch cache holds everything"),
    ("delete-collection-workers", "collections are deleted one object after the other"),
    ("enable-garbage-collector", "the garbage collector is a controller: --controllers of kube-controller-manager"),
    ("endpoint-reconciler-type", "each server publishes its own address"),
    ("event-ttl", "events stay until they are deleted"),
    ("external-hostname", "--advertise-address says it"),
    ("cert-dir", "keys and certificates are in pki/ of the data folder"),
    ("tls-cipher-suites", "the safe suites are spoken"),
    ("tls-sni-cert-key", "there is one certificate"),
    ("cors-allowed-origins", "no browser's page is let in"),
    ("strict-transport-security-directives", "no such header is sent"),
    ("enable-aggregator-routing", "extension API servers are reached at their endpoints"),
    ("egress-selector-config-file", "nodes and pods are reached directly"),
    ("kubelet-certificate-authority", OWN_AUTHORITY),
    ("kubelet-client-certificate", OWN_AUTHORITY),
    ("kubelet-client-key", OWN_AUTHORITY),
    ("kubelet-preferred-address-types", "nodes are reached at their InternalIP"),
    ("kubelet-timeout", "nodes have 10 s to answer a connection"),
    ("kubernetes-service-node-port", "the service kubernetes has a cluster IP alone"),
    ("profiling", "there is no profiling"),
    ("contention-profiling", "there is no profiling"),
    ("permit-port-sharing", "a port that is taken is an error"),
    ("logging-format", "the log is text on standard error"),
    ("show-hidden-metrics-for-version", "no metric is hidden"),
];
