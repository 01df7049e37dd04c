//! The cache and its obvious twin see the same packets and must tell the same records.
//!
//! Packets come in bursts that are all looked up before the first is counted, as the dataplane
//! does it, so that indices go stale inside a burst; the twin takes packet after packet.

mod model;

use abi::Reason;
use abi::record::{FlowRecord, TunnelKind};
use abi::verdict::{Action, Coverage, Decision, Mode, OnChange, VerdictSource};
use flow::{
    Admission, CacheOptions, FlowCache, FlowHash, FlowIndex, FlowKey, Gate, InitiatorRule, Judged,
    KeyedPacket, LikelyEntry, NewFlow, PacketFacts, Passed, Path, Side, Step, TcpFlags as T,
    Timeouts, TransportFacts, Tuple, VlanTags, proto,
};
use model::{Model, Outcome, Packet};
use proptest::prelude::*;

const SECOND: u64 = 1_000_000_000;
const START: u64 = 1_700_000_000 * SECOND;

#[derive(Clone, Debug)]
enum Event {
    Burst(Vec<Packet>),
    /// Time passes, nanoseconds; negative is a clock set back.
    Time(i64),
    Sweep,
    Adopt,
    Kill(Tuple),
}

fn address(n: u8) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, n]
}

/// Any flow, and often the same few, so that flows live long enough to be simply allowed.
fn tuple() -> impl Strategy<Value = Tuple> {
    let proto = prop_oneof![Just(proto::TCP), Just(proto::UDP)];
    let frequent = (any::<bool>(), proto).prop_map(|(back, proto)| {
        let ends = [(address(1), 40_000), (address(2), 80)];
        let [(src, src_port), (dst, dst_port)] = if back { [ends[1], ends[0]] } else { ends };
        Tuple {
            src,
            dst,
            src_port,
            dst_port,
            proto,
        }
    });
    prop_oneof![2 => frequent, 1 => any_tuple()]
}

fn any_tuple() -> impl Strategy<Value = Tuple> {
    let port = prop_oneof![Just(80), Just(1024), Just(40_000_u16)];
    let proto = prop_oneof![
        4 => Just(proto::TCP),
        2 => Just(proto::UDP),
        1 => Just(proto::ICMP),
        1 => Just(proto::ICMPV6),
        1 => Just(47_u8),
    ];
    (1..4_u8, 1..4_u8, port.clone(), port, proto).prop_map(|(s, d, src_port, dst_port, proto)| {
        let (src_port, dst_port) = if proto == 47 {
            (0, 0)
        } else {
            (src_port, dst_port)
        };
        Tuple {
            src: address(s),
            dst: address(d),
            src_port,
            dst_port,
            proto,
        }
    })
}

fn tcp() -> impl Strategy<Value = TransportFacts> {
    let flags = prop_oneof![
        4 => Just(T::SYN),
        4 => Just(T::SYN | T::ACK),
        24 => Just(T::ACK),
        12 => Just(T::ACK | T::PSH),
        4 => Just(T::FIN | T::ACK),
        1 => Just(T::FIN),
        1 => Just(T::RST),
        1 => 0..0x200_u16,
    ];
    let seq = prop_oneof![0..8_u32, u32::MAX - 4..=u32::MAX];
    (flags, seq.clone(), seq, 0..4_u32).prop_map(|(flags, seq, ack, payload_bytes)| {
        TransportFacts::Tcp {
            flags,
            seq,
            ack,
            payload_bytes,
        }
    })
}

fn path() -> impl Strategy<Value = Path> {
    prop_oneof![
        2 => Just(Path::default()),
        1 => (0..3_u16).prop_map(|id| Path {
            vlans: VlanTags { count: 2, tags: [id, 0x1000 | id, 0, 0] },
            ..Path::default()
        }),
        1 => (0..3_u32).prop_map(|tunnel_id| Path {
            tunnel_kind: TunnelKind::Vxlan,
            tunnel_id,
            outer_src: address(200),
            outer_dst: address(100),
            ..Path::default()
        }),
    ]
}

