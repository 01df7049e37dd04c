//! Rules and services as a person would write them.

use crate::validate::{Rule, ValidPolicy};
use abi::image::{BUILT_IN_SEGMENTS, RateKind, RuleMode, Tier};
use abi::verdict::OnChange;
use abi::{Action, Mode};
use core::fmt::Write;

/// A string in quotes, with what TOML wants escaped.
fn quoted(text: &str) -> String {
    toml_edit::Value::from(text).to_string().trim().to_owned()
}

fn list(words: &[String]) -> String {
    let words: Vec<String> = words.iter().map(|word| quoted(word)).collect();
    format!("[{}]", words.join(", "))
}

/// Name of a segment as images number it.
pub(crate) fn segment_name(policy: &ValidPolicy, at: u32) -> &str {
    let at = at as usize;
    match at.checked_sub(BUILT_IN_SEGMENTS.len()) {
        None => BUILT_IN_SEGMENTS[at],
        Some(own) => policy
            .segments
            .get(own)
            .map_or("?", |segment| &segment.name),
    }
}

/// Mode of a segment; none for the built-in ones.
pub(crate) fn segment_mode(policy: &ValidPolicy, at: u32) -> Option<Mode> {
    let own = (at as usize).checked_sub(BUILT_IN_SEGMENTS.len())?;
    policy.segments.get(own).map(|segment| segment.mode)
}

/// `[[service]]`.
pub(crate) fn service(name: &str, ports: &[String]) -> String {
    format!(
        "[[service]]\nname = {}\nports = {}\n",
        quoted(name),
        list(ports)
    )
}

/// Lists that a rule is written with instead of its own.
#[derive(Debug, Default)]
pub(crate) struct Instead {
    pub(crate) from: Option<Vec<String>>,
    pub(crate) to: Option<Vec<String>>,
    pub(crate) services: Option<Vec<String>>,
}

/// `[[rule]]`.
pub(crate) fn rule(policy: &ValidPolicy, rule: &Rule, instead: Instead) -> String {
    let Instead { from, to, services } = instead;
    let names = |ends: &[u32]| -> Vec<String> {
        let name = |at: &u32| segment_name(policy, *at).to_owned();
        ends.iter().map(name).collect()
    };
    let own_services = || {
        let named = rule
            .services
            .iter()
            .filter_map(|at| policy.services.get(*at as usize));
        named.map(|service| service.name.clone()).collect()
    };
    let services: Vec<String> = services.unwrap_or_else(own_services);
    let mut text = format!("[[rule]]\nname = {}\n", quoted(&rule.name));
    let mut line = |key: &str, value: String| {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{key} = {value}");
    };
    if rule.tier != Tier::Application {
        line("tier", quoted(&rule.tier.to_string()));
    }
    line("from", list(&from.unwrap_or_else(|| names(&rule.from))));
    line("to", list(&to.unwrap_or_else(|| names(&rule.to))));
    if !services.is_empty() {
        line("services", list(&services));
    }
    line("action", quoted(&rule.action.to_string()));
    if let Some((rate, burst)) = rule.limit.filter(|_| rule.action == Action::Limit) {
        let unit = match rate.kind {
            RateKind::Packets => "pps",
            RateKind::Bits => "bps",
            RateKind::Flows => "cps",
        };
        line("rate", quoted(&format!("{}{unit}", rate.per_second)));
        line("burst", burst.to_string());
    }
    match rule.mode {
        RuleMode::Inherit => {}
        RuleMode::Test => line("mode", quoted("test")),
        RuleMode::Enforce => line("mode", quoted("enforce")),
    }
    if rule.on_change != OnChange::Reevaluate {
        line("on_change", quoted(&rule.on_change.to_string()));
    }
    let notes = [
        ("owner", &rule.owner),
        ("ticket", &rule.ticket),
        ("comment", &rule.comment),
    ];
    for (key, note) in notes {
        if let Some(note) = note {
            line(key, quoted(note));
        }
    }
    if let Some(expires) = rule.expires {
        line("expires", quoted(&expires.to_string()));
    }
    text
}
