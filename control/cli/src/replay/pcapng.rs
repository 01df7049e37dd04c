//! Walks the blocks of a pcapng file (draft-ietf-opsawg-pcapng), as libpcap's `sf-pcapng.c` does.

use std::io::{self, BufRead};

use super::capture::{
    Capture, Cut, FRAME_BYTES_MAX, LINK_TYPE_ETHERNET, Order, Refused, Source, Step, Stop,
};
use super::link_type::link_type_name;

/// libpcap's limit for one pcapng block, bytes (`INITIAL_MAX_BLOCKSIZE`).
const BLOCK_BYTES_MAX: u32 = 16 * 1024 * 1024;
pub(super) const BLOCK_SECTION: u32 = 0x0a0d_0d0a;
pub(super) const BLOCK_INTERFACE: u32 = 1;
pub(super) const BLOCK_PACKET: u32 = 2;
pub(super) const BLOCK_SIMPLE_PACKET: u32 = 3;
pub(super) const BLOCK_ENHANCED_PACKET: u32 = 6;

/// State of a pcapng walk within one section.
struct Section {
    order: Order,
    interfaces: u32,
    /// Snapshot length of the section's first interface.
    snapshot: Option<u32>,
    /// Whether an interface has another than the first of the file.
    mixed_snapshots: bool,
}

/// The pcapng file format (draft-ietf-opsawg-pcapng), as libpcap reads it.
pub(super) fn walk<R: BufRead>(source: &mut Source<R>) -> Result<Capture, Stop> {
    let order = match section_header(source, None)? {
        Ok(order) => order,
        Err(found) => return Err(Stop::NotACapture { found, advice: "" }),
    };
    let mut section = Section {
        order,
        interfaces: 0,
        snapshot: None,
        mixed_snapshots: false,
    };
    let mut frames = 0;
    let cut = loop {
        match walk_block(source, &mut section, frames)? {
            Step::Frame => frames += 1,
            Step::Other => {}
            Step::End => break None,
            Step::Cut(reason) => {
                break Some(Cut {
                    after_frame: frames,
                    reason,
                });
            }
        }
    };
    Ok(Capture {
        format: "pcapng",
        frames,
        // Every frame may begin a flow, and be a fragment.
        flows_max: frames,
        fragments_max: frames,
        cut,
        refused: section.mixed_snapshots.then_some(Refused::MixedSnapshots),
    })
}

/// Reads a section header block behind its type. Inner error: what is wrong with it.
fn section_header<R: BufRead>(
    source: &mut Source<R>,
    expected: Option<Order>,
) -> io::Result<Result<Order, String>> {
    let mut header = [0; 8];
    if source.take(&mut header)?.is_err() {
        return Ok(Err("its pcapng section header is cut".to_owned()));
    }
    let order = match [header[4], header[5], header[6], header[7]] {
        [0x4d, 0x3c, 0x2b, 0x1a] => Order::Little,
        [0x1a, 0x2b, 0x3c, 0x4d] => Order::Big,
        _ => {
            return Ok(Err(
                "its pcapng section header has no byte-order magic".to_owned()
            ));
        }
    };
    if expected.is_some_and(|expected| expected != order) {
        return Ok(Err("a section with the other byte order begins".to_owned()));
    }
    let length = order.u32(&header[0..4]);
    if !(28..=BLOCK_BYTES_MAX).contains(&length) || !length.is_multiple_of(4) {
        return Ok(Err(format!(
            "its pcapng section header claims {length} bytes"
        )));
    }
    Ok(match source.skip(u64::from(length) - 12)? {
        Ok(()) => Ok(order),
        Err(_) => Err("its pcapng section header is cut".to_owned()),
    })
}

