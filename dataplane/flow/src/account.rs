//! One packet into its flow: counters, TCP, initiator, promotion.

use crate::cache::{FlowCache, FlowIndex};
use crate::entry::{Cold, Hot};
use crate::facts::{PacketFacts, TcpFlags, TransportFacts, proto};
use crate::initiator::of_packet;
use crate::key::Side;
use crate::options::InitiatorRule;
use crate::record::RecordSink;
use crate::tcp_state::{self, Segment};
use abi::record::{FlowEndReason, TcpState};

/// What became of a packet whose flow had been found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Step {
    /// It is counted in the flow.
    Counted,
    /// It is not counted: the flow is over. It gave way since it was found, its idle timeout had
    /// passed, or this packet is a SYN that reuses its ports. Insert the packet.
    Gone,
}

/// A TCP segment and the side that sent it.
#[derive(Clone, Copy)]
pub(crate) struct TcpSegment {
    pub(crate) side: Side,
    pub(crate) flags: u16,
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) payload_bytes: u32,
}

impl TcpSegment {
    /// The segment that `side` sent; `None` where the transport is not TCP.
    #[inline(always)]
    pub(crate) const fn of(side: Side, transport: &TransportFacts) -> Option<Self> {
        match *transport {
            TransportFacts::Tcp {
                flags,
                seq,
                ack,
                payload_bytes,
            } => Some(Self {
                side,
                flags,
                seq,
                ack,
                payload_bytes,
            }),
            _ => None,
        }
    }
}

impl FlowCache {
    /// Counts one packet in a flow that [`FlowCache::find`] found, unless the flow is over.
    ///
    /// A flow whose idle timeout has passed ends here even if the sweep has not come by yet, so
    /// that what is recorded does not depend on the pace of the sweep.
    #[inline]
    pub fn account(
        &mut self,
        index: FlowIndex,
        side: Side,
        facts: &PacketFacts,
        now: u64,
        sink: &mut impl RecordSink,
    ) -> Step {
        let Some(slot) = self.slot(index) else {
            return Step::Gone;
        };
        let hot = &self.hot[slot];
        if now.saturating_sub(hot.last_ns) >= self.idle_min_ns
            && let Some(reason) = self.idle_reason(hot, now)
        {
            self.end(slot, reason, now, sink);
            return Step::Gone;
        }
        if let TransportFacts::Tcp { flags, .. } = facts.transport
            && tcp_state::is_fresh_syn(flags)
            && self.is_reuse(slot, side)
        {
            self.end(slot, FlowEndReason::EndOfFlow, now, sink);
            return Step::Gone;
        }
        self.count(slot, side, facts, now);
        Step::Counted
    }

    /// Whether a fresh SYN from `side` opens another flow: RFC 9293 section 3.6.1 lets a SYN
    /// leave TIME-WAIT, and section 3.10.7.1 a closed port; a side that has sent FIN can send SYN only anew.
    fn is_reuse(&self, slot: usize, side: Side) -> bool {
        self.options.tcp_reuse
            && match self.hot[slot].tcp_state() {
                TcpState::Closed | TcpState::Reset => true,
                TcpState::Closing => self.cold[slot].flags[side.index()] & TcpFlags::FIN != 0,
                _ => false,
            }
    }

    /// Counts a packet in a live flow. An established flow's plain packet stays in this function
    /// and in one cache line.
    #[inline]
    pub(crate) fn count(&mut self, slot: usize, side: Side, facts: &PacketFacts, now: u64) {
        let s = side.index();
        let hot = &mut self.hot[slot];
        let fresh = hot.packets == [0; 2];
        let (packets, packets_over) = hot.packets[s].overflowing_add(1);
        let (bytes, bytes_over) = hot.bytes[s].overflowing_add(facts.ip_bytes);
        hot.packets[s] = packets;
        hot.bytes[s] = bytes;
        hot.last_ns = now;
        self.counters.packets_cached += 1;
        let first_of_side = !hot.has_seen(side);
        if packets_over || bytes_over || fresh || first_of_side {
            self.count_rare(slot, side, facts, now, [packets_over, bytes_over]);
        }
        if let Some(segment) = TcpSegment::of(side, &facts.transport) {
            self.tcp(slot, &segment, now);
        }
        if first_of_side && !self.hot[slot].is_established() {
            self.promote_if_open(slot);
        }
    }

