//! The subject: `ringfence-dataplane` inline on the same source as its peer. This program plays its
//! control process: it publishes a policy, drains the records and reads the counters.

mod link;
mod process;
mod publisher;
mod watch;

use crate::generator::Counts;
use crate::rules::Image;
use crate::traffic::Traffic;
use std::collections::BTreeMap;
use std::path::Path;

/// How the subject runs.
pub(crate) struct Setup<'a> {
    /// `ringfence-dataplane`.
    pub(crate) binary: &'a Path,
    /// The capture, where that is the source.
    pub(crate) capture: &'a Path,
    /// What the frames are.
    pub(crate) traffic: &'a Traffic,
    /// CPUs of the polling cores; each has a lane and a source of its own.
    pub(crate) cores: &'a [usize],
    /// Two images of the policy; none: no policy is published.
    pub(crate) images: Option<&'a [Image; 2]>,
    /// Publishes a second while it is measured, the two images in turn.
    pub(crate) publishes_per_second: f64,
    /// Seconds that are measured.
    pub(crate) seconds: u32,
    /// What differs from the defaults.
    pub(crate) knobs: &'a Knobs,
}

/// What a row may set of the dataplane's configuration.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub(crate) struct Knobs {
    /// Flows that a core's cache holds; by default the next power of two above the flows.
    pub(crate) flows_max: Option<u64>,
    /// Measuring begins when every flow has told its first record.
    pub(crate) behind_first_records: bool,
    /// Lanes, where there are not as many as cores.
    pub(crate) lanes: Option<u8>,
    /// Lines of the section `[flow]`.
    pub(crate) flow: Vec<String>,
    /// Further lines of every `[[lane]]`.
    pub(crate) lane: Vec<String>,
}

/// What one run gave. Counters are those since the start, of all cores.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Measured {
    /// Packets received per second, of all cores: the median of the readings of a second.
    pub(crate) rate: f64,
    /// Packets sent per second, of all cores, while it was measured.
    pub(crate) sent_rate: f64,
    /// Every reading of a second.
    pub(crate) readings: Vec<f64>,
    /// Frames of established flows a second that the generator wrote, where it is the source.
    pub(crate) established_rate: Option<f64>,
    /// Frames of the scan a second that it wrote.
    pub(crate) scan_rate: Option<f64>,
    /// New flows a second that it wrote.
    pub(crate) fresh_rate: Option<f64>,
    /// Packets forwarded, of those received, 0 to 1.
    pub(crate) forwarded: f64,
    /// What came to each core less what it sent, dropped by reason or handed on, at the end: 0.
    pub(crate) unaccounted: i128,
    /// Packets of flows less those recorded, in the cache and shed, at the end: 0.
    pub(crate) unrecorded: i128,
    /// Flows in the cache at the end.
    pub(crate) flows_cached: u64,
    /// Of those, answered ones.
    pub(crate) flows_established: u64,
    /// Flows created.
    pub(crate) flows_created: u64,
    /// Flows whose entry was taken for another.
    pub(crate) flows_evicted: u64,
    /// Flows created a second while it was measured.
    pub(crate) flows_created_rate: f64,
    /// Records that the ring accepted.
    pub(crate) records: u64,
    /// Records read by this program.
    pub(crate) records_read: u64,
    /// Records that a full ring refused.
    pub(crate) shed_records: u64,
    /// Packets of new flows that found the cache full.
    pub(crate) flow_table_full: u64,
    /// Packets not forwarded, by reason.
    pub(crate) drops: BTreeMap<String, u64>,
    /// Frames that the generator wrote.
    pub(crate) generated: Option<Counts>,
    /// Packets of the scan in records, read once the scan had ended.
    pub(crate) scan_told: Option<u64>,
    /// Resident memory of the dataplane at the end, bytes.
    pub(crate) resident_bytes: u64,
    /// What the publications took.
    pub(crate) publishing: Option<Publishing>,
}

/// What the publications took.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Publishing {
    /// Bytes of an image.
    pub(crate) image_bytes: usize,
    /// Bytes of what goes over: what it has that the one before has not.
    pub(crate) change_bytes: usize,
    /// Publications while it was measured.
    pub(crate) published: u64,
    /// From the last byte of the image received to the last core's adoption, nanoseconds, each.
    pub(crate) adopted_ns: Vec<u64>,
    /// From the first byte sent to the acknowledgement read, nanoseconds, each.
    pub(crate) round_trip_ns: Vec<u64>,
    /// Packets forwarded under a superseded verdict, between a publish and a core's adoption.
    pub(crate) superseded_packets: u64,
    /// How many more of those there were a commit after the last adoption and later: 0.
    pub(crate) superseded_after: u64,
}

impl Setup<'_> {
    /// Lanes, each with a source of its own.
    fn lanes(&self) -> usize {
        self.knobs.lanes.map_or(self.cores.len(), usize::from)
    }
}

impl Publishing {
    /// 99 of a hundred adoptions took this or less, nanoseconds.
    pub(crate) fn adopted_p99_ns(&self) -> u64 {
        percentile(&self.adopted_ns, 99)
    }
}

/// The smallest sample that `percent` of a hundred samples do not exceed.
pub(crate) fn percentile(samples: &[u64], percent: usize) -> u64 {
    let mut sorted = samples.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * percent).div_ceil(100);
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(0)
}

/// Runs the dataplane inline from the source to a sink and measures it.
///
/// # Errors
/// A sentence.
pub(crate) fn run(setup: &Setup<'_>) -> Result<Measured, String> {
    let running = process::start(setup)?;
    let mut link = link::connect(&running.socket())?;
    if let Some(images) = setup.images {
        link.publish(1, images[0].stamped(1))?;
    }
    watch::measure(setup, &running, link)
}

#[cfg(test)]
mod tests {
    use super::percentile;

    #[test]
    fn a_percentile_is_a_sample_that_so_many_do_not_exceed() {
        let samples: Vec<u64> = (1..=200).rev().collect();
        assert_eq!(percentile(&samples, 99), 198);
        assert_eq!(percentile(&samples, 50), 100);
        assert_eq!(percentile(&[7], 99), 7);
        assert_eq!(percentile(&[], 99), 0);
    }
}
