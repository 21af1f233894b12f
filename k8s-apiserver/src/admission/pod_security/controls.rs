//! The controls of the Pod Security Standards: each looks at one thing that a pod may not do. Pure.
//!
//! Words are upstream's, which people and programs read.

use std::collections::BTreeSet;

use k8s_core::doc::{Doc, Map};

use super::policy::{Level, Version};

/// One control.
pub struct Control {
    /// Its name upstream.
    pub id: &'static str,
    /// The level that asks for it, and every stricter one.
    pub level: Level,
    /// The first minor version of Kubernetes that has it.
    pub since: u32,
    /// Another control that the stricter level looks at instead of this one.
    pub replaced_by: Option<&'static str>,
    check: fn(&Pod<'_>) -> Option<Violation>,
}

/// What a pod does that it may not: why, and where.
pub type Violation = (&'static str, String);

/// What controls read of a pod or a template.
struct Pod<'a> {
    metadata: &'a Doc,
    spec: &'a Doc,
    version: Version,
}

/// Every control, in the order in which violations are told.
pub const CONTROLS: [Control; 18] = [
    baseline("appArmorProfile", app_armor),
    Control { replaced_by: Some("capabilities_restricted"), ..baseline("capabilities_baseline", capabilities) },
    baseline("hostNamespaces", host_namespaces),
    baseline("hostPathVolumes", host_paths),
    baseline("hostPorts", host_ports),
    Control { since: 34, ..baseline("hostProbesAndhostLifecycle", hosts_of_probes) },
    baseline("privileged", privileged),
    baseline("procMount", proc_mount),
    baseline("seLinuxOptions", se_linux),
    Control {
        since: 19,
        replaced_by: Some("seccompProfile_restricted"),
        ..baseline("seccompProfile_baseline", seccomp)
    },
    baseline("sysctls", sysctls),
    baseline("windowsHostProcess", host_process),
    Control { since: 8, ..restricted("allowPrivilegeEscalation", escalation) },
    Control { since: 22, ..restricted("capabilities_restricted", dropped_capabilities) },
    restricted("restrictedVolumes", volumes),
    restricted("runAsNonRoot", non_root),
    Control { since: 23, ..restricted("runAsUser", user) },
    Control { since: 19, ..restricted("seccompProfile_restricted", required_seccomp) },
];

const fn baseline(id: &'static str, check: fn(&Pod<'_>) -> Option<Violation>) -> Control {
    Control { id, level: Level::Baseline, since: 0, replaced_by: None, check }
}

const fn restricted(id: &'static str, check: fn(&Pod<'_>) -> Option<Violation>) -> Control {
    Control { id, level: Level::Restricted, since: 0, replaced_by: None, check }
}

/// What a pod does that a level of a version does not allow, as one text; `None` if it does nothing of the kind.
pub fn violations(metadata: &Doc, spec: &Doc, level: Level, version: Version) -> Option<String> {
    let pod = Pod { metadata, spec, version };
    let holds = |control: &&Control| {
        let is_replaced = control.replaced_by.is_some_and(|id| {
            level == Level::Restricted && CONTROLS.iter().any(|other| other.id == id && version.has(other.since))
        });
        control.level <= level && version.has(control.since) && !is_replaced
    };
    let found = CONTROLS.iter().filter(holds).filter_map(|control| (control.check)(&pod));
    let shown: Vec<String> =
        found.map(|(why, at)| if at.is_empty() { why.to_owned() } else { format!("{why} ({at})") }).collect();
    (!shown.is_empty()).then(|| shown.join(", "))
}

impl<'a> Pod<'a> {
    fn containers(&self) -> impl Iterator<Item = &'a Doc> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(move |list| spec.get(list).map_or(&[][..], Doc::items))
    }

    /// The names of the containers of which something holds.
    fn named(&self, holds: impl Fn(&Doc) -> bool) -> Vec<&'a str> {
        self.containers().filter(|container| holds(container)).map(|container| container.str_at(&["name"])).collect()
    }

    /// Windows has no such thing, since there is a field that says so.
    fn is_windows(&self) -> bool {
        self.version.has(25) && self.spec.str_at(&["os", "name"]) == "windows"
    }

    fn context(&self, path: &[&str]) -> Option<&'a Doc> {
        at(self.spec, path)
    }
}

