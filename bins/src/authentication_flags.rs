//! The flags of `kube-apiserver` that say how it is told who asks, as upstream names them.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use http::HeaderName;
use k8s::{
    apiserver::auth::{
        Anonymous,
        bearer::TokenAuthenticator,
        configuration::{AuthenticationConfiguration, Provider},
        front_proxy::RequestHeaders,
        oidc::{ALGORITHMS, Claim, Oidc, Settings, Source},
        token::{Lifetimes, MAX_SECONDS, VerificationKey},
    },
    control_plane::{AuthenticationSettings, FrontProxySettings, TOKEN_ISSUER},
    core::env::Env,
    wire::{
        client::Documents,
        pki::{self, Identity},
    },
};

use crate::{go_duration::GoDuration, program::Failure, serving::read_flag};

/// Where systems keep the authorities that everybody trusts.
const SYSTEM_AUTHORITIES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];
/// Upstream takes no shorter `--service-account-max-token-expiration`, in seconds.
const SHORTEST_MAXIMUM: u64 = 3600;

/// The flags.
#[derive(Args)]
pub struct AuthenticationArguments {
    /// Whether somebody who shows nothing may ask what everybody may
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    anonymous_auth: bool,
    /// More authorities whose client certificates are believed, in PEM, beside the cluster's own
    #[arg(long, value_name = "FILE")]
    client_ca_file: Option<PathBuf>,
    /// Who signs service account tokens, as they say. Given again: others whose tokens are good, too
    #[arg(long, value_name = "URL")]
    service_account_issuer: Vec<String>,
    /// For whom tokens that open this server are made; several by comma [default: the issuer]
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    api_audiences: Vec<String>,
    /// Keys that verify service account tokens beside the one that signs them, in PEM; may be given several times
    #[arg(long, value_name = "FILE")]
    service_account_key_file: Vec<PathBuf>,
    /// The longest life of a service account token; 0 is up to 2^32 seconds
    #[arg(long, default_value = "0", value_name = "DURATION")]
    service_account_max_token_expiration: GoDuration,
    /// Whether tokens that pods get for this server live for a year, for programs that never read them again
    #[arg(long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    service_account_extend_token_expiration: bool,
    /// Where clients are told to get the keys of service account tokens [default: a path of this server]
    #[arg(long, value_name = "URL")]
    service_account_jwks_uri: Option<String>,
    /// Whether Secrets of the type bootstrap.kubernetes.io/token in kube-system are tokens
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = clap::ArgAction::Set)]
    enable_bootstrap_token_auth: bool,
    /// Identity providers and where nobody in particular is let in: an AuthenticationConfiguration
    #[arg(long, value_name = "FILE", conflicts_with = "oidc_issuer_url")]
    authentication_config: Option<PathBuf>,
    /// The certificate by which extension API servers know this one, in PEM [default: one of the cluster's front proxy]
    #[arg(long, value_name = "FILE", requires = "proxy_client_key_file")]
    proxy_client_cert_file: Option<PathBuf>,
    /// Its key
    #[arg(long, value_name = "FILE", requires = "proxy_client_cert_file")]
    proxy_client_key_file: Option<PathBuf>,
    #[command(flatten)]
    front_proxy: FrontProxyArguments,
    #[command(flatten)]
    oidc: OidcArguments,
}

/// Servers that say for whom they ask.
#[derive(Args)]
struct FrontProxyArguments {
    /// The authorities of servers that say for whom they ask, in PEM [default: the cluster's own]
    #[arg(long, value_name = "FILE")]
    requestheader_client_ca_file: Option<PathBuf>,
    /// The common names of their certificates; any if there are none
    #[arg(long, value_delimiter = ',', value_name = "NAMES", requires = "requestheader_client_ca_file")]
    requestheader_allowed_names: Vec<String>,
    /// The headers with the user name
    #[arg(long, value_delimiter = ',', value_name = "NAMES", requires = "requestheader_client_ca_file")]
    requestheader_username_headers: Vec<String>,
    /// The headers with the uid
    #[arg(long, value_delimiter = ',', value_name = "NAMES", requires = "requestheader_client_ca_file")]
    requestheader_uid_headers: Vec<String>,
    /// The headers with groups
    #[arg(long, value_delimiter = ',', value_name = "NAMES", requires = "requestheader_client_ca_file")]
    requestheader_group_headers: Vec<String>,
    /// What headers with other information begin with
    #[arg(long, value_delimiter = ',', value_name = "PREFIXES", requires = "requestheader_client_ca_file")]
    requestheader_extra_headers_prefix: Vec<String>,
}

