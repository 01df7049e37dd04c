//! The command line. Every word that an operator can type is in this file and those below it.

pub mod life;
pub mod segments;

pub mod candidate;
pub mod explain;
pub mod history;
pub mod reach;
pub mod simulate;
pub mod watch;
pub mod workload;

use std::ffi::OsString;
use std::path::PathBuf;
use std::str::FromStr;

use api::TopQuery;
use api::top::{Metric, TopBy};
use api::words::UnknownWord;
use clap::builder::{PossibleValuesParser, RangedU64ValueParser, TypedValueParser};
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;

use self::candidate::{CandidateCommand, WatchArgs};
use self::life::{ConfirmArgs, LogArgs, TermsArgs};
use self::segments::{QuarantineArgs, SegmentsArgs};
use crate::collector_spec::CollectorSpec;
use crate::exit::EXIT_CODES_HELP;
use crate::metrics_spec::MetricsSpec;
use crate::port_spec::{LaneSpec, PortSpec};

/// Longest time that can be given for something to end, seconds: a week.
const SECONDS_MAX: u64 = 604_800;

/// See who talks to whom, write the segment policy, prove it, enforce it.
#[derive(Debug, Parser)]
#[command(
    name = "ringfence",
    version,
    after_long_help = format!("\
First steps:
  ringfence doctor                                        is this host ready?
  ringfence up --lane af_packet:eth1,af_packet:eth2       start, inline between two ports
  ringfence flows --follow                                watch who talks to whom
  ringfence policy check policy.toml                      is this policy sound?
  ringfence replay capture.pcap --policy policy.toml      try it on a recording, no root needed

{EXIT_CODES_HELP}"),
    after_help = "`ringfence --help` shows first steps and exit codes; `ringfence COMMAND --help` shows examples.",
    disable_help_subcommand = true,
    max_term_width = 100,
)]
pub struct Cli {
    /// Unix socket of the control process
    #[arg(long, global = true, env = "RINGFENCE_SOCKET", value_name = "PATH",
          default_value = api::endpoint::SOCKET_PATH)]
    pub socket: PathBuf,
    /// Whether the socket was named by the flag, which stands above other flags; the environment
    /// does not.
    #[arg(skip)]
    pub socket_by_flag: bool,
    /// Print the API's JSON instead of a table
    #[arg(long, global = true)]
    pub json: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

impl Cli {
    /// Understands a command line.
    ///
    /// # Errors
    /// It is wrong, or asks for help.
    pub fn parse_line(arguments: Vec<OsString>) -> Result<Self, clap::Error> {
        let matches = Self::command().try_get_matches_from(arguments)?;
        let mut cli = Self::from_arg_matches(&matches)?;
        cli.socket_by_flag = matches.value_source("socket") == Some(ValueSource::CommandLine);
        Ok(cli)
    }
}

/// Everything the command can do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start the dataplane and the control process in this terminal; Ctrl-C stops both
    Up(UpArgs),
    /// One screen: processes, policy, lanes, rates, losses
    #[command(after_long_help = "\
Example:
  ringfence status
  watch -n1 ringfence status")]
    Status,
    /// Flows seen lately: who talked to whom, how much, and the verdict
    Flows(FlowsArgs),
    /// The largest conversations
    Top(TopArgs),
    /// What was seen, for as long as it is kept: flows, conversations, matrix, first-seen, coverage
    #[command(subcommand)]
    History(history::HistoryCommand),
    /// Unexpected paths: new edges, sweeps, chains of administrative hops
    Watch(watch::WatchArgs),
    /// Ports: state, rates, losses
    Ports,
    /// Cycles of each stage of the loop, where they are measured
    #[command(after_long_help = "\
