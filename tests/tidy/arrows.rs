//! Arrows that must never exist, read from `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;

use ringfence_tests::places::root;
use serde_json::Value;

use crate::assert_none;

/// What a polling core must never meet.
const SCHEDULERS: &[&str] = &[
    "tokio",
    "async-std",
    "smol",
    "async-executor",
    "hyper",
    "metrics",
    "tracing",
    "futures-executor",
];
/// What opens sockets or files for others.
const OUTSIDE_WORLD: &[&str] = &[
    "tokio",
    "mio",
    "socket2",
    "rustix",
    "nix",
    "tempfile",
    "hyper",
    "rand",
    "getrandom",
];
const PURE: &[&str] = &[
    "ringfence-packet",
    "ringfence-flow",
    "ringfence-acl",
    "ringfence-abi",
    "ringfence-policy",
    "ringfence-ipfix",
    "ringfence-api",
];

/// A package of the workspace: where it lies, and what it needs to be built and run.
struct Package {
    name: String,
    directory: String,
    direct: BTreeSet<String>,
    reached: BTreeSet<String>,
}

fn metadata() -> &'static Value {
    static METADATA: OnceLock<Value> = OnceLock::new();
    METADATA.get_or_init(|| {
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let output = Command::new(cargo)
            .args(["metadata", "--format-version", "1", "--locked"])
            .current_dir(root())
            .output()
            .expect("cargo runs");
        assert!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
    })
}

fn text<'a>(value: &'a Value, key: &str) -> &'a str {
    value[key].as_str().unwrap_or_default()
}

fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value[key].as_array().map(Vec::as_slice).unwrap_or_default()
}

fn packages() -> &'static [Package] {
    static PACKAGES: OnceLock<Vec<Package>> = OnceLock::new();
    PACKAGES.get_or_init(|| {
        let metadata = metadata();
        let names: BTreeMap<&str, &str> = list(metadata, "packages")
            .iter()
            .map(|p| (text(p, "id"), text(p, "name")))
            .collect();
        let needs: BTreeMap<&str, Vec<&str>> = list(&metadata["resolve"], "nodes")
            .iter()
            .map(|node| (text(node, "id"), needed(node)))
            .collect();
        let members: BTreeSet<&str> = list(metadata, "workspace_members")
            .iter()
            .filter_map(Value::as_str)
            .collect();
        list(metadata, "packages")
            .iter()
            .filter(|p| members.contains(text(p, "id")))
            .map(|p| package(p, &names, &needs))
            .collect()
    })
}

/// Ids of the packages that a node needs other than for its tests and models.
fn needed(node: &Value) -> Vec<&str> {
    let is_real =
        |kind: &Value| text(kind, "kind") != "dev" && !text(kind, "target").contains("loom");
    let deps = list(node, "deps").iter();
    deps.filter(|dep| list(dep, "dep_kinds").iter().any(is_real))
        .map(|dep| text(dep, "pkg"))
        .collect()
}

fn package(
    value: &Value,
    names: &BTreeMap<&str, &str>,
    needs: &BTreeMap<&str, Vec<&str>>,
) -> Package {
    let named = |id: &&str| (*names.get(id).unwrap_or(id)).to_owned();
    let id = text(value, "id");
    let direct = needs.get(id).into_iter().flatten().map(named).collect();
    let (mut open, mut seen) = (needs.get(id).cloned().unwrap_or_default(), BTreeSet::new());
    while let Some(next) = open.pop() {
        if seen.insert(next) {
            open.extend(needs.get(next).into_iter().flatten());
        }
    }
    let manifest = Path::new(text(value, "manifest_path"));
    let directory = crate::source::below_root(manifest.parent().unwrap_or(manifest));
    Package {
        name: text(value, "name").to_owned(),
        directory,
        direct,
        reached: seen.iter().map(named).collect(),
    }
}

fn in_dataplane(package: &Package) -> bool {
    package.directory == "dataplane" || package.directory.starts_with("dataplane/")
}

fn in_control(package: &Package) -> bool {
    package.directory == "control" || package.directory.starts_with("control/")
}

/// Every arrow from a package that `from` accepts to a package that `to` accepts, at any distance.
fn arrows(from: impl Fn(&Package) -> bool, to: impl Fn(&str) -> bool) -> Vec<String> {
    let from_packages = packages().iter().filter(|package| from(package));
    from_packages
        .flat_map(|package| {
            package
                .reached
                .iter()
                .filter(|name| to(name))
                .map(|name| format!("{} -> {name}", package.name))
        })
        .collect()
}

fn names_of(room: impl Fn(&Package) -> bool) -> Vec<&'static str> {
    packages()
        .iter()
        .filter(|package| room(package))
        .map(|package| package.name.as_str())
        .collect()
}

#[test]
fn the_dataplane_meets_no_scheduler_no_metrics_and_no_logger() {
    let is_scheduler = |name: &str| {
        SCHEDULERS
            .iter()
            .any(|s| name == *s || name.starts_with(&format!("{s}-")))
    };
    assert_none(
        "dataplane/** must not reach these:",
        &arrows(in_dataplane, is_scheduler),
    );
}

#[test]
fn the_dataplane_never_reaches_control() {
    let control = names_of(in_control);
    assert!(
        control.len() >= 5,
        "the rooms of control were found: {control:?}"
    );
    assert_none(
        "dataplane/** must not reach control/**:",
        &arrows(in_dataplane, |name| control.contains(&name)),
    );
}

#[test]
fn control_reaches_the_dataplane_by_abi_and_acl_only() {
    let closed: Vec<&str> = names_of(in_dataplane)
        .into_iter()
        .filter(|name| !["ringfence-abi", "ringfence-acl"].contains(name))
        .collect();
    assert!(
        closed.len() >= 4,
        "the rooms of the dataplane were found: {closed:?}"
    );
    assert_none(
        "control/** may reach only abi and acl:",
        &arrows(in_control, |name| closed.contains(&name)),
    );
}

