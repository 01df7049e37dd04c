#!/usr/bin/env bash
# Real hosts talk through the appliance, and are stopped by it, in about a minute.
#
#   client 10.77.1.5 ──┐             ┌── lane "front" ── 10.77.1.10 ┐
#                      ├── switch ───┼──────────────────  10.77.2.10 ┴ web
#   attacker ..1.66 ───┘             └── lane "back" ─── 10.77.2.20    db
#            ..2.66
#
# Everything lives in network namespaces of its own and goes when the demo ends. With DEMO_ONCE=1, or without a
# terminal to read from, it ends by itself; the exit code is 0 only if every step held.
set -u
cd "$(dirname "$0")/../.." || exit 1

target=${CARGO_TARGET_DIR:-target}
bin=$(cd "${RINGFENCE_BIN_DIR:-$target/release}" 2>/dev/null && pwd)
here=$PWD/tests/demo
prefix=rfd$$
work=$(mktemp -d)
failed=0
reserved=no
appliance='' collector=''

if [ -t 1 ]; then bold=$(tput bold) plain=$(tput sgr0) red=$(tput setaf 1) green=$(tput setaf 2); else bold='' plain='' red='' green=''; fi

say() { printf '\n%s%s%s\n' "$bold" "$*" "$plain"; }
note() { printf '  %s\n' "$*"; }

# held SENTENCE COMMAND...: runs a check and says whether the sentence is true.
held() {
    local sentence=$1
    shift
    if "$@" >/dev/null 2>&1; then
        printf '  %sok%s      %s\n' "$green" "$plain" "$sentence"
    else
        printf '  %sFAILED%s  %s\n' "$red" "$plain" "$sentence"
        failed=1
    fi
}

# quoted WORD...: the words as a shell reads them, with quotes only where they are needed.
quoted() {
    local word line=''
    for word in "$@"; do
        case $word in
        '' | *[!A-Za-z0-9_./:,=@%+-]*) line+=" '${word//\'/\'\\\'\'}'" ;;
        *) line+=" $word" ;;
        esac
    done
    printf '%s' "${line# }"
}

# show COMMAND...: prints the command as it can be typed in another terminal, and what it says, which `shown` has then;
# its exit code is the command's.
shown=''
show() {
    local code
    if [ "$1" = on ]; then
        printf '  $ %s\n' "$(quoted ip netns exec "$prefix-$2" "${@:3}")"
    else
        printf '  $ %s\n' "$(quoted "$@")"
    fi
    shown=$("$@" 2>&1)
    code=$?
    printf '%s\n' "$shown" | sed 's/^/    /'
    return "$code"
}

# shown_says REGEX: the command that was shown last said so.
shown_says() { grep -Eq -- "$1" <<<"$shown"; }

on() {
    local host=$1
    shift
    ip netns exec "$prefix-$host" "$@"
}

ringfence() { command "$bin/ringfence" --socket "$work/run/control.sock" "$@"; }

# until_true SECONDS COMMAND...: tries again until it holds.
until_true() {
    local end=$((SECONDS + $1))
    shift
    until "$@" >/dev/null 2>&1; do
        [ "$SECONDS" -lt "$end" ] || return 1
        sleep 0.2
    done
}

stop() {
    trap - EXIT INT TERM
    if [ -n "$appliance" ]; then
        kill -TERM "$appliance" 2>/dev/null
        wait "$appliance" 2>/dev/null
    fi
    [ -z "$collector" ] || kill -TERM "$collector" 2>/dev/null
    local host process
    for host in client attacker web db box; do
        for process in $(ip netns pids "$prefix-$host" 2>/dev/null); do kill -KILL "$process" 2>/dev/null; done
        ip netns del "$prefix-$host" 2>/dev/null
    done
    [ "$reserved" = no ] || ./hugepage-setup undo >/dev/null 2>&1
    rm -rf "$work"
}

# ---- the rack ----

