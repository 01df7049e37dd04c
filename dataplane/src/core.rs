//! One core: its flow cache, its policy, its counters. It sees frames, never ports, so a test can
//! drive it with bytes.

use crate::adopt::Subscriber;
use crate::burst::{Places, Scratch};
use crate::config::{
    ClockSource, Config, FlowConfig, ForcedCondition, Key, ScanConfig, ValidConfig,
};
use crate::exception::{Condition, ExceptionTable};
use crate::export::RecordSink;
use crate::fold::Answered;
use crate::port::BURST_MAX;
use crate::stages::StageWatch;
use crate::token_bucket::TokenBucket;
use abi::stats::CoreWriter;
use abi::{CoreCounters, Reason};
use arrayvec::ArrayVec;
use flow::{
    CacheError, CacheOptions, FlowCache, FragmentFull, FragmentOptions, FragmentTable, IcmpKey,
    InitiatorRule, KeyHeader, KeyOptions, ScanOptions, Timeouts,
};
use packet::{Headers, ParseOptions};
use std::time::Duration;

/// Flow entries that the sweep looks at in one round at most.
pub const SWEEP_SLOTS_MAX: u32 = 512;
/// Flow entries that the sweep looks at in a second at most, but for a start in arrears: an entry costs
/// about 10 ns where all of them lie far away. A larger cache is gone over in more than a second.
const SWEEP_SLOTS_PER_SECOND: u64 = 8 << 20;
/// The same while hardly any flow begins.
const SWEEP_QUIET_SLOTS_PER_SECOND: u64 = 4 << 20;
/// Flows told in one step when a core stops.
const FLUSH_SLOTS: u32 = 4096;
/// Answers that may be sent at once after a silence, as a share of a second's.
const ANSWER_BURST_DIVISOR: u64 = 10;

/// Why a core could not be made.
#[derive(Debug, thiserror::Error)]
pub enum CoreError {
    /// The flow cache.
    #[error("worker {worker}: {source}")]
    Cache {
        /// Index of the worker.
        worker: usize,
        /// What is wrong.
        source: CacheError,
    },
    /// The fragment table.
    #[error(
        "worker {worker}: the fragment table of {slots} slots needs more memory than there is; lower flow.fragments_max"
    )]
    Fragments {
        /// Index of the worker.
        worker: usize,
        /// Slots asked for.
        slots: usize,
    },
}

/// Where a burst came in and where it would go out.
#[derive(Clone, Copy, Debug)]
pub struct Ingress {
    /// Port it came in by.
    pub port: u16,
    /// Port it goes out by; `None` for a mirror.
    pub egress: Option<u16>,
    /// Longest frame that port sends.
    pub frame_bytes_max: u32,
}

impl Ingress {
    /// From one port of a lane to the other.
    #[must_use]
    pub const fn inline(port: u16, egress: u16, frame_bytes_max: u32) -> Self {
        Self {
            port,
            egress: Some(egress),
            frame_bytes_max,
        }
    }

    /// From a mirror port to nowhere.
    #[must_use]
    pub const fn mirror(port: u16) -> Self {
        Self {
            port,
            egress: None,
            frame_bytes_max: u32::MAX,
        }
    }
}

/// What happens to a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Disposition {
    /// It goes on.
    Forward,
    /// It ends here.
    Drop(Reason),
}

/// A packet whose sender, or both ends of whose flow, are to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AnswerTo {
    /// Index in the burst.
    pub packet: usize,
    /// Both ends are to be told; else only the sender.
    pub both_ends: bool,
}

/// One core. `burst.rs` has what it does with packets.
pub struct Core {
    pub(crate) flows: FlowCache,
    pub(crate) fragments: FragmentTable,
    pub(crate) policy: Subscriber,
    pub(crate) policy_adopted_ns: u64,
    /// So many further bursts are looked through for flows that an older policy decided.
    pub(crate) unsettled_bursts: u32,
    pub(crate) answered: Option<Answered>,
    pub(crate) exceptions: ExceptionTable,
    pub(crate) options: CoreOptions,
    pub(crate) counters: CoreCounters,
    pub(crate) sink: RecordSink,
    pub(crate) stages: StageWatch,
    /// Absent only while a burst is worked on.
    pub(crate) scratch: Option<Box<Scratch>>,
    /// Packets of the last burst that go on.
    pub(crate) going: Places,
    pub(crate) burst_frames: usize,
    /// Bytes on the wire of those that do.
    pub(crate) burst_bytes: u64,
    pub(crate) answers: ArrayVec<AnswerTo, BURST_MAX>,
    answers_allowed: TokenBucket,
    writer: CoreWriter,
    commit_interval_ns: u64,
    committed_ns: u64,
    /// Time of the latest packet, for runs on a capture's clock.
    pub(crate) packet_ns: u64,
}

