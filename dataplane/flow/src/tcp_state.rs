//! TCP as seen from the middle: RFC 9293 section 3.3.2, reduced to what a box on the path can know.

use crate::facts::TcpFlags as Tcp;
use abi::record::TcpState;

/// What one segment tells the state machine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment {
    /// RFC 9293 section 3.1.
    pub(crate) flags: u16,
    /// Sent by the flow's initiator.
    pub(crate) from_initiator: bool,
    /// With this segment, FINs of both sides have been seen.
    pub(crate) both_fins: bool,
    /// Both FINs came before this segment, and it acknowledges the later one.
    pub(crate) acks_last_fin: bool,
}

/// State after the first segment seen of a flow. A flow picked up midstream counts as established.
pub(crate) const fn opening(flags: u16) -> TcpState {
    if flags & Tcp::RST != 0 {
        TcpState::Reset
    } else if flags & (Tcp::SYN | Tcp::ACK) == Tcp::SYN | Tcp::ACK {
        TcpState::SynReceived
    } else if flags & Tcp::SYN != 0 {
        TcpState::SynSent
    } else if flags & Tcp::FIN != 0 {
        TcpState::Closing
    } else {
        TcpState::Established
    }
}

/// State after one more segment.
pub(crate) const fn next(state: TcpState, segment: Segment) -> TcpState {
    let flags = segment.flags;
    // RFC 9293 section 3.10.7: RST ends every state. Whether its sequence number lay in the
    // window is the receiver's to know.
    if flags & Tcp::RST != 0 {
        return TcpState::Reset;
    }
    let syn = flags & Tcp::SYN != 0;
    let ack = flags & Tcp::ACK != 0;
    let fin = flags & Tcp::FIN != 0;
    match state {
        // Section 3.5: SYN/ACK (figure 6), or a crossing SYN (figure 7, simultaneous open).
        TcpState::SynSent if syn && !segment.from_initiator => TcpState::SynReceived,
        // The SYN/ACK went another way.
        TcpState::SynSent | TcpState::SynReceived if fin && !syn => TcpState::Closing,
        TcpState::SynSent | TcpState::SynReceived if ack && !syn && segment.from_initiator => {
            TcpState::Established
        }
        // Section 3.6: each side closes for itself.
        TcpState::Established if fin => TcpState::Closing,
        TcpState::Closing if segment.both_fins && segment.acks_last_fin => TcpState::Closed,
        TcpState::None => opening(flags),
        _ => state,
    }
}

/// Whether the handshake is over, so that the flow deserves the established pool.
pub(crate) const fn is_open(state: TcpState) -> bool {
    matches!(
        state,
        TcpState::Established | TcpState::Closing | TcpState::Closed
    )
}

/// A SYN without ACK: someone opens.
#[inline(always)]
pub(crate) const fn is_fresh_syn(flags: u16) -> bool {
    flags & (Tcp::SYN | Tcp::ACK | Tcp::RST | Tcp::FIN) == Tcp::SYN
}

#[cfg(test)]
mod tests {
    use super::*;

    const INITIATOR: bool = true;
    const RESPONDER: bool = false;

    fn run(segments: &[(bool, u16)]) -> Vec<TcpState> {
        let (mut state, mut fins, mut last_fin) = (TcpState::None, [false; 2], None);
        segments
            .iter()
            .map(|&(from_initiator, flags)| {
                let before = fins[0] && fins[1];
                let acks_last_fin =
                    before && last_fin != Some(from_initiator) && flags & Tcp::ACK != 0;
                if flags & Tcp::FIN != 0 {
                    fins[usize::from(from_initiator)] = true;
                    last_fin = Some(from_initiator);
                }
                let both_fins = fins[0] && fins[1];
                state = next(
                    state,
                    Segment {
                        flags,
                        from_initiator,
                        both_fins,
                        acks_last_fin,
                    },
                );
                state
            })
            .collect()
    }

    #[test]
    fn handshake_and_close_pass_through_every_state() {
        use TcpState::{Closed, Closing, Established, SynReceived, SynSent};
        let states = run(&[
            (INITIATOR, Tcp::SYN),
            (RESPONDER, Tcp::SYN | Tcp::ACK),
            (INITIATOR, Tcp::ACK),
            (RESPONDER, Tcp::ACK | Tcp::PSH),
            (INITIATOR, Tcp::FIN | Tcp::ACK),
            (RESPONDER, Tcp::ACK),
            (RESPONDER, Tcp::FIN | Tcp::ACK),
            (INITIATOR, Tcp::ACK),
        ]);
        let expected = [
            SynSent,
            SynReceived,
            Established,
            Established,
            Closing,
            Closing,
            Closing,
            Closed,
        ];
        assert_eq!(states, expected);
    }

    #[test]
    fn refused_connection_is_reset_and_never_open() {
        let states = run(&[(INITIATOR, Tcp::SYN), (RESPONDER, Tcp::RST | Tcp::ACK)]);
        assert_eq!(states[1], TcpState::Reset);
        assert!(!is_open(states[1]));
    }

    #[test]
    fn simultaneous_open_reaches_established() {
        let states = run(&[
            (INITIATOR, Tcp::SYN),
            (RESPONDER, Tcp::SYN),
            (INITIATOR, Tcp::SYN | Tcp::ACK),
            (RESPONDER, Tcp::SYN | Tcp::ACK),
            (INITIATOR, Tcp::ACK),
        ]);
        assert_eq!(states[1], TcpState::SynReceived);
        assert_eq!(states[4], TcpState::Established);
    }

    #[test]
    fn challenge_ack_of_the_responder_does_not_open() {
        // RFC 5961 section 4.
        let states = run(&[(INITIATOR, Tcp::SYN), (RESPONDER, Tcp::ACK)]);
        assert_eq!(states[1], TcpState::SynSent);
    }

    #[test]
    fn no_segment_leaves_closed_or_reset_but_a_reset() {
        for flags in 0..0x200_u16 {
            for from_initiator in [INITIATOR, RESPONDER] {
                let segment = Segment {
                    flags,
                    from_initiator,
                    both_fins: true,
                    acks_last_fin: true,
                };
                let closed = next(TcpState::Closed, segment);
                let reset = next(TcpState::Reset, segment);
                assert_eq!(closed == TcpState::Reset, flags & Tcp::RST != 0);
                assert_eq!(reset, TcpState::Reset);
            }
        }
    }
}
