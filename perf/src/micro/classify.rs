//! Classification alone: random keys to verdicts, beside rte_acl.
//!
//! A policy speaks of segments, a list of rte_acl of addresses: a rule from a segment of five
//! workloads to another is 25 entries there, one for each pair. The two sides are given the same
//! policy in that sense, and must permit the same keys, to the last one.

use crate::micro::lookup::{hugepages_kib, mix};
use crate::micro::peer_program as program;
use crate::rows::{Check, Effort, Outcome};
use abi::{Action, Decision};
use acl::{Asked, BURST_KEYS, PolicyImage, Service};
use std::fmt::Write as _;
use std::hint::black_box;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

/// What is asked about one flow, in its own place.
type Flow = ([u8; 16], [u8; 16], Service);

fn ask((src, dst, service): &Flow) -> Asked<'_> {
    (src, dst, *service)
}

/// Workloads, at random addresses of 10.0.0.0/8.
const WORKLOADS: u32 = 10_000;
/// Workloads of a segment.
const MEMBERS: u32 = 5;
const SEGMENTS: u32 = WORKLOADS / MEMBERS;
/// Services, one TCP port each.
const SERVICES: u32 = 200;
const PORT_FIRST: u32 = 1000;
/// Rules of the policy that is timed.
const RULES: u32 = 100_000;
/// Rules of the part of it that rte_acl is given; the keys are permitted by this part alone.
const PEER_RULES: u32 = 10_000;
/// Keys; the same ones again and again, many more than any cache of the processor holds verdicts for.
const KEYS: u32 = 1 << 20;
/// Keys timed together, as on the peer's side.
const PIECE: usize = 64 * 32;
/// Memory of rte_acl for so many entries in ordinary pages, MiB.
const PEER_MEMORY_MB: u32 = 8192;
/// The same in hugepages, where it builds elsewhere and keeps only what it has built.
const PEER_HUGE_MEMORY_MB: u32 = 1900;
/// Hugepages of 2 MiB for either side.
const HUGEPAGES: u64 = 1000;
/// Seconds until a side has built its tables and has classified.
const LIMIT_S: u32 = 600;

/// Options of `ringfence-perf classify`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Rules of the policy.
    #[arg(long, default_value_t = RULES)]
    rules: u32,
    /// Seconds of classifying.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

/// Classifies and prints: keys a second, keys permitted, keys, microseconds to compile, hugepages KiB.
///
/// # Errors
/// A sentence: the policy does not compile.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let began = Instant::now();
    let image = image(options.rules)?;
    let built_us = began.elapsed().as_micros();
    let keys: Vec<_> = (0..KEYS).map(|n| key(n).evaluated()).collect();
    let (mut permitted, mut pieces, mut passes) = (0_u64, Vec::new(), 0);
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < options.seconds {
        for piece in keys.chunks_exact(PIECE) {
            at_hand(piece);
            let start = Instant::now();
            let found = classify(&image, piece);
            pieces.push(PIECE as f64 / start.elapsed().as_secs_f64());
            permitted += if passes == 0 { u64::from(found) } else { 0 };
        }
        passes += 1;
    }
    println!(
        "{:.0} {permitted} {KEYS} {built_us} {}",
        crate::median(&mut pieces),
        hugepages_kib()
    );
    Ok(())
}

/// Reads keys before the clock starts: who asks has them at hand, from the packets it has just read. The
/// tables stay as far away as they are. The peer's side does the same.
#[inline(never)]
fn at_hand(keys: &[Flow]) {
    let ports = keys.iter().map(|(src, dst, service)| {
        u32::from(src[12]) + u32::from(dst[15]) + u32::from(service.dport)
    });
    black_box(ports.fold(0_u32, u32::wrapping_add));
}

#[inline(never)]
fn classify(image: &PolicyImage, keys: &[Flow]) -> u32 {
    let mut permitted = 0;
    let mut decisions = [Decision::without_policy(Action::Deny); BURST_KEYS];
    for burst in keys.chunks_exact(BURST_KEYS) {
        image.evaluate_burst(burst, ask, &mut decisions);
        let permits = |decision: &Decision| u32::from(decision.enforced.permits());
        permitted += black_box(&decisions).iter().map(permits).sum::<u32>();
    }
    permitted
}

/// One rule: from a segment to a segment, one service. No two are the same.
#[derive(Clone, Copy)]
struct Rule {
    from: u32,
    to: u32,
    service: u32,
}

/// The rule of a number.
fn rule(number: u32) -> Rule {
    // A permutation of all triples: no rule comes twice.
    let all = u64::from(SEGMENTS) * u64::from(SEGMENTS) * u64::from(SERVICES);
    let place = (u64::from(number) * 536_870_909) % all;
    let part = |divisor: u64, modulus: u32| ((place / divisor) % u64::from(modulus)) as u32;
    let segments = u64::from(SEGMENTS);
    Rule {
        from: part(1, SEGMENTS),
        to: part(segments, SEGMENTS),
        service: part(segments * segments, SERVICES),
    }
}

