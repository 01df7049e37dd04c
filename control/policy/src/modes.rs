//! Changes how far segments have come, in a policy text, and nothing else in it.

use crate::edit::{EditError, document, put};
use abi::Mode;
use std::collections::BTreeMap;
use toml_edit::{ArrayOfTables, DocumentMut, Item, Table};

fn segments(document: &mut DocumentMut) -> Result<Option<&mut ArrayOfTables>, EditError> {
    match document.get_mut("segment") {
        None => Ok(None),
        Some(Item::ArrayOfTables(tables)) => Ok(Some(tables)),
        Some(_) => Err(EditError::Text("its segments stand in one list".to_owned())),
    }
}

fn set(table: &mut Table, mode: Mode) {
    if table.get("mode").and_then(Item::as_str) != Some(mode.name()) {
        put(table, "mode", mode.name().into());
    }
}

/// The text with one segment in another mode.
///
/// # Errors
/// [`EditError`]. Whether the text is still a valid policy is for [`crate::load`] to say.
pub fn set_mode(text: &str, segment: &str, mode: Mode) -> Result<String, EditError> {
    let mut document = document(text)?;
    let is_it = |table: &&mut Table| table.get("name").and_then(Item::as_str) == Some(segment);
    let tables = segments(&mut document)?.into_iter();
    let found = tables.flat_map(ArrayOfTables::iter_mut).find(is_it);
    let table = found.ok_or_else(|| EditError::NoSegment(segment.to_owned()))?;
    set(table, mode);
    let changed = document.to_string();
    if changed == text {
        return Err(EditError::SameMode {
            segment: segment.to_owned(),
            mode: mode.name(),
        });
    }
    Ok(changed)
}

/// The text with every segment in one mode: what would be decided about any segment's flows, had it
/// come so far.
///
/// # Errors
/// The text cannot be edited piece by piece.
pub fn set_every_mode(text: &str, mode: Mode) -> Result<String, EditError> {
    let mut document = document(text)?;
    let tables = segments(&mut document)?;
    for table in tables.into_iter().flat_map(ArrayOfTables::iter_mut) {
        set(table, mode);
    }
    Ok(document.to_string())
}

/// The modes of all segments in a text that may be of any age; none where it cannot be read.
#[must_use]
pub fn modes_in(text: &str) -> Option<BTreeMap<String, Mode>> {
    let mut document = document(text).ok()?;
    let tables = segments(&mut document).ok()?;
    let word = |table: &Table, key| table.get(key).and_then(Item::as_str).map(str::to_owned);
    let found = tables.into_iter().flat_map(|tables| tables.iter());
    let modes = found.filter_map(|table| {
        let mode = word(table, "mode")?;
        let mode = Mode::ALL.iter().copied().find(|m| m.name() == mode)?;
        Some((word(table, "name")?, mode))
    });
    Some(modes.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# two\n[[segment]]\nname = \"web\"   # first\nmode = \"observe\" # for now\n\
                        addresses = [\"10.0.0.0/8\"]\n\n[[segment]]\nname = \"db\"\nmode = \"test\"\n";

    #[test]
    fn one_mode_changes_and_every_other_byte_stays() {
        let changed = set_mode(TEXT, "web", Mode::Test).unwrap();
        assert_eq!(changed, TEXT.replace("\"observe\"", "\"test\""));
        let modes = modes_in(&changed).unwrap();
        assert_eq!(modes.get("web"), Some(&Mode::Test));
        assert_eq!((modes.len(), modes_in("not toml")), (2, None));
        assert_eq!(
            set_mode(TEXT, "ops", Mode::Test),
            Err(EditError::NoSegment("ops".into()))
        );
        let same = set_mode(TEXT, "db", Mode::Test).unwrap_err();
        assert_eq!(same.to_string(), "segment `db` is in test already");
        assert_eq!(
            set_mode("", "db", Mode::Test).unwrap_err().to_string(),
            "there is no segment `db`; `ringfence segments` lists them"
        );
    }

    #[test]
    fn every_mode_changes_at_once() {
        let all = set_every_mode(TEXT, Mode::Enforce).unwrap();
        let modes = modes_in(&all).unwrap();
        assert!(
            modes.values().all(|mode| *mode == Mode::Enforce),
            "{modes:?}"
        );
        assert!(all.contains("# for now"), "{all}");
        assert_eq!(set_every_mode("", Mode::Enforce).as_deref(), Ok(""));
    }
}
