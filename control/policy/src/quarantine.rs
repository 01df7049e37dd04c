//! Cuts a workload off from everything but some services, in a policy text.
//!
//! The workload gets a label (one of an inventory, which has no table here, when it is put behind the text: wherever it
//! moves, it stays held), a segment selects it, and deny rules of the first tier that take effect
//! whatever the modes hold it, both ways. A deny beats an allow within a tier, so that what stays allowed
//! cannot be an allow rule beside them: the deny rules name the *other* services instead, and what is
//! left is decided by the policy as it was. Everything that belongs to a quarantine has a name that
//! begins with [`PREFIX`]; such names are nobody else's.

use crate::edit::{self, EditError, WorkloadChange, document};
use crate::file::{At, PolicyFile};
use crate::limits::{ADDRESSES_MAX, NAME_BYTES_MAX, PORTS_MAX};
use crate::service::{Port, PortError};
use crate::validate::{Segment, ValidPolicy};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use std::collections::{BTreeSet, HashSet};
use toml_edit::{Array, ArrayOfTables, DocumentMut, Item, Table};

/// Beginning of the names of segments, services and rules that hold a workload.
pub const PREFIX: &str = "quarantine:";
/// Label of a workload that is held; its value is the workload's name.
pub const LABEL: &str = "ringfence.quarantine";
/// The longest of what stands around a workload's name.
const AROUND_BYTES: usize = PREFIX.len() + ":other-out".len();
/// Ends of the names of rules that hold a workload.
const RULES: [&str; 4] = ["out", "in", "other-out", "other-in"];
/// Ends of the names of segments and services that they speak of, beside those of denied ports.
const PARTS: [&str; 2] = ["other", "allowed"];
/// Longest name of a workload that can be held, bytes.
pub const WORKLOAD_BYTES_MAX: usize = NAME_BYTES_MAX - AROUND_BYTES;

/// One workload that is held.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Quarantine {
    /// Its name.
    pub workload: String,
    /// Services, or ports as `tcp/22`, about which the policy decides as before.
    pub allow: Vec<String>,
    /// Only with this segment; none: with everybody.
    pub to: Option<String>,
    /// Why, until when: stands at the rules.
    pub comment: String,
}

/// Why a workload cannot be held.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[expect(missing_docs, reason = "the messages say it")]
pub enum QuarantineError {
    #[error(transparent)]
    Edit(#[from] EditError),
    #[error("`{name}` is neither a service of the policy nor a port; write a name, or tcp/22")]
    NoService { name: String, why: PortError },
    #[error("`{name}` is everything: nothing would be held")]
    Everything { name: String },
    #[error("there is no segment `{0}`; `ringfence segments` lists them")]
    NoSegment(String),
    #[error(
        "the name `{workload}` has {bytes} bytes; a workload of at most {WORKLOAD_BYTES_MAX} can be held"
    )]
    LongName { workload: String, bytes: usize },
    #[error(
        "everybody but segment `{segment}` takes {prefixes} prefixes, at most {ADDRESSES_MAX}; name a smaller segment"
    )]
    Scattered { segment: String, prefixes: usize },
    #[error("--to needs --allow: without a service nothing stays allowed with `{0}` either")]
    NothingAllowed(String),
}

/// The text without any quarantine.
///
/// # Errors
/// The text cannot be edited piece by piece.
pub fn without_quarantines(text: &str) -> Result<String, EditError> {
    without(text, &|_| true)
}

/// The text without the quarantine of one workload.
///
/// # Errors
/// The text cannot be edited piece by piece.
pub(crate) fn without_quarantine(text: &str, workload: &str) -> Result<String, EditError> {
    without(text, &|held| held == workload)
}

/// The workload that a rule holds, by the rule's name.
pub(crate) fn held_by(rule: &str) -> Option<&str> {
    let (workload, way) = rule.strip_prefix(PREFIX)?.rsplit_once(':')?;
    RULES.contains(&way).then_some(workload)
}

/// The workload that a segment, service or rule of a quarantine is about.
fn held_workload(name: &str) -> Option<&str> {
    let rest = name.strip_prefix(PREFIX)?;
    let own =
        |part: &str| RULES.contains(&part) || PARTS.contains(&part) || part.starts_with("denied-");
    match rest.rsplit_once(':') {
        Some((workload, part)) if own(part) => Some(workload),
        _ => Some(rest),
    }
}

