//! One burst through its phases: parse all, identify all, look up all, then decide, packet by packet.
//!
//! ```text
//! parse    frames ahead are prefetched; frame -> headers
//! identify headers -> tuple, key, hash; the index line is prefetched
//! look up  the index line is here; the entry line is prefetched, then compared
//! decide   count the packet in its flow (or create the flow), then verdict from its entry;
//!          a flow that is new, or that an older policy decided, is judged first
//! ```
//!
//! Counting comes before deciding: a packet may end one flow and begin the next.

use crate::core::{AnswerTo, Core, Disposition, Ingress};
use crate::exception::{Condition, malformed_reason};
use crate::judge::Rejudged;
use crate::port::{BURST_MAX, Frame};
use abi::Reason;
use arrayvec::ArrayVec;
use flow::{
    Admission, Datagram, FlowHash, FlowIndex, FlowKey, FragmentPart, NewFlow, PacketFacts, Ports,
    Side, Step, Tuple, Verdict, classify, packet_facts, path, quoted_tuple,
};
use packet::{Headers, Transport, parse};

/// Frames ahead of the one being parsed whose bytes are asked for.
const PREFETCH_AHEAD: usize = 4;

/// One packet on its way through a burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) key: FlowKey,
    hash: FlowHash,
    found: Option<FlowIndex>,
    /// Nanoseconds since the Unix epoch: of the round, or of the capture.
    pub(crate) now: u64,
    wire_bytes: u32,
    pub(crate) side: Side,
    /// It has an IP header, and so a flow.
    is_ip: bool,
    is_fragment: bool,
    /// Its VLAN stack or tunnel found no id, so it can have no flow.
    is_without_context: bool,
    /// Place in the burst.
    pub(crate) index: u8,
}

/// Stands in the key of packets that have no flow.
const NO_TUPLE: Tuple = Tuple {
    src: [0; 16],
    dst: [0; 16],
    src_port: 0,
    dst_port: 0,
    proto: 0,
};

/// Room for one burst, reused for all. A core takes it out while it works on a burst, so that a
/// packet and its headers can be read while the core changes.
#[derive(Debug)]
pub(crate) struct Scratch {
    headers: [Headers; BURST_MAX],
    packets: ArrayVec<Packet, BURST_MAX>,
    dispositions: [Disposition; BURST_MAX],
}

impl Default for Scratch {
    fn default() -> Self {
        Self {
            headers: [const { Headers::new() }; BURST_MAX],
            packets: ArrayVec::new(),
            dispositions: [Disposition::Forward; BURST_MAX],
        }
    }
}

impl Scratch {
    pub(crate) fn disposition(&self, index: usize) -> Disposition {
        self.dispositions[index]
    }

    pub(crate) fn headers(&self, index: usize) -> &Headers {
        &self.headers[index]
    }
}

impl Core {
    /// Takes a burst through its phases. What becomes of each frame is told by
    /// [`Core::forwards`], [`Core::has_answers`] and the counters.
    ///
    /// # Bounded work
    /// At most [`BURST_MAX`] frames.
    #[inline]
    pub fn process<F: Frame>(&mut self, frames: &[F], ingress: Ingress, now: u64) {
        let Some(mut scratch) = self.scratch.take() else {
            return;
        };
        self.answers.clear();
        self.drops = 0;
        self.parse_all(&mut scratch.headers, frames);
        self.identify_all(&mut scratch, frames, now);
        self.look_up_all(&mut scratch.packets);
        let mut permitted = 0;
        let Scratch {
            headers,
            packets,
            dispositions,
        } = &mut *scratch;
        for ((packet, headers), disposition) in packets.iter_mut().zip(headers).zip(dispositions) {
            *disposition = self.decide(packet, headers, ingress);
            match *disposition {
                Disposition::Forward => permitted += 1,
                Disposition::Drop(reason) => self.count_drop(reason, ingress),
            }
        }
        if ingress.egress.is_none() {
            self.counters.mirror_packets += packets.len() as u64;
        }
        if self.policy.is_superseded() {
            self.counters.superseded_packets += permitted;
        }
        self.scratch = Some(scratch);
    }

    fn count_drop(&mut self, reason: Reason, ingress: Ingress) {
        // What a mirror port shows has ended here already; the verdict stands in the record.
        if ingress.egress.is_some() {
            self.counters.drops[reason.index()] += 1;
            self.drops += 1;
        }
    }

