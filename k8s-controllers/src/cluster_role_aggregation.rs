//! Aggregated cluster roles: their rules are those of the roles that they select.
//!
//! Follows upstream's `clusterrole-aggregation-controller`. It holds the verb `escalate`, because nobody holds every
//! rule that it collects.

use k8s_core::{
    api::api::rbac::v1::{ClusterRole, PolicyRule},
    object::Object,
    resource::Stored,
    selector::LabelSelector,
    status::ApiError,
};
use k8s_reconcile::{Controller, Cx, InformerScope, Next, Reconciler};

/// The controller, ready to start.
pub fn controller() -> Controller<ClusterRoleAggregation> {
    Controller::new("clusterrole-aggregation-controller", ClusterRoleAggregation)
        .watches::<ClusterRole>(InformerScope::all(), |delta, roles| {
            let sides = [&delta.old, &delta.new].into_iter().flatten();
            let labels: Vec<_> = sides.map(|role| role.meta.labels.clone()).collect();
            let aggregated = roles.list().into_iter().filter(|role| {
                let selectors = selectors_in(role);
                selectors.iter().any(|selector| labels.iter().any(|labels| selector.matches(&labels[..])))
            });
            aggregated.map(|role| role.meta.key()).collect()
        })
        .workers(1)
}

/// Its reconciler.
pub struct ClusterRoleAggregation;

impl Reconciler for ClusterRoleAggregation {
    type Object = ClusterRole;
    type Error = ApiError;

    async fn reconcile(&self, role: Stored<ClusterRole>, cx: Cx) -> Result<Next, ApiError> {
        if role.aggregation_rule.is_none() || role.object().meta.deleted.is_some() {
            return Ok(Next::Done);
        }
        let selectors = selectors_of(&role);
        let mut found: Vec<Vec<Stored<ClusterRole>>> = Vec::new();
        for selector in &selectors {
            let mut selected = cx.cached::<ClusterRole>()?.select("", selector);
            selected.retain(|other| other.name() != role.name());
            selected.sort_by(|a, b| a.name().cmp(b.name()));
            found.push(selected);
        }
        let rules = collected(found.iter().flatten().map(|role| role.rules.as_deref().unwrap_or_default()));
        if role.rules.as_deref().unwrap_or_default() != rules {
            let mut draft = role.draft();
            draft.rules = Some(rules);
            cx.update(draft).await?;
        }
        Ok(Next::Done)
    }
}

/// Every rule once, in the order of the roles.
pub fn collected<'a>(roles: impl Iterator<Item = &'a [PolicyRule]>) -> Vec<PolicyRule> {
    let mut all: Vec<PolicyRule> = Vec::new();
    for rule in roles.flatten() {
        if !all.contains(rule) {
            all.push(rule.clone());
        }
    }
    all
}

fn selectors_of(role: &ClusterRole) -> Vec<LabelSelector> {
    let rule = role.aggregation_rule.iter();
    let written = rule.flat_map(|rule| rule.cluster_role_selectors.iter().flatten());
    // The API server let none in that cannot be read.
    written.filter_map(|selector| LabelSelector::try_from(selector).ok()).collect()
}

/// What stands in the text of every role that is aggregated.
const MARK: &[u8] = b"\"aggregationRule\"";

/// The selectors of a role; most have none, which is seen without reading them.
fn selectors_in(role: &Object) -> Vec<LabelSelector> {
    if !role.stored_json().windows(MARK.len()).any(|window| window == MARK) {
        return Vec::new();
    }
    role.typed::<ClusterRole>().map_or_else(|_| Vec::new(), |role| selectors_of(&role))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_is_collected_once_and_in_order() {
        let rule = |verb: &str| PolicyRule { verbs: vec![verb.into()], ..PolicyRule::default() };
        let roles = [vec![rule("get"), rule("list")], vec![rule("list"), rule("watch")], vec![]];
        let found = collected(roles.iter().map(Vec::as_slice));
        assert_eq!(found, [rule("get"), rule("list"), rule("watch")]);
    }

    #[test]
    fn selectors_are_read_from_the_text() {
        let read = |json: &str| {
            let role = Object::from_json(json.to_owned().into(), Some(1)).unwrap();
            selectors_in(&role).iter().map(ToString::to_string).collect::<Vec<_>>()
        };
        let head = r#"{"apiVersion":"rbac.authorization.k8s.io/v1","kind":"ClusterRole","metadata":{"name":"a"}"#;
        let rule = r#","aggregationRule":{"clusterRoleSelectors":[{"matchLabels":{"a":"b"}}]}}"#;
        assert_eq!(read(&format!("{head}{rule}")), ["a=b"]);
        assert!(read(&format!("{head},\"rules\":[]}}")).is_empty());
    }
}
