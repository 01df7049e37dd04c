#!/usr/bin/env bash
# What must be silent before a change is sent: rustfmt, clippy, shellcheck, cargo-deny. The last two run where they
# are installed.
set -eu
cd "$(dirname "$0")/.."

cargo fmt --all --check
cargo clippy --workspace --all-targets --locked -- -D warnings
if command -v shellcheck >/dev/null; then
    shellcheck --severity=warning hugepage-setup .ci/run tests/*.sh tests/demo/*.sh
else
    echo 'lint: shellcheck is not installed, scripts were not checked'
fi
if command -v cargo-deny >/dev/null; then
    cargo deny --all-features check
else
    echo 'lint: cargo-deny is not installed, advisories were not checked (licences are, by tests/tidy.rs)'
fi
