//! Role-based access control: who may do what because a binding says so.
//!
//! Follows upstream's RBAC authorizer: additive rules only, cluster roles usable in namespaces. The rules are kept
//! compiled and change with the feed, before the write that changed them is acknowledged to other readers.

use std::{
    collections::{BTreeMap, BTreeSet, btree_map::Entry},
    sync::Arc,
};

use async_trait::async_trait;
use k8s_core::{
    api::api::rbac::v1::{ClusterRole, ClusterRoleBinding, PolicyRule, Role, RoleBinding, RoleRef, Subject as Bound},
    object::{Object, ObjectKey},
    request::{Caller, Target},
    resource::Resource,
};
use parking_lot::RwLock;

use super::{Attributes, Authorizer, Decision, Follower, Subject};

/// The group whose objects the authorizer follows.
pub const GROUP: &str = "rbac.authorization.k8s.io";

/// The RBAC authorizer. It must be told of every role and binding (see [`Follower`]).
#[derive(Default)]
pub struct Rbac {
    rules: RwLock<Rules>,
}

#[derive(Default)]
struct Rules {
    cluster_roles: BTreeMap<String, Arc<[PolicyRule]>>,
    roles: BTreeMap<ObjectKey, Arc<[PolicyRule]>>,
    /// By the name of the subject.
    users: BTreeMap<String, Grants>,
    groups: BTreeMap<String, Grants>,
    /// The subjects of each binding, so that a change can take the old ones out.
    bound: BTreeMap<ObjectKey, BTreeSet<Who>>,
}

/// What a subject is granted, by binding. The namespace of a binding is its scope; empty is the whole cluster.
type Grants = BTreeMap<ObjectKey, RoleName>;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    User(String),
    Group(String),
}

#[derive(Debug, Clone)]
enum RoleName {
    Cluster(String),
    Local(ObjectKey),
}

impl Follower for Rbac {
    fn follows(&self, group: &str, _plural: &str) -> bool {
        group == GROUP
    }

    fn changed(&self, _group: &str, plural: &str, key: &ObjectKey, new: Option<&Arc<Object>>) {
        let mut rules = self.rules.write();
        match plural {
            "clusterroles" => {
                let found = typed::<ClusterRole>(new).and_then(|role| role.rules.clone());
                set(&mut rules.cluster_roles, key.name.to_string(), found, new.is_some());
            }
            "roles" => {
                let found = typed::<Role>(new).and_then(|role| role.rules.clone());
                set(&mut rules.roles, key.clone(), found, new.is_some());
            }
            "clusterrolebindings" => {
                let found = typed::<ClusterRoleBinding>(new);
                rules.bind(key, found.as_ref().map(|b| (&b.role_ref, b.subjects.as_deref().unwrap_or_default())));
            }
            "rolebindings" => {
                let found = typed::<RoleBinding>(new);
                rules.bind(key, found.as_ref().map(|b| (&b.role_ref, b.subjects.as_deref().unwrap_or_default())));
            }
            _ => {}
        }
    }
}

fn typed<K: Resource>(object: Option<&Arc<Object>>) -> Option<Arc<K>> {
    object.and_then(|object| object.typed::<K>().ok())
}

fn set<N: Ord>(roles: &mut BTreeMap<N, Arc<[PolicyRule]>>, name: N, rules: Option<Vec<PolicyRule>>, exists: bool) {
    if exists {
        roles.insert(name, rules.unwrap_or_default().into());
    } else {
        roles.remove(&name);
    }
}

impl Rules {
    fn bind(&mut self, binding: &ObjectKey, new: Option<(&RoleRef, &[Bound])>) {
        for who in self.bound.remove(binding).unwrap_or_default() {
            let (all, name) = self.granted(who);
            if let Entry::Occupied(mut grants) = all.entry(name) {
                grants.get_mut().remove(binding);
                if grants.get().is_empty() {
                    grants.remove();
                }
            }
        }
        let Some((role, subjects)) = new else { return };
        let role = match role.kind.as_str() {
            "ClusterRole" => RoleName::Cluster(role.name.clone()),
            "Role" if !binding.namespace.is_empty() => {
                RoleName::Local(ObjectKey::new(binding.namespace.clone(), role.name.as_str()))
            }
            _ => return,
        };
        let everyone: BTreeSet<Who> = subjects.iter().filter_map(|subject| who(subject, binding)).collect();
        for who in &everyone {
            let (all, name) = self.granted(who.clone());
            all.entry(name).or_default().insert(binding.clone(), role.clone());
        }
        self.bound.insert(binding.clone(), everyone);
    }

