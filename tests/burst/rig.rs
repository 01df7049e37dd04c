//! A worker between two ports in memory, with a real policy image and a real record ring.

use abi::record::FlowRecord;
use abi::shm::{Region, RegionOptions, RegionView};
use abi::{CoreCounters, Reason};
use acl::PolicyImage;
use dataplane::adopt::Publisher;
use dataplane::clock::Clock;
use dataplane::config::{Config, Idle, LaneConfig};
use dataplane::core::Core;
use dataplane::export::RecordSink;
use dataplane::idle::Backoff;
use dataplane::port::{MemoryFrame, MemoryPort};
use dataplane::worker::{InlineLane, LaneOf, MirrorLane, Worker};
use std::sync::Arc;

pub(crate) const SECOND: u64 = 1_000_000_000;
/// When the story begins: nanoseconds since the Unix epoch.
pub(crate) const START: u64 = 1_700_000_000 * SECOND;

/// Web server 10.0.1.10 and database 10.0.2.20 inside, clients 10.0.9.0/24 outside.
pub(crate) const SHOP: &str = r#"
[[workload]]
name = "web-1"
addresses = ["10.0.1.10"]
labels = { role = "web" }
[[workload]]
name = "db-1"
addresses = ["10.0.2.20"]
labels = { role = "db" }
[[segment]]
name = "web"
select = "role=web"
mode = "enforce"
[[segment]]
name = "db"
select = "role=db"
mode = "MODE"
[[service]]
name = "http"
ports = ["tcp/80"]
[[service]]
name = "postgres"
ports = ["tcp/5432"]
[[rule]]
name = "clients-to-web"
from = ["any"]
to = ["web"]
services = ["http"]
action = "allow"
"#;

/// A worker, its two wires, and the control process's end of everything.
pub(crate) struct Rig {
    pub(crate) worker: Worker<MemoryPort>,
    pub(crate) inside: MemoryPort,
    pub(crate) outside: MemoryPort,
    publisher: Publisher,
    view: RegionView,
    consumer: abi::ring::Consumer,
    now: u64,
    epoch: u64,
    before: CoreCounters,
    _region: Region,
}

impl Rig {
    pub(crate) fn new() -> Self {
        Self::with(Config::default())
    }

    /// An inline lane under `config`, whose lanes are ignored.
    pub(crate) fn with(config: Config) -> Self {
        Self::build(config, false)
    }

    /// A mirror port: what arrives inside is only looked at.
    pub(crate) fn mirror() -> Self {
        Self::build(Config::default(), true)
    }

    /// As [`Rig::mirror`], under `config`.
    pub(crate) fn mirror_with(config: Config) -> Self {
        Self::build(config, true)
    }

    fn build(mut config: Config, is_mirror: bool) -> Self {
        config.lanes = vec![LaneConfig {
            mirror: Some("memory".into()),
            ..LaneConfig::default()
        }];
        config.flow.flows_max = config.flow.flows_max.min(4096);
        let config = config.validate().expect("a valid configuration");
        let ring_records = 4096;
        let region = Region::anonymous(RegionOptions {
            ring_records,
            ..RegionOptions::new(1, 2, [7; 16])
        })
        .expect("a region");
        let view = region.view();
        let consumer = view.attach(0, 1).expect("worker 0").expect("a consumer");
        let (publisher, mut subscribers) = Publisher::new(1);
        let sink = RecordSink::new(
            region.producer(0).expect("a producer"),
            Arc::default(),
            false,
        );
        let writer = region.core_writer(0).expect("a writer");
        let core = Core::new(&config, 0, subscribers.remove(0), sink, writer).expect("a core");
        let (inside, outside) = (MemoryPort::default(), MemoryPort::new(1600));
        let lane = if is_mirror {
            LaneOf::Mirror(MirrorLane::new(inside.clone(), 0))
        } else {
            LaneOf::Inline(InlineLane::new(inside.clone(), 0, outside.clone(), 1))
        };
        let worker = Worker::new(
            core,
            vec![lane],
            Clock::Manual(START),
            Backoff::new(Idle::None),
            2,
        );
        let before = CoreCounters::new();
        Self {
            worker,
            inside,
            outside,
            publisher,
            view,
            consumer,
            now: START,
            epoch: 0,
            before,
            _region: region,
        }
    }

    /// Compiles and publishes a policy, and lets the worker adopt it.
    pub(crate) fn publish(&mut self, text: &str) {
        self.epoch += 1;
        let today = jiff::civil::date(2026, 11, 22);
        let valid =
            policy::load(text, "test.toml", today).unwrap_or_else(|errors| panic!("{errors}"));
        let compiled = policy::compile(&valid, self.epoch, today).expect("compiled");
        let image = PolicyImage::check(compiled.image.bytes()).expect("a good image");
        self.publisher.publish(&Arc::new(image)).expect("published");
        self.round();
        assert!(self.publisher.is_adopted());
    }