    /// Headers of all frames. Nothing reads them before all are written: a load that meets a store
    /// of another width on its way to the cache would wait for it.
    #[inline]
    fn parse_all<F: Frame>(&mut self, headers: &mut [Headers; BURST_MAX], frames: &[F]) {
        for frame in frames.iter().take(PREFETCH_AHEAD) {
            frame.prefetch();
        }
        let mut bytes = 0;
        for ((index, frame), headers) in frames.iter().enumerate().zip(headers) {
            if let Some(ahead) = frames.get(index + PREFETCH_AHEAD) {
                ahead.prefetch();
            }
            parse(
                frame.bytes(),
                frame.wire_bytes(),
                &self.options.parse,
                headers,
            );
            bytes += u64::from(frame.wire_bytes());
        }
        self.counters.rx_packets += frames.len() as u64;
        self.counters.rx_bytes += bytes;
    }

    /// Key, hash and time of all packets; the index lines are asked for.
    #[inline]
    fn identify_all<F: Frame>(&mut self, scratch: &mut Scratch, frames: &[F], now: u64) {
        scratch.packets.clear();
        for ((index, frame), headers) in frames.iter().enumerate().zip(&scratch.headers) {
            let now = if self.options.capture_clock {
                self.packet_ns = frame.captured_ns().unwrap_or(self.packet_ns);
                self.packet_ns
            } else {
                now
            };
            let packet = self.identify(headers, index, frame.wire_bytes(), now);
            scratch.packets.push(packet);
        }
    }

    /// Key and hash of one packet.
    #[inline(always)]
    fn identify(&mut self, headers: &Headers, index: usize, wire_bytes: u32, now: u64) -> Packet {
        let classified = classify(headers, &self.options.key);
        let context = match &classified {
            Some(classified) if self.options.has_context => {
                self.flows.intern_context(&classified.tags, now)
            }
            _ => Some(0),
        };
        let tuple = classified
            .as_ref()
            .map_or(&NO_TUPLE, |classified| &classified.tuple);
        let (key, side) = FlowKey::new(tuple, context.unwrap_or(0));
        let hash = self.flows.hash(&key);
        self.flows.prefetch_bucket(hash);
        #[expect(clippy::cast_possible_truncation, reason = "below BURST_MAX")]
        let index = index as u8;
        Packet {
            key,
            hash,
            found: None,
            now,
            wire_bytes,
            side,
            is_ip: classified.is_some(),
            is_fragment: classified.as_ref().is_some_and(|c| c.fragment.is_some()),
            is_without_context: context.is_none(),
            index,
        }
    }

    #[inline]
    fn look_up_all(&mut self, packets: &mut [Packet]) {
        for packet in &*packets {
            self.flows.prefetch_entry(packet.hash, packet.key.proto());
        }
        for packet in packets {
            if packet.is_ip && !packet.is_without_context {
                packet.found = self.flows.find(packet.hash, &packet.key);
            }
        }
    }

    /// What happens to one packet. Fail-closed: only the last line forwards.
    #[inline]
    fn decide(&mut self, packet: &mut Packet, headers: &Headers, ingress: Ingress) -> Disposition {
        if packet.wire_bytes > ingress.frame_bytes_max {
            return self.unflowed(Disposition::Drop(Reason::FrameTooLong));
        }
        if let Some(dropped) = self.drop_malformed(headers) {
            return self.unflowed(dropped);
        }
        let Some(ip) = headers.classified(self.options.key.header) else {
            return self.pass_non_ip(headers);
        };
        let facts = packet_facts(headers, ip, &self.options.key);
        if packet.is_fragment
            && let Err(disposition) = self.follow_fragment(packet, headers)
        {
            return self.unflowed(disposition);
        }
        let flow = match self.count_in_flow(packet, headers, &facts, ingress) {
            Ok(flow) => flow,
            Err(disposition) => return disposition,
        };
        self.verdict(packet, headers, &facts, flow, ingress)
    }

    fn unflowed(&mut self, disposition: Disposition) -> Disposition {
        self.counters.unflowed_packets += 1;
        disposition
    }

    #[inline]
    fn drop_malformed(&self, headers: &Headers) -> Option<Disposition> {
        let cause = headers.malformed;
        if cause.is_none() && !self.exceptions.is_forced(Condition::Malformed) || self.options.truth
        {
            return None;
        }
        let reason = cause.map_or(Reason::MalformedIpv4, malformed_reason);
        self.exceptions
            .drops(Condition::Malformed)
            .then_some(Disposition::Drop(reason))
    }

