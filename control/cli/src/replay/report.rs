//! How a replay prints: order of the flows, TSV and JSON lines, the summary.

use std::cmp::Ordering;

use api::status::ExportStatus;
use api::{Accounting, Flow};

use super::capture::Capture;
use super::run::{Judged, Replayed, WouldDrop};
use crate::args::Format;
use crate::page::{Page, Tone};
use crate::quantity::{count, counted};

/// First packet first; flows of the same nanosecond in the order in which they began, records of
/// one flow in the order in which they came.
#[must_use]
pub fn order(a: &Flow, b: &Flow) -> Ordering {
    (a.first_ns, a.flow_id, a.seq).cmp(&(b.first_ns, b.flow_id, b.seq))
}

/// Flows as TSV with a header line, or as one JSON object a line.
pub(super) fn lines(flows: &[Flow], format: Format) -> Vec<u8> {
    let mut text = Vec::new();
    if format != Format::Json {
        text.extend_from_slice(Flow::tsv_header().as_bytes());
        text.push(b'\n');
    }
    for flow in flows {
        match format {
            // A flow is plain values: it can always be written.
            Format::Json => text.extend(serde_json::to_vec(flow).unwrap_or_default()),
            Format::Table | Format::Tsv => text.extend_from_slice(flow.tsv_row().as_bytes()),
        }
        text.push(b'\n');
    }
    text
}

/// What the summary tells.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a> {
    /// The file.
    pub capture: &'a Capture,
    /// What came out.
    pub result: &'a Replayed,
    /// Whether a filter left flows out.
    pub filtered: bool,
}

/// Where every frame of the capture went.
#[must_use]
pub fn summary(name: &str, summary: &Summary<'_>) -> Page {
    let Replayed {
        flows,
        records,
        accounting,
        exported,
        judged,
    } = summary.result;
    let total = &accounting.total;
    let mut page = Page::new();
    let shown = if summary.filtered {
        format!(
            "{} of {} (filter)",
            count(flows.len() as u64),
            counted(*records, "flow record")
        )
    } else {
        counted(*records, "flow record")
    };
    page.line(
        Tone::Heading,
        format!(
            "{name}: {}, {shown}",
            counted(summary.capture.frames, "frame")
        ),
    );
    if total.received != summary.capture.frames {
        page.line(
            Tone::Warning,
            format!(
                "  warning: the dataplane received {} of them: the capture reader stopped early",
                count(total.received)
            ),
        );
    }
    page.line(
        Tone::Plain,
        format!(
            "  {} in flows, {} in no flow (not IP, or damaged headers)",
            count(total.flow_packets),
            count(total.unflowed_packets)
        ),
    );
    page.line(
        Tone::Plain,
        format!(
            "  {} dropped{}",
            count(total.dropped),
            reasons(summary.result)
        ),
    );
    if let Some(judged) = judged {
        would_drop(&mut page, judged);
    }
    for export in exported {
        collector(&mut page, export);
    }
    balance(&mut page, accounting);
    page
}

/// What one collector got, and what it did not.
fn collector(page: &mut Page, export: &ExportStatus) {
    let refused = match &export.last_error {
        Some(error) => format!(
            " ({error}), {} not sent",
            counted(export.not_sent, "record")
        ),
        None => String::new(),
    };
    let tone = if export.errors > 0 {
        Tone::Bad
    } else {
        Tone::Plain
    };
    page.line(
        tone,
        format!(
            "  ipfix {}: {} in {}, {}{refused}",
            export.collector,
            counted(export.records, "record"),
            counted(export.messages, "message"),
            counted(export.errors, "send error")
        ),
    );
}

fn balance(page: &mut Page, accounting: &Accounting) {
    if accounting.balanced {
        page.line(
            Tone::Good,
            "  accounting balanced: every frame is in a record or counted",
        );
    } else {
        let total = &accounting.total;
        page.line(
            Tone::Bad,
            format!(
                "  accounting not balanced: packets {:+}, flows {:+}, records {:+}, rings {:+}",
                total.packet_difference,
                total.flow_difference,
                total.record_difference,
                accounting.records.difference
            ),
        );
    }
}

/// A capture is only listened to: what the policy would have done in the path is told apart from
/// what was dropped.
fn would_drop(page: &mut Page, judged: &Judged) {
    let text = |would: &WouldDrop| match would.packets {
        0 => "no packet".to_owned(),
        packets => format!(
            "{} of {}",
            counted(packets, "packet"),
            counted(would.flows, "flow")
        ),
    };
    let pending = if judged.pending == judged.enforced {
        String::new()
    } else {
        format!(
            "; {} once everything in test is enforced",
            text(&judged.pending)
        )
    };
    let tone = if judged.pending.packets + judged.enforced.packets > 0 {
        Tone::Warning
    } else {
        Tone::Plain
    };
    page.line(
        tone,
        format!(
            "  in the path, the policy would have dropped {}{pending}",
            text(&judged.enforced)
        ),
    );
}

fn reasons(result: &Replayed) -> String {
    let reasons: Vec<String> = result
        .accounting
        .total
        .dropped_by_reason
        .iter()
        .map(|row| format!("{} {}", row.reason, count(row.packets)))
        .collect();
    if reasons.is_empty() {
        String::new()
    } else {
        format!(" ({})", reasons.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_refused_is_told_apart_from_what_was_sent() {
        let sent = ExportStatus {
            collector: "192.0.2.1:4739".to_owned(),
            personality: "biflow".to_owned(),
            records: 1_221,
            messages: 31,
            bytes: 40_000,
            not_sent: 0,
            errors: 0,
            last_error: None,
        };
        let refused = ExportStatus {
            records: 0,
            messages: 0,
            bytes: 0,
            not_sent: 221,
            errors: 1,
            last_error: Some("Connection refused".to_owned()),
            ..sent.clone()
        };
        for (export, said) in [
            (sent, "1,221 records in 31 messages, 0 send errors"),
            (
                refused,
                "0 records in 0 messages, 1 send error (Connection refused), 221 records not sent",
            ),
        ] {
            let mut page = Page::new();
            collector(&mut page, &export);
            let expected = format!("  ipfix 192.0.2.1:4739: {said}\n");
            assert_eq!(page.render(false), expected);
        }
    }

    #[test]
    fn what_the_policy_would_have_dropped_is_told_apart() {
        let drops = |packets, flows| WouldDrop { packets, flows };
        for (enforced, pending, said) in [
            (drops(0, 0), drops(0, 0), "no packet"),
            (drops(1, 1), drops(1, 1), "1 packet of 1 flow"),
            (
                drops(0, 0),
                drops(3_700, 11),
                "no packet; 3,700 packets of 11 flows once everything in test is enforced",
            ),
        ] {
            let mut page = Page::new();
            would_drop(&mut page, &Judged { enforced, pending });
            let expected = format!("  in the path, the policy would have dropped {said}\n");
            assert_eq!(page.render(false), expected);
        }
    }
}