host() {
    local name=$1
    ip netns add "$prefix-$name"
    ip -n "$prefix-$name" link set lo up
    # A host answers for an address on the card that has it: the web server's second card has no appliance before it.
    on "$name" sysctl -qw net.ipv4.conf.all.arp_ignore=1 net.ipv4.conf.all.arp_announce=2
}

# wire HOST INTERFACE ADDRESS NAME: a cable from a host; its other end is called NAME in the appliance's namespace.
wire() {
    ip link add "$2" netns "$prefix-$1" type veth peer name "$4" netns "$prefix-box"
    ip -n "$prefix-$1" addr add "$3/24" dev "$2"
    ip -n "$prefix-$1" link set "$2" up
    # veth leaves checksums to a card that is not there; a program as the wire cannot fill them.
    on "$1" ethtool -K "$2" tx off >/dev/null
    ip -n "$prefix-box" link set "$4" up promisc on
}

plug() { ip -n "$prefix-box" link set "$1" master switch up; }

lay_out() {
    set -e
    host box
    on box sysctl -qw net.ipv6.conf.default.disable_ipv6=1
    ip -n "$prefix-box" link add switch type bridge mcast_snooping 0
    ip -n "$prefix-box" link set switch up
    for name in client attacker web db; do host "$name"; done
    wire client eth0 10.77.1.5 client
    wire attacker eth0 10.77.1.66 attacker
    ip -n "$prefix-attacker" addr add 10.77.2.66/24 dev eth0
    wire web eth0 10.77.1.10 front-in
    wire web eth1 10.77.2.10 web-back
    wire db eth0 10.77.2.20 back-in
    for lane in front back; do
        ip -n "$prefix-box" link add "$lane-out" type veth peer name "$lane-sw"
        ip -n "$prefix-box" link set "$lane-out" up promisc on
        plug "$lane-sw"
    done
    for name in client attacker web-back; do plug "$name"; done
    set +e
}

can_make_namespaces() {
    [ "$(id -u)" = 0 ] && ip netns add "$prefix-box" 2>/dev/null && ip netns del "$prefix-box"
}

prepare_memory() {
    local free
    free=$(awk '/HugePages_Free/ { print $2 }' /proc/meminfo)
    if [ "${free:-0}" -ge 128 ]; then
        note "hugepages: $free are free"
    elif ./hugepage-setup reserve >"$work/hugepages.log" 2>&1; then
        reserved=yes
        note 'hugepages: reserved by ./hugepage-setup reserve, and given back at the end'
    else
        note 'hugepages: none to be had here; ordinary memory will do, slower'
    fi
}

start_servers() {
    on db python3 "$here/hosts.py" db 10.77.2.20 5432 >"$work/db.log" 2>&1 &
    on web python3 "$here/hosts.py" web 10.77.1.10 80 10.77.2.20 5432 >"$work/web.log" 2>&1 &
}

start_appliance() {
    mkdir -p "$work/run" "$work/nf"
    ip netns exec "$prefix-box" nfcapd -b 127.0.0.1 -p 4739 -w "$work/nf" -t 3600 -P "$work/nf.pid" >"$work/nfcapd.log" 2>&1 &
    collector=$!
    ip netns exec "$prefix-box" "$bin/ringfence" --socket "$work/run/control.sock" up --run-dir "$work/run" --state-dir "$work/state" \
        --lane af_packet:front-in,af_packet:front-out --lane af_packet:back-in,af_packet:back-out \
        --policy "$here/policy-observe.toml" --ipfix 127.0.0.1:4739 >"$work/up.log" 2>&1 &
    appliance=$!
}

running() { ringfence --json status | grep -Eq '"state": *"running"'; }

# ---- what the hosts do ----

