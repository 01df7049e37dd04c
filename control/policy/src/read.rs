//! Reads TOML into a [`PolicyFile`], collecting every unknown key and wrong type on the way.

use crate::file::{
    At, InvariantText, Lines, NeverText, PolicyFile, RuleText, SegmentText, ServiceText, Words,
    WorkloadText,
};
use crate::limits::TEXT_BYTES_MAX;
use crate::near::nearest;
use crate::problem::{Kind, Problem};
use crate::revision::Revision;
use crate::validate::nameless;
use std::sync::Arc;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

type Item<'a> = Spanned<DeValue<'a>>;

const NAME: &str = "add name = \"...\"; records, metrics and explain speak of it by name";
pub(crate) const ADDRESSES: &str =
    "add addresses = [\"10.0.1.10\"], or dns = [\"db.example.internal\"]";
const TABLES: [&str; 6] = [
    "policy",
    "workload",
    "segment",
    "service",
    "rule",
    "invariant",
];

/// Reads a policy text. Never fails: what is wrong is kept beside what could be read, and
/// [`validate`](crate::validate) tells all of it at once. `file` is the name that errors carry.
#[must_use]
pub fn parse(text: &str, file: &str) -> PolicyFile {
    let mut policy = PolicyFile {
        file: file.to_owned(),
        revision: Revision::of(text),
        lines: Lines::of(text),
        problems: Vec::new(),
        unreadable: false,
        resolved: Arc::default(),
        name: None,
        internal: None,
        workloads: Vec::new(),
        segments: Vec::new(),
        services: Vec::new(),
        rules: Vec::new(),
        invariants: Vec::new(),
    };
    if text.len() > TEXT_BYTES_MAX {
        let problem = Problem::TextTooLong {
            bytes: text.len(),
            limit: TEXT_BYTES_MAX,
        };
        policy.problems.push((0, problem));
        policy.unreadable = true;
        return policy;
    }
    let (root, errors) = DeTable::parse_recoverable(text);
    for error in errors {
        let at = error.span().map_or(0, |span| span.start.min(text.len()));
        let message = error.message().lines().collect::<Vec<_>>().join(", ");
        policy.problems.push((at, Problem::Syntax { message }));
        policy.unreadable = true;
    }
    if !policy.unreadable {
        Reader {
            policy: &mut policy,
        }
        .root(root.get_ref());
    }
    policy
}

struct Reader<'p> {
    policy: &'p mut PolicyFile,
}

/// One table being read: its title in errors, its entries and the keys it may have.
struct Table<'t, 'a> {
    title: &'static str,
    entries: &'t DeTable<'a>,
}

impl<'t, 'a> Table<'t, 'a> {
    fn get(&self, key: &str) -> Option<&'t Item<'a>> {
        self.entries
            .iter()
            .find(|(k, _)| k.get_ref() == key)
            .map(|(_, value)| value)
    }

    /// What it says its name is.
    fn name(&self) -> String {
        let name = self.get("name").and_then(|name| name.get_ref().as_str());
        name.map_or_else(nameless, str::to_owned)
    }
}

