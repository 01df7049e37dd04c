//! One burst through its phases: read all, look up all, then decide, packet by packet.
//!
//! ```text
//! read     frames ahead are prefetched; frame -> key, hash, facts; the index line is prefetched.
//!          A plain frame is read straight to its key, any other one by way of its headers
//! look up  the index line is here; the entry line is prefetched, and where entries are missing
//!          the policy is asked about all of them (foresee.rs); after a change of policy also about
//!          the flows that an older one decided
//! decide   a packet that changes nothing about an allowed flow is counted there and goes on; one
//!          that changes nothing about a denied flow is counted there and dropped. Any other is counted in its flow (or creates the flow), then gets the verdict of its
//!          entry; a flow that is new, or that an older policy decided, is judged first
//! ```
//!
//! Counting comes before deciding: a packet may end one flow and begin the next.

use crate::core::{AnswerTo, Core, Disposition, Ingress};
use crate::exception::{Condition, malformed_reason};
use crate::fold::Scan;
use crate::foresee::Foreseen;
use crate::judge::{ByItself, Rejudged};
use crate::port::{BURST_MAX, Frame};
use abi::{Decision, Reason, Stage};
use flow::{
    Admission, Datagram, FlowHash, FlowIndex, FlowKey, FragmentPart, Gate, Judged, KeyedPacket,
    LikelyEntry, NewFlow, Passed, Path, Ports, Step, Verdict, classify, path, proto, quoted_tuple,
};
use packet::{Headers, Transport, parse};

/// Frames ahead of the one being read whose bytes are asked for.
const PREFETCH_AHEAD: usize = 4;

/// One packet on its way through a burst.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet {
    pub(crate) seen: KeyedPacket,
    hash: FlowHash,
    pub(crate) likely: LikelyEntry,
    /// Place in the burst.
    pub(crate) index: u8,
    /// Nothing about the packet itself asks for more than counting it in its flow.
    pub(crate) is_simple: bool,
    /// Its headers have been read.
    has_headers: bool,
    /// It has an IP header, and so a flow.
    is_ip: bool,
    is_fragment: bool,
    /// Its VLAN stack or tunnel found no id, so it can have no flow.
    is_without_context: bool,
    wire_bytes: u32,
    /// Nanoseconds since the Unix epoch: of the round, or of the capture.
    pub(crate) now: u64,
}

/// Room for one burst, reused for all. A core takes it out while it works on a burst, so that a
/// packet and its headers can be read while the core changes.
#[derive(Debug)]
pub(crate) struct Scratch {
    headers: [Headers; BURST_MAX],
    packets: [Packet; BURST_MAX],
    foreseen: Foreseen,
}

impl Default for Scratch {
    fn default() -> Self {
        let packet = Packet {
            seen: KeyedPacket::NONE,
            hash: FlowHash::default(),
            likely: LikelyEntry::NONE,
            index: 0,
            is_simple: false,
            has_headers: false,
            is_ip: false,
            is_fragment: false,
            is_without_context: false,
            wire_bytes: 0,
            now: 0,
        };
        #[expect(clippy::cast_possible_truncation, reason = "below BURST_MAX")]
        let packets = std::array::from_fn(|index| Packet {
            index: index as u8,
            ..packet
        });
        Self {
            headers: [const { Headers::new() }; BURST_MAX],
            packets,
            foreseen: Foreseen::default(),
        }
    }
}

impl Packet {
    #[inline]
    pub(crate) const fn wire_bytes(&self) -> u32 {
        self.wire_bytes
    }

    /// Whether it asks the policy for a service by its port, and will ask for no other: a later
    /// fragment takes the ports of its datagram's first.
    #[inline]
    pub(crate) fn asks_for_port(&self) -> bool {
        !self.is_fragment && matches!(self.seen.key.proto(), proto::TCP | proto::UDP)
    }
}

impl Scratch {
    /// The headers of a packet, where this burst had to read them.
    pub(crate) fn headers(&self, index: usize) -> Option<&Headers> {
        self.packets
            .get(index)
            .filter(|packet| packet.has_headers)
            .and_then(|_| self.headers.get(index))
    }
}

/// A set of places in a burst, one bit each.
pub(crate) type Places = u64;

