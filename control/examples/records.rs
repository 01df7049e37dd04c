//! Records a second from the ring through control to flows with names, on one core.
//!
//! A ring as the dataplane has it is filled from another thread, then drained by the collector's own
//! rounds, with hits counted and recent flows kept; and every flow of it is named, on the same
//! thread. Prints thread time, so that what else runs on the machine hardly counts.
//!
//! ```text
//! cargo run --release -p ringfence-control --example records -- [RECORDS] [RULES] [--json]
//! ```
#![forbid(unsafe_code)]

use abi::{FlowRecord, Region, RegionOptions};
use control::app::Namer;
use control::candidates::Candidates;
use control::clock::thread_cpu_ns;
use control::collector::{Drain, Sinks};
use control::exporter::ExportQueues;
use control::flow::PortNames;
use control::history_writer::HistoryQueue;
use control::names::{Dictionary, Registry};
use control::recent::RecentFlows;
use control::rule_hits::HitCounters;
use std::fmt::Write as _;
use std::hint::black_box;
use std::process::ExitCode;
use std::sync::Arc;
use zerocopy::FromZeros;

const WORKLOADS: usize = 10_000;
const SERVICES: usize = 200;
/// Records that a ring holds, and that are pushed before they are drained.
const RING_RECORDS: u32 = 1 << 17;

