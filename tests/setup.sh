#!/usr/bin/env bash
# Installs what a build, the tests and the demo need on Debian 12 or Ubuntu, and nothing else.
# Asks no questions. Says what it installs. Does nothing where all is there.
set -u

# What is looked for, and the package that brings it. The first part is needed to build, the second for lab and demo.
needed=(
    'pkg-config:pkg-config' 'cc:build-essential' 'make:build-essential' 'clang:clang'
    'python3:python3' 'ip:iproute2' 'ethtool:ethtool' 'tshark:tshark' 'nfcapd:nfdump' 'softflowd:softflowd'
    'tcpreplay:tcpreplay' 'nmap:nmap' 'curl:curl' 'iperf3:iperf3' 'strace:strace' 'nc:netcat-openbsd'
    'dpdk-testpmd:dpdk' 'valgrind:valgrind' 'dnsmasq:dnsmasq-base' 'ping:iputils-ping'
    'script:bsdutils'
)
optional=('dpdk-test:dpdk-dev' 'shellcheck:shellcheck' 'clickhouse-server:clickhouse-server')

say() { printf 'setup: %s\n' "$*"; }

there() { PATH="$PATH:/usr/sbin:/sbin" command -v "$1" >/dev/null 2>&1; }

# dpdk_there: libdpdk 22.11 or newer, as build.rs asks for it.
dpdk_there() { there pkg-config && pkg-config --atleast-version=22.11 libdpdk 2>/dev/null; }

libclang_there() {
    [ -n "${LIBCLANG_PATH:-}" ] || compgen -G '/usr/lib/llvm-*/lib/libclang*.so*' >/dev/null ||
        compgen -G '/usr/lib/*/libclang*.so*' >/dev/null
}

packages_missing() {
    local pair
    for pair in "${needed[@]}"; do
        there "${pair%%:*}" || printf '%s\n' "${pair#*:}"
    done
    dpdk_there || printf 'libdpdk-dev\n'
    libclang_there || printf 'libclang-dev\n'
}

optional_missing() {
    local pair
    for pair in "${optional[@]}"; do
        there "${pair%%:*}" || printf '%s\n' "${pair#*:}"
    done
}

as_root() {
    if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi
}

install() {
    export DEBIAN_FRONTEND=noninteractive
    as_root apt-get update -q >/dev/null || return 1
    # The library and its headers stand before everything: tshark must not ask who may capture.
    as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "$@" >/dev/null
}

cannot() {
    say "$1"
    say "install by hand, then run make again:  apt-get install -y --no-install-recommends ${missing[*]}"
    exit 1
}

if ! there cargo; then
    say 'cargo is missing: install Rust from https://rustup.rs; rust-toolchain.toml then picks the version'
    exit 1
fi

mapfile -t missing < <(packages_missing | sort -u)
if [ "${#missing[@]}" = 0 ]; then
    exit 0
fi

say "missing: ${missing[*]}"
there apt-get || cannot 'this is neither Debian nor Ubuntu: apt-get is not there'
[ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null || cannot 'neither root nor sudo without a password'
mapfile -t extra < <(optional_missing | sort -u)
say "running: apt-get install -y --no-install-recommends ${missing[*]}"
install "${missing[@]}" || cannot 'apt-get failed'
for package in "${extra[@]}"; do
    install "$package" || say "$package is not in this distribution; nothing depends on it"
done
dpdk_there || cannot "the distribution's libdpdk is older than 22.11: use Debian 12, Ubuntu 24.04 or newer"
say 'done'
