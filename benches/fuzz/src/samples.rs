//! Objects that are sound, for patches to change.

use std::sync::OnceLock;

use k8s_core::{
    doc::Doc,
    schema::{Schema, Schemas},
    structure::{Mode, check},
};

/// The schemas of the built-in kinds, loaded once.
pub fn schemas() -> &'static Schemas {
    static SCHEMAS: OnceLock<Schemas> = OnceLock::new();
    SCHEMAS.get_or_init(Schemas::builtin)
}

/// A kind and an object of it.
pub struct Sample {
    /// The kind's schema.
    pub schema: Schema,
    /// `apiVersion`.
    pub api_version: &'static str,
    /// A sound object.
    pub object: Doc,
}

/// The sample that a byte chooses: a digit, or anything else.
pub fn sample(choice: u8) -> &'static Sample {
    static ALL: OnceLock<Vec<Sample>> = OnceLock::new();
    let all =
        ALL.get_or_init(|| TEXTS.iter().map(|(group, version, kind, text)| made(group, version, kind, text)).collect());
    &all[usize::from(choice.wrapping_sub(b'0')) % all.len()]
}

fn made(group: &str, api_version: &'static str, kind: &str, text: &str) -> Sample {
    let version = api_version.rsplit('/').next().unwrap_or_default();
    let schema = schemas().schema(group, version, kind).unwrap_or_else(|| panic!("{kind} has a schema"));
    let mut object = Doc::parse(text.as_bytes()).unwrap_or_else(|why| panic!("{kind}: {why}"));
    object.set_at(&["apiVersion"], api_version.into());
    object.set_at(&["kind"], kind.into());
    let report = check(&schema, &mut object, Mode::Whole);
    assert!(report.wrong.is_empty() && report.unknown.is_empty(), "{kind}: {report:?}");
    Sample { schema, api_version, object }
}

const TEXTS: &[(&str, &str, &str, &str)] = &[
    (
        "",
        "v1",
        "Pod",
        r#"{"metadata":{"name":"a","namespace":"n","labels":{"app":"a"}},"spec":{"containers":[{"name":"c","image":"i","args":["x"],"ports":[{"containerPort":80,"protocol":"TCP"},{"containerPort":80,"protocol":"UDP"}],"env":[{"name":"A","value":"1"},{"name":"B","valueFrom":{"fieldRef":{"fieldPath":"metadata.name"}}}],"resources":{"limits":{"cpu":"1","memory":"1Gi"}},"volumeMounts":[{"name":"v","mountPath":"/v"}]}],"tolerations":[{"key":"k","operator":"Exists"}],"volumes":[{"name":"v","emptyDir":{}}],"topologySpreadConstraints":[{"maxSkew":1,"topologyKey":"z","whenUnsatisfiable":"DoNotSchedule"}]}}"#,
    ),
    (
        "apps",
        "apps/v1",
        "Deployment",
        r#"{"metadata":{"name":"d","finalizers":["x.io/a","x.io/b"],"ownerReferences":[{"apiVersion":"v1","kind":"A","name":"a","uid":"u"}]},"spec":{"replicas":3,"selector":{"matchLabels":{"app":"d"}},"strategy":{"type":"RollingUpdate","rollingUpdate":{"maxSurge":1,"maxUnavailable":"25%"}},"template":{"metadata":{"labels":{"app":"d"}},"spec":{"initContainers":[{"name":"init","image":"i"}],"containers":[{"name":"c","image":"i"},{"name":"e","image":"j"}],"imagePullSecrets":[{"name":"s"}]}}}}"#,
    ),
    (
        "",
        "v1",
        "Service",
        r#"{"metadata":{"name":"s"},"spec":{"clusterIP":"10.0.0.1","clusterIPs":["10.0.0.1"],"ports":[{"name":"a","port":80,"targetPort":8080,"protocol":"TCP"},{"name":"b","port":81,"targetPort":"x","protocol":"TCP"}],"selector":{"app":"s"},"type":"ClusterIP"},"status":{"loadBalancer":{},"conditions":[{"type":"T","status":"True","reason":"R","message":"m","lastTransitionTime":"2026-01-01T00:00:00Z"}]}}"#,
    ),
    (
        "",
        "v1",
        "ConfigMap",
        r#"{"metadata":{"name":"c","annotations":{"a":"b"}},"data":{"k":"v","l":"w"},"binaryData":{"b":"AP8="},"immutable":false}"#,
    ),
    (
        "rbac.authorization.k8s.io",
        "rbac.authorization.k8s.io/v1",
        "ClusterRole",
        r#"{"metadata":{"name":"r"},"rules":[{"apiGroups":[""],"resources":["pods"],"verbs":["get","list"]},{"nonResourceURLs":["/healthz"],"verbs":["get"]}],"aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}}"#,
    ),
];
