//! The audit policy: how much of which request is noted. Pure.

use k8s_core::request::Caller;
use serde::Deserialize;

/// How much is noted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub enum Level {
    /// Nothing.
    None,
    /// Who, what and when.
    Metadata,
    /// And what was sent.
    Request,
    /// And what was answered.
    RequestResponse,
}

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub enum Stage {
    /// It was taken in.
    RequestReceived,
    /// The head of an answer that goes on and on was sent.
    ResponseStarted,
    /// The whole answer was made.
    ResponseComplete,
    /// It could not be answered because of a defect.
    Panic,
}

impl Level {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

impl Stage {
    /// The word in events.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RequestReceived => "RequestReceived",
            Self::ResponseStarted => "ResponseStarted",
            Self::ResponseComplete => "ResponseComplete",
            Self::Panic => "Panic",
        }
    }
}

/// A policy: the first rule that means a request decides, and what no rule means is not noted.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Policy {
    kind: String,
    api_version: String,
    #[serde(default)]
    #[allow(dead_code, reason = "a policy may have a name, which means nothing")]
    metadata: Option<serde_json::Value>,
    #[serde(default)]
    rules: Vec<Rule>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: bool,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<GroupResources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    non_resource_urls: Vec<String>,
    #[serde(default)]
    omit_stages: Vec<Stage>,
    #[serde(default)]
    omit_managed_fields: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct GroupResources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Why a text is no policy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PolicyError {
    /// It is no YAML, or has fields or values that a policy does not have.
    #[error("{0}")]
    Malformed(String),
    /// It is of another kind.
    #[error("{api_version}, Kind={kind}: an audit policy is audit.k8s.io/v1, Kind=Policy")]
    Kind {
        /// What it says it is.
        kind: String,
        /// Of which version.
        api_version: String,
    },
    /// It has no rules.
    #[error("rules: there must be at least one; `- level: Metadata` notes every request")]
    Empty,
    /// A rule cannot be followed.
    #[error("rules[{index}].{field}: {why}")]
    Rule {
        /// Which.
        index: usize,
        /// What of it.
        field: &'static str,
        /// What is wrong.
        why: String,
    },
}

/// A request, as rules see it.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// The verb as authorization names it; of other paths the method in small letters.
    pub verb: &'a str,
    /// What it is about.
    pub subject: AskedFor<'a>,
}

/// A resource, or another path.
#[derive(Debug, Clone, Copy)]
pub enum AskedFor<'a> {
    /// A resource of the API.
    Resource(&'a k8s_core::request::Target),
    /// A path such as `/version`.
    Path(&'a str),
}

/// What a policy says of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// How much is noted.
    pub level: Level,
    /// When nothing is.
    pub omit_stages: Vec<Stage>,
    /// Whether managed fields are left out of the objects that are noted.
    pub omit_managed_fields: bool,
}

impl Policy {
    /// Reads a policy, YAML or JSON.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        let policy: Self = serde_saphyr::from_str(text).map_err(|why| PolicyError::Malformed(why.to_string()))?;
        if policy.kind != "Policy" || policy.api_version != "audit.k8s.io/v1" {
            return Err(PolicyError::Kind { kind: policy.kind, api_version: policy.api_version });
        }
        if policy.rules.is_empty() {
            return Err(PolicyError::Empty);
        }
        for (index, rule) in policy.rules.iter().enumerate() {
            rule.check().map_err(|(field, why)| PolicyError::Rule { index, field, why })?;
        }
        Ok(policy)
    }

    /// How much of a request is noted.
    pub fn judge(&self, caller: &Caller, asked: &Asked<'_>) -> Verdict {
        let Some(rule) = self.rules.iter().find(|rule| rule.matches(caller, asked)) else {
            return Verdict { level: Level::None, omit_stages: Vec::new(), omit_managed_fields: false };
        };
        Verdict {
            level: rule.level,
            omit_stages: [&self.omit_stages[..], &rule.omit_stages[..]].concat(),
            omit_managed_fields: rule.omit_managed_fields.unwrap_or(self.omit_managed_fields),
        }
    }
}

impl Rule {
    fn check(&self) -> Result<(), (&'static str, String)> {
        if !self.non_resource_urls.is_empty() && (!self.resources.is_empty() || !self.namespaces.is_empty()) {
            return Err((
                "nonResourceURLs",
                "rules cannot apply to both regular resources and non-resource URLs".into(),
            ));
        }
        for url in self.non_resource_urls.iter().filter(|url| *url != "*") {
            if !url.starts_with('/') {
                let why = format!("{url:?}: non-resource URL rules must begin with a '/' character");
                return Err(("nonResourceURLs", why));
            }
            if url.trim_end_matches('*').contains('*') || url.ends_with("**") {
                let why = format!("{url:?}: non-resource URL wildcards '*' must be the final character of the rule");
                return Err(("nonResourceURLs", why));
            }
        }
        let named = |of: &&GroupResources| !of.resource_names.is_empty() && of.resources.is_empty();
        if self.resources.iter().any(|of| named(&of)) {
            return Err(("resources", "using resourceNames requires at least one resource".into()));
        }
        Ok(())
    }

