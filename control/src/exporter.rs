//! Exports flows as IPFIX over UDP: one bounded queue and one thread for each collector.
//!
//! A collector that is slow or gone never holds up the others or the rings: what does not fit its
//! queue is not sent to it, and counted (unless `when_full = "wait"`, for replays).

mod convert;
mod sender;

pub use convert::biflow;

use crate::config::{CollectorAddress, ExportConfig, WhenFull};
use crate::names::Registry;
use crate::recent::Batch;
use sender::Sender;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

/// What one collector got.
#[derive(Debug, Default)]
pub struct ExportCounters {
    pub(crate) records: AtomicU64,
    pub(crate) messages: AtomicU64,
    pub(crate) bytes: AtomicU64,
    pub(crate) not_sent: AtomicU64,
    pub(crate) not_sent_packets: AtomicU64,
    pub(crate) not_sent_bytes: AtomicU64,
    pub(crate) not_sent_first_ms: AtomicU64,
    pub(crate) not_sent_last_ms: AtomicU64,
    pub(crate) errors: AtomicU64,
    pub(crate) last_error: Mutex<Option<String>>,
    /// Records in the queue, or in the batch that is being encoded.
    pub(crate) waiting: AtomicUsize,
}

/// A copy of [`ExportCounters`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the fields of ExportCounters")]
pub struct ExportCounts {
    pub records: u64,
    pub messages: u64,
    pub bytes: u64,
    pub not_sent: u64,
    pub errors: u64,
    pub last_error: Option<String>,
    pub waiting: u64,
}

impl ExportCounters {
    /// Counts flow records that this collector will never get.
    pub(crate) fn count_not_sent(&self, records: u64, packets: u64, bytes: u64) {
        self.not_sent.fetch_add(records, Ordering::Relaxed);
        self.not_sent_packets.fetch_add(packets, Ordering::Relaxed);
        self.not_sent_bytes.fetch_add(bytes, Ordering::Relaxed);
        let now_ms = crate::clock::now_ns() / 1_000_000;
        // First time wins; the last one is always written.
        let _ = self.not_sent_first_ms.compare_exchange(
            0,
            now_ms,
            Ordering::Relaxed,
            Ordering::Relaxed,
        );
        self.not_sent_last_ms.store(now_ms, Ordering::Relaxed);
    }

    fn counts(&self) -> ExportCounts {
        let get = |field: &AtomicU64| field.load(Ordering::Relaxed);
        ExportCounts {
            records: get(&self.records),
            messages: get(&self.messages),
            bytes: get(&self.bytes),
            not_sent: get(&self.not_sent),
            errors: get(&self.errors),
            last_error: self
                .last_error
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone(),
            waiting: self.waiting.load(Ordering::Relaxed) as u64,
        }
    }
}

/// One collector's queue, as the record collector sees it.
#[derive(Clone, Debug)]
struct Queue {
    batches: mpsc::Sender<Batch>,
    counters: Arc<ExportCounters>,
}

/// Every collector's queue.
#[derive(Clone, Debug, Default)]
pub struct ExportQueues {
    queues: Vec<Queue>,
    records_max: usize,
    when_full: WhenFull,
    stopping: Arc<AtomicBool>,
}

impl ExportQueues {
    /// Hands a batch to every collector that has room for it.
    pub fn offer(&self, batch: &Batch) {
        if batch.is_empty() {
            return;
        }
        for queue in &self.queues {
            let counters = &queue.counters;
            if self.when_full == WhenFull::Wait {
                self.wait_for_room(counters, batch.len());
            }
            let waiting = counters.waiting.fetch_add(batch.len(), Ordering::AcqRel);
            let full = waiting > 0 && waiting + batch.len() > self.records_max;
            if full || queue.batches.send(Arc::clone(batch)).is_err() {
                counters.waiting.fetch_sub(batch.len(), Ordering::AcqRel);
                let sum =
                    |of: fn(&abi::FlowRecord) -> u64| batch.iter().map(|f| of(&f.record)).sum();
                counters.count_not_sent(
                    batch.len() as u64,
                    sum(|r| r.packets_fwd + r.packets_rev),
                    sum(|r| r.bytes_fwd + r.bytes_rev),
                );
            }
        }
    }

