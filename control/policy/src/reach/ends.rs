//! Who can be an end: the addresses that really have each identity, and the hosts they belong to.

use crate::prefix::Span;
use crate::validate::ValidPolicy;
use abi::image::{BUILT_IN_SEGMENTS, SEGMENT_ANY};
use acl::{IdentityId, PolicyImage};
use core::net::{IpAddr, Ipv6Addr};
use ipnet::IpNet;
use std::collections::HashMap;

/// `::ffff:0:0`, where IPv4 addresses stand among those of IPv6.
const MAPPED: u128 = 0xffff << 32;

/// An identity as the addresses of one family have it. Both ends of a flow are of one family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Seat {
    pub(crate) identity: IdentityId,
    pub(crate) v4: bool,
}

/// Hosts that no policy tells apart: a workload with all of its addresses is one host, and so is
/// each address that no workload has.
#[derive(Clone, Debug)]
pub(crate) struct HostKind {
    /// What its addresses have, ascending.
    pub(crate) seats: Vec<Seat>,
    /// How many such hosts there are.
    pub(crate) hosts: u128,
    /// Those that are workloads, ascending; empty where the hosts are addresses.
    pub(crate) workloads: Vec<u32>,
    /// An address of one of them, and of another where the hosts are addresses and many.
    pub(crate) examples: Vec<IpAddr>,
    /// Segments that any of its addresses is in, ascending, `any` left out.
    pub(crate) segments: Vec<u32>,
}

/// Every end that a flow can have under a policy.
#[derive(Clone, Debug)]
pub(crate) struct Ends {
    pub(crate) kinds: Vec<HostKind>,
    /// Kinds that have a seat, by identity; of IPv6, and of IPv4.
    of_seat: [Vec<Vec<u32>>; 2],
    /// Whether an identity is in a segment with a mode.
    governed: Vec<bool>,
}

/// Addresses that are decided alike and belong to the same workload, or to none.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Piece {
    pub(crate) first: u128,
    pub(crate) second: Option<u128>,
    pub(crate) v4: bool,
    pub(crate) addresses: u128,
    pub(crate) workload: Option<u32>,
}

impl Ends {
    pub(crate) fn of(policy: &ValidPolicy, image: &PolicyImage) -> Self {
        let identities = image.identity_count() as usize;
        let own = |at: u32| at as usize >= BUILT_IN_SEGMENTS.len();
        let governed = (0..image.identity_count())
            .map(|identity| image.segments_of(identity).any(own))
            .collect();
        let mut ends = Self {
            kinds: Vec::new(),
            of_seat: [vec![Vec::new(); identities], vec![Vec::new(); identities]],
            governed,
        };
        let mut of_workload: Vec<(Vec<Seat>, u128)> = vec![(Vec::new(), 0); policy.workloads.len()];
        let mut alone: HashMap<Seat, (u128, Vec<u128>)> = HashMap::new();
        for piece in pieces_of(spans(policy, true)) {
            let identity = image.identity(&piece.first.to_be_bytes());
            let seat = Seat {
                identity,
                v4: piece.v4,
            };
            match piece.workload {
                Some(workload) => {
                    let (seats, first) = &mut of_workload[workload as usize];
                    if seats.is_empty() {
                        *first = piece.first;
                    }
                    seats.push(seat);
                }
                None => {
                    let (addresses, examples) = alone.entry(seat).or_default();
                    *addresses += piece.addresses;
                    examples.extend([Some(piece.first), piece.second].into_iter().flatten());
                    examples.truncate(2);
                }
            }
        }
        let mut numbers: HashMap<Vec<Seat>, usize> = HashMap::new();
        for (workload, (mut seats, first)) in (0..).zip(of_workload) {
            seats.sort_unstable();
            seats.dedup();
            let at = *numbers.entry(seats.clone()).or_insert_with(|| {
                ends.add(image, seats, &[first]);
                ends.kinds.len() - 1
            });
            ends.kinds[at].hosts += 1;
            ends.kinds[at].workloads.push(workload);
        }
        let mut alone: Vec<_> = alone.into_iter().collect();
        alone.sort_unstable();
        for (seat, (addresses, examples)) in alone {
            ends.add(image, vec![seat], &examples);
            if let Some(kind) = ends.kinds.last_mut() {
                kind.hosts = addresses;
            }
        }
        ends
    }

    fn add(&mut self, image: &PolicyImage, seats: Vec<Seat>, examples: &[u128]) {
        let number = u32::try_from(self.kinds.len()).unwrap_or(u32::MAX);
        let mut segments: Vec<u32> = seats
            .iter()
            .flat_map(|seat| image.segments_of(seat.identity))
            .filter(|at| *at != SEGMENT_ANY)
            .collect();
        segments.sort_unstable();
        segments.dedup();
        for seat in &seats {
            self.of_seat[usize::from(seat.v4)][seat.identity as usize].push(number);
        }
        self.kinds.push(HostKind {
            seats,
            hosts: 0,
            workloads: Vec::new(),
            examples: examples.iter().copied().map(address).collect(),
            segments,
        });
    }

