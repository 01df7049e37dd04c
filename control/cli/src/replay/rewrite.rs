//! Rewrites files that libpcap or net_pcap refuses and other readers do not.
//!
//! Links that are not Ethernet as pcap with nanoseconds: net_pcap takes every frame for an Ethernet frame, so that they
//! become such ([`super::ethernet`]).
//!
//! pcapng as pcap with nanoseconds: libpcap, and with it net_pcap, ends at an interface whose snapshot length differs from the
//! first one's, although such files are legal and common (several interfaces captured at once).
//! The frames are the same ones, in the same order, at the same times.
//!
//! pcap of an unknown minor number as 2.4: nothing after 2.4 was ever defined, so the rest of the
//! file is read as 2.4 or not at all.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::path::Path;

use super::capture::{FRAME_BYTES_MAX, Order, PCAP_MINOR_LAST, Record};
use super::ethernet::{LINK_TYPE_ETHERNET, ethernet, is_replayed};
use super::pcapng::{
    BLOCK_ENHANCED_PACKET, BLOCK_INTERFACE, BLOCK_PACKET, BLOCK_SECTION, BLOCK_SIMPLE_PACKET,
};

/// Option of an interface: resolution of its time stamps (draft-ietf-opsawg-pcapng section 4.2).
const OPTION_TS_RESOLUTION: u16 = 9;
/// Option of an interface: seconds to add to its time stamps.
const OPTION_TS_OFFSET: u16 = 14;

/// How an interface counts time.
#[derive(Clone, Copy)]
struct Interface {
    link_type: u16,
    units_per_s: u128,
    offset_s: i64,
    snapshot: u32,
}

impl Interface {
    /// Nanoseconds since the Unix epoch.
    fn ns(self, stamp: u64) -> i128 {
        let units = i128::try_from(self.units_per_s).unwrap_or(i128::MAX);
        i128::from(stamp) * 1_000_000_000 / units + i128::from(self.offset_s) * 1_000_000_000
    }
}

/// Copies the first `frames` frames of a file that a walk has found whole up to there.
///
/// # Errors
/// Reading or writing fails, or the file is not what the walk saw.
pub(super) fn rewrite(from: &Path, to: &Path, frames: u64) -> io::Result<()> {
    let mut source = BufReader::new(File::open(from)?);
    let mut sink = BufWriter::new(File::create(to)?);
    write_header(&mut sink)?;
    if source.fill_buf()?.starts_with(&BLOCK_SECTION.to_le_bytes()) {
        rewrite_pcapng(&mut source, &mut sink, frames)?;
    } else {
        rewrite_pcap(&mut source, &mut sink, frames)?;
    }
    sink.flush()
}

fn rewrite_pcap(source: &mut impl Read, sink: &mut impl Write, frames: u64) -> io::Result<()> {
    let (mut magic, mut header) = ([0; 4], [0; 20]);
    source.read_exact(&mut magic)?;
    source.read_exact(&mut header)?;
    // Both numbers begin with 0xa1 in big endian.
    let order = match magic[0] {
        0xa1 => Order::Big,
        _ => Order::Little,
    };
    let record = Record::new(order, magic, &header).map_err(|_| changed())?;
    for _ in 0..frames {
        let mut head = [0; 24];
        source.read_exact(&mut head[..record.bytes])?;
        let (captured, on_wire) = record.lengths(&head);
        let mut frame = Vec::new();
        source.take(u64::from(captured)).read_to_end(&mut frame)?;
        if frame.len() != captured as usize {
            return Err(changed());
        }
        let (seconds, fraction) = (order.u32(&head[0..4]), order.u32(&head[4..8]));
        let ns = i128::from(seconds) * 1_000_000_000
            + i128::from(fraction) * i128::from(record.fraction_ns);
        write_frame(sink, record.link_type, ns, on_wire, &frame)?;
    }
    Ok(())
}