fn walk_block<R: BufRead>(
    source: &mut Source<R>,
    section: &mut Section,
    frames: u64,
) -> Result<Step, Stop> {
    let mut kind = [0; 4];
    match source.take(&mut kind)? {
        Ok(()) => {}
        Err(0) => return Ok(Step::End),
        Err(_) => return Ok(Step::Cut("the file ends inside a block header".to_owned())),
    }
    let kind = section.order.u32(&kind);
    if kind == BLOCK_SECTION {
        return Ok(match section_header(source, Some(section.order))? {
            Ok(_) => {
                section.interfaces = 0;
                Step::Other
            }
            Err(reason) => Step::Cut(reason),
        });
    }
    let mut length = [0; 4];
    if source.take(&mut length)?.is_err() {
        return Ok(Step::Cut("the file ends inside a block header".to_owned()));
    }
    let length = section.order.u32(&length);
    if !(12..=BLOCK_BYTES_MAX).contains(&length) || !length.is_multiple_of(4) {
        return Ok(Step::Cut(format!(
            "the next block claims a length of {length} bytes"
        )));
    }
    let body_bytes = length - 12;
    let mut fixed = [0; 20];
    let fixed_bytes = fixed.len().min(body_bytes as usize);
    if source.take(&mut fixed[..fixed_bytes])?.is_err()
        || source
            .skip(u64::from(body_bytes) - fixed_bytes as u64)?
            .is_err()
    {
        return Ok(Step::Cut(format!(
            "the file ends inside a block of {length} bytes"
        )));
    }
    let mut trailer = [0; 4];
    if source.take(&mut trailer)?.is_err() {
        return Ok(Step::Cut(format!(
            "the file ends inside a block of {length} bytes"
        )));
    }
    if section.order.u32(&trailer) != length {
        return Ok(Step::Cut(
            "a block's two length fields contradict each other".to_owned(),
        ));
    }
    judge_block(kind, &fixed[..fixed_bytes], body_bytes, section, frames)
}

/// Decides what a whole block means; `fixed` are the first bytes of its body.
fn judge_block(
    kind: u32,
    fixed: &[u8],
    body_bytes: u32,
    section: &mut Section,
    frames: u64,
) -> Result<Step, Stop> {
    let order = section.order;
    let too_short = || {
        Ok(Step::Cut(
            "a block is shorter than its fixed fields".to_owned(),
        ))
    };
    match kind {
        BLOCK_INTERFACE if fixed.len() < 8 => too_short(),
        BLOCK_INTERFACE => interface_block(fixed, section, frames),
        BLOCK_ENHANCED_PACKET | BLOCK_PACKET if fixed.len() < 20 => too_short(),
        BLOCK_ENHANCED_PACKET | BLOCK_PACKET => {
            let interface = if kind == BLOCK_PACKET {
                u32::from(order.u16(&fixed[0..2]))
            } else {
                order.u32(&fixed[0..4])
            };
            Ok(packet_step(
                interface,
                order.u32(&fixed[12..16]),
                body_bytes - 20,
                section,
            ))
        }
        BLOCK_SIMPLE_PACKET if fixed.len() < 4 => too_short(),
        BLOCK_SIMPLE_PACKET => {
            let on_wire = order.u32(&fixed[0..4]);
            let captured = on_wire.min(section.snapshot.unwrap_or(FRAME_BYTES_MAX));
            Ok(packet_step(0, captured, body_bytes - 4, section))
        }
        _ => Ok(Step::Other),
    }
}

fn interface_block(fixed: &[u8], section: &mut Section, frames: u64) -> Result<Step, Stop> {
    let link_type = section.order.u16(&fixed[0..2]);
    let snapshot = match section.order.u32(&fixed[4..8]) {
        0 | 0x8000_0000.. => FRAME_BYTES_MAX,
        stated => stated,
    };
    if link_type != LINK_TYPE_ETHERNET {
        if frames == 0 {
            return Err(Stop::NotEthernet(link_type));
        }
        return Ok(Step::Cut(format!(
            "an interface of link type {link_type} ({}) begins, and the capture began with \
             Ethernet; split it with `editcap`",
            link_type_name(link_type)
        )));
    }
    let first = *section.snapshot.get_or_insert(snapshot);
    section.mixed_snapshots |= first != snapshot;
    section.interfaces += 1;
    Ok(Step::Other)
}

fn packet_step(interface: u32, captured: u32, room_bytes: u32, section: &Section) -> Step {
    if interface >= section.interfaces {
        return Step::Cut(format!(
            "a frame names interface {interface}, which is not described"
        ));
    }
    if captured > room_bytes {
        return Step::Cut(format!(
            "a frame of {captured} bytes is announced in a block with room for {room_bytes}"
        ));
    }
    Step::Frame
}
