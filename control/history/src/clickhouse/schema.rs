//! Tables, as a server of any release since 18.16 takes them.
//!
//! Each server keeps `NAME_local`; `NAME` is the same over all of them. Conversations are kept as states of sums that
//! the server's own merges add up: `batch` is the last batch that a row has in it.

use super::config::ClickHouseConfig;
use super::rows::{FLOW_TYPES, PLACE_COLUMNS};
use crate::question::{FLOW_COLUMNS, KEY_COLUMNS, SUM_COLUMNS};
use crate::{INTERVAL_S, LONG_INTERVAL_S};

/// First release whose tables are understood.
pub(super) const RELEASE_MIN: Release = Release(18, 16);
/// First release of which codecs, dictionaries in columns and times to live are asked.
const RELEASE_MODERN: Release = Release(20, 3);
/// Days after which a server lets go by itself of rows that their appliance should have let go of: it may be gone.
const GRACE_DAYS: u32 = 7;

/// A server's release: year and month of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Release(pub(super) u32, pub(super) u32);

impl Release {
    /// `18.16.1`, `25.3.2.39`; none where it is something else.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.trim().split('.');
        Some(Self(
            parts.next()?.parse().ok()?,
            parts.next()?.parse().ok()?,
        ))
    }
}

/// A length of conversations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tier {
    /// Table; `_local` behind it is the one of a server.
    pub(super) table: &'static str,
    /// Seconds.
    pub(super) interval_s: u32,
}

pub(super) const FIVE_MINUTES: Tier = Tier {
    table: "conversations_5m",
    interval_s: INTERVAL_S,
};
pub(super) const HOUR: Tier = Tier {
    table: "conversations_1h",
    interval_s: LONG_INTERVAL_S,
};

/// [`KEY_COLUMNS`] that a tier keeps: its interval is the same in every row.
pub(super) fn kept_keys() -> impl Iterator<Item = &'static str> {
    KEY_COLUMNS
        .iter()
        .copied()
        .filter(|c| *c != "interval_s" && *c != "start_s")
}

fn type_of(column: &str) -> &'static str {
    match column {
        "proto" | "folded" => "UInt8",
        "port" => "UInt16",
        _ => "String",
    }
}

/// Texts with few values, for releases that keep them as a dictionary.
fn is_word(column: &str) -> bool {
    !matches!(
        column,
        "src" | "dst" | "flow_id" | "outer_src" | "outer_dst" | "vlans"
    )
}

/// The type as a release has it best.
fn written(column: &str, plain: &str, release: Release) -> String {
    if release < RELEASE_MODERN {
        return format!("{column} {plain}");
    }
    match plain {
        "String" if is_word(column) => format!("{column} LowCardinality(String)"),
        "UInt64" if column.ends_with("_ns") => {
            format!("{column} UInt64 CODEC(Delta, ZSTD(1))")
        }
        _ => format!("{column} {plain}"),
    }
}

fn time_to_live(release: Release, days: u32) -> String {
    if release < RELEASE_MODERN {
        return String::new();
    }
    format!(
        " TTL day + INTERVAL {} DAY",
        days.saturating_add(GRACE_DAYS)
    )
}

fn flows_table(db: &str, release: Release, days: u32) -> String {
    let placed = PLACE_COLUMNS.iter().map(|(c, t)| written(c, t, release));
    let flow = FLOW_COLUMNS
        .iter()
        .zip(FLOW_TYPES)
        .map(|(c, t)| written(c, t, release));
    let columns: Vec<String> = placed.chain(flow).collect();
    format!(
        "CREATE TABLE IF NOT EXISTS {db}.flows_local ({}) ENGINE = MergeTree PARTITION BY (day, appliance) ORDER BY \
         (start_s, src, dst, proto, dport){}",
        columns.join(", "),
        time_to_live(release, days)
    )
}