    fn pass_non_ip(&mut self, headers: &Headers) -> Disposition {
        let kind = headers.link.non_ip.unwrap_or(packet::NonIp::Other);
        let drops = self.exceptions.drops_non_ip(kind);
        let reason = headers.malformed.map_or(Reason::NonIp, malformed_reason);
        self.unflowed(if drops {
            Disposition::Drop(reason)
        } else {
            Disposition::Forward
        })
    }

    /// Gives a later fragment the ports of its datagram's first, and remembers those of a first.
    fn follow_fragment(
        &mut self,
        packet: &mut Packet,
        headers: &Headers,
    ) -> Result<(), Disposition> {
        let Some(classified) = classify(headers, &self.options.key) else {
            return Ok(());
        };
        let Some((mut key, part)) = classified.fragment else {
            return Ok(());
        };
        if !self.options.follow_fragments {
            return Ok(());
        }
        key = key.in_context(packet.key.context());
        if part == FragmentPart::First {
            let ports = Ports {
                src: classified.tuple.src_port,
                dst: classified.tuple.dst_port,
            };
            let full = self.fragments.remember(&key, ports, packet.now) == Datagram::Full;
            if self.holds(Condition::FragmentTableFull, full) {
                self.counters.fragment_table_full += 1;
                if self.exceptions.drops(Condition::FragmentTableFull) {
                    return Err(Disposition::Drop(Reason::FragmentTableFull));
                }
            }
            return Ok(());
        }
        if let Some(ports) = self.fragments.inherit(&key, packet.now) {
            self.counters.fragments_inherited += 1;
            let mut tuple = classified.tuple;
            (tuple.src_port, tuple.dst_port) = (ports.src, ports.dst);
            (packet.key, packet.side) = FlowKey::new(&tuple, packet.key.context());
            packet.hash = self.flows.hash(&packet.key);
            packet.found = self.flows.find(packet.hash, &packet.key);
        } else if self.exceptions.drops(Condition::FragmentUnknown) && !self.options.truth {
            return Err(Disposition::Drop(Reason::FragmentUnknown));
        }
        Ok(())
    }

    /// Counts the packet in its flow, creating it where it is new.
    #[inline]
    fn count_in_flow(
        &mut self,
        packet: &Packet,
        headers: &Headers,
        facts: &PacketFacts,
        ingress: Ingress,
    ) -> Result<FlowIndex, Disposition> {
        if let Some(flow) = packet.found {
            let is_decided = self.flows.verdict(flow, self.policy.epoch()).is_some();
            let rejudged = if is_decided {
                Rejudged::GoesOn
            } else {
                self.judge_again(packet, headers, flow)
            };
            if self
                .flows
                .account(flow, packet.side, facts, packet.now, &mut self.sink)
                == Step::Counted
            {
                self.counters.flow_packets += 1;
                if rejudged == Rejudged::Killed {
                    return Err(self.kill(packet, facts, flow, ingress));
                }
                return Ok(flow);
            }
        }
        self.admit(packet, headers, facts, ingress)
    }

    /// A packet without a flow when the burst was looked up: by now an earlier packet of the burst
    /// may have created it, so `insert` looks again.
    fn admit(
        &mut self,
        packet: &Packet,
        headers: &Headers,
        facts: &PacketFacts,
        ingress: Ingress,
    ) -> Result<FlowIndex, Disposition> {
        if !self.options.truth
            && self.holds(Condition::Midstream, facts.is_midstream())
            && self.exceptions.drops(Condition::Midstream)
            && self.flows.find(packet.hash, &packet.key).is_none()
        {
            return Err(self.unflowed(Disposition::Drop(Reason::Midstream)));
        }
        let path = path(headers, &self.options.key);
        let new = NewFlow {
            facts,
            path: &path,
            ingress_port: ingress.port,
        };
        if self.holds(Condition::FlowTableFull, packet.is_without_context) {
            return Err(self.without_state(packet, facts));
        }
        match self.flows.insert(
            packet.hash,
            &packet.key,
            packet.side,
            &new,
            packet.now,
            &mut self.sink,
        ) {
            Admission::New(flow) | Admission::Joined(flow) => {
                self.counters.flow_packets += 1;
                Ok(flow)
            }
            Admission::Full => Err(self.without_state(packet, facts)),
        }
    }