/// What of the configuration a burst needs.
#[derive(Clone, Debug)]
pub(crate) struct CoreOptions {
    pub(crate) parse: ParseOptions,
    pub(crate) key: KeyOptions,
    /// Flows are keyed by VLAN or tunnel too, so each packet's context is looked up.
    pub(crate) has_context: bool,
    /// Plain frames are read without their headers; not where a test switch calls all frames malformed.
    pub(crate) has_straight_path: bool,
    /// Later fragments are credited to the flow of their first.
    pub(crate) follow_fragments: bool,
    /// Counts as an offline reference does: whatever has a readable IP header is counted.
    pub(crate) truth: bool,
    /// Frames carry the time.
    pub(crate) capture_clock: bool,
}

impl Core {
    /// A core with everything it will ever need.
    ///
    /// # Errors
    /// [`CoreError`]: memory.
    pub fn new(
        config: &ValidConfig,
        worker: usize,
        policy: Subscriber,
        sink: RecordSink,
        writer: CoreWriter,
    ) -> Result<Self, CoreError> {
        let Config {
            flow,
            exception,
            pass,
            reject,
            scan,
            ..
        } = &config.config;
        let seed = [
            u64::from_ne_bytes(random_bytes()),
            u64::from_ne_bytes(random_bytes()),
        ];
        let flows = FlowCache::new(&cache_options(flow, scan, worker), seed)
            .map_err(|source| CoreError::Cache { worker, source })?;
        let fragment_options = FragmentOptions {
            datagrams_max: u32::try_from(flow.fragments_max).unwrap_or(u32::MAX),
            timeout_ns: if flow.truth {
                Timeouts::NEVER
            } else {
                nanos(flow.fragment_timeout)
            },
            full: FragmentFull::Refuse,
        };
        let fragments =
            FragmentTable::new(&fragment_options, seed).map_err(|_| CoreError::Fragments {
                worker,
                slots: flow.fragments_max,
            })?;
        let answers = u64::from(reject.answers_per_second);
        let mut core = Self {
            flows,
            fragments,
            policy,
            policy_adopted_ns: 0,
            unsettled_bursts: 0,
            answered: None,
            exceptions: ExceptionTable::new(exception, pass),
            options: core_options(&config.config),
            counters: CoreCounters::new(),
            sink,
            stages: StageWatch::off(),
            scratch: Some(Box::default()),
            going: 0,
            burst_frames: 0,
            burst_bytes: 0,
            answers: ArrayVec::new(),
            answers_allowed: TokenBucket::new(answers, (answers / ANSWER_BURST_DIVISOR).max(1)),
            writer,
            commit_interval_ns: nanos(config.config.dataplane.commit_interval),
            committed_ns: 0,
            packet_ns: 0,
        };
        core.commit(0);
        Ok(core)
    }

    /// Measures the stages of its rounds from now on.
    pub fn measure_stages(&mut self, watch: StageWatch) {
        self.stages = watch;
    }

    /// Adopts a published policy, if there is one. Called between bursts.
    #[inline]
    pub fn adopt(&mut self, now: u64) -> bool {
        let adopted = self.policy.adopt();
        if adopted {
            self.unsettle();
            self.policy_adopted_ns = now;
            self.counters.policy_epoch = self.policy.epoch();
            self.counters.policy_adopted_ns = now;
            self.counters.policies_adopted += 1;
            self.commit(now);
        }
        adopted
    }

