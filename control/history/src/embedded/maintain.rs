//! Maintenance: roll up, merge, let go. Each step is one commit: a kill in its middle changes nothing, or everything.

use super::commit::{Change, Writer, pieces};
use super::conversation_table::{ConversationTable, Stored};
use super::files::{HOUR_NS, Held, StoredFile, Tier};
use super::nothing;
use super::parquet_file::{self, Content, Effort};
use super::state::{Snapshot, held};
use super::texts::Texts;
use super::totals::Totals;
use super::{EmbeddedHistory, lock};
use crate::{HistoryError, INTERVAL_S, LONG_INTERVAL_S};
use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use std::path::Path;
use std::sync::Arc;

/// Small files of one partition that are merged while rows still come.
const SMALL_FILES_MAX: usize = 16;
/// Flow records of a file that is not merged with others any more.
const FLOW_FILE_ROWS: u64 = 500_000;
/// Conversations of a part that is not merged with others before its hour is over.
const PART_ROWS: u64 = 65_536;
/// Flow records of a merged file, about.
const MERGED_ROWS_MAX: u64 = 8_000_000;
/// Hourly conversations of one day that are merged in memory; a day of more stays in several files.
const DAY_ROWS_MAX: u64 = 4_000_000;
/// How far the time by which rows go moves in one maintenance at most: a clock that jumps ahead and back costs no
/// more rows than this. Nanoseconds.
const AGE_STEP_NS: u64 = HOUR_NS;
const SECOND_NS: u64 = 1_000_000_000;

type Files = Vec<Arc<StoredFile>>;

impl EmbeddedHistory {
    /// Does what is due, while rows still come. Goes on after a step that failed; tells the first failure.
    pub(super) fn do_due(&self, now_ns: u64) -> Result<(), HistoryError> {
        let _alone = lock(&self.maintaining);
        let mut first = Ok(());
        let mut step = |result: Result<(), HistoryError>| {
            if first.is_ok() {
                first = result;
            }
        };
        for hour in snapshot(self)?.catalog.partitions_of(Tier::Short) {
            step(self.roll_up(hour, now_ns));
        }
        for hour in snapshot(self)?.catalog.partitions_of(Tier::Flows) {
            step(self.merge_flows(hour, now_ns));
        }
        for day in snapshot(self)?.catalog.partitions_of(Tier::Long) {
            step(self.merge_day(day, now_ns));
        }
        step(self.let_go(now_ns));
        first
    }

    /// Brings an hour of the short tier into the long one once it is over, or merges its small parts.
    fn roll_up(&self, hour: u64, now_ns: u64) -> Result<(), HistoryError> {
        let snapshot = snapshot(self)?;
        let files = snapshot.catalog.in_partition(Tier::Short, hour).to_vec();
        let parts: Files = files.iter().filter(|f| !f.rolled).cloned().collect();
        if parts.is_empty() {
            return Ok(());
        }
        if !is_over(self, Tier::Short, hour, now_ns) {
            let small: Files = parts
                .into_iter()
                .filter(|f| f.held.rows < PART_ROWS)
                .collect();
            if small.len() < SMALL_FILES_MAX {
                return Ok(());
            }
            let merged = |change: &mut Change| {
                let output = Output {
                    tier: Tier::Short,
                    partition: hour,
                    rolled: false,
                    effort: Effort::Quick,
                };
                self.add_up(&[output], &small, change)
            };
            return self.replace(&small, merged);
        }
        let day = hour / 24;
        let long = snapshot.catalog.in_partition(Tier::Long, day);
        let was_rolled = long.iter().any(|f| f.held.hours.contains(&hour));
        // Where retention took the short conversations of this hour, those that come late would be all of it.
        let stays = !was_rolled || files.iter().any(|f| f.rolled);
        self.replace(&files, |change| {
            let output = |tier: Tier, rolled| Output {
                tier,
                partition: tier.partition_of(hour),
                rolled,
                effort: Effort::Thorough,
            };
            let outputs = [output(Tier::Long, false), output(Tier::Short, true)];
            let outputs = if stays { &outputs } else { &outputs[..1] };
            self.add_up(outputs, &files, change)
        })
    }

