//! Loads texts one after the other, and where only workloads were written anew judges only members.

use crate::edit::{self, EditError, WorkloadChange};
use crate::file::{At, PolicyFile, Words, WorkloadText};
use crate::inventory::{Inventory, Resolved, line_count};
use crate::problem::{PolicyErrors, Problem};
use crate::quarantine::label_behind;
use crate::read::parse;
use crate::revision::Revision;
use crate::validate::{Invariant, Judged, ValidPolicy, judge, judge_members};
use jiff::civil::Date;
use std::sync::Arc;

/// Loads policy texts one after the other and remembers the last that was valid.
///
/// A text that differs from it in nothing but whole `[[workload]]` tables is not read from its
/// beginning: only those tables are, all members are judged anew, and rules keep what was found out
/// about them. What comes out is the same as from [`crate::load`], to the line numbers.
#[derive(Debug, Default)]
pub struct Loader {
    last: Option<Last>,
}

/// The last valid text.
#[derive(Debug)]
struct Last {
    /// With the tables of the inventory behind the policy's own.
    text: String,
    /// Bytes of the policy's own text.
    own_bytes: usize,
    today: Date,
    /// Without its rules and invariants, which take much room and are known in `policy`.
    file: PolicyFile,
    /// Where tables begin, ascending, and which are workloads.
    tables: Vec<(usize, bool)>,
    policy: ValidPolicy,
    /// Warnings that do not depend on workloads.
    lasting: Vec<(usize, Problem)>,
}

/// A text with an inventory behind it.
struct With<'t> {
    text: &'t str,
    /// The text alone.
    own: &'t str,
    resolved: &'t Resolved,
}

/// Bytes that two texts do not have in common: `first..last` of the old one, which begins and ends
/// with a table, and `first..new_last` of the new one.
struct Difference {
    first: usize,
    last: usize,
    new_last: usize,
    /// Tables before the difference, and before its end.
    tables: core::ops::Range<usize>,
}

impl Loader {
    /// Remembers nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Loads as [`crate::load`] does.
    ///
    /// # Errors
    /// Every error of the text, by line.
    pub fn load(
        &mut self,
        text: &str,
        file: &str,
        today: Date,
    ) -> Result<ValidPolicy, PolicyErrors> {
        self.load_with(text, &Inventory::default(), file, today)
    }

    /// The same with the workloads of an inventory, as if their tables stood at the end of the text,
    /// and with what DNS names stand for. The revision is that of the text alone; what is worth a
    /// warning about the inventory's own workloads is left out.
    ///
    /// # Errors
    /// As [`Self::load`]; an error behind the last line of the text is the inventory's.
    pub fn load_with(
        &mut self,
        text: &str,
        inventory: &Inventory,
        file: &str,
        today: Date,
    ) -> Result<ValidPolicy, PolicyErrors> {
        let both = With {
            text: &inventory.behind(text),
            own: text,
            resolved: &inventory.resolved,
        };
        let last = self.last.take().filter(|last| last.today == today);
        let again = last.and_then(|last| self.reload(last, &both, file));
        let mut policy = match again {
            Some(policy) => policy,
            None => self.load_anew(&both, file, today)?,
        };
        let lines = line_count(text);
        policy.warnings.retain(|warning| warning.line <= lines);
        Ok(policy)
    }

    fn load_anew(
        &mut self,
        both: &With<'_>,
        file: &str,
        today: Date,
    ) -> Result<ValidPolicy, PolicyErrors> {
        let mut parsed = parse(both.text, file);
        label_behind(&mut parsed, both.own.len());
        parsed.revision = Revision::of(both.own);
        parsed.resolved = Arc::new(both.resolved.clone());
        let Judged { policy, lasting } = judge(&parsed, today)?;
        if let Some(tables) = tables(both.text, &parsed) {
            parsed.rules = Vec::new();
            parsed.invariants = Vec::new();
            self.last = Some(Last {
                text: both.text.to_owned(),
                own_bytes: both.own.len(),
                today,
                file: parsed,
                tables,
                policy: policy.clone(),
                lasting,
            });
        }
        Ok(policy)
    }

    /// The text with one workload changed, come or gone, and nothing else changed in it.
    ///
    /// # Errors
    /// [`EditError`]. Whether the text is still a valid policy is for [`Self::load`] to say.
    pub fn set_workload(
        &self,
        text: &str,
        name: &str,
        change: &WorkloadChange,
    ) -> Result<String, EditError> {
        // Where the text is known, one table of it is enough to be read.
        let table = match &self.last {
            Some(last) if last.text.get(..last.own_bytes) == Some(text) => last.table(name),
            _ => None,
        };
        let Some((table, found)) = table else {
            return edit::workload(text, name, change);
        };
        let (before, behind) = (&text[..table.start], &text[table.end..]);
        let own = &text[table];
        let changed = if found {
            edit::workload(own, name, change)?
        } else {
            let new = edit::workload("", name, change)?;
            let line_end = if own.ends_with('\n') { "" } else { "\n" };
            let line_before_next = if behind.is_empty() { "" } else { "\n" };
            format!("{own}{line_end}{new}{line_before_next}")
        };
        Ok([before, &changed, behind].concat())
    }

