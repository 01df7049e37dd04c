//! What the watch found.

use super::foresight::foresight;
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{bytes, clock, count, counted, span};
use api::watch::{
    BaselineEdges, Cut, Evidence, Finding, FindingReport, FindingSeverity, FindingState, Findings,
    Hop, QuarantineOffer, WatchState,
};

const NS_PER_S: u64 = 1_000_000_000;

const fn tone(severity: FindingSeverity) -> Tone {
    match severity {
        FindingSeverity::Info => Tone::Faint,
        FindingSeverity::Low => Tone::Plain,
        FindingSeverity::Medium => Tone::Warning,
        FindingSeverity::High | FindingSeverity::Critical => Tone::Bad,
    }
}

/// How the watch itself is doing, where that matters to who reads its findings.
fn doing(page: &mut Page, state: &WatchState) {
    if !state.enabled {
        page.line(Tone::Warning, "nothing is watched: watch.enabled is false");
        return;
    }
    if state.learning {
        let text = format!(
            "learning: {} of {} watched; what is found until then alarms nobody (--learning shows it)",
            span(state.watched_s * NS_PER_S),
            span(state.learning_s * NS_PER_S)
        );
        page.line(Tone::Warning, text);
    }
    if state.shed > 0 {
        let records = counted(state.shed, "flow record");
        let text = format!("{records} not looked at: the queue was full");
        page.line(Tone::Warning, text);
    }
    if let Some(error) = &state.error {
        page.line(Tone::Bad, error);
    }
}

fn state_word(finding: &Finding) -> String {
    if finding.learning {
        return "learning".to_owned();
    }
    finding.state.to_string()
}

/// Findings, one a line.
#[must_use]
pub fn findings(answer: &Findings) -> Page {
    let mut page = Page::new();
    if answer.findings.is_empty() {
        page.line(Tone::Good, "no findings");
    } else {
        let mut grid = Grid::new(&[
            ("id", Align::Right),
            ("last seen (UTC)", Align::Left),
            ("severity", Align::Left),
            ("kind", Align::Left),
            ("state", Align::Left),
            ("what", Align::Left),
        ]);
        for finding in &answer.findings {
            let cells = vec![
                finding.id.to_string(),
                clock(finding.last_ts),
                finding.severity.to_string(),
                finding.kind.to_string(),
                state_word(finding),
                finding.sentence.clone(),
            ];
            grid.row(tone(finding.severity), cells);
        }
        page.table(grid);
    }
    page.gap();
    let state = &answer.state;
    let edges = format!(
        "{} in the baseline, {} looked at since control started",
        counted(state.edges, "edge"),
        counted(state.records, "flow record")
    );
    page.line(Tone::Faint, edges);
    if answer.cut {
        page.line(Tone::Faint, "these are the newest; --limit 0 shows all");
    }
    doing(&mut page, state);
    page
}

/// A finding as followers see it.
#[must_use]
pub fn finding_line(finding: &Finding) -> Page {
    let mut page = Page::new();
    let text = format!(
        "{}  {:>5}  {:<8}  {:<12}  {}",
        clock(finding.last_ts),
        finding.id,
        finding.severity,
        finding.kind,
        finding.sentence
    );
    page.line(tone(finding.severity), text);
    page
}

/// What became of a finding that somebody said something about.
#[must_use]
pub fn said(finding: &Finding) -> Page {
    let mut page = Page::new();
    page.line(
        Tone::Good,
        format!(
            "finding {} is {}: {}",
            finding.id, finding.state, finding.sentence
        ),
    );
    page
}

