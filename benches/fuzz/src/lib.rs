//! Fuzz targets: one function per parser and codec, each of which takes any bytes and panics where a property is broken.
//!
//! The engine (`main.rs`) makes up bytes and sees which code they reach; a test runs the kept inputs. `docs/fuzzing.md`
//! says how to run both. A target must give the same outcome for the same bytes: no clock, no randomness, nothing that
//! stays from one input to the next.
#![forbid(unsafe_code)]

mod accept;
mod apply;
mod body;
mod cel;
mod config;
mod fields;
mod json;
mod log;
mod pages;
mod patch;
mod path;
mod protobuf;
mod quantity;
mod quiet;
mod samples;
mod schema;
mod selector;
mod server;
mod spdy;

mod stored;
mod stream;
mod token;
mod websocket;

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// The most processor time that one input may take.
pub const MAX_TIME: Duration = Duration::from_secs(1);

/// A parser or codec, and what must hold of it.
pub struct Target {
    /// Its name, which is also that of the folder with its kept inputs.
    pub name: &'static str,
    run: fn(&[u8]),
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "accept", run: accept::run },
    Target { name: "apply", run: apply::run },
    Target { name: "body", run: body::run },
    Target { name: "cel", run: cel::run },
    Target { name: "config", run: config::run },
    Target { name: "fields", run: fields::run },
    Target { name: "json", run: json::run },
    Target { name: "log", run: log::run },
    Target { name: "pages", run: pages::run },
    Target { name: "patch", run: patch::run },
    Target { name: "path", run: path::run },
    Target { name: "protobuf", run: protobuf::run },
    Target { name: "quantity", run: quantity::run },
    Target { name: "schema", run: schema::run },
    Target { name: "selector", run: selector::run },
    Target { name: "server", run: server::run },
    Target { name: "spdy", run: spdy::run },
    Target { name: "stored", run: stored::run },
    Target { name: "token", run: token::run },
    Target { name: "websocket", run: websocket::run },
];

impl Target {
    /// The target of a name.
    pub fn find(name: &str) -> Option<&'static Self> {
        TARGETS.iter().find(|target| target.name == name)
    }

    /// Checks one input. Panics where a property does not hold, or where it takes more than [`MAX_TIME`].
    pub fn check(&self, input: &[u8]) {
        let began = processor_time();
        (self.run)(input);
        let took = processor_time().saturating_sub(began);
        assert!(took <= MAX_TIME, "{} bytes took {took:?} of processor time", input.len());
    }
}

/// What this thread has worked so far: other programs on the machine do not count.
fn processor_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    // Invariant: a running thread has worked for a positive time.
    Duration::new(time.tv_sec.try_into().unwrap_or(0), time.tv_nsec.try_into().unwrap_or(0))
}

/// The parts of an input between lines of three dashes.
fn parts(input: &[u8]) -> Vec<&[u8]> {
    const LINE: &[u8] = b"\n---\n";
    let (mut parts, mut rest) = (Vec::new(), input);
    while let Some(at) = rest.windows(LINE.len()).position(|window| window == LINE) {
        parts.push(&rest[..at]);
        rest = &rest[at + LINE.len()..];
    }
    parts.push(rest);
    parts
}