Measured where the dataplane's configuration says so:
  [telemetry]
  stage_cycles_every_rounds = 64      # one round in 64; 0, the default: none, at no cost")]
    Stages,
    /// Packets not forwarded, by reason
    Drops,
    /// Segments of the policy, how far each has come, and moving it on
    Segments(SegmentsArgs),
    /// Workloads of the policy, their addresses and segments
    Workloads,
    /// Workloads: change one, import a list, see inventories and past names
    #[command(subcommand)]
    Workload(workload::WorkloadCommand),
    /// Cut a workload off for a time, but for some services
    Quarantine(QuarantineArgs),
    /// Check, apply, show and undo the policy
    #[command(subcommand)]
    Policy(PolicyCommand),
    /// Does, did or would this flow pass, and by which rule?
    Explain(explain::ExplainArgs),
    /// Prove that nothing got lost
    #[command(subcommand)]
    Verify(VerifyCommand),
    /// Is this host ready, and what to do where it is not
    #[command(after_long_help = "\
Looks at hugepages, programs, directories, sockets, then asks the running processes about ports,
policy, export and versions. Changes nothing. Exits 1 if a check failed, 0 if there are only
warnings.")]
    Doctor(DoctorArgs),
    /// Run a capture through the real dataplane and print every flow
    Replay(ReplayArgs),
    /// Print a completion script for a shell
    #[command(after_long_help = "\
Examples:
  ringfence completions bash > /etc/bash_completion.d/ringfence
  ringfence completions zsh  > ~/.zfunc/_ringfence
  ringfence completions fish > ~/.config/fish/completions/ringfence.fish")]
    Completions {
        /// Which shell
        #[arg(value_parser = PossibleValuesParser::new(["bash", "zsh", "fish"])
            .map(|name| match name.as_str() { "bash" => Shell::Bash, "zsh" => Shell::Zsh, _ => Shell::Fish }))]
        shell: Shell,
    },
}

/// `ringfence up`
#[derive(Args, Debug)]
#[command(after_long_help = "\
A lane is a pair of ports, inside and outside: what enters one leaves the other. A mirror port only
listens. Ports are written KIND:WHAT as in the dataplane's configuration:
  af_packet:eth1   a network interface of Linux     pci:0000:03:00.0   a NIC bound to vfio-pci
  tap:name         an interface made for the port   pcap:in=FILE       a capture

Examples:
  ringfence up                                             as /etc/ringfence says
  ringfence up --lane af_packet:eth1,af_packet:eth2        inline
  ringfence up --mirror af_packet:eth3                     on a mirror port, nothing is forwarded
  ringfence up --lane af_packet:eth1,af_packet:eth2 --policy policy.toml

Ctrl-C or SIGTERM: the dataplane stops forwarding and writes its last flow records, the control
process collects and exports them, then both are gone. A second Ctrl-C ends both at once.")]
pub struct UpArgs {
    /// Dataplane configuration (TOML) [default: /etc/ringfence/dataplane.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Control configuration (TOML) [default: /etc/ringfence/control.toml, if it exists]
    #[arg(long, value_name = "FILE")]
    pub control_config: Option<PathBuf>,
    /// Check this policy before anything is started, and apply it once both are ready
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Pair of ports to forward between; replaces the lanes of the configuration; repeatable
    #[arg(long, value_name = "INSIDE,OUTSIDE")]
    pub lane: Vec<LaneSpec>,
    /// Port to listen on; replaces the lanes of the configuration; repeatable
    #[arg(long, value_name = "PORT")]
    pub mirror: Vec<PortSpec>,
    /// Directory for sockets, that of control too unless --socket is given
    /// [default: the directory of --socket]
    #[arg(long, value_name = "DIR")]
    pub run_dir: Option<PathBuf>,
    /// Directory for what must survive a restart
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
    /// CPUs of the polling workers, for example 2,3
    #[arg(long, value_name = "CPUS", value_delimiter = ',')]
    pub workers: Vec<u32>,
    /// What an idle worker does: poll on, pause, or sleep
    #[arg(long, value_name = "HOW")]
    pub idle: Option<Idle>,
    /// Use hugepages, or do without
    #[arg(long, value_name = "WHEN")]
    pub hugepages: Option<Hugepages>,
    /// Send IPFIX to this collector; replaces those of the configuration; repeatable
    #[arg(long, value_name = "HOST:PORT[,uniflow][,RATE]")]
    pub ipfix: Vec<CollectorSpec>,
    /// Where control serves metrics; replaces metrics.listen of the configuration
    /// [default: 127.0.0.1:9464]
    #[arg(long, value_name = "ADDRESS:PORT|off")]
    pub metrics: Option<MetricsSpec>,
    /// Seconds to wait until both processes are ready
    #[arg(long, value_name = "SECONDS", default_value_t = 60, value_parser = seconds())]
    pub ready_timeout: u64,
}

