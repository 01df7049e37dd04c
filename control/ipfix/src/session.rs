//! One stream of messages to one collector: templates first and again, dictionaries before what
//! refers to them, sequence numbers.

use crate::element::OWN_PEN_DEFAULT;
use crate::message::{Builder, HEADER_BYTES, Message, SET_HEADER_BYTES};
use crate::options::{
    Announcement, DomainRow, RULES_ID, RuleEntry, SEGMENTS_ID, STATISTICS_IDS, SegmentEntry,
    Statistics, Table, rule_record, segment_record, tables, template,
};
use crate::record::{Biflow, Column, Personality, flow_columns, flow_template_id, write_row};

/// RFC 7011 section 3.3.2: set id of template sets.
const TEMPLATE_SET: u16 = 2;
/// RFC 7011 section 3.3.2: set id of options template sets.
const OPTIONS_TEMPLATE_SET: u16 = 3;

/// How a session exports.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Observation domain id.
    pub domain: u32,
    /// Enterprise number of our own elements.
    pub pen: u32,
    /// What the collector can read.
    pub personality: Personality,
    /// Bytes of a message (UDP payload).
    pub message_bytes_max: usize,
    /// Templates and options are sent again after so much time. UDP: at most a third of the
    /// collector's template lifetime (RFC 7011 section 8.4).
    pub refresh_ns: u64,
    /// Templates and options are sent again after so many messages.
    pub refresh_messages: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            domain: 1,
            pen: OWN_PEN_DEFAULT,
            personality: Personality::Biflow,
            message_bytes_max: 1400,
            refresh_ns: 60_000_000_000,
            refresh_messages: 1000,
        }
    }
}

/// Settings that no session can have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// A message must hold the longest template and fit a UDP datagram.
    #[error("message_bytes_max is {bytes}; it must be from {at_least} to {at_most}")]
    MessageSize {
        /// As given.
        bytes: usize,
        /// Shortest that holds every record of ours.
        at_least: usize,
        /// Longest UDP payload over IPv4.
        at_most: usize,
    },
    /// 0 and 29305 have meanings of their own.
    #[error("pen {pen} cannot number our own elements: 0 is IANA's and 29305 means reverse")]
    Pen {
        /// As given.
        pen: u32,
    },
    /// Refreshing always would leave no room for data.
    #[error("refresh must be after at least 1 s and 10 messages")]
    Refresh,
}

/// Shortest message that holds every template and record of ours.
pub const MESSAGE_BYTES_MIN: usize = 576;
/// Entries of each dictionary; the oldest makes room, and is told again when a flow needs it.
pub const DICTIONARY_MAX: usize = 4096;
/// Longest UDP payload over IPv4.
pub const MESSAGE_BYTES_MAX: usize = 65_507;

/// The templates of one address family.
struct FlowTemplate {
    id: u16,
    columns: Vec<Column<Biflow>>,
    template: Vec<u8>,
}

/// One stream of messages to one collector. Finished messages are appended to the `out` of each
/// call, in the order in which they must be sent.
pub struct Session {
    settings: Settings,
    announcement: Announcement,
    statistics: Statistics,
    v4: FlowTemplate,
    v6: FlowTemplate,
    builder: Builder,
    /// Data records in messages already finished (RFC 7011 section 3.1).
    sequence: u32,
    announced_ns: Option<u64>,
    messages_since: u64,
    record: Vec<u8>,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("settings", &self.settings)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A session that has sent nothing.
    ///
    /// # Errors
    /// Settings that no session can have.
    pub fn new(settings: Settings, announcement: Announcement) -> Result<Self, SettingsError> {
        let size = settings.message_bytes_max;
        if !(MESSAGE_BYTES_MIN..=MESSAGE_BYTES_MAX).contains(&size) {
            return Err(SettingsError::MessageSize {
                bytes: size,
                at_least: MESSAGE_BYTES_MIN,
                at_most: MESSAGE_BYTES_MAX,
            });
        }
        if settings.pen == 0 || settings.pen == crate::element::REVERSE_PEN {
            return Err(SettingsError::Pen { pen: settings.pen });
        }
        if settings.refresh_ns < 1_000_000_000 || settings.refresh_messages < 10 {
            return Err(SettingsError::Refresh);
        }
        let flow_template = |v4| {
            let id = flow_template_id(settings.personality, v4);
            let columns = flow_columns(settings.personality, v4);
            let template = template(id, None, &columns, settings.pen);
            debug_assert!(HEADER_BYTES + SET_HEADER_BYTES + template.len() < MESSAGE_BYTES_MIN);
            FlowTemplate {
                id,
                columns,
                template,
            }
        };
        Ok(Self {
            v4: flow_template(true),
            v6: flow_template(false),
            builder: Builder::new(size),
            settings,
            announcement,
            statistics: Statistics::default(),
            sequence: 0,
            announced_ns: None,
            messages_since: 0,
            record: Vec::new(),
        })
    }

    /// Replaces the totals that the next refresh tells.
    pub const fn set_statistics(&mut self, statistics: Statistics) {
        self.statistics = statistics;
    }

    /// What the next refresh tells.
    pub const fn announcement_mut(&mut self) -> &mut Announcement {
        &mut self.announcement
    }

