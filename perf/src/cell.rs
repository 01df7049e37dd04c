//! A cell: subject and peer in alternation on the same source and the same cores, every sample kept.

use crate::machine::Machine;
use crate::peer::{self, Peer};
use crate::rules::{Image, Plan, Variant};
use crate::subject::{self, Knobs};
use crate::traffic::{Source, Traffic};
use crate::{median, source};
use std::fmt::Write;
use std::path::{Path, PathBuf};

/// What is run.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Cell {
    /// What the subject is compared with.
    pub(crate) peer: Peer,
    /// What the frames are.
    pub(crate) traffic: Traffic,
    /// Rules of the policy.
    pub(crate) rules: u32,
    /// Publications a second while the subject is measured.
    pub(crate) publishes_per_second: f64,
    /// CPUs of the polling cores.
    pub(crate) cores: Vec<usize>,
    /// Alternating runs of each.
    pub(crate) runs: u32,
    /// Seconds that are measured, of each run.
    pub(crate) seconds: u32,
    /// What differs in the subject's configuration.
    pub(crate) knobs: Knobs,
}

/// What came of it.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Compared {
    /// What was run.
    pub(crate) cell: Cell,
    /// Every run of the subject.
    pub(crate) subject: Vec<subject::Measured>,
    /// Every run of the peer; none where there is no peer.
    pub(crate) peer: Vec<peer::Measured>,
}

/// Everything that is made once and used by every run of a cell.
pub(crate) struct Prepared {
    dir: tempfile::TempDir,
    binary: PathBuf,
    images: [Image; 2],
}

impl Prepared {
    /// The capture, where that is the source.
    fn capture(&self) -> PathBuf {
        self.dir.path().join("flows.pcap")
    }
}

impl Cell {
    /// Writes the capture and compiles the policies.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn prepare(&self) -> Result<Prepared, String> {
        self.traffic.check()?;
        let dir =
            tempfile::tempdir().map_err(|error| format!("no temporary directory: {error}"))?;
        let plan = Plan::new(self.rules);
        let first = Image::compile(&plan.text(Variant::A))?;
        let second = match self.publishes_per_second > 0.0 {
            true => Image::compile(&plan.text(Variant::B))?,
            false => first.clone(),
        };
        let prepared = Prepared {
            dir,
            binary: dataplane_binary()?,
            images: [first, second],
        };
        if self.traffic.source == Source::Pcap {
            let capture = prepared.capture();
            source::write_capture(&capture, &self.traffic)
                .map_err(|error| format!("{}: {error}", capture.display()))?;
        }
        Ok(prepared)
    }

    /// One run of the subject.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn run_subject(&self, prepared: &Prepared) -> Result<subject::Measured, String> {
        subject::run(&subject::Setup {
            binary: &prepared.binary,
            capture: &prepared.capture(),
            traffic: &self.traffic,
            cores: &self.cores,
            images: Some(&prepared.images),
            publishes_per_second: self.publishes_per_second,
            seconds: self.seconds,
            knobs: &self.knobs,
        })
    }

    /// One run of the peer; `None` where there is none.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn run_peer(&self, prepared: &Prepared) -> Result<Option<peer::Measured>, String> {
        let setup = peer::Setup {
            capture: &prepared.capture(),
            traffic: &self.traffic,
            cores: &self.cores,
            rules: self.rules,
            seconds: self.seconds,
        };
        peer::run(self.peer, &setup)
    }

    /// All runs, in alternation.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn run(self) -> Result<Compared, String> {
        let prepared = self.prepare()?;
        let (mut subject, mut peer) = (Vec::new(), Vec::new());
        for number in 1..=self.runs {
            eprintln!(
                "  run {number} of {}: ringfence, {}",
                self.runs,
                self.peer.name()
            );
            subject.push(self.run_subject(&prepared)?);
            peer.extend(self.run_peer(&prepared)?);
        }
        Ok(Compared {
            cell: self,
            subject,
            peer,
        })
    }

    /// The command that runs the same cell.
    pub(crate) fn command(&self) -> String {
        let traffic = &self.traffic;
        let mut text = format!(
            "ringfence-perf side-by-side --peer {} --flows {} --rules {}",
            self.peer.name(),
            traffic.flows,
            self.rules
        );
        let mut add = |when: bool, words: String| {
            if when {
                let _ = write!(text, " {words}");
            }
        };
        add(traffic.both_directions, "--both-directions".into());
        add(
            traffic.new_flow_percent > 0,
            format!("--new-flow-percent {}", traffic.new_flow_percent),
        );
        add(
            traffic.scan_per_second > 0,
            format!("--scan-per-second {}", traffic.scan_per_second),
        );
        add(
            self.publishes_per_second > 0.0,
            format!("--publishes-per-second {}", self.publishes_per_second),
        );
        add(
            traffic.family == crate::traffic::Family::Ipv6,
            "--family 6".into(),
        );
        add(
            traffic.frame == crate::traffic::Frame::Imix,
            "--frame imix".into(),
        );
        add(traffic.vxlan, "--vxlan".into());
        add(
            traffic.source == Source::Generator,
            "--source generator".into(),
        );
        add(
            self.cores.len() > 1,
            format!("--workers {}", self.cores.len()),
        );
        add(
            self.knobs.flows_max.is_some(),
            format!("--flows-max {}", self.knobs.flows_max.unwrap_or(0)),
        );
        add(
            self.knobs.behind_first_records,
            "--behind-first-records".to_owned(),
        );
        add(
            self.knobs.lanes.is_some(),
            format!("--lanes {}", self.knobs.lanes.unwrap_or(0)),
        );
        for line in &self.knobs.flow {
            add(true, format!("--flow '{line}'"));
        }
        for line in &self.knobs.lane {
            add(true, format!("--lane '{line}'"));
        }
        add(
            true,
            format!("--seconds {} --runs {}", self.seconds, self.runs),
        );
        text
    }
}

