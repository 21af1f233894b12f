//! Upstream's `AuthenticationConfiguration`: identity providers and where nobody in particular is let in.
//!
//! What is not supported (egress selection) is refused by its field. Expressions are compiled when the file is read.

use k8s_core::cel::Type;
use serde::Deserialize;

use super::{
    Anonymous,
    expression::Expression,
    oidc::{Claim, Rule, Settings, Source},
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
    user_validation_rules: Vec<UserRule>,
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
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct UserRule {
    expression: String,
    message: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct ExtraMapping {
    key: String,
    value_expression: String,
}

#[derive(Deserialize, Default)]
#[serde(default, deny_unknown_fields)]
struct Mappings {
    username: Mapping,
    groups: Mapping,
    uid: Mapping,
    extra: Vec<ExtraMapping>,
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
/// The variable of expressions over a token.
const CLAIMS: &str = "claims";
/// The variable of expressions over the caller.
const USER: &str = "user";

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
            rule.add(&mut settings, &format!("{field}.claimValidationRules[{index}]"))?;
        }
        for (index, rule) in user_validation_rules.into_iter().enumerate() {
            let at = format!("{field}.userValidationRules[{index}].expression");
            let expression = compiled(&at, USER, &rule.expression, Some(&Type::Bool))?;
            settings.user_rules.push(Rule { expression, message: rule.message.unwrap_or_default() });
        }
        let field = format!("{field}.claimMappings");
        for (index, extra) in claim_mappings.extra.into_iter().enumerate() {
            let at = format!("{field}.extra[{index}]");
            check_extra_key(&format!("{at}.key"), &extra.key)?;
            if settings.extra.iter().any(|(key, _)| *key == extra.key) {
                return Err(wrong(&format!("{at}.key"), format!("Duplicate value: {:?}", extra.key)));
            }
            let expression = compiled(&format!("{at}.valueExpression"), CLAIMS, &extra.value_expression, None)?;
            settings.extra.push((extra.key, expression));
        }
        let username = claim_mappings.username.source(&format!("{field}.username"), Some(&Type::String))?;
        settings.username =
            username.ok_or_else(|| wrong(&format!("{field}.username"), "claim or expression is required"))?;
        settings.groups = claim_mappings.groups.source(&format!("{field}.groups"), None)?;
        settings.uid = claim_mappings.uid.bare(&format!("{field}.uid"))?;
        check_email(&field, &settings)?;
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

impl ClaimRule {
    fn add(self, settings: &mut Settings, field: &str) -> Result<(), ConfigurationError> {
        match (self.claim.filter(|claim| !claim.is_empty()), self.expression.filter(|text| !text.is_empty())) {
            (Some(claim), None) => {
                if self.message.is_some() {
                    return Err(wrong(&format!("{field}.message"), "may not be specified when claim is set"));
                }
                settings.required.insert(claim, self.required_value.unwrap_or_default());
            }
            (None, Some(source)) => {
                if self.required_value.is_some() {
                    let why = "may not be specified when expression is set";
                    return Err(wrong(&format!("{field}.requiredValue"), why));
                }
                let expression = compiled(&format!("{field}.expression"), CLAIMS, &source, Some(&Type::Bool))?;
                settings.claim_rules.push(Rule { expression, message: self.message.unwrap_or_default() });
            }
            (Some(_), Some(_)) => return Err(wrong(field, "claim and expression can't both be set")),
            (None, None) => return Err(wrong(field, "claim or expression is required")),
        }
        Ok(())
    }
}

impl Mapping {
    /// The claim with its prefix, which must be given, if only as nothing; or the expression.
    fn source(self, field: &str, result: Option<&Type>) -> Result<Option<Source>, ConfigurationError> {
        let claim = self.claim.filter(|claim| !claim.is_empty());
        if let Some(source) = self.expression.filter(|text| !text.is_empty()) {
            if claim.is_some() || self.prefix.is_some() {
                return Err(wrong(field, "expression and claim or prefix can't both be set"));
            }
            let expression = compiled(&format!("{field}.expression"), CLAIMS, &source, result)?;
            return Ok(Some(Source::Expression(expression)));
        }
        match (claim, self.prefix) {
            (Some(name), Some(prefix)) => Ok(Some(Source::Claim(Claim { name, prefix }))),
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

    /// The same for what has no prefix.
    fn bare(self, field: &str) -> Result<Option<Source>, ConfigurationError> {
        if self.prefix.is_some() {
            return Err(wrong(&format!("{field}.prefix"), "uids have no prefix"));
        }
        let prefix = self.claim.as_ref().map(|_| String::new());
        Self { prefix, ..self }.source(field, Some(&Type::String))
    }
}

fn compiled(
    field: &str,
    variable: &'static str,
    source: &str,
    result: Option<&Type>,
) -> Result<Expression, ConfigurationError> {
    Expression::compile(variable, source, result).map_err(|why| wrong(field, why))
}

/// Keys are paths under a domain of one's own, in lower case.
fn check_extra_key(field: &str, key: &str) -> Result<(), ConfigurationError> {
    let Some((domain, path)) = key.split_once('/').filter(|(domain, path)| !domain.is_empty() && !path.is_empty())
    else {
        return Err(wrong(field, format!("{key:?}: must be a domain-prefixed path (such as \"acme.io/foo\")")));
    };
    if key.chars().any(|letter| letter.is_ascii_uppercase()) || path.contains(char::is_whitespace) {
        return Err(wrong(field, format!("{key:?}: must be lowercase")));
    }
    let reserved = ["kubernetes.io", "k8s.io"];
    if reserved.iter().any(|of| domain == *of || domain.strip_suffix(of).is_some_and(|head| head.ends_with('.'))) {
        return Err(wrong(field, format!("{key:?}: k8s.io, kubernetes.io and their subdomains are reserved")));
    }
    Ok(())
}

/// Who takes addresses for names looks whether they are verified.
fn check_email(field: &str, settings: &Settings) -> Result<(), ConfigurationError> {
    let Source::Expression(username) = &settings.username else { return Ok(()) };
    let verified = "claims.email_verified";
    if !username.source().replace(verified, "").contains("claims.email") {
        return Ok(());
    }
    let others = settings.extra.iter().map(|(_, expression)| expression);
    let rules = settings.claim_rules.iter().map(|rule| &rule.expression);
    let mut all = others.chain(rules).chain([username]).map(Expression::source);
    if all.any(|source| source.replace("claims.?", "claims.").contains(verified)) {
        return Ok(());
    }
    let why = "claims.email_verified must be used in claimMappings.username.expression or claimMappings.extra[*].valueExpression \
               or claimValidationRules[*].expression when claims.email is used in claimMappings.username.expression";
    Err(wrong(&format!("{field}.username.expression"), why))
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
pub(super) mod tests {
    use super::*;

    /// A good file with `to` for `from` is refused, and the refusal names the field.
    #[track_caller]
    pub fn is_named<T: std::fmt::Debug>(
        good: &str,
        from: &str,
        to: &str,
        field: &str,
        read: impl Fn(&str) -> Result<T, ConfigurationError>,
    ) {
        assert!(good.contains(from), "{from}");
        let error = read(&good.replacen(from, to, 1)).unwrap_err();
        assert_eq!(error.field, field, "{error}");
    }

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
        let claim = |name: &str, prefix: &str| Source::Claim(Claim { name: name.into(), prefix: prefix.into() });
        assert_eq!((&settings.username, &settings.groups), (&claim("sub", "oidc:"), &Some(claim("roles", ""))));
        assert_eq!((&settings.uid, settings.required["hd"].as_str()), (&Some(claim("id", "")), "example.com"));
        assert_eq!(read.anonymous, Some(Anonymous::At(vec!["/livez".into()])));
    }

    #[test]
    fn expressions_are_compiled() {
        let text = GOOD
            .replace("{claim: sub, prefix: \"oidc:\"}", "{expression: \"claims.email\"}")
            .replace("{claim: hd, requiredValue: example.com}", "{expression: \"claims.email_verified\", message: no}")
            .replace("uid: {claim: id}", "extra: [{key: acme.com/t, valueExpression: claims.t}]");
        let read = AuthenticationConfiguration::read(&text).unwrap();
        let settings = &read.providers[0].settings;
        assert!(matches!(&settings.username, Source::Expression(expression) if expression.source() == "claims.email"));
        assert_eq!((settings.claim_rules[0].message.as_str(), settings.extra[0].0.as_str()), ("no", "acme.com/t"));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (from, to, field) in [
            ("https://idp", "http://idp", "jwt[0].issuer.url"),
            ("audienceMatchPolicy: MatchAny", "", "jwt[0].issuer.audienceMatchPolicy"),
            ("audiences: [a, b]", "", "jwt[0].issuer.audiences"),
            ("{claim: id}", "{expression: claims.id + }", "jwt[0].claimMappings.uid.expression"),
            ("{claim: id}", "{claim: id, expression: claims.id}", "jwt[0].claimMappings.uid"),
            (
                "{claim: sub, prefix: \"oidc:\"}",
                "{expression: claims.email}",
                "jwt[0].claimMappings.username.expression",
            ),
            (
                "uid: {claim: id}",
                "extra: [{key: a.k8s.io/t, valueExpression: claims.t}]",
                "jwt[0].claimMappings.extra[0].key",
            ),
            (r#", prefix: "oidc:""#, "", "jwt[0].claimMappings.username.prefix"),
            ("{claim: sub, prefix: \"oidc:\"}", "{}", "jwt[0].claimMappings.username"),
            (
                "{claim: hd, requiredValue: example.com}",
                "{expression: \"'a'\"}",
                "jwt[0].claimValidationRules[0].expression",
            ),
            ("enabled: true", "enabled: false", "anonymous.conditions"),
            ("config.k8s.io/v1", "config.k8s.io/v2", "kind"),
            ("anonymous:", "nonymous:", "AuthenticationConfiguration"),
        ] {
            is_named(GOOD, from, to, field, AuthenticationConfiguration::read);
        }
    }
}
