//! Inventories and a policy's own workloads, put together.

use super::InventoryFile;
use crate::file::At;
use crate::prefix::Span;
use crate::problem::{PolicyErrors, Problem};
use crate::validate::Workload;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt::Write as _;

/// A workload of an inventory that the policy has as well. The policy's is taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overridden {
    /// The workload.
    pub workload: String,
    /// File of the inventory.
    pub file: String,
    /// Line in it.
    pub line: u32,
}

/// What inventories add to a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Merged {
    /// The workloads as `[[workload]]` tables, by name. The same workloads give the same text,
    /// whatever file they are in.
    pub tables: String,
    /// How many there are.
    pub workload_count: usize,
    /// Those that the policy itself has.
    pub overridden: Vec<Overridden>,
}

/// One prefix that a workload claims.
struct Claim<'w> {
    span: Span,
    /// 0 the policy, then the files.
    file: usize,
    /// Place of the workload within its file.
    index: usize,
    workload: &'w Workload,
    /// Byte at which it stands; 0 of the policy's own.
    at: usize,
}

/// Puts the workloads of inventories beside `own`, those that the policy (`policy` its file) itself
/// has. Of one name the policy's is taken; an address belongs to one workload.
///
/// # Errors
/// Every conflict, by file: two files with one name, two workloads with one address.
pub fn merge(
    own: &[Workload],
    policy: &str,
    files: &[InventoryFile],
) -> Result<Merged, Vec<PolicyErrors>> {
    let own_names: HashSet<&str> = own.iter().map(|w| w.name.as_str()).collect();
    let mut merged = Merged::default();
    let mut by_name: BTreeMap<&str, (usize, &Workload)> = BTreeMap::new();
    let mut problems: Vec<Vec<(usize, Problem)>> = files.iter().map(|_| Vec::new()).collect();
    let mut claims = own_claims(own);
    for (place, file) in files.iter().enumerate() {
        for (index, workload) in file.workloads.iter().enumerate() {
            let text = &file.parsed.workloads[index];
            if own_names.contains(workload.name.as_str()) {
                merged.overridden.push(Overridden {
                    workload: workload.name.clone(),
                    file: file.file().to_owned(),
                    line: workload.line,
                });
                continue;
            }
            let first = by_name.insert(&workload.name, (place, workload));
            if let Some((other, first)) = first {
                let problem = Problem::NamedElsewhere {
                    workload: workload.name.clone(),
                    other: files[other].file().to_owned(),
                    other_line: first.line,
                };
                let at = text.name.as_ref().map_or(text.at, |name| name.at);
                problems[place].push((at, problem));
            }
            let words: &[At<String>] = text.addresses.as_ref().map_or(&[], |words| &words.value);
            claims.extend(
                workload
                    .addresses
                    .iter()
                    .zip(words)
                    .map(|(net, word)| Claim {
                        span: Span::from(*net),
                        file: place + 1,
                        index,
                        workload,
                        at: word.at,
                    }),
            );
        }
    }
    conflicts(&mut claims, policy, files, &mut problems);
    let found = files.iter().zip(problems);
    let errors: Vec<PolicyErrors> = found
        .filter(|(_, problems)| !problems.is_empty())
        .map(|(file, problems)| errors(file, problems))
        .collect();
    if !errors.is_empty() {
        return Err(errors);
    }
    merged.workload_count = by_name.len();
    merged.tables = tables(by_name.values().map(|(_, workload)| *workload));
    Ok(merged)
}

/// What the policy's own workloads claim.
fn own_claims(own: &[Workload]) -> Vec<Claim<'_>> {
    let mut claims = Vec::new();
    for (index, workload) in own.iter().enumerate() {
        // Those at the end came by DNS and give way.
        let written = workload.addresses.len() - workload.resolved_count;
        claims.extend(workload.addresses[..written].iter().map(|net| Claim {
            span: Span::from(*net),
            file: 0,
            index,
            workload,
            at: 0,
        }));
    }
    claims
}

fn errors(file: &InventoryFile, problems: Vec<(usize, Problem)>) -> PolicyErrors {
    let lines = &file.parsed.lines;
    let mut diagnostics: Vec<_> = problems
        .into_iter()
        .map(|(at, problem)| lines.place(at, problem))
        .collect();
    diagnostics.sort_by_key(|d| (d.line, d.column));
    let untold = diagnostics
        .len()
        .saturating_sub(crate::limits::PROBLEMS_MAX);
    diagnostics.truncate(crate::limits::PROBLEMS_MAX);
    PolicyErrors {
        file: file.file().to_owned(),
        diagnostics,
        untold,
    }
}

/// An address belongs to one workload. Prefixes nest or are apart, so that after sorting a prefix
/// can only lie within the last one that has not ended.
fn conflicts(
    claims: &mut [Claim<'_>],
    policy: &str,
    files: &[InventoryFile],
    problems: &mut [Vec<(usize, Problem)>],
) {
    claims.sort_unstable_by_key(|claim| {
        let Span {
            v4,
            address,
            length,
        } = claim.span;
        (v4, address, length, claim.file, claim.index, claim.at)
    });
    let mut open: Vec<&Claim<'_>> = Vec::new();
    let mut told: HashMap<(usize, usize), usize> = HashMap::new();
    for claim in claims.iter() {
        open.retain(|wide| wide.span.v4 == claim.span.v4 && wide.span.last() >= claim.span.last());
        let other = |wide: &&&Claim<'_>| (wide.file, wide.index) != (claim.file, claim.index);
        // Within one file it was told when that was read.
        let apart = |wide: &&&Claim<'_>| wide.file != claim.file;
        if let Some(wide) = open.iter().find(|wide| other(wide) && apart(wide)) {
            let (late, early) = if claim.file > wide.file {
                (claim, *wide)
            } else {
                (*wide, claim)
            };
            let file_of = |file: usize| match file.checked_sub(1) {
                None => policy.to_owned(),
                Some(place) => files[place].file().to_owned(),
            };
            let problem = Problem::AddressElsewhere {
                workload: late.workload.name.clone(),
                address: claim.span.to_string(),
                owner: early.workload.name.clone(),
                other: file_of(early.file),
                other_line: early.workload.line,
            };
            let said = told.entry((late.file, late.at)).or_default();
            *said += 1;
            if *said == 1 {
                problems[late.file - 1].push((late.at, problem));
            }
        }
        open.push(claim);
    }
}

/// Workloads as tables of the policy language. Names, labels and addresses were judged: none has a
/// character that a string in quotes would have to escape.
fn tables<'w>(workloads: impl Iterator<Item = &'w Workload>) -> String {
    let mut text = String::new();
    for workload in workloads {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[[workload]]\nname = \"{}\"", workload.name);
        if !workload.addresses.is_empty() {
            let addresses = workload.addresses.iter().map(|net| Span::from(*net));
            let _ = writeln!(text, "addresses = [{}]", quoted(addresses));
        }
        if !workload.dns.is_empty() {
            let _ = writeln!(text, "dns = [{}]", quoted(workload.dns.iter()));
        }
        if !workload.labels.is_empty() {
            let labels = workload.labels.iter();
            let labels: Vec<String> = labels.map(|(k, v)| format!("\"{k}\" = \"{v}\"")).collect();
            let _ = writeln!(text, "labels = {{ {} }}", labels.join(", "));
        }
    }
    text
}

fn quoted(words: impl Iterator<Item = impl std::fmt::Display>) -> String {
    let words: Vec<String> = words.map(|word| format!("\"{word}\"")).collect();
    words.join(", ")
}
