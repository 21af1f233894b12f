//! One program's life: its flags, a runtime, a log, a stop signal, one clear line when something is wrong.

use std::{error::Error, future::Future, process::ExitCode};

use clap::{
    Args, Parser,
    error::{ContextKind, ContextValue, ErrorKind},
};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// Why a program ends without having done its work: one line for people.
pub type Failure = Box<dyn Error + Send + Sync>;

/// A flag of upstream's that a program does not have, and what holds instead.
pub type Refused = (&'static str, &'static str);

/// How much is logged, as upstream's programs are told.
#[derive(Args, Clone, Copy, Default)]
pub struct Verbosity {
    /// How much to log: 0 warnings, 1 to 3 what happens, 4 and 5 why, more everything; the variable RUST_LOG counts more
    #[arg(short = 'v', long = "v", value_name = "LEVEL")]
    level: Option<u8>,
}

/// Reads the program's arguments. Help, an unknown flag or a bad value end it: 0 for help, 2 for the others. A flag that
/// upstream's program has and this one has not is told apart from one that nobody has.
pub fn parse<A: Parser>(refused: &[Refused]) -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        if let Some((flag, instead)) = known(&error, refused) {
            eprintln!("error: --{flag} is not supported: {instead}");
            return ExitCode::from(2);
        }
        // Nothing is to be done about a closed standard error.
        let _ = error.print();
        ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2))
    })
}

fn known<'a>(error: &clap::Error, refused: &'a [Refused]) -> Option<&'a Refused> {
    if error.kind() != ErrorKind::UnknownArgument {
        return None;
    }
    let Some(ContextValue::String(argument)) = error.get(ContextKind::InvalidArg) else { return None };
    let name = argument.trim_start_matches('-').split('=').next()?;
    refused.iter().find(|(flag, _)| *flag == name)
}

/// Runs a program to its end. An error is printed as one line (with its causes) and makes the exit code 1.
pub fn run<F: Future<Output = Result<(), Failure>>>(verbosity: Verbosity, main: impl FnOnce() -> F) -> ExitCode {
    start_log(verbosity);
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
fn start_log(verbosity: Verbosity) {
    let level = match verbosity.level.unwrap_or(0) {
        0 => "warn",
        1..=3 => "info",
        4..=5 => "debug,h2=info,hyper=info,hyper_util=info,reqwest=info,rustls=info",
        _ => "trace",
    };
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
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