    /// Looks at some flows for timeouts.
    ///
    /// # Bounded work
    /// At most [`SWEEP_SLOTS_MAX`] entries.
    #[inline]
    pub fn sweep(&mut self, now: u64) {
        let now = if self.options.capture_clock {
            self.packet_ns
        } else {
            now
        };
        self.flows.sweep(now, SWEEP_SLOTS_MAX, &mut self.sink);
    }

    /// Ends a round: records become visible, and at the interval the counters too.
    #[inline]
    pub fn end_round(&mut self, now: u64, received: bool, waited: bool) {
        self.sink.publish();
        self.counters.rounds += 1;
        self.counters.empty_rounds += u64::from(!received);
        self.counters.idle_waits += u64::from(waited);
        if now.wrapping_sub(self.committed_ns) >= self.commit_interval_ns {
            self.commit(now);
        }
        if self.stages.is_running() {
            self.stages.end_round(&mut self.counters);
        }
    }

    /// Tells every flow in the cache, when polling has stopped.
    pub fn finish(&mut self, now: u64) {
        let told = if self.options.capture_clock {
            self.packet_ns
        } else {
            now
        };
        self.sink.be_patient();
        while !self.flows.flush(told, FLUSH_SLOTS, &mut self.sink) {}
        self.sink.publish();
        self.commit(now);
    }

    /// Takes the right to send one answer to a rejected packet.
    pub fn may_answer(&mut self, now: u64) -> bool {
        let may = self.answers_allowed.take(1, now);
        self.counters.answers_suppressed += u64::from(!may);
        may
    }

    /// Whether a packet of the last burst goes on.
    #[inline]
    #[must_use]
    pub fn forwards(&self, packet: usize) -> bool {
        packet < BURST_MAX && self.going >> packet & 1 == 1
    }

    /// Whether any packet of the last burst does not go on.
    #[inline]
    #[must_use]
    pub fn has_drops(&self) -> bool {
        self.going.count_ones() as usize != self.burst_frames
    }

    /// Bytes on the wire of the packets of the last burst that go on.
    #[inline]
    #[must_use]
    pub fn forwarded_bytes(&self) -> u64 {
        self.burst_bytes
    }

    /// Whether any packet of the last burst is to be answered.
    #[inline]
    #[must_use]
    pub fn has_answers(&self) -> bool {
        !self.answers.is_empty()
    }

    /// The answers due for the last burst, one by one.
    #[must_use]
    pub fn answer(&self, slot: usize) -> Option<AnswerTo> {
        self.answers.get(slot).copied()
    }

    /// The headers of a packet of the last burst. `None` where it passed without anyone reading them.
    #[must_use]
    pub fn headers(&self, packet: usize) -> Option<&Headers> {
        self.scratch
            .as_ref()
            .and_then(|scratch| scratch.headers(packet))
    }

    /// Where the tables lie that packets touch.
    #[must_use]
    pub fn flow_tables(&self) -> [core::ops::Range<*const u8>; 3] {
        self.flows.tables()
    }

    /// The counters as they stand, ahead of what was committed last.
    #[must_use]
    pub fn counters(&self) -> &CoreCounters {
        &self.counters
    }

    pub(crate) fn counters_mut(&mut self) -> &mut CoreCounters {
        &mut self.counters
    }

    /// Whether a condition that is not the case is forced by a test switch.
    pub(crate) fn holds(&self, condition: Condition, really: bool) -> bool {
        really || self.exceptions.is_forced(condition)
    }

    /// Copies what the parts of the core count, and shows it to the control process.
    pub fn commit(&mut self, now: u64) {
        self.committed_ns = now;
        let cache = self.flows.counters();
        let counters = &mut self.counters;
        counters.committed_ns = now;
        counters.flows_created = cache.flows_created;
        counters.flows_midstream = cache.flows_midstream;
        counters.flows_ended_idle = cache.flows_ended_idle;
        counters.flows_ended_eof = cache.flows_ended_eof;
        counters.flows_ended_forced = cache.flows_ended_forced;
        counters.flows_evicted = cache.flows_evicted;
        counters.flow_table_full = cache.table_full + cache.index_full + cache.contexts_full;
        counters.flows_cached = cache.flows;
        counters.flows_established = cache.flows_established;
        counters.flows_max = u64::from(self.flows.flows_max());
        counters.cached_packets = cache.packets_cached;
        counters.folded_flows = cache.folded_flows;
        counters.folded_packets = cache.folded_packets;
        counters.folded_rest_packets = cache.folded_rest_packets;
        counters.scan_sources = cache.scan_sources;
        counters.fragments_tracked = u64::from(self.fragments.count());
        self.sink.count_into(counters);
        self.writer.commit(counters);
    }
}

