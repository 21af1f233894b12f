//! `kube-proxy --config`: a KubeProxyConfiguration of `kubeproxy.config.k8s.io/v1alpha1`.

use std::path::Path;

use serde::Deserialize;

use crate::{
    component::ClientConnection,
    config_file::{self, Form},
    program::Failure,
};

/// What is acted on. A flag counts more than the file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct ProxyConfiguration {
    /// Where the cluster is.
    pub client_connection: ClientConnection,
    /// Where pods live, cluster-wide.
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: Option<String>,
    /// The node's name.
    pub hostname_override: Option<String>,
    /// How traffic is led.
    pub mode: Option<String>,
    /// Address and port of the health port.
    pub healthz_bind_address: Option<String>,
    /// Address and port of the port for metrics.
    pub metrics_bind_address: Option<String>,
}

const EVERYTHING: &str = "rules are applied as soon as something changes, and looked after every 10 s";
const OTHER_MODE: &str = "there is no such mode";
const CONNECTIONS: &str = "the kernel's limits on connections are left as they are";
const CLIENT: &str = "requests are not slowed down by the client";
const JSON: &str = "the client speaks JSON";

const FORM: Form = Form {
    api_version: "kubeproxy.config.k8s.io/v1alpha1",
    kind: "KubeProxyConfiguration",
    refused: &[
        ("clientConnection.qps", &["0", "0.0", "5", "5.0"], CLIENT),
        ("clientConnection.burst", &["0", "10"], CLIENT),
        ("clientConnection.acceptContentTypes", &["\"\"", "\"application/json\""], JSON),
        ("clientConnection.contentType", &["\"\"", "\"application/json\""], JSON),
        ("bindAddress", &["\"\"", "\"0.0.0.0\""], "node ports answer on the node's own address"),
        ("bindAddressHardFail", &["false", "true"], "an address that cannot be bound ends the program"),
        ("configSyncPeriod", &["\"0s\"", "\"15m0s\"", "\"15m\""], EVERYTHING),
        ("syncPeriod", &["\"0s\"", "\"30s\""], EVERYTHING),
        ("minSyncPeriod", &["\"0s\"", "\"1s\""], EVERYTHING),
        ("conntrack", &["{}"], CONNECTIONS),
        ("linux", &["{}"], CONNECTIONS),
        ("detectLocal", &["{}"], "what is local is told by clusterCIDR"),
        ("detectLocalMode", &["\"\"", "\"ClusterCIDR\""], "what is local is told by clusterCIDR"),
        ("enableProfiling", &["false"], "there is no profiling"),
        ("showHiddenMetricsForVersion", &["\"\""], "no metric is hidden"),
        ("featureGates", &["{}"], "there are no gates"),
        ("iptables", &["{}"], OTHER_MODE),
        ("ipvs", &["{}"], OTHER_MODE),
        ("winkernel", &["{}"], OTHER_MODE),
        ("nftables.masqueradeAll", &["false"], "only traffic that must be is masqueraded"),
        ("nftables.masqueradeBit", &["14"], "no bit of the mark is used"),
        ("nftables.syncPeriod", &["\"0s\"", "\"30s\""], EVERYTHING),
        ("nftables.minSyncPeriod", &["\"0s\"", "\"1s\""], EVERYTHING),
        ("nftables", &["{}"], "nothing of it can be set"),
        ("nodePortAddresses", &["[]", "[\"primary\"]"], "node ports answer on the node's own address"),
        ("oomScoreAdj", &["-999"], "the score is left as it is"),
        ("portRange", &["\"\""], "no ports are taken"),
        ("windowsRunAsService", &["false"], "this is no Windows"),
    ],
};

impl ProxyConfiguration {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        config_file::load(path, &FORM)
    }
}