/// The text without the quarantines of some workloads.
fn without(text: &str, gone: &dyn Fn(&str) -> bool) -> Result<String, EditError> {
    if !text.contains(PREFIX) && !text.contains(LABEL) {
        return Ok(text.to_owned());
    }
    let mut document = document(text)?;
    let mut held = Vec::new();
    for kind in ["rule", "service", "segment"] {
        let Some(Item::ArrayOfTables(tables)) = document.get_mut(kind) else {
            continue;
        };
        tables.retain(|table| !name(table).and_then(held_workload).is_some_and(gone));
        if tables.is_empty() {
            document.remove(kind);
        }
    }
    if let Some(Item::ArrayOfTables(tables)) = document.get("workload") {
        for table in tables {
            let labels = table.get("labels").and_then(Item::as_table_like);
            if labels.is_some_and(|labels| labels.contains_key(LABEL)) {
                let named = name(table).filter(|name| gone(name));
                held.extend(named.map(str::to_owned));
            }
        }
    }
    let mut text = document.to_string();
    for workload in held {
        text = labelled(&text, &workload, None)?;
    }
    Ok(text)
}

/// Labels the workloads behind a policy's own text, from this byte on, that a segment of a quarantine is about.
pub(crate) fn label_behind(file: &mut PolicyFile, own_bytes: usize) {
    let segments = file.segments.iter().filter_map(|s| s.name.as_ref());
    let held: HashSet<String> = segments
        .filter_map(|name| name.value.strip_prefix(PREFIX))
        .map(str::to_owned)
        .collect();
    if held.is_empty() {
        return;
    }
    let first = file.workloads.partition_point(|w| w.at < own_bytes);
    for workload in &mut file.workloads[first..] {
        let name = workload.name.as_ref().filter(|n| held.contains(&n.value));
        let has_it = workload.labels.iter().any(|(key, _)| key.value == LABEL);
        if let (Some(name), false) = (name, has_it) {
            let key = At {
                value: LABEL.to_owned(),
                at: name.at,
            };
            workload.labels.push((key, name.clone()));
        }
    }
}

/// The text with one more workload held. `policy` is what the text says with the inventory behind it; what is held
/// already stays.
///
/// # Errors
/// [`QuarantineError`].
pub fn with_quarantine(
    text: &str,
    policy: &ValidPolicy,
    quarantine: &Quarantine,
) -> Result<String, QuarantineError> {
    let workload = &quarantine.workload;
    if workload.len() > WORKLOAD_BYTES_MAX {
        return Err(QuarantineError::LongName {
            workload: workload.clone(),
            bytes: workload.len(),
        });
    }
    if !policy.workloads.iter().any(|w| &w.name == workload) {
        return Err(EditError::NoWorkload(workload.clone()).into());
    }
    let allowed = allowed(policy, &quarantine.allow)?;
    let others = match &quarantine.to {
        None => None,
        Some(to) if allowed.is_empty() => return Err(QuarantineError::NothingAllowed(to.clone())),
        Some(to) => Some(others(policy, to)?),
    };
    let mut document = document(text)?;
    if stands_in(&document, workload) {
        document = edit::document(&labelled(text, workload, Some(workload))?)?;
    }
    let own = format!("{PREFIX}{workload}");
    segment(
        &mut document,
        &own,
        "select",
        format!("{LABEL}={workload}").into(),
        quarantine,
    )?;
    let mut services = Vec::new();
    if !allowed.is_empty() {
        // Single codes of ICMP can make more entries than one service takes.
        for (at, ports) in denied_ports(&allowed).chunks(PORTS_MAX).enumerate() {
            let denied = format!("{own}:denied-{}", at + 1);
            service(&mut document, &denied, ports)?;
            services.push(denied);
        }
    }
    let any = "any".to_owned();
    for (way, from, to) in [("out", &own, &any), ("in", &any, &own)] {
        let rule_name = format!("{own}:{way}");
        rule(&mut document, &rule_name, [from, to], &services, quarantine)?;
    }
    if let Some(prefixes) = others {
        let (rest, served) = (format!("{own}:other"), format!("{own}:allowed"));
        let list: Array = prefixes.iter().map(ToString::to_string).collect();
        segment(&mut document, &rest, "addresses", list.into(), quarantine)?;
        let ports: Vec<String> = allowed.iter().flat_map(|p| written(*p)).collect();
        service(&mut document, &served, &ports)?;
        for (way, from, to) in [("out", &own, &rest), ("in", &rest, &own)] {
            let rule_name = format!("{rest}-{way}");
            rule(
                &mut document,
                &rule_name,
                [from, to],
                std::slice::from_ref(&served),
                quarantine,
            )?;
        }
    }
    Ok(document.to_string())
}

