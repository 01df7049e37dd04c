//! `ringfence workload`

use clap::Subcommand;
use std::path::PathBuf;

/// `ringfence workload`
#[derive(Debug, Subcommand)]
pub enum WorkloadCommand {
    /// Give a workload addresses and labels; add it where it is new
    #[command(after_long_help = "\
Edits this one table in the text of the policy in force, applies that, and keeps it as a revision:
`ringfence policy show --text` prints it, `ringfence policy rollback` undoes it. Since rules stay as
they are, a large policy comes into force in a fraction of the time of `policy apply`.

Examples:
  ringfence workload set web-7 --address 10.0.1.17 --label app=shop --label role=web
  ringfence workload set web-1 --address 10.0.1.10 --address 10.0.3.10 -m 'second interface'
  ringfence workload set web-1 --label env=quarantine
  ringfence workload set web-1 --without-label canary")]
    Set {
        /// Workload
        name: String,
        /// Its addresses or prefixes from now on; repeatable [default: as they are]
        #[arg(long, value_name = "ADDRESS")]
        address: Vec<String>,
        /// Its DNS names from now on, whose addresses it has too; repeatable [default: as they are]
        #[arg(long, value_name = "NAME")]
        dns: Vec<String>,
        /// Give it this label; others stay; repeatable
        #[arg(long, value_name = "KEY=VALUE", value_parser = label)]
        label: Vec<(String, String)>,
        /// Take this label from it; repeatable
        #[arg(long, value_name = "KEY")]
        without_label: Vec<String>,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Take a workload out of the policy
    Remove {
        /// Workload
        name: String,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Bring a list of workloads, CSV or TOML, into the policy in force
    #[command(after_long_help = "\
A workload of the list has those addresses, DNS names and labels from then on. The list becomes part
of the policy's text, as one revision; to follow a file as it changes name it in control's
configuration instead: [inventory] files = [\"/etc/ringfence/workloads.csv\"].

Columns of a CSV: name, addresses and dns (several with a space or ; between them), labels (k=v;k=v),
label:KEY for a column of one label, comment. Exits 1 where the list or what came of it is not valid.

Examples:
  ringfence workload import assets.csv --dry-run
  ringfence workload import assets.csv -m 'from the asset database'
  ringfence workload import assets.csv --replace          take all other workloads out of the policy")]
    Import {
        /// The list
        file: PathBuf,
        /// Take out of the policy the workloads that are not in the list
        #[arg(long)]
        replace: bool,
        /// Change nothing, only say what would change
        #[arg(long)]
        dry_run: bool,
        /// Why; kept in the policy log
        #[arg(long, short = 'm', value_name = "TEXT", default_value = "")]
        note: String,
    },
    /// Inventories beside the policy and DNS names: what they hold, what is wrong
    #[command(after_long_help = "\
Example:
  ringfence workload inventory

Exits 1 where a file has an error, a name cannot be resolved, or a change is not in force.")]
    Inventory,
    /// What a workload's addresses, or an address's names, were and when
    #[command(after_long_help = "\
Examples:
  ringfence workload history web-1
  ringfence workload history 10.0.1.10 --since 30d")]
    History {
        /// Workload or address
        #[arg(value_name = "NAME|ADDRESS")]
        of: String,
        /// Names that held at or after this time, or a length before now: 30d, 12h [default: all]
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
    },
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() && !value.is_empty() => {
            Ok((key.to_owned(), value.to_owned()))
        }
        _ => Err(format!(
            "`{text}` is no label: write KEY=VALUE, for example app=shop"
        )),
    }
}