/// One identity provider.
#[derive(Args)]
struct OidcArguments {
    /// The identity provider whose tokens are believed, an https URL
    #[arg(long, value_name = "URL", requires = "oidc_client_id")]
    oidc_issuer_url: Option<String>,
    /// For whom the provider's tokens must be
    #[arg(long, value_name = "ID", requires = "oidc_issuer_url")]
    oidc_client_id: Option<String>,
    /// The authorities that vouch for the provider's server, in PEM [default: the system's]
    #[arg(long, value_name = "FILE", requires = "oidc_issuer_url")]
    oidc_ca_file: Option<PathBuf>,
    /// The claim with the user name
    #[arg(long, default_value = "sub", value_name = "CLAIM")]
    oidc_username_claim: String,
    /// What stands before user names; `-` is nothing [default: the issuer and `#`, unless the claim is email]
    #[arg(long, value_name = "PREFIX", requires = "oidc_issuer_url")]
    oidc_username_prefix: Option<String>,
    /// The claim with the groups
    #[arg(long, value_name = "CLAIM", requires = "oidc_issuer_url")]
    oidc_groups_claim: Option<String>,
    /// What stands before groups
    #[arg(long, default_value = "", value_name = "PREFIX")]
    oidc_groups_prefix: String,
    /// A claim that must be there with this value; may be given several times
    #[arg(long, value_delimiter = ',', value_name = "CLAIM=VALUE", requires = "oidc_issuer_url")]
    oidc_required_claim: Vec<String>,
    /// The algorithms that tokens may be signed with
    #[arg(long, value_delimiter = ',', default_value = "RS256", value_name = "NAMES")]
    oidc_signing_algs: Vec<String>,
}

impl AuthenticationArguments {
    /// What they come to.
    pub fn settings(self, env: &Env) -> Result<AuthenticationSettings, Failure> {
        let client_authorities_pem =
            self.client_ca_file.as_deref().map(|path| authorities("--client-ca-file", path)).transpose()?;
        let mut verification_keys = Vec::new();
        for path in &self.service_account_key_file {
            let text = read_flag("--service-account-key-file", path)?;
            let failed = |why| format!("--service-account-key-file {}: {why}", path.display());
            verification_keys.extend(VerificationKey::from_pem(text.as_bytes()).map_err(failed)?);
        }
        let proxy_client = match (&self.proxy_client_cert_file, &self.proxy_client_key_file) {
            (Some(certificate), Some(key)) => Some(Identity {
                certificate_pem: read_flag("--proxy-client-cert-file", certificate)?,
                key_pem: read_flag("--proxy-client-key-file", key)?,
            }),
            _ => None,
        };
        let mut issuers = self.service_account_issuer.into_iter();
        let mut settings = AuthenticationSettings {
            issuer: issuers.next().unwrap_or_else(|| TOKEN_ISSUER.to_owned()),
            other_issuers: issuers.collect(),
            audiences: self.api_audiences,
            verification_keys,
            lifetimes: Lifetimes {
                max_seconds: maximum(self.service_account_max_token_expiration)?,
                extend: self.service_account_extend_token_expiration,
            },
            jwks_uri: self.service_account_jwks_uri,
            client_authorities_pem,
            front_proxy: self.front_proxy.settings()?,
            proxy_client,
            bootstrap_tokens: self.enable_bootstrap_token_auth,
            anonymous: if self.anonymous_auth { Anonymous::Anywhere } else { Anonymous::Nowhere },
            ..AuthenticationSettings::default()
        };
        let mut providers: Vec<Provider> = self.oidc.provider()?.into_iter().collect();
        if let Some(path) = &self.authentication_config {
            let text = read_flag("--authentication-config", path)?;
            let failed = |why| format!("--authentication-config {}: {why}", path.display());
            let file = AuthenticationConfiguration::read(&text).map_err(failed)?;
            providers.extend(file.providers);
            if let Some(anonymous) = file.anonymous {
                settings.anonymous = anonymous;
            }
        }
        for provider in providers {
            settings.token_sorts.push(sort(provider, env)?);
        }
        Ok(settings)
    }
}

