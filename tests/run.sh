#!/usr/bin/env bash
# Every test of the house, one step after the other; each has a time limit and none stops the next.
# Ends with a table of the steps and a line of its own: `N passed, N failed`. Exit code 0 only if nothing failed.
set -u
cd "$(dirname "$0")/.." || exit 1

cargo=${CARGO:-cargo}
target=${CARGO_TARGET_DIR:-target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
export CARGO_TARGET_DIR=$target
export RINGFENCE_BIN_DIR=${RINGFENCE_BIN_DIR:-$target/release}
logs=$(mktemp -d)
trap 'rm -rf "$logs"' EXIT
passed=0 failed=0 skipped=0 table=()

# sum WORD LOG: the sum of all `N WORD` in the result lines that cargo's harness and ours print.
sum() {
    awk -v word="$1" '/^test result:/ { for (i = 2; i <= NF; i++) if ($i == word ";" ) total += $(i - 1) }
        END { print total + 0 }' "$2"
}

# Ignored tests are measurements, run by hand; a skip is a promise that could not be tried here, and says SKIPPED.
# step NAME SECONDS COMMAND...: runs it, shows its output, and adds what it says to the totals. A step that prints no
# result line counts as one test.
step() {
    local name=$1 seconds=$2 code begin p f s
    local log=$logs/$name
    shift 2
    printf '\n== %s: %s\n' "$name" "$*"
    begin=$SECONDS
    timeout --kill-after=20 "$seconds" "$@" 2>&1 | tee "$log"
    code=${PIPESTATUS[0]}
    p=$(sum passed "$log") f=$(sum failed "$log") s=$(grep -c SKIPPED "$log")
    if ! grep -q '^test result:' "$log"; then
        if [ "$code" = 0 ]; then p=1; else f=1; fi
    elif [ "$code" != 0 ] && [ "$f" = 0 ]; then
        f=1
    fi
    [ "$code" = 124 ] && printf '== %s: stopped after %s s\n' "$name" "$seconds"
    passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
    table+=("$(printf '%-12s %6d passed %4d failed %4d skipped %6d s' "$name" "$p" "$f" "$s" $((SECONDS - begin)))")
    return "$code"
}

step build 2400 "$cargo" build --release --locked -p ringfence-dataplane -p ringfence-control -p ringfence
built=$?
step laws 900 "$cargo" test -q --locked -p ringfence-tests --lib --bins --test tidy --test burst
step rooms 3600 "$cargo" test -q --locked --workspace --exclude ringfence-tests --no-fail-fast
# The ring between the processes under every interleaving; loom replaces its atomics, so it is built apart.
step models 900 env RUSTFLAGS="--cfg loom" CARGO_TARGET_DIR="$target/loom" "$cargo" test -q --locked --release -p ringfence-abi --test loom_ring
# Instructions a packet, by callgrind: a figure that no other load disturbs.
step counts 1500 "$cargo" test -q --release --locked -p ringfence-perf --test instructions -- --nocapture
step no-dpdk 900 "$cargo" check -q --locked --no-default-features
if [ "$built" = 0 ]; then
    step truth 1800 "$cargo" test -q --locked -p ringfence-tests --test truth --test simulate --test recorded -- --nocapture
    step lab 1500 "$cargo" test -q --locked -p ringfence-tests --test lab
fi

printf '\n'
printf '%s\n' "${table[@]}"
[ "$skipped" = 0 ] || printf '%d skipped: the reasons stand above, beside the word SKIPPED\n' "$skipped"
[ "$built" = 0 ] || printf 'truth and lab did not run: the binaries were not built\n'
printf '%d passed, %d failed\n' "$passed" "$failed"
[ "$failed" = 0 ]