/// What an idle worker does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Idle {
    /// Poll on: lowest latency, one whole core
    None,
    /// Short processor pauses
    Pause,
    /// Sleep: an idle box costs next to nothing, the first packet waits a little
    Sleep,
}

/// When to use hugepages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Hugepages {
    /// If there are enough
    Auto,
    /// Refuse to start without
    Always,
    /// Do without
    Never,
}

/// The filter language in a few lines; `api::filter` has the grammar.
const FILTER_HELP: &str = "\
Filters are tests joined by and, or, not and parentheses:
  10.0.1.0/24, src 10.0.1.10, dst port 443, src port 1024-65535    src is the initiator
  workload web-1, dst segment shop-db, service postgres, rule dev-*
  tcp, udp, icmp, proto 47, vlan 10, vni 5000, tunnel vxlan
  verdict deny, pending deny, coverage uncovered, mode test, drop denied-by-default
  bytes > 10m, packets <= 3, dropped > 0, end idle-timeout";

/// `ringfence flows`
#[derive(Args, Debug)]
#[command(after_long_help = format!("\
Examples:
  ringfence flows                                      the newest 100
  ringfence flows --follow                             as they come, until Ctrl-C
  ringfence flows --filter 'verdict deny' --limit 0    every denied flow that is kept
  ringfence flows --filter 'dst workload db-1' --tsv > db.tsv

{FILTER_HELP}"))]
pub struct FlowsArgs {
    /// Only flows that match, for example 'dst workload web-1 and verdict deny'
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Print new flows as they come, until Ctrl-C
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// Newest so many flows; 0 all [default: 100; with --follow 0 of the past]
    #[arg(long, value_name = "COUNT")]
    pub limit: Option<u64>,
    /// Only flows with a packet at or after this time, for example 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
    /// Tab separated values with a header line, every column
    #[arg(long, conflicts_with = "json")]
    pub tsv: bool,
}

/// `ringfence policy`
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Is this policy file sound? Changes nothing
    #[command(after_long_help = "\
Errors come as FILE:LINE:COLUMN, as a compiler's, with what to do. Proves every [[invariant]] over
the policy as it is meant, all of it taken as enforced, and names the paths that break one. Exits 1 if
the policy is invalid or an invariant is broken.
Needs no running appliance: where no control process answers, ringfence-control checks it alone.

Example:
  ringfence policy check policy.toml")]
    Check {
        /// Policy file (TOML)
        file: PathBuf,
    },
    /// What becomes reachable under another policy, and what stops being?
    #[command(after_long_help = "\
Compares what the policies let reach what, over all addresses and services, and what is written
differently. Exits 0 where reach is the same, 1 where it differs or an invariant is newly broken.
Two files need no running appliance.

Examples:
  ringfence policy diff draft.toml                   the policy in force, and the draft
  ringfence policy diff previous in-force            what the last change did
  ringfence policy diff 3f9c0a draft.toml --enforced")]
    Diff(reach::DiffArgs),
    /// What can somebody reach who has got into a segment?
    #[command(after_long_help = "\
Examples:
  ringfence policy blast                             every segment, 3 hops
  ringfence policy blast shop-web --hops 2           one, with the segments that it reaches
  ringfence policy blast --draft draft.toml          before and after")]
    Blast(reach::BlastArgs),
    /// Which rules do nothing, too much, or against each other?
    #[command(after_long_help = "\
expired, expiring   its date
unmatched           it matches in no case: nobody is in its from, or in its to
shadowed            in every case that it matches another rule decides
redundant           without it every case would be decided the same
conflicting         a rule of the same tier denies some of what it allows
unused, over-broad  by what history saw, where it saw 7 days or more

Each finding is about its rule alone: act on one, then ask again.

Examples:
  ringfence policy analyze
  ringfence policy analyze draft.toml --since 30d")]
    Analyze(reach::AnalyzeArgs),
    /// What would a draft have done to the traffic of the past?
    Simulate(simulate::SimulateArgs),
    /// Propose segments and rules for traffic that no rule covers
    Suggest(simulate::SuggestArgs),
    /// Put this policy into force
    #[command(after_long_help = "\
Checked, compiled, published, adopted by every worker between two bursts: no packet is lost. Live
flows are judged again. Exits 1 if the policy is invalid; the policy in force then stays.

With --confirm the policy is in force at once and reverts by itself, also across restarts of control,
unless `ringfence policy confirm` comes in time. While one waits, another is refused.

Examples:
  ringfence policy apply policy.toml
  ringfence policy apply policy.toml --confirm 5m -m 'the database closes its doors'
  ringfence policy apply policy.toml --if-revision 3f9c0ad2    only over what I have seen")]
    Apply {
        /// Policy file (TOML)
        file: PathBuf,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
        /// On which terms
        #[command(flatten)]
        terms: TermsArgs,
    },
    /// Keep a policy that would revert by itself (see `apply --confirm`)
    Confirm(ConfirmArgs),
    /// Bring the policy before back at once, without waiting for the end of `--confirm`
    Revert {
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Policies judged beside the one in force, on the same flows; alone: lists them
    Candidate {
        /// What to do
        #[command(subcommand)]
        command: Option<CandidateCommand>,
    },
    /// Flows that a candidate decides otherwise, as they happen
    Watch(WatchArgs),
    /// The policy in force, or an earlier revision
    Show {
        /// Revision from `ringfence policy log` [default: the one in force]
        revision: Option<String>,
        /// Print the policy's text only, as it was applied
        #[arg(long, conflicts_with = "json")]
        text: bool,
    },
    /// Rules of the policy in force and what each has decided
    #[command(after_long_help = "\
Hits are counted as records come: when a flow ends, is denied, or at its active timeout. What an
idle or short flow did shows up to some seconds later.")]
    Rules,
    /// Every change: what, when, by whom; and whether anybody changed this log
    Log(LogArgs),
    /// Put an earlier revision into force again
    #[command(after_long_help = "\
Examples:
  ringfence policy rollback                the revision before the one in force
  ringfence policy rollback 3f9c0a         this revision; its first digits (4 or more) are enough")]
    Rollback {
        /// Revision from `ringfence policy log` [default: the one before]
        revision: Option<String>,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
}

/// `ringfence verify`
#[derive(Debug, Subcommand)]
pub enum VerifyCommand {
    /// Per core: received = forwarded + dropped, and every packet is in a record or counted
    #[command(after_long_help = "\
Prints one line per core and the total, with the differences. They are 0; exits 1 if one is not.")]
    Accounting,
}

/// `ringfence doctor`
#[derive(Args, Debug)]
pub struct DoctorArgs {
    /// Dataplane configuration to look at [default: /etc/ringfence/dataplane.toml]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Print what this configuration carries, and what of it gives out first, instead
    #[arg(long)]
    pub capacity: bool,
    /// NUMA nodes that workers, ports and memory are spread over, for --capacity
    #[arg(long, value_name = "NUMBER", default_value_t = 1, requires = "capacity",
          value_parser = RangedU64ValueParser::<u64>::new().range(1..=64))]
    pub nodes: u64,
}

/// `ringfence top`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Examples:
  ringfence top                             pairs of ends with the most bytes
  ringfence top --by services               which services are used most
  ringfence top --by scanners --metric flows
                                            who tries what is denied or answers nothing, and how far
  ringfence top --by segments --metric flows")]
pub struct TopArgs {
    /// What a line stands for
    #[arg(long, value_name = "WHAT", default_value = "pairs",
          value_parser = words::<TopBy>(TopBy::ALL.iter().map(|w| w.word())))]
    pub by: TopBy,
    /// What the lines are ordered by
    #[arg(long, value_name = "METRIC", default_value = "bytes",
          value_parser = words::<Metric>(Metric::ALL.iter().map(|w| w.word())))]
    pub metric: Metric,
    /// At most so many lines; 0 all
    #[arg(long, value_name = "COUNT", default_value_t = TopQuery::LIMIT_DEFAULT)]
    pub limit: u64,
    /// Only flows that match
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Only flows with a packet at or after this time, for example 2026-01-31T12:00:00Z
    #[arg(long, value_name = "TIME")]
    pub since: Option<String>,
}

