//! Walks the blocks of a pcapng file (draft-ietf-opsawg-pcapng), as libpcap's `sf-pcapng.c` does.

use std::io::{self, BufRead};

use super::capture::{
    Capture, Cut, FRAME_BYTES_MAX, Order, PassedOver, Refused, Source, Step, Stop,
};
use super::distinct::{Distinct, LINK_FIRST_BYTES};
use super::ethernet::{LINK_TYPE_ETHERNET, is_replayed};

/// libpcap's limit for one pcapng block, bytes (`INITIAL_MAX_BLOCKSIZE`).
const BLOCK_BYTES_MAX: u32 = 16 * 1024 * 1024;
/// What stands before a frame in its block.
const FIXED_BYTES: usize = 20;
pub(super) const BLOCK_SECTION: u32 = 0x0a0d_0d0a;
pub(super) const BLOCK_INTERFACE: u32 = 1;
pub(super) const BLOCK_PACKET: u32 = 2;
pub(super) const BLOCK_SIMPLE_PACKET: u32 = 3;
pub(super) const BLOCK_ENHANCED_PACKET: u32 = 6;

/// State of a pcapng walk within one section.
struct Section {
    order: Order,
    /// Link type of each interface.
    interfaces: Vec<u16>,
    /// Snapshot length of the section's first interface.
    snapshot: Option<u32>,
    /// Whether an interface has another than the first of the file.
    mixed_snapshots: bool,
    /// Whether an interface is not of Ethernet.
    other_links: bool,
    distinct: Distinct,
}

/// The pcapng file format (draft-ietf-opsawg-pcapng), as libpcap reads it.
pub(super) fn walk<R: BufRead>(source: &mut Source<R>) -> Result<Capture, Stop> {
    let order = match section_header(source, None)? {
        Ok(order) => order,
        Err(found) => return Err(Stop::NotACapture { found, advice: "" }),
    };
    let mut section = Section {
        order,
        interfaces: Vec::new(),
        snapshot: None,
        mixed_snapshots: false,
        other_links: false,
        distinct: Distinct::new(),
    };
    let (mut frames, mut passed_over) = (0, None);
    let cut = loop {
        match walk_block(source, &mut section)? {
            Step::Frame => frames += 1,
            Step::PassedOver(link_type) => {
                let first = PassedOver {
                    frames: 0,
                    link_type,
                };
                passed_over.get_or_insert(first).frames += 1;
            }
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
    if let (0, Some(PassedOver { link_type, .. })) = (frames, passed_over) {
        return Err(Stop::OtherLink(link_type));
    }
    let other_link = section.other_links.then_some(Refused::OtherLink);
    Ok(Capture {
        format: "pcapng",
        frames,
        flows_max: section.distinct.flows(),
        fragments_max: section.distinct.fragments(),
        cut,
        passed_over,
        refused: other_link.or(section.mixed_snapshots.then_some(Refused::MixedSnapshots)),
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

fn walk_block<R: BufRead>(source: &mut Source<R>, section: &mut Section) -> Result<Step, Stop> {
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
                section.interfaces.clear();
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
    let mut fixed = [0; FIXED_BYTES + LINK_FIRST_BYTES];
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
    Ok(judge_block(
        kind,
        &fixed[..fixed_bytes],
        body_bytes,
        section,
    ))
}

/// Decides what a whole block means; `fixed` are the first bytes of its body.
fn judge_block(kind: u32, fixed: &[u8], body_bytes: u32, section: &mut Section) -> Step {
    let order = section.order;
    let too_short = || Step::Cut("a block is shorter than its fixed fields".to_owned());
    match kind {
        BLOCK_INTERFACE if fixed.len() < 8 => too_short(),
        BLOCK_INTERFACE => interface_block(fixed, section),
        BLOCK_ENHANCED_PACKET | BLOCK_PACKET if fixed.len() < FIXED_BYTES => too_short(),
        BLOCK_ENHANCED_PACKET | BLOCK_PACKET => {
            let interface = if kind == BLOCK_PACKET {
                u32::from(order.u16(&fixed[0..2]))
            } else {
                order.u32(&fixed[0..4])
            };
            let captured = order.u32(&fixed[12..16]);
            let room = body_bytes - 20;
            packet_step(interface, captured, room, &fixed[FIXED_BYTES..], section)
        }
        BLOCK_SIMPLE_PACKET if fixed.len() < 4 => too_short(),
        BLOCK_SIMPLE_PACKET => {
            let on_wire = order.u32(&fixed[0..4]);
            let captured = on_wire.min(section.snapshot.unwrap_or(FRAME_BYTES_MAX));
            packet_step(0, captured, body_bytes - 4, &fixed[4..], section)
        }
        _ => Step::Other,
    }
}

fn interface_block(fixed: &[u8], section: &mut Section) -> Step {
    let link_type = section.order.u16(&fixed[0..2]);
    let snapshot = match section.order.u32(&fixed[4..8]) {
        0 | 0x8000_0000.. => FRAME_BYTES_MAX,
        stated => stated,
    };
    section.interfaces.push(link_type);
    section.other_links |= link_type != LINK_TYPE_ETHERNET;
    let first = *section.snapshot.get_or_insert(snapshot);
    section.mixed_snapshots |= first != snapshot;
    Step::Other
}

/// A frame; `first` are its first bytes, and what fills the block behind it.
fn packet_step(
    interface: u32,
    captured: u32,
    room_bytes: u32,
    first: &[u8],
    section: &mut Section,
) -> Step {
    let Some(link_type) = section.interfaces.get(interface as usize) else {
        return Step::Cut(format!(
            "a frame names interface {interface}, which is not described"
        ));
    };
    if captured > room_bytes {
        return Step::Cut(format!(
            "a frame of {captured} bytes is announced in a block with room for {room_bytes}"
        ));
    }
    if !is_replayed(*link_type) {
        return Step::PassedOver(*link_type);
    }
    let bytes = first.len().min(LINK_FIRST_BYTES).min(captured as usize);
    section
        .distinct
        .add_frame(*link_type, &first[..bytes], captured);
    Step::Frame
}
