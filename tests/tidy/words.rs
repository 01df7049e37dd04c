//! Names that say nothing, and places that exist on one machine only.

use crate::assert_none;
use crate::source::{below_root, files, sources};

const EMPTY_NAMES: &[&str] = &[
    "manager", "helper", "helpers", "util", "utils", "common", "misc",
];
/// In pieces, so that this file does not find itself.
const MACHINE_PATHS: &[&str] = &[
    concat!("/wor", "k/"),
    concat!("/tmp/", "t-"),
    concat!("/ho", "me/"),
    concat!("/ro", "ot/"),
];
const TEXT: &[&str] = &[
    "rs", "toml", "md", "sh", "py", "tsv", "txt", "json", "c", "h", "lock", "service", "",
];

/// The words of a name: `FlowTable` and `flow_table` are flow, table.
fn parts(name: &str) -> Vec<String> {
    let mut parts = vec![String::new()];
    for c in name.chars() {
        if !c.is_alphanumeric() || c.is_uppercase() {
            parts.push(String::new());
        }
        if let Some(last) = parts.last_mut().filter(|_| c.is_alphanumeric()) {
            last.extend(c.to_lowercase());
        }
    }
    parts
}

fn says_nothing(name: &str) -> bool {
    parts(name)
        .iter()
        .any(|part| EMPTY_NAMES.contains(&part.as_str()))
}

#[test]
fn no_file_has_a_name_that_says_nothing() {
    let paths = files().into_iter().map(|path| below_root(&path));
    let findings: Vec<String> = paths
        .filter(|path| path.split('/').any(says_nothing))
        .collect();
    assert_none("names say what a thing is:", &findings);
}

#[test]
fn no_type_or_module_has_a_name_that_says_nothing() {
    let mut findings = Vec::new();
    for source in sources() {
        for (index, line) in source.code.lines().enumerate() {
            let mut words = line
                .split(|c: char| !c.is_alphanumeric() && c != '_')
                .filter(|word| !word.is_empty());
            while let Some(word) = words.next() {
                if ["struct", "enum", "trait", "type", "mod"].contains(&word)
                    && let Some(name) = words.next().filter(|name| says_nothing(name))
                {
                    findings.push(format!("{}:{}: {word} {name}", source.path, index + 1));
                }
            }
        }
    }
    assert_none("names say what a thing is:", &findings);
}

#[test]
fn no_path_of_one_machine_stands_in_the_tree() {
    let mut findings = Vec::new();
    for path in files() {
        let extension = path
            .extension()
            .map(|e| e.to_string_lossy().into_owned())
            .unwrap_or_default();
        if !TEXT.contains(&extension.as_str()) {
            continue;
        }
        let Ok(text) = std::fs::read_to_string(&path) else {
            continue;
        };
        for (index, line) in text.lines().enumerate() {
            findings.extend(
                MACHINE_PATHS
                    .iter()
                    .filter(|place| line.contains(*place))
                    .map(|place| format!("{}:{}: {place}", below_root(&path), index + 1)),
            );
        }
    }
    assert_none("the tree is the same on every machine:", &findings);
}

#[test]
fn names_are_split_into_words() {
    assert!(says_nothing("PortManager") && says_nothing("flow_utils.rs") && says_nothing("common"));
    assert!(
        !says_nothing("FlowTable") && !says_nothing("commonly") && !says_nothing("utility_token")
    );
}