fn main() -> ExitCode {
    let numbers: Vec<usize> = std::env::args()
        .skip(1)
        .filter_map(|a| a.parse().ok())
        .collect();
    let records = numbers.first().copied().unwrap_or(6_000_000) as u64;
    let rules = numbers.get(1).copied().unwrap_or(100_000);
    match run(records, rules) {
        Ok(found) => {
            print(&found, std::env::args().any(|a| a == "--json"));
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

struct Found {
    records: u64,
    rules: usize,
    collect_ns: u64,
    name_ns: u64,
    named: u64,
}

fn print(found: &Found, json: bool) {
    let each = |ns: u64| ns as f64 / found.records.max(1) as f64;
    let rate = |ns: u64| 1e9 / each(ns).max(1e-9);
    let (collect, name) = (each(found.collect_ns), each(found.name_ns));
    let per_s = rate(found.collect_ns + found.name_ns);
    if json {
        println!(
            "{{\"records\":{},\"named\":{},\"rules\":{},\"collect_ns\":{collect:.1},\"name_ns\":{name:.1},\"records_per_s\":{per_s:.0}}}",
            found.records, found.named, found.rules
        );
    } else {
        println!(
            "{} records, {} rules: collect {collect:.0} ns ({:.2} M/s), name {name:.0} ns; ring to named flow {:.2} M/s on one core",
            found.records,
            found.rules,
            rate(found.collect_ns) / 1e6,
            per_s / 1e6
        );
    }
    assert_eq!(
        found.named, found.records,
        "every record became a flow with both names"
    );
}

fn run(records: u64, rules: usize) -> Result<Found, Box<dyn std::error::Error>> {
    let text = policy_text(rules)?;
    let today = jiff::civil::date(2026, 11, 22);
    let image = policy::compile(&policy::load(&text, "bench.toml", today)?, 1, today)?.image;
    let population = population(&image, 1 << 16);
    let registry = Registry::default();
    registry.insert(Arc::new(Dictionary::new(image)));

    let mut options = RegionOptions::new(1, 0, [7; 16]);
    options.ring_records = RING_RECORDS;
    let region = Region::anonymous(options)?;
    let mut producer = region.producer(0)?;
    let recent = Arc::new(RecentFlows::new(&control::config::FlowsConfig::default()));
    let (_, mut follower) = recent.follow()?;
    let sinks = Sinks {
        recent,
        hits: Arc::new(HitCounters::default()),
        history: HistoryQueue::default(),
        watch: control::watch::WatchQueue::default(),
        candidates: Candidates::start().1,
        export: ExportQueues::default(),
    };
    let mut drain = Drain::attach(&region.view(), 1024, sinks)?;
    let ports = PortNames(["inside0".into(), "outside0".into()].into());
    let mut found = Found {
        records: 0,
        rules,
        collect_ns: 0,
        name_ns: 0,
        named: 0,
    };
    let mut flows = Vec::new();
    let mut next = 0;
    while found.records < records {
        // Filled by another thread, as a core fills it: the lines come from its cache.
        let filled = std::thread::scope(|scope| {
            scope
                .spawn(|| {
                    let mut filled = 0_u64;
                    while producer.push(&population[next % population.len()]).is_ok() {
                        next += 1;
                        filled += 1;
                    }
                    producer.publish();
                    filled
                })
                .join()
                .unwrap_or(0)
        });
        let mut taken = 0;
        while taken < filled {
            let began = thread_cpu_ns();
            taken += drain.round()? as u64;
            let collected = thread_cpu_ns();
            found.collect_ns += collected - began;
            while let Ok(batch) = follower.try_recv() {
                // As the thread of history does it, batch after batch.
                let mut namer = Namer::new(registry.names(), ports.clone());
                flows.clear();
                namer.each(&batch, &mut flows);
                let is_named = |flow: &&api::Flow| flow.src_name.is_some() && flow.rule.is_some();
                found.named += black_box(&flows).iter().filter(is_named).count() as u64;
            }
            found.name_ns += thread_cpu_ns() - collected;
        }
        found.records += taken;
    }
    Ok(found)
}

fn policy_text(rules: usize) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    for at in 0..WORKLOADS {
        let [_, b, c, d] = address(at)[12..] else {
            continue;
        };
        writeln!(
            text,
            "[[workload]]\nname = \"w{at}\"\naddresses = [\"10.{b}.{c}.{d}\"]\nlabels = {{ app = \"a{}\" }}",
            at / 5
        )?;
    }
    for at in 0..WORKLOADS / 5 {
        writeln!(
            text,
            "[[segment]]\nname = \"a{at}\"\nselect = \"app=a{at}\"\nmode = \"enforce\""
        )?;
    }
    for at in 0..SERVICES {
        writeln!(
            text,
            "[[service]]\nname = \"s{at}\"\nports = [\"tcp/{}\"]",
            1_000 + at
        )?;
    }
    for at in 0..rules {
        let (from, to) = (
            scatter(2 * at) % (WORKLOADS / 5),
            scatter(2 * at + 1) % (WORKLOADS / 5),
        );
        writeln!(
            text,
            "[[rule]]\nname = \"r{at}\"\nfrom = [\"a{from}\"]\nto = [\"a{to}\"]\nservices = [\"s{}\"]\naction = \"allow\"",
            at % SERVICES
        )?;
    }
    Ok(text)
}

fn scatter(number: usize) -> usize {
    let mixed = (number as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    usize::try_from((mixed ^ (mixed >> 29)) >> 20).unwrap_or(0)
}

fn address(workload: usize) -> [u8; 16] {
    let [_, b, c, d] = u32::try_from(workload * 3).unwrap_or(0).to_be_bytes();
    std::net::Ipv4Addr::new(10, b, c, d)
        .to_ipv6_mapped()
        .octets()
}

/// Records of flows that the policy's rules allow, each between two workloads, as cores write them.
fn population(image: &acl::PolicyImage, count: usize) -> Vec<FlowRecord> {
    let rules: Vec<_> = image.rules().collect();
    (0..count)
        .map(|number| {
            let rule = &rules[scatter(number) % rules.len()];
            let member = |segment: Option<u32>, salt| {
                // Segments of the file stand behind the three that are built in.
                let own = segment.map_or(0, |s| s as usize).saturating_sub(3);
                address(own * 5 + scatter(number + salt) % 5)
            };
            let mut record = FlowRecord::new_zeroed();
            record.src = member(rule.from().next(), 1);
            record.dst = member(rule.to().next(), 2);
            record.proto = 6;
            record.ip_version = 4;
            record.sport = 40_000;
            record.dport = u16::try_from(1_000 + rule.index as usize % SERVICES).unwrap_or(0);
            let service = acl::Service::port(6, record.dport);
            let decision = image.evaluate(&record.src, &record.dst, &service);
            record.src_identity = decision.src_identity;
            record.dst_identity = decision.dst_identity;
            (record.rule_id, record.pending_rule_id) = (decision.rule_id, decision.pending_rule_id);
            (record.enforced, record.pending) = (decision.enforced.byte(), decision.pending.byte());
            record.enforced_source = decision.enforced_source.byte();
            record.pending_source = decision.pending_source.byte();
            (record.mode, record.coverage) = (decision.mode.byte(), decision.coverage.byte());
            (record.packets_fwd, record.packets_rev) = (10, 8);
            (record.bytes_fwd, record.bytes_rev) = (6_000, 40_000);
            (record.first_ns, record.last_ns) =
                (1_700_000_000_000_000_000, 1_700_000_000_500_000_000);
            record.end_reason = abi::record::FlowEndReason::ALL[0].byte();
            record.kind = abi::record::RecordKind::ALL[0].byte();
            record.initiator_evidence = abi::verdict::InitiatorEvidence::ALL[0].byte();
            record.tcp_state = abi::record::TcpState::ALL[0].byte();
            record.tunnel_kind = abi::record::TunnelKind::ALL[0].byte();
            record.egress_port = 1;
            record.epoch = 1;
            record.flow_id = number as u64;
            record
        })
        .collect()
}