    /// Loads a text that differs from the last in workloads only; none where it differs in more or
    /// has an error, which is then told by reading all of it.
    fn reload(&mut self, mut last: Last, both: &With<'_>, file: &str) -> Option<ValidPolicy> {
        let text = both.text;
        let difference = last.difference(text)?;
        last.replace_workloads(&difference, text)?;
        last.text.clear();
        last.text.push_str(text);
        file.clone_into(&mut last.file.file);
        last.own_bytes = both.own.len();
        label_behind(&mut last.file, last.own_bytes);
        last.file.revision = Revision::of(both.own);
        last.file.resolved = Arc::new(both.resolved.clone());
        let found = judge_members(&last.file, last.today, &last.policy, &last.lasting);
        let policy = found.ok()?;
        last.policy = policy.clone();
        self.last = Some(last);
        Some(policy)
    }
}

impl Last {
    /// Bytes of the table of a workload, or of the last workload, and whether it is the wanted one.
    fn table(&self, name: &str) -> Option<(core::ops::Range<usize>, bool)> {
        let is_it = |text: &WorkloadText| text.name.as_ref().is_some_and(|n| n.value == name);
        let mut own = self.file.workloads.iter();
        let own = own.by_ref().take_while(|text| text.at < self.own_bytes);
        let mut last = None;
        let found = own
            .inspect(|text| last = Some(text.at))
            .find(|text| is_it(text));
        let (at, found) = (found.map(|text| text.at).or(last)?, found.is_some());
        let behind = self.tables.partition_point(|(table, _)| *table <= at);
        let end = self
            .tables
            .get(behind)
            .map_or(self.text.len(), |(end, _)| *end);
        Some((at..end.min(self.own_bytes), found))
    }

    fn difference(&self, text: &str) -> Option<Difference> {
        let (old, new) = (self.text.as_bytes(), text.as_bytes());
        let same = common(old.chunks(CHUNK), new.chunks(CHUNK), |a, b| {
            a.iter().zip(b).take_while(|(a, b)| a == b).count()
        });
        let same_end = common(old.rchunks(CHUNK), new.rchunks(CHUNK), |a, b| {
            let ends = a.iter().rev().zip(b.iter().rev());
            ends.take_while(|(a, b)| a == b).count()
        });
        let first = self
            .tables
            .partition_point(|(at, _)| *at <= same)
            .checked_sub(1)?;
        let (first_at, _) = self.tables[first];
        // What both ends have in common may overlap: as many bytes as the new text lacks are gone.
        let gone = old.len().saturating_sub(new.len());
        let end = (old.len() - same_end).max(first_at + gone);
        let last = self.tables.partition_point(|(at, _)| *at < end);
        let last_at = self.tables.get(last).map_or(old.len(), |(at, _)| *at);
        let workloads_only = self.tables[first..last]
            .iter()
            .all(|(_, workload)| *workload);
        workloads_only.then(|| Difference {
            first: first_at,
            last: last_at,
            new_last: new.len() - (old.len() - last_at),
            tables: first..last,
        })
    }

    /// Puts the workloads of the new text in the place of the old ones, and moves everything behind.
    fn replace_workloads(&mut self, difference: &Difference, text: &str) -> Option<()> {
        let Difference {
            first,
            last,
            new_last,
            ..
        } = *difference;
        let new = text.get(first..new_last)?;
        let blank_end = new
            .rsplit('\n')
            .next()
            .is_none_or(|line| line.trim().is_empty());
        if !blank_end && new_last < text.len() {
            return None;
        }
        let mut read = parse(new, "");
        let only_comments = matches!(read.problems[..], [(_, Problem::NothingWritten)]);
        if read.unreadable || !(read.problems.is_empty() || only_comments) {
            return None;
        }
        let mut tables = tables(new, &read)?;
        if tables.iter().any(|(_, workload)| !workload) || !has_only_workloads(&read) {
            return None;
        }
        let moved = new_last.wrapping_sub(last);
        let lines_before = self.file.lines.line(last);
        self.file.lines.replace(first, last, new);
        let lines_moved = self.file.lines.line(new_last).wrapping_sub(lines_before);
        let move_behind = |at: &mut usize| {
            if *at >= last {
                *at = at.wrapping_add(moved);
            }
        };
        each_place(&mut self.file, &move_behind);
        self.lasting.iter_mut().for_each(|(at, _)| move_behind(at));
        self.tables.iter_mut().for_each(|(at, _)| move_behind(at));
        each_place(&mut read, &|at| *at += first);
        tables.iter_mut().for_each(|(at, _)| *at += first);
        let workload_before = |at: usize| {
            self.tables[..at]
                .iter()
                .filter(|(_, workload)| *workload)
                .count()
        };
        let workloads =
            workload_before(difference.tables.start)..workload_before(difference.tables.end);
        self.file.workloads.splice(workloads, read.workloads);
        self.tables.splice(difference.tables.clone(), tables);
        self.move_lines(lines_before, lines_moved);
        Some(())
    }

