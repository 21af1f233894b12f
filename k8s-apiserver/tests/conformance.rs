//! What Kubernetes v1.37's conformance list asks of an API server alone, row by row.
//!
//! A row is one test function, and every MUST of the row an assertion in it. It runs in four ways: the service called in
//! the same process and over HTTP with TLS, each in JSON and in protobuf. `docs/conformance.md` says which row is which.
#![allow(clippy::disallowed_methods)] // Tests own the clock.

#[path = "conformance/api.rs"]
mod api;
#[path = "conformance/converter.rs"]
mod converter;
#[path = "conformance/frames.rs"]
mod frames;
#[path = "conformance/rows/mod.rs"]
mod rows;

use api::{Api, Form, Way};

/// Runs each named row in the four ways.
macro_rules! rows {
    ($($file:ident: $($row:ident),+;)+) => {
        $(mod $file {
            $(mod $row {
                use crate::{Api, Form, Way, rows};

                #[tokio::test]
                async fn in_process_json() {
                    rows::$file::$row(&Api::start(Way::InProcess, Form::Json).await).await;
                }

                #[tokio::test]
                async fn in_process_protobuf() {
                    rows::$file::$row(&Api::start(Way::InProcess, Form::Protobuf).await).await;
                }

                #[tokio::test]
                async fn http_json() {
                    rows::$file::$row(&Api::start(Way::Http, Form::Json).await).await;
                }

                #[tokio::test]
                async fn http_protobuf() {
                    rows::$file::$row(&Api::start(Way::Http, Form::Protobuf).await).await;
                }
            })+
        })+
    };
}

rows! {
    access: auto_mount, create_and_review_token, account_lifecycle, account_update, subject_access_reviews;
    cluster: namespace_patch, namespace_update, namespace_status, namespace_finalizer, core_event_lifecycle,
        core_event_collection, event_lifecycle, event_collection, limit_range_resources, limit_range_collection,
        priority_classes, sysctls, typed_fields, typed_metadata_fields, aggregated_discovery,
        aggregated_discovery_is_complete, runtime_class_unknown,
        runtime_class_deleted;
    config: config_map_lifecycle, config_map_update, config_map_empty_key, config_map_immutable,
        secret_patching, secret_empty_key, secret_immutable;
    conversion: from_v1_to_v2, a_list_of_several_versions, field_selectors;
    core: version, discovery_resources, discovery_preferred_versions, leases, node_lifecycle, pod_qos,
        pod_templates_lifecycle, pod_templates_replace, pod_templates_collection, endpoints_lifecycle, table_or_406,
        chunks, chunks_after_compaction;
    custom: watch, create_and_delete, list_and_collection, status, defaulting, discovery, aggregated_discovery,
        aggregated_discovery_headers, publish_with_schema, publish_without_schema, publish_preserving_at_root,
        publish_preserving_inside, publish_groups, publish_versions, publish_kinds, publish_rename,
        publish_stop_serving, fields_without_schema, fields_valid, fields_invalid, fields_duplicate, fields_metadata;
    kinds: flow_schemas, priority_levels, storage_version_migrations, cron_jobs, signing_requests,
        pod_certificate_requests, trust_bundles, ingresses, ingress_classes, ip_addresses, service_cidrs,
        device_classes, device_taint_rules, resource_claims, resource_claim_templates, resource_slices, csi_drivers,
        csi_nodes, csi_storage_capacities, storage_classes, volume_attachments, volume_attachment_status,
        volume_attributes_classes, runtime_classes, quota_update_and_delete, quota_lifecycle, certificate_maximum,
        certificate_minimum;
    policies: validates_a_deployment, expressions_refer_to_variables, validating_policy_operations,
        validating_binding_operations, mutates_a_deployment, mutates_annotations, mutating_policy_operations,
        mutating_binding_operations;
    services: kubernetes_service, kubernetes_service_is_listed, kubernetes_endpoints, endpoint_slices, status_lifecycle,
        collection;
    watches: closed_and_restarted, from_a_resource_version, several_watchers, label_changed, same_order_for_all;
}