const _: () = assert!(BURST_MAX <= Places::BITS as usize);

/// The first `count` places.
fn first_places(count: usize) -> Places {
    match u32::try_from(count) {
        Ok(count) if count < Places::BITS => (1 << count) - 1,
        _ => Places::MAX,
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
        self.process_in::<F, false>(frames, ingress, now);
    }

    /// As [`Core::process`], in a round whose stages may be `MEASURED`.
    #[inline]
    pub(crate) fn process_in<F: Frame, const MEASURED: bool>(
        &mut self,
        frames: &[F],
        ingress: Ingress,
        now: u64,
    ) {
        debug_assert!(frames.len() <= BURST_MAX, "{} frames", frames.len());
        self.answers.clear();
        // Fail-closed: whatever is not decided below does not go on.
        self.going = 0;
        self.burst_frames = frames.len();
        let frames = frames.get(..BURST_MAX).unwrap_or(frames);
        let Some(mut scratch) = self.scratch.take() else {
            return;
        };
        let lacking = self.read_all(&mut scratch, frames, ingress, now);
        self.lap::<MEASURED>(Stage::Read, frames.len());
        let without_entry = match lacking {
            0 => self.look_up_all::<false>(&mut scratch.packets, frames.len(), 0),
            _ => self.look_up_all::<true>(&mut scratch.packets, frames.len(), lacking),
        };
        self.lap::<MEASURED>(Stage::LookUp, frames.len());
        let packets = scratch.packets.get(..frames.len()).unwrap_or(&[]);
        self.foresee(packets, without_entry, &mut scratch.foreseen);
        self.lap::<MEASURED>(Stage::Classify, 0);
        match self.begin_scan(&scratch.packets, &scratch.foreseen, ingress) {
            None => self.decide_all::<F, false>(&mut scratch, frames, ingress, None),
            Some(scan) => self.decide_all::<F, true>(&mut scratch, frames, ingress, Some(&scan)),
        }
        self.lap::<MEASURED>(Stage::Decide, frames.len());
        if ingress.egress.is_none() {
            self.counters.mirror_packets += frames.len() as u64;
        }
        self.scratch = Some(scratch);
    }

    /// Ends a stage in a round that is measured.
    #[inline(always)]
    pub(crate) fn lap<const MEASURED: bool>(&mut self, stage: Stage, packets: usize) {
        if MEASURED {
            self.stages.lap(stage, packets);
        }
    }

    /// Key, hash and facts of all packets; the index lines are asked for. The packets that are known
    /// to have no entry.
    #[inline(never)]
    fn read_all<F: Frame>(
        &mut self,
        scratch: &mut Scratch,
        frames: &[F],
        ingress: Ingress,
        now: u64,
    ) -> Places {
        for frame in frames.iter().take(PREFETCH_AHEAD) {
            frame.prefetch();
        }
        let has_straight_path = self.options.has_straight_path;
        let has_census = self.flows.has_census();
        let (mut others, mut lacking): (Places, Places) = (0, 0);
        let mut bytes = 0;
        for ((index, frame), packet) in frames.iter().enumerate().zip(&mut scratch.packets) {
            if let Some(ahead) = frames.get(index + PREFETCH_AHEAD) {
                ahead.prefetch();
            }
            packet.wire_bytes = frame.wire_bytes();
            packet.now = now;
            bytes += u64::from(packet.wire_bytes);
            let is_plain = has_straight_path
                && packet.wire_bytes <= ingress.frame_bytes_max
                && self.read_plain(frame.bytes(), packet);
            if !is_plain {
                others |= 1 << index;
            } else if has_census && self.flows.lacks(packet.hash, &packet.seen) {
                lacking |= 1 << index;
            } else {
                self.flows.prefetch_bucket(packet.hash);
            }
        }
        if self.options.capture_clock {
            self.read_times(scratch, frames);
        }
        if others != 0 {
            self.read_others(scratch, frames, others);
        }
        self.burst_bytes = bytes;
        self.counters.rx_packets += frames.len() as u64;
        self.counters.rx_bytes += bytes;
        lacking
    }

    /// Reads a plain frame straight to its key, behind VLAN tags where these are not part of it.
    /// False where it is another one.
    #[inline(always)]
    fn read_plain(&self, frame: &[u8], packet: &mut Packet) -> bool {
        let hash_key = self.flows.hash_key();
        let hash = packet.seen.read_plain(frame, hash_key);
        let hash = hash.or_else(|| {
            let may_be_tagged = !self.options.has_context;
            may_be_tagged
                .then(|| packet.seen.read_tagged(frame, hash_key))
                .flatten()
        });
        let Some(hash) = hash else {
            return false;
        };
        packet.hash = hash;
        packet.is_simple = true;
        packet.has_headers = false;
        packet.is_ip = true;
        packet.is_fragment = false;
        packet.is_without_context = false;
        true
    }

    fn read_times<F: Frame>(&mut self, scratch: &mut Scratch, frames: &[F]) {
        for (frame, packet) in frames.iter().zip(&mut scratch.packets) {
            self.packet_ns = frame.captured_ns().unwrap_or(self.packet_ns);
            packet.now = self.packet_ns;
        }
    }

    /// Reads the frames at `others` by way of their headers. Nothing reads the headers before all
    /// are written: a load that meets a store of another width on its way to the cache would wait.
    #[cold]
    fn read_others<F: Frame>(&mut self, scratch: &mut Scratch, frames: &[F], others: Places) {
        let is_other = |index: usize| others >> index & 1 == 1;
        for (index, frame) in frames.iter().enumerate() {
            if is_other(index) {
                let headers = &mut scratch.headers[index];
                parse(
                    frame.bytes(),
                    frame.wire_bytes(),
                    &self.options.parse,
                    headers,
                );
            }
        }
        for index in (0..frames.len()).filter(|index| is_other(*index)) {
            self.identify(&scratch.headers[index], &mut scratch.packets[index]);
        }
    }

    /// Key, hash and facts of a packet whose headers have been read.
    fn identify(&mut self, headers: &Headers, packet: &mut Packet) {
        let classified = classify(headers, &self.options.key);
        let context = match &classified {
            Some(classified) if self.options.has_context => {
                self.flows.intern_context(&classified.tags, packet.now)
            }
            _ => Some(0),
        };
        packet.seen = classified.as_ref().map_or(KeyedPacket::NONE, |classified| {
            let (key, side) = FlowKey::new(&classified.tuple, context.unwrap_or(0));
            KeyedPacket {
                key,
                side,
                facts: classified.facts,
            }
        });
        packet.hash = self.flows.hash(&packet.seen.key);
        self.flows.prefetch_bucket(packet.hash);
        packet.has_headers = true;
        packet.is_ip = classified.is_some();
        packet.is_fragment = classified.as_ref().is_some_and(|c| c.fragment.is_some());
        packet.is_without_context = context.is_none();
        packet.is_simple = false;
    }

    /// The entry lines are asked for. The packets that have none.
    #[inline(never)]
    fn look_up_all<const SCANNED: bool>(
        &self,
        packets: &mut [Packet; BURST_MAX],
        count: usize,
        lacking: Places,
    ) -> Places {
        let mut without_entry = lacking;
        for (index, packet) in packets.iter_mut().enumerate().take(count) {
            if SCANNED && lacking >> index & 1 == 1 {
                debug_assert_eq!(self.flows.find(packet.hash, &packet.seen.key), None);
                packet.likely = LikelyEntry::NONE;
                continue;
            }
            let proto = packet.seen.key.proto();
            packet.likely = self.flows.prefetch_entry(packet.hash, proto);
            if packet.likely == LikelyEntry::NONE {
                without_entry |= 1 << index;
            }
        }
        without_entry
    }

    #[inline(never)]
    fn decide_all<F: Frame, const SCANNED: bool>(
        &mut self,
        scratch: &mut Scratch,
        frames: &[F],
        ingress: Ingress,
        scan: Option<&Scan>,
    ) {
        let gate = Gate::new(self.policy.epoch());
        let mut passed = Passed::default();
        let mut permitted = 0;
        let mut dropped: Places = 0;
        let mut alike = scan.map_or(0, |scan| scan.alike);
        let mut taken: Places = 0;
        for (index, frame) in frames.iter().enumerate().take(BURST_MAX) {
            let packet = &scratch.packets[index];
            let is_passed = packet.is_simple
                && self
                    .flows
                    .pass(&gate, packet.likely, &packet.seen, packet.now, &mut passed);
            if is_passed {
                continue;
            }
            if SCANNED {
                if alike >> index & 1 == 1 {
                    taken |= 1 << index;
                    continue;
                }
            }
            if packet.is_simple && self.blocks(&gate, packet, ingress) {
                dropped |= 1 << index;
                continue;
            }
            if SCANNED {
                dropped |= self.fold_taken(scan, taken, &scratch.packets, ingress);
                taken = 0;
            }
            permitted += self.count_passed(&mut passed);
            let goes_on = self.decide_one(scratch, frame, index, ingress);
            permitted += u64::from(goes_on);
            dropped |= Places::from(!goes_on) << index;
            if SCANNED && !self.goes_on(scan, &scratch.foreseen) {
                alike = 0;
            }
        }
        if SCANNED {
            dropped |= self.fold_taken(scan, taken, &scratch.packets, ingress);
        }
        permitted += self.count_passed(&mut passed);
        self.going = first_places(frames.len()) & !dropped;
        if self.policy.is_superseded() {
            self.counters.superseded_packets += permitted;
        }
    }

    /// Decides a packet that does not simply pass; whether it goes on.
    #[inline(never)]
    fn decide_one<F: Frame>(
        &mut self,
        scratch: &mut Scratch,
        frame: &F,
        index: usize,
        ingress: Ingress,
    ) -> bool {
        let (packet, headers) = (&mut scratch.packets[index], &mut scratch.headers[index]);
        let foreseen = &scratch.foreseen;
        // What a plain frame without tags has to say, its key and facts say already.
        if !packet.has_headers && (!packet.is_simple || is_tagged(frame.bytes())) {
            self.read_headers(packet, frame, headers);
        }
        let known = packet.has_headers.then_some(&*headers);
        let disposition = self.decide(packet, known, foreseen, ingress);
        if !packet.has_headers && self.answers.last().is_some_and(|a| a.packet == index) {
            self.read_headers(packet, frame, headers);
        }
        match disposition {
            Disposition::Forward => true,
            Disposition::Drop(reason) => {
                self.count_drop(packet, reason, ingress);
                false
            }
        }
    }

    fn read_headers<F: Frame>(&self, packet: &mut Packet, frame: &F, headers: &mut Headers) {
        let (bytes, wire_bytes) = (frame.bytes(), packet.wire_bytes);
        parse(bytes, wire_bytes, &self.options.parse, headers);
        packet.has_headers = true;
    }

    /// Takes over what the cache let pass, before anything else is asked of it.
    #[inline]
    fn count_passed(&mut self, passed: &mut Passed) -> u64 {
        let Passed {
            packets,
            would_deny,
            uncovered,
        } = self.flows.take_passed(passed);
        self.counters.flow_packets += packets;
        self.counters.permitted_packets += packets;
        self.counters.would_deny_packets += would_deny;
        self.counters.uncovered_packets += uncovered;
        packets
    }

    pub(crate) fn count_drop(&mut self, packet: &Packet, reason: Reason, ingress: Ingress) {
        // What a mirror port shows has ended here already; the verdict stands in the record.
        if ingress.egress.is_some() {
            self.counters.drops[reason.index()] += 1;
            self.burst_bytes -= u64::from(packet.wire_bytes);
        }
    }

    /// What happens to one packet. A plain frame without tags comes without headers: it is neither
    /// malformed nor a fragment, and carries UDP or TCP.
    fn decide(
        &mut self,
        packet: &mut Packet,
        headers: Option<&Headers>,
        foreseen: &Foreseen,
        ingress: Ingress,
    ) -> Disposition {
        if packet.wire_bytes > ingress.frame_bytes_max {
            return self.unflowed(Disposition::Drop(Reason::FrameTooLong));
        }
        if let Some(headers) = headers {
            if let Some(dropped) = self.drop_malformed(headers) {
                return self.unflowed(dropped);
            }
            if !packet.is_ip {
                return self.pass_non_ip(headers);
            }
            if packet.is_fragment
                && let Err(disposition) = self.follow_fragment(packet, headers)
            {
                return self.unflowed(disposition);
            }
        }
        let (flow, decided) = match self.count_in_flow(packet, headers, foreseen, ingress) {
            Ok(counted) => counted,
            Err(disposition) => return disposition,
        };
        self.verdict(packet, headers, flow, decided, ingress)
    }

    fn unflowed(&mut self, disposition: Disposition) -> Disposition {
        self.counters.unflowed_packets += 1;
        disposition
    }

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
        key = key.in_context(packet.seen.key.context());
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
            (packet.seen.key, packet.seen.side) = FlowKey::new(&tuple, packet.seen.key.context());
            packet.hash = self.flows.hash(&packet.seen.key);
        } else if self.exceptions.drops(Condition::FragmentUnknown) && !self.options.truth {
            return Err(Disposition::Drop(Reason::FragmentUnknown));
        }
        Ok(())
    }

    /// Counts the packet in its flow, creating it where it is new; then with what the policy says.
    fn count_in_flow(
        &mut self,
        packet: &Packet,
        headers: Option<&Headers>,
        foreseen: &Foreseen,
        ingress: Ingress,
    ) -> Result<(FlowIndex, Option<Decision>), Disposition> {
        if !packet.is_without_context
            && !self.is_without_entry(packet, foreseen)
            && let Some(flow) = self.flows.find(packet.hash, &packet.seen.key)
        {
            let is_decided = self.flows.verdict(flow, self.policy.epoch()).is_some();
            let rejudged = if is_decided {
                Rejudged::GoesOn
            } else {
                self.judge_again(packet, headers, foreseen, flow)
            };
            if self.flows.account(
                flow,
                packet.seen.side,
                &packet.seen.facts,
                packet.now,
                &mut self.sink,
            ) == Step::Counted
            {
                self.counters.flow_packets += 1;
                if rejudged == Rejudged::Killed {
                    return Err(self.kill(packet, flow, ingress));
                }
                return Ok((flow, None));
            }
        }
        self.admit(packet, headers, foreseen, ingress)
    }

    /// A packet without a flow. It is judged first: where it is denied and its source has used up its
    /// budget of records, it is added to the aggregate of its source and opens none.
    fn admit(
        &mut self,
        packet: &Packet,
        headers: Option<&Headers>,
        foreseen: &Foreseen,
        ingress: Ingress,
    ) -> Result<(FlowIndex, Option<Decision>), Disposition> {
        if !self.options.truth
            && self.holds(Condition::Midstream, packet.seen.facts.is_midstream())
            && self.exceptions.drops(Condition::Midstream)
        {
            return Err(self.unflowed(Disposition::Drop(Reason::Midstream)));
        }
        if self.holds(Condition::FlowTableFull, packet.is_without_context) {
            return Err(self.without_state(packet));
        }
        let (ends, decision) = self.decide_new(packet, headers, foreseen, ingress)?;
        let read = headers.map(|read| path(read, &self.options.key));
        let new = NewFlow {
            facts: &packet.seen.facts,
            path: read.as_ref().unwrap_or(&Path::PLAIN),
            ingress_port: ingress.port,
        };
        let judged = Judged {
            ends: &ends,
            decision: &decision,
            epoch: self.policy.epoch(),
            egress: ingress.egress.filter(|_| decision.enforced.permits()),
        };
        match self.flows.insert_judged(
            packet.hash,
            &packet.seen.key,
            packet.seen.side,
            &new,
            &judged,
            packet.now,
            &mut self.sink,
        ) {
            Admission::New(flow) => {
                self.counters.flow_packets += 1;
                Ok((flow, Some(decision)))
            }
            Admission::Joined(flow) => {
                self.counters.flow_packets += 1;
                Ok((flow, None))
            }
            Admission::Full => Err(self.without_state(packet)),
        }
    }

    /// The verdict of the flow's entry; the flow is judged first where that verdict is not there
    /// or not of the policy in force. `decided` is what was decided about a flow that is new.
    fn verdict(
        &mut self,
        packet: &Packet,
        headers: Option<&Headers>,
        flow: FlowIndex,
        decided: Option<Decision>,
        ingress: Ingress,
    ) -> Disposition {
        let judged = if let Some(decision) = decided {
            self.settled(packet, flow, &decision)
        } else {
            match self.flows.verdict(flow, self.policy.epoch()) {
                // A denied flow may be turned round by a packet from its responder; anything else
                // holds for every packet.
                Some(verdict) if verdict.enforced == abi::Action::Allow => Ok(verdict),
                settled => self.judge(packet, headers, flow, settled, ingress),
            }
        };
        let verdict = match judged {
            Ok(verdict) => verdict,
            Err(reason) => return self.drop_in_flow(packet, flow, reason, ingress),
        };
        self.count_verdict(verdict);
        match verdict.enforced {
            abi::Action::Allow => Disposition::Forward,
            abi::Action::Limit => self.limit(packet, flow, ingress),
            abi::Action::Deny | abi::Action::Reject => {
                let reason = self.denial(flow, verdict);
                self.answer_reject(packet, reason, ingress);
                self.drop_in_flow(packet, flow, reason, ingress)
            }
        }
    }

    /// A rejected packet's sender is told.
    pub(crate) fn answer_reject(&mut self, packet: &Packet, reason: Reason, ingress: Ingress) {
        if reason == Reason::RejectedByRule && ingress.egress.is_some() {
            self.answers.push(AnswerTo {
                packet: usize::from(packet.index),
                both_ends: false,
            });
        }
    }

    pub(crate) fn count_verdict(&mut self, verdict: Verdict) {
        let permits = verdict.enforced.permits();
        self.counters.permitted_packets += u64::from(permits);
        self.counters.would_deny_packets += u64::from(permits && !verdict.pending_permits);
        self.counters.uncovered_packets += u64::from(verdict.uncovered);
    }

    fn limit(&mut self, packet: &Packet, flow: FlowIndex, ingress: Ingress) -> Disposition {
        let limit_index = self.flows.limit_index(flow).unwrap_or(u16::MAX);
        let is_forward = self
            .flows
            .ends(flow)
            .is_none_or(|ends| ends.initiator == packet.seen.side);
        let admitted = self
            .policy
            .limits_mut()
            .and_then(|limits| limits.get_mut(limit_index))
            .is_some_and(|bucket| {
                bucket.admits_packet(is_forward, packet.seen.facts.ip_bytes, packet.now)
            });
        if admitted {
            return Disposition::Forward;
        }
        self.drop_in_flow(packet, flow, Reason::Limited, ingress)
    }

    /// Drops a packet of a flow: the flow knows, and a denied flow is told at once.
    fn drop_in_flow(
        &mut self,
        packet: &Packet,
        flow: FlowIndex,
        reason: Reason,
        ingress: Ingress,
    ) -> Disposition {
        if ingress.egress.is_some() {
            self.flows
                .note_drop(flow, packet.seen.facts.ip_bytes, reason);
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
        headers: Option<&Headers>,
    ) -> Option<ByItself> {
        let headers = headers?;
        if let Some(quoted) = &headers.quoted {
            let (key, _) = FlowKey::new(&quoted_tuple(quoted), packet.seen.key.context());
            let about = self.flows.find(self.flows.hash(&key), &key)?;
            let (_, decision) = self.flows.decision(about)?;
            if decision.enforced.permits() {
                self.counters.icmp_errors_related += 1;
                return Some(ByItself {
                    source: abi::VerdictSource::Related,
                    pending_permits: decision.pending.permits(),
                });
            }
            return None;
        }
        match headers.transport {
            Transport::Icmpv6(icmp)
                if is_neighbor_discovery(icmp.kind)
                    && self.exceptions.passes_neighbor_discovery() =>
            {
                Some(ByItself {
                    source: abi::VerdictSource::Exception,
                    pending_permits: true,
                })
            }
            _ => None,
        }
    }
}

/// Whether the frame may carry a VLAN tag: 802.1Q or 802.1ad behind the addresses.
fn is_tagged(frame: &[u8]) -> bool {
    matches!(frame.get(12..14), Some([0x81, 0x00] | [0x88, 0xa8]))
}

/// Router and neighbour discovery (RFC 4861 section 4), multicast listener discovery (RFC 2710,
/// RFC 3810): without them hosts of one link cannot find each other.
const fn is_neighbor_discovery(icmpv6_type: u8) -> bool {
    matches!(icmpv6_type, 130..=137 | 143)
}
