//! Answers made from history.

use crate::app::App;
use crate::clock::now_ns;
use crate::questions::{bad, bad_filter};
use api::Ts;
use api::error::{ApiError, ErrorCode};
use api::filter::Filter;
use api::flow::Flow;
use api::history::{
    Conversation, CoverageShare, Edge, HistoryQuery, HistoryState, MatrixCell, Membership, Rows,
    RuleUse, SeriesPoint, Table, TopLine,
};
use api::top::{Metric, TopBy};
use history::{HistoryError, INTERVAL_S, Selection};
use std::ops::ControlFlow;

/// Rows of an answer where the question says nothing.
pub const LIMIT_DEFAULT: u64 = 100;
/// Rows of the largest where the question says nothing.
const TOP_DEFAULT: u64 = 20;

/// Tells an error of history as the API does.
///
/// # Errors
/// What history said, under the code that clients know.
pub fn told<T>(asked: Result<T, HistoryError>) -> Result<T, ApiError> {
    asked.map_err(|error| {
        let code = match &error {
            HistoryError::NotKept { .. } | HistoryError::Sql { .. } => ErrorCode::BadRequest,
            HistoryError::Off => ErrorCode::NotFound,
            HistoryError::File { .. } | HistoryError::Engine { .. } => ErrorCode::Storage,
        };
        ApiError::new(code, error.to_string())
    })
}

/// A time, or a length of time before now: `2026-01-31T12:00:00Z`, nanoseconds, `30d`, `12h`.
///
/// # Errors
/// Bad request, with what would have been understood.
pub fn time_ns(parameter: &str, text: &str, now_ns: u64) -> Result<u64, ApiError> {
    let begins_as_length = text.ends_with(|c: char| c.is_ascii_alphabetic() && c != 'Z');
    if begins_as_length && let Ok(length) = humantime::parse_duration(text) {
        let ns = u64::try_from(length.as_nanos()).unwrap_or(u64::MAX);
        return Ok(now_ns.saturating_sub(ns));
    }
    text.parse::<Ts>().map(|ts| ts.0).map_err(|_| {
        let what = format!("`{text}` is no time");
        bad(
            parameter,
            what,
            "write it as 2026-01-31T12:00:00Z, as 2026-01-31 or 2026-01-31 12:00 in UTC, as nanoseconds since 1970, or as \
             a length before now: 30d, 12h, 5m",
        )
    })
}

/// What a question is about.
///
/// # Errors
/// Bad request, with the parameter, and the column of the filter.
pub fn selection(query: &HistoryQuery, now_ns: u64) -> Result<Selection, ApiError> {
    let time = |name: &str, text: &Option<String>, none: u64| match text {
        None => Ok(none),
        Some(text) => time_ns(name, text, now_ns),
    };
    let text = query.filter.as_deref().unwrap_or_default();
    let selection = Selection {
        since_ns: time("since", &query.since, 0)?,
        until_ns: time("until", &query.until, u64::MAX)?,
        filter: Filter::parse(text).map_err(bad_filter)?,
    };
    if selection.since_ns >= selection.until_ns {
        let what = "since is not before until".to_owned();
        return Err(bad("since", what, "name a period that has a length"));
    }
    Ok(selection)
}

/// At most `limit` rows (0 all), and whether there were more.
fn cut<T>(mut rows: Vec<T>, limit: u64) -> Rows<T> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let is_cut = limit != 0 && rows.len() > limit;
    if is_cut {
        rows.truncate(limit);
    }
    Rows { rows, cut: is_cut }
}

impl App {
    fn selected(&self, query: &HistoryQuery) -> Result<(Selection, u64), ApiError> {
        let limit = query.limit.unwrap_or(LIMIT_DEFAULT);
        Ok((selection(query, now_ns())?, limit))
    }

    /// `GET /v1/history`.
    #[must_use]
    pub fn history_state(&self) -> HistoryState {
        use std::sync::atomic::Ordering::Relaxed;
        let counters = self.history_writer.counters();
        let mut state = self.history.state();
        state.shed += counters.shed.load(Relaxed) + counters.refused.load(Relaxed);
        state
    }

