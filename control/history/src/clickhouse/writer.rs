//! From flow records to the servers, each row once.
//!
//! Records become batches of one day each; a batch goes to one server, whole. It is inserted by a statement that asks
//! first whether all its rows came and whether none is there yet; a server runs one statement of a name at a time. So a
//! batch may be sent again whenever nobody knows what came of it, also while the first sending still lies in the socket
//! of a server that was stopped.

use super::rows::{Encoder, FLOW_TYPES, PLACE_COLUMNS, day_of};
use super::schema::{self, FIVE_MINUTES, HOUR, RELEASE_MIN, Release, quoted};
use super::server::{Failure, Rows, Server, Setting};
use super::spool::{Batch, Spool};
use super::{ClickHouseConfig, Status};
use crate::question::FLOW_COLUMNS;
use crate::{HistoryError, INTERVAL_S};
use api::flow::Flow;
use api::history::interval_start_ns;
use std::collections::BTreeMap;

/// One block, whatever its size, so that it is there whole or not at all; one thread, so that it is one.
const ONE_BLOCK: [Setting<'static>; 4] = [
    ("min_insert_block_size_rows", "1000000000"),
    ("min_insert_block_size_bytes", "0"),
    ("max_threads", "1"),
    ("max_query_size", "1000000"),
];

/// What is known of a server.
#[derive(Clone, Debug, Default)]
struct Known {
    /// Its tables are there.
    is_prepared: bool,
    /// Why the last request failed.
    failure: Option<String>,
}

/// The writing side. One lock is around it.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) spool: Spool,
    pending: Vec<Flow>,
    known: Vec<Known>,
    /// Server of the next batch.
    next: usize,
    /// Clock, for tests.
    pub(super) now_ns: fn() -> u64,
}

/// Columns of a row with their types.
fn structure() -> String {
    let flow = FLOW_COLUMNS.iter().copied().zip(FLOW_TYPES);
    let columns: Vec<String> = PLACE_COLUMNS
        .into_iter()
        .chain(flow)
        .map(|(column, of)| format!("{column} {of}"))
        .collect();
    columns.join(", ")
}

/// Whether servers that failed are asked once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failing {
    /// They are.
    Retry,
    /// They are left alone: whoever asks must not wait for them.
    Skip,
}

/// What the writer works with.
#[derive(Debug)]
pub(super) struct Cluster {
    pub(super) config: ClickHouseConfig,
    pub(super) servers: Vec<Server>,
}

impl Cluster {
    pub(super) fn db(&self) -> String {
        quoted(&self.config.database)
    }

    /// Its release, tables, cluster; and the last batch of this appliance that it has.
    fn prepare(&self, server: &Server) -> Result<u64, Failure> {
        let refused = |why: String| Failure::Refused(format!("server {}: {why}", server.url()));
        let version = server.ask("SELECT version()", &[])?;
        let version = version.trim();
        let release = Release::parse(version).ok_or_else(|| {
            refused(format!(
                "`{version}` is no release of ClickHouse; is it one?"
            ))
        })?;
        if release < RELEASE_MIN {
            return Err(refused(format!(
                "release {version} is too old; 18.16 or newer is needed"
            )));
        }
        for statement in schema::statements(&self.config, release) {
            server.ask(&statement, &[])?;
        }
        let name = &self.config.cluster;
        let shards = server.ask(
            &format!("SELECT count() FROM system.clusters WHERE cluster = '{name}'"),
            &[],
        )?;
        if shards.trim() != self.servers.len().to_string() {
            return Err(refused(format!(
                "its cluster `{name}` has {} servers and the configuration {}; list the same in its remote_servers, one \
                 replica a shard",
                shards.trim(),
                self.servers.len()
            )));
        }
        let last = server.ask(
            &format!(
                "SELECT maxMerge(batch) FROM {}.{}_local WHERE appliance = '{}'",
                self.db(),
                HOUR.table,
                self.config.appliance
            ),
            &[],
        )?;
        Ok(last.trim().parse().unwrap_or(0))
    }