fn packet() -> impl Strategy<Value = Packet> {
    let bytes = prop_oneof![4 => 20..1500_u32, 1 => u32::MAX - 2..=u32::MAX];
    let icmp = (
        prop_oneof![Just(8), Just(0), Just(128), Just(129), Just(3_u8)],
        0..2_u8,
    );
    (
        tuple(),
        bytes,
        any::<u8>(),
        any::<bool>(),
        (tcp(), icmp, any::<bool>()),
        path(),
        0..4_u16,
    )
        .prop_map(
            |(tuple, ip_bytes, tos, ipv6, (tcp, (kind, code), plain), path, ingress_port)| {
                let transport = match tuple.proto {
                    proto::TCP if !(plain && tos < 16) => tcp,
                    proto::ICMP | proto::ICMPV6 => TransportFacts::Icmp { kind, code },
                    _ => TransportFacts::Plain,
                };
                Packet {
                    may_pass: tos & 1 == 1,
                    tuple,
                    facts: PacketFacts {
                        ip_bytes,
                        tos,
                        ipv6,
                        transport,
                    },
                    path,
                    ingress_port,
                }
            },
        )
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        12 => prop::collection::vec(packet(), 1..8).prop_map(Event::Burst),
        4 => (0..3_000_000_i64).prop_map(Event::Time),
        4 => (0..4_000_000_000_i64).prop_map(Event::Time),
        2 => (0..200_000_000_000_i64).prop_map(Event::Time),
        1 => (-60_000_000_000..0_i64).prop_map(Event::Time),
        4 => Just(Event::Sweep),
        1 => Just(Event::Adopt),
        1 => tuple().prop_map(Event::Kill),
    ]
}

fn options() -> impl Strategy<Value = CacheOptions> {
    let sizes = prop_oneof![
        Just((1, 1)),
        Just((2, 1)),
        Just((6, 2)),
        Just((12, 12)),
        Just((64, 0))
    ];
    (
        sizes,
        any::<bool>(),
        any::<bool>(),
        any::<bool>(),
        timeouts(),
    )
        .prop_map(
            |((flows_max, embryonic_max), evidence, tcp_reuse, tcp_quality, timeouts)| {
                CacheOptions {
                    flows_max,
                    embryonic_max,
                    // With one nanosecond a pass, each call of the sweep is a pass or nothing.
                    sweep_period_ns: 1,
                    sweep_quiet_period_ns: 1,
                    initiator: if evidence {
                        InitiatorRule::Evidence
                    } else {
                        InitiatorRule::FirstSender
                    },
                    timeouts,
                    tcp_reuse,
                    tcp_quality,
                    worker: 7,
                    ..CacheOptions::default()
                }
            },
        )
}

fn timeouts() -> impl Strategy<Value = Timeouts> {
    let first_active = |first_active_ns| Timeouts {
        first_active_ns,
        ..Timeouts::default()
    };
    prop_oneof![
        3 => Just(Timeouts::none()),
        2 => Just(Timeouts::default()),
        // Shorter than a step of the test's clock, never, and one that the active timeout outruns.
        1 => prop::sample::select(vec![1, Timeouts::NEVER, 100 * 1_000_000_000]).prop_map(first_active),
    ]
}

/// Some decision that depends on who initiated, and on the epoch.
fn judge(tuple: &Tuple, epoch: u64) -> Decision {
    let lot = u64::from(tuple.src[15]) * 5 + u64::from(tuple.dst[15]) * 3 + epoch;
    let pick = |n: u64| {
        use Action::{Allow, Deny, Limit, Reject};
        let actions = [Allow, Deny, Allow, Limit, Allow, Reject, Allow, Allow];
        actions[usize::try_from((lot / n) % 8).unwrap()]
    };
    Decision {
        enforced: pick(1),
        enforced_source: VerdictSource::Rule,
        rule_id: lot + 1000,
        pending: pick(4),
        pending_source: VerdictSource::Default,
        pending_rule_id: lot + 2000,
        mode: Mode::ALL[usize::try_from(lot % 3).unwrap()],
        coverage: Coverage::ALL[usize::try_from(lot % 2).unwrap()],
        on_change: OnChange::Reevaluate,
        limit_index: 3,
        src_identity: tuple.src[15].into(),
        dst_identity: tuple.dst[15].into(),
    }
}

struct Pair {
    cache: FlowCache,
    model: Model,
    records: Vec<FlowRecord>,
    now: u64,
    epoch: u64,
    counted: u64,
}

impl Pair {
    fn new(options: &CacheOptions, seed: [u64; 2]) -> Self {
        let cache = FlowCache::new(options, seed).unwrap();
        let model = Model::new(options);
        Self {
            cache,
            model,
            records: Vec::new(),
            now: START,
            epoch: 1,
            counted: 0,
        }
    }

