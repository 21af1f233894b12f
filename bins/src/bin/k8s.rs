//! Everything in one program: a cluster (`up`), its images (`image`), identities (`kubeconfig`), and the end (`reset`).
#![allow(clippy::disallowed_methods)] // A program reads its arguments.

use std::process::ExitCode;

use bins::{
    image, kubeconfig,
    program::{self, Verbosity},
    reset, up,
};
use clap::{Parser, Subcommand};

/// A Kubernetes cluster in one program.
#[derive(Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Start a cluster and run it until Ctrl-C.
    Up(up::Up),
    /// Manage the images of this machine's node.
    #[command(subcommand)]
    Image(image::Image),
    /// Print a kubeconfig for a user, signed by the cluster's authority.
    Kubeconfig(kubeconfig::Kubeconfig),
    /// End all containers of a stopped cluster and delete its folder.
    Reset(reset::Reset),
}

fn main() -> ExitCode {
    // The container shim is this program too: it must run before there is any thread.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|first| first == up::SHIM) {
        return ExitCode::from(k8s::node::shim::main(arguments) as u8);
    }
    let command = Arguments::parse().command;
    program::run(Verbosity::default(), || async move {
        match command {
            Command::Up(up) => up.run().await,
            Command::Image(image) => image.run().await,
            Command::Kubeconfig(kubeconfig) => kubeconfig.run(),
            Command::Reset(reset) => reset.run().await,
        }
    })
}