    fn merge_day(&self, day: u64, now_ns: u64) -> Result<(), HistoryError> {
        let files = snapshot(self)?
            .catalog
            .in_partition(Tier::Long, day)
            .to_vec();
        let rows: u64 = files.iter().map(|f| f.held.rows).sum();
        let due = is_over(self, Tier::Long, day, now_ns) || files.len() >= SMALL_FILES_MAX;
        if files.len() < 2 || !due || rows > DAY_ROWS_MAX {
            return Ok(());
        }
        let output = Output {
            tier: Tier::Long,
            partition: day,
            rolled: false,
            effort: Effort::Thorough,
        };
        self.replace(&files, |change| self.add_up(&[output], &files, change))
    }

    /// Puts flow records of one hour together, in the order in which they came.
    fn merge_flows(&self, hour: u64, now_ns: u64) -> Result<(), HistoryError> {
        let snapshot = snapshot(self)?;
        let mut rows = 0;
        let small: Files = snapshot
            .catalog
            .in_partition(Tier::Flows, hour)
            .iter()
            .filter(|f| f.held.rows < FLOW_FILE_ROWS)
            .take_while(|f| {
                rows += f.held.rows;
                rows <= MERGED_ROWS_MAX
            })
            .cloned()
            .collect();
        let due = is_over(self, Tier::Flows, hour, now_ns) || small.len() >= SMALL_FILES_MAX;
        if small.len() < 2 || !due {
            return Ok(());
        }
        self.replace(&small, |change| {
            let mut total = Held {
                partition: hour,
                rows: 0,
                first_ns: u64::MAX,
                last_ns: 0,
                hours: Vec::new(),
            };
            for file in &small {
                total.rows += file.held.rows;
                total.first_ns = total.first_ns.min(file.held.first_ns);
                total.last_ns = total.last_ns.max(file.held.last_ns);
                total.hours.extend(&file.held.hours);
            }
            total.hours.sort_unstable();
            total.hours.dedup();
            let read = |file: &Arc<StoredFile>| {
                let read = parquet_file::read(&file.full_path(), Tier::Flows);
                let (batches, error) = match read {
                    Ok(batches) => (Some(batches), None),
                    Err(error) => (None, Some(Err(error))),
                };
                error.into_iter().chain(batches.into_iter().flatten())
            };
            let batches = small.iter().flat_map(read);
            let columns: Result<Vec<SchemaRef>, HistoryError> = small
                .iter()
                .map(|file| parquet_file::columns(&file.full_path(), Tier::Flows))
                .collect();
            let content = Content {
                tier: Tier::Flows,
                effort: Effort::Thorough,
                held: &total,
                columns: nothing::in_any(&parquet_file::schema(Tier::Flows), &columns?),
            };
            let file = self.write_file(false, &content, batches)?;
            change.add.push(file);
            Ok(())
        })
    }

    /// Adds conversations of files up into a file for each output; what was rolled up before, into the short tier alone.
    fn add_up(
        &self,
        outputs: &[Output],
        files: &[Arc<StoredFile>],
        change: &mut Change,
    ) -> Result<(), HistoryError> {
        let mut texts = Texts::default();
        let rows: u64 = files.iter().map(|f| f.held.rows).sum();
        let rows = usize::try_from(rows).unwrap_or(0);
        let mut tables: Vec<ConversationTable> = outputs
            .iter()
            .map(|output| ConversationTable::with_room(output.interval_s(), rows))
            .collect();
        for file in files {
            for batch in parquet_file::read(&file.full_path(), file.tier)? {
                let batch = batch?;
                let stored = Stored::new(&mut texts, &batch)?;
                for (output, table) in outputs.iter().zip(&mut tables) {
                    if !file.rolled || output.rolled {
                        table.add_stored(&stored);
                    }
                }
            }
        }
        let order = texts.order();
        for (output, table) in outputs.iter().zip(tables) {
            let batch: RecordBatch = table.into_batch(&texts, &order)?;
            let held = held(&batch, output.tier, output.partition)?;
            let content = Content {
                tier: output.tier,
                effort: output.effort,
                held: &held,
                columns: nothing::needed(&batch),
            };
            let file = self.write_file(output.rolled, &content, pieces(batch))?;
            change.add.push(file);
        }
        Ok(())
    }

