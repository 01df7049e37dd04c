//! Any bytes as a frame: no panic, and nothing told that the frame does not hold.
#![no_main]

use libfuzzer_sys::fuzz_target;
use packet::{Headers, ParseOptions, parse};

fuzz_target!(|input: (u16, u8, u8, &[u8])| {
    let (more, tunnel_depth_max, extension_headers_max, frame) = input;
    let Ok(captured) = u32::try_from(frame.len()) else {
        return;
    };
    let options = ParseOptions {
        tunnel_depth_max,
        extension_headers_max,
    };
    let mut headers = Headers::new();
    parse(frame, captured + u32::from(more), &options, &mut headers);
    assert_eq!(headers.inner.is_some(), headers.tunnel.is_some());
    assert_eq!(headers.outer.is_none(), headers.link.non_ip.is_some());
    for header in [headers.outer, headers.inner].into_iter().flatten() {
        let header_bytes = if header.version == 4 { 20 } else { 40 };
        assert!(header.l3_offset + header_bytes <= captured);
        if header.has_ports {
            let at = header.l4_offset as usize;
            let ports = [header.src_port.to_be_bytes(), header.dst_port.to_be_bytes()].concat();
            assert_eq!(frame.get(at..at + 4), Some(&ports[..]));
        }
    }
    // The same frame after another one gives the same headers.
    let first = headers.clone();
    parse(&[], 0, &options, &mut headers);
    parse(frame, captured + u32::from(more), &options, &mut headers);
    assert_eq!(
        (first.outer, first.inner, first.tunnel),
        (headers.outer, headers.inner, headers.tunnel)
    );
    assert_eq!(
        (first.transport, first.quoted),
        (headers.transport, headers.quoted)
    );
    assert_eq!(first.malformed, headers.malformed);
});
