//! A decoder written from RFC 7011 alone, and flows to encode. It shares nothing with the encoder:
//! it knows elements by number only.
#![allow(dead_code, reason = "each test binary uses its part")]

use ipfix::Biflow;
use std::collections::HashMap;
use std::net::Ipv6Addr;

#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) id: u16,
    pub(crate) pen: u32,
    pub(crate) length: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Template {
    pub(crate) fields: Vec<Field>,
    pub(crate) scopes: u16,
}

#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) template: u16,
    pub(crate) options: bool,
    /// In order; an element may occur twice.
    pub(crate) values: Vec<(u32, u16, Vec<u8>)>,
}

impl Record {
    #[track_caller]
    pub(crate) fn bytes(&self, pen: u32, id: u16) -> &[u8] {
        let found = self.values.iter().find(|(p, i, _)| (*p, *i) == (pen, id));
        &found
            .unwrap_or_else(|| panic!("no element {pen}/{id} in template {}", self.template))
            .2
    }

    pub(crate) fn has(&self, pen: u32, id: u16) -> bool {
        self.values.iter().any(|(p, i, _)| (*p, *i) == (pen, id))
    }

    #[track_caller]
    pub(crate) fn number(&self, pen: u32, id: u16) -> u64 {
        self.bytes(pen, id)
            .iter()
            .fold(0, |sum, byte| sum << 8 | u64::from(*byte))
    }

    #[track_caller]
    pub(crate) fn text(&self, pen: u32, id: u16) -> String {
        String::from_utf8(self.bytes(pen, id).to_vec()).unwrap()
    }
}

/// A collector: templates seen, records read, and the sequence number it expects.
#[derive(Default)]
pub(crate) struct Collector {
    pub(crate) templates: HashMap<u16, Template>,
    pub(crate) records: Vec<Record>,
    pub(crate) sequence_expected: u32,
    pub(crate) domain: Option<u32>,
    pub(crate) longest: usize,
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]])
}

impl Collector {
    pub(crate) fn receive(&mut self, message: &[u8]) {
        assert_eq!(u16_at(message, 0), 10, "version");
        assert_eq!(usize::from(u16_at(message, 2)), message.len(), "length");
        assert_eq!(
            u32_at(message, 8),
            self.sequence_expected,
            "sequence number"
        );
        let domain = u32_at(message, 12);
        assert_eq!(*self.domain.get_or_insert(domain), domain, "domain");
        self.longest = self.longest.max(message.len());
        let mut at = 16;
        while at < message.len() {
            let (id, length) = (u16_at(message, at), usize::from(u16_at(message, at + 2)));
            assert!(
                length >= 4 && at + length <= message.len(),
                "set length {length}"
            );
            assert_eq!(length % 4, 0, "sets are padded to four bytes");
            let body = &message[at + 4..at + length];
            match id {
                2 => self.template_set(body, false),
                3 => self.template_set(body, true),
                256.. => self.data_set(id, body),
                _ => panic!("set id {id}"),
            }
            at += length;
        }
        assert_eq!(at, message.len());
    }

    fn template_set(&mut self, mut body: &[u8], options: bool) {
        while body.len() > 4 {
            let (id, count) = (u16_at(body, 0), u16_at(body, 2));
            assert!(id >= 256, "template id {id}");
            let scopes = if options { u16_at(body, 4) } else { 0 };
            assert!(!options || scopes > 0, "an options template has a scope");
            body = &body[if options { 6 } else { 4 }..];
            let mut fields = Vec::new();
            for _ in 0..count {
                let (id, length) = (u16_at(body, 0), u16_at(body, 2));
                body = &body[4..];
                let mut pen = 0;
                if id & 0x8000 != 0 {
                    pen = u32_at(body, 0);
                    body = &body[4..];
                }
                fields.push(Field {
                    id: id & 0x7fff,
                    pen,
                    length,
                });
            }
            self.templates.insert(id, Template { fields, scopes });
        }
        assert!(body.iter().all(|b| *b == 0), "padding is zero");
    }

