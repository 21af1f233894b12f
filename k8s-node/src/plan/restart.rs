//! Whether a container that ended runs again.

use k8s_core::api::api::core::v1::{Container, ContainerRestartRule, Pod};

use super::Role;

/// Whether a container that ended with `exit_code` is to be started again, by its own rules, its own policy, or the
/// pod's, in this order (KEP-5307).
pub fn restarts(pod: &Pod, container: &Container, role: Role, exit_code: i32) -> bool {
    if role == Role::Ephemeral {
        return false;
    }
    let rules = container.restart_policy_rules.iter().flatten();
    if rules.into_iter().any(|rule| rule.action == "Restart" && covers(rule, exit_code)) {
        return true;
    }
    let of_pod = pod.spec.as_ref().and_then(|spec| spec.restart_policy.as_deref());
    match container.restart_policy.as_deref().or(of_pod).unwrap_or("Always") {
        "Never" => false,
        "OnFailure" => exit_code != 0,
        // An init container that succeeded has done its work.
        _ => role != Role::Init || exit_code != 0,
    }
}

fn covers(rule: &ContainerRestartRule, exit_code: i32) -> bool {
    let Some(codes) = &rule.exit_codes else { return false };
    let named = codes.values.iter().flatten().any(|value| *value == exit_code);
    match codes.operator.as_str() {
        "In" => named,
        "NotIn" => !named,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn decides(pod_policy: &str, container: Value, role: Role, code: i32) -> bool {
        let pod = json!({"metadata": {}, "spec": {"restartPolicy": pod_policy, "containers": []}});
        let mut named = json!({"name": "c"});
        named.as_object_mut().unwrap().extend(container.as_object().unwrap().clone());
        restarts(&serde_json::from_value(pod).unwrap(), &serde_json::from_value(named).unwrap(), role, code)
    }

    #[test]
    fn policies_decide_by_role_and_exit_code() {
        let table = [
            ("Always", Role::App, [true, true]),
            ("OnFailure", Role::App, [false, true]),
            ("Never", Role::App, [false, false]),
            ("Always", Role::Init, [false, true]),
            ("OnFailure", Role::Init, [false, true]),
            ("Never", Role::Init, [false, false]),
            ("Always", Role::Ephemeral, [false, false]),
        ];
        for (policy, role, expected) in table {
            let found = [0, 1].map(|code| decides(policy, json!({}), role, code));
            assert_eq!(found, expected, "{policy} {role:?}");
        }
    }

    #[test]
    fn the_containers_own_word_comes_first() {
        let sidecar = json!({"restartPolicy": "Always"});
        assert!(decides("Never", sidecar, Role::Sidecar, 0));
        let rule = json!({"restartPolicy": "Never", "restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "In", "values": [42]}}]});
        assert!(decides("Never", rule.clone(), Role::App, 42));
        assert!(!decides("Always", rule, Role::App, 1));
        let not_in = json!({"restartPolicyRules": [
            {"action": "Restart", "exitCodes": {"operator": "NotIn", "values": [1]}}]});
        assert_eq!([0, 1].map(|code| decides("Never", not_in.clone(), Role::App, code)), [true, false]);
    }
}
