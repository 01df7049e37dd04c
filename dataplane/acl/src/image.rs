//! A checked image: evaluation on the hot side, names and raw rules on the cold side.

use crate::Service;
use crate::tables::{FAIL_CLOSED, Tables};
use abi::image::change::ChangeWriter;
use abi::image::{
    ALIGN_BYTES, Header, IdentityRow, LimitRow, NONE, PortRow, PrefixRow, RULE_EXPIRED, RateKind,
    RuleMode, RuleRow, Section, SegmentRow, ServiceRow, Tier, V6_PROBES_MAX, VerdictRow,
    WorkloadRow,
};
use abi::verdict::OnChange;
use abi::{Action, Decision, Mode};
use core::ops::{Deref, Range};
use std::sync::Arc;
use zerocopy::little_endian::U32;
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

/// A set of segments within one image; the number means nothing in another image.
pub type IdentityId = u32;
/// Rule within one image, 0-based.
pub type RuleIndex = u32;
/// Segment within one image, 0-based.
pub type SegmentIndex = u32;

/// All that a decision depends on: flows with equal questions are decided alike by the image that
/// gave them, and by no other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Question {
    src: IdentityId,
    dst: IdentityId,
    service_class: u32,
}

/// A policy image whose every offset, index and value has been checked.
///
/// `Send + Sync`: the main thread checks it once and shares it with the cores in an `Arc`.
#[derive(Debug)]
pub struct PolicyImage {
    /// Header and section table.
    pub(crate) front: Box<[u8]>,
    pub(crate) header: Header,
    /// Rows of each section, shared with the images that were made of this one.
    pub(crate) parts: Vec<Part>,
    pub(crate) tables: Tables,
    /// Rule indexes by ascending rule id.
    pub(crate) rules_by_id: Arc<[RuleIndex]>,
}

/// The rows of a section: their place in bytes that several images may share.
#[derive(Clone)]
pub(crate) struct Part {
    bytes: Arc<Box<[u8]>>,
    range: Range<usize>,
}

impl Part {
    pub(crate) fn of(bytes: &Arc<Box<[u8]>>, range: Range<usize>) -> Self {
        Self {
            bytes: Arc::clone(bytes),
            range,
        }
    }

    pub(crate) fn alone(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self {
            bytes: Arc::new(bytes.into()),
            range,
        }
    }
}

/// The rows, wherever they lie.
impl core::fmt::Debug for Part {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        (**self).fmt(f)
    }
}

impl Deref for Part {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.bytes.get(self.range.clone()).unwrap_or(&[])
    }
}

/// A rule in raw form.
#[derive(Clone, Copy, Debug)]
pub struct Rule<'a> {
    /// Place in this image.
    pub index: RuleIndex,
    /// Stable id, the same in every image.
    pub id: u64,
    /// Name.
    pub name: &'a str,
    /// Tier.
    pub tier: Tier,
    /// Action.
    pub action: Action,
    /// Its own mode.
    pub mode: RuleMode,
    /// What a change of policy does to flows it decided.
    pub on_change: OnChange,
    /// Its date has passed: it matches nothing.
    pub expired: bool,
    /// Row of [`PolicyImage::limits`] where the action is limit.
    pub limit_index: Option<u32>,
    pub(crate) from: &'a [U32],
    pub(crate) to: &'a [U32],
    pub(crate) services: &'a [U32],
}

impl Rule<'_> {
    /// Segments of the initiator.
    pub fn from(&self) -> impl Iterator<Item = SegmentIndex> + '_ {
        self.from.iter().map(|index| index.get())
    }

    /// Segments of the responder.
    pub fn to(&self) -> impl Iterator<Item = SegmentIndex> + '_ {
        self.to.iter().map(|index| index.get())
    }

    /// Services; none at all means any.
    pub fn services(&self) -> impl Iterator<Item = u32> + '_ {
        self.services.iter().map(|index| index.get())
    }
}

/// A segment in raw form.
#[derive(Clone, Copy, Debug)]
pub struct Segment<'a> {
    /// Name.
    pub name: &'a str,
    /// Mode; `None` for the built-in segments.
    pub mode: Option<Mode>,
    prefixes: &'a [PrefixRow],
}

impl Segment<'_> {
    /// Prefixes, none for the built-in segments.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.prefixes.iter().map(Prefix::from_row)
    }
}

