//! The distributed engine: ClickHouse, when one machine is outgrown, or when several appliances write into one place.
//!
//! Rows go to the servers in batches and each batch to one of them ([`writer`]); what no server takes waits on the local
//! disk, bounded ([`spool`]). Questions are written by [`crate::question`] and asked of any server, which asks the
//! others. A question first sends what is pending, so that it is answered from everything that was taken.
//!
//! This module never waits for a server when it is opened: what is wrong with one is told by the state and by every
//! question, and is mended without a restart.

mod config;
mod names;
mod retention;
mod rows;
mod schema;
mod select;
mod server;
mod spool;
mod writer;

pub use config::{ClickHouseConfig, ClickHouseConfigError};

use crate::answer::{self, Value};
use crate::question::{ClickHouse, Question};
use crate::{History, HistoryError, SQL_ROWS_MAX, Selection};
use api::flow::Flow;
use api::history::{
    Conversation, CoverageShare, Edge, HistoryState, MatrixCell, Membership, RuleUse, SeriesPoint,
    SetAside, Table, TierState, TopLine,
};
use api::top::{Metric, TopBy};
use names::Names;
use rows::Decoder;
use schema::{FIVE_MINUTES, HOUR, Tier};
use server::{Failure, Server, Setting};
use spool::Spool;
use std::net::IpAddr;
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use writer::{Cluster, Failing, Writer, numbers};

const SECOND_NS: u64 = 1_000_000_000;

/// How it goes, told without waiting for a server.
#[derive(Clone, Debug, Default)]
struct Status {
    tiers: Vec<TierState>,
    appended: u64,
    unflushed: u64,
    shed: u64,
    spooled: u64,
    set_aside: Vec<SetAside>,
    error: Option<String>,
}

/// History in ClickHouse.
#[derive(Debug)]
pub struct ClickHouseHistory {
    cluster: Cluster,
    writer: Mutex<Writer>,
    names: Mutex<Names>,
    status: Mutex<Status>,
}

/// A lock whose value is whole at every moment, also when a thread panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn clock_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |d| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX))
}

fn failed(what: &'static str) -> impl Fn(Failure) -> HistoryError {
    move |failure| HistoryError::Engine {
        what,
        why: failure.why().to_owned(),
    }
}

impl ClickHouseHistory {
    /// Opens the engine, with what waits in `spool_dir`. No server is asked yet.
    ///
    /// # Errors
    /// The configuration, or the spool.
    pub fn open(config: ClickHouseConfig, spool_dir: &Path) -> Result<Self, HistoryError> {
        let configured = |e: ClickHouseConfigError| HistoryError::Engine {
            what: "read its configuration",
            why: e.to_string(),
        };
        config.validate().map_err(configured)?;
        let secret = config.secret().map_err(configured)?;
        let spool = Spool::open(spool_dir, &config.servers, config.spool_bytes_max)?;
        let names = Names::open(&spool_dir.join("names"))?;
        let servers: Vec<Server> = config
            .servers
            .iter()
            .map(|url| {
                Server::new(
                    url,
                    &config.user,
                    &secret,
                    Duration::from_millis(config.connect_timeout_ms),
                    Duration::from_millis(config.request_timeout_ms),
                )
            })
            .collect();
        let stray = |path: &std::path::PathBuf| SetAside {
            file: path.display().to_string(),
            why: "it waits for a server that is no longer configured".to_owned(),
        };
        let status = Status {
            spooled: spool.rows(),
            set_aside: spool
                .strays
                .iter()
                .filter(|p| !p.ends_with("names"))
                .map(stray)
                .collect(),
            ..Status::default()
        };
        Ok(Self {
            writer: Mutex::new(Writer::new(spool, servers.len(), clock_ns)),
            names: Mutex::new(names),
            status: Mutex::new(status),
            cluster: Cluster { config, servers },
        })
    }

    /// Sends everything that was taken.
    fn push_out(&self, failing: Failing) -> Result<(), HistoryError> {
        let mut writer = lock(&self.writer);
        let result = writer.push_out(&self.cluster, failing);
        writer.tell(&mut lock(&self.status));
        result
    }

    /// Every server has its tables.
    fn prepare_all(&self) -> Result<(), HistoryError> {
        let mut writer = lock(&self.writer);
        for index in 0..self.cluster.servers.len() {
            let prepared = writer.prepare(&self.cluster, index);
            writer.tell(&mut lock(&self.status));
            prepared.map_err(failed("prepare its tables"))?;
        }
        Ok(())
    }

