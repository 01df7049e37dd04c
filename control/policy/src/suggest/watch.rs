//! For how long traffic has been watched, and whether that is enough.

/// Nanoseconds of an hour and of a day.
const HOUR_NS: u64 = 3_600_000_000_000;
const DAY_NS: u64 = 24 * HOUR_NS;
/// Days after which a week with all its work is likely to have been seen.
pub const DAYS_ENOUGH: u64 = 7;
/// Of all edges, so many in a thousand may be new in the last tenth of the period.
pub const NEW_PER_MILLE_MAX: u64 = 10;

/// What is still missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lack {
    /// Fewer days than [`DAYS_ENOUGH`].
    Days,
    /// Not every day of the week.
    Weekdays,
    /// Not every hour of the day.
    Hours,
    /// New edges still come.
    StillLearning,
}

/// How long was watched. Days and hours are those of UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watched {
    /// First packet, nanoseconds since the Unix epoch; 0 where there is none.
    pub first_ns: u64,
    /// Last packet, nanoseconds since the Unix epoch.
    pub last_ns: u64,
    /// Hours of the day in which something was seen, of 24.
    pub hours: u32,
    /// Days of the week in which something was seen, of 7.
    pub weekdays: u32,
    /// Edges seen: two ends and a service.
    pub edges: u64,
    /// Of those, seen first in the last tenth of the period.
    pub new_edges: u64,
    /// What is missing; nothing: it is enough.
    pub lacks: Vec<Lack>,
}

/// Sums under way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Watch {
    first_ns: Option<u64>,
    last_ns: u64,
    hours: u32,
    weekdays: u32,
}

impl Watch {
    pub(super) fn see(&mut self, first_ns: u64, last_ns: u64) {
        self.first_ns = Some(self.first_ns.map_or(first_ns, |ns| ns.min(first_ns)));
        self.last_ns = self.last_ns.max(last_ns);
        // A conversation ends within an hour of its beginning: both ends of it are enough.
        for ns in [first_ns, last_ns] {
            self.hours |= 1 << (ns / HOUR_NS % 24);
            // 1970-01-01 was a Thursday; which day comes first does not matter here.
            self.weekdays |= 1 << (ns / DAY_NS % 7);
        }
    }

    pub(super) fn told(self, first_seen: impl Iterator<Item = u64>) -> Watched {
        let first_ns = self.first_ns.unwrap_or(0);
        let length = self.last_ns.saturating_sub(first_ns);
        let last_tenth = self.last_ns.saturating_sub(length / 10);
        let (mut edges, mut new_edges) = (0, 0);
        for ns in first_seen {
            edges += 1;
            new_edges += u64::from(ns >= last_tenth);
        }
        let (hours, weekdays) = (self.hours.count_ones(), self.weekdays.count_ones());
        let lacks = [
            (length < DAYS_ENOUGH * DAY_NS, Lack::Days),
            (weekdays < 7, Lack::Weekdays),
            (hours < 24, Lack::Hours),
            (
                new_edges * 1_000 > edges * NEW_PER_MILLE_MAX,
                Lack::StillLearning,
            ),
        ];
        Watched {
            first_ns,
            last_ns: self.last_ns,
            hours,
            weekdays,
            edges,
            new_edges,
            lacks: lacks
                .into_iter()
                .filter(|(is_missing, _)| *is_missing)
                .map(|(_, lack)| lack)
                .collect(),
        }
    }
}
