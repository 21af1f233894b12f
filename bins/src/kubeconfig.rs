//! `k8s kubeconfig`: an identity for a user or a component, signed by the cluster's authority.

use std::path::PathBuf;

use clap::Args;
use k8s::{Credentials, wire::env::System};

use crate::{data_dir, program::Failure};

/// For whom.
#[derive(Args)]
pub struct Kubeconfig {
    /// The user name, such as system:node:NAME
    #[arg(long)]
    user: String,
    /// A group of the user, such as system:nodes; at most two
    #[arg(long = "group", value_name = "GROUP")]
    groups: Vec<String>,
    /// Where the API server is
    #[arg(long, default_value = "https://127.0.0.1:6443", value_name = "URL")]
    server: String,
    /// The cluster's folder [default: /var/lib/k8s as root, else $XDG_STATE_HOME/k8s]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Kubeconfig {
    /// Prints it.
    pub fn run(self) -> Result<(), Failure> {
        let env = System::current();
        let pki = data_dir::prepare(self.data_dir)?.join("pki");
        if !pki.join("ca.key").exists() {
            return Err(format!("{}: no cluster's keys are here; start the cluster first", pki.display()).into());
        }
        let credentials = Credentials::load_or_generate(&pki, &env)?;
        let groups: Vec<&str> = self.groups.iter().map(String::as_str).collect();
        print!("{}", credentials.kubeconfig(&self.server, &self.user, &groups)?);
        Ok(())
    }
}