    /// The verdict of the flow's entry; the flow is judged first where that verdict is not there
    /// or not of the policy in force.
    #[inline]
    fn verdict(
        &mut self,
        packet: &Packet,
        headers: &Headers,
        facts: &PacketFacts,
        flow: FlowIndex,
        ingress: Ingress,
    ) -> Disposition {
        let verdict = match self.flows.verdict(flow, self.policy.epoch()) {
            // A denied flow may be turned round by a packet from its responder; anything else
            // holds for every packet.
            Some(verdict) if verdict.enforced == abi::Action::Allow => verdict,
            settled => match self.judge(packet, headers, flow, settled, ingress) {
                Ok(verdict) => verdict,
                Err(reason) => return self.drop_in_flow(facts, flow, reason, ingress),
            },
        };
        self.count_verdict(verdict);
        match verdict.enforced {
            abi::Action::Allow => Disposition::Forward,
            abi::Action::Limit => self.limit(packet, facts, flow, ingress),
            abi::Action::Deny | abi::Action::Reject => {
                let reason = self.denial(flow, verdict);
                if reason == Reason::RejectedByRule && ingress.egress.is_some() {
                    self.answers.push(AnswerTo {
                        packet: usize::from(packet.index),
                        both_ends: false,
                    });
                }
                self.drop_in_flow(facts, flow, reason, ingress)
            }
        }
    }

    #[inline]
    fn count_verdict(&mut self, verdict: Verdict) {
        let permits = verdict.enforced.permits();
        self.counters.permitted_packets += u64::from(permits);
        self.counters.would_deny_packets += u64::from(permits && !verdict.pending_permits);
        self.counters.uncovered_packets += u64::from(verdict.uncovered);
    }

    fn limit(
        &mut self,
        packet: &Packet,
        facts: &PacketFacts,
        flow: FlowIndex,
        ingress: Ingress,
    ) -> Disposition {
        let limit_index = self.flows.limit_index(flow).unwrap_or(u16::MAX);
        let is_forward = self
            .flows
            .ends(flow)
            .is_none_or(|ends| ends.initiator == packet.side);
        let admitted = self
            .policy
            .limits_mut()
            .and_then(|limits| limits.get_mut(limit_index))
            .is_some_and(|bucket| bucket.admits_packet(is_forward, facts.ip_bytes, packet.now));
        if admitted {
            return Disposition::Forward;
        }
        self.drop_in_flow(facts, flow, Reason::Limited, ingress)
    }

    /// Drops a packet of a flow: the flow knows, and a denied flow is told at once.
    fn drop_in_flow(
        &mut self,
        facts: &PacketFacts,
        flow: FlowIndex,
        reason: Reason,
        ingress: Ingress,
    ) -> Disposition {
        if ingress.egress.is_some() {
            self.flows.note_drop(flow, facts.ip_bytes, reason);
        }
        if !self.options.truth {
            self.flows.tell_denied(flow, &mut self.sink);
        }
        Disposition::Drop(reason)
    }

    /// Whether the packet passes whatever the policy says about its flow: an ICMP error about a
    /// permitted flow, or neighbour discovery.
    pub(crate) fn passes_by_itself(
        &mut self,
        packet: &Packet,
        headers: &Headers,
    ) -> Option<abi::VerdictSource> {
        if let Some(quoted) = &headers.quoted {
            let (key, _) = FlowKey::new(&quoted_tuple(quoted), packet.key.context());
            let about = self.flows.find(self.flows.hash(&key), &key)?;
            let (_, decision) = self.flows.decision(about)?;
            if decision.enforced.permits() {
                self.counters.icmp_errors_related += 1;
                return Some(abi::VerdictSource::Related);
            }
            return None;
        }
        match headers.transport {
            Transport::Icmpv6(icmp)
                if is_neighbor_discovery(icmp.kind)
                    && self.exceptions.passes_neighbor_discovery() =>
            {
                Some(abi::VerdictSource::Exception)
            }
            _ => None,
        }
    }
}

/// Router and neighbour discovery (RFC 4861 section 4), multicast listener discovery (RFC 2710,
/// RFC 3810): without them hosts of one link cannot find each other.
const fn is_neighbor_discovery(icmpv6_type: u8) -> bool {
    matches!(icmpv6_type, 130..=137 | 143)
}
