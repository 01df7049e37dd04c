//! Two workers over one lane of ports in memory: the first receives, both judge.

use crate::rig::START;
use abi::CoreCounters;
use abi::record::FlowRecord;
use abi::shm::{Region, RegionOptions, RegionView};
use acl::PolicyImage;
use dataplane::adopt::Publisher;
use dataplane::clock::Clock;
use dataplane::config::{Config, Idle, LaneConfig, ValidConfig};
use dataplane::core::Core;
use dataplane::export::RecordSink;
use dataplane::idle::Backoff;
use dataplane::port::{MemoryFrame, MemoryPort};
use dataplane::steer::Steering;
use dataplane::steered_lane::{OwnerPort, spread_inline, spread_mirror};
use dataplane::worker::{InlineLane, LaneOf, MirrorLane, Worker};
use std::sync::Arc;

/// The secrets of every test, so that owners are the same each time.
const SECRETS: [u64; 4] = [0x1234_5677, 0x9abc_def1, 0x1357_9bdf, 0x0246_8ace];
/// Frames longer than this do not fit the outside port.
const OUTSIDE_BYTES_MAX: u32 = 1600;

/// How the lane of two workers is laid out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Layout {
    /// The second worker has transmit queues of its own.
    pub(crate) has_queues: bool,
    pub(crate) is_mirror: bool,
    pub(crate) ring_packets: usize,
}

impl Default for Layout {
    fn default() -> Self {
        Self {
            has_queues: false,
            is_mirror: false,
            ring_packets: 1024,
        }
    }
}

/// Two workers, two wires, and the control process's end of everything.
pub(crate) struct TwoWorkers {
    pub(crate) workers: [Worker<MemoryPort>; 2],
    pub(crate) inside: MemoryPort,
    pub(crate) outside: MemoryPort,
    steering: Steering,
    publisher: Publisher,
    view: RegionView,
    consumers: [abi::ring::Consumer; 2],
    now: u64,
    epoch: u64,
    _region: Region,
}

impl TwoWorkers {
    pub(crate) fn new(layout: Layout) -> Self {
        Self::with(Config::default(), layout)
    }

    pub(crate) fn with(config: Config, layout: Layout) -> Self {
        let config = valid(config);
        let region = Region::anonymous(RegionOptions {
            ring_records: 4096,
            ..RegionOptions::new(2, 2, [7; 16])
        })
        .expect("a region");
        let view = region.view();
        let consumers = [0, 1].map(|w| view.attach(w, 1).expect("a worker").expect("a consumer"));
        let (publisher, subscribers) = Publisher::new(2);
        let (inside, outside) = (MemoryPort::default(), MemoryPort::new(OUTSIDE_BYTES_MAX));
        let steering = Steering::new(&config.config, 2, SECRETS);
        let lanes = lanes(&inside, &outside, steering.clone(), layout);
        let mut workers = (0_u32..)
            .zip(subscribers)
            .zip(lanes)
            .map(|((index, policy), lane)| {
                let producer = region.producer(index).expect("a producer");
                let sink = RecordSink::new(producer, Arc::default(), false);
                let writer = region.core_writer(index).expect("a writer");
                let core =
                    Core::new(&config, index as usize, policy, sink, writer).expect("a core");
                let backoff = Backoff::new(Idle::None);
                Worker::new(core, vec![lane], Clock::Manual(START), backoff, 2)
            });
        let workers = [workers.next(), workers.next()].map(|worker| worker.expect("two"));
        Self {
            workers,
            inside,
            outside,
            steering,
            publisher,
            view,
            consumers,
            now: START,
            epoch: 0,
            _region: region,
        }
    }

    /// Which worker owns the flow of a frame.
    pub(crate) fn owner(&mut self, frame: &[u8]) -> usize {
        self.steering.owner(&MemoryFrame::new(frame.to_vec()))
    }

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

    /// Every worker has its turn, and the receiver once more for what comes back.
    pub(crate) fn round(&mut self) -> [Vec<Vec<u8>>; 2] {
        for worker in [0, 1, 0] {
            self.workers[worker].round();
            self.assert_conservation();
        }
        self.sent()
    }

    /// What has been sent inside and outside.
    pub(crate) fn sent(&mut self) -> [Vec<Vec<u8>>; 2] {
        let take = |port: &MemoryPort| port.wire().sent.drain(..).map(|f| f.bytes).collect();
        [take(&self.inside), take(&self.outside)]
    }

    /// One frame from outside, and what was sent in the round after it.
    pub(crate) fn send_outside(&mut self, frame: &[u8]) -> [Vec<Vec<u8>>; 2] {
        let frame = MemoryFrame::new(frame.to_vec());
        self.outside.wire().arriving.push_back(frame);
        self.round()
    }