    /// Waits while the queue is too full, unless the process is stopping.
    fn wait_for_room(&self, counters: &ExportCounters, records: usize) {
        let full = || {
            let waiting = counters.waiting.load(Ordering::Acquire);
            waiting > 0 && waiting + records > self.records_max
        };
        while full() && !self.stopping.load(Ordering::Acquire) {
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
    }
}

/// What the exporter tells collectors beside flows; kept up to date by the process.
#[derive(Debug, Default)]
pub struct Told {
    /// Ports by index.
    pub interfaces: Mutex<Vec<ipfix::Interface>>,
    /// Start of the dataplane, milliseconds since 1970.
    pub init_ms: AtomicU64,
    /// Packets received by all cores.
    pub observed_packets: AtomicU64,
    /// Packets that are in no flow record: unflowed, and in records that rings refused.
    pub ignored_packets: AtomicU64,
    /// Bytes of those, where they are known.
    pub ignored_octets: AtomicU64,
}

/// Why the exporter cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ExportError {
    /// No socket for a collector.
    #[error("cannot open a UDP socket to export to {collector}: {source}")]
    Socket {
        /// Where to.
        collector: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// Settings that no session can have.
    #[error("configuration, key export: {0}")]
    Settings(#[from] ipfix::SettingsError),
    /// No thread.
    #[error("cannot start the export thread for {collector}: {source}")]
    Thread {
        /// Where to.
        collector: std::net::SocketAddr,
        /// Why.
        source: std::io::Error,
    },
}

/// The exporter: threads, and what they count.
#[derive(Debug)]
pub struct Exporter {
    collectors: Vec<(CollectorAddress, Arc<ExportCounters>)>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    queues: Mutex<Option<ExportQueues>>,
    stopping: Arc<AtomicBool>,
    /// What collectors are told.
    pub told: Arc<Told>,
}

impl Exporter {
    /// Opens a socket and starts a thread for each collector.
    ///
    /// # Errors
    /// [`ExportError`].
    pub fn start(config: &ExportConfig, names: &Arc<Registry>) -> Result<Self, ExportError> {
        let told = Arc::new(Told::default());
        let stopping = Arc::new(AtomicBool::new(false));
        let (mut collectors, mut threads, mut queues) = (Vec::new(), Vec::new(), Vec::new());
        for collector in &config.collectors {
            let address = collector.address;
            let socket = open(address).map_err(|source| ExportError::Socket {
                collector: address,
                source,
            })?;
            let counters = Arc::new(ExportCounters::default());
            let sender = Sender::new(
                config,
                collector,
                socket,
                Arc::clone(names),
                Arc::clone(&told),
                Arc::clone(&counters),
            )?;
            let (batches, receiver) = mpsc::channel();
            let thread = std::thread::Builder::new()
                .name(format!("export {address}"))
                .spawn(move || sender.run(&receiver))
                .map_err(|source| ExportError::Thread {
                    collector: address,
                    source,
                })?;
            queues.push(Queue {
                batches,
                counters: Arc::clone(&counters),
            });
            collectors.push((collector.clone(), counters));
            threads.push(thread);
        }
        let queues = ExportQueues {
            queues,
            records_max: config.queue_records_max,
            when_full: config.when_full,
            stopping: Arc::clone(&stopping),
        };
        Ok(Self {
            collectors,
            threads: Mutex::new(threads),
            queues: Mutex::new(Some(queues)),
            stopping,
            told,
        })
    }

    /// The queues, for the record collector.
    #[must_use]
    pub fn queues(&self) -> ExportQueues {
        let queues = self.queues.lock().unwrap_or_else(PoisonError::into_inner);
        queues.clone().unwrap_or_default()
    }

    /// What each collector got.
    #[must_use]
    pub fn counts(&self) -> Vec<(CollectorAddress, ExportCounts)> {
        self.collectors
            .iter()
            .map(|(c, counters)| (c.clone(), counters.counts()))
            .collect()
    }

    /// Records that have not yet been sent to every collector.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.counts()
            .iter()
            .map(|(_, counts)| counts.waiting)
            .max()
            .unwrap_or(0)
    }

    /// Sends what is queued and ends the threads. Every other holder of the queues must have ended
    /// before: the record collectors.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
        *self.queues.lock().unwrap_or_else(PoisonError::into_inner) = None;
        let mut threads = self.threads.lock().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            let ended = thread.join();
            debug_assert!(ended.is_ok(), "an export thread panicked");
        }
    }
}

/// A UDP socket of the collector's address family, connected so that its errors come back.
fn open(address: std::net::SocketAddr) -> std::io::Result<UdpSocket> {
    let local: std::net::SocketAddr = if address.is_ipv4() {
        ([0, 0, 0, 0], 0).into()
    } else {
        ([0_u16; 8], 0).into()
    };
    let socket = UdpSocket::bind(local)?;
    socket.connect(address)?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::flow::StoredFlow;

    /// What is counted once 500 records were offered to a collector and the exporter was stopped.
    fn exported(address: std::net::SocketAddr) -> ExportCounts {
        let config = ExportConfig {
            collectors: vec![address.to_string().parse().unwrap()],
            ..ExportConfig::default()
        };
        let exporter = Exporter::start(&config, &Arc::default()).unwrap();
        let record: abi::FlowRecord = zerocopy::FromZeros::new_zeroed();
        let batch: Batch = (1..=500).map(|seq| StoredFlow { seq, record }).collect();
        exporter.queues().offer(&batch);
        exporter.stop();
        exporter.counts().remove(0).1
    }

    #[test]
    fn records_that_a_collector_refuses_are_not_counted_as_sent() {
        let collector = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = collector.local_addr().unwrap();
        let counts = exported(address);
        assert_eq!(
            (counts.records, counts.not_sent, counts.errors),
            (500, 0, 0)
        );
        assert!(
            counts.messages > 1 && counts.last_error.is_none(),
            "{counts:?}"
        );
        drop(collector);
        let counts = exported(address);
        assert_eq!((counts.records, counts.not_sent), (0, 500));
        assert_eq!((counts.messages, counts.bytes), (0, 0));
        assert!(counts.errors > 1, "{counts:?}");
        let last = counts.last_error.unwrap_or_default();
        assert!(last.contains("refused"), "{last}");
    }
}