    /// Adds to the segment dictionary and tells it before any later flow, where it is new or has
    /// changed.
    pub fn learn_segment(&mut self, now_ns: u64, entry: SegmentEntry, out: &mut Vec<Message>) {
        let known = &mut self.announcement.segments;
        match known.iter_mut().find(|e| e.id == entry.id) {
            Some(old) if *old == entry => return,
            Some(old) => *old = entry.clone(),
            None => {
                if known.len() >= DICTIONARY_MAX {
                    known.remove(0);
                }
                known.push(entry.clone());
            }
        }
        // Before the first announcement there is no template yet; the announcement will tell it.
        if self.announced_ns.is_some() {
            self.append(now_ns, SEGMENTS_ID, &segment_record(&entry), true, out);
        }
    }

    /// Adds to the rule dictionary, as [`Session::learn_segment`].
    pub fn learn_rule(&mut self, now_ns: u64, entry: RuleEntry, out: &mut Vec<Message>) {
        let known = &mut self.announcement.rules;
        match known.iter_mut().find(|e| e.id == entry.id) {
            Some(old) if *old == entry => return,
            Some(old) => *old = entry.clone(),
            None => {
                if known.len() >= DICTIONARY_MAX {
                    known.remove(0);
                }
                known.push(entry.clone());
            }
        }
        if self.announced_ns.is_some() {
            self.append(now_ns, RULES_ID, &rule_record(&entry), true, out);
        }
    }

    /// Whether templates and options are due.
    #[must_use]
    pub fn refresh_due(&self, now_ns: u64) -> bool {
        self.announced_ns.is_none_or(|at| {
            now_ns.saturating_sub(at) >= self.settings.refresh_ns
                || self.messages_since >= self.settings.refresh_messages
        })
    }

    /// Sends the totals alone, after every flow: the last word of a session that ends. Nothing is
    /// sent where nothing was announced, since the templates would be missing.
    pub fn conclude(&mut self, now_ns: u64, out: &mut Vec<Message>) {
        if self.announced_ns.is_some() {
            for table in self.tables() {
                if STATISTICS_IDS.contains(&table.id) {
                    for record in &table.records {
                        self.append(now_ns, table.id, record, true, out);
                    }
                }
            }
        }
        self.flush(now_ns, out);
    }

    fn tables(&self) -> Vec<Table> {
        let row = DomainRow {
            domain: self.settings.domain,
            announcement: &self.announcement,
            statistics: self.statistics,
        };
        tables(&row, self.settings.pen)
    }

    /// Sends every template, then every option, in messages of their own.
    ///
    /// Bounded by the sizes of the dictionaries.
    pub fn announce(&mut self, now_ns: u64, out: &mut Vec<Message>) {
        self.flush(now_ns, out);
        let tables = self.tables();
        let flow_templates = [self.v4.template.clone(), self.v6.template.clone()];
        for template in &flow_templates {
            self.append(now_ns, TEMPLATE_SET, template, false, out);
        }
        for table in &tables {
            self.append(now_ns, OPTIONS_TEMPLATE_SET, &table.template, false, out);
        }
        for table in &tables {
            for record in &table.records {
                self.append(now_ns, table.id, record, true, out);
            }
        }
        self.flush(now_ns, out);
        self.announced_ns = Some(now_ns);
        self.messages_since = 0;
    }

    /// Adds one flow, after the templates where they are due.
    pub fn flow(&mut self, now_ns: u64, flow: &Biflow, out: &mut Vec<Message>) {
        if self.refresh_due(now_ns) {
            self.announce(now_ns, out);
        }
        match self.settings.personality {
            Personality::Biflow => self.data(now_ns, flow, out),
            Personality::Uniflow => {
                let (forward, reverse) = flow.split();
                self.data(now_ns, &forward, out);
                if let Some(reverse) = reverse {
                    self.data(now_ns, &reverse, out);
                }
            }
        }
        self.builder.count_flow(flow.packets(), flow.bytes());
    }

    /// Finishes the message under construction, where it has anything in it.
    pub fn flush(&mut self, now_ns: u64, out: &mut Vec<Message>) {
        if self.builder.is_empty() {
            return;
        }
        // RFC 7011 section 3.1: seconds since 1970, modulo 2^32.
        let export_s = u32::try_from((now_ns / 1_000_000_000) & 0xffff_ffff).unwrap_or(u32::MAX);
        let (message, data_records) =
            self.builder
                .finish(export_s, self.sequence, self.settings.domain);
        self.sequence = self.sequence.wrapping_add(data_records);
        self.messages_since += 1;
        out.push(message);
    }

    fn data(&mut self, now_ns: u64, flow: &Biflow, out: &mut Vec<Message>) {
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        let template = if flow.is_v4() { &self.v4 } else { &self.v6 };
        write_row(&template.columns, flow, &mut record);
        let id = template.id;
        self.append(now_ns, id, &record, true, out);
        self.record = record;
    }

    fn append(&mut self, now_ns: u64, set: u16, record: &[u8], data: bool, out: &mut Vec<Message>) {
        if !self.builder.append(set, record, data) {
            self.flush(now_ns, out);
            let fits = self.builder.append(set, record, data);
            assert!(
                fits,
                "every record fits a message of MESSAGE_BYTES_MIN: a test holds it"
            );
        }
    }
}
