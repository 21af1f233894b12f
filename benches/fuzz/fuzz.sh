#!/usr/bin/env bash
# Fuzzes the parsers and codecs. Needs a C++ compiler (Debian: g++) and takes what the workspace has built in the profile
# of development.
#   fuzz.sh TARGET [OPTION...]   one target until it is stopped or fails; the options are libFuzzer's
#   fuzz.sh replay TARGET FILE   one input again
#   fuzz.sh all [SECONDS]        every target for so long (20 seconds), two at a time
#   fuzz.sh minimize [TARGET]    merges what was found into the kept corpus
# What is found along the way is kept in target/fuzz/found, an input that breaks a property in target/fuzz/broken.
set -euo pipefail
asked_in="$PWD"
here="$(cd "$(dirname "$0")" && pwd)"
cd "$here/../.."
folder="${CARGO_TARGET_DIR:-target}"
program="$folder/debug/fuzz"
work="$folder/fuzz"

# More than 512 MB or a second of processor time is too much for one input; the target itself measures the second, and
# the engine ends what hangs.
limits=(-rss_limit_mb=512 -malloc_limit_mb=512 -timeout=60 -max_len=8192 -print_final_stats=1)

build() {
    RUSTC_WORKSPACE_WRAPPER="$here/rustc.sh" cargo build --quiet --package fuzz --features engine
}

dictionary() {
    case $1 in
        apply | fields | json | patch | protobuf | schema) echo objects ;;
        cel) echo cel ;;
        body) echo yaml ;;
        accept | path | selector | server) echo http ;;
        config | stored) echo config ;;
        quantity) echo quantity ;;
    esac
}

# One target, with options of the engine.
fuzz() {
    local target=$1 words
    shift
    words=$(dictionary "$target")
    mkdir -p "$work/found/$target" "$work/broken"
    FUZZ_TARGET=$target "$program" "${limits[@]}" ${words:+"-dict=$here/dictionaries/$words.dict"} \
        -artifact_prefix="$work/broken/$target-" "$@" "$work/found/$target" "$here/corpus/$target"
}

# One target for some seconds; its report is shown if it fails.
briefly() {
    local target=$1 report="$work/$1.log"
    if fuzz "$target" -max_total_time="$2" >"$report" 2>&1; then
        echo "fuzz $target: $(awk '/number_of_executed_units/ { print $2 }' "$report") inputs"
    else
        echo "fuzz $target: FAILED"
        tail -n 60 "$report"
        return 1
    fi
}

targets() { ls "$here/corpus"; }

case ${1:-} in
    all)
        build
        mkdir -p "$work"
        export -f briefly fuzz dictionary
        export here program work
        export limits_text="${limits[*]}"
        targets | xargs -P 2 -I TARGET bash -euo pipefail -c "read -ra limits <<<\"\$limits_text\"; briefly TARGET ${2:-20}"
        ;;
    replay)
        file=$(cd "$asked_in" && realpath -e -- "$3")
        build
        FUZZ_TARGET=$2 "$program" "${limits[@]}" "$file"
        ;;
    minimize)
        build
        for target in ${2:-$(targets)}; do
            mkdir -p "$work/least/$target" "$work/found/$target"
            rm -f "$work/least/$target"/*
            FUZZ_TARGET=$target "$program" -merge=1 -max_len=2048 "$work/least/$target" "$here/corpus/$target" "$work/found/$target"
            rm -rf "$here/corpus/$target"
            cp -r "$work/least/$target" "$here/corpus/$target"
        done
        ;;
    "" | -*)
        sed -n '2,/^set/s/^# //p' "$0"
        exit 2
        ;;
    *)
        build
        fuzz "$@"
        ;;
esac
