//! The verdict of each control as a table: what a pod does, and what is said of it at each level.

use k8s_core::{doc, doc::Doc};

use super::{
    controls::{CONTROLS, violations},
    policy::{Level, Version, check_labels},
};

/// A pod that the strictest level lets in, with `value` at `path` of its spec.
fn with(path: &[&str], value: Doc) -> Doc {
    let mut spec = doc!({
        "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [{"name": "c", "securityContext": {
            "allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]
    });
    match value {
        Doc::Null => drop(spec.remove_at(path)),
        value => spec.set_at(path, value),
    }
    spec
}

fn verdict(spec: &Doc, level: Level, version: &str) -> String {
    let version = Version::parse(version).unwrap();
    violations(&doc!({}), spec, level, version).unwrap_or_default()
}

#[test]
fn what_asks_for_nothing_is_let_in() {
    for level in [Level::Privileged, Level::Baseline, Level::Restricted] {
        assert_eq!(verdict(&with(&["x"], Doc::Null), level, "latest"), "");
    }
}

#[test]
fn each_control_of_baseline() {
    const C: [&str; 3] = ["containers", "0", "securityContext"];
    let c = |field: &[&'static str]| [&C[..], field].concat();
    let cases: Vec<(Vec<&str>, Doc, &str)> = vec![
        (vec!["hostNetwork"], true.into(), "host namespaces (hostNetwork=true)"),
        (vec!["hostPID"], true.into(), "host namespaces (hostPID=true)"),
        (vec!["volumes"], doc!([{"name": "v", "hostPath": {"path": "/"}}]), "hostPath volumes (volume \"v\")"),
        (
            vec!["containers", "0", "ports"],
            doc!([{"hostPort": 80}, {"hostPort": 90}, {"hostPort": 0}]),
            "hostPort (container \"c\" uses hostPorts 80, 90)",
        ),
        (
            vec!["containers", "0", "livenessProbe"],
            doc!({"httpGet": {"host": "10.0.0.1", "port": 1}}),
            "probe or lifecycle host (container \"c\" uses probe or lifecycle host \"10.0.0.1\")",
        ),
        (c(&["privileged"]), true.into(), "privileged (container \"c\" must not set securityContext.privileged=true)"),
        (
            c(&["procMount"]),
            "Unmasked".into(),
            "procMount (container \"c\" must not set securityContext.procMount to \"Unmasked\")",
        ),
        (
            c(&["seLinuxOptions"]),
            doc!({"type": "spc_t", "user": "u"}),
            "seLinuxOptions (container \"c\" set forbidden securityContext.seLinuxOptions: type \"spc_t\"; user may not be set)",
        ),
        (
            c(&["capabilities", "add"]),
            doc!(["NET_ADMIN", "CHOWN"]),
            "non-default capabilities (container \"c\" must not include \"NET_ADMIN\" in securityContext.capabilities.add)",
        ),
        (
            vec!["securityContext", "seccompProfile", "type"],
            "Unconfined".into(),
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")",
        ),
        (
            vec!["securityContext", "sysctls"],
            doc!([{"name": "kernel.msgmax"}, {"name": "net.ipv4.tcp_syncookies"}]),
            "forbidden sysctls (kernel.msgmax)",
        ),
        (
            vec!["securityContext", "windowsOptions"],
            doc!({"hostProcess": true}),
            "hostProcess (pod must not set securityContext.windowsOptions.hostProcess=true)",
        ),
        (
            c(&["appArmorProfile"]),
            doc!({"type": "Unconfined"}),
            "forbidden AppArmor profile (container \"c\" must not set AppArmor profile type to \"Unconfined\")",
        ),
    ];
    assert_eq!(cases.len(), CONTROLS.iter().filter(|control| control.level == Level::Baseline).count() + 1);
    for (path, value, expected) in cases {
        let spec = with(&path, value);
        assert_eq!(verdict(&spec, Level::Baseline, "latest"), expected);
        assert_eq!(verdict(&spec, Level::Privileged, "latest"), "");
        assert_ne!(verdict(&spec, Level::Restricted, "latest"), "", "what is stricter lets no more in: {path:?}");
    }
}

#[test]
fn each_control_of_restricted() {
    const C: [&str; 3] = ["containers", "0", "securityContext"];
    let c = |field: &[&'static str]| [&C[..], field].concat();
    let cases: Vec<(Vec<&str>, Doc, &str)> = vec![
        (
            c(&["allowPrivilegeEscalation"]),
            Doc::Null,
            "allowPrivilegeEscalation != false (container \"c\" must set securityContext.allowPrivilegeEscalation=false)",
        ),
        (
            c(&["capabilities"]),
            doc!({"add": ["CHOWN"]}),
            "unrestricted capabilities (container \"c\" must set securityContext.capabilities.drop=[\"ALL\"]; container \
             \"c\" must not include \"CHOWN\" in securityContext.capabilities.add)",
        ),
        (
            vec!["volumes"],
            doc!([{"name": "v", "nfs": {}}, {"name": "w", "emptyDir": {}}]),
            "restricted volume types (volume \"v\" uses restricted volume type \"nfs\")",
        ),
        (
            vec!["securityContext", "runAsNonRoot"],
            Doc::Null,
            "runAsNonRoot != true (pod or container \"c\" must set securityContext.runAsNonRoot=true)",
        ),
        (
            vec!["securityContext", "runAsNonRoot"],
            false.into(),
            "runAsNonRoot != true (pod must not set securityContext.runAsNonRoot=false)",
        ),
        (c(&["runAsUser"]), 0.into(), "runAsUser=0 (container \"c\" must not set runAsUser=0)"),
        (
            vec!["securityContext", "seccompProfile"],
            Doc::Null,
            "seccompProfile (pod or container \"c\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \
             \"Localhost\")",
        ),
    ];
    assert_eq!(cases.len(), CONTROLS.iter().filter(|control| control.level == Level::Restricted).count() + 1);
    for (path, value, expected) in cases {
        let spec = with(&path, value);
        assert_eq!(verdict(&spec, Level::Restricted, "latest"), expected);
        assert_eq!(verdict(&spec, Level::Baseline, "latest"), "", "{path:?}");
    }
}

#[test]
fn an_older_version_asks_for_less() {
    let root = with(&["containers", "0", "securityContext", "runAsUser"], 0.into());
    assert_eq!(verdict(&root, Level::Restricted, "v1.22"), "");
    assert_ne!(verdict(&root, Level::Restricted, "v1.23"), "");
    let sysctl = with(&["securityContext", "sysctls"], doc!([{"name": "net.ipv4.tcp_keepalive_time"}]));
    assert_ne!(verdict(&sysctl, Level::Baseline, "v1.28"), "");
    assert_eq!(verdict(&sysctl, Level::Baseline, "v1.29"), "");
    let mut windows = with(&["os"], doc!({"name": "windows"}));
    windows.remove_at(&["containers", "0", "securityContext"]);
    assert_eq!(verdict(&windows, Level::Restricted, "latest"), "");
    assert_ne!(verdict(&windows, Level::Restricted, "v1.24"), "");
}

#[test]
fn several_violations_are_told_in_order() {
    let spec = doc!({"hostNetwork": true, "containers": [{"name": "a", "securityContext": {"privileged": true}}, {"name": "b"}]});
    let expected = "host namespaces (hostNetwork=true), privileged (container \"a\" must not set \
        securityContext.privileged=true), allowPrivilegeEscalation != false (containers \"a\", \"b\" must set \
        securityContext.allowPrivilegeEscalation=false), unrestricted capabilities (containers \"a\", \"b\" must set \
        securityContext.capabilities.drop=[\"ALL\"]), runAsNonRoot != true (pod or containers \"a\", \"b\" must set \
        securityContext.runAsNonRoot=true), seccompProfile (pod or containers \"a\", \"b\" must set \
        securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")";
    assert_eq!(verdict(&spec, Level::Restricted, "latest"), expected);
}

#[test]
fn labels_are_levels_and_versions() {
    let labelled = |key: &str, value: &str| {
        let mut namespace = doc!({"metadata": {"name": "n"}});
        namespace.set_at(&["metadata", "labels", key], value.into());
        check_labels(&namespace).iter().map(|error| error.path.clone()).collect::<Vec<_>>()
    };
    assert!(labelled("pod-security.kubernetes.io/enforce", "baseline").is_empty());
    assert!(labelled("pod-security.kubernetes.io/warn-version", "v1.30").is_empty());
    let expected = ["metadata.labels[pod-security.kubernetes.io/audit]"];
    assert_eq!(labelled("pod-security.kubernetes.io/audit", "strict"), expected);
    assert_eq!(labelled("pod-security.kubernetes.io/enforce-version", "1.30").len(), 1);
}
