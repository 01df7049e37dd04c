//! Inventories, DNS names, and names as they were.

use api::Ts;
use api::history::Membership;
use api::inventory::{DnsAddress, DnsName, ImportResult, Inventory};

use super::details;
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{age, clock, count, counted, revision, span};

/// Names of one kind that are listed; the rest is counted.
const NAMES_TOLD_MAX: usize = 20;

/// Files, names, and what is wrong with either.
#[must_use]
pub fn inventory(inventory: &Inventory, now: Ts) -> Page {
    let mut page = Page::new();
    if inventory.files.is_empty() && inventory.names.is_empty() {
        page.line(
            Tone::Faint,
            "no inventory: every workload stands in the policy",
        );
        page.line(
            Tone::Faint,
            "name files in control's configuration ([inventory] files = [...]), or give workloads dns = [...]",
        );
        return page;
    }
    let added = counted(inventory.workloads, "workload");
    page.line(Tone::Plain, format!("{added} beside those of the policy"));
    if inventory.moves > 0 {
        let changes = counted(inventory.moves, "change");
        let last = age(inventory.moved_ts, now);
        page.line(
            Tone::Plain,
            format!("{changes} of members published, the last {last}"),
        );
    }
    if let Some(why) = &inventory.waiting {
        page.line(Tone::Bad, format!("not in force yet: {why}"));
    }
    files(&mut page, inventory, now);
    names(&mut page, &inventory.names, now);
    for over in &inventory.overridden {
        let text = format!(
            "{}:{}: workload {} stands in the policy as well, which is taken",
            over.file, over.line, over.workload
        );
        page.line(Tone::Warning, text);
    }
    for file in &inventory.files {
        page.text(Tone::Bad, &details(&file.errors, "error").render(false));
    }
    page
}

fn files(page: &mut Page, inventory: &Inventory, now: Ts) {
    if inventory.files.is_empty() {
        return;
    }
    page.gap();
    let mut grid = Grid::new(&[
        ("file", Align::Left),
        ("workloads", Align::Right),
        ("good", Align::Right),
        ("errors", Align::Right),
    ]);
    for file in &inventory.files {
        let tone = if file.errors.is_empty() {
            Tone::Plain
        } else {
            Tone::Bad
        };
        grid.row(
            tone,
            vec![
                file.file.clone(),
                count(file.workloads),
                file.good_ts
                    .map_or_else(|| "never".to_owned(), |ts| age(Some(ts), now)),
                count(file.errors.len() as u64),
            ],
        );
    }
    page.table(grid);
}

fn names(page: &mut Page, names: &[DnsName], now: Ts) {
    if names.is_empty() {
        return;
    }
    page.gap();
    let mut grid = Grid::new(&[
        ("name", Align::Left),
        ("addresses", Align::Left),
        ("asked again", Align::Right),
        ("answers", Align::Right),
        ("failures", Align::Right),
        ("error", Align::Left),
    ]);
    for name in names {
        let tone = match name.error {
            None => Tone::Plain,
            Some(_) => Tone::Warning,
        };
        let addresses: Vec<String> = name.addresses.iter().map(address).collect();
        let next = match name.next_ts.0.saturating_sub(now.0) {
            0 => "now".to_owned(),
            ns => format!("in {}", span(ns)),
        };
        grid.row(
            tone,
            vec![
                name.name.clone(),
                dash(addresses.join(", ")),
                next,
                count(name.answers),
                count(name.failures),
                name.error.clone().unwrap_or_else(|| "-".to_owned()),
            ],
        );
    }
    page.table(grid);
}

fn dash(text: String) -> String {
    if text.is_empty() {
        "-".to_owned()
    } else {
        text
    }
}

fn address(address: &DnsAddress) -> String {
    let kept = if address.kept_for_flows {
        " (kept for its flows)"
    } else {
        ""
    };
    format!("{}{kept}", address.address)
}

/// What a list changed, or would change.
#[must_use]
pub fn imported(file: &str, result: &ImportResult, dry_run: bool) -> Page {
    let mut page = Page::new();
    let lists = [
        ("added", &result.added),
        ("changed", &result.changed),
        ("removed", &result.removed),
    ];
    if lists.iter().all(|(_, names)| names.is_empty()) {
        let same = counted(result.same, "workload");
        page.line(
            Tone::Good,
            format!("{file}: {same}, all of them as they are in the policy"),
        );
        return page;
    }
    let sentence = if dry_run {
        "would change the policy so; nothing was changed"
    } else {
        "changes the policy so"
    };
    page.line(Tone::Plain, format!("{file} {sentence}"));
    for (what, names) in lists {
        if names.is_empty() {
            continue;
        }
        let told = names.get(..NAMES_TOLD_MAX).unwrap_or(names).join(", ");
        let rest = match names.len().saturating_sub(NAMES_TOLD_MAX) {
            0 => String::new(),
            rest => format!(" and {} more", count(rest as u64)),
        };
        let number = count(names.len() as u64);
        page.field(Tone::Plain, what, format!("{number}: {told}{rest}"));
    }
    page.field(Tone::Plain, "as before", count(result.same));
    page
}

/// Names as they were, oldest first.
#[must_use]
pub fn names_as_they_were(names: &[Membership]) -> Page {
    let mut page = Page::new();
    if names.is_empty() {
        page.line(Tone::Faint, "history knows no such name");
        page.line(
            Tone::Faint,
            "names are kept from the first policy on that was adopted with history on",
        );
        return page;
    }
    let mut grid = Grid::new(&[
        ("from (UTC)", Align::Left),
        ("until", Align::Left),
        ("address", Align::Left),
        ("workload", Align::Left),
        ("segments", Align::Left),
        ("labels", Align::Left),
        ("revision", Align::Left),
    ]);
    for name in names {
        let labels: Vec<String> = name
            .labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        let tone = match name.until_ts {
            None => Tone::Plain,
            Some(_) => Tone::Faint,
        };
        grid.row(
            tone,
            vec![
                clock(name.from_ts),
                name.until_ts.map_or_else(|| "now".to_owned(), clock),
                name.prefix.clone(),
                name.workload.to_string(),
                dash(name.segments.join(", ")),
                dash(labels.join(", ")),
                revision(&name.revision).to_owned(),
            ],
        );
    }
    page.table(grid);
    page
}
