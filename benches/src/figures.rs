//! The project's figures, measured on the release program and printed as a table with their aims.
//!
//! CPU comes first, since it holds still on a noisy machine: user and system time of the process that does the work,
//! read around many operations; for the server with TLS, authentication, RBAC, admission and durability on. Every
//! figure is the median of several rounds, with the smallest and largest beside it; what is compared takes turns round
//! by round. An aim that is missed is no failure, a measurement that fails is.
//!
//! `figures` measures what takes four minutes at most; `figures store server build ...` measures the groups that are
//! named, and `figures --program PATH ...` that program instead of building one. `docs/figures.md` explains them.
#![allow(clippy::disallowed_methods)] // A benchmark is a program: it reads clocks and the environment.
#![forbid(unsafe_code)]

mod figures {
    pub mod etcd;
    pub mod lists;
    pub mod operations;
    pub mod pods;
    pub mod process;
    pub mod report;
    pub mod start;
    pub mod store;
    pub mod usage;
    pub mod watchers;
}

use std::path::{Path, PathBuf};

use figures::{lists, operations, process, report::Report, start, store, watchers};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let [flag, entries] = &arguments[..]
        && flag == store::memory::HOLD
    {
        return store::memory::hold(entries.parse().expect("a number of entries")).await;
    }
    let Asked { groups, program } = Asked::read(arguments.into_iter());
    let program = match program {
        Some(program) => program,
        None if groups.iter().all(|group| ALONE.contains(&&**group)) => PathBuf::new(),
        None => process::release_program("k8s"),
    };
    let mut report = Report::default();
    for group in &groups {
        measure(group, &program, &mut report).await;
    }
    report.note(load());
    report.print();
}

/// How busy the machine was: with more to run than it has cores, wall times show the waiting for a core.
fn load() -> String {
    let averages = std::fs::read_to_string("/proc/loadavg").expect("the load of the machine");
    let last_minute = averages.split(' ').next().unwrap_or_default();
    let cores = std::thread::available_parallelism().expect("the number of cores");
    format!("In the last minute {last_minute} threads wanted to run on {cores} cores.")
}

async fn measure(group: &str, program: &Path, report: &mut Report) {
    match group {
        "size" => start::size(program, report),
        "start" => {
            start::ready(program, report).await;
            start::pods(program, report).await;
        }
        "operations" => operations::measure(program, report).await,
        "apiserver" => operations::measure_alone(&process::release_program("kube-apiserver"), report).await,
        "server" => {
            lists::measure(program, report).await;
            watchers::measure(program, report).await;
        }
        "store" => store::measure(report).await,
        "replay" => store::replay(report).await,
        "build" => start::clean_build(report),
        other => unreachable!("{other} is not among the groups"),
    }
}

/// What can be measured. The first [`DEFAULT_GROUPS`] are measured if none is named.
const GROUPS: [&str; 8] = ["size", "start", "operations", "apiserver", "server", "store", "replay", "build"];
const DEFAULT_GROUPS: usize = 6;
/// The groups that do not measure `k8s`.
const ALONE: [&str; 4] = ["apiserver", "store", "replay", "build"];

/// What the command line asks for.
struct Asked {
    groups: Vec<String>,
    program: Option<PathBuf>,
}

impl Asked {
    fn read(mut arguments: impl Iterator<Item = String>) -> Self {
        let mut asked = Self { groups: Vec::new(), program: None };
        while let Some(argument) = arguments.next() {
            match argument.as_str() {
                "--program" => asked.program = Some(arguments.next().expect("--program PATH").into()),
                group if GROUPS.contains(&group) => asked.groups.push(argument),
                other => panic!("{other:?}: the groups are {}", GROUPS.join(", ")),
            }
        }
        if asked.groups.is_empty() {
            asked.groups = GROUPS[..DEFAULT_GROUPS].iter().map(ToString::to_string).collect();
        }
        asked
    }
}
