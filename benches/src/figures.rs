//! The project's figures, measured on the release program and printed as a table with their aims.
//!
//! CPU comes first, since it holds still on a noisy machine: it is the server process's own user and system time, read
//! from `/proc` around many operations, with TLS, authentication, RBAC, admission and durability on. Wall times are the
//! median of several runs, with the smallest and largest beside it.
//!
//! `figures` measures everything but the build; `figures --build` also times a clean release build.
#![allow(clippy::disallowed_methods)] // A benchmark is a program: it reads clocks and the environment.
#![forbid(unsafe_code)]

mod figures {
    pub mod operations;
    pub mod process;
    pub mod report;
    pub mod start;
}

use figures::{operations, process, report::Report, start};

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() {
    let with_build = std::env::args().any(|argument| argument == "--build");
    let program = process::release_program();
    let mut report = Report::default();
    start::size(&program, &mut report);
    start::ready(&program, &mut report).await;
    start::pods(&program, &mut report).await;
    operations::measure(&program, &mut report).await;
    if with_build {
        start::clean_build(&mut report);
    }
    report.print();
}
