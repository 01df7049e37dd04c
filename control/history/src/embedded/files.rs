//! Files of rows: what they are called, what they hold, and how long they stay.

use super::disk;
use super::journal::Journal;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

/// Seconds of an hour.
pub(super) const HOUR_S: u64 = 3600;
/// Nanoseconds of an hour.
pub(super) const HOUR_NS: u64 = HOUR_S * 1_000_000_000;

/// A tier of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Tier {
    /// Flow records.
    Flows,
    /// Conversations of 300 seconds.
    Short,
    /// Conversations of an hour.
    Long,
}

impl Tier {
    pub(super) const ALL: [Self; 3] = [Self::Flows, Self::Short, Self::Long];

    /// Its directory, and its name in the state.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::Short => "conversations-5m",
            Self::Long => "conversations-1h",
        }
    }

    /// The partition of an hour: a directory an hour, of hourly conversations a directory a day.
    pub(super) const fn partition_of(self, hour: u64) -> u64 {
        match self {
            Self::Flows | Self::Short => hour,
            Self::Long => hour / 24,
        }
    }

    /// First hour after the partition.
    pub(super) const fn end_hour(self, partition: u64) -> u64 {
        match self {
            Self::Flows | Self::Short => partition + 1,
            Self::Long => (partition + 1) * 24,
        }
    }

    /// `2026-11-23T05`, of a day `2026-11-23`.
    pub(super) fn partition_name(self, partition: u64) -> String {
        match self {
            Self::Flows | Self::Short => {
                format!("{}T{:02}", date(partition / 24), partition % 24)
            }
            Self::Long => date(partition),
        }
    }
}

/// Date of a day since 1970 (proleptic Gregorian; days from civil, of Howard Hinnant).
fn date(day: u64) -> String {
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_shifted = (5 * of_year + 2) / 153;
    let day = of_year - (153 * month_shifted + 2) / 5 + 1;
    let month = if month_shifted < 10 {
        month_shifted + 3
    } else {
        month_shifted - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}")
}

/// What a file says of itself, in its footer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Held {
    pub partition: u64,
    pub rows: u64,
    /// First packet.
    pub first_ns: u64,
    /// Last packet.
    pub last_ns: u64,
    /// Hours since 1970 in which conversations begin; of flow records, the first packets.
    pub hours: Vec<u64>,
}

/// A file of rows. It stays on disk while anybody reads it, also when it has been replaced.
#[derive(Debug)]
pub(super) struct StoredFile {
    pub tier: Tier,
    pub id: u64,
    /// Of the short tier: its rows are in the long tier too.
    pub rolled: bool,
    /// Directory of the engine.
    pub root: PathBuf,
    /// Below the engine's directory.
    pub path: String,
    pub bytes: u64,
    pub held: Held,
    /// By whose commit it is gone.
    pub gone: Mutex<Option<Arc<Journal>>>,
}

impl StoredFile {
    pub(super) fn full_path(&self) -> PathBuf {
        self.root.join(&self.path)
    }

    /// Removes it from disk once nobody reads it any more, and the journal after the last of its files.
    pub(super) fn doom(&self, journal: &Arc<Journal>) {
        let mut gone = self.gone.lock().unwrap_or_else(PoisonError::into_inner);
        *gone = Some(Arc::clone(journal));
    }
}

impl Drop for StoredFile {
    fn drop(&mut self) {
        let gone = self.gone.get_mut().unwrap_or_else(PoisonError::into_inner);
        if gone.is_some() {
            disk::remove(&self.root.join(&self.path));
            // An empty directory goes with its last file; one that is not empty stays.
            if let Some(dir) = self.root.join(&self.path).parent() {
                let _ = std::fs::remove_dir(dir);
            }
        }
    }
}

/// `flows/2026-11-23T05/0000000000000007.parquet`; `.rolled` stands before the ending.
pub(super) fn file_path(tier: Tier, partition: u64, id: u64, rolled: bool) -> String {
    let rolled = if rolled { ".rolled" } else { "" };
    format!(
        "{}/{}/{id:016x}{rolled}.parquet",
        tier.name(),
        tier.partition_name(partition)
    )
}

/// Id and whether it is rolled, out of a file's name.
pub(super) fn file_name(name: &str) -> Option<(u64, bool)> {
    let stem = name.strip_suffix(".parquet")?;
    let (id, rolled) = match stem.strip_suffix(".rolled") {
        Some(id) => (id, true),
        None => (stem, false),
    };
    Some((u64::from_str_radix(id, 16).ok()?, rolled))
}

/// Every file, by tier and partition, in the order in which they were written.
#[derive(Clone, Default)]
pub(super) struct Catalog {
    pub partitions: BTreeMap<(Tier, u64), Vec<Arc<StoredFile>>>,
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Catalog of {} partitions", self.partitions.len())
    }
}

impl Catalog {
    pub(super) fn add(&mut self, file: Arc<StoredFile>) {
        let files = self
            .partitions
            .entry((file.tier, file.held.partition))
            .or_default();
        files.push(file);
        files.sort_by_key(|f| f.id);
    }

    pub(super) fn remove(&mut self, file: &StoredFile) {
        let place = (file.tier, file.held.partition);
        if let Some(files) = self.partitions.get_mut(&place) {
            files.retain(|f| f.id != file.id);
            if files.is_empty() {
                self.partitions.remove(&place);
            }
        }
    }

    pub(super) fn of(&self, tier: Tier) -> impl Iterator<Item = &Arc<StoredFile>> {
        let all = (tier, 0)..=(tier, u64::MAX);
        self.partitions.range(all).flat_map(|(_, files)| files)
    }

    pub(super) fn in_partition(&self, tier: Tier, partition: u64) -> &[Arc<StoredFile>] {
        self.partitions
            .get(&(tier, partition))
            .map_or(&[], Vec::as_slice)
    }

    pub(super) fn partitions_of(&self, tier: Tier) -> Vec<u64> {
        let all = (tier, 0)..=(tier, u64::MAX);
        self.partitions.range(all).map(|((_, p), _)| *p).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_named_by_their_date() {
        assert_eq!(Tier::Flows.partition_name(0), "1970-01-01T00");
        let hour = 1_795_410_000 / HOUR_S;
        assert_eq!(Tier::Short.partition_name(hour), "2026-11-23T05");
        assert_eq!(Tier::Long.partition_name(hour / 24), "2026-11-23");
        assert_eq!(Tier::Long.partition_name(11_016), "2000-02-29");
        assert!(
            Tier::Flows
                .partition_name(u64::MAX / HOUR_NS)
                .starts_with("2554-")
        );
    }

    #[test]
    fn names_of_files_come_back() {
        let path = file_path(Tier::Short, 24, 255, true);
        assert_eq!(
            path,
            "conversations-5m/1970-01-02T00/00000000000000ff.rolled.parquet"
        );
        assert_eq!(
            file_name("00000000000000ff.rolled.parquet"),
            Some((255, true))
        );
        assert_eq!(file_name("0000000000000007.parquet"), Some((7, false)));
        assert_eq!(file_name("x.parquet.tmp"), None);
    }
}