/// A workload in raw form.
#[derive(Clone, Copy, Debug)]
pub struct Workload<'a> {
    /// Name.
    pub name: &'a str,
    prefixes: &'a [PrefixRow],
}

impl Workload<'_> {
    /// Its addresses.
    pub fn prefixes(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.prefixes.iter().map(Prefix::from_row)
    }
}

/// A prefix of either family. IPv4 is `::ffff:a.b.c.d` with its own length + 96.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prefix {
    /// Network order.
    pub address: [u8; 16],
    /// 0 to 128.
    pub length: u8,
    /// 4 or 6.
    pub family: u8,
}

impl Prefix {
    fn from_row(row: &PrefixRow) -> Self {
        Self {
            address: row.address,
            length: row.length,
            family: row.family,
        }
    }

    /// Whether `address` lies within, compared bit by bit.
    #[must_use]
    pub fn covers(&self, address: &[u8; 16]) -> bool {
        let mapped = matches!(address, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, ..]);
        let bit = |bytes: &[u8; 16], at: usize| {
            bytes
                .get(at / 8)
                .is_some_and(|byte| byte & (0x80 >> (at % 8)) != 0)
        };
        mapped == (self.family == 4)
            && (0..usize::from(self.length)).all(|at| bit(address, at) == bit(&self.address, at))
    }
}

/// A service in raw form.
#[derive(Clone, Copy, Debug)]
pub struct ServiceEntry<'a> {
    /// Name.
    pub name: &'a str,
    ports: &'a [PortRow],
}

impl ServiceEntry<'_> {
    /// Its ranges.
    pub fn ports(&self) -> impl Iterator<Item = PortRange> + '_ {
        self.ports.iter().map(|row| PortRange {
            proto: (row.any == 0).then_some(row.proto),
            low: row.low.get(),
            high: row.high.get(),
        })
    }
}

/// A range of service keys of one protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// IP protocol, `None` for every one.
    pub proto: Option<u8>,
    /// First key, see [`Service::key`].
    pub low: u16,
    /// Last key.
    pub high: u16,
}

impl PortRange {
    /// Whether a service lies within.
    #[must_use]
    pub fn covers(&self, service: &Service) -> bool {
        self.proto.is_none_or(|proto| {
            proto == service.proto && (self.low..=self.high).contains(&service.key())
        })
    }
}

/// A token bucket that the dataplane keeps for a rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limit {
    /// Rule it belongs to: carry the bucket's fill over to the next image by this id.
    pub rule_id: u64,
    /// Rule it belongs to, in this image.
    pub rule_index: RuleIndex,
    /// What a token is.
    pub kind: RateKind,
    /// Tokens per second.
    pub rate: u64,
    /// Depth of the bucket, tokens.
    pub burst: u64,
}

/// What stands behind a section to the next multiple.
const ZEROS: [u8; ALIGN_BYTES] = [0; ALIGN_BYTES];

