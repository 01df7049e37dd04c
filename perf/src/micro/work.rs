//! Work that callgrind counts: one kind of packet through one core, from frame to verdict.
//!
//! Everything counted happens inside the functions named `counted_*`; making the core, opening the
//! flows and writing the frames happen outside. So a count divided by its packets is the cost of a
//! packet, without start-up and without the source.

use abi::FlowRecord;
use abi::shm::{Region, RegionOptions};
use acl::{PolicyImage, Service};
use dataplane::adopt::Publisher;
use dataplane::config::{Config, LaneConfig};
use dataplane::core::{Core, Ingress};
use dataplane::export::RecordSink;
use dataplane::port::{BURST_MAX, Frame};
use flow::RecordSink as _;
use std::hint::black_box;
use std::sync::Arc;

/// What callgrind is told to count: the functions of this module that begin so.
pub(crate) const COUNTED: &str = "*micro::work::counted_*";
/// Flows that the established kinds go round.
const FLOWS: u32 = 1024;
/// Bursts counted.
const BURSTS: u32 = 512;
/// Time of the first packet.
const START_NS: u64 = 1_700_000_000_000_000_000;
/// Between two bursts: 32 packets at 4 M/s.
const BURST_NS: u64 = 8_000;

/// A kind of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Kind {
    /// UDP over IPv4, established.
    Udp,
    /// TCP over IPv4, established, ACK and PSH.
    Tcp,
    /// UDP over IPv6, established.
    Udp6,
    /// UDP over IPv4 behind one VLAN tag, established.
    Vlan,
    /// UDP over IPv4, every packet a new flow: inserted, judged, and another's record told.
    NewFlow,
    /// UDP over IPv4, flows that a rule denies.
    Denied,
    /// UDP over IPv4, a scan: one source, every packet to another address, denied and added to the
    /// source's aggregate.
    Folded,
    /// The policy alone: two IPv4 addresses and a service to a verdict.
    Policy,
    /// The policy alone, IPv6.
    Policy6,
    /// One record into the ring.
    Record,
}

impl Kind {
    /// Every kind, in the order of the table.
    pub(crate) const ALL: [Self; 10] = [
        Self::Udp,
        Self::Tcp,
        Self::Udp6,
        Self::Vlan,
        Self::NewFlow,
        Self::Denied,
        Self::Folded,
        Self::Policy,
        Self::Policy6,
        Self::Record,
    ];

    /// Name on the command line and in the recorded counts.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Udp6 => "udp6",
            Self::Vlan => "vlan",
            Self::NewFlow => "new-flow",
            Self::Denied => "denied",
            Self::Folded => "folded",
            Self::Policy => "policy",
            Self::Policy6 => "policy6",
            Self::Record => "record",
        }
    }
}

/// Options of `ringfence-perf work`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// What to do.
    #[arg(value_enum)]
    kind: Kind,
}

/// Does the work and prints how many packets were counted.
///
/// # Errors
/// A sentence: the core could not be made, or a packet was not judged as its kind says.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    let packets = match options.kind {
        Kind::Policy | Kind::Policy6 => evaluate(options.kind)?,
        Kind::Record => push_records()?,
        kind => process(kind)?,
    };
    println!("{packets}");
    Ok(())
}

/// A frame in memory.
struct Still(Vec<u8>);

impl Frame for Still {
    fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn wire_bytes(&self) -> u32 {
        self.0.len() as u32
    }

    fn captured_ns(&self) -> Option<u64> {
        None
    }
}

