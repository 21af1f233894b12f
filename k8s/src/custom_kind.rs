//! Kinds of one's own: a Rust type becomes a resource that a cluster serves.

use k8s_core::{doc::Doc, registry::ResourceInfo, resource::Resource, schema::Schema};
use schemars::JsonSchema;

/// The entry in the table of kinds for a type: its structure comes from its JSON schema.
pub fn kind_of<K: Resource + JsonSchema>() -> ResourceInfo {
    let resource = K::resource();
    let schema = schemars::generate::SchemaSettings::draft07().with(|settings| settings.inline_subschemas = true);
    let schema = schema.into_generator().into_root_schema_for::<K>();
    // Invariant: a JSON schema has string keys only, so it always becomes a document.
    let doc = Doc::from_serialize(&schema).unwrap_or_default();
    let schema = Schema::from_json_schema(&doc);
    ResourceInfo::custom(&resource.group, &resource.version, &resource.plural, K::kind(), schema)
}

/// Declares a kind: a type with `metadata` and `spec`, served in namespaces.
///
/// ```
/// use schemars::JsonSchema;
/// use serde::{Deserialize, Serialize};
///
/// #[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
/// struct BackupSpec {
///     schedule: String,
/// }
///
/// k8s::custom_kind! {
///     /// A backup that is made again and again.
///     struct Backup("example.com/v1", "backups") { spec: BackupSpec }
/// }
///
/// let backup = Backup::new("nightly", BackupSpec { schedule: "0 3 * * *".into() });
/// assert_eq!(backup.metadata.name.as_deref(), Some("nightly"));
/// assert_eq!(k8s::kind_of::<Backup>().plural, "backups");
/// ```
#[macro_export]
macro_rules! custom_kind {
    ($(#[$meta:meta])* $visibility:vis struct $name:ident($api_version:literal, $plural:literal) { spec: $spec:ty }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, ::serde::Serialize, ::serde::Deserialize, ::schemars::JsonSchema)]
        #[serde(rename_all = "camelCase")]
        $visibility struct $name {
            /// Always this kind's.
            #[serde(default)]
            pub api_version: String,
            /// Always this kind's.
            #[serde(default)]
            pub kind: String,
            /// Name, namespace, labels and so on.
            #[schemars(with = "::serde_json::Value")]
            pub metadata: $crate::core::api::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            /// What is asked for.
            pub spec: $spec,
        }

        impl $name {
            /// A new object.
            pub fn new(name: impl Into<String>, spec: $spec) -> Self {
                let metadata = $crate::core::api::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                    name: Some(name.into()),
                    ..Default::default()
                };
                Self { api_version: $api_version.to_owned(), kind: stringify!($name).to_owned(), metadata, spec }
            }
        }

        impl $crate::core::api::Resource for $name {
            const API_VERSION: &'static str = $api_version;
            const GROUP: &'static str = $crate::split_api_version($api_version).0;
            const KIND: &'static str = stringify!($name);
            const VERSION: &'static str = $crate::split_api_version($api_version).1;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = $crate::core::api::NamespaceResourceScope;
        }

        impl $crate::core::api::Metadata for $name {
            type Ty = $crate::core::api::apimachinery::pkg::apis::meta::v1::ObjectMeta;
            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }
            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }
    };
}

/// Group and version of an `apiVersion`, at compile time.
#[doc(hidden)]
pub const fn split_api_version(text: &'static str) -> (&'static str, &'static str) {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'/' {
            let (group, rest) = text.split_at(at);
            return (group, rest.split_at(1).1);
        }
        at += 1;
    }
    ("", text)
}