impl PolicyImage {
    /// The bytes that were checked, put together.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(self.byte_count());
        self.runs().for_each(|run| bytes.extend_from_slice(run));
        bytes
    }

    /// The bytes that were checked, run after run, as they lie in memory.
    pub fn runs(&self) -> impl Iterator<Item = &[u8]> {
        let padded = self.parts.iter().flat_map(|part| {
            let zeros = part.len().next_multiple_of(ALIGN_BYTES) - part.len();
            [&**part, ZEROS.get(..zeros).unwrap_or(&[])]
        });
        core::iter::once(&*self.front).chain(padded)
    }

    /// How many bytes that are.
    #[must_use]
    pub fn byte_count(&self) -> usize {
        self.runs().map(<[u8]>::len).sum()
    }

    /// The rows of a section as bytes.
    #[must_use]
    pub fn section(&self, section: Section) -> &[u8] {
        part(&self.parts, section)
    }

    /// What this image has that `base` has not: [`PolicyImage::check_change`] of `base` makes this
    /// image of it again. Compared byte by byte, but for what both share.
    ///
    /// # Unbounded
    /// Work grows with the image.
    #[must_use]
    pub fn change_from(&self, base: &Self) -> Vec<u8> {
        let mut change = ChangeWriter::new(&base.header, &self.front);
        for section in Section::ALL {
            let (old, new) = (base.section(*section), self.section(*section));
            if !core::ptr::eq(old, new) {
                change.compare(*section, old, new);
            }
        }
        change.finish()
    }

    /// Policy epoch, never 0.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.header.epoch.get()
    }

    /// SHA-256 of the policy text.
    #[must_use]
    pub fn revision(&self) -> &[u8; 32] {
        &self.header.revision
    }

    /// First day after compilation on which a rule expires (days since 1970-01-01): compile again
    /// then.
    #[must_use]
    pub fn next_expiry_day(&self) -> Option<u32> {
        Some(self.header.next_expiry_day.get()).filter(|day| *day != NONE)
    }

    /// Identity of an address; IPv4 is `::ffff:a.b.c.d`.
    #[inline]
    #[must_use]
    pub fn identity(&self, address: &[u8; 16]) -> IdentityId {
        self.tables.identity(address, &mut ()).unwrap_or(0)
    }

    /// Decides about a flow from `src` (initiator) to `dst` (responder).
    ///
    /// # Bounded work
    /// 20 loads for IPv4 at most, whatever the number of rules.
    #[inline]
    #[must_use]
    pub fn evaluate(&self, src: &[u8; 16], dst: &[u8; 16], service: &Service) -> Decision {
        let identity = |address| self.tables.identity(address, &mut ());
        match (identity(src), identity(dst)) {
            (Some(src), Some(dst)) => self.evaluate_identities(src, dst, service),
            _ => FAIL_CLOSED,
        }
    }

    /// The same for identities that the caller has looked up before in this very image.
    #[inline]
    #[must_use]
    pub fn evaluate_identities(
        &self,
        src: IdentityId,
        dst: IdentityId,
        service: &Service,
    ) -> Decision {
        let (proto, key) = (service.proto, service.key());
        match self.tables.decide(src, dst, proto, key, &mut ()) {
            Some(found) => Decision {
                src_identity: src,
                dst_identity: dst,
                ..*found
            },
            None => FAIL_CLOSED,
        }
    }

    /// What deciding about a flow asks: with [`PolicyImage::answer`] the same as
    /// [`PolicyImage::evaluate`].
    ///
    /// # Bounded work
    /// 13 loads for IPv4 at most.
    #[inline]
    #[must_use]
    pub fn question(&self, src: &[u8; 16], dst: &[u8; 16], service: &Service) -> Question {
        self.question_from(self.identity(src), dst, service)
    }

    /// The same with an identity that the caller has looked up before in this very image.
    ///
    /// # Bounded work
    /// 6 loads for IPv4 at most.
    #[inline(always)]
    #[must_use]
    pub fn question_from(&self, src: IdentityId, dst: &[u8; 16], service: &Service) -> Question {
        let (proto, key) = (service.proto, service.key());
        Question {
            src,
            dst: self.identity(dst),
            service_class: self
                .tables
                .service_class(proto, key, &mut ())
                .unwrap_or(u32::MAX),
        }
    }

    /// Decides about the flows of a question of this very image.
    ///
    /// # Bounded work
    /// 7 loads.
    #[inline]
    #[must_use]
    pub fn answer(&self, question: Question) -> Decision {
        let Question {
            src,
            dst,
            service_class,
        } = question;
        match self.tables.decide_class(src, dst, service_class, &mut ()) {
            Some(found) => Decision {
                src_identity: src,
                dst_identity: dst,
                ..*found
            },
            None => FAIL_CLOSED,
        }
    }

    /// The cell of two identities: pairs with the same cell are decided alike about every service,
    /// so that who asks about many pairs evaluates one of each cell. `None` where there is no such
    /// identity.
    #[must_use]
    pub fn cell(&self, src: IdentityId, dst: IdentityId) -> Option<u32> {
        self.tables.cell(src, dst)
    }

    /// How many loads from the tables an evaluation takes. For tests and benches.
    #[must_use]
    pub fn loads(&self, src: &[u8; 16], dst: &[u8; 16], service: &Service) -> u32 {
        let mut loads = 0;
        let src = self.tables.identity(src, &mut loads).unwrap_or(0);
        let dst = self.tables.identity(dst, &mut loads).unwrap_or(0);
        let _ = self
            .tables
            .decide(src, dst, service.proto, service.key(), &mut loads);
        loads
    }

    /// Most loads that any evaluation of this image can take.
    #[must_use]
    pub fn loads_max(&self) -> u32 {
        let lengths = self.tables.v6.lengths.len();
        let v6 = (usize::BITS - lengths.leading_zeros()) * V6_PROBES_MAX;
        2 * v6.max(5) + 10
    }

    /// Token buckets, by the `limit_index` of a decision.
    #[must_use]
    pub fn limits(&self) -> Vec<Limit> {
        let limit = |row: &LimitRow| Limit {
            rule_id: row.rule_id.get(),
            rule_index: row.rule_index.get(),
            kind: RateKind::from_byte(row.kind).unwrap_or(RateKind::Packets),
            rate: row.rate.get(),
            burst: row.burst.get(),
        };
        self.rows::<LimitRow>(Section::Limits)
            .iter()
            .map(limit)
            .collect()
    }

    /// Whether another image has the same rules in the same order, by every fact but what segments
    /// and services they speak of. Work grows with the rules.
    #[must_use]
    pub fn has_rules_of(&self, other: &Self) -> bool {
        let rows = |image: &Self| image.rows::<RuleRow>(Section::Rules).len();
        let facts = |rule: &Rule<'_>| (rule.id, rule.tier, rule.action, rule.mode);
        let mut both = self.rules().zip(other.rules());
        rows(self) == rows(other)
            && both.all(|(one, two)| facts(&one) == facts(&two) && one.name == two.name)
    }

    /// Number of rules.
    #[must_use]
    pub fn rule_count(&self) -> u32 {
        count(self.rows::<RuleRow>(Section::Rules))
    }

    /// A rule by its place.
    #[must_use]
    pub fn rule(&self, index: RuleIndex) -> Option<Rule<'_>> {
        let row = self.rows::<RuleRow>(Section::Rules).get(index as usize)?;
        Some(Rule {
            index,
            id: row.id.get(),
            name: self.text(row.name_first, row.name_bytes),
            tier: Tier::from_byte(row.tier)?,
            action: Action::from_byte(row.action)?,
            mode: RuleMode::from_byte(row.mode)?,
            on_change: OnChange::from_byte(row.on_change)?,
            expired: row.flags.get() & RULE_EXPIRED != 0,
            limit_index: Some(row.limit_index.get()).filter(|index| *index != NONE),
            from: self.list(row.from_first, row.from_count),
            to: self.list(row.to_first, row.to_count),
            services: self.list(row.services_first, row.services_count),
        })
    }

    /// Every rule, by its place.
    pub fn rules(&self) -> impl Iterator<Item = Rule<'_>> {
        (0..self.rule_count()).filter_map(|index| self.rule(index))
    }

    /// A rule by its stable id: a binary search.
    #[must_use]
    pub fn rule_by_id(&self, id: u64) -> Option<Rule<'_>> {
        let rules = self.rows::<RuleRow>(Section::Rules);
        let id_of = |index: &u32| rules.get(*index as usize).map_or(0, |row| row.id.get());
        let at = self.rules_by_id.binary_search_by_key(&id, id_of).ok()?;
        self.rule(*self.rules_by_id.get(at)?)
    }

    /// Number of segments, the three built-in ones included.
    #[must_use]
    pub fn segment_count(&self) -> u32 {
        count(self.rows::<SegmentRow>(Section::Segments))
    }

    /// A segment by its place.
    #[must_use]
    pub fn segment(&self, index: SegmentIndex) -> Option<Segment<'_>> {
        let row = self
            .rows::<SegmentRow>(Section::Segments)
            .get(index as usize)?;
        Some(Segment {
            name: self.text(row.name_first, row.name_bytes),
            mode: Mode::from_byte(row.mode),
            prefixes: self.prefixes(row.prefixes_first, row.prefixes_count),
        })
    }

    /// Every segment, by its place.
    pub fn segments(&self) -> impl Iterator<Item = Segment<'_>> {
        (0..self.segment_count()).filter_map(|index| self.segment(index))
    }

    /// Number of identities.
    #[must_use]
    pub fn identity_count(&self) -> u32 {
        count(self.rows::<IdentityRow>(Section::Identities))
    }

    /// Segments of an identity, ascending. An identity of another image gives what stands there,
    /// or nothing.
    pub fn segments_of(&self, identity: IdentityId) -> impl Iterator<Item = SegmentIndex> + '_ {
        let list = self.identity_row(identity).map_or(&[] as &[U32], |row| {
            self.list(row.segments_first, row.segments_count)
        });
        list.iter().map(|index| index.get())
    }

    /// Mode of an identity: the strictest of its segments, observe if none.
    #[must_use]
    pub fn mode_of(&self, identity: IdentityId) -> Mode {
        self.identity_row(identity)
            .and_then(|row| Mode::from_byte(row.mode))
            .unwrap_or(Mode::Enforce)
    }

    /// Every workload.
    pub fn workloads(&self) -> impl Iterator<Item = Workload<'_>> {
        self.rows::<WorkloadRow>(Section::Workloads)
            .iter()
            .map(|row| Workload {
                name: self.text(row.name_first, row.name_bytes),
                prefixes: self.prefixes(row.prefixes_first, row.prefixes_count),
            })
    }

    /// Every service, by its place.
    pub fn services(&self) -> impl Iterator<Item = ServiceEntry<'_>> {
        (0..).map_while(|index| self.service(index))
    }

    /// A service by its place.
    #[must_use]
    pub fn service(&self, index: u32) -> Option<ServiceEntry<'_>> {
        let row = self
            .rows::<ServiceRow>(Section::Services)
            .get(index as usize)?;
        let ports = self.rows::<PortRow>(Section::Ports);
        Some(ServiceEntry {
            name: self.text(row.name_first, row.name_bytes),
            ports: ports
                .get(span(row.ports_first, row.ports_count))
                .unwrap_or(&[]),
        })
    }

    /// The internal address space.
    pub fn internal(&self) -> impl Iterator<Item = Prefix> + '_ {
        self.rows::<PrefixRow>(Section::Internal)
            .iter()
            .map(Prefix::from_row)
    }

    /// Rules that the verdict of two identities and a service rests on: enforced, pending.
    #[must_use]
    pub fn deciding_rules(&self, decision: &Decision) -> [Option<RuleIndex>; 2] {
        [decision.rule_id, decision.pending_rule_id]
            .map(|id| self.rule_by_id(id).map(|rule| rule.index))
    }

    /// Where the large tables lie that an evaluation reads, for who wants to place them better.
    #[must_use]
    pub fn tables(&self) -> [Range<*const u8>; 8] {
        let tables = &self.tables;
        [
            memory(&tables.v4_nodes),
            memory(&tables.v4_hosts.slots),
            memory(&tables.v6.slots),
            memory(&tables.pair_index),
            memory(&tables.pair_cells),
            memory(&tables.row_sets),
            memory(&tables.row_slots),
            memory(&tables.verdicts),
        ]
    }

    /// Number of verdict rows. For people who wonder about sizes.
    #[must_use]
    pub fn verdict_row_count(&self) -> u32 {
        count(self.rows::<VerdictRow>(Section::Verdicts))
    }

    pub(crate) fn identity_row(&self, identity: IdentityId) -> Option<&IdentityRow> {
        self.rows::<IdentityRow>(Section::Identities)
            .get(identity as usize)
    }

    pub(crate) fn rows<T: FromBytes + KnownLayout + Immutable + Unaligned>(
        &self,
        section: Section,
    ) -> &[T] {
        rows(&self.parts, section)
    }

    fn text(&self, first: U32, bytes: U32) -> &str {
        self.rows::<u8>(Section::Strings)
            .get(span(first, bytes))
            .and_then(|bytes| core::str::from_utf8(bytes).ok())
            .unwrap_or("?")
    }

    fn list(&self, first: U32, count: U32) -> &[U32] {
        self.rows::<U32>(Section::Lists)
            .get(span(first, count))
            .unwrap_or(&[])
    }

    fn prefixes(&self, first: U32, count: U32) -> &[PrefixRow] {
        self.rows::<PrefixRow>(Section::Prefixes)
            .get(span(first, count))
            .unwrap_or(&[])
    }
}

/// Bytes of a section.
pub(crate) fn part(parts: &[Part], section: Section) -> &[u8] {
    parts
        .get(usize::from(section.byte() - 1))
        .map_or(&[], |part| part)
}

/// Rows of a section that `check` has found whole; empty otherwise.
pub(crate) fn rows<T: FromBytes + KnownLayout + Immutable + Unaligned>(
    parts: &[Part],
    section: Section,
) -> &[T] {
    <[T]>::ref_from_bytes(part(parts, section)).unwrap_or(&[])
}

/// `first .. first + count` without overflow.
pub(crate) fn span(first: U32, count: U32) -> Range<usize> {
    let first = first.get() as usize;
    first..first + count.get() as usize
}

fn memory<T>(table: &[T]) -> Range<*const u8> {
    let Range { start, end } = table.as_ptr_range();
    start.cast()..end.cast()
}

fn count<T>(rows: &[T]) -> u32 {
    u32::try_from(rows.len()).unwrap_or(u32::MAX)
}
