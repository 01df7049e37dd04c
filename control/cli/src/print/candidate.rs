//! Candidates and what they decide otherwise.

use api::Ts;
use api::candidate::{Candidate, Candidates, ChangedFlow, Turn};

use super::flows::{flow_header, flow_line};
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{age, count, revision as short};

/// One that is judged from now on.
#[must_use]
pub fn candidate_added(candidate: &Candidate) -> Page {
    let mut page = Page::new();
    let name = &candidate.name;
    page.line(
        Tone::Good,
        format!("candidate {name} is judged from now on; nothing is enforced by it"),
    );
    page.field(Tone::Plain, "revision", short(&candidate.revision));
    page.field(
        Tone::Plain,
        "see",
        format!("`ringfence policy candidate list`, `ringfence policy watch {name}`"),
    );
    page
}

/// One that is judged no more.
#[must_use]
pub fn candidate_removed(candidate: &Candidate) -> Page {
    let mut page = Page::new();
    let counts = &candidate.counts;
    page.line(
        Tone::Good,
        format!(
            "candidate {} is judged no more; of {} flows it would have denied {} newly and allowed {} newly",
            candidate.name,
            count(counts.flows),
            count(counts.deny_newly),
            count(counts.allow_newly)
        ),
    );
    page
}

/// All of them.
#[must_use]
pub fn candidates(list: &Candidates, now: Ts) -> Page {
    let mut page = Page::new();
    if list.candidates.is_empty() {
        page.line(
            Tone::Faint,
            "no candidates; `ringfence policy candidate add FILE`",
        );
        return page;
    }
    let mut grid = Grid::new(&[
        ("candidate", Align::Left),
        ("revision", Align::Left),
        ("judged", Align::Left),
        ("flows", Align::Right),
        ("denied newly", Align::Right),
        ("allowed newly", Align::Right),
        ("uncertain", Align::Right),
        ("lost", Align::Right),
        ("author", Align::Left),
        ("file", Align::Left),
        ("note", Align::Left),
    ]);
    for candidate in &list.candidates {
        let counts = &candidate.counts;
        let (tone, note) = match &candidate.error {
            Some(error) => (Tone::Bad, format!("NOT JUDGED: {error}")),
            None if counts.deny_newly > 0 => (Tone::Warning, candidate.note.clone()),
            None => (Tone::Plain, candidate.note.clone()),
        };
        grid.row(
            tone,
            vec![
                candidate.name.clone(),
                short(&candidate.revision).to_owned(),
                format!("since {}", age(Some(candidate.added_ts), now)),
                count(counts.flows),
                count(counts.deny_newly),
                count(counts.allow_newly),
                count(counts.uncertain),
                count(counts.lost_records),
                candidate.author.clone(),
                candidate.file_name.clone(),
                note,
            ],
        );
    }
    page.table(grid);
    page
}

/// Width of what stands before the flow.
const TURN_WIDTH: usize = 44;

/// Header above lines of [`changed_line`].
#[must_use]
pub fn changed_header() -> Page {
    let mut page = Page::new();
    let flow = flow_header().render(false);
    let own = "under the candidate";
    page.line(
        Tone::Heading,
        format!("{own:<TURN_WIDTH$}  {}", flow.trim_end()),
    );
    page
}

/// One changed flow as one line.
#[must_use]
pub fn changed_line(changed: &ChangedFlow) -> Page {
    let (tone, turn) = match changed.turn {
        Turn::DenyNewly => (Tone::Bad, "denied newly"),
        Turn::AllowNewly => (Tone::Warning, "allowed newly"),
    };
    let by = changed.candidate_rule.as_deref().unwrap_or("default");
    let mark = if changed.uncertain { "?" } else { "" };
    let own = format!("{turn}{mark} by {by}");
    let flow = flow_line(&changed.flow).render(false);
    let mut page = Page::new();
    page.line(tone, format!("{own:<TURN_WIDTH$}  {}", flow.trim_end()));
    page
}
