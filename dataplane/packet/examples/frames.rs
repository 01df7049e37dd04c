//! Prints what the parser reads of each frame of a capture: `frames CAPTURE`. One line per frame:
//! number, then for the outer and the inner header source, destination, protocol, ports and bytes
//! (`-` where there is none), VLAN stack, tunnel, and what is wrong with the frame.
#![allow(clippy::disallowed_macros, reason = "this program is there to print")]

#[allow(unreachable_pub, reason = "it is shared with the tests")]
#[path = "../tests/support/capture.rs"]
mod capture;

use std::net::IpAddr;
use std::path::Path;

use packet::{Headers, IpHeader, KeyHeader, ParseOptions, VlanKind, parse};

fn header(header: Option<&IpHeader>) -> String {
    let Some(header) = header else {
        return "-".to_owned();
    };
    let address = |bytes: [u8; 16]| match (header.version, bytes) {
        (4, [.., a, b, c, d]) => IpAddr::from([a, b, c, d]),
        _ => IpAddr::from(bytes),
    };
    format!(
        "{} {} {} {} {} {}",
        address(header.src),
        address(header.dst),
        header.protocol,
        header.src_port,
        header.dst_port,
        header.ip_bytes
    )
}

fn main() {
    let path = std::env::args().nth(1).expect("usage: frames CAPTURE");
    let frames = capture::read(Path::new(&path)).expect("a readable capture");
    let options = ParseOptions {
        tunnel_depth_max: u8::MAX,
        ..ParseOptions::default()
    };
    let mut headers = Headers::new();
    for (index, frame) in frames.iter().enumerate() {
        if frame.link_type != capture::ETHERNET {
            println!("{}\tnot Ethernet: link type {}", index + 1, frame.link_type);
            continue;
        }
        parse(&frame.bytes, frame.wire_len, &options, &mut headers);
        let vlans: Vec<String> = headers
            .link
            .vlans()
            .iter()
            .map(|vlan| match vlan.kind {
                VlanKind::Customer => vlan.id.to_string(),
                VlanKind::Service => format!("s{}", vlan.id),
            })
            .collect();
        println!(
            "{}\t{}\t{}\t{}\t{}\t{}",
            index + 1,
            header(headers.classified(KeyHeader::Outer)),
            header(headers.classified(KeyHeader::Inner)),
            vlans.join("/"),
            headers
                .tunnel
                .map_or_else(|| "-".to_owned(), |tunnel| format!("{tunnel:?}")),
            headers.malformed.map_or("-", packet::Malformed::sentence)
        );
    }
}
