//! What goes, by age and by bytes: whole days of this appliance, as the servers keep them.
//!
//! Conversations of 5 minutes go only after it was written down that they are told by the hour: the time before which
//! they are is kept at the servers, moves first, and the days before it go at the next maintenance.

use super::schema::{FIVE_MINUTES, HOUR};
use super::{ClickHouseHistory, failed};
use crate::HistoryError;
use api::Ts;
use api::history::TierState;
use std::collections::BTreeMap;

const DAY_S: u64 = 86_400;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Size {
    rows: u64,
    bytes: u64,
    files: u64,
}

/// What a tier has of each day, days since the Unix epoch.
type Days = BTreeMap<u64, Size>;

/// Days that go: those before `oldest`, and the oldest of the rest while there are more bytes than may be. The newest
/// stays.
fn first_kept(days: &Days, oldest: u64, bytes_max: u64) -> u64 {
    let mut first = oldest;
    let mut bytes: u64 = days.range(first..).map(|(_, size)| size.bytes).sum();
    for (day, size) in days.range(oldest..) {
        if bytes <= bytes_max || days.last_key_value().is_some_and(|(last, _)| last == day) {
            break;
        }
        bytes -= size.bytes;
        first = day + 1;
    }
    first
}

/// `('2023-11-14','shop')`: day and appliance of a partition.
fn partition_of(text: &str) -> Option<(u64, &str)> {
    let (day, appliance) = text
        .strip_prefix("('")?
        .strip_suffix("')")?
        .split_once("','")?;
    let midnight: Ts = format!("{day}T00:00:00Z").parse().ok()?;
    Some((midnight.0 / 1_000_000_000 / DAY_S, appliance))
}

struct Tier {
    table: &'static str,
    name: &'static str,
    age_days: u32,
    bytes_max: u64,
}

impl ClickHouseHistory {
    fn tiers(&self) -> [Tier; 3] {
        let config = &self.cluster.config;
        [
            Tier {
                table: "flows",
                name: "flows",
                age_days: config.flows_age_days,
                bytes_max: config.flows_bytes_max,
            },
            Tier {
                table: FIVE_MINUTES.table,
                name: "conversations-5m",
                age_days: config.conversations_5m_age_days,
                bytes_max: config.conversations_5m_bytes_max,
            },
            Tier {
                table: HOUR.table,
                name: "conversations-1h",
                age_days: config.conversations_1h_age_days,
                bytes_max: config.conversations_1h_bytes_max,
            },
        ]
    }

    /// Lets go of what is beyond retention, and tells what there is then.
    pub(super) fn let_go(&self, now_ns: u64) -> Result<Vec<TierState>, HistoryError> {
        let today = now_ns / 1_000_000_000 / DAY_S;
        let own = &self.cluster.config.appliance;
        let boundaries = self.boundaries()?;
        let written = boundaries.iter().find(|(appliance, _)| appliance == own);
        let written_s = written.map_or(0, |(_, before)| u64::try_from(*before).unwrap_or(0));
        let mut states = Vec::new();
        for tier in self.tiers() {
            let mut days = self.days_of(tier.table)?;
            let oldest = today.saturating_sub(u64::from(tier.age_days));
            let mut first = first_kept(&days, oldest, tier.bytes_max);
            if tier.table == FIVE_MINUTES.table {
                if first * DAY_S > written_s && days.range(..first).next().is_some() {
                    self.write_boundary(first * DAY_S)?;
                }
                // A question that began before the boundary moved may still read them.
                first = written_s / DAY_S;
            }
            let kept = days.split_off(&first);
            for day in days.keys() {
                self.drop_day(tier.table, *day)?;
            }
            states.push(self.state_of(&tier, &kept)?);
        }
        Ok(states)
    }

