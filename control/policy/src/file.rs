//! A policy as it was written: words and where they stand, nothing judged yet.

use crate::inventory::Resolved;
use crate::problem::{Diagnostic, Problem};
use crate::revision::Revision;
use std::sync::Arc;

/// A value and the byte at which it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct At<T> {
    pub(crate) value: T,
    pub(crate) at: usize,
}

/// A list of words, and where the list stands.
pub(crate) type Words = At<Vec<At<String>>>;

/// A policy text, read and not yet validated.
#[derive(Clone, Debug)]
pub struct PolicyFile {
    /// Name that errors carry.
    pub file: String,
    /// Hash of the text.
    pub revision: Revision,
    pub(crate) lines: Lines,
    /// Found while reading, in the order in which they were found.
    pub(crate) problems: Vec<(usize, Problem)>,
    /// The text is not TOML at all: `problems` says where, there is nothing to validate.
    pub(crate) unreadable: bool,
    /// What DNS names stand for.
    pub(crate) resolved: Arc<Resolved>,
    pub(crate) name: Option<At<String>>,
    pub(crate) internal: Option<Words>,
    pub(crate) workloads: Vec<WorkloadText>,
    pub(crate) segments: Vec<SegmentText>,
    pub(crate) services: Vec<ServiceText>,
    pub(crate) rules: Vec<RuleText>,
    pub(crate) invariants: Vec<InvariantText>,
}

impl PolicyFile {
    /// Names of the rules that could be read.
    pub fn rule_names(&self) -> impl Iterator<Item = &str> {
        let names = self.rules.iter().filter_map(|rule| rule.name.as_ref());
        names.map(|name| name.value.as_str())
    }
}

#[derive(Clone, Debug)]
pub(crate) struct WorkloadText {
    pub(crate) at: usize,
    pub(crate) name: Option<At<String>>,
    pub(crate) addresses: Option<Words>,
    pub(crate) dns: Option<Words>,
    pub(crate) labels: Vec<(At<String>, At<String>)>,
}

#[derive(Clone, Debug)]
pub(crate) struct SegmentText {
    pub(crate) at: usize,
    pub(crate) name: Option<At<String>>,
    pub(crate) select: Option<At<String>>,
    pub(crate) addresses: Option<Words>,
    pub(crate) mode: Option<At<String>>,
    pub(crate) comment: Option<At<String>>,
}

#[derive(Clone, Debug)]
pub(crate) struct ServiceText {
    pub(crate) at: usize,
    pub(crate) name: Option<At<String>>,
    pub(crate) ports: Option<Words>,
}

#[derive(Clone, Debug)]
pub(crate) struct RuleText {
    pub(crate) at: usize,
    pub(crate) name: Option<At<String>>,
    pub(crate) tier: Option<At<String>>,
    pub(crate) from: Option<Words>,
    pub(crate) to: Option<Words>,
    pub(crate) services: Option<Words>,
    pub(crate) action: Option<At<String>>,
    pub(crate) rate: Option<At<String>>,
    pub(crate) burst: Option<At<i64>>,
    pub(crate) mode: Option<At<String>>,
    pub(crate) owner: Option<At<String>>,
    pub(crate) ticket: Option<At<String>>,
    pub(crate) expires: Option<At<String>>,
    pub(crate) on_change: Option<At<String>>,
    pub(crate) comment: Option<At<String>>,
}

#[derive(Clone, Debug)]
pub(crate) struct InvariantText {
    pub(crate) at: usize,
    pub(crate) name: Option<At<String>>,
    pub(crate) never: Option<NeverText>,
}

#[derive(Clone, Debug)]
pub(crate) struct NeverText {
    pub(crate) at: usize,
    pub(crate) from: Option<At<String>>,
    pub(crate) to: Option<At<String>>,
    pub(crate) hops: Option<At<i64>>,
    pub(crate) services: Option<Words>,
    pub(crate) except: Option<Words>,
}

/// Where the lines of a text begin.
#[derive(Clone, Debug)]
pub(crate) struct Lines {
    /// Byte at which each line begins, ascending from 0.
    starts: Vec<usize>,
    /// Bytes that continue a UTF-8 character, ascending: columns count characters.
    continuations: Vec<usize>,
}

impl Lines {
    pub(crate) fn of(text: &str) -> Self {
        let newline = |(at, byte): (usize, u8)| (byte == b'\n').then_some(at + 1);
        let continues = |(at, byte): (usize, u8)| (byte & 0xc0 == 0x80).then_some(at);
        Self {
            starts: core::iter::once(0)
                .chain(text.bytes().enumerate().filter_map(newline))
                .collect(),
            continuations: text.bytes().enumerate().filter_map(continues).collect(),
        }
    }

    /// Puts `new` in the place of the bytes `first..last`. Each of both begins and ends where a table
    /// may begin.
    pub(crate) fn replace(&mut self, first: usize, last: usize, new: &str) {
        let moved = (first + new.len()).wrapping_sub(last);
        let own = Self::of(new);
        // A line begins behind a line end: that of `first` is there already, and `last`'s is own.
        let begins = |list: &[usize], at: usize| list.partition_point(|start| *start <= at);
        let replaced = begins(&self.starts, first)..begins(&self.starts, last);
        replace(&mut self.starts, replaced, &own.starts[1..], first, moved);
        let begins = |list: &[usize], at: usize| list.partition_point(|byte| *byte < at);
        let replaced = begins(&self.continuations, first)..begins(&self.continuations, last);
        replace(
            &mut self.continuations,
            replaced,
            &own.continuations,
            first,
            moved,
        );
    }

    /// Line of a byte, from 1.
    pub(crate) fn line(&self, at: usize) -> u32 {
        u32::try_from(self.starts.partition_point(|start| *start <= at)).unwrap_or(u32::MAX)
    }

    pub(crate) fn place(&self, at: usize, problem: Problem) -> Diagnostic {
        let line = self.line(at);
        let start = self.starts.get(line as usize - 1).copied().unwrap_or(0);
        let before = |limit| self.continuations.partition_point(|byte| *byte < limit);
        let column = at - start - (before(at) - before(start)) + 1;
        Diagnostic {
            line,
            column: u32::try_from(column).unwrap_or(u32::MAX),
            problem,
        }
    }
}

/// Replaces a part of a list of places and moves those behind it.
fn replace(
    list: &mut Vec<usize>,
    replaced: core::ops::Range<usize>,
    new: &[usize],
    first: usize,
    moved: usize,
) {
    for place in &mut list[replaced.end..] {
        *place = place.wrapping_add(moved);
    }
    list.splice(replaced, new.iter().map(|place| place + first));
}
