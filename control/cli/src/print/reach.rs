//! What a policy lets reach what.

use api::reach::{
    Analysis, Blast, BlastRadius, BrokenInvariant, Changed, PolicyDiff, ReachChange, Ring, Turn,
    View,
};
use api::words::Action;

use super::details;
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{count, counted, revision as short};

/// Broken invariants, each with its paths.
#[must_use]
pub fn broken(invariants: &[BrokenInvariant]) -> Page {
    let mut page = Page::new();
    for broken in invariants {
        let mut place = broken.place.clone();
        let mend = std::mem::take(&mut place.mend);
        page.text(Tone::Bad, &details(&[place], "error").render(false));
        for path in &broken.paths {
            page.line(Tone::Plain, format!("    {}", path.told));
            let hosts: Vec<&str> = path.ends.iter().map(|end| end.host.as_str()).collect();
            page.line(Tone::Faint, format!("      e.g. {}", hosts.join(" -> ")));
        }
        if broken.untold > 0 {
            let more = counted(broken.untold, "more kind");
            page.line(Tone::Plain, format!("    and to {more} of hosts"));
        }
        page.line(Tone::Plain, format!("    {mend}"));
    }
    page
}

fn meaning(view: View) -> &'static str {
    match view {
        View::Intended => {
            "as the policy is meant: every segment and rule taken as enforced (--enforced: what passes now)"
        }
        View::Enforced => "what passes now, modes included (without --enforced: what is meant)",
    }
}

fn decided(action: Action, rule: Option<&str>) -> String {
    match rule {
        Some(rule) => format!("{action} by {rule}"),
        None => format!("{action} by default"),
    }
}

/// What becomes reachable, what stops being, and what is written differently. `names`: of the old
/// policy and the new one.
#[must_use]
pub fn policy_diff(names: (&str, &str), diff: &PolicyDiff) -> Page {
    let mut page = Page::new();
    let [old, new] = [&diff.old_revision, &diff.new_revision].map(|r| short(r));
    page.line(
        Tone::Heading,
        format!("{} ({old}) -> {} ({new})", names.0, names.1),
    );
    page.line(Tone::Faint, meaning(diff.view));
    page.gap();
    if diff.reach.is_empty() {
        page.line(
            Tone::Good,
            "nothing becomes reachable, and nothing stops being",
        );
    } else {
        reach_changes(&mut page, &diff.reach);
    }
    if !diff.newly_broken.is_empty() || !diff.mended.is_empty() {
        page.gap();
    }
    for broken in &diff.newly_broken {
        page.line(Tone::Bad, format!("breaks invariant {}", broken.name));
    }
    for name in &diff.mended {
        page.line(
            Tone::Good,
            format!("keeps invariant {name}, which was broken"),
        );
    }
    for change in &diff.changes {
        page.gap();
        let tone = match change.changed {
            Changed::Added => Tone::Good,
            Changed::Removed => Tone::Bad,
            Changed::Altered => Tone::Warning,
        };
        page.line(
            tone,
            format!("{} {} {}", change.kind, change.name, change.changed).replace("  ", " "),
        );
        for detail in &change.details {
            page.line(Tone::Plain, format!("    {detail}"));
        }
    }
    page
}

fn reach_changes(page: &mut Page, rows: &[ReachChange]) {
    let mut grid = Grid::new(&[
        ("reach", Align::Left),
        ("from", Align::Left),
        ("to", Align::Left),
        ("services", Align::Left),
        ("was", Align::Left),
        ("is", Align::Left),
    ]);
    for row in rows {
        let tone = match row.turn {
            Turn::Opens => Tone::Warning,
            Turn::Closes => Tone::Bad,
            Turn::Changes => Tone::Plain,
        };
        grid.row(
            tone,
            vec![
                row.turn.to_string(),
                row.from.names.join(", "),
                row.to.names.join(", "),
                row.services.join(", "),
                decided(row.before, row.rule_before.as_deref()),
                decided(row.after, row.rule_after.as_deref()),
            ],
        );
    }
    page.table(grid);
}

/// Columns of hops that a table shows.
const HOP_COLUMNS: [&str; 16] = [
    "1 hop", "2 hops", "3 hops", "4 hops", "5 hops", "6 hops", "7 hops", "8 hops", "9 hops",
    "10 hops", "11 hops", "12 hops", "13 hops", "14 hops", "15 hops", "16 hops",
];

