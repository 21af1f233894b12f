#!/bin/sh
# Cargo's wrapper for the crates of this workspace: the compiler, told to count what runs.
for argument in "$@"; do
    case $argument in build_script_build) exec "$@" ;; esac
done
exec "$@" -C opt-level=1 -C codegen-units=16 -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares
