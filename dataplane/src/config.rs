//! Configuration: a TOML file, then `RINGFENCE_DATAPLANE_*` environment variables, then flags.
//!
//! [`Config`] is what was written, [`Config::validate`] turns it into [`ValidConfig`], after which
//! nothing is optional that must exist and every limit is inside its bounds.

mod shape;
mod valid;

pub use shape::Place;
pub use valid::{Lane, LanePorts, ValidConfig};

use sha2::{Digest, Sha256};
use std::path::{Path, PathBuf};
use std::time::Duration;

use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use serde::{Deserialize, Serialize};

/// Workers (polling cores) at most.
pub const WORKERS_MAX: usize = abi::counters::WORKERS_MAX;
/// Lanes at most: every lane has up to two ports in the stats segment.
pub const LANES_MAX: usize = abi::counters::PORTS_MAX / 2;
/// Flows per worker at most (10 million take 2 GiB).
pub const FLOWS_MAX: usize = flow::FLOWS_MAX_LIMIT as usize;
/// Buffers (mbufs) at most.
pub const MBUFS_MAX: u32 = 1 << 24;
/// Records per ring: a power of two in these bounds.
pub const RING_RECORDS_MIN: u32 = 256;
/// Packets in a ring between two workers at most.
pub const RESTEER_RING_PACKETS_MAX: u32 = 1 << 20;
/// See [`RING_RECORDS_MIN`].
pub const RING_RECORDS_MAX: u32 = 1 << 22;

/// Records a second, or at once, that a scan budget may have: more than any ring takes.
pub const SCAN_RECORDS_MAX: u32 = 100_000_000;

/// Why a configuration was refused. The message is shown to the operator as is.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file is not there or not readable.
    #[error(
        "configuration file {path}: {source}; give another with --config, or none to use the defaults"
    )]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A key is unknown, or a value has the wrong shape.
    #[error("configuration: {place}: {what}")]
    Shape {
        /// Where it was written.
        place: Place,
        /// Which key, and what is wrong.
        what: String,
    },
    /// A CPU that this process cannot run on.
    #[error(
        "configuration: `{key}` names CPU {cpu}, which this machine does not have or this process may not use; choose from {usable}"
    )]
    NoCpu {
        /// Dotted key.
        key: &'static str,
        /// What was given.
        cpu: usize,
        /// Those there are, as `0-3,8`.
        usable: String,
    },
    /// A value is outside its bounds.
    #[error("configuration: `{key}` is {value}, but {must}")]
    Bounds {
        /// Dotted key.
        key: &'static str,
        /// What was given.
        value: String,
        /// What it must be.
        must: String,
    },
    /// A lane is not a lane.
    #[error(
        "configuration: lane `{lane}` {what}; a lane has `inside` and `outside`, or only `mirror`, and a name and ports of its own"
    )]
    Lane {
        /// Name of the lane.
        lane: String,
        /// What is wrong with it.
        what: String,
    },
    /// No lane at all.
    #[error("configuration: no lane; add a [[lane]] with `inside` and `outside`, or with `mirror`")]
    NoLane,
}

/// Everything, as written.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Directories, cores, waiting.
    pub dataplane: Process,
    /// Buffers and rings.
    pub memory: Memory,
    /// What EAL is started with.
    pub eal: EalConfig,
    /// Ports, in pairs or as mirrors.
    #[serde(rename = "lane")]
    pub lanes: Vec<LaneConfig>,
    /// The flow cache.
    pub flow: FlowConfig,
    /// What happens when something is not as it should be.
    pub exception: Exceptions,
    /// What is not IP.
    pub pass: PassTable,
    /// Answers to rejected packets.
    pub reject: RejectConfig,
    /// When the flows of one source are told together.
    pub scan: ScanConfig,
    /// Offline runs over a capture.
    pub replay: ReplayConfig,
    /// What is measured besides what is always counted.
    pub telemetry: TelemetryConfig,
}