#[test]
fn the_raw_bindings_have_one_user_and_dpdk_has_two() {
    let direct = |to: &str, allowed: &[&str]| -> Vec<String> {
        let users = packages().iter().filter(|package| {
            package.direct.contains(to) && !allowed.contains(&package.name.as_str())
        });
        users
            .map(|package| format!("{} -> {to}", package.name))
            .collect()
    };
    let mut findings = direct("ringfence-dpdk-sys", &["ringfence-dpdk"]);
    findings.extend(direct(
        "ringfence-dpdk",
        &["ringfence-dataplane", "ringfence-perf"],
    ));
    assert_none("unsafe has an address:", &findings);
}

#[test]
fn the_command_speaks_the_public_protocol_only() {
    let closed = [
        "ringfence-abi",
        "ringfence-acl",
        "ringfence-control",
        "ringfence-dataplane",
    ];
    let is_public =
        |package: &Package| ["ringfence", "ringfence-web"].contains(&package.name.as_str());
    assert_none(
        "cli and web must not reach these:",
        &arrows(is_public, |name| closed.contains(&name)),
    );
}

#[test]
fn pure_rooms_bring_nobody_who_opens_sockets_or_files() {
    let is_pure = |package: &Package| PURE.contains(&package.name.as_str());
    // The shared memory of abi is mapped by rustix, in shm.rs and nowhere else (see purity.rs).
    let findings: Vec<String> = arrows(is_pure, |name| OUTSIDE_WORLD.contains(&name))
        .into_iter()
        .filter(|arrow| !arrow.ends_with("-> rustix") || !reaches_rustix_by_abi_only(arrow))
        .collect();
    assert_none("pure rooms must not reach these:", &findings);
}

fn reaches_rustix_by_abi_only(arrow: &str) -> bool {
    let name = arrow.split(" -> ").next().unwrap_or_default();
    let package = packages().iter().find(|package| package.name == name);
    package.is_some_and(|package| {
        name == "ringfence-abi"
            || !package.direct.contains("rustix") && package.reached.contains("ringfence-abi")
    })
}

#[test]
fn every_member_inherits_the_lints_and_the_edition() {
    let mut findings = Vec::new();
    for package in packages() {
        let path = root().join(&package.directory).join("Cargo.toml");
        let manifest: toml::Table = std::fs::read_to_string(&path)
            .unwrap_or_default()
            .parse()
            .unwrap_or_default();
        let inherits = |table: &str, key: &str| {
            let value = manifest.get(table).and_then(|t| t.get(key));
            value.is_some_and(|v| {
                v.as_bool() == Some(true)
                    || v.get("workspace").and_then(toml::Value::as_bool) == Some(true)
            })
        };
        for (table, key) in [
            ("lints", "workspace"),
            ("package", "edition"),
            ("package", "license"),
            ("package", "version"),
        ] {
            if !inherits(table, key) {
                findings.push(format!("{}/Cargo.toml: [{table}] {key}", package.directory));
            }
        }
    }
    assert_none("inherited from the workspace:", &findings);
}

#[test]
fn every_dependency_has_a_licence_that_deny_toml_allows() {
    let deny: toml::Table = std::fs::read_to_string(root().join("deny.toml"))
        .expect("deny.toml")
        .parse()
        .expect("deny.toml is TOML");
    let allowed: Vec<&str> = deny["licenses"]["allow"]
        .as_array()
        .expect("licenses.allow")
        .iter()
        .filter_map(toml::Value::as_str)
        .collect();
    let findings: Vec<String> = list(metadata(), "packages")
        .iter()
        .filter(|package| !licence_holds(text(package, "license"), &allowed))
        .map(|package| {
            format!(
                "{} {}: {:?}",
                text(package, "name"),
                text(package, "version"),
                text(package, "license")
            )
        })
        .collect();
    assert_none("licences that deny.toml does not allow:", &findings);
}

/// An SPDX expression of AND, OR, `/` (old for OR) and parentheses.
fn licence_holds(expression: &str, allowed: &[&str]) -> bool {
    let plain = expression.replace('/', " OR ");
    let plain = plain.trim();
    if let Some((left, right)) = split(plain, " AND ") {
        return licence_holds(left, allowed) && licence_holds(right, allowed);
    }
    if let Some((left, right)) = split(plain, " OR ") {
        return licence_holds(left, allowed) || licence_holds(right, allowed);
    }
    match plain
        .strip_prefix('(')
        .and_then(|rest| rest.strip_suffix(')'))
    {
        Some(inner) => licence_holds(inner, allowed),
        None => allowed.contains(&plain),
    }
}

/// Splits at the first `word` that stands outside parentheses.
fn split<'a>(text: &'a str, word: &str) -> Option<(&'a str, &'a str)> {
    text.match_indices(word).map(|(at, _)| at).find_map(|at| {
        let before = &text[..at];
        (before.matches('(').count() == before.matches(')').count())
            .then(|| (before, &text[at + word.len()..]))
    })
}

#[test]
fn a_licence_expression_is_read_as_spdx_means_it() {
    let allowed = ["MIT", "Apache-2.0"];
    assert!(licence_holds("MIT OR GPL-3.0", &allowed) && licence_holds("MIT/GPL-3.0", &allowed));
    assert!(licence_holds("(MIT OR GPL-3.0) AND Apache-2.0", &allowed));
    assert!(!licence_holds("MIT AND GPL-3.0", &allowed) && !licence_holds("", &allowed));
}