/// A value of a security context.
fn at<'a>(holder: &'a Doc, path: &[&str]) -> Option<&'a Doc> {
    holder.get("securityContext").and_then(|context| context.at(path)).filter(|value| !value.is_null())
}

fn is_true(value: Option<&Doc>) -> bool {
    value.and_then(Doc::as_bool) == Some(true)
}

fn text(value: Option<&Doc>) -> &str {
    value.and_then(Doc::as_str).unwrap_or("")
}

fn quoted<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    names.into_iter().map(|name| format!("{name:?}")).collect::<Vec<_>>().join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", if names.len() == 1 { "container" } else { "containers" }, quoted(names.iter().copied()))
}

/// The pod, containers, or both.
fn pod_and(pod: bool, names: &[&str]) -> String {
    match (pod, names) {
        (true, []) => "pod".into(),
        (true, names) => format!("pod and {}", containers(names)),
        (false, names) => containers(names),
    }
}

fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    const ANNOTATION: &str = "container.apparmor.security.beta.kubernetes.io/";
    let forbidden = |holder: &Doc| {
        let kind = text(at(holder, &["appArmorProfile", "type"]));
        !matches!(kind, "" | "RuntimeDefault" | "Localhost")
    };
    let (by_pod, names) = (forbidden(pod.spec), pod.named(forbidden));
    let mut parts = Vec::new();
    if by_pod || !names.is_empty() {
        let mut kinds = BTreeSet::new();
        let holders = std::iter::once(pod.spec).chain(pod.containers());
        kinds.extend(holders.filter(|it| forbidden(it)).map(|it| text(at(it, &["appArmorProfile", "type"]))));
        parts.push(format!("{} must not set AppArmor profile type to {}", pod_and(by_pod, &names), quoted(kinds)));
    }
    let annotations = pod.metadata.get("annotations").and_then(Doc::as_object);
    let allowed = |value: &str| matches!(value, "" | "runtime/default") || value.starts_with("localhost/");
    let mut bad: Vec<String> = annotations
        .into_iter()
        .flat_map(Map::iter)
        .filter(|(key, value)| key.starts_with(ANNOTATION) && !allowed(value.as_str().unwrap_or("")))
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    bad.sort_unstable();
    if !bad.is_empty() {
        let noun = if bad.len() == 1 { "annotation" } else { "annotations" };
        parts.push(format!("{noun} {}", bad.join(", ")));
    }
    let why =
        if parts.len() > 1 || bad.len() > 1 { "forbidden AppArmor profiles" } else { "forbidden AppArmor profile" };
    (!parts.is_empty()).then(|| (why, parts.join("; ")))
}

/// What container runtimes give anyway.
const DEFAULT_CAPABILITIES: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

fn added(container: &Doc) -> impl Iterator<Item = &str> {
    at(container, &["capabilities", "add"]).map_or(&[][..], Doc::items).iter().filter_map(Doc::as_str)
}

/// Containers that add capabilities beyond `allowed`, as a text.
fn adding(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let beyond = |container: &&Doc| added(container).any(|name| !allowed.contains(&name));
    let found: Vec<&Doc> = pod.containers().filter(beyond).collect();
    let extra: BTreeSet<&str> = found.iter().flat_map(|it| added(it)).filter(|name| !allowed.contains(name)).collect();
    let names: Vec<&str> = found.iter().map(|container| container.str_at(&["name"])).collect();
    (!names.is_empty()).then(|| {
        format!("{} must not include {} in securityContext.capabilities.add", containers(&names), quoted(extra))
    })
}

fn capabilities(pod: &Pod<'_>) -> Option<Violation> {
    adding(pod, &DEFAULT_CAPABILITIES).map(|detail| ("non-default capabilities", detail))
}

