//! Documents: a README in every room, a changelog that can be read by rule, promises with tests, and no
//! recorded file that nothing reads.

use ringfence_tests::places::root;

use crate::assert_none;
use crate::source::{below_root, files, sources};

const README_LINES_MIN: usize = 10;
/// DESIGN fixes what lies at the top; the rest is what every good Rust repository has.
const TOP: &[&str] = &[
    ".ci",
    ".git",
    ".github",
    ".gitignore",
    "ARCHITECTURE.md",
    "CHANGELOG.md",
    "CONTRIBUTING.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "Makefile",
    "README.md",
    "SPECIFICATION.md",
    "build.rs",
    "clippy.toml",
    "control",
    "dataplane",
    "deny.toml",
    "docs",
    "fuzz",
    "hugepage-setup",
    "perf",
    "rust-toolchain.toml",
    "rustfmt.toml",
    "target",
    "tests",
];
const SECTIONS: &[&str] = &[
    "Added",
    "Changed",
    "Deprecated",
    "Removed",
    "Fixed",
    "Security",
];

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_default()
}

#[test]
fn the_top_level_is_what_the_design_lists() {
    let entries = std::fs::read_dir(root()).expect("the root can be read");
    let names = entries
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned());
    let findings: Vec<String> = names.filter(|name| !TOP.contains(&name.as_str())).collect();
    assert_none("not in the layout:", &findings);
}

#[test]
fn every_room_has_a_readme() {
    let manifests = files()
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name == "Cargo.toml"));
    let rooms = manifests.filter_map(|path| path.parent().map(below_root));
    let findings: Vec<String> = rooms
        .filter(|room| {
            read(format!("{room}/README.md").trim_start_matches('/'))
                .lines()
                .count()
                < README_LINES_MIN
        })
        .map(|room| format!("{room}/README.md"))
        .collect();
    assert_none(
        &format!("a README of {README_LINES_MIN} lines or more:"),
        &findings,
    );
}

#[test]
fn documents_link_to_files_that_exist() {
    let mut findings = Vec::new();
    for path in files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|e| e == "md"))
    {
        let text = std::fs::read_to_string(&path).unwrap_or_default();
        let directory = path.parent().expect("a file lies in a directory");
        for target in text
            .split("](")
            .skip(1)
            .filter_map(|rest| rest.split(')').next())
        {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty()
                && !file.contains("://")
                && !file.contains(' ')
                && !directory.join(file).exists()
            {
                findings.push(format!("{}: {target}", below_root(&path)));
            }
        }
    }
    assert_none("links lead somewhere:", &findings);
}

#[test]
fn the_changelog_keeps_its_grammar() {
    let text = read("CHANGELOG.md");
    let mut findings = Vec::new();
    let headings: Vec<&str> = text
        .lines()
        .filter_map(|line| line.strip_prefix("## "))
        .collect();
    if headings.first() != Some(&"[Unreleased]") {
        findings.push("the first section is [Unreleased]".to_owned());
    }
    for heading in headings.iter().skip(1) {
        let (release, date) = heading.split_once(" - ").unwrap_or((heading, ""));
        let numbers = release
            .trim_matches(['[', ']'])
            .split('.')
            .filter(|part| part.parse::<u32>().is_ok())
            .count();
        let dated = date.len() == 10
            && date
                .split('-')
                .filter(|part| part.parse::<u32>().is_ok())
                .count()
                == 3;
        if numbers != 3 || !dated {
            findings.push(format!("`## {heading}` is not `## [1.2.3] - 2026-01-31`"));
        }
    }
    let sections = text.lines().filter_map(|line| line.strip_prefix("### "));
    findings.extend(
        sections
            .filter(|section| !SECTIONS.contains(section))
            .map(|section| format!("`### {section}`")),
    );
    let entries = text.lines().filter_map(|line| line.strip_prefix("- "));
    findings.extend(
        entries
            .filter(|entry| entry.len() < 10)
            .map(|entry| format!("`- {entry}` says too little")),
    );
    assert_none("Keep a Changelog 1.1:", &findings);
}

