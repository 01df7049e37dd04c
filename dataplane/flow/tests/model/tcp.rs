//! The twin's TCP: states, handshake times and sequence numbers, kept as plainly as possible.

use super::{Flow, index};
use abi::record::TcpState;
use flow::{CacheOptions, Side, TcpFlags};

fn before(a: u32, b: u32) -> bool {
    a.wrapping_sub(b).cast_signed() < 0
}

fn microseconds_between(start_ns: u64, end_ns: u64) -> u32 {
    if end_ns / 1000 < start_ns / 1000 {
        return 0;
    }
    u32::try_from((end_ns / 1000 - start_ns / 1000).max(1)).expect("test times are short")
}

pub(super) fn tcp_step(
    f: &mut Flow,
    options: &CacheOptions,
    side: Side,
    flags: u16,
    ack: u32,
    now: u64,
) {
    let (s, o) = (index(side), index(side.other()));
    let has = |flag: u16| flags & flag != 0;
    let (syn, fin, rst, is_ack) = (
        has(TcpFlags::SYN),
        has(TcpFlags::FIN),
        has(TcpFlags::RST),
        has(TcpFlags::ACK),
    );
    let from_initiator = f.initiator == side;
    let syn_again = syn && f.flags[s] & TcpFlags::SYN != 0;
    let fin_before = f.flags.map(|flags| flags & TcpFlags::FIN != 0);
    let acks_last_fin = fin_before == [true, true]
        && f.last_fin == Some(side.other())
        && is_ack
        && f.next_seq[o].is_none_or(|next| !before(ack, next));
    f.flags[s] |= flags;
    if fin && !fin_before[s] {
        f.last_fin = Some(side);
    }
    if syn_again && !f.established && options.tcp_quality {
        f.retransmits[s] += 1;
    }
    let opening = [TcpState::None, TcpState::SynSent, TcpState::SynReceived];
    if !rst && opening.contains(&f.state) {
        handshake(f, syn, is_ack, from_initiator, syn_again, now);
    }
    f.state = match f.state {
        _ if rst => TcpState::Reset,
        TcpState::None if syn && is_ack => TcpState::SynReceived,
        TcpState::None if syn => TcpState::SynSent,
        TcpState::None | TcpState::Established if fin => TcpState::Closing,
        TcpState::None => TcpState::Established,
        TcpState::SynSent if syn && !from_initiator => TcpState::SynReceived,
        TcpState::SynSent | TcpState::SynReceived if !syn && fin => TcpState::Closing,
        TcpState::SynSent | TcpState::SynReceived if !syn && is_ack && from_initiator => {
            TcpState::Established
        }
        TcpState::Closing if acks_last_fin => TcpState::Closed,
        other => other,
    };
}

fn handshake(f: &mut Flow, syn: bool, ack: bool, from_initiator: bool, again: bool, now: u64) {
    match (syn, ack, from_initiator) {
        (true, false, true) => {
            if f.syn_ns.is_some() || !again {
                f.rtt_responder_us = 0;
            }
            f.syn_ns = (!again).then_some(now);
        }
        (true, true, false) => {
            if let Some(start) = f.syn_ns.take() {
                f.rtt_responder_us = microseconds_between(start, now);
            }
            if f.syn_ack_ns.is_some() || !again {
                f.rtt_initiator_us = 0;
            }
            f.syn_ack_ns = (!again).then_some(now);
        }
        (false, true, true) => {
            if let Some(start) = f.syn_ack_ns.take() {
                f.rtt_initiator_us = microseconds_between(start, now);
            }
        }
        _ => {}
    }
}

pub(super) fn sequence(f: &mut Flow, s: usize, flags: u16, seq: u32, payload_bytes: u32) {
    let controls = (flags & (TcpFlags::SYN | TcpFlags::FIN)).count_ones();
    let length = payload_bytes + controls;
    if length == 0 || flags & TcpFlags::RST != 0 {
        return;
    }
    let end = seq.wrapping_add(length);
    if let Some(next) = f.next_seq[s] {
        let keep_alive = seq.wrapping_add(1) == next && length == 1 && controls == 0;
        if before(seq, next) && !keep_alive {
            f.retransmits[s] += 1;
        }
        if before(next, end) {
            f.next_seq[s] = Some(end);
        }
    } else {
        f.next_seq[s] = Some(end);
    }
}
