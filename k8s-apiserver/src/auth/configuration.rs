//! Upstream's `AuthenticationConfiguration`: identity providers and where nobody in particular is let in.
//!
//! What is not supported (expressions, egress selection) is refused by its field.

use serde::Deserialize;

use super::{
    Anonymous,
    oidc::{Claim, Settings},
};

/// What the file says.
#[derive(Debug, Default, PartialEq)]
pub struct AuthenticationConfiguration {
    /// The identity providers.
    pub providers: Vec<Provider>,
    /// Where nobody in particular is let in; `None` if the file does not say.
    pub anonymous: Option<Anonymous>,
}

/// One identity provider.
#[derive(Debug, PartialEq)]
pub struct Provider {
    /// How its tokens are read.
    pub settings: Settings,
    /// Who vouches for its server, PEM; the system's authorities if it does not say.
    pub authorities_pem: Option<String>,
}

/// What is wrong with the file.
#[derive(Debug, thiserror::Error, PartialEq)]
#[error("{field}: {why}")]
pub struct ConfigurationError {
    /// The path of the field.
    pub field: String,
    /// What is wrong with it.
    pub why: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct File {
    api_version: String,
    kind: String,
    #[serde(default)]
    jwt: Vec<Jwt>,
    #[serde(default)]
    anonymous: Option<AnonymousFile>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Jwt {
    issuer: Issuer,
    #[serde(default)]
    claim_validation_rules: Vec<ClaimRule>,
    #[serde(default)]
    claim_mappings: Mappings,
    #[serde(default)]
    user_validation_rules: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Issuer {
    url: String,
    #[serde(rename = "discoveryURL")]
    discovery_url: Option<String>,
    certificate_authority: Option<String>,
    #[serde(default)]
    audiences: Vec<String>,
    audience_match_policy: Option<String>,
    egress_selector_type: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ClaimRule {
    claim: Option<String>,
    required_value: Option<String>,
    expression: Option<String>,
    #[allow(dead_code, reason = "the message of an expression, which is refused")]
    message: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Mappings {
    username: Mapping,
    groups: Mapping,
    uid: Mapping,
    extra: Vec<serde::de::IgnoredAny>,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Mapping {
    claim: Option<String>,
    prefix: Option<String>,
    expression: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AnonymousFile {
    enabled: bool,
    #[serde(default)]
    conditions: Vec<Condition>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Condition {
    path: String,
}

const KIND: &str = "AuthenticationConfiguration";
const VERSIONS: [&str; 2] = ["apiserver.config.k8s.io/v1", "apiserver.config.k8s.io/v1beta1"];
const NO_EXPRESSIONS: &str = "expressions are not supported; name a claim";

impl AuthenticationConfiguration {
    /// Reads the file (YAML). The error names the field.
    pub fn read(yaml: &str) -> Result<Self, ConfigurationError> {
        let file: File = serde_saphyr::from_str(yaml).map_err(|why| wrong(KIND, why))?;
        if file.kind != KIND || !VERSIONS.contains(&file.api_version.as_str()) {
            let why = format!("{KIND} of {} is expected, not {} of {}", VERSIONS[0], file.kind, file.api_version);
            return Err(wrong("kind", why));
        }
        let mut providers: Vec<Provider> = Vec::new();
        for (index, jwt) in file.jwt.into_iter().enumerate() {
            let field = format!("jwt[{index}]");
            let provider = jwt.provider(&field)?;
            let issuer = &provider.settings.issuer;
            if providers.iter().any(|other| other.settings.issuer == *issuer) {
                return Err(wrong(&format!("{field}.issuer.url"), format!("Duplicate value: {issuer:?}")));
            }
            providers.push(provider);
        }
        let anonymous = file.anonymous.map(AnonymousFile::meaning).transpose()?;
        Ok(Self { providers, anonymous })
    }
}

impl Jwt {
    fn provider(self, field: &str) -> Result<Provider, ConfigurationError> {
        let Self { issuer, claim_validation_rules, claim_mappings, user_validation_rules } = self;
        let (mut settings, authorities_pem) = issuer.settings(&format!("{field}.issuer"))?;
        for (index, rule) in claim_validation_rules.into_iter().enumerate() {
            let field = format!("{field}.claimValidationRules[{index}]");
            if rule.expression.is_some() {
                return Err(wrong(&format!("{field}.expression"), NO_EXPRESSIONS));
            }
            let claim = rule.claim.ok_or_else(|| wrong(&format!("{field}.claim"), "Required value"))?;
            settings.required.insert(claim, rule.required_value.unwrap_or_default());
        }
        if !user_validation_rules.is_empty() {
            return Err(wrong(&format!("{field}.userValidationRules"), NO_EXPRESSIONS));
        }
        let field = format!("{field}.claimMappings");
        if !claim_mappings.extra.is_empty() {
            return Err(wrong(&format!("{field}.extra"), NO_EXPRESSIONS));
        }
        let username = claim_mappings.username.claim(&format!("{field}.username"))?;
        settings.username =
            username.ok_or_else(|| wrong(&format!("{field}.username"), "claim or expression is required"))?;
        settings.groups = claim_mappings.groups.claim(&format!("{field}.groups"))?;
        settings.uid = claim_mappings.uid.bare(&format!("{field}.uid"))?;
        Ok(Provider { settings, authorities_pem })
    }
}

impl Issuer {
    fn settings(self, field: &str) -> Result<(Settings, Option<String>), ConfigurationError> {
        check_url(&format!("{field}.url"), &self.url)?;
        if let Some(url) = &self.discovery_url {
            check_url(&format!("{field}.discoveryURL"), url)?;
            if url.trim_end_matches('/') == self.url.trim_end_matches('/') {
                return Err(wrong(&format!("{field}.discoveryURL"), "discoveryURL must be different from URL"));
            }
        }
        if self.egress_selector_type.is_some() {
            return Err(wrong(&format!("{field}.egressSelectorType"), "providers are reached directly"));
        }
        if self.audiences.is_empty() {
            return Err(wrong(&format!("{field}.audiences"), "Required value"));
        }
        match self.audience_match_policy.as_deref() {
            None | Some("") if self.audiences.len() == 1 => {}
            Some("MatchAny") => {}
            other => {
                let why =
                    format!("{:?}: audienceMatchPolicy must be MatchAny for multiple audiences", other.unwrap_or(""));
                return Err(wrong(&format!("{field}.audienceMatchPolicy"), why));
            }
        }
        let settings = Settings {
            issuer: self.url,
            discovery_url: self.discovery_url,
            audiences: self.audiences,
            // As upstream, with a file any algorithm that is known may sign.
            algorithms: super::oidc::ALGORITHMS.iter().map(|(_, algorithm)| *algorithm).collect(),
            ..Settings::default()
        };
        Ok((settings, self.certificate_authority))
    }
}

impl Mapping {
    /// The claim with its prefix, which must be given, if only as nothing.
    fn claim(self, field: &str) -> Result<Option<Claim>, ConfigurationError> {
        if self.expression.is_some() {
            return Err(wrong(&format!("{field}.expression"), NO_EXPRESSIONS));
        }
        match (self.claim.filter(|claim| !claim.is_empty()), self.prefix) {
            (Some(name), Some(prefix)) => Ok(Some(Claim { name, prefix })),
            (Some(_), None) => Err(wrong(
                &format!("{field}.prefix"),
                "prefix is required when claim is set. It can be set to an empty string to disable prefixing",
            )),
            (None, Some(_)) => {
                Err(wrong(&format!("{field}.claim"), "non-empty claim name is required when prefix is set"))
            }
            (None, None) => Ok(None),
        }
    }

    fn bare(self, field: &str) -> Result<Option<String>, ConfigurationError> {
        if self.expression.is_some() {
            return Err(wrong(&format!("{field}.expression"), NO_EXPRESSIONS));
        }
        if self.prefix.is_some() {
            return Err(wrong(&format!("{field}.prefix"), "uids have no prefix"));
        }
        Ok(self.claim)
    }
}

impl AnonymousFile {
    fn meaning(self) -> Result<Anonymous, ConfigurationError> {
        match (self.enabled, self.conditions.is_empty()) {
            (false, true) => Ok(Anonymous::Nowhere),
            (false, false) => {
                Err(wrong("anonymous.conditions", "enabled should be set to true when conditions are defined"))
            }
            (true, true) => Ok(Anonymous::Anywhere),
            (true, false) => Ok(Anonymous::At(self.conditions.into_iter().map(|condition| condition.path).collect())),
        }
    }
}

fn check_url(field: &str, url: &str) -> Result<(), ConfigurationError> {
    let uri: Result<http::Uri, _> = url.parse();
    let uri = uri.map_err(|why| wrong(field, why))?;
    if uri.scheme_str() != Some("https") || uri.host().is_none_or(str::is_empty) {
        return Err(wrong(field, "URL scheme must be https"));
    }
    if uri.query().is_some() || url.contains(['#', '@']) {
        return Err(wrong(field, "URL must not contain a query, a fragment or a username"));
    }
    Ok(())
}

fn wrong(field: &str, why: impl std::fmt::Display) -> ConfigurationError {
    ConfigurationError { field: field.to_owned(), why: why.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
apiVersion: apiserver.config.k8s.io/v1
kind: AuthenticationConfiguration
jwt:
- issuer:
    url: https://idp.example.com
    discoveryURL: https://inside/.well-known/openid-configuration
    audiences: [a, b]
    audienceMatchPolicy: MatchAny
  claimValidationRules:
  - {claim: hd, requiredValue: example.com}
  claimMappings:
    username: {claim: sub, prefix: "oidc:"}
    groups: {claim: roles, prefix: ""}
    uid: {claim: id}
anonymous:
  enabled: true
  conditions: [{path: /livez}]
"#;

    #[test]
    fn a_file_says_it_all() {
        let read = AuthenticationConfiguration::read(GOOD).unwrap();
        let settings = &read.providers[0].settings;
        assert_eq!(settings.audiences, ["a", "b"]);
        assert_eq!(settings.username, Claim { name: "sub".into(), prefix: "oidc:".into() });
        assert_eq!(settings.groups, Some(Claim { name: "roles".into(), prefix: String::new() }));
        assert_eq!((settings.uid.as_deref(), settings.required["hd"].as_str()), (Some("id"), "example.com"));
        assert_eq!(read.anonymous, Some(Anonymous::At(vec!["/livez".into()])));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, field) in [
            ("https://idp", "http://idp", "jwt[0].issuer.url"),
            ("audienceMatchPolicy: MatchAny", "", "jwt[0].issuer.audienceMatchPolicy"),
            ("audiences: [a, b]", "", "jwt[0].issuer.audiences"),
            ("{claim: id}", "{expression: claims.id}", "jwt[0].claimMappings.uid.expression"),
            (r#", prefix: "oidc:""#, "", "jwt[0].claimMappings.username.prefix"),
            ("{claim: sub, prefix: \"oidc:\"}", "{}", "jwt[0].claimMappings.username"),
            ("{claim: hd, requiredValue: example.com}", "{expression: a}", "jwt[0].claimValidationRules[0].expression"),
            ("enabled: true", "enabled: false", "anonymous.conditions"),
            ("config.k8s.io/v1", "config.k8s.io/v2", "kind"),
            ("anonymous:", "nonymous:", "AuthenticationConfiguration"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = AuthenticationConfiguration::read(&GOOD.replace(from, to)).unwrap_err();
            assert_eq!(error.field, field, "{error}");
        }
    }
}