pub(crate) fn core_options(config: &Config) -> CoreOptions {
    let flow = &config.flow;
    let header = match flow.key {
        Key::Inner => KeyHeader::Inner,
        Key::Outer => KeyHeader::Outer,
    };
    let icmp = if flow.truth {
        IcmpKey::Merged
    } else {
        IcmpKey::Paired
    };
    CoreOptions {
        parse: ParseOptions {
            // The offline reference follows tunnels however deep.
            tunnel_depth_max: if flow.truth {
                u8::MAX
            } else {
                flow.tunnel_depth_max
            },
            ..ParseOptions::default()
        },
        key: KeyOptions {
            header,
            vlan: flow.vlan_key,
            tunnel: flow.tunnel_key,
            icmp,
        },
        has_context: flow.vlan_key || flow.tunnel_key,
        has_straight_path: !config.exception.force.contains(&ForcedCondition::Malformed),
        // The offline reference credits fragments in its outermost table only.
        follow_fragments: !flow.truth || (flow.key == Key::Outer && !flow.vlan_key),
        truth: flow.truth,
        capture_clock: config.replay.clock == ClockSource::Capture,
    }
}

/// A second, or as long as the entries take.
fn sweep_period_ns(flows_max: u32, slots_per_second: u64) -> u64 {
    let needed = u64::from(flows_max) * flow::SWEEP_PERIOD_NS / slots_per_second;
    needed.max(flow::SWEEP_PERIOD_NS)
}

fn cache_options(flow: &FlowConfig, scan: &ScanConfig, worker: usize) -> CacheOptions {
    let flows_max = u32::try_from(flow.flows_max).unwrap_or(u32::MAX);
    let worker = u8::try_from(worker).unwrap_or(u8::MAX);
    if flow.truth {
        return CacheOptions {
            worker,
            tcp_quality: flow.tcp_quality,
            ..CacheOptions::truth(flows_max)
        };
    }
    let embryonic = u64::from(flows_max) * u64::from(flow.embryonic_percent) / 100;
    CacheOptions {
        flows_max,
        embryonic_max: u32::try_from(embryonic.max(1)).unwrap_or(u32::MAX),
        timeouts: Timeouts {
            first_active_ns: match flow.first_active_timeout {
                Duration::ZERO => Timeouts::NEVER,
                timeout => nanos(timeout),
            },
            active_ns: nanos(flow.active_timeout),
            tcp_opening_ns: nanos(flow.idle_tcp_opening),
            tcp_established_ns: nanos(flow.idle_tcp_established),
            tcp_one_way_ns: nanos(flow.idle_tcp_one_way),
            tcp_closing_ns: nanos(flow.idle_tcp_closing),
            tcp_closed_ns: nanos(flow.idle_tcp_closed),
            udp_single_ns: nanos(flow.idle_udp_single),
            udp_paired_ns: nanos(flow.idle_udp_paired),
            icmp_ns: nanos(flow.idle_icmp),
            other_ns: nanos(flow.idle_other),
        },
        initiator: InitiatorRule::Evidence,
        tcp_reuse: true,
        tcp_quality: flow.tcp_quality,
        worker,
        sweep_period_ns: sweep_period_ns(flows_max, SWEEP_SLOTS_PER_SECOND),
        sweep_quiet_period_ns: sweep_period_ns(flows_max, SWEEP_QUIET_SLOTS_PER_SECOND),
        scan: ScanOptions {
            sources_max: scan.sources_max,
            records_per_second: scan.records_per_second,
            burst: scan.burst,
            core_records_per_second: scan.worker_records_per_second,
            core_burst: scan.worker_burst,
        },
        ..CacheOptions::default()
    }
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Random bytes from the kernel; zeroes where it has none, which weakens the flow hash and nothing
/// else.
#[must_use]
pub fn random_bytes<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    let _ = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::empty());
    bytes
}
