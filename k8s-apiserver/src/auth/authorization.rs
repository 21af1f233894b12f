//! Upstream's `AuthorizationConfiguration`: who is asked whether a caller may, and in which order.
//!
//! What is not supported (the modes that turn authorization off, and connections without a kubeconfig) is refused by its
//! field.

use std::time::Duration;

use k8s_core::cel::Type;
use serde::Deserialize;

use super::{configuration::ConfigurationError, expression::Expression, webhook::FailurePolicy};

/// One authorizer of the file.
#[derive(Debug, Clone, PartialEq)]
pub enum AuthorizerSettings {
    /// The node authorizer.
    Node,
    /// Roles and their bindings.
    Rbac,
    /// A webhook.
    Webhook(WebhookSettings),
}

/// A webhook that decides.
#[derive(Debug, Clone, PartialEq)]
pub struct WebhookSettings {
    /// Its name, for people.
    pub name: String,
    /// The kubeconfig that says where it is.
    pub kubeconfig: String,
    /// How long one question may take.
    pub timeout: Duration,
    /// How long a yes is kept.
    pub authorized: Duration,
    /// How long anything else is kept.
    pub unauthorized: Duration,
    /// What it means that it cannot be asked.
    pub on_failure: FailurePolicy,
    /// Expressions over `request`: it is asked only if all hold.
    pub conditions: Vec<Expression>,
}

