//! Which requests the rules of a webhook mean. Pure.

use k8s_core::doc::{Doc, Text};

/// One entry of a webhook's `rules`.
#[derive(Debug, Clone, PartialEq)]
pub struct Rule {
    operations: Vec<Text>,
    groups: Vec<Text>,
    versions: Vec<Text>,
    /// Resource and subresource; `*` is any, an empty subresource is the object itself.
    resources: Vec<(Text, Text)>,
    scope: RuleScope,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RuleScope {
    All,
    Namespaced,
    Cluster,
}

/// What rules look at.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    pub operation: &'a str,
    /// The API group.
    pub group: &'a str,
    /// The version.
    pub version: &'a str,
    /// The plural name.
    pub plural: &'a str,
    /// The subresource, or empty.
    pub subresource: &'a str,
    /// Whether the object lives in a namespace. Namespaces do not.
    pub namespaced: bool,
}

impl Rule {
    /// Reads a rule.
    pub fn of(doc: &Doc) -> Self {
        let texts = |field: &str| -> Vec<Text> {
            let items = doc.get(field).map_or(&[][..], Doc::items);
            items.iter().filter_map(Doc::as_str).map(Text::from).collect()
        };
        let resources = texts("resources");
        let split = |resource: &Text| match resource.split_once('/') {
            Some((resource, subresource)) => (resource.into(), subresource.into()),
            None => (resource.clone(), Text::default()),
        };
        Self {
            operations: texts("operations"),
            groups: texts("apiGroups"),
            versions: texts("apiVersions"),
            resources: resources.iter().map(split).collect(),
            scope: match doc.str_at(&["scope"]) {
                "Namespaced" => RuleScope::Namespaced,
                "Cluster" => RuleScope::Cluster,
                _ => RuleScope::All,
            },
        }
    }

    /// Whether the rule means this.
    pub fn matches(&self, asked: &Asked<'_>) -> bool {
        let any = |list: &[Text], wanted: &str| list.iter().any(|item| is(item, wanted));
        let resource =
            |(resource, subresource): &(Text, Text)| is(resource, asked.plural) && is(subresource, asked.subresource);
        let in_scope = match self.scope {
            RuleScope::All => true,
            RuleScope::Namespaced => asked.namespaced,
            RuleScope::Cluster => !asked.namespaced,
        };
        in_scope
            && any(&self.operations, asked.operation)
            && any(&self.groups, asked.group)
            && any(&self.versions, asked.version)
            && self.resources.iter().any(resource)
    }
}

fn is(pattern: &str, text: &str) -> bool {
    pattern == "*" || pattern == text
}

#[cfg(test)]
mod tests {
    use k8s_core::doc;

    use super::*;

    fn pods(subresource: &str) -> Asked<'_> {
        Asked { operation: "CREATE", group: "", version: "v1", plural: "pods", subresource, namespaced: true }
    }

    fn rule(resource: &str, scope: &str) -> Rule {
        Rule::of(&doc!({
            "operations": ["CREATE"], "apiGroups": [""], "apiVersions": ["*"], "resources": [resource], "scope": scope
        }))
    }

    #[test]
    fn resources_and_subresources_are_named_apart() {
        for (pattern, object, status, exec) in [
            ("pods", true, false, false),
            ("*", true, false, false),
            ("pods/*", true, true, true),
            ("*/*", true, true, true),
            ("pods/status", false, true, false),
            ("*/exec", false, false, true),
            ("services", false, false, false),
            ("services/*", false, false, false),
        ] {
            let rule = rule(pattern, "*");
            let found = ["", "status", "exec"].map(|subresource| rule.matches(&pods(subresource)));
            assert_eq!(found, [object, status, exec], "{pattern}");
        }
    }

    #[test]
    fn every_part_counts() {
        let asked = pods("");
        assert!(rule("pods", "Namespaced").matches(&asked));
        assert!(!rule("pods", "Cluster").matches(&asked));
        assert!(rule("pods", "Cluster").matches(&Asked { namespaced: false, ..asked }));
        assert!(!rule("pods", "*").matches(&Asked { operation: "UPDATE", ..asked }));
        assert!(!rule("pods", "*").matches(&Asked { group: "apps", ..asked }));
        let of_v2 = Rule::of(&doc!({
            "operations": ["*"], "apiGroups": ["*"], "apiVersions": ["v2"], "resources": ["pods"]
        }));
        assert!(!of_v2.matches(&asked) && of_v2.matches(&Asked { version: "v2", ..asked }));
    }
}
