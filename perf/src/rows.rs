//! The registry of rows: what must be shown, the target of each, how it is run, and its verdict.
//!
//! A row is a function that measures and gives an [`Outcome`]; [`ALL`] names every one. To add a
//! row, write the function where its job lives and add an entry here.

mod cores;
mod established;
mod outcome;
mod records;
mod rules_cost;
mod stress;

use std::collections::BTreeMap;

/// How much time a row may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Alternating runs of subject and peer.
    pub(crate) runs: u32,
    /// Seconds of each run.
    pub(crate) seconds: u32,
    /// CPU of the polling core; the rest of the harness stays off it.
    pub(crate) core: usize,
}

/// What the value of a row must be.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Target {
    /// This much or more.
    AtLeast(f64),
    /// This much or less.
    AtMost(f64),
    /// Told, not judged.
    Told,
}

impl Target {
    /// Whether `value` meets it; `None` where nothing is asked.
    pub(crate) fn holds(self, value: f64) -> Option<bool> {
        match self {
            Self::AtLeast(least) => Some(value >= least),
            Self::AtMost(most) => Some(value <= most),
            Self::Told => None,
        }
    }
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::AtLeast(least) => write!(f, ">= {least}"),
            Self::AtMost(most) => write!(f, "<= {most}"),
            Self::Told => write!(f, "-"),
        }
    }
}

/// A condition beside the value: `(what must be so, whether it is)`.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Check {
    /// A sentence that is true when `holds`.
    pub(crate) what: String,
    /// Whether it is.
    pub(crate) holds: bool,
}

/// What a row gave.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Outcome {
    /// The figure that the target speaks of.
    pub(crate) value: f64,
    /// Its smallest and largest, run by run.
    pub(crate) spread: (f64, f64),
    /// Every sample by series, such as `subject_pps` and `peer_pps`, in the order taken.
    pub(crate) samples: BTreeMap<String, Vec<f64>>,
    /// What must hold beside the value.
    pub(crate) checks: Vec<Check>,
    /// Anything else worth keeping.
    pub(crate) facts: serde_json::Map<String, serde_json::Value>,
    /// One line for the table: the medians behind the value.
    pub(crate) told: String,
    /// The command that repeats it.
    pub(crate) command: String,
}

/// Which profile runs a row.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Profile {
    /// Under five minutes in all.
    Short,
    /// Everything.
    Full,
}

/// One row of what must be shown.
pub(crate) struct Row {
    /// Short name, as given to `bench --only`.
    pub(crate) name: &'static str,
    /// What is measured, for people.
    pub(crate) what: &'static str,
    /// What `Outcome::value` is: `x testpmd macswap`, `M/s`, `%`.
    pub(crate) unit: &'static str,
    /// What it must be.
    pub(crate) target: Target,
    /// The least profile that runs it.
    pub(crate) profile: Profile,
    /// Measures it. `Err` with a sentence: it could not be run here.
    pub(crate) run: fn(&Effort) -> Result<Outcome, String>,
}

