//! Changes one workload in a policy text, and nothing else in it: comments and order stay.

use crate::validate::Workload;
use std::collections::{BTreeMap, HashMap, HashSet};
use toml_edit::{Array, ArrayOfTables, DocumentMut, InlineTable, Item, Table, Value};

/// What one workload is to become.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadChange {
    /// Its addresses from now on; none: as they are.
    pub addresses: Option<Vec<String>>,
    /// Its DNS names from now on; none: as they are.
    pub dns: Option<Vec<String>>,
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
    #[error(
        "there is no workload `{0}`; `ringfence workloads` lists them, `ringfence workload set NAME --address ADDRESS` adds one"
    )]
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
    let tables = workloads(&mut document)?;
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
        (None, false) if has_no_address(change) => {
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

fn has_no_address(change: &WorkloadChange) -> bool {
    let none = |list: &Option<Vec<String>>| list.as_ref().is_none_or(Vec::is_empty);
    none(&change.addresses) && none(&change.dns)
}

fn workloads(document: &mut DocumentMut) -> Result<&mut ArrayOfTables, EditError> {
    document
        .entry("workload")
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()))
        .as_array_of_tables_mut()
        .ok_or_else(|| EditError::Text("its workloads stand in one list".to_owned()))
}

/// What a list of workloads changes in a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Import {
    /// The text with the list in it; comments and order stay.
    pub text: String,
    /// Workloads that are new, in the order of the list.
    pub added: Vec<String>,
    /// Workloads that are another now.
    pub changed: Vec<String>,
    /// Workloads that are gone, in the order of the policy.
    pub removed: Vec<String>,
    /// Workloads that were so already.
    pub same_count: usize,
}

/// Brings a list of workloads into a policy's text, which has `own`. A workload of the list has
/// those addresses, DNS names and labels from then on and no others; with `replace` the policy has
/// those workloads and no others.
///
/// # Errors
/// The text cannot be edited.
pub fn import(
    text: &str,
    own: &[Workload],
    list: &[Workload],
    replace: bool,
) -> Result<Import, EditError> {
    let known: HashMap<&str, &Workload> = own.iter().map(|w| (w.name.as_str(), w)).collect();
    let listed: HashSet<&str> = list.iter().map(|w| w.name.as_str()).collect();
    let mut document = document(text)?;
    let tables = workloads(&mut document)?;
    let name_of = |table: &Table| table.get("name").and_then(Item::as_str).map(str::to_owned);
    let mut import = Import::default();
    if replace {
        let gone = own.iter().filter(|w| !listed.contains(w.name.as_str()));
        import.removed = gone.map(|w| w.name.clone()).collect();
        tables.retain(|table| name_of(table).is_none_or(|name| listed.contains(name.as_str())));
    }
    let places: HashMap<String, usize> = tables
        .iter()
        .enumerate()
        .filter_map(|(at, table)| Some((name_of(table)?, at)))
        .collect();
    for workload in list {
        let before = known.get(workload.name.as_str());
        if before.is_some_and(|before| is_same(before, workload)) {
            import.same_count += 1;
            continue;
        }
        let change = whole(workload, before.copied());
        match places
            .get(&workload.name)
            .and_then(|at| tables.get_mut(*at))
        {
            Some(table) => {
                set(table, &change)?;
                import.changed.push(workload.name.clone());
            }
            None => {
                let mut table = Table::new();
                table.insert("name", workload.name.as_str().into());
                set(&mut table, &change)?;
                tables.push(table);
                import.added.push(workload.name.clone());
            }
        }
    }
    if tables.is_empty() {
        document.remove("workload");
    }
    import.text = document.to_string();
    Ok(import)
}

/// Addresses as they are written, without those that came by DNS.
fn written(workload: &Workload) -> Vec<String> {
    let written = workload.addresses.len() - workload.resolved_count;
    let nets = workload.addresses[..written].iter();
    nets.map(|net| crate::prefix::Span::from(*net).to_string())
        .collect()
}

fn is_same(one: &Workload, other: &Workload) -> bool {
    let sorted = |workload| {
        let mut addresses = written(workload);
        addresses.sort_unstable();
        addresses
    };
    (&one.labels, &one.dns) == (&other.labels, &other.dns) && sorted(one) == sorted(other)
}

/// The change that makes a workload what the list says, and nothing else.
fn whole(workload: &Workload, before: Option<&Workload>) -> WorkloadChange {
    let gone = before.iter().flat_map(|before| before.labels.keys());
    let gone = gone.map(|key| (key.clone(), None));
    let labels = workload.labels.iter();
    let set = labels.map(|(key, value)| (key.clone(), Some(value.clone())));
    let had = |list: fn(&Workload) -> usize| before.is_some_and(|before| list(before) > 0);
    let addresses = written(workload);
    WorkloadChange {
        addresses: (!addresses.is_empty() || had(|w| w.addresses.len())).then_some(addresses),
        dns: (!workload.dns.is_empty() || had(|w| w.dns.len())).then(|| workload.dns.clone()),
        labels: gone.chain(set).collect(),
        remove: false,
    }
}

/// Puts a list in the place of an old one that is another. An empty list goes.
fn set_list(table: &mut Table, key: &str, wanted: &[String]) {
    let old = table.get(key).and_then(Item::as_array);
    let same = old.is_some_and(|old| {
        let old = old.iter().map(Value::as_str);
        old.eq(wanted.iter().map(|word| Some(word.as_str())))
    });
    if same {
        return;
    }
    if wanted.is_empty() {
        table.remove(key);
        return;
    }
    let words: Array = wanted.iter().map(String::as_str).collect();
    put(table, key, words.into());
}

fn set(table: &mut Table, change: &WorkloadChange) -> Result<(), EditError> {
    for (key, list) in [("addresses", &change.addresses), ("dns", &change.dns)] {
        if let Some(list) = list {
            set_list(table, key, list);
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