/// Whether the text has a workload itself.
fn stands_in(document: &DocumentMut, workload: &str) -> bool {
    match document.get("workload") {
        Some(Item::ArrayOfTables(tables)) => tables.iter().any(|t| name(t) == Some(workload)),
        // Not in tables of their own: whoever edits it says so.
        Some(_) => true,
        None => false,
    }
}

fn name(table: &Table) -> Option<&str> {
    table.get("name").and_then(Item::as_str)
}

fn labelled(text: &str, workload: &str, value: Option<&str>) -> Result<String, EditError> {
    let label = (LABEL.to_owned(), value.map(str::to_owned));
    let change = WorkloadChange {
        labels: [label].into(),
        ..WorkloadChange::default()
    };
    match edit::workload(text, workload, &change) {
        Err(EditError::Same(_)) => Ok(text.to_owned()),
        changed => changed,
    }
}

fn push(document: &mut DocumentMut, kind: &str, table: Table) -> Result<(), EditError> {
    document
        .entry(kind)
        .or_insert_with(|| Item::ArrayOfTables(ArrayOfTables::new()))
        .as_array_of_tables_mut()
        .ok_or_else(|| EditError::Text(format!("its {kind}s stand in one list")))?
        .push(table);
    Ok(())
}

fn segment(
    document: &mut DocumentMut,
    name: &str,
    key: &str,
    members: toml_edit::Value,
    quarantine: &Quarantine,
) -> Result<(), EditError> {
    let mut table = Table::new();
    table.insert("name", name.into());
    table.insert(key, members.into());
    // The strictest mode of an end counts: this one makes none stricter.
    table.insert("mode", "observe".into());
    table.insert("comment", quarantine.comment.as_str().into());
    push(document, "segment", table)
}

fn service(document: &mut DocumentMut, name: &str, ports: &[String]) -> Result<(), EditError> {
    let mut table = Table::new();
    table.insert("name", name.into());
    let list: Array = ports.iter().map(String::as_str).collect();
    table.insert("ports", list.into());
    push(document, "service", table)
}

fn rule(
    document: &mut DocumentMut,
    name: &str,
    ends: [&String; 2],
    services: &[String],
    quarantine: &Quarantine,
) -> Result<(), EditError> {
    let list = |name: &str| -> toml_edit::Value { [name].into_iter().collect::<Array>().into() };
    let mut table = Table::new();
    table.insert("name", name.into());
    table.insert("tier", "guardrail".into());
    table.insert("from", list(ends[0]).into());
    table.insert("to", list(ends[1]).into());
    if !services.is_empty() {
        let names: Array = services.iter().map(String::as_str).collect();
        table.insert("services", toml_edit::value(names));
    }
    table.insert("action", "deny".into());
    table.insert("mode", "enforce".into());
    table.insert("comment", quarantine.comment.as_str().into());
    push(document, "rule", table)
}

fn allowed(policy: &ValidPolicy, names: &[String]) -> Result<Vec<Port>, QuarantineError> {
    let mut allowed = Vec::new();
    for name in names {
        let found = policy.services.iter().find(|service| &service.name == name);
        let ports = match found {
            Some(service) => service.ports.clone(),
            None => vec![Port::parse(name).map_err(|why| QuarantineError::NoService {
                name: name.clone(),
                why,
            })?],
        };
        if ports.iter().any(|port| port.proto.is_none()) {
            return Err(QuarantineError::Everything { name: name.clone() });
        }
        allowed.extend(ports);
    }
    Ok(allowed)
}

