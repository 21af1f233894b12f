//! `fuzz`: libFuzzer over one target, which the variable `FUZZ_TARGET` names. The arguments are libFuzzer's.
#![no_main]
#![allow(unsafe_code)] // The engine's entry points are functions of C.

use std::sync::OnceLock;

use fuzz::Target;

static TARGET: OnceLock<&'static Target> = OnceLock::new();

#[allow(clippy::disallowed_methods)] // The engine owns the arguments.
fn target() -> &'static Target {
    TARGET.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        Target::find(&name).unwrap_or_else(|| panic!("FUZZ_TARGET={name} names no target"))
    })
}

libfuzzer_sys::fuzz_target!(|input: &[u8]| target().check(input));