fn maximum(GoDuration(longest): GoDuration) -> Result<Option<u64>, Failure> {
    match longest.as_secs() {
        0 => Ok(None),
        seconds if (SHORTEST_MAXIMUM..=MAX_SECONDS).contains(&seconds) => Ok(Some(seconds)),
        _ => Err("--service-account-max-token-expiration: it must be from 1h to 2^32 seconds".into()),
    }
}

/// The text of a file of authorities.
fn authorities(flag: &str, path: &Path) -> Result<String, Failure> {
    let pem = read_flag(flag, path)?;
    let failed = |why| format!("{flag} {}: {why}", path.display());
    pki::certificates("authorities", pem.as_bytes()).map_err(failed)?;
    Ok(pem)
}

fn sort(provider: Provider, env: &Env) -> Result<Arc<dyn TokenAuthenticator>, Failure> {
    let issuer = provider.settings.issuer.clone();
    let pem = match provider.authorities_pem {
        Some(pem) => pem,
        None => {
            let found = SYSTEM_AUTHORITIES.iter().find_map(|path| std::fs::read_to_string(path).ok());
            found.ok_or_else(|| format!("{issuer}: the system has no authorities; name the provider's own"))?
        }
    };
    let failed = |why: &dyn std::fmt::Display| format!("authorities of {issuer}: {why}");
    let roots = pki::certificates("authorities", pem.as_bytes()).map_err(|why| failed(&why))?;
    let documents = Documents::new(env.clone(), &roots).map_err(|why| failed(&why))?;
    Ok(Arc::new(Oidc::new(env.clone(), provider.settings, Arc::new(documents))))
}

impl FrontProxyArguments {
    fn settings(self) -> Result<Option<FrontProxySettings>, Failure> {
        let Some(path) = &self.requestheader_client_ca_file else { return Ok(None) };
        let names = |flag: &str, names: &[String], usual: Vec<HeaderName>| -> Result<Vec<HeaderName>, Failure> {
            if names.is_empty() {
                return Ok(usual);
            }
            let read =
                |name: &String| name.parse().map_err(|_| format!("--{flag}: {name:?} is no name of a header").into());
            names.iter().map(read).collect()
        };
        let usual = RequestHeaders::standard();
        let extra: Vec<String> =
            self.requestheader_extra_headers_prefix.iter().map(|prefix| prefix.to_ascii_lowercase()).collect();
        let headers = RequestHeaders {
            username: names("requestheader-username-headers", &self.requestheader_username_headers, usual.username)?,
            // As upstream, uids are read only if it is asked for.
            uid: names("requestheader-uid-headers", &self.requestheader_uid_headers, Vec::new())?,
            group: names("requestheader-group-headers", &self.requestheader_group_headers, usual.group)?,
            extra_prefix: if extra.is_empty() { usual.extra_prefix } else { extra },
        };
        Ok(Some(FrontProxySettings {
            authorities_pem: authorities("--requestheader-client-ca-file", path)?,
            allowed_names: self.requestheader_allowed_names,
            headers,
        }))
    }
}

impl OidcArguments {
    fn provider(self) -> Result<Option<Provider>, Failure> {
        let (Some(issuer), Some(client)) = (self.oidc_issuer_url, self.oidc_client_id) else { return Ok(None) };
        if !issuer.starts_with("https://") {
            return Err(format!("--oidc-issuer-url {issuer}: it must be an https URL").into());
        }
        let username_prefix = match self.oidc_username_prefix.as_deref() {
            Some("-") => String::new(),
            Some(prefix) => prefix.to_owned(),
            None if self.oidc_username_claim == "email" => String::new(),
            None => format!("{issuer}#"),
        };
        let mut settings = Settings {
            issuer,
            audiences: vec![client],
            username: Source::Claim(Claim { name: self.oidc_username_claim, prefix: username_prefix }),
            groups: self.oidc_groups_claim.map(|name| Source::Claim(Claim { name, prefix: self.oidc_groups_prefix })),
            ..Settings::default()
        };
        for pair in &self.oidc_required_claim {
            let (claim, value) =
                pair.split_once('=').ok_or_else(|| format!("--oidc-required-claim: {pair:?} is not CLAIM=VALUE"))?;
            settings.required.insert(claim.to_owned(), value.to_owned());
        }
        for name in &self.oidc_signing_algs {
            let known = ALGORITHMS.iter().find(|(known, _)| known == name);
            let (_, algorithm) = known.ok_or_else(|| {
                let all: Vec<&str> = ALGORITHMS.iter().map(|(name, _)| *name).collect();
                format!("--oidc-signing-algs: there is no {name:?}; there are {}", all.join(", "))
            })?;
            settings.algorithms.push(*algorithm);
        }
        let authorities_pem =
            self.oidc_ca_file.as_deref().map(|path| authorities("--oidc-ca-file", path)).transpose()?;
        Ok(Some(Provider { settings, authorities_pem }))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use k8s::wire::env::System;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: AuthenticationArguments,
    }