fn conversations_table(db: &str, tier: Tier, release: Release, days: u32) -> String {
    let mut columns = vec![
        "day Date".to_owned(),
        written("appliance", "String", release),
        "start_s Int64".to_owned(),
    ];
    columns.extend(kept_keys().map(|c| written(c, type_of(c), release)));
    columns.push("last_s Int64".to_owned());
    columns.push("batch AggregateFunction(max, UInt64)".to_owned());
    columns.push("first_state AggregateFunction(min, UInt64)".to_owned());
    columns.push("last_state AggregateFunction(max, UInt64)".to_owned());
    let states = SUM_COLUMNS
        .iter()
        .map(|c| format!("{c}_state AggregateFunction(sum, UInt64)"));
    columns.extend(states);
    let keys: Vec<&str> = kept_keys().collect();
    format!(
        "CREATE TABLE IF NOT EXISTS {db}.{table}_local ({columns}) ENGINE = AggregatingMergeTree PARTITION BY (day, \
         appliance) PRIMARY KEY (start_s, src, dst) ORDER BY (start_s, {keys}, last_s){ttl}",
        table = tier.table,
        columns = columns.join(", "),
        keys = keys.join(", "),
        ttl = time_to_live(release, days),
    )
}

/// What there is of a tier, as a `SELECT` of whole conversations. `only` is a condition on columns of the table's key.
pub(super) fn whole_of(db: &str, tier: Tier, only: &str) -> String {
    let keys: Vec<&str> = kept_keys().collect();
    let keys = keys.join(", ");
    let sums: Vec<String> = SUM_COLUMNS
        .iter()
        .map(|c| format!("sumMerge({c}_state) AS {c}"))
        .collect();
    format!(
        "SELECT start_s, toUInt32({interval}) AS interval_s, {keys}, minMerge(first_state) AS first_ns, \
         maxMerge(last_state) AS last_ns, {sums} FROM {db}.{table} WHERE {only} GROUP BY start_s, {keys}",
        interval = tier.interval_s,
        sums = sums.join(", "),
        table = tier.table,
    )
}

/// Where the rows of one batch are: one day, one appliance, some intervals.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BatchRows<'a> {
    /// Its number, larger than those before.
    pub(super) batch: u64,
    /// Its appliance.
    pub(super) appliance: &'a str,
    /// Days since the Unix epoch.
    pub(super) day: u16,
    /// Beginning of the first interval, seconds.
    pub(super) start_s: u64,
    /// Beginning of the last one.
    pub(super) end_s: u64,
}

impl BatchRows<'_> {
    /// Rows of the batch's day, appliance and intervals.
    fn near(&self, interval_s: u32) -> String {
        let floor = |s: u64| s / u64::from(interval_s) * u64::from(interval_s);
        format!(
            "day = toDate({}) AND appliance = '{}' AND start_s >= {} AND start_s <= {}",
            self.day,
            self.appliance,
            floor(self.start_s),
            floor(self.end_s)
        )
    }

    fn flows(&self) -> String {
        format!("{} AND batch = {}", self.near(INTERVAL_S), self.batch)
    }

    /// Inserts the rows that come with it, all or none, unless they are there.
    pub(super) fn flows_insert(&self, db: &str, rows: usize) -> String {
        format!(
            "INSERT INTO {db}.flows_local SELECT * FROM rows WHERE (SELECT count() FROM rows) = {rows} AND (SELECT count() \
             FROM {db}.flows_local WHERE {}) = 0",
            self.flows()
        )
    }

    /// Inserts what the batch adds to a tier, out of its flow records, unless it is there. Batches of an appliance come
    /// to a server in their order, so that a row of this batch or of a later one says that it was there.
    pub(super) fn conversations_insert(&self, db: &str, tier: Tier) -> String {
        let interval = tier.interval_s;
        let start = format!("intDiv(start_s, {interval}) * {interval}");
        let last = format!("toInt64(intDiv(last_ns, {interval}000000000)) * {interval}");
        let keys: Vec<&str> = kept_keys().collect();
        let keys = keys.join(", ");
        let sums: Vec<String> = SUM_COLUMNS
            .iter()
            .map(|c| format!("sumState({c}) AS {c}_state"))
            .collect();
        format!(
            "INSERT INTO {db}.{table}_local SELECT day, appliance, {start} AS tier_start_s, {keys}, {last} AS last_s, \
             maxState(batch) AS batch_state, minState(first_ns) AS first_state, maxState(last_ns) AS last_state, {sums} \
             FROM {db}.flows_local WHERE {flows} AND ({there}) < {batch} GROUP BY day, appliance, {start}, {keys}, {last}",
            table = tier.table,
            sums = sums.join(", "),
            flows = self.flows(),
            there = self.last_batch(db, tier),
            batch = self.batch,
        )
    }

    fn last_batch(&self, db: &str, tier: Tier) -> String {
        format!(
            "SELECT maxMerge(batch) FROM {db}.{}_local WHERE {}",
            tier.table,
            self.near(tier.interval_s)
        )
    }

    /// How many of its rows are there, and the last batch in each tier, one a line.
    pub(super) fn what_is_there(&self, db: &str) -> String {
        format!(
            "SELECT (SELECT count() FROM {db}.flows_local WHERE {}), ({}), ({})",
            self.flows(),
            self.last_batch(db, FIVE_MINUTES),
            self.last_batch(db, HOUR)
        )
    }
}

