//! Flow tables by the rules of the oracle: one row per key and file, both directions merged.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use packet::{Headers, IpHeader, KeyHeader, VlanKind};

/// Source, destination, protocol, source port, destination port, VLAN stack where it is in the key.
type Key = (IpAddr, IpAddr, u8, u16, u16, String);

/// The four tables of one capture.
#[derive(Default)]
pub struct Tables {
    pub outer: Table,
    pub inner: Table,
    pub vlan: Table,
    pub fragments: Table,
    first_fragments: BTreeMap<(IpAddr, IpAddr, u8, u32), (u16, u16)>,
}

/// Packets and bytes both ways per key.
#[derive(Default)]
pub struct Table {
    rows: BTreeMap<Key, [u64; 4]>,
}

impl Table {
    fn add(&mut self, key: Key, bytes: u32) {
        let (src, dst, protocol, src_port, dst_port, vlans) = key.clone();
        let reverse = (dst, src, protocol, dst_port, src_port, vlans);
        let backward = !self.rows.contains_key(&key) && self.rows.contains_key(&reverse);
        let row = self
            .rows
            .entry(if backward { reverse } else { key })
            .or_default();
        let side = if backward { 2 } else { 0 };
        row[side] += 1;
        row[side + 1] += u64::from(bytes);
    }

    /// One line per flow, as the truth files begin: nine columns, and the VLAN stack if asked for.
    pub fn lines(&self, with_vlans: bool) -> BTreeSet<String> {
        let line = |(key, row): (&Key, &[u64; 4])| {
            let (src, dst, protocol, src_port, dst_port, vlans) = key;
            let [packets, bytes, packets_back, bytes_back] = row;
            let mut line = format!(
                "{src}\t{dst}\t{protocol}\t{src_port}\t{dst_port}\t\
                 {packets}\t{bytes}\t{packets_back}\t{bytes_back}"
            );
            if with_vlans {
                line.push('\t');
                line.push_str(vlans);
            }
            line
        };
        self.rows.iter().map(line).collect()
    }
}

fn address(bytes: [u8; 16], version: u8) -> IpAddr {
    let [.., a, b, c, d] = bytes;
    if version == 4 {
        IpAddr::from([a, b, c, d])
    } else {
        IpAddr::from(bytes)
    }
}

impl Tables {
    /// Counts one frame.
    pub fn add(&mut self, headers: &Headers) {
        let Some(outer) = headers.classified(KeyHeader::Outer) else {
            return;
        };
        let Some(inner) = headers.classified(KeyHeader::Inner) else {
            return;
        };
        self.outer.add(key(outer, String::new()), outer.ip_bytes);
        self.inner.add(key(inner, String::new()), inner.ip_bytes);
        self.vlan.add(key(outer, vlans(headers)), outer.ip_bytes);
        let mut credited = key(outer, String::new());
        let datagram = (credited.0, credited.1, credited.2, outer.fragment.id);
        if outer.is_later_fragment() {
            let ports = self
                .first_fragments
                .get(&datagram)
                .copied()
                .unwrap_or((0, 0));
            (credited.3, credited.4) = ports;
        } else if outer.fragment.is_fragment {
            self.first_fragments
                .insert(datagram, (outer.src_port, outer.dst_port));
        }
        self.fragments.add(credited, outer.ip_bytes);
    }
}

fn key(header: &IpHeader, vlans: String) -> Key {
    let src = address(header.src, header.version);
    let dst = address(header.dst, header.version);
    (
        src,
        dst,
        header.protocol,
        header.src_port,
        header.dst_port,
        vlans,
    )
}

fn vlans(headers: &Headers) -> String {
    let name = |vlan: &packet::Vlan| match vlan.kind {
        VlanKind::Customer => vlan.id.to_string(),
        VlanKind::Service => format!("s{}", vlan.id),
    };
    headers
        .link
        .vlans()
        .iter()
        .map(name)
        .collect::<Vec<_>>()
        .join("/")
}

/// The lines of a truth file in the form of [`Table::lines`], or nothing where there is none.
pub fn truth(path: &Path, with_vlans: bool) -> Option<BTreeSet<String>> {
    let text = fs::read_to_string(path).ok()?;
    Some(
        text.lines()
            .skip(1)
            .map(|line| normal(line, with_vlans))
            .collect(),
    )
}

/// Addresses as this machine prints them, and only the columns compared.
fn normal(line: &str, with_vlans: bool) -> String {
    let columns: Vec<&str> = line.split('\t').collect();
    let address = |text: &str| {
        text.parse::<IpAddr>()
            .expect("an address in the truth")
            .to_string()
    };
    let mut out = format!("{}\t{}\t{}", address(columns[0]), address(columns[1]), {
        columns[2..9].join("\t")
    });
    if with_vlans {
        out.push('\t');
        out.push_str(columns[17]);
    }
    out
}