    fn read(arguments: &[&str]) -> Result<AuthenticationSettings, String> {
        let all = ["program"].iter().chain(arguments);
        let program = Program::try_parse_from(all).map_err(|why| why.to_string())?;
        program.flags.settings(&System::current()).map_err(|why| why.to_string())
    }

    #[tokio::test]
    async fn without_flags_it_is_as_by_default() {
        let settings = read(&[]).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((settings.issuer.as_str(), settings.anonymous), (TOKEN_ISSUER, Anonymous::Anywhere));
        assert!(settings.front_proxy.is_none() && settings.token_sorts.is_empty() && !settings.bootstrap_tokens);
    }

    #[tokio::test]
    async fn flags_say_what_they_say_upstream() {
        let folder = tempfile::tempdir().unwrap();
        let authority = pki::Authority::generate("a", System::current().now()).unwrap();
        let file = folder.path().join("ca.crt");
        std::fs::write(&file, authority.certificate_pem()).unwrap();
        let file = file.display().to_string();
        let settings = read(&[
            "--anonymous-auth=false",
            "--enable-bootstrap-token-auth",
            "--service-account-issuer=https://new",
            "--service-account-issuer=https://old",
            &format!("--service-account-key-file={file}"),
            "--service-account-max-token-expiration=2h",
            "--service-account-extend-token-expiration=false",
            &format!("--requestheader-client-ca-file={file}"),
            "--requestheader-allowed-names=front",
            "--requestheader-username-headers=X-User,X-Remote-User",
            "--oidc-issuer-url=https://idp",
            "--oidc-client-id=k8s",
            &format!("--oidc-ca-file={file}"),
        ]);
        let settings = settings.unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((settings.issuer.as_str(), settings.other_issuers), ("https://new", vec!["https://old".to_owned()]));
        assert_eq!((settings.lifetimes.max_seconds, settings.lifetimes.extend), (Some(7200), false));
        assert_eq!((settings.verification_keys.len(), settings.token_sorts.len()), (1, 1));
        assert_eq!(settings.anonymous, Anonymous::Nowhere);
        let front = settings.front_proxy.unwrap();
        assert_eq!((front.allowed_names, front.headers.username.len()), (vec!["front".to_owned()], 2));
        assert!(front.headers.uid.is_empty() && front.headers.group == RequestHeaders::standard().group);
    }

    #[tokio::test]
    async fn what_is_wrong_is_named() {
        for (flags, said) in [
            (&["--oidc-issuer-url=https://idp"][..], "--oidc-client-id"),
            (&["--oidc-issuer-url=http://idp", "--oidc-client-id=k"], "--oidc-issuer-url http://idp"),
            (&["--oidc-issuer-url=https://i", "--oidc-client-id=k", "--oidc-signing-algs=HS256"], "no \"HS256\""),
            (&["--requestheader-allowed-names=a"], "--requestheader-client-ca-file"),
            (&["--service-account-max-token-expiration=1m"], "from 1h to 2^32"),
            (&["--service-account-key-file=/nothing"], "--service-account-key-file /nothing"),
            (&["--anonymous-auth=maybe"], "--anonymous-auth"),
        ] {
            let error = read(flags).err().unwrap_or_else(|| panic!("{flags:?}"));
            assert!(error.contains(said), "{error}");
        }
    }
}