    fn play(&mut self, event: &Event) {
        match event {
            Event::Burst(packets) => self.burst(packets),
            Event::Time(by) => self.now = self.now.saturating_add_signed(*by),
            Event::Adopt => self.epoch += 1,
            Event::Kill(tuple) => {
                let (key, _) = FlowKey::new(tuple, 0);
                let records = &mut self.records;
                if let Some(index) = self.cache.find(self.cache.hash(&key), &key) {
                    assert!(
                        self.cache
                            .kill(index, self.now, &mut |r: &FlowRecord| records.push(*r))
                    );
                    assert!(!self.cache.kill(index, self.now, &mut |_: &FlowRecord| ()));
                }
                self.model.kill(&key);
            }
            Event::Sweep => {
                let records = &mut self.records;
                let mut sink = |r: &FlowRecord| records.push(*r);
                let swept = self.cache.sweep(self.now, u32::MAX, &mut sink);
                if swept != 0 {
                    assert_eq!(swept, self.cache.flows_max());
                    self.model.sweep(self.now);
                }
            }
        }
        self.check();
    }

    fn burst(&mut self, packets: &[Packet]) {
        let keys: Vec<_> = packets.iter().map(|p| FlowKey::new(&p.tuple, 0)).collect();
        let hashes: Vec<_> = keys.iter().map(|(key, _)| self.cache.hash(key)).collect();
        hashes
            .iter()
            .for_each(|hash| self.cache.prefetch_bucket(*hash));
        let likely: Vec<_> = hashes
            .iter()
            .map(|hash| self.cache.prefetch_entry(*hash, 6))
            .collect();
        let gate = Gate::new(self.epoch);
        let found: Vec<_> = (0..keys.len())
            .map(|i| self.cache.find(hashes[i], &keys[i].0))
            .collect();
        for (i, packet) in packets.iter().enumerate() {
            let (key, side) = keys[i];
            let keyed = KeyedPacket {
                key,
                side,
                facts: packet.facts,
            };
            if packet.may_pass && self.pass(&gate, likely[i], &keyed, packet) {
                continue;
            }
            let records = &mut self.records;
            let mut sink = |r: &FlowRecord| records.push(*r);
            let facts = &packet.facts;
            let hit = found[i].filter(|index| {
                self.cache.account(*index, side, facts, self.now, &mut sink) == Step::Counted
            });
            let is_judged_first = packet.facts.tos & 2 == 2
                && hit.is_none()
                && self.cache.find(hashes[i], &key).is_none();
            let index = hit.or_else(|| self.admit(hashes[i], &keyed, packet, is_judged_first));
            let outcome = self.model.packet(packet, self.now);
            assert_eq!(outcome == Outcome::Counted, index.is_some());
            if let Some(index) = index.filter(|_| is_judged_first) {
                let ends = self.cache.ends(index).unwrap();
                let decision = judge(&key.tuple(ends.initiator), self.epoch);
                let egress = u16::from(side == Side::B);
                self.model.set_decision(&key, self.epoch, decision, egress);
            }
            if let Some(index) = index {
                self.counted += 1;
                self.decide(index, &key, side, facts);
            }
        }
    }

    /// A packet without an entry, or whose flow is over; the policy is asked first or later.
    fn admit(
        &mut self,
        hash: FlowHash,
        keyed: &KeyedPacket,
        packet: &Packet,
        is_judged_first: bool,
    ) -> Option<FlowIndex> {
        let KeyedPacket { key, side, facts } = keyed;
        let records = &mut self.records;
        let mut sink = |r: &FlowRecord| records.push(*r);
        let new = NewFlow {
            facts,
            ingress_port: packet.ingress_port,
            path: &packet.path,
        };
        let admission = if is_judged_first {
            let ends = self.cache.ends_of_new(key, *side, facts);
            let decision = judge(&key.tuple(ends.initiator), self.epoch);
            let judged = Judged {
                ends: &ends,
                decision: &decision,
                epoch: self.epoch,
                egress: Some(u16::from(*side == Side::B)),
            };
            let cache = &mut self.cache;
            cache.insert_judged(hash, key, *side, &new, &judged, self.now, &mut sink)
        } else {
            let cache = &mut self.cache;
            cache.insert(hash, key, *side, &new, self.now, &mut sink)
        };
        match admission {
            Admission::New(index) | Admission::Joined(index) => Some(index),
            Admission::Full => None,
        }
    }