    /// What only some packets bring: a carry, the first packet since a record or from a side.
    #[cold]
    fn count_rare(
        &mut self,
        slot: usize,
        side: Side,
        facts: &PacketFacts,
        now: u64,
        [packets_over, bytes_over]: [bool; 2],
    ) {
        let s = side.index();
        let (hot, cold) = (&mut self.hot[slot], &mut self.cold[slot]);
        // Hot counters of 0 are a fresh start only if nothing has been carried.
        let others = [
            hot.packets[side.other().index()],
            hot.packets[s].wrapping_sub(1),
        ];
        if others == [0; 2] && cold.packets_carry == [0; 2] && !packets_over {
            cold.first_ns = now;
        }
        cold.packets_carry[s] = cold.packets_carry[s].wrapping_add(packets_over.into());
        cold.bytes_carry[s] = cold.bytes_carry[s].wrapping_add(bytes_over.into());
        if !hot.has_seen(side) {
            hot.set_seen(side);
            cold.tos[s] = facts.tos;
            if !matches!(facts.transport, TransportFacts::Tcp { .. }) {
                self.weigh_evidence(slot, side, &facts.transport);
            }
        }
    }

    /// Turns the initiator round, or makes it surer, where this packet knows better.
    fn weigh_evidence(&mut self, slot: usize, sender: Side, transport: &TransportFacts) {
        if self.options.initiator == InitiatorRule::FirstSender {
            return;
        }
        let (hot, cold) = (&mut self.hot[slot], &mut self.cold[slot]);
        let Some((initiator, evidence)) = of_packet(transport, hot.key.proto(), sender) else {
            return;
        };
        if evidence.byte() <= cold.evidence {
            return;
        }
        cold.evidence = evidence.byte();
        cold.more_bits &= !Cold::FINAL;
        if hot.initiator() == initiator {
            return;
        }
        self.turn(slot, initiator);
    }

    /// Turns the initiator round: the flow must be judged anew, and what was timed is void.
    pub(crate) fn turn(&mut self, slot: usize, initiator: Side) {
        let (hot, cold) = (&mut self.hot[slot], &mut self.cold[slot]);
        hot.set_initiator(initiator);
        hot.set_undecided();
        cold.bits &= !(Cold::TIMING_RESPONDER | Cold::TIMING_INITIATOR);
        cold.rtt_us = [0; 2];
        if cold.has(Cold::RECORDED) {
            cold.bits |= Cold::FLIPPED;
        }
        self.counters.initiators_flipped += 1;
    }

    #[inline]
    pub(crate) fn tcp(&mut self, slot: usize, segment: &TcpSegment, now: u64) {
        if !self.hot[slot].expects(segment.side, segment.flags) {
            self.tcp_rare(slot, segment, now);
        }
        if self.options.tcp_quality && self.hot[slot].is_established() {
            follow_sequence(&mut self.cold[slot], segment);
        }
    }

    /// A segment that may change the flow's state: RFC 9293 section 3.3.2.
    #[cold]
    fn tcp_rare(&mut self, slot: usize, segment: &TcpSegment, now: u64) {
        let TcpSegment {
            side,
            flags,
            seq,
            ack,
            payload_bytes,
        } = *segment;
        if flags & TcpFlags::SYN != 0 {
            let transport = TransportFacts::Tcp {
                flags,
                seq,
                ack,
                payload_bytes,
            };
            self.weigh_evidence(slot, side, &transport);
        }
        let (s, o) = (side.index(), side.other().index());
        let (hot, cold) = (&mut self.hot[slot], &mut self.cold[slot]);
        let from_initiator = hot.initiator() == side;
        let before = cold.flags;
        let fins_before = before[0] & before[1] & TcpFlags::FIN != 0;
        let last_fin = if cold.more_bits & Cold::LAST_FIN_B == 0 {
            Side::A
        } else {
            Side::B
        };
        let acks_last_fin = fins_before
            && side != last_fin
            && flags & TcpFlags::ACK != 0
            && (!cold.has(Cold::SEQ_A << o) || !is_before(ack, cold.track[o]));
        cold.flags[s] |= flags;
        hot.set_flags(side, flags & TcpFlags::ACK != 0, flags & TcpFlags::PSH != 0);
        if flags & !before[s] & TcpFlags::FIN != 0 {
            match side {
                Side::A => cold.more_bits &= !Cold::LAST_FIN_B,
                Side::B => cold.more_bits |= Cold::LAST_FIN_B,
            }
        }
        if self.options.tcp_quality
            && !hot.is_established()
            && before[s] & flags & TcpFlags::SYN != 0
        {
            cold.retransmits[s] = cold.retransmits[s].wrapping_add(1);
        }
        if matches!(
            hot.tcp_state(),
            TcpState::None | TcpState::SynSent | TcpState::SynReceived
        ) {
            let again = before[s] & TcpFlags::SYN != 0;
            time_handshake(cold, flags, from_initiator, again, now);
        }
        let both_fins = cold.flags[0] & cold.flags[1] & TcpFlags::FIN != 0;
        let segment = Segment {
            flags,
            from_initiator,
            both_fins,
            acks_last_fin,
        };
        hot.set_tcp_state(tcp_state::next(hot.tcp_state(), segment));
        if !hot.is_established() {
            self.promote_if_open(slot);
        }
    }