    /// Where the grants of a subject are.
    fn granted(&mut self, who: Who) -> (&mut BTreeMap<String, Grants>, String) {
        match who {
            Who::User(name) => (&mut self.users, name),
            Who::Group(name) => (&mut self.groups, name),
        }
    }

    fn of_role(&self, role: &RoleName) -> Option<&Arc<[PolicyRule]>> {
        match role {
            RoleName::Cluster(name) => self.cluster_roles.get(name),
            RoleName::Local(key) => self.roles.get(key),
        }
    }

    /// Visits every rule that holds for a caller in a namespace (empty: cluster-wide ones only).
    fn visit(&self, caller: &Caller, namespace: &str, mut visit: impl FnMut(&PolicyRule) -> bool) -> bool {
        let user = self.users.get(caller.name.as_str());
        let groups = caller.groups.iter().map(|group| self.groups.get(group.as_str()));
        for grants in std::iter::once(user).chain(groups).flatten() {
            for (binding, role) in grants {
                let in_scope = binding.namespace.is_empty() || binding.namespace == namespace;
                let rules = if in_scope { self.of_role(role) } else { None };
                if rules.is_some_and(|rules| rules.iter().any(&mut visit)) {
                    return true;
                }
            }
        }
        false
    }
}

fn who(subject: &Bound, binding: &ObjectKey) -> Option<Who> {
    match subject.kind.as_str() {
        "User" => Some(Who::User(subject.name.clone())),
        "Group" => Some(Who::Group(subject.name.clone())),
        "ServiceAccount" => {
            let namespace = subject.namespace.as_deref().unwrap_or(&binding.namespace);
            Some(Who::User(format!("system:serviceaccount:{namespace}:{}", subject.name)))
        }
        _ => None,
    }
}

impl Rbac {
    /// The rules that hold for a caller in a namespace, for `SelfSubjectRulesReview`.
    pub fn rules_of(&self, caller: &Caller, namespace: &str) -> Vec<PolicyRule> {
        let mut found = Vec::new();
        self.rules.read().visit(caller, namespace, |rule| {
            found.push(rule.clone());
            false
        });
        found
    }

    /// The rules of a role that a binding names; `None` when there is no such role.
    pub fn rules_of_role(&self, role: &RoleRef, namespace: &str) -> Option<Vec<PolicyRule>> {
        let name = match role.kind.as_str() {
            "ClusterRole" => RoleName::Cluster(role.name.clone()),
            _ => RoleName::Local(ObjectKey::new(namespace, role.name.as_str())),
        };
        self.rules.read().of_role(&name).map(|rules| rules.to_vec())
    }

    /// The rules of `wanted` that the caller does not hold in `namespace`: giving them away would be escalation.
    pub fn missing(&self, caller: &Caller, namespace: &str, wanted: &[PolicyRule]) -> Vec<PolicyRule> {
        let held = self.rules_of(caller, namespace);
        let is_held = |single: &PolicyRule| held.iter().any(|rule| covers(rule, single));
        wanted.iter().flat_map(singles).filter(|single| !is_held(single)).collect()
    }
}

#[async_trait]
impl Authorizer for Rbac {
    async fn authorize(&self, attributes: &Attributes<'_>) -> Decision {
        let rules = self.rules.read();
        let verb = attributes.verb;
        let allowed = match attributes.subject {
            Subject::Resource(target) => {
                rules.visit(attributes.caller, &target.namespace, |rule| allows_resource(rule, verb, target))
            }
            Subject::Path(path) => rules.visit(attributes.caller, "", |rule| allows_path(rule, verb, path)),
        };
        if allowed { Decision::Allow } else { Decision::NoOpinion(String::new()) }
    }
}

