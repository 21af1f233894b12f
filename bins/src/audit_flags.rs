//! The flags of `kube-apiserver` that say what is noted of requests and where, as upstream names them.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use clap::Args;
use k8s::{
    apiserver::audit::{LogSettings, Policy},
    control_plane::AuditSettings,
    wire::client::Config,
};

use crate::{go_duration::GoDuration, program::Failure, serving::read_flag};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// The flags.
#[derive(Args)]
pub struct AuditArguments {
    /// How much of which request is noted: a Policy of audit.k8s.io/v1; without one nothing is
    #[arg(long, value_name = "FILE")]
    audit_policy_file: Option<PathBuf>,
    /// Notes requests as lines of JSON in this file; - is standard output
    #[arg(long, value_name = "FILE")]
    audit_log_path: Option<PathBuf>,
    /// How the file is written; JSON
    #[arg(long, default_value = "json", value_name = "FORMAT", value_parser = ["json"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    audit_log_format: String,
    /// How the file is written; behind the requests, from a bounded queue
    #[arg(long, default_value = "batch", value_name = "MODE", value_parser = ["batch"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    audit_log_mode: String,
    /// How many days files that were put aside are kept; 0 for ever
    #[arg(long, default_value_t = 0, value_name = "DAYS")]
    audit_log_maxage: u32,
    /// How many files that were put aside are kept; 0 all
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    audit_log_maxbackup: usize,
    /// How large the file grows before it is put aside, in megabytes; 0 is 100
    #[arg(long, default_value_t = 0, value_name = "MEGABYTES")]
    audit_log_maxsize: u64,
    /// Posts what is noted to the webhook of this kubeconfig
    #[arg(long, value_name = "FILE")]
    audit_webhook_config_file: Option<PathBuf>,
    /// How it is posted; in batches, behind the requests
    #[arg(long, default_value = "batch", value_name = "MODE", value_parser = ["batch"])]
    #[allow(dead_code, reason = "the parser lets nothing else through")]
    audit_webhook_mode: String,
    /// How long to wait before a batch that was not taken is posted again
    #[arg(long, default_value = "10s", value_name = "DURATION")]
    audit_webhook_initial_backoff: GoDuration,
}

impl AuditArguments {
    /// What they come to.
    pub fn settings(self) -> Result<Option<AuditSettings>, Failure> {
        let log = self.audit_log_path.map(|path| LogSettings {
            path,
            max_bytes: if self.audit_log_maxsize == 0 { 100 } else { self.audit_log_maxsize } * 1024 * 1024,
            max_backups: self.audit_log_maxbackup,
            max_age: (self.audit_log_maxage > 0).then(|| DAY * self.audit_log_maxage),
        });
        let GoDuration(backoff) = self.audit_webhook_initial_backoff;
        let webhook =
            self.audit_webhook_config_file.as_deref().map(webhook).transpose()?.map(|config| (config, backoff));
        match (self.audit_policy_file, log.is_some() || webhook.is_some()) {
            (None, false) => Ok(None),
            (None, true) => Err("--audit-policy-file: it must say what is noted; without it nothing would be".into()),
            (Some(_), false) => {
                Err("--audit-policy-file: say where to, by --audit-log-path or --audit-webhook-config-file".into())
            }
            (Some(path), true) => {
                let text = read_flag("--audit-policy-file", &path)?;
                let policy = Policy::parse(&text);
                let policy = policy.map_err(|why| format!("--audit-policy-file {}: {why}", path.display()))?;
                Ok(Some(AuditSettings { policy, log, webhook }))
            }
        }
    }
}

fn webhook(path: &Path) -> Result<Config, Failure> {
    Config::from_kubeconfig(path, None).map_err(|why| format!("--audit-webhook-config-file: {why}").into())
}
