//! The roles and bindings that a cluster starts with, read from `bootstrap.policy` beside this file.
//!
//! Follows upstream's bootstrap policy: reconciled at every start (missing ones are created; a missing rule of a role
//! that carries `rbac.authorization.kubernetes.io/autoupdate` is added back).

use k8s_core::api::{
    api::rbac::v1::{
        AggregationRule, ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject,
    },
    apimachinery::pkg::apis::meta::v1::{LabelSelector, ObjectMeta},
};

const POLICY: &str = include_str!("bootstrap.policy");
const GROUP: &str = "rbac.authorization.k8s.io";
const AGGREGATE: &str = "rbac.authorization.k8s.io/aggregate-to-";

/// Everything of the bootstrap policy.
#[derive(Debug, Default)]
pub struct Policy {
    /// The cluster roles; aggregated ones have their collected rules filled in.
    pub cluster_roles: Vec<ClusterRole>,
    /// Their bindings.
    pub cluster_role_bindings: Vec<ClusterRoleBinding>,
    /// The roles in namespaces.
    pub roles: Vec<Role>,
    /// Their bindings.
    pub role_bindings: Vec<RoleBinding>,
}

/// Reads the policy. It is a constant of the program, checked by a test: a broken line is left out and reported.
pub fn policy() -> Policy {
    let mut policy = Policy::default();
    let mut open = Open::None;
    for line in POLICY.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        let words: Vec<&str> = line.split_whitespace().collect();
        if line.starts_with("  ") {
            policy.add_rules(&open, rules(&words));
        } else {
            open = policy.add_head(&words);
        }
    }
    policy.aggregate();
    policy
}

#[derive(PartialEq)]
enum Open {
    None,
    ClusterRole,
    Role,
}

impl Policy {
    fn add_head(&mut self, words: &[&str]) -> Open {
        match words {
            ["role", name, attributes @ ..] => {
                self.cluster_roles.push(cluster_role(name, attributes));
                Open::ClusterRole
            }
            ["controller", name] => {
                let role = format!("system:controller:{name}");
                let account = format!("sa:kube-system/{name}");
                self.cluster_roles.push(cluster_role(&role, &[]));
                self.cluster_role_bindings.push(cluster_binding(&role, &[&account]));
                Open::ClusterRole
            }
            ["local", namespace, name] => {
                let metadata = metadata(name, Some(namespace), &[]);
                self.roles.push(Role { metadata, rules: Some(Vec::new()) });
                Open::Role
            }
            ["bind", role, subjects @ ..] => {
                self.cluster_role_bindings.push(cluster_binding(role, subjects));
                Open::None
            }
            ["bind-local", namespace, role, subjects @ ..] => {
                self.role_bindings.push(RoleBinding {
                    metadata: metadata(role, Some(namespace), &[]),
                    role_ref: role_ref("Role", role),
                    subjects: Some(subjects.iter().filter_map(|text| subject(text)).collect()),
                });
                Open::None
            }
            _ => {
                tracing::error!(?words, "bootstrap policy: a line that says nothing");
                Open::None
            }
        }
    }

    fn add_rules(&mut self, open: &Open, rules: Vec<PolicyRule>) {
        let target = match open {
            Open::ClusterRole => self.cluster_roles.last_mut().map(|role| &mut role.rules),
            Open::Role => self.roles.last_mut().map(|role| &mut role.rules),
            Open::None => None,
        };
        match target {
            Some(target) => target.get_or_insert_default().extend(rules),
            None => tracing::error!("bootstrap policy: a rule outside a role"),
        }
    }

    /// Fills the collected rules of aggregated roles in, inner ones first (`view`, then `edit`, then `admin`).
    fn aggregate(&mut self) {
        for name in ["view", "edit", "admin"] {
            let label = format!("{AGGREGATE}{name}");
            let collects = |role: &&ClusterRole| role.metadata.labels.iter().flatten().any(|(key, _)| *key == label);
            let rules: Vec<PolicyRule> = self
                .cluster_roles
                .iter()
                .filter(collects)
                .flat_map(|role| role.rules.clone().unwrap_or_default())
                .collect();
            for role in self.cluster_roles.iter_mut().filter(|role| role.metadata.name.as_deref() == Some(name)) {
                role.rules = Some(rules.clone());
            }
        }
    }
}