/// `[dataplane]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Process {
    /// Where `dataplane.sock` lives.
    pub run_dir: PathBuf,
    /// Where the last good policy image is kept.
    pub state_dir: PathBuf,
    /// CPU of each worker; empty: one worker on the first allowed CPU that is not `main_cpu`.
    pub workers: Vec<usize>,
    /// CPU of the main thread.
    pub main_cpu: Option<usize>,
    /// What an idle core does.
    pub idle: Idle,
    /// How often a core commits its counters to the stats segment.
    #[serde(with = "duration")]
    pub commit_interval: Duration,
    /// Attempts to hand a burst to a full transmit queue before the rest is dropped and counted.
    pub tx_attempts_max: u32,
}

impl Default for Process {
    fn default() -> Self {
        Self {
            run_dir: "/run/ringfence".into(),
            state_dir: "/var/lib/ringfence/dataplane".into(),
            workers: Vec::new(),
            main_cpu: None,
            idle: Idle::None,
            commit_interval: Duration::from_millis(100),
            tx_attempts_max: 4,
        }
    }
}

/// What a core does after rounds without a packet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Idle {
    /// Polls on: no added latency, the core is always busy.
    #[default]
    None,
    /// Pauses the pipeline between polls: well under a microsecond added, the core stays busy but
    /// leaves its sibling thread and its power budget alone.
    Pause,
    /// Sleeps after a while without packets: up to about 150 microseconds are added to the first
    /// packet after the silence; an idle core costs a few per cent of its time.
    Sleep,
}

/// `[memory]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Memory {
    /// Whether hugepages are used.
    pub hugepages: Hugepages,
    /// Buffers in the pool; a pcap port with `infinite` needs one for every frame of its file and
    /// raises this by itself.
    pub mbufs: u32,
    /// Bytes of a frame that one buffer holds; longer frames take several.
    pub mbuf_bytes: u16,
    /// Records in the ring of each worker, a power of two.
    pub ring_records: u32,
    /// Packets in each ring between two workers of a lane.
    pub resteer_ring_packets: u32,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            hugepages: Hugepages::Auto,
            mbufs: 16_384,
            mbuf_bytes: 2048,
            ring_records: 65_536,
            resteer_ring_packets: 2048,
        }
    }
}

/// Whether hugepages are used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Hugepages {
    /// If there are any free; otherwise ordinary memory, slower, with one warning.
    #[default]
    Auto,
    /// Refuse to start without.
    Always,
    /// Never: works without root.
    Never,
}

/// `[eal]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct EalConfig {
    /// Two DPDK processes on one machine need two prefixes. Empty: made from the run directory, as
    /// [`EalConfig::prefix`] says.
    pub file_prefix: String,
}

/// Longest prefix made from a path, bytes: it stands in names of unix sockets, which have 107.
const PREFIX_BYTES_MAX: usize = 40;

impl EalConfig {
    /// The prefix in force: as configured, else the path of the run directory with `-` for `/`, which
    /// is `ringfence` for `/run/ringfence`. A longer path than libdpdk's file names bear is told by
    /// the beginning of its SHA-256.
    #[must_use]
    pub fn prefix(&self, run_dir: &Path) -> String {
        if !self.file_prefix.is_empty() {
            return self.file_prefix.clone();
        }
        let path = run_dir.strip_prefix("/run").unwrap_or(run_dir);
        let path = path.to_string_lossy();
        let words: Vec<_> = path.split('/').filter(|word| !word.is_empty()).collect();
        let joined = words.join("-");
        match joined.len() {
            0 => "ringfence".to_owned(),
            1..=PREFIX_BYTES_MAX => joined,
            _ => {
                let hash = Sha256::digest(path.as_bytes());
                let hex: String = hash.iter().take(8).map(|b| format!("{b:02x}")).collect();
                format!("ringfence-{hex}")
            }
        }
    }
}

/// `[[lane]]`: an inside/outside pair, or a mirror port.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct LaneConfig {
    /// Name for people.
    pub name: String,
    /// Port on the protected side.
    pub inside: Option<String>,
    /// Port on the other side.
    pub outside: Option<String>,
    /// Receive-only port.
    pub mirror: Option<String>,
    /// Index of the worker that polls the lane; by default lanes are dealt round.
    pub worker: Option<usize>,
    /// Several workers instead: the first receives and deals the packets out by their addresses,
    /// each judges its own.
    pub workers: Vec<usize>,
}

/// `[flow]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FlowConfig {
    /// Flows that each worker's cache holds.
    pub flows_max: usize,
    /// Share of the cache, in per cent, that flows seen in one direction only may take. Even all of
    /// it is safe: a new flow takes the entry of the oldest of them, never of an answered one.
    pub embryonic_percent: u8,
    /// Slots of the fragment table of each worker.
    pub fragments_max: usize,
    /// Which IP header of a tunnelled frame is classified.
    pub key: Key,
    /// Tunnels followed inside one another at most.
    pub tunnel_depth_max: u8,
    /// The VLAN stack is part of the key.
    pub vlan_key: bool,
    /// The tunnel kind and id are part of the key.
    pub tunnel_key: bool,
    /// Handshake round-trip times and retransmissions are measured.
    pub tcp_quality: bool,
    /// Counts as an offline reference does: one flow per key, no timeouts, first sender initiates.
    pub truth: bool,
    /// A flow that goes on is told for the first time this long after its first packet. Zero: at
    /// the active timeout, like every later time.
    #[serde(with = "duration")]
    pub first_active_timeout: Duration,
    /// A record is written for a flow that goes on, this often.
    #[serde(with = "duration")]
    pub active_timeout: Duration,
    /// A flow whose TCP handshake is not complete.
    #[serde(with = "duration")]
    pub idle_tcp_opening: Duration,
    /// An established TCP flow.
    #[serde(with = "duration")]
    pub idle_tcp_established: Duration,
    /// A TCP flow without a handshake, seen in one direction only.
    #[serde(with = "duration")]
    pub idle_tcp_one_way: Duration,
    /// A TCP flow after its first FIN.
    #[serde(with = "duration")]
    pub idle_tcp_closing: Duration,
    /// A TCP flow after FIN both ways or RST.
    #[serde(with = "duration")]
    pub idle_tcp_closed: Duration,
    /// A UDP flow seen in one direction.
    #[serde(with = "duration")]
    pub idle_udp_single: Duration,
    /// A UDP flow seen in both directions.
    #[serde(with = "duration")]
    pub idle_udp_paired: Duration,
    /// ICMP and ICMPv6.
    #[serde(with = "duration")]
    pub idle_icmp: Duration,
    /// Every other protocol.
    #[serde(with = "duration")]
    pub idle_other: Duration,
    /// A first fragment waits this long for the others.
    #[serde(with = "duration")]
    pub fragment_timeout: Duration,
}

impl Default for FlowConfig {
    fn default() -> Self {
        Self {
            flows_max: 1 << 20,
            embryonic_percent: 100,
            fragments_max: 4096,
            key: Key::Inner,
            tunnel_depth_max: 4,
            vlan_key: false,
            tunnel_key: false,
            tcp_quality: true,
            truth: false,
            first_active_timeout: Duration::from_secs(5),
            active_timeout: Duration::from_secs(60),
            idle_tcp_opening: Duration::from_secs(20),
            idle_tcp_established: Duration::from_secs(300),
            idle_tcp_one_way: Duration::from_secs(60),
            idle_tcp_closing: Duration::from_secs(10),
            idle_tcp_closed: Duration::from_secs(2),
            idle_udp_single: Duration::from_secs(30),
            idle_udp_paired: Duration::from_secs(120),
            idle_icmp: Duration::from_secs(10),
            idle_other: Duration::from_secs(60),
            fragment_timeout: Duration::from_secs(30),
        }
    }
}

/// Which IP header of a tunnelled frame is classified.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Key {
    /// The innermost within the depth.
    #[default]
    Inner,
    /// The outermost.
    Outer,
}

/// What happens to a packet in an exceptional condition.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Pass {
    /// It passes, as far as the policy lets it.
    #[default]
    Allow,
    /// It is dropped and counted under the condition's reason.
    Drop,
}

/// `[exception]`: one row per condition.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Exceptions {
    /// No policy has ever been adopted.
    pub no_policy: Pass,
    /// The policy is older than `policy_stale_after`.
    pub policy_stale: Pass,
    /// Zero: a policy never grows stale.
    #[serde(with = "duration")]
    pub policy_stale_after: Duration,
    /// The flow cache has no room. `allow` still asks the policy, packet by packet, without state.
    pub flow_table_full: Pass,
    /// The fragment table has no room for a first fragment.
    pub fragment_table_full: Pass,
    /// A fragment without its first. `allow` judges it as a flow without ports.
    pub fragment_unknown: Pass,
    /// TCP in the middle of an unknown flow. `allow` judges it by the best guess of its initiator.
    pub midstream: Pass,
    /// Headers that contradict themselves or the frame.
    pub malformed: Pass,
    /// The ring to the worker that owns the flow has no room. `allow` forwards unjudged.
    pub resteer_ring_full: Pass,
    /// Test switches: conditions that are taken as given for every packet, by name.
    pub force: Vec<ForcedCondition>,
}

impl Default for Exceptions {
    fn default() -> Self {
        Self {
            no_policy: Pass::Allow,
            policy_stale: Pass::Allow,
            policy_stale_after: Duration::ZERO,
            flow_table_full: Pass::Allow,
            fragment_table_full: Pass::Allow,
            fragment_unknown: Pass::Allow,
            midstream: Pass::Allow,
            malformed: Pass::Allow,
            // Nothing is known about such a packet: passing it would pass what a rule denies.
            resteer_ring_full: Pass::Drop,
            force: Vec::new(),
        }
    }
}

/// A condition that a test can force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum ForcedCondition {
    /// As if no policy had been adopted.
    NoPolicy,
    /// As if the policy were too old.
    PolicyStale,
    /// As if the flow cache were full.
    FlowTableFull,
    /// As if the fragment table were full.
    FragmentTableFull,
    /// As if every new TCP flow were picked up midstream.
    Midstream,
    /// As if every IP packet were malformed.
    Malformed,
    /// As if no ring between workers had room.
    ResteerRingFull,
}

/// `[pass]`: kinds of frames that are not judged by the policy.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct PassTable {
    /// ARP and RARP.
    pub arp: Pass,
    /// IPv6 neighbour and router discovery, and multicast listener reports: without them IPv6 hosts
    /// cannot find each other whatever the policy says.
    pub neighbor_discovery: Pass,
    /// Link layer discovery.
    pub lldp: Pass,
    /// Spanning tree.
    pub stp: Pass,
    /// Link aggregation.
    pub lacp: Pass,
    /// MACsec, whose content cannot be read.
    pub macsec: Pass,
    /// Everything else that is not IP.
    pub other: Pass,
}

/// `[reject]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct RejectConfig {
    /// TCP RST and ICMP unreachable sent by each worker at most, per second.
    pub answers_per_second: u32,
}

/// `[scan]`
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ScanConfig {
    /// Sources of each worker that have a budget and an aggregate of their own. 0: every flow is told
    /// by itself.
    pub sources_max: u32,
    /// Denied and unanswered flows of one source that are told one by one, a second.
    pub records_per_second: u32,
    /// As many at once after a silence.
    pub burst: u32,
    /// Denied flows of all sources of a worker that are told one by one, a second.
    pub worker_records_per_second: u32,
    /// As many at once after a silence.
    pub worker_burst: u32,
}

impl Default for ScanConfig {
    fn default() -> Self {
        let flow::ScanOptions {
            sources_max,
            records_per_second,
            burst,
            core_records_per_second,
            core_burst,
        } = flow::ScanOptions::default();
        Self {
            sources_max,
            records_per_second,
            burst,
            worker_records_per_second: core_records_per_second,
            worker_burst: core_burst,
        }
    }
}

impl Default for RejectConfig {
    fn default() -> Self {
        Self {
            answers_per_second: 1000,
        }
    }
}

/// `[replay]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct ReplayConfig {
    /// Ends at the end of the capture, after every flow has been recorded; never sheds a record.
    pub finish: bool,
    /// Whose time it is.
    pub clock: ClockSource,
    /// Polls nothing before a policy has been adopted.
    pub wait_policy: bool,
    /// Captures are known to be whole: they are not read through before their first frame is received.
    pub checked: bool,
}

/// `[telemetry]`
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Cycles of each stage are measured in one round of this many; 0: in none, at no cost.
    pub stage_cycles_every_rounds: u32,
}

/// Whose time it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ClockSource {
    /// This machine's.
    #[default]
    Machine,
    /// The capture's own time stamps.
    Capture,
}

impl Config {
    /// Reads `file` (if any), the environment, and `flags` on top.
    ///
    /// # Errors
    /// A file that cannot be read, an unknown key or a value of the wrong shape.
    pub fn load(file: Option<&Path>, flags: impl Serialize) -> Result<Self, ConfigError> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        let text = match file {
            None => String::new(),
            Some(path) => {
                std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable {
                    path: path.to_owned(),
                    source,
                })?
            }
        };
        let file = file.map(|path| shape::File { path, text: &text });
        if let Some(file) = &file {
            file.check()?;
            figment = figment.merge(Toml::string(file.text));
        }
        figment
            .merge(Env::prefixed(shape::ENVIRONMENT_PREFIX).split("__"))
            .merge(Serialized::globals(flags))
            .extract()
            .map_err(|error| shape::refused(&error, file.as_ref()))
    }
}

/// Durations as people write them: `"30s"`, `"5m"`, `"100ms"`.
mod duration {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub(super) fn serialize<S: Serializer>(value: &Duration, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(&humantime::format_duration(*value))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<Duration, D::Error> {
        let text = String::deserialize(d)?;
        humantime::parse_duration(&text).map_err(|error| {
            serde::de::Error::custom(format!(
                "`{text}` is no duration ({error}); write it as \"30s\", \"5m\" or \"100ms\""
            ))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Config, ConfigError> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("written");
        Config::load(Some(file.path()), figment::value::Dict::new())
    }

    #[test]
    fn a_lane_of_two_ports_and_a_mirror_are_accepted() {
        let config =
            load("[[lane]]\nname='a'\ninside='tap:x'\noutside='tap:y'\n[[lane]]\nmirror='tap:z'\n")
                .unwrap();
        let valid = config.validate().unwrap();
        assert_eq!(
            valid.lanes[1],
            Lane {
                name: "lane1".into(),
                ports: LanePorts::Mirror("tap:z".into()),
                workers: vec![0]
            }
        );
        assert_eq!(valid.worker_count, 1);
    }

    #[test]
    fn an_unknown_key_is_refused_by_name() {
        let error = load("[flow]\nflow_max = 3\n").unwrap_err().to_string();
        assert!(
            error.contains(":2: unknown key `flow.flow_max`; known here: flows_max, "),
            "{error}"
        );
        let error = load("[[lane]]\nmirror='null'\n\n[[lane]]\nname='b'\ninsid='null'\n");
        let error = error.unwrap_err().to_string();
        assert!(error.contains(":6: unknown key `lane.1.insid`"), "{error}");
    }

    #[test]
    fn a_value_of_the_wrong_type_is_refused_with_file_and_line() {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        for (text, place_and_key) in [
            (
                "# memory\n[memory]\nmbufs = 'many'\n",
                ":3: `memory.mbufs`: ",
            ),
            ("flow.key = 7\n", ":1: `flow.key`: "),
            ("[flow]\n\n\nkey = 'innner'\n", ":4: `flow.key`: "),
            (
                "[dataplane]\nworkers = [\n  1,\n  'x',\n]\n",
                ":4: `dataplane.workers.1`: ",
            ),
            ("memory = 3\n", ":1: `memory`: "),
            ("[memory]\nmbufs = \n", ":2: no TOML: "),
            ("[memory\n", ":1: no TOML: "),
        ] {
            std::fs::write(file.path(), text).expect("written");
            let error = Config::load(Some(file.path()), figment::value::Dict::new())
                .unwrap_err()
                .to_string();
            let begin = format!("configuration: {}{place_and_key}", file.path().display());
            assert!(error.starts_with(&begin), "{text}: {error}");
            assert_eq!(error.lines().count(), 1, "{error}");
        }
    }

    #[test]
    fn a_cpu_that_cannot_be_used_is_refused_with_those_that_can() {
        let lane = "[[lane]]\nmirror='tap:z'\n";
        let check = |text: &str| {
            let config = load(&format!("[dataplane]\n{text}\n{lane}")).unwrap();
            config.validate().unwrap().check_cpus(&[0, 1, 2, 5, 7, 8])
        };
        check("workers = [1, 5]\nmain_cpu = 8").unwrap();
        check("").unwrap();
        assert_eq!(
            check("workers = [1, 99]").unwrap_err().to_string(),
            "configuration: `dataplane.workers` names CPU 99, which this machine does not have or this process may not use; choose from 0-2,5,7-8"
        );
        assert!(matches!(
            check("workers = [1]\nmain_cpu = 6"),
            Err(ConfigError::NoCpu {
                key: "dataplane.main_cpu",
                cpu: 6,
                ..
            })
        ));
    }

    #[test]
    fn a_value_outside_its_bounds_is_refused_with_the_bounds() {
        let error = load("[memory]\nring_records = 1000\n[[lane]]\nmirror='tap:z'\n")
            .unwrap()
            .validate()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration: `memory.ring_records` is 1000, but must be a power of two, such as 1024"
        );
    }

    #[test]
    fn half_a_lane_is_refused_and_told_what_is_missing() {
        let error = load("[[lane]]\nname='a'\ninside='tap:x'\n")
            .unwrap()
            .validate()
            .unwrap_err();
        assert_eq!(
            error.to_string(),
            "configuration: lane `a` has one port only; a lane has `inside` and `outside`, or only `mirror`, and a name and ports of its own"
        );
    }

    #[test]
    fn a_lane_of_several_workers_names_each_once_and_only_those_there_are() {
        let of = |lane: &str| {
            let text = format!("[dataplane]\nworkers=[2,3]\n[[lane]]\nmirror='tap:z'\n{lane}\n");
            load(&text).unwrap().validate()
        };
        assert_eq!(of("workers=[1,0]").unwrap().lanes[0].workers, [1, 0]);
        assert_eq!(of("worker=1").unwrap().lanes[0].workers, [1]);
        for (lane, what) in [
            ("workers=[0,2]", "asks for worker 2, but there are 2"),
            ("workers=[1,1]", "asks for worker 1 twice"),
            ("worker=0\nworkers=[0,1]", "has `worker` and `workers`"),
        ] {
            let error = of(lane).unwrap_err().to_string();
            assert!(error.contains(what), "{lane}: {error}");
        }
    }

    #[test]
    fn a_device_in_two_places_is_refused_and_named() {
        let text = "[[lane]]\nname='a'\ninside='af_packet:eth1'\noutside='af_packet:eth2'\n[[lane]]\nmirror='af_packet:eth2'\n";
        let error = load(text).unwrap().validate().unwrap_err().to_string();
        assert!(
            error.contains("`lane1` uses port `af_packet:eth2` a second time"),
            "{error}"
        );
        let error = load("[[lane]]\ninside='tap:x'\noutside='tap:x'\n")
            .unwrap()
            .validate()
            .unwrap_err()
            .to_string();
        assert!(error.contains("`tap:x` a second time"), "{error}");
    }

    #[test]
    fn durations_are_written_as_people_write_them() {
        let config = load("[flow]\nactive_timeout = '90s'\n").unwrap();
        assert_eq!(config.flow.active_timeout, Duration::from_secs(90));
        let error = load("[flow]\nactive_timeout = 90\n")
            .unwrap_err()
            .to_string();
        assert!(error.contains("active_timeout"), "{error}");
    }

    #[test]
    fn what_is_dumped_can_be_loaded_again() {
        let config = load("[[lane]]\nmirror='null'\n").unwrap();
        let text = toml::to_string(&config).unwrap();
        let again = load(&text).unwrap();
        assert_eq!(toml::to_string(&again).unwrap(), text);
    }

    #[test]
    fn two_run_directories_give_two_prefixes() {
        let of = |dir: &str| EalConfig::default().prefix(Path::new(dir));
        assert_eq!(of("/run/ringfence"), "ringfence");
        assert_eq!(of("/tmp/a/run"), "tmp-a-run");
        assert_eq!(of("/"), "ringfence");
        let long = of(&format!("/tmp/{}", "a".repeat(90)));
        assert!(long.starts_with("ringfence-") && long.len() < 40, "{long}");
        let own = EalConfig {
            file_prefix: "own".into(),
        };
        assert_eq!(own.prefix(Path::new("/tmp/a")), "own");
    }
}
