//! What a configuration carries, and what of it breaks first: computed from the cost of each step.
//!
//! `ringfence doctor --capacity` and `docs/6-capacity.md` take the same table of costs
//! (`costs.toml`) and this same arithmetic; a test compares the page with what comes out.

use serde::{Deserialize, Serialize};

/// The recorded costs.
const COSTS: &str = include_str!("../costs.toml");
/// Preamble, start of frame and gap between frames, which every frame takes on the wire.
const WIRE_BYTES: f64 = 20.0;
/// Bytes of the smallest frame, and the mean of the simple Internet mix (7 x 64, 4 x 594, 1 x 1518).
pub const FRAMES: [(&str, f64); 2] = [("64 B", 64.0), ("mix", 361.8)];

/// A cost in time.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the keys of costs.toml, explained there")]
pub struct Step {
    pub ns: f64,
    pub how: String,
}

/// A cost in space, or a share.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
#[expect(missing_docs, reason = "the keys of costs.toml, explained there")]
pub struct Size {
    pub bytes: f64,
    pub bytes_per_packet: f64,
    pub gbytes_per_s: f64,
    pub gbits_per_s: f64,
    pub part: f64,
    pub how: String,
}

/// What everything costs.
#[derive(Clone, Debug, Deserialize)]
#[expect(missing_docs, reason = "the tables of costs.toml, explained there")]
pub struct Costs {
    pub packet: Step,
    pub new_flow: Step,
    pub collect: Step,
    pub name: Step,
    pub second_core: Size,
    pub flow: Size,
    pub record: Size,
    pub memory: Size,
    pub memory_node: Size,
    pub pcie: Size,
}

impl Costs {
    /// The recorded costs.
    ///
    /// # Errors
    /// The table that this program was built with cannot be read: a defect of it.
    pub fn recorded() -> Result<Self, toml::de::Error> {
        toml::from_str(COSTS)
    }
}

/// What is to carry it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Setup {
    /// Polling cores.
    pub workers: u64,
    /// Ports, and the sum of their speeds in one direction, Gbit/s; none where no speed is known.
    pub ports: u64,
    /// See `ports`.
    pub ports_gbps: Option<f64>,
    /// NUMA nodes that cores, ports and memory are spread over evenly.
    pub nodes: u64,
    /// Flows that the caches hold.
    pub flows_max: u64,
    /// Records that the rings hold.
    pub ring_records: u64,
}

/// One thing that gives out.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Limit {
    /// What.
    pub what: &'static str,
    /// Million packets a second that it carries with each of [`FRAMES`].
    pub mpps: [f64; 2],
}

/// What a setup carries.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Capacity {
    /// The setup.
    pub setup: Setup,
    /// Nanoseconds of one established packet on one core.
    pub packet_ns: f64,
    /// Where that figure is from.
    pub packet_how: String,
    /// What gives out, the first with 64-byte frames first.
    pub limits: Vec<Limit>,
    /// What gives out first, with each of [`FRAMES`].
    pub first: [&'static str; 2],
    /// Gbit/s of frames on the wire at that point, all ports together.
    pub gbps: [f64; 2],
    /// Million new flows a second, where every packet is one, all cores together.
    pub new_flows_m: f64,
    /// Million records a second that one core of control collects.
    pub collect_m: f64,
    /// Million flows a second that it names where somebody reads all of them.
    pub named_m: f64,
    /// Seconds of those new flows that the rings hold while control is away.
    pub ring_s: f64,
    /// GiB of the flow caches.
    pub flow_gib: f64,
    /// Cores for the links at 64 bytes with so many of 100 packets handled by the NIC.
    pub offloaded: Vec<(f64, f64)>,
}

/// What part of all packets the NIC may handle by itself, in percent: settled flows by `rte_flow`.
const OFFLOADED: [f64; 4] = [0.0, 50.0, 90.0, 99.0];

/// Cores that count as one, where every further one adds a part of the first.
fn effective(workers: u64, part: f64) -> f64 {
    match workers {
        0 => 0.0,
        more => 1.0 + (more - 1) as f64 * part,
    }
}

/// Million frames a second on links of so many Gbit/s.
fn wire_mpps(gbps: f64, frame_bytes: f64) -> f64 {
    gbps * 1e3 / ((frame_bytes + WIRE_BYTES) * 8.0)
}

/// Computes what a setup carries. `live_ns` is what a packet costs here and now, where it is measured.
#[must_use]
pub fn capacity(costs: &Costs, setup: Setup, live_ns: Option<f64>) -> Capacity {
    let packet_ns = live_ns.unwrap_or(costs.packet.ns);
    let packet_how = match live_ns {
        Some(_) => "measured live: ringfence stages".to_owned(),
        None => format!("recorded, {}", costs.packet.how),
    };
    let cores = effective(setup.workers, costs.second_core.part);
    let of = |what, each: &dyn Fn(f64) -> f64| Limit {
        what,
        mpps: FRAMES.map(|(_, bytes)| each(bytes)),
    };
    let memory = costs.memory_node.gbytes_per_s * 1e3 * setup.nodes as f64;
    let bus = costs.pcie.gbits_per_s * 1e3 / 8.0 * setup.ports as f64;
    let mut limits = vec![
        of("cores", &|_| cores * 1e3 / packet_ns),
        of("PCIe", &|frame| bus / (frame + costs.pcie.bytes_per_packet)),
        of("memory", &|frame| {
            // Frames come and go through memory where they do not fit the cache.
            memory / (costs.memory.bytes_per_packet + 2.0 * (frame - 64.0))
        }),
    ];
    if let Some(gbps) = setup.ports_gbps {
        limits.push(of("links", &|frame| wire_mpps(gbps, frame)));
    }
    let first = [0, 1].map(|frame| {
        let least = |a: &&Limit, b: &&Limit| a.mpps[frame].total_cmp(&b.mpps[frame]);
        limits
            .iter()
            .min_by(least)
            .map_or(("", 0.0), |l| (l.what, l.mpps[frame]))
    });
    limits.sort_by(|a, b| a.mpps[0].total_cmp(&b.mpps[0]));
    let [(_, small), (_, large)] = FRAMES;
    let gbps = |mpps: f64, frame: f64| mpps * (frame + WIRE_BYTES) * 8.0 / 1e3;
    let new_flows_m = cores * 1e3 / (packet_ns + costs.new_flow.ns);
    let links = setup.ports_gbps.unwrap_or(0.0);
    let needed = |percent: f64| {
        let handled = wire_mpps(links, small) * (1.0 - percent / 100.0);
        let cores = handled * packet_ns / 1e3;
        (1.0 + (cores - 1.0).max(0.0) / costs.second_core.part).ceil()
    };
    Capacity {
        packet_ns,
        packet_how,
        first: [first[0].0, first[1].0],
        gbps: [gbps(first[0].1, small), gbps(first[1].1, large)],
        new_flows_m,
        collect_m: 1e3 / costs.collect.ns,
        named_m: 1e3 / (costs.collect.ns + costs.name.ns),
        ring_s: setup.ring_records as f64 / 1e6 / new_flows_m.max(1e-9),
        flow_gib: setup.flows_max as f64 * costs.flow.bytes / f64::from(1 << 30),
        offloaded: OFFLOADED.iter().map(|p| (*p, needed(*p))).collect(),
        limits,
        setup,
    }
}