fn rewrite_pcapng(source: &mut impl Read, sink: &mut impl Write, frames: u64) -> io::Result<()> {
    let mut order = Order::Little;
    let mut interfaces = Vec::new();
    let mut written = 0;
    while written < frames {
        let (kind, body) = read_block(source, &mut order)?;
        match kind {
            BLOCK_SECTION => interfaces.clear(),
            BLOCK_INTERFACE => interfaces.push(interface(order, &body)?),
            BLOCK_ENHANCED_PACKET | BLOCK_PACKET | BLOCK_SIMPLE_PACKET => {
                let frame = frame(kind, order, &interfaces, &body)?;
                if is_replayed(frame.interface.link_type) {
                    frame.write(sink)?;
                    written += 1;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

/// Copies a pcap file and says in the copy's header that it is of the last known number.
///
/// # Errors
/// Reading or writing fails.
pub(super) fn renumber(from: &Path, to: &Path) -> io::Result<()> {
    let mut source = BufReader::new(File::open(from)?);
    let mut sink = BufWriter::new(File::create(to)?);
    let mut start = [0; 8];
    source.read_exact(&mut start)?;
    // The magic number 0xa1b2c3d4 or 0xa1b23c4d begins with its own first byte in big endian files.
    let minor = match start[0] {
        0xa1 => PCAP_MINOR_LAST.to_be_bytes(),
        _ => PCAP_MINOR_LAST.to_le_bytes(),
    };
    start[6..].copy_from_slice(&minor);
    sink.write_all(&start)?;
    io::copy(&mut source, &mut sink)?;
    sink.flush()
}

/// The pcap file header (draft-ietf-opsawg-pcap section 4), nanoseconds, little endian.
fn write_header(sink: &mut impl Write) -> io::Result<()> {
    sink.write_all(&0xa1b2_3c4d_u32.to_le_bytes())?;
    sink.write_all(&2_u16.to_le_bytes())?;
    sink.write_all(&4_u16.to_le_bytes())?;
    sink.write_all(&[0; 8])?;
    sink.write_all(&FRAME_BYTES_MAX.to_le_bytes())?;
    sink.write_all(&u32::from(LINK_TYPE_ETHERNET).to_le_bytes())
}

/// Reads one block: its type and its body. A section header settles the byte order.
fn read_block(source: &mut impl Read, order: &mut Order) -> io::Result<(u32, Vec<u8>)> {
    let mut head = [0; 12];
    source.read_exact(&mut head)?;
    if head[..4] == BLOCK_SECTION.to_le_bytes() {
        *order = if head[8] == 0x4d {
            Order::Little
        } else {
            Order::Big
        };
    }
    let kind = order.u32(&head[0..4]);
    let body_bytes = order.u32(&head[4..8]).saturating_sub(12);
    // The last four bytes of the head are the first of the body, or the trailer of an empty one.
    let mut body = head[8..].to_vec();
    source.take(u64::from(body_bytes)).read_to_end(&mut body)?;
    if body.len() != 4 + body_bytes as usize {
        return Err(changed());
    }
    body.truncate(body_bytes as usize);
    Ok((kind, body))
}

fn changed() -> io::Error {
    io::Error::new(
        io::ErrorKind::InvalidData,
        "the file changed while it was read",
    )
}

/// `length` bytes at `at`.
fn part(body: &[u8], at: usize, length: usize) -> io::Result<&[u8]> {
    at.checked_add(length)
        .and_then(|end| body.get(at..end))
        .ok_or_else(changed)
}

fn interface(order: Order, body: &[u8]) -> io::Result<Interface> {
    let snapshot = match order.u32(part(body, 4, 4)?) {
        0 => FRAME_BYTES_MAX,
        stated => stated,
    };
    let mut found = Interface {
        link_type: order.u16(part(body, 0, 2)?),
        units_per_s: 1_000_000,
        offset_s: 0,
        snapshot,
    };
    let mut options = body.get(8..).unwrap_or_default();
    while let [code_0, code_1, length_0, length_1, rest @ ..] = options {
        let code = order.u16(&[*code_0, *code_1]);
        let length = usize::from(order.u16(&[*length_0, *length_1]));
        let Some(value) = rest.get(..length) else {
            break;
        };
        match (code, value) {
            (0, _) => break,
            (OPTION_TS_RESOLUTION, [exponent]) => found.units_per_s = units_per_s(*exponent),
            (OPTION_TS_OFFSET, [_, _, _, _, _, _, _, _]) => {
                let (first, second) = (order.u32(&value[..4]), order.u32(&value[4..]));
                let (high, low) = match order {
                    Order::Little => (second, first),
                    Order::Big => (first, second),
                };
                found.offset_s = (i64::from(high) << 32) | i64::from(low);
            }
            _ => {}
        }
        options = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(found)
}

/// Ten to the power of the exponent, or two where its first bit is set. 1 where that is too much.
fn units_per_s(exponent: u8) -> u128 {
    let power = u32::from(exponent & 0x7f);
    let base: u128 = if exponent & 0x80 == 0 { 10 } else { 2 };
    base.checked_pow(power)
        .filter(|units| i128::try_from(*units).is_ok())
        .unwrap_or(1)
}

/// A frame in its block.
struct Frame<'a> {
    interface: Interface,
    stamp: u64,
    on_wire: u32,
    bytes: &'a [u8],
}

impl Frame<'_> {
    fn write(&self, sink: &mut impl Write) -> io::Result<()> {
        let (link_type, ns) = (self.interface.link_type, self.interface.ns(self.stamp));
        write_frame(sink, link_type, ns, self.on_wire, self.bytes)
    }
}

fn frame<'a>(
    kind: u32,
    order: Order,
    interfaces: &[Interface],
    body: &'a [u8],
) -> io::Result<Frame<'a>> {
    let number = |at| part(body, at, 4).map(|bytes| order.u32(bytes));
    let (index, stamp, captured, on_wire, at) = if kind == BLOCK_SIMPLE_PACKET {
        let snapshot = interfaces
            .first()
            .map_or(FRAME_BYTES_MAX, |first| first.snapshot);
        let on_wire = number(0)?;
        (0, 0, on_wire.min(snapshot), on_wire, 4)
    } else {
        let index = if kind == BLOCK_PACKET {
            u32::from(order.u16(part(body, 0, 2)?))
        } else {
            number(0)?
        };
        let stamp = (u64::from(number(4)?) << 32) | u64::from(number(8)?);
        (index, stamp, number(12)?, number(16)?, 20)
    };
    Ok(Frame {
        interface: *interfaces.get(index as usize).ok_or_else(changed)?,
        stamp,
        on_wire,
        bytes: part(body, at, captured as usize)?,
    })
}

/// As an Ethernet frame.
fn write_frame(
    sink: &mut impl Write,
    link_type: u16,
    ns: i128,
    on_wire: u32,
    frame: &[u8],
) -> io::Result<()> {
    let ns = ns.clamp(0, i128::from(u32::MAX) * 1_000_000_000);
    let seconds = u32::try_from(ns / 1_000_000_000).unwrap_or(u32::MAX);
    let fraction_ns = u32::try_from(ns % 1_000_000_000).unwrap_or(0);
    let captured = u32::try_from(frame.len()).unwrap_or(u32::MAX);
    let (mut head, mut rest, mut lengths) = (None, frame, [captured, on_wire]);
    if link_type != LINK_TYPE_ETHERNET {
        let ethernet = ethernet(link_type, frame, on_wire);
        head = Some(ethernet.header);
        rest = &frame[ethernet.skipped..];
        lengths = lengths.map(|bytes| ethernet.bytes(bytes));
    }
    for field in [seconds, fraction_ns, lengths[0], lengths[1]] {
        sink.write_all(&field.to_le_bytes())?;
    }
    sink.write_all(head.as_ref().map_or(&[][..], |head| head))?;
    sink.write_all(rest)
}

#[cfg(test)]
mod tests {
    use super::super::capture::{PassedOver, Refused, inspect};
    use super::*;

    fn block(kind: u32, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 12).unwrap().to_le_bytes();
        [&kind.to_le_bytes()[..], &length, body, &length].concat()
    }

    fn fields(fields: &[u32]) -> Vec<u8> {
        fields
            .iter()
            .flat_map(|field| field.to_le_bytes())
            .collect()
    }

    #[test]
    fn frames_of_interfaces_with_other_lengths_and_clocks_keep_order_bytes_and_times() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (
            directory.path().join("a.pcapng"),
            directory.path().join("b.pcap"),
        );
        // Interface 0 counts microseconds, interface 1 nanoseconds beginning 100 s later.
        let options = [
            9, 0, 1, 0, 9, 0, 0, 0, 14, 0, 8, 0, 100, 0, 0, 0, 0, 0, 0, 0,
        ];
        let file = [
            block(
                BLOCK_SECTION,
                &fields(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]),
            ),
            block(BLOCK_INTERFACE, &fields(&[1, 65_535])),
            block(
                BLOCK_INTERFACE,
                &[fields(&[1, 96]), options.to_vec()].concat(),
            ),
            block(
                BLOCK_ENHANCED_PACKET,
                &fields(&[0, 0, 2_000_001, 4, 60, 0xaaaa_aaaa]),
            ),
            block(
                BLOCK_ENHANCED_PACKET,
                &fields(&[1, 0, 7, 4, 4, 0xbbbb_bbbb]),
            ),
            block(BLOCK_SIMPLE_PACKET, &fields(&[4, 0xcccc_cccc])),
        ];
        std::fs::write(&from, file.concat()).unwrap();
        let capture = inspect(&from).unwrap();
        assert_eq!(
            (capture.frames, capture.refused, &capture.cut),
            (3, Some(Refused::MixedSnapshots), &None)
        );
        rewrite(&from, &to, capture.frames).unwrap();
        let header = fields(&[0xa1b2_3c4d, 0x0004_0002, 0, 0, FRAME_BYTES_MAX, 1]);
        let frames = [
            fields(&[2, 1_000, 4, 60, 0xaaaa_aaaa]),
            fields(&[100, 7, 4, 4, 0xbbbb_bbbb]),
            fields(&[0, 0, 4, 4, 0xcccc_cccc]),
        ];
        assert_eq!(
            std::fs::read(&to).unwrap(),
            [header, frames.concat()].concat()
        );
        assert_eq!(inspect(&to).unwrap().frames, 3);
    }

    #[test]
    fn a_pcap_file_of_an_unknown_minor_number_is_read_as_2_4() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (
            directory.path().join("a.pcap"),
            directory.path().join("b.pcap"),
        );
        let frame = fields(&[0, 0, 4, 4, 0xaaaa_aaaa]);
        let file = |minor: u32| {
            let header = fields(&[0xa1b2_c3d4, 2 | minor << 16, 0, 0, FRAME_BYTES_MAX, 1]);
            [header, frame.clone()].concat()
        };
        std::fs::write(&from, file(8224)).unwrap();
        assert_eq!(inspect(&from).unwrap().refused, Some(Refused::UnknownMinor));
        renumber(&from, &to).unwrap();
        assert_eq!(std::fs::read(&to).unwrap(), file(4));
        assert_eq!(inspect(&to).unwrap().refused, None);
    }

    #[test]
    fn frames_of_other_links_become_ethernet_frames_at_their_times() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (
            directory.path().join("a.pcap"),
            directory.path().join("b.pcap"),
        );
        // Raw IP in a big endian file of microseconds: a version 4, cut after four bytes of 40.
        let file = [
            0xa1b2_c3d4,
            0x0002_0004,
            0,
            0,
            65_535,
            101,
            7,
            9,
            4,
            40,
            0x4500_0028,
        ]
        .map(u32::to_be_bytes);
        std::fs::write(&from, file.concat()).unwrap();
        let capture = inspect(&from).unwrap();
        assert_eq!(
            (capture.frames, capture.refused),
            (1, Some(Refused::OtherLink))
        );
        rewrite(&from, &to, capture.frames).unwrap();
        let expected = [
            fields(&[0xa1b2_3c4d, 0x0004_0002, 0, 0, FRAME_BYTES_MAX, 1]),
            fields(&[7, 9_000, 18, 54]),
            vec![0; 12],
            vec![8, 0, 0x45, 0, 0, 0x28],
        ];
        assert_eq!(std::fs::read(&to).unwrap(), expected.concat());
    }

    #[test]
    fn a_pcapng_file_of_several_links_keeps_those_that_can_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let (from, to) = (
            directory.path().join("a.pcapng"),
            directory.path().join("b.pcap"),
        );
        let packet = |interface, word| fields(&[interface, 0, 5, 4, 4, word]);
        // Ethernet, USB, raw IP.
        let file = [
            block(
                BLOCK_SECTION,
                &fields(&[0x1a2b_3c4d, 1, u32::MAX, u32::MAX]),
            ),
            block(BLOCK_INTERFACE, &fields(&[1, 65_535])),
            block(BLOCK_INTERFACE, &fields(&[249, 65_535])),
            block(BLOCK_INTERFACE, &fields(&[101, 65_535])),
            block(BLOCK_ENHANCED_PACKET, &packet(1, 0xaaaa_aaaa)),
            block(BLOCK_ENHANCED_PACKET, &packet(0, 0xbbbb_bbbb)),
            block(BLOCK_ENHANCED_PACKET, &packet(2, 0x0000_0060)),
            block(BLOCK_ENHANCED_PACKET, &packet(1, 0xcccc_cccc)),
        ];
        std::fs::write(&from, file.concat()).unwrap();
        let capture = inspect(&from).unwrap();
        let passed_over = PassedOver {
            frames: 2,
            link_type: 249,
        };
        assert_eq!(
            (capture.frames, capture.passed_over, capture.refused),
            (2, Some(passed_over), Some(Refused::OtherLink))
        );
        rewrite(&from, &to, capture.frames).unwrap();
        let expected = [
            fields(&[0xa1b2_3c4d, 0x0004_0002, 0, 0, FRAME_BYTES_MAX, 1]),
            fields(&[0, 5_000, 4, 4, 0xbbbb_bbbb]),
            fields(&[0, 5_000, 18, 18]),
            vec![0; 12],
            vec![0x86, 0xdd, 0x60, 0, 0, 0],
        ];
        assert_eq!(std::fs::read(&to).unwrap(), expected.concat());
    }
}