/// One finding: path, evidence, rules, cut, next.
#[must_use]
pub fn report(report: &FindingReport) -> Page {
    let finding = &report.finding;
    let mut page = Page::new();
    page.line(tone(finding.severity), &finding.sentence);
    page.gap();
    let kind = match &finding.technique {
        Some(technique) => format!("{}, MITRE ATT&CK {technique}", finding.kind),
        None => finding.kind.to_string(),
    };
    page.field(Tone::Plain, "finding", format!("{}, {kind}", finding.id));
    page.field(
        tone(finding.severity),
        "severity",
        finding.severity.to_string(),
    );
    page.field(Tone::Plain, "state", state_of(finding));
    let seen = format!(
        "{} to {} UTC",
        clock(finding.first_ts),
        clock(finding.last_ts)
    );
    page.field(Tone::Plain, "seen", seen);
    page.field(Tone::Plain, "from", end(&finding.src));
    if let Some(dst) = &finding.dst {
        page.field(Tone::Plain, "to", end(dst));
    }
    evidence(&mut page, &finding.evidence);
    for remark in &finding.remarks {
        page.field(Tone::Plain, "remark", remark);
    }
    path(&mut page, report);
    page.gap();
    match (&report.cut, &report.no_cut) {
        (Some(found), _) => cut_lines(&mut page, found),
        (None, Some(why)) => {
            page.field(Tone::Plain, "cut", format!("none: {why}"));
        }
        (None, None) => {}
    }
    page.gap();
    match (&report.quarantine, &report.no_quarantine) {
        (Some(offer), _) => offered(&mut page, offer),
        (None, Some(why)) => {
            page.field(Tone::Plain, "quarantine", format!("none: {why}"));
        }
        (None, None) => {}
    }
    for said in &finding.said {
        let text = format!(
            "{} {} by {}: {}",
            clock(said.ts),
            said.state,
            said.author,
            said.note
        );
        page.field(Tone::Faint, "said", text);
    }
    page.gap();
    page.line(Tone::Heading, "next:");
    for command in &report.next {
        page.line(Tone::Plain, format!("  {command}"));
    }
    page
}

/// The quarantine that is ready, and what it would cut.
fn offered(page: &mut Page, offer: &QuarantineOffer) {
    if let Some(until) = offer.held_until_ts {
        let text = format!("{} is held until {} UTC", offer.workload, clock(until));
        page.field(Tone::Good, "quarantine", text);
        page.field(Tone::Plain, "let it go", &offer.command);
        return;
    }
    let time = span(offer.for_s * NS_PER_S);
    let addresses = offer.addresses.join(", ");
    let text = format!("hold {} ({addresses}) for {time}", offer.workload);
    page.field(Tone::Good, "quarantine", text);
    page.field(Tone::Plain, "apply it", &offer.command);
    page.field(Tone::Plain, "or", &offer.same);
    foresight(page, &offer.foresight, "would cut");
}

fn state_of(finding: &Finding) -> String {
    match (finding.learning, finding.state) {
        (true, state) => format!("{state}; found while the baseline was learning"),
        (false, FindingState::Open) => "open: nobody has acknowledged it".to_owned(),
        (false, state) => state.to_string(),
    }
}

fn end(end: &api::watch::WatchEnd) -> String {
    let segments = end.segments.join(", ");
    match (&end.name, segments.is_empty()) {
        (Some(name), false) => format!("{name} ({}) in {segments}", end.address),
        (Some(name), true) => format!("{name} ({})", end.address),
        (None, false) => format!("{} in {segments}", end.address),
        (None, true) => end.address.to_string(),
    }
}

fn evidence(page: &mut Page, of: &Evidence) {
    let text = format!(
        "{}, {}, {}; {} and {}",
        counted(of.flows, "flow"),
        counted(of.packets, "packet"),
        bytes(of.bytes),
        counted(of.destinations.max(1), "responder"),
        counted(of.services.max(1), "service"),
    );
    page.field(Tone::Plain, "evidence", text);
    let outcomes = [
        (of.answered, "answered"),
        (of.unanswered, "unanswered"),
        (of.refused, "refused"),
        (of.denied, "denied"),
    ];
    let outcomes = outcomes.iter().filter(|(number, _)| *number > 0);
    let outcomes: Vec<String> = outcomes
        .map(|(number, word)| format!("{} {word}", count(*number)))
        .collect();
    page.field(Tone::Plain, "outcome", outcomes.join(", "));
    page.field(
        Tone::Plain,
        "direction",
        format!("{} (the weakest of all)", of.initiator_evidence),
    );
    for decided in &of.decided_by {
        let by = decided
            .rule
            .as_ref()
            .map_or_else(|| decided.source.to_string(), |rule| format!("rule {rule}"));
        let text = format!(
            "{} by {by} ({})",
            decided.verdict,
            counted(decided.records, "record")
        );
        page.field(Tone::Plain, "decided", text);
    }
    if of.targets.len() > 1 {
        page.field(Tone::Plain, "targets", of.targets.join(", "));
    }
    if !of.flow_ids.is_empty() {
        let ids: Vec<String> = of.flow_ids.iter().map(ToString::to_string).collect();
        page.field(Tone::Faint, "flow ids", ids.join(" "));
    }
}