    /// Sends one batch, and asks whether it is there.
    fn send(&self, server: &Server, batch: &Batch) -> Result<(), Failure> {
        let (db, appliance) = (self.db(), &self.config.appliance);
        let place = batch.place(appliance);
        let rows = Rows {
            structure: &structure(),
            bytes: &batch.bytes,
        };
        let id = |table: &str| format!("ringfence-{appliance}-{}-{table}", batch.batch);
        server.insert(
            &place.flows_insert(&db, batch.rows),
            &id("flows"),
            &ONE_BLOCK,
            Some(rows),
        )?;
        // From here on something may be there.
        let begun = |failure: Failure| match failure {
            Failure::NotSent(why) => Failure::Unknown(why),
            other => other,
        };
        for tier in [FIVE_MINUTES, HOUR] {
            let sql = place.conversations_insert(&db, tier);
            server
                .insert(&sql, &id(tier.table), &ONE_BLOCK, None)
                .map_err(begun)?;
        }
        let there = server.ask(&place.what_is_there(&db), &[]).map_err(begun)?;
        let expected = format!("{}\t{1}\t{1}", batch.rows, batch.batch);
        let found: Vec<u64> = numbers(&there);
        let [rows, five, hour] = found.as_slice() else {
            return Err(Failure::Unknown(format!(
                "server {}: `{there}` is no answer",
                server.url()
            )));
        };
        if usize::try_from(*rows) == Ok(batch.rows) && *five >= batch.batch && *hour >= batch.batch
        {
            Ok(())
        } else {
            Err(Failure::Unknown(format!(
                "server {}: of a batch, `{expected}` was expected and `{}` is there",
                server.url(),
                there.trim()
            )))
        }
    }
}

/// The numbers of a line.
pub(super) fn numbers(line: &str) -> Vec<u64> {
    line.trim()
        .split('\t')
        .filter_map(|n| n.parse().ok())
        .collect()
}

impl Writer {
    pub(super) fn new(spool: Spool, servers: usize, now_ns: fn() -> u64) -> Self {
        Self {
            spool,
            pending: Vec::new(),
            known: vec![Known::default(); servers],
            next: 0,
            now_ns,
        }
    }

    /// Why some server failed last, if one did.
    pub(super) fn failure(&self) -> Option<&str> {
        self.known.iter().find_map(|k| k.failure.as_deref())
    }

    fn is_skipped(&self, server: usize, failing: Failing) -> bool {
        failing == Failing::Skip && self.known.get(server).is_some_and(|k| k.failure.is_some())
    }

    /// Notes what came of a request.
    fn noted<T>(&mut self, server: usize, result: Result<T, Failure>) -> Result<T, Failure> {
        if let Some(known) = self.known.get_mut(server) {
            known.failure = result.as_ref().err().map(|f| f.why().to_owned());
            // A server that was away may come back empty.
            known.is_prepared &= result.is_ok();
        }
        result
    }

    /// Sees to it that the server's tables are there.
    pub(super) fn prepare(&mut self, cluster: &Cluster, index: usize) -> Result<(), Failure> {
        if self.known.get(index).is_some_and(|k| k.is_prepared) {
            return Ok(());
        }
        let Some(server) = cluster.servers.get(index) else {
            return Ok(());
        };
        let last = self.noted(index, cluster.prepare(server))?;
        self.spool.pass(last);
        if let Some(known) = self.known.get_mut(index) {
            known.is_prepared = true;
        }
        Ok(())
    }

    /// Sends what waits, oldest first, then what is pending; what no server takes goes to the spool.
    ///
    /// # Errors
    /// What stays pending: the spool is full, or the disk.
    pub(super) fn push_out(
        &mut self,
        cluster: &Cluster,
        failing: Failing,
    ) -> Result<(), HistoryError> {
        for index in 0..cluster.servers.len() {
            if !self.is_skipped(index, failing) {
                self.replay(cluster, index)?;
            }
        }
        let mut by_day: BTreeMap<u16, Vec<Flow>> = BTreeMap::new();
        for flow in std::mem::take(&mut self.pending) {
            by_day.entry(day_of(flow.first_ns)).or_default().push(flow);
        }
        let mut result = Ok(());
        for (day, mut flows) in by_day {
            while result.is_ok() && !flows.is_empty() {
                let rest = flows.split_off(flows.len().min(cluster.config.batch_rows_max));
                let batch = self.batch_of(cluster, day, &flows);
                result = batch.and_then(|batch| self.place(cluster, &batch, failing));
                if result.is_ok() {
                    flows = rest;
                } else {
                    flows.extend(rest);
                }
            }
            self.pending.append(&mut flows);
        }
        result
    }