fn has(list: &[String], wanted: &str) -> bool {
    list.iter().any(|item| item == "*" || item == wanted)
}

fn allows_resource(rule: &PolicyRule, verb: &str, target: &Target) -> bool {
    let groups = rule.api_groups.as_deref().unwrap_or_default();
    let resources = rule.resources.as_deref().unwrap_or_default();
    let names = rule.resource_names.as_deref().unwrap_or_default();
    has(&rule.verbs, verb)
        && has(groups, &target.resource.group)
        && resources.iter().any(|rule| names_resource(rule, target))
        && (names.is_empty() || (!target.name.is_empty() && names.iter().any(|name| *name == *target.name)))
}

/// `pods`, `pods/log`, `*/scale`, `*`; `pods` does not include its subresources, `*` does.
fn names_resource(rule: &str, target: &Target) -> bool {
    let plural = target.resource.plural.as_str();
    match rule.split_once('/') {
        None => rule == "*" || (rule == plural && target.subresource.is_empty()),
        Some(("*", sub)) => sub == target.subresource,
        Some((resource, sub)) => resource == plural && sub == target.subresource,
    }
}

fn allows_path(rule: &PolicyRule, verb: &str, path: &str) -> bool {
    let paths = rule.non_resource_urls.as_deref().unwrap_or_default();
    let matches = |pattern: &String| match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => path == pattern,
    };
    has(&rule.verbs, verb) && paths.iter().any(matches)
}

/// A rule as rules of one verb on one thing each.
fn singles(rule: &PolicyRule) -> Vec<PolicyRule> {
    let none = vec![None];
    let names: Vec<Option<String>> = match rule.resource_names.as_deref() {
        Some(names) if !names.is_empty() => names.iter().cloned().map(Some).collect(),
        _ => none,
    };
    let mut found = Vec::new();
    for verb in &rule.verbs {
        for group in rule.api_groups.iter().flatten() {
            for resource in rule.resources.iter().flatten() {
                found.extend(names.iter().map(|name| PolicyRule {
                    verbs: vec![verb.clone()],
                    api_groups: Some(vec![group.clone()]),
                    resources: Some(vec![resource.clone()]),
                    resource_names: name.clone().map(|name| vec![name]),
                    non_resource_urls: None,
                }));
            }
        }
        found.extend(rule.non_resource_urls.iter().flatten().map(|path| PolicyRule {
            verbs: vec![verb.clone()],
            non_resource_urls: Some(vec![path.clone()]),
            ..Default::default()
        }));
    }
    found
}

/// Whether `rule` grants all that the single rule `wanted` grants.
fn covers(rule: &PolicyRule, wanted: &PolicyRule) -> bool {
    let all = |have: &Option<Vec<String>>, want: &Option<Vec<String>>| {
        want.iter().flatten().all(|item| has(have.as_deref().unwrap_or_default(), item))
    };
    let resource = |want: &String| {
        rule.resources.iter().flatten().any(|have| {
            have == "*"
                || have == want
                || have.strip_prefix("*/").is_some_and(|sub| want.split_once('/').is_some_and(|(_, s)| s == sub))
        })
    };
    let path = |want: &String| {
        rule.non_resource_urls
            .iter()
            .flatten()
            .any(|have| have == want || have.strip_suffix('*').is_some_and(|prefix| want.starts_with(prefix)))
    };
    let names = rule.resource_names.as_deref().unwrap_or_default();
    let named =
        names.is_empty() || wanted.resource_names.iter().flatten().next().is_some_and(|name| names.contains(name));
    wanted.verbs.iter().all(|verb| has(&rule.verbs, verb))
        && all(&rule.api_groups, &wanted.api_groups)
        && wanted.resources.iter().flatten().all(resource)
        && wanted.non_resource_urls.iter().flatten().all(path)
        && (wanted.non_resource_urls.is_some() || named)
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
