//! The status of ValidatingAdmissionPolicies: what their expressions would fail with for the kinds that they name.
//!
//! Follows upstream's `validatingadmissionpolicy-status-controller`.

use std::sync::Arc;

use k8s_core::{
    admission_policy::type_warnings,
    api::api::admissionregistration::v1::{
        ExpressionWarning, TypeChecking, ValidatingAdmissionPolicy, ValidatingAdmissionPolicyStatus,
    },
    doc::Doc,
    registry::{Kinds, Registry},
    resource::Stored,
    status::ApiError,
};
use k8s_reconcile::{Controller, Cx, Next, Reconciler};

/// The controller for these kinds, ready to start.
pub fn controller(kinds: Arc<Kinds>) -> Controller<PolicyStatus> {
    Controller::new("validatingadmissionpolicy-status-controller", PolicyStatus { kinds }).workers(1)
}

/// Its reconciler.
pub struct PolicyStatus {
    kinds: Arc<Kinds>,
}

impl Reconciler for PolicyStatus {
    type Object = ValidatingAdmissionPolicy;
    type Error = ApiError;

    async fn reconcile(&self, policy: Stored<ValidatingAdmissionPolicy>, cx: Cx) -> Result<Next, ApiError> {
        let generation = policy.object().meta.generation;
        let observed = policy.status.as_ref().and_then(|status| status.observed_generation);
        if observed.is_some_and(|observed| observed >= generation) || policy.object().meta.deleted.is_some() {
            return Ok(Next::Done);
        }
        let doc = Doc::parse(policy.object().stored_json()).map_err(ApiError::internal)?;
        let checked = checked(&doc, &self.kinds.now());
        cx.set_status(&policy, |policy| {
            let status: &mut ValidatingAdmissionPolicyStatus = policy.status.get_or_insert_default();
            status.observed_generation = Some(generation);
            status.type_checking = Some(checked);
        })
        .await?;
        Ok(Next::Done)
    }
}

fn checked(policy: &Doc, registry: &Registry) -> TypeChecking {
    let warnings = type_warnings(policy, registry).into_iter();
    let warnings: Vec<ExpressionWarning> =
        warnings.map(|(field_ref, warning)| ExpressionWarning { field_ref, warning }).collect();
    TypeChecking { expression_warnings: (!warnings.is_empty()).then_some(warnings) }
}

#[cfg(test)]
mod tests {
    use k8s_core::doc;

    use super::*;

    #[test]
    fn a_policy_without_warnings_has_an_empty_check() {
        let rule =
            doc!({"apiGroups": ["apps"], "apiVersions": ["v1"], "operations": ["*"], "resources": ["deployments"]});
        let policy = |expression: &str| {
            doc!({"spec": {"matchConstraints": {"resourceRules": [rule.clone()]},
                "validations": [{"expression": expression}]}})
        };
        let registry = Registry::builtin();
        assert_eq!(checked(&policy("object.spec.replicas > 1"), &registry), TypeChecking::default());
        let found = checked(&policy("object.spec.replica > 1"), &registry).expression_warnings.unwrap();
        assert_eq!(found[0].field_ref, "spec.validations[0].expression");
        assert!(found[0].warning.contains("undefined field 'replica'"), "{}", found[0].warning);
    }
}