    /// Moves the lines of rules and invariants from line `first` on.
    fn move_lines(&mut self, first: u32, moved: u32) {
        let line = |line: u32| match line {
            before if before < first => before,
            behind => behind.wrapping_add(moved),
        };
        if moved != 0 {
            self.policy.rule_lines = self.policy.rule_lines.iter().map(|at| line(*at)).collect();
            let moved = |invariant: &Invariant| Invariant {
                line: line(invariant.line),
                ..invariant.clone()
            };
            self.policy.invariants = self.policy.invariants.iter().map(moved).collect();
        }
    }
}

/// Bytes compared at once.
const CHUNK: usize = 4096;

/// Bytes that two texts have in common from the end at which the chunks begin.
fn common<'t>(
    one: impl Iterator<Item = &'t [u8]>,
    other: impl Iterator<Item = &'t [u8]>,
    within: impl Fn(&[u8], &[u8]) -> usize,
) -> usize {
    let mut same = 0;
    for (a, b) in one.zip(other) {
        if a == b {
            same += a.len();
            continue;
        }
        return same + within(a, b);
    }
    same
}

fn has_only_workloads(file: &PolicyFile) -> bool {
    let PolicyFile {
        name,
        internal,
        segments,
        services,
        rules,
        invariants,
        ..
    } = file;
    name.is_none()
        && internal.is_none()
        && segments.is_empty()
        && services.is_empty()
        && rules.is_empty()
        && invariants.is_empty()
}

/// Where tables begin, and which are workloads. None where the text is written in a way in which a
/// table cannot be told from its neighbours by its header: a header within a text of several lines,
/// a list of tables in brackets, or a table below another that does not stand right behind it.
fn tables(text: &str, file: &PolicyFile) -> Option<Vec<(usize, bool)>> {
    let mut tables: Vec<(usize, bool)> = Vec::new();
    let mut kind = "";
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        let word = line.trim_start();
        if word.starts_with('[') {
            let start = at + line.len() - word.len();
            let header = word.split('#').next().unwrap_or(word).trim_end();
            if let Some(name) = header.strip_prefix("[[").and_then(|h| h.strip_suffix("]]")) {
                kind = name;
                tables.push((start, name == "workload"));
            } else {
                let name = header.strip_prefix('[')?.strip_suffix(']')?;
                let below = name.split_once('.').map(|(above, _)| above);
                match below {
                    Some(above) if above == kind => {}
                    None if name == "policy" => kind = name,
                    _ => return None,
                }
            }
        }
        at += line.len();
    }
    let mut known: Vec<usize> = file
        .workloads
        .iter()
        .map(|table| table.at)
        .chain(file.segments.iter().map(|table| table.at))
        .chain(file.services.iter().map(|table| table.at))
        .chain(file.rules.iter().map(|table| table.at))
        .chain(file.invariants.iter().map(|table| table.at))
        .collect();
    known.sort_unstable();
    known
        .iter()
        .eq(tables.iter().map(|(at, _)| at))
        .then_some(tables)
}

/// Every place that a file remembers, but for those of rules and invariants.
fn each_place(file: &mut PolicyFile, change: &impl Fn(&mut usize)) {
    let word = |word: &mut Option<At<String>>| {
        if let Some(word) = word {
            change(&mut word.at);
        }
    };
    let words = |words: &mut Option<Words>| {
        if let Some(words) = words {
            change(&mut words.at);
            words.value.iter_mut().for_each(|word| change(&mut word.at));
        }
    };
    word(&mut file.name);
    words(&mut file.internal);
    for WorkloadText {
        at,
        name,
        addresses,
        dns,
        labels,
    } in &mut file.workloads
    {
        change(at);
        word(name);
        words(addresses);
        words(dns);
        for (key, value) in labels {
            change(&mut key.at);
            change(&mut value.at);
        }
    }
    for segment in &mut file.segments {
        change(&mut segment.at);
        word(&mut segment.name);
        word(&mut segment.select);
        words(&mut segment.addresses);
        word(&mut segment.mode);
        word(&mut segment.comment);
    }
    for service in &mut file.services {
        change(&mut service.at);
        word(&mut service.name);
        words(&mut service.ports);
    }
}
