//! The flags of `kube-apiserver` that say who decides what is allowed, and who else is asked about tokens.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use clap::Args;
use k8s::{
    apiserver::auth::{
        Mode,
        authorization::{self, AuthorizerSettings, MAX_TIMEOUT, WebhookSettings},
        bearer::TokenAuthenticator,
        webhook::{AccessWebhook, Endpoint, FailurePolicy, Reviewer, TokenWebhook},
    },
    core::env::Env,
    wire::client::{Config, HttpWebhookCaller, webhook},
};

use crate::{go_duration::GoDuration, program::Failure, serving::read_flag};

/// The flags.
#[derive(Args)]
pub struct AuthorizationArguments {
    /// Who decides what is allowed, in this order: Node, RBAC, Webhook. Without Node or RBAC these say nothing
    #[arg(long, value_delimiter = ',', default_value = "Node,RBAC", value_name = "MODES")]
    authorization_mode: Vec<String>,
    /// The same in a file: an AuthorizationConfiguration
    #[arg(long, value_name = "FILE", conflicts_with_all = ["authorization_mode", "authorization_webhook_config_file"])]
    authorization_config: Option<PathBuf>,
    /// The kubeconfig that says where the authorization webhook is
    #[arg(long, value_name = "FILE")]
    authorization_webhook_config_file: Option<PathBuf>,
    /// How long the webhook's yes is kept
    #[arg(long, default_value = "5m", value_name = "DURATION")]
    authorization_webhook_cache_authorized_ttl: GoDuration,
    /// How long any other answer of the webhook is kept
    #[arg(long, default_value = "30s", value_name = "DURATION")]
    authorization_webhook_cache_unauthorized_ttl: GoDuration,
    /// The version of the reviews that are posted to the webhook
    #[arg(long, default_value = "v1", value_name = "VERSION", value_parser = ["v1"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    authorization_webhook_version: String,
    /// The kubeconfig that says where another server is that knows tokens
    #[arg(long, value_name = "FILE")]
    authentication_token_webhook_config_file: Option<PathBuf>,
    /// How long that server's answers are kept
    #[arg(long, default_value = "2m", value_name = "DURATION")]
    authentication_token_webhook_cache_ttl: GoDuration,
    /// The version of the reviews that are posted to that server
    #[arg(long, default_value = "v1", value_name = "VERSION", value_parser = ["v1"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    authentication_token_webhook_version: String,
}

impl AuthorizationArguments {
    /// Who is asked whether a caller may.
    pub fn modes(&self, env: &Env) -> Result<Vec<Mode>, Failure> {
        let chosen = match &self.authorization_config {
            Some(path) => {
                let text = read_flag("--authorization-config", path)?;
                let duration = |text: &str| text.parse::<GoDuration>().map(|GoDuration(duration)| duration);
                let failed = |why| format!("--authorization-config {}: {why}", path.display());
                authorization::read(&text, duration).map_err(failed)?
            }
            None => self.named()?,
        };
        chosen.into_iter().map(|settings| mode(settings, env)).collect()
    }

    fn named(&self) -> Result<Vec<AuthorizerSettings>, Failure> {
        let mut found = Vec::new();
        for (index, name) in self.authorization_mode.iter().enumerate() {
            if self.authorization_mode[..index].contains(name) {
                return Err(format!("--authorization-mode: {name} is there twice").into());
            }
            found.push(match (name.as_str(), &self.authorization_webhook_config_file) {
                ("Node", _) => AuthorizerSettings::Node,
                ("RBAC", _) => AuthorizerSettings::Rbac,
                ("Webhook", Some(path)) => AuthorizerSettings::Webhook(self.webhook(path)),
                ("Webhook", None) => {
                    return Err("--authorization-mode: Webhook needs --authorization-webhook-config-file".into());
                }
                (other, _) => {
                    return Err(
                        format!("--authorization-mode: there is no {other:?}; there are Node, RBAC, Webhook").into()
                    );
                }
            });
        }
        if self.authorization_webhook_config_file.is_some() && !self.authorization_mode.iter().any(|m| m == "Webhook") {
            return Err("--authorization-webhook-config-file: --authorization-mode does not name Webhook".into());
        }
        Ok(found)
    }

    fn webhook(&self, path: &Path) -> WebhookSettings {
        WebhookSettings {
            name: "default".into(),
            kubeconfig: path.display().to_string(),
            timeout: MAX_TIMEOUT,
            authorized: self.authorization_webhook_cache_authorized_ttl.0,
            unauthorized: self.authorization_webhook_cache_unauthorized_ttl.0,
            on_failure: FailurePolicy::NoOpinion,
        }
    }

