//! One flow in memory: a hot line that every packet touches, and two cold lines.

use crate::facts::TcpFlags;
use crate::key::{Side, StampedKey};
use crate::verdict::low_epoch;
use abi::record::TcpState;
use abi::verdict::Action;

/// Marks the end of a list of slots.
pub(crate) const NO_SLOT: u32 = u32::MAX;

/// The one cache line that a packet of an established flow touches.
///
/// `packets` and `bytes` are the low parts of the counters; what overflows goes to the carries in
/// [`Cold`]. All counters count since the flow's previous record.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Hot {
    pub(crate) key: StampedKey,
    /// Time of the flow's last packet, nanoseconds.
    pub(crate) last_ns: u64,
    pub(crate) bytes: [u32; 2],
    pub(crate) packets: [u16; 2],
    /// Low 16 bits of the epoch of the decision. The sweep makes decisions of older epochs
    /// undecided long before the 16 bits come round.
    pub(crate) epoch: u16,
    bits: u16,
}

/// What creation, handshake, policy and records touch.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Cold {
    /// First packet since the flow's previous record, nanoseconds.
    pub(crate) first_ns: u64,
    pub(crate) flow_id: u64,
    /// How often the hot counters overflowed: packets in units of 2^16, bytes of 2^32.
    pub(crate) packets_carry: [u32; 2],
    pub(crate) bytes_carry: [u32; 2],
    /// While free: the next free slot. While embryonic: the older and the younger embryonic flow.
    /// Once established: the next sequence number of each side (see [`Cold::SEQ_A`]).
    pub(crate) track: [u32; 2],
    pub(crate) retransmits: [u32; 2],
    /// Handshake round trips, microseconds: to the responder, to the initiator. While one is
    /// being timed (see [`Cold::TIMING_RESPONDER`]) its start, microseconds modulo 2^32.
    pub(crate) rtt_us: [u32; 2],
    /// TCP flags or-ed, per side. For ICMP: type and code of the first packet, in `[0]`.
    pub(crate) flags: [u16; 2],
    pub(crate) tos: [u8; 2],
    /// Code of [`abi::verdict::InitiatorEvidence`].
    pub(crate) evidence: u8,
    pub(crate) bits: u8,

    // Second line: policy.
    pub(crate) rule_id: u64,
    pub(crate) pending_rule_id: u64,
    pub(crate) epoch: u64,
    pub(crate) src_identity: u32,
    pub(crate) dst_identity: u32,
    pub(crate) dropped_packets: u64,
    pub(crate) dropped_bytes: u64,
    pub(crate) path: u32,
    /// The decision's enums, packed by `verdict.rs`; 0 where the flow was never judged.
    pub(crate) decision: u32,
    pub(crate) limit_index: u16,
    pub(crate) ingress_port: u8,
    pub(crate) egress_port: u8,
    pub(crate) drop_reason: u8,
    pub(crate) more_bits: u8,
    pub(crate) unused: u16,
}

const _: () = assert!(size_of::<Hot>() == 64 && size_of::<Cold>() == 128);

// Layout of `Hot::bits`.
const STATE: u16 = 0b111;
/// Not a value of [`TcpState`]: the slot holds no flow.
const FREE: u16 = 0b111;
const INITIATOR_B: u16 = 1 << 3;
const SEEN_A: u16 = 1 << 4;
const ESTABLISHED: u16 = 1 << 6;
const ACTION_SHIFT: u16 = 7;
const ACTION: u16 = 0b111 << ACTION_SHIFT;
const PENDING_DENIES: u16 = 1 << 10;
const UNCOVERED: u16 = 1 << 11;
const ACK_A: u16 = 1 << 12;
const PSH_A: u16 = 1 << 14;

impl Hot {
    pub(crate) const FREE: Self = Self {
        key: StampedKey::EMPTY,
        last_ns: 0,
        bytes: [0; 2],
        packets: [0; 2],
        epoch: 0,
        bits: FREE,
    };

    #[inline(always)]
    pub(crate) const fn is_free(&self) -> bool {
        self.bits & STATE == FREE
    }

    pub(crate) const fn set_free(&mut self) {
        self.bits = FREE;
    }

    /// Starts a flow of one packet: state none, embryonic, undecided.
    #[inline(always)]
    pub(crate) const fn open(&mut self, initiator: Side, sender: Side, ip_bytes: u32, now: u64) {
        self.bits = 0;
        self.set_initiator(initiator);
        self.set_seen(sender);
        self.last_ns = now;
        self.bytes = [0; 2];
        self.packets = [0; 2];
        self.bytes[sender.index()] = ip_bytes;
        self.packets[sender.index()] = 1;
        self.epoch = 0;
    }