/// What can be reached from each segment, hop by hop.
#[must_use]
pub fn blast(radius: &BlastRadius) -> Page {
    let mut page = Page::new();
    let drafted = radius.draft.as_deref();
    let after = |name: &str| drafted?.iter().find(|blast| blast.segment == name);
    let before = |name: &str| radius.segments.iter().any(|blast| blast.segment == name);
    let added = drafted
        .unwrap_or_default()
        .iter()
        .filter(|blast| !before(&blast.segment));
    let all: Vec<(Option<&Blast>, Option<&Blast>)> = radius
        .segments
        .iter()
        .map(|blast| (Some(blast), after(&blast.segment)))
        .chain(added.map(|blast| (None, Some(blast))))
        .collect();
    if all.is_empty() {
        page.line(Tone::Faint, "the policy has no segment");
        return page;
    }
    let hops = all
        .iter()
        .flat_map(|pair| pair.0.or(pair.1))
        .map(|b| b.rings.len())
        .max();
    let mut columns = vec![("segment", Align::Left), ("workloads", Align::Right)];
    columns.extend(
        HOP_COLUMNS
            .iter()
            .take(hops.unwrap_or(0))
            .map(|name| (*name, Align::Left)),
    );
    let mut grid = Grid::new(&columns);
    for (old, new) in &all {
        let Some(any) = old.or(*new) else { continue };
        let mut cells = vec![any.segment.clone(), count(any.workloads)];
        for hop in 0..any.rings.len() {
            let ring = |blast: &Option<&Blast>| blast.and_then(|b| b.rings.get(hop)).map(ring);
            cells.push(match (ring(old), ring(new), drafted) {
                (Some(old), Some(new), _) if old != new => format!("{old} -> {new}"),
                (Some(old), None, Some(_)) => format!("{old} -> gone"),
                (None, Some(new), _) => format!("new -> {new}"),
                (old, new, _) => old.or(new).unwrap_or_default(),
            });
        }
        let changed = drafted.is_some() && *old != *new;
        grid.row(if changed { Tone::Warning } else { Tone::Plain }, cells);
    }
    page.table(grid);
    if let [(Some(only), _)] = all.as_slice() {
        names(&mut page, only);
    }
    page.gap();
    page.line(Tone::Faint, meaning(radius.view));
    page.line(
        Tone::Faint,
        "hops by anything but ICMP; each column holds what those before it hold",
    );
    page
}

fn ring(ring: &Ring) -> String {
    let beyond = [
        (ring.internet, ", internet"),
        (ring.unmanaged, ", unmanaged"),
    ];
    let beyond: String = beyond.iter().filter(|b| b.0).map(|b| b.1).collect();
    match (ring.workloads, ring.segments.len() as u64) {
        (0, 0) if beyond.is_empty() => "nothing".to_owned(),
        (0, 0) => beyond.trim_start_matches(", ").to_owned(),
        (workloads, segments) => {
            let workloads = counted(workloads, "workload");
            format!("{workloads} in {}{beyond}", counted(segments, "segment"))
        }
    }
}

/// The segments that each hop is the first to reach.
fn names(page: &mut Page, blast: &Blast) {
    page.gap();
    if blast.among {
        page.line(
            Tone::Plain,
            format!("hosts of {} reach each other", blast.segment),
        );
    }
    let mut known: Vec<&String> = Vec::new();
    for (ring, hop) in blast.rings.iter().zip(HOP_COLUMNS) {
        let new: Vec<&String> = ring
            .segments
            .iter()
            .filter(|s| !known.contains(s))
            .collect();
        if !new.is_empty() {
            let told: Vec<&str> = new.iter().map(|name| name.as_str()).collect();
            page.field(Tone::Plain, hop, told.join(", "));
        }
        known.extend(new);
    }
}

/// Findings about rules.
#[must_use]
pub fn analysis(analysis: &Analysis) -> Page {
    let mut page = Page::new();
    let (rules, findings) = (analysis.rules, analysis.findings.len() as u64);
    page.line(
        Tone::Heading,
        format!(
            "revision {}: {}, {}",
            short(&analysis.revision),
            counted(rules, "rule"),
            counted(findings, "finding")
        ),
    );
    if analysis.use_not_judged.is_empty() {
        let days = counted(analysis.days_watched, "day");
        page.line(Tone::Faint, format!("use: what history saw in {days}"));
    } else {
        let why = &analysis.use_not_judged;
        page.line(Tone::Warning, format!("use is not judged: {why}"));
    }
    if findings > 0 {
        page.gap();
        let mut grid = Grid::new(&[
            ("finding", Align::Left),
            ("rule", Align::Left),
            ("line", Align::Right),
            ("why", Align::Left),
            ("what to do", Align::Left),
        ]);
        for finding in &analysis.findings {
            grid.row(
                Tone::Plain,
                vec![
                    finding.kind.clone(),
                    finding.rule.clone(),
                    finding.line.to_string(),
                    finding.because.clone(),
                    finding.advice.clone(),
                ],
            );
        }
        page.table(grid);
    }
    for finding in &analysis.findings {
        if let Some(tables) = &finding.replace {
            page.gap();
            page.line(
                Tone::Heading,
                format!("# in the place of rule {}", finding.rule),
            );
            page.text(Tone::Plain, tables);
        }
    }
    page
}