fn dropped_capabilities(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    let drops_all = |container: &Doc| {
        let dropped = at(container, &["capabilities", "drop"]).map_or(&[][..], Doc::items);
        dropped.iter().any(|name| name.as_str() == Some("ALL"))
    };
    let keeping = pod.named(|container| !drops_all(container));
    let mut parts = Vec::new();
    if !keeping.is_empty() {
        parts.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", containers(&keeping)));
    }
    parts.extend(adding(pod, &["NET_BIND_SERVICE"]));
    (!parts.is_empty()).then(|| ("unrestricted capabilities", parts.join("; ")))
}

fn host_namespaces(pod: &Pod<'_>) -> Option<Violation> {
    let fields = ["hostNetwork", "hostPID", "hostIPC"].into_iter().filter(|field| is_true(pod.spec.get(field)));
    let found: Vec<String> = fields.map(|field| format!("{field}=true")).collect();
    (!found.is_empty()).then(|| ("host namespaces", found.join(", ")))
}

fn volumes_of<'a>(pod: &Pod<'a>) -> &'a [Doc] {
    pod.spec.get("volumes").map_or(&[], Doc::items)
}

fn host_paths(pod: &Pod<'_>) -> Option<Violation> {
    let on_host = |volume: &&Doc| volume.get("hostPath").is_some_and(|source| !source.is_null());
    let names: Vec<&str> = volumes_of(pod).iter().filter(on_host).map(|volume| volume.str_at(&["name"])).collect();
    let noun = if names.len() == 1 { "volume" } else { "volumes" };
    (!names.is_empty()).then(|| ("hostPath volumes", format!("{noun} {}", quoted(names))))
}

fn host_ports(pod: &Pod<'_>) -> Option<Violation> {
    let ports = |container: &Doc| -> Vec<i64> {
        let ports = container.get("ports").map_or(&[][..], Doc::items);
        ports.iter().filter_map(|port| port.get("hostPort").and_then(Doc::as_i64)).filter(|port| *port != 0).collect()
    };
    let names = pod.named(|container| !ports(container).is_empty());
    let all: BTreeSet<i64> = pod.containers().flat_map(ports).collect();
    let (verb, noun) =
        (if names.len() == 1 { "uses" } else { "use" }, if all.len() == 1 { "hostPort" } else { "hostPorts" });
    let shown = all.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    (!names.is_empty()).then(|| ("hostPort", format!("{} {verb} {noun} {shown}", containers(&names))))
}

fn hosts_of_probes(pod: &Pod<'_>) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let hosts = |container: &Doc| -> Vec<String> {
        let found = HANDLERS
            .iter()
            .filter_map(|path| container.at(path))
            .flat_map(|handler| ["httpGet", "tcpSocket"].map(|kind| handler.str_at(&[kind, "host"]).to_owned()));
        found.filter(|host| !host.is_empty()).collect()
    };
    let names = pod.named(|container| !hosts(container).is_empty());
    let all: BTreeSet<String> = pod.containers().flat_map(hosts).collect();
    let (verb, noun) = (if names.len() == 1 { "uses" } else { "use" }, if all.len() == 1 { "host" } else { "hosts" });
    let shown = quoted(all.iter().map(String::as_str));
    let detail = || format!("{} {verb} probe or lifecycle {noun} {shown}", containers(&names));
    (!names.is_empty()).then(|| ("probe or lifecycle host", detail()))
}

fn privileged(pod: &Pod<'_>) -> Option<Violation> {
    let names = pod.named(|container| is_true(at(container, &["privileged"])));
    let detail = || format!("{} must not set securityContext.privileged=true", containers(&names));
    (!names.is_empty()).then(|| ("privileged", detail()))
}

