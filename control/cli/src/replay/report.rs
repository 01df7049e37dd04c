//! How a replay prints: order of the flows, TSV and JSON lines, the summary.

use std::cmp::Ordering;

use api::Flow;

use super::capture::Capture;
use super::run::Replayed;
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
    if accounting.balanced {
        page.line(
            Tone::Good,
            "  accounting balanced: every frame is in a record or counted",
        );
    } else {
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
    page
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
