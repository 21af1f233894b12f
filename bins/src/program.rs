//! One program's life: a runtime, a log, a stop signal, one clear line when something is wrong.

use std::{error::Error, future::Future, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Why a program ends without having done its work: one line for people.
pub type Failure = Box<dyn Error + Send + Sync>;

/// Runs a program to its end. An error is printed as one line (with its causes) and makes the exit code 1.
pub fn run<F: Future<Output = Result<(), Failure>>>(main: impl FnOnce() -> F) -> ExitCode {
    start_log();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let outcome = match runtime {
        Ok(runtime) => runtime.block_on(main()),
        Err(error) => Err(error.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", with_causes(&*error));
            ExitCode::FAILURE
        }
    }
}

fn with_causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(&format!(": {error}"));
        cause = error.source();
    }
    text.replace('\n', " ")
}

/// Warnings and errors by default; `RUST_LOG` says otherwise.
fn start_log() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
}

/// Lets the process open as many files as it may allow itself. The default is meant for programs with few connections.
pub fn raise_open_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    // Without it there is room for fewer connections, and that is all.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
}

/// Resolves at Ctrl-C or SIGTERM.
pub async fn stop_signal() -> Result<(), Failure> {
    let (mut interrupt, mut terminate) = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    tokio::select! {
        biased;
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    Ok(())
}
