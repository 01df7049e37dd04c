//! Reads classic pcap (both byte orders, micro- and nanoseconds) and pcapng files. Test support
//! only: it indexes and trusts its input as far as a test may.

use std::fs;
use std::io;
use std::path::Path;

/// Link type of Ethernet.
pub const ETHERNET: u32 = 1;
/// Captured lengths above this are damage of the file; readers stop there.
const CAPTURED_BYTES_MAX: usize = 262_144;

/// One captured frame.
#[derive(Debug, Clone)]
pub struct Frame {
    /// Link type of the interface it was captured on.
    pub link_type: u32,
    /// Length on the wire.
    pub wire_len: u32,
    /// The captured bytes.
    pub bytes: Vec<u8>,
}

/// Every whole record of a capture file; a file cut short gives the records before the cut.
pub fn read(path: &Path) -> io::Result<Vec<Frame>> {
    let file = fs::read(path)?;
    Ok(match file.get(..4) {
        Some([0x0a, 0x0d, 0x0d, 0x0a]) => pcapng(&file),
        Some([0xa1, 0xb2, 0xc3, 0xd4] | [0xa1, 0xb2, 0x3c, 0x4d]) => pcap(&file, true),
        Some([0xd4, 0xc3, 0xb2, 0xa1] | [0x4d, 0x3c, 0xb2, 0xa1]) => pcap(&file, false),
        _ => Vec::new(),
    })
}

fn u32_at(file: &[u8], at: usize, big_endian: bool) -> Option<u32> {
    let raw: [u8; 4] = file.get(at..at + 4)?.try_into().ok()?;
    Some(if big_endian {
        u32::from_be_bytes(raw)
    } else {
        u32::from_le_bytes(raw)
    })
}

fn u16_at(file: &[u8], at: usize, big_endian: bool) -> Option<u16> {
    let raw: [u8; 2] = file.get(at..at + 2)?.try_into().ok()?;
    Some(if big_endian {
        u16::from_be_bytes(raw)
    } else {
        u16::from_le_bytes(raw)
    })
}

fn pcap(file: &[u8], big_endian: bool) -> Vec<Frame> {
    let mut frames = Vec::new();
    let Some(link_type) = u32_at(file, 20, big_endian) else {
        return frames;
    };
    let mut at = 24;
    while let (Some(captured), Some(wire_len)) = (
        u32_at(file, at + 8, big_endian),
        u32_at(file, at + 12, big_endian),
    ) {
        let captured = captured as usize;
        let Some(bytes) = file.get(at + 16..at + 16 + captured) else {
            break;
        };
        if captured > CAPTURED_BYTES_MAX {
            break;
        }
        frames.push(Frame {
            link_type: link_type & 0xffff,
            wire_len,
            bytes: bytes.to_vec(),
        });
        at += 16 + captured;
    }
    frames
}

fn pcapng(file: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    let mut link_types: Vec<u32> = Vec::new();
    let (mut at, mut big_endian) = (0, false);
    while let Some(kind) = u32_at(file, at, big_endian) {
        if kind == 0x0a0d_0d0a {
            big_endian = file.get(at + 8..at + 12) == Some(&[0x1a, 0x2b, 0x3c, 0x4d]);
            link_types.clear();
        }
        let Some(length) = u32_at(file, at + 4, big_endian) else {
            break;
        };
        let Some(block) = file.get(at..at + length as usize) else {
            break;
        };
        if length < 12 {
            break;
        }
        match kind {
            1 => link_types.extend(u16_at(block, 8, big_endian).map(u32::from)),
            3 | 6 => frames.extend(packet(block, kind, &link_types, big_endian)),
            _ => {}
        }
        at += length as usize;
    }
    frames
}

/// An enhanced (6) or simple (3) packet block.
fn packet(block: &[u8], kind: u32, link_types: &[u32], big_endian: bool) -> Option<Frame> {
    let (interface, captured, wire_len, start) = if kind == 6 {
        let interface = u32_at(block, 8, big_endian)? as usize;
        let captured = u32_at(block, 20, big_endian)? as usize;
        (interface, captured, u32_at(block, 24, big_endian)?, 28)
    } else {
        let wire_len = u32_at(block, 8, big_endian)?;
        (0, (wire_len as usize).min(block.len() - 16), wire_len, 12)
    };
    let bytes = block.get(start..start + captured)?.to_vec();
    Some(Frame {
        link_type: *link_types.get(interface)?,
        wire_len,
        bytes,
    })
}