/// Middle, smallest and largest.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) min: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(samples: &[f64]) -> Self {
        Self {
            median: median(&mut samples.to_vec()),
            min: samples.iter().copied().fold(f64::INFINITY, f64::min),
            max: samples.iter().copied().fold(0.0, f64::max),
        }
    }

    /// In millions: `33.47 (33.38..33.62)`.
    pub(crate) fn millions(&self) -> String {
        let [median, min, max] = [self.median, self.min, self.max].map(|rate| rate / 1e6);
        format!("{median:.2} ({min:.2}..{max:.2})")
    }
}

impl Compared {
    /// Rates of the subject, run by run.
    pub(crate) fn subject_rates(&self) -> Vec<f64> {
        self.subject.iter().map(|run| run.rate).collect()
    }

    /// Rates of the peer, run by run.
    pub(crate) fn peer_rates(&self) -> Vec<f64> {
        self.peer.iter().map(|run| run.rate).collect()
    }

    /// The ratio of the medians, and the smallest and largest of neighbouring runs.
    pub(crate) fn ratio(&self) -> Option<Spread> {
        let (subject, peer) = (self.subject_rates(), self.peer_rates());
        if peer.is_empty() {
            return None;
        }
        let each: Vec<f64> = subject.iter().zip(&peer).map(|(s, p)| s / p).collect();
        let median = median(&mut subject.clone()) / median(&mut peer.clone());
        Some(Spread {
            median,
            ..Spread::of(&each)
        })
    }

    /// One JSON object: both rates, the ratio, every sample, machine and command.
    ///
    /// # Errors
    /// A sentence.
    pub(crate) fn json(&self, machine: &Machine) -> Result<String, String> {
        let rates = |rates: Vec<f64>| serde_json::json!({ "pps": Spread::of(&rates), "samples_pps": rates });
        let object = serde_json::json!({
            "ringfence": rates(self.subject_rates()),
            "peer": (!self.peer.is_empty()).then(|| rates(self.peer_rates())),
            "ratio": self.ratio(),
            "cell": self.cell,
            "command": self.cell.command(),
            "machine": machine,
            "ringfence_runs": self.subject,
            "peer_runs": self.peer,
        });
        serde_json::to_string_pretty(&object).map_err(|error| error.to_string())
    }

    /// The cell as a table of two rows for people, with what must be 0 beside it.
    pub(crate) fn table(&self) -> String {
        let mut text = String::from("| | Mpps (min..max) |\n|---|---|\n");
        let subject = Spread::of(&self.subject_rates());
        let _ = writeln!(text, "| ringfence | {} |", subject.millions());
        if let Some(ratio) = self.ratio() {
            let peer = Spread::of(&self.peer_rates());
            let _ = writeln!(text, "| {} | {} |", self.cell.peer.name(), peer.millions());
            let _ = writeln!(
                text,
                "| ratio | {:.3} ({:.3}..{:.3}) |",
                ratio.median, ratio.min, ratio.max
            );
        }
        if let Some(last) = self.subject.last() {
            let _ = writeln!(
                text,
                "\nforwarded {:.4}, unaccounted {}, unrecorded {}, flows {} (answered {}), created {:.2} M/s, \
                 evicted {}, table full {}, records {}, shed {}, drops {:?}",
                last.forwarded,
                last.unaccounted,
                last.unrecorded,
                last.flows_cached,
                last.flows_established,
                last.flows_created_rate / 1e6,
                last.flows_evicted,
                last.flow_table_full,
                last.records,
                last.shed_records,
                last.drops
            );
            if let Some(publishing) = &last.publishing {
                let _ = writeln!(
                    text,
                    "{} publications of {} bytes, {} of them sent: publish to last adoption p99 {:.3} ms, superseded packets {}, after adoption {}",
                    publishing.published,
                    publishing.image_bytes,
                    publishing.change_bytes,
                    publishing.adopted_p99_ns() as f64 / 1e6,
                    publishing.superseded_packets,
                    publishing.superseded_after
                );
            }
        }
        text
    }
}

/// The dataplane that was built with this program.
fn dataplane_binary() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| error.to_string())?;
    let beside = own.parent().map(|dir| dir.join("ringfence-dataplane"));
    beside.filter(|path| Path::is_file(path)).ok_or_else(|| {
        "ringfence-dataplane is not beside this program; build it with `cargo build --release`"
            .to_owned()
    })
}