fn path(page: &mut Page, report: &FindingReport) {
    let finding = &report.finding;
    if finding.hops.is_empty() {
        return;
    }
    page.gap();
    let mut grid = Grid::new(&[
        ("first seen (UTC)", Align::Left),
        ("hop", Align::Left),
        ("outcome", Align::Left),
        ("decided by", Align::Left),
        ("direction", Align::Left),
        ("technique", Align::Left),
        ("packets", Align::Right),
        ("bytes", Align::Right),
        ("now", Align::Left),
    ]);
    for (at, hop) in finding.hops.iter().enumerate() {
        let now = report.judged.get(at);
        let cells = vec![
            clock(hop.first_ts),
            hop.label(),
            hop.outcome.to_string(),
            decided(hop),
            hop.initiator_evidence.to_string(),
            hop.technique.clone().unwrap_or_else(|| "-".to_owned()),
            count(hop.packets),
            bytes(hop.bytes),
            now.map_or_else(
                || "-".to_owned(),
                |now| format!("{}: {}", now.verdict, now.why),
            ),
        ];
        grid.row(Tone::Plain, cells);
    }
    page.table(grid);
    if finding.hops_left_out > 0 {
        let more = format!("and {}", counted(finding.hops_left_out, "further hop"));
        page.line(Tone::Faint, more);
    }
}

fn decided(hop: &Hop) -> String {
    let by = hop
        .rule
        .as_ref()
        .map_or_else(|| hop.verdict_source.to_string(), |rule| rule.to_string());
    format!("{} ({by})", hop.verdict)
}

/// What a cut denies, and what it would deny besides.
#[must_use]
pub fn cut(cut: &Cut) -> Page {
    let mut page = Page::new();
    cut_lines(&mut page, cut);
    page
}

fn cut_lines(page: &mut Page, cut: &Cut) {
    for deny in &cut.denies {
        let (from, to) = (deny.from.join(", "), deny.to.join(", "));
        let text = format!("deny {from} -> {to} on {}", deny.service);
        page.field(Tone::Good, "cut", text);
        page.field(Tone::Plain, "or", &deny.instead);
    }
    let (holds, tone) = if cut.holds {
        (
            "no path is left, judged by the code that enforces",
            Tone::Good,
        )
    } else {
        (
            "a path is left: look at the draft before it is applied",
            Tone::Bad,
        )
    };
    page.field(tone, "holds", holds);
    let asked = counted(cut.asked_edges, "usual edge");
    if cut.also_denied == 0 {
        page.field(Tone::Good, "also denied", format!("none of {asked}"));
    } else {
        also_denied(page, cut, &asked);
    }
    foresight(page, &cut.foresight, "also cuts");
}

/// Usual edges that a cut denies.
fn also_denied(page: &mut Page, cut: &Cut, asked: &str) {
    let more = cut
        .also_denied
        .saturating_sub(cut.also_denied_edges.len() as u64);
    let more = match more {
        0 => String::new(),
        more => format!(" and {} more", count(more)),
    };
    let text = format!(
        "{} of {asked}: {}{more}",
        count(cut.also_denied),
        cut.also_denied_edges.join("; ")
    );
    page.field(Tone::Warning, "also denied", text);
}

/// Edges that are usual.
#[must_use]
pub fn baseline(answer: &BaselineEdges) -> Page {
    let mut page = Page::new();
    if answer.edges.is_empty() {
        page.line(Tone::Faint, "no edges");
    } else {
        let mut grid = Grid::new(&[
            ("from", Align::Left),
            ("to", Align::Left),
            ("service", Align::Left),
            ("first seen (UTC)", Align::Left),
            ("last seen (UTC)", Align::Left),
            ("", Align::Left),
        ]);
        for edge in &answer.edges {
            let remark = match (edge.answered, edge.administrative) {
                (false, _) => "never answered",
                (true, true) => "administrative",
                (true, false) => "",
            };
            let cells = vec![
                edge.src.clone(),
                edge.dst.clone(),
                edge.service.clone(),
                clock(edge.first_ts),
                clock(edge.last_ts),
                remark.to_owned(),
            ];
            grid.row(Tone::Plain, cells);
        }
        page.table(grid);
    }
    if answer.cut {
        page.gap();
        page.line(Tone::Faint, "these were seen last; --limit 0 shows all");
    }
    doing(&mut page, &answer.state);
    page
}
