//! Instructions a packet, the regression number that no other load disturbs, against the recorded
//! ones of `perf/instructions.toml`.

use crate::micro::callgrind::{self, Counted};
use crate::micro::work::{COUNTED, Kind};
use crate::rows::{Effort, Outcome};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

/// A count may differ from the recorded one by this much, percent. In either direction: a record
/// that is too high would let the next growth pass.
const TOLERANCE_PERCENT: f64 = 5.0;
/// A function is recorded when it has at least this share of a kind's instructions, percent.
const FUNCTION_SHARE_MIN_PERCENT: f64 = 1.0;
/// Functions told of a kind that grew.
const FUNCTIONS_TOLD: usize = 5;
/// How the record is renewed.
const RENEW: &str = "cargo run --release --locked -p ringfence-perf -- instructions --write";
/// First lines of the record.
const HEAD: &str = "\
# Instructions a packet by callgrind, from frame to verdict, and the functions they are spent in. Kinds are\n\
# explained in src/micro/work.rs. A build that needs more than 5 % more, or less, fails a test. To renew the record\n\
# after a change that is meant, from the top of the repository:\n\
#\n";

/// Options of `ringfence-perf instructions`.
#[derive(clap::Args)]
pub(crate) struct Options {
    /// Only these kinds.
    #[arg(value_enum)]
    kinds: Vec<Kind>,
    /// Renew the record instead of comparing with it.
    #[arg(long)]
    write: bool,
    /// The record.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml"))]
    record: PathBuf,
}

/// Counts and compares, or counts and renews.
///
/// # Errors
/// A sentence: a count differs from the record, a kind is not recorded, or valgrind failed.
pub(crate) fn run(options: &Options) -> Result<(), String> {
    if !callgrind::is_here() {
        println!(
            "SKIPPED instructions: valgrind is not installed; install it with `apt-get install valgrind`"
        );
        return Ok(());
    }
    let kinds: &[Kind] = match options.kinds.as_slice() {
        [] => &Kind::ALL,
        some => some,
    };
    let counted = count(kinds)?;
    let recorded = match std::fs::read_to_string(&options.record) {
        Ok(text) => parse(&text)?,
        Err(_) if options.write => Record::new(),
        Err(error) => return Err(format!("{}: {error}", options.record.display())),
    };
    if options.write {
        let mut record = recorded;
        record.extend(counted);
        return std::fs::write(&options.record, text(&record))
            .map_err(|error| format!("{}: {error}", options.record.display()));
    }
    let wanted = |name: &String| kinds.iter().any(|kind| kind.name() == name);
    let expected: Record = recorded
        .into_iter()
        .filter(|(name, _)| wanted(name))
        .collect();
    print!("{}", table(&expected, &counted));
    compare(&expected, &counted)
}

/// The counts as a row of `bench`: the largest growth over the record, percent.
///
/// # Errors
/// As [`run`]; also where valgrind is not installed.
pub(crate) fn row(_: &Effort) -> Result<Outcome, String> {
    let path = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/instructions.toml"));
    let recorded =
        std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))?;
    let recorded = parse(&recorded)?;
    let counted = count(&Kind::ALL)?;
    let changes: Vec<f64> = counted
        .iter()
        .filter_map(|(name, count)| Some(count.growth_percent(recorded.get(name)?)))
        .collect();
    let most = changes.iter().copied().fold(f64::MIN, f64::max);
    let least = changes.iter().copied().fold(f64::MAX, f64::min);
    let told = counted
        .iter()
        .map(|(name, count)| format!("{name} {:.0}", count.a_packet));
    Ok(Outcome {
        value: most,
        spread: (least, most),
        samples: counted
            .iter()
            .map(|(name, count)| (name.clone(), vec![count.a_packet]))
            .collect(),
        told: told.collect::<Vec<_>>().join(", "),
        command: "ringfence-perf instructions".into(),
        ..Outcome::default()
    })
}

/// What one kind of packet takes.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Count {
    /// Instructions a packet.
    a_packet: f64,
    /// Of those, in each function itself.
    functions: BTreeMap<String, f64>,
}

impl Count {
    fn of(counted: &Counted, packets: f64) -> Self {
        let total = counted.total() as f64;
        let tenths = |instructions: f64| (instructions * 10.0).round() / 10.0;
        let least = total * FUNCTION_SHARE_MIN_PERCENT / 100.0;
        let functions = counted.functions.iter();
        Self {
            a_packet: tenths(total / packets),
            functions: functions
                .filter(|(_, cost)| **cost as f64 >= least)
                .map(|(name, cost)| (name.clone(), tenths(*cost as f64 / packets)))
                .collect(),
        }
    }

    fn growth_percent(&self, recorded: &Self) -> f64 {
        100.0 * (self.a_packet / recorded.a_packet - 1.0)
    }

    /// The functions that grew or shrank most: name, instructions recorded, instructions now.
    fn moved<'a>(&'a self, recorded: &'a Self) -> Vec<(&'a str, f64, f64)> {
        let names: std::collections::BTreeSet<&String> = self
            .functions
            .keys()
            .chain(recorded.functions.keys())
            .collect();
        let of = |count: &Self, name| count.functions.get(name).copied().unwrap_or(0.0);
        let mut moved: Vec<_> = names
            .into_iter()
            .map(|name| (name.as_str(), of(recorded, name), of(self, name)))
            .collect();
        moved.sort_by(|a, b| (b.2 - b.1).abs().total_cmp(&(a.2 - a.1).abs()));
        moved.truncate(FUNCTIONS_TOLD);
        moved
    }
}

