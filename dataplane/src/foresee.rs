//! Asking a large policy for the likely new flows of a burst together.
//!
//! Judging one flow reads four lines of a large policy, each named by the one before, and most of
//! them far away. Flows are judged one by one, with a lot between two of them; so the lines of a
//! whole burst are fetched beforehand, stage by stage. The verdicts found on the way are thrown
//! away: who is the initiator is not known yet, and nothing may depend on a guess.

use crate::burst::Packet;
use crate::core::Core;
use abi::{Action, Decision};
use acl::{Asked, BURST_KEYS, Service};
use arrayvec::ArrayVec;
use flow::{LikelyEntry, proto};

/// A policy with fewer verdict rows lies in the caches nearby anyway.
const VERDICT_ROWS_MIN: usize = 4096;
/// Fewer new flows than this gain nothing from being asked about together.
const NEW_FLOWS_MIN: usize = 4;

impl Core {
    /// Brings the policy's lines for packets of a burst that have no entry.
    ///
    /// # Bounded work
    /// At most [`BURST_KEYS`] evaluations.
    #[inline]
    pub(crate) fn foresee(&self, packets: &[Packet]) {
        let image = self.policy.image();
        let Some(image) =
            image.filter(|image| image.verdict_row_count() as usize >= VERDICT_ROWS_MIN)
        else {
            return;
        };
        let asked: ArrayVec<Asked, BURST_KEYS> =
            packets.iter().filter_map(asked).take(BURST_KEYS).collect();
        if asked.len() >= NEW_FLOWS_MIN {
            let mut unused = [Decision::without_policy(Action::Deny); BURST_KEYS];
            image.evaluate_burst(&asked, &mut unused);
            core::hint::black_box(&unused);
        }
    }
}

/// What the policy will probably be asked about a packet without an entry: sender to receiver.
#[inline]
fn asked(packet: &Packet) -> Option<Asked> {
    let key = &packet.seen.key;
    let is_new =
        packet.likely == LikelyEntry::NONE && matches!(key.proto(), proto::TCP | proto::UDP);
    is_new.then(|| {
        let tuple = key.tuple(packet.seen.side);
        (
            tuple.src,
            tuple.dst,
            Service::port(tuple.proto, tuple.dst_port),
        )
    })
}