/// Every row, in the order of the table of what must be shown.
pub(crate) const ALL: &[Row] = &[
    Row {
        name: "established-1k",
        what: "established, 64 B, 1k flows, 10 rules, inline",
        unit: "x testpmd macswap",
        target: Target::AtLeast(0.85),
        profile: Profile::Short,
        run: established::thousand,
    },
    Row {
        name: "established-1m",
        what: "established, 64 B, 1M flows, 10k rules, records on",
        unit: "x testpmd macswap",
        target: Target::AtLeast(0.75),
        profile: Profile::Short,
        run: established::million,
    },
    Row {
        name: "established-10m",
        what: "established, 64 B, 10M flows",
        unit: "x its rate with 1k flows",
        target: Target::AtLeast(0.5),
        profile: Profile::Full,
        run: established::ten_million,
    },
    Row {
        name: "memory-10m",
        what: "10M flows, index and entries: resident memory",
        unit: "GiB",
        target: Target::AtMost(2.0),
        profile: Profile::Full,
        run: established::memory,
    },
    Row {
        name: "ovs-1000-rules",
        what: "OVS-DPDK conntrack and 1,000 rules, 100k flows both ways",
        unit: "x OVS-DPDK",
        target: Target::AtLeast(15.0),
        profile: Profile::Short,
        run: established::beside_ovs,
    },
    Row {
        name: "ovs-1000-rules-pcap",
        what: "the same, both sides on net_pcap",
        unit: "x OVS-DPDK",
        target: Target::Told,
        profile: Profile::Full,
        run: established::beside_ovs_on_a_file,
    },
    Row {
        name: "rules-packet-cost",
        what: "rules 10 -> 100,000: time of a packet, 100k flows",
        unit: "% more",
        target: Target::AtMost(2.0),
        profile: Profile::Full,
        run: rules_cost::packet,
    },
    Row {
        name: "rules-new-flow-cost",
        what: "rules 10 -> 100,000: time of a packet that is a new flow",
        unit: "% more",
        target: Target::AtMost(10.0),
        profile: Profile::Full,
        run: rules_cost::new_flow,
    },
    Row {
        name: "new-flows",
        what: "every packet a new flow, 100k rules; insert, age out, record",
        unit: "M/s",
        target: Target::AtLeast(4.0),
        profile: Profile::Short,
        run: stress::new_flows,
    },
    Row {
        name: "ring-to-named",
        what: "record ring to control to named flow, one consuming core, 100k rules, 10k workloads",
        unit: "M/s",
        target: Target::AtLeast(3.0),
        profile: Profile::Short,
        run: records::ring_to_named,
    },
    Row {
        name: "scan",
        what: "10 M/s single-packet scan beside 1M established flows: their rate",
        unit: "x unattacked",
        target: Target::AtLeast(0.7),
        profile: Profile::Full,
        run: stress::scan,
    },
    Row {
        name: "publish-pcap",
        what: "policy of 100k rules published 10 times a second, on net_pcap: rate",
        unit: "x undisturbed",
        target: Target::Told,
        profile: Profile::Full,
        run: stress::publish_on_a_file,
    },
    Row {
        name: "publish",
        what: "policy of 100k rules published 10 times a second: rate",
        unit: "x undisturbed",
        target: Target::AtLeast(0.98),
        profile: Profile::Full,
        run: stress::publish,
    },
    Row {
        name: "two-workers",
        what: "two workers, each its own source of 1k flows",
        unit: "x one",
        target: Target::AtLeast(1.9),
        profile: Profile::Full,
        run: |effort| cores::two_workers(effort, 1_000, 10),
    },
    Row {
        name: "two-workers-100k",
        what: "the same with 100k flows and 1,000 rules each, which share what lies behind their caches",
        unit: "x one",
        target: Target::Told,
        profile: Profile::Full,
        run: |effort| cores::two_workers(effort, 100_000, 1_000),
    },
    Row {
        name: "steered",
        what: "tunnels of one queue dealt out between two workers",
        unit: "x two workers hashed directly",
        target: Target::AtLeast(0.6),
        profile: Profile::Full,
        run: cores::steered,
    },
    Row {
        name: "ipv6-1k",
        what: "IPv6, 1k flows, 10 rules",
        unit: "x IPv4",
        target: Target::AtLeast(0.9),
        profile: Profile::Full,
        run: established::ipv6_thousand,
    },
    Row {
        name: "ipv6-1m",
        what: "IPv6, 1M flows, 10k rules",
        unit: "x IPv4",
        target: Target::AtLeast(0.9),
        profile: Profile::Full,
        run: established::ipv6_million,
    },
    Row {
        name: "ipv6-10m",
        what: "IPv6, 10M flows",
        unit: "x IPv4",
        target: Target::AtLeast(0.9),
        profile: Profile::Full,
        run: established::ipv6_ten_million,
    },
    Row {
        name: "imix",
        what: "established, 64/594/1518 B as 7:4:1, 100k flows, 1k rules",
        unit: "x testpmd macswap",
        target: Target::Told,
        profile: Profile::Full,
        run: established::imix,
    },
    Row {
        name: "generator-cost",
        what: "the generator's writing of a frame, under testpmd rxonly",
        unit: "ns",
        target: Target::Told,
        profile: Profile::Full,
        run: cores::generator_cost,
    },
    Row {
        name: "first-look-macswap",
        what: "established, 64 B, 100k flows one way, 10 rules, inline",
        unit: "x testpmd macswap",
        target: Target::Told,
        profile: Profile::Full,
        run: |effort| established::first_look(crate::peer::Peer::Macswap, effort),
    },
    Row {
        name: "first-look-5tswap",
        what: "established, 64 B, 100k flows one way, 10 rules, inline",
        unit: "x testpmd 5tswap",
        target: Target::Told,
        profile: Profile::Full,
        run: |effort| established::first_look(crate::peer::Peer::FiveTupleSwap, effort),
    },
    Row {
        name: "instructions",
        what: "instructions a packet by callgrind: growth over the recorded ones",
        unit: "%",
        target: Target::AtMost(5.0),
        profile: Profile::Short,
        run: crate::micro::instructions::row,
    },
    Row {
        name: "lookup-rte-hash",
        what: "flow lookup alone, 10M entries, batch of 32, against rte_hash bulk lookup",
        unit: "x rte_hash",
        target: Target::AtLeast(1.5),
        profile: Profile::Full,
        run: crate::micro::lookup::row,
    },
    Row {
        name: "classify-rte-acl",
        what: "classification alone, 100k rules, 10k workloads, random keys, against rte_acl with 10k of the rules",
        unit: "x rte_acl",
        target: Target::AtLeast(5.0),
        profile: Profile::Full,
        run: crate::micro::classify::row,
    },
    Row {
        name: "capture-10k",
        what: "capture to flow records, one core, 10k flows, against the best of softflowd, nfpcapd, pmacctd",
        unit: "x the best",
        target: Target::AtLeast(4.0),
        profile: Profile::Full,
        run: |effort| crate::capture::row(10_000, effort),
    },
    Row {
        name: "capture-1m",
        what: "the same with 1M flows",
        unit: "x the best",
        target: Target::AtLeast(15.0),
        profile: Profile::Full,
        run: |effort| crate::capture::row(1_000_000, effort),
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn every_row_has_a_name_of_its_own() {
        let names: HashSet<_> = ALL.iter().map(|row| row.name).collect();
        assert_eq!(names.len(), ALL.len());
    }

    #[test]
    fn a_target_is_met_at_its_bound_and_missed_beyond_it() {
        assert_eq!(Target::AtLeast(0.85).holds(0.85), Some(true));
        assert_eq!(Target::AtLeast(0.85).holds(0.849), Some(false));
        assert_eq!(Target::AtMost(2.0).holds(2.0), Some(true));
        assert_eq!(Target::AtMost(2.0).holds(2.001), Some(false));
        assert_eq!(Target::Told.holds(0.0), None);
    }
}
