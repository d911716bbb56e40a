#!/usr/bin/env bash
# The session of docs/tool.md: a log that is damaged in three ways, looked at, checked, and saved. Prints what it does.
set -euo pipefail
cd "$(dirname "$0")/.."
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cargo build --quiet --locked --release --bin ferrowal --example damaged_log
tool=$PWD/target/release/ferrowal
damaged=$PWD/target/release/examples/damaged_log
cd "$dir"
run() {
    echo "\$ $*"
    "$@" && code=0 || code=$?
    [ "$code" -eq 0 ] || echo "(exit code $code)"
    echo
}
ferrowal() { "$tool" "$@"; }
damaged_log() { "$damaged" "$@"; }
run damaged_log "$dir/log"
run ferrowal inspect -s log
run ferrowal verify log
run ferrowal salvage log saved
run ferrowal verify saved
run ferrowal dump saved -n 2
run ferrowal dump saved --from 1149 --to 1152