/// Takes the words of one enumeration of the public protocol, and shows them in help and
/// completions.
fn words<T>(known: impl Iterator<Item = &'static str>) -> impl TypedValueParser<Value = T>
where
    T: FromStr<Err = UnknownWord> + Clone + Send + Sync + 'static,
{
    PossibleValuesParser::new(known.collect::<Vec<_>>()).try_map(|word| word.parse::<T>())
}

/// Seconds that something may take: at least one, a week at most.
fn seconds() -> RangedU64ValueParser {
    RangedU64ValueParser::new().range(1..=SECONDS_MAX)
}

/// `ringfence replay`
#[derive(Args, Debug)]
#[command(after_long_help = "\
Starts a dataplane and a control process of its own in a private directory, with the capture as
mirror port and the capture's own clock, and ends them afterwards. Needs neither root nor
hugepages, and does not touch an appliance that runs on the same host.

The TSV begins with src dst proto sport dport pkts_fwd bytes_fwd pkts_rev bytes_rev; fwd is from
the initiator. Flows are sorted by their first packet. A summary goes to standard error, with a
line for each collector; exits 4 where one of them could not be sent to.

Examples:
  ringfence replay capture.pcap
  ringfence replay capture.pcap --policy policy.toml --filter 'verdict deny'
  ringfence replay capture.pcap --format tsv --out flows.tsv
  ringfence replay capture.pcap --ipfix 127.0.0.1:4739")]
pub struct ReplayArgs {
    /// Capture file: pcap or pcapng
    pub capture: PathBuf,
    /// Judge the flows by this policy
    #[arg(long, value_name = "FILE")]
    pub policy: Option<PathBuf>,
    /// Which IP header names a tunnelled flow [default: inner; outer with --truth-rules]
    #[arg(long, value_name = "HEADER")]
    pub key: Option<Key>,
    /// How flows are printed [default: table; json with --json]
    #[arg(long, value_name = "FORMAT", conflicts_with = "json")]
    pub format: Option<Format>,
    /// Also send IPFIX to this collector, at most RATE messages a second; repeatable
    #[arg(long, value_name = "HOST:PORT[,uniflow][,RATE]")]
    pub ipfix: Vec<CollectorSpec>,
    /// Count as the reference truth files do: one row a key, no timeouts, no ICMP ports, first
    /// sender is the initiator
    #[arg(long)]
    pub truth_rules: bool,
    /// Put the VLAN stack into the flow key
    #[arg(long)]
    pub vlan_key: bool,
    /// Print only flows that match
    #[arg(long, value_name = "FILTER")]
    pub filter: Option<String>,
    /// Print to this file instead of standard output
    #[arg(long, value_name = "FILE")]
    pub out: Option<PathBuf>,
    /// Seconds the dataplane may take for the capture before it is ended
    #[arg(long, value_name = "SECONDS", default_value_t = 600, value_parser = seconds())]
    pub timeout: u64,
}

impl ReplayArgs {
    /// Records a capture as production would, judged by a policy where there is one.
    #[must_use]
    pub fn record(capture: PathBuf, policy: Option<PathBuf>) -> Self {
        Self {
            capture,
            policy,
            key: None,
            format: None,
            ipfix: Vec::new(),
            truth_rules: false,
            vlan_key: false,
            filter: None,
            out: None,
            timeout: 600,
        }
    }
}

/// Which IP header names a tunnelled flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Key {
    /// The outermost
    Outer,
    /// The innermost
    Inner,
}

impl Key {
    /// The word in the dataplane's configuration.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Outer => "outer",
            Self::Inner => "inner",
        }
    }
}

/// How replay prints flows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people
    Table,
    /// Tab separated values with a header line
    Tsv,
    /// One JSON object a line
    Json,
}