/// A promise is a line `| 1.2 | sentence | proof |`; a proof is names in backquotes or `[test pending]`.
#[test]
fn every_promise_names_tests_that_exist_or_says_that_there_is_none() {
    let everything: String = sources()
        .iter()
        .map(|source| source.text.as_str())
        .collect();
    let scripts: String = files()
        .iter()
        .filter_map(|path| {
            std::fs::read_to_string(path).ok().filter(|_| {
                path.extension().is_some_and(|e| e == "sh" || e == "py")
                    || path
                        .file_name()
                        .is_some_and(|n| n == "Makefile" || n == "run")
            })
        })
        .collect();
    let text = read("SPECIFICATION.md");
    let (mut promises, mut findings) = (0, Vec::new());
    for line in text.lines().filter(|line| {
        line.starts_with("| ") && line.as_bytes().get(2).is_some_and(u8::is_ascii_digit)
    }) {
        promises += 1;
        let proof = line
            .trim_end_matches('|')
            .rsplit('|')
            .next()
            .unwrap_or_default();
        let names: Vec<&str> = proof.split('`').skip(1).step_by(2).collect();
        if names.is_empty() && !proof.contains("[test pending]") {
            findings.push(format!("no test: {line}"));
        }
        for name in names {
            let known =
                everything.contains(name) || scripts.contains(name) || root().join(name).exists();
            if !known {
                findings.push(format!("`{name}` does not exist: {line}"));
            }
        }
    }
    assert!(promises >= 20, "SPECIFICATION.md has {promises} promises");
    assert_none("promises:", &findings);
}

#[test]
fn every_recorded_file_is_read_by_a_test() {
    let everything: String = sources()
        .iter()
        .map(|source| source.text.as_str())
        .collect();
    let mut findings = Vec::new();
    for path in files() {
        let place = below_root(&path);
        let recorded = [
            "tests/golden/",
            "tests/crashes/",
            "tests/captures/bad/",
            "tests/demo/",
        ]
        .iter()
        .any(|d| place.starts_with(d))
            || place.contains("/golden/");
        let name = path
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let kept = ["README.md", ".gitkeep"].contains(&name.as_str()) || name.ends_with(".sh");
        if recorded
            && !kept
            && !everything.contains(&name)
            && !demo_reads(&name)
            && !swept(&place, &everything)
        {
            findings.push(place);
        }
    }
    assert_none("no test names these:", &findings);
}

fn demo_reads(name: &str) -> bool {
    read("tests/demo/demo.sh").contains(name)
}

/// A test that runs over a whole directory names the directory.
fn swept(place: &str, everything: &str) -> bool {
    let directory = place
        .rsplit_once('/')
        .map_or("", |(directory, _)| directory);
    directory.ends_with("crashes") && everything.contains("tests/crashes")
        || place.contains("/golden/")
            && everything.contains("golden/")
            && !directory.starts_with("tests/")
}

#[test]
fn own_captures_are_what_their_script_writes() {
    let output = std::process::Command::new("python3")
        .arg(root().join("tests/captures/make_captures.py"))
        .arg("--check")
        .output();
    let Ok(output) = output else {
        println!("SKIPPED: python3 is not installed");
        return;
    };
    assert!(
        output.status.success(),
        "{}{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
}

/// The rows of the element table: `NAME = number owner "elementName" ...;`.
#[test]
fn every_exported_element_stands_in_the_operators_list() {
    let table = read("control/ipfix/src/element.rs");
    let document = read("docs/5-ipfix.md");
    let is_row = |line: &&str| line.contains(" = ") && line.ends_with("\";");
    let names: Vec<&str> = table
        .lines()
        .filter(is_row)
        .filter_map(|line| line.split('"').nth(1))
        .collect();
    assert!(names.len() > 80, "the table was read: {} rows", names.len());
    let findings: Vec<String> = names
        .iter()
        .filter(|name| !document.contains(&format!("| {name} |")))
        .map(|name| format!("docs/5-ipfix.md: {name}"))
        .collect();
    assert_none("exported, and not told:", &findings);
}

#[test]
fn a_replay_knows_every_tunnel_port_that_the_dataplane_follows() {
    // The CLI may not depend on the dataplane's rooms, so the list stands in both.
    let followed = read("dataplane/packet/src/tunnel.rs");
    let known = read("control/cli/src/replay/distinct.rs");
    let ports = followed
        .lines()
        .filter(|line| line.starts_with("const PORT_"))
        .filter_map(|line| line.split_once("u16 = ")?.1.strip_suffix(';'))
        .filter(|port| port.chars().all(|digit| digit.is_ascii_digit()));
    let ports: Vec<&str> = ports.collect();
    assert!(ports.len() >= 12, "{ports:?}");
    let known: Vec<&str> = known.split(|c: char| !c.is_ascii_digit()).collect();
    let unknown = ports.iter().filter(|port| !known.contains(port));
    let findings: Vec<String> = unknown.map(ToString::to_string).collect();
    assert_none(
        "tunnel ports that replay/distinct.rs does not know:",
        &findings,
    );
}
