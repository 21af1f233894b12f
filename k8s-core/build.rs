//! Joins the typed layer's JSON schemas with the overlay files under `schema/` into what the crate includes:
//! `structs.txt` (one record a struct, see `src/schema/text.rs`), `index.rs` (where each record is, and which struct
//! each kind is) and `definitions.json.gz` (with descriptions, for OpenAPI).
//!
//! The build fails, with file and line, when an overlay names a struct or a field that does not exist.

use std::{collections::BTreeMap, env, fmt::Write as _, fs, io::Write as _, path::Path};

use k8s_openapi::{Resource, schemars::SchemaGenerator};
use serde_json::{Map, Value, json};

#[path = "build/overlay.rs"]
mod overlay;

use overlay::Overlay;

/// A kind: group, version, kind, the name of its definition, and whether there is a list of it.
struct Kind {
    group: &'static str,
    version: &'static str,
    kind: &'static str,
    definition: String,
    list: Option<&'static str>,
}

macro_rules! kinds {
    ($generator:ident; $($module:tt $($name:ident)*;)*) => {
        vec![$($(kinds!(@one $generator $module $name),)*)*]
    };
    (@one $generator:ident [$($module:ident)::+] $name:ident) => {
        kind::<k8s_openapi::$($module)::+::$name>(
            &mut $generator,
            list_kind(stringify!($($module)::+), stringify!($name)),
        )
    };
}

/// The kinds that are requests or answers, and have no list of their own.
const UNLISTED: &[&str] = &[
    "APIGroup",
    "APIGroupList",
    "APIResourceList",
    "APIVersions",
    "Binding",
    "LocalSubjectAccessReview",
    "Scale",
    "SelfSubjectAccessReview",
    "SelfSubjectReview",
    "SelfSubjectRulesReview",
    "Status",
    "SubjectAccessReview",
    "TokenRequest",
    "TokenReview",
];

fn list_kind(module: &str, name: &'static str) -> Option<&'static str> {
    let eviction = name == "Eviction" && module.contains("policy");
    (!UNLISTED.contains(&name) && !eviction).then_some(name)
}

fn kind<T: Resource + k8s_openapi::schemars::JsonSchema>(
    generator: &mut SchemaGenerator,
    list: Option<&'static str>,
) -> Kind {
    generator.subschema_for::<T>();
    let definition = T::schema_name().into_owned();
    Kind { group: T::GROUP, version: T::VERSION, kind: T::KIND, definition, list }
}

#[allow(clippy::disallowed_methods)] // Cargo tells a build script by the environment where to write.
fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build");
    println!("cargo::rerun-if-changed=schema");
    // Invariant: cargo sets OUT_DIR for every build script.
    let out = env::var("OUT_DIR").expect("cargo sets OUT_DIR");
    if let Err(why) = run(Path::new(&out)) {
        println!("cargo::error={why}");
    }
}