    /// Whether the straight path took the packet, which the twin counts and judges as any other.
    fn pass(
        &mut self,
        gate: &Gate,
        likely: LikelyEntry,
        keyed: &KeyedPacket,
        packet: &Packet,
    ) -> bool {
        let mut passed = Passed::default();
        let is_passed = self.cache.pass(gate, likely, keyed, self.now, &mut passed);
        let counted = self.cache.take_passed(&mut passed);
        assert_eq!(counted.packets, u64::from(is_passed));
        if is_passed {
            assert_eq!(self.model.packet(packet, self.now), Outcome::Counted);
            let decision = self.model.verdict(&keyed.key, self.epoch).unwrap();
            assert_eq!(decision.enforced, Action::Allow);
            let would_deny = u64::from(!decision.pending.permits());
            let uncovered = u64::from(decision.coverage == Coverage::Uncovered);
            assert_eq!(
                (counted.would_deny, counted.uncovered),
                (would_deny, uncovered)
            );
            self.counted += 1;
        }
        is_passed
    }

    fn decide(&mut self, index: flow::FlowIndex, key: &FlowKey, side: Side, facts: &PacketFacts) {
        let records = &mut self.records;
        let mut sink = |r: &FlowRecord| records.push(*r);
        let ends = self.cache.ends(index).unwrap();
        assert_eq!(
            self.model.initiator(key),
            Some((ends.initiator, ends.evidence))
        );
        let mine = self.cache.verdict(index, self.epoch);
        let decision = self.model.verdict(key, self.epoch);
        assert_eq!(mine.is_some(), decision.is_some());
        let decision = decision.unwrap_or_else(|| {
            let decision = judge(&key.tuple(ends.initiator), self.epoch);
            assert!(self.cache.set_decision(index, self.epoch, &decision));
            let egress = u16::from(side == Side::B);
            self.cache.set_egress(index, egress);
            self.model.set_decision(key, self.epoch, decision, egress);
            decision
        });
        let verdict = self.cache.verdict(index, self.epoch).unwrap();
        assert_eq!(verdict.enforced, decision.enforced);
        assert_eq!(verdict.pending_permits, decision.pending.permits());
        assert_eq!(verdict.uncovered, decision.coverage == Coverage::Uncovered);
        assert_eq!(self.cache.decision(index), Some((self.epoch, decision)));
        if !decision.enforced.permits() {
            self.cache
                .note_drop(index, facts.ip_bytes, Reason::DeniedByRule);
            self.cache.tell_denied(index, &mut sink);
            assert!(!self.cache.tell_denied(index, &mut sink), "told twice");
            self.model
                .drop_and_tell(key, facts.ip_bytes, Reason::DeniedByRule.byte());
        }
    }

    /// Nothing is lost or counted twice, and both sides say the same.
    fn check(&self) {
        let counters = self.cache.counters();
        assert_eq!(counters.index_full, 0);
        assert_eq!(counters.flows, self.model.flows());
        assert_eq!(counters.flows_established, self.model.established());
        assert_eq!(self.cache.packets_cached(), self.cache.recount_packets());
        assert_eq!(self.cache.packets_cached(), self.model.packets_cached());
        let recorded: u64 = self
            .records
            .iter()
            .map(|r| r.packets_fwd + r.packets_rev)
            .sum();
        assert_eq!(recorded + self.cache.packets_cached(), self.counted);
        let ended = counters.flows_ended_idle
            + counters.flows_ended_eof
            + counters.flows_ended_forced
            + counters.flows_evicted;
        assert_eq!(counters.flows_created, counters.flows + ended);
        let told = ended + counters.records_update + counters.records_denied;
        assert_eq!(told, self.records.len() as u64);
    }

    fn finish(mut self) {
        let records = &mut self.records;
        let mut sink = |r: &FlowRecord| records.push(*r);
        while !self.cache.flush(self.now, 3, &mut sink) {}
        self.model.flush();
        self.check();
        // A flow's records come in order on both sides; the order of flows is the sweep's own.
        self.records.sort_by_key(|r| r.flow_id);
        self.model.records.sort_by_key(|r| r.flow_id);
        for (mine, twins) in self.records.iter().zip(&self.model.records) {
            assert_eq!(mine, twins);
        }
        assert_eq!(self.records.len(), self.model.records.len());
    }
}

/// 2000 cases, or more where `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    ProptestConfig {
        cases: asked.cases.max(2000),
        ..asked
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn cache_and_twin_tell_the_same_records(
        options in options(),
        seed in any::<[u64; 2]>(),
        events in prop::collection::vec(event(), 1..60),
    ) {
        let mut pair = Pair::new(&options, seed);
        events.iter().for_each(|event| pair.play(event));
        pair.finish();
    }
}
