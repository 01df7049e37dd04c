//! A flow ended, timed out or was denied: its record goes into the ring, or is shed and counted.

use abi::ring::Producer;
use abi::{CoreCounters, FlowRecord};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// How long a patient sink waits before it asks a full ring again.
const FULL_RING_WAIT: Duration = Duration::from_micros(200);

/// Where the records of one core go, and what it counts of them.
#[derive(Debug)]
pub struct RecordSink {
    producer: Producer,
    /// Waits for room instead of shedding: an offline run always, a live core when it has stopped
    /// polling and tells its last flows.
    patient: bool,
    /// Set by the main thread when nobody will read any more: even a patient sink sheds then.
    abandon: Arc<AtomicBool>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    records: u64,
    recorded_packets: u64,
    shed_records: u64,
    shed_packets: u64,
    shed_bytes: u64,
}

impl RecordSink {
    /// A sink over a ring; `patient` for offline runs, where no packet on a wire is lost meanwhile.
    #[must_use]
    pub fn new(producer: Producer, abandon: Arc<AtomicBool>, patient: bool) -> Self {
        Self {
            producer,
            patient,
            abandon,
            counts: Counts::default(),
        }
    }

    /// From now on waits for room: polling has stopped.
    pub fn be_patient(&mut self) {
        self.patient = true;
    }

    /// Makes the records of this round visible to the control process.
    #[inline]
    pub fn publish(&mut self) {
        self.producer.publish();
    }

    /// Copies what was counted.
    pub fn count_into(&self, counters: &mut CoreCounters) {
        let counts = &self.counts;
        counters.records = counts.records;
        counters.recorded_packets = counts.recorded_packets;
        counters.shed_records = counts.shed_records;
        counters.shed_packets = counts.shed_packets;
        counters.shed_bytes = counts.shed_bytes;
    }

    #[cold]
    #[expect(
        clippy::disallowed_methods,
        reason = "only a sink that was told to be patient waits"
    )]
    fn wait_and_push(&mut self, record: &FlowRecord) -> bool {
        if !self.patient {
            return false;
        }
        self.producer.publish();
        while !self.abandon.load(Ordering::Relaxed) {
            std::thread::sleep(FULL_RING_WAIT);
            if self.producer.push(record).is_ok() {
                return true;
            }
        }
        false
    }
}

impl flow::RecordSink for RecordSink {
    #[inline]
    fn record(&mut self, record: &FlowRecord) {
        let packets = record.packets_fwd + record.packets_rev;
        if packets == 0 {
            // The flow's last record has told everything already: a denied flow of one packet, or
            // one whose active timeout fell on its last packet.
            return;
        }
        if self.producer.push(record).is_ok() || self.wait_and_push(record) {
            self.counts.records += 1;
            self.counts.recorded_packets += packets;
        } else {
            self.counts.shed_records += 1;
            self.counts.shed_packets += packets;
            self.counts.shed_bytes += record.bytes_fwd + record.bytes_rev;
        }
    }
}