    fn replay(&mut self, cluster: &Cluster, index: usize) -> Result<(), HistoryError> {
        while let Some(batch) = self.spool.front(index)? {
            if self.send(cluster, index, &batch).is_err() {
                break;
            }
            self.spool.pop(index)?;
        }
        Ok(())
    }

    fn send(&mut self, cluster: &Cluster, index: usize, batch: &Batch) -> Result<(), Failure> {
        self.prepare(cluster, index)
            .map_err(|f| Failure::NotSent(f.why().to_owned()))?;
        let Some(server) = cluster.servers.get(index) else {
            return Err(Failure::NotSent("no such server".to_owned()));
        };
        self.noted(index, cluster.send(server, batch))
    }

    fn batch_of(
        &mut self,
        cluster: &Cluster,
        day: u16,
        flows: &[Flow],
    ) -> Result<Batch, HistoryError> {
        let number = self.spool.next_batch((self.now_ns)())?;
        let mut encoder = Encoder::default();
        for flow in flows {
            encoder.flow(&cluster.config.appliance, number, flow);
        }
        let start = |f: &Flow| interval_start_ns(f.first_ns, INTERVAL_S) / 1_000_000_000;
        Ok(Batch {
            batch: number,
            rows: flows.len(),
            day,
            start_s: flows.iter().map(start).min().unwrap_or(0),
            end_s: flows.iter().map(start).max().unwrap_or(0),
            bytes: encoder.bytes,
        })
    }

    /// Gives a batch to one server, or to the spool.
    fn place(
        &mut self,
        cluster: &Cluster,
        batch: &Batch,
        failing: Failing,
    ) -> Result<(), HistoryError> {
        let count = cluster.servers.len();
        let first = self.next % count.max(1);
        for index in (0..count).map(|k| (first + k) % count) {
            if !self.spool.is_empty(index) || self.is_skipped(index, failing) {
                continue;
            }
            match self.send(cluster, index, batch) {
                Ok(()) => {
                    self.next = index + 1;
                    return Ok(());
                }
                Err(failure) if failure.is_not_sent() => {}
                Err(_) => {
                    self.next = index + 1;
                    self.spool.push_unknown(index, batch);
                    return Ok(());
                }
            }
        }
        if self.spool.push(first, batch)? {
            self.next = first + 1;
            return Ok(());
        }
        Err(HistoryError::Engine {
            what: "keep flow records",
            why: format!(
                "no server takes them and the spool of {} bytes is full: {}",
                cluster.config.spool_bytes_max,
                self.failure().unwrap_or("no server was asked")
            ),
        })
    }

    /// Takes records; refuses them where neither a server nor the spool takes those before.
    pub(super) fn append(&mut self, cluster: &Cluster, flows: &[Flow]) -> Result<(), HistoryError> {
        if self.pending.len() >= cluster.config.batch_rows_max {
            self.push_out(cluster, Failing::Skip)?;
        }
        self.pending.extend_from_slice(flows);
        if self.pending.len() >= cluster.config.batch_rows_max {
            // They were taken: what goes wrong now is told by the state, and by the next flush.
            let _ = self.push_out(cluster, Failing::Skip);
        }
        Ok(())
    }

    /// Tells how the writing goes.
    pub(super) fn tell(&self, status: &mut Status) {
        status.unflushed = u64::try_from(self.pending.len()).unwrap_or(u64::MAX);
        status.spooled = self.spool.rows();
        status.error = self.failure().map(str::to_owned);
    }
}
