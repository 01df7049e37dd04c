//! The link to the dataplane: connects for ever, takes the shared region, starts the collector of
//! its rings, carries policy images one way and answers the other.
//!
//! The dataplane may come, go and come back; so may this process. Nothing here makes it wait.

mod link;

pub use link::{Adoption, Link, LinkEvent, PublishError};

use crate::collector::{Collector, RingCounts, Sinks};
use crate::config::{CollectorConfig, Config, DataplaneConfig};
use crate::flow::PortNames;
use abi::link::Hello;
use abi::stats::{ProcessFacts, RunState, name_of};
use abi::{CoreCounters, PortCounters, RegionView};
use api::status::DataplaneState;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What the rest of this process knows of the dataplane.
#[derive(Debug)]
pub struct Dataplane {
    /// The socket it is looked for at.
    pub socket: PathBuf,
    config: DataplaneConfig,
    collector_config: CollectorConfig,
    sinks: Mutex<Option<Sinks>>,
    told: Arc<crate::exporter::Told>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    connected: bool,
    /// Links that told the policy in force.
    links: u64,
    incompatible: bool,
    /// It said Shutdown, or its region says so.
    stopped: bool,
    hello: Option<Hello>,
    connected_ns: Option<u64>,
    connects: u64,
    error: Option<String>,
    region: Option<RegionView>,
    collector: Option<Arc<Collector>>,
    /// Rounds that found the rings empty, when the end was first noticed.
    end_seen_round: Option<u64>,
    ports: PortNames,
    past: PastCounts,
    last_cores: Vec<CoreCounters>,
    last_facts: Option<ProcessFacts>,
    publications: PublicationCounts,
}

/// Policies sent over the link.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PublicationCounts {
    /// Whole images.
    pub images: u64,
    /// Changes of the image in force.
    pub changes: u64,
    /// Bytes of both.
    pub bytes: u64,
}

/// Records of regions that are gone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PastCounts {
    /// Records collected.
    pub collected: u64,
    /// Of those, unreadable ones.
    pub unreadable: u64,
    /// Regions.
    pub regions: u64,
}

/// A copy of what is known, for answers.
#[derive(Clone, Debug)]
pub struct DataplaneView {
    /// As the API tells it.
    pub state: DataplaneState,
    /// Every record that was published has been collected.
    pub drained: bool,
    /// What it said about itself.
    pub hello: Option<Hello>,
    /// Since when the link is up.
    pub connected_ns: Option<u64>,
    /// Links made.
    pub connects: u64,
    /// Why the last attempt failed, or the last link ended.
    pub error: Option<String>,
    /// Facts of its process, where it has a region.
    pub facts: Option<ProcessFacts>,
    /// Counters of its cores.
    pub cores: Vec<CoreCounters>,
    /// Counters of its ports.
    pub ports: Vec<PortCounters>,
    /// Its rings.
    pub rings: Vec<RingCounts>,
    /// Records of earlier regions.
    pub past: PastCounts,
    /// Why its rings can no longer be read.
    pub collector_failed: Option<String>,
    /// Policies sent to it.
    pub publications: PublicationCounts,
}

impl DataplaneView {
    /// Records collected since this process started.
    #[must_use]
    pub fn collected(&self) -> u64 {
        self.past.collected + self.rings.iter().map(|r| r.collected).sum::<u64>()
    }

    /// Records waiting in the rings.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.rings.iter().map(|r| r.backlog).sum()
    }

    /// A sum over all cores.
    #[must_use]
    pub fn sum(&self, of: impl Fn(&CoreCounters) -> u64) -> u64 {
        self.cores.iter().map(of).sum()
    }
}