fn run(out: &Path) -> Result<(), String> {
    let mut generator = SchemaGenerator::default();
    let kinds: Vec<Kind> = kinds! { generator;
        [apimachinery::pkg::apis::meta::v1] APIGroup APIGroupList APIResourceList APIVersions Status;
        [api::core::v1] Binding ComponentStatus ConfigMap Endpoints Event LimitRange Namespace Node PersistentVolume
            PersistentVolumeClaim Pod PodTemplate ReplicationController ResourceQuota Secret Service ServiceAccount;
        [api::admissionregistration::v1] MutatingAdmissionPolicy MutatingAdmissionPolicyBinding
            MutatingWebhookConfiguration ValidatingAdmissionPolicy ValidatingAdmissionPolicyBinding
            ValidatingWebhookConfiguration;
        [api::admissionregistration::v1alpha1] MutatingAdmissionPolicy MutatingAdmissionPolicyBinding;
        [api::admissionregistration::v1beta1] MutatingAdmissionPolicy MutatingAdmissionPolicyBinding;
        [apiextensions_apiserver::pkg::apis::apiextensions::v1] CustomResourceDefinition;
        [kube_aggregator::pkg::apis::apiregistration::v1] APIService;
        [api::apps::v1] ControllerRevision DaemonSet Deployment ReplicaSet StatefulSet;
        [api::authentication::v1] SelfSubjectReview TokenRequest TokenReview;
        [api::authorization::v1] LocalSubjectAccessReview SelfSubjectAccessReview SelfSubjectRulesReview
            SubjectAccessReview;
        [api::autoscaling::v1] HorizontalPodAutoscaler Scale;
        [api::autoscaling::v2] HorizontalPodAutoscaler;
        [api::batch::v1] CronJob Job;
        [api::certificates::v1] CertificateSigningRequest ClusterTrustBundle PodCertificateRequest;
        [api::certificates::v1beta1] ClusterTrustBundle PodCertificateRequest;
        [api::coordination::v1] Lease;
        [api::coordination::v1alpha2] LeaseCandidate;
        [api::coordination::v1beta1] LeaseCandidate;
        [api::discovery::v1] EndpointSlice;
        [api::events::v1] Event;
        [api::flowcontrol::v1] FlowSchema PriorityLevelConfiguration;
        [api::apiserverinternal::v1alpha1] StorageVersion;
        [api::lifecycle::v1alpha1] Eviction EvictionRequest;
        [api::networking::v1] IPAddress Ingress IngressClass NetworkPolicy ServiceCIDR;
        [api::node::v1] RuntimeClass;
        [api::policy::v1] Eviction PodDisruptionBudget;
        [api::rbac::v1] ClusterRole ClusterRoleBinding Role RoleBinding;
        [api::resource::v1] DeviceClass DeviceTaintRule ResourceClaim ResourceClaimTemplate ResourceSlice;
        [api::resource::v1alpha3] DeviceTaintRule ResourcePoolStatusRequest;
        [api::resource::v1beta1] DeviceClass ResourceClaim ResourceClaimTemplate ResourceSlice;
        [api::resource::v1beta2] DeviceClass DeviceTaintRule ResourceClaim ResourceClaimTemplate ResourceSlice;
        [api::scheduling::v1] PriorityClass;
        [api::scheduling::v1alpha3] CompositePodGroup PodGroup Workload;
        [api::scheduling::v1beta1] PodGroup Workload;
        [api::storage::v1] CSIDriver CSINode CSIStorageCapacity StorageClass VolumeAttachment VolumeAttributesClass;
        [api::storagemigration::v1] StorageVersionMigration;
        [api::storagemigration::v1beta1] StorageVersionMigration;
    };
    generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions>();
    generator.subschema_for::<k8s_openapi::apimachinery::pkg::apis::meta::v1::ListMeta>();
    let definitions: BTreeMap<String, Value> = generator.take_definitions(false).into_iter().collect();
    let overlay = Overlay::read(Path::new("schema"))?;
    overlay.check(&definitions)?;
    structs(out, &definitions, &kinds, &overlay)?;
    described(out, definitions, &kinds, &overlay)
}

/// Writes `structs.txt` and `index.rs`.
fn structs(out: &Path, definitions: &BTreeMap<String, Value>, kinds: &[Kind], overlay: &Overlay) -> Result<(), String> {
    let names: Vec<&String> =
        definitions.iter().filter(|(name, _)| leaf(name).is_none()).map(|(name, _)| name).collect();
    let number = |name: &str| names.binary_search_by(|known| known.as_str().cmp(name)).ok();
    let mut text = String::new();
    let mut offsets = vec![0];
    for name in &names {
        let own = overlay.rules(name, "*");
        let _ = writeln!(text, "{name}\t\t{own}");
        for (field, schema) in properties(&definitions[*name]) {
            let shape = shape(schema, &number).map_err(|why| format!("{name}.{field}: {why}"))?;
            let _ = writeln!(text, "{field}\t{shape}\t{}", overlay.rules(name, field));
        }
        offsets.push(text.len());
    }
    let mut rows: Vec<_> = kinds.iter().map(|k| (k.group, k.version, k.kind, number(&k.definition))).collect();
    rows.sort();
    let mut index = format!("pub(super) static OFFSETS: &[u32] = &{offsets:?};\n");
    let _ = writeln!(index, "pub(super) static NAMES: &[&str] = &{names:?};");
    let _ = writeln!(index, "pub(super) static KINDS: &[(&str, &str, &str, u32)] = &[");
    for (group, version, kind, place) in rows {
        let place = place.ok_or_else(|| format!("kind {kind} has no fields"))?;
        let _ = writeln!(index, "    ({group:?}, {version:?}, {kind:?}, {place}),");
    }
    index.push_str("];\n");
    save(&out.join("structs.txt"), text.as_bytes())?;
    save(&out.join("index.rs"), index.as_bytes())
}

fn properties(schema: &Value) -> impl Iterator<Item = (&String, &Value)> {
    schema.get("properties").and_then(Value::as_object).into_iter().flatten()
}

/// What stands for a definition that is no struct; a struct may have no fields at all.
fn leaf(name: &str) -> Option<&'static str> {
    Some(match name.rsplit('.').next().unwrap_or(name) {
        "Quantity" => "quantity",
        "IntOrString" => "intOrString",
        "Time" => "time",
        "MicroTime" => "microTime",
        "FieldsV1" | "RawExtension" => "object",
        "JSON" => "any",
        "JSONSchemaPropsOrArray" => "schemaOrSchemas",
        "JSONSchemaPropsOrBool" => "schemaOrBool",
        "JSONSchemaPropsOrStringArray" => "schemaOrNames",
        _ => return None,
    })
}

