//! The authorizer against a second opinion: 100,000 random requests under policies that change all the time.
//!
//! The oracle reads the written objects anew for every question, knows no index, and shares no code with the authorizer.

use k8s_core::request::ResourceType;
use serde_json::{Value, json};

use super::*;

const POLICIES: usize = 4_000;
const REQUESTS: usize = 25;

const USERS: [&str; 3] = ["jane", "joe", "system:serviceaccount:a:robot"];
const GROUPS: [&str; 3] = ["devs", "ops", "system:authenticated"];
const NAMESPACES: [&str; 3] = ["", "a", "b"];
const VERBS: [&str; 4] = ["get", "list", "delete", "*"];
const API_GROUPS: [&str; 3] = ["", "apps", "*"];
const RESOURCES: [&str; 8] =
    ["pods", "pods/log", "*/log", "deployments", "deployments/scale", "*/scale", "*", "pods/*"];
const NAMES: [&str; 3] = ["x", "y", ""];
const PATHS: [&str; 6] = ["/healthz", "/healthz/*", "/apis/*", "*", "/api", "/healthz*"];

/// Xorshift: the same numbers everywhere.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % sides as u64) as usize
    }

    fn one<'a>(&mut self, of: &[&'a str]) -> &'a str {
        of[self.roll(of.len())]
    }

    fn some(&mut self, of: &[&str], least: usize) -> Vec<String> {
        let count = least + self.roll(3 - least);
        (0..count).map(|_| self.one(of).to_owned()).collect()
    }

    fn rule(&mut self) -> Value {
        if self.roll(4) == 0 {
            return json!({"verbs": self.some(&VERBS, 1), "nonResourceURLs": self.some(&PATHS, 1)});
        }
        let names: Vec<&str> = if self.roll(3) == 0 { vec![["x", "y"][self.roll(2)]] } else { Vec::new() };
        json!({
            "verbs": self.some(&VERBS, 1), "apiGroups": self.some(&API_GROUPS, 1),
            "resources": self.some(&RESOURCES, 1), "resourceNames": names
        })
    }

    fn role(&mut self, namespace: &str) -> Value {
        let rules: Vec<Value> = (0..1 + self.roll(4)).map(|_| self.rule()).collect();
        let kind = if namespace.is_empty() { "ClusterRole" } else { "Role" };
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": self.one(&["r", "s"]), "namespace": namespace}, "rules": rules})
    }

    fn subject(&mut self) -> Value {
        match self.roll(4) {
            0 => json!({"kind": "Group", "name": self.one(&GROUPS), "apiGroup": GROUP}),
            1 => json!({"kind": "ServiceAccount", "name": "robot", "namespace": self.one(&["a", "b"])}),
            _ => json!({"kind": "User", "name": self.one(&USERS), "apiGroup": GROUP}),
        }
    }

    fn binding(&mut self, namespace: &str) -> Value {
        let subjects: Vec<Value> = (0..1 + self.roll(3)).map(|_| self.subject()).collect();
        let role = if namespace.is_empty() || self.roll(2) == 0 { "ClusterRole" } else { "Role" };
        let kind = if namespace.is_empty() { "ClusterRoleBinding" } else { "RoleBinding" };
        json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind,
            "metadata": {"name": self.one(&["b", "c", "d"]), "namespace": namespace},
            "roleRef": {"apiGroup": GROUP, "kind": role, "name": self.one(&["r", "s", "gone"])}, "subjects": subjects})
    }
}