    /// One frame from inside, and what was sent in the round after it.
    pub(crate) fn send_inside(&mut self, frame: &[u8]) -> [Vec<Vec<u8>>; 2] {
        let frame = MemoryFrame::new(frame.to_vec());
        self.inside.wire().arriving.push_back(frame);
        self.round()
    }

    /// Moves the clocks of both.
    pub(crate) fn pass_time(&mut self, ns: u64) {
        self.now += ns;
        for worker in &mut self.workers {
            *worker.clock_mut() = Clock::Manual(self.now);
        }
    }

    /// The counters of both, as the control process would read them.
    pub(crate) fn counters(&mut self) -> [CoreCounters; 2] {
        let now = self.now;
        for worker in &mut self.workers {
            worker.commit(now);
        }
        [0, 1].map(|w| {
            self.view
                .core(w)
                .expect("a worker")
                .expect("a consistent copy")
        })
    }

    /// The laws of each core, and of both together.
    pub(crate) fn assert_conservation(&mut self) {
        let counters = self.counters();
        for c in &counters {
            assert_eq!(
                c.rx_packets + c.steered_in_packets + c.returned_in_packets + c.returned_answers,
                c.tx_packets
                    + c.mirror_packets
                    + c.dropped_packets()
                    + c.steered_out_packets
                    + c.returned_out_packets,
                "{c:?}"
            );
            assert_eq!(
                c.rx_packets + c.steered_in_packets,
                c.flow_packets + c.unflowed_packets + c.steered_out_packets,
                "{c:?}"
            );
            assert_eq!(
                c.flow_packets,
                c.recorded_packets + c.cached_packets + c.shed_packets
            );
        }
        let sum = |of: fn(&CoreCounters) -> u64| counters.iter().map(of).sum::<u64>();
        assert!(sum(|c| c.steered_out_packets) >= sum(|c| c.steered_in_packets));
        assert!(sum(|c| c.returned_out_packets) >= sum(|c| c.returned_in_packets));
    }

    /// Nothing waits in a ring, so all that came in went out or was dropped.
    pub(crate) fn assert_settled(&mut self) {
        let counters = self.counters();
        let sum = |of: fn(&CoreCounters) -> u64| counters.iter().map(of).sum::<u64>();
        assert_eq!(
            sum(|c| c.steered_out_packets),
            sum(|c| c.steered_in_packets)
        );
        assert_eq!(
            sum(|c| c.returned_out_packets),
            sum(|c| c.returned_in_packets)
        );
    }

    /// The records that a worker has written since the last call.
    pub(crate) fn records(&mut self, worker: usize) -> Vec<FlowRecord> {
        let mut batch = [zerocopy::FromZeros::new_zeroed(); 64];
        let mut records = Vec::new();
        loop {
            let consumer = &mut self.consumers[worker];
            let count = consumer.read(&mut batch).expect("the only consumer");
            if count == 0 {
                return records;
            }
            records.extend_from_slice(&batch[..count]);
            consumer.release().expect("the only consumer");
        }
    }
}

fn valid(mut config: Config) -> ValidConfig {
    config.dataplane.workers = vec![0, 1];
    config.lanes = vec![LaneConfig {
        mirror: Some("memory".into()),
        workers: vec![0, 1],
        ..LaneConfig::default()
    }];
    config.flow.flows_max = config.flow.flows_max.min(4096);
    config.validate().expect("a valid configuration")
}

fn lanes(
    inside: &MemoryPort,
    outside: &MemoryPort,
    steering: Steering,
    layout: Layout,
) -> Vec<LaneOf<MemoryPort>> {
    let ring_packets = layout.ring_packets;
    let (receiving, owning) = if layout.is_mirror {
        let lane = MirrorLane::new(inside.clone(), 0);
        spread_mirror(lane, 1, steering, ring_packets)
    } else {
        let end = |port: &MemoryPort, frame_bytes_max| OwnerPort {
            queue: layout.has_queues.then(|| Box::new(port.clone()) as Box<_>),
            maker: Box::new(port.clone()),
            frame_bytes_max,
        };
        let owner = [end(inside, 65_535), end(outside, OUTSIDE_BYTES_MAX)];
        let lane = InlineLane::new(inside.clone(), 0, outside.clone(), 1);
        spread_inline(lane, vec![owner], steering, ring_packets)
    };
    let parts = std::iter::once(receiving).chain(owning);
    parts.map(|part| LaneOf::Steered(Box::new(part))).collect()
}