/// A schema as `structs.txt` writes it.
fn shape(schema: &Value, number: &impl Fn(&str) -> Option<usize>) -> Result<String, String> {
    if let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
        let name = reference.rsplit('/').next().unwrap_or(reference);
        return match leaf(name) {
            Some(word) => Ok(word.into()),
            None => number(name).map(|place| format!("#{place}")).ok_or_else(|| format!("unknown reference {name}")),
        };
    }
    let text = |key: &str| schema.get(key).and_then(Value::as_str);
    Ok(match (text("type"), text("format")) {
        (Some("string"), Some("byte")) => "bytes".into(),
        (Some("string"), _) => "string".into(),
        (Some("integer"), Some("int32")) => "int32".into(),
        (Some("integer"), _) => "int64".into(),
        (Some("number"), _) => "number".into(),
        (Some("boolean"), _) => "boolean".into(),
        (Some("array"), _) => format!("[]{}", shape(schema.get("items").ok_or("array without items")?, number)?),
        (Some("object"), _) => match schema.get("additionalProperties") {
            Some(values) => format!("{{}}{}", shape(values, number)?),
            None => "object".into(),
        },
        other => return Err(format!("unknown type {other:?}")),
    })
}

/// Writes `definitions.json.gz`: every definition with its descriptions, in the words of OpenAPI v2.
fn described(
    out: &Path,
    definitions: BTreeMap<String, Value>,
    kinds: &[Kind],
    overlay: &Overlay,
) -> Result<(), String> {
    let mut rows = Vec::new();
    for (name, mut schema) in definitions {
        publish(&name, &mut schema, overlay);
        let gvk = kinds.iter().find(|kind| kind.definition == name);
        rows.push(json!({"name": name, "gvk": gvk.map(|k| json!([k.group, k.version, k.kind])), "schema": schema}));
    }
    for kind in kinds {
        if let Some(item) = kind.list {
            let row = json!({
                "name": format!("{}List", kind.definition),
                "gvk": [kind.group, kind.version, format!("{item}List")],
                "schema": list_schema(item, &kind.definition),
            });
            rows.push(row);
        }
    }
    let text = serde_json::to_vec(&rows).map_err(|why| format!("definitions: {why}"))?;
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    packed.write_all(&text).map_err(|why| format!("definitions: {why}"))?;
    let packed = packed.finish().map_err(|why| format!("definitions: {why}"))?;
    save(&out.join("definitions.json.gz"), &packed)
}

/// Brings one definition into upstream's published form.
fn publish(name: &str, schema: &mut Value, overlay: &Overlay) {
    rename_references(schema);
    let Some(map) = schema.as_object_mut() else { return };
    let short = name.rsplit('.').next().unwrap_or(name);
    match short {
        "Quantity" => set(map, "type", "string"),
        "IntOrString" => {
            set(map, "type", "string");
            set(map, "format", "int-or-string");
        }
        "JSON" | "JSONSchemaPropsOrArray" | "JSONSchemaPropsOrBool" | "JSONSchemaPropsOrStringArray" => {
            map.retain(|key, _| key == "description");
        }
        _ => {}
    }
    map.remove("x-kubernetes-int-or-string");
    if let Some(required) = map.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|field| field != "metadata");
        if required.is_empty() {
            map.remove("required");
        }
    }
    for (key, value) in overlay.extensions(name, "*") {
        map.insert(key, value);
    }
    for (field, property) in map.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        if let Some(property) = property.as_object_mut() {
            property.extend(overlay.extensions(name, field));
        }
    }
}

fn set(map: &mut Map<String, Value>, key: &str, value: &str) {
    map.insert(key.into(), value.into());
}

fn rename_references(schema: &mut Value) {
    match schema {
        Value::Object(map) => {
            for (key, value) in map.iter_mut() {
                match value.as_str() {
                    Some(text) if key == "$ref" => {
                        *value = text.replace("#/$defs/", "#/definitions/").into();
                    }
                    _ => rename_references(value),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(rename_references),
        _ => {}
    }
}

fn list_schema(item: &str, definition: &str) -> Value {
    json!({
        "description": format!("{item}List is a list of {item} objects."),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The group and version of this representation."},
            "items": {
                "type": "array",
                "description": format!("The {item} objects."),
                "items": {"$ref": format!("#/definitions/{definition}")},
            },
            "kind": {"type": "string", "description": "The kind of this representation."},
            "metadata": {
                "$ref": "#/definitions/io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta",
                "description": "Standard list metadata.",
            },
        },
    })
}

fn save(path: &Path, bytes: &[u8]) -> Result<(), String> {
    fs::write(path, bytes).map_err(|why| format!("{}: {why}", path.display()))
}
