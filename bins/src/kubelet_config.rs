//! `kubelet --config`: a KubeletConfiguration of `kubelet.config.k8s.io/v1beta1`.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use k8s::{
    core::{api::api::core::v1::Taint, quantity::Quantity},
    node::node::Reserved,
};
use serde::Deserialize;

use crate::{
    config_file::{self, Form},
    program::Failure,
};

/// What is acted on. A flag counts more than the file.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, rename_all = "camelCase", default)]
pub struct KubeletConfiguration {
    /// The address of the node's server.
    pub address: Option<IpAddr>,
    /// The port of the node's server.
    pub port: Option<u16>,
    /// Who may use it.
    pub authentication: Authentication,
    /// The certificate that it serves with.
    pub tls_cert_file: Option<PathBuf>,
    /// The key of that certificate.
    pub tls_private_key_file: Option<PathBuf>,
    /// The address of the health port.
    pub healthz_bind_address: Option<IpAddr>,
    /// The health port.
    pub healthz_port: Option<u16>,
    /// The cluster's domain.
    pub cluster_domain: Option<String>,
    /// The name servers of pods.
    #[serde(rename = "clusterDNS")]
    pub cluster_dns: Option<Vec<IpAddr>>,
    /// Names the resolvers for what is outside the cluster.
    pub resolv_conf: Option<PathBuf>,
    /// How many pods the node takes.
    pub max_pods: Option<u32>,
    /// The addresses of the node's pods.
    #[serde(rename = "podCIDR")]
    pub pod_cidr: Option<String>,
    /// The size at which a container's log file is rotated away.
    pub container_log_max_size: Option<String>,
    /// How many log files of a container are kept.
    pub container_log_max_files: Option<u16>,
    /// When unused images are removed, in percent.
    #[serde(rename = "imageGCHighThresholdPercent")]
    pub image_gc_high_threshold_percent: Option<u8>,
    /// Until when they are.
    #[serde(rename = "imageGCLowThresholdPercent")]
    pub image_gc_low_threshold_percent: Option<u8>,
    /// Taints for a node that is registered for the first time.
    pub register_with_taints: Option<Vec<Taint>>,
    /// What the system keeps from pods.
    pub system_reserved: Option<BTreeMap<String, String>>,
    /// What the programs of the cluster keep from pods.
    pub kube_reserved: Option<BTreeMap<String, String>>,
}

/// `authentication`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct Authentication {
    /// Client certificates.
    pub x509: X509,
}

/// `authentication.x509`.
#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
pub struct X509 {
    /// The authorities whose client certificates are believed.
    #[serde(rename = "clientCAFile")]
    pub client_ca_file: Option<PathBuf>,
}

const REVIEWS: &str = "tokens and permissions are always reviewed by the API server, and nobody is let in unknown";
const POLLED: &str = "the API server is watched, and the runtime tells its changes";
const EVICTION: &str = "pods are not evicted; the node tells what it runs short of";
const MANAGERS: &str = "processors, memory and devices are not assigned by topology";
const CGROUPS: &str = "cgroups are made below one of the kubelet's own";
const NO_GATES: &str = "there are no gates";
const STATIC: &str = "there are no static pods";
const KERNEL: &str = "the kernel's settings are left as they are";
const LEASES: &str = "the lease lasts 40 s, and the status is looked at every 10 s";