    /// Kinds that have a seat.
    pub(crate) fn at(&self, seat: Seat) -> &[u32] {
        self.of_seat[usize::from(seat.v4)]
            .get(seat.identity as usize)
            .map_or(&[], Vec::as_slice)
    }

    /// Identities that any address of a family has.
    pub(crate) fn seats(&self, v4: bool) -> impl Iterator<Item = Seat> + '_ {
        (0..)
            .zip(&self.of_seat[usize::from(v4)])
            .filter(|(_, kinds)| !kinds.is_empty())
            .map(move |(identity, _)| Seat { identity, v4 })
    }

    /// Whether either end is in a segment with a mode.
    pub(crate) fn governed(&self, src: IdentityId, dst: IdentityId) -> bool {
        let is = |at: IdentityId| self.governed.get(at as usize).copied().unwrap_or(true);
        is(src) || is(dst)
    }
}

/// The address of 16 bytes as one number.
pub(crate) fn address(bits: u128) -> IpAddr {
    let v6 = Ipv6Addr::from(bits);
    v6.to_ipv4_mapped().map_or(IpAddr::V6(v6), IpAddr::V4)
}

/// A prefix that is open while the addresses within are walked.
struct Open {
    span: Span,
    workload: Option<u32>,
    /// First address that nothing narrower has taken; none once the last is taken.
    next: Option<u128>,
    /// The first two addresses that are its own, and how many are.
    own: [Option<u128>; 2],
    addresses: u128,
    /// It holds no addresses of its family.
    void: bool,
}

impl Open {
    /// Takes the addresses before `end` as its own.
    fn take_until(&mut self, end: Option<u128>) {
        let Some(next) = self.next else { return };
        let count = match end {
            Some(end) => end - next,
            // No prefix of IPv6 is without the mapped addresses and all of 128 bits, so that the
            // count of its own fits.
            None => (self.span.last() - next).saturating_add(1),
        };
        if count > 0 {
            let more = [Some(next), (count > 1).then(|| next + 1)];
            self.own = match self.own {
                [None, _] => more,
                [first, second] => [first, second.or(more[0])],
            };
            self.addresses += count;
        }
    }

    fn close(mut self) -> Option<Piece> {
        self.take_until(None);
        let [first, second] = self.own;
        first.filter(|_| !self.void).map(|first| Piece {
            first,
            second,
            v4: self.span.v4,
            addresses: self.addresses,
            workload: self.workload,
        })
    }
}

/// Cuts both address spaces into pieces: what each prefix holds that no narrower one does. The pieces
/// are apart and hold every address.
pub(crate) fn pieces_of(mut spans: Vec<Claim>) -> Vec<Piece> {
    spans.sort_by_key(|(span, workload, _)| (*span, workload.is_none()));
    spans.dedup_by(|next, kept| next.0 == kept.0);
    let mut pieces = Vec::with_capacity(spans.len());
    let mut open: Vec<Open> = Vec::new();
    for (span, workload, void) in spans {
        while let Some(last) =
            open.pop_if(|wide| wide.span.v4 != span.v4 || wide.span.last() < span.last())
        {
            pieces.extend(last.close());
        }
        let mut owner = workload;
        if let Some(wide) = open.last_mut() {
            wide.take_until(Some(span.address));
            wide.next = span
                .last()
                .checked_add(1)
                .filter(|next| *next <= wide.span.last());
            owner = workload.or(wide.workload);
        }
        open.push(Open {
            span,
            workload: owner,
            next: Some(span.address),
            own: [None; 2],
            addresses: 0,
            void,
        });
    }
    while let Some(last) = open.pop() {
        pieces.extend(last.close());
    }
    pieces
}

/// A prefix, the workload that has it, and whether it holds no addresses of its family.
pub(crate) type Claim = (Span, Option<u32>, bool);

/// Every prefix of a policy, with the workload that has it where `owners` are asked for; both whole
/// address spaces; and the place of IPv4 addresses among those of IPv6, which are none.
pub(crate) fn spans(policy: &ValidPolicy, owners: bool) -> Vec<Claim> {
    let whole = |v4, address, length| Span {
        v4,
        address,
        length,
    };
    let mut spans = vec![
        (whole(false, 0, 0), None, false),
        (whole(true, MAPPED, 96), None, false),
        (whole(false, MAPPED, 96), None, true),
    ];
    let segments = policy.segments.iter();
    let nets = segments.flat_map(|segment| &segment.addresses);
    let nobody = |net: &IpNet| (Span::from(*net), None, false);
    spans.extend(nets.chain(&policy.internal).map(nobody));
    for (workload, owner) in policy.workloads.iter().zip(0..) {
        let owner = owners.then_some(owner);
        let own = workload.addresses.iter();
        spans.extend(own.map(|net| (Span::from(*net), owner, false)));
    }
    spans
}