impl Dataplane {
    /// Knows nothing yet; [`Link`] fills it.
    #[must_use]
    pub fn new(config: &Config, sinks: Sinks, told: Arc<crate::exporter::Told>) -> Self {
        Self {
            socket: config.dataplane_socket(),
            config: config.dataplane.clone(),
            collector_config: config.collector.clone(),
            sinks: Mutex::new(Some(sinks)),
            told,
            state: Mutex::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Names of ports, for flows.
    #[must_use]
    pub fn port_names(&self) -> PortNames {
        self.state().ports.clone()
    }

    /// Whether a link is up.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.state().connected
    }

    /// Links that came up so far, each with a [`LinkEvent::InForce`].
    #[must_use]
    pub fn links(&self) -> u64 {
        self.state().links
    }

    /// What is known now.
    #[must_use]
    pub fn view(&self) -> DataplaneView {
        let mut state = self.state();
        state.read_region();
        let drained = state.is_drained();
        let collector = state.collector.clone();
        let ports = state.region.as_ref().map_or_else(Vec::new, |region| {
            (0..region.ports())
                .filter_map(|p| region.port(p)?.ok())
                .collect()
        });
        DataplaneView {
            state: state.word(drained),
            drained,
            hello: state.hello.clone(),
            connected_ns: state.connected_ns,
            connects: state.connects,
            error: state.error.clone(),
            facts: state.last_facts,
            cores: state.last_cores.clone(),
            ports,
            rings: collector.as_ref().map_or_else(Vec::new, |c| c.rings()),
            past: state.past,
            collector_failed: collector.and_then(|c| c.failed()),
            publications: state.publications,
        }
    }

    /// Counts a frame that publishes a policy.
    fn note_publication(&self, frame: &link::Frame) {
        let counts = &mut self.state().publications;
        counts.bytes += frame.bytes.len() as u64;
        match frame.is_change {
            true => counts.changes += 1,
            false => counts.images += 1,
        }
    }

    /// Drains the rings once more and ends the collector. Blocks its caller until then.
    pub fn end_collector(&self) {
        let collector = self.state().collector.clone();
        if let Some(collector) = collector {
            collector.end();
        }
        // The queues' last holder goes, so that the exporter can end.
        *self.sinks.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

impl State {
    /// A link is up; its number.
    fn note_link(&mut self) -> u64 {
        self.connected = true;
        self.links += 1;
        self.links
    }

    /// Reads counters and facts; where no consistent copy can be had, the last one stays.
    fn read_region(&mut self) {
        let Some(region) = self.region.clone() else {
            return;
        };
        if let Ok(facts) = region.facts() {
            self.last_facts = Some(facts);
            if facts.state == u32::from(RunState::Stopped.byte()) {
                self.note_end();
            }
        }
        for worker in 0..region.workers() {
            if let (Some(Ok(core)), Ok(index)) = (region.core(worker), usize::try_from(worker)) {
                if index >= self.last_cores.len() {
                    self.last_cores.resize(index + 1, CoreCounters::new());
                }
                if let Some(last) = self.last_cores.get_mut(index) {
                    *last = core;
                }
            }
        }
    }

    /// The dataplane has ended in order: what its rings hold is all there will ever be.
    fn note_end(&mut self) {
        self.stopped = true;
        self.note_last_records();
    }

    /// From here on the rings only empty: the end, or a broken link.
    fn note_last_records(&mut self) {
        let round = self.collector.as_ref().map_or(0, |c| c.empty_rounds());
        self.end_seen_round.get_or_insert(round);
    }

    /// Every record that was published has been collected.
    fn is_drained(&self) -> bool {
        let Some(collector) = &self.collector else {
            return self.region.is_none();
        };
        match self.end_seen_round {
            // The first empty round may have begun before the last record was published.
            Some(round) => collector.empty_rounds() >= round + 2,
            None => collector.rings().iter().all(|r| r.backlog == 0),
        }
    }

    fn word(&self, drained: bool) -> DataplaneState {
        match (self.incompatible, self.stopped, self.connected) {
            (true, _, _) => DataplaneState::Incompatible,
            (_, true, _) if drained => DataplaneState::Finished,
            (_, true, _) | (_, _, true) => DataplaneState::Running,
            _ => DataplaneState::Disconnected,
        }
    }

    /// Keeps the sums of a region that is replaced.
    fn retire_collector(&mut self) -> Option<Arc<Collector>> {
        let collector = self.collector.take()?;
        Some(collector)
    }

    fn count_past(&mut self, collector: &Collector) {
        for ring in collector.rings() {
            self.past.collected += ring.collected;
            self.past.unreadable += ring.unreadable;
        }
        self.past.regions += 1;
    }

    fn read_ports(&mut self) -> Vec<ipfix::Interface> {
        let Some(region) = &self.region else {
            return Vec::new();
        };
        let counters: Vec<PortCounters> = (0..region.ports())
            .filter_map(|p| region.port(p)?.ok())
            .collect();
        let names: Vec<Arc<str>> = counters.iter().map(|c| name_of(&c.name).into()).collect();
        self.ports = PortNames(names.into());
        (1..)
            .zip(&counters)
            .map(|(index, c)| ipfix::Interface {
                index,
                name: name_of(&c.name),
                description: format!("lane {} {}", c.lane, port_role(c.role)),
            })
            .collect()
    }
}

/// The word for [`PortCounters::role`].
#[must_use]
pub const fn port_role(role: u64) -> &'static str {
    match role {
        0 => "inside",
        1 => "outside",
        2 => "mirror",
        _ => "unknown",
    }
}