fn proc_mount(pod: &Pod<'_>) -> Option<Violation> {
    // In a user namespace of its own a pod sees only what is its own.
    if pod.version.has(35) && pod.spec.get("hostUsers").and_then(Doc::as_bool) == Some(false) {
        return None;
    }
    let kind = |container: &Doc| text(at(container, &["procMount"])).to_owned();
    let names = pod.named(|container| !matches!(kind(container).as_str(), "" | "Default"));
    let kinds: BTreeSet<String> =
        pod.containers().map(kind).filter(|kind| !matches!(kind.as_str(), "" | "Default")).collect();
    let shown = quoted(kinds.iter().map(String::as_str));
    let detail = || format!("{} must not set securityContext.procMount to {shown}", containers(&names));
    (!names.is_empty()).then(|| ("procMount", detail()))
}

fn se_linux(pod: &Pod<'_>) -> Option<Violation> {
    const KINDS: [&str; 4] = ["container_t", "container_init_t", "container_kvm_t", "container_engine_t"];
    let option = |holder: &Doc, field: &str| text(at(holder, &["seLinuxOptions", field])).to_owned();
    let is_known = |kind: &str| {
        // The engine's type is newer than the others.
        kind.is_empty() || KINDS[..3].contains(&kind) || (kind == KINDS[3] && pod.version.has(31))
    };
    let bad = |holder: &Doc| {
        !is_known(&option(holder, "type")) || !option(holder, "user").is_empty() || !option(holder, "role").is_empty()
    };
    let (by_pod, names) = (bad(pod.spec), pod.named(bad));
    let holders: Vec<&Doc> = std::iter::once(pod.spec).chain(pod.containers()).collect();
    let kinds: BTreeSet<String> = holders.iter().map(|it| option(it, "type")).filter(|kind| !is_known(kind)).collect();
    let sets = |field: &str| holders.iter().any(|it| !option(it, field).is_empty());
    let mut parts = Vec::new();
    if !kinds.is_empty() {
        let noun = if kinds.len() == 1 { "type" } else { "types" };
        parts.push(format!("{noun} {}", quoted(kinds.iter().map(String::as_str))));
    }
    parts.extend(
        ["user", "role"].into_iter().filter(|field| sets(field)).map(|field| format!("{field} may not be set")),
    );
    let detail =
        || format!("{} set forbidden securityContext.seLinuxOptions: {}", pod_and(by_pod, &names), parts.join("; "));
    (by_pod || !names.is_empty()).then(|| ("seLinuxOptions", detail()))
}

fn profile(holder: &Doc) -> &str {
    text(at(holder, &["seccompProfile", "type"]))
}

fn is_confined(profile: &str) -> bool {
    matches!(profile, "RuntimeDefault" | "Localhost")
}

/// Holders that say what they may not, as a text.
fn unconfined(pod: &Pod<'_>) -> Option<String> {
    let bad = |holder: &Doc| !profile(holder).is_empty() && !is_confined(profile(holder));
    let (by_pod, names) = (bad(pod.spec), pod.named(bad));
    let holders = std::iter::once(pod.spec).chain(pod.containers());
    let kinds: BTreeSet<&str> = holders.filter(|it| bad(it)).map(profile).collect();
    (by_pod || !names.is_empty()).then(|| {
        let who = pod_and(by_pod, &names);
        format!("{who} must not set securityContext.seccompProfile.type to {}", quoted(kinds))
    })
}

fn seccomp(pod: &Pod<'_>) -> Option<Violation> {
    unconfined(pod).map(|detail| ("seccompProfile", detail))
}

fn required_seccomp(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    if let Some(detail) = unconfined(pod) {
        return Some(("seccompProfile", detail));
    }
    if is_confined(profile(pod.spec)) {
        return None;
    }
    let names = pod.named(|container| !is_confined(profile(container)));
    let detail = || {
        let who = containers(&names);
        format!("pod or {who} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"")
    };
    (!names.is_empty()).then(|| ("seccompProfile", detail()))
}

/// Sysctls that are kept apart between pods, and the version that first allowed them.
const SYSCTLS: [(&str, u32); 10] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
];

