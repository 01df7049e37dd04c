//! From what was written to what holds together: bounds, lanes, CPUs.

use super::{
    Config, ConfigError, FLOWS_MAX, LANES_MAX, LaneConfig, MBUFS_MAX, RESTEER_RING_PACKETS_MAX,
    RING_RECORDS_MAX, RING_RECORDS_MIN, SCAN_RECORDS_MAX, ScanConfig, WORKERS_MAX,
};

/// A lane after validation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lane {
    /// Name for people.
    pub name: String,
    /// The ports.
    pub ports: LanePorts,
    /// Indexes of its workers, at least one. The first receives; where there are several, each
    /// judges the flows it owns.
    pub workers: Vec<usize>,
}

/// The ports of a lane, as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LanePorts {
    /// Bump in the wire.
    Inline {
        /// Protected side.
        inside: String,
        /// Other side.
        outside: String,
    },
    /// Receive only.
    Mirror(String),
}

impl LanePorts {
    /// The ports as written.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        match self {
            Self::Inline { inside, outside } => vec![inside, outside],
            Self::Mirror(port) => vec![port],
        }
    }
}

/// A configuration that holds together.
#[derive(Clone, Debug)]
pub struct ValidConfig {
    /// As written, with defaults filled in.
    pub config: Config,
    /// The lanes.
    pub lanes: Vec<Lane>,
    /// Workers: how many cores poll.
    pub worker_count: usize,
}

impl Config {
    /// Checks every bound and resolves the lanes.
    ///
    /// # Errors
    /// The first value outside its bounds.
    pub fn validate(self) -> Result<ValidConfig, ConfigError> {
        let worker_count = self.dataplane.workers.len().max(1);
        within("dataplane.workers", worker_count, 1, WORKERS_MAX)?;
        within(
            "dataplane.tx_attempts_max",
            self.dataplane.tx_attempts_max,
            1,
            1000,
        )?;
        within("memory.mbufs", self.memory.mbufs, 512, MBUFS_MAX)?;
        within("memory.mbuf_bytes", self.memory.mbuf_bytes, 128, 65_000)?;
        within(
            "memory.ring_records",
            self.memory.ring_records,
            RING_RECORDS_MIN,
            RING_RECORDS_MAX,
        )?;
        if !self.memory.ring_records.is_power_of_two() {
            return Err(ConfigError::Bounds {
                key: "memory.ring_records",
                value: self.memory.ring_records.to_string(),
                must: format!(
                    "must be a power of two, such as {}",
                    self.memory.ring_records.next_power_of_two()
                ),
            });
        }
        within(
            "memory.resteer_ring_packets",
            self.memory.resteer_ring_packets,
            64,
            RESTEER_RING_PACKETS_MAX,
        )?;
        within("flow.flows_max", self.flow.flows_max, 16, FLOWS_MAX)?;
        within(
            "flow.embryonic_percent",
            self.flow.embryonic_percent,
            1,
            100,
        )?;
        within("flow.fragments_max", self.flow.fragments_max, 16, 1 << 20)?;
        within("flow.tunnel_depth_max", self.flow.tunnel_depth_max, 0, 8)?;
        within(
            "flow.active_timeout (ms)",
            self.flow.active_timeout.as_millis(),
            1,
            u128::MAX,
        )?;
        self.scan.check()?;
        within("lane", self.lanes.len(), 0, LANES_MAX)?;
        let lanes = self.resolve_lanes(worker_count)?;
        Ok(ValidConfig {
            config: self,
            lanes,
            worker_count,
        })
    }

    fn resolve_lanes(&self, worker_count: usize) -> Result<Vec<Lane>, ConfigError> {
        if self.lanes.is_empty() {
            return Err(ConfigError::NoLane);
        }
        let mut lanes: Vec<Lane> = Vec::with_capacity(self.lanes.len());
        for (index, lane) in self.lanes.iter().enumerate() {
            let name = if lane.name.is_empty() {
                format!("lane{index}")
            } else {
                lane.name.clone()
            };
            let wrong = |what: &str| ConfigError::Lane {
                lane: name.clone(),
                what: what.to_owned(),
            };
            let ports = match (&lane.inside, &lane.outside, &lane.mirror) {
                (Some(inside), Some(outside), None) => LanePorts::Inline {
                    inside: inside.clone(),
                    outside: outside.clone(),
                },
                (None, None, Some(mirror)) => LanePorts::Mirror(mirror.clone()),
                (_, _, Some(_)) => return Err(wrong("is a mirror and has another port too")),
                (None, None, None) => return Err(wrong("has no port")),
                _ => return Err(wrong("has one port only")),
            };
            let workers = lane_workers(lane, index, worker_count).map_err(|what| wrong(&what))?;
            if let Some(port) = twice_used(&ports, &lanes) {
                return Err(wrong(&format!("uses port `{port}` a second time")));
            }
            if lanes.iter().any(|other| other.name == name) {
                return Err(wrong("has the name of another lane"));
            }
            lanes.push(Lane {
                name,
                ports,
                workers,
            });
        }
        Ok(lanes)
    }
}