/// A frame of 60 bytes (64 with its FCS), longer with a tag or IPv6, from the client of `flow` or
/// back to it.
fn frame(kind: Kind, flow: u32, back: bool) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1];
    if kind == Kind::Vlan {
        frame.extend([0x81, 0, 0, 7]);
    }
    let protocol = if kind == Kind::Tcp { 6 } else { 17 };
    let mut ends = if kind == Kind::Udp6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 26, protocol, 64]);
        let prefix = 0x2001_0db8_u128 << 96;
        let server = prefix | 1 << 64 | 1;
        [prefix | u128::from(flow), server].map(|end| end.to_be_bytes().to_vec())
    } else {
        frame.extend([8, 0, 0x45, 0, 0, 46, 0, 0, 0x40, 0, 64, protocol, 0, 0]);
        let (client, server) = match kind {
            Kind::Folded => (0, 1 + flow),
            _ => (flow, 1),
        };
        [0x0a00_0000 + client, 0x0af0_0000 + server].map(|end| end.to_be_bytes().to_vec())
    };
    let is_denied = matches!(kind, Kind::Denied | Kind::Folded);
    let mut ports = [20_000, if is_denied { 23 } else { 5000_u16 }];
    if back {
        ends.reverse();
        ports.reverse();
    }
    frame.extend(ends.concat());
    frame.extend(ports.map(u16::to_be_bytes).concat());
    if kind == Kind::Tcp {
        // Sequence and acknowledgement numbers, ACK and PSH.
        frame.extend([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x18, 1, 0, 0, 0, 0, 0]);
        frame.extend([0; 6]);
    } else {
        frame.extend([0, 26, 0, 0]);
        frame.extend([0; 18]);
    }
    frame
}

/// Ten rules; the flows of this module are allowed by one of them, telnet is denied by another.
const POLICY: &str = include_str!("work_policy.toml");

fn image() -> Result<PolicyImage, String> {
    let today = jiff::civil::date(2026, 1, 1);
    let valid = policy::load(POLICY, "work_policy.toml", today).map_err(|e| e.to_string())?;
    let compiled = policy::compile(&valid, 1, today).map_err(|e| e.to_string())?;
    PolicyImage::check(compiled.image.bytes()).map_err(|e| e.to_string())
}

/// A core with the policy adopted, and the region that holds its ring.
fn core() -> Result<(Core, Region), String> {
    let lane = LaneConfig {
        mirror: Some("memory".into()),
        ..LaneConfig::default()
    };
    let mut config = Config {
        lanes: vec![lane],
        ..Config::default()
    };
    // New flows find it full soon enough, and the established ones have it half to themselves.
    config.flow.flows_max = 2 * FLOWS as usize;
    let config = config.validate().map_err(|e| e.to_string())?;
    let region = region()?;
    let producer = region.producer(0).map_err(|e| e.to_string())?;
    let writer = region.core_writer(0).map_err(|e| e.to_string())?;
    let (publisher, mut subscribers) = Publisher::new(1);
    let subscriber = subscribers.pop().ok_or("no subscriber")?;
    let sink = RecordSink::new(producer, Arc::default(), false);
    let mut core = Core::new(&config, 0, subscriber, sink, writer).map_err(|e| e.to_string())?;
    publisher
        .publish(&Arc::new(image()?))
        .map_err(|e| e.to_string())?;
    if core.adopt(START_NS) {
        Ok((core, region))
    } else {
        Err("the policy was not adopted".into())
    }
}

/// With a ring that has room for every record of a run: nobody drains it.
fn region() -> Result<Region, String> {
    let mut options = RegionOptions::new(1, 2, [7; 16]);
    options.ring_records = (2 * BURSTS * BURST_MAX as u32).next_power_of_two();
    Region::anonymous(options).map_err(|e| e.to_string())
}

