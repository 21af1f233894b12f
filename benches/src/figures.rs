//! The project's figures, measured on the release program and printed as a table with their aims.
//!
//! CPU comes first, since it holds still on a noisy machine: it is the server process's own user and system time, read
//! from `/proc` around many operations, with TLS, authentication, RBAC, admission and durability on. Wall times are the
//! median of several runs, with the smallest and largest beside it.
//!
//! `figures` measures everything but the build. `figures size start operations build` measures the groups that are
//! named; `figures --program PATH ...` measures that program instead of building one.
#![allow(clippy::disallowed_methods)] // A benchmark is a program: it reads clocks and the environment.
#![forbid(unsafe_code)]

mod figures {
    pub mod operations;
    pub mod process;
    pub mod report;
    pub mod start;
}

use std::path::PathBuf;

use figures::{operations, process, report::Report, start};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let Asked { groups, program } = Asked::read(std::env::args().skip(1));
    let program = program.unwrap_or_else(process::release_program);
    let wanted = |group: &str| groups.iter().any(|asked| asked == group);
    let mut report = Report::default();
    if wanted("size") {
        start::size(&program, &mut report);
    }
    if wanted("start") {
        start::ready(&program, &mut report).await;
        start::pods(&program, &mut report).await;
    }
    if wanted("operations") {
        operations::measure(&program, &mut report).await;
    }
    if wanted("build") {
        start::clean_build(&mut report);
    }
    report.print();
}

/// The groups that are measured if none is named.
const DEFAULT_GROUPS: [&str; 3] = ["size", "start", "operations"];

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
                "size" | "start" | "operations" | "build" => asked.groups.push(argument),
                other => panic!("{other:?}: the groups are size, start, operations, build"),
            }
        }
        if asked.groups.is_empty() {
            asked.groups = DEFAULT_GROUPS.map(String::from).to_vec();
        }
        asked
    }
}