    #[inline(always)]
    pub(crate) const fn tcp_state(&self) -> TcpState {
        match self.bits & STATE {
            1 => TcpState::SynSent,
            2 => TcpState::SynReceived,
            3 => TcpState::Established,
            4 => TcpState::Closing,
            5 => TcpState::Closed,
            6 => TcpState::Reset,
            _ => TcpState::None,
        }
    }

    pub(crate) const fn set_tcp_state(&mut self, state: TcpState) {
        self.bits = (self.bits & !STATE) | state as u16;
    }

    #[inline(always)]
    pub(crate) const fn initiator(&self) -> Side {
        if self.bits & INITIATOR_B == 0 {
            Side::A
        } else {
            Side::B
        }
    }

    pub(crate) const fn set_initiator(&mut self, side: Side) {
        match side {
            Side::A => self.bits &= !INITIATOR_B,
            Side::B => self.bits |= INITIATOR_B,
        }
    }

    #[inline(always)]
    pub(crate) const fn has_seen(&self, side: Side) -> bool {
        self.bits & (SEEN_A << side as u16) != 0
    }

    pub(crate) const fn set_seen(&mut self, side: Side) {
        self.bits |= SEEN_A << side as u16;
    }

    #[inline(always)]
    pub(crate) const fn has_seen_both(&self) -> bool {
        self.has_seen(Side::A) && self.has_seen(Side::B)
    }

    #[inline(always)]
    pub(crate) const fn is_established(&self) -> bool {
        self.bits & ESTABLISHED != 0
    }

    pub(crate) const fn set_established(&mut self) {
        self.bits |= ESTABLISHED;
    }

    /// The enforced action, or `None` where the flow must be judged (again).
    #[inline(always)]
    pub(crate) const fn action(&self) -> Option<Action> {
        match (self.bits & ACTION) >> ACTION_SHIFT {
            1 => Some(Action::Allow),
            2 => Some(Action::Deny),
            3 => Some(Action::Reject),
            4 => Some(Action::Limit),
            _ => None,
        }
    }

    #[inline(always)]
    pub(crate) const fn pending_denies(&self) -> bool {
        self.bits & PENDING_DENIES != 0
    }

    #[inline(always)]
    pub(crate) const fn is_uncovered(&self) -> bool {
        self.bits & UNCOVERED != 0
    }

    pub(crate) const fn set_verdict(&mut self, action: Action, denies: bool, uncovered: bool) {
        self.set_undecided();
        self.bits |= (action as u16) << ACTION_SHIFT;
        if denies {
            self.bits |= PENDING_DENIES;
        }
        if uncovered {
            self.bits |= UNCOVERED;
        }
    }

    pub(crate) const fn set_undecided(&mut self) {
        self.bits &= !(ACTION | PENDING_DENIES | UNCOVERED);
    }

    /// Epoch of the decision and state, as one number for [`Gate`].
    #[inline(always)]
    const fn standing(&self) -> u32 {
        self.epoch as u32 | (self.bits as u32) << 16
    }

    /// Whether a segment with these flags changes nothing about the connection: it is established,
    /// and ACK and PSH, which alone may be set, were seen from `side` since the last record.
    #[inline(always)]
    pub(crate) const fn expects(&self, side: Side, flags: u16) -> bool {
        const PLAIN: u16 = TcpFlags::ACK | TcpFlags::PSH;
        const { assert!(TcpFlags::ACK << 8 == ACK_A && TcpFlags::PSH << 11 == PSH_A) }
        let seen = (flags & TcpFlags::ACK) << 8 | (flags & TcpFlags::PSH) << 11;
        let needed = seen << side as u16;
        flags & !PLAIN == 0 && self.bits & (STATE | needed) == TcpState::Established as u16 | needed
    }

    /// Packets and bytes of `side` behind one packet more, where nothing but counting it is due: it is
    /// neither the first of its side since a record, nor one that overflows a counter, and the flow has not
    /// been idle for long. A clock that was set back looks like a long time, too.
    #[inline(always)]
    pub(crate) const fn plain_counts(
        &self,
        side: Side,
        ip_bytes: u32,
        now: u64,
        idle_min_ns: u64,
    ) -> Option<(u16, u32)> {
        let (packets, bytes) = (self.packets[side.index()], self.bytes[side.index()]);
        let only_counts = packets != 0 && packets != u16::MAX;
        let is_fresh = now.wrapping_sub(self.last_ns) < idle_min_ns;
        match bytes.checked_add(ip_bytes) {
            Some(bytes) if only_counts && is_fresh => Some((packets + 1, bytes)),
            _ => None,
        }
    }

    #[inline(always)]
    pub(crate) const fn count_plain(&mut self, side: Side, (packets, bytes): (u16, u32), now: u64) {
        self.packets[side.index()] = packets;
        self.bytes[side.index()] = bytes;
        self.last_ns = now;
    }