    /// The server that knows tokens, if there is one.
    pub fn token_webhook(&self, env: &Env) -> Result<Option<Arc<dyn TokenAuthenticator>>, Failure> {
        let Some(path) = &self.authentication_token_webhook_config_file else { return Ok(None) };
        let reviewer = reviewer(env, path, MAX_TIMEOUT)?;
        let ttl = self.authentication_token_webhook_cache_ttl.0;
        Ok(Some(Arc::new(TokenWebhook::new(reviewer, ttl))))
    }
}

fn mode(settings: AuthorizerSettings, env: &Env) -> Result<Mode, Failure> {
    Ok(match settings {
        AuthorizerSettings::Node => Mode::Node,
        AuthorizerSettings::Rbac => Mode::Rbac,
        AuthorizerSettings::Webhook(settings) => {
            let reviewer = reviewer(env, Path::new(&settings.kubeconfig), settings.timeout)?;
            let WebhookSettings { authorized, unauthorized, on_failure, .. } = settings;
            Mode::Other(Arc::new(AccessWebhook::new(reviewer, authorized, unauthorized, on_failure)))
        }
    })
}

fn reviewer(env: &Env, path: &Path, limit: Duration) -> Result<Reviewer, Failure> {
    let config = Config::from_kubeconfig(path, None)?;
    // Read once now, so that what is wrong with it is said at the start.
    webhook::endpoint(&config)?;
    let endpoint: Endpoint = Arc::new(move || webhook::endpoint(&config).map_err(|why| why.to_string()));
    Ok(Reviewer { env: env.clone(), caller: Arc::new(HttpWebhookCaller::new(env.clone())), endpoint, limit })
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use k8s::wire::env::System;

    use super::*;

    #[derive(Parser)]
    struct Program {
        #[command(flatten)]
        flags: AuthorizationArguments,
    }

    fn read(arguments: &[&str]) -> Result<String, String> {
        let all = ["program"].iter().chain(arguments);
        let program = Program::try_parse_from(all).map_err(|why| why.to_string())?;
        let modes = program.flags.modes(&System::current()).map_err(|why| why.to_string())?;
        let name = |mode: &Mode| match mode {
            Mode::Node => "Node",
            Mode::Rbac => "RBAC",
            Mode::Other(_) => "Webhook",
        };
        Ok(modes.iter().map(name).collect::<Vec<_>>().join(","))
    }

    #[tokio::test]
    async fn the_order_is_that_of_the_flag_or_the_file() {
        assert_eq!(read(&[]).as_deref(), Ok("Node,RBAC"));
        assert_eq!(read(&["--authorization-mode=RBAC"]).as_deref(), Ok("RBAC"));
        let folder = tempfile::tempdir().unwrap();
        let (hook, file) = (folder.path().join("hook"), folder.path().join("file"));
        let kubeconfig = "{current-context: c, contexts: [{name: c, context: {cluster: k}}], \
            clusters: [{name: k, cluster: {server: 'https://hook/authorize'}}]}";
        std::fs::write(&hook, kubeconfig).unwrap();
        let (hook, file) = (hook.display().to_string(), file.display().to_string());
        let flag = format!("--authorization-webhook-config-file={hook}");
        assert_eq!(read(&["--authorization-mode=Webhook,RBAC", &flag]).as_deref(), Ok("Webhook,RBAC"));
        let webhook = format!(
            "{{timeout: 3s, subjectAccessReviewVersion: v1, matchConditionSubjectAccessReviewVersion: v1, \
             failurePolicy: Deny, connectionInfo: {{type: KubeConfigFile, kubeConfigFile: {hook}}}}}"
        );
        let text = format!(
            "{{apiVersion: apiserver.config.k8s.io/v1, kind: AuthorizationConfiguration, authorizers: [\
             {{type: RBAC, name: r}}, {{type: Webhook, name: w, webhook: {webhook}}}]}}"
        );
        std::fs::write(&file, text).unwrap();
        assert_eq!(read(&[&format!("--authorization-config={file}")]).as_deref(), Ok("RBAC,Webhook"));
        for (flags, said) in [
            (&["--authorization-mode=AlwaysAllow"][..], "no \"AlwaysAllow\""),
            (&["--authorization-mode=RBAC,RBAC"], "twice"),
            (&["--authorization-mode=Webhook"], "--authorization-webhook-config-file"),
            (&[&flag], "does not name Webhook"),
            (&["--authorization-mode=Webhook", "--authorization-webhook-config-file=/nothing"], "/nothing"),
            (&["--authorization-config=/nothing"], "/nothing"),
        ] {
            let error = read(flags).unwrap_err();
            assert!(error.contains(said), "{flags:?}: {error}");
        }
    }
}