fn sysctls(pod: &Pod<'_>) -> Option<Violation> {
    const BUFFERS: [&str; 2] = ["net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"];
    let allowed = |name: &str| {
        SYSCTLS.iter().any(|(known, since)| *known == name && pod.version.has(*since))
            || (BUFFERS.contains(&name) && pod.version.has(32))
    };
    let set = pod.context(&["sysctls"]).map_or(&[][..], Doc::items);
    let bad: Vec<&str> = set.iter().map(|it| it.str_at(&["name"])).filter(|name| !allowed(name)).collect();
    (!bad.is_empty()).then(|| ("forbidden sysctls", bad.join(", ")))
}

fn host_process(pod: &Pod<'_>) -> Option<Violation> {
    let sets = |holder: &Doc| is_true(at(holder, &["windowsOptions", "hostProcess"]));
    let (by_pod, names) = (sets(pod.spec), pod.named(sets));
    let detail = || format!("{} must not set securityContext.windowsOptions.hostProcess=true", pod_and(by_pod, &names));
    (by_pod || !names.is_empty()).then(|| ("hostProcess", detail()))
}

fn escalation(pod: &Pod<'_>) -> Option<Violation> {
    if pod.is_windows() {
        return None;
    }
    let names = pod.named(|it| at(it, &["allowPrivilegeEscalation"]).and_then(Doc::as_bool) != Some(false));
    let detail = || format!("{} must set securityContext.allowPrivilegeEscalation=false", containers(&names));
    (!names.is_empty()).then(|| ("allowPrivilegeEscalation != false", detail()))
}

/// The volumes that every pod may have.
const VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];

fn volumes(pod: &Pod<'_>) -> Option<Violation> {
    let source = |volume: &Doc| -> Option<String> {
        let mut sources = volume.as_object()?.iter().filter(|(name, value)| *name != "name" && !value.is_null());
        sources.next().map(|(name, _)| name.to_owned())
    };
    let bad = |volume: &&Doc| source(volume).is_none_or(|source| !VOLUMES.contains(&source.as_str()));
    let found: Vec<&Doc> = volumes_of(pod).iter().filter(bad).collect();
    let names: Vec<&str> = found.iter().map(|volume| volume.str_at(&["name"])).collect();
    let kinds: BTreeSet<String> = found.iter().map(|it| source(it).unwrap_or_else(|| "unknown".into())).collect();
    let (noun, verb) = if names.len() == 1 { ("volume", "uses") } else { ("volumes", "use") };
    let types = if kinds.len() == 1 { "volume type" } else { "volume types" };
    let shown = quoted(kinds.iter().map(String::as_str));
    let detail = || format!("{noun} {} {verb} restricted {types} {shown}", quoted(names.iter().copied()));
    (!names.is_empty()).then(|| ("restricted volume types", detail()))
}

fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    let said = |holder: &Doc| at(holder, &["runAsNonRoot"]).and_then(Doc::as_bool);
    let (by_pod, names) = (said(pod.spec) == Some(false), pod.named(|it| said(it) == Some(false)));
    if by_pod || !names.is_empty() {
        // A pod that every container corrects says nothing.
        let corrected = by_pod && names.is_empty() && pod.containers().all(|it| said(it) == Some(true));
        if !corrected {
            let detail = format!("{} must not set securityContext.runAsNonRoot=false", pod_and(by_pod, &names));
            return Some(("runAsNonRoot != true", detail));
        }
    }
    if said(pod.spec) == Some(true) {
        return None;
    }
    let silent = pod.named(|it| said(it).is_none());
    let detail = || format!("pod or {} must set securityContext.runAsNonRoot=true", containers(&silent));
    (!silent.is_empty()).then(|| ("runAsNonRoot != true", detail()))
}

fn user(pod: &Pod<'_>) -> Option<Violation> {
    let is_root = |holder: &Doc| at(holder, &["runAsUser"]).and_then(Doc::as_i64) == Some(0);
    let (by_pod, names) = (is_root(pod.spec), pod.named(is_root));
    let detail = || format!("{} must not set runAsUser=0", pod_and(by_pod, &names));
    (by_pod || !names.is_empty()).then(|| ("runAsUser=0", detail()))
}