/// Address of a workload: a permutation of the host part, so that no two are the same.
fn address(workload: u32) -> Ipv4Addr {
    Ipv4Addr::from(0x0a00_0000 | (workload.wrapping_mul(0x009e_3779) & 0x00ff_ffff))
}

/// A workload of a segment. Neighbours in a segment are no neighbours in addresses.
fn member(segment: u32, place: u32) -> u32 {
    segment + SEGMENTS * (place % MEMBERS)
}

/// What is asked.
struct Key {
    src: Ipv4Addr,
    dst: Ipv4Addr,
    port: u16,
}

impl Key {
    fn evaluated(&self) -> Flow {
        let service = Service::port(6, self.port);
        (
            self.src.to_ipv6_mapped().octets(),
            self.dst.to_ipv6_mapped().octets(),
            service,
        )
    }

    /// As `peers/rte_acl/classify.c` reads it.
    fn bytes(&self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[0] = 6;
        bytes[4..8].copy_from_slice(&self.src.octets());
        bytes[8..12].copy_from_slice(&self.dst.octets());
        bytes[12..14].copy_from_slice(&40_000_u16.to_be_bytes());
        bytes[14..16].copy_from_slice(&self.port.to_be_bytes());
        bytes
    }
}

/// Every other key is of a pair that one of the peer's rules permits, the rest are any pair.
fn key(number: u32) -> Key {
    let draw = mix(u64::from(number));
    let part = |shift: u32, modulus: u32| ((draw >> shift) & 0xffff) as u32 % modulus;
    let (src, dst, service) = if number % 2 == 1 {
        let rule = rule(part(0, PEER_RULES));
        (
            member(rule.from, part(16, MEMBERS)),
            member(rule.to, part(32, MEMBERS)),
            rule.service,
        )
    } else {
        (part(0, WORKLOADS), part(16, WORKLOADS), part(32, SERVICES))
    };
    Key {
        src: address(src),
        dst: address(dst),
        port: (PORT_FIRST + service) as u16,
    }
}

/// The policy with so many rules.
fn image(rules: u32) -> Result<PolicyImage, String> {
    let mut text = String::new();
    for segment in 0..SEGMENTS {
        let _ = write!(
            text,
            "[[segment]]\nname = \"s{segment}\"\nselect = \"s=s{segment}\"\nmode = \"enforce\"\n"
        );
        for place in 0..MEMBERS {
            let workload = member(segment, place);
            let _ = write!(
                text,
                "[[workload]]\nname = \"w{workload}\"\naddresses = [\"{}\"]\nlabels = {{ s = \"s{segment}\" }}\n",
                address(workload)
            );
        }
    }
    for service in 0..SERVICES {
        let port = PORT_FIRST + service;
        let _ = write!(
            text,
            "[[service]]\nname = \"p{service}\"\nports = [\"tcp/{port}\"]\n"
        );
    }
    for number in 0..rules {
        let Rule { from, to, service } = rule(number);
        let _ = write!(
            text,
            "[[rule]]\nname = \"r{number}\"\nfrom = [\"s{from}\"]\nto = [\"s{to}\"]\nservices = [\"p{service}\"]\naction = \"allow\"\n"
        );
    }
    let today = jiff::civil::date(2026, 1, 1);
    let valid = policy::load(&text, "classify.toml", today).map_err(|e| e.to_string())?;
    let compiled = policy::compile(&valid, 1, today).map_err(|e| e.to_string())?;
    PolicyImage::check(compiled.image.bytes()).map_err(|e| e.to_string())
}

/// The same rules, address by address.
fn entries(rules: u32) -> String {
    let mut text = String::new();
    for number in 0..rules {
        let Rule { from, to, service } = rule(number);
        for (a, b) in (0..MEMBERS).flat_map(|a| (0..MEMBERS).map(move |b| (a, b))) {
            let (src, dst) = (address(member(from, a)), address(member(to, b)));
            let _ = writeln!(text, "{src} 32 {dst} 32 6 {}", PORT_FIRST + service);
        }
    }
    text
}