    /// Every server has its tables, and everything that was taken.
    fn settle(&self) -> Result<(), HistoryError> {
        self.prepare_all()?;
        self.push_out(Failing::Retry)?;
        let status = lock(&self.status).clone();
        if status.spooled == 0 {
            return Ok(());
        }
        Err(HistoryError::Engine {
            what: "answer",
            why: format!(
                "{} rows wait for a server that is away: {}",
                status.spooled,
                status.error.as_deref().unwrap_or("it does not answer")
            ),
        })
    }

    /// Rows of a statement, of the first server that can be reached.
    fn each_row(
        &self,
        sql: &str,
        settings: &[Setting<'_>],
        each: &mut dyn FnMut(Vec<Option<String>>) -> Result<ControlFlow<()>, Failure>,
    ) -> Result<(), HistoryError> {
        let mut last = Failure::NotSent("no server is configured".to_owned());
        for server in &self.cluster.servers {
            match server.rows(sql, settings, each) {
                Ok(()) => return Ok(()),
                Err(failure) if failure.is_not_sent() => last = failure,
                Err(failure) => return Err(failed("answer")(failure)),
            }
        }
        Err(failed("answer")(last))
    }

    /// Names and types of columns, and rows.
    fn table(
        &self,
        sql: &str,
        settings: &[Setting<'_>],
    ) -> Result<Vec<Vec<Option<String>>>, HistoryError> {
        let mut rows = Vec::new();
        self.each_row(sql, settings, &mut |row| {
            rows.push(row);
            Ok(ControlFlow::Continue(()))
        })?;
        Ok(rows)
    }

    /// The numbers of the first row.
    fn first_numbers(&self, sql: &str) -> Result<Vec<u64>, HistoryError> {
        let rows = self.table(sql, &[])?;
        let row: Vec<String> = rows
            .into_iter()
            .nth(2)
            .unwrap_or_default()
            .into_iter()
            .flatten()
            .collect();
        Ok(numbers(&row.join("\t")))
    }

    /// `1 = 1`, or that rows are of this appliance.
    fn whose(&self) -> String {
        if self.cluster.config.own_rows_only {
            format!("appliance = '{}'", self.cluster.config.appliance)
        } else {
            "1 = 1".to_owned()
        }
    }

    /// Before which time each appliance's conversations are told by the hour.
    fn boundaries(&self) -> Result<Vec<(String, i64)>, HistoryError> {
        let sql = format!(
            "SELECT appliance, max(before_s) FROM {}.boundaries GROUP BY appliance",
            self.cluster.db()
        );
        let rows = self.table(&sql, &[])?;
        rows.into_iter()
            .skip(2)
            .map(|row| {
                let mut row = Decoder::new(row);
                Ok((row.text()?, row.number()?))
            })
            .collect()
    }

    /// Conversations, whole, as a subquery; of a time where one is given.
    fn conversations_source(&self, of: Option<&Selection>) -> Result<String, HistoryError> {
        let boundaries = self.boundaries()?;
        let rolled: Vec<String> = boundaries
            .iter()
            .map(|(appliance, before)| format!("appliance = '{appliance}' AND start_s < {before}"))
            .collect();
        let (recent, old) = if rolled.is_empty() {
            ("1 = 1".to_owned(), None)
        } else {
            let rolled = format!("({})", rolled.join(" OR "));
            (format!("NOT {rolled}"), Some(rolled))
        };
        let part = |tier: Tier, only: &str| -> Result<String, HistoryError> {
            let only = format!(
                "{only} AND {} AND {}",
                self.whose(),
                self.in_time(tier, of)?
            );
            Ok(schema::whole_of(&self.cluster.db(), tier, &only))
        };
        let recent = part(FIVE_MINUTES, &recent)?;
        Ok(match old {
            None => format!("({recent})"),
            Some(old) => format!("({recent} UNION ALL {})", part(HOUR, &old)?),
        })
    }

    /// A condition that leaves out intervals in which nothing of the selection's time can be. It never takes a
    /// conversation apart: it speaks of beginnings of intervals alone.
    fn in_time(&self, tier: Tier, of: Option<&Selection>) -> Result<String, HistoryError> {
        let Some(of) = of else {
            return Ok("1 = 1".to_owned());
        };
        // The largest second that the servers' 64 bits with a sign and the day's 16 take.
        let end_s = (of.until_ns / SECOND_NS).min(u64::from(u16::MAX) * 86_400);
        let mut condition = format!("start_s <= {end_s}");
        if of.since_ns > 0 {
            let interval = u64::from(tier.interval_s);
            let since_s = of.since_ns / SECOND_NS / interval * interval;
            // A record belongs to the interval of its first packet and may last long.
            let sql = format!(
                "SELECT min(start_s) FROM {}.{} WHERE last_s >= {since_s} AND start_s <= {end_s}",
                self.cluster.db(),
                tier.table
            );
            let first_s = self.first_numbers(&sql)?.first().copied().unwrap_or(0);
            let day = u16::try_from(first_s / 86_400).unwrap_or(0);
            condition.push_str(&format!(
                " AND start_s >= {first_s} AND day >= toDate({day})"
            ));
        }
        Ok(condition)
    }

    /// Rows of an answer, values by the types of their columns.
    fn values(&self, sql: &str) -> Result<Vec<Vec<Value>>, HistoryError> {
        let mut rows = self.table(sql, &[])?.into_iter().skip(1);
        let types = rows.next().unwrap_or_default();
        let is_number: Vec<bool> = types
            .iter()
            .map(|t| t.as_deref().is_some_and(|t| t.contains("Int")))
            .collect();
        let value = |(text, is_number): (Option<String>, &bool)| match (text, is_number) {
            (Some(text), true) => Value::Number(text.parse().unwrap_or(0)),
            (Some(text), false) => Value::Text(text),
            (None, _) => Value::Number(0),
        };
        Ok(rows
            .map(|row| row.into_iter().zip(&is_number).map(value).collect())
            .collect())
    }

    /// Rows of the answer to a question over conversations.
    fn answer(&self, question: &Question, of: &Selection) -> Result<Vec<Vec<Value>>, HistoryError> {
        of.check_kept()?;
        self.settle()?;
        let time = (!question.is_of_all_time()).then_some(of);
        let source = self.conversations_source(time)?;
        self.values(&question.sql(&ClickHouse, &source, of)?)
    }
}

impl History for ClickHouseHistory {
    fn append(&self, flows: &[Flow]) -> Result<(), HistoryError> {
        let count = u64::try_from(flows.len()).unwrap_or(u64::MAX);
        let mut writer = lock(&self.writer);
        let result = writer.append(&self.cluster, flows);
        let mut status = lock(&self.status);
        match &result {
            Ok(()) => status.appended += count,
            Err(_) => status.shed += count,
        }
        writer.tell(&mut status);
        result
    }

    fn flush(&self) -> Result<(), HistoryError> {
        self.push_out(Failing::Retry)?;
        // Names that no server takes now wait on the disk: they are safe.
        if let Err(error) = self.send_names() {
            tracing::warn!(%error, "names of history wait");
        }
        Ok(())
    }

    fn maintain(&self, now_ns: u64) -> Result<(), HistoryError> {
        self.prepare_all()?;
        let tiers = self.let_go(now_ns)?;
        lock(&self.status).tiers = tiers;
        Ok(())
    }

    fn flows(&self, of: &Selection, limit: u64) -> Result<Vec<Flow>, HistoryError> {
        self.settle()?;
        let source = format!("{}.flows", self.cluster.db());
        let sql = Question::Flows { limit }.sql(&ClickHouse, &source, of)?;
        let sql = sql.replacen(" WHERE ", &format!(" WHERE {} AND ", self.whose()), 1);
        let mut flows = Vec::new();
        for row in self.table(&sql, &[])?.into_iter().skip(2) {
            flows.push(Decoder::new(row).flow()?);
        }
        flows.reverse();
        Ok(flows)
    }

    fn conversations(
        &self,
        of: &Selection,
        each: &mut dyn FnMut(Conversation) -> ControlFlow<()>,
    ) -> Result<(), HistoryError> {
        of.check_kept()?;
        self.settle()?;
        let source = self.conversations_source(Some(of))?;
        let sql = Question::Conversations.sql(&ClickHouse, &source, of)?;
        let mut heads = 2;
        self.each_row(&sql, &[], &mut |row| {
            if heads > 0 {
                heads -= 1;
                return Ok(ControlFlow::Continue(()));
            }
            match Decoder::new(row).conversation() {
                Ok(conversation) => Ok(each(conversation)),
                Err(e) => Err(Failure::Refused(e.to_string())),
            }
        })
    }

    fn matrix(&self, of: &Selection) -> Result<Vec<MatrixCell>, HistoryError> {
        answer::matrix(self.answer(&Question::Matrix, of)?)
    }

    fn series(&self, of: &Selection, step_s: u32) -> Result<Vec<SeriesPoint>, HistoryError> {
        answer::series(self.answer(&Question::Series { step_s }, of)?)
    }

    fn top(
        &self,
        of: &Selection,
        by: TopBy,
        metric: Metric,
        limit: u64,
    ) -> Result<Vec<TopLine>, HistoryError> {
        answer::top(self.answer(&Question::Top { by, metric, limit }, of)?)
    }

    fn first_seen(&self, of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        answer::first_seen(self.answer(&Question::FirstSeen, of)?)
    }

    fn rule_use(&self, of: &Selection) -> Result<Vec<RuleUse>, HistoryError> {
        let decided = self.answer(&Question::RuleUse, of)?;
        answer::rule_use(decided, self.answer(&Question::PendingRuleUse, of)?)
    }

    fn coverage(&self, of: &Selection) -> Result<CoverageShare, HistoryError> {
        answer::coverage(self.answer(&Question::Coverage, of)?)
    }

    fn talkers(&self, workload: &str, of: &Selection) -> Result<Vec<Edge>, HistoryError> {
        let (workload, addresses) = match workload.parse::<IpAddr>() {
            Ok(address) => (address.to_string(), vec![address.to_string()]),
            Err(_) => {
                let workload = workload.to_owned();
                let question = Question::TalkerAddresses {
                    workload: workload.clone(),
                };
                (workload, answer::addresses(self.answer(&question, of)?)?)
            }
        };
        let question = Question::Talkers {
            workload,
            addresses,
        };
        answer::talkers(self.answer(&question, of)?)
    }

    fn sql(&self, text: &str) -> Result<Table, HistoryError> {
        let select = select::checked(text, &self.cluster.db())?;
        self.settle()?;
        let rows_max = (SQL_ROWS_MAX + 1).to_string();
        let settings = [
            ("readonly", "1"),
            ("database", self.cluster.config.database.as_str()),
            ("max_result_rows", rows_max.as_str()),
            ("result_overflow_mode", "break"),
            // A table over all servers inside another's question is read once, by the server that was asked.
            ("distributed_product_mode", "global"),
        ];
        let rows = self.table(&select, &settings).map_err(|e| match e {
            HistoryError::Engine { why, .. } => HistoryError::Sql { why },
            other => other,
        })?;
        let mut rows = rows.into_iter();
        let columns = rows.next().unwrap_or_default();
        let mut rows: Vec<_> = rows.skip(1).collect();
        let cut = rows.len() > SQL_ROWS_MAX;
        rows.truncate(SQL_ROWS_MAX);
        Ok(Table {
            columns: columns.into_iter().flatten().collect(),
            rows,
            cut,
        })
    }

    fn note_names(&self, at_ns: u64, names: &[Membership]) -> Result<(), HistoryError> {
        lock(&self.names).note(at_ns, names)
    }

    fn names(&self, since_ns: u64, until_ns: u64) -> Result<Vec<Membership>, HistoryError> {
        self.prepare_all()?;
        self.send_names()?;
        let mut names = self.names_kept(&self.whose())?;
        names.retain(|m| {
            m.from_ts.0 < until_ns && m.until_ts.is_none_or(|until| until.0 > since_ns)
        });
        names.sort_by(|a, b| {
            (a.from_ts, &a.prefix, &a.workload).cmp(&(b.from_ts, &b.prefix, &b.workload))
        });
        Ok(names)
    }

    fn state(&self) -> HistoryState {
        let status = lock(&self.status).clone();
        HistoryState {
            engine: "clickhouse".to_owned(),
            tiers: status.tiers,
            appended: status.appended,
            unflushed: status.unflushed,
            lost: 0,
            shed: status.shed,
            spooled: status.spooled,
            set_aside: status.set_aside,
            error: status.error,
        }
    }
}
