//! The rows, by what they are about.

pub mod access;
pub mod cluster;
pub mod config;
pub mod conversion;
pub mod core;
pub mod custom;
pub mod kinds;
mod operations;
pub mod policies;
pub mod services;
pub mod watches;

use serde_json::json;

use crate::api::Api;

/// Makes the account that pods of a namespace have: elsewhere a controller does.
pub async fn needs_service_account(api: &Api, namespace: &str) {
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "default"}});
    api.create(&format!("/api/v1/namespaces/{namespace}/serviceaccounts"), &account).await;
}