/// How long a yes is kept, if nobody says.
pub const AUTHORIZED_TTL: Duration = Duration::from_secs(5 * 60);
/// How long anything else is kept, if nobody says.
pub const UNAUTHORIZED_TTL: Duration = Duration::from_secs(30);
/// How long one question may take at most.
pub const MAX_TIMEOUT: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    authorizers: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    r#type: String,
    #[serde(default)]
    name: String,
    webhook: Option<Webhook>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Webhook {
    #[serde(rename = "authorizedTTL")]
    authorized_ttl: Option<String>,
    #[serde(rename = "unauthorizedTTL")]
    unauthorized_ttl: Option<String>,
    timeout: Option<String>,
    subject_access_review_version: Option<String>,
    match_condition_subject_access_review_version: Option<String>,
    failure_policy: Option<String>,
    connection_info: Option<Connection>,
    #[serde(default)]
    match_conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    expression: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Connection {
    r#type: String,
    kube_config_file: Option<String>,
}

const KIND: &str = "AuthorizationConfiguration";
const VERSIONS: [&str; 2] = ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1"];

/// Reads the file (YAML); `duration` reads durations as upstream writes them. The error names the field.
pub fn read(
    yaml: &str,
    duration: impl Fn(&str) -> Result<Duration, String>,
) -> Result<Vec<AuthorizerSettings>, ConfigurationError> {
    let file: File = serde_saphyr::from_str(yaml).map_err(|why| wrong(KIND, why))?;
    if file.kind != KIND || !VERSIONS.contains(&file.api_version.as_str()) {
        let why = format!("{KIND} of {} is expected, not {} of {}", VERSIONS[0], file.kind, file.api_version);
        return Err(wrong("kind", why));
    }
    if file.authorizers.is_empty() {
        return Err(wrong("authorizers", "Required value: at least one authorization mode must be defined"));
    }
    let mut seen: Vec<(String, String)> = Vec::new();
    let mut found = Vec::new();
    for (index, entry) in file.authorizers.into_iter().enumerate() {
        let field = format!("authorizers[{index}]");
        let same_type = seen.iter().any(|(of, _)| *of == entry.r#type) && entry.r#type != "Webhook";
        if same_type || seen.iter().any(|(_, name)| *name == entry.name) {
            return Err(wrong(&field, format!("Duplicate value: {:?} {:?}", entry.r#type, entry.name)));
        }
        seen.push((entry.r#type.clone(), entry.name.clone()));
        found.push(entry.settings(&field, &duration)?);
    }
    Ok(found)
}

impl Entry {
    fn settings(
        self,
        field: &str,
        duration: &impl Fn(&str) -> Result<Duration, String>,
    ) -> Result<AuthorizerSettings, ConfigurationError> {
        if self.name.is_empty() {
            return Err(wrong(&format!("{field}.name"), "Required value"));
        }
        match (self.r#type.as_str(), self.webhook) {
            ("Node", None) => Ok(AuthorizerSettings::Node),
            ("RBAC", None) => Ok(AuthorizerSettings::Rbac),
            ("Webhook", Some(webhook)) => {
                let settings = webhook.settings(self.name, &format!("{field}.webhook"), duration)?;
                Ok(AuthorizerSettings::Webhook(settings))
            }
            ("Webhook", None) => Err(wrong(&format!("{field}.webhook"), "Required value")),
            ("Node" | "RBAC", Some(_)) => {
                Err(wrong(&format!("{field}.webhook"), "may only be specified when type=Webhook"))
            }
            (other, _) => {
                Err(wrong(&format!("{field}.type"), format!("{other:?}: supported values: Node, RBAC, Webhook")))
            }
        }
    }
}

impl Webhook {
    fn settings(
        self,
        name: String,
        field: &str,
        duration: &impl Fn(&str) -> Result<Duration, String>,
    ) -> Result<WebhookSettings, ConfigurationError> {
        let at = |name: &str| format!("{field}.{name}");
        let read = |name: &str, text: &Option<String>, usual: Option<Duration>| match (text, usual) {
            (Some(text), _) => duration(text).map_err(|why| wrong(&at(name), why)),
            (None, Some(usual)) => Ok(usual),
            (None, None) => Err(wrong(&at(name), "Required value")),
        };
        let timeout = read("timeout", &self.timeout, None)?;
        if timeout.is_zero() || timeout > MAX_TIMEOUT {
            return Err(wrong(&at("timeout"), "must be > 0s and <= 30s"));
        }
        if self.subject_access_review_version.as_deref() != Some("v1") {
            return Err(wrong(&at("subjectAccessReviewVersion"), "supported values: v1"));
        }
        let mut conditions = Vec::new();
        for (index, condition) in self.match_conditions.iter().enumerate() {
            let field = at(&format!("matchConditions[{index}].expression"));
            let compiled = Expression::compile("request", &condition.expression, Some(&Type::Bool));
            conditions.push(compiled.map_err(|why| wrong(&field, why))?);
        }
        if !conditions.is_empty() && self.match_condition_subject_access_review_version.is_none() {
            return Err(wrong(&at("matchConditionSubjectAccessReviewVersion"), "Required value"));
        }
        if self.match_condition_subject_access_review_version.is_some_and(|version| version != "v1") {
            return Err(wrong(&at("matchConditionSubjectAccessReviewVersion"), "supported values: v1"));
        }
        let on_failure = match self.failure_policy.as_deref() {
            Some("NoOpinion") => FailurePolicy::NoOpinion,
            Some("Deny") => FailurePolicy::Deny,
            _ => return Err(wrong(&at("failurePolicy"), "supported values: Deny, NoOpinion")),
        };
        let kubeconfig = match self.connection_info.map(|info| (info.r#type, info.kube_config_file)) {
            Some((kind, Some(path))) if kind == "KubeConfigFile" && path.starts_with('/') => path,
            Some((kind, _)) if kind == "KubeConfigFile" => {
                return Err(wrong(&at("connectionInfo.kubeConfigFile"), "must be an absolute path"));
            }
            Some(_) => return Err(wrong(&at("connectionInfo.type"), "supported values: KubeConfigFile")),
            None => return Err(wrong(&at("connectionInfo"), "Required value")),
        };
        let authorized = read("authorizedTTL", &self.authorized_ttl, Some(AUTHORIZED_TTL))?;
        let unauthorized = read("unauthorizedTTL", &self.unauthorized_ttl, Some(UNAUTHORIZED_TTL))?;
        Ok(WebhookSettings { name, kubeconfig, timeout, authorized, unauthorized, on_failure, conditions })
    }
}

fn wrong(field: &str, why: impl std::fmt::Display) -> ConfigurationError {
    ConfigurationError { field: field.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::configuration::tests::is_named;

    const GOOD: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthorizationConfiguration
authorizers:
- {type: Node, name: node}
- type: Webhook
  name: hook
  webhook:
    timeout: 3s
    authorizedTTL: 1s
    subjectAccessReviewVersion: v1
    matchConditionSubjectAccessReviewVersion: v1
    failurePolicy: Deny
    connectionInfo: {type: KubeConfigFile, kubeConfigFile: /etc/hook}
- {type: RBAC, name: rbac}
"#;

    fn seconds(text: &str) -> Result<Duration, String> {
        let number = text.strip_suffix('s').and_then(|number| number.parse().ok());
        number.map(Duration::from_secs).ok_or_else(|| format!("{text}: no duration"))
    }

    #[test]
    fn the_order_is_that_of_the_file() {
        let read = read(GOOD, seconds).unwrap();
        let [AuthorizerSettings::Node, AuthorizerSettings::Webhook(hook), AuthorizerSettings::Rbac] = read.as_slice()
        else {
            panic!("{read:?}")
        };
        assert_eq!((hook.timeout, hook.on_failure), (Duration::from_secs(3), FailurePolicy::Deny));
        assert_eq!((hook.authorized, hook.unauthorized), (Duration::from_secs(1), UNAUTHORIZED_TTL));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, field) in [
            ("type: RBAC", "type: AlwaysAllow", "authorizers[2].type"),
            ("type: RBAC", "type: Node", "authorizers[2]"),
            ("name: rbac", "name: hook", "authorizers[2]"),
            ("timeout: 3s", "timeout: 31s", "authorizers[1].webhook.timeout"),
            ("timeout: 3s", "timeout: soon", "authorizers[1].webhook.timeout"),
            ("failurePolicy: Deny", "failurePolicy: Allow", "authorizers[1].webhook.failurePolicy"),
            (
                "kubeConfigFile: /etc/hook",
                "kubeConfigFile: hook",
                "authorizers[1].webhook.connectionInfo.kubeConfigFile",
            ),
            (
                "failurePolicy: Deny",
                "failurePolicy: Deny\n    matchConditions: [{expression: x}]",
                "authorizers[1].webhook.matchConditions[0].expression",
            ),
            (
                "subjectAccessReviewVersion: v1\n",
                "subjectAccessReviewVersion: v1beta1\n",
                "authorizers[1].webhook.subjectAccessReviewVersion",
            ),
        ] {
            is_named(GOOD, from, to, field, |text| read(text, seconds));
        }
    }
}
