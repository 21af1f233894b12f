//! Where an API server keeps its objects: in its own folder, or in an etcd.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use clap::Args;
use k8s::{
    core::env::Env,
    store::{Embedded, EmbeddedOptions, Store, StoreError},
};

use crate::program::Failure;

/// The flags that choose an etcd, as upstream names them.
#[derive(Args)]
pub struct EtcdArguments {
    /// The members of an etcd to store in, with commas between [default: the embedded store]. Whoever else serves from
    /// that etcd has the same keys, so they are given as files
    #[arg(long, value_name = "URLS", value_delimiter = ',')]
    #[arg(requires_all = ["encryption", "service_account_signing_key_file", "ca_cert_file", "ca_key_file"])]
    etcd_servers: Vec<String>,
    /// Who signed the certificates of the etcd's members, in PEM
    #[arg(long, value_name = "FILE", requires = "etcd_servers")]
    etcd_cafile: Option<PathBuf>,
    /// The certificate to show to the etcd, in PEM
    #[arg(long, value_name = "FILE", requires_all = ["etcd_keyfile", "etcd_cafile"])]
    etcd_certfile: Option<PathBuf>,
    /// The key of that certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "etcd_certfile")]
    etcd_keyfile: Option<PathBuf>,
    /// What the names of all keys begin with; it ends with /registry
    #[arg(long, value_name = "PREFIX", default_value = "/registry")]
    etcd_prefix: String,
}

/// An open store.
pub struct Storage {
    /// What the control plane is given.
    pub store: Arc<dyn Store>,
    /// Closed by hand, so that the next process finds it closed.
    embedded: Option<Arc<Embedded>>,
}

impl Storage {
    /// Opens what the flags say; the embedded store lies in `folder`.
    pub async fn open(arguments: EtcdArguments, folder: &Path, env: &Env) -> Result<Self, Failure> {
        if !arguments.etcd_servers.is_empty() {
            return Ok(Self { store: etcd(arguments, env).await?, embedded: None });
        }
        match Embedded::open(&folder.join("store"), env.clone(), EmbeddedOptions::default()) {
            Err(StoreError::Locked { .. }) => {
                Err(format!("--data-dir {}: in use by another process", folder.display()).into())
            }
            opened => {
                let embedded = opened?;
                Ok(Self { store: embedded.clone(), embedded: Some(embedded) })
            }
        }
    }

    /// Closes what is this process's own.
    pub fn close(&self) {
        if let Some(embedded) = &self.embedded {
            embedded.close();
        }
    }
}

#[cfg(not(feature = "etcd"))]
async fn etcd(_: EtcdArguments, _: &Env) -> Result<Arc<dyn Store>, Failure> {
    Err("--etcd-servers: this program was built without etcd; build it with `--features etcd` (takes protoc)".into())
}

#[cfg(feature = "etcd")]
async fn etcd(arguments: EtcdArguments, env: &Env) -> Result<Arc<dyn Store>, Failure> {
    use k8s::store::{Etcd, EtcdOptions, EtcdTls};

    let read = |flag: &str, path: &Path| {
        std::fs::read(path).map_err(|error| Failure::from(format!("{flag} {}: {error}", path.display())))
    };
    let Some(prefix) = arguments.etcd_prefix.trim_end_matches('/').strip_suffix("/registry") else {
        return Err(format!("--etcd-prefix {}: must end with /registry", arguments.etcd_prefix).into());
    };
    let identity = match (&arguments.etcd_certfile, &arguments.etcd_keyfile) {
        (Some(certificate), Some(key)) => Some((read("--etcd-certfile", certificate)?, read("--etcd-keyfile", key)?)),
        _ => None,
    };
    let tls = match &arguments.etcd_cafile {
        Some(ca) => Some(EtcdTls { ca: read("--etcd-cafile", ca)?, identity }),
        None => None,
    };
    let options = EtcdOptions { prefix: prefix.into(), tls, ..EtcdOptions::new(arguments.etcd_servers) };
    let store = Etcd::connect(options, env.clone()).await.map_err(|error| format!("--etcd-servers: {error}"))?;
    Ok(Arc::new(store))
}
