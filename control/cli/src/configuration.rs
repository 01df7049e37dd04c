//! Configurations that `up` and `replay` hand to the two processes: what a file says, with what the
//! command line says on top. Keys and bounds are the processes' to judge; here only tables merge.

use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use toml::{Table, Value};

use crate::error::CliError;

/// Reads a configuration file.
pub(crate) fn load(path: &Path) -> Result<Table, CliError> {
    let text = crate::commands::read(path)?;
    toml::from_str(&text).map_err(|error| CliError::Configuration {
        path: path.to_owned(),
        message: error.to_string(),
    })
}

/// Sets `section.key`, making the section where it is missing.
pub(crate) fn set(table: &mut Table, section: &str, key: &str, value: impl Into<Value>) {
    let section = table
        .entry(section)
        .or_insert_with(|| Value::Table(Table::new()));
    // A section that is no table is left alone: the process names it in its own message.
    if let Value::Table(section) = section {
        section.insert(key.to_owned(), value.into());
    }
}

/// The text at `section.key`.
pub(crate) fn text<'a>(table: &'a Table, section: &str, key: &str) -> Option<&'a str> {
    table.get(section)?.get(key)?.as_str()
}

/// A path as a TOML text. Paths that are not UTF-8 cannot be written in TOML.
pub(crate) fn path_text(path: &Path) -> String {
    path.display().to_string()
}

/// Writes a configuration that only its owner may read.
pub(crate) fn write(path: &Path, table: &Table) -> Result<(), CliError> {
    let unwritable = |source| CliError::Unwritable {
        path: path.to_owned(),
        source,
    };
    let mut options = std::fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .map_err(unwritable)?;
    file.write_all(table.to_string().as_bytes())
        .map_err(unwritable)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_stands_above_the_file_and_leaves_the_rest() {
        let mut table: Table =
            toml::from_str("[dataplane]\nidle = \"none\"\nmain_cpu = 3\n[flow]\nflows_max = 9\n")
                .unwrap();
        set(&mut table, "dataplane", "idle", "sleep");
        set(&mut table, "eal", "file_prefix", "own");
        assert_eq!(text(&table, "dataplane", "idle"), Some("sleep"));
        assert_eq!(table["dataplane"]["main_cpu"].as_integer(), Some(3));
        assert_eq!(table["flow"]["flows_max"].as_integer(), Some(9));
        assert_eq!(text(&table, "eal", "file_prefix"), Some("own"));
    }
}