impl Reader<'_> {
    fn problem(&mut self, at: usize, problem: Problem) {
        self.policy.problems.push((at, problem));
    }

    fn root(&mut self, root: &DeTable<'_>) {
        if root.is_empty() {
            self.problem(0, Problem::NothingWritten);
        }
        for (key, value) in root {
            let name: &str = key.get_ref();
            match name {
                "policy" => self.policy_table(value),
                "workload" => self.each(Kind::Workload, value, Self::workload),
                "segment" => self.each(Kind::Segment, value, Self::segment),
                "service" => self.each(Kind::Service, value, Self::service),
                "rule" => self.each(Kind::Rule, value, Self::rule),
                "invariant" => self.each(Kind::Invariant, value, Self::invariant),
                _ => {
                    let near = nearest(name, TABLES);
                    let key_name = name.to_owned();
                    self.problem(
                        key.span().start,
                        Problem::UnknownTable {
                            key: key_name,
                            near,
                        },
                    );
                }
            }
        }
    }

    /// Every table of an array of tables.
    fn each(&mut self, kind: Kind, value: &Item<'_>, read: fn(&mut Self, usize, &DeTable<'_>)) {
        let Some(array) = value.get_ref().as_array() else {
            return self.wrong_type(
                "the policy",
                &kind.to_string(),
                value,
                "[[double brackets]]",
            );
        };
        for item in array {
            match item.get_ref().as_table() {
                Some(table) => read(self, item.span().start, table),
                None => {
                    self.wrong_type("the policy", &kind.to_string(), item, "[[double brackets]]")
                }
            }
        }
    }

    fn wrong_type(
        &mut self,
        table: &'static str,
        key: &str,
        value: &Item<'_>,
        expected: &'static str,
    ) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) | DeValue::Float(_) => "a number",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        let key = key.to_owned();
        self.problem(
            value.span().start,
            Problem::WrongType {
                table,
                key,
                found,
                expected,
            },
        );
    }

    /// Starts a table: tells every key that is not in `known`.
    fn table<'t, 'a>(
        &mut self,
        title: &'static str,
        entries: &'t DeTable<'a>,
        known: &'static [&'static str],
    ) -> Table<'t, 'a> {
        for key in entries.keys() {
            let name: &str = key.get_ref();
            if !known.contains(&name) {
                let near = nearest(name, known.iter().copied());
                let key_name = name.to_owned();
                let problem = Problem::UnknownKey {
                    table: title,
                    key: key_name,
                    near,
                    known,
                };
                self.problem(key.span().start, problem);
            }
        }
        Table { title, entries }
    }

    /// Tells a key that must be there and is not. Present with the wrong type is told elsewhere.
    fn require(
        &mut self,
        kind: Kind,
        at: usize,
        table: &Table<'_, '_>,
        keys: &[(&'static str, &'static str)],
    ) {
        for (key, mend) in keys {
            if table.get(key).is_none() {
                self.problem(at, Problem::MissingKey { kind, key, mend });
            }
        }
    }

    fn string(&mut self, table: &Table<'_, '_>, key: &str) -> Option<At<String>> {
        let value = table.get(key)?;
        match value.get_ref() {
            DeValue::String(text) => Some(At {
                value: text.to_string(),
                at: value.span().start,
            }),
            _ => {
                self.wrong_type(table.title, key, value, "a string in quotes");
                None
            }
        }
    }

    /// A string, or a TOML date, as text.
    fn date(&mut self, table: &Table<'_, '_>, key: &str) -> Option<At<String>> {
        match table.get(key)? {
            value if value.get_ref().is_datetime() => {
                let text = value.get_ref().as_datetime().map(ToString::to_string)?;
                Some(At {
                    value: text,
                    at: value.span().start,
                })
            }
            _ => self.string(table, key),
        }
    }

    fn integer(&mut self, table: &Table<'_, '_>, key: &str) -> Option<At<i64>> {
        let value = table.get(key)?;
        let number = value
            .get_ref()
            .as_integer()
            .and_then(|number| i64::from_str_radix(number.as_str(), number.radix()).ok());
        if number.is_none() {
            self.wrong_type(table.title, key, value, "a whole number");
        }
        Some(At {
            value: number?,
            at: value.span().start,
        })
    }

    fn strings(&mut self, table: &Table<'_, '_>, key: &str) -> Option<Words> {
        const EXPECTED: &str = "a list of strings in quotes: [\"one\", \"two\"]";
        let value = table.get(key)?;
        let at = value.span().start;
        let Some(array) = value.get_ref().as_array() else {
            self.wrong_type(table.title, key, value, EXPECTED);
            return None;
        };
        let mut words = Vec::with_capacity(array.len());
        for item in array {
            match item.get_ref() {
                DeValue::String(text) => {
                    words.push(At {
                        value: text.to_string(),
                        at: item.span().start,
                    });
                }
                _ => self.wrong_type(table.title, key, item, EXPECTED),
            }
        }
        Some(At { value: words, at })
    }

    fn policy_table(&mut self, value: &Item<'_>) {
        let Some(entries) = value.get_ref().as_table() else {
            return self.wrong_type("the policy", "policy", value, "a table: [policy]");
        };
        let table = self.table("[policy]", entries, &["name", "internal", "comment"]);
        self.policy.name = self.string(&table, "name");
        self.policy.internal = self.strings(&table, "internal");
        self.string(&table, "comment");
    }

    fn workload(&mut self, at: usize, entries: &DeTable<'_>) {
        let table = self.table(
            "[[workload]]",
            entries,
            &["name", "addresses", "dns", "labels", "comment"],
        );
        self.require(Kind::Workload, at, &table, &[("name", NAME)]);
        if table.get("dns").is_none() {
            self.require(Kind::Workload, at, &table, &[("addresses", ADDRESSES)]);
        }
        let name = self.string(&table, "name");
        let addresses = self.strings(&table, "addresses");
        let dns = self.strings(&table, "dns");
        self.string(&table, "comment");
        let mut labels = Vec::new();
        if let Some(value) = table.get("labels") {
            match value.get_ref().as_table() {
                Some(entries) => {
                    let within = Table {
                        title: "labels",
                        entries,
                    };
                    for key in entries.keys() {
                        let word = At {
                            value: key.get_ref().to_string(),
                            at: key.span().start,
                        };
                        if let Some(text) = self.string(&within, key.get_ref()) {
                            labels.push((word, text));
                        }
                    }
                }
                None => self.wrong_type(
                    "[[workload]]",
                    "labels",
                    value,
                    "a table: { app = \"shop\" }",
                ),
            }
        }
        self.policy.workloads.push(WorkloadText {
            at,
            name,
            addresses,
            dns,
            labels,
        });
    }

    fn segment(&mut self, at: usize, entries: &DeTable<'_>) {
        let known = &["name", "select", "addresses", "mode", "comment"];
        let table = self.table("[[segment]]", entries, known);
        self.require(Kind::Segment, at, &table, &[("name", NAME)]);
        if table.get("mode").is_none() {
            self.problem(
                at,
                Problem::MissingMode {
                    segment: table.name(),
                },
            );
        }
        if table.get("select").or(table.get("addresses")).is_none() {
            self.problem(
                at,
                Problem::NoMembership {
                    segment: table.name(),
                },
            );
        }
        let segment = SegmentText {
            at,
            name: self.string(&table, "name"),
            select: self.string(&table, "select"),
            addresses: self.strings(&table, "addresses"),
            mode: self.string(&table, "mode"),
            comment: self.string(&table, "comment"),
        };
        self.policy.segments.push(segment);
    }

    fn service(&mut self, at: usize, entries: &DeTable<'_>) {
        let table = self.table("[[service]]", entries, &["name", "ports", "comment"]);
        self.require(
            Kind::Service,
            at,
            &table,
            &[("name", NAME), ("ports", "add ports = [\"tcp/5432\"]")],
        );
        let name = self.string(&table, "name");
        let ports = self.strings(&table, "ports");
        self.string(&table, "comment");
        self.policy.services.push(ServiceText { at, name, ports });
    }

    fn rule(&mut self, at: usize, entries: &DeTable<'_>) {
        let known = &[
            "name",
            "tier",
            "from",
            "to",
            "services",
            "action",
            "rate",
            "burst",
            "mode",
            "owner",
            "ticket",
            "expires",
            "on_change",
            "comment",
        ];
        let table = self.table("[[rule]]", entries, known);
        self.require(
            Kind::Rule,
            at,
            &table,
            &[
                ("name", NAME),
                (
                    "from",
                    "add from = [\"...\"], the segments that may initiate; any is always there",
                ),
                (
                    "to",
                    "add to = [\"...\"], the segments that may be reached; any is always there",
                ),
                (
                    "action",
                    "add action = \"allow\", \"deny\", \"reject\" or \"limit\"",
                ),
            ],
        );
        let action = table
            .get("action")
            .and_then(|action| action.get_ref().as_str());
        if action == Some("limit") && table.get("rate").is_none() {
            self.problem(at, Problem::RateMissing { rule: table.name() });
        }
        let rule = RuleText {
            at,
            name: self.string(&table, "name"),
            tier: self.string(&table, "tier"),
            from: self.strings(&table, "from"),
            to: self.strings(&table, "to"),
            services: self.strings(&table, "services"),
            action: self.string(&table, "action"),
            rate: self.string(&table, "rate"),
            burst: self.integer(&table, "burst"),
            mode: self.string(&table, "mode"),
            owner: self.string(&table, "owner"),
            ticket: self.string(&table, "ticket"),
            expires: self.date(&table, "expires"),
            on_change: self.string(&table, "on_change"),
            comment: self.string(&table, "comment"),
        };
        self.policy.rules.push(rule);
    }

    fn invariant(&mut self, at: usize, entries: &DeTable<'_>) {
        let table = self.table("[[invariant]]", entries, &["name", "never", "comment"]);
        self.require(
            Kind::Invariant,
            at,
            &table,
            &[
                ("name", NAME),
                (
                    "never",
                    "add never = { from = \"dev\", to = \"cardholder\", hops = 3 }",
                ),
            ],
        );
        let name = self.string(&table, "name");
        self.string(&table, "comment");
        let never = table.get("never").and_then(|value| {
            let Some(entries) = value.get_ref().as_table() else {
                let expected = "a table: { from = \"dev\", to = \"cardholder\", hops = 3 }";
                self.wrong_type("[[invariant]]", "never", value, expected);
                return None;
            };
            let within = self.table(
                "never",
                entries,
                &["from", "to", "hops", "services", "except"],
            );
            const END: &str = "add from and to, one segment each";
            let at = value.span().start;
            self.require(Kind::Invariant, at, &within, &[("from", END), ("to", END)]);
            Some(NeverText {
                at: value.span().start,
                from: self.string(&within, "from"),
                to: self.string(&within, "to"),
                hops: self.integer(&within, "hops"),
                services: self.strings(&within, "services"),
                except: self.strings(&within, "except"),
            })
        });
        self.policy
            .invariants
            .push(InvariantText { at, name, never });
    }
}