    /// `GET /v1/history/flows`: the newest, oldest first.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_flows(&self, query: &HistoryQuery) -> Result<Rows<Flow>, ApiError> {
        let (of, limit) = self.selected(query)?;
        let one_more = if limit == 0 { 0 } else { limit + 1 };
        let mut rows = told(self.history.flows(&of, one_more))?;
        let kept = usize::try_from(limit).unwrap_or(usize::MAX);
        let is_cut = limit != 0 && rows.len() > kept;
        if is_cut {
            rows.drain(..rows.len() - kept);
        }
        Ok(Rows { rows, cut: is_cut })
    }

    /// `GET /v1/history/conversations`: the newest interval first, by bytes within.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_conversations(
        &self,
        query: &HistoryQuery,
    ) -> Result<Rows<Conversation>, ApiError> {
        let (of, limit) = self.selected(query)?;
        let mut rows = Vec::new();
        let each = &mut |conversation: Conversation| {
            rows.push(conversation);
            ControlFlow::Continue(())
        };
        told(self.history.conversations(&of, each))?;
        rows.sort_by_cached_key(|c| {
            let newest = std::cmp::Reverse((c.start_ts, c.sums.bytes()));
            (newest, c.src, c.dst, c.proto, c.port)
        });
        Ok(cut(rows, limit))
    }

    /// `GET /v1/history/matrix`.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_matrix(&self, query: &HistoryQuery) -> Result<Rows<MatrixCell>, ApiError> {
        let (of, limit) = self.selected(query)?;
        Ok(cut(told(self.history.matrix(&of))?, limit))
    }

    /// `GET /v1/history/series`.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_series(&self, query: &HistoryQuery) -> Result<Rows<SeriesPoint>, ApiError> {
        let (of, _) = self.selected(query)?;
        let text = query.step.as_deref().unwrap_or("1h");
        let step_s = humantime::parse_duration(text)
            .ok()
            .and_then(|step| u32::try_from(step.as_secs()).ok())
            .filter(|step| *step > 0 && step.is_multiple_of(INTERVAL_S))
            .ok_or_else(|| {
                let what = format!("`{text}` is no multiple of five minutes");
                bad("step", what, "write 5m, 1h, 1d")
            })?;
        Ok(cut(told(self.history.series(&of, step_s))?, 0))
    }

    /// `GET /v1/history/top`.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_top(&self, query: &HistoryQuery) -> Result<Rows<TopLine>, ApiError> {
        let of = selection(query, now_ns())?;
        let by = query.by.unwrap_or(TopBy::Pairs);
        let metric = query.metric.unwrap_or(Metric::Bytes);
        let limit = query.limit.unwrap_or(TOP_DEFAULT);
        let one_more = if limit == 0 { 0 } else { limit + 1 };
        let lines = told(self.history.top(&of, by, metric, one_more))?;
        Ok(cut(lines, limit))
    }

    /// `GET /v1/history/first-seen`.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_first_seen(&self, query: &HistoryQuery) -> Result<Rows<Edge>, ApiError> {
        let (of, limit) = self.selected(query)?;
        let mut edges = told(self.history.first_seen(&of))?;
        // The newest are what a person asks for.
        edges.reverse();
        let mut rows = cut(edges, limit);
        rows.rows.reverse();
        Ok(rows)
    }

    /// `GET /v1/history/rules`.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_rules(&self, query: &HistoryQuery) -> Result<Rows<RuleUse>, ApiError> {
        let (of, limit) = self.selected(query)?;
        Ok(cut(told(self.history.rule_use(&of))?, limit))
    }

    /// `GET /v1/history/coverage`.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_coverage(&self, query: &HistoryQuery) -> Result<CoverageShare, ApiError> {
        let (of, _) = self.selected(query)?;
        told(self.history.coverage(&of))
    }

    /// `GET /v1/history/talkers`.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_talkers(&self, query: &HistoryQuery) -> Result<Rows<Edge>, ApiError> {
        let (of, limit) = self.selected(query)?;
        let Some(workload) = query.workload.as_deref() else {
            let what = "whose talkers is not said".to_owned();
            return Err(bad("workload", what, "name a workload or an address"));
        };
        Ok(cut(told(self.history.talkers(workload, &of))?, limit))
    }

    /// `GET /v1/history/names`.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_names(&self, query: &HistoryQuery) -> Result<Rows<Membership>, ApiError> {
        let (of, limit) = self.selected(query)?;
        let mut names = told(self.history.names(of.since_ns, of.until_ns))?;
        if let Some(wanted) = query.workload.as_deref() {
            let host = wanted.parse::<std::net::IpAddr>().ok();
            names.retain(|name| {
                *name.workload == *wanted || host.is_some_and(|host| holds(&name.prefix, host))
            });
        }
        Ok(cut(names, limit))
    }

    /// `POST /v1/history/sql`.
    ///
    /// # Errors
    /// Bad request, or history does not answer.
    pub fn history_sql(&self, sql: &str) -> Result<Table, ApiError> {
        told(self.history.sql(sql))
    }
}

/// Whether a prefix, or a single address, holds an address.
fn holds(prefix: &str, host: std::net::IpAddr) -> bool {
    let whole = prefix
        .parse::<std::net::IpAddr>()
        .is_ok_and(|one| one == host);
    whole
        || prefix
            .parse::<ipnet::IpNet>()
            .is_ok_and(|net| net.contains(&host))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_point_or_a_length_before_now() {
        let now = 1_800_000_000_000_000_000;
        let day = 86_400_000_000_000;
        assert_eq!(time_ns("since", "2d", now).ok(), Some(now - 2 * day));
        assert_eq!(
            time_ns("since", "1970-01-02T00:00:00Z", now).ok(),
            Some(day)
        );
        assert_eq!(time_ns("since", "42", now).ok(), Some(42));
        let refused = time_ns("until", "yesterday", now).unwrap_err();
        assert!(refused.details[0].mend.contains("30d"), "{refused:?}");
        assert_eq!(refused.details[0].file, "until");
    }

    #[test]
    fn a_period_without_length_is_refused() {
        let query = HistoryQuery {
            since: Some("5".to_owned()),
            until: Some("5".to_owned()),
            ..HistoryQuery::default()
        };
        assert!(selection(&query, 0).is_err());
    }
}
