//! Writes what is proposed behind the policy's own text.

use super::propose::{Evidence, NewSegment, NewService, Proposal, SuggestedRule};
use core::fmt::Write;

/// Values on one line of a list.
const LINE_VALUES_MAX: usize = 6;

/// The text with everything that is proposed behind it.
pub(super) fn text(own: &str, proposal: &Proposal) -> String {
    let mut text = own.to_owned();
    if proposal.rules.is_empty() {
        return text;
    }
    if !text.is_empty() && !text.ends_with('\n') {
        text.push('\n');
    }
    for segment in &proposal.segments {
        write_segment(&mut text, segment);
    }
    for service in &proposal.services {
        write_service(&mut text, service);
    }
    for rule in &proposal.rules {
        write_rule(&mut text, rule);
    }
    text
}

/// Adds lines to a text, which cannot fail.
macro_rules! line {
    ($text:expr, $($format:tt)*) => {{
        let _ = writeln!($text, $($format)*);
    }};
}

fn write_segment(text: &mut String, segment: &NewSegment) {
    line!(text, "\n# suggested: {}", segment.why);
    line!(text, "[[segment]]\nname = \"{}\"", segment.name);
    match &segment.select {
        Some(select) => line!(text, "select = \"{select}\""),
        None => line!(text, "addresses = {}", list(&segment.addresses)),
    }
    line!(text, "mode = \"{}\"", segment.mode);
}

fn write_service(text: &mut String, service: &NewService) {
    line!(
        text,
        "\n[[service]]\nname = \"{}\"\nports = {}",
        service.name,
        list(&service.ports)
    );
}

fn write_rule(text: &mut String, rule: &SuggestedRule) {
    line!(text, "\n# suggested: {}", evidence(&rule.evidence));
    line!(text, "[[rule]]\nname = \"{}\"", rule.name);
    line!(text, "from = [\"{}\"]", rule.from);
    line!(text, "to = {}", list(&rule.to));
    line!(text, "services = [\"{}\"]", rule.service);
    line!(text, "action = \"allow\"");
}

fn list(values: &[String]) -> String {
    let quoted: Vec<String> = values.iter().map(|value| format!("\"{value}\"")).collect();
    if quoted.len() <= LINE_VALUES_MAX {
        return format!("[{}]", quoted.join(", "));
    }
    let lines: Vec<String> = quoted
        .chunks(LINE_VALUES_MAX)
        .map(|chunk| format!("    {},", chunk.join(", ")))
        .collect();
    format!("[\n{}\n]", lines.join("\n"))
}

/// What speaks for a rule, on one line.
fn evidence(evidence: &Evidence) -> String {
    let sure = match (evidence.sure_flows, evidence.flows) {
        (sure, flows) if sure >= flows => "direction sure".to_owned(),
        (0, _) => "direction guessed".to_owned(),
        (sure, flows) => format!("direction sure of {sure} of {flows} flows"),
    };
    format!(
        "{} {}, {} bytes, {} -> {} ends, {} to {}, {sure}",
        evidence.flows,
        if evidence.flows == 1 { "flow" } else { "flows" },
        evidence.bytes,
        evidence.sources,
        evidence.destinations,
        time(evidence.first_ns),
        time(evidence.last_ns),
    )
}

/// RFC 3339, to the second.
fn time(ns: u64) -> String {
    let time = jiff::Timestamp::from_nanosecond(i128::from(ns));
    time.map_or_else(|_| ns.to_string(), |time| format!("{time:.0}"))
}