impl ScanConfig {
    fn check(&self) -> Result<(), ConfigError> {
        let sources_max = flow::SOURCES_MAX_LIMIT;
        within("scan.sources_max", self.sources_max, 0, sources_max)?;
        for (key, value) in [
            ("scan.records_per_second", self.records_per_second),
            ("scan.burst", self.burst),
            (
                "scan.worker_records_per_second",
                self.worker_records_per_second,
            ),
            ("scan.worker_burst", self.worker_burst),
        ] {
            within(key, value, 1, SCAN_RECORDS_MAX)?;
        }
        Ok(())
    }
}

impl ValidConfig {
    /// Checks that the process may run on every CPU that is named. `usable` are those of its
    /// affinity mask, in ascending order.
    ///
    /// # Errors
    /// [`ConfigError::NoCpu`] with the first that it may not use.
    pub fn check_cpus(&self, usable: &[usize]) -> Result<(), ConfigError> {
        let process = &self.config.dataplane;
        let workers = process
            .workers
            .iter()
            .map(|cpu| ("dataplane.workers", *cpu));
        let main = process.main_cpu.map(|cpu| ("dataplane.main_cpu", cpu));
        match workers.chain(main).find(|(_, cpu)| !usable.contains(cpu)) {
            None => Ok(()),
            Some((key, cpu)) => Err(ConfigError::NoCpu {
                key,
                cpu,
                usable: ranges(usable),
            }),
        }
    }
}

/// The workers that a lane asks for, or the one that it is dealt; else what is wrong.
fn lane_workers(lane: &LaneConfig, index: usize, count: usize) -> Result<Vec<usize>, String> {
    let workers = match (lane.worker, lane.workers.as_slice()) {
        (None, []) => vec![index % count],
        (Some(one), []) => vec![one],
        (None, several) => several.to_vec(),
        (Some(_), _) => return Err("has `worker` and `workers`".to_owned()),
    };
    if let Some(worker) = workers.iter().find(|worker| **worker >= count) {
        return Err(format!(
            "asks for worker {worker}, but there are {count} (counted from 0; \
             `dataplane.workers` names a CPU for each)"
        ));
    }
    let twice = (1..workers.len()).find(|place| workers[..*place].contains(&workers[*place]));
    match twice {
        Some(place) => Err(format!("asks for worker {} twice", workers[place])),
        None => Ok(workers),
    }
}

/// `0-3,8` of ascending numbers.
fn ranges(numbers: &[usize]) -> String {
    let runs = numbers.chunk_by(|left, right| left + 1 == *right);
    let told = runs.filter_map(|run| match run {
        [only] => Some(only.to_string()),
        [first, .., last] => Some(format!("{first}-{last}")),
        [] => None,
    });
    told.collect::<Vec<_>>().join(",")
}

/// A port of `ports` that names a device of the host which this lane or one of `lanes` has already.
fn twice_used<'a>(ports: &'a LanePorts, lanes: &[Lane]) -> Option<&'a str> {
    let is_device = |port: &&str| {
        ["af_packet:", "tap:", "pci:"]
            .iter()
            .any(|kind| port.starts_with(kind))
    };
    let own = ports.names();
    let [first, rest @ ..] = own.as_slice() else {
        return None;
    };
    if rest.contains(first) && is_device(first) {
        return Some(first);
    }
    let taken = |port: &&str| lanes.iter().any(|lane| lane.ports.names().contains(port));
    own.into_iter().find(|port| is_device(port) && taken(port))
}

fn within<T: PartialOrd + std::fmt::Display>(
    key: &'static str,
    value: T,
    min: T,
    max: T,
) -> Result<(), ConfigError> {
    if value >= min && value <= max {
        return Ok(());
    }
    Err(ConfigError::Bounds {
        key,
        value: value.to_string(),
        must: format!("must be from {min} to {max}"),
    })
}
