//! The body of a deletion: `metav1.DeleteOptions`, read into [`Options`] and written from them.

use serde::{Deserialize, Serialize};

use super::query::dry_run;
use crate::{
    request::{Options, Propagation},
    status::{ApiError, ApiResult, FieldError},
};

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    #[serde(skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    api_version: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    grace_period_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    preconditions: Option<Preconditions>,
    #[serde(skip_serializing_if = "Option::is_none")]
    orphan_dependents: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    propagation_policy: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    dry_run: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    #[serde(skip_serializing_if = "Option::is_none")]
    uid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_version: Option<String>,
}

/// Takes over what the JSON of a `DeleteOptions` body says; what it leaves out stays as the query said.
///
/// 400 when it is no `DeleteOptions`, 422 when it says what cannot be.
pub fn read_delete_options(options: &mut Options, json: &[u8]) -> ApiResult<()> {
    let malformed = |why: &dyn std::fmt::Display| ApiError::bad_request(format!("DeleteOptions: {why}"));
    let body: DeleteOptions = serde_json::from_slice(json).map_err(|why| malformed(&why))?;
    if let Some(kind) = body.kind.filter(|kind| !kind.is_empty() && kind != "DeleteOptions") {
        return Err(malformed(&format!("the body is a {kind:?}")));
    }
    if let Some(preconditions) = body.preconditions {
        options.precondition_uid = preconditions.uid.map(Into::into);
        if let Some(version) = preconditions.resource_version.filter(|version| !version.is_empty()) {
            let number = version.parse().map_err(|_| {
                malformed(&format!("preconditions.resourceVersion: {version:?} is no resource version"))
            })?;
            options.precondition_version = Some(number);
        }
    }
    options.grace_period_seconds = body.grace_period_seconds.or(options.grace_period_seconds);
    if let Some(orphan) = body.orphan_dependents {
        if let Some(policy) = &body.propagation_policy {
            let detail = "orphanDependents and deletionPropagation cannot be both set";
            return Err(invalid(FieldError::invalid("propagationPolicy", policy, detail)));
        }
        options.propagation = Some(if orphan { Propagation::Orphan } else { Propagation::Background });
    }
    if let Some(policy) = &body.propagation_policy {
        options.propagation = Propagation::parse(policy).map_err(invalid)?;
    }
    for value in body.dry_run.iter().flatten() {
        options.dry_run |= dry_run(value).map_err(invalid)?;
    }
    Ok(())
}

fn invalid(error: FieldError) -> ApiError {
    ApiError::invalid_options("DeleteOptions", &[error])
}

/// The JSON of the `DeleteOptions` that say the same; `None` when they would say nothing.
pub fn write_delete_options(options: &Options) -> Option<Vec<u8>> {
    let preconditions = Preconditions {
        uid: options.precondition_uid.as_ref().map(ToString::to_string),
        resource_version: options.precondition_version.map(|version| version.to_string()),
    };
    let preconditions =
        (preconditions.uid.is_some() || preconditions.resource_version.is_some()).then_some(preconditions);
    let said = options.grace_period_seconds.is_some()
        || options.propagation.is_some()
        || options.dry_run
        || preconditions.is_some();
    let body = DeleteOptions {
        kind: Some("DeleteOptions".into()),
        api_version: Some("v1".into()),
        grace_period_seconds: options.grace_period_seconds,
        preconditions,
        orphan_dependents: None,
        propagation_policy: options.propagation.map(|policy| policy.as_str().to_owned()),
        dry_run: options.dry_run.then(|| vec!["All".to_owned()]),
    };
    // Invariant: a struct of strings and numbers always serializes.
    said.then(|| serde_json::to_vec(&body).unwrap_or_default())
}
