//! Which FlowSchema a request belongs to, and which flow of it. Pure.

use k8s_core::{
    doc::{Doc, Text},
    request::{Caller, Target},
};

/// A request, as schemas see it.
pub struct Request<'a> {
    /// Who asks.
    pub caller: &'a Caller,
    /// The verb as rules name it.
    pub verb: &'a str,
    /// What it is about.
    pub subject: Asked<'a>,
}

/// What a request is about.
#[derive(Clone, Copy)]
pub enum Asked<'a> {
    /// A resource.
    Resource(&'a Target),
    /// A path that is none.
    Path(&'a str),
}

/// What a FlowSchema says.
#[derive(Debug, PartialEq)]
pub struct FlowSchema {
    /// Its name.
    pub name: Text,
    /// The uid of the object.
    pub uid: Text,
    /// Which comes first, the least does.
    pub precedence: i64,
    /// The priority level.
    pub level: Text,
    by: Distinguisher,
    rules: Vec<Rule>,
}

/// What tells flows apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Distinguisher {
    Nothing,
    User,
    Namespace,
}

#[derive(Debug, PartialEq)]
struct Rule {
    subjects: Vec<Subject>,
    resources: Vec<ResourceRule>,
    paths: Vec<PathRule>,
}

#[derive(Debug, PartialEq)]
enum Subject {
    User(String),
    Group(String),
    ServiceAccount(String, String),
}

#[derive(Debug, PartialEq)]
struct ResourceRule {
    verbs: Vec<String>,
    groups: Vec<String>,
    resources: Vec<String>,
    cluster: bool,
    namespaces: Vec<String>,
}

#[derive(Debug, PartialEq)]
struct PathRule {
    verbs: Vec<String>,
    paths: Vec<String>,
}

impl FlowSchema {
    /// Reads a FlowSchema.
    pub fn of(doc: &Doc) -> Self {
        let rules = doc.at(&["spec", "rules"]).map_or(&[][..], Doc::items);
        Self {
            name: doc.str_at(&["metadata", "name"]).into(),
            uid: doc.str_at(&["metadata", "uid"]).into(),
            precedence: doc.at(&["spec", "matchingPrecedence"]).and_then(Doc::as_i64).unwrap_or(1000),
            level: doc.str_at(&["spec", "priorityLevelConfiguration", "name"]).into(),
            by: match doc.str_at(&["spec", "distinguisherMethod", "type"]) {
                "ByUser" => Distinguisher::User,
                "ByNamespace" => Distinguisher::Namespace,
                _ => Distinguisher::Nothing,
            },
            rules: rules.iter().map(Rule::of).collect(),
        }
    }

    /// Whether a request belongs to it.
    pub fn matches(&self, request: &Request<'_>) -> bool {
        self.rules.iter().any(|rule| {
            rule.subjects.iter().any(|subject| subject.is(request.caller))
                && match request.subject {
                    Asked::Resource(target) => rule.resources.iter().any(|of| of.covers(request.verb, target)),
                    Asked::Path(path) => rule.paths.iter().any(|of| of.covers(request.verb, path)),
                }
        })
    }

    /// The hash of the flow that a request belongs to (FNV-1a, so that it is the same everywhere and always).
    pub fn flow(&self, request: &Request<'_>) -> u64 {
        let distinguished = match self.by {
            Distinguisher::Nothing => "",
            Distinguisher::User => &request.caller.name,
            Distinguisher::Namespace => match request.subject {
                Asked::Resource(target) => &target.namespace,
                Asked::Path(_) => "",
            },
        };
        let bytes = self.name.bytes().chain([0]).chain(distinguished.bytes());
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
    }
}

fn texts(doc: &Doc, field: &str) -> Vec<String> {
    let items = doc.get(field).map_or(&[][..], Doc::items);
    items.iter().filter_map(Doc::as_str).map(str::to_owned).collect()
}

impl Rule {
    fn of(doc: &Doc) -> Self {
        let subjects = doc.get("subjects").map_or(&[][..], Doc::items).iter().filter_map(|subject| {
            let text = |path: &[&str]| subject.str_at(path).to_owned();
            Some(match subject.str_at(&["kind"]) {
                "User" => Subject::User(text(&["user", "name"])),
                "Group" => Subject::Group(text(&["group", "name"])),
                "ServiceAccount" => {
                    Subject::ServiceAccount(text(&["serviceAccount", "namespace"]), text(&["serviceAccount", "name"]))
                }
                _ => return None,
            })
        });
        let resources = doc.get("resourceRules").map_or(&[][..], Doc::items).iter().map(|rule| ResourceRule {
            verbs: texts(rule, "verbs"),
            groups: texts(rule, "apiGroups"),
            resources: texts(rule, "resources"),
            cluster: rule.get("clusterScope").and_then(Doc::as_bool).unwrap_or(false),
            namespaces: texts(rule, "namespaces"),
        });
        let paths = doc.get("nonResourceRules").map_or(&[][..], Doc::items).iter();
        let paths = paths.map(|rule| PathRule { verbs: texts(rule, "verbs"), paths: texts(rule, "nonResourceURLs") });
        Self { subjects: subjects.collect(), resources: resources.collect(), paths: paths.collect() }
    }
}