const FORM: Form = Form {
    api_version: "kubelet.config.k8s.io/v1beta1",
    kind: "KubeletConfiguration",
    refused: &[
        ("authentication.anonymous.enabled", &["false"], REVIEWS),
        ("authentication.anonymous", &["{}"], REVIEWS),
        ("authentication.webhook.enabled", &["true"], REVIEWS),
        ("authentication.webhook.cacheTTL", &["\"0s\""], "answers are not kept"),
        ("authentication.webhook", &["{}"], REVIEWS),
        ("authorization.mode", &["\"Webhook\""], REVIEWS),
        ("authorization.webhook.cacheAuthorizedTTL", &["\"0s\""], "answers are not kept"),
        ("authorization.webhook.cacheUnauthorizedTTL", &["\"0s\""], "answers are not kept"),
        ("authorization.webhook", &["{}"], REVIEWS),
        ("authorization", &["{}"], REVIEWS),
        ("readOnlyPort", &["0"], "there is no port without authentication"),
        ("enableServer", &["true"], "the server is always on"),
        ("staticPodPath", &["\"\""], STATIC),
        ("staticPodURL", &["\"\""], STATIC),
        ("syncFrequency", &["\"0s\"", "\"1m0s\"", "\"1m\""], POLLED),
        ("fileCheckFrequency", &["\"0s\"", "\"20s\""], STATIC),
        ("httpCheckFrequency", &["\"0s\"", "\"20s\""], STATIC),
        ("nodeStatusUpdateFrequency", &["\"0s\"", "\"10s\""], LEASES),
        ("nodeStatusReportFrequency", &["\"0s\"", "\"5m0s\"", "\"5m\""], LEASES),
        ("nodeLeaseDurationSeconds", &["0", "40"], LEASES),
        ("rotateCertificates", &["false"], "certificates are not renewed; the kubeconfig's are used"),
        ("serverTLSBootstrap", &["false"], "the serving certificate is made here, or given"),
        ("tlsMinVersion", &["\"\"", "\"VersionTLS12\""], "TLS 1.2 and 1.3 are spoken"),
        ("tlsCipherSuites", &["[]"], "the safe suites are spoken"),
        ("registerNode", &["true"], "the node is registered always"),
        ("cgroupDriver", &["\"cgroupfs\""], CGROUPS),
        ("cgroupRoot", &["\"\""], CGROUPS),
        ("cgroupsPerQOS", &["true"], CGROUPS),
        ("kubeletCgroups", &["\"\""], CGROUPS),
        ("systemCgroups", &["\"\""], CGROUPS),
        ("systemReservedCgroup", &["\"\""], "what is reserved is kept from pods, not enforced on others"),
        ("kubeReservedCgroup", &["\"\""], "what is reserved is kept from pods, not enforced on others"),
        ("enforceNodeAllocatable", &["[]", "[\"pods\"]"], "what is reserved is kept from pods, not enforced on others"),
        ("reservedSystemCPUs", &["\"\""], MANAGERS),
        ("reservedMemory", &["[]"], MANAGERS),
        ("cpuManagerPolicy", &["\"\"", "\"none\""], MANAGERS),
        ("cpuManagerReconcilePeriod", &["\"0s\"", "\"10s\""], MANAGERS),
        ("memoryManagerPolicy", &["\"\"", "\"None\""], MANAGERS),
        ("topologyManagerPolicy", &["\"\"", "\"none\""], MANAGERS),
        ("topologyManagerScope", &["\"\"", "\"container\""], MANAGERS),
        ("cpuCFSQuota", &["true"], "limits of processors are enforced"),
        ("podPidsLimit", &["-1"], "processes of pods are not limited"),
        ("podsPerCore", &["0"], "maxPods alone counts"),
        ("evictionHard", &["{}"], EVICTION),
        ("evictionSoft", &["{}"], EVICTION),
        ("evictionSoftGracePeriod", &["{}"], EVICTION),
        ("evictionMinimumReclaim", &["{}"], EVICTION),
        ("evictionPressureTransitionPeriod", &["\"0s\"", "\"5m0s\"", "\"5m\""], EVICTION),
        ("evictionMaxPodGracePeriod", &["0"], EVICTION),
        ("shutdownGracePeriod", &["\"0s\""], "pods run on when the kubelet ends"),
        ("shutdownGracePeriodCriticalPods", &["\"0s\""], "pods run on when the kubelet ends"),
        ("imageMinimumGCAge", &["\"0s\"", "\"2m0s\"", "\"2m\""], "unused images count from 2 minutes on"),
        ("imageMaximumGCAge", &["\"0s\""], "images are not removed for their age"),
        ("serializeImagePulls", &["false", "true"], "a few images are pulled at once"),
        ("registryPullQPS", &["5"], "pulls are limited by their number"),
        ("registryBurst", &["10"], "pulls are limited by their number"),
        ("eventRecordQPS", &["0", "50"], "equal events are told once"),
        ("eventBurst", &["100"], "equal events are told once"),
        ("kubeAPIQPS", &["50"], "requests are not slowed down by the client"),
        ("kubeAPIBurst", &["100"], "requests are not slowed down by the client"),
        ("contentType", &["\"\"", "\"application/json\""], "the client speaks JSON"),
        ("containerRuntimeEndpoint", &["\"\""], "containers are run by the kubelet itself"),
        ("imageServiceEndpoint", &["\"\""], "images are kept by the kubelet itself"),
        ("failSwapOn", &["false"], "swap is no obstacle"),
        ("memorySwap", &["{}"], "swap is left as it is"),
        ("protectKernelDefaults", &["false"], KERNEL),
        ("makeIPTablesUtilChains", &["false", "true"], KERNEL),
        ("oomScoreAdj", &["-999"], KERNEL),
        ("maxOpenFiles", &["1000000"], KERNEL),
        ("allowedUnsafeSysctls", &["[]"], "only safe sysctls are set"),
        ("volumePluginDir", &["\"\""], "there are no volume plugins"),
        ("volumeStatsAggPeriod", &["\"0s\"", "\"1m0s\"", "\"1m\""], "volumes are not measured"),
        (
            "hairpinMode",
            &["\"\"", "\"hairpin-veth\"", "\"promiscuous-bridge\""],
            "pods reach themselves through services",
        ),
        ("streamingConnectionIdleTimeout", &["\"0s\"", "\"4h0m0s\"", "\"4h\""], "idle connections stay"),
        ("runtimeRequestTimeout", &["\"0s\"", "\"2m0s\"", "\"2m\""], "there is no other runtime to wait for"),
        ("enableDebuggingHandlers", &["true"], "exec, attach, logs and port-forward are there"),
        ("enableProfilingHandler", &["false", "true"], "there is no profiling"),
        ("enableContentionProfiling", &["false", "true"], "there is no profiling"),
        ("featureGates", &["{}"], NO_GATES),
        ("logging.format", &["\"\"", "\"text\""], "the log is text on standard error"),
        ("logging.flushFrequency", &["0", "\"5s\""], "the log is written at once"),
        ("logging.verbosity", &["0"], "the flag -v says it"),
        ("logging", &["{}"], "the flag -v says it"),
        ("providerID", &["\"\""], "nodes have no provider"),
    ],
};

impl KubeletConfiguration {
    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, Failure> {
        let file: Self = config_file::load(path, &FORM)?;
        for (field, amounts) in [("systemReserved", &file.system_reserved), ("kubeReserved", &file.kube_reserved)] {
            let amounts = amounts.iter().flatten().map(|(name, amount)| (name.as_str(), amount.as_str()));
            reserved(amounts).map_err(|why| format!("{}: {field}.{why}", path.display()))?;
        }
        Ok(file)
    }
}

/// What amounts by resource add up to. The error begins with the resource's name.
pub fn reserved<'a>(amounts: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Reserved, String> {
    let mut sum = Reserved::default();
    for (name, text) in amounts {
        let amount = Quantity::parse(text).map_err(|why| format!("{name}: {text:?}: {why}"))?;
        if amount.is_negative() {
            return Err(format!("{name}: {text} is negative"));
        }
        match name {
            "cpu" => sum.milli_cpus += amount.milli_value(),
            "memory" => sum.memory_bytes += amount.value(),
            "ephemeral-storage" => sum.storage_bytes += amount.value(),
            _ => return Err(format!("{name}: only cpu, memory and ephemeral-storage can be reserved")),
        }
    }
    Ok(sum)
}