    /// Moves the clock and lets the sweep come round.
    pub(crate) fn pass_time(&mut self, ns: u64) {
        for _ in 0..64 {
            self.now += ns / 64;
            *self.worker.clock_mut() = Clock::Manual(self.now);
            for _ in 0..4 {
                self.round();
            }
        }
    }

    /// Moves the clock, and the worker has no turn.
    pub(crate) fn stand_still(&mut self, ns: u64) {
        self.now += ns;
        *self.worker.clock_mut() = Clock::Manual(self.now);
    }

    /// One frame from a protected host; the frames that came out on either side.
    pub(crate) fn send_inside(&mut self, frame: Vec<u8>) -> Seen {
        self.inside
            .wire()
            .arriving
            .push_back(MemoryFrame::new(frame));
        self.round()
    }

    /// Frames from a protected host; the frames that came out after one round.
    pub(crate) fn send_all_inside(&mut self, frames: &[Vec<u8>]) -> Seen {
        let arriving = frames.iter().cloned().map(MemoryFrame::new);
        self.inside.wire().arriving.extend(arriving);
        self.round()
    }

    /// Frames from the other side; the frames that came out after one round.
    pub(crate) fn send_all_outside(&mut self, frames: &[Vec<u8>]) -> Seen {
        let arriving = frames.iter().cloned().map(MemoryFrame::new);
        self.outside.wire().arriving.extend(arriving);
        self.round()
    }

    /// One frame from the other side.
    pub(crate) fn send_outside(&mut self, frame: Vec<u8>) -> Seen {
        self.outside
            .wire()
            .arriving
            .push_back(MemoryFrame::new(frame));
        self.round()
    }

    /// One round of the worker's loop, after which the laws of conservation must hold.
    pub(crate) fn round(&mut self) -> Seen {
        self.worker.round();
        self.assert_conservation();
        let take = |port: &MemoryPort| port.wire().sent.drain(..).map(|f| f.bytes).collect();
        Seen {
            inside: take(&self.inside),
            outside: take(&self.outside),
        }
    }

    /// Received = sent + dropped by reason; observed = in records + in the cache + shed.
    pub(crate) fn assert_conservation(&mut self) {
        let counters = self.counters();
        let dropped: u64 = counters.dropped_packets();
        assert_eq!(
            counters.rx_packets,
            counters.tx_packets + counters.mirror_packets + dropped
        );
        assert_eq!(
            counters.rx_packets,
            counters.flow_packets + counters.unflowed_packets
        );
        assert_eq!(
            counters.flow_packets,
            counters.recorded_packets + counters.cached_packets + counters.shed_packets
        );
    }

    /// The counters that the control process would read now.
    pub(crate) fn counters(&mut self) -> CoreCounters {
        self.worker.commit(self.now);
        self.view
            .core(0)
            .expect("worker 0")
            .expect("a consistent copy")
    }

    /// Which counters moved since the last call, by name; those of time and rounds are left out.
    pub(crate) fn moved(&mut self) -> Vec<(&'static str, u64)> {
        let now = self.counters();
        let moved = moved(&self.before, &now);
        self.before = now;
        moved
    }

    /// The records written since the last call.
    pub(crate) fn records(&mut self) -> Vec<FlowRecord> {
        let mut batch = [zerocopy::FromZeros::new_zeroed(); 64];
        let mut records = Vec::new();
        loop {
            let count = self.consumer.read(&mut batch).expect("the only consumer");
            if count == 0 {
                return records;
            }
            records.extend_from_slice(&batch[..count]);
            self.consumer.release().expect("the only consumer");
        }
    }
}

/// Frames that came out.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) inside: Vec<Vec<u8>>,
    pub(crate) outside: Vec<Vec<u8>>,
}

macro_rules! watched {
    ($($field:ident),+ $(,)?) => {
        fn moved(before: &CoreCounters, now: &CoreCounters) -> Vec<(&'static str, u64)> {
            let mut moved = Vec::new();
            $(if now.$field != before.$field {
                moved.push((stringify!($field), now.$field.wrapping_sub(before.$field)));
            })+
            for reason in Reason::ALL {
                let delta = now.drops[reason.index()] - before.drops[reason.index()];
                if delta > 0 {
                    moved.push((reason.name(), delta));
                }
            }
            moved
        }
    };
}

// All counters but those of time, rounds, bytes and the cache's size: `moved` must name every one
// that a story changes.
watched!(
    rx_packets,
    tx_packets,
    mirror_packets,
    generated_packets,
    answers_suppressed,
    flow_packets,
    unflowed_packets,
    recorded_packets,
    shed_packets,
    records,
    shed_records,
    flows_created,
    flows_ended_idle,
    flows_ended_eof,
    flows_ended_forced,
    flows_evicted,
    flow_table_full,
    fragment_table_full,
    fragments_inherited,
    flows_midstream,
    icmp_errors_related,
    flows_judged,
    flows_rejudged,
    flows_verdict_changed,
    permitted_packets,
    would_deny_packets,
    uncovered_packets,
    superseded_packets,
    folded_flows,
    folded_packets,
    folded_rest_packets,
);
