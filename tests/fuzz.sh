#!/usr/bin/env bash
# Runs every fuzz target for a number of seconds. A crash is an error; its input is under fuzz/artifacts/.
set -u
cd "$(dirname "$0")/../fuzz" || exit 1
seconds=${1:-60}

if ! cargo fuzz --version >/dev/null 2>&1; then
    echo 'fuzz: cargo-fuzz is missing: cargo install cargo-fuzz, and rustup toolchain install nightly'
    exit 1
fi
failed=0
for target in $(cargo fuzz list); do
    echo "fuzz: $target for $seconds s"
    cargo +nightly fuzz run "$target" -- -max_total_time="$seconds" -rss_limit_mb=2048 || failed=1
done
exit "$failed"