    fn data_set(&mut self, id: u16, mut body: &[u8]) {
        let template = self
            .templates
            .get(&id)
            .expect("template before data")
            .clone();
        // What is shorter than any record is padding.
        while body.len() > 3 {
            let mut values = Vec::new();
            for field in &template.fields {
                let mut length = usize::from(field.length);
                if field.length == 0xffff {
                    length = usize::from(body[0]);
                    body = &body[1..];
                    if length == 255 {
                        length = usize::from(u16_at(body, 0));
                        body = &body[2..];
                    }
                }
                values.push((field.pen, field.id, body[..length].to_vec()));
                body = &body[length..];
            }
            self.sequence_expected = self.sequence_expected.wrapping_add(1);
            self.records.push(Record {
                template: id,
                options: template.scopes > 0,
                values,
            });
        }
        assert!(body.iter().all(|b| *b == 0), "padding is zero");
    }

    pub(crate) fn flows(&self) -> Vec<&Record> {
        self.records.iter().filter(|r| !r.options).collect()
    }
}

/// 2026-11-22T20:00:00Z in milliseconds.
pub(crate) const START_MS: u64 = 1_795_377_600_000;

/// An allowed TCP flow with answers, all fields different from each other.
pub(crate) fn tcp_v4() -> Biflow {
    Biflow {
        first_ms: START_MS + 7,
        last_ms: START_MS + 1_234,
        src: "10.0.1.10".parse().unwrap(),
        dst: "10.0.2.20".parse().unwrap(),
        sport: 40_001,
        dport: 5432,
        proto: 6,
        packets_fwd: 11,
        packets_rev: 9,
        bytes_fwd: 1_111,
        bytes_rev: 9_999,
        dropped_packets: 0,
        dropped_bytes: 0,
        tcp_flags_fwd: 0x1b,
        tcp_flags_rev: 0x1a,
        tos_fwd: 0x28,
        tos_rev: 0x20,
        icmp_type_code: 0,
        end_reason: 3,
        firewall_event: 2,
        forwarding_status: 64,
        ingress_interface: 1,
        egress_interface: 2,
        vlans: [100, 200],
        layer2_segment_id: 0x0100_0000_0000_002a,
        flow_id: 0x0100_0000_0000_0007,
        src_segment_id: 0xaaaa_0001,
        dst_segment_id: 0xbbbb_0002,
        policy_revision: 0x1122_3344_5566_7788,
        policy_epoch: 17,
        rule_id: 0x00ab_cdef_0000_0042,
        rule_action: 1,
        enforcement_mode: 4,
        pending_rule_id: 0x0000_0000_dead_beef,
        pending_action: 2,
        verdict_source: 1,
        deny_reason: 0,
        coverage: 1,
        initiator_confidence: 255,
        tcp_state: 5,
        rtt_initiator_us: 321,
        rtt_responder_us: 654,
        retransmits_fwd: 3,
        retransmits_rev: 4,
        tunnel_type: 3,
        tunnel_id: 42,
        outer_src: "::ffff:192.0.2.1".parse().unwrap(),
        outer_dst: "::ffff:192.0.2.2".parse().unwrap(),
        worker: 5,
        kind: 3,
    }
}

/// A denied UDP flow without an answer.
pub(crate) fn udp_v6() -> Biflow {
    Biflow {
        src: "2001:db8::1".parse().unwrap(),
        dst: "2001:db8::2".parse().unwrap(),
        sport: 53_000,
        dport: 53,
        proto: 17,
        packets_fwd: 2,
        packets_rev: 0,
        bytes_fwd: 130,
        bytes_rev: 0,
        dropped_packets: 2,
        dropped_bytes: 130,
        tcp_flags_fwd: 0,
        tcp_flags_rev: 0,
        end_reason: 2,
        firewall_event: 3,
        forwarding_status: 130,
        egress_interface: 0,
        vlans: [0, 0],
        layer2_segment_id: 0,
        rule_action: 2,
        deny_reason: 1,
        tcp_state: 0,
        tunnel_type: 0,
        tunnel_id: 0,
        outer_src: Ipv6Addr::UNSPECIFIED,
        outer_dst: Ipv6Addr::UNSPECIFIED,
        kind: 1,
        ..tcp_v4()
    }
}

/// An ICMP echo with its answer.
pub(crate) fn icmp_v4() -> Biflow {
    Biflow {
        sport: 0,
        dport: 0,
        proto: 1,
        packets_fwd: 5,
        packets_rev: 5,
        bytes_fwd: 420,
        bytes_rev: 420,
        tcp_flags_fwd: 0,
        tcp_flags_rev: 0,
        icmp_type_code: 8 << 8,
        end_reason: 1,
        ..tcp_v4()
    }
}