/// Every service that is not among the allowed ones, as `ports` has them.
fn denied_ports(allowed: &[Port]) -> Vec<String> {
    let mut denied = Vec::new();
    for proto in 0..=u8::MAX {
        let mut ranges: Vec<(u32, u32)> = allowed
            .iter()
            .filter(|port| port.proto == Some(proto))
            .map(|port| (u32::from(port.low), u32::from(port.high)))
            .collect();
        ranges.sort_unstable();
        let mut next = 0;
        for (low, high) in ranges.into_iter().chain([(65_536, 65_536)]) {
            if low > next {
                let (low, high) = (next, low - 1);
                denied.extend(written(Port {
                    proto: Some(proto),
                    low: u16::try_from(low).unwrap_or(u16::MAX),
                    high: u16::try_from(high).unwrap_or(u16::MAX),
                }));
            }
            next = next.max(high + 1);
        }
    }
    denied
}

/// A range as the language writes it; several entries where ICMP needs them.
fn written(port: Port) -> Vec<String> {
    let proto = port.proto.unwrap_or_default();
    let whole = port.low == 0 && port.high == u16::MAX;
    let word = match proto {
        1 => "icmp",
        6 => "tcp",
        17 => "udp",
        58 => "icmpv6",
        132 => "sctp",
        _ => return vec![format!("proto/{proto}")],
    };
    match proto {
        _ if whole => vec![format!("{word}/any")],
        1 | 58 => icmp_written(word, port),
        _ if port.low == port.high => vec![format!("{word}/{}", port.low)],
        _ => vec![format!("{word}/{}-{}", port.low, port.high)],
    }
}

/// Whole types by their number, single codes by both.
fn icmp_written(word: &str, port: Port) -> Vec<String> {
    let mut entries = Vec::new();
    let (mut key, last) = (u32::from(port.low), u32::from(port.high));
    while key <= last {
        let (kind, code) = (key >> 8, key & 0xff);
        if code == 0 && key + 0xff <= last {
            entries.push(format!("{word}/{kind}"));
            key += 0x100;
        } else {
            entries.push(format!("{word}/{kind}/{code}"));
            key += 1;
        }
    }
    entries
}

/// Every address that is not in a segment now.
fn others(policy: &ValidPolicy, name: &str) -> Result<Vec<IpNet>, QuarantineError> {
    let found = policy.segments.iter().find(|segment| segment.name == name);
    let segment = found.ok_or_else(|| QuarantineError::NoSegment(name.to_owned()))?;
    let prefixes = complement(&members(policy, segment));
    if prefixes.len() > ADDRESSES_MAX {
        return Err(QuarantineError::Scattered {
            segment: name.to_owned(),
            prefixes: prefixes.len(),
        });
    }
    Ok(prefixes)
}

fn members(policy: &ValidPolicy, segment: &Segment) -> Vec<IpNet> {
    let workloads = segment.workloads.iter();
    let selected = workloads.filter_map(|at| policy.workloads.get(*at as usize));
    selected
        .flat_map(|workload| workload.addresses.iter().copied())
        .chain(segment.addresses.iter().copied())
        .collect()
}

/// The prefixes that hold every address that `prefixes` do not.
fn complement(prefixes: &[IpNet]) -> Vec<IpNet> {
    let mut rest: BTreeSet<IpNet> =
        [IpNet::V4(Ipv4Net::default()), IpNet::V6(Ipv6Net::default())].into();
    for prefix in prefixes {
        if let Some(around) = rest.iter().find(|net| net.contains(prefix)).copied() {
            rest.remove(&around);
            rest.extend(halves_beside(around, prefix));
        } else {
            rest.retain(|net| !prefix.contains(net));
        }
    }
    rest.into_iter().collect()
}

/// What is left of `around` without `prefix`, which is within it.
fn halves_beside(around: IpNet, prefix: &IpNet) -> Vec<IpNet> {
    let mut beside = Vec::new();
    let mut around = around;
    while around.prefix_len() < prefix.prefix_len() {
        let Ok(halves) = around.subnets(around.prefix_len() + 1) else {
            break;
        };
        for half in halves {
            if half.contains(prefix) {
                around = half;
            } else {
                beside.push(half);
            }
        }
    }
    beside
}

/// Whether an address is in one of some prefixes: the twin of [`complement`] in tests.
#[cfg(test)]
fn covers(prefixes: &[IpNet], address: core::net::IpAddr) -> bool {
    prefixes.iter().any(|net| net.contains(&address))
}

#[cfg(test)]
mod tests;
