//! Where the cycles of a core go.

use api::Stages;
use api::stages::{StageCost, WorkerStages};

use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::{count, counted, tenths};

/// A row a worker and stage, then the sum of all workers where there are several.
#[must_use]
pub fn stages(stages: &Stages) -> Page {
    let mut page = Page::new();
    if stages.workers.is_empty() {
        page.line(
            Tone::Warning,
            "no workers: the dataplane is not connected, see `ringfence status`",
        );
        return page;
    }
    if stages.total.packets() == 0 {
        page.line(
            Tone::Warning,
            "nothing has been measured: set telemetry.stage_cycles_every_rounds (64, say) in the \
             dataplane's configuration, restart it, and let packets come",
        );
        return page;
    }
    let mut grid = Grid::new(&[
        ("worker", Align::Left),
        ("stage", Align::Left),
        ("cycles/packet", Align::Right),
        ("ns/packet", Align::Right),
        ("share", Align::Right),
        ("packets in it", Align::Right),
        ("cycles each", Align::Right),
    ]);
    let sum = Some(&stages.total).filter(|_| stages.workers.len() > 1);
    for worker in stages.workers.iter().chain(sum) {
        rows(&mut grid, worker, stages.tsc_hz);
    }
    page.table(grid);
    page.gap();
    page.line(
        Tone::Faint,
        format!(
            "{} of {} measured; per packet received in them",
            counted(stages.total.packets(), "packet"),
            counted(stages.total.rounds, "round"),
        ),
    );
    page
}

fn rows(grid: &mut Grid, worker: &WorkerStages, tsc_hz: u64) {
    let (packets, cycles) = (worker.packets(), worker.cycles());
    let name = worker
        .worker
        .map_or_else(|| "all".to_owned(), |worker| worker.to_string());
    for cost in &worker.stages {
        let mut cells = vec![name.clone(), cost.stage.clone()];
        cells.extend(per_packet(cost.cycles, packets, tsc_hz));
        cells.push(tenths(cost.cycles.into(), 100, cycles) + " %");
        cells.push(count(cost.packets));
        cells.push(each(cost));
        grid.row(Tone::Plain, cells);
    }
    let mut cells = vec![name, "sum".to_owned()];
    cells.extend(per_packet(cycles, packets, tsc_hz));
    cells.extend(["100.0 %".to_owned(), count(packets), String::new()]);
    grid.row(Tone::Heading, cells);
}

/// Cycles and nanoseconds.
fn per_packet(cycles: u64, packets: u64, tsc_hz: u64) -> [String; 2] {
    let nanoseconds = u128::from(cycles) * 1_000_000_000 / u128::from(tsc_hz.max(1));
    let told = tenths(nanoseconds, 1, packets);
    let known = Some(told).filter(|_| tsc_hz > 0);
    [
        tenths(cycles.into(), 1, packets),
        known.unwrap_or_else(|| "-".to_owned()),
    ]
}

fn each(cost: &StageCost) -> String {
    tenths(cost.cycles.into(), 1, cost.packets)
}