    /// Writes files in the place of others; where those cannot be read, sets them aside.
    fn replace(
        &self,
        replaced: &[Arc<StoredFile>],
        write: impl FnOnce(&mut Change) -> Result<(), HistoryError>,
    ) -> Result<(), HistoryError> {
        let mut change = Change {
            remove: replaced.to_vec(),
            ..Change::default()
        };
        let written = write(&mut change);
        let done = lock(&self.writer).commit_written(self, written, change);
        if done.is_err() {
            self.set_aside_damaged(replaced)?;
        }
        done
    }

    /// Lets go what is too old, then what is too much.
    fn let_go(&self, now_ns: u64) -> Result<(), HistoryError> {
        let now_ns = lock(&self.writer).moved_on(&self.root, now_ns)?;
        let snapshot = snapshot(self)?;
        let mut remove = Files::new();
        for tier in Tier::ALL {
            let retention = self.options.retention(tier);
            let age_ns = retention.age_max_s.saturating_mul(SECOND_NS);
            let mut files: Files = snapshot.catalog.of(tier).cloned().collect();
            files.sort_by_key(|f| std::cmp::Reverse((f.held.last_ns, f.id)));
            let mut bytes = 0;
            for file in files {
                bytes += file.bytes;
                let is_old = file.held.last_ns.saturating_add(age_ns) < now_ns;
                if is_old || bytes > retention.bytes_max {
                    remove.push(file);
                }
            }
        }
        let book = lock(&self.names).clone();
        let oldest_ns = Tier::ALL
            .iter()
            .map(|t| self.options.retention(*t).age_max_s)
            .max()
            .map_or(0, |age_s| {
                now_ns.saturating_sub(age_s.saturating_mul(SECOND_NS))
            });
        let shorter = book.since(oldest_ns);
        if shorter != book {
            shorter.write(&self.root)?;
            *lock(&self.names) = shorter;
        }
        if remove.is_empty() {
            return Ok(());
        }
        let change = Change {
            remove,
            ..Change::default()
        };
        lock(&self.writer).commit_written(self, Ok(()), change)
    }
}

impl Writer {
    /// The time by which rows go, no more than a step after that of the last maintenance.
    fn moved_on(&mut self, root: &Path, now_ns: u64) -> Result<u64, HistoryError> {
        let before_ns = self.totals.maintained_ns;
        let now_ns = match before_ns {
            0 => now_ns,
            before_ns => now_ns.min(before_ns.saturating_add(AGE_STEP_NS)),
        };
        if now_ns > before_ns {
            self.totals = Totals {
                maintained_ns: now_ns,
                ..self.totals
            };
            self.totals.write(root)?;
        }
        Ok(now_ns)
    }
}

/// Which file conversations are added up into.
struct Output {
    tier: Tier,
    partition: u64,
    rolled: bool,
    effort: Effort,
}

impl Output {
    const fn interval_s(&self) -> u32 {
        match self.tier {
            Tier::Long => LONG_INTERVAL_S,
            Tier::Flows | Tier::Short => INTERVAL_S,
        }
    }
}

fn snapshot(engine: &EmbeddedHistory) -> Result<Snapshot, HistoryError> {
    let state = lock(&engine.state);
    Ok(Snapshot {
        catalog: state.catalog.clone(),
        hot: Vec::new(),
    })
}

/// Whether a partition's time is over, and most of what comes late has come.
fn is_over(engine: &EmbeddedHistory, tier: Tier, partition: u64, now_ns: u64) -> bool {
    let end_ns = tier.end_hour(partition).saturating_mul(HOUR_NS);
    let late_ns = engine.options.roll_up_after_s.saturating_mul(SECOND_NS);
    end_ns.saturating_add(late_ns) <= now_ns
}