get_page=(on client curl -sS --max-time 5 http://10.77.1.10/)
steal=(on attacker timeout 5 python3 "$here/hosts.py" ask 10.77.2.20 5432 'select secret')
scan=(on attacker nmap -n -Pn -T4 --max-retries 0 --host-timeout 20s -p 1-200 10.77.1.10)
# What nmap says of 200 ports none of which answered; before 7.92 it said so in other words.
nothing_open='Not shown: 200 filtered tcp ports|All 200 scanned ports on .* are filtered'
says() { local word=$1; shift; "$@" 2>/dev/null | grep -q -- "$word"; }

# told WORD...: a recent flow has all these words in one line.
told() {
    local lines word
    lines=$(ringfence flows --limit 0 2>/dev/null)
    for word in "$@"; do lines=$(printf '%s\n' "$lines" | grep -- "$word"); done
    [ -n "$lines" ]
}

# ---- the story ----

observe() {
    say '1. Observe. The appliance is the cable in front of the web server and of the database. Nothing is stopped.'
    note 'The commands below also work in another terminal, as root, after this one:'
    printf '  $ alias ringfence=%s\n' "'$(quoted "$bin/ringfence" --socket "$work/run/control.sock")'"
    until_true 10 "${get_page[@]}"
    for _ in 1 2 3; do "${get_page[@]}" >/dev/null; done
    show "${get_page[@]}"
    held 'the client gets its page, and the page what the database says' shown_says '3 orders'
    note 'A machine that nobody knows asks the database too:'
    show "${steal[@]}"
    held 'nothing stops it yet' shown_says '3 orders'
    until_true 20 told client web http
    until_true 20 told web db postgres
    show ringfence flows --limit 6
    held 'client -> web is known by name' told client web http
    held 'web -> db is known by name' told web db postgres
}

enforce() {
    say '2. Enforce. The policy says what the shop needs; it is checked, published and adopted between two bursts.'
    on client sh -c 'n=0; for i in $(seq 40); do
        curl -sS --max-time 3 http://10.77.1.10/ >/dev/null && n=$((n + 1)); sleep 0.05; done; echo $n' >"$work/pages" &
    local pages=$!
    sleep 0.5
    show ringfence policy check "$here/policy-enforce.toml"
    show ringfence policy apply "$here/policy-enforce.toml"
    held 'the policy is in force' says unknown-machines-reach-nothing ringfence policy show
    wait "$pages"
    note "pages fetched while the policy changed: $(cat "$work/pages") of 40"
    held 'the same traffic still flows: no page was lost' grep -qx 40 "$work/pages"
}

attack() {
    say '3. The unknown machine scans the web server, and tries the database again.'
    show "${scan[@]}"
    held 'the scan went to its end' test $? = 0
    held 'no port of 200 answered it' shown_says "$nothing_open"
    note 'And the way to the database that was open a minute ago:'
    show "${steal[@]}"
    held 'the database does not answer it any more' shown_says 'no answer from 10.77.2.20 port 5432: timed out'
    until_true 10 told 10.77.2.66 db deny
    show ringfence flows --filter 'verdict deny' --limit 4
    held 'the lateral connection is told with the rule that stopped it' told 10.77.2.66 db unknown-machines-reach-nothing
    held 'so is the scan' told 10.77.1.66 web unknown-machines-reach-nothing
    show ringfence explain 10.77.2.66 db tcp/5432
    held 'explain says no, and why' says unknown-machines-reach-nothing ringfence explain 10.77.2.66 db tcp/5432
    held 'the client still gets its page' says '3 orders' "${get_page[@]}"
    until_true 10 told client web clients-use-the-shop
    show ringfence flows --filter 'tcp and not port 1-79' --limit 5
    held 'and its flows are told with the rule that allows them' told client web clients-use-the-shop
}

account() {
    say '4. The books. Every packet is accounted for, and the records are in a collector that is not ours.'
    show ringfence verify accounting
    held 'the accounting is balanced' test $? = 0
    ringfence --json status | tr -d "\n" >"$work/status.json"
    kill -TERM "$appliance"
    wait "$appliance"
    local code=$?
    appliance=''
    held 'the appliance stopped in order, with its last records written' test "$code" = 0
    kill -TERM "$(cat "$work/nf.pid")"
    wait "$collector" 2>/dev/null
    collector=''
    show nfdump -R "$work/nf" -q -N -c 5 -o 'fmt:%ts %pr %sap -> %dap %ipkt %ibyt %opkt %obyt'
    note "nfcapd: $(grep -o 'Flows:.*, Bytes: [0-9]*' "$work/nfcapd.log" | tail -1)"
    local sent arrived
    sent=$(grep -o '"export":.*' "$work/status.json" | grep -Eo '"records": *[0-9]+' | grep -Eo '[0-9]+' | head -1)
    arrived=$(grep -o 'Flows: [0-9]*' "$work/nfcapd.log" | tail -1 | grep -Eo '[0-9]+')
    note "records the appliance had sent before it was stopped: ${sent:-not told}; what it sent while stopping comes on top"
    held 'nfcapd has no fewer flows than records were sent' test "${arrived:-0}" -ge "${sent:-1}" -a "${sent:-0}" -gt 0
    # Its sequence errors are its own: nfdump 1.7 leaves options records out of its count (RFC 7011 section 3.1 does not).
    held 'nfcapd found no bad packet' grep -q 'Bad Packets: 0' "$work/nfcapd.log"
}

story() {
    trap 'stop; exit 130' INT TERM
    trap stop EXIT
    say 'Four machines, one switch, and Ringfence as the cable in front of two of them.'
    prepare_memory
    lay_out
    start_servers
    start_appliance
    if ! until_true 60 running; then
        note 'the appliance did not start; it says:'
        sed 's/^/    /' "$work/up.log"
        exit 1
    fi
    observe
    enforce
    attack
    if [ "${DEMO_ONCE:-}" != 1 ] && [ "$failed" = 0 ] && [ -t 0 ]; then
        stay
    fi
    account
    say "$([ "$failed" = 0 ] && echo 'Every step held.' || echo 'A step FAILED; see above.')"
    exit "$failed"
}

# stay: leaves everything as it is until the operator has seen enough.
stay() {
    say 'All of it goes on running. In another terminal:'
    note 'ringfence flows --follow     (with the alias from above)'
    note 'ringfence status'
    note "ip netns exec $prefix-client curl http://10.77.1.10/"
    note "ip netns exec $prefix-attacker nmap -Pn 10.77.1.10"
    note 'Enter ends the demo with its books.'
    read -r _ || true
}

# ---- where there is no root ----

replayed() {
    say 'No root here, or no network namespaces: so a capture of the same story is replayed instead.'
    local replay=("$bin/ringfence" replay tests/captures/story.pcap --policy tests/demo/policy-enforce.toml)
    "${replay[@]}" --format tsv >"$work/flows.tsv" 2>"$work/summary"
    held 'the replay went to the end of the capture' test -s "$work/flows.tsv"
    note 'What the shop needs is allowed:'
    show "${replay[@]}" --filter 'verdict allow'
    note 'A scan, and a connection to the database, are not:'
    show "${replay[@]}" --filter 'verdict deny and (port 22 or port 5432)'
    held 'the client and the shop are allowed by name' grep -q clients-use-the-shop "$work/flows.tsv"
    held 'the shop reaches its database' grep -q the-shop-asks-its-database "$work/flows.tsv"
    held 'scan and lateral connection are denied by their rule' grep -q unknown-machines-reach-nothing "$work/flows.tsv"
    held 'the accounting is balanced' grep -q balanced "$work/summary"
    rm -rf "$work"
    exit "$failed"
}

if [ -z "$bin" ] || [ ! -x "$bin/ringfence" ]; then
    echo 'demo: the binaries are missing: run make build first'
    exit 1
fi
if can_make_namespaces; then story; else replayed; fi
