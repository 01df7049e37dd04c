//! Changes one workload in a policy text, and nothing else in it: comments and order stay.

use std::collections::BTreeMap;
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

/// What one workload is to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadChange {
    /// Its addresses from now on; none: as they are.
    pub addresses: Option<Vec<String>>,
    /// Labels to set, and those without a value to take away; others stay.
    pub labels: BTreeMap<String, Option<String>>,
    /// Take the whole workload out of the policy.
    pub remove: bool,
}

/// Why a text was not changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EditError {
    /// The text cannot be edited piece by piece.
    #[error("the policy cannot be edited in place ({0}); change its file and apply that")]
    Text(String),
    /// Removed, and not there.
    #[error("there is no workload `{0}`; `ringfence workloads` lists them")]
    NoWorkload(String),
    /// New, and without an address.
    #[error("there is no workload `{0}` yet, and a new one needs addresses: give --address")]
    NoAddress(String),
    /// Nothing would be different.
    #[error("workload `{0}` is so already")]
    Same(String),
    /// Not there.
    #[error("there is no segment `{0}`; `ringfence segments` lists them")]
    NoSegment(String),
    /// Nothing would be different.
    #[error("segment `{segment}` is in {mode} already")]
    SameMode {
        /// Segment.
        segment: String,
        /// Its mode.
        mode: &'static str,
    },
}

/// The tables of a text, to be edited.
pub(crate) fn document(text: &str) -> Result<DocumentMut, EditError> {
    text.parse().map_err(|error: toml_edit::TomlError| {
        EditError::Text(error.message().lines().collect::<Vec<_>>().join(", "))
    })
}

/// The text of some tables with the workload changed, or with it at their end where it is new.
pub(crate) fn workload(
    text: &str,
    name: &str,
    change: &WorkloadChange,
) -> Result<String, EditError> {
    let mut document = document(text)?;
    let tables = document
        .entry("workload")
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()))
        .as_array_of_tables_mut()
        .ok_or_else(|| EditError::Text("its workloads stand in one list".to_owned()))?;
    let is_it = |table: &Table| table.get("name").and_then(Item::as_str) == Some(name);
    let found = tables.iter().position(is_it);
    match (found, change.remove) {
        (None, true) => return Err(EditError::NoWorkload(name.to_owned())),
        (Some(at), true) => tables.remove(at),
        (Some(at), false) => {
            if let Some(table) = tables.get_mut(at) {
                set(table, change)?;
            }
        }
        (None, false) if change.addresses.as_ref().is_none_or(Vec::is_empty) => {
            return Err(EditError::NoAddress(name.to_owned()));
        }
        (None, false) => {
            let mut table = Table::new();
            table.insert("name", name.into());
            set(&mut table, change)?;
            tables.push(table);
        }
    }
    let changed = document.to_string();
    if changed == text {
        return Err(EditError::Same(name.to_owned()));
    }
    Ok(changed)
}

fn set(table: &mut Table, change: &WorkloadChange) -> Result<(), EditError> {
    if let Some(addresses) = &change.addresses {
        let same = table
            .get("addresses")
            .and_then(Item::as_array)
            .is_some_and(|old| {
                let old = old.iter().map(Value::as_str);
                old.eq(addresses.iter().map(|address| Some(address.as_str())))
            });
        if !same {
            let addresses: Array = addresses.iter().map(String::as_str).collect();
            put(table, "addresses", addresses.into());
        }
    }
    if change.labels.is_empty() {
        return Ok(());
    }
    if !table.contains_key("labels") {
        table.insert("labels", Value::InlineTable(InlineTable::new()).into());
    }
    let labels = table
        .get_mut("labels")
        .and_then(Item::as_table_like_mut)
        .ok_or_else(|| EditError::Text("its labels are no table".to_owned()))?;
    for (key, value) in &change.labels {
        match value {
            None => {
                labels.remove(key);
            }
            Some(value) if labels.get(key).and_then(Item::as_str) == Some(value) => {}
            Some(value) => {
                labels.insert(key, value.into());
            }
        }
    }
    if labels.is_empty() {
        table.remove("labels");
    }
    Ok(())
}

/// Puts a value where the old one stood, with what stood around it.
pub(crate) fn put(table: &mut Table, key: &str, value: Value) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = value;
            *old.decor_mut() = decor;
        }
        None => {
            table.insert(key, value.into());
        }
    }
}