/// Counts by the name of their kind.
type Record = BTreeMap<String, Count>;

fn count(kinds: &[Kind]) -> Result<Record, String> {
    let program = std::env::current_exe().map_err(|error| error.to_string())?;
    let count_one = |kind: &Kind| {
        let counted = callgrind::count(&program, &["work", kind.name()], COUNTED)?;
        let packets: f64 = counted.printed.parse().map_err(|_| {
            format!(
                "work {} printed {:?}, not a number",
                kind.name(),
                counted.printed
            )
        })?;
        Ok((kind.name().to_owned(), Count::of(&counted, packets)))
    };
    kinds.iter().map(count_one).collect()
}

fn parse(text: &str) -> Result<Record, String> {
    toml::from_str(text).map_err(|error| format!("instructions.toml: {error}"))
}

fn text(record: &Record) -> String {
    let body = toml::to_string(record).unwrap_or_default();
    format!("{HEAD}#     {RENEW}\n\n{body}")
}

fn table(recorded: &Record, counted: &Record) -> String {
    let mut text = String::from("instructions a packet   recorded   counted   change\n");
    for (name, count) in counted {
        let before = recorded.get(name);
        let _ = writeln!(
            text,
            "{name:<22} {:>9} {:>9.1} {:>8}",
            before.map_or("-".into(), |before| format!("{:.1}", before.a_packet)),
            count.a_packet,
            before.map_or("-".into(), |before| {
                format!("{:+.1} %", count.growth_percent(before))
            }),
        );
    }
    text
}

/// Nothing where every count is within the tolerance, else what differs, by which functions, and
/// what to do.
fn compare(recorded: &Record, counted: &Record) -> Result<(), String> {
    let mut differences = String::new();
    for (name, count) in counted {
        let Some(before) = recorded.get(name) else {
            let _ = writeln!(
                differences,
                "{name}: {:.1} instructions, none recorded",
                count.a_packet
            );
            continue;
        };
        let growth = count.growth_percent(before);
        if growth.abs() <= TOLERANCE_PERCENT {
            continue;
        }
        let grew = if growth > 0.0 { "grew" } else { "shrank" };
        let _ = writeln!(
            differences,
            "{name}: {grew} from {:.1} to {:.1} instructions ({growth:+.1} %)",
            before.a_packet, count.a_packet
        );
        for (function, was, is) in count.moved(before) {
            let _ = writeln!(
                differences,
                "    {:>+8.1}  {was:>7.1} -> {is:>7.1}  {function}",
                is - was
            );
        }
    }
    for name in recorded.keys().filter(|name| !counted.contains_key(*name)) {
        let _ = writeln!(differences, "{name}: recorded, and not counted any more");
    }
    if differences.is_empty() {
        return Ok(());
    }
    Err(format!(
        "instructions a packet differ from the record by more than {TOLERANCE_PERCENT} %:\n\
         {differences}if that is meant, say why in the commit and renew the record:\n    {RENEW}"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Name, instructions a packet, and those of some functions.
    type Kind<'a> = (&'a str, f64, &'a [(&'a str, f64)]);

    fn record(of: &[Kind<'_>]) -> Record {
        let count = |a_packet: f64, functions: &[(&str, f64)]| Count {
            a_packet,
            functions: functions
                .iter()
                .map(|(n, c)| ((*n).to_owned(), *c))
                .collect(),
        };
        of.iter()
            .map(|(name, a, f)| ((*name).to_owned(), count(*a, f)))
            .collect()
    }

    #[test]
    fn counts_within_five_percent_pass() {
        let before = record(&[("udp", 200.0, &[])]);
        for now in [190.2, 200.0, 209.8] {
            assert_eq!(compare(&before, &record(&[("udp", now, &[])])), Ok(()));
        }
    }

    #[test]
    fn growth_fails_and_names_the_function_and_the_command() {
        let before = record(&[("udp", 200.0, &[("read", 90.0), ("pass", 110.0)])]);
        let now = record(&[(
            "udp",
            211.0,
            &[("read", 91.0), ("pass", 110.0), ("log", 10.0)],
        )]);
        let error = compare(&before, &now).expect_err("grew by 5.5 %");
        assert!(error.contains("udp: grew from 200.0 to 211.0"), "{error}");
        let (log, read) = (error.find("  log"), error.find("  read"));
        assert!(log < read && log.is_some(), "{error}");
        assert!(error.contains(RENEW), "{error}");
    }

    #[test]
    fn a_record_that_is_too_high_fails_too() {
        let before = record(&[("udp", 200.0, &[])]);
        let error = compare(&before, &record(&[("udp", 189.0, &[])])).expect_err("shrank");
        assert!(error.contains("shrank"), "{error}");
    }

    #[test]
    fn a_kind_on_one_side_only_fails() {
        let (one, none) = (record(&[("udp", 200.0, &[])]), Record::new());
        assert!(compare(&none, &one).is_err());
        assert!(compare(&one, &none).is_err());
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let before = record(&[(
            "new-flow",
            801.5,
            &[("flow::cache::FlowCache::insert", 99.5)],
        )]);
        assert_eq!(parse(&text(&before)), Ok(before));
    }

    #[test]
    fn small_functions_are_not_recorded() {
        let functions = [("large", 9_950), ("small", 50)];
        let counted = Counted {
            functions: functions.map(|(n, c)| (n.to_owned(), c)).into(),
            printed: String::new(),
        };
        let count = Count::of(&counted, 100.0);
        assert_eq!(count.a_packet, 100.0);
        assert_eq!(count.functions, [("large".to_owned(), 99.5)].into());
    }
}
