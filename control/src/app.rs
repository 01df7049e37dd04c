//! The parts of this process that answers are made from.

use crate::clock::now_ns;
use crate::config::Config;
use crate::dataplane::Dataplane;
use crate::exporter::Exporter;
use crate::flow::{PortNames, StoredFlow, flow, flows};
use crate::history_writer::HistoryWriter;
use crate::inventory::InventoryService;
use crate::names::{Names, Naming, Registry};
use crate::policy_service::PolicyService;
use crate::recent::RecentFlows;
use crate::rule_hits::HitCounters;
use crate::watch::Watch;
use history::History;
use std::collections::VecDeque;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Rates are means over so many seconds.
const RATE_SECONDS: usize = 10;

/// Everything.
#[derive(Debug)]
pub struct App {
    /// As validated.
    pub config: Config,
    /// When this process started.
    pub started_ns: u64,
    /// The other process.
    pub dataplane: Arc<Dataplane>,
    /// Recent flows.
    pub recent: Arc<RecentFlows>,
    /// Hits of rules.
    pub hits: Arc<HitCounters>,
    /// IPFIX.
    pub exporter: Arc<Exporter>,
    /// Names by epoch.
    pub registry: Arc<Registry>,
    /// The policy.
    pub policy: Arc<PolicyService>,
    /// The flow store.
    pub history: Arc<dyn History>,
    /// What hands records to it.
    pub history_writer: Arc<HistoryWriter>,
    /// The watch for unexpected paths.
    pub watch: Arc<Watch>,
    /// Workloads from beside the policy.
    pub inventory: InventoryService,
    /// Traffic of the last seconds.
    pub rates: Rates,
}

/// Names flows, with a copy of all names.
#[derive(Debug)]
pub struct Namer {
    names: Names,
    ports: PortNames,
    last: Option<(u64, Naming)>,
}

impl App {
    /// Names flows as of now.
    #[must_use]
    pub fn namer(&self) -> Namer {
        Namer::new(self.registry.names(), self.dataplane.port_names())
    }
}

impl Namer {
    /// Names flows with these.
    #[must_use]
    pub const fn new(names: Names, ports: PortNames) -> Self {
        Self {
            names,
            ports,
            last: None,
        }
    }

    /// Who names a record of this epoch.
    pub fn naming(&mut self, epoch: u64) -> &Naming {
        naming_of(&self.names, &mut self.last, epoch)
    }

    /// The flow as people read it.
    pub fn flow(&mut self, stored: &StoredFlow) -> api::Flow {
        let naming = naming_of(&self.names, &mut self.last, stored.record.epoch);
        flow(stored, naming, &self.ports)
    }

    /// Adds the flows of a batch, in order.
    pub fn each(&mut self, batch: &[StoredFlow], named: &mut Vec<api::Flow>) {
        for stored in batch.chunk_by(|one, other| one.record.epoch == other.record.epoch) {
            let epoch = stored.first().map_or(0, |first| first.record.epoch);
            let naming = naming_of(&self.names, &mut self.last, epoch);
            flows(stored, naming, &self.ports, named);
        }
    }
}

/// Nearly always the naming of the record before.
fn naming_of<'a>(names: &Names, last: &'a mut Option<(u64, Naming)>, epoch: u64) -> &'a Naming {
    if last.as_ref().is_some_and(|(of, _)| *of != epoch) {
        *last = None;
    }
    &last.get_or_insert_with(|| (epoch, names.naming(epoch))).1
}

#[derive(Clone, Copy, Debug)]
struct Sample {
    at_ns: u64,
    packets: u64,
    bytes: u64,
}

/// Traffic of the last seconds.
#[derive(Debug, Default)]
pub struct Rates {
    samples: Mutex<VecDeque<Sample>>,
}

impl Rates {
    fn add(&self, sample: Sample) {
        let mut samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        if samples
            .back()
            .is_some_and(|last| last.packets > sample.packets)
        {
            // Another dataplane counts from 0 again.
            samples.clear();
        }
        samples.push_back(sample);
        while samples.len() > RATE_SECONDS + 1 {
            samples.pop_front();
        }
    }

    /// Packets and bits a second.
    #[must_use]
    pub fn per_second(&self) -> (u64, u64) {
        let samples = self.samples.lock().unwrap_or_else(PoisonError::into_inner);
        let (Some(first), Some(last)) = (samples.front(), samples.back()) else {
            return (0, 0);
        };
        let ns = u128::from(last.at_ns.saturating_sub(first.at_ns)).max(1);
        let rate = |from: u64, to: u64| {
            let per_second = u128::from(to.saturating_sub(from)) * 1_000_000_000 / ns;
            u64::try_from(per_second).unwrap_or(u64::MAX)
        };
        (
            rate(first.packets, last.packets),
            rate(first.bytes, last.bytes).saturating_mul(8),
        )
    }
}

/// Looks at the counters every second: for rates, and for what IPFIX collectors are told.
pub async fn sample(app: Arc<App>) {
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let view = app.dataplane.view();
        let packets = view.sum(|c| c.rx_packets);
        app.rates.add(Sample {
            at_ns: now_ns(),
            packets,
            bytes: view.sum(|c| c.rx_bytes),
        });
        let told = &app.exporter.told;
        told.observed_packets.store(packets, Ordering::Relaxed);
        let ignored = view.sum(|c| c.unflowed_packets + c.shed_packets);
        told.ignored_packets.store(ignored, Ordering::Relaxed);
        told.ignored_octets
            .store(view.sum(|c| c.shed_bytes), Ordering::Relaxed);
    }
}
