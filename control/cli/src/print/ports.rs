//! Ports, and packets that were not forwarded.

use api::{Drops, Ports};

use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{bytes, count, counted};

/// Ports in the order of the lanes.
#[must_use]
pub fn ports(ports: &Ports) -> Page {
    let mut page = Page::new();
    if ports.ports.is_empty() {
        page.line(
            Tone::Warning,
            "no ports: the dataplane is not connected, see `ringfence status`",
        );
        return page;
    }
    let mut grid = Grid::new(&[
        ("port", Align::Left),
        ("lane", Align::Right),
        ("role", Align::Left),
        ("link", Align::Left),
        ("rx packets", Align::Right),
        ("rx bytes", Align::Right),
        ("tx packets", Align::Right),
        ("tx bytes", Align::Right),
        ("missed", Align::Right),
        ("no buffer", Align::Right),
        ("rx errors", Align::Right),
        ("tx errors", Align::Right),
    ]);
    for port in &ports.ports {
        let lost = port.rx_missed + port.rx_no_buffer + port.rx_errors + port.tx_errors;
        let tone = match (port.link_up, lost) {
            (false, _) => Tone::Bad,
            (true, 0) => Tone::Plain,
            (true, _) => Tone::Warning,
        };
        grid.row(
            tone,
            vec![
                port.name.clone(),
                port.lane.to_string(),
                port.role.clone(),
                link(port.link_up, port.link_mbps),
                count(port.rx_packets),
                bytes(port.rx_bytes),
                count(port.tx_packets),
                bytes(port.tx_bytes),
                count(port.rx_missed),
                count(port.rx_no_buffer),
                count(port.rx_errors),
                count(port.tx_errors),
            ],
        );
    }
    page.table(grid);
    let mut told = None;
    for port in ports.ports.iter().filter(|port| port.workers.len() > 1) {
        if told != Some(port.lane) {
            let workers: Vec<String> = port.workers.iter().map(u32::to_string).collect();
            page.line(
                Tone::Plain,
                format!(
                    "lane {} is spread over workers {}",
                    port.lane,
                    workers.join(", ")
                ),
            );
            told = Some(port.lane);
        }
    }
    page
}

fn link(up: bool, mbps: u64) -> String {
    match (up, mbps) {
        (false, _) => "down".to_owned(),
        (true, 0) => "up".to_owned(),
        (true, mbps) if mbps >= 1_000 => format!("up {} Gbit/s", mbps / 1_000),
        (true, mbps) => format!("up {mbps} Mbit/s"),
    }
}

/// Reasons that happened, with the sentence.
#[must_use]
pub fn drops(drops: &Drops) -> Page {
    let mut page = Page::new();
    let mut grid = Grid::new(&[
        ("packets", Align::Right),
        ("reason", Align::Left),
        ("meaning", Align::Left),
    ]);
    for drop in drops.drops.iter().filter(|drop| drop.packets > 0) {
        grid.row(
            Tone::Plain,
            vec![
                count(drop.packets),
                drop.reason.clone(),
                drop.sentence.clone(),
            ],
        );
    }
    if grid.is_empty() {
        page.line(
            Tone::Good,
            "no packet was dropped since the dataplane started",
        );
        return page;
    }
    page.table(grid);
    page.gap();
    page.line(
        Tone::Plain,
        format!(
            "{} dropped since the dataplane started",
            counted(drops.total, "packet")
        ),
    );
    page
}
