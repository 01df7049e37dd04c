//! One collector: its session, its socket, its pace.

use super::convert::{biflow, enforcement_mode};
use super::{ExportCounters, Told};
use crate::clock::now_ns;
use crate::config::{CollectorAddress, ExportConfig};
use crate::flow::StoredFlow;
use crate::names::{Dictionary, IdentityNames, Naming, Registry};
use crate::recent::Batch;
use abi::Mode;
use abi::image::RuleMode;
use std::collections::HashSet;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

/// An error of one collector's socket is logged at most so often.
const ERROR_LOG_INTERVAL: Duration = Duration::from_secs(30);
/// At the end, how long a refusal of the last message is waited for.
const REFUSAL_WAIT: Duration = Duration::from_millis(100);
/// Dictionary entries remembered as told; beyond, they are told again.
const TOLD_MAX: usize = 65_536;
/// Names of a policy that are told at once, before its first flow; those of a larger policy are told
/// as they are needed.
const TOLD_AT_ONCE_MAX: usize = 2048;

pub(super) struct Sender {
    address: SocketAddr,
    socket: UdpSocket,
    session: ipfix::Session,
    names: Arc<Registry>,
    told: Arc<Told>,
    counters: Arc<ExportCounters>,
    flush: Duration,
    /// Least time between two messages.
    pace: Duration,
    next_send: Instant,
    error_logged: Option<Instant>,
    /// Segment sets and rules, by epoch, that the session has learned.
    learned: HashSet<(u64, bool, u64)>,
    out: Vec<ipfix::Message>,
    /// The last message sent, not yet counted: its refusal comes back after it has gone.
    unconfirmed: Option<ipfix::Message>,
}

impl Sender {
    pub(super) fn new(
        config: &ExportConfig,
        collector: &CollectorAddress,
        socket: UdpSocket,
        names: Arc<Registry>,
        told: Arc<Told>,
        counters: Arc<ExportCounters>,
    ) -> Result<Self, ipfix::SettingsError> {
        // Rounded up: 0 would say that there is no timeout.
        let seconds = |d: Duration| {
            let seconds = d.as_secs() + u64::from(d.subsec_nanos() > 0);
            u16::try_from(seconds).unwrap_or(u16::MAX)
        };
        let announcement = ipfix::Announcement {
            domain_name: config.domain_name.clone(),
            exporting_process: std::process::id(),
            active_timeout_s: seconds(config.active_timeout.0),
            idle_timeout_s: seconds(config.idle_timeout.0),
            ..ipfix::Announcement::default()
        };
        let settings = config.settings(collector.personality.into());
        let pace = match collector.messages_per_s_max {
            0 => Duration::ZERO,
            rate => Duration::from_secs(1) / rate,
        };
        Ok(Self {
            address: collector.address,
            socket,
            session: ipfix::Session::new(settings, announcement)?,
            names,
            told,
            counters,
            flush: config.flush.0,
            pace,
            next_send: Instant::now(),
            error_logged: None,
            learned: HashSet::new(),
            out: Vec::new(),
            unconfirmed: None,
        })
    }