    /// A flow deserves the established pool once both ends have spoken, and TCP's handshake is over.
    fn promote_if_open(&mut self, slot: usize) {
        let hot = &self.hot[slot];
        let open = hot.tcp_state() == TcpState::None || tcp_state::is_open(hot.tcp_state());
        if hot.has_seen_both() && open {
            self.promote(slot);
        }
    }

    /// The idle timeout of a flow in its present state.
    pub(crate) const fn idle_timeout_ns(&self, hot: &Hot) -> u64 {
        let timeouts = &self.options.timeouts;
        match hot.key.proto() {
            proto::TCP => match hot.tcp_state() {
                TcpState::None => timeouts.other_ns,
                TcpState::SynSent | TcpState::SynReceived => timeouts.tcp_opening_ns,
                TcpState::Established if hot.is_established() => timeouts.tcp_established_ns,
                TcpState::Established => timeouts.tcp_one_way_ns,
                TcpState::Closing => timeouts.tcp_closing_ns,
                TcpState::Closed | TcpState::Reset => timeouts.tcp_closed_ns,
            },
            proto::UDP | proto::UDP_LITE if hot.has_seen_both() => timeouts.udp_paired_ns,
            proto::UDP | proto::UDP_LITE => timeouts.udp_single_ns,
            proto::ICMP | proto::ICMPV6 => timeouts.icmp_ns,
            _ => timeouts.other_ns,
        }
    }
}

/// Whether `a` lies before `b` in sequence space: RFC 9293 section 3.4.
const fn is_before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) > u32::MAX / 2
}

/// Follows the next sequence number of each side of an established flow and counts segments that
/// start before it. A segment that the network reordered counts too: from here it looks the same.
/// A keep-alive (RFC 9293 section 3.8.4) starts one before, carries at most one byte, and does not count.
#[inline]
pub(crate) fn follow_sequence(cold: &mut Cold, segment: &TcpSegment) {
    let syn_fin =
        (segment.flags & TcpFlags::SYN != 0) as u32 + (segment.flags & TcpFlags::FIN != 0) as u32;
    let length = segment.payload_bytes.wrapping_add(syn_fin);
    if length == 0 || segment.flags & TcpFlags::RST != 0 {
        return;
    }
    let s = segment.side.index();
    let end = segment.seq.wrapping_add(length);
    let known = Cold::SEQ_A << s;
    if cold.bits & known == 0 {
        cold.bits |= known;
        cold.track[s] = end;
        return;
    }
    let next = cold.track[s];
    let keep_alive = length <= 1 && segment.seq.wrapping_add(1) == next && syn_fin == 0;
    if is_before(segment.seq, next) && !keep_alive {
        cold.retransmits[s] = cold.retransmits[s].wrapping_add(1);
    }
    if is_before(next, end) {
        cold.track[s] = end;
    }
}

/// Times the two halves of the handshake. A retransmitted SYN or SYN/ACK makes its half ambiguous
/// (Karn's algorithm, RFC 6298 section 3), and it stays unknown.
fn time_handshake(cold: &mut Cold, flags: u16, from_initiator: bool, again: bool, now: u64) {
    #[expect(clippy::cast_possible_truncation, reason = "kept modulo 2^32")]
    let now_us = (now / 1000) as u32;
    let syn = flags & TcpFlags::SYN != 0;
    let ack = flags & TcpFlags::ACK != 0;
    if flags & TcpFlags::RST != 0 {
        return;
    }
    if syn && !ack && from_initiator {
        let waiting = cold.has(Cold::TIMING_RESPONDER);
        cold.bits &= !Cold::TIMING_RESPONDER;
        if !again {
            cold.bits |= Cold::TIMING_RESPONDER;
            cold.rtt_us[0] = now_us;
        } else if waiting {
            cold.rtt_us[0] = 0;
        }
    } else if syn && ack && !from_initiator {
        if cold.has(Cold::TIMING_RESPONDER) {
            cold.bits &= !Cold::TIMING_RESPONDER;
            cold.rtt_us[0] = elapsed_us(cold.rtt_us[0], now_us);
        }
        if !again {
            cold.bits |= Cold::TIMING_INITIATOR;
            cold.rtt_us[1] = now_us;
        } else if cold.has(Cold::TIMING_INITIATOR) {
            cold.bits &= !Cold::TIMING_INITIATOR;
            cold.rtt_us[1] = 0;
        }
    } else if ack && !syn && from_initiator && cold.has(Cold::TIMING_INITIATOR) {
        cold.bits &= !Cold::TIMING_INITIATOR;
        cold.rtt_us[1] = elapsed_us(cold.rtt_us[1], now_us);
    }
}

/// At least 1, because 0 says unknown; 0 where the clock stepped backwards.
const fn elapsed_us(start: u32, now: u32) -> u32 {
    match now.wrapping_sub(start) {
        0 => 1,
        elapsed if elapsed > u32::MAX / 2 => 0,
        elapsed => elapsed,
    }
}
