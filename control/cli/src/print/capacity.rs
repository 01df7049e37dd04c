//! What a configuration carries.

use crate::capacity::{Capacity, FRAMES};
use crate::page::{Align, Grid, Page, Tone};
use crate::quantity::counted;

/// What gives out, in order, and the figures behind it.
#[must_use]
pub fn capacity(found: &Capacity) -> Page {
    let mut page = Page::new();
    let setup = &found.setup;
    let speed = match setup.ports_gbps {
        Some(gbps) => format!("{gbps:.0} Gbit/s"),
        None => "speed unknown".to_owned(),
    };
    page.line(
        Tone::Heading,
        format!(
            "{}, {} ({speed} each way), {}",
            counted(setup.workers, "worker"),
            counted(setup.ports, "port"),
            counted(setup.nodes, "NUMA node"),
        ),
    );
    page.table(limits(found));
    for (((name, _), first), gbps) in FRAMES.iter().zip(found.first).zip(found.gbps) {
        page.field(
            Tone::Plain,
            &format!("first, {name}"),
            format!("{first}, at {gbps:.1} Gbit/s on the wire, all ports together"),
        );
    }
    figures(&mut page, found);
    page
}

/// Every limit; what gives out first stands out.
fn limits(found: &Capacity) -> Grid {
    let mut grid = Grid::new(&[
        ("limit", Align::Left),
        ("Mpps at 64 B", Align::Right),
        ("Mpps at the mix", Align::Right),
    ]);
    for limit in &found.limits {
        let first = found.first.contains(&limit.what);
        let tone = if first { Tone::Warning } else { Tone::Plain };
        let [small, mix] = limit.mpps;
        grid.row(
            tone,
            vec![
                limit.what.to_owned(),
                format!("{small:.1}"),
                format!("{mix:.1}"),
            ],
        );
    }
    grid
}

/// What the limits follow from.
fn figures(page: &mut Page, found: &Capacity) {
    let setup = &found.setup;
    let mut field = |name: &str, text: String| {
        page.field(Tone::Plain, name, text);
    };
    field(
        "packet",
        format!("{:.1} ns ({})", found.packet_ns, found.packet_how),
    );
    field(
        "new flows",
        format!("{:.1} M/s where every packet is one", found.new_flows_m),
    );
    field(
        "records",
        format!(
            "{:.1} M/s collected by one core of control, {:.1} M/s where each is also named",
            found.collect_m, found.named_m
        ),
    );
    field(
        "rings",
        format!(
            "{:.3} s of those new flows while control is away",
            found.ring_s
        ),
    );
    field(
        "flows",
        format!("{} take {:.2} GiB", setup.flows_max, found.flow_gib),
    );
    if setup.ports_gbps.is_some() {
        let cores = found.offloaded.iter();
        let cores: Vec<String> = cores
            .map(|(p, n)| format!("{n:.0} with {p:.0} %"))
            .collect();
        field(
            "offload",
            format!(
                "workers for the links at 64 B by share in the NIC: {}",
                cores.join(", ")
            ),
        );
    }
}
