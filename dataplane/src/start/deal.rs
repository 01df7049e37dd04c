//! Gives each worker its lanes, or its part of them.

use super::PortEnds;
use crate::config::{Lane, LanePorts, ValidConfig};
use crate::core::random_bytes;
use crate::dpdk_port::DpdkPort;
use crate::steer::Steering;
use crate::steered_lane::{spread_inline, spread_mirror};
use crate::worker::{InlineLane, LaneOf, MirrorLane};
use abi::stats::{LaneFacts, LaneKind, NO_PORT, SHORT_NAME_BYTES, padded_name};

type DealtLanes = Vec<Vec<LaneOf<DpdkPort>>>;

/// The lanes of each worker, and as `status` tells them. `ends` come in the order of the lanes'
/// ports.
pub(super) fn deal_lanes(
    config: &ValidConfig,
    ends: Vec<PortEnds>,
) -> (DealtLanes, Vec<LaneFacts>) {
    let mut dealt: DealtLanes = (0..config.worker_count).map(|_| Vec::new()).collect();
    let mut facts = Vec::new();
    let mut ends = (0_u16..).zip(ends);
    // One for all lanes: it is as secret for each.
    let secrets = std::array::from_fn(|_| u64::from_ne_bytes(random_bytes()));
    for lane in &config.lanes {
        let steering = || Steering::new(&config.config, lane.workers.len(), secrets);
        let ring_packets = config.config.memory.resteer_ring_packets as usize;
        let (parts, kind, inside_port, outside_port) = match &lane.ports {
            LanePorts::Inline { .. } => {
                let (Some(inside), Some(outside)) = (ends.next(), ends.next()) else {
                    break;
                };
                let ports = (u32::from(inside.0), u32::from(outside.0));
                let parts = inline_parts(inside, outside, steering, ring_packets);
                (parts, LaneKind::Inline, ports.0, ports.1)
            }
            LanePorts::Mirror(_) => {
                let Some((index, ends)) = ends.next() else {
                    break;
                };
                let parts = mirror_parts(index, ends, steering, ring_packets);
                (parts, LaneKind::Mirror, u32::from(index), NO_PORT)
            }
        };
        facts.push(LaneFacts {
            name: padded_name::<SHORT_NAME_BYTES>(&lane.name),
            kind: u32::from(kind.byte()),
            inside_port,
            outside_port,
            workers_mask: workers_mask(lane),
        });
        for (worker, part) in lane.workers.iter().zip(parts) {
            if let Some(lanes) = dealt.get_mut(*worker) {
                lanes.push(part);
            }
        }
    }
    (dealt, facts)
}

fn workers_mask(lane: &Lane) -> u32 {
    lane.workers
        .iter()
        .fold(0, |mask, worker| mask | 1 << worker)
}

/// The receiver's part, then those of the owners; the whole lane where there is one worker.
fn inline_parts(
    (inside_index, inside): (u16, PortEnds),
    (outside_index, outside): (u16, PortEnds),
    steering: impl FnOnce() -> Steering,
    ring_packets: usize,
) -> Vec<LaneOf<DpdkPort>> {
    let lane = InlineLane::new(
        inside.receiver,
        inside_index,
        outside.receiver,
        outside_index,
    );
    let owners: Vec<_> = inside.owners.into_iter().zip(outside.owners).collect();
    if owners.is_empty() {
        return vec![LaneOf::Inline(lane)];
    }
    let owners = owners.into_iter().map(<[_; 2]>::from).collect();
    let (receiving, owning) = spread_inline(lane, owners, steering(), ring_packets);
    let parts = std::iter::once(receiving).chain(owning);
    parts.map(|part| LaneOf::Steered(Box::new(part))).collect()
}

fn mirror_parts(
    index: u16,
    ends: PortEnds,
    steering: impl FnOnce() -> Steering,
    ring_packets: usize,
) -> Vec<LaneOf<DpdkPort>> {
    let lane = MirrorLane::new(ends.receiver, index);
    if ends.owners.is_empty() {
        return vec![LaneOf::Mirror(lane)];
    }
    let (receiving, owning) = spread_mirror(lane, ends.owners.len(), steering(), ring_packets);
    let parts = std::iter::once(receiving).chain(owning);
    parts.map(|part| LaneOf::Steered(Box::new(part))).collect()
}