    fn days_of(&self, table: &str) -> Result<Days, HistoryError> {
        let sql = format!(
            "SELECT partition, sum(rows), sum(bytes_on_disk), count() FROM system.parts WHERE active AND database = '{}' \
             AND table = '{table}_local' GROUP BY partition",
            self.cluster.config.database
        );
        let mut days = Days::new();
        for server in &self.cluster.servers {
            let mut found = Vec::new();
            server
                .rows(&sql, &[], &mut |row| {
                    found.push(row);
                    Ok(std::ops::ControlFlow::Continue(()))
                })
                .map_err(failed("look at its parts"))?;
            for row in found.into_iter().skip(2) {
                let mut row = super::Decoder::new(row);
                let partition = row.text()?;
                let Some((day, appliance)) = partition_of(&partition) else {
                    continue;
                };
                if appliance == self.cluster.config.appliance {
                    let size = days.entry(day).or_default();
                    size.rows += row.number::<u64>()?;
                    size.bytes += row.number::<u64>()?;
                    size.files += row.number::<u64>()?;
                }
            }
        }
        Ok(days)
    }

    fn write_boundary(&self, before_s: u64) -> Result<(), HistoryError> {
        let sql = format!(
            "INSERT INTO {}.boundaries_local VALUES ('{}', {before_s})",
            self.cluster.db(),
            self.cluster.config.appliance
        );
        let first = self.cluster.servers.first();
        let done = first.map(|server| server.ask(&sql, &[]));
        done.transpose().map_err(failed("roll up"))?;
        Ok(())
    }

    fn drop_day(&self, table: &str, day: u64) -> Result<(), HistoryError> {
        let midnight = Ts(day * DAY_S * 1_000_000_000).to_string();
        let date = midnight.split('T').next().unwrap_or_default();
        let sql = format!(
            "ALTER TABLE {}.{table}_local DROP PARTITION ('{date}', '{}')",
            self.cluster.db(),
            self.cluster.config.appliance
        );
        for server in &self.cluster.servers {
            server.ask(&sql, &[]).map_err(failed("let old rows go"))?;
        }
        Ok(())
    }

    fn state_of(&self, tier: &Tier, days: &Days) -> Result<TierState, HistoryError> {
        let (first, last) = if tier.table == "flows" {
            ("min(first_ns)", "max(last_ns)")
        } else {
            ("minMerge(first_state)", "maxMerge(last_state)")
        };
        let ends = days.first_key_value().zip(days.last_key_value());
        let times = match ends {
            None => Vec::new(),
            Some(((oldest, _), (newest, _))) => self.first_numbers(&format!(
                "SELECT {first}, {last} FROM {}.{} WHERE appliance = '{}' AND (day = toDate({oldest}) OR day = \
                 toDate({newest}))",
                self.cluster.db(),
                tier.table,
                self.cluster.config.appliance
            ))?,
        };
        let sum = |of: fn(&Size) -> u64| days.values().map(of).sum();
        Ok(TierState {
            name: tier.name.to_owned(),
            rows: sum(|s| s.rows),
            rolled_rows: 0,
            bytes: sum(|s| s.bytes),
            files: sum(|s| s.files),
            oldest_ts: times.first().copied().map(Ts),
            newest_ts: times.get(1).copied().map(Ts),
            age_max_s: u64::from(tier.age_days) * DAY_S,
            bytes_max: tier.bytes_max,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_go_by_age_and_then_the_oldest_by_bytes_but_never_the_newest() {
        let size = |bytes| Size {
            rows: 1,
            bytes,
            files: 1,
        };
        let days = Days::from([(10, size(50)), (11, size(50)), (12, size(50))]);
        assert_eq!(first_kept(&days, 0, 1000), 0);
        assert_eq!(first_kept(&days, 11, 1000), 11);
        assert_eq!(first_kept(&days, 0, 100), 11);
        assert_eq!(first_kept(&days, 0, 1), 12);
        assert_eq!(first_kept(&Days::new(), 7, 1), 7);
    }

    #[test]
    fn a_partition_is_a_day_and_an_appliance() {
        assert_eq!(
            partition_of("('2023-11-14','shop')"),
            Some((19_675, "shop"))
        );
        assert_eq!(partition_of("tuple()"), None);
    }
}