    /// Sends until the queue's other end is gone and the queue is empty, then what is left.
    pub(super) fn run(mut self, batches: &Receiver<Batch>) {
        let mut flush_at = Instant::now() + self.flush;
        loop {
            let wait = flush_at.saturating_duration_since(Instant::now());
            match batches.recv_timeout(wait) {
                Ok(batch) => self.batch(&batch),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            if Instant::now() >= flush_at {
                self.confirm();
                // A collector that starts later learns the templates without any flow.
                if self.session.refresh_due(now_ns()) {
                    self.refresh();
                    self.session.announce(now_ns(), &mut self.out);
                }
                self.session.flush(now_ns(), &mut self.out);
                self.send();
                flush_at = Instant::now() + self.flush;
            }
        }
        self.session.flush(now_ns(), &mut self.out);
        self.send();
        if self.unconfirmed.is_some() {
            std::thread::sleep(REFUSAL_WAIT);
        }
        self.confirm();
        // The last word about losses, after the last flow.
        self.refresh();
        self.session.conclude(now_ns(), &mut self.out);
        self.send();
        self.confirm();
    }

    fn batch(&mut self, batch: &Batch) {
        let names = self.names.names();
        let mut naming = names.naming(0);
        let mut epoch = 0;
        for flow in batch.iter() {
            if flow.record.epoch != epoch {
                epoch = flow.record.epoch;
                naming = names.naming(epoch);
            }
            if self.session.refresh_due(now_ns()) {
                self.refresh();
            }
            self.learn(flow, &naming);
            self.session
                .flow(now_ns(), &biflow(&flow.record, &naming), &mut self.out);
            if !self.out.is_empty() {
                self.send();
            }
        }
        self.counters
            .waiting
            .fetch_sub(batch.len(), Ordering::AcqRel);
    }

    /// Tells the names of what the flow refers to, once for each epoch.
    fn learn(&mut self, flow: &StoredFlow, naming: &Naming) {
        let Some(dictionary) = naming.dictionary.as_deref() else {
            return;
        };
        if self.learned.len() >= TOLD_MAX {
            self.learned.clear();
        }
        if self.learned.insert((dictionary.epoch(), false, 0))
            && dictionary.len() <= TOLD_AT_ONCE_MAX
        {
            for names in dictionary.identities() {
                self.learn_segments(dictionary, names);
            }
            for id in dictionary.rule_ids() {
                self.learn_rule(dictionary, id);
            }
        }
        for names in naming.identities(&flow.record).into_iter().flatten() {
            self.learn_segments(dictionary, names);
        }
        self.learn_rule(dictionary, flow.record.rule_id);
        self.learn_rule(dictionary, flow.record.pending_rule_id);
    }

    fn learn_segments(&mut self, dictionary: &Dictionary, names: &IdentityNames) {
        if self
            .learned
            .insert((dictionary.epoch(), false, u64::from(names.id)))
        {
            let name = names.joined.to_string();
            let revision = dictionary.revision_number();
            let entry = ipfix::SegmentEntry {
                id: names.id,
                name,
                revision,
            };
            self.session.learn_segment(now_ns(), entry, &mut self.out);
        }
    }

    fn learn_rule(&mut self, dictionary: &Dictionary, id: u64) {
        let Some(rule) = dictionary.rule(id) else {
            return;
        };
        if self.learned.insert((dictionary.epoch(), true, id)) {
            let entry = ipfix::RuleEntry {
                id,
                name: rule.name.to_string(),
                revision: dictionary.revision_number(),
                action: rule.action.byte(),
                mode: enforcement_mode(match rule.mode {
                    RuleMode::Test => Some(Mode::Test),
                    RuleMode::Enforce => Some(Mode::Enforce),
                    RuleMode::Inherit => None,
                }),
            };
            self.session.learn_rule(now_ns(), entry, &mut self.out);
        }
    }

    /// Brings what the next announcement tells up to date.
    fn refresh(&mut self) {
        let get = |field: &std::sync::atomic::AtomicU64| field.load(Ordering::Relaxed);
        let told = &self.told;
        let announcement = self.session.announcement_mut();
        announcement.init_ms = get(&told.init_ms);
        announcement.interfaces = told
            .interfaces
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        let counters = &self.counters;
        self.session.set_statistics(ipfix::Statistics {
            observed_packets: get(&told.observed_packets),
            ignored_packets: get(&told.ignored_packets),
            ignored_octets: get(&told.ignored_octets),
            not_sent_flows: get(&counters.not_sent),
            not_sent_packets: get(&counters.not_sent_packets),
            not_sent_octets: get(&counters.not_sent_bytes),
            not_sent_first_ms: get(&counters.not_sent_first_ms),
            not_sent_last_ms: get(&counters.not_sent_last_ms),
            exported_messages: get(&counters.messages),
            exported_flows: get(&counters.records),
            exported_octets: get(&counters.bytes),
            ..ipfix::Statistics::default()
        });
    }

    fn send(&mut self) {
        for message in std::mem::take(&mut self.out) {
            if !self.pace.is_zero() {
                std::thread::sleep(self.next_send.saturating_duration_since(Instant::now()));
                self.next_send = Instant::now() + self.pace;
            }
            self.confirm();
            // A refusal that came in between is about an earlier datagram: this one gets its own
            // chance.
            let sent = self.socket.send(&message.bytes).or_else(|error| {
                if error.kind() == ErrorKind::ConnectionRefused {
                    self.counters.errors.fetch_add(1, Ordering::Relaxed);
                }
                self.socket.send(&message.bytes)
            });
            match sent {
                Ok(_) => self.unconfirmed = Some(message),
                Err(error) => self.failed(&message, &error),
            }
        }
    }

    /// Counts the last message: as refused where its refusal has come back, else as sent.
    fn confirm(&mut self) {
        let Some(message) = self.unconfirmed.take() else {
            return;
        };
        if let Ok(Some(error)) = self.socket.take_error() {
            self.failed(&message, &error);
            return;
        }
        let counters = &self.counters;
        counters.messages.fetch_add(1, Ordering::Relaxed);
        let bytes = message.bytes.len() as u64;
        counters.bytes.fetch_add(bytes, Ordering::Relaxed);
        counters.records.fetch_add(message.flows, Ordering::Relaxed);
    }

    fn failed(&mut self, message: &ipfix::Message, error: &std::io::Error) {
        self.counters.errors.fetch_add(1, Ordering::Relaxed);
        self.counters
            .count_not_sent(message.flows, message.packets, message.octets);
        *self
            .counters
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        if self
            .error_logged
            .is_none_or(|at| at.elapsed() >= ERROR_LOG_INTERVAL)
        {
            self.error_logged = Some(Instant::now());
            tracing::warn!(collector = %self.address, %error, "cannot export");
        }
    }
}