    fn matches(&self, caller: &Caller, asked: &Asked<'_>) -> bool {
        let lists = |list: &[String], text: &str| list.iter().any(|item| item == text);
        if !self.users.is_empty() && !lists(&self.users, &caller.name) {
            return false;
        }
        if !self.user_groups.is_empty() && !caller.groups.iter().any(|group| lists(&self.user_groups, group)) {
            return false;
        }
        if !self.verbs.is_empty() && !lists(&self.verbs, asked.verb) {
            return false;
        }
        let of_resources = !self.namespaces.is_empty() || !self.resources.is_empty();
        match asked.subject {
            AskedFor::Resource(target) if of_resources => {
                (self.namespaces.is_empty() || lists(&self.namespaces, &target.namespace))
                    && (self.resources.is_empty() || self.resources.iter().any(|of| of.matches(target)))
            }
            AskedFor::Resource(_) => self.non_resource_urls.is_empty(),
            AskedFor::Path(_) if of_resources => false,
            AskedFor::Path(path) => {
                self.non_resource_urls.is_empty() || self.non_resource_urls.iter().any(|url| covers(url, path))
            }
        }
    }
}

fn covers(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => path.starts_with(prefix),
        None => pattern == path,
    }
}

impl GroupResources {
    fn matches(&self, target: &k8s_core::request::Target) -> bool {
        let (plural, subresource) = (target.resource.plural.as_str(), target.subresource.as_str());
        let one = |pattern: &String| {
            let found = match pattern.split_once('/') {
                None if pattern == "*" => true,
                None => pattern == plural && subresource.is_empty(),
                Some(("*", of)) => of == subresource,
                Some((of, "*")) => of == plural,
                Some((resource, of)) => resource == plural && of == subresource,
            };
            found && (self.resource_names.is_empty() || self.resource_names.iter().any(|name| *name == *target.name))
        };
        self.group == target.resource.group.as_str() && (self.resources.is_empty() || self.resources.iter().any(one))
    }
}

#[cfg(test)]
mod tests {
    use k8s_core::request::{ResourceType, Target};

    use super::*;

    const POLICY: &str = r#"
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- level: None
  users: ["system:kube-proxy"]
  verbs: ["watch"]
  resources: [{group: "", resources: ["endpoints", "services"]}]
- level: RequestResponse
  omitStages: [ResponseStarted]
  omitManagedFields: true
  resources: [{group: "", resources: ["pods/*"]}, {group: "apps"}]
- level: Request
  namespaces: ["kube-system"]
  resources: [{resources: ["configmaps"], resourceNames: ["leader"]}]
- level: None
  userGroups: ["system:authenticated"]
  nonResourceURLs: ["/api*", "/version"]
- level: Metadata
  verbs: ["get", "create"]
"#;

    fn level(caller: &Caller, verb: &str, subject: AskedFor<'_>) -> Level {
        Policy::parse(POLICY).unwrap().judge(caller, &Asked { verb, subject }).level
    }

    #[test]
    fn the_first_rule_that_means_a_request_decides() {
        let (proxy, user) = (Caller::new("system:kube-proxy", &[]), Caller::new("u", &[]));
        let target = |group: &str, plural: &str, namespace: &str, name: &str| {
            Target::one(ResourceType::new(group, "v1", plural), namespace, name)
        };
        for (caller, verb, target, expected) in [
            (&proxy, "watch", target("", "services", "", ""), Level::None),
            (&user, "watch", target("", "services", "", ""), Level::None),
            (&user, "get", target("", "services", "", ""), Level::Metadata),
            (&user, "create", target("", "pods", "n", "p").subresource("exec"), Level::RequestResponse),
            // As upstream, the objects themselves are meant, too.
            (&user, "create", target("", "pods", "n", "p"), Level::RequestResponse),
            (&user, "create", target("", "secrets", "n", "p"), Level::Metadata),
            (&user, "list", target("apps", "deployments", "n", ""), Level::RequestResponse),
            (&user, "update", target("", "configmaps", "kube-system", "leader"), Level::Request),
            (&user, "update", target("", "configmaps", "kube-system", "other"), Level::None),
            (&user, "update", target("", "configmaps", "default", "leader"), Level::None),
        ] {
            assert_eq!(level(caller, verb, AskedFor::Resource(&target)), expected, "{verb} {target:?}");
        }
        for (path, expected) in [("/version", Level::None), ("/apis/x", Level::None), ("/metrics", Level::Metadata)] {
            assert_eq!(level(&user, "get", AskedFor::Path(path)), expected, "{path}");
        }
        assert_eq!(level(&Caller::anonymous(), "get", AskedFor::Path("/version")), Level::Metadata);
    }

    #[test]
    fn stages_are_left_out_by_policy_and_rule() {
        let target = Target::all(ResourceType::new("apps", "v1", "deployments"), "");
        let asked = Asked { verb: "list", subject: AskedFor::Resource(&target) };
        let verdict = Policy::parse(POLICY).unwrap().judge(&Caller::anonymous(), &asked);
        assert_eq!(verdict.omit_stages, [Stage::RequestReceived, Stage::ResponseStarted]);
        assert!(verdict.omit_managed_fields);
    }

    #[test]
    fn what_is_no_policy_is_told() {
        let of = |rules: &str| Policy::parse(&format!("{{apiVersion: audit.k8s.io/v1, kind: Policy, rules: {rules}}}"));
        for (rules, expected) in [
            ("[]", "at least one"),
            ("[{level: Everything}]", "Everything"),
            ("[{level: None, wishes: []}]", "wishes"),
            ("[{level: None, nonResourceURLs: [x]}]", "rules[0].nonResourceURLs: \"x\""),
            ("[{level: None, nonResourceURLs: [/a*b]}]", "must be the final character"),
            ("[{level: None, nonResourceURLs: [/a], namespaces: [b]}]", "cannot apply to both"),
            ("[{level: None, resources: [{resourceNames: [a]}]}]", "requires at least one resource"),
        ] {
            let error = of(rules).unwrap_err().to_string();
            assert!(error.contains(expected), "{rules}: {error}");
        }
        let other = Policy::parse("{apiVersion: v1, kind: Pod}").unwrap_err().to_string();
        assert!(other.contains("v1, Kind=Pod"), "{other}");
    }
}