fn distributed(db: &str, cluster: &str, table: &str) -> String {
    format!(
        "CREATE TABLE IF NOT EXISTS {db}.{table} AS {db}.{table}_local ENGINE = Distributed({cluster}, {db}, \
         {table}_local)"
    )
}

/// Conversations for questions in SQL: by the hour where they are no longer kept by 5 minutes.
fn conversations_view(db: &str) -> String {
    let keys: Vec<&str> = kept_keys().collect();
    let keys = keys.join(", ");
    let sums: Vec<String> = SUM_COLUMNS
        .iter()
        .map(|c| format!("sumMerge({c}_state) AS {c}"))
        .collect();
    let part = |tier: Tier, compare: &str| {
        let parts = format!(
            "SELECT appliance, start_s, {keys}, minMerge(first_state) AS first_ns, maxMerge(last_state) AS last_ns, \
             {} FROM {db}.{} GROUP BY appliance, start_s, {keys}",
            sums.join(", "),
            tier.table
        );
        format!(
            "SELECT appliance, start_s, toUInt32({}) AS interval_s, {keys}, first_ns, last_ns, {} FROM ({parts}) ANY \
             LEFT JOIN (SELECT appliance, max(before_s) AS before_s FROM {db}.boundaries GROUP BY appliance) USING \
             appliance WHERE start_s {compare} before_s",
            tier.interval_s,
            SUM_COLUMNS.join(", ")
        )
    };
    format!(
        "CREATE VIEW IF NOT EXISTS {db}.conversations AS SELECT * FROM ({} UNION ALL {})",
        part(FIVE_MINUTES, ">="),
        part(HOUR, "<")
    )
}

/// Everything that a server needs, in order.
pub(super) fn statements(config: &ClickHouseConfig, release: Release) -> Vec<String> {
    let (db, cluster) = (quoted(&config.database), quoted(&config.cluster));
    let mut all = vec![
        format!("CREATE DATABASE IF NOT EXISTS {db}"),
        flows_table(&db, release, config.flows_age_days),
        conversations_table(&db, FIVE_MINUTES, release, config.conversations_5m_age_days),
        conversations_table(&db, HOUR, release, config.conversations_1h_age_days),
        format!(
            "CREATE TABLE IF NOT EXISTS {db}.memberships_local (appliance String, noted UInt64, from_ns UInt64, until_ns \
             UInt64, prefix String, workload String, labels String, segments String, revision String) ENGINE = MergeTree \
             ORDER BY (appliance, from_ns, prefix, workload, noted)"
        ),
        format!(
            "CREATE TABLE IF NOT EXISTS {db}.boundaries_local (appliance String, before_s Int64) ENGINE = MergeTree ORDER \
             BY appliance"
        ),
    ];
    for table in [
        "flows",
        FIVE_MINUTES.table,
        HOUR.table,
        "memberships",
        "boundaries",
    ] {
        all.push(distributed(&db, &cluster, table));
    }
    all.push(conversations_view(&db));
    all
}

/// A name of the configuration, which has letters, digits, `_` and `-`.
pub(super) fn quoted(name: &str) -> String {
    format!("`{name}`")
}