/// One question: who, what verb, and a resource (group, resource, subresource, namespace, name) or a path.
struct Question {
    user: &'static str,
    groups: Vec<&'static str>,
    verb: &'static str,
    path: Option<&'static str>,
    target: [&'static str; 5],
}

fn question(dice: &mut Dice) -> Question {
    let paths = ["/healthz", "/healthz/ready", "/healthzx", "/apis/apps", "/api", "/"];
    let resources =
        [["", "pods", ""], ["", "pods", "log"], ["apps", "deployments", ""], ["apps", "deployments", "scale"]];
    let [group, resource, sub] = resources[dice.roll(4)];
    Question {
        user: dice.one(&USERS),
        groups: (0..dice.roll(3)).map(|_| dice.one(&GROUPS)).collect(),
        verb: dice.one(&VERBS[..3]),
        path: (dice.roll(4) == 0).then(|| dice.one(&paths)),
        target: [group, resource, sub, dice.one(&NAMESPACES), dice.one(&NAMES)],
    }
}

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

/// The second opinion: every binding, its role by name, every rule, by the words of upstream's documentation.
fn oracle(objects: &BTreeMap<(String, ObjectKey), Value>, ask: &Question) -> bool {
    let [group, resource, sub, namespace, name] = ask.target;
    let in_list = |list: &Value, item: &str| strings(list).iter().any(|have| *have == "*" || *have == item);
    let allows = |rule: &Value| match ask.path {
        Some(path) => {
            let fits = |url: &&str| url.strip_suffix('*').map_or(*url == path, |start| path.starts_with(start));
            in_list(&rule["verbs"], ask.verb) && strings(&rule["nonResourceURLs"]).iter().any(fits)
        }
        None => {
            let whole = if sub.is_empty() { resource.to_owned() } else { format!("{resource}/{sub}") };
            let any = format!("*/{sub}");
            let fits = |have: &&str| *have == "*" || *have == whole || (!sub.is_empty() && *have == any);
            let names = strings(&rule["resourceNames"]);
            in_list(&rule["verbs"], ask.verb)
                && in_list(&rule["apiGroups"], group)
                && strings(&rule["resources"]).iter().any(fits)
                && (names.is_empty() || names.contains(&name))
        }
    };
    let is_meant = |subject: &Value| {
        let name = subject["name"].as_str().unwrap_or("");
        match subject["kind"].as_str() {
            Some("Group") => ask.groups.contains(&name),
            Some("ServiceAccount") => {
                ask.user == format!("system:serviceaccount:{}:{name}", subject["namespace"].as_str().unwrap_or(""))
            }
            _ => ask.user == name,
        }
    };
    objects.iter().filter(|((plural, _), _)| plural.ends_with("bindings")).any(|((_, key), binding)| {
        let (kind, role) = (binding["roleRef"]["kind"].as_str(), binding["roleRef"]["name"].as_str().unwrap_or(""));
        let place = if kind == Some("Role") { key.namespace.as_str() } else { "" };
        let plural = if kind == Some("Role") { "roles" } else { "clusterroles" };
        let here = key.namespace.is_empty() || (ask.path.is_none() && *key.namespace == *namespace);
        let meant = || binding["subjects"].as_array().is_some_and(|all| all.iter().any(is_meant));
        let role = || objects.get(&(plural.to_owned(), ObjectKey::new(place, role)));
        here && meant()
            && role().is_some_and(|role| role["rules"].as_array().is_some_and(|rules| rules.iter().any(allows)))
    })
}

/// Writes or deletes one object, for both.
fn change(dice: &mut Dice, rbac: &Rbac, objects: &mut BTreeMap<(String, ObjectKey), Value>) {
    let namespace = dice.one(&NAMESPACES);
    let (value, plural) = match dice.roll(2) {
        0 => (dice.role(namespace), if namespace.is_empty() { "clusterroles" } else { "roles" }),
        _ => (dice.binding(namespace), if namespace.is_empty() { "clusterrolebindings" } else { "rolebindings" }),
    };
    let object = Arc::new(Object::from_json(value.to_string().into(), Some(1)).unwrap());
    let key = object.meta.key();
    if dice.roll(5) == 0 {
        rbac.changed(GROUP, plural, &key, None);
        objects.remove(&(plural.to_owned(), key));
    } else {
        rbac.changed(GROUP, plural, &key, Some(&object));
        objects.insert((plural.to_owned(), key), value);
    }
}

#[test]
fn a_second_opinion_agrees_on_100_000_requests() {
    let (mut dice, rbac, mut objects) = (Dice(0x9e37_79b9_7f4a_7c15), Rbac::default(), BTreeMap::new());
    let mut allowed = 0;
    for policy in 0..POLICIES {
        change(&mut dice, &rbac, &mut objects);
        for _ in 0..REQUESTS {
            let ask = question(&mut dice);
            let groups = ask.groups.iter().map(|group| (*group).into()).collect();
            let caller = Caller { name: ask.user.into(), groups, ..Caller::default() };
            let [group, resource, sub, namespace, name] = ask.target;
            let target = Target::one(ResourceType::new(group, "v1", resource), namespace, name).subresource(sub);
            let subject = ask.path.map_or(Subject::Resource(&target), Subject::Path);
            let attributes = Attributes { caller: &caller, verb: ask.verb, subject, fields: None };
            let decided = futures::FutureExt::now_or_never(rbac.authorize(&attributes)) == Some(Decision::Allow);
            let expected = oracle(&objects, &ask);
            assert_eq!(decided, expected, "policy {policy}: {attributes:?} under {objects:#?}");
            allowed += usize::from(expected);
        }
    }
    let share = allowed * 100 / (POLICIES * REQUESTS);
    assert!((5..=95).contains(&share), "{share} % were allowed: the policies say nothing");
}