/// Ours with 100,000 rules beside rte_acl with the entries of 10,000 of them, in turn.
///
/// # Errors
/// A sentence: the peer does not compile, or a run failed.
pub(crate) fn row(effort: &Effort) -> Result<Outcome, String> {
    let dir = tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
    let source = program::source("rte_acl/classify.c");
    let peer = program::compile(&source, &["-lrte_acl", "-lrte_eal"], dir.path())?;
    let (rules, keys) = (dir.path().join("rules"), dir.path().join("keys"));
    let written = std::fs::write(&rules, entries(PEER_RULES));
    let key_bytes: Vec<u8> = (0..KEYS).flat_map(|n| key(n).bytes()).collect();
    written
        .and_then(|()| std::fs::write(&keys, key_bytes))
        .map_err(|error| format!("{}: {error}", dir.path().display()))?;
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let huge = program::hugepages_free() >= HUGEPAGES;
    let ours = |rules: u32, seconds: f64| {
        let mut subject = program::pinned(effort.core, LIMIT_S, &own);
        let (rules, seconds) = (rules.to_string(), seconds.to_string());
        subject.args(["classify", "--rules", &rules, "--seconds", &seconds]);
        if huge {
            // The C library's allocator then takes hugepages for what it maps.
            subject.env("GLIBC_TUNABLES", "glibc.malloc.hugetlb=2");
        }
        program::numbers(&mut subject, 5)
    };
    // With the peer's rules alone both must say the same.
    let same = ours(PEER_RULES, 0.1)?;
    let mut series = Series {
        huge,
        same_pages: true,
        ..Series::default()
    };
    let mut agree = true;
    for _ in 0..effort.runs {
        let our = ours(RULES, f64::from(effort.seconds))?;
        let their = theirs(&peer, effort, [&rules, &keys], huge)?;
        series.same_pages &= (our[4] > 0.0) == huge;
        agree &= their[1] == same[1] && their[2] == same[2];
        series.add(our[0], their[0]);
    }
    let command = format!("ringfence-perf classify --rules {RULES}");
    Ok(series.outcome(agree, same[1], command))
}

fn theirs(
    peer: &Path,
    effort: &Effort,
    [rules, keys]: [&Path; 2],
    huge: bool,
) -> Result<Vec<f64>, String> {
    let memory_mb = if huge {
        PEER_HUGE_MEMORY_MB
    } else {
        PEER_MEMORY_MB
    };
    let mut other = program::pinned(effort.core, LIMIT_S, peer);
    // The last of these is the name of the program, the first of libdpdk's arguments.
    other
        .arg(rules)
        .arg(keys)
        .args([&effort.seconds.to_string(), "classify"]);
    other.args(program::eal_arguments(effort.core, memory_mb, huge));
    program::numbers(&mut other, 4)
}

/// Keys a second, run by run.
#[derive(Default)]
struct Series {
    ours: Vec<f64>,
    theirs: Vec<f64>,
    huge: bool,
    same_pages: bool,
}

impl Series {
    fn add(&mut self, ours: f64, theirs: f64) {
        self.ours.push(ours);
        self.theirs.push(theirs);
    }

    fn outcome(self, agree: bool, permitted: f64, command: String) -> Outcome {
        let (our, their) = (
            crate::median(&mut self.ours.clone()),
            crate::median(&mut self.theirs.clone()),
        );
        let ratios = self
            .ours
            .iter()
            .zip(&self.theirs)
            .map(|(our, their)| our / their);
        let spread = ratios.fold((f64::MAX, f64::MIN), |(low, high), r| {
            (low.min(r), high.max(r))
        });
        let entries = PEER_RULES * MEMBERS * MEMBERS;
        let pages = if self.huge {
            "hugepages of 2 MiB"
        } else {
            "pages of 4 KiB"
        };
        Outcome {
            value: our / their,
            spread,
            samples: [
                ("subject_keys".into(), self.ours),
                ("peer_keys".into(), self.theirs),
            ]
            .into(),
            checks: vec![
                Check {
                    what: format!(
                        "with the same {PEER_RULES} rules both permit the same {permitted:.0} of {KEYS} keys"
                    ),
                    holds: agree,
                },
                Check {
                    what: format!("both sides' tables lie in {pages}"),
                    holds: self.same_pages,
                },
            ],
            told: format!(
                "{:.1} M/s with {RULES} rules, rte_acl {:.1} M/s with {PEER_RULES} of them ({entries} entries), both in {pages}",
                our / 1e6,
                their / 1e6
            ),
            command,
            ..Outcome::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_rule_and_no_address_comes_twice() {
        let triple = |n| {
            let Rule { from, to, service } = rule(n);
            (from, to, service)
        };
        let rules: HashSet<_> = (0..RULES).map(triple).collect();
        assert_eq!(rules.len(), RULES as usize);
        let addresses: HashSet<_> = (0..WORKLOADS).map(address).collect();
        assert_eq!(addresses.len(), WORKLOADS as usize);
    }

    #[test]
    fn the_entries_permit_what_the_policy_permits() {
        let (image, entries) = (image(50).expect("a policy"), entries(50));
        let permitted: HashSet<&str> = entries.lines().collect();
        assert_eq!(permitted.len(), 50 * 25);
        let (mut allowed, mut denied) = (0, 0);
        for n in 0..20_000 {
            let Key { src, dst, port } = key(n);
            let (from, to, service) = key(n).evaluated();
            let verdict = image.evaluate(&from, &to, &service).enforced.permits();
            let listed = permitted.contains(format!("{src} 32 {dst} 32 6 {port}").as_str());
            assert_eq!(verdict, listed, "{src} {dst} {port}");
            assert_eq!(
                classify(&image, &[key(n).evaluated(); BURST_KEYS]),
                32 * u32::from(verdict)
            );
            allowed += u32::from(verdict);
            denied += u32::from(!verdict);
        }
        assert!(allowed > 10 && denied > 10_000, "{allowed} {denied}");
    }
}
