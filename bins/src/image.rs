//! `k8s image`: the images of this machine's node. Works while the cluster runs and while it does not.

use std::{io::IsTerminal, path::PathBuf, sync::Arc};

use clap::{Args, Subcommand};
use k8s::{
    node::{
        image::{
            ImageSource, ImageStore, Progress,
            registry::{Registries, RegistrySettings},
        },
        runtime::{ImageInfo, ImagePull},
    },
    wire::env::System,
};

use crate::{data_dir, program::Failure};

/// The subcommands.
#[derive(Subcommand)]
pub enum Image {
    /// Import a docker archive or an OCI layout (a tar file, gzipped or not, or a folder)
    Import(Import),
    /// Pull an image that needs no password from its registry
    Pull(Pull),
    /// List the images
    List(List),
}

/// What to import.
#[derive(Args)]
pub struct Import {
    /// The archive or folder
    file: PathBuf,
    /// The name to give the image, if the archive names none or another
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// The cluster's folder [default: /var/lib/k8s as root, else $XDG_STATE_HOME/k8s]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// What to pull.
#[derive(Args)]
pub struct Pull {
    /// The image's name
    name: String,
    /// A registry that is asked over plain HTTP; may be given several times. Those on this machine always are
    #[arg(long, value_name = "HOST[:PORT]")]
    insecure_registry: Vec<String>,
    /// The cluster's folder [default: /var/lib/k8s as root, else $XDG_STATE_HOME/k8s]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

/// Whose images to list.
#[derive(Args)]
pub struct List {
    /// The cluster's folder [default: /var/lib/k8s as root, else $XDG_STATE_HOME/k8s]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

impl Image {
    /// Runs it.
    pub async fn run(self) -> Result<(), Failure> {
        match self {
            Self::Import(import) => tokio::task::spawn_blocking(move || import.run()).await?,
            Self::Pull(pull) => pull.run().await,
            Self::List(list) => tokio::task::spawn_blocking(move || list.run()).await?,
        }
    }
}

fn store(data_dir: Option<PathBuf>) -> Result<ImageStore, Failure> {
    Ok(ImageStore::open(data_dir::prepare(data_dir)?.join("node/images"))?)
}

impl Import {
    fn run(self) -> Result<(), Failure> {
        let store = store(self.data_dir)?;
        let is_shown = std::io::stderr().is_terminal();
        let mut shown = 0;
        let images = store.import(&self.file, self.name.as_deref(), now()?, &mut |progress| {
            let percent = progress.done_bytes * 100 / progress.total_bytes.max(1);
            if is_shown && percent != shown {
                eprint!("\rimporting {percent} %");
                shown = percent;
            }
        })?;
        if shown > 0 {
            eprintln!();
        }
        images.iter().for_each(|image| println!("imported {}", names(image)));
        Ok(())
    }
}

impl Pull {
    async fn run(self) -> Result<(), Failure> {
        let data_dir = self.data_dir;
        let store = tokio::task::spawn_blocking(move || store(data_dir)).await??;
        let is_shown = std::io::stderr().is_terminal();
        let show = move |Progress { layer, done_bytes, total_bytes }: Progress| {
            if is_shown {
                let short = layer.trim_start_matches("sha256:").get(..12).unwrap_or(&layer);
                eprintln!("layer {short}: {:.1} of {:.1} MB", done_bytes as f64 / 1e6, total_bytes as f64 / 1e6);
            }
        };
        let settings = RegistrySettings {
            insecure: self.insecure_registry,
            progress: Some(Arc::new(show)),
            ..RegistrySettings::default()
        };
        let registries = Registries::new(System::current(), settings);
        let pull = ImagePull { reference: self.name, ..ImagePull::default() };
        let image = registries.fetch(&store, &pull).await?;
        println!("pulled {}", names(&image));
        Ok(())
    }
}

fn names(image: &ImageInfo) -> String {
    if image.names.is_empty() { image.id.clone() } else { image.names.join(", ") }
}

impl List {
    fn run(self) -> Result<(), Failure> {
        for image in store(self.data_dir)?.list()? {
            let names = if image.names.is_empty() { "<none>".to_owned() } else { image.names.join(", ") };
            println!("{names}  {}  {:.1} MB", image.id, image.size_bytes as f64 / 1e6);
        }
        Ok(())
    }
}

fn now() -> Result<k8s::core::env::Timestamp, Failure> {
    Ok(System::on(tokio::runtime::Handle::current()).now())
}