fn cluster_role(name: &str, attributes: &[&str]) -> ClusterRole {
    let labels: Vec<String> = attributes
        .iter()
        .filter_map(|a| a.strip_prefix("aggregate-to="))
        .map(|to| format!("{AGGREGATE}{to}"))
        .collect();
    let aggregation_rule = attributes.iter().find_map(|a| a.strip_prefix("from=")).map(|from| AggregationRule {
        cluster_role_selectors: Some(vec![LabelSelector {
            match_labels: Some([(format!("{AGGREGATE}{from}"), "true".to_owned())].into()),
            ..Default::default()
        }]),
    });
    ClusterRole { metadata: metadata(name, None, &labels), aggregation_rule, rules: Some(Vec::new()) }
}

fn cluster_binding(role: &str, subjects: &[&str]) -> ClusterRoleBinding {
    ClusterRoleBinding {
        metadata: metadata(role, None, &[]),
        role_ref: role_ref("ClusterRole", role),
        subjects: Some(subjects.iter().filter_map(|text| subject(text)).collect()),
    }
}

fn metadata(name: &str, namespace: Option<&str>, labels: &[String]) -> ObjectMeta {
    let bootstrapping = ("kubernetes.io/bootstrapping".to_owned(), "rbac-defaults".to_owned());
    let labels = labels.iter().map(|label| (label.clone(), "true".to_owned()));
    ObjectMeta {
        name: Some(name.to_owned()),
        namespace: namespace.map(str::to_owned),
        labels: Some(labels.chain([bootstrapping]).collect()),
        annotations: Some([("rbac.authorization.kubernetes.io/autoupdate".to_owned(), "true".to_owned())].into()),
        ..Default::default()
    }
}

fn role_ref(kind: &str, name: &str) -> RoleRef {
    RoleRef { api_group: Some(GROUP.into()), kind: kind.into(), name: name.into() }
}

fn subject(text: &str) -> Option<Subject> {
    let (kind, name) = text.split_once(':')?;
    let named = |kind: &str, name: &str| Subject {
        kind: kind.into(),
        name: name.into(),
        api_group: Some(GROUP.into()),
        namespace: None,
    };
    match kind {
        "user" => Some(named("User", name)),
        "group" => Some(named("Group", name)),
        "sa" => {
            let (namespace, name) = name.split_once('/')?;
            Some(Subject {
                kind: "ServiceAccount".into(),
                name: name.into(),
                namespace: Some(namespace.into()),
                api_group: None,
            })
        }
        _ => None,
    }
}

fn rules(words: &[&str]) -> Vec<PolicyRule> {
    let list = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
    let groups = |text: &str| list(text).into_iter().map(|g| if g == "core" { String::new() } else { g }).collect();
    let on = |verbs: &str, group: &str, resources: &str| PolicyRule {
        verbs: expand(verbs),
        api_groups: Some(groups(group)),
        resources: Some(list(resources)),
        ..Default::default()
    };
    match words {
        ["events"] => vec![on("create,update,patch", "core,events.k8s.io", "events")],
        [verbs, paths] => {
            vec![PolicyRule { verbs: expand(verbs), non_resource_urls: Some(list(paths)), ..Default::default() }]
        }
        [verbs, group, resources] => vec![on(verbs, group, resources)],
        [verbs, group, resources, names] => {
            vec![PolicyRule { resource_names: Some(list(names)), ..on(verbs, group, resources) }]
        }
        _ => Vec::new(),
    }
}

fn expand(verbs: &str) -> Vec<String> {
    let one = |verb: &str| match verb {
        "R" => vec!["get", "list", "watch"],
        "W" => vec!["create", "delete", "deletecollection", "patch", "update"],
        _ => Vec::new(),
    };
    verbs
        .split(',')
        .flat_map(|verb| match one(verb) {
            words if words.is_empty() => vec![verb.to_owned()],
            words => words.into_iter().map(str::to_owned).collect(),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_says_something() {
        for line in POLICY.lines().filter(|line| line.starts_with("  ")) {
            let words: Vec<&str> = line.split_whitespace().collect();
            assert_eq!(rules(&words).len(), 1, "{line}");
        }
        let policy = policy();
        let bound = policy.cluster_role_bindings.iter().map(|binding| &binding.role_ref.name);
        for role in bound {
            let found = policy.cluster_roles.iter().any(|r| r.metadata.name.as_ref() == Some(role));
            assert!(found, "binding to the unknown role {role}");
        }
    }

    #[test]
    fn aggregated_roles_hold_what_they_collect() {
        let policy = policy();
        let rules = |name: &str| {
            let role = policy.cluster_roles.iter().find(|role| role.metadata.name.as_deref() == Some(name));
            role.and_then(|role| role.rules.clone()).unwrap_or_default()
        };
        assert!(rules("admin").len() > rules("edit").len());
        assert!(rules("edit").len() > rules("view").len());
        assert!(!rules("view").is_empty());
    }
}