impl Subject {
    fn is(&self, caller: &Caller) -> bool {
        match self {
            Self::User(name) => name == "*" || *name == *caller.name,
            Self::Group(name) => name == "*" || caller.is_in(name),
            Self::ServiceAccount(namespace, name) => {
                let account = caller.name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
                account.is_some_and(|(of, called)| of == namespace && (name == "*" || called == name))
            }
        }
    }
}

impl ResourceRule {
    fn covers(&self, verb: &str, target: &Target) -> bool {
        let Target { resource, subresource, namespace, .. } = target;
        let named = match subresource.as_str() {
            "" => has(&self.resources, &resource.plural),
            subresource => has(&self.resources, &format!("{}/{subresource}", resource.plural)),
        };
        let placed = if namespace.is_empty() { self.cluster } else { has(&self.namespaces, namespace) };
        placed && named && has(&self.verbs, verb) && has(&self.groups, &resource.group)
    }
}

impl PathRule {
    /// A path with a star at its end stands for all that begin so.
    fn covers(&self, verb: &str, path: &str) -> bool {
        let fits = |pattern: &String| match pattern.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => pattern == path,
        };
        has(&self.verbs, verb) && self.paths.iter().any(fits)
    }
}

/// Whether a list names something, or everything.
fn has(list: &[String], text: &str) -> bool {
    list.iter().any(|item| item == "*" || item == text)
}

#[cfg(test)]
mod tests {
    use k8s_core::{doc, request::ResourceType};

    use super::*;

    fn schema(subject: Doc, resources: &str, cluster: bool, namespaces: &str, by: &str) -> FlowSchema {
        FlowSchema::of(&doc!({
            "metadata": {"name": "s"},
            "spec": {
                "priorityLevelConfiguration": {"name": "l"}, "distinguisherMethod": {"type": by},
                "rules": [{"subjects": [subject], "resourceRules": [{
                    "verbs": ["get", "list"], "apiGroups": [""], "resources": [resources], "clusterScope": cluster,
                    "namespaces": [namespaces]
                }]}]
            }
        }))
    }

    fn pods(namespace: &str) -> Target {
        Target::all(ResourceType::new("", "v1", "pods"), namespace)
    }

    #[test]
    fn subjects_places_and_resources_must_fit() {
        let account = Caller::service_account("ns", "a");
        let user = |name: &str| doc!({"kind": "User", "user": {"name": name}});
        let group = |name: &str| doc!({"kind": "Group", "group": {"name": name}});
        let of = |name: &str| doc!({"kind": "ServiceAccount", "serviceAccount": {"namespace": "ns", "name": name}});
        for (subject, resources, cluster, namespaces, target, expected) in [
            (of("a"), "pods", false, "*", pods("x"), true),
            (of("*"), "*", false, "x", pods("x"), true),
            (of("b"), "pods", false, "*", pods("x"), false),
            (group("system:serviceaccounts:ns"), "pods", false, "*", pods("x"), true),
            (user("u"), "pods", false, "*", pods("x"), false),
            (user("*"), "pods", false, "y", pods("x"), false),
            (user("*"), "pods", false, "*", pods(""), false),
            (user("*"), "pods", true, "*", pods(""), true),
            (user("*"), "services", true, "*", pods(""), false),
            (user("*"), "pods", false, "*", pods("x").subresource("status"), false),
            (user("*"), "pods/status", false, "*", pods("x").subresource("status"), true),
        ] {
            let request = Request { caller: &account, verb: "list", subject: Asked::Resource(&target) };
            let schema = schema(subject, resources, cluster, namespaces, "");
            assert_eq!(schema.matches(&request), expected, "{schema:?} {target:?}");
            assert!(!schema.matches(&Request { verb: "create", ..request }));
        }
    }

    #[test]
    fn paths_are_sorted_by_rules_of_their_own() {
        let schema = FlowSchema::of(&doc!({"metadata": {"name": "s"}, "spec": {"rules": [{
            "subjects": [{"kind": "User", "user": {"name": "*"}}],
            "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"], "clusterScope": true}],
            "nonResourceRules": [{"verbs": ["get"], "nonResourceURLs": ["/healthz", "/debug/*"]}]
        }]}}));
        let caller = Caller::new("u", &[]);
        for (verb, path, expected) in [
            ("get", "/healthz", true),
            ("get", "/healthz/etcd", false),
            ("get", "/debug/pprof", true),
            ("post", "/debug/pprof", false),
            ("get", "/metrics", false),
        ] {
            let request = Request { caller: &caller, verb, subject: Asked::Path(path) };
            assert_eq!(schema.matches(&request), expected, "{verb} {path}");
        }
    }

    #[test]
    fn flows_are_told_apart_as_the_schema_says() {
        let (a, b, any) = (Caller::new("a", &[]), Caller::new("b", &[]), doc!({"kind": "User", "user": {"name": "*"}}));
        let (x, y) = (pods("x"), pods("y"));
        for (by, users, namespaces) in [("", false, false), ("ByUser", true, false), ("ByNamespace", false, true)] {
            let schema = schema(any.clone(), "*", true, "*", by);
            let flow = |caller, target| schema.flow(&Request { caller, verb: "get", subject: Asked::Resource(target) });
            assert_eq!((flow(&a, &x) != flow(&b, &x), flow(&a, &x) != flow(&a, &y)), (users, namespaces), "{by}");
        }
    }
}