fn process(kind: Kind) -> Result<u64, String> {
    let (mut core, _region) = core()?;
    let ingress = Ingress::inline(0, 1, 1600);
    let (mut now, mut position) = (START_NS, 0_u32);
    let mut next_burst = || {
        let frame_of = |position: u32| {
            // A denied flow stays silent behind us, and a new one has had no answer yet.
            let is_answered = !matches!(kind, Kind::Denied | Kind::Folded | Kind::NewFlow);
            let back = is_answered && position / FLOWS % 2 == 1;
            // Odd, so that in a power of two every flow has its turn, and out of order.
            let scattered = position.wrapping_mul(40_503);
            let flow = match kind {
                Kind::NewFlow => scattered % (1 << 22),
                Kind::Folded => scattered % (1 << 20),
                _ => scattered % FLOWS,
            };
            Still(frame(kind, flow, back))
        };
        let first = position;
        position += BURST_MAX as u32;
        now += BURST_NS;
        ((first..position).map(frame_of).collect::<Vec<_>>(), now)
    };
    for _ in 0..4 * FLOWS / BURST_MAX as u32 {
        let (frames, now) = next_burst();
        core.process(&frames, ingress, now);
    }
    core.commit(START_NS);
    let before = *core.counters();
    for _ in 0..BURSTS {
        let (frames, now) = next_burst();
        counted_burst(&mut core, &frames, ingress, now);
    }
    core.commit(START_NS);
    let packets = u64::from(BURSTS) * BURST_MAX as u64;
    let permitted = core.counters().permitted_packets - before.permitted_packets;
    let created = core.counters().flows_created - before.flows_created;
    let expected = match kind {
        Kind::Denied | Kind::Folded => (0, 0),
        Kind::NewFlow => (packets, packets),
        _ => (packets, 0),
    };
    if (permitted, created) == expected {
        return Ok(packets);
    }
    Err(format!(
        "{}: {permitted} of {packets} packets were permitted and {created} flows created, \
         expected {expected:?}",
        kind.name()
    ))
}

#[inline(never)]
fn counted_burst(core: &mut Core, frames: &[Still], ingress: Ingress, now: u64) {
    core.process(frames, ingress, now);
}

/// Addresses of the policy's segments, IPv4 or IPv6, and a few that no segment holds.
fn ends(kind: Kind) -> Vec<([u8; 16], [u8; 16])> {
    let address = |host: u32, server: u32| -> [[u8; 16]; 2] {
        if kind == Kind::Policy6 {
            let prefix = 0x2001_0db8_u128 << 96;
            let server = prefix | 1 << 64 | u128::from(server);
            return [
                (prefix | u128::from(host)).to_be_bytes(),
                server.to_be_bytes(),
            ];
        }
        let mapped = |v4: u32| (0xffff_0000_0000_u128 | u128::from(v4)).to_be_bytes();
        [mapped(0x0a00_0000 + host), mapped(0x0af0_0000 + server)]
    };
    let pairs = (0..BURST_MAX as u32).map(|n| address(n * 2_654_435 % 65_536, n % 16));
    pairs.map(|[src, dst]| (src, dst)).collect()
}

fn evaluate(kind: Kind) -> Result<u64, String> {
    let image = image()?;
    let ends = ends(kind);
    let service = Service::port(17, 5000);
    let mut permitted = 0;
    for _ in 0..BURSTS {
        permitted += counted_evaluations(&image, &ends, &service);
    }
    let packets = u64::from(BURSTS) * ends.len() as u64;
    if permitted == packets {
        Ok(packets)
    } else {
        Err(format!("{permitted} of {packets} keys were permitted"))
    }
}

#[inline(never)]
fn counted_evaluations(
    image: &PolicyImage,
    ends: &[([u8; 16], [u8; 16])],
    service: &Service,
) -> u64 {
    let mut permitted = 0;
    for (src, dst) in black_box(ends) {
        permitted += u64::from(image.evaluate(src, dst, service).enforced.permits());
    }
    permitted
}

fn push_records() -> Result<u64, String> {
    let region = region()?;
    let producer = region.producer(0).map_err(|e| e.to_string())?;
    let mut sink = RecordSink::new(producer, Arc::default(), false);
    let mut record: FlowRecord = zerocopy::FromZeros::new_zeroed();
    record.packets_fwd = 3;
    for _ in 0..BURSTS {
        counted_records(&mut sink, &record);
    }
    let records = u64::from(BURSTS) * BURST_MAX as u64;
    let mut counters = abi::CoreCounters::new();
    sink.count_into(&mut counters);
    if counters.records == records {
        Ok(records)
    } else {
        Err(format!(
            "{} of {records} records found room",
            counters.records
        ))
    }
}

#[inline(never)]
fn counted_records(sink: &mut RecordSink, record: &FlowRecord) {
    for _ in 0..BURST_MAX {
        sink.record(black_box(record));
    }
    sink.publish();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_judged_as_its_name_says() {
        for kind in Kind::ALL {
            assert_eq!(run(&Options { kind }), Ok(()), "{}", kind.name());
        }
    }
}