    pub(crate) const fn set_flags(&mut self, side: Side, ack: bool, psh: bool) {
        if ack {
            self.bits |= ACK_A << side as u16;
        }
        if psh {
            self.bits |= PSH_A << side as u16;
        }
    }
}

/// What an entry must look like for a packet simply to pass, or to be dropped: decided by the policy in
/// force, whose enforced action is allow, or deny, with the packet's side seen before. One mask and one
/// compare.
#[derive(Clone, Copy, Debug)]
pub struct Gate {
    mask: [u32; 2],
    allowed: [u32; 2],
    denied: [u32; 2],
}

impl Gate {
    /// The gate of the policy of `epoch`, the same for all packets of a burst.
    #[must_use]
    pub fn new(epoch: u64) -> Self {
        let low_epoch = low_epoch(epoch);
        let seen = [SEEN_A, SEEN_A << 1];
        let wanted = |action: Action| {
            let action = (action as u16) << ACTION_SHIFT;
            seen.map(|seen| u32::from(low_epoch) | u32::from(action | seen) << 16)
        };
        Self {
            mask: seen.map(|seen| 0xffff | u32::from(ACTION | seen) << 16),
            allowed: wanted(Action::Allow),
            denied: wanted(Action::Deny),
        }
    }

    /// Never so for a free entry, which has no action.
    #[inline(always)]
    pub(crate) const fn admits(&self, hot: &Hot, side: Side) -> bool {
        let side = side.index();
        hot.standing() & self.mask[side] == self.allowed[side]
    }

    /// The same of a denied flow.
    #[inline(always)]
    pub(crate) const fn refuses(&self, hot: &Hot, side: Side) -> bool {
        let side = side.index();
        hot.standing() & self.mask[side] == self.denied[side]
    }
}

impl Cold {
    /// `track[0]` is the next sequence number of A; the bit after it says the same of B.
    pub(crate) const SEQ_A: u8 = 1 << 0;
    /// `rtt_us[0]` is when the SYN passed; the bit after it: `rtt_us[1]` is when the SYN/ACK did.
    pub(crate) const TIMING_RESPONDER: u8 = 1 << 2;
    pub(crate) const TIMING_INITIATOR: u8 = 1 << 3;
    /// A record of this flow has been written.
    pub(crate) const RECORDED: u8 = 1 << 4;
    /// The initiator was turned round after a record had been written.
    pub(crate) const FLIPPED: u8 = 1 << 5;
    /// The denied flow has been told.
    pub(crate) const DENIAL_TOLD: u8 = 1 << 6;
    /// IPv6 on the wire (an IPv4-mapped address may also appear in IPv6).
    pub(crate) const IPV6: u8 = 1 << 7;
    /// In `more_bits`: the side whose FIN came last is B.
    pub(crate) const LAST_FIN_B: u8 = 1 << 0;
    /// In `more_bits`: whatever UDP or TCP packets of A say, the denial stands; the bit after it says
    /// the same of B.
    pub(crate) const FINAL_A: u8 = 1 << 1;
    pub(crate) const FINAL: u8 = Self::FINAL_A | Self::FINAL_A << 1;

    /// `track` is filled so that creating the entries touches every page.
    pub(crate) const FREE: Self = Self {
        first_ns: 0,
        flow_id: 0,
        packets_carry: [0; 2],
        bytes_carry: [0; 2],
        track: [NO_SLOT; 2],
        retransmits: [0; 2],
        rtt_us: [0; 2],
        flags: [0; 2],
        tos: [0; 2],
        evidence: 0,
        bits: 0,
        rule_id: 0,
        pending_rule_id: 0,
        epoch: 0,
        src_identity: 0,
        dst_identity: 0,
        dropped_packets: 0,
        dropped_bytes: 0,
        path: 0,
        decision: 0,
        limit_index: 0,
        ingress_port: NO_PORT,
        egress_port: NO_PORT,
        drop_reason: 0,
        more_bits: 0,
        unused: 0,
    };

    #[inline(always)]
    pub(crate) const fn has(&self, bit: u8) -> bool {
        self.bits & bit != 0
    }

    #[inline(always)]
    pub(crate) const fn is_final(&self, side: Side) -> bool {
        self.more_bits & Self::FINAL_A << side as u8 != 0
    }
}

/// A port that is not there; 0xffff in records.
pub(crate) const NO_PORT: u8 = u8::MAX;

/// Packets of one side since the previous record.
#[inline]
pub(crate) const fn packets(hot: &Hot, cold: &Cold, side: usize) -> u64 {
    hot.packets[side] as u64 | (cold.packets_carry[side] as u64) << 16
}

/// Bytes of one side since the previous record.
#[inline]
pub(crate) const fn bytes(hot: &Hot, cold: &Cold, side: usize) -> u64 {
    hot.bytes[side] as u64 | (cold.bytes_carry[side] as u64) << 32
}
